/*
 * Extended attributes of what has an inode, live or past: those that are stored, those that are made up from the array, and settings
 * in effect.
 */
#ifndef SPILLFS_TREE_XATTR_H
#define SPILLFS_TREE_XATTR_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

struct inode;

/* A user.spillfs.* name that can be set; one that is made up. */
bool xattr_is_setting(const char *name);
bool xattr_is_read_only(const char *name);
/* May what has this mode have it? The kernel knows user.* attributes of files and directories alone. */
bool xattr_suits(mode_t mode, const char *name);
/* *out is malloc'd. -ENODATA. */
int xattr_get(struct inode *i, const char *name, void **out, size_t *len_out);

/* Has it an access ACL (array/acl.h)? The meta lock is held. */
bool xattr_has_acl_locked(struct inode *i);

#endif
