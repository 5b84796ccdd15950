/*
 * The names below views/, and what they stand for.
 *
 * Invariants:
 *  1. Every listed name can be looked up, and is then what the listing meant.
 *  2. In a directory, metadata files of the format come before mirrored directories, these before arrays and tables; among
 *     arrays, one whose own name it is before one whose name is shortened.
 */
#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/classes.h"
#include "tree/dir.h"
#include "tree/live/live.h"
#include "tree/scratch/scratch.h"
#include "tree/views/inside.h"
#include "tree/views/upload.h"
#include "util/number.h"

#define CHUNK_MASK ((1ull << 56) - 1)

static bool is_zarr(enum view_format f)
{
	return f == FORMAT_ZARR || f == FORMAT_ZARR2;
}

/* The key of an array's view, by the array's own name in its directory. */
static void array_key(const struct view_key *dir, uint64_t source, const char *name, struct view_key *out)
{
	views_file_key(dir->format, source, dir->source, name, out);
	if (is_zarr(dir->format) || dir->format == FORMAT_RUNS)
		out->role = VIEW_ARRAY;
}

/* Looking up. */

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

/* A file that is being written, which counts a lookup. */
static int answer_upload(struct tree *t, struct inode *i, struct tree_attr *out)
{
	int err = views_getattr(t, i->facts.ino, out);

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
	err = views_source_child(t, dir->source, name, &attr, &i);
	if (i)
		inode_put(i, 1);
	if (!err && S_ISDIR(attr.st.st_mode)) {
		key.role = VIEW_DIR;
		key.source = live_shelf_of(t, attr.st.st_ino);
		return views_answer(t, &key, 0, NULL, who, out);
	}
	if (!views_strip(name, f->suffix, base))
		return lookup_upload(t, dir, name, out);
	err = -ESTALE;
	for (int k = 0; err == -ESTALE && k < VIEWS_REPLACED_TRIES; k++) {
		err = views_find_array(t, dir->format, dir->source, base, own, &i);
		if (err)
			break;
		array_key(dir, i->facts.ino, own, &key);
		err = dir->format == FORMAT_NPY ? upload_find_waiting(t, dir->source, own, who, &upload) : -ENOENT;
		err = err ? views_answer(t, &key, dir->source, own, who, out) : answer_upload(t, upload, out);
		inode_put(i, 1);
		if (err != -ESTALE)
			return err;
	}
	if (err == -ENOENT && dir->format == FORMAT_NPY)
		return lookup_upload(t, dir, name, out);
	if (err != -ENOENT || !f->tables || views_source_child(t, dir->source, base, &attr, &i))
		return err;
	if (i)
		inode_put(i, 1);
	if (!S_ISDIR(attr.st.st_mode))
		return -ENOENT;
	key.role = VIEW_TABLE;
	key.source = live_shelf_of(t, attr.st.st_ino);
	err = views_answer(t, &key, 0, NULL, who, out);
	return err == -ESTALE ? -ENOENT : err; /* not equally long arrays */
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
	if (number_scan(&p, &chunk))
		return -ENOENT;
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
	if (number_of_name(name, 1, "", &at) || at >= (counts ? n : n ? 1 : 0))
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
	uint64_t n;

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
		err = !number_of_name(name, 6, "", &key.sub) && key.sub < n ? 0 : -ENOENT;
		key.role = VIEW_RUN;
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

/* The folders that formats mirror: those of the classes, and scratch/ beside them. */
#define FOLDERS_N (CLASSES_N + 1u)

/* Folder k of a root. -ENOENT: it is not there, or the format has no views of what is in it. */
static int find_folder(struct tree *t, const struct view_key *key, uint64_t k, const char **name_out, uint64_t *dir_out)
{
	bool scratch = k == CLASSES_N;
	const char *name = scratch ? SCRATCH_NAME : classes[k].name;
	struct tree_attr attr;
	int err;

	if (scratch)
		err = key->source == META_INO_ROOT && t->scratch ? t->realms[REALM_SCRATCH]->enter(t, key->source, &attr) : -ENOENT;
	else if (view_formats[key->format].kinds & 1u << classes[k].kind)
		err = realm_of(t, key->source)->lookup(t, key->source, name, NULL, &attr);
	else
		err = -ENOENT;
	if (err)
		return err;
	inode_forget(t, attr.st.st_ino, 1);
	*name_out = name;
	*dir_out = live_shelf_of(t, attr.st.st_ino);
	return 0;
}

static int lookup_folder(struct tree *t, const struct view_key *format, const char *name, const struct tree_caller *who,
			 struct tree_attr *out)
{
	struct view_key key = { .source = format->source, .format = format->format, .role = VIEW_DIR };
	const char *folder;
	int err = -ENOENT;

	for (uint64_t k = 0; k < FOLDERS_N && err == -ENOENT; k++) {
		err = find_folder(t, format, k, &folder, &key.source);
		if (!err && strcmp(folder, name))
			err = -ENOENT;
	}
	return err ? err : views_answer(t, &key, 0, NULL, who, out);
}

static int lookup_held(struct tree *t, struct inode *dir, const char *name, const struct tree_caller *who,
		       struct tree_attr *out)
{
	struct view_key key = { 0 };

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
		return lookup_folder(t, &view_of(dir)->node.key, name, who, out);
	case VIEW_DIR:
		return lookup_in_dir(t, &view_of(dir)->node.key, name, who, out);
	default:
		return lookup_in_array(t, dir, name, who, out);
	}
}

