/*
 * The public interface of a mounted spillfs beyond plain file operations: control requests and the
 * names of its extended attributes. Used by spillctl, free for other programs.
 *
 * A control request is an ioctl on the mount's root directory, opened O_RDONLY. Each needs root or the
 * user who runs the daemon (-EPERM otherwise), and blocks until it is done. Errors are errno values.
 * Making everything durable needs no ioctl: fsync the root directory.
 */
#ifndef SPILLFS_H
#define SPILLFS_H

#include <stdint.h>
#include <sys/ioctl.h>

/* Facts of the daemon. Never blocks. */
struct spillfs_info {
	uint64_t pid;            /* of the daemon, in its own pid namespace */
	uint64_t commit;         /* number of the last durable commit */
	uint64_t newest_layer;   /* number of the newest sealed layer, 0: none */
	uint64_t format;         /* version of the store */
};
#define SPILLFS_IOC_INFO _IOR('S', 1, struct spillfs_info)

/* Makes everything durable and seals the open layer; reports the newest sealed layer. */
struct spillfs_commit {
	uint64_t layer;  /* newest sealed layer afterwards, 0: none */
	uint64_t sealed; /* 1: this request sealed it, 0: nothing had changed */
};
#define SPILLFS_IOC_COMMIT _IOR('S', 2, struct spillfs_commit)

/* Compaction. start 1: begin one unless one runs; it goes on in the background. 0: only ask. Never waits for
 * the end: ask again. */
struct spillfs_compact {
	uint64_t start;
	uint64_t running;      /* 1: not yet done */
	uint64_t done_bytes;   /* of frames copied, */
	uint64_t total_bytes;  /* of so many */
	uint64_t finished;     /* compactions that have ended since mount: higher than before means yours is done */
	int64_t error;         /* of the last that ended: 0 or -errno */
	uint64_t layers;       /* layer files now */
	uint64_t bytes;        /* their bytes */
};
#define SPILLFS_IOC_COMPACT _IOWR('S', 3, struct spillfs_compact)

/* Empties one of the directories that the store is spread over (-o pool=DIR; .spillfs/disks has their numbers): its files move to
 * the others. The daemon does it, and this does not wait for it. That it is to be emptied is remembered, also by the next mount: no new data goes
 * there. With `start` it begins, or goes on; without, the answer is how far the last one is. -ENOENT: there is no such directory, or
 * nobody has asked; -EINVAL: it is the store's own, 0; -EROFS: a follower; -EAGAIN: there are no more threads. */
struct spillfs_drain {
	uint64_t directory; /* in */
	uint64_t start;     /* in */
	uint64_t running;   /* out: 1: not yet at an end */
	uint64_t done;      /* out: 1: it is empty, and no longer one of the store's */
	uint64_t files, moved_bytes; /* out: since the start */
	int64_t error;      /* out: it has ended with this, a -errno; -ENOSPC: the others have no room, -EBUSY: files came there all the
			     * while, or are written faster than they are copied, -EEXIST: a name is in two directories, -ENOTEMPTY: its lost+found has layers that a rebuild has saved; 0: none */
};
#define SPILLFS_IOC_DRAIN _IOWR('S', 6, struct spillfs_drain)

/* The stored blocks of a layered array, or stretches of a bucket or column, which is read for it and remembered: an ioctl on the file,
 * opened for reading (-EBADF otherwise). Blocks that were
 * written and not yet compressed have neither place nor statistics. */
struct spillfs_block {
	uint64_t block;
	uint64_t layer, frame_off; /* file and offset of its frame; frame_off 0: not compressed yet */
	uint32_t frame_len, frame_raw, raw_off, raw_len; /* as in docs/FORMAT.md */
	uint8_t filter, elem_bytes, stat_type, zero; /* the same */
	uint32_t nan_count;
	uint32_t zero_count, unused; /* SPILLFS_UNCOUNTED: they were not counted */
	uint64_t min_bits, max_bits; /* of the filter 32: the list of fields, with nan_count */
};
#define SPILLFS_UNCOUNTED UINT32_MAX
#define SPILLFS_BLOCKS_MAX 64
struct spillfs_blocks {
	uint64_t first;       /* in: the first block wanted; out: the next one to ask for */
	uint64_t size_bytes;  /* of the file */
	uint32_t block_bytes;
	uint32_t n;           /* entries that follow, blocks that are all zeros left out; 0: the end */
	uint64_t plain;       /* 1: a bucket or column: entries are of stretches of block_bytes, with raw_len and statistics alone */
	struct spillfs_block v[SPILLFS_BLOCKS_MAX];
};
#define SPILLFS_IOC_BLOCKS _IOWR('S', 4, struct spillfs_blocks)

/* Ends the run of a bucket at the present end of the file: an ioctl on the file, opened for writing (-EBADF otherwise).
 * Bytes that the kernel has not passed on yet are written back first. -EOPNOTSUPP: it is not below buckets/; -EROFS: nothing can be
 * written there; -ENOSPC. Durable with the next commit. */
