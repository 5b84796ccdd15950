/*
 * A real directory and its files.
 *
 * Invariants: (1) a descriptor is used between fd_get and fd_put only; (2) names change under `names`,
 * which no transfer takes; (3) the space of a file is freed (which may take long) under no lock; (4) the size
 * of a file that direct transfers write is what direct_end says, not what the kernel says.
 *
 * Directories are not renamed while files in them are open.
 */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "io/beneath.h"
#include "io/extents.h"
#include "io/filefd.h"
#include "util/err.h"
#include "util/log.h"

#define FILE_FD_BUDGET 512
#define FILE_FD_BUDGET_MIN 16
#define LEASE_EDGES_BYTES 8192u /* for the blocks that an unaligned transfer begins and ends in */

static const struct io_dir_ops file_dir_ops;

static struct file *to_file(struct io *io)
{
	return (struct file *)io;
}

static struct file_dir *to_dir(struct io_dir *d)
{
	return (struct file_dir *)d;
}

/* ---- what a cache above has, too ---- */

/* Linux 6.5; the C library may be older. */
#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif

/* To drop dirty pages is to have them written, which files that are soon removed do without. */
static bool is_clean(struct file *f, int fd, struct behind_range r)
{
	struct { uint64_t off, len; } range = { r.from, r.to - r.from };
	struct { uint64_t cached, dirty, writeback, evicted, recently; } n;

	if (syscall(SYS_cachestat, fd, &range, &n, 0))
		return !atomic_load_explicit(&f->dirty, memory_order_relaxed);
	return !n.dirty && !n.writeback;
}

/* The kernel drops no page that somebody writes or maps. */
static void drop(int fd, struct behind_range r)
{
	if (r.to > r.from)
		posix_fadvise(fd, (off_t)r.from, (off_t)(r.to - r.from), POSIX_FADV_DONTNEED);
}

static bool is_kept_above(struct file *f, unsigned how)
{
	return (how & IO_KEPT) && !f->pinned && !atomic_load(&f->shared);
}

static void drop_behind_reader(struct file *f, const struct direct_io *x, uint64_t off, size_t n)
{
	struct behind_range r = behind_read(&f->behind, off, n, x->end ? atomic_load(&x->end->bytes) : UINT64_MAX);

	if (r.to > r.from && is_clean(f, x->fd, r))
		drop(x->fd, r);
}

static void drop_behind_writer(struct file *f, int fd, uint64_t off, size_t n)
{
	struct behind_range start, r = behind_wrote(&f->behind, off, n, &start);

	if (start.to > start.from)
		sync_file_range(fd, (off_t)start.from, (off_t)(start.to - start.from), SYNC_FILE_RANGE_WRITE);
	drop(fd, r);
}

/* ---- files ---- */

static int file_pread_some(struct io *io, void *buf, size_t n, uint64_t off, unsigned how, size_t *out)
{
	struct file *f = to_file(io);
	struct direct_io x;
	int err = fd_get_io(f, off, n, how, false, &x);

	if (err)
		return err;
	err = direct_pread(&x, buf, n, off, out);
	if (!err && x.reach == DIRECT_NONE && is_kept_above(f, how))
		drop_behind_reader(f, &x, off, *out);
	fd_put_io(f, &x);
	return err;
}

static int file_pwrite(struct io *io, const void *buf, size_t n, uint64_t off, unsigned how)
{
	struct file *f = to_file(io);
	struct direct_io x;
	int err;

	if (f->rdonly)
		return -EBADF;
	err = fd_get_io(f, off, n, how, true, &x);
	if (err)
		return err;
	atomic_store_explicit(&f->dirty, true, memory_order_relaxed);
	do
		err = direct_pwrite(&x, buf, n, off);
	while (ballast_yield(&f->dir->ballast, err, n));
	if (!err && x.reach == DIRECT_NONE && is_kept_above(f, how))
		drop_behind_writer(f, x.fd, off, n);
	fd_put_io(f, &x);
	return err;
}

/* After a failed write back the kernel counts the pages as clean: trying again would succeed and prove nothing. */
static int final(int err)
{
	return err_is_passing(err) ? -EIO : err;
}

