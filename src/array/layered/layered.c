/*
 * The layered kind: its table, and what needs none of the other files' care.
 *
 * Writes change dirty blocks in memory; flush jobs encode them into frames of the open layer and enter
 * them in the block map; the next commit stages what has changed as entries of that layer's index.
 *
 * Invariants:
 *  1. The content of a block is its dirty block if there is one, else its frame, else zeros.
 *  2. Blocks that are stored have the size that their record says, whatever an xattr says since.
 *  3. Bytes of a block behind its valid length are zeros, and so is all of it behind the size.
 */
#include "array/layered/layered.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "array/arrays.h"
#include "array/layered/dirty.h"
#include "array/layered/inside.h"
#include "array/promise.h"
#include "spillfs.h"
#include "store/layers/held.h"
#include "store/layers/state.h"
#include "store/meta.h"

int layered_open_state(struct arrays *home, const struct facts *row, const struct array_params *params, struct state *state,
		       struct array **out)
{
	struct layered *l = layered_new(&layered_ops, home, row->ino, row->size_bytes, params);
	int err;

	if (!l)
		return -ENOMEM;
	if (state) {
		l->held = held_get(state_held(state));
		l->past = true;
	}
	err = layered_replay(l, state);
	if (err) {
		layered_free(l);
		return err;
	}
	*out = &l->array;
	return 0;
}

static int layered_open(struct arrays *home, const struct facts *row, const struct array_params *params,
			struct array **out)
{
	return layered_open_state(home, row, params, NULL, out);
}

static void layered_close(struct array *a)
{
	/* The last job lets go of the array under the budget's lock. */
	while (dirty_has(a))
		dirty_flush_array(a->home->dirty, a);
	layered_free(layered_of(a));
}

/* Blocks are stored as a whole: in the worst case each as it is, whatever part of it is written. */
static void whole_blocks(const struct array *a, uint64_t *off, uint64_t *len)
{
	uint32_t bs = a->params.block_bytes;
	uint64_t end = *off + *len, last = (end + bs - 1) / bs * bs, size = end > a->size_bytes ? end : a->size_bytes;

	*off = *off / bs * bs;
	*len = (last < size ? last : size) - *off;
}

static int layered_allocate(struct array *a, uint64_t off, uint64_t len)
{
	whole_blocks(a, &off, &len);
	return promise_make(a, off, len, NULL);
}

/* A block that is about to be written counts as it is, besides its frame, until the new one is stored. */
static uint64_t layered_growth(struct array *a, uint64_t off, uint64_t len, enum array_growing how)
{
	uint32_t bs = a->params.block_bytes;
	uint64_t end = off + len, bytes = 0;

	if (how == ARRAY_RESERVES) {
		whole_blocks(a, &off, &len);
		end = (off + len + PROMISE_ALIGN - 1) & ~(uint64_t)(PROMISE_ALIGN - 1);
		return promise_gaps(a, off, end - off, NULL);
	}
	for (uint64_t at = off; how == ARRAY_WRITES && at < end; at = (at / bs + 1) * bs) {
		uint64_t rest = end - at / bs * bs;
		uint32_t dirty = 0, now = layered_block_len(layered_of(a), at / bs, &dirty), then = rest < bs ? (uint32_t)rest : bs;

		if (promise_touches(a, at / bs * bs, bs))
			continue;
		if (then < now)
			then = now;
		bytes += then > dirty ? dirty_share(then) - dirty_share(dirty) : 0;
	}
	return bytes;
}

static int layered_flush(struct array *a)
{
	return dirty_flush_array(a->home->dirty, a);
}

static int layered_describe(struct array *a, const char *what, char **out)
{
	struct layered *l = layered_of(a);
	uint64_t seen[1024];
	size_t n = 0;
	uint64_t block = 0;
	struct blockmap_entry *e;

	if (strcmp(what, "layers"))
		return -ENODATA;
	lock_acquire(&l->lock);
	for (; blockmap_next(&l->map, block, &block, &e); block++) {
		size_t i = 0;

		while (i < n && seen[i] != e->ref.layer)
			i++;
		if (e->ref.frame_off && i == n && n < sizeof(seen) / sizeof(*seen))
			seen[n++] = e->ref.layer;
	}
	lock_release(&l->lock);
	return asprintf(out, "%zu", n) < 0 ? -ENOMEM : 0;
}

static_assert(SPILLFS_UNCOUNTED == SUMMARY_UNCOUNTED, "spillfs.h");

static struct spillfs_block told(const struct block_ref *r, uint64_t block)
{
	const struct summary s = block_ref_summary(r);

	return (struct spillfs_block){
		.block = block,
		.layer = r->layer,
		.frame_off = r->frame_off,
		.frame_len = r->frame_len,
		.frame_raw = r->frame_raw,
		.raw_off = r->raw_off,
		.raw_len = r->raw_len,
		.filter = r->filter,
		.elem_bytes = r->elem_bytes,
		.stat_type = s.type,
		.nan_count = s.nan_count,
		.zero_count = s.zero_count,
		.min_bits = s.min_bits,
		.max_bits = s.max_bits,
	};
}

void layered_blocks(struct array *a, uint64_t first, struct spillfs_blocks *out)
{
	struct layered *l = layered_of(a);
	struct blockmap_entry *e;
	uint64_t block = first;

	*out = (struct spillfs_blocks){ .size_bytes = a->size_bytes, .block_bytes = a->params.block_bytes };
	lock_acquire(&l->lock);
	for (; out->n < SPILLFS_BLOCKS_MAX && blockmap_next(&l->map, block, &block, &e); block++) {
		if (e->dirty)
			out->v[out->n++] = (struct spillfs_block){ .block = block };
		else if (e->ref.frame_off)
			out->v[out->n++] = told(&e->ref, block);
	}
	lock_release(&l->lock);
	out->first = block;
}

const struct array_ops layered_ops = {
	.kind = ARRAY_LAYERED,
	.counters = { STAT_READ_OPS_LAYERED, STAT_READ_BYTES_LAYERED, STAT_WRITE_OPS_LAYERED, STAT_WRITE_BYTES_LAYERED },
	.open = layered_open,
	.close = layered_close,
	.memory = layered_memory,
	.borrow = layered_borrow,
	.write = layered_write,
	.resize = layered_resize,
	.punch = layered_punch,
	.allocate = layered_allocate,
	.growth = layered_growth,
	.seek = layered_seek,
	.flush = layered_flush,
	.stage_locked = layered_stage_locked,
	.drop_locked = layered_drop_locked,
	.remap = layered_remap,
	.reblock = layered_reblock,
	.is_unsettled = dirty_has,
	.describe = layered_describe,
};
