/*
 * At mount: what is in meta.db and not in the layers' log goes there.
 *
 * After a crash that is what is under columns/, since its notes wait for a segment (store/layers.h). After a
 * repair of the database (fact `relog`) it is everything under layers/ as well. Names and inodes that only the log has are
 * noted as gone, the others again.
 */
#include <errno.h>

#include "block/index.h"
#include "store/classes.h"
#include "store/layers/state.h"
#include "store/layers.h"
#include "store/store.h"
#include "tree/live/live.h"

struct relog {
	struct tree *tree;
	enum array_kind kind;
	uint64_t dir;
};

static int note_name(void *ctx, uint64_t cookie, const char *name, uint64_t ino)
{
	struct relog *r = ctx;

	(void)cookie;
	return layers_note_name(r->tree->store->layers, r->dir, name, ino, r->kind == ARRAY_COLUMN);
}

static int note_inode_locked(struct relog *r, const struct facts *row)
{
	struct tree *t = r->tree;
	struct inode *i;
	int err = 0;

	r->dir = row->ino;
	if (S_ISDIR(row->mode))
		err = meta_name_walk_locked(t->store->meta, row->ino, 0, note_name, r);
	if (!err)
		err = live_get_locked(t, row->ino, &i);
	if (!err)
		live_mark_changed(i);
	return err;
}

/* All inodes of a class, with their names. */
static int note_class(struct tree *t, enum array_kind kind)
{
	struct relog r = { .tree = t, .kind = kind };
	struct meta *m = t->store->meta;
	struct facts row = { 0 };
	int err = 0;

	do {
		struct inode *i;

		meta_lock(m);
		err = meta_inode_kind_after_locked(m, kind, row.ino, &row);
		if (!err && row.ino)
			err = note_inode_locked(&r, &row);
		meta_unlock(m);
		if (!err && row.ino && !inode_find(t, row.ino, &i))
			inode_put(i, 1);
	} while (!err && row.ino);
	return err;
}

/* The class of a directory that the log names; layers/ and columns/ themselves may have no record. */
static enum array_kind class_of(const struct index *log, uint64_t dir)
{
	const struct index_record *r = index_find(log, dir);

	return r ? r->facts.kind : class_by_ino(dir) ? class_by_ino(dir)->kind : ARRAY_NONE;
}

static int note_gone(struct layers *ls, enum array_kind kind, uint64_t ino)
{
	int err;

	layers_lock(ls);
	err = layers_note_gone_locked(ls, ino, kind == ARRAY_COLUMN);
	layers_unlock(ls);
	return err;
}

/* Notes as gone what only the log has of a class. */
static int note_missing_locked(struct tree *t, const struct index *log, enum array_kind kind)
{
	struct relog r = { .tree = t, .kind = kind };
	struct store *s = t->store;
	int err = 0;

	for (size_t k = 0; k < log->nnames && !err; k++) {
		const struct index_name *n = &log->names[k];
		uint64_t ino;

		if (class_of(log, n->parent) != kind)
			continue;
		r.dir = n->parent;
		err = meta_name_find_locked(s->meta, n->parent, n->name, &ino);
		if (err == -ENOENT)
			err = note_name(&r, 0, n->name, 0);
	}
	for (size_t k = 0; k < log->n && !err; k++) {
		const struct index_record *rec = log->v[k];
		struct facts row;

		if (rec->facts.kind != kind)
			continue;
		err = meta_inode_load_locked(s->meta, rec->facts.ino, &row);
		if (err == -ENOENT)
			err = note_gone(s->layers, kind, rec->facts.ino);
	}
	return err;
}

static int relog_class(struct tree *t, const struct index *log, enum array_kind kind)
{
	int err;

	meta_lock(t->store->meta);
	err = note_missing_locked(t, log, kind);
	meta_unlock(t->store->meta);
	return err ? err : note_class(t, kind);
}

static int relog(struct tree *t, bool layers)
{
	struct meta *m = t->store->meta;
	struct index log;
	int err = state_merge_present(t->store->layers, &log);

	if (err)
		return err;
	err = relog_class(t, &log, ARRAY_COLUMN);
	if (!err && layers)
		err = relog_class(t, &log, ARRAY_LAYERED);
	index_fini(&log);
	if (err || !layers)
		return err;
	meta_lock(m);
	err = meta_fact_set_locked(m, "relog", 0);
	meta_unlock(m);
	return err;
}

int live_relog(struct tree *t)
{
	struct meta *m = t->store->meta;
	int64_t wanted = 0;
	bool lost = false;
	int err;

	meta_lock(m);
	err = layers_lost_notes_locked(t->store->layers, &lost);
	if (!err)
		err = meta_fact_get_locked(m, "relog", &wanted);
	meta_unlock(m);
	if (err == -ENOENT)
		err = 0;
	return !err && (lost || wanted) ? relog(t, wanted != 0) : err;
}