static int file_sync(struct io *io)
{
	struct file *f = to_file(io);
	struct behind_range behind[BEHIND_WRITERS];
	uint64_t cut = 0;
	int fd, late, err = fd_get(f, &fd);

	if (err)
		return err;
	behind_syncs(&f->behind, behind);
	/* Before the call: a write that comes after it is dirty again. */
	atomic_store_explicit(&f->dirty, false, memory_order_relaxed);
	err = fd_tracks_end(f) ? direct_trim(&f->end, fd, false, &cut) : 0;
	while (!err && fdatasync(fd))
		err = errno == EINTR ? 0 : final(-errno);
	if (f->dir->backing == IO_BACKING_DIRECT)
		direct_drop_edge(&f->dir->direct, fd, cut);
	late = fd_take_close_err(f);
	if (!err)
		err = final(late);
	if (err)
		atomic_store_explicit(&f->dirty, true, memory_order_relaxed);
	for (unsigned i = 0; !err && i < BEHIND_WRITERS; i++)
		drop(fd, behind[i]);
	fd_put(f);
	return err;
}

/* Changes a file through its descriptor: truncation (mode < 0, to off) or fallocate. */
static int file_change(struct file *f, int mode, uint64_t off, uint64_t n)
{
	bool tracks = fd_tracks_end(f), direct = tracks && f->dir->backing == IO_BACKING_DIRECT;
	int fd, err;

	if (f->rdonly)
		return -EBADF;
	err = fd_get(f, &fd);
	if (err)
		return err;
	atomic_store_explicit(&f->dirty, true, memory_order_relaxed);
	do {
		if (mode < 0)
			err = tracks ? direct_cut(&f->end, fd, off) : ftruncate(fd, off) ? -errno : 0;
		else
			err = fallocate(fd, mode, off, n) ? -errno : 0;
	} while (err == -EINTR || ballast_yield(&f->dir->ballast, err, mode == FALLOC_FL_KEEP_SIZE ? n : 0));
	if (!err && tracks && mode == FALLOC_FL_KEEP_SIZE)
		direct_reserved(&f->end, off + n);
	if (!err && direct) {
		direct_drop_edge(&f->dir->direct, fd, off);
		if (n)
			direct_drop_edge(&f->dir->direct, fd, off + n);
	}
	fd_put(f);
	return err == -ENOSYS ? -EOPNOTSUPP : err;
}

static int file_truncate(struct io *io, uint64_t size)
{
	return file_change(to_file(io), -1, size, 0);
}

static int file_allocate(struct io *io, uint64_t off, uint64_t n)
{
	return n ? file_change(to_file(io), FALLOC_FL_KEEP_SIZE, off, n) : 0;
}

static int file_punch(struct io *io, uint64_t off, uint64_t n)
{
	return n ? file_change(to_file(io), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, n) : 0;
}

static int stat_file(struct file *f, struct stat *out)
{
	int fd, err = fd_get(f, &fd);

	if (err)
		return err;
	err = fstat(fd, out) ? -errno : 0;
	fd_put(f);
	return err;
}

static int file_size(struct io *io, uint64_t *size, uint64_t *stored_bytes)
{
	struct file *f = to_file(io);
	struct stat st;
	int err = stat_file(f, &st);

	if (err)
		return err;
	if (size)
		*size = fd_tracks_end(f) ? atomic_load(&f->end.bytes) : (uint64_t)st.st_size;
	if (stored_bytes)
		*stored_bytes = (uint64_t)st.st_blocks * 512;
	return 0;
}

static int file_seek_data(struct io *io, uint64_t off, bool hole, uint64_t *out)
{
	struct file *f = to_file(io);
	int fd, err = fd_get(f, &fd);
	uint64_t end = UINT64_MAX;
	off_t r;

	if (err)
		return err;
	if (fd_tracks_end(f))
		end = atomic_load(&f->end.bytes);
	r = off < end ? lseek(fd, off, hole ? SEEK_HOLE : SEEK_DATA) : -1;
	err = off >= end ? -ENXIO : r < 0 ? -errno : 0;
	fd_put(f);
	if (!err && (uint64_t)r >= end) {
		if (!hole)
			return -ENXIO;
		r = (off_t)end;
	}
	if (!err)
		*out = r;
	return err;
}

static bool file_find_allocated(struct io *io, uint64_t off, uint64_t n, uint64_t *from, uint64_t *to)
{
	struct file *f = to_file(io);
	bool found;
	int fd;

	if (fd_get(f, &fd))
		return false;
	found = extents_next(fd, off, off + n, from, to);
	fd_put(f);
	return found;
}

/* Cuts off the zeros that direct writes have put behind the end, so that the next user of the file sees its length. */
static void file_trim(struct file *f)
{
	uint64_t cut = 0;
	int fd, err;

	if (!fd_tracks_end(f) || !atomic_load(&f->end.padded) || !fd_has_name(f))
		return;
	err = fd_get(f, &fd);
	if (!err) {
		err = direct_trim(&f->end, fd, true, &cut);
		if (f->dir->backing == IO_BACKING_DIRECT)
			direct_drop_edge(&f->dir->direct, fd, cut);
		fd_put(f);
	}
	if (err)
		log_warn("%s: cannot be cut to %llu bytes: %s", f->name, (unsigned long long)atomic_load(&f->end.bytes),
			 strerror(-err));
}

