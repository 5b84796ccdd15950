/*
 * The kind of a file.
 *
 * Invariant: the kind of an inode never changes. That of a directory of a scratch store is ARRAY_BUCKET; what is made in it asks for the
 * directory's attribute.
 */
#include "tree/live/kind.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "array/dtype.h"
#include "spillfs.h"
#include "store/classes.h"
#include "store/store.h"

static bool is_mixed(const struct inode *i)
{
	return i->tree->store->config.scratch;
}

/* The part of a name that ends at `end`, behind its last dot. */
static const struct class *class_of_part(const char *name, const char *end)
{
	const char *dot = memrchr(name, '.', (size_t)(end - name));
	char part[16] = "";

	if (!dot || dot == name || (size_t)(end - dot) > sizeof(part))
		return NULL;
	memcpy(part, dot + 1, (size_t)(end - dot - 1));
	return class_by_kind_name(part);
}

static const struct class *class_of_name(const char *name)
{
	return class_of_part(name, dtype_of_name(name) ? strrchr(name, '.') : name + strlen(name));
}

static int set_of_locked(struct inode *dir, const struct class **out)
{
	void *text;
	size_t len;
	int err = live_stored_locked(dir, SPILLFS_XATTR_KIND, &text, &len);

	if (err)
		return err == -ENODATA ? 0 : err;
	*out = class_by_kind_name(text);
	free(text);
	return 0;
}

int kind_of_new_locked(struct inode *dir, const char *name, struct facts *row)
{
	const struct class *class = NULL;
	int err = 0;

	row->kind = dir->facts.kind;
	if (!is_mixed(dir) || !S_ISREG(row->mode))
		return 0;
	if (name)
		class = class_of_name(name);
	if (!class)
		err = set_of_locked(dir, &class);
	if (class)
		row->kind = class->kind;
	return err;
}

bool kind_fits(const struct inode *i, const struct inode *dir)
{
	return is_mixed(dir) || i->facts.kind == dir->facts.kind;
}

bool kind_is_setting(const struct inode *i, const char *name)
{
	return is_mixed(i) && S_ISDIR(inode_mode(i)) && !strcmp(name, SPILLFS_XATTR_KIND);
}

int kind_check(const char *value)
{
	return class_by_kind_name(value) ? 0 : -EINVAL;
}
