/*
 * An array as a format sees it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "array/setting.h"
#include "spillfs.h"
#include "store/store.h"
#include "tree/views/inside.h"

static void read_settings_locked(struct inode *i, struct view_facts *out)
{
	char *shape = setting_text_locked(i, SPILLFS_XATTR_SHAPE), *order = setting_text_locked(i, SPILLFS_XATTR_ORDER);
	char *logical = setting_text_locked(i, SPILLFS_XATTR_LOGICAL);
	char *filter = setting_text_locked(i, SPILLFS_XATTR_FILTER), *codec = setting_text_locked(i, SPILLFS_XATTR_CODEC);
	bool chosen = !filter || !strcmp(filter, "auto");

	if (!shape || shape_parse(shape, &out->shape))
		out->shape = (struct shape){ .ndims = 1 };
	out->shape.fortran = order && !strcmp(order, "F");
	if (!logical || logical_parse(logical, &out->logical) || !out->dtype || !logical_fits(&out->logical, out->dtype))
		out->logical = (struct logical){ 0 };
	out->shuffles = chosen ? !codec || strcmp(codec, "none") : !strcmp(filter, "shuffle");
	free(filter);
	free(codec);
	free(shape);
	free(order);
	free(logical);
}

int views_facts(struct inode *i, struct view_facts *out)
{
	struct meta *m = i->tree->store->meta;
	struct view_facts facts = { .size_bytes = atomic_load(&i->size_bytes) };
	char *text;
	int err;

	meta_lock(m);
	err = setting_dtype_locked(i, &text);
	if (!err) {
		err = *text ? dtype_parse(text, &facts.dtype) : 0;
		free(text);
		if (err == -EINVAL)
			err = 0;
		read_settings_locked(i, &facts);
	}
	meta_unlock(m);
	if (err)
		return err;
	if (facts.dtype)
		shape_fit(&facts.shape, facts.size_bytes / facts.dtype->bytes);
	facts.count = facts.dtype ? shape_count(&facts.shape) : 0;
	*out = facts;
	return 0;
}

static bool shows_type(enum view_format f, const char *text)
{
	struct dtype *dtype;
	bool shown;

	if (!view_formats[f].typed)
		return true;
	if (!*text || dtype_parse(text, &dtype))
		return false;
	shown = (f != FORMAT_ZARR && f != FORMAT_ZARR2) || zarr_can(zarr_version(f), dtype);
	free(dtype);
	return shown;
}

bool views_shows_entry(enum view_format f, const struct realm_entry *e)
{
	return S_ISREG(e->mode) && shows_type(f, e->dtype);
}
