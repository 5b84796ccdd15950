/*
 * Random operations, the same ones in several directories; the first is the model.
 *
 *   fsops [-s seed] [-n ops] [-i interval] [-j processes] [-x op]... [-p dir]... [-v] [-c] MODEL DIR...
 *
 * Every operation is drawn from the seed alone and done in each directory in turn; return value, errno
 * and what was seen must be equal. Every `interval` operations, and at the end, whole trees are
 * compared. -c compares only (after a remount), -x leaves an operation out, -v prints all; -p: that
 * directory allocates ahead, so that some of what was never written may be reported as data. A directory
 * may hold what an earlier run left there, as long as all agree. -j: so many processes at once, each with a
 * seed and a folder of its own in each directory; a failure is then repeated and made short (fsmany.c).
 *
 *  1. An operation's only input is the seed; no side sees what another one answered.
 *  2. What may rightly differ between file systems is made equal before it is compared.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "fsops.h"
#include "fsrandom.h"
#include "fsways.h"

struct op_type {
	const char *name;
	unsigned weight;
	void (*run)(struct side *s, const struct op *op, struct result *r);
};

static const char *const names[] = {
	"f0", "f1", "f2", "f3", "f4", "f5", "d0", "d1", "d0/f0", "d0/f1", "d1/f0", "d1/f1",
	"d0/d2", "d0/d2/f0", "d1/d3", "s0", "p0", "f0/x", "missing/x",
};
static const char *const targets[] = {"f0", "d0", "f3", "nowhere", "s0", "d0/f0", "../f1"};

struct side sides[SIDES_MAX];
unsigned nsides;
uint64_t seed0, opno;
uint8_t *scratch, *scratch2;
uint8_t *data;
static const struct op *running;

/* ---- random numbers and bytes ---- */

static bool chance(unsigned percent)
{
	return rnd(100) < percent;
}

/* Some writes compress, some do not, some are zero in whole or in part. */
static void fill(uint8_t *p, size_t len, uint64_t seed)
{
	unsigned style = seed % 5;
	uint64_t x = seed;

	if (style == 0) {
		memset(p, 0, len);
		return;
	}
	for (size_t i = 0; i < len; i += 8) {
		uint64_t v;

		x += 0x9e3779b97f4a7c15ull;
		v = style == 1 ? 0x6c69707365666f72ull + (i >> 6) : mix(x);
		if (style == 2)
			v &= 0x0f0f0f0f;
		if (style == 3 && ((seed >> 8) + (i >> 15)) % 3 == 0)
			v = 0;
		memcpy(p + i, &v, len - i < 8 ? len - i : 8);
	}
}

static int64_t draw_off(void)
{
	switch (rnd(12)) {
	case 0: case 1: case 2: return rnd(1 << 16);
	case 3: case 4: case 5: case 6: return rnd(4 << 20);
	case 7: case 8: return rnd(1024) << 12;
	case 9: return (int64_t)(rnd(16) + 1) * (256 << 10) + (int64_t)rnd(7) - 3;
	case 10: return rnd(16 << 20);
	default: return chance(80) ? rnd(64 << 20) : rnd(1ull << 40);
	}
}

static size_t draw_len(void)
{
	switch (rnd(10)) {
	case 0: case 1: case 2: case 3: return 1 + rnd(512);
	case 4: case 5: case 6: return 1 + rnd(16 << 10);
	case 7: case 8: return 1 + rnd(300 << 10);
	default: return 1 + rnd(chance(70) ? 1 << 20 : LEN_MAX);
	}
}

static int draw_open_flags(void)
{
	int flags = chance(65) ? O_RDWR : chance(60) ? O_WRONLY : O_RDONLY;

	flags |= chance(70) ? O_CREAT : 0;
	flags |= chance(10) ? O_EXCL : 0;
	flags |= chance(12) ? O_APPEND : 0;
	flags |= chance(10) ? O_NOFOLLOW : 0;
	flags |= chance(2) ? O_DIRECTORY : 0;
	if ((flags & O_ACCMODE) != O_RDONLY && chance(8))
		flags |= O_TRUNC;
	if (!(flags & O_CREAT))
		flags &= ~O_EXCL; /* undefined without */
	return flags | O_NONBLOCK | O_CLOEXEC;
}

