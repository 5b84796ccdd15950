/*
 * Retention: the names of snapshots, and which layers are still needed.
 *
 * Invariants:
 *  1. A layer is dropped only in a transaction, when no live array points into it, and the state of no
 *     retained layer needs it: neither its records (it is in the state's chain) nor its frames (the full layer that the chain
 *     begins with points into it).
 *  2. Retained are the newest sealed layer, those that have a name, and the last `keep` that were not made by a
 *     compaction; but keep = 1 is the newest layer alone, whatever made it, so that nothing holds back what it replaces.
 *  3. The rows of the snapshots count; the files in layers/refs follow them after the commit.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/layer.h"
#include "store/layers/inside.h"
#include "store/ref.h"
#include "store/store.h"
#include "util/log.h"
#include "util/number.h"
#include "util/vec.h"

/* Position of the name, or where it would be. */
static size_t position(const struct layers *ls, const char *name, bool *found)
{
	size_t at = VEC_LOWER_BOUND(i, ls->nsnapshots, strcmp(ls->snapshots[i].name, name) < 0);

	*found = at < ls->nsnapshots && !strcmp(ls->snapshots[at].name, name);
	return at;
}

static int insert(struct layers *ls, const char *name, uint64_t layer, int64_t time_ns)
{
	bool found;
	size_t at = position(ls, name, &found);

	if (found)
		return -EEXIST;
	if (VEC_RESERVE(ls->snapshots, ls->cap_snapshots, ls->nsnapshots + 1))
		return -ENOMEM;
	VEC_INSERT(ls->snapshots, ls->nsnapshots, at, (struct layers_snapshot){ .layer = layer, .time_ns = time_ns });
	snprintf(ls->snapshots[at].name, sizeof(ls->snapshots[at].name), "%s", name);
	return 0;
}

/* The name's file is to go. */
static void add_dropped(struct layers *ls, const struct layers_snapshot *s)
{
	void *v = realloc(ls->dropped, (ls->ndropped + 1) * sizeof(*ls->dropped));

	if (!v)
		return; /* the next mount deletes it */
	ls->dropped = v;
	ls->dropped[ls->ndropped++] = *s;
}

static void erase(struct layers *ls, size_t at)
{
	struct layers_slot *slot = layers_slot_find(ls, ls->snapshots[at].layer);

	if (slot)
		slot->nnames--;
	if (ls->snapshots[at].published)
		add_dropped(ls, &ls->snapshots[at]);
	VEC_REMOVE(ls->snapshots, ls->nsnapshots, at);
	ls->retain_dirty = true;
}

static int load_snapshot(void *ctx, const char *name, uint64_t layer, int64_t time_ns)
{
	struct layers *ls = ctx;
	struct layers_slot *slot = layers_slot_find(ls, layer);
	int err = insert(ls, name, layer, time_ns);

	if (!err && slot)
		slot->nnames++;
	ls->names_dirty = true;
	return err;
}

int layers_snapshots_load_locked(struct layers *ls)
{
	return meta_snapshot_walk_locked(ls->store->meta, load_snapshot, ls);
}

int layers_snapshot_want(struct layers *ls, const char *name)
{
	int err;

	if (name[0] == '@' || !name[0] || strlen(name) > META_NAME_MAX)
		return -EINVAL;
	lock_acquire(&ls->lock);
	err = insert(ls, name, 0, 0);
	lock_release(&ls->lock);
	return err;
}

void layers_snapshot_unwant(struct layers *ls, const char *name)
{
	bool found;
	size_t at;

	lock_acquire(&ls->lock);
	at = position(ls, name, &found);
	if (found && !ls->snapshots[at].layer)
		erase(ls, at);
	lock_release(&ls->lock);
}

int layers_snapshots_name_locked(struct layers *ls, int64_t time_ns)
{
	for (size_t i = 0; i < ls->nsnapshots; i++) {
		struct layers_snapshot *s = &ls->snapshots[i];
		int err;

		if (s->layer || !ls->newest)
			continue;
		err = meta_snapshot_put_locked(ls->store->meta, s->name, ls->newest->row.number, time_ns);
		if (err)
			return err;
		s->layer = ls->newest->row.number;
		ls->newest->nnames++;
		ls->newest->retained = true;
		s->time_ns = time_ns;
		ls->names_dirty = true;
	}
	return 0;
}

