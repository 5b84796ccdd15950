/*
 * The mountpoint: checking it, clearing what a dead daemon left, attaching and detaching the session.
 */
#ifndef SPILLFS_FRONT_MOUNT_H
#define SPILLFS_FRONT_MOUNT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct fuse_args;
struct fuse_session;
struct options;

struct mount {
	char *path; /* absolute, without symbolic links */
	int id;     /* the kernel's mount id; -1: not mounted, or unknown */
	dev_t dev;  /* of the mounted file system, while id is known */
};

/* Absolute path of the directory `shown`. Where a dead spillfs is mounted, detaches that first and says
 * so on stderr. -ENOTDIR and what stat returns; *why is one line. */
int mount_resolve_dir(const char *shown, char **out, char *why, size_t why_len);

/* -ENODEV: this system has no FUSE. */
int mount_check_fuse(char *why, size_t why_len);

/* The arguments for the session; freed with fuse_opt_free_args. -ENOMEM. */
int mount_args(const struct options *o, const char *source, struct fuse_args *out);

/* Sends what libfuse says to the log, and keeps the last complaint for mount_attach. */
void mount_init_log(void);

/* Mounts; -EIO with *why on failure. */
int mount_attach(struct mount *m, struct fuse_session *se, char *why, size_t why_len);

/* How much the kernel reads ahead of a sequential reader, in bytes; without this, what FUSE is given: at most 128 KiB. Only root may
 * set it: -EACCES otherwise, -ENOENT where sysfs does not show the mount. Called once the mount serves. */
int mount_read_ahead(const struct mount *m, size_t bytes);

/* How much of what the kernel lets be dirty may be the mount's, in percent; without this, 1. Where control groups limit the
 * daemon's memory, an eighth of that at most. Errors and time of the call as above. */
int mount_dirty_share(const struct mount *m, unsigned percent);

/* Lazily detaches our own mount and nothing else: 0, also when it is gone already; -EBUSY when another
 * file system is mounted over it; -ENOENT when it is not known which is ours. Safe while serving. */
int mount_detach(struct mount *m);

/* After the loop: cuts the session's connection and removes the mount if it is still there. */
void mount_end(struct mount *m, struct fuse_session *se);

#endif