/* ---- operations ---- */

void done(struct result *r, int64_t ret)
{
	r->ret = ret;
	r->err = ret < 0 ? errno : 0;
}

bool is_regular(int fd)
{
	struct stat st;

	return !fstat(fd, &st) && S_ISREG(st.st_mode);
}

/* Whether such a call touches the mtime differs between file systems: set it, so that it is known. */
static void settle(int fd)
{
	struct timespec t[2] = {{1000000000, 1}, {1000000000, opno % 1000000000}};

	futimens(fd, t);
}

static void slot_close(struct side *s, int i)
{
	if (s->map[i])
		munmap(s->map[i], MAP_BYTES);
	s->map[i] = NULL;
	if (s->fd[i] >= 0)
		close(s->fd[i]);
	s->fd[i] = -1;
}

static void run_open(struct side *s, const struct op *op, struct result *r)
{
	int fd;

	fd = openat(s->dirfd, op->a, op->flags, op->mode);
	done(r, fd < 0 ? -1 : 0);
	if (fd < 0)
		return;
	slot_close(s, op->slot);
	s->fd[op->slot] = fd;
}

static void run_close(struct side *s, const struct op *op, struct result *r)
{
	slot_close(s, op->slot);
	done(r, 0);
}

static void run_pwrite(struct side *s, const struct op *op, struct result *r)
{
	done(r, pwrite(s->fd[op->slot], data, op->len, op->off));
}

static void run_write(struct side *s, const struct op *op, struct result *r)
{
	done(r, write(s->fd[op->slot], data, op->len));
}

void seen(struct result *r, const void *p)
{
	if (r->ret > 0)
		r->hash = hash_bytes(1, p, r->ret);
}

static void run_pread(struct side *s, const struct op *op, struct result *r)
{
	done(r, pread(s->fd[op->slot], scratch, op->len, op->off));
	seen(r, scratch);
}

static void run_read(struct side *s, const struct op *op, struct result *r)
{
	if (is_regular(s->fd[op->slot]) && op->flags2)
		lseek(s->fd[op->slot], op->off, SEEK_SET);
	done(r, read(s->fd[op->slot], scratch, op->len));
	seen(r, scratch);
}

/* Where data and holes are may differ; that what is told is possible may not. */
static void run_seek(struct side *s, const struct op *op, struct result *r)
{
	int fd = s->fd[op->slot], whence = op->flags2 ? SEEK_DATA : SEEK_HOLE;
	struct stat st;
	int64_t at;

	if (!is_regular(fd) || fstat(fd, &st))
		return;
	at = lseek(fd, op->off, whence);
	if (op->off >= st.st_size)
		done(r, at);
	else if (at < 0)
		r->err = whence == SEEK_DATA && errno == ENXIO ? 0 : errno;
	else
		r->ret = at < op->off || at > st.st_size || (whence == SEEK_DATA && at == st.st_size);
	lseek(fd, 0, SEEK_SET);
}

static int64_t size_of(int fd)
{
	struct stat st;

	return fstat(fd, &st) ? -1 : (int64_t)st.st_size;
}

static void run_ftruncate(struct side *s, const struct op *op, struct result *r)
{
	int64_t old = size_of(s->fd[op->slot]);

	done(r, ftruncate(s->fd[op->slot], op->off));
	if (old == op->off)
		settle(s->fd[op->slot]);
}

static void run_truncate(struct side *s, const struct op *op, struct result *r)
{
	char path[PATH_MAX];
	struct stat st;
	bool same;

	full_path(path, s, op->a);
	same = !stat(path, &st) && st.st_size == op->off;
	done(r, truncate(path, op->off));
	if (same && !r->err) {
		struct timespec t[2] = {{1000000000, 1}, {1000000000, 2}};

		utimensat(AT_FDCWD, path, t, 0);
	}
}

static void run_fallocate(struct side *s, const struct op *op, struct result *r)
{
	static const int modes[] = {
		0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE,
		FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE,
		FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE,
	};
	unsigned mode = op->flags % COUNT(modes);
	int64_t off = op->off, len = op->len;

	if ((modes[mode] & FALLOC_FL_PUNCH_HOLE) && op->flags2) {
		off &= ~(HOLE_BYTES - 1);
		len = HOLE_BYTES * (1 + op->seed % 3);
	}
	done(r, fallocate(s->fd[op->slot], modes[mode], off, len));
	if (!r->err)
		settle(s->fd[op->slot]);
}