int layers_snapshot_drop_locked(struct layers *ls, const char *name)
{
	bool found;
	size_t at;
	int err = -ENOENT;

	lock_acquire(&ls->lock);
	at = position(ls, name, &found);
	if (found && ls->snapshots[at].layer)
		err = meta_snapshot_delete_locked(ls->store->meta, name);
	if (!err)
		erase(ls, at);
	lock_release(&ls->lock);
	return err;
}

int layers_snapshot_find(struct layers *ls, const char *name, struct layers_snapshot *out)
{
	struct layers_snapshot s = { .name = "" };
	bool found;
	size_t at;

	if (*name == '@') {
		if (number_of_name(name + 1, 1, "", &s.layer) || !s.layer)
			return -ENOENT;
		*out = s;
		return 0;
	}
	lock_acquire(&ls->lock);
	at = position(ls, name, &found);
	found = found && ls->snapshots[at].layer;
	if (found)
		*out = ls->snapshots[at];
	lock_release(&ls->lock);
	return found ? 0 : -ENOENT;
}

int layers_snapshot_next(struct layers *ls, const char *after, struct layers_snapshot *out)
{
	bool found;
	size_t at;
	int err = -ENOENT;

	lock_acquire(&ls->lock);
	at = position(ls, after, &found);
	at += found;
	while (at < ls->nsnapshots && !ls->snapshots[at].layer)
		at++;
	if (at < ls->nsnapshots) {
		*out = ls->snapshots[at];
		err = 0;
	}
	lock_release(&ls->lock);
	return err;
}

/* The files of layers/refs. */

static int write_ref(struct layers *ls, const struct layers_snapshot *s)
{
	char path[REF_PATH_MAX], text[REF_TEXT_MAX];

	ref_path(s->name, path);
	ref_text(s->layer, s->time_ns, text);
	return io_replace(ls->store->dir, path, "layers/ref.tmp", text, strlen(text));
}

/* At mount: files of names that no row knows go, all others are written again. */
static int forget_ref(void *ctx, const char *name)
{
	struct layers *ls = ctx;
	char path[REF_PATH_MAX];
	bool found;

	position(ls, name, &found);
	if (found)
		return 0;
	ref_path(name, path);
	return io_unlink(ls->store->dir, path);
}

int layers_refs_clean(struct layers *ls)
{
	return io_list(ls->store->dir, "layers/refs", forget_ref, ls);
}

/* The first change that has no file yet: a name that came (*gone false) or went. */
static bool next_change(struct layers *ls, struct layers_snapshot *out, bool *gone)
{
	bool found = false;

	lock_acquire(&ls->lock);
	*gone = ls->ndropped > 0;
	if (*gone) {
		*out = ls->dropped[--ls->ndropped];
		found = true;
	}
	for (size_t i = 0; i < ls->nsnapshots && !found && ls->names_dirty; i++) {
		struct layers_snapshot *s = &ls->snapshots[i];

		found = s->layer && !s->published;
		if (found) {
			s->published = true;
			*out = *s;
		}
	}
	if (!found)
		ls->names_dirty = false;
	lock_release(&ls->lock);
	return found;
}

/* A file in refs/ could not be made or removed: notes again that it has to be. */
static void unpublish(struct layers *ls, const struct layers_snapshot *s, bool gone)
{
	bool found;
	size_t at;

	lock_acquire(&ls->lock);
	if (gone) {
		add_dropped(ls, s);
	} else {
		at = position(ls, s->name, &found);
		if (found && ls->snapshots[at].layer == s->layer)
			ls->snapshots[at].published = false;
		ls->names_dirty = true;
	}
	lock_release(&ls->lock);
}

