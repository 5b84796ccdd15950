/*
 * Lifetimes of directories of a scratch store: user.spillfs.lifetime. A directory whose process has ended is removed with all that is in
 * it, however the process has ended.
 */
#ifndef SPILLFS_TREE_SCRATCH_LIFETIME_H
#define SPILLFS_TREE_SCRATCH_LIFETIME_H

#include <stddef.h>
#include <stdint.h>

struct lifetimes;
struct tree;
struct tree_caller;

/* t: a tree over a scratch store; the inode is one of its. The text is "mount": it has none (any more); "pid:N": that of this process, by the
 * caller's number of it; "pid:self": of the calling process; "session": of the process that leads the caller's session. The directory's owner
 * and root may set it (-EPERM). -ENOTDIR; -EBUSY: the top, which is the mount's; -EINVAL: no such text, or a number of another pid
 * namespace; -ESRCH: there is no such process, or the caller cannot be looked at. flags as setxattr(2). */
int lifetime_set(struct tree *t, uint64_t ino, const char *text, size_t len, int flags, const struct tree_caller *who);
/* "pid:N", or "session"; malloc'd. -ENODATA. */
int lifetime_get(struct tree *t, uint64_t ino, void **out, size_t *len_out);
/* -ENODATA: it has none; -EPERM. */
int lifetime_remove(struct tree *t, uint64_t ino, const struct tree_caller *who);
/* At the end of the tree: waits for the removal that runs. */
void lifetimes_stop(struct tree *t);

#endif
