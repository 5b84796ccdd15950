/*
 * Direct transfers: the aligned middle of a range goes through the O_DIRECT descriptor, its edges
 * through the page cache.
 *
 * Invariants: (1) a page is moved by one of the two descriptors only within a transfer; (2) the direct
 * part may stop early for any reason (end of file, no buffer free, a refusal), what is left goes
 * buffered; so only real errors reach the caller; (3) it never waits for a buffer of the lease pool,
 * because the caller may hold one itself: then, too, the rest goes buffered; (4) memory that is aligned
 * already is used as it is.
 */
#include "io/direct.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "util/buf.h"
#include "util/stats.h"

/* One system call moves less than 2 GiB; this keeps each piece aligned. */
#define DIRECT_STEP_MAX ((size_t)1 << 30)

static uint64_t direct_begin(uint64_t off)
{
	return (off + DIRECT_ALIGN - 1) & ~(uint64_t)(DIRECT_ALIGN - 1);
}

static uint64_t direct_end(uint64_t off, size_t n)
{
	return (off + n) & ~(uint64_t)(DIRECT_ALIGN - 1);
}

bool direct_wanted(uint64_t off, size_t n, size_t min_bytes)
{
	uint64_t begin = direct_begin(off), end = direct_end(off, n);

	return end > begin && end - begin >= min_bytes;
}

