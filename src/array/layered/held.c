/*
 * Held layers: their files stay, though compaction has dropped them. Counted; which they are does not change once they are
 * shared.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "array/layered/inside.h"
#include "store/layers/state.h"
#include "store/layers.h"
#include "util/vec.h"

struct held {
	struct layers *set;
	atomic_uint refs;
	size_t n, cap;
	struct held_layer {
		uint64_t number;
		struct layers_slot *slot;
	} *v; /* rising */
};

int held_new(struct layers *set, struct held **out)
{
	struct held *h = calloc(1, sizeof(*h));

	if (!h)
		return -ENOMEM;
	h->set = set;
	atomic_init(&h->refs, 1);
	*out = h;
	return 0;
}

void held_get(struct held *h)
{
	atomic_fetch_add(&h->refs, 1);
}

void held_put(struct held *h)
{
	if (atomic_fetch_sub(&h->refs, 1) != 1)
		return;
	for (size_t k = 0; k < h->n; k++)
		layers_put(h->set, h->v[k].slot);
	free(h->v);
	free(h);
}

/* The first with at least this number. */
static size_t place_of(const struct held *h, uint64_t number)
{
	return VEC_LOWER_BOUND(i, h->n, h->v[i].number < number);
}

struct layers_slot *held_find(struct held *h, uint64_t layer)
{
	size_t at = place_of(h, layer);

	return at < h->n && h->v[at].number == layer ? h->v[at].slot : NULL;
}

int held_add(struct held *h, struct state *state, uint64_t number)
{
	size_t at = place_of(h, number);
	struct layers_slot *slot;
	int err;

	if (at < h->n && h->v[at].number == number)
		return 0;
	if (VEC_RESERVE(h->v, h->cap, h->n + 1))
		return -ENOMEM;
	err = state ? state_layer(state, number, &slot) : layers_get(h->set, number, &slot);
	if (err)
		return err == -ESTALE ? 0 : err; /* readers of its blocks fail, and log it */
	for (size_t k = h->n++; k > at; k--)
		h->v[k] = h->v[k - 1];
	h->v[at] = (struct held_layer){ number, slot };
	return 0;
}
