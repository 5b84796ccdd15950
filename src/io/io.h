/*
 * Files and directories of the store, behind one vtable: io/file (a real directory), io/spill (files
 * that nothing makes durable), io/mem (a disk in memory, for tests) and io/fault (wraps another, and fails or kills the process at
 * the n-th change). Nothing above io/ uses another file of the store's: what one of them cannot do it says, by -EOPNOTSUPP.
 *
 * All offsets and lengths are bytes. All functions return 0 or -errno and are thread-safe; pread and
 * pwrite move everything asked for or fail: a pread that meets the end of the file returns -ENODATA
 * from io_pread, and the count from io_pread_some.
 *
 * io/file keeps a bounded number of descriptors open (512, or half of RLIMIT_NOFILE): an idle file is closed and
 * reopened when it is used again. Direct transfers are of whole blocks (4096 bytes, or what the file system
 * needs): until the next io_sync, io_truncate or io_close a file may then be longer than what was written, by
 * zeros to the end of a block, for anybody but the handle that has written it; where space is reserved behind the
 * end (io_allocate), until io_truncate or io_close. The opener of a file after a crash
 * cuts it to its committed length, behind which there may be anything. One handle at
 * a time writes a file.
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
#define IO_UNNAMED 0x8u /* with these two: a file that never has a name, and ends with this handle; `name` is for reports */
/* The content of the file, for the counters of backing bytes (util/stats.h). */
#define IO_OF_OTHER 0x000u
#define IO_OF_BUCKET 0x100u
#define IO_OF_COLUMN 0x200u
#define IO_OF_LAYERED 0x300u
#define IO_OF_SPILL 0x400u
#define IO_OF_MASK 0xf00u
/* For a lock, a database and its log: the descriptor stays open, and transfers go through the page cache whatever the backing;
 * they are not counted. */
#define IO_PINNED 0x40u

/* How a transfer goes (`how`), besides what the directory's backing says. */
#define IO_CACHED 0x1u /* with IO_BACKING_AUTO: buffered, however large, since it will be read again */
#define IO_COLD 0x8u   /* of a write with IO_BACKING_AUTO: uncached, however small; io/spill compresses it on its way to the disk */
#define IO_KEPT 0x4u   /* the kernel keeps what goes through in the cache of the mount: io/file does not keep it, too (io/behind.h) */
#define IO_DIRECT 0x2u /* as with IO_BACKING_DIRECT: the caller has opened its file with O_DIRECT */
#define IO_SPARING 0x10u /* of a write: io/spread keeps the last of a disk for what is written without it */

struct io_ops {
	int (*pread_some)(struct io *f, void *buf, size_t n, uint64_t off, unsigned how, size_t *out);
	int (*pwrite)(struct io *f, const void *buf, size_t n, uint64_t off, unsigned how);
	int (*sync)(struct io *f);                              /* fdatasync; see io_sync */
	int (*truncate)(struct io *f, uint64_t size);
	int (*allocate)(struct io *f, uint64_t off, uint64_t n); /* KEEP_SIZE; -EOPNOTSUPP */
	int (*punch)(struct io *f, uint64_t off, uint64_t n);    /* reads as zeros; -EOPNOTSUPP */
	int (*size)(struct io *f, uint64_t *size, uint64_t *stored_bytes);
	int (*seek_data)(struct io *f, uint64_t off, bool hole, uint64_t *out); /* -ENXIO past the end */
	/* The first part [*from, *to) of the range that has its place on the disk already, be it behind the end, so that writing it takes no
	 * space. Neighbours may be two parts. False: there is none, or that cannot be known. */
	bool (*find_allocated)(struct io *f, uint64_t off, uint64_t n, uint64_t *from, uint64_t *to);
	/* These may be NULL; see below. */
	uint64_t (*saved)(struct io *f, uint64_t off, uint64_t n, bool touched);
	int (*share)(struct io *f, bool on);
	int (*lend)(struct io *f, int (*use)(void *ctx, int fd), void *ctx);
	bool (*has_writers)(struct io *f);
	int (*lock)(struct io *f, uint64_t off, uint64_t n);
	unsigned (*disk)(struct io *f);
	bool (*takes)(struct io *f);
	bool (*lacks)(struct io *f, uint64_t need_bytes, uint64_t *left);
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
	/* These may be NULL; see below. */
	uint64_t (*packings)(struct io_dir *d);
	int (*hold_back)(struct io_dir *d, uint64_t least_bytes, uint64_t most_bytes);
	uint64_t (*held_back)(struct io_dir *d);
	bool (*yields)(struct io_dir *d, int err, uint64_t need_bytes);
	int (*home_space)(struct io_dir *d, uint64_t *total, uint64_t *avail);
	unsigned (*next_disk)(struct io_dir *d);
	bool (*lacks_file)(struct io_dir *d, unsigned kind);
	uint64_t (*most_room)(struct io_dir *d);
	void (*close)(struct io_dir *d);
};