static void file_close(struct io *io)
{
	struct file *f = to_file(io);
	struct file_dir *d = f->dir;

	file_trim(f);
	if (f->pinned)
		fd_put(f);
	lock_acquire(&d->names); /* waits for a name operation that holds the file */
	fd_unregister(f);
	lock_release(&d->names);
	fd_close(f); /* frees the space of an unlinked file: may take long */
	if (f->has_end)
		direct_end_fini(&f->end);
	behind_fini(&f->behind);
	free(f->name);
	free(f);
}

static int file_share(struct io *io, bool on)
{
	struct file *f = to_file(io);
	struct stat st;
	int err;

	if (f->rdonly || f->pinned || f->dir->backing == IO_BACKING_DIRECT)
		return -EOPNOTSUPP;
	if (on)
		file_trim(f);
	err = stat_file(f, &st);
	if (err)
		return err;
	if (!on && f->has_end)
		atomic_store(&f->end.bytes, (uint64_t)st.st_size);
	/* Bytes that others have written are synced by a descriptor of ours. */
	atomic_store(&f->dirty, true);
	atomic_store(&f->shared, on);
	return 0;
}

static int file_lend(struct io *io, int (*use)(void *ctx, int fd), void *ctx)
{
	struct file *f = to_file(io);
	int fd, err = fd_get(f, &fd);

	if (err)
		return err;
	err = use(ctx, fd);
	fd_put(f);
	return err;
}

static bool file_has_writers(struct io *io)
{
	return fd_has_writers(to_file(io));
}

/* flock and OFD locks belong to the descriptor, which stays. */
static int file_lock(struct io *io, uint64_t off, uint64_t n)
{
	struct flock range = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)off, .l_len = (off_t)n };
	struct file *f = to_file(io);
	int err;

	assert(f->pinned);
	do
		err = (n ? fcntl(f->fd, F_OFD_SETLK, &range) : flock(f->fd, LOCK_EX | LOCK_NB)) ? -errno : 0;
	while (err == -EINTR);
	return err == -EACCES ? -EWOULDBLOCK : err;
}

static const struct io_ops file_ops = {
	.pread_some = file_pread_some,
	.pwrite = file_pwrite,
	.sync = file_sync,
	.truncate = file_truncate,
	.allocate = file_allocate,
	.punch = file_punch,
	.size = file_size,
	.seek_data = file_seek_data,
	.find_allocated = file_find_allocated,
	.share = file_share,
	.lend = file_lend,
	.has_writers = file_has_writers,
	.lock = file_lock,
	.close = file_close,
};

/* ---- names ---- */

static int name_open_locked(struct file_dir *d, struct file *f, int oflags)
{
	struct stat st;
	int err = f->nameless ? beneath_open_unnamed(d->dirfd, &f->fd) : fd_open(d, f->name, oflags, &f->fd);

	if (err)
		return err;
	if (fstat(f->fd, &st)) {
		err = -errno;
		close(f->fd);
		return err;
	}
	f->dev = st.st_dev;
	f->ino = st.st_ino;
	f->has_end = !f->rdonly && !f->pinned && d->direct.align;
	if (f->has_end)
		direct_end_init(&f->end, st.st_size);
	f->users = f->pinned;
	fd_register(f);
	return 0;
}

static int file_dir_open(struct io_dir *dir, const char *name, unsigned flags, struct io **out)
{
	int err, oflags = flags & IO_RDONLY ? O_RDONLY : O_RDWR;
	struct file_dir *d = to_dir(dir);
	struct file *f;

	if (name[0] == '/' || ((flags & IO_RDONLY) && (flags & IO_CREATE)))
		return -EINVAL;
	if (flags & IO_CREATE)
		oflags |= O_CREAT | (flags & IO_EXCL ? O_EXCL : 0);
	f = calloc(1, sizeof(*f));
	if (!f || !(f->name = strdup(name))) {
		free(f);
		return -ENOMEM;
	}
	f->base.ops = &file_ops;
	f->dir = d;
	f->fd = f->dfd = -1;
	f->rdonly = flags & IO_RDONLY;
	f->pinned = flags & IO_PINNED;
	f->nameless = flags & IO_UNNAMED;
	f->kind = (flags & IO_OF_MASK) / IO_OF_BUCKET;
	behind_init(&f->behind);
	lock_acquire(&d->names);
	do
		err = name_open_locked(d, f, oflags);
	while (ballast_yield(&d->ballast, err, 0));
	lock_release(&d->names);
	if (err) {
		behind_fini(&f->behind);
		free(f->name);
		free(f);
		return err;
	}
	*out = &f->base;
	return 0;
}

