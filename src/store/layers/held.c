/*
 * Held layers.
 *
 * Invariant: a layer is in a set once, and counts as one user of its slot; one that is held whole keeps its index in memory.
 */
#include "store/layers/held.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "store/layers/inside.h"
#include "util/err.h"
#include "util/vec.h"

struct held {
	struct layers *set;
	atomic_uint refs;
	size_t n, cap;
	struct held_layer {
		uint64_t number;
		struct layers_slot *slot;
		bool whole;
	} *v; /* rising */
};

int held_new(struct layers *ls, struct held **out)
{
	struct held *h = calloc(1, sizeof(*h));

	if (!h)
		return -ENOMEM;
	h->set = ls;
	atomic_init(&h->refs, 1);
	*out = h;
	return 0;
}

struct held *held_get(struct held *h)
{
	atomic_fetch_add(&h->refs, 1);
	return h;
}

void held_put(struct held *h)
{
	if (!h || atomic_fetch_sub(&h->refs, 1) != 1)
		return;
	for (size_t k = 0; k < h->n; k++) {
		/* The last user of a slot deletes its file: that is not for one critical section. */
		lock_acquire(&h->set->lock);
		h->v[k].slot->nwhole -= h->v[k].whole;
		layers_slot_unref(h->v[k].slot);
		lock_release(&h->set->lock);
	}
	lock_acquire(&h->set->lock);
	layers_shrink(h->set);
	lock_release(&h->set->lock);
	free(h->v);
	free(h);
}

static size_t place_of(const struct held *h, uint64_t number)
{
	return VEC_LOWER_BOUND(k, h->n, h->v[k].number < number);
}

static struct layers_slot *slot_of(const struct held *h, uint64_t number)
{
	size_t at = place_of(h, number);

	return at < h->n && h->v[at].number == number ? h->v[at].slot : NULL;
}

int held_find(struct held *h, uint64_t number, struct layers_slot **out)
{
	struct layers_slot *slot = slot_of(h, number);
	int err;

	if (!slot)
		return -ESTALE;
	lock_acquire(&h->set->lock);
	err = layers_slot_load(h->set, slot, false);
	lock_release(&h->set->lock);
	if (!err)
		*out = slot;
	return err;
}

/* The set's lock is held. */
static int add_slot(struct held *h, struct layers_slot *slot, bool whole)
{
	size_t at = place_of(h, slot->row.number);

	if (at < h->n && h->v[at].slot == slot)
		return 0;
	if (VEC_RESERVE(h->v, h->cap, h->n + 1))
		return -ENOMEM;
	VEC_INSERT(h->v, h->n, at, (struct held_layer){ slot->row.number, slot, whole });
	slot->refs++;
	slot->nwhole += whole;
	return 0;
}

int held_add(struct held *h, struct held *from, uint64_t number)
{
	struct layers_slot *slot;
	int err = 0;

	if (slot_of(h, number))
		return 0;
	lock_acquire(&h->set->lock);
	slot = from ? slot_of(from, number) : layers_slot_find(h->set, number);
	if (slot)
		err = layers_slot_load(h->set, slot, false);
	if (slot && !err)
		err = add_slot(h, slot, false);
	lock_release(&h->set->lock);
	return err;
}

int held_add_chain_locked(struct held *h, const struct meta_numbers *chain, bool whole, struct layers_slot ***out)
{
	struct layers_slot **v = calloc(chain->n + 1, sizeof(*v));
	int err = v ? 0 : -ENOMEM;

	for (size_t k = 0; k < chain->n && !err; k++) {
		v[k] = layers_slot_find(h->set, chain->v[k]);
		err = v[k] ? layers_slot_load(h->set, v[k], whole) :
		      err_corrupt("layers", 0, "layer %llu, which layer %llu builds upon, is missing", (unsigned long long)chain->v[k],
				  (unsigned long long)chain->v[chain->n - 1]);
		if (!err)
			err = add_slot(h, v[k], whole);
	}
	if (err) {
		free(v);
		return err;
	}
	*out = v;
	return 0;
}

int held_add_known_locked(struct held *h, const struct meta_numbers *list)
{
	int err = 0;

	for (size_t k = 0; k < list->n && !err; k++) {
		struct layers_slot *slot = layers_slot_find(h->set, list->v[k]);

		if (slot)
			err = add_slot(h, slot, false);
	}
	return err;
}
