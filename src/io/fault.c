/*
 * A directory that fails on demand: a disk that dies at the n-th change, or a full one, or a daemon that
 * is killed there.
 *
 * Invariants: (1) from the n-th counted operation on (to the last that is to fail) nothing changes in `inner`, but for the
 * first half of a torn write and for what other threads had begun; what is not counted (making a file or
 * directory, allocate) fails then too; (2) reads are never touched, but for the opening of files on request; (3) the lock is not held while inner
 * works, and for ever by the thread that kills the process: nobody counts on.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/io.h"
#include "util/lock.h"
#include "util/log.h"

struct fault_dir {
	struct io_dir base;
	struct io_dir *inner;
	struct lock lock; /* all below */
	uint64_t count, nth, last; /* fails from nth to last */
	int err;
	bool torn;
	bool all;             /* everything is counted */
	bool kill;            /* the process ends at the n-th */
	bool tells;           /* the log is told the count */
	const char *armed_by; /* counting waits for this file; NULL: it has begun */
	uint64_t nopens, open_nth, open_times; /* counted by themselves */
	int open_err;
};

struct fault_file {
	struct io base;
	struct io *inner;
	struct fault_dir *dir;
};

static struct fault_dir *to_dir(struct io_dir *d)
{
	return (struct fault_dir *)d;
}

static struct fault_file *to_file(struct io *io)
{
	return (struct fault_file *)io;
}

static void __attribute__((noreturn)) die(void)
{
	kill(getpid(), SIGKILL);
	for (;;)
		pause();
}

static bool has_begun_locked(struct fault_dir *d)
{
	if (d->armed_by && access(d->armed_by, F_OK) == 0)
		d->armed_by = NULL;
	return !d->armed_by;
}

static bool fails_locked(const struct fault_dir *d)
{
	return d->nth && d->count >= d->nth && d->count <= d->last;
}

/* Counts a change: 0, or the error that it fails with. *torn (NULL: no write): half of it is to be made all the same, and after_half
 * called then. */
static int tick(struct fault_dir *d, bool *torn)
{
	bool tear = false;
	int err = 0;

	lock_acquire(&d->lock);
	if (has_begun_locked(d))
		d->count++;
	if (fails_locked(d)) {
		err = d->err;
		tear = torn && d->torn && d->count == d->nth;
		/* Later ones stop here, too, until the one that tears its write has killed them. */
		if (d->kill && d->count > d->nth && d->torn)
			for (;;)
				pause();
		if (d->kill && !tear)
			die();
	}
	lock_release(&d->lock);
	if (torn)
		*torn = tear;
	return err;
}

static void after_half(struct fault_dir *d)
{
	if (d->kill)
		die();
}

/* The making of a file or directory, and allocate: counted only where everything is. */
static int fault_make(struct fault_dir *d)
{
	bool counted;
	int err;

	lock_acquire(&d->lock);
	counted = d->all;
	err = fails_locked(d) ? d->err : 0;
	lock_release(&d->lock);
	return counted ? tick(d, NULL) : err;
}

static int fault_pread_some(struct io *io, void *buf, size_t n, uint64_t off, unsigned how, size_t *out)
{
	struct io *inner = to_file(io)->inner;

	return inner->ops->pread_some(inner, buf, n, off, how, out);
}

static int fault_pwrite(struct io *io, const void *buf, size_t n, uint64_t off, unsigned how)
{
	struct fault_file *f = to_file(io);
	bool torn;
	int err = tick(f->dir, &torn);

	if (!err)
		return io_pwrite_as(f->inner, buf, n, off, how);
	if (torn) {
		io_pwrite_as(f->inner, buf, n / 2, off, how);
		after_half(f->dir);
	}
	return err;
}

static int fault_sync(struct io *io)
{
	int err = tick(to_file(io)->dir, NULL);

	return err ? err : io_sync(to_file(io)->inner);
}

static int fault_truncate(struct io *io, uint64_t size)
{
	int err = tick(to_file(io)->dir, NULL);

	return err ? err : io_truncate(to_file(io)->inner, size);
}

static int fault_allocate(struct io *io, uint64_t off, uint64_t n)
{
	int err = fault_make(to_file(io)->dir);

	return err ? err : io_allocate(to_file(io)->inner, off, n);
}

static int fault_punch(struct io *io, uint64_t off, uint64_t n)
{
	int err = tick(to_file(io)->dir, NULL);

	return err ? err : io_punch(to_file(io)->inner, off, n);
}

