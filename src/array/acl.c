/*
 * The bytes of an ACL: reading and changing them.
 */
#include "array/acl.h"

#include <errno.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <stdint.h>
#include <string.h>

#define BITS 7u

bool acl_is_name(const char *name)
{
	return !strcmp(name, ACL_ACCESS) || !strcmp(name, ACL_DEFAULT);
}

static size_t count_of(size_t len)
{
	return len < sizeof(struct posix_acl_xattr_header) ? 0 :
		(len - sizeof(struct posix_acl_xattr_header)) / sizeof(struct posix_acl_xattr_entry);
}

static struct posix_acl_xattr_entry *entries(void *value)
{
	return (struct posix_acl_xattr_entry *)((struct posix_acl_xattr_header *)value + 1);
}

/* The entries that a mode has bits for, NULL where there is none, and whether there are others. */
struct parts {
	struct posix_acl_xattr_entry *owner, *group, *mask, *others;
	bool named;
};

static struct parts parts_of(void *value, size_t len)
{
	struct posix_acl_xattr_entry *e = entries(value);
	struct parts p = { 0 };

	for (size_t n = count_of(len); n; n--, e++) {
		if (e->e_tag == ACL_USER_OBJ)
			p.owner = e;
		else if (e->e_tag == ACL_GROUP_OBJ)
			p.group = e;
		else if (e->e_tag == ACL_MASK)
			p.mask = e;
		else if (e->e_tag == ACL_OTHER)
			p.others = e;
		else
			p.named = true;
	}
	return p;
}

int acl_check(const void *value, size_t len)
{
	struct posix_acl_xattr_header head;
	struct parts p;

	if (len < sizeof(head) || (len - sizeof(head)) % sizeof(struct posix_acl_xattr_entry))
		return -EINVAL;
	memcpy(&head, value, sizeof(head));
	if (head.a_version != POSIX_ACL_XATTR_VERSION)
		return -EINVAL;
	p = parts_of((void *)(uintptr_t)value, len);
	return p.owner && p.group && p.others && (p.mask || !p.named) ? 0 : -EINVAL;
}

static struct posix_acl_xattr_entry *group_or_mask(const struct parts *p)
{
	return p->mask ? p->mask : p->group;
}

bool acl_to_mode(const void *value, size_t len, mode_t *mode)
{
	struct parts p = parts_of((void *)(uintptr_t)value, len);

	*mode = (*mode & ~(mode_t)0777) | (mode_t)(p.owner->e_perm & BITS) << 6 | (mode_t)(group_or_mask(&p)->e_perm & BITS) << 3 |
		(p.others->e_perm & BITS);
	return p.named || p.mask;
}

void acl_from_mode(void *value, size_t len, mode_t mode, bool search)
{
	struct parts p = parts_of(value, len);
	struct posix_acl_xattr_entry *e = entries(value);

	for (size_t n = count_of(len); n && search; n--, e++)
		e->e_perm |= e->e_perm >> 2 & 1;
	p.owner->e_perm = mode >> 6 & BITS;
	group_or_mask(&p)->e_perm = mode >> 3 & BITS;
	p.others->e_perm = mode & BITS;
}

int acl_show(const char *name, void *value, size_t len, mode_t mode)
{
	if (acl_check(value, len))
		return -EIO;
	if (!strcmp(name, ACL_ACCESS))
		acl_from_mode(value, len, mode, false);
	return 0;
}

bool acl_begin(void *value, size_t len, mode_t *mode)
{
	struct parts p = parts_of(value, len);

	p.owner->e_perm &= *mode >> 6;
	group_or_mask(&p)->e_perm &= *mode >> 3;
	p.others->e_perm &= *mode;
	return acl_to_mode(value, len, mode);
}
