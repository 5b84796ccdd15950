/*
 * See disk.h. One thread runs at a time (sched.h), so nothing here is locked.
 */
#include "disk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "sched.h"
#include "sim.h"
#include "util/log.h"

const char *const disk_call_names[DISK_NCALLS] = {
	"open", "read", "write", "sync", "truncate", "allocate", "punch", "unlink", "rename", "mkdir", "syncdir", "list", "spillread", "spillwrite",
};

struct disk_dir {
	struct io_dir base;
	struct io_dir *inner;
	uint64_t slow_ns;
};

struct disk_file {
	struct io base;
	struct io *inner;
	struct disk_dir *dir;
	bool prepared; /* a log that takes its space before it is written */
	bool unnamed;
};

static struct {
	uint64_t nchanges;
	uint64_t ncalls[DISK_NCALLS]; /* since the plan */
	struct disk_fault fault;
	bool has_failed;
	void (*cut)(uint64_t change);
} s;

static struct disk_dir *to_dir(struct io_dir *d)
{
	return (struct disk_dir *)d;
}

static struct disk_file *to_file(struct io *f)
{
	return (struct disk_file *)f;
}

void disk_plan_fault(const struct disk_fault *f)
{
	memset(s.ncalls, 0, sizeof(s.ncalls));
	s.fault = f ? *f : (struct disk_fault){ 0 };
}

bool disk_has_failed(void)
{
	return s.has_failed;
}

uint64_t disk_changes(void)
{
	return s.nchanges;
}

void disk_on_cut(void (*try)(uint64_t change))
{
	s.cut = try;
	s.nchanges = 0;
}

/* Does the call fail by plan? 0, or the error. prepared: what is written to is the file's own, and there is no want of space. */
static int fail(enum disk_call call, bool prepared)
{
	const struct disk_fault *f = &s.fault;
	uint64_t nth;

	if (f->call != call || !f->nth || (prepared && f->err == -ENOSPC))
		return 0;
	nth = ++s.ncalls[call];
	if (nth < f->nth || nth - f->nth >= f->times)
		return 0;
	sim_counts->faults++;
	s.has_failed = true;
	log_debug("sim: %s fails: %s", disk_call_names[call], strerror(-f->err));
	return f->err;
}

/* What happens at each call, before it is made: 0, or the error that it fails with. */
static int enter(struct disk_dir *d, enum disk_call call, uint64_t off, uint64_t n, const void *bytes, bool prepared)
{
	sched_note(call << 8 ^ off << 16 ^ n);
	if (bytes)
		sched_note(XXH3_64bits(bytes, n));
	if (d->slow_ns && sched_draw(4) == 0)
		sched_sleep((int64_t)sched_draw(d->slow_ns) + 1);
	else
		sched_step();
	if (call != DISK_READ && call != DISK_SPILL_READ && call != DISK_LIST && call != DISK_OPEN) {
		s.nchanges++;
		if (s.cut)
			s.cut(s.nchanges);
	}
	return fail(call, prepared);
}

static int enter_file(struct io *io, enum disk_call call, uint64_t off, uint64_t n, const void *bytes)
{
	struct disk_file *f = to_file(io);

	if (f->unnamed && (call == DISK_READ || call == DISK_WRITE))
		return enter(f->dir, call == DISK_READ ? DISK_SPILL_READ : DISK_SPILL_WRITE, off, n, bytes, call == DISK_WRITE && io_is_allocated(f->inner, off, n));
	return enter(f->dir, call, off, n, bytes, f->prepared);
}

static int enter_dir(struct io_dir *dir, enum disk_call call, uint64_t name, uint64_t more)
{
	return enter(to_dir(dir), call, name, more, NULL, false);
}

/* ---- files ---- */

static int disk_pread_some(struct io *io, void *buf, size_t n, uint64_t off, unsigned how, size_t *out)
{
	struct io *inner = to_file(io)->inner;
	int err = enter_file(io, DISK_READ, off, n, NULL);

	return err ? err : inner->ops->pread_some(inner, buf, n, off, how, out);
}

static int disk_pwrite(struct io *io, const void *buf, size_t n, uint64_t off, unsigned how)
{
	struct disk_file *f = to_file(io);
	int err = enter_file(io, DISK_WRITE, off, n, buf);

	if (err && s.fault.half && n > 1)
		io_pwrite_as(f->inner, buf, n / 2, off, how);
	return err ? err : io_pwrite_as(f->inner, buf, n, off, how);
}

static int disk_sync(struct io *io)
{
	int err = enter_file(io, DISK_SYNC, 0, 0, NULL);

	return err ? err : io_sync(to_file(io)->inner);
}