int layers_snapshots_publish(struct layers *ls)
{
	struct layers_snapshot s;
	bool any = false, gone;
	int err = 0;

	while (!err && next_change(ls, &s, &gone)) {
		char path[REF_PATH_MAX];

		any = true;
		ref_path(s.name, path);
		err = gone ? io_unlink(ls->store->dir, path) : write_ref(ls, &s);
		if (err)
			unpublish(ls, &s, gone);
	}
	return !err && any ? io_dir_sync(ls->store->dir, "layers/refs") : err;
}

/* Counting. */

static size_t tally_position(const struct layers_tally *t, uint64_t layer)
{
	return VEC_LOWER_BOUND(i, t->n, t->v[i].layer < layer);
}

const struct layers_live *layers_tally_find(const struct layers_tally *t, uint64_t layer)
{
	size_t at = tally_position(t, layer);

	return at < t->n && t->v[at].layer == layer ? &t->v[at] : NULL;
}

/* The entry of the layer, made if missing. */
static struct layers_live *tally_of(struct layers_tally *t, uint64_t layer)
{
	size_t at;

	if (t->last < t->n && t->v[t->last].layer == layer)
		return &t->v[t->last];
	at = tally_position(t, layer);
	if (at == t->n || t->v[at].layer != layer) {
		if (VEC_RESERVE(t->v, t->cap, t->n + 1))
			return NULL;
		VEC_INSERT(t->v, t->n, at, (struct layers_live){ .layer = layer });
	}
	t->last = at;
	return &t->v[at];
}

/* Does the newer record leave nothing of the block? */
static bool replaced(const struct index_record *newer, uint64_t block)
{
	return newer && (newer->type == LAYER_REC_GONE || index_record_hides(newer, block) ||
			 index_record_block((struct index_record *)newer, block));
}

static bool is_among(const struct meta_numbers *numbers, uint64_t number)
{
	size_t at = VEC_LOWER_BOUND(i, numbers->n, numbers->v[i] < number);

	return at < numbers->n && numbers->v[at] == number;
}

/* Blocks but those that are all zeros, or that `newer` has replaced. */
int layers_tally_add(struct layers_tally *t, const struct index_record *r, const struct index *newer,
		     const struct meta_numbers *gone)
{
	const struct index_record *next = newer ? index_find(newer, r->facts.ino) : NULL;
	bool is_gone = gone && is_among(gone, r->facts.ino);

	for (size_t k = 0; k < r->nblocks; k++) {
		const struct layer_block *b = &r->blocks[k];
		struct layers_live *l;

		if (!b->frame_off || replaced(next, b->block))
			continue;
		l = tally_of(t, b->layer);
		if (!l)
			return -ENOMEM;
		l->nblocks++;
		l->bytes += is_gone ? 0 : index_share(b->frame_len, b->frame_raw, b->raw_len);
	}
	return 0;
}

int layers_tally_index(struct layers_tally *t, const struct index *ix, const struct meta_numbers *gone)
{
	int err = 0;

	for (size_t i = 0; i < ix->n && !err; i++)
		err = layers_tally_add(t, ix->v[i], NULL, gone);
	return err;
}

int layers_tally_refs(const struct layers_tally *t, uint64_t self, struct meta_numbers *out)
{
	struct meta_numbers refs = { .v = malloc((t->n + 1) * sizeof(*refs.v)) };

	if (!refs.v)
		return -ENOMEM;
	for (size_t i = 0; i < t->n; i++) {
		if (t->v[i].layer != self)
			refs.v[refs.n++] = t->v[i].layer;
	}
	*out = refs;
	return 0;
}

int layers_refs(const struct index *ix, uint64_t self, struct meta_numbers *out)
{
	struct layers_tally t = { 0 };
	int err = layers_tally_index(&t, ix, NULL);

	if (!err)
		err = layers_tally_refs(&t, self, out);
	free(t.v);
	return err;
}

int layers_gone(struct layers *ls, struct meta_numbers *out)
{
	struct meta_numbers gone = { 0 };

	lock_acquire(&ls->lock);
	gone.v = malloc((ls->pending.n + 1) * sizeof(*gone.v));
	for (size_t i = 0; gone.v && i < ls->pending.n; i++) {
		if (ls->pending.v[i]->type == LAYER_REC_GONE)
			gone.v[gone.n++] = ls->pending.v[i]->facts.ino;
	}
	lock_release(&ls->lock);
	if (!gone.v)
		return -ENOMEM;
	*out = gone;
	return 0;
}

