/*
 * Which names there are below views/, and what they stand for.
 *
 * Invariants:
 *  1. What is listed can be looked up, and is then what the listing meant.
 *  2. In a directory, metadata files of the format come before mirrored directories, these before arrays and tables; among
 *     arrays, one whose own name it is before one whose name is shortened.
 */
#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "spillfs.h"
#include "store/store.h"
#include "tree/dir.h"
#include "tree/views/upload.h"
#include "tree/views/inside.h"

static const char *const classes[] = { "buckets", "columns", "layers" };
#define CLASS_KIND(k) ((enum array_kind)(ARRAY_BUCKET + (k)))
#define CHUNK_MASK ((1ull << 56) - 1)

static bool is_zarr(enum view_format f)
{
	return f == FORMAT_ZARR || f == FORMAT_ZARR2;
}

/* What a name of a source directory stands for. A file comes with a reference, *file_out; a directory without. */
static int source_child(struct tree *t, uint64_t dir, const char *name, struct tree_attr *attr, struct inode **file_out)
{
	int err = realm_of(t, dir)->lookup(t, dir, name, NULL, attr);

	*file_out = NULL;
	if (err)
		return err;
	if (S_ISREG(attr->st.st_mode))
		return inode_find(t, attr->st.st_ino, file_out);
	inode_forget(t, attr->st.st_ino, 1);
	return 0;
}

static bool source_is_dir(struct tree *t, uint64_t dir, const char *name)
{
	struct tree_attr attr;
	struct inode *i;

	if (source_child(t, dir, name, &attr, &i))
		return false;
	if (i)
		inode_put(i, 1);
	return S_ISDIR(attr.st.st_mode);
}

/*
 * Names that want the same view. An array STEM.f64 is shown as STEM.npy, unless one of its rivals is in the way: an array STEM,
 * or with another type behind it; a directory STEM, of formats that show it as a table; a directory STEM.npy.
 */
#define RIVALS_MAX (DTYPE_NSCALARS + 2)
struct rivals {
	struct meta *meta;
	enum view_format format;
	const char *stem;
	size_t n;
	struct rival {
		uint64_t ino;
		bool is_dir, shown; /* shown: an array that the format has a view of */
		char name[META_NAME_MAX + 1];
	} v[RIVALS_MAX];
};

/* STEM.f64? */
static bool is_typed(const char *stem, const char *name)
{
	size_t len = strlen(stem);

	return !strncmp(name, stem, len) && name[len] == '.' && !strchr(name + len + 1, '.') && dtype_of_name(name + len);
}

static bool has_suffix(const char *stem, const char *suffix, const char *name)
{
	size_t len = strlen(stem);

	return *suffix && !strncmp(name, stem, len) && !strcmp(name + len, suffix);
}

/* As inode_dtype_locked says, without an inode. */
static bool entry_is_shown(struct meta *m, enum view_format f, const struct meta_entry *e)
{
	char text[DTYPE_TEXT_MAX + 1] = "", one[META_NAME_MAX + 1];
	const char *name = e->name, *type;

	if (e->xattr && e->xattr_len <= DTYPE_TEXT_MAX)
		memcpy(text, e->xattr, e->xattr_len);
	if (e->xattr)
		return views_shows_type(f, text);
	/* Several names may say several types: the file has one of them. */
	if (e->nlink > 1 && !meta_name_of_locked(m, e->ino, NULL, one))
		name = one;
	type = dtype_of_name(name);
	return views_shows_type(f, type ? type : "");
}

static int add_rival(void *ctx, const struct meta_entry *e)
{
	struct rivals *r = ctx;
	struct rival *to = &r->v[r->n];

	if (r->n == RIVALS_MAX || (strcmp(e->name, r->stem) && !has_suffix(r->stem, view_formats[r->format].suffix, e->name) &&
				   !is_typed(r->stem, e->name)))
		return 0;
	to->ino = e->ino;
	to->is_dir = S_ISDIR(e->mode);
	to->shown = S_ISREG(e->mode) && entry_is_shown(r->meta, r->format, e);
	strcpy(to->name, e->name);
	r->n++;
	return 0;
}

