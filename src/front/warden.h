/*
 * The warden: a process beside the daemon that cuts the mount's connection once the daemon is dying. A thread of the daemon that waits in
 * the kernel for something that only the daemon could answer keeps /dev/fuse open, however the daemon is ended, and so do a disk that does
 * not answer, and a core dump while it is written. Clients would wait as long.
 *
 * One thread at a time calls these.
 */
#ifndef SPILLFS_FRONT_WARDEN_H
#define SPILLFS_FRONT_WARDEN_H

#include <sys/types.h>

struct warden {
	pid_t pid; /* 0: there is none */
	int fd;    /* to it; its end is the daemon's */
};

/* Forks: call it while there is one thread, and little memory. -errno; -ENOSYS: /proc does not tell whether a process is dying. */
int warden_start(struct warden *out);

/* From now on it cuts the connection of the mount with this device number. -EACCES, -EPERM, -ENOENT: this user, or this container, cannot
 * do that. Needs system calls that confine_calls has refused. */
int warden_arm(struct warden *w, dev_t dev);

/* At SIGCHLD: notices, and says in the log, that it has ended by itself. Does not block. */
void warden_look(struct warden *w);

/* Ends it, and waits for that at most two seconds. */
void warden_end(struct warden *w);

#endif