static void run_copy(struct side *s, const struct op *op, struct result *r)
{
	loff_t from = op->off, to = op->off2;
	int64_t total = 0;

	while (total < (int64_t)op->len) {
		ssize_t n = copy_file_range(s->fd[op->slot], &from, s->fd[op->slot2], &to,
					    op->len - total, 0);

		if (n <= 0) {
			r->err = n ? errno : 0;
			break;
		}
		total += n;
	}
	r->ret = total;
}

/* A place within the file that a mapping can reach; false: none. */
static bool map_place(int fd, const struct op *op, int64_t *off, size_t *len)
{
	int64_t size = size_of(fd);

	if (size <= 0 || !is_regular(fd))
		return false;
	*off = op->off % size & ~4095ll;
	*len = op->len < (uint64_t)(size - *off) ? op->len : (uint64_t)(size - *off);
	return true;
}

static void run_mmap_write(struct side *s, const struct op *op, struct result *r)
{
	size_t len;
	int64_t off;
	uint8_t *p;

	if (!map_place(s->fd[op->slot], op, &off, &len))
		return;
	p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd[op->slot], off);
	if (p == MAP_FAILED) {
		done(r, -1);
		return;
	}
	memcpy(p, data, len);
	done(r, msync(p, len, MS_SYNC));
	munmap(p, len);
	settle(s->fd[op->slot]); /* pages reach a FUSE daemon without the time of their change */
}

static void run_mmap_private(struct side *s, const struct op *op, struct result *r)
{
	size_t len;
	int64_t off;
	uint8_t *p;

	if (!map_place(s->fd[op->slot], op, &off, &len))
		return;
	p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE, s->fd[op->slot], off);
	if (p == MAP_FAILED) {
		done(r, -1);
		return;
	}
	memcpy(p + len / 2, data, len - len / 2); /* must not reach the file */
	done(r, len / 2);
	seen(r, p);
	munmap(p, len);
}

static void run_mmap_kept(struct side *s, const struct op *op, struct result *r)
{
	int fd = s->fd[op->slot];
	int64_t size = size_of(fd);

	if (!is_regular(fd))
		return;
	if (!s->map[op->slot]) {
		uint8_t *p = mmap(NULL, MAP_BYTES, PROT_READ, MAP_SHARED, fd, 0);

		if (p == MAP_FAILED) {
			done(r, -1);
			return;
		}
		s->map[op->slot] = p;
	}
	done(r, size < (int64_t)MAP_BYTES ? size : (int64_t)MAP_BYTES);
	seen(r, s->map[op->slot]);
}

static void run_chmod(struct side *s, const struct op *op, struct result *r)
{
	/* FSOPS_NO_SETID: set-id bits are lost sooner by passthrough than on ext4. */
	mode_t mode = (op->seed >> 4 & (getenv("FSOPS_NO_SETID") ? 01777 : 07777)) | (geteuid() ? 0700 : 0);

	done(r, op->flags2 ? fchmod(s->fd[op->slot], mode) : fchmodat(s->dirfd, op->a, mode, 0));
}

static void run_chown(struct side *s, const struct op *op, struct result *r)
{
	done(r, fchownat(s->dirfd, op->a, op->seed % 3, op->seed / 3 % 3, AT_SYMLINK_NOFOLLOW));
}

static void run_utimens(struct side *s, const struct op *op, struct result *r)
{
	struct timespec t[2] = {
		{100000000 + op->seed % 900000000, op->seed % 1000000000},
		{100000000 + op->seed / 7 % 900000000, op->seed / 3 % 1000000000},
	};

	if (op->flags2)
		done(r, futimens(s->fd[op->slot], t));
	else
		done(r, utimensat(s->dirfd, op->a, t, AT_SYMLINK_NOFOLLOW));
}

static void xattr_name(char *buf, uint64_t seed)
{
	sprintf(buf, "user.%c", 'a' + (int)(seed % 3));
}