static int disk_truncate(struct io *io, uint64_t size)
{
	int err = enter_file(io, DISK_TRUNCATE, size, 0, NULL);

	return err ? err : io_truncate(to_file(io)->inner, size);
}

static int disk_allocate(struct io *io, uint64_t off, uint64_t n)
{
	int err = enter_file(io, DISK_ALLOCATE, off, n, NULL);

	return err ? err : io_allocate(to_file(io)->inner, off, n);
}

static int disk_punch(struct io *io, uint64_t off, uint64_t n)
{
	int err = enter_file(io, DISK_PUNCH, off, n, NULL);

	return err ? err : io_punch(to_file(io)->inner, off, n);
}

static int disk_size(struct io *io, uint64_t *size, uint64_t *stored)
{
	return io_size(to_file(io)->inner, size, stored);
}

static int disk_seek(struct io *io, uint64_t off, bool hole, uint64_t *out)
{
	return io_seek(to_file(io)->inner, off, hole, out);
}

static bool disk_find_allocated(struct io *io, uint64_t off, uint64_t n, uint64_t *from, uint64_t *to)
{
	return io_find_allocated(to_file(io)->inner, off, n, from, to);
}

static int disk_lock(struct io *io, uint64_t off, uint64_t n)
{
	return io_lock(to_file(io)->inner, off, n);
}

static void disk_close(struct io *io)
{
	io_close(to_file(io)->inner);
	free(io);
}

static const struct io_ops disk_ops = {
	.pread_some = disk_pread_some,
	.pwrite = disk_pwrite,
	.sync = disk_sync,
	.truncate = disk_truncate,
	.allocate = disk_allocate,
	.punch = disk_punch,
	.size = disk_size,
	.seek_data = disk_seek,
	.find_allocated = disk_find_allocated,
	.lock = disk_lock,
	.close = disk_close,
};

/* ---- names ---- */

static uint64_t hash(const char *name)
{
	return XXH3_64bits(name, strlen(name));
}

static int disk_open(struct io_dir *dir, const char *name, unsigned flags, struct io **out)
{
	struct disk_file *f;
	int err = enter_dir(dir, DISK_OPEN, hash(name), flags);

	if (err)
		return err;
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	err = io_open(to_dir(dir)->inner, name, flags, &f->inner);
	if (err) {
		free(f);
		return err;
	}
	f->base.ops = &disk_ops;
	f->dir = to_dir(dir);
	f->unnamed = flags & IO_UNNAMED;
	f->prepared = !strcmp(name, "meta.db-wal");
	*out = &f->base;
	return 0;
}

static int disk_unlink(struct io_dir *dir, const char *name)
{
	int err = enter_dir(dir, DISK_UNLINK, hash(name), 0);

	return err ? err : io_unlink(to_dir(dir)->inner, name);
}

static int disk_rename(struct io_dir *dir, const char *from, const char *to)
{
	int err = enter_dir(dir, DISK_RENAME, hash(from), hash(to));

	return err ? err : io_rename(to_dir(dir)->inner, from, to);
}

static int disk_mkdir(struct io_dir *dir, const char *name)
{
	int err = enter_dir(dir, DISK_MKDIR, hash(name), 0);

	return err ? err : io_mkdir(to_dir(dir)->inner, name);
}

static int disk_sync_dir(struct io_dir *dir, const char *name)
{
	int err = enter_dir(dir, DISK_SYNC_DIR, hash(name), 0);

	return err ? err : io_dir_sync(to_dir(dir)->inner, name);
}

static int disk_list(struct io_dir *dir, const char *name, int (*each)(void *ctx, const char *name), void *ctx)
{
	int err = enter_dir(dir, DISK_LIST, hash(name), 0);

	return err ? err : io_list(to_dir(dir)->inner, name, each, ctx);
}

static int disk_space(struct io_dir *dir, uint64_t *total, uint64_t *avail)
{
	return io_space(to_dir(dir)->inner, total, avail);
}

static void disk_dir_close(struct io_dir *dir)
{
	io_dir_close(to_dir(dir)->inner);
	free(dir);
}

static const struct io_dir_ops disk_dir_ops = {
	.open = disk_open,
	.unlink = disk_unlink,
	.rename = disk_rename,
	.mkdir = disk_mkdir,
	.sync = disk_sync_dir,
	.list = disk_list,
	.space = disk_space,
	.close = disk_dir_close,
};

int disk_wrap(struct io_dir *inner, uint64_t slow_ns, struct io_dir **out)
{
	struct disk_dir *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->base.ops = &disk_dir_ops;
	d->inner = inner;
	d->slow_ns = slow_ns;
	*out = &d->base;
	return 0;
}