/* The source of roles whose source is a directory; those of arrays look at it themselves. */
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

/* An entry of a source directory, as a listing tells it. */
struct source_entry {
	uint64_t cookie, ino;
	char name[META_NAME_MAX + 1];
	bool is_dir, shown; /* shown: an array that the format has a view of */
};

/* Lists what one entry of the source gives in the mirrored directory. A directory may be a table as well, so each cookie of the
 * source counts as two. */
static void list_source(struct tree_listing *l, const struct view_key *dir, const struct source_entry *e, uint64_t after)
{
	const struct view_format_info *f = &view_formats[dir->format];
	struct view_key key = { .source = e->ino, .format = dir->format };
	char shown[META_NAME_MAX + 1];
	struct view_columns columns;

	if (e->is_dir) {
		key.role = VIEW_DIR;
		key.source = live_shelf_of(l->tree, e->ino);
		if (after < e->cookie * 2 && meta_of(dir->format, e->name, true) < 0)
			add(l, e->cookie * 2 + META_COOKIES, &key, "%s", e->name);
		if (f->tables && views_name_is_free(l->tree, dir->format, dir->source, e->name) && !views_columns(l->tree, key.source, &columns)) {
			views_columns_fini(&columns);
			key.role = VIEW_TABLE;
			add(l, e->cookie * 2 + 1 + META_COOKIES, &key, "%s%s", e->name, f->suffix);
		}
	} else if (e->shown && after < e->cookie * 2 && views_shown_name(l->tree, dir->format, dir->source, e->name, shown)) {
		array_key(dir, key.source, e->name, &key);
		add(l, e->cookie * 2 + META_COOKIES, &key, "%s%s", shown, f->suffix);
	}
}

#define SOURCE_BATCH 64u

struct source_batch {
	enum view_format format;
	size_t n;
	struct source_entry v[SOURCE_BATCH];
};

static int add_source(void *ctx, const struct realm_entry *e)
{
	struct source_batch *b = ctx;
	struct source_entry *to = &b->v[b->n];

	if (b->n == SOURCE_BATCH)
		return 1;
	b->n++;
	to->cookie = e->cookie;
	to->ino = e->ino;
	strcpy(to->name, e->name);
	to->is_dir = S_ISDIR(e->mode);
	to->shown = views_shows_entry(b->format, e);
	return 0;
}

/* Entries behind a cookie; no file is looked up. */
static int read_source(struct tree *t, struct tree_dir *d, const struct view_key *dir, uint64_t at, struct source_batch *b)
{
	b->format = dir->format;
	b->n = 0;
	return realm_of(t, dir->source)->walk(t, d, dir->source, at, add_source, b);
}

/* In listings uploads stand behind all others. An array that an upload will replace keeps its name until then. */
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
		for (uint64_t k = cookie; k < FOLDERS_N; k++) {
			struct view_key child = { .format = key.format, .role = VIEW_DIR };
			const char *name;

			if (!find_folder(t, &key, k, &name, &child.source))
				add(l, k + 1, &child, "%s", name);
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