/* Dropping. */

static void mark_numbers(struct layers *ls, const struct meta_numbers *list, uint64_t base)
{
	for (size_t i = 0; i < list->n; i++) {
		struct layers_slot *slot = layers_slot_find(ls, list->v[i]);

		if (slot) {
			slot->needed = true;
			slot->needed_from = base;
		}
	}
}

/* Marks the layers that the state of a sealed layer needs (invariant 1). Called for the newest state first. If a layer is in a
 * chain that was marked with the same base, its own chain is a part of that one and is skipped: many states cost only as much
 * as the layers that they share. */
static void mark_needed(struct layers *ls, const struct layers_slot *slot)
{
	const struct meta_numbers *chain = &slot->row.chain;
	uint64_t base = chain->n ? chain->v[0] : 0;
	struct layers_slot *first;

	if (slot->needed && slot->needed_from == base)
		return;
	first = layers_slot_find(ls, base);
	if (first)
		mark_numbers(ls, &first->row.refs, 0);
	mark_numbers(ls, chain, base);
}

static void mark_state(struct layers *ls, struct layers_slot *slot)
{
	slot->retained = true;
	mark_needed(ls, slot);
}

void layers_mark_states(struct layers *ls, bool window)
{
	unsigned kept = 1;

	/* A newest layer that a compaction has made has the same state as the commit before it. */
	if (ls->newest && ls->newest->row.state == META_LAYER_FULL && ls->store->config.keep > 1)
		kept = 0;

	for (size_t i = 0; i < ls->n; i++)
		ls->v[i]->needed = ls->v[i]->retained = false;
	/* Newest first, for mark_state. */
	for (size_t i = ls->n; i-- > 0;) {
		struct layers_slot *slot = ls->v[i];
		/* The newest state may begin anew: only the older ones hold anything back. */
		bool in_window = kept < ls->store->config.keep && slot != ls->newest && slot->row.state == META_LAYER_DELTA;

		kept += in_window;
		slot->retained = in_window;
		if (slot->nnames || (in_window && window))
			mark_state(ls, slot);
	}
	if (ls->newest)
		ls->newest->retained = true;
}

/* Bytes of sealed layers that no marked state and no live array needs. */
static uint64_t unneeded_bytes(const struct layers *ls)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < ls->n; i++) {
		const struct layers_slot *slot = ls->v[i];

		if (layers_slot_sealed(slot) && !slot->needed && !slot->row.live_bytes)
			bytes += slot->row.bytes;
	}
	return bytes;
}

/* Counts only: which states can be opened stays as it is. */
void layers_held(struct layers *ls, struct layers_held *out)
{
	uint64_t both;

	*out = (struct layers_held){ 0 };
	if (ls->store->config.follow) /* it holds nothing */
		return;
	lock_acquire(&ls->lock);
	for (size_t i = 0; i < ls->n; i++)
		ls->v[i]->needed = false;
	if (ls->newest)
		mark_needed(ls, ls->newest);
	both = unneeded_bytes(ls);
	for (size_t i = ls->n; i-- > 0;) {
		if (ls->v[i]->nnames)
			mark_needed(ls, ls->v[i]);
	}
	out->window_bytes = unneeded_bytes(ls);
	out->snapshot_bytes = both - out->window_bytes;
	lock_release(&ls->lock);
}

int layers_retain_locked(struct layers *ls)
{
	size_t i = 0;

	layers_mark_states(ls, true);
	if (ls->newest)
		mark_state(ls, ls->newest);
	while (i < ls->n) {
		struct layers_slot *slot = ls->v[i];
		int err = 0;

		if (slot->needed || slot->row.live_bytes || !layers_slot_sealed(slot))
			i++;
		else
			err = layers_slot_drop_locked(ls, slot);
		if (err)
			return err;
	}
	ls->retain_dirty = false;
	return 0;
}
