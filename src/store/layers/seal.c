/*
 * The log as it grows: opened, appended to, staged, sealed and published.
 *
 * Invariants:
 *  1. At most one layer is unsealed; no delta has a higher number. Deltas are sealed in the order of their numbers; a full
 *     layer may have a higher number than the delta that is sealed next: chains and commits tell the order.
 *  2. A layer is sealed when all that was appended to it is staged, in the transaction that stages the last of it.
 *  3. layers/ holds no layer file without a row after layers_open.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "block/format.h"
#include "block/layer.h"
#include "store/disks.h"
#include "store/layers/inside.h"
#include "store/ref.h"
#include "store/store.h"
#include "util/err.h"
#include "util/log.h"
#include "util/plant.h"
#include "util/stats.h"

/* A seal gives deleted bytes back. It is worth it when they are this part of the size of a layer. */
#define LAYERS_DYING_PART 16u
/* Notes that wait for a segment which is written anyway are written when they hold so much memory. */
#define LAYERS_LATER_MAX (4u << 20)
/* The index of the open layer is in memory as a whole: at this part of -o cache, and not below that size, it is worth a seal. */
#define LAYERS_INDEX_PART 8u
#define LAYERS_INDEX_MIN (8u << 20)
/* A commit on request gives so many deleted bytes back, even if no state shows them. */
#define LAYERS_DYING_MIN (4u << 20)

/* The disk of the open layer is looked at when so much was appended. */
#define LAYERS_LOOK_BYTES (1u << 20)
/* A disk that has not so much more than is owed is one to leave: the largest block must find room before it is refused for good. */
#define LAYERS_SPARE_BYTES (LAYER_FRAME_MAX + LAYERS_LOOK_BYTES)

/* Sealed layers are opened at first use. One that is not there tells that a directory of the store is missing. */
static int check_there(struct layers *ls, uint64_t number)
{
	char path[LAYER_NAME_MAX];
	struct io *f;
	int err;

	layer_path(number, path);
	err = io_open(ls->store->dir, path, IO_RDONLY, &f);
	if (!err)
		io_close(f);
	return err;
}