static ssize_t pread_once(int fd, void *buf, size_t n, uint64_t off)
{
	ssize_t r;

	do {
		r = pread(fd, buf, n, off);
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

static ssize_t pwrite_once(int fd, const void *buf, size_t n, uint64_t off)
{
	ssize_t r;

	do {
		r = pwrite(fd, buf, n, off);
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

static int buffered_pread(int fd, char *buf, size_t n, uint64_t off, size_t *out)
{
	size_t done = 0;

	while (done < n) {
		ssize_t r = pread_once(fd, buf + done, n - done, off + done);

		if (r < 0)
			return r;
		if (r == 0)
			break;
		done += r;
	}
	stats_add(STAT_BUFFERED_BYTES, done);
	*out = done;
	return 0;
}

static int buffered_pwrite(int fd, const char *buf, size_t n, uint64_t off)
{
	size_t done = 0;

	while (done < n) {
		ssize_t r = pwrite_once(fd, buf + done, n - done, off + done);

		if (r < 0)
			return r;
		if (r == 0)
			return -EIO;
		done += r;
	}
	stats_add(STAT_BUFFERED_BYTES, done);
	return 0;
}

/* The aligned middle: reads into or writes from p (exactly one of rd, wr), *done bytes of it. */
static int direct_move(struct direct_io *x, char *rd, const char *wr, size_t n, uint64_t off, size_t *done)
{
	bool aligned = ((uintptr_t)(rd ? rd : wr) & (DIRECT_ALIGN - 1)) == 0;
	size_t step = DIRECT_STEP_MAX;
	void *bounce = NULL;
	int err = 0;

	*done = 0;
	if (!aligned) {
		if (!x->leases || lease_pool_try_borrow(x->leases, &bounce))
			return 0;
		step = lease_pool_buf_bytes(x->leases);
	}
	while (*done < n) {
		size_t want = n - *done < step ? n - *done : step;
		ssize_t r;

		if (rd) {
			r = pread_once(x->dfd, bounce ? bounce : rd + *done, want, off + *done);
			if (bounce && r > 0)
				memcpy(rd + *done, bounce, r);
		} else {
			if (bounce)
				memcpy(bounce, wr + *done, want);
			r = pwrite_once(x->dfd, bounce ? bounce : wr + *done, want, off + *done);
		}
		if (r == -EINVAL || r == -EOPNOTSUPP)
			x->refused = true;
		else if (r < 0)
			err = r;
		if (r > 0)
			*done += r;
		if (r < (ssize_t)want)
			break;
	}
	if (bounce)
		lease_pool_return(x->leases, bounce);
	stats_add(STAT_DIRECT_BYTES, *done);
	return err;
}

int direct_pread(struct direct_io *x, void *buf, size_t n, uint64_t off, size_t *out)
{
	size_t head, middle, got, done = 0;
	char *p = buf;
	int err;

	if (x->dfd >= 0 && direct_wanted(off, n, 0)) {
		head = direct_begin(off) - off;
		middle = direct_end(off, n) - direct_begin(off);
		err = buffered_pread(x->fd, p, head, off, &got);
		if (err)
			return err;
		done = got;
		if (got == head) {
			err = direct_move(x, p + head, NULL, middle, off + head, &got);
			if (err)
				return err;
			done += got;
		}
	}
	err = buffered_pread(x->fd, p + done, n - done, off + done, &got);
	if (err)
		return err;
	*out = done + got;
	return 0;
}

int direct_pwrite(struct direct_io *x, const void *buf, size_t n, uint64_t off)
{
	size_t head, middle, got, done = 0;
	const char *p = buf;
	int err;

	if (x->dfd >= 0 && direct_wanted(off, n, 0)) {
		head = direct_begin(off) - off;
		middle = direct_end(off, n) - direct_begin(off);
		err = buffered_pwrite(x->fd, p, head, off);
		if (!err)
			err = direct_move(x, NULL, p + head, middle, off + head, &got);
		if (err)
			return err;
		done = head + got;
	}
	return buffered_pwrite(x->fd, p + done, n - done, off + done);
}

int direct_reopen(int fd, bool rdonly, int *out)
{
	char path[40];
	int dfd;

	/* Not by name: the file may be unlinked, or be renamed at this moment. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	dfd = open(path, (rdonly ? O_RDONLY : O_RDWR) | O_DIRECT | O_CLOEXEC);
	if (dfd < 0)
		return -errno;
	*out = dfd;
	return 0;
}

/* A file without a name. */
static int probe_open(int dirfd, int *out)
{
	char name[40];
	int fd = openat(dirfd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd < 0 && errno != EROFS && errno != EACCES) {
		snprintf(name, sizeof(name), ".spillfs-probe-%ld", (long)getpid());
		unlinkat(dirfd, name, 0);
		fd = openat(dirfd, name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
		if (fd >= 0)
			unlinkat(dirfd, name, 0);
	}
	if (fd < 0)
		return -errno;
	*out = fd;
	return 0;
}

static bool probe_round_trip(int dfd)
{
	unsigned char *buf = buf_alloc(DIRECT_ALIGN);
	bool ok = buf != NULL;

	if (!ok)
		return false;
	memset(buf, 0xa5, DIRECT_ALIGN);
	ok = pwrite_once(dfd, buf, DIRECT_ALIGN, 0) == DIRECT_ALIGN;
	memset(buf, 0, DIRECT_ALIGN);
	ok = ok && pread_once(dfd, buf, DIRECT_ALIGN, 0) == DIRECT_ALIGN;
	for (size_t i = 0; ok && i < DIRECT_ALIGN; i++)
		ok = buf[i] == 0xa5;
	buf_free(buf, DIRECT_ALIGN);
	return ok;
}

bool direct_probe(int dirfd, const char **why)
{
	int fd = -1, dfd = -1, err = probe_open(dirfd, &fd);
	bool ok = false;

	if (err) {
		*why = err == -EROFS ? "the file system is read-only" :
				       "no file could be made to try O_DIRECT";
		return false;
	}
	err = direct_reopen(fd, false, &dfd);
	if (err) {
		*why = err == -ENOENT ? "/proc is not mounted" : "the file system refuses O_DIRECT";
	} else {
		ok = probe_round_trip(dfd);
		*why = ok ? "the file system takes O_DIRECT" : "4096-byte direct transfers fail";
		close(dfd);
	}
	close(fd);
	return ok;
}
