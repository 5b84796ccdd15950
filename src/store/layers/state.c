/*
 * States.
 *
 * Invariants:
 *  1. The chain is held and its indexes loaded before anybody sees the state. The layers that its full layer points into are held
 *     too: readers of the state find them there, also those that have left the set.
 *  2. A name is what the newest index of the chain that knows it says; so is an inode.
 *  3. The listing of the directory that was read last is kept: cookies are positions in it.
 */
#include "store/layers/state.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "block/layer.h"
#include "store/layers/held.h"
#include "store/layers/inside.h"
#include "store/store.h"
#include "util/err.h"

struct listing {
	uint64_t parent; /* 0: none */
	const struct index_name **v;
	size_t n;
};

struct state {
	struct held *held;
	atomic_uint refs;
	uint64_t number;
	int64_t time_ns;
	struct layers_slot **chain; /* oldest first */
	size_t n;
	struct lock lock; /* RANK_CACHE: the listing */
	struct listing listing;
};

/* A layer that the first one points into and that is missing is an error for the readers of its blocks, not here. */
static int hold_locked(struct state *state, const struct meta_numbers *chain)
{
	int err = held_add_chain_locked(state->held, chain, true, &state->chain);

	if (err)
		return err;
	state->n = chain->n;
	return state->n ? held_add_known_locked(state->held, &state->chain[0]->row.refs) : 0;
}

int state_open(struct layers *ls, uint64_t number, struct state **out)
{
	struct state *state = calloc(1, sizeof(*state));
	struct layers_slot *slot;
	int err;

	if (!state)
		return -ENOMEM;
	err = held_new(ls, &state->held);
	if (err) {
		free(state);
		return err;
	}
	atomic_init(&state->refs, 1);
	lock_init(&state->lock, RANK_CACHE);
	lock_acquire(&ls->lock);
	slot = number ? layers_slot_find(ls, number) : ls->newest;
	if (slot && layers_slot_sealed(slot) && (slot->retained || slot == ls->newest)) {
		state->number = slot->row.number;
		state->time_ns = slot->row.time_ns;
		err = hold_locked(state, &slot->row.chain);
	} else if (number) {
		err = -ENOENT;
	}
	lock_release(&ls->lock);
	if (err) {
		state_put(state);
		return err;
	}
	*out = state;
	return 0;
}

struct state *state_get(struct state *state)
{
	atomic_fetch_add(&state->refs, 1);
	return state;
}

void state_put(struct state *state)
{
	if (atomic_fetch_sub(&state->refs, 1) != 1)
		return;
	held_put(state->held);
	free(state->chain);
	free(state->listing.v);
	lock_fini(&state->lock);
	free(state);
}

struct held *state_held(const struct state *state)
{
	return state->held;
}

uint64_t state_number(const struct state *state)
{
	return state->number;
}

int64_t state_time_ns(const struct state *state)
{
	return state->time_ns;
}

static const struct index *index_at(const struct state *state, size_t k)
{
	return layer_index(state->chain[k]->file);
}

int state_find(struct state *state, uint64_t parent, const char *name, uint64_t *ino_out)
{
	for (size_t k = state->n; k-- > 0;) {
		uint64_t ino;

		if (!index_name_find(index_at(state, k), parent, name, &ino))
			continue;
		if (!ino)
			return -ENOENT;
		*ino_out = ino;
		return 0;
	}
	return -ENOENT;
}

static int check_record(const struct index_record *r)
{
	if (meta_is_mode(r->facts.mode) && r->facts.size_bytes <= INT64_MAX && r->facts.stored_bytes <= INT64_MAX)
		return 0;
	return err_corrupt("layers", 0, "the record of inode %llu: mode %o, size %llu", (unsigned long long)r->facts.ino, r->facts.mode,
			   (unsigned long long)r->facts.size_bytes);
}

int state_inode(struct state *state, uint64_t ino, const struct index_record **out)
{
	for (size_t k = state->n; k-- > 0;) {
		const struct index_record *r = index_find(index_at(state, k), ino);

		if (!r)
			continue;
		if (r->type == LAYER_REC_GONE)
			return -ENOENT;
		if (check_record(r))
			return -EUCLEAN;
		*out = r;
		return 0;
	}
	return -ENOENT;
}

int state_replay(struct state *state, uint64_t ino, int (*each)(void *ctx, const struct index_record *r), void *ctx)
{
	int err = 0;

	for (size_t k = 0; k < state->n && !err; k++) {
		const struct index_record *r = index_find(index_at(state, k), ino);

		if (r)
			err = each(ctx, r);
	}
	return err;
}

/* Merges the names of one more index, newer than those before, into the sorted list. */
static int merge_names(struct listing *l, const struct index *ix)
{
	size_t first, end, i = 0, n = 0;
	const struct index_name **v;

	index_name_range(ix, l->parent, &first, &end);
	if (first == end)
		return 0;
	v = malloc((l->n + (end - first)) * sizeof(*v));
	if (!v)
		return -ENOMEM;
	while (i < l->n || first < end) {
		int order = i == l->n ? 1 : first == end ? -1 : strcmp(l->v[i]->name, ix->names[first].name);

		if (order < 0) {
			v[n++] = l->v[i++];
			continue;
		}
		i += order == 0;
		if (ix->names[first].ino)
			v[n++] = &ix->names[first];
		first++;
	}
	free(l->v);
	l->v = v;
	l->n = n;
	return 0;
}

static int list_locked(struct state *state, uint64_t parent)
{
	struct listing l = { .parent = parent };
	int err = 0;

	if (state->listing.parent == parent)
		return 0;
	for (size_t k = 0; k < state->n && !err; k++)
		err = merge_names(&l, index_at(state, k));
	if (err) {
		free(l.v);
		return err;
	}
	free(state->listing.v);
	state->listing = l;
	return 0;
}

int state_walk(struct state *state, uint64_t parent, uint64_t after,
	       int (*each)(void *ctx, uint64_t cookie, const char *name, uint64_t ino), void *ctx)
{
	int err;

	lock_acquire(&state->lock);
	err = list_locked(state, parent);
	for (size_t i = (size_t)after; !err && i < state->listing.n; i++)
		err = each(ctx, i + 1, state->listing.v[i]->name, state->listing.v[i]->ino);
	lock_release(&state->lock);
	return err < 0 ? err : 0;
}

int state_merge(struct state *state, struct index *out)
{
	struct index ix;
	int err = 0;

	index_init(&ix);
	for (size_t k = 0; k < state->n && !err; k++)
		err = index_merge(&ix, index_at(state, k));
	if (err) {
		index_fini(&ix);
		return err;
	}
	index_flatten(&ix);
	*out = ix;
	return 0;
}

int state_merge_present(struct layers *ls, struct index *out)
{
	struct state *state;
	struct index ix;
	int err = state_open(ls, 0, &state);

	if (err)
		return err;
	err = state_merge(state, &ix);
	state_put(state);
	if (err)
		return err;
	lock_acquire(&ls->lock);
	if (ls->open)
		err = index_merge(&ix, layer_index(ls->open->file));
	lock_release(&ls->lock);
	if (err) {
		index_fini(&ix);
		return err;
	}
	index_flatten(&ix);
	*out = ix;
	return 0;
}