struct io {
	const struct io_ops *ops;
};

struct io_dir {
	const struct io_dir_ops *ops;
};

/* Names are paths relative to d with '/' between parts. What stands where a regular file or a directory should be and is none is
 * damage: -EUCLEAN, and a report (err_corrupt). */
static inline int io_open(struct io_dir *d, const char *name, unsigned flags, struct io **out) { return d->ops->open(d, name, flags, out); }
static inline int io_unlink(struct io_dir *d, const char *name) { return d->ops->unlink(d, name); }
static inline int io_rename(struct io_dir *d, const char *from, const char *to) { return d->ops->rename(d, from, to); }
static inline int io_mkdir(struct io_dir *d, const char *name) { return d->ops->mkdir(d, name); }
static inline int io_dir_sync(struct io_dir *d, const char *name) { return d->ops->sync(d, name); }
static inline int io_list(struct io_dir *d, const char *name, int (*each)(void *, const char *), void *ctx) { return d->ops->list(d, name, each, ctx); }
static inline int io_space(struct io_dir *d, uint64_t *total, uint64_t *avail) { return d->ops->space(d, total, avail); }
static inline void io_dir_close(struct io_dir *d) { d->ops->close(d); }

int io_pread_as(struct io *f, void *buf, size_t n, uint64_t off, unsigned how); /* all of it, or -ENODATA */
static inline int io_pread(struct io *f, void *buf, size_t n, uint64_t off) { return io_pread_as(f, buf, n, off, 0); }
static inline int io_pread_some(struct io *f, void *buf, size_t n, uint64_t off, size_t *out) { return f->ops->pread_some(f, buf, n, off, 0, out); }
static inline int io_pwrite_as(struct io *f, const void *buf, size_t n, uint64_t off, unsigned how) { return f->ops->pwrite(f, buf, n, off, how); }
static inline int io_pwrite(struct io *f, const void *buf, size_t n, uint64_t off) { return io_pwrite_as(f, buf, n, off, 0); }
/* An error that can be tried again (err_is_passing) has come before the disk; a sync that failed there is -EIO or the like. So it is
 * with io_dir_sync. */
static inline int io_sync(struct io *f) { return f->ops->sync(f); }
static inline int io_truncate(struct io *f, uint64_t size) { return f->ops->truncate(f, size); }
static inline int io_allocate(struct io *f, uint64_t off, uint64_t n) { return f->ops->allocate(f, off, n); }
static inline int io_punch(struct io *f, uint64_t off, uint64_t n) { return f->ops->punch(f, off, n); }
static inline int io_size(struct io *f, uint64_t *size, uint64_t *stored) { return f->ops->size(f, size, stored); }
static inline int io_seek(struct io *f, uint64_t off, bool hole, uint64_t *out) { return f->ops->seek_data(f, off, hole, out); }
static inline bool io_find_allocated(struct io *f, uint64_t off, uint64_t n, uint64_t *from, uint64_t *to) { return f->ops->find_allocated(f, off, n, from, to); }
/* Is all of the range allocated; how many bytes of it are? Less where that cannot be known. */
bool io_is_allocated(struct io *f, uint64_t off, uint64_t n);
uint64_t io_allocated(struct io *f, uint64_t off, uint64_t n);
static inline void io_close(struct io *f) { f->ops->close(f); }

/* Bytes of a range that take no space because they lie compressed on the disk (IO_COLD): its part of what its pieces save; with
 * `touched`, all that these would take more if the range were written to. Without a wait. */
static inline uint64_t io_saved(struct io *f, uint64_t off, uint64_t n, bool touched) { return f->ops->saved ? f->ops->saved(f, off, n, touched) : 0; }
/* How often bytes of d's files have been compressed, or are not any longer: while it stays the same, so does io_saved of all ranges.
 * 0: nothing ever was. */
static inline uint64_t io_packings(struct io_dir *d) { return d->ops->packings ? d->ops->packings(d) : 0; }