static void run_setxattr(struct side *s, const struct op *op, struct result *r)
{
	static const int flags[] = {0, 0, XATTR_CREATE, XATTR_REPLACE};
	char path[PATH_MAX], name[16];

	full_path(path, s, op->a);
	xattr_name(name, op->seed);
	done(r, lsetxattr(path, name, data, op->len % 200, flags[op->flags % 4]));
}

static void run_getxattr(struct side *s, const struct op *op, struct result *r)
{
	char path[PATH_MAX], name[16];

	full_path(path, s, op->a);
	xattr_name(name, op->seed);
	done(r, lgetxattr(path, name, scratch, op->flags2 ? 200 : 64));
	seen(r, scratch);
}

static void run_removexattr(struct side *s, const struct op *op, struct result *r)
{
	char path[PATH_MAX], name[16];

	full_path(path, s, op->a);
	xattr_name(name, op->seed);
	done(r, lremovexattr(path, name));
}

static void run_sync(struct side *s, const struct op *op, struct result *r)
{
	done(r, op->flags2 ? fsync(s->fd[op->slot]) : fdatasync(s->fd[op->slot]));
}

static void run_fstat(struct side *s, const struct op *op, struct result *r)
{
	struct stat st;

	done(r, fstat(s->fd[op->slot], &st));
	if (!r->err)
		take_facts(&st, &r->facts);
}

static void run_stat(struct side *s, const struct op *op, struct result *r)
{
	struct stat st;

	done(r, fstatat(s->dirfd, op->a, &st, op->flags2 ? AT_SYMLINK_NOFOLLOW : 0));
	if (!r->err)
		take_facts(&st, &r->facts);
}

static void run_readlink(struct side *s, const struct op *op, struct result *r)
{
	done(r, readlinkat(s->dirfd, op->a, (char *)scratch, PATH_MAX));
	seen(r, scratch);
}

static void run_unlink(struct side *s, const struct op *op, struct result *r)
{
	done(r, unlinkat(s->dirfd, op->a, op->flags2 ? 0 : AT_REMOVEDIR));
}

static void run_mkdir(struct side *s, const struct op *op, struct result *r)
{
	done(r, mkdirat(s->dirfd, op->a, op->mode | 0700));
}

static void run_link(struct side *s, const struct op *op, struct result *r)
{
	done(r, linkat(s->dirfd, op->a, s->dirfd, op->b, op->flags2 ? AT_SYMLINK_FOLLOW : 0));
}

static void run_symlink(struct side *s, const struct op *op, struct result *r)
{
	done(r, symlinkat(targets[op->seed % COUNT(targets)], s->dirfd, op->a));
}

static void run_mknod(struct side *s, const struct op *op, struct result *r)
{
	static const mode_t types[] = {S_IFIFO, S_IFSOCK, S_IFREG};

	done(r, mknodat(s->dirfd, op->a, types[op->seed % 3] | op->mode, 0));
}

static void run_rename(struct side *s, const struct op *op, struct result *r)
{
	static const int flags[] = {0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE,
				    RENAME_EXCHANGE | RENAME_NOREPLACE};

	done(r, renameat2(s->dirfd, op->a, s->dirfd, op->b, flags[op->flags % COUNT(flags)]));
}

static void run_readdir(struct side *s, const struct op *op, struct result *r)
{
	struct dirent **list;
	char path[PATH_MAX];
	int n;

	full_path(path, s, op->flags2 ? op->a : ".");
	n = scandir(path, &list, NULL, by_name);
	done(r, n);
	for (int i = 0; i < n; i++) {
		r->hash = hash_bytes(r->hash, list[i]->d_name, strlen(list[i]->d_name) + 1);
		r->hash = hash_bytes(r->hash, &list[i]->d_type, 1);
		free(list[i]);
	}
	if (n >= 0)
		free(list);
}

