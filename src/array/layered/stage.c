/*
 * A layered array in the log: its changes become entries of the open layer's index; a compaction moves what was staged.
 *
 * Invariant: what is staged points into the open layer, which is sealed only when all that it holds is staged.
 */
#include <assert.h>

#include "array/arrays.h"
#include "array/layered/inside.h"
#include "block/index.h"
#include "store/layers/compact.h"
#include "store/layers.h"
#include "store/store.h"
#include "util/plant.h"

static int put_entry(struct index_record *r, uint64_t block, const struct block_ref *ref)
{
	struct layer_block b = block_ref_entry(ref, block);

	return index_record_put(r, &b);
}

static int note_tomb(struct index_record *r, uint64_t first, uint64_t count)
{
	return PLANTED(PLANT_NO_TOMB) ? 0 : index_record_tomb(r, first, count);
}

static int stage_changes(struct layered *l, struct layers *ls, struct index_record *r)
{
	size_t kept = 0;
	int err = 0;

	for (size_t i = 0; i < l->nchanges; i++) {
		struct layered_change *c = &l->changes[i];
		struct blockmap_entry *e = blockmap_find(&l->map, c->block);

		assert(!e->dirty);
		if (!err)
			err = e->ref.frame_off ? put_entry(r, c->block, &e->ref) : note_tomb(r, c->block, 1);
		if (err) {
			l->changes[kept++] = *c;
			continue;
		}
		layers_account_locked(ls, c->old_layer, -(int64_t)c->old_share);
		if (e->ref.frame_off)
			layers_account_locked(ls, e->ref.layer, (int64_t)block_ref_share(&e->ref));
		e->ref.changed = 0;
	}
	l->nchanges = kept;
	return err;
}

static int stage_record(struct layered *l, struct layers *ls, const struct index_record *facts)
{
	struct index_record *r;
	int err = layers_note_inode_locked(ls, facts, false, &r);

	if (err)
		return err;
	r->block_bytes = l->array.params.block_bytes;
	for (size_t i = 0; i < l->ntombs && !err; i++)
		err = note_tomb(r, l->tombs[i].first, l->tombs[i].count);
	if (err)
		return err;
	l->ntombs = 0;
	l->recorded = l->facts_staged = true;
	return stage_changes(l, ls, r);
}

int layered_stage_locked(struct array *a, const struct index_record *facts, bool changed)
{
	struct layered *l = layered_of(a);
	struct layers *ls = a->home->store->layers;
	int err = 0;

	lock_acquire(&l->lock);
	if (changed || !l->facts_staged || l->nchanges || l->ntombs) {
		layers_lock(ls);
		err = stage_record(l, ls, facts);
		layers_unlock(ls);
	}
	lock_release(&l->lock);
	return err;
}

/* Every frame goes; the tree notes for the log that the inode is gone. */
int layered_drop_locked(struct array *a)
{
	struct layered *l = layered_of(a);
	struct layers *ls = a->home->store->layers;

	lock_acquire(&l->lock);
	layers_lock(ls);
	for (size_t i = 0; i < l->nchanges; i++)
		layers_account_locked(ls, l->changes[i].old_layer, -(int64_t)l->changes[i].old_share);
	l->nchanges = 0;
	layers_unlock(ls);
	lock_release(&l->lock);
	return 0;
}

/* A block that is in a moved layer has not changed since it was staged, so that the compaction's record of the staged state has
 * it. */
int layered_remap(struct array *a, const struct compact *c)
{
	struct layered *l = layered_of(a);
	struct blockmap_entry *e;
	uint64_t block = 0;
	int err = 0;

	lock_acquire(&l->lock);
	for (; !err && blockmap_next(&l->map, block, &block, &e); block++) {
		struct layer_block to = block_ref_entry(&e->ref, block);
		struct block_ref ref;

		if (!to.frame_off || !compact_moved(c, to.layer))
			continue;
		err = compact_place(c, &to);
		if (err || PLANTED(PLANT_NO_REMAP))
			break;
		ref = block_ref_of(&to);
		layered_set_ref_locked(l, e, &ref);
	}
	lock_release(&l->lock);
	return err;
}
