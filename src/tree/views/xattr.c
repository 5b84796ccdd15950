/*
 * Extended attributes of views: those of the array, where a view is one. Files below views/runs have the element type of their bucket,
 * and their own length.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array/acl.h"
#include "array/dtype.h"
#include "spillfs.h"
#include "store/store.h"
#include "tree/views/inside.h"

#define SETTINGS "user.spillfs."

/* The element type of a file below views/runs; *out is malloc'd. */
static int run_dtype(struct tree *t, struct inode *i, char **out)
{
	const struct view_key *key = &view_of(i)->node.key;
	struct inode *source;
	char *text;
	int err;

	if (key->format != FORMAT_RUNS || view_role_is_dir(key->role))
		return -ENODATA;
	if (key->role == VIEW_META) {
		*out = strdup("u64");
		return *out ? 0 : -ENOMEM;
	}
	err = views_source(t, &view_of(i)->node, &source);
	if (err)
		return err;
	meta_lock(source->tree->store->meta);
	err = setting_dtype_locked(source, &text);
	meta_unlock(source->tree->store->meta);
	inode_put(source, 1);
	if (!err)
		*out = text;
	return err;
}

static int run_length(struct tree *t, uint64_t ino, const char *dtype, char **out)
{
	struct tree_attr attr;
	uint32_t bytes = 1;
	int err = views_getattr(t, ino, &attr);

	if (err)
		return err;
	if (*dtype)
		dtype_size(dtype, &bytes);
	return asprintf(out, "%llu", (unsigned long long)attr.st.st_size / bytes) < 0 ? -ENOMEM : 0;
}

static int run_getxattr(struct tree *t, uint64_t ino, const char *name, void **out, size_t *len_out)
{
	bool length = !strcmp(name, SPILLFS_XATTR_LENGTH);
	char *dtype, *text = NULL;
	struct inode *i;
	int err;

	if (!length && strcmp(name, SPILLFS_XATTR_DTYPE))
		return -ENODATA;
	err = inode_find(t, ino, &i);
	if (!err)
		err = run_dtype(t, i, &dtype);
	if (err)
		return err;
	if (length)
		err = run_length(t, ino, dtype, &text);
	else if (!*dtype)
		err = -ENODATA;
	if (length || err)
		free(dtype);
	if (err)
		return err;
	*out = length ? text : dtype;
	*len_out = strlen(*out);
	return 0;
}

static int run_listxattr(struct tree *t, uint64_t ino, char **out, size_t *len_out)
{
	char *dtype;
	struct inode *i;
	bool any;
	int err = inode_find(t, ino, &i);

	if (!err)
		err = run_dtype(t, i, &dtype);
	if (err)
		return err == -ENODATA ? 0 : err;
	any = *dtype;
	free(dtype);
	if (!any)
		return 0;
	*out = strdup(SPILLFS_XATTR_DTYPE);
	if (!*out)
		return -ENOMEM;
	*len_out = sizeof(SPILLFS_XATTR_DTYPE);
	return 0;
}

/* That of the source, as the mode of the view has it: what is below x.zarr/ as well. A table has a mode that needs none. */
static int acl_of_view(struct tree *t, uint64_t ino, const char *name, void **out, size_t *len_out)
{
	const struct view_node *n;
	struct tree_attr attr;
	struct inode *i, *source = NULL;
	uint64_t number;
	int err = views_getattr(t, ino, &attr);

	if (!err)
		err = inode_find(t, ino, &i);
	if (err)
		return err;
	n = &view_of(i)->node;
	number = n->key.source;
	if (view_of(i)->upload || number == META_INO_ROOT || n->key.role == VIEW_TABLE ||
	    (!strcmp(name, ACL_DEFAULT) && n->key.role != VIEW_DIR))
		return -ENODATA;
	if (n->past || !views_is_fixed(t, number))
		err = views_source(t, n, &source);
	if (!err)
		err = realm_of(t, number)->getxattr(t, source ? source->facts.ino : number, name, out, len_out);
	if (!err && !strcmp(name, ACL_ACCESS))
		acl_from_mode(*out, *len_out, attr.st.st_mode, S_ISDIR(attr.st.st_mode) && n->key.role != VIEW_DIR);
	if (source)
		inode_put(source, 1);
	return err;
}

/* Views have the attributes of their arrays, where they are one array each. */
int views_getxattr(struct tree *t, uint64_t ino, const char *name, void **out, size_t *len_out)
{
	struct inode *target;
	int err;

	if (acl_is_name(name))
		return acl_of_view(t, ino, name, out, len_out);
	err = views_target(t, ino, &target);
	if (err)
		return run_getxattr(t, ino, name, out, len_out);
	err = realm_of(t, target->facts.ino)->getxattr(t, target->facts.ino, name, out, len_out);
	inode_put(target, 1);
	return err;
}

/* Without the settings: the file itself says them, and a tool that makes attributes equal must not take them away. */
int views_listxattr(struct tree *t, uint64_t ino, char **out, size_t *len_out)
{
	struct inode *target;
	size_t len = 0;
	int err;

	if (views_target(t, ino, &target))
		return run_listxattr(t, ino, out, len_out);
	err = realm_of(t, target->facts.ino)->listxattr(t, target->facts.ino, out, len_out);
	inode_put(target, 1);
	if (err)
		return err;
	for (size_t at = 0, n; at < *len_out; at += n) {
		const char *name = *out + at;

		n = strlen(name) + 1;
		if (!strncmp(name, SETTINGS, strlen(SETTINGS)))
			continue;
		memmove(*out + len, name, n);
		len += n;
	}
	*len_out = len;
	return 0;
}

int views_setxattr(struct tree *t, uint64_t ino, const char *name, const void *value, size_t len, int flags)
{
	const struct realm_ops *of;
	struct inode *target;
	int err = views_target(t, ino, &target);

	if (err)
		return err;
	of = realm_of(t, target->facts.ino);
	err = of->setxattr ? of->setxattr(t, target->facts.ino, name, value, len, flags) : of->refusal;
	changed_attr(t, target->facts.ino);
	inode_put(target, 1);
	return err;
}

int views_removexattr(struct tree *t, uint64_t ino, const char *name)
{
	const struct realm_ops *of;
	struct inode *target;
	int err = views_target(t, ino, &target);

	if (err)
		return err;
	of = realm_of(t, target->facts.ino);
	err = of->removexattr ? of->removexattr(t, target->facts.ino, name) : of->refusal;
	changed_attr(t, target->facts.ino);
	inode_put(target, 1);
	return err;
}