static const struct op_type op_types[] = {
	{"open", 100, run_open}, {"close", 4, run_close}, {"pwrite", 130, run_pwrite},
	{"write", 70, run_write}, {"pread", 80, run_pread}, {"read", 40, run_read},
	{"seek", 30, run_seek}, {"ftruncate", 30, run_ftruncate}, {"truncate", 15, run_truncate},
	{"fallocate", 50, run_fallocate}, {"copy", 25, run_copy}, {"mmap-write", 25, run_mmap_write},
	{"mmap-private", 20, run_mmap_private}, {"mmap-kept", 40, run_mmap_kept},
	{"chmod", 15, run_chmod}, {"chown", 8, run_chown}, {"utimens", 25, run_utimens},
	{"setxattr", 30, run_setxattr}, {"getxattr", 20, run_getxattr},
	{"removexattr", 6, run_removexattr}, {"sync", 12, run_sync}, {"fstat", 40, run_fstat},
	{"stat", 50, run_stat}, {"readlink", 5, run_readlink}, {"unlink", 25, run_unlink},
	{"mkdir", 25, run_mkdir}, {"link", 30, run_link}, {"symlink", 8, run_symlink},
	{"mknod", 6, run_mknod}, {"rename", 30, run_rename}, {"readdir", 15, run_readdir},
	{"aio", 30, run_aio}, {"io_uring", 30, run_uring}, {"direct", 30, run_direct}, {"lock", 40, run_lock},
};
static bool left_out[COUNT(op_types)];
static uint64_t tried[COUNT(op_types)], succeeded[COUNT(op_types)];

/* What the kernel does not let us do is left out, and that is told. */
static void leave_out_impossible(void)
{
	for (unsigned i = 0; i < COUNT(op_types); i++)
		if (op_types[i].run == run_uring && !ways_has_uring()) {
			left_out[i] = true;
			printf("# io_uring cannot be used here: left out\n");
		}
}

static void draw_op(struct op *op)
{
	uint64_t total = 0, at;
	unsigned i;

	for (i = 0; i < COUNT(op_types); i++)
		total += op_types[i].weight;
	at = rnd(total);
	for (i = 0; at >= op_types[i].weight; i++)
		at -= op_types[i].weight;
	*op = (struct op){
		.type = &op_types[i],
		.a = names[chance(40) ? rnd(5) : rnd(COUNT(names))],
		.b = names[rnd(COUNT(names))],
		.slot = rnd(SLOTS),
		.slot2 = rnd(SLOTS),
		.flags2 = rnd(2),
		.off = draw_off(),
		.off2 = draw_off(),
		.len = draw_len(),
		.mode = 0600 | rnd(0200),
		.seed = rnd(UINT64_MAX) >> 1,
	};
	op->flags = op->type->run == run_open ? draw_open_flags() : (int)rnd(1 << 16);
}

/* ---- telling what went wrong ---- */

static void print_op(FILE *out, const struct op *op)
{
	fprintf(out, "op %" PRIu64 ": %s a=%s b=%s slot=%d slot2=%d off=%" PRId64 " off2=%" PRId64
		" len=%zu flags=%#x flags2=%d mode=%#o seed=%" PRIu64 "\n", opno, op->type->name,
		op->a, op->b, op->slot, op->slot2, op->off, op->off2, op->len, op->flags, op->flags2,
		op->mode, op->seed);
}

static void print_result(const struct side *s, const struct result *r)
{
	printf("  %s: ret=%" PRId64 " errno=%" PRId64 " (%s) hash=%016" PRIx64 "\n    ", s->path,
	       r->ret, r->err, r->err ? strerrorname_np(r->err) : "0", r->hash);
	print_facts(&r->facts);
}

/* ---- main ---- */

static void run_one(const struct op *op)
{
	struct result r[SIDES_MAX];

	running = op;
	fill(data, op->len, op->seed);
	memset(data + op->len, 0, PAGE); /* of a length that is rounded up */
	for (unsigned i = 0; i < nsides; i++) {
		memset(&r[i], 0, sizeof(r[i]));
		op->type->run(&sides[i], op, &r[i]);
	}
	tried[op->type - op_types]++;
	succeeded[op->type - op_types] += !r[0].err;
	for (unsigned i = 1; i < nsides; i++) {
		if (!memcmp(&r[0], &r[i], sizeof(r[0])))
			continue;
		printf("MISMATCH seed=%" PRIu64 " ", seed0);
		print_op(stdout, op);
		print_result(&sides[0], &r[0]);
		print_result(&sides[i], &r[i]);
		exit(1);
	}
}

