/*
 * The layout of the files below views/: which arrays they show, as what, pinned.
 *
 * Invariants:
 *  1. A source is pinned, or opened, with its inode locked exclusively; of several, one at a time.
 *  2. A bucket or column that is shown keeps its inode while the view is open; a layered array only its frames.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "array/layered/pin.h"
#include "array/runs.h"
#include "tree/views/inside.h"

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

/* The file of one array, and what is known of that; NULL where all of an array is shown. */
struct lay_what {
	const struct view_node *node;
	const struct view_facts *facts;
};

/* An array as what a format shows. Its size may be another since the facts were read. */
static struct view_input input_of(const struct view_facts *facts, uint64_t size_bytes)
{
	struct view_input in = { .name = "", .dtype = facts->dtype, .logical = facts->logical, .shape = facts->shape, .count = facts->count,
				 .filter = facts->filter };

	if (in.dtype) {
		shape_fit(&in.shape, size_bytes / in.dtype->bytes);
		in.count = shape_count(&in.shape);
	}
	return in;
}

/* A pin of what the file shows: of a chunk, that copies the places of some blocks, not of all. */
static int pin(struct array *a, const struct lay_what *what, struct view_source *s)
{
	uint64_t off = 0, len = s->size_bytes;
	struct view_input in;

	if (what && what->node->key.role == VIEW_CHUNK && what->facts->dtype) {
		in = input_of(what->facts, s->size_bytes);
		zarr_chunk_range(s->block_bytes, &in, what->node->key.sub, &off, &len);
	}
	return pin_array(a, off, len, &s->array);
}

/* i's array as a source of v, its lock held. */
static int add_locked(struct view *v, struct inode *i, enum lay_how how, const struct lay_what *what, unsigned *out)
{
	struct view_source s = { 0 };
	struct array *a;
	int err = inode_need_array(i, &a);

	if (err)
		return err;
	s.size_bytes = a->size_bytes;
	if (i->facts.kind == ARRAY_LAYERED)
		s.block_bytes = a->params.block_bytes;
	if (how >= LAY_LOOK && how != LAY_LIVE && i->facts.kind == ARRAY_LAYERED) {
		s.let_go = let_go_pin;
		if (!i->realm->fixed && (how == LAY_PINNED || i->tree->sizes_stick || !atomic_load(&live_of(i)->nwriters)))
			err = array_flush(a);
		/* Where there is no room for them, blocks can wait on; their sizes are not final then. */
		if (err == -ENOSPC && how == LAY_LOOK)
			err = 0;
		if (!err)
			err = pin(a, what, &s);
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

static int add_source(struct view *v, struct inode *i, enum lay_how how, const struct lay_what *what, unsigned *out)
{
	int err;

	if (how == LAY_SIZE) {
		*out = view_source_add(v, &(struct view_source){ .size_bytes = inode_size(i) });
		return 0;
	}
	rwlock_exclusive(&i->rw);
	err = add_locked(v, i, how, what, out);
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
	struct view_input in = input_of(facts, view_source_bytes(v, source));
	char column[META_NAME_MAX + 1];

	column_name(n, column);
	in.name = column;
	in.source = source;
	if (key->role == VIEW_RUN)
		return lay_run(v, i, key->sub, source);
	if (key->format == FORMAT_RUNS)
		return lay_index(v, i, how, source);
	if (!in.dtype && view_formats[key->format].typed)
		return -ESTALE;
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
		err = add_source(v, i, how, &(struct lay_what){ n, &facts }, &source);
		if (!err)
			err = lay_one(v, i, n, &facts, how, source);
		free(facts.dtype);
	}
	inode_put(i, 1);
	return err;
}

static int lay_table(struct view *v, const struct view_node *n, const struct view_columns *c, enum lay_how how)
{
	struct view_facts facts;
	struct view_input *in;
	size_t done = 0;
	int err;

	in = calloc(c->n, sizeof(*in));
	err = in ? 0 : -ENOMEM;
	for (; !err && done < c->n; done++) {
		unsigned source = 0;

		err = views_facts(c->v[done].inode, &facts);
		if (err)
			break;
		err = facts.dtype ? add_source(v, c->v[done].inode, how, NULL, &source) : -ESTALE;
		in[done] = input_of(&facts, err ? 0 : view_source_bytes(v, source));
		in[done].name = c->v[done].name;
		in[done].source = source;
		in[done].filter = FILTER_NONE;
		if (!err && in[done].count != in[0].count)
			err = -ESTALE;
	}
	if (!err)
		err = n->key.format == FORMAT_PARQUET ? parquet_lay(v, in, c->n) : arrow_lay(v, in, c->n);
	for (size_t k = 0; in && k < c->n; k++)
		free((void *)in[k].dtype);
	free(in);
	return err;
}

/* How much must be done to know the size of a file. */
static enum lay_how look_of(enum view_format f)
{
	if (view_formats[f].framed)
		return LAY_LOOK;
	return f == FORMAT_RUNS ? LAY_BLOCKS : LAY_SIZE;
}

int views_lay(struct tree *t, const struct view_node *n, const struct view_look *look, bool to_read, struct view **out)
{
	enum lay_how how = to_read ? (n->live ? LAY_LIVE : LAY_PINNED) : look_of(n->key.format);
	struct view *v;
	int err = view_new(&v);

	if (err)
		return err;
	if (n->key.role == VIEW_TABLE)
		err = lay_table(v, n, &look->columns, how);
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
	in = (struct view_input){ "", facts.dtype, facts.logical, facts.shape, facts.count, 0, facts.filter };
	err = add_source(v, source, LAY_BLOCKS, NULL, &in.source);
	if (!err)
		*n_out = zarr_nchunks(v, &in);
	view_free(v);
	if (err)
		free(facts.dtype);
	else
		*facts_out = facts;
	return err;
}
