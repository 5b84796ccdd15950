/*
 * The set of layers of a store: its slots, their users, and their records of an inode.
 *
 * Invariants:
 *  1. Slots are sorted by number; numbers are never reused.
 *  2. A slot that is dropped stays whole for those who use it; its file is deleted after the commit, by the last of them.
 */
#include "store/layers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "block/layer.h"
#include "store/layers/inside.h"
#include "store/store.h"
#include "util/err.h"
#include "util/log.h"
#include "util/plant.h"
#include "util/vec.h"

/* A layer's file, to be unlinked when the commit that dropped it is durable. */
struct dropped_file {
	struct meta_deferred deferred;
	struct layers_slot *slot;
};

int layers_slot_load(struct layers *ls, struct layers_slot *slot, bool index)
{
	struct store *s = ls->store;
	int err = 0;

	if (!slot->file) {
		if (layers_slot_sealed(slot))
			err = layer_open_frames(s->dir, slot->row.number, s->uuid, &slot->file);
		else
			err = layer_recover(s->dir, slot->row.number, s->uuid, slot->row.bytes, slot->row.segment_off,
					    &slot->file);
	}
	if (err || !index || slot->index_bytes)
		return err;
	err = layer_load_index(slot->file);
	layers_slot_charge(ls, slot);
	return err;
}

void layers_slot_charge(struct layers *ls, struct layers_slot *slot)
{
	bool whole = slot->file && layer_has_index(slot->file);
	size_t bytes = whole ? index_memory(layer_index(slot->file)) : 0;

	account_change(&ls->store->account, ACCOUNT_INDEXES, slot->index_bytes, bytes);
	slot->index_bytes = bytes;
}

void layers_shrink(struct layers *ls)
{
	for (size_t i = 0; i < ls->n && account_over(&ls->store->account, ACCOUNT_INDEXES); i++) {
		struct layers_slot *slot = ls->v[i];

		if (!slot->index_bytes || slot->nwhole || !layers_slot_sealed(slot))
			continue;
		layer_drop_index(slot->file);
		layers_slot_charge(ls, slot);
	}
}

/* The position of the first with this number or a higher one. */
static size_t slot_position(const struct layers *ls, uint64_t number)
{
	return VEC_LOWER_BOUND(i, ls->n, ls->v[i]->row.number < number);
}

int layers_slot_add(struct layers *ls, const struct meta_layer *row, struct layers_slot **out)
{
	struct layers_slot *slot = calloc(1, sizeof(*slot));

	if (!slot || VEC_RESERVE(ls->v, ls->cap, ls->n + 1)) {
		free(slot);
		return -ENOMEM;
	}
	slot->row = *row;
	slot->refs = 1;
	slot->set = ls;
	VEC_INSERT(ls->v, ls->n, slot_position(ls, row->number), slot);
	*out = slot;
	return 0;
}

static void delete_file(struct layers_slot *slot)
{
	char path[LAYER_NAME_MAX];
	unsigned waits = 0;
	int err;

	layer_path(slot->row.number, path);
	do
		err = io_unlink(slot->set->store->dir, path);
	while (err_wait(err, &waits));
	if (err)
		log_warn("%s: cannot be deleted: %s", path, strerror(-err));
}

void layers_slot_leave(struct layers *ls, struct layers_slot *slot)
{
	VEC_REMOVE(ls->v, ls->n, slot_position(ls, slot->row.number));
}

void layers_slot_unref(struct layers_slot *slot)
{
	if (--slot->refs)
		return;
	account_change(&slot->set->store->account, ACCOUNT_INDEXES, slot->index_bytes, 0);
	if (slot->file)
		layer_close(slot->file);
	if (slot->doomed)
		delete_file(slot);
	free(slot->row.chain.v);
	free(slot->row.refs.v);
	free(slot);
}

struct layers_slot *layers_slot_find(struct layers *ls, uint64_t number)
{
	size_t at = slot_position(ls, number);

	return at < ls->n && ls->v[at]->row.number == number ? ls->v[at] : NULL;
}

struct layers *layers_new(struct store *s)
{
	struct layers *ls = calloc(1, sizeof(*ls));

	if (!ls)
		return NULL;
	lock_init(&ls->lock, RANK_LAYERS);
	index_init(&ls->pending);
	index_init(&ls->later);
	ls->store = s;
	return ls;
}

void layers_close(struct layers *ls)
{
	for (size_t i = 0; i < ls->n; i++)
		layers_slot_unref(ls->v[i]);
	free(ls->v);
	free(ls->snapshots);
	free(ls->dropped);
	index_fini(&ls->pending);
	index_fini(&ls->later);
	lock_fini(&ls->lock);
	free(ls);
}

void layers_lock(struct layers *ls)
{
	lock_acquire(&ls->lock);
}

void layers_unlock(struct layers *ls)
{
	lock_release(&ls->lock);
}

int layers_get(struct layers *ls, uint64_t number, struct layers_slot **out)
{
	struct layers_slot *slot;
	int err;

	lock_acquire(&ls->lock);
	slot = layers_slot_find(ls, number);
	err = slot ? layers_slot_load(ls, slot, false) : -ESTALE;
	if (!err) {
		slot->refs++;
		*out = slot;
	}
	lock_release(&ls->lock);
	return err;
}

void layers_put(struct layers *ls, struct layers_slot *slot)
{
	lock_acquire(&ls->lock);
	layers_slot_unref(slot);
	lock_release(&ls->lock);
}

struct layer *layers_file(struct layers_slot *slot)
{
	return slot->file;
}

