/*
 * Mounts as the kernel lists them, and unmounting: by umount2 as root, by fusermount3 otherwise.
 *
 * Paths are absolute and without symbolic links. Nothing here touches the mounted file system itself,
 * so that a daemon may ask about its own mount and a dead mount cannot hang the caller.
 */
#ifndef SPILLFS_UTIL_MNT_H
#define SPILLFS_UTIL_MNT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* How a spillfs mount calls its type in /proc/self/mountinfo. */
#define MNT_TYPE "fuse.spillfs"

struct mnt {
	int id;        /* the kernel's, unique while the mount exists */
	dev_t dev;     /* of the file system; other mounts of it have the same */
	char type[64]; /* "ext4", "fuse.spillfs" */
};

/* Calls each for all mounts that a file such as /proc/self/mountinfo lists; point is where it is mounted. -errno when the file
 * cannot be opened. */
int mnt_each(const char *file, void (*each)(void *ctx, const struct mnt *m, const char *point), void *ctx);

/* The topmost mount on path itself. -ENOENT: path is no mountpoint. */
int mnt_find(const char *path, struct mnt *out);
/* The same of the mounts of one file system. */
int mnt_find_dev(const char *path, dev_t dev, struct mnt *out);
/* How many mounts are on path itself, one over the other. */
unsigned mnt_count(const char *path, dev_t dev); /* 0: of any device */
/* 0: the file system at path answers, be it with EIO. -ENOTCONN: it is dead, or dies of not answering this. */
int mnt_ask(const char *path);
/* True while the mount is attached anywhere in this namespace. */
bool mnt_attached(int id);
/* Lazy: detaches at once, the file system ends with its last open file. `said` receives one line of
 * reason on failure. -EBUSY: in use. */
int mnt_unmount(const char *path, bool lazy, char *said, size_t said_len);

#endif
