/*
 * Reading extended attributes of inodes.
 */
#include "tree/xattr.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array/acl.h"
#include "array/dtype.h"
#include "array/setting.h"
#include "spillfs.h"
#include "store/classes.h"
#include "store/store.h"
#include "tree/inode.h"
#include "tree/setting.h"

#define SETTINGS "user.spillfs."

static const char *const read_only[] = {
	SPILLFS_XATTR_KIND, SPILLFS_XATTR_STORED_BYTES, SPILLFS_XATTR_LENGTH,
	SPILLFS_XATTR_EXTENTS, SPILLFS_XATTR_RUNS, SPILLFS_XATTR_LAYERS,
};

bool xattr_is_setting(const char *name)
{
	return setting_parse(name, "", NULL) != -ENODATA;
}

bool xattr_is_read_only(const char *name)
{
	for (size_t k = 0; k < sizeof(read_only) / sizeof(*read_only); k++) {
		if (!strcmp(read_only[k], name))
			return true;
	}
	return false;
}

/* The elements that a file holds: whole ones of its dtype. */
static int length_text(struct inode *i, char **out)
{
	struct meta *m = i->tree->store->meta;
	uint32_t bytes = 1;
	char *dtype;
	int err;

	meta_lock(m);
	err = setting_dtype_locked(i, &dtype);
	meta_unlock(m);
	if (err)
		return err;
	if (*dtype)
		dtype_size(dtype, &bytes);
	free(dtype);
	return asprintf(out, "%llu", (unsigned long long)(inode_size(i) / bytes)) < 0 ? -ENOMEM : 0;
}

bool xattr_suits(mode_t mode, const char *name)
{
	return S_ISREG(mode) || S_ISDIR(mode) || strncmp(name, "user.", strlen("user."));
}

/* The text of a read-only attribute. */
static int describe(struct inode *i, const char *name, char **out)
{
	const struct class *class = class_by_kind(i->facts.kind);
	struct array *a;
	int err;

	if (!S_ISREG(inode_mode(i)))
		return -ENODATA;
	if (!strcmp(name, SPILLFS_XATTR_KIND)) {
		*out = strdup(class ? class->kind_name : "view");
		return *out ? 0 : -ENOMEM;
	}
	if (!strcmp(name, SPILLFS_XATTR_LENGTH))
		return length_text(i, out);
	rwlock_exclusive(&i->rw);
	err = inode_need_array(i, &a);
	if (!err && !strcmp(name, SPILLFS_XATTR_STORED_BYTES))
		err = asprintf(out, "%llu", (unsigned long long)atomic_load(&a->stored_bytes)) < 0 ? -ENOMEM : 0;
	else if (!err)
		err = array_describe(a, name + strlen(SETTINGS), out);
	inode_idle_array(i);
	rwlock_release(&i->rw);
	return err;
}

/* The value in effect of a setting that is not set: from the directory, the name, or the default. */
static int default_locked(struct inode *i, const char *name, void **out, size_t *len_out)
{
	char *text = NULL;
	int err = 0;

	if (S_ISREG(inode_mode(i)) && !strcmp(name, SPILLFS_XATTR_DTYPE))
		err = setting_dtype_locked(i, &text);
	else if (setting_inherited_name(name))
		text = setting_text_locked(i, name);
	if (err)
		return err;
	if (!text || !*text) {
		free(text);
		return -ENODATA;
	}
	*out = text;
	*len_out = strlen(text);
	return 0;
}

/* The block size in effect of a layered array. */
static int block_size_text(struct inode *i, void **out, size_t *len_out)
{
	struct array *a;
	char *text;
	int err, n = 0;

	rwlock_exclusive(&i->rw);
	err = inode_need_array(i, &a);
	if (!err)
		n = asprintf(&text, "%u", a->params.block_bytes);
	inode_idle_array(i);
	rwlock_release(&i->rw);
	if (err || n < 0)
		return err ? err : -ENOMEM;
	*out = text;
	*len_out = (size_t)n;
	return 0;
}

static int show_acl(struct inode *i, const char *name, void **value, size_t len)
{
	int err;

	lock_acquire(&i->attr);
	err = acl_show(name, *value, len, inode_mode(i));
	lock_release(&i->attr);
	if (err) {
		free(*value);
		*value = NULL;
	}
	return err;
}

int xattr_get(struct inode *i, const char *name, void **out, size_t *len_out)
{
	struct meta *m = i->tree->store->meta;
	int err;

	/* A directory can have been given one (live/kind.h). */
	if (xattr_is_read_only(name) && !S_ISDIR(inode_mode(i))) {
		char *text;

		err = describe(i, name, &text);
		if (!err) {
			*out = text;
			*len_out = strlen(text);
		}
		return err;
	}
	meta_lock(m);
	err = i->realm->stored_locked(i, name, out, len_out);
	if (err == -ENODATA)
		err = default_locked(i, name, out, len_out);
	meta_unlock(m);
	if (!err && acl_is_name(name))
		err = show_acl(i, name, out, *len_out);
	if ((!err || err == -ENODATA) && !strcmp(name, SPILLFS_XATTR_BLOCK_SIZE) && i->facts.kind == ARRAY_LAYERED &&
	    S_ISREG(inode_mode(i))) {
		if (!err)
			free(*out);
		err = block_size_text(i, out, len_out);
	}
	return err;
}

bool xattr_has_acl_locked(struct inode *i)
{
	void *value;
	size_t len;

	if (i->realm->stored_locked(i, ACL_ACCESS, &value, &len))
		return false;
	free(value);
	return true;
}