static int fault_size(struct io *io, uint64_t *size, uint64_t *stored_bytes)
{
	return io_size(to_file(io)->inner, size, stored_bytes);
}

static int fault_seek_data(struct io *io, uint64_t off, bool hole, uint64_t *out)
{
	return io_seek(to_file(io)->inner, off, hole, out);
}

static bool fault_find_allocated(struct io *io, uint64_t off, uint64_t n, uint64_t *from, uint64_t *to)
{
	return io_find_allocated(to_file(io)->inner, off, n, from, to);
}

static uint64_t fault_saved(struct io *io, uint64_t off, uint64_t n, bool touched)
{
	return io_saved(to_file(io)->inner, off, n, touched);
}

static int fault_share(struct io *io, bool on)
{
	return io_share(to_file(io)->inner, on);
}

static int fault_lend(struct io *io, int (*use)(void *ctx, int fd), void *ctx)
{
	return io_lend(to_file(io)->inner, use, ctx);
}

static bool fault_has_writers(struct io *io)
{
	return io_has_writers(to_file(io)->inner);
}

static int fault_lock(struct io *io, uint64_t off, uint64_t n)
{
	return io_lock(to_file(io)->inner, off, n);
}

static void fault_close(struct io *io)
{
	io_close(to_file(io)->inner);
	free(io);
}

static const struct io_ops fault_ops = {
	.pread_some = fault_pread_some,
	.pwrite = fault_pwrite,
	.sync = fault_sync,
	.truncate = fault_truncate,
	.allocate = fault_allocate,
	.punch = fault_punch,
	.size = fault_size,
	.seek_data = fault_seek_data,
	.find_allocated = fault_find_allocated,
	.saved = fault_saved,
	.share = fault_share,
	.lend = fault_lend,
	.has_writers = fault_has_writers,
	.lock = fault_lock,
	.close = fault_close,
};

/* Counts the opening of a file: 0, or the error that it fails with. */
static int tick_open(struct fault_dir *d)
{
	int err;

	lock_acquire(&d->lock);
	d->nopens++;
	err = d->open_nth && d->nopens >= d->open_nth && d->nopens - d->open_nth < d->open_times ? d->open_err : 0;
	lock_release(&d->lock);
	return err;
}

static int fault_dir_open(struct io_dir *dir, const char *name, unsigned flags, struct io **out)
{
	struct fault_dir *d = to_dir(dir);
	int err = tick_open(d), dead = !err && flags & IO_CREATE ? fault_make(d) : 0;
	struct fault_file *f;

	if (err)
		return err;
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	err = dead && (flags & IO_EXCL) ? dead : io_open(d->inner, name, dead ? 0 : flags, &f->inner);
	if (dead && err == -ENOENT)
		err = dead;
	if (err) {
		free(f);
		return err;
	}
	f->base.ops = &fault_ops;
	f->dir = d;
	*out = &f->base;
	return 0;
}

static int fault_dir_unlink(struct io_dir *dir, const char *name)
{
	int err = tick(to_dir(dir), NULL);

	return err ? err : io_unlink(to_dir(dir)->inner, name);
}

static int fault_dir_rename(struct io_dir *dir, const char *from, const char *to)
{
	int err = tick(to_dir(dir), NULL);

	return err ? err : io_rename(to_dir(dir)->inner, from, to);
}

static int fault_dir_mkdir(struct io_dir *dir, const char *name)
{
	int err = fault_make(to_dir(dir));

	return err ? err : io_mkdir(to_dir(dir)->inner, name);
}

static int fault_dir_sync(struct io_dir *dir, const char *name)
{
	int err = tick(to_dir(dir), NULL);

	return err ? err : io_dir_sync(to_dir(dir)->inner, name);
}

static int fault_dir_list(struct io_dir *dir, const char *name, int (*each)(void *ctx, const char *name),
			  void *ctx)
{
	return io_list(to_dir(dir)->inner, name, each, ctx);
}

static int fault_dir_space(struct io_dir *dir, uint64_t *total, uint64_t *avail)
{
	return io_space(to_dir(dir)->inner, total, avail);
}

static void fault_dir_close(struct io_dir *dir)
{
	struct fault_dir *d = to_dir(dir);

	if (d->tells)
		log_info("fault: %llu operations", (unsigned long long)d->count);
	io_dir_close(d->inner);
	lock_fini(&d->lock);
	free(d);
}

static uint64_t fault_packings(struct io_dir *d)
{
	return io_packings(to_dir(d)->inner);
}