/* Keeps so many bytes of the file system, at least and at most, from others, allocated; io_space counts them as available. Writes in d
 * have them when they find no space. -ENOSPC: as many as before are held; -EOPNOTSUPP. */
int io_hold_back(struct io_dir *d, uint64_t least_bytes, uint64_t most_bytes);
static inline uint64_t io_held_back(struct io_dir *d) { return d->ops->held_back ? d->ops->held_back(d) : 0; }
/* For what is written past d: err is a want of space, and there is more for need_bytes now; to be tried again. */
static inline bool io_yields(struct io_dir *d, int err, uint64_t need_bytes) { return d->ops->yields && d->ops->yields(d, err, need_bytes); }

/* Several disks (io/spread); any other directory is one disk, number 0, its home. Space of the home, where all is that is not spread. */
static inline int io_home_space(struct io_dir *d, uint64_t *total, uint64_t *avail)
{
	return (d->ops->home_space ? d->ops->home_space : d->ops->space)(d, total, avail);
}
/* The disk for the next new data: they take turns, by room and speed. */
static inline unsigned io_next_disk(struct io_dir *d) { return d->ops->next_disk ? d->ops->next_disk(d) : 0; }
/* There is a disk for new data that has no file of this kind (IO_OF_*): the next one that is made will be there. */
static inline bool io_lacks_file(struct io_dir *d, unsigned kind) { return d->ops->lacks_file && d->ops->lacks_file(d, kind); }
static inline unsigned io_disk(struct io *f) { return f->ops->disk ? f->ops->disk(f) : 0; }
/* Bytes of new data that a disk has room for, at most; UINT64_MAX: there is but one. */
static inline uint64_t io_most_room(struct io_dir *d) { return d->ops->most_room ? d->ops->most_room(d) : UINT64_MAX; }
/* False: the disk of the file is full, fails or is to be emptied, and another one takes new data. Where none has room the home does. */
static inline bool io_takes(struct io *f) { return !f->ops->takes || f->ops->takes(f); }
/* Bytes that are owed to the file are to be appended. Its disk takes *left of them (UINT64_MAX: not known). True: the next file should have
 * them: the disk is full, and is not the home; or has no room for need_bytes, while another one has twice as much. */
static inline bool io_lacks(struct io *f, uint64_t need_bytes, uint64_t *left)
{
	*left = UINT64_MAX;
	return f->ops->lacks && f->ops->lacks(f, need_bytes, left);
}

/* Others than this process write the file, too, from here on (or no more): it ends where the kernel says, and transfers are
 * buffered. -EOPNOTSUPP: no real file, or its directory is IO_BACKING_DIRECT. */
int io_share(struct io *f, bool on);
/* Calls use with a descriptor that is open for as long; its result, or -EOPNOTSUPP. */
int io_lend(struct io *f, int (*use)(void *ctx, int fd), void *ctx);
/* Has somebody else a shared file open for writing, or mapped so? True where that cannot be known at the moment. */
bool io_has_writers(struct io *f);
/* Keeps other handles of the file, in any process, from locking the same, until this one (IO_PINNED) is closed: n bytes at off,
 * as fcntl(2) locks them, or with n = 0 the file, as flock(2) does; the two do not see each other. -EWOULDBLOCK: somebody has it;
 * -EOPNOTSUPP. Never waits. */
int io_lock(struct io *f, uint64_t off, uint64_t n);
/* A shared file as the kernel has it. */
struct io_facts {
	uint64_t size_bytes, stored_bytes;
	int64_t mtime_ns, atime_ns;
};
int io_facts(struct io *f, struct io_facts *out);
/* Gives a shared file a time of change that no write gives it, so that the next one is noticed however soon it comes. */
int io_mark_time(struct io *f);

/* A small file gets new contents at once: written to tmp, synced, renamed. The directory is not synced. */
int io_replace(struct io_dir *d, const char *name, const char *tmp, const void *p, size_t n);

