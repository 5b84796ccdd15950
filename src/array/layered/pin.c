/*
 * Pinned arrays.
 *
 * Invariants:
 *  1. A pin's map never changes, and each layer that it points into is in `held`: so its frames stay readable when the
 *     array, or the layer, is gone.
 *  2. It has no dirty blocks, and is only read: the other operations of an array are missing.
 */
#include "array/layered/pin.h"

#include <errno.h>

#include "array/arrays.h"
#include "array/layered/inside.h"
#include "block/layer.h"
#include "store/layers/held.h"
#include "store/layers.h"
#include "store/store.h"
#include "util/stats.h"

/* The places of the blocks [first, first + count). */
static int copy_map(struct layered *from, uint64_t first, uint64_t count, struct blockmap *to)
{
	struct blockmap_entry *e, *copy;
	uint64_t block = first;
	int err = 0;

	lock_acquire(&from->lock);
	for (; !err && blockmap_next(&from->map, block, &block, &e) && block - first < count; block++) {
		if (!e->ref.frame_off)
			continue;
		err = blockmap_need(to, block, &copy);
		if (!err)
			copy->ref = e->ref;
	}
	lock_release(&from->lock);
	return err;
}

static void pin_close(struct array *a)
{
	layered_free(layered_of(a));
}

static const struct array_ops pin_ops = {
	.kind = ARRAY_LAYERED,
	.close = pin_close,
	.memory = layered_memory,
	.borrow = layered_borrow,
	.seek = layered_seek,
};

/* The places of the blocks [first, first + count), and their layers held. */
static int fill(struct layered *pin, struct layered *from, uint64_t first, uint64_t count)
{
	struct blockmap_entry *e;
	uint64_t block = 0;
	int err = held_new(from->array.home->store->layers, &pin->held);

	if (!err)
		err = copy_map(from, first, count, &pin->map);
	for (; !err && blockmap_next(&pin->map, block, &block, &e); block++) {
		if (e->ref.frame_off)
			err = held_add(pin->held, from->held, e->ref.layer);
	}
	return err;
}

int pin_array(struct array *a, uint64_t off, uint64_t len, struct array **out)
{
	uint32_t bs = a->params.block_bytes;
	uint64_t first = off / bs;
	struct layered *l;
	int err;

	if (a->ops->kind != ARRAY_LAYERED)
		return -EOPNOTSUPP;
	l = layered_new(&pin_ops, a->home, a->ino, a->size_bytes, &a->params);
	if (!l)
		return -ENOMEM;
	l->past = layered_of(a)->past;
	err = fill(l, layered_of(a), first, len ? (off + len - 1) / bs - first + 1 : 0);
	if (err) {
		pin_close(&l->array);
		return err;
	}
	*out = &l->array;
	return 0;
}

bool pin_block(struct array *pin, uint64_t block, struct block_ref *out)
{
	struct blockmap_entry *e = blockmap_find(&layered_of(pin)->map, block);

	if (!e || !e->ref.frame_off)
		return false;
	*out = e->ref;
	return true;
}

bool pin_next(struct array *pin, uint64_t from, uint64_t *out)
{
	struct blockmap_entry *e;

	for (; blockmap_next(&layered_of(pin)->map, from, &from, &e); from++) {
		if (e->ref.frame_off) {
			*out = from;
			return true;
		}
	}
	return false;
}

int pin_lend_frame(struct array *pin, uint64_t block, uint64_t skip, size_t len, struct lease *out)
{
	struct layered *l = layered_of(pin);
	struct blockmap_entry *e = blockmap_find(&l->map, block);
	struct layers_slot *slot;
	int err = held_find(l->held, e->ref.layer, &slot);

	if (err)
		return layered_report(l, &e->ref, block, err);
	stats_add(STAT_FRAME_READ_BYTES, len);
	*out = (struct lease){ .len_bytes = len, .file = layer_io(layers_file(slot)), .off_bytes = e->ref.frame_off + skip };
	return 0;
}
