/*
 * What the files below views/ hold: which arrays they show, as what, pinned.
 *
 * Invariants:
 *  1. A source is pinned, or opened, with its inode locked exclusively; of several, one at a time.
 *  2. A bucket or column that is shown keeps its inode while the view is open; a layered array only its frames.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "array/pin.h"
#include "array/runs.h"
#include "array/setting.h"
#include "spillfs.h"
#include "store/store.h"
#include "tree/dir.h"
#include "tree/views/inside.h"

#define COLUMNS_MAX 4096u

/* Facts. */

static void read_settings_locked(struct inode *i, struct view_facts *out)
{
	char *shape = inode_setting_locked(i, SPILLFS_XATTR_SHAPE), *order = inode_setting_locked(i, SPILLFS_XATTR_ORDER);
	char *logical = inode_setting_locked(i, SPILLFS_XATTR_LOGICAL);
	char *filter = inode_setting_locked(i, SPILLFS_XATTR_FILTER), *codec = inode_setting_locked(i, SPILLFS_XATTR_CODEC);
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
	err = inode_dtype_locked(i, &text);
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

bool views_shows_type(enum view_format f, const char *text)
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

bool views_shows(enum view_format f, struct inode *i)
{
	const struct view_format_info *info = &view_formats[f];
	struct meta *m = i->tree->store->meta;
	char *text;
	bool shown;
	int err;

	if (!S_ISREG(i->mode) || !(info->kinds & 1u << i->kind))
		return false;
	if (!info->typed)
		return true;
	meta_lock(m);
	err = inode_dtype_locked(i, &text);
	meta_unlock(m);
	if (err)
		return false;
	shown = views_shows_type(f, text);
	free(text);
	return shown;
}

/* Columns of a table. */

void views_columns_fini(struct view_columns *c)
{
	for (size_t k = 0; k < c->n; k++) {
		inode_put(c->v[k].inode, 1);
		free(c->v[k].name);
	}
	free(c->v);
}

/* Takes the reference over. */
static int add_column(struct view_columns *c, struct inode *i, const char *name)
{
	char *copy = strdup(name);
	int err = copy ? 0 : -ENOMEM;

	if (!err && c->n == COLUMNS_MAX)
		err = -ENOENT;
	if (!err && c->n == c->cap) {
		size_t cap = c->cap ? c->cap * 2 : 8;
		void *v = realloc(c->v, cap * sizeof(*c->v));

		if (v) {
			c->v = v;
			c->cap = cap;
		}
		err = v ? 0 : -ENOMEM;
	}
	if (err) {
		free(copy);
		inode_put(i, 1);
		return err;
	}
	c->v[c->n++] = (struct view_column){ .inode = i, .name = copy };
	return 0;
}

/* The length that a column's name has without the suffix of its type; whole if another would have the same name then. */
static size_t short_length(const struct view_columns *c, size_t k)
{
	const char *name = c->v[k].name, *type = dtype_of_name(name);
	size_t whole = strlen(name), len = type ? whole - strlen(type) - 1 : 0;

	for (size_t j = 0; j < c->n && len; j++) {
		const char *other = c->v[j].name;

		if (j != k && !strncmp(other, name, len) && (!other[len] || (other[len] == '.' && dtype_of_name(other + len) &&
									     !strchr(other + len + 1, '.'))))
			return whole;
	}
	return len ? len : whole;
}

static int add_typed(struct tree *t, const struct tree_dirent *d, uint64_t *count, struct view_columns *c)
{
	struct view_facts facts;
	struct inode *i;
	bool fits;
	int err = inode_find(t, d->attr.st.st_ino, &i);

	if (!err)
		err = views_facts(i, &facts);
	if (err || !facts.dtype)
		return err;
	free(facts.dtype);
	fits = !c->n || facts.count == *count;
	*count = facts.count;
	if (!fits)
		return -ENOENT;
	inode_ref(i);
	return add_column(c, i, d->name);
}

#define BATCH 32u

int views_columns(struct tree *t, uint64_t dir, struct view_columns *out)
{
	struct tree_dirent *v = malloc(BATCH * sizeof(*v));
	struct view_columns c = { 0 };
	uint64_t cookie = 0, count = 0;
	struct inode *held = NULL;
	struct tree_dir *d = NULL;
	size_t n = 1;
	int err = v ? tree_dir_open(t, &d) : -ENOMEM;

	if (!err)
		err = views_hold_dir(t, dir, &held);

	while (!err && n) {
		struct tree_listing l = { .tree = t, .dir = d, .count = true, .v = v, .max = BATCH };

		err = realm_of(t, dir)->readdir(t, dir, cookie, &l);
		n = l.n;
		if (n)
			cookie = v[n - 1].cookie;
		for (size_t k = 0; k < n; k++) {
			if (!err && S_ISREG(v[k].attr.st.st_mode))
				err = add_typed(t, &v[k], &count, &c);
			if (v[k].counted)
				inode_forget(t, v[k].attr.st.st_ino, 1);
		}
	}
	free(v);
	if (d)
		tree_dir_release(t, d);
	views_let_go_dir(held);
	if (!err && !c.n)
		err = -ENOENT;
	for (size_t k = 0; k < c.n; k++)
		c.v[k].short_len = short_length(&c, k);
	for (size_t k = 0; k < c.n; k++)
		c.v[k].name[c.v[k].short_len] = '\0';
	if (err) {
		views_columns_fini(&c);
		return err;
	}
	*out = c;
	return 0;
}

/* Versions. */

int views_version(struct tree *t, const struct view_node *n, uint64_t *out)
{
	struct view_columns c;
	struct inode *i;
	uint64_t sum = 0;
	int err;

	if (n->key.role == VIEW_GROUP) {
		*out = 1;
		return 0;
	}
	if (n->key.role != VIEW_TABLE) {
		if (views_is_fixed(t, n->key.source)) {
			*out = 1; /* the number is that of a version */
			return 0;
		}
		err = views_source(t, n, &i);
		if (err)
			return err;
		*out = atomic_load(&i->version);
		inode_put(i, 1);
		return 0;
	}
	err = views_columns(t, n->key.source, &c);
	if (err)
		return err == -ENOENT ? -ESTALE : err;
	for (size_t k = 0; k < c.n; k++)
		sum = (sum ^ atomic_load(&c.v[k].inode->version)) * 0x9E3779B97F4A7C15ull + c.v[k].inode->ino;
	views_columns_fini(&c);
	*out = sum;
	return 0;
}

/* Sources. */

static void let_go_pin(struct view_source *s)
{
	array_close(s->array);
}

static void let_go_inode(struct view_source *s)
{
	inode_let_go_array(s->owner);
	inode_put(s->owner, 1);
}

enum lay_how {
	LAY_SIZE,   /* only the array's size counts, which needs no array */
	LAY_BLOCKS, /* the array is open, nothing is pinned */
	LAY_LOOK,   /* pinned, but for a look at the size alone: while somebody writes the array, what waits to be encoded waits on */
	LAY_PINNED,
	LAY_LIVE,   /* to be written: the array itself */
};

/* i's array as a source of v, its lock held. */
static int add_locked(struct view *v, struct inode *i, enum lay_how how, unsigned *out)
{
	struct view_source s = { 0 };
	struct array *a;
	int err = inode_need_array(i, &a);

	if (err)
		return err;
	s.size_bytes = a->size_bytes;
	if (i->kind == ARRAY_LAYERED)
		s.block_bytes = a->params.block_bytes;
	if (how >= LAY_LOOK && how != LAY_LIVE && i->kind == ARRAY_LAYERED) {
		s.let_go = let_go_pin;
		if (!i->realm->fixed && (how == LAY_PINNED || i->tree->sizes_stick || !atomic_load(&live_of(i)->nwriters)))
			err = array_flush(a);
		/* Where there is no room for them, blocks can wait on; their sizes are not final then. */
		if (err == -ENOSPC && how == LAY_LOOK)
			err = 0;
		if (!err)
			err = pin_array(a, 0, s.size_bytes, &s.array);
	} else if (how >= LAY_LOOK) {
		inode_ref(i);
		inode_hold_array(i);
		s.array = a;
		s.rw = &i->rw;
		s.owner = i;
		s.let_go = let_go_inode;
	}
	if (!err)
		*out = view_source_add(v, &s);
	return err;
}

static int add_source(struct view *v, struct inode *i, enum lay_how how, unsigned *out)
{
	int err;

	if (how == LAY_SIZE) {
		*out = view_source_add(v, &(struct view_source){ .size_bytes = atomic_load(&i->size_bytes) });
		return 0;
	}
	rwlock_exclusive(&i->rw);
	err = add_locked(v, i, how, out);
	inode_idle_array(i);
	rwlock_release(&i->rw);
	return err;
}

/* Laying out. */

static int lay_array(struct view *v, const struct view_key *key, const struct view_input *in)
{
	switch (key->format) {
	case FORMAT_NPY:
		return npy_lay(v, in);
	case FORMAT_PARQUET:
		return parquet_lay(v, in, 1);
	case FORMAT_ARROW:
		return arrow_lay(v, in, 1);
	case FORMAT_ZST:
		return zst_lay(v, in);
	default:
		return -ESTALE;
	}
}

/* The runs of i, locked for as long as they are used. */
static int lock_runs(struct inode *i, const struct runs **out)
{
	struct array *a;
	int err;

	rwlock_exclusive(&i->rw);
	err = inode_need_array(i, &a);
	if (err)
		rwlock_release(&i->rw);
	else
		*out = array_runs(a);
	return err;
}

static void unlock_runs(struct inode *i)
{
	inode_idle_array(i);
	rwlock_release(&i->rw);
}

static int lay_run(struct view *v, struct inode *i, uint64_t run, unsigned source)
{
	uint64_t size = view_source_bytes(v, source), begin, end;
	const struct runs *r;
	int err = lock_runs(i, &r);

	if (err)
		return err;
	if (run < runs_count(r, size))
		runs_range(r, run, size, &begin, &end);
	else
		err = -ESTALE;
	unlock_runs(i);
	if (err)
		return err;
	view_put_data(v, source, begin, end > begin ? end - begin : 0);
	return view_end(v);
}

/* index.u64: where each run begins, and the size. Only its length counts where it is not to be read. */
static int lay_index(struct view *v, struct inode *i, enum lay_how how, unsigned source)
{
	uint64_t size = view_source_bytes(v, source), n, begin, end = 0;
	const struct runs *r;
	int err = lock_runs(i, &r);

	if (err)
		return err;
	n = runs_count(r, size);
	if (how < LAY_PINNED)
		view_put_zeros(v, (n + 1) * sizeof(end));
	for (uint64_t k = 0; how == LAY_PINNED && k < n; k++) {
		runs_range(r, k, size, &begin, &end);
		view_put(v, &begin, sizeof(begin));
	}
	if (how == LAY_PINNED)
		view_put(v, &end, sizeof(end));
	unlock_runs(i);
	return view_end(v);
}

/* The only column of an array's file: its name without the suffix of a type. */
static void column_name(const struct view_node *n, char out[META_NAME_MAX + 1])
{
	const char *name = n->key.role == VIEW_FILE ? n->name : "", *type = dtype_of_name(name);
	size_t len = type ? strlen(name) - strlen(type) - 1 : strlen(name);

	if (!len)
		len = strlen(name);
	memcpy(out, name, len);
	out[len] = '\0';
}

static int lay_one(struct view *v, struct inode *i, const struct view_node *n, const struct view_facts *facts, enum lay_how how,
		   unsigned source)
{
	const struct view_key *key = &n->key;
	char column[META_NAME_MAX + 1];
	struct view_input in = { .name = column, .dtype = facts->dtype, .logical = facts->logical, .shape = facts->shape,
				 .count = facts->count, .source = source, .shuffles = facts->shuffles };

	column_name(n, column);
	if (key->role == VIEW_RUN)
		return lay_run(v, i, key->sub, source);
	if (key->format == FORMAT_RUNS)
		return lay_index(v, i, how, source);
	if (!in.dtype && view_formats[key->format].typed)
		return -ESTALE;
	/* The size may be another since the facts were read. */
	if (in.dtype) {
		shape_fit(&in.shape, view_source_bytes(v, source) / in.dtype->bytes);
		in.count = shape_count(&in.shape);
	}
	if (key->role == VIEW_META)
		return zarr_meta_lay(v, zarr_version(key->format), (enum zarr_meta)key->sub, &in);
	if (key->role != VIEW_CHUNK)
		return lay_array(v, key, &in);
	if (key->sub >= zarr_nchunks(v, &in))
		return -ESTALE;
	return zarr_chunk_lay(v, &in, key->sub);
}

static int lay_source(struct view *v, struct tree *t, const struct view_node *n, enum lay_how how)
{
	struct view_facts facts;
	struct inode *i;
	unsigned source;
	int err = views_source(t, n, &i);

	if (err)
		return err;
	err = views_facts(i, &facts);
	if (!err) {
		err = add_source(v, i, how, &source);
		if (!err)
			err = lay_one(v, i, n, &facts, how, source);
		free(facts.dtype);
	}
	inode_put(i, 1);
	return err;
}

static int lay_table(struct view *v, struct tree *t, const struct view_node *n, enum lay_how how)
{
	struct view_columns c;
	struct view_facts facts;
	struct view_input *in;
	size_t done = 0;
	int err = views_columns(t, n->key.source, &c);

	if (err)
		return err == -ENOENT ? -ESTALE : err;
	in = calloc(c.n, sizeof(*in));
	err = in ? 0 : -ENOMEM;
	for (; !err && done < c.n; done++) {
		unsigned source = 0;

		err = views_facts(c.v[done].inode, &facts);
		if (err)
			break;
		err = facts.dtype ? add_source(v, c.v[done].inode, how, &source) : -ESTALE;
		if (!err) {
			shape_fit(&facts.shape, view_source_bytes(v, source) / facts.dtype->bytes);
			facts.count = shape_count(&facts.shape);
		}
		in[done] = (struct view_input){ c.v[done].name, facts.dtype, facts.logical, facts.shape, facts.count, source, false };
		if (!err && facts.count != in[0].count)
			err = -ESTALE;
	}
	if (!err)
		err = n->key.format == FORMAT_PARQUET ? parquet_lay(v, in, c.n) : arrow_lay(v, in, c.n);
	for (size_t k = 0; in && k < c.n; k++)
		free((void *)in[k].dtype);
	free(in);
	views_columns_fini(&c);
	return err;
}

/* What it takes to know the size of a file. */
static enum lay_how look_of(enum view_format f)
{
	if (view_formats[f].framed)
		return LAY_LOOK;
	return f == FORMAT_RUNS ? LAY_BLOCKS : LAY_SIZE;
}

int views_lay(struct tree *t, const struct view_node *n, bool to_read, struct view **out)
{
	enum lay_how how = to_read ? (n->live ? LAY_LIVE : LAY_PINNED) : look_of(n->key.format);
	struct view *v;
	int err = view_new(&v);

	if (err)
		return err;
	if (n->key.role == VIEW_TABLE)
		err = lay_table(v, t, n, how);
	else if (n->key.role == VIEW_GROUP)
		err = zarr_meta_lay(v, zarr_version(n->key.format), (enum zarr_meta)n->key.sub, NULL);
	else
		err = lay_source(v, t, n, how);
	if (!err)
		err = view_end(v);
	if (err) {
		view_free(v);
		return err;
	}
	*out = v;
	return 0;
}

/* Entries of a directory of chunks or runs. */

static int count_runs(struct inode *i, uint64_t *out)
{
	const struct runs *r;
	int err = lock_runs(i, &r);

	if (err)
		return err;
	*out = runs_count(r, i->array->size_bytes);
	unlock_runs(i);
	return 0;
}

int views_children(struct inode *source, enum view_format f, uint64_t *n_out, struct view_facts *facts_out)
{
	struct view_facts facts;
	struct view_input in;
	struct view *v;
	int err;

	if (f == FORMAT_RUNS) {
		*facts_out = (struct view_facts){ 0 };
		return count_runs(source, n_out);
	}
	err = views_facts(source, &facts);
	if (!err && !facts.dtype)
		err = -ESTALE;
	if (!err)
		err = view_new(&v);
	if (err)
		return err;
	in = (struct view_input){ "", facts.dtype, facts.logical, facts.shape, facts.count, 0, facts.shuffles };
	err = add_source(v, source, LAY_BLOCKS, &in.source);
	if (!err)
		*n_out = zarr_nchunks(v, &in);
	view_free(v);
	if (err)
		free(facts.dtype);
	else
		*facts_out = facts;
	return err;
}
