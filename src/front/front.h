/*
 * The FUSE front: operations are decoded, handed to tree/, and answered. No logic lives here.
 */
#ifndef SPILLFS_FRONT_FRONT_H
#define SPILLFS_FRONT_FRONT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct fuse_args;
struct fuse_session;
struct tree;

struct front_config {
	bool writeback;              /* kernel writeback cache */
	bool passthrough;            /* of columns; without writeback */
	unsigned max_read_bytes;     /* of one request; 0: as the kernel likes */
	bool set_uid, set_gid;       /* -o uid=, gid=: shown owner of everything */
	uid_t uid;
	gid_t gid;
	bool set_umask;
	mode_t umask;                /* -o umask=: bits never shown */
};

struct front;

/* Makes the session (unmounted). args: program name, then mount options for libfuse as -o pairs. Starts
 * the notifier thread: call it after the last fork. */
int front_new(struct fuse_args *args, struct tree *tree, const struct front_config *config, struct front **out);
struct fuse_session *front_session(struct front *f);
/* Between mount and the first request: has the answer to that one completed where libfuse cannot. */
int front_handshake(struct front *f);
/* Once the first request is answered. */
void front_started(struct front *f);
/* While the loop runs, from another thread: has the kernel write back what it holds of any file, and waits for that. */
void front_gather(struct front *f);
/* Before the loop is told to end while the mount is in use. */
void front_ending(struct front *f);
/* After the loop has ended. */
void front_free(struct front *f);

#endif
