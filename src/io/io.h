/*
 * Files and directories of the store, behind one vtable: io/file (a real directory), io/mem (a
 * directory in memory, for unit tests) and io/fault (wraps another, and fails or kills the process at
 * the n-th write or sync).
 *
 * All offsets and lengths are bytes. All functions return 0 or -errno and are thread-safe; pread and
 * pwrite move everything asked for or fail: a pread that meets the end of the file returns -ENODATA
 * from io_pread, and the count from io_pread_some.
 *
 * io/file keeps a bounded number of descriptors open (io_fd_budget): an idle file is closed and
 * reopened when it is used again. io_pin keeps the descriptor open and hands it out.
 */
#ifndef SPILLFS_IO_IO_H
#define SPILLFS_IO_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/lease.h"

struct io;     /* an open file */
struct io_dir; /* an open directory */

#define IO_RDONLY 0x1u
#define IO_CREATE 0x2u /* create if missing */
#define IO_EXCL 0x4u   /* with IO_CREATE: -EEXIST if there */

struct io_ops {
	int (*pread_some)(struct io *f, void *buf, size_t n, uint64_t off, size_t *out);
	int (*pwrite)(struct io *f, const void *buf, size_t n, uint64_t off);
	int (*sync)(struct io *f);                              /* fdatasync */
	int (*truncate)(struct io *f, uint64_t size);
	int (*allocate)(struct io *f, uint64_t off, uint64_t n); /* KEEP_SIZE; -EOPNOTSUPP */
	int (*punch)(struct io *f, uint64_t off, uint64_t n);    /* reads as zeros; -EOPNOTSUPP */
	int (*size)(struct io *f, uint64_t *size, uint64_t *stored_bytes);
	int (*seek_data)(struct io *f, uint64_t off, bool hole, uint64_t *out); /* -ENXIO past the end */
	int (*pin)(struct io *f, int *fd);                       /* -EOPNOTSUPP: no descriptor */
	void (*unpin)(struct io *f);
	void (*close)(struct io *f);
};

struct io_dir_ops {
	int (*open)(struct io_dir *d, const char *name, unsigned flags, struct io **out);
	int (*unlink)(struct io_dir *d, const char *name);
	int (*rename)(struct io_dir *d, const char *from, const char *to);
	int (*mkdir)(struct io_dir *d, const char *name); /* 0 if it is there */
	int (*sync)(struct io_dir *d, const char *name);  /* fsync of a subdirectory; "." is d itself */
	int (*list)(struct io_dir *d, const char *name, int (*each)(void *ctx, const char *name), void *ctx);
	int (*space)(struct io_dir *d, uint64_t *total, uint64_t *avail);
	void (*close)(struct io_dir *d);
};

struct io {
	const struct io_ops *ops;
};

struct io_dir {
	const struct io_dir_ops *ops;
};

/* Names are paths relative to d with '/' between parts. */
static inline int io_open(struct io_dir *d, const char *name, unsigned flags, struct io **out) { return d->ops->open(d, name, flags, out); }
static inline int io_unlink(struct io_dir *d, const char *name) { return d->ops->unlink(d, name); }
static inline int io_rename(struct io_dir *d, const char *from, const char *to) { return d->ops->rename(d, from, to); }
static inline int io_mkdir(struct io_dir *d, const char *name) { return d->ops->mkdir(d, name); }
static inline int io_dir_sync(struct io_dir *d, const char *name) { return d->ops->sync(d, name); }
static inline int io_list(struct io_dir *d, const char *name, int (*each)(void *, const char *), void *ctx) { return d->ops->list(d, name, each, ctx); }
static inline int io_space(struct io_dir *d, uint64_t *total, uint64_t *avail) { return d->ops->space(d, total, avail); }
static inline void io_dir_close(struct io_dir *d) { d->ops->close(d); }

