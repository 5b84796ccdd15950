/*
 * Pinned arrays.
 *
 * Invariants:
 *  1. A pin's map never changes, and each layer that it points into is in `pins`: so its frames stay readable when the
 *     array, or the layer, is gone.
 *  2. It has no dirty blocks.
 */
#include "array/layered/pin.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "array/layered/layered.h"
#include "block/layer.h"
#include "store/history.h"
#include "store/layers.h"
#include "store/store.h"
#include "util/stats.h"

struct pins {
	struct layers *set;
	atomic_uint refs;
	size_t n, cap;
	struct pinned {
		uint64_t number;
		struct layers_slot *slot;
	} *v; /* rising */
};

void pins_get(struct pins *p)
{
	atomic_fetch_add(&p->refs, 1);
}

void pins_put(struct pins *p)
{
	if (atomic_fetch_sub(&p->refs, 1) != 1)
		return;
	for (size_t k = 0; k < p->n; k++)
		layers_put(p->set, p->v[k].slot);
	free(p->v);
	free(p);
}

/* The first with at least this number. */
static size_t place_of(const struct pins *p, uint64_t number)
{
	size_t low = 0, high = p->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (p->v[mid].number < number)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

struct layers_slot *pins_find(struct pins *p, uint64_t layer)
{
	size_t at = place_of(p, layer);

	return at < p->n && p->v[at].number == layer ? p->v[at].slot : NULL;
}

static int pin_layer(struct pins *p, struct history *past, uint64_t number)
{
	size_t at = place_of(p, number);
	struct layers_slot *slot;
	int err;

	if (at < p->n && p->v[at].number == number)
		return 0;
	if (p->n == p->cap) {
		size_t cap = p->cap ? p->cap * 2 : 4;
		void *v = realloc(p->v, cap * sizeof(*p->v));

		if (!v)
			return -ENOMEM;
		p->v = v;
		p->cap = cap;
	}
	err = past ? history_layer(past, number, &slot) : layers_get(p->set, number, &slot);
	if (err)
		return err == -ESTALE ? 0 : err; /* missed by who reads the block, and said then */
	for (size_t k = p->n++; k > at; k--)
		p->v[k] = p->v[k - 1];
	p->v[at] = (struct pinned){ number, slot };
	return 0;
}

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

int pin_array(struct array *a, uint64_t off, uint64_t len, struct array **out)
{
	struct layered *from = (struct layered *)a, *l;
	uint32_t bs = a->params.block_bytes;
	uint64_t block = 0, first = off / bs;
	struct blockmap_entry *e;
	struct pins *p;
	int err;

	if (a->ops->kind != ARRAY_LAYERED)
		return -EOPNOTSUPP;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->set = a->home->store->layers;
	atomic_init(&p->refs, 1);
	err = layered_new_pinned(a, p, &l);
	if (err) {
		pins_put(p);
		return err;
	}
	err = copy_map(from, first, len ? (off + len - 1) / bs - first + 1 : 0, &l->map);
	for (; !err && blockmap_next(&l->map, block, &block, &e); block++) {
		if (e->ref.frame_off)
			err = pin_layer(p, a->params.past, e->ref.layer);
	}
	if (err) {
		array_close(&l->array);
		return err;
	}
	*out = &l->array;
	return 0;
}

bool pin_block(struct array *pin, uint64_t block, struct block_ref *out)
{
	struct blockmap_entry *e = blockmap_find(&((struct layered *)pin)->map, block);

	if (!e || !e->ref.frame_off)
		return false;
	*out = e->ref;
	return true;
}

bool pin_next(struct array *pin, uint64_t from, uint64_t *out)
{
	struct blockmap_entry *e;

	for (; blockmap_next(&((struct layered *)pin)->map, from, &from, &e); from++) {
		if (e->ref.frame_off) {
			*out = from;
			return true;
		}
	}
	return false;
}

int pin_lend_frame(struct array *pin, uint64_t block, uint64_t skip, size_t len, struct lease *out)
{
	struct layered *l = (struct layered *)pin;
	struct blockmap_entry *e = blockmap_find(&l->map, block);
	struct layers_slot *slot = pins_find(l->pins, e->ref.layer);

	if (!slot)
		return layered_report(l, &e->ref, block, -ESTALE);
	stats_add(STAT_FRAME_READ_BYTES, len);
	*out = (struct lease){ .len_bytes = len, .file = layer_io(layers_file(slot)), .off_bytes = e->ref.frame_off + skip };
	return 0;
}