static void leave_out(const char *name)
{
	for (unsigned i = 0; i < COUNT(op_types); i++)
		if (!strcmp(op_types[i].name, name)) {
			left_out[i] = true;
			return;
		}
	fprintf(stderr, "fsops: no operation %s\n", name);
	exit(2);
}

static void crashed(int sig)
{
	dprintf(2, "fsops: signal %d, seed=%" PRIu64 " op %" PRIu64 ": %s\n", sig, seed0, opno,
		running ? running->type->name : "compare");
	_exit(1);
}

static void begin(void)
{
	struct sigaction sa = {.sa_handler = crashed};

	sigaction(SIGBUS, &sa, NULL);
	sigaction(SIGSEGV, &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
	umask(022);
	data = aligned_alloc(PAGE, LEN_MAX + PAGE);
	scratch = aligned_alloc(PAGE, LEN_MAX + PAGE);
	scratch2 = aligned_alloc(PAGE, LEN_MAX + PAGE);
}

void take_sides(char *const *dirs, unsigned n)
{
	nsides = n;
	for (unsigned i = 0; i < n; i++) {
		sides[i].path = dirs[i];
		sides[i].dirfd = open(dirs[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (sides[i].dirfd < 0) {
			perror(dirs[i]);
			exit(2);
		}
		memset(sides[i].fd, -1, sizeof(sides[i].fd));
	}
}

void run_ops(const struct run *run)
{
	rng_state = mix(seed0);
	for (opno = 1; opno <= run->nops; opno++) {
		struct op op;

		draw_op(&op);
		if (run->progress)
			*run->progress = opno;
		if (left_out[op.type - op_types] || (run->dropped && run->dropped[opno]))
			continue;
		if (run->verbose)
			print_op(stdout, &op);
		if (!run->dry)
			run_one(&op);
		if (!run->dry && run->interval && opno % run->interval == 0)
			compare_all();
	}
	running = NULL;
	if (!run->dry)
		compare_all();
}

static void print_counts(void)
{
	for (unsigned i = 0; i < COUNT(op_types); i++)
		printf("%-14s %6" PRIu64 " done, %6" PRIu64 " without error\n", op_types[i].name, tried[i],
		       succeeded[i]);
}

static const char usage[] = "usage: fsops [-s seed] [-n ops] [-i interval] [-j processes] [-x op] [-p dir] [-v] [-c] "
			    "MODEL DIR...\n";
static const char *ahead[SIDES_MAX];
static unsigned nahead;

/* A folder of a directory that allocates ahead does so, too. */
void mark_allocates_ahead(void)
{
	for (unsigned i = 0; i < nsides; i++)
		for (unsigned a = 0; a < nahead && a < SIDES_MAX; a++)
			sides[i].allocates_ahead |= !strncmp(ahead[a], sides[i].path, strlen(ahead[a]));
}

int main(int argc, char **argv)
{
	struct run run = {.nops = 10000, .interval = 1000};
	unsigned nprocs = 0;
	bool compare_only = false;
	int c;

	seed0 = 1;
	while ((c = getopt(argc, argv, "s:n:i:j:x:p:vc")) != -1) {
		switch (c) {
		case 's': seed0 = strtoull(optarg, NULL, 0); break;
		case 'n': run.nops = strtoull(optarg, NULL, 0); break;
		case 'i': run.interval = strtoull(optarg, NULL, 0); break;
		case 'j': nprocs = strtoul(optarg, NULL, 0); break;
		case 'x': leave_out(optarg); break;
		case 'p': ahead[nahead++ % SIDES_MAX] = optarg; break;
		case 'v': run.verbose = true; break;
		case 'c': compare_only = true; break;
		default: return 2;
		}
	}
	if (argc - optind < 2 || argc - optind > SIDES_MAX || !run.interval) {
		fputs(usage, stderr);
		return 2;
	}
	begin();
	leave_out_impossible();
	take_sides(argv + optind, argc - optind);
	mark_allocates_ahead();
	if (nprocs)
		return run_many(nprocs, &run);
	if (compare_only) {
		opno = run.nops;
		compare_all();
		run.nops = 0;
	} else {
		run_ops(&run);
	}
	if (run.verbose)
		print_counts();
	printf("%" PRIu64 " operations in %u directories, seed %" PRIu64 ": equal\n", run.nops, nsides, seed0);
	return 0;
}