int io_pread(struct io *f, void *buf, size_t n, uint64_t off); /* all of it, or -ENODATA */
static inline int io_pread_some(struct io *f, void *buf, size_t n, uint64_t off, size_t *out) { return f->ops->pread_some(f, buf, n, off, out); }
static inline int io_pwrite(struct io *f, const void *buf, size_t n, uint64_t off) { return f->ops->pwrite(f, buf, n, off); }
static inline int io_sync(struct io *f) { return f->ops->sync(f); }
static inline int io_truncate(struct io *f, uint64_t size) { return f->ops->truncate(f, size); }
static inline int io_allocate(struct io *f, uint64_t off, uint64_t n) { return f->ops->allocate(f, off, n); }
static inline int io_punch(struct io *f, uint64_t off, uint64_t n) { return f->ops->punch(f, off, n); }
static inline int io_size(struct io *f, uint64_t *size, uint64_t *stored) { return f->ops->size(f, size, stored); }
static inline int io_seek(struct io *f, uint64_t off, bool hole, uint64_t *out) { return f->ops->seek_data(f, off, hole, out); }
static inline int io_pin(struct io *f, int *fd) { return f->ops->pin(f, fd); }
static inline void io_unpin(struct io *f) { f->ops->unpin(f); }
static inline void io_close(struct io *f) { f->ops->close(f); }

/* A small file gets new contents at once: written to tmp, synced, renamed. The directory is not synced. */
int io_replace(struct io_dir *d, const char *name, const char *tmp, const void *p, size_t n);

/* io/file: how aligned transfers reach the disk. AUTO means direct where the file system takes it and
 * the transfer is large (IO_DIRECT_MIN), buffered otherwise; DIRECT uses it for every aligned piece. */
enum io_backing { IO_BACKING_AUTO, IO_BACKING_BUFFERED, IO_BACKING_DIRECT };
#define IO_DIRECT_MIN (256u << 10)

/* Takes dirfd over (closes it on close; on failure it stays the caller's). `leases` may be NULL with IO_BACKING_BUFFERED. With
 * IO_BACKING_DIRECT a file system without O_DIRECT is -EINVAL; with AUTO it falls back, and
 * io_file_backing tells. Data files opened here get the direct path; small ones never use it. */
int io_file_dir(int dirfd, enum io_backing backing, struct lease_pool *leases, struct io_dir **out);
/* The way in use ("direct" or "buffered"; static strings) and why. */
const char *io_file_backing(struct io_dir *d, const char **why);
/* At most n descriptors stay open for idle files (default 512). */
void io_file_set_fd_budget(struct io_dir *d, unsigned n);

/* io/mem: everything in memory. Holes are tracked in 4096-byte pages. */
int io_mem_dir(struct io_dir **out);

/* io/fault: counts every write, truncate, punch, sync, rename, unlink of `inner` and, from the n-th on (n >= 1), fails
 * with `err`; with torn the n-th write moves half its bytes first. n = 0 only counts. Arming begins the count
 * anew. Once failing, files and directories are not made and nothing is allocated either. Takes inner over. */
int io_fault_dir(struct io_dir *inner, struct io_dir **out);
void io_fault_arm(struct io_dir *d, uint64_t n, int err, bool torn);
uint64_t io_fault_count(struct io_dir *d);
/* Instead of failing, the process kills itself (SIGKILL) before the n-th operation, or with torn in the middle of it
 * if it is a write. The making of files and directories and allocate count as well. n = 0 only counts. Counting
 * begins when there is a file of the name armed_by (not copied); NULL: at once. */
void io_fault_kill_at(struct io_dir *d, uint64_t n, bool torn, const char *armed_by);
/* Counts a change that does not go through d (SQLite's) as one of d's: 0, or the error that it fails with. *torn
 * (NULL: no write): half of it is to be made all the same, and io_fault_torn called then. */
int io_fault_tick(struct io_dir *d, bool *torn);
void io_fault_torn(struct io_dir *d);
/* The directory that d wraps; any other d itself. */
struct io_dir *io_fault_inner(struct io_dir *d);

#endif
