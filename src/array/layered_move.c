/*
 * Compaction of a layered array: its live frames leave a layer that is mostly dead.
 *
 * Frames are copied as they are, without decoding, to the open layer; the map changes as after a flush,
 * and the next commit stages the new places. Blocks that share their frame become dirty instead: what is
 * live of them is packed anew by the flush that the next commit begins with. Until the new places are
 * durable the old layer stays.
 *
 * Invariant: when an evacuation is staged, replaying the layers without the victim gives the same map: each
 * block of the victim is entered again, and each block that only the victim's tombstones or dead entries
 * hid in an older layer has a tombstone of its own.
 */
#include "array/layered.h"

#include <errno.h>

#include "array/dirty.h"
#include "block/index.h"
#include "block/layer.h"
#include "store/layers.h"
#include "store/store.h"
#include "util/buf.h"

/* Blocks moved while the inode is locked. */
#define MOVE_BLOCKS 16u

static int copy_frame(struct layers *ls, struct layer *from, struct block_ref *ref)
{
	void *frame = buf_alloc(ref->frame_len);
	uint64_t layer;
	int err = frame ? layer_read(from, ref->frame_off, frame, ref->frame_len) : -ENOMEM;

	if (!err)
		err = layers_append(ls, frame, ref->frame_len, ref->frame_raw, &layer, &ref->frame_off);
	buf_free(frame, ref->frame_len);
	if (!err)
		ref->layer = (uint32_t)layer;
	return err;
}

/* The next block at or behind *block that the victim holds and no dirty block is about to replace. */
static bool next_in(struct layered *l, uint64_t victim, uint64_t *block, struct block_ref *ref)
{
	struct blockmap_entry *e;
	bool found = false;

	lock_acquire(&l->lock);
	while (!found && blockmap_next(&l->map, *block, block, &e)) {
		found = e->ref.frame_off && e->ref.layer == victim && !e->dirty;
		if (found)
			*ref = e->ref;
		else
			++*block;
	}
	lock_release(&l->lock);
	return found;
}

static int move_block(struct layered *l, struct layers *ls, struct layer *from, uint64_t block, struct block_ref *ref)
{
	struct blockmap_entry *e;
	int err;

	if (ref->raw_len < ref->frame_raw)
		return layered_rewrite(l, block);
	err = copy_frame(ls, from, ref);
	if (err)
		return err;
	lock_acquire(&l->lock);
	e = blockmap_find(&l->map, block);
	err = layered_note_change_locked(l, block, e);
	if (!err)
		layered_set_ref_locked(l, e, ref);
	lock_release(&l->lock);
	return err;
}

struct hide {
	struct layered *l;
	uint64_t victim;
};

/* Blocks of an older layer that are zeros now. */
static int hide_older(void *ctx, uint64_t number, const struct index_record *r)
{
	struct hide *h = ctx;
	int err = 0;

	if (number >= h->victim)
		return 0;
	for (size_t i = 0; i < r->nblocks && !err; i++) {
		struct blockmap_entry *e = blockmap_find(&h->l->map, r->blocks[i].block);

		if (!e || (!e->ref.frame_off && !e->dirty))
			err = layered_note_tomb_locked(h->l, r->blocks[i].block, 1);
	}
	return err;
}

int layered_evacuate(struct array *a, uint64_t victim, bool *more)
{
	struct layered *l = (struct layered *)a;
	struct layers *ls = a->home->store->layers;
	struct hide hide = { l, victim };
	struct layers_slot *slot;
	struct block_ref ref;
	uint64_t block = 0;
	unsigned moved = 0;
	int err = layers_get(ls, victim, &slot);

	if (err)
		return err;
	while (!err && moved < MOVE_BLOCKS && next_in(l, victim, &block, &ref)) {
		err = move_block(l, ls, layers_file(slot), block, &ref);
		block++;
		moved++;
	}
	layers_put(ls, slot);
	*more = !err && moved == MOVE_BLOCKS;
	if (err || *more)
		return err;
	/* The inode is locked exclusively and nothing of it is dirty in the map but what tombstones skip. */
	err = layers_replay(ls, a->ino, hide_older, &hide);
	l->facts_staged = false;
	return err;
}