static int load_row(void *ctx, const struct meta_layer *row)
{
	struct layers *ls = ctx;
	struct layers_slot *slot;
	int err = layers_slot_add(ls, row, &slot);

	if (err)
		return err;
	if (layers_slot_sealed(slot)) {
		if (!ls->newest || layers_slot_newer(slot, ls->newest))
			ls->newest = slot;
		if (disks_unlisted(ls->store))
			err = check_there(ls, row->number);
	} else {
		if (ls->open)
			return err_corrupt("meta.db", 0, "layers %llu and %llu are both open",
					   (unsigned long long)ls->open->row.number, (unsigned long long)row->number);
		err = layers_slot_load(ls, slot, true);
		ls->open = slot;
		if (!err) {
			ls->in_open = layer_bytes(slot->file);
			ls->index_open = slot->index_bytes;
		}
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

	if (!strcmp(name, "compact.tmp"))
		return io_unlink(ls->store->dir, LAYER_COMPACTING);
	if (layer_name_parse(name, &number) || layers_slot_find(ls, number))
		return 0;
	layer_path(number, path);
	log_info("%s: not part of any commit, deleted", path);
	return io_unlink(ls->store->dir, path);
}

static int load_rows_locked(struct layers *ls)
{
	struct meta *m = ls->store->meta;
	int64_t next = 1;
	int err = meta_fact_get_locked(m, "next_layer", &next);

	ls->next_number = (uint64_t)next;
	if (!err || err == -ENOENT)
		err = meta_layer_walk_locked(m, load_row, ls);
	if (!err && (!ls->next_number || ls->next_number > LAYERS_NUMBER_MAX))
		err = err_corrupt("meta.db", 0, "the next layer would be %lld", (long long)ls->next_number);
	return err ? err : layers_snapshots_load_locked(ls);
}

/* Owed blocks and notes go to the open layer, or to the next one, and have to find space there: without a layer the disk with the most room, else the
 * home, for which its reserve is the bound. */
static void look_at_disk(struct layers *ls)
{
	struct store *s = ls->store;
	struct io *f = ls->open && ls->open->file ? layer_io(ls->open->file) : NULL;
	uint64_t left = UINT64_MAX;
	bool lacks = false;

	store_place_data(s, f ? io_disk(f) : UINT_MAX);
	if (f)
		lacks = io_lacks(f, store_owed_data(s) + LAYERS_SPARE_BYTES, &left);
	else
		left = io_most_room(s->dir);
	if (!f && !left) {
		store_place_data(s, 0);
		left = UINT64_MAX;
	}
	/* Bytes that are appended until the next look are owed no longer. */
	if (left < UINT64_MAX)
		left -= left < LAYERS_LOOK_BYTES ? left : LAYERS_LOOK_BYTES;
	store_bound_data(s, left);
	__atomic_store_n(&ls->lacks, lacks, __ATOMIC_RELAXED);
}

static int open_from_meta(struct layers *ls)
{
	struct store *s = ls->store;
	int err;

	meta_lock(s->meta);
	err = load_rows_locked(ls);
	meta_unlock(s->meta);
	if (!err)
		err = io_mkdir(s->dir, "layers/refs");
	/* A crash between a commit and its HEAD leaves HEAD with a layer that no row knows. Without space for HEAD followers wait. */
	if (!err) {
		err = layers_publish(ls);
		if (err_is_passing(err))
			err = 0;
	}
	if (!err)
		err = io_list(s->dir, "layers", delete_unknown, ls);
	if (!err)
		err = layers_refs_clean(ls);
	ls->retain_dirty = true;
	if (!err)
		look_at_disk(ls);
	return err;
}

int layers_open(struct store *s, struct layers **out)
{
	struct layers *ls = layers_new(s);
	int err;

	if (!ls)
		return -ENOMEM;
	err = s->config.follow ? layers_follow_open(ls) : open_from_meta(ls);
	if (err) {
		layers_close(ls);
		return err;
	}
	*out = ls;
	return 0;
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
	err = layers_slot_add(ls, &row, &slot);
	if (err) {
		layer_close(file);
		return err;
	}
	slot->file = file;
	ls->open = slot;
	ls->next_number++;
	look_at_disk(ls);
	return 0;
}

int layers_append(struct layers *ls, const void *frame, size_t len, size_t raw_len, unsigned how, uint64_t *number_out,
		  uint64_t *off_out)
{
	uint64_t before;
	int err;

	lock_acquire(&ls->lock);
	before = ls->in_open;
	err = need_open(ls);
	if (!err)
		err = layer_append(ls->open->file, frame, len, raw_len, how, off_out);
	if (!err) {
		*number_out = ls->open->row.number;
		ls->open->unsynced = true;
		__atomic_store_n(&ls->in_open, layer_bytes(ls->open->file), __ATOMIC_RELAXED);
	}
	if (err || before / LAYERS_LOOK_BYTES != ls->in_open / LAYERS_LOOK_BYTES ||
	    io_disk(layer_io(ls->open->file)) != store_data_disk(ls->store))
		look_at_disk(ls);
	lock_release(&ls->lock);
	return err;
}

/* Are waiting notes to be written: with another segment, or because they have become many? */
static bool later_is_due(struct layers *ls, bool seal)
{
	return seal || !index_empty(&ls->pending) || index_memory(&ls->later) > LAYERS_LATER_MAX || store_is_short(ls->store);
}

/* A commit does not fail because of notes that only a rebuild needs. The next mount writes them again. */
static void lose_later(struct layers *ls)
{
	if (!ls->later_lost)
		log_warn("layers/: no space for what spillctl rebuild would need of columns; the next mount writes it");
	ls->later_lost = true;
	index_fini(&ls->later);
	store_disown_data(ls->store, ls->later_owed);
	ls->later_owed = 0;
}

/* Writes what is pending. */
static int write_segment(struct layers *ls, uint64_t commit, int64_t time_ns, bool seal)
{
	struct layers_slot *slot;
	int err = 0;

	if (!index_empty(&ls->later) && later_is_due(ls, seal) && store_may_settle(ls->store) == -ENOSPC)
		lose_later(ls);
	if (!index_empty(&ls->later) && later_is_due(ls, seal)) {
		err = index_take(&ls->pending, &ls->later);
		if (err)
			return err;
		ls->pending_owed += ls->later_owed;
		ls->later_owed = 0;
	}
	if (index_empty(&ls->pending))
		return 0;
	err = need_open(ls);
	if (err)
		return err;
	slot = ls->open;
	for (size_t i = 0; i < ls->pending.n; i++)
		ls->pending.v[i]->version = slot->row.number;
	err = layer_segment(slot->file, &ls->pending, commit, time_ns, &slot->row.segment_off);
	if (err)
		return err;
	store_pay_data(ls->store, ls->pending_owed);
	ls->pending_owed = 0;
	slot->row.bytes = layer_bytes(slot->file);
	slot->row.commit = commit;
	slot->row.time_ns = time_ns;
	slot->row_dirty = slot->unsynced = true;
	layers_slot_charge(ls, slot);
	__atomic_store_n(&ls->index_open, slot->index_bytes, __ATOMIC_RELAXED);
	return 0;
}

/* The chain of the newest state, and `number` behind it; malloc'd. */
static int longer_chain(struct layers *ls, uint64_t number, struct meta_numbers *out)
{
	size_t n = ls->newest ? ls->newest->row.chain.n : 0;
	uint64_t *v = malloc((n + 1) * sizeof(*v));

	if (!v)
		return -ENOMEM;
	if (n)
		memcpy(v, ls->newest->row.chain.v, n * sizeof(*v));
	v[n] = number;
	*out = (struct meta_numbers){ v, n + 1 };
	return 0;
}

/* Does the layer hold nothing but deletions of files without names, which no state shows? */
static bool nothing_to_see(struct layer *file)
{
	const struct index *ix = layer_index(file);

	for (size_t i = 0; i < ix->n; i++) {
		if (ix->v[i]->type != LAYER_REC_GONE)
			return false;
	}
	return !ix->nnames && !layer_frame_bytes(file);
}

static void none_open(struct layers *ls)
{
	ls->open = NULL;
	__atomic_store_n(&ls->in_open, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&ls->index_open, 0, __ATOMIC_RELAXED);
	look_at_disk(ls);
}

static int seal_open(struct layers *ls, uint64_t commit, int64_t time_ns, enum layers_stage how)
{
	struct layers_slot *slot = ls->open;
	struct meta_numbers chain;
	int err;

	if (!slot)
		return 0;
	if (index_empty(layer_index(slot->file))) {
		/* Written and deleted between two seals: nobody will miss it. */
		none_open(ls);
		return layers_slot_drop_locked(ls, slot);
	}
	if (how == LAYERS_SEAL && ls->dying < LAYERS_DYING_MIN && nothing_to_see(slot->file))
		return 0;
	err = longer_chain(ls, slot->row.number, &chain);
	if (err)
		return err;
	err = layer_set_chain(slot->file, chain.v, chain.n);
	if (!err)
		err = layer_seal(slot->file, commit, time_ns);
	if (err) {
		free(chain.v);
		return err;
	}
	slot->row.chain = chain;
	slot->row.state = META_LAYER_DELTA;
	slot->row.commit = commit;
	slot->row.time_ns = time_ns;
	slot->row.raw_bytes = layer_head(slot->file)->raw_bytes;
	slot->row.arrays = layers_count_files(layer_index(slot->file));
	layers_slot_sealed_now(ls, slot);
	none_open(ls);
	for (size_t i = 0; i < ls->n; i++)
		ls->v[i]->dying_bytes = 0;
	__atomic_store_n(&ls->dying, 0, __ATOMIC_RELAXED);
	stats_add(STAT_LAYERS_SEALED, 1);
	return 0;
}

static int store_rows(struct layers *ls)
{
	struct meta *m = ls->store->meta;
	bool any = false;
	int err = 0;

	for (size_t i = 0; i < ls->n && !err; i++) {
		/* An open layer without a segment is nothing yet. */
		if (!ls->v[i]->row_dirty || !ls->v[i]->row.bytes)
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

/* Without space for its index a layer stays open: what is in it is committed all the same. */
static int seal(struct layers *ls, uint64_t commit, int64_t time_ns, enum layers_stage how, int *left)
{
	int err = seal_open(ls, commit, time_ns, how);

	if (!err)
		return layers_snapshots_name_locked(ls, time_ns);
	if (!err_is_passing(err))
		return err;
	*left = err;
	return 0;
}

static void charge_notes(struct layers *ls)
{
	size_t bytes = index_memory(&ls->pending) + index_memory(&ls->later);

	account_change(&ls->store->account, ACCOUNT_INDEXES, ls->notes_bytes, bytes);
	ls->notes_bytes = bytes;
}

int layers_stage_locked(struct layers *ls, uint64_t commit, int64_t time_ns, enum layers_stage how, int *left)
{
	int err;

	lock_acquire(&ls->lock);
	err = write_segment(ls, commit, time_ns, how != LAYERS_STAGE);
	if (!err && how != LAYERS_STAGE)
		err = seal(ls, commit, time_ns, how, left);
	look_at_disk(ls);
	charge_notes(ls);
	layers_shrink(ls);
	if (!err && ls->retain_dirty)
		err = layers_retain_locked(ls);
	if (!err)
		err = store_rows(ls);
	if (!err && index_empty(&ls->later) && !ls->later_lost && meta_pending_locked(ls->store->meta))
		err = meta_fact_set_locked(ls->store->meta, "logged", (int64_t)commit);
	lock_release(&ls->lock);
	return err;
}

int layers_sync(struct layers *ls)
{
	uint64_t done = 0;
	int err = 0;

	/* Each file is synced once: appends go on meanwhile, but what was staged came before them. */
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
		ls->dir_unsynced = true;
		err = PLANTED(PLANT_NO_LAYER_SYNC) ? 0 : layer_sync(slot->file);
		lock_acquire(&ls->lock);
		if (err)
			slot->unsynced = true;
		layers_slot_unref(slot);
		lock_release(&ls->lock);
		if (err)
			return err;
	}
	if (!ls->dir_unsynced || PLANTED(PLANT_NO_LAYER_NAME))
		return 0;
	err = io_dir_sync(ls->store->dir, "layers");
	if (!err)
		ls->dir_unsynced = false;
	return err;
}

int layers_publish(struct layers *ls)
{
	struct io_dir *dir = ls->store->dir;
	char text[REF_TEXT_MAX];
	uint64_t newest = layers_newest_sealed(ls);
	int err = 0;

	if (newest && newest != ls->published) {
		ref_head_text(newest, text);
		err = io_replace(dir, "layers/HEAD", "layers/HEAD.tmp", text, strlen(text));
		if (!err)
			err = io_dir_sync(dir, "layers");
		if (!err)
			ls->published = newest;
	}
	return err ? err : layers_snapshots_publish(ls);
}

bool layers_unsealed(struct layers *ls)
{
	bool any;

	lock_acquire(&ls->lock);
	any = ls->open || !index_empty(&ls->pending) || !index_empty(&ls->later);
	lock_release(&ls->lock);
	return any;
}

bool layers_want_seal(struct layers *ls)
{
	uint64_t size = ls->store->config.layer_bytes, index = ls->store->account.budget_bytes / LAYERS_INDEX_PART;

	if (__atomic_load_n(&ls->index_open, __ATOMIC_RELAXED) >= (index > LAYERS_INDEX_MIN ? index : LAYERS_INDEX_MIN))
		return true;
	/* Notes are not refused: what is kept of the disk is for them. A few of them are not worth a layer each. */
	if (__atomic_load_n(&ls->lacks, __ATOMIC_RELAXED) ||
	    (store_owed_data(ls->store) >= LAYERS_LOOK_BYTES && store_may_owe_data(ls->store, 0)))
		return true;
	return __atomic_load_n(&ls->in_open, __ATOMIC_RELAXED) >= size ||
	       __atomic_load_n(&ls->dying, __ATOMIC_RELAXED) > size / LAYERS_DYING_PART;
}
