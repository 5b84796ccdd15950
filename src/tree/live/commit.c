/*
 * A commit's work on the tree: dirty inodes become rows, and records of the layers' log.
 *
 * Invariants:
 *  1. Everything under layers/ that is a row is in the log too, in the same transaction.
 *  2. An inode that cannot be staged for want of space stays dirty. Its name may be committed, so the log has it as its row is.
 */
#include <errno.h>
#include <stdlib.h>

#include "array/arrays.h"
#include "block/index.h"
#include "spillfs.h"
#include "store/classes.h"
#include "store/layers/compact.h"
#include "store/layers.h"
#include "store/store.h"
#include "tree/live/cold.h"
#include "tree/live/live.h"
#include "tree/live/passthrough.h"
#include "tree/live/quota.h"
#include "tree/past/past.h"
#include "tree/setting.h"
#include "util/err.h"

static int hook_flush(void *ctx)
{
	struct tree *t = ctx;
	int err;

	through_refresh_all(t);
	err = arrays_flush(t->arrays);
	/* Here and not in hook_stage: it may let go of the last reference of a file, and to delete that takes the gate. */
	cold_recount_all(t);
	return err;
}

static int add_xattr(void *ctx, const char *name, const void *value, size_t len)
{
	return index_record_add_xattr(ctx, name, value, len);
}

static int gather_names_locked(struct inode *i, struct index_record *r)
{
	const struct class *class = class_by_kind(i->facts.kind);
	const struct store *store = i->tree->store;
	char path[4096] = "", *dtype = NULL, *shape = NULL;
	int err = 0;

	if (i->facts.nlink && class)
		meta_path_locked(i->tree->store->meta, store->config.scratch ? store->config.above + META_INO_ROOT : class->ino, i->facts.ino, path, sizeof(path));
	if (S_ISREG(inode_mode(i))) {
		err = setting_dtype_locked(i, &dtype);
		shape = setting_text_locked(i, SPILLFS_XATTR_SHAPE);
	}
	if (!err)
		err = index_record_set_names(r, path, dtype, shape);
	free(dtype);
	free(shape);
	return err;
}

static int gather_target_locked(struct inode *i, struct index_record *r)
{
	void *target;
	size_t len;
	int err = meta_blob_get_locked(i->tree->store->meta, i->facts.ino, META_BLOB_SYMLINK, &target, &len);

	if (err)
		return err;
	err = index_record_set_target(r, target);
	free(target);
	return err;
}

/* Fills in r, which is new, but for its data and blocks. */
static int gather_locked(struct inode *i, const struct facts *row, struct index_record *r)
{
	int err = gather_names_locked(i, r);

	if (!err && S_ISLNK(inode_mode(i)))
		err = gather_target_locked(i, r);
	if (!err && atomic_load(&live_of(i)->has_xattrs))
		err = meta_xattr_walk_locked(i->tree->store->meta, i->facts.ino, add_xattr, r);
	if (err)
		return err;
	atomic_store(&live_of(i)->xattrs_bytes, r->xattrs_len);
	r->facts = *row;
	return 0;
}

/* An inode without an open array: a directory, a link, or a file of which only the facts changed. A column's bytes, while
 * they are few, are in the log as they are in meta.db. */
static int note_facts_locked(struct inode *i, struct index_record *r)
{
	struct store *s = i->tree->store;
	void *data = NULL;
	size_t len = 0;
	int err = 0;

	if (i->facts.kind == ARRAY_COLUMN && S_ISREG(inode_mode(i)) && !r->facts.file_id)
		err = meta_blob_get_locked(s->meta, i->facts.ino, META_BLOB_INLINE, &data, &len);
	if (err && err != -ENOENT)
		return err;
	err = index_record_set_data(r, data, len);
	free(data);
	if (err)
		return err;
	layers_lock(s->layers);
	err = layers_note_inode_locked(s->layers, r, i->facts.kind == ARRAY_COLUMN, NULL);
	layers_unlock(s->layers);
	return err;
}

/* Stages the facts that the log has to know, and the array's own rows. */
static int stage_facts_locked(struct inode *i, struct array *a, const struct facts *row)
{
	bool changed = atomic_exchange(&live_of(i)->facts_changed, false) && row->nlink, layered = a && i->facts.kind == ARRAY_LAYERED;
	struct index_record *r = NULL;
	int err = a && !layered ? array_stage_locked(a, NULL, changed) : 0;

	if (err || i->facts.kind == ARRAY_BUCKET || (!layered && !changed))
		return err;
	err = index_record_new(row->ino, &r);
	if (!err)
		err = gather_locked(i, row, r);
	if (!err)
		err = layered ? array_stage_locked(a, r, changed) : note_facts_locked(i, r);
	index_record_free(r);
	if (err)
		atomic_store(&live_of(i)->facts_changed, true);
	return err;
}

/* The log gets an inode that cannot be staged as the last commit has left it: its row of then goes with this one. Once is enough: a
 * commit that had to write it each time would never be the last. */
