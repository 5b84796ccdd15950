/*
 * The privileges that a file lends to those who run it: the set-user and set-group bits, and its capabilities. They vouch for the
 * bytes and the owner that the file had when they were set.
 */
#ifndef SPILLFS_TREE_PRIVS_H
#define SPILLFS_TREE_PRIVS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct inode;
struct tree_caller;

#define PRIVS_XATTR "security.capability"

enum privs_change {
	PRIVS_DATA,  /* bytes or size */
	PRIVS_OWNER, /* user or group */
};

/* Has it any? rw may be held. */
bool privs_any(struct inode *i);
/* Before such a change: takes away what ext4 would, and has the kernel forget it (changed_attr). who: who makes the
 * change; NULL: the kernel writes back, and nothing is taken. *lost_out (may be NULL): the bits of the mode that are gone.
 * No lock above RANK_UPLOAD may be held. */
int privs_drop(struct inode *i, const struct tree_caller *who, enum privs_change change, uint32_t *lost_out);
/* Would the kernel let the caller do this (S_IWUSR, S_IXUSR)? Where an ACL decides, only the owner is let. The meta lock is held. */
bool privs_may_locked(struct inode *i, const struct tree_caller *who, mode_t need);

#endif