/* io/file: how transfers reach the disk. DIRECT: all of them past the page cache, which is left empty. AUTO: the
 * aligned middle of reads that are large (IO_DIRECT_MIN), and all transfers with IO_DIRECT; others buffered. A large write goes
 * uncached: through the page cache, which drops its pages when they are on the disk, so that it does not wait; where the kernel
 * or the file system cannot do that, its aligned middle is direct, too.
 *
 * A direct transfer moves its bytes through one buffer of `leases`, as much at a time as that holds: it borrows,
 * reads or writes whole blocks (a write reads the two that it changes only in part first, alone with them),
 * returns. Where it cannot, the rest of it goes buffered: a fallback, counted by its reason in
 * spillfs_lease_fallbacks:
 *   lent         all buffers are lent, and the transfer does not wait (io_file_set_lease_wait)
 *   memory       there is no memory for a buffer
 *   descriptors  there is no descriptor for O_DIRECT
 *   refused      the file system takes no direct transfers on this file
 *   unsupported  nor on any other
 *   configured   IO_DIRECT, with IO_BACKING_BUFFERED */
enum io_backing { IO_BACKING_AUTO, IO_BACKING_BUFFERED, IO_BACKING_DIRECT };
#define IO_DIRECT_MIN (256u << 10)

/* The transfers that wait for a buffer: by default those that have to be direct (DIRECT, IO_DIRECT), not those that AUTO chose. */
enum io_lease_wait { IO_LEASE_WAIT_DEFAULT, IO_LEASE_WAIT_BLOCK, IO_LEASE_WAIT_BUFFERED };

/* Takes dirfd over (closes it on close; on failure it stays the caller's). `leases`, which outlive it, may be NULL:
 * nothing is direct then. Tries direct transfers: io_file_backing tells whether the file system takes them. */
int io_file_dir(int dirfd, enum io_backing backing, struct lease_pool *leases, struct io_dir **out);
/* The same with nleases buffers of its own, each of which moves lease_bytes (a multiple of 4096) at a time; nothing is direct before
 * io_file_try_direct, which makes a file for a moment to try it. That does nothing to a directory of another kind. */
int io_file_dir_leased(int dirfd, enum io_backing backing, unsigned nleases, size_t lease_bytes, struct io_dir **out);
void io_file_try_direct(struct io_dir *d);
/* The directory is one of n whose files are open: its part of the descriptors. Before files are opened. */
void io_file_divide(struct io_dir *d, unsigned n);
void io_file_set_lease_wait(struct io_dir *d, enum io_lease_wait wait);
/* The way in use ("direct" or "buffered"; static strings) and why. */
const char *io_file_backing(struct io_dir *d, const char **why);

/* io/mem: a disk in memory, of 1 TiB and pages of 4096 bytes: each that is written or allocated takes space. There is no descriptor to lend and
 * nothing is direct or shared; io_hold_back is not to be had. It lives as long as one of its directories is open. */
int io_mem_dir(struct io_dir **out);
/* The root of the same disk once more, with what the first one has. */
int io_mem_again(struct io_dir *d, struct io_dir **out);
void io_mem_set_space(struct io_dir *d, uint64_t bytes);
/* The disk loses its power and is on again: bytes are as their file was synced last, names as their directory was. With a seed, not 0,
 * some of what was not synced is there all the same, by chance: pages, sectors of 512 bytes of pages, lengths, all new names of a directory. d has what is left; other
 * directories and files that were open answer -EIO for ever. */
int io_mem_cut_power(struct io_dir *d, uint64_t seed);

/* io/spill: a directory that nothing makes durable and that ends with the process: names in memory, bytes in memory up to memory_bytes,
 * which its files share, and the rest of them, the oldest first, in a file of `below` without a name. Files that are IO_PINNED go
 * last. What was written with IO_COLD is compressed when it goes there, or some seconds after it was last written there, if it shrinks (io/pack.h), and io_size counts it so; a
 * write there has it back as it was, and can find no space. A sync does nothing. There is no descriptor to lend, and io_hold_back is not to be had. Space is what `below` has and what is left in
 * memory; what `below` refuses (-ENOSPC, -EIO) the writer is told, and nothing is lost. Takes below over, if it succeeds. With encrypts,
 * what goes to the file is encrypted with a key in locked memory (io/cipher.h), and the sums of it count for memory_bytes; -EOPNOTSUPP: built without that; -EPERM: no
 * memory can be locked. */
struct io_spill_config {
	uint64_t memory_bytes;
	bool encrypts;
};
int io_spill_dir(struct io_dir *below, const struct io_spill_config *config, struct io_dir **out);

