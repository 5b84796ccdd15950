/*
 * The settings of an array: its attributes user.spillfs.*, those that its directory gave it, or the defaults.
 */
#include "tree/setting.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "array/dtype.h"
#include "array/setting.h"
#include "spillfs.h"
#include "tree/inode.h"

/* The value of `name`, which is stored as `row`, and *out has it parsed (NULL: it is not wanted). What cannot have been set, as an enemy may
 * have stored it, is not there. */
static char *text_locked(struct inode *i, const char *name, const char *row, struct settings *out)
{
	void *text;
	size_t len;

	if (i->realm->stored_locked(i, row, &text, &len))
		return NULL;
	if (strlen(text) == len && !setting_parse(name, text, out))
		return text;
	free(text);
	return NULL;
}

/* Its own value, or else its directory's. */
static char *value_locked(struct inode *i, const char *name, struct settings *out)
{
	const char *inherited = setting_inherited_name(name);
	char *text = text_locked(i, name, name, out);

	return !text && inherited ? text_locked(i, name, inherited, out) : text;
}

char *setting_text_locked(struct inode *i, const char *name)
{
	return value_locked(i, name, NULL);
}

int setting_dtype_locked(struct inode *i, char **out)
{
	char *text = setting_text_locked(i, SPILLFS_XATTR_DTYPE);

	if (!text)
		text = i->realm->dtype_locked(i);
	if (!text)
		return -ENOMEM;
	*out = text;
	return 0;
}

int settings_read_locked(struct inode *i, struct settings *out, char **dtype_out)
{
	struct settings s = SETTINGS_DEFAULT;
	int err = setting_dtype_locked(i, dtype_out);
	const char *name;

	if (err)
		return err;
	for (unsigned k = 1; (name = setting_name(k)); k++)
		free(value_locked(i, name, &s));
	*out = s;
	return 0;
}

int setting_params_locked(struct inode *i, struct array_params *out)
{
	struct settings s;
	char *dtype, *own;
	int err = settings_read_locked(i, &s, &dtype);

	if (err)
		return err;
	own = text_locked(i, SPILLFS_XATTR_BLOCK_SIZE, SPILLFS_XATTR_BLOCK_SIZE, NULL);
	settings_params(&s, dtype, out);
	out->block_default = !own;
	free(own);
	free(dtype);
	return 0;
}
