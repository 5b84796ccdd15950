/*
 * An array as a format sees it.
 */
#include <errno.h>
#include <stdlib.h>

#include "array/setting.h"
#include "store/store.h"
#include "tree/views/inside.h"

/* Steps that blocks may be stored with. What AUTO finds for them is another filter for each: of those that it tries, most formats can name
 * the shuffle. */
static uint8_t face_of(const struct codec_params *c)
{
	if (c->policy != CODEC_POLICY_AUTO)
		return (uint8_t)c->policy;
	return codec_compresses(c->level) ? FILTER_SHUFFLE : FILTER_NONE;
}

int views_facts(struct inode *i, struct view_facts *out)
{
	struct meta *m = i->tree->store->meta;
	struct view_facts facts = { .size_bytes = inode_size(i) };
	struct settings s;
	char *text;
	int err;

	meta_lock(m);
	err = settings_read_locked(i, &s, &text);
	meta_unlock(m);
	if (err)
		return err;
	err = *text ? dtype_parse(text, &facts.dtype) : 0;
	free(text);
	if (err && err != -EINVAL)
		return err;
	facts.shape = s.shape;
	facts.filter = face_of(&s.codec);
	if (facts.dtype) {
		if (logical_fits(&s.logical, facts.dtype))
			facts.logical = s.logical;
		shape_fit(&facts.shape, facts.size_bytes / facts.dtype->bytes);
		facts.count = shape_count(&facts.shape);
	}
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
	return S_ISREG(e->mode) && (view_formats[f].kinds & 1u << e->kind) && shows_type(f, e->dtype);
}
