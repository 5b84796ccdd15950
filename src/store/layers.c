/*
 * The set of layers of a store.
 *
 * Invariants:
 *  1. Slots are sorted by number; numbers are never reused.
 *  2. At most two layers are unsealed: `closing`, which the next commit seals, and `open`, behind it.
 *     Entries are staged for the older one only, so that a committed state has one unsealed layer.
 *  3. A sealed layer is dropped only when no live array points to its frames and no older layer holds
 *     anything that its tombstones hide; the newest sealed layer always stays.
 *  4. layers/ holds no file without a row after layers_open.
 */
#include "store/layers.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/layer.h"
#include "store/commit.h"
#include "store/meta.h"
#include "store/store.h"
#include "util/err.h"
#include "util/lock.h"
#include "util/log.h"
#include "util/stats.h"

/* A layer is worth compacting when half of it is dead, and that is not little. */
#define LAYERS_WORTH_BYTES (4u << 20)

struct layers_slot {
	struct meta_layer row;
	bool row_dirty, unsynced;
	bool evacuated; /* what it hides is hidden by newer layers too */
	bool unmovable; /* it cannot be compacted */
	struct layer *file; /* NULL until first used */
	uint64_t frame_bytes; /* its frames as of the last segment; 0: not known */
	struct index pending;
	unsigned refs; /* users, plus one while it is in the set */
	struct layers *set;
};

struct layers {
	struct lock lock;
	struct store *store;
	struct layers_slot **v;
	size_t n, cap;
	struct layers_slot *closing, *open;
	uint64_t next_number;
	uint64_t newest_sealed;
	uint64_t published; /* what HEAD says; 0: not known, it is written again */
	uint64_t in_open; /* bytes of the open layer; read without the lock */
};

/* A layer's file, to be unlinked when the commit that dropped it is durable. */
struct dropped_file {
	struct commit_deferred deferred;
	struct store *store;
	uint64_t number;
};

static int open_file(struct layers *ls, struct layers_slot *slot)
{
	struct store *s = ls->store;
	int err;

	if (slot->file)
		return 0;
	if (slot->row.sealed)
		err = layer_open(s->dir, slot->row.number, s->uuid, &slot->file);
	else
		err = layer_recover(s->dir, slot->row.number, s->uuid, slot->row.bytes, slot->row.segment_off, &slot->file);
	if (!err)
		slot->frame_bytes = layer_frame_bytes(slot->file);
	return err;
}

static int add_slot(struct layers *ls, const struct meta_layer *row, struct layers_slot **out)
{
	struct layers_slot *slot = calloc(1, sizeof(*slot));

	if (slot && ls->n == ls->cap) {
		size_t cap = ls->cap ? ls->cap * 2 : 16;
		void *v = realloc(ls->v, cap * sizeof(*ls->v));

		if (!v) {
			free(slot);
			return -ENOMEM;
		}
		ls->v = v;
		ls->cap = cap;
	}
	if (!slot)
		return -ENOMEM;
	slot->row = *row;
	slot->refs = 1;
	slot->set = ls;
	index_init(&slot->pending);
	ls->v[ls->n++] = slot;
	*out = slot;
	return 0;
}

static void slot_unref(struct layers_slot *slot)
{
	if (--slot->refs)
		return;
	if (slot->file)
		layer_close(slot->file);
	index_fini(&slot->pending);
	free(slot);
}

static struct layers_slot *find_slot(struct layers *ls, uint64_t number)
{
	size_t lo = 0, hi = ls->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (ls->v[mid]->row.number < number)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < ls->n && ls->v[lo]->row.number == number ? ls->v[lo] : NULL;
}

static int load_row(void *ctx, const struct meta_layer *row)
{
	struct layers *ls = ctx;
	struct layers_slot *slot;
	int err = add_slot(ls, row, &slot);

	if (err)
		return err;
	if (row->sealed) {
		ls->newest_sealed = row->number;
	} else {
		err = open_file(ls, slot);
		if (ls->open)
			return err_corrupt("meta.db", 0, "layers %llu and %llu are both open",
					   (unsigned long long)ls->open->row.number, (unsigned long long)row->number);
		ls->open = slot;
	}
	if (row->number >= ls->next_number)
		ls->next_number = row->number + 1;
	return err;
}