/* All in one look. */
static int find_rivals_locked(struct tree *t, enum view_format f, uint64_t dir, const char *stem, struct rivals *out)
{
	*out = (struct rivals){ .meta = t->store->meta, .format = f, .stem = stem };
	return meta_entry_stem_locked(t->store->meta, dir, stem, SPILLFS_XATTR_DTYPE, add_rival, out);
}

/* A name that may be in a state of the past. */
static void try_rival(struct tree *t, uint64_t dir, struct rivals *r, const char *ext)
{
	struct rival *to = &r->v[r->n];
	char name[2 * META_NAME_MAX];
	struct tree_attr attr;
	struct inode *i;

	if (snprintf(name, sizeof(name), "%s%s", r->stem, ext) > META_NAME_MAX || source_child(t, dir, name, &attr, &i))
		return;
	to->ino = attr.st.st_ino;
	to->is_dir = S_ISDIR(attr.st.st_mode);
	to->shown = i && views_shows(r->format, i);
	strcpy(to->name, name);
	r->n++;
	if (i)
		inode_put(i, 1);
}

static int find_rivals(struct tree *t, enum view_format f, uint64_t dir, const char *stem, struct rivals *out)
{
	struct meta *m = t->store->meta;
	int err;

	if (!views_is_fixed(t, dir)) {
		meta_lock(m);
		err = find_rivals_locked(t, f, dir, stem, out);
		meta_unlock(m);
		return err;
	}
	*out = (struct rivals){ .meta = m, .format = f, .stem = stem };
	try_rival(t, dir, out, "");
	if (*view_formats[f].suffix)
		try_rival(t, dir, out, view_formats[f].suffix);
	for (int s = 0; s < DTYPE_NSCALARS; s++) {
		char ext[16];

		snprintf(ext, sizeof(ext), ".%s", dtype_scalar_name(s));
		try_rival(t, dir, out, ext);
	}
	return 0;
}

/* The array that STEM.npy stands for. NULL: none, or one of several. */
static const struct rival *array_of_stem(const struct rivals *r)
{
	const struct rival *only = NULL;

	for (size_t k = 0; k < r->n; k++) {
		const struct rival *a = &r->v[k];

		if (!strcmp(a->name, r->stem) && (a->shown || (a->is_dir && view_formats[r->format].tables)))
			return a->shown ? a : NULL;
	}
	for (size_t k = 0; k < r->n && view_formats[r->format].typed; k++) {
		if (!r->v[k].shown || !is_typed(r->stem, r->v[k].name))
			continue;
		if (only)
			return NULL;
		only = &r->v[k];
	}
	return only;
}

/* The array that is called as the stem. NULL: none that the format has a view of. */
static const struct rival *array_called_stem(const struct rivals *r)
{
	for (size_t k = 0; k < r->n; k++) {
		if (r->v[k].shown && !strcmp(r->v[k].name, r->stem))
			return &r->v[k];
	}
	return NULL;
}

/* The one of the stem's rivals that is picked, with a reference, and its name (may be NULL). Not in the past. */
static int live_array(struct tree *t, enum view_format f, uint64_t dir, const char *stem, const struct rival *(*pick)(const struct rivals *),
		      char *name, struct inode **out)
{
	struct meta *m = t->store->meta;
	const struct rival *a;
	struct rivals r;
	int err;

	meta_lock(m);
	err = find_rivals_locked(t, f, dir, stem, &r);
	a = err ? NULL : pick(&r);
	if (!err)
		err = a ? inode_get_locked(t, a->ino, out) : -ENOENT;
	meta_unlock(m);
	if (!err && name)
		strcpy(name, a->name);
	return err;
}

static int past_array(struct tree *t, enum view_format f, uint64_t dir, const char *name, struct inode **out)
{
	struct tree_attr attr;
	struct inode *i;
	int err = source_child(t, dir, name, &attr, &i);

	if (err)
		return err;
	if (i && views_shows(f, i)) {
		*out = i;
		return 0;
	}
	if (i)
		inode_put(i, 1);
	return -ENOENT;
}

/* The array called `name` if the format has a view of it, with a reference. */
static int shown_array(struct tree *t, enum view_format f, uint64_t dir, const char *name, struct inode **out)
{
	return views_is_fixed(t, dir) ? past_array(t, f, dir, name, out) : live_array(t, f, dir, name, array_called_stem, NULL, out);
}

