/*
 * The random operations of fsops.c that read and write by aio, io_uring and O_DIRECT, and those that lock.
 *
 *  1. What is written at once lies side by side, so that the order of its parts makes no difference.
 *  2. Direct transfers lie on pages: less is refused by some file systems, and taken by others.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "fsops.h"
#include "fsways.h"

/* Divides a range of buf into at most PARTS_MAX parts of whole pages. */
static unsigned divide(struct part *parts, unsigned n, uint8_t *buf, size_t len, int64_t off)
{
	size_t each = (len + n * PAGE - 1) / (n * PAGE) * PAGE;
	unsigned i = 0;

	for (size_t at = 0; at < len; at += each, i++)
		parts[i] = (struct part){buf + at, len - at < each ? len - at : each, off + at, 0};
	return i;
}

static void sum_up(struct result *r, const struct part *parts, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (parts[i].ret >= 0)
			r->ret += parts[i].ret;
		else if (!r->err)
			r->err = -parts[i].ret;
		r->hash = parts[i].ret > 0 ? hash_bytes(r->hash, parts[i].buf, parts[i].ret) : r->hash;
	}
}

static void run_parts(struct side *s, const struct op *op, struct result *r,
		      void (*at_once)(int, bool, struct part *, unsigned))
{
	int fd = s->fd[op->slot], flags = fcntl(fd, F_GETFL);
	bool write = op->flags & 1, direct = op->flags2 && !(flags & O_APPEND);
	size_t len = op->len;
	struct part parts[PARTS_MAX];
	int64_t off = op->off;
	unsigned n = flags & O_APPEND ? 1 : 1 + (op->flags >> 1) % PARTS_MAX;

	if (!is_regular(fd))
		return;
	if (direct) {
		off &= ~(int64_t)(PAGE - 1);
		len = (len + PAGE - 1) & ~(size_t)(PAGE - 1);
		r->err = -ways_set_direct(fd, true);
	}
	n = divide(parts, n, write ? data : scratch, len, off);
	at_once(fd, write, parts, n);
	sum_up(r, parts, n);
	if (direct)
		ways_set_direct(fd, false);
	if (write && op->flags & 64)
		fdatasync(fd);
}

void run_aio(struct side *s, const struct op *op, struct result *r)
{
	run_parts(s, op, r, ways_aio);
}

void run_uring(struct side *s, const struct op *op, struct result *r)
{
	run_parts(s, op, r, ways_uring);
}

static void by_call(int fd, bool write, struct part *parts, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		parts[i].ret = write ? ways_write(WAY_CALL, fd, parts[i].buf, parts[i].len, parts[i].off)
				     : ways_read(WAY_CALL, fd, parts[i].buf, parts[i].len, parts[i].off);
}

/* O_DIRECT half of the time; else several calls, for comparison. */
void run_direct(struct side *s, const struct op *op, struct result *r)
{
	run_parts(s, op, r, by_call);
}

static void lock_range(int fd, const struct op *op, struct result *r)
{
	static const int calls[] = {F_SETLK, F_GETLK, F_OFD_SETLK, F_OFD_GETLK, F_OFD_SETLK};
	static const short types[] = {F_RDLCK, F_WRLCK, F_UNLCK};
	int call = calls[op->seed % COUNT(calls)];
	struct flock l = {
		.l_type = types[op->seed / 5 % COUNT(types)],
		.l_whence = SEEK_SET,
		.l_start = op->off % 8,
		.l_len = op->len % 5, /* 0: to the end of all files */
	};

	done(r, fcntl(fd, call, &l));
	if (!r->err && (call == F_GETLK || call == F_OFD_GETLK))
		r->hash = hash_bytes(l.l_type, &l.l_start, sizeof(l.l_start) + sizeof(l.l_len));
}

void run_lock(struct side *s, const struct op *op, struct result *r)
{
	static const int kinds[] = {LOCK_SH, LOCK_EX, LOCK_UN};
	int fd = s->fd[op->slot];

	if (op->flags2)
		lock_range(fd, op, r);
	else
		done(r, flock(fd, kinds[op->seed % COUNT(kinds)] | LOCK_NB));
}
