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

/* What the daemon says of itself. Never blocks. */
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

/* Settable, on a file or as the default of what is created in a directory. Where it is not set, reading the
 * dtype or the block size of a file gives the value in effect. */
#define SPILLFS_XATTR_DTYPE "user.spillfs.dtype"           /* "f64", or "pos:u32,lcp:u32" */
#define SPILLFS_XATTR_SHAPE "user.spillfs.shape"           /* "1000,3" */
#define SPILLFS_XATTR_BLOCK_SIZE "user.spillfs.block_size" /* bytes, decimal; while the array is empty */
#define SPILLFS_XATTR_CODEC "user.spillfs.codec"           /* "zstd:1".."zstd:19", "none" */
#define SPILLFS_XATTR_FILTER "user.spillfs.filter"         /* "auto", "none", "shuffle" */

/* Read-only; not listed by listxattr, so that copies do not carry them. */
#define SPILLFS_XATTR_KIND "user.spillfs.kind"                 /* "bucket", "column", "layered" */
#define SPILLFS_XATTR_STORED_BYTES "user.spillfs.stored_bytes" /* bytes in the store */
#define SPILLFS_XATTR_LENGTH "user.spillfs.length"             /* whole elements */
#define SPILLFS_XATTR_EXTENTS "user.spillfs.extents"           /* buckets: number of extents */
#define SPILLFS_XATTR_RUNS "user.spillfs.runs"                 /* buckets: run boundaries, "0 65536 131072" */
#define SPILLFS_XATTR_LAYERS "user.spillfs.layers"             /* layered: number of layers that hold it */

#endif