static int delete_unknown(void *ctx, const char *name)
{
	struct layers *ls = ctx;
	char path[LAYER_NAME_MAX];
	uint64_t number;

	if (layer_name_parse(name, &number) || find_slot(ls, number))
		return 0;
	layer_path(number, path);
	log_info("%s: not part of any commit, deleted", path);
	return io_unlink(ls->store->dir, path);
}

int layers_open(struct store *s, struct layers **out)
{
	struct layers *ls = calloc(1, sizeof(*ls));
	int64_t next = 1;
	int err;

	if (!ls)
		return -ENOMEM;
	lock_init(&ls->lock, RANK_LAYERS);
	ls->store = s;
	meta_lock(s->meta);
	err = meta_fact_get_locked(s->meta, "next_layer", &next);
	ls->next_number = (uint64_t)next;
	if (!err || err == -ENOENT)
		err = meta_layer_walk_locked(s->meta, load_row, ls);
	meta_unlock(s->meta);
	if (!err)
		err = io_list(s->dir, "layers", delete_unknown, ls);
	if (err) {
		layers_close(ls);
		return err;
	}
	*out = ls;
	return 0;
}

void layers_close(struct layers *ls)
{
	for (size_t i = 0; i < ls->n; i++)
		slot_unref(ls->v[i]);
	free(ls->v);
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

/* Makes ls->open exist. */
static int need_open(struct layers *ls)
{
	struct meta_layer row = { .number = ls->next_number };
	struct layers_slot *slot;
	struct layer *file;
	int err;

	if (ls->open)
		return 0;
	err = layer_create(ls->store->dir, row.number, ls->store->uuid, &file);
	if (err)
		return err;
	err = add_slot(ls, &row, &slot);
	if (err) {
		layer_close(file);
		return err;
	}
	slot->file = file;
	ls->open = slot;
	ls->next_number++;
	return 0;
}

int layers_append(struct layers *ls, const void *frame, size_t len, size_t raw_len, uint64_t *number_out,
		  uint64_t *off_out)
{
	int err;

	lock_acquire(&ls->lock);
	err = need_open(ls);
	if (!err)
		err = layer_append(ls->open->file, frame, len, raw_len, off_out);
	if (!err) {
		*number_out = ls->open->row.number;
		ls->open->unsynced = true;
		__atomic_store_n(&ls->in_open, layer_bytes(ls->open->file), __ATOMIC_RELAXED);
	}
	lock_release(&ls->lock);
	return err;
}

int layers_get(struct layers *ls, uint64_t number, struct layers_slot **out)
{
	struct layers_slot *slot;
	int err;

	lock_acquire(&ls->lock);
	slot = find_slot(ls, number);
	err = slot ? open_file(ls, slot) : err_corrupt("meta.db", 0, "layer %llu is missing", (unsigned long long)number);
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
	slot_unref(slot);
	lock_release(&ls->lock);
}

struct layer *layers_file(struct layers_slot *slot)
{
	return slot->file;
}

int layers_replay(struct layers *ls, uint64_t ino,
		  int (*each)(void *ctx, uint64_t number, const struct index_record *r), void *ctx)
{
	int err = 0;

	lock_acquire(&ls->lock);
	for (size_t i = 0; i < ls->n && !err; i++) {
		const struct index_record *r;

		err = open_file(ls, ls->v[i]);
		if (err)
			break;
		r = index_find(layer_index(ls->v[i]->file), ino);
		if (r)
			err = each(ctx, ls->v[i]->row.number, r);
		/* A failed commit leaves entries that are staged and not yet in a segment. */
		r = err ? NULL : index_find(&ls->v[i]->pending, ino);
		if (r)
			err = each(ctx, ls->v[i]->row.number, r);
	}
	lock_release(&ls->lock);
	return err;
}

int layers_pending_locked(struct layers *ls, uint64_t ino, uint64_t *number_out, struct index_record **out)
{
	struct layers_slot *slot;
	int err = ls->closing ? 0 : need_open(ls);

	if (err)
		return err;
	slot = ls->closing ? ls->closing : ls->open;
	err = index_add(&slot->pending, ino, out);
	if (!err)
		*number_out = slot->row.number;
	return err;
}

void layers_account_locked(struct layers *ls, uint64_t number, int64_t delta_bytes)
{
	struct layers_slot *slot = find_slot(ls, number);

	if (slot && delta_bytes) {
		slot->row.live_bytes += (uint64_t)delta_bytes;
		slot->row_dirty = true;
	}
}

void layers_rotate(struct layers *ls)
{
	lock_acquire(&ls->lock);
	if (!ls->closing && ls->open) {
		ls->closing = ls->open;
		ls->open = NULL;
		__atomic_store_n(&ls->in_open, 0, __ATOMIC_RELAXED);
	}
	lock_release(&ls->lock);
}

bool layers_have_closing(struct layers *ls)
{
	bool have;

	lock_acquire(&ls->lock);
	have = ls->closing != NULL;
	lock_release(&ls->lock);
	return have;
}

static void run_drop(struct commit_deferred *d)
{
	struct dropped_file *f = (struct dropped_file *)d;
	char path[LAYER_NAME_MAX];
	int err;

	layer_path(f->number, path);
	err = io_unlink(f->store->dir, path);
	if (err)
		log_warn("%s: cannot be deleted: %s", path, strerror(-err));
	free(f);
}

/* Has a layer before `at` (older) or behind it a record of ino? */
static int find_record(struct layers *ls, size_t at, bool older, uint64_t ino, bool *out)
{
	size_t from = older ? 0 : at + 1, to = older ? at : ls->n;

	*out = false;
	for (size_t i = from; i < to && !*out; i++) {
		int err = open_file(ls, ls->v[i]);

		if (err)
			return err;
		*out = index_find(layer_index(ls->v[i]->file), ino) || index_find(&ls->v[i]->pending, ino);
	}
	return 0;
}

/* A dead layer can go if nothing is lost by it (invariant 3): its records hide nothing older, and what
 * they say of arrays is said again by newer layers. */
static int is_droppable(struct layers *ls, size_t at, bool *out)
{
	const struct index *ix;
	int err = open_file(ls, ls->v[at]);

	*out = false;
	if (err || ls->v[at]->row.live_bytes)
		return err;
	ix = layer_index(ls->v[at]->file);
	for (size_t r = 0; r < ix->n; r++) {
		bool hides, repeated = true;

		err = find_record(ls, at, true, ix->v[r]->ino, &hides);
		if (!err && ix->v[r]->type != LAYER_REC_GONE)
			err = find_record(ls, at, false, ix->v[r]->ino, &repeated);
		if (err || hides || !repeated)
			return err;
	}
	*out = true;
	return 0;
}

/* Drops the slot at `at`: its row now, its file after the commit. */
static int drop_slot(struct layers *ls, size_t at)
{
	struct layers_slot *slot = ls->v[at];
	struct dropped_file *f = calloc(1, sizeof(*f));
	int err = f ? meta_layer_delete_locked(ls->store->meta, slot->row.number) : -ENOMEM;

	if (err) {
		free(f);
		return err;
	}
	f->deferred.run = run_drop;
	f->store = ls->store;
	f->number = slot->row.number;
	commit_defer_locked(ls->store->commit, &f->deferred);
	memmove(&ls->v[at], &ls->v[at + 1], (ls->n - at - 1) * sizeof(*ls->v));
	ls->n--;
	slot_unref(slot);
	return 0;
}

/* complete: nothing was left out of this transaction, so that what takes a layer's place is in it. */
static int drop_dead(struct layers *ls, bool complete)
{
	for (size_t i = 0; i < ls->n;) {
		struct meta_layer *row = &ls->v[i]->row;
		bool drop = row->sealed && !row->live_bytes && row->number != ls->newest_sealed;
		int err = drop && !(ls->v[i]->evacuated && complete) ? is_droppable(ls, i, &drop) : 0;

		if (!err && drop)
			err = drop_slot(ls, i);
		if (err)
			return err;
		i += !drop;
	}
	return 0;
}

/* Writes what is pending for an unsealed layer. */
static int write_segment(struct layers_slot *slot, uint64_t commit, int64_t time_ns)
{
	int err;

	if (!slot->pending.n)
		return 0;
	err = layer_segment(slot->file, &slot->pending, commit, time_ns, &slot->row.segment_off);
	if (err)
		return err;
	index_fini(&slot->pending);
	index_init(&slot->pending);
	slot->row.bytes = layer_bytes(slot->file);
	slot->frame_bytes = layer_frame_bytes(slot->file);
	slot->row.commit = commit;
	slot->row.time_ns = time_ns;
	slot->row_dirty = slot->unsynced = true;
	return 0;
}

static int seal_closing(struct layers *ls, uint64_t commit, int64_t time_ns)
{
	struct layers_slot *slot = ls->closing;
	bool drop;
	size_t at = 0;
	int err;

	if (!slot)
		return 0;
	while (ls->v[at] != slot)
		at++;
	err = is_droppable(ls, at, &drop);
	if (!err && drop) {
		/* Written and deleted between two seals: nobody will miss it. */
		ls->closing = NULL;
		return drop_slot(ls, at);
	}
	if (err)
		return err;
	err = layer_seal(slot->file, commit, time_ns);
	if (err)
		return err;
	slot->row.sealed = true;
	slot->row.bytes = layer_bytes(slot->file);
	slot->row.raw_bytes = layer_head(slot->file)->raw_bytes;
	slot->row_dirty = slot->unsynced = true;
	ls->newest_sealed = slot->row.number;
	ls->closing = NULL;
	stats_add(STAT_LAYERS_SEALED, 1);
	return 0;
}

static int store_rows(struct layers *ls)
{
	struct meta *m = ls->store->meta;
	bool any = false;
	int err = 0;

	for (size_t i = 0; i < ls->n && !err; i++) {
		if (!ls->v[i]->row_dirty)
			continue;
		any = true;
		err = meta_layer_put_locked(m, &ls->v[i]->row);
		if (!err)
			ls->v[i]->row_dirty = false;
	}
	if (!err && any)
		err = meta_fact_set_locked(m, "next_layer", (int64_t)ls->next_number);
	return err;
}

int layers_stage_locked(struct layers *ls, uint64_t commit, int64_t time_ns, bool may_seal)
{
	int err = 0;

	lock_acquire(&ls->lock);
	if (ls->closing)
		err = write_segment(ls->closing, commit, time_ns);
	if (!err && ls->open)
		err = write_segment(ls->open, commit, time_ns);
	if (!err && may_seal)
		err = seal_closing(ls, commit, time_ns);
	if (!err)
		err = drop_dead(ls, may_seal);
	if (!err)
		err = store_rows(ls);
	lock_release(&ls->lock);
	return err;
}

int layers_sync(struct layers *ls)
{
	uint64_t done = 0;
	int err = 0;
	bool any = false;

	/* Each once: appends go on while a file is synced, and what was staged came before them. */
	for (;;) {
		struct layers_slot *slot = NULL;

		lock_acquire(&ls->lock);
		for (size_t i = 0; i < ls->n && !slot; i++) {
			if (ls->v[i]->unsynced && ls->v[i]->row.number > done)
				slot = ls->v[i];
		}
		if (slot) {
			slot->unsynced = false;
			done = slot->row.number;
			slot->refs++;
		}
		lock_release(&ls->lock);
		if (!slot)
			break;
		any = true;
		err = layer_sync(slot->file);
		lock_acquire(&ls->lock);
		if (err)
			slot->unsynced = true;
		slot_unref(slot);
		lock_release(&ls->lock);
		if (err)
			return err;
	}
	return any ? io_dir_sync(ls->store->dir, "layers") : 0;
}

int layers_publish(struct layers *ls)
{
	struct io_dir *dir = ls->store->dir;
	char name[LAYER_NAME_MAX + 1];
	uint64_t newest = layers_newest_sealed(ls);
	struct io *f;
	int err;

	if (newest == ls->published)
		return 0;
	layer_name(newest, name);
	strcat(name, "\n");
	err = io_open(dir, "layers/HEAD.tmp", IO_CREATE, &f);
	if (err)
		return err;
	err = io_truncate(f, 0);
	if (!err)
		err = io_pwrite(f, name, strlen(name), 0);
	if (!err)
		err = io_sync(f);
	io_close(f);
	if (!err)
		err = io_rename(dir, "layers/HEAD.tmp", "layers/HEAD");
	if (!err)
		err = io_dir_sync(dir, "layers");
	if (!err)
		ls->published = newest;
	return err;
}

/* Counts frames alone where they are known: records of many small files are no garbage. */
static bool mostly_dead(const struct layers_slot *slot)
{
	uint64_t bytes = slot->frame_bytes ? slot->frame_bytes : slot->row.bytes;

	return bytes > LAYERS_WORTH_BYTES && slot->row.live_bytes < bytes / 2;
}

bool layers_want_seal(struct layers *ls)
{
	bool want = __atomic_load_n(&ls->in_open, __ATOMIC_RELAXED) >= ls->store->config.layer_bytes;

	lock_acquire(&ls->lock);
	if (ls->open && mostly_dead(ls->open))
		want = true;
	for (size_t i = 0; i < ls->n && ls->open && !want; i++) {
		const struct layers_slot *slot = ls->v[i];

		want = slot->row.number == ls->newest_sealed && !slot->row.live_bytes && slot->row.bytes > LAYERS_WORTH_BYTES;
	}
	lock_release(&ls->lock);
	return want;
}

int layers_victim(struct layers *ls, uint64_t *number_out, uint64_t **inos_out, size_t *n_out)
{
	struct layers_slot *slot = NULL;
	const struct index *ix;
	uint64_t *inos;
	int err = 0;

	lock_acquire(&ls->lock);
	for (size_t i = 0; i < ls->n && !slot && !err; i++) {
		struct layers_slot *s = ls->v[i];

		if (!s->row.sealed || s->evacuated || s->unmovable || !mostly_dead(s))
			continue;
		err = open_file(ls, s);
		if (!err && mostly_dead(s))
			slot = s;
	}
	if (!err && !slot)
		err = -ENOENT;
	if (!err) {
		ix = layer_index(slot->file);
		inos = malloc((ix->n + 1) * sizeof(*inos));
		for (size_t r = 0; inos && r < ix->n; r++)
			inos[r] = ix->v[r]->ino;
		if (inos) {
			*number_out = slot->row.number;
			*inos_out = inos;
			*n_out = ix->n;
		} else {
			err = -ENOMEM;
		}
	}
	lock_release(&ls->lock);
	return err;
}

void layers_victim_done(struct layers *ls, uint64_t number, bool moved)
{
	struct layers_slot *slot;

	lock_acquire(&ls->lock);
	slot = find_slot(ls, number);
	if (slot && moved)
		slot->evacuated = true;
	else if (slot)
		slot->unmovable = true;
	lock_release(&ls->lock);
}

int layers_restate_gone(struct layers *ls, uint64_t victim, uint64_t ino)
{
	struct index_record *r;
	uint64_t number;
	bool older = false;
	int err = 0;

	lock_acquire(&ls->lock);
	for (size_t i = 0; i < ls->n && !err; i++) {
		if (ls->v[i]->row.number == victim) {
			err = find_record(ls, i, true, ino, &older);
			break;
		}
	}
	if (!err && older)
		err = layers_pending_locked(ls, ino, &number, &r);
	if (!err && older)
		index_record_gone(r);
	lock_release(&ls->lock);
	return err;
}

uint64_t layers_newest_sealed(struct layers *ls)
{
	uint64_t number;

	lock_acquire(&ls->lock);
	number = ls->newest_sealed;
	lock_release(&ls->lock);
	return number;
}

int layers_next_sealed(struct layers *ls, uint64_t from, struct layers_info *out)
{
	int err = -ENOENT;

	lock_acquire(&ls->lock);
	for (size_t i = 0; i < ls->n && err; i++) {
		const struct meta_layer *row = &ls->v[i]->row;

		if (!row->sealed || row->number < from)
			continue;
		*out = (struct layers_info){ .number = row->number, .bytes = row->bytes, .time_ns = row->time_ns };
		err = 0;
	}
	lock_release(&ls->lock);
	return err;
}

void layers_totals(struct layers *ls, uint64_t *nlayers, uint64_t *bytes, uint64_t *live_bytes)
{
	*nlayers = *bytes = *live_bytes = 0;
	lock_acquire(&ls->lock);
	for (size_t i = 0; i < ls->n; i++) {
		struct layers_slot *slot = ls->v[i];

		++*nlayers;
		*bytes += slot->row.sealed ? slot->row.bytes : layer_bytes(slot->file);
		*live_bytes += slot->row.live_bytes;
	}
	lock_release(&ls->lock);
}