int views_named(struct tree *t, const struct view_node *n, struct inode **out)
{
	struct inode *held;
	int err;

	if (n->key.role != VIEW_FILE)
		return -ENOENT;
	err = views_hold_dir(t, n->dir, &held);
	if (err)
		return err;
	err = shown_array(t, n->key.format, n->dir, n->name, out);
	views_let_go_dir(held);
	return err;
}

/* The array that a view's name without its suffix stands for, and that array's own name. */
static int find_array(struct tree *t, enum view_format f, uint64_t dir, const char *base, char name[META_NAME_MAX + 1],
		      struct inode **out)
{
	const struct rival *a;
	struct rivals r;
	int err;

	if (!views_is_fixed(t, dir))
		return live_array(t, f, dir, base, array_of_stem, name, out);
	err = find_rivals(t, f, dir, base, &r);
	a = err ? NULL : array_of_stem(&r);
	if (!err)
		err = a ? past_array(t, f, dir, a->name, out) : -ENOENT;
	if (!err)
		strcpy(name, a->name);
	return err;
}

static bool fits(enum view_format f, const char *base)
{
	return strlen(base) + strlen(view_formats[f].suffix) <= META_NAME_MAX;
}

/* Can `base` with the format's suffix be the name of a view: not too long, and no mirrored directory's? */
static bool is_free(struct tree *t, enum view_format f, uint64_t dir, const char *base)
{
	char file[2 * META_NAME_MAX];

	snprintf(file, sizeof(file), "%s%s", base, view_formats[f].suffix);
	return fits(f, base) && (!*view_formats[f].suffix || !source_is_dir(t, dir, file));
}

/* Does this one have the name that the array `name` would be shown by? */
static bool is_rival(const struct rivals *r, const struct rival *one, const char *name)
{
	bool whole = !strcmp(one->name, r->stem);

	if (one->is_dir)
		return whole ? view_formats[r->format].tables : has_suffix(r->stem, view_formats[r->format].suffix, one->name);
	return one->shown && strcmp(one->name, name) && (whole || is_typed(r->stem, one->name));
}

/* May the array `name` be shown as `stem`, which is it without its type? */
static bool may_shorten(struct tree *t, enum view_format f, uint64_t dir, const char *name, const char *stem)
{
	struct rivals r;
	bool alone = *stem && fits(f, stem) && !find_rivals(t, f, dir, stem, &r);

	for (size_t k = 0; alone && k < r.n; k++)
		alone = !is_rival(&r, &r.v[k], name);
	return alone;
}

/* The name of the array's view without the format's suffix. False: another thing has all names that it could have. */
static bool shown_name(struct tree *t, enum view_format f, uint64_t dir, const char *name, char out[META_NAME_MAX + 1])
{
	const char *type = dtype_of_name(name);

	strcpy(out, name);
	if (type && view_formats[f].typed) {
		out[strlen(name) - strlen(type) - 1] = '\0';
		if (may_shorten(t, f, dir, name, out))
			return true;
		strcpy(out, name);
	}
	return is_free(t, f, dir, name);
}

/* What the view of an array is, by the array's own name in its directory. */
static void array_key(const struct view_key *dir, uint64_t source, const char *name, struct view_key *out)
{
	views_file_key(dir->format, source, dir->source, name, out);
	if (is_zarr(dir->format) || dir->format == FORMAT_RUNS)
		out->role = VIEW_ARRAY;
}

/* Looking up. */

static bool strip(const char *name, const char *suffix, char out[META_NAME_MAX + 1])
{
	size_t len = strlen(name), n = strlen(suffix);

	if (len <= n || strcmp(name + len - n, suffix))
		return false;
	memcpy(out, name, len - n);
	out[len - n] = '\0';
	return true;
}

static int meta_of(enum view_format f, const char *name, bool group)
{
	if (f == FORMAT_RUNS && !group && !strcmp(name, VIEWS_INDEX))
		return 0;
	for (int what = ZARR_META_ARRAY; is_zarr(f) && what <= ZARR_META_GROUP; what++) {
		const char *meta = zarr_meta_name(zarr_version(f), what);

		if (!strcmp(meta, name) && what != (group ? ZARR_META_ARRAY : ZARR_META_GROUP))
			return what;
	}
	return -1;
}

