/*
 * POSIX ACLs as the kernel passes them in extended attributes (linux/posix_acl_xattr.h): it checks them, and the tree keeps them.
 *
 * Invariants:
 *  1. The mode is the truth for owner, mask and others. What an access ACL has stored of these counts for nothing: it is shown with
 *     those of the mode. So a chmod changes no ACL.
 *  2. An access ACL that says no more than a mode is not stored.
 */
#ifndef SPILLFS_ARRAY_ACL_H
#define SPILLFS_ARRAY_ACL_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define ACL_ACCESS "system.posix_acl_access"
#define ACL_DEFAULT "system.posix_acl_default"

/* One that a file has already. */
struct acl {
	void *v; /* malloc'd; NULL: none */
	size_t len;
};

bool acl_is_name(const char *name);
/* -EINVAL: it is none. The other functions take a good one. All take memory that malloc has aligned. */
int acl_check(const void *value, size_t len);
/* Gives the mode the permissions that the ACL has for owner, group or mask, and others. False: that is all it says. */
bool acl_to_mode(const void *value, size_t len, mode_t *mode);
/* The other way. A directory that shows a file can be searched by whom that can be read by. */
void acl_from_mode(void *value, size_t len, mode_t mode, bool search);
/* The ACL of this name that an inode with this mode has stored, as it is shown. -EIO: it is none. */
int acl_show(const char *name, void *value, size_t len, mode_t mode);
/* Makes the access ACL of a new inode out of its directory's default ACL, and takes bits from its mode. False: it need not be stored. */
bool acl_begin(void *value, size_t len, mode_t *mode);

#endif