static int note_as_stored_locked(struct inode *i)
{
	struct index_record *r = NULL;
	struct facts row;
	int err;

	if (!atomic_load(&live_of(i)->facts_changed) || !class_by_kind(i->facts.kind) || i->facts.kind == ARRAY_BUCKET ||
	    atomic_exchange(&live_of(i)->logged_as_stored, true))
		return 0;
	err = meta_inode_load_locked(i->tree->store->meta, i->facts.ino, &row);
	if (err == -ENOENT || (!err && !row.nlink))
		return 0;
	if (!err)
		err = index_record_new(row.ino, &r);
	if (!err)
		err = gather_locked(i, &row, r);
	if (!err)
		err = note_facts_locked(i, r);
	index_record_free(r);
	if (err)
		atomic_store(&live_of(i)->logged_as_stored, false);
	return err;
}

/* left: why the inode stays dirty, if it does. */
static int stage_inode(struct inode *i, int *left)
{
	struct meta *m = i->tree->store->meta;
	struct facts row;
	struct array *a;
	bool cutting;
	int err = 0;

	rwlock_shared(&i->rw);
	a = i->array;
	if (a)
		err = array_flush(a);
	meta_lock(m);
	live_row(i, &row);
	if (!err)
		err = stage_facts_locked(i, a, &row);
	if (!err)
		err = meta_inode_store_locked(m, &row);
	quota_settle(i);
	if (err_wants_space(err)) {
		*left = err;
		live_mark_dirty(i);
		err = note_as_stored_locked(i);
	}
	meta_unlock(m);
	cutting = a && array_is_cutting(a);
	rwlock_release(&i->rw);
	if (cutting)
		cut_go_on(i);
	return err;
}

/* An inode that becomes dirty while this runs waits for the next commit, or it would never end. */
static int hook_stage(void *ctx, int *left)
{
	struct tree *t = ctx;
	int err = 0;

	lock_acquire(&t->lock);
	t->staged = t->dirty_head;
	t->dirty_head = NULL;
	t->dirty_tail = &t->dirty_head;
	for (struct live_inode *i = t->staged; i; i = i->dirty_next) {
		i->staged_next = i->dirty_next;
		i->base.dirty = false;
		store_pay(t->store, i->owed_bytes);
		i->owed_bytes = 0;
		i->staged = true;
	}
	lock_release(&t->lock);
	t->cutting = false;
	atomic_store(&t->quota_shrinking, atomic_exchange(&t->quota_shrinks, false));
	t->frees |= store_begin_freeing(t->store);
	for (struct live_inode *i = t->staged; i && !err; i = i->staged_next)
		err = stage_inode(&i->base, left);
	return err ? err : cut_note(t);
}

static int hook_sync(void *ctx)
{
	struct tree *t = ctx;
	int err = 0;

	for (struct live_inode *i = t->staged; i && !err; i = i->staged_next) {
		if (i->base.array)
			err = array_sync(i->base.array);
	}
	return err;
}

/* Clean now, unless it was changed meanwhile. */
static void unstage(struct inode *i)
{
	lock_acquire(&i->tree->lock);
	live_of(i)->staged = false;
	lock_release(&i->tree->lock);
	rwlock_shared(&i->rw);
	inode_rest(i);
	rwlock_release(&i->rw);
}

static void hook_done(void *ctx, int err)
{
	struct tree *t = ctx;

	while (t->staged) {
		struct inode *i = &t->staged->base;

		t->staged = t->staged->staged_next;
		if (err)
			live_mark_dirty(i);
		unstage(i);
		inode_put(i, 1);
	}
	atomic_store(&t->quota_shrinking, false);
	/* The files that it has let go of are deleted in the next transaction. */
	if (t->frees && !err)
		commit_again(t->store->commit);
	t->frees &= err != 0;
	live_shrink(t);
	/* Layers that are dropped keep their files as long as a state that has them is held. */
	past_forget_states(t);
}

static bool is_layered(const struct inode *i)
{
	return !i->realm->fixed && i->facts.kind == ARRAY_LAYERED && S_ISREG(inode_mode(i));
}

/* An array that is opened while this runs finds the new places already, or waits to be changed here: it is
 * opened with its inode locked exclusively. */
static int hook_remap(void *ctx, const struct compact *c)
{
	struct tree *t = ctx;
	struct inode **v;
	size_t n;
	int err = inode_list(t, is_layered, &v, &n);

	if (err)
		return err;
	for (size_t k = 0; k < n; k++) {
		struct inode *i = v[k];

		rwlock_exclusive(&i->rw);
		if (!err && i->array)
			err = array_remap(i->array, c);
		rwlock_release(&i->rw);
		inode_put(i, 1);
	}
	free(v);
	return err;
}

const struct commit_hooks live_commit_hooks = {
	.flush = hook_flush,
	.stage = hook_stage,
	.sync = hook_sync,
	.done = hook_done,
	.remap = hook_remap,
};