int views_find(struct tree *t, const struct view_key *dir, const char *name, char own[META_NAME_MAX + 1], struct inode **out)
{
	char base[META_NAME_MAX + 1];
	int err = strip(name, view_formats[dir->format].suffix, base) ? find_array(t, dir->format, dir->source, base, own, out) : -ENOENT;

	if (err == -ENOENT && view_formats[dir->format].tables && strip(name, view_formats[dir->format].suffix, base) &&
	    source_is_dir(t, dir->source, base))
		err = -EROFS;
	return err;
}

/* A file that is being written, which counts a lookup. */
static int answer_upload(struct tree *t, struct inode *i, struct tree_attr *out)
{
	int err = views_getattr(t, i->ino, out);

	if (err)
		inode_put(i, 1);
	return err;
}

static int lookup_upload(struct tree *t, const struct view_key *dir, const char *name, struct tree_attr *out)
{
	struct inode *i;
	int err = dir->format == FORMAT_NPY ? upload_find(t, dir->source, name, &i) : -ENOENT;

	return err ? err : answer_upload(t, i, out);
}

static int lookup_in_dir(struct tree *t, const struct view_key *dir, const char *name, const struct tree_caller *who,
			struct tree_attr *out)
{
	struct view_key key = { .source = dir->source, .format = dir->format, .role = VIEW_GROUP };
	char base[META_NAME_MAX + 1], own[META_NAME_MAX + 1];
	const struct view_format_info *f = &view_formats[dir->format];
	int meta = meta_of(dir->format, name, true), err;
	struct tree_attr attr;
	struct inode *i, *upload;

	if (meta >= 0) {
		key.sub = (uint64_t)meta;
		return views_answer(t, &key, 0, NULL, who, out);
	}
	err = source_child(t, dir->source, name, &attr, &i);
	if (i)
		inode_put(i, 1);
	if (!err && S_ISDIR(attr.st.st_mode)) {
		key.role = VIEW_DIR;
		key.source = attr.st.st_ino;
		return views_answer(t, &key, 0, NULL, who, out);
	}
	if (!strip(name, f->suffix, base))
		return lookup_upload(t, dir, name, out);
	err = -ESTALE;
	for (int k = 0; err == -ESTALE && k < VIEWS_REPLACED_TRIES; k++) {
		err = find_array(t, dir->format, dir->source, base, own, &i);
		if (err)
			break;
		array_key(dir, i->ino, own, &key);
		err = dir->format == FORMAT_NPY ? upload_find_waiting(t, dir->source, own, who, &upload) : -ENOENT;
		err = err ? views_answer(t, &key, dir->source, own, who, out) : answer_upload(t, upload, out);
		inode_put(i, 1);
		if (err != -ESTALE)
			return err;
	}
	if (err == -ENOENT && dir->format == FORMAT_NPY)
		return lookup_upload(t, dir, name, out);
	if (err != -ENOENT || !f->tables || source_child(t, dir->source, base, &attr, &i))
		return err;
	if (i)
		inode_put(i, 1);
	if (!S_ISDIR(attr.st.st_mode))
		return -ENOENT;
	key.role = VIEW_TABLE;
	key.source = attr.st.st_ino;
	err = views_answer(t, &key, 0, NULL, who, out);
	return err == -ESTALE ? -ENOENT : err; /* not equally long arrays */
}

/* A number as it is listed: decimal, no zeros in front. */
static bool parse_number(const char *text, uint64_t *out)
{
	char *end;

	*out = strtoull(text, &end, 10);
	return end != text && !*end && *text >= '0' && *text <= '9' && (*text != '0' || !text[1]);
}

/* The axis of a chunk's name that counts; the others are 0. */
static unsigned counting_axis(const struct shape *s)
{
	return s->fortran && s->ndims ? s->ndims - 1 : 0;
}

/* "17.0.0" */
static int lookup_chunk2(const char *name, const struct shape *s, uint64_t n, uint64_t *out)
{
	char want[32 + 2 * SHAPE_DIMS_MAX];
	unsigned axis = counting_axis(s), dots = 0;
	const char *p = name;
	uint64_t chunk;
	size_t len = 0;

	for (; *p && dots < axis; p++)
		dots += *p == '.';
	chunk = strtoull(p, NULL, 10);
	for (unsigned k = 0; k < (s->ndims ? s->ndims : 1); k++)
		len += (size_t)snprintf(want + len, sizeof(want) - len, "%s%llu", k ? "." : "",
					(unsigned long long)(k == axis ? chunk : 0));
	if (strcmp(name, want) || chunk >= n)
		return -ENOENT;
	*out = chunk;
	return 0;
}

