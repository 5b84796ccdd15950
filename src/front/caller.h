/*
 * The view of a caller: how much it may see, beyond the kernel's checks.
 */
#ifndef SPILLFS_FRONT_CALLER_H
#define SPILLFS_FRONT_CALLER_H

#include <stddef.h>
#include <sys/types.h>

/* Takes out of a list of attributes, each with its NUL, those that the caller could not read: trusted ones, without
 * CAP_SYS_ADMIN in the first user namespace. The kernel leaves that to the file system. thread is numbered as in the daemon's
 * /proc, which is read; uid is the request's. Returns the new length. */
size_t caller_visible_names(pid_t thread, uid_t uid, char *names, size_t len);

#endif
