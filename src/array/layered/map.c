/*
 * A layered array in memory: where its blocks are, and what of that has changed since the last stage.
 *
 * Invariants:
 *  1. `changes` holds each block whose place differs from what was staged last, once, with that old
 *     place (ref.changed says so); `tombs` holds every range that was cut or punched since.
 *  2. stored_bytes is the sum of the blocks' shares of their frames, and of the dirty bytes.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "array/arrays.h"
#include "array/layered/dirty.h"
#include "array/layered/inside.h"
#include "array/promise.h"
#include "store/layers/held.h"
#include "store/layers/state.h"
#include "store/layers.h"
#include "store/store.h"
#include "util/err.h"
#include "util/vec.h"

struct layered *layered_new(const struct array_ops *ops, struct arrays *home, uint64_t ino, uint64_t size, const struct array_params *params)
{
	struct layered *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->array = (struct array){ .ops = ops, .home = home, .ino = ino, .size_bytes = size, .params = *params };
	l->hint = CODEC_HINT_NONE;
	l->facts_staged = true;
	stream_init(&l->reader);
	lock_init(&l->lock, RANK_ARRAY);
	blockmap_init(&l->map);
	return l;
}

void layered_free(struct layered *l)
{
	blockmap_fini(&l->map);
	held_put(l->held);
	free(l->changes);
	free(l->tombs);
	lock_fini(&l->lock);
	free(l);
}

size_t layered_memory(struct array *a)
{
	struct layered *l = layered_of(a);
	size_t bytes;

	lock_acquire(&l->lock);
	bytes = sizeof(*l) + blockmap_bytes(&l->map) + l->cap_changes * sizeof(*l->changes) + l->cap_tombs * sizeof(*l->tombs);
	lock_release(&l->lock);
	return bytes;
}

static void replay_tomb(struct layered *l, const struct layer_tomb *t)
{
	struct blockmap_entry *e;
	uint64_t block = t->first;

	while (blockmap_next(&l->map, block, &block, &e) && block - t->first < t->count) {
		e->ref = (struct block_ref){ 0 };
		block++;
	}
}

static int replay_block(struct layered *l, const struct index_record *r, const struct layer_block *b)
{
	struct blockmap_entry *e;
	int err = b->raw_len > r->block_bytes || r->block_bytes > ARRAY_BLOCK_MAX ? -EUCLEAN : blockmap_need(&l->map, b->block, &e);

	if (err == -EUCLEAN)
		return err_corrupt("layers", b->layer, "block %llu of inode %llu is longer than its array's blocks",
				   (unsigned long long)b->block, (unsigned long long)r->facts.ino);
	if (err == -EFBIG)
		return err_corrupt("layers", b->layer, "inode %llu has a block %llu, which no array has", (unsigned long long)r->facts.ino,
				   (unsigned long long)b->block);
	if (!err)
		e->ref = block_ref_of(b);
	return err;
}

static int replay_record(void *ctx, const struct index_record *r)
{
	static const struct layer_tomb all = { 0, UINT64_MAX };
	struct layered *l = ctx;
	int err = 0;

	l->recorded = true;
	if (r->type == LAYER_REC_GONE)
		replay_tomb(l, &all);
	if (r->nblocks)
		l->array.params.block_bytes = (uint32_t)r->block_bytes;
	for (size_t i = 0; i < r->ntombs; i++)
		replay_tomb(l, &r->tombs[i]);
	for (size_t i = 0; i < r->nblocks && !err; i++)
		err = replay_block(l, r, &r->blocks[i]);
	return err;
}

static uint64_t stored_bytes(struct layered *l)
{
	struct blockmap_entry *e;
	uint64_t block = 0, sum = 0;

	while (blockmap_next(&l->map, block, &block, &e)) {
		sum += block_ref_share(&e->ref);
		block++;
	}
	return sum;
}

int layered_replay(struct layered *l, struct state *state)
{
	int err = state ? state_replay(state, l->array.ino, replay_record, l) :
			 layers_replay(l->array.home->store->layers, l->array.ino, replay_record, l);

	if (!err)
		atomic_store(&l->array.stored_bytes, stored_bytes(l));
	return err;
}

uint32_t layered_block_len(struct layered *l, uint64_t block, uint32_t *dirty_out)
{
	struct blockmap_entry *e;
	uint32_t len = 0;

	lock_acquire(&l->lock);
	e = blockmap_find(&l->map, block);
	if (e && e->dirty)
		*dirty_out = len = e->dirty->len_bytes;
	else if (e && e->ref.frame_off)
		len = e->ref.raw_len;
	lock_release(&l->lock);
	return len;
}

int layered_note_change_locked(struct layered *l, uint64_t block, struct blockmap_entry *e)
{
	if (e->ref.changed)
		return 0;
	if (VEC_RESERVE(l->changes, l->cap_changes, l->nchanges + 1))
		return -ENOMEM;
	l->changes[l->nchanges++] = (struct layered_change){
		.block = block,
		.old_layer = e->ref.frame_off ? e->ref.layer : 0,
		.old_share = block_ref_share(&e->ref),
	};
	e->ref.changed = 1;
	return 0;
}

void layered_set_ref_locked(struct layered *l, struct blockmap_entry *e, const struct block_ref *ref)
{
	uint8_t changed = e->ref.changed;

	atomic_fetch_add(&l->array.stored_bytes, block_ref_share(ref));
	atomic_fetch_sub(&l->array.stored_bytes, block_ref_share(&e->ref));
	e->ref = *ref;
	e->ref.changed = changed;
}

int layered_note_tomb_locked(struct layered *l, uint64_t first, uint64_t count)
{
	if (l->ntombs && l->tombs[l->ntombs - 1].first == first && l->tombs[l->ntombs - 1].count == count)
		return 0;
	if (VEC_RESERVE(l->tombs, l->cap_tombs, l->ntombs + 1))
		return -ENOMEM;
	l->tombs[l->ntombs++] = (struct layered_tomb){ first, count };
	return 0;
}

/* Uses up the promise for the block when all of the block is stored. */
static void keep_promise(struct layered *l, const struct dirty_block *b, const struct block_ref *ref)
{
	uint32_t bs = l->array.params.block_bytes;
	uint32_t valid = (b->len_bytes + PROMISE_ALIGN - 1) / PROMISE_ALIGN * PROMISE_ALIGN;
	uint64_t begin = b->block * bs;

	if (ref->frame_off && b->promised && !promise_touches(&l->array, begin + valid, bs - valid))
		promise_drop(&l->array, begin, bs);
}

void layered_flushed(struct layered *l, struct dirty_block *b, const struct block_ref *ref)
{
	struct blockmap_entry *e;

	lock_acquire(&l->lock);
	e = blockmap_find(&l->map, b->block);
	assert(e && e->dirty == b);
	e->dirty = NULL;
	/* In this order, because the quotas look without the lock: never less than what is held. */
	layered_set_ref_locked(l, e, ref);
	atomic_fetch_sub(&l->array.stored_bytes, dirty_share(b->len_bytes));
	keep_promise(l, b, ref);
	lock_release(&l->lock);
}
