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

static char *text_locked(struct inode *i, const char *name)
{
	void *text;
	size_t len;

	return i->realm->stored_locked(i, name, &text, &len) ? NULL : text;
}

char *setting_text_locked(struct inode *i, const char *name)
{
	const char *inherited = setting_inherited_name(name);
	char *text = text_locked(i, name);

	return !text && inherited ? text_locked(i, inherited) : text;
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

/* Whole rows in about ARRAY_BLOCK_DEFAULT bytes, so that blocks can be chunks of an array of several dimensions. */
static uint32_t default_block_locked(struct inode *i, uint32_t elem_bytes)
{
	char *text = setting_text_locked(i, SPILLFS_XATTR_SHAPE), *order = setting_text_locked(i, SPILLFS_XATTR_ORDER);
	struct shape shape = { 0 };
	uint64_t row = 0;

	if (text && !shape_parse(text, &shape)) {
		shape.fortran = order && *order == 'F';
		row = shape_row(&shape);
	}
	free(text);
	free(order);
	row = !row || row > ARRAY_BLOCK_MAX / elem_bytes ? elem_bytes : row * elem_bytes;
	return row > ARRAY_BLOCK_DEFAULT ? (uint32_t)row : (uint32_t)(ARRAY_BLOCK_DEFAULT / row * row);
}

int setting_params_locked(struct inode *i, struct array_params *out)
{
	char *block = setting_text_locked(i, SPILLFS_XATTR_BLOCK_SIZE), *codec = setting_text_locked(i, SPILLFS_XATTR_CODEC);
	char *filter = setting_text_locked(i, SPILLFS_XATTR_FILTER), *own = text_locked(i, SPILLFS_XATTR_BLOCK_SIZE), *dtype;
	int err = setting_dtype_locked(i, &dtype);

	if (!err) {
		*out = (struct array_params){
			.block_default = !own,
			.codec.level = !codec ? 3 : strcmp(codec, "none") ? atoi(codec + strlen("zstd:")) : 0,
			.codec.policy = !filter || !strcmp(filter, "auto") ? CODEC_POLICY_AUTO :
					!strcmp(filter, "none") ? CODEC_POLICY_NONE : CODEC_POLICY_SHUFFLE,
			.codec.elem_bytes = 1,
			.stat_type = dtype_summary(dtype),
		};
		if (*dtype)
			dtype_size(dtype, &out->codec.elem_bytes);
		out->block_bytes = block ? (uint32_t)strtoul(block, NULL, 10) : default_block_locked(i, out->codec.elem_bytes);
		if (out->codec.elem_bytes > 16)
			out->codec.elem_bytes = 1;
		free(dtype);
	}
	free(block);
	free(own);
	free(codec);
	free(filter);
	return err;
}
