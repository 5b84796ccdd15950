/*
 * What a caller may see beyond what the kernel's checks say.
 */
#ifndef SPILLFS_FRONT_CALLER_H
#define SPILLFS_FRONT_CALLER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Has the thread (as the daemon's /proc numbers it) CAP_SYS_ADMIN in the first user namespace, as the kernel asks for
 * trusted attributes? uid is the request's. Reads /proc. */
bool caller_is_admin(pid_t thread, uid_t uid);
/* Takes out of a list of attributes, each with its NUL, those that the caller could not read: trusted ones. The kernel leaves
 * that to the file system. Returns the new length. */
size_t caller_visible_names(pid_t thread, uid_t uid, char *names, size_t len);

#endif