/* An entry of c/, c/17 … at this depth. */
static int lookup_chunk3(const struct view_key *dir, const char *name, const struct shape *s, uint64_t n, struct view_key *key)
{
	unsigned depth = (unsigned)(dir->sub >> 56);
	uint64_t chunk = dir->sub & CHUNK_MASK, at;
	bool counts = depth == counting_axis(s);

	if (depth >= s->ndims)
		return -ESTALE; /* it had more dimensions */
	if (!parse_number(name, &at) || at >= (counts ? n : n ? 1 : 0))
		return -ENOENT;
	if (counts)
		chunk = at;
	key->role = depth + 1 == s->ndims ? VIEW_CHUNK : VIEW_CHUNKS;
	key->sub = key->role == VIEW_CHUNK ? chunk : (uint64_t)(depth + 1) << 56 | chunk;
	return 0;
}

static int lookup_in_array(struct tree *t, struct inode *dir, const char *name, const struct tree_caller *who,
			struct tree_attr *out)
{
	const struct view_inode *node = view_of(dir);
	const struct view_key *d = &node->node.key;
	struct view_key key = { .source = d->source, .format = d->format, .role = VIEW_META };
	int meta = d->role == VIEW_ARRAY ? meta_of(d->format, name, false) : -1, err;
	struct view_facts facts;
	struct inode *source;
	uint64_t n, number;

	if (meta >= 0) {
		key.sub = (uint64_t)meta;
		return views_answer(t, &key, 0, NULL, who, out);
	}
	err = views_source(t, &node->node, &source);
	if (err)
		return err;
	err = views_children(source, d->format, &n, &facts);
	inode_put(source, 1);
	if (err)
		return err;
	if (d->format == FORMAT_RUNS) {
		char want[32] = "";

		number = strtoull(name, NULL, 10);
		snprintf(want, sizeof(want), "%06llu", (unsigned long long)number);
		err = !strcmp(name, want) && number < n ? 0 : -ENOENT;
		key.role = VIEW_RUN;
		key.sub = number;
	} else if (d->format == FORMAT_ZARR2) {
		key.role = VIEW_CHUNK;
		err = lookup_chunk2(name, &facts.shape, n, &key.sub);
	} else if (d->role == VIEW_CHUNKS) {
		err = lookup_chunk3(d, name, &facts.shape, n, &key);
	} else {
		err = strcmp(name, "c") ? -ENOENT : 0;
		key.role = facts.shape.ndims ? VIEW_CHUNKS : VIEW_CHUNK;
	}
	free(facts.dtype);
	return err ? err : views_answer(t, &key, 0, NULL, who, out);
}

static int lookup_held(struct tree *t, struct inode *dir, const char *name, const struct tree_caller *who,
			struct tree_attr *out)
{
	struct view_key key = { 0 };
	struct tree_attr attr;
	int err;

	key.source = view_of(dir)->node.key.source;
	switch (view_of(dir)->node.key.role) {
	case VIEW_TOP:
		key.role = VIEW_FORMAT;
		for (key.format = 0; key.format < FORMAT_N; key.format++) {
			if (!strcmp(view_formats[key.format].name, name))
				return views_answer(t, &key, 0, NULL, who, out);
		}
		return -ENOENT;
	case VIEW_FORMAT:
		key.format = view_of(dir)->node.key.format;
		key.role = VIEW_DIR;
		for (size_t k = 0; k < 3; k++) {
			if (strcmp(classes[k], name) || !(view_formats[key.format].kinds & 1u << CLASS_KIND(k)))
				continue;
			err = realm_of(t, key.source)->lookup(t, key.source, name, NULL, &attr);
			if (err)
				return err;
			inode_forget(t, attr.st.st_ino, 1);
			key.source = attr.st.st_ino;
			return views_answer(t, &key, 0, NULL, who, out);
		}
		return -ENOENT;
	case VIEW_DIR:
		return lookup_in_dir(t, &view_of(dir)->node.key, name, who, out);
	default:
		return lookup_in_array(t, dir, name, who, out);
	}
}

