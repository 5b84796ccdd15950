/*
 * The privileges of a thread, from /proc. Each call reads a file: ask only when the answer matters.
 *
 * Invariant: a thread that cannot be looked at counts as one without privilege.
 */
#ifndef SPILLFS_UTIL_CRED_H
#define SPILLFS_UTIL_CRED_H

#include <stdbool.h>
#include <sys/types.h>

/* capable(): the capability in the first user namespace. uid: the thread's, as this process sees it. */
bool cred_is_capable(pid_t thread, uid_t uid, unsigned capability);
/* Is gid one of the thread's supplementary groups? */
bool cred_in_group(pid_t thread, gid_t gid);
/* The process that a thread belongs to, and the process that leads its session, by their numbers. -ESRCH: it cannot be looked at, or that
 * leader has no number here. */
int cred_process(pid_t thread, pid_t *out);
int cred_session(pid_t thread, pid_t *out);
/* Are the thread's numbers of processes those of this process? */
bool cred_shares_pids(pid_t thread);

#endif