struct spillfs_mark {
	uint64_t off_bytes; /* out: where the boundary is */
	uint64_t made;      /* out: 1: it is new, 0: a run ended there before */
};
#define SPILLFS_IOC_MARK _IOR('S', 5, struct spillfs_mark)

/* Settable, on a file or as the default of what is created in a directory. Where it is not set, reading the
 * dtype or the block size of a file gives the value in effect. A file is given the dtype, shape, order and logical type of
 * its directory, as if they had been set on it; block size, codec and filter are in effect for it and can be read, but
 * not listed: a copy is stored as the directory says in which it is made. */
#define SPILLFS_XATTR_DTYPE "user.spillfs.dtype"           /* "f64", or "pos:u32,lcp:u32" */
#define SPILLFS_XATTR_SHAPE "user.spillfs.shape"           /* "1000,3"; "()": no dimensions */
#define SPILLFS_XATTR_ORDER "user.spillfs.order"           /* "C", "F": which index varies fastest, last or first */
#define SPILLFS_XATTR_LOGICAL "user.spillfs.logical"       /* "timestamp[us]", "timestamp[us,UTC]", "duration[s]", "date", "decimal(9,2)" */
#define SPILLFS_XATTR_BLOCK_SIZE "user.spillfs.block_size" /* bytes, decimal; -EOPNOTSUPP: over 1 GiB is stored in other blocks */
#define SPILLFS_XATTR_CODEC "user.spillfs.codec"           /* "auto", "zstd:1".."zstd:19", "zstd:-7".."zstd:-1", "pack", "none" */
#define SPILLFS_XATTR_FILTER "user.spillfs.filter"         /* "auto", "none", "shuffle", other steps: "delta+pack" */
#define SPILLFS_XATTR_CONSUME "user.spillfs.consume"       /* "1": what is read in order is freed; "0" */
#define SPILLFS_XATTR_DIRECT "user.spillfs.direct"         /* "1": who opens it to write goes around the kernel's cache; "0" */
#define SPILLFS_XATTR_COMPRESS "user.spillfs.compress"     /* "cold": what does not stay in memory goes to the disk compressed; "none". Below
                                                              scratch/ only (-EOPNOTSUPP), of buckets and columns */

/* Bounds of a directory, for root and the user who runs the daemon to set (-EPERM): what all files below it together may hold, bytes with
 * K, M, G or T behind them. -ENOTDIR; -EINVAL: no size, or 0. Writes beyond it get EDQUOT, statfs shows it. Not listed by listxattr. */
#define SPILLFS_XATTR_QUOTA "user.spillfs.quota"                 /* bytes in the store */
#define SPILLFS_XATTR_QUOTA_LOGICAL "user.spillfs.quota_logical" /* sum of sizes */

/* On a directory below buckets/, columns/ or layers/, or one of these: "no": what is in it is scratch, as below scratch/: never synced, and gone at
 * the next mount. "yes": it is as elsewhere. -ENOTEMPTY: there is something in the directory; -ENOTDIR. Of what is scratch it reads "no" and
 * cannot be "yes" (-EOPNOTSUPP). Not listed, so that a copy is durable. */
#define SPILLFS_XATTR_DURABLE "user.spillfs.durable"

/* Read-only; not listed by listxattr, so that copies do not carry them. */
#define SPILLFS_XATTR_KIND "user.spillfs.kind"                 /* "bucket", "column", "layered"; settable on a directory of scratch/ */
#define SPILLFS_XATTR_STORED_BYTES "user.spillfs.stored_bytes" /* bytes in the store */
#define SPILLFS_XATTR_LENGTH "user.spillfs.length"             /* whole elements */
#define SPILLFS_XATTR_EXTENTS "user.spillfs.extents"           /* buckets: number of extents */
#define SPILLFS_XATTR_RUNS "user.spillfs.runs"                 /* buckets: run boundaries, "0 65536 131072"; -E2BIG: over
                                                                  64 KiB of text, see views/runs/PATH/index.u64 */
#define SPILLFS_XATTR_LAYERS "user.spillfs.layers"             /* layered: number of layers that hold it */

/* For a directory of scratch/: when that process has ended, the directory is removed with all that is in it. "mount" (the default: not before
 * the mount ends), "pid:N", "pid:self" (the calling process), "session" (the process that leads the caller's session). Not listed. -EPERM:
 * neither the directory's owner nor root asks; -EBUSY: scratch/ itself; -ENOTDIR; -ESRCH; -EINVAL also for a number of another pid
 * namespace. */
#define SPILLFS_XATTR_LIFETIME "user.spillfs.lifetime"

/* To be set alone, to "1" (-EINVAL otherwise): as SPILLFS_IOC_MARK, by path. It is not kept: neither read nor listed. */
#define SPILLFS_XATTR_MARK "user.spillfs.mark"

#endif