/* A reference that keeps the space of a file from being freed inside the system call that takes its
 * last name: closing it, without the lock, does that. -1 where there is no such file. */
static int name_keep(int dirfd, const char *name)
{
	return openat(dirfd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
}

static int file_dir_unlink(struct io_dir *dir, const char *name)
{
	struct file_dir *d = to_dir(dir);
	const char *last;
	int parent, keep, err = fd_parent(d, name, &parent, &last);

	if (err)
		return err;
	keep = name_keep(parent, last);
	lock_acquire(&d->names);
	err = fd_hold_name(d, name);
	if (!err)
		err = beneath_unlink_at(parent, last, name);
	fd_release_name(d, name, err ? NAME_STAYS : NAME_GONE, NULL);
	lock_release(&d->names);
	if (keep >= 0)
		close(keep);
	beneath_parent_end(d->dirfd, parent);
	return err;
}

static int file_dir_rename(struct io_dir *dir, const char *from, const char *to)
{
	struct file_dir *d = to_dir(dir);
	bool same = strcmp(from, to) == 0;
	const char *from_last, *to_last;
	int from_parent, to_parent, keep, err = fd_parent(d, from, &from_parent, &from_last);

	if (err)
		return err;
	err = fd_parent(d, to, &to_parent, &to_last);
	if (err) {
		beneath_parent_end(d->dirfd, from_parent);
		return err;
	}
	keep = name_keep(to_parent, to_last);
	lock_acquire(&d->names);
	err = fd_hold_name(d, from);
	if (!err && !same)
		err = fd_hold_name(d, to);
	if (!err)
		do
			err = beneath_rename_at(from_parent, from_last, to_parent, to_last, to);
		while (ballast_yield(&d->ballast, err, 0));
	if (!same)
		fd_release_name(d, to, err ? NAME_STAYS : NAME_GONE, NULL);
	fd_release_name(d, from, err || same ? NAME_STAYS : NAME_MOVES, to);
	lock_release(&d->names);
	if (keep >= 0)
		close(keep);
	beneath_parent_end(d->dirfd, from_parent);
	beneath_parent_end(d->dirfd, to_parent);
	return err;
}

static int file_dir_mkdir(struct io_dir *dir, const char *name)
{
	return beneath_mkdir(to_dir(dir)->dirfd, name);
}

static int file_dir_sync(struct io_dir *dir, const char *name)
{
	int fd, err = fd_open(to_dir(dir), name, O_RDONLY | O_DIRECTORY, &fd);

	if (err)
		return err;
	do {
		err = fsync(fd) ? -errno : 0;
	} while (err == -EINTR);
	close(fd);
	return final(err);
}

static int file_dir_list(struct io_dir *dir, const char *name, int (*each)(void *ctx, const char *name),
			 void *ctx)
{
	int fd, err = fd_open(to_dir(dir), name, O_RDONLY | O_DIRECTORY, &fd);
	struct dirent *e;
	DIR *s;

	if (err)
		return err;
	s = fdopendir(fd);
	if (!s) {
		err = -errno;
		close(fd);
		return err;
	}
	while (!err) {
		errno = 0;
		e = readdir(s);
		if (!e) {
			err = -errno;
			break;
		}
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			err = each(ctx, e->d_name);
	}
	closedir(s);
	return err;
}

static int file_dir_space(struct io_dir *dir, uint64_t *total, uint64_t *avail)
{
	struct statvfs v;

	if (fstatvfs(to_dir(dir)->dirfd, &v))
		return -errno;
	*total = (uint64_t)v.f_blocks * v.f_frsize;
	*avail = (uint64_t)v.f_bavail * v.f_frsize + atomic_load(&to_dir(dir)->ballast.bytes);
	return 0;
}

static int file_dir_hold_back(struct io_dir *dir, uint64_t least, uint64_t most)
{
	return ballast_set(&to_dir(dir)->ballast, to_dir(dir)->dirfd, least, most);
}

static uint64_t file_dir_held_back(struct io_dir *dir)
{
	return atomic_load(&to_dir(dir)->ballast.bytes);
}

static bool file_dir_yields(struct io_dir *dir, int err, uint64_t need_bytes)
{
	return ballast_yield(&to_dir(dir)->ballast, err, need_bytes);
}

static void file_dir_close(struct io_dir *dir)
{
	struct file_dir *d = to_dir(dir);

	for (unsigned i = 0; i < FILE_HASH_SIZE; i++)
		assert(!d->hash[i]);
	assert(d->lru.next == &d->lru && d->idle_fds == 0);
	close(d->dirfd);
	direct_dir_fini(&d->direct);
	if (d->own_leases)
		lease_pool_free(d->own_leases);
	ballast_fini(&d->ballast);
	lock_fini(&d->names);
	lock_fini(&d->table);
	free(d);
}

static const struct io_dir_ops file_dir_ops = {
	.open = file_dir_open,
	.unlink = file_dir_unlink,
	.rename = file_dir_rename,
	.mkdir = file_dir_mkdir,
	.sync = file_dir_sync,
	.list = file_dir_list,
	.space = file_dir_space,
	.hold_back = file_dir_hold_back,
	.held_back = file_dir_held_back,
	.yields = file_dir_yields,
	.close = file_dir_close,
};

/* Whether direct transfers are to be tried, and why not. */
static bool wants_direct(struct file_dir *d)
{
	struct statfs fs;

	if (d->backing == IO_BACKING_BUFFERED || !d->direct.leases) {
		d->why = "as configured";
		return false;
	}
	if (d->backing == IO_BACKING_AUTO && fstatfs(d->dirfd, &fs) == 0 &&
	    (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC)) {
		d->why = "the file system is in memory";
		return false;
	}
	return true;
}

/* Idle files take half of the descriptors that the process may have, at most. */
static unsigned fd_budget(void)
{
	struct rlimit files;
	rlim_t half = getrlimit(RLIMIT_NOFILE, &files) ? FILE_FD_BUDGET : files.rlim_cur / 2;

	return half > FILE_FD_BUDGET ? FILE_FD_BUDGET : half < FILE_FD_BUDGET_MIN ? FILE_FD_BUDGET_MIN : (unsigned)half;
}

static struct file_dir *new_dir(int dirfd, enum io_backing backing, struct lease_pool *leases)
{
	struct file_dir *d = calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	d->base.ops = &file_dir_ops;
	d->dirfd = dirfd;
	d->backing = backing;
	d->direct.leases = leases;
	d->lru.prev = d->lru.next = &d->lru;
	ballast_init(&d->ballast);
	d->why = "not tried";
	direct_dir_init(&d->direct);
	lock_init(&d->names, RANK_FD);
	lock_init(&d->table, RANK_FD);
	fd_set_budget(d, fd_budget());
	return d;
}

static void try_direct(struct file_dir *d)
{
	if (wants_direct(d))
		direct_dir_try(&d->direct, d->dirfd, &d->why);
}

int io_file_dir(int dirfd, enum io_backing backing, struct lease_pool *leases, struct io_dir **out)
{
	struct file_dir *d = new_dir(dirfd, backing, leases);

	if (!d)
		return -ENOMEM;
	try_direct(d);
	*out = &d->base;
	return 0;
}

int io_file_dir_leased(int dirfd, enum io_backing backing, unsigned nleases, size_t lease_bytes, struct io_dir **out)
{
	struct lease_pool *leases;
	struct file_dir *d;
	int err = lease_pool_new(nleases, lease_bytes + LEASE_EDGES_BYTES, &leases);

	if (err)
		return err;
	d = new_dir(dirfd, backing, leases);
	if (!d) {
		lease_pool_free(leases);
		return -ENOMEM;
	}
	d->own_leases = leases;
	*out = &d->base;
	return 0;
}

void io_file_try_direct(struct io_dir *dir)
{
	dir = io_fault_inner(io_spread_home(dir));
	if (dir->ops == &file_dir_ops)
		try_direct(to_dir(dir));
}

void io_file_set_lease_wait(struct io_dir *dir, enum io_lease_wait wait)
{
	dir = io_fault_inner(io_spread_home(dir));
	if (dir->ops == &file_dir_ops)
		to_dir(dir)->lease_wait = wait;
}

void io_file_divide(struct io_dir *dir, unsigned n)
{
	dir = io_fault_inner(io_spread_home(dir));
	if (dir->ops == &file_dir_ops)
		fd_set_budget(to_dir(dir), fd_budget() / n > FILE_FD_BUDGET_MIN ? fd_budget() / n : FILE_FD_BUDGET_MIN);
}

const char *io_file_backing(struct io_dir *dir, const char **why)
{
	bool real;

	dir = io_fault_inner(io_spread_home(dir));
	real = dir->ops == &file_dir_ops;
	if (why)
		*why = real ? to_dir(dir)->why : "not a real directory";
	return real && to_dir(dir)->direct.align ? "direct" : "buffered";
}
