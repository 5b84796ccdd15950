/*
 * Direct transfers.
 *
 * Invariants: (1) each piece is moved by one of the two descriptors only; (2) a direct piece is whole blocks, in a lease, or in
 * the caller's memory if that is aligned: a read reads all blocks that it touches and copies its part; a write that changes a
 * part of a block reads the block first, under the block's lock; (3) a lease is borrowed before
 * any lock is taken and returned before the next is borrowed; (4) a piece that cannot be direct goes buffered,
 * with all that is left of its transfer, so that only real errors reach the caller; (5) behind the end of a
 * file that is written here there are zeros: a write that ends inside a block fills it up, and what a failed
 * write has left there is cut off; (6) the end is raised before the locks of the piece are released.
 */
#include "io/direct.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "io/beneath.h"
#include "io/extents.h"
#include "util/buf.h"
#include "util/log.h"
#include "util/vec.h"

static uint64_t down(const struct direct_dir *dir, uint64_t off)
{
	return off & ~(uint64_t)(dir->align - 1);
}

static uint64_t up(const struct direct_dir *dir, uint64_t off)
{
	return down(dir, off + dir->align - 1);
}

bool direct_wanted(const struct direct_dir *dir, uint64_t off, size_t n, size_t min_bytes)
{
	uint64_t begin, end;

	if (!dir->align)
		return false;
	begin = up(dir, off);
	end = down(dir, off + n);
	return end > begin && end - begin >= min_bytes;
}

#ifndef RWF_DONTCACHE
#define RWF_DONTCACHE 0x80
#endif

static void count_read(const struct direct_io *x, enum stats_way way, size_t n)
{
	if (x->kind != DIRECT_UNCOUNTED)
		stats_add(stats_backing_read(x->kind, way), n);
}

static void count_write(const struct direct_io *x, enum stats_way way, size_t n)
{
	if (x->kind != DIRECT_UNCOUNTED)
		stats_add(stats_backing_write(x->kind, way), n);
}

/* ---- system calls ---- */