/* One sealed layer of the newest state's chain, by position. */
static int chain_layer(struct layers *ls, size_t k, struct layer **out)
{
	uint64_t number = ls->newest->row.chain.v[k];
	struct layers_slot *slot = layers_slot_find(ls, number);
	int err = slot ? layers_slot_load(ls, slot, false) :
		  err_corrupt("meta.db", 0, "layer %llu is missing", (unsigned long long)number);

	if (!err)
		*out = slot->file;
	return err;
}

int layers_replay(struct layers *ls, uint64_t ino, int (*each)(void *ctx, const struct index_record *r), void *ctx)
{
	const struct index_record *r;
	int err = 0;

	lock_acquire(&ls->lock);
	for (size_t k = 0; ls->newest && k < ls->newest->row.chain.n && !err; k++) {
		struct layer *file;

		err = chain_layer(ls, k, &file);
		if (!err)
			err = layer_with_record(file, ls->store->cache, ino, each, ctx);
	}
	r = err || !ls->open ? NULL : index_find(layer_index(ls->open->file), ino);
	if (r)
		err = each(ctx, r);
	/* A failed commit leaves entries that are staged and not yet in a segment. */
	r = err ? NULL : index_find(&ls->pending, ino);
	if (r)
		err = each(ctx, r);
	lock_release(&ls->lock);
	return err;
}

void layers_account_locked(struct layers *ls, uint64_t number, int64_t delta_bytes)
{
	struct layers_slot *slot = layers_slot_find(ls, number);
	uint64_t less = delta_bytes < 0 ? (uint64_t)-delta_bytes : 0;

	if (slot && slot->moved_to)
		slot = layers_slot_find(ls, slot->moved_to);
	if (!slot || !delta_bytes)
		return;
	slot->dying_bytes += less;
	__atomic_add_fetch(&ls->dying, less, __ATOMIC_RELAXED);
	/* Blocks that a compaction has packed anew have other shares of their frame than the map of an open array knows. */
	if (less > slot->row.live_bytes)
		slot->row.live_bytes = 0;
	else
		slot->row.live_bytes += (uint64_t)delta_bytes;
	slot->row_dirty = true;
}

static void run_drop(struct meta_deferred *d, bool durable)
{
	struct dropped_file *f = (struct dropped_file *)d;

	lock_acquire(&f->slot->set->lock);
	f->slot->doomed = durable;
	lock_release(&f->slot->set->lock);
	layers_put(f->slot->set, f->slot);
	free(f);
}

int layers_slot_drop_locked(struct layers *ls, struct layers_slot *slot)
{
	struct dropped_file *f = calloc(1, sizeof(*f));
	int err = f ? meta_layer_delete_locked(ls->store->meta, slot->row.number) : -ENOMEM;

	if (err) {
		free(f);
		return err;
	}
	f->deferred.run = run_drop;
	f->slot = slot; /* the set's reference */
	if (PLANTED(PLANT_EARLY_DROP))
		delete_file(slot);
	meta_defer_locked(ls->store->meta, &f->deferred);
	layers_slot_leave(ls, slot);
	return 0;
}

void layers_slot_sealed_now(struct layers *ls, struct layers_slot *slot)
{
	slot->row.bytes = layer_bytes(slot->file);
	slot->row.stored_bytes = layer_frame_bytes(slot->file);
	slot->row_dirty = slot->unsynced = true;
	/* A delta needs all that the state before it needs, so only states that leave the window free anything. */
	if (slot->row.state == META_LAYER_DELTA && ls->store->config.keep == 1) {
		if (ls->newest)
			ls->newest->retained = ls->newest->nnames > 0;
		slot->retained = true;
	} else {
		ls->retain_dirty = true;
	}
	ls->newest = slot;
}

uint64_t layers_count_files(const struct index *ix)
{
	uint64_t n = 0;

	for (size_t i = 0; i < ix->n; i++)
		n += ix->v[i]->type == LAYER_REC_GONE || (ix->v[i]->facts.mode & S_IFMT) == S_IFREG;
	return n;
}

uint64_t layers_newest_sealed(struct layers *ls)
{
	uint64_t number;

	lock_acquire(&ls->lock);
	number = ls->newest ? ls->newest->row.number : 0;
	lock_release(&ls->lock);
	return number;
}

static void fill_info(const struct layers_slot *slot, struct layers_info *out)
{
	const struct meta_layer *row = &slot->row;

	*out = (struct layers_info){
		.number = row->number, .commit = row->commit, .bytes = row->bytes, .time_ns = row->time_ns, .arrays = row->arrays,
		.raw_bytes = row->raw_bytes, .stored_bytes = row->stored_bytes, .full = row->state == META_LAYER_FULL,
		.retained = slot->retained,
	};
}

int layers_next_sealed(struct layers *ls, uint64_t from, struct layers_info *out)
{
	int err = -ENOENT;

	lock_acquire(&ls->lock);
	for (size_t i = slot_position(ls, from); i < ls->n && err; i++) {
		if (!layers_slot_sealed(ls->v[i]))
			continue;
		fill_info(ls->v[i], out);
		err = 0;
	}
	lock_release(&ls->lock);
	return err;
}

void layers_totals(struct layers *ls, struct layers_totals *out)
{
	*out = (struct layers_totals){ 0 };
	lock_acquire(&ls->lock);
	for (size_t i = 0; i < ls->n; i++) {
		struct layers_slot *slot = ls->v[i];

		out->nlayers++;
		out->bytes += layers_slot_sealed(slot) ? slot->row.bytes : layer_bytes(slot->file);
		out->live_bytes += slot->row.live_bytes;
	}
	out->chain = (ls->newest ? ls->newest->row.chain.n : 0) + (ls->open != NULL);
	out->snapshots = ls->nsnapshots;
	lock_release(&ls->lock);
}
