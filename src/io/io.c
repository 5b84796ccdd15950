/*
 * Common to all kinds of files.
 */
#include "io/io.h"

#include <errno.h>
#include <sys/stat.h>

#include "util/clock.h"

int io_pread_as(struct io *f, void *buf, size_t n, uint64_t off, unsigned how)
{
	size_t got = 0;
	int err = f->ops->pread_some(f, buf, n, off, how, &got);

	if (err)
		return err;
	return got == n ? 0 : -ENODATA;
}

bool io_is_allocated(struct io *f, uint64_t off, uint64_t n)
{
	uint64_t end = off + n, from, to;

	while (off < end && io_find_allocated(f, off, end - off, &from, &to) && from == off)
		off = to;
	return off >= end;
}

uint64_t io_allocated(struct io *f, uint64_t off, uint64_t n)
{
	uint64_t end = off + n, from, bytes = 0;

	while (off < end && io_find_allocated(f, off, end - off, &from, &off))
		bytes += off - from;
	return bytes;
}

int io_replace(struct io_dir *d, const char *name, const char *tmp, const void *p, size_t n)
{
	struct io *f;
	int err = io_open(d, tmp, IO_CREATE, &f);

	if (err)
		return err;
	err = io_truncate(f, 0);
	if (!err)
		err = io_pwrite(f, p, n, 0);
	if (!err)
		err = io_sync(f);
	io_close(f);
	return err ? err : io_rename(d, tmp, name);
}

int io_share(struct io *f, bool on)
{
	return f->ops->share ? f->ops->share(f, on) : -EOPNOTSUPP;
}

int io_lend(struct io *f, int (*use)(void *ctx, int fd), void *ctx)
{
	return f->ops->lend ? f->ops->lend(f, use, ctx) : -EOPNOTSUPP;
}

bool io_has_writers(struct io *f)
{
	return f->ops->has_writers && f->ops->has_writers(f);
}

int io_lock(struct io *f, uint64_t off, uint64_t n)
{
	return f->ops->lock ? f->ops->lock(f, off, n) : -EOPNOTSUPP;
}

static int read_facts(void *ctx, int fd)
{
	struct io_facts *out = ctx;
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	*out = (struct io_facts){ (uint64_t)st.st_size, (uint64_t)st.st_blocks * 512, clock_ns(st.st_mtim), clock_ns(st.st_atim) };
	return 0;
}

int io_facts(struct io *f, struct io_facts *out)
{
	return io_lend(f, read_facts, out);
}

static int set_marked_time(void *ctx, int fd)
{
	const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = 1 } };

	(void)ctx;
	return futimens(fd, times) ? -errno : 0;
}

int io_mark_time(struct io *f)
{
	return io_lend(f, set_marked_time, NULL);
}

int io_hold_back(struct io_dir *d, uint64_t least, uint64_t most)
{
	return d->ops->hold_back ? d->ops->hold_back(d, least, most) : -EOPNOTSUPP;
}