/* Of the roles whose source is a directory; those of arrays look at the source themselves. */
static int hold_source(struct tree *t, const struct view_key *key, struct inode **out)
{
	*out = NULL;
	return key->role == VIEW_FORMAT || key->role == VIEW_DIR ? views_hold_dir(t, key->source, out) : 0;
}

int views_lookup(struct tree *t, uint64_t parent, const char *name, const struct tree_caller *who, struct tree_attr *out)
{
	struct inode *dir, *held;
	int err = inode_find(t, parent, &dir);

	if (err)
		return err;
	if (!view_role_is_dir(view_of(dir)->node.key.role))
		return -ENOTDIR;
	err = hold_source(t, &view_of(dir)->node.key, &held);
	if (err)
		return err;
	err = lookup_held(t, dir, name, who, out);
	views_let_go_dir(held);
	return err;
}

/* Listing. */

#define META_COOKIES 2u /* of metadata files; others come behind them */

static bool add(struct tree_listing *l, uint64_t cookie, const struct view_key *key, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
static bool add(struct tree_listing *l, uint64_t cookie, const struct view_key *key, const char *fmt, ...)
{
	struct tree_dirent *d = dir_add(l, cookie, "");
	va_list ap;

	if (!d)
		return false;
	va_start(ap, fmt);
	vsnprintf(d->name, sizeof(d->name), fmt, ap);
	va_end(ap);
	d->attr.st.st_ino = views_number(key);
	d->attr.st.st_mode = view_role_is_dir(key->role) ? S_IFDIR : S_IFREG;
	return true;
}

/* What a listing tells of an entry of a source directory. */
struct source_entry {
	uint64_t cookie, ino;
	char name[META_NAME_MAX + 1];
	bool is_dir, shown; /* shown: an array that the format has a view of */
};

/* Entries of a mirrored directory that follow from one of its source. Its cookie counts twice: a directory may be a table. */
static void list_source(struct tree_listing *l, const struct view_key *dir, const struct source_entry *e, uint64_t after)
{
	const struct view_format_info *f = &view_formats[dir->format];
	struct view_key key = { .source = e->ino, .format = dir->format };
	char shown[META_NAME_MAX + 1];
	struct view_columns columns;

	if (e->is_dir) {
		key.role = VIEW_DIR;
		if (after < e->cookie * 2 && meta_of(dir->format, e->name, true) < 0)
			add(l, e->cookie * 2 + META_COOKIES, &key, "%s", e->name);
		if (f->tables && is_free(l->tree, dir->format, dir->source, e->name) && !views_columns(l->tree, key.source, &columns)) {
			views_columns_fini(&columns);
			key.role = VIEW_TABLE;
			add(l, e->cookie * 2 + 1 + META_COOKIES, &key, "%s%s", e->name, f->suffix);
		}
	} else if (e->shown && after < e->cookie * 2 && shown_name(l->tree, dir->format, dir->source, e->name, shown)) {
		array_key(dir, key.source, e->name, &key);
		add(l, e->cookie * 2 + META_COOKIES, &key, "%s%s", shown, f->suffix);
	}
}

#define SOURCE_BATCH 64u

struct source_batch {
	struct meta *meta;
	enum view_format format;
	uint64_t last; /* cookie */
	size_t n;
	struct source_entry v[SOURCE_BATCH];
};

static int add_source(void *ctx, const struct meta_entry *e)
{
	struct source_batch *b = ctx;
	struct source_entry *to = &b->v[b->n];

	if (b->n == SOURCE_BATCH || e->cookie > b->last)
		return 1;
	b->n++;
	to->cookie = e->cookie;
	to->ino = e->ino;
	strcpy(to->name, e->name);
	to->is_dir = S_ISDIR(e->mode);
	to->shown = S_ISREG(e->mode) && entry_is_shown(b->meta, b->format, e);
	return 0;
}

/* Entries behind a cookie; no file is looked up. */
static int read_present(struct tree *t, struct tree_dir *d, uint64_t dir, uint64_t at, struct source_batch *b)
{
	struct meta *m = t->store->meta;
	int err;

	b->meta = m;
	meta_lock(m);
	err = dir_last_locked(t, d, &b->last);
	if (!err)
		err = meta_entry_walk_locked(m, dir, at, SPILLFS_XATTR_DTYPE, add_source, b);
	meta_unlock(m);
	return err;
}

static int read_past(struct tree *t, struct tree_dir *d, uint64_t dir, uint64_t at, struct source_batch *b)
{
	struct tree_dirent *v = malloc(SOURCE_BATCH * sizeof(*v));
	struct tree_listing l = { .tree = t, .dir = d, .count = true, .v = v, .max = SOURCE_BATCH };
	struct inode *i;
	int err = v ? realm_of(t, dir)->readdir(t, dir, at, &l) : -ENOMEM;

	if (err)
		dir_uncount(&l, 0);
	else
		b->n = l.n;
	for (size_t k = 0; !err && k < b->n; k++) {
		struct source_entry *e = &b->v[k];

		*e = (struct source_entry){ .cookie = v[k].cookie, .ino = v[k].attr.st.st_ino };
		strcpy(e->name, v[k].name);
		e->is_dir = S_ISDIR(v[k].attr.st.st_mode);
		e->shown = S_ISREG(v[k].attr.st.st_mode) && !inode_find(t, e->ino, &i) && views_shows(b->format, i);
		if (v[k].counted)
			inode_forget(t, e->ino, 1);
	}
	free(v);
	return err;
}

static int read_source(struct tree *t, struct tree_dir *d, const struct view_key *dir, uint64_t at, struct source_batch *b)
{
	b->format = dir->format;
	b->n = 0;
	return views_is_fixed(t, dir->source) ? read_past(t, d, dir->source, at, b) : read_present(t, d, dir->source, at, b);
}

/* Files that are being written stand behind all others. Until it is replaced, an array has its name. */
#define UPLOAD_COOKIES (1ull << 60)

static void list_uploads(struct tree_listing *l, const struct view_key *dir, uint64_t cookie)
{
	uint64_t number = cookie > UPLOAD_COOKIES ? cookie - UPLOAD_COOKIES : 0, ino;
	char name[META_NAME_MAX + 1], own[META_NAME_MAX + 1];
	struct inode *i;

	while (l->n < l->max && !upload_next(l->tree, dir->source, number, &number, name, &ino)) {
		if (!views_find(l->tree, dir, name, own, &i)) {
			inode_put(i, 1);
			continue;
		}
		add(l, UPLOAD_COOKIES + number, &(struct view_key){ .role = VIEW_NEW }, "%s", name);
		l->v[l->n - 1].attr.st.st_ino = ino;
	}
}

static int list_dir(struct tree_listing *l, const struct view_key *dir, uint64_t cookie)
{
	struct view_key key = { .source = dir->source, .format = dir->format, .role = VIEW_GROUP };
	struct source_batch *b = malloc(sizeof(*b));
	uint64_t at = cookie > META_COOKIES ? (cookie - META_COOKIES) / 2 : 0, after = at * 2 + ((cookie - META_COOKIES) & 1);
	int err = b ? 0 : -ENOMEM;

	if (cookie <= META_COOKIES)
		after = 0;
	else if (!(after & 1))
		at--; /* its table may still be missing */
	for (key.sub = cookie; is_zarr(dir->format) && key.sub < META_COOKIES; key.sub++) {
		const char *name = zarr_meta_name(zarr_version(dir->format), (enum zarr_meta)key.sub);

		if (key.sub != ZARR_META_ARRAY)
			add(l, key.sub + 1, &key, "%s", name);
	}
	while (!err && l->n < l->max && cookie < UPLOAD_COOKIES) {
		err = read_source(l->tree, l->dir, dir, at, b);
		if (err || !b->n)
			break;
		for (size_t k = 0; k < b->n && l->n < l->max; k++) {
			list_source(l, dir, &b->v[k], after);
			at = b->v[k].cookie;
		}
	}
	free(b);
	if (!err && dir->format == FORMAT_NPY && !views_is_fixed(l->tree, dir->source))
		list_uploads(l, dir, cookie);
	return err;
}

static void list_chunks(struct tree_listing *l, const struct view_key *dir, const struct shape *s, uint64_t n, uint64_t cookie)
{
	struct view_key key = { .source = dir->source, .format = dir->format, .role = VIEW_CHUNK };
	unsigned axis = counting_axis(s), depth = (unsigned)(dir->sub >> 56);
	char tail[2 * SHAPE_DIMS_MAX + 1] = "", head[2 * SHAPE_DIMS_MAX + 1] = "";

	if (dir->format == FORMAT_RUNS)
		key.role = VIEW_RUN;
	for (unsigned k = 0; dir->format == FORMAT_ZARR2 && k < s->ndims; k++)
		strcat(k < axis ? head : tail, k < axis ? "0." : k > axis ? ".0" : "");
	if (dir->format == FORMAT_ZARR && depth != axis)
		n = n ? 1 : 0;
	for (uint64_t at = cookie; at < n; at++) {
		key.sub = at;
		if (dir->format == FORMAT_ZARR && depth + 1 < s->ndims) {
			key.role = VIEW_CHUNKS;
			key.sub = (uint64_t)(depth + 1) << 56 | (depth == axis ? at : dir->sub & CHUNK_MASK);
		} else if (dir->format == FORMAT_ZARR && depth != axis) {
			key.sub = dir->sub & CHUNK_MASK;
		}
		if (!add(l, at + 1 + META_COOKIES, &key, dir->format == FORMAT_RUNS ? "%s%06llu%s" : "%s%llu%s", head,
			 (unsigned long long)at, tail))
			break;
	}
}

static int list_array(struct tree_listing *l, struct inode *dir, uint64_t cookie)
{
	const struct view_key *d = &view_of(dir)->node.key;
	struct view_key key = { .source = d->source, .format = d->format, .role = VIEW_META };
	struct view_facts facts;
	struct inode *source;
	uint64_t n;
	int err = views_source(l->tree, &view_of(dir)->node, &source);

	if (!err) {
		err = views_children(source, d->format, &n, &facts);
		inode_put(source, 1);
	}
	if (err)
		return err == -ESTALE ? 0 : err; /* of an array that is gone: empty, as a removed directory */
	for (key.sub = cookie; d->role == VIEW_ARRAY && is_zarr(d->format) && key.sub < META_COOKIES; key.sub++) {
		const char *name = zarr_meta_name(zarr_version(d->format), (enum zarr_meta)key.sub);

		if (key.sub != ZARR_META_GROUP)
			add(l, key.sub + 1, &key, "%s", name);
	}
	cookie = cookie > META_COOKIES ? cookie - META_COOKIES : 0;
	if (d->role == VIEW_ARRAY && d->format == FORMAT_ZARR) {
		key.role = facts.shape.ndims ? VIEW_CHUNKS : VIEW_CHUNK;
		key.sub = 0;
		if (!cookie)
			add(l, META_COOKIES + 1, &key, "c");
	} else {
		list_chunks(l, d, &facts.shape, n, cookie);
	}
	free(facts.dtype);
	return 0;
}

static int list_held(struct tree *t, struct inode *dir, uint64_t cookie, struct tree_listing *l)
{
	struct view_key key = { 0 };
	struct tree_attr attr;
	int err = 0;

	key.source = view_of(dir)->node.key.source;
	key.format = view_of(dir)->node.key.format;
	switch (view_of(dir)->node.key.role) {
	case VIEW_TOP:
		key.role = VIEW_FORMAT;
		for (key.format = (enum view_format)cookie; key.format < FORMAT_N; key.format++)
			add(l, key.format + 1u, &key, "%s", view_formats[key.format].name);
		break;
	case VIEW_FORMAT:
		key.role = VIEW_DIR;
		for (uint64_t k = cookie; k < 3; k++) {
			struct view_key child = key;

			if (!(view_formats[key.format].kinds & 1u << CLASS_KIND(k)) ||
			    realm_of(t, key.source)->lookup(t, key.source, classes[k], NULL, &attr))
				continue;
			inode_forget(t, attr.st.st_ino, 1);
			child.source = attr.st.st_ino;
			add(l, k + 1, &child, "%s", classes[k]);
		}
		break;
	case VIEW_DIR:
		err = list_dir(l, &view_of(dir)->node.key, cookie);
		break;
	default:
		err = list_array(l, dir, cookie);
	}
	return err;
}

int views_readdir(struct tree *t, uint64_t ino, uint64_t cookie, struct tree_listing *to)
{
	struct inode *dir, *held;
	int err = inode_find(t, ino, &dir);

	if (!err)
		err = hold_source(t, &view_of(dir)->node.key, &held);
	if (err)
		return err;
	err = list_held(t, dir, cookie, to);
	views_let_go_dir(held);
	return err;
}