/* io/spread: directories on several disks as one. A file that is opened with IO_OF_BUCKET or IO_OF_LAYERED in one of `folders` is on one of
 * them, in the folder of that name; all else is in the first, the home. A name is found wherever it is. A new file goes to the disk
 * with the most room, a new bucket file to the one that has the fewest.
 *
 * A disk takes new data while it has room beyond keeps(its size); the home keeps twice as much, and takes what none has room for. Half
 * of what another disk keeps is left to writes that are not IO_SPARING. One that answers a write with another
 * error than a want of space is failing from then on: it takes none, its writer is told, and the log says so once. A layered file that
 * finds no space moves to another disk that has room for it, with what it has, before its writer is told anything. After another error it is tried, too, and
 * fails where the old name cannot be deleted (EROFS), or what was written is lost: the writer is told then. A bucket file never moves
 * by itself: its owner asks io_takes, and goes on elsewhere.
 *
 * A move copies the file beside its readers and writers, makes the copy durable and named NAME.moved, deletes the old one, and
 * names the new one: so there are never two of a name, but for a disk that is to be emptied, whose file counts less.
 * A crash leaves NAME.moving or NAME.moved of it, which io_spread_mend finishes. */
struct io_spread_disk {
	struct io_dir *dir;
	const char *shown; /* for the log; copied */
	uint64_t device;   /* of its file system; those with the same share their space. 0: its own */
	bool draining;     /* to be emptied */
};
struct io_spread_config {
	const struct io_spread_disk *disks; /* the home first */
	unsigned n;
	const char *const *folders; /* ends with NULL; outlives it */
	const char *scratch; /* a name in one of them that means nothing after a crash, and is used again; NULL: none; outlives it */
	uint64_t (*keeps)(uint64_t total_bytes);
	/* A drain asks for room for a file of so many bytes, besides what else is to have it: -ENOSPC. NULL: there is no such. */
	int (*may_move)(void *ctx, uint64_t bytes);
	/* Bytes of the disk that have a use already: it has no room for new data in them. all: also those that are to be appended to a
	 * layered file. NULL: none. */
	uint64_t (*owes)(void *ctx, unsigned disk, bool all);
	void *ctx;
};
#define IO_SPREAD_MAX 32u /* disks */
/* Takes the directories over, if it succeeds. */
int io_spread_dir(const struct io_spread_config *config, struct io_dir **out);
/* Makes the folders, deletes the scratch file, and finishes moves that were cut short. For who writes, before any file is opened. -EEXIST: a name is on two disks; -EIO and
 * the like of a disk: it is failing from the start. */
int io_spread_mend(struct io_dir *d);
struct io_spread_state {
	const char *shown;
	uint64_t total_bytes, avail_bytes;
	bool draining, failing, full;
};
/* False: there is no such disk, or d is not spread. */
bool io_spread_look(struct io_dir *d, unsigned disk, struct io_spread_state *out);
void io_spread_set_draining(struct io_dir *d, unsigned disk, bool on);
/* Moves one file of the disk, which is draining, to another; *moved_bytes of it. -ENODATA: there was none left; -ENOSPC: no other disk has
 * room for it; -EBUSY: a file comes there at this moment, or one is written faster than it is copied. Blocks for as long as the copy takes. */
int io_spread_drain(struct io_dir *d, unsigned disk, uint64_t *moved_bytes);
/* Moves end soon, as if the file had been deleted, until it is called with false. */
void io_spread_hurry(struct io_dir *d, bool on);
/* The first of the directories that d is spread over; any other d itself. */
struct io_dir *io_spread_home(struct io_dir *d);
/* The directory of that number, which is not removed. */
struct io_dir *io_spread_part(struct io_dir *d, unsigned disk);
/* Takes the mark, a file, from a disk that has nothing else, and closes it, if not before the last file of it that is still open. */
int io_spread_forget(struct io_dir *d, unsigned disk, const char *mark);

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
/* Counts and waits in the same way; the n-th and those after it, `times` in all (0: for ever), fail with err. */
void io_fault_fail_at(struct io_dir *d, uint64_t n, uint64_t times, int err, const char *armed_by);
/* The same by a text: "kill:N", "kill-torn:N" (io_fault_kill_at), "fail:N:ERRNO[:TIMES]" (io_fault_fail_at), "count". -EINVAL: it is none
 * of these. When d is closed the log says how much was counted. */
int io_fault_arm_by(struct io_dir *d, const char *text, const char *armed_by);
/* From the n-th opening of a file on (1: the next), `times` fail with err, new files or not. Returns how many there were since the last call. */
uint64_t io_fault_fail_open(struct io_dir *d, uint64_t n, uint64_t times, int err);
/* The directory that d wraps; any other d itself. */
struct io_dir *io_fault_inner(struct io_dir *d);

#endif