static ssize_t pread_once(int fd, void *buf, size_t n, uint64_t off)
{
	ssize_t r;

	do {
		r = pread(fd, buf, n, (off_t)off);
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

/* `flags` as pwritev2(2) has them. */
static ssize_t pwrite_once(int fd, const void *buf, size_t n, uint64_t off, int flags)
{
	const struct iovec v = { .iov_base = (void *)buf, .iov_len = n };
	ssize_t r;

	do {
		r = flags ? pwritev2(fd, &v, 1, (off_t)off, flags) : pwrite(fd, buf, n, (off_t)off);
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

/* Ends at the end of the file, or with `align` where the kernel stops inside a block, which is the same. */
static int pread_all(int fd, char *buf, size_t n, uint64_t off, size_t align, size_t *out)
{
	size_t done = 0;

	while (done < n) {
		ssize_t r = pread_once(fd, buf + done, n - done, off + done);

		if (r < 0)
			return (int)r;
		done += (size_t)r;
		if (!r || (align && done % align))
			break;
	}
	*out = done;
	return 0;
}

/* With `align` a short write goes on at the last whole block. */
static int pwrite_all(int fd, const char *buf, size_t n, uint64_t off, size_t align, int flags)
{
	size_t done = 0;

	while (done < n) {
		ssize_t r = pwrite_once(fd, buf + done, n - done, off + done, flags);

		if (r < 0)
			return (int)r;
		if (align && done + (size_t)r < n)
			r -= (ssize_t)((size_t)r % align);
		if (!r)
			return -EIO;
		done += (size_t)r;
	}
	return 0;
}

/* ---- the end of a file, and blocks that writes share ---- */

void direct_end_init(struct direct_end *end, uint64_t bytes)
{
	rwlock_init(&end->lock, RANK_END);
	atomic_init(&end->bytes, bytes);
	atomic_init(&end->padded, false);
	end->reserved_bytes = 0;
}

void direct_end_fini(struct direct_end *end)
{
	rwlock_fini(&end->lock);
}

static void end_raise(struct direct_end *end, uint64_t bytes)
{
	uint64_t old = atomic_load(&end->bytes);

	while (old < bytes && !atomic_compare_exchange_weak(&end->bytes, &old, bytes))
		;
}

static int cut_locked(struct direct_end *end, int fd, uint64_t size_bytes)
{
	int err;

	do {
		err = ftruncate(fd, (off_t)size_bytes) ? -errno : 0;
	} while (err == -EINTR);
	if (!err) {
		atomic_store(&end->bytes, size_bytes);
		atomic_store(&end->padded, false);
		end->reserved_bytes = 0;
	}
	return err;
}

struct range {
	uint64_t from, to;
};

/* Behind the end and the zeros that follow it. */
static uint64_t behind(const struct direct_end *end, int fd)
{
	uint64_t bytes = atomic_load(&end->bytes);
	struct stat st;

	if (!fstat(fd, &st) && (uint64_t)st.st_size > bytes)
		bytes = (uint64_t)st.st_size;
	return (bytes + DIRECT_ALIGN_MIN - 1) / DIRECT_ALIGN_MIN * DIRECT_ALIGN_MIN;
}

/* The space that is reserved behind the end; where the file system does not tell, all up to where this process has reserved some. */
static int list_reserved_locked(const struct direct_end *end, int fd, struct range **out, size_t *n_out)
{
	struct range r = { .to = behind(end, fd) }, *v = NULL;
	size_t n = 0, cap = 0;
	int err = 0;

	while (!err && extents_next(fd, r.to, INT64_MAX, &r.from, &r.to)) {
		err = VEC_RESERVE(v, cap, n + 1);
		if (!err)
			v[n++] = r;
	}
	if (!err && !n && end->reserved_bytes > atomic_load(&end->bytes)) {
		err = VEC_RESERVE(v, cap, 1);
		if (!err)
			v[n++] = (struct range){ atomic_load(&end->bytes), end->reserved_bytes };
	}
	*out = v;
	*n_out = n;
	return err;
}

static int reserve(int fd, struct range r)
{
	int err;

	do {
		err = fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)r.from, (off_t)(r.to - r.from)) ? -errno : 0;
	} while (err == -EINTR);
	return err;
}

/* Cuts the file at the end that it has; what is reserved behind that stays so. */
static int recut_locked(struct direct_end *end, int fd)
{
	struct range *v = NULL;
	size_t n = 0;
	int err = list_reserved_locked(end, fd, &v, &n);

	if (!err)
		err = cut_locked(end, fd, atomic_load(&end->bytes));
	for (size_t i = 0; i < n && !err; i++) {
		err = reserve(fd, v[i]);
		if (!err)
			end->reserved_bytes = v[i].to;
	}
	free(v);
	return err;
}

static bool has_reserved_locked(const struct direct_end *end, int fd)
{
	uint64_t from, to;

	return end->reserved_bytes > atomic_load(&end->bytes) || extents_next(fd, behind(end, fd), INT64_MAX, &from, &to);
}

int direct_cut(struct direct_end *end, int fd, uint64_t size_bytes)
{
	int err;

	rwlock_exclusive(&end->lock);
	err = cut_locked(end, fd, size_bytes);
	rwlock_release(&end->lock);
	return err;
}

int direct_trim(struct direct_end *end, int fd, bool last, uint64_t *size_out)
{
	uint64_t size = 0;
	int err = 0;

	rwlock_exclusive(&end->lock);
	if (atomic_load(&end->padded) && (last || !has_reserved_locked(end, fd))) {
		size = atomic_load(&end->bytes);
		err = recut_locked(end, fd);
	}
	rwlock_release(&end->lock);
	if (!err)
		*size_out = size;
	return err;
}

void direct_reserved(struct direct_end *end, uint64_t bytes)
{
	rwlock_exclusive(&end->lock);
	if (bytes > end->reserved_bytes)
		end->reserved_bytes = bytes;
	rwlock_release(&end->lock);
}

/* Cuts off what a failed write may have left behind the end (invariant 5). */
static void end_restore(struct direct_io *x)
{
	struct stat st;
	uint64_t end;
	int err;

	rwlock_exclusive(&x->end->lock);
	end = atomic_load(&x->end->bytes);
	err = fstat(x->fd, &st) ? -errno : 0;
	if (!err && (uint64_t)st.st_size > end)
		err = recut_locked(x->end, x->fd);
	rwlock_release(&x->end->lock);
	if (err)
		log_warn("a file of the store cannot be cut to %llu bytes: %s", (unsigned long long)end, strerror(-err));
}

void direct_drop_edge(const struct direct_dir *dir, int fd, uint64_t off)
{
	uint64_t begin = down(dir, off);

	if (begin == off)
		return;
	sync_file_range(fd, (off_t)begin, (off_t)dir->align,
			SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
	posix_fadvise(fd, (off_t)begin, (off_t)dir->align, POSIX_FADV_DONTNEED);
}

/* The locks of the blocks that a write changes in part: none, one or two. */
struct edges {
	struct lock *low, *high;
};

static struct lock *edge_lock(const struct direct_io *x, uint64_t off)
{
	uint64_t h = ((uintptr_t)x->end / sizeof(*x->end) + off / x->dir->align) * 0x9e3779b97f4a7c15u;

	return &x->dir->edges[h >> 32 & (DIRECT_EDGES - 1)];
}

static struct edges edges_acquire(const struct direct_io *x, uint64_t off, size_t n)
{
	struct lock *a = down(x->dir, off) < off ? edge_lock(x, off) : NULL;
	struct lock *b = down(x->dir, off + n) < off + n ? edge_lock(x, off + n) : NULL;
	struct edges e = { a, b };

	if (!a || !b || a == b)
		e = (struct edges){ a ? a : b, NULL };
	else if (a > b)
		e = (struct edges){ b, a };
	if (e.low)
		lock_acquire(e.low);
	if (e.high)
		lock_acquire_nested(e.high);
	return e;
}

static void edges_release(const struct edges *e)
{
	if (e->high)
		lock_release(e->high);
	if (e->low)
		lock_release(e->low);
}

/* ---- buffered pieces ---- */

static int buffered_pread(struct direct_io *x, char *buf, size_t n, uint64_t off, size_t *out)
{
	int err = pread_all(x->fd, buf, n, off, 0, out);

	if (!err)
		count_read(x, STATS_BUFFERED, *out);
	return err;
}

static int buffered_pwrite(struct direct_io *x, const char *buf, size_t n, uint64_t off)
{
	int flags = x->reach == DIRECT_UNCACHED ? RWF_DONTCACHE : 0;
	struct edges e;
	int err;

	if (!n)
		return 0;
	if (!x->end) {
		err = pwrite_all(x->fd, buf, n, off, 0, flags);
	} else {
		rwlock_shared(&x->end->lock);
		e = edges_acquire(x, off, n);
		err = pwrite_all(x->fd, buf, n, off, 0, flags);
		if (!err)
			end_raise(x->end, off + n);
		edges_release(&e);
		rwlock_release(&x->end->lock);
	}
	if (!err)
		count_write(x, flags ? STATS_UNCACHED : STATS_BUFFERED, n);
	return err;
}

/* ---- direct pieces: n bytes at off that fit a lease with the blocks around them ---- */

static int lease_pread(struct direct_io *x, char *lease, char *buf, size_t n, uint64_t off, size_t *out)
{
	uint64_t begin = down(x->dir, off), end = up(x->dir, off + n);
	size_t skip = (size_t)(off - begin), got;
	int err = pread_all(x->dfd, lease, (size_t)(end - begin), begin, x->dir->align, &got);

	if (err)
		return err;
	got = got > skip ? got - skip : 0;
	*out = got < n ? got : n;
	memcpy(buf, lease + skip, *out);
	count_read(x, STATS_DIRECT, *out);
	return 0;
}

/* Reads a block that a write changes in part. */
static int read_edge(struct direct_io *x, char *lease, uint64_t block)
{
	size_t got = 0;
	int err = 0;

	if (block < atomic_load(&x->end->bytes))
		err = pread_all(x->dfd, lease, x->dir->align, block, x->dir->align, &got);
	if (!err)
		memset(lease + got, 0, x->dir->align - got);
	return err;
}

/* The blocks from begin to end as the write leaves them. */
static int fill_lease(struct direct_io *x, char *lease, const char *buf, size_t n, uint64_t off)
{
	uint64_t begin = down(x->dir, off), end = up(x->dir, off + n), last = end - x->dir->align;
	int err = 0;

	if (begin < off)
		err = read_edge(x, lease, begin);
	if (!err && off + n < end && (last > begin || begin == off))
		err = read_edge(x, lease + (last - begin), last);
	if (!err)
		memcpy(lease + (off - begin), buf, n);
	return err;
}

static int blocks_pwrite_locked(struct direct_io *x, char *lease, const char *buf, size_t n, uint64_t off)
{
	uint64_t begin = down(x->dir, off), end = up(x->dir, off + n);
	int err = lease ? fill_lease(x, lease, buf, n, off) : 0;

	if (!err)
		err = pwrite_all(x->dfd, lease ? lease : buf, (size_t)(end - begin), begin, x->dir->align, 0);
	if (err)
		return err;
	end_raise(x->end, off + n);
	if (end > atomic_load(&x->end->bytes))
		atomic_store(&x->end->padded, true);
	return 0;
}

/* Without a lease: the blocks are whole, and in memory that is aligned. */
static int blocks_pwrite(struct direct_io *x, char *lease, const char *buf, size_t n, uint64_t off)
{
	struct edges e;
	int err;

	rwlock_shared(&x->end->lock);
	e = edges_acquire(x, off, n);
	err = blocks_pwrite_locked(x, lease, buf, n, off);
	edges_release(&e);
	rwlock_release(&x->end->lock);
	if (!err)
		count_write(x, STATS_DIRECT, n);
	return err;
}

/* ---- transfers ---- */

static bool is_aligned(const struct direct_io *x, const void *buf, size_t n, uint64_t off)
{
	return !(((uintptr_t)buf | off | n) & (x->dir->align - 1));
}

/* False: the rest of the transfer goes buffered. */
static bool borrow(struct direct_io *x, void **lease)
{
	int err = x->wait ? lease_pool_borrow(x->dir->leases, lease) : lease_pool_try_borrow(x->dir->leases, lease);

	if (err)
		stats_add(err == -EAGAIN ? STAT_LEASE_FALLBACKS_LENT : STAT_LEASE_FALLBACKS_MEMORY, 1);
	return !err;
}

/* Lease by lease, reads to rd or writes from wr (exactly one of them); a write of whole blocks from aligned memory at once, without
 * a lease. *done: less than n where the file ends or what is left is to go buffered. */
static int move(struct direct_io *x, char *rd, const char *wr, size_t n, uint64_t off, size_t *done)
{
	size_t room = lease_pool_buf_bytes(x->dir->leases) & ~(x->dir->align - 1), want, got;
	void *lease;
	int err = 0;

	*done = 0;
	if (wr && is_aligned(x, wr, n, off)) {
		err = blocks_pwrite(x, NULL, wr, n, off);
		*done = err ? 0 : n;
	}
	while (!err && *done < n && borrow(x, &lease)) {
		want = room - (size_t)(off + *done - down(x->dir, off + *done));
		want = n - *done < want ? n - *done : want;
		got = want;
		if (rd)
			err = lease_pread(x, lease, rd + *done, want, off + *done, &got);
		else
			err = blocks_pwrite(x, lease, wr + *done, want, off + *done);
		lease_pool_return(x->dir->leases, lease);
		if (err)
			break;
		*done += got;
		if (got < want)
			break;
	}
	if (err != -EINVAL && err != -EOPNOTSUPP)
		return err;
	x->refused = true;
	stats_add(STAT_LEASE_FALLBACKS_REFUSED, 1);
	return 0;
}

/* The part of [off, off + n) that is to go direct: *skip bytes on, returns its length. */
static size_t direct_part(const struct direct_io *x, uint64_t off, size_t n, size_t *skip)
{
	*skip = 0;
	if (x->reach != DIRECT_MIDDLE)
		return x->reach == DIRECT_ALL ? n : 0;
	if (!direct_wanted(x->dir, off, n, 1))
		return 0;
	*skip = (size_t)(up(x->dir, off) - off);
	return (size_t)(down(x->dir, off + n) - up(x->dir, off));
}

int direct_pread(struct direct_io *x, void *buf, size_t n, uint64_t off, size_t *out)
{
	uint64_t end = x->end ? atomic_load(&x->end->bytes) : UINT64_MAX;
	size_t head, part, got, done = 0;
	char *p = buf;
	int err;

	if (off >= end)
		n = 0;
	else if (n > end - off)
		n = (size_t)(end - off);
	part = direct_part(x, off, n, &head);
	if (part) {
		err = buffered_pread(x, p, head, off, &done);
		if (!err && done == head) {
			err = move(x, p + head, NULL, part, off + head, &got);
			done += err ? 0 : got;
		}
		if (err)
			return err;
	}
	err = buffered_pread(x, p + done, n - done, off + done, &got);
	if (!err)
		*out = done + got;
	return err;
}

static int pwrite_parts(struct direct_io *x, const char *p, size_t n, uint64_t off)
{
	size_t head, part = direct_part(x, off, n, &head), done = 0;
	int err;

	if (part) {
		err = buffered_pwrite(x, p, head, off);
		if (!err)
			err = move(x, NULL, p + head, part, off + head, &done);
		if (err)
			return err;
		done += head;
	}
	return buffered_pwrite(x, p + done, n - done, off + done);
}

int direct_pwrite(struct direct_io *x, const void *buf, size_t n, uint64_t off)
{
	int err = pwrite_parts(x, buf, n, off);

	if (err && x->end)
		end_restore(x);
	return err;
}

/* ---- descriptors ---- */

/* The block that direct transfers on a file need; 0: it takes none. */
static size_t needed_align(int dfd)
{
#ifdef STATX_DIOALIGN
	struct statx sx;

	if (!statx(dfd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) && (sx.stx_mask & STATX_DIOALIGN)) {
		if (!sx.stx_dio_offset_align || sx.stx_dio_mem_align > DIRECT_ALIGN_MIN)
			return 0;
		/* Not below a page: file systems serialise such writes. */
		return sx.stx_dio_offset_align > DIRECT_ALIGN_MIN ? sx.stx_dio_offset_align : DIRECT_ALIGN_MIN;
	}
#endif
	(void)dfd;
	return DIRECT_ALIGN_MIN;
}

static int reopen(int fd, bool rdonly, int *out)
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

int direct_reopen(int fd, bool rdonly, size_t align, int *out)
{
	int dfd = -1, err = reopen(fd, rdonly, &dfd);
	size_t need;

	if (err)
		return err;
	need = needed_align(dfd);
	if (!need || align % need) {
		close(dfd);
		return -EINVAL;
	}
	*out = dfd;
	return 0;
}

static bool probe_round_trip(int dfd, size_t align)
{
	unsigned char *buf = buf_alloc(align);
	bool ok = buf != NULL;

	if (!ok)
		return false;
	memset(buf, 0xa5, align);
	ok = pwrite_once(dfd, buf, align, 0, 0) == (ssize_t)align;
	memset(buf, 0, align);
	ok = ok && pread_once(dfd, buf, align, 0) == (ssize_t)align;
	for (size_t i = 0; ok && i < align; i++)
		ok = buf[i] == 0xa5;
	buf_free(buf, align);
	return ok;
}

/* The block to use, or 0, and why. */
static size_t probe_file(int fd, size_t lease_bytes, const char **why)
{
	int dfd = -1, err = reopen(fd, false, &dfd);
	size_t align;

	if (err) {
		*why = err == -ENOENT ? "/proc is not mounted" : "the file system refuses O_DIRECT";
		return 0;
	}
	align = needed_align(dfd);
	if (!align)
		*why = "the file system takes no direct transfers";
	else if (align > lease_bytes)
		*why = "its blocks are larger than a lease";
	else if (!probe_round_trip(dfd, align))
		*why = "direct transfers fail";
	else
		*why = "the file system takes O_DIRECT";
	if (strcmp(*why, "the file system takes O_DIRECT"))
		align = 0;
	close(dfd);
	return align;
}

void direct_dir_try(struct direct_dir *dir, int dirfd, const char **why)
{
	int fd = -1, err = beneath_open_unnamed(dirfd, &fd);

	dir->align = 0;
	dir->uncached = false;
	if (err) {
		*why = err == -EROFS ? "the file system is read-only" : "no file could be made to try O_DIRECT";
		return;
	}
	dir->align = probe_file(fd, lease_pool_buf_bytes(dir->leases), why);
	dir->uncached = pwrite_once(fd, "", 1, 0, RWF_DONTCACHE) == 1;
	close(fd);
}

void direct_dir_init(struct direct_dir *dir)
{
	for (unsigned i = 0; i < DIRECT_EDGES; i++)
		lock_init(&dir->edges[i], RANK_EDGE);
}

void direct_dir_fini(struct direct_dir *dir)
{
	for (unsigned i = 0; i < DIRECT_EDGES; i++)
		lock_fini(&dir->edges[i]);
}