static int fault_hold_back(struct io_dir *d, uint64_t least, uint64_t most)
{
	return io_hold_back(to_dir(d)->inner, least, most);
}

static uint64_t fault_held_back(struct io_dir *d)
{
	return io_held_back(to_dir(d)->inner);
}

static bool fault_yields(struct io_dir *d, int err, uint64_t need_bytes)
{
	return io_yields(to_dir(d)->inner, err, need_bytes);
}

static const struct io_dir_ops fault_dir_ops = {
	.open = fault_dir_open,
	.unlink = fault_dir_unlink,
	.rename = fault_dir_rename,
	.mkdir = fault_dir_mkdir,
	.sync = fault_dir_sync,
	.list = fault_dir_list,
	.space = fault_dir_space,
	.packings = fault_packings,
	.hold_back = fault_hold_back,
	.held_back = fault_held_back,
	.yields = fault_yields,
	.close = fault_dir_close,
};

int io_fault_dir(struct io_dir *inner, struct io_dir **out)
{
	struct fault_dir *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->base.ops = &fault_dir_ops;
	d->inner = inner;
	lock_init(&d->lock, RANK_MEM);
	*out = &d->base;
	return 0;
}

struct plan {
	uint64_t nth, last;
	int err;
	bool torn, all, kill;
	const char *armed_by;
};

static void arm(struct io_dir *dir, const struct plan *p)
{
	struct fault_dir *d = to_dir(dir);

	lock_acquire(&d->lock);
	d->count = 0;
	d->nth = p->nth;
	d->last = p->last;
	d->err = p->err > 0 ? -p->err : p->err;
	d->torn = p->torn;
	d->all = p->all;
	d->kill = p->kill;
	d->armed_by = p->armed_by;
	lock_release(&d->lock);
}

void io_fault_arm(struct io_dir *dir, uint64_t n, int err, bool torn)
{
	arm(dir, &(struct plan){ .nth = n, .last = UINT64_MAX, .err = err, .torn = torn });
}

void io_fault_fail_at(struct io_dir *dir, uint64_t n, uint64_t times, int err, const char *armed_by)
{
	arm(dir, &(struct plan){ .nth = n, .last = times ? n + times - 1 : UINT64_MAX, .err = err, .all = true, .armed_by = armed_by });
}

void io_fault_kill_at(struct io_dir *dir, uint64_t n, bool torn, const char *armed_by)
{
	arm(dir, &(struct plan){ .nth = n, .last = UINT64_MAX, .err = -EIO, .torn = torn, .all = true, .kill = true, .armed_by = armed_by });
}

/* An errno by its name; 0: there is none. */
static int errno_of(const char *name)
{
	for (int e = 1; e < 134; e++) {
		if (strerrorname_np(e) && !strcmp(strerrorname_np(e), name))
			return e;
	}
	return 0;
}

int io_fault_arm_by(struct io_dir *d, const char *text, const char *armed_by)
{
	unsigned long long n = 0, times = 0;
	bool torn = !strncmp(text, "kill-torn:", 10);
	char name[16];
	int end = 0;

	if (sscanf(text, "fail:%llu:%15[A-Z0-9]%n:%llu%n", &n, name, &end, &times, &end) >= 2 && n && errno_of(name) && !text[end])
		io_fault_fail_at(d, n, times, -errno_of(name), armed_by);
	else if (!strcmp(text, "count") || (sscanf(text, torn ? "kill-torn:%llu%n" : "kill:%llu%n", &n, &end) == 1 && n && !text[end]))
		io_fault_kill_at(d, n, torn, armed_by);
	else
		return -EINVAL;
	to_dir(d)->tells = true;
	return 0;
}

uint64_t io_fault_fail_open(struct io_dir *dir, uint64_t n, uint64_t times, int err)
{
	struct fault_dir *d = to_dir(dir);
	uint64_t nopens;

	lock_acquire(&d->lock);
	nopens = d->nopens;
	d->nopens = 0;
	d->open_nth = n;
	d->open_times = times;
	d->open_err = err;
	lock_release(&d->lock);
	return nopens;
}

struct io_dir *io_fault_inner(struct io_dir *dir)
{
	return dir->ops == &fault_dir_ops ? to_dir(dir)->inner : dir;
}

uint64_t io_fault_count(struct io_dir *dir)
{
	struct fault_dir *d = to_dir(dir);
	uint64_t n;

	lock_acquire(&d->lock);
	n = d->count;
	lock_release(&d->lock);
	return n;
}
