/*
 * Compaction.
 *
 * Invariants:
 *  1. Until it is installed nothing refers to what was copied.
 *  2. A layer that a named state holds is no victim: moving its frames would give nothing back. The states of the last
 *     commits pass: what only they hold is one, or every full layer would point into it and hold it for the next ones. Not so
 *     when space is wanted now.
 *  3. An entry of the picture that was moved says PLACED_HERE until the layer has its number.
 *  4. A frame is copied whole, as it is, unless less than half of it is live: then its live blocks are packed anew.
 */
#include "store/compact.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/codec.h"
#include "block/layer.h"
#include "store/layers_priv.h"
#include "store/store.h"
#include "util/buf.h"
#include "util/err.h"
#include "util/log.h"

#define TMP_PATH "layers/compact.tmp"
#define PLACED_HERE UINT64_MAX
#define CHAIN_MAX 32u
/* A layer is worth compacting when half of it is dead, and that is not little. */
#define WORTH_BYTES (4u << 20)
#define WORTH_SPACE_BYTES (64u << 10)
#define WORTH_SUM_BYTES (16u << 20)
/* So many layers of less than that are merged. */
#define SMALL_BYTES (1u << 20)
#define SMALL_MAX 16u
#define SMALL_ALL_BYTES (64u << 20)
#define PACK_BYTES (256u << 10)
#define PACK_LEVEL 3

struct pack {
	unsigned char *data;
	uint32_t len;
	struct layer_block **v;
	size_t n, cap;
};

struct compact {
	struct layers *ls;
	struct layer *file;
	bool tmp; /* the file has its temporary name */
	struct index full; /* until it is installed */
	size_t full_bytes; /* of it in the account */
	struct layers_slot *slot; /* after that */
	size_t chain_n;    /* layers that `full` has taken in */
	uint64_t *victims; /* rising */
	size_t nvictims;
	struct layer_block **moves; /* entries of `full`, by place */
	size_t nmoves, next;
	struct pack pack;
	uint64_t done_bytes, total_bytes;
};

/* Choosing. With the set's lock held. */

static bool mostly_dead(uint64_t bytes, uint64_t live, enum compact_effort effort)
{
	switch (effort) {
	case COMPACT_WORTH:
		return bytes > WORTH_BYTES && live < bytes / 2;
	case COMPACT_SPACE:
		return bytes > WORTH_SPACE_BYTES && live < bytes - bytes / 4;
	default:
		return live < bytes - bytes / 16;
	}
}

/* Bytes of frames, and those that live arrays or the newest sealed state point to. */
static void weigh(const struct layers_slot *slot, enum compact_effort effort, uint64_t *bytes, uint64_t *live)
{
	*bytes = layers_slot_sealed(slot) ? slot->row.stored_bytes : layer_frame_bytes(slot->file);
	*live = slot->row.live_bytes;
	/* Others seal first: then what dies is dead. */
	if (effort == COMPACT_WORTH)
		*live += slot->dying_bytes;
}

/* Is there enough to be had from the layers, or with `marked` from those that no past state holds? */
static bool enough_dead(struct layers *ls, enum compact_effort effort, bool marked)
{
	uint64_t dead = 0, sum = 0;

	for (size_t i = 0; i < ls->n; i++) {
		struct layers_slot *slot = ls->v[i];
		uint64_t bytes, live;

		if ((marked && slot->needed) || (!layers_slot_sealed(slot) && effort == COMPACT_WORTH))
			continue;
		weigh(slot, effort, &bytes, &live);
		if (mostly_dead(bytes, live, effort))
			return true;
		sum += bytes;
		dead += bytes > live ? bytes - live : 0;
	}
	return effort == COMPACT_SPACE ? dead > WORTH_SPACE_BYTES : dead > WORTH_SUM_BYTES && (!marked || dead > sum / 2);
}

bool compact_due(struct layers *ls, enum compact_effort effort)
{
	bool due = effort == COMPACT_ALL;

	lock_acquire(&ls->lock);
	if (ls->newest && ls->newest->row.chain.n >= CHAIN_MAX)
		due = true;
	/* Marking costs more than looking. */
	if (!due && (enough_dead(ls, effort, false) || effort == COMPACT_SPACE)) {
		layers_mark_history(ls, true);
		due = enough_dead(ls, effort, true);
	}
	lock_release(&ls->lock);
	return due;
}

static bool is_small(const struct layers_slot *slot, enum compact_effort effort)
{
	return slot->row.stored_bytes < (effort == COMPACT_ALL ? SMALL_ALL_BYTES : SMALL_BYTES);
}

static bool is_worth(const struct layers_slot *slot, uint64_t live, size_t nsmall, enum compact_effort effort)
{
	return mostly_dead(slot->row.stored_bytes, live, effort) ||
	       (is_small(slot, effort) && nsmall > (effort == COMPACT_ALL ? 1 : SMALL_MAX));
}

/* On a full disk a few at a time: what is copied stands there twice until the commit. */
static bool has_space(struct layers *ls, uint64_t bytes, enum compact_effort effort)
{
	return effort != COMPACT_SPACE || !store_may_compact(ls->store, bytes);
}

/* Sealed layers, no named state needs them, with something to be saved. */
static int choose_victims(struct compact *c, enum compact_effort effort)
{
	struct layers *ls = c->ls;
	struct layers_live *live = NULL;
	uint64_t copied = 0;
	size_t n, nsmall = 0;
	int err;

	lock_acquire(&ls->lock);
	err = layers_live_count(&c->full, NULL, &ls->pending, &live, &n);
	c->victims = err ? NULL : calloc(ls->n + 1, sizeof(*c->victims));
	if (!err && !c->victims)
		err = -ENOMEM;
	layers_mark_history(ls, effort == COMPACT_SPACE);
	for (int pass = 0; pass < 2 && !err; pass++) {
		for (size_t i = 0; i < ls->n; i++) {
			struct layers_slot *slot = ls->v[i];
			struct layers_live *l = layers_live_find(live, n, slot->row.number);

			if (slot->needed || !layers_slot_sealed(slot) || !l)
				continue;
			if (pass == 0)
				nsmall += is_small(slot, effort);
			else if (is_worth(slot, l->bytes, nsmall, effort) && has_space(ls, copied + l->bytes, effort)) {
				c->victims[c->nvictims++] = slot->row.number;
				copied += l->bytes;
			}
		}
	}
	lock_release(&ls->lock);
	free(live);
	return err;
}

bool compact_moved(const struct compact *c, uint64_t layer)
{
	size_t lo = 0, hi = c->nvictims;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (c->victims[mid] < layer)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < c->nvictims && c->victims[lo] == layer;
}

static int compare_places(const void *a, const void *b)
{
	const struct layer_block *x = *(struct layer_block *const *)a, *y = *(struct layer_block *const *)b;

	if (x->layer != y->layer)
		return x->layer < y->layer ? -1 : 1;
	if (x->frame_off != y->frame_off)
		return x->frame_off < y->frame_off ? -1 : 1;
	return x->raw_off < y->raw_off ? -1 : x->raw_off > y->raw_off;
}

static bool same_frame(const struct layer_block *x, const struct layer_block *y)
{
	return x->layer == y->layer && x->frame_off == y->frame_off;
}

static int list_moves(struct compact *c)
{
	size_t n = 0;

	for (int pass = 0; pass < 2; pass++) {
		if (pass && n) {
			c->moves = malloc(n * sizeof(*c->moves));
			if (!c->moves)
				return -ENOMEM;
		}
		for (size_t i = 0; i < c->full.n; i++) {
			struct index_record *r = c->full.v[i];

			for (size_t k = 0; k < r->nblocks; k++) {
				if (!compact_moved(c, r->blocks[k].layer))
					continue;
				if (pass)
					c->moves[c->nmoves++] = &r->blocks[k];
				else
					n++;
			}
		}
	}
	if (n)
		qsort(c->moves, n, sizeof(*c->moves), compare_places);
	for (size_t i = 0; i < c->nmoves; i++) {
		if (!i || !same_frame(c->moves[i], c->moves[i - 1]))
			c->total_bytes += c->moves[i]->frame_len;
	}
	return 0;
}

/* The newest layer is the picture already, and has not many frames that died while it was made. The commit thread's. */
static bool is_enough(const struct layers_slot *newest, enum compact_effort effort)
{
	return newest->row.state == META_LAYER_FULL &&
	       !mostly_dead(newest->row.stored_bytes, newest->row.live_bytes, effort);
}

/* The picture counts with what it holds now. */
static void charge(struct compact *c)
{
	size_t bytes = index_memory(&c->full);

	account_change(&c->ls->store->account, ACCOUNT_INDEXES, c->full_bytes, bytes);
	c->full_bytes = bytes;
}

/* One layer of the chain goes into the picture. It begins with the chain, so that nothing older is behind what is gone. */
static int take_in(struct compact *c, size_t k)
{
	struct layers *ls = c->ls;
	struct layers_slot *slot;
	int err;

	lock_acquire(&ls->lock);
	slot = layers_slot_find(ls, ls->newest->row.chain.v[k]);
	err = slot ? layers_slot_load(ls, slot, true) : -ESTALE;
	if (!err)
		err = index_merge(&c->full, layer_index(slot->file));
	layers_shrink(ls);
	lock_release(&ls->lock);
	if (!err)
		index_flatten(&c->full);
	charge(c);
	return err;
}

/* What was sealed and is not in the picture yet. The commit thread's: nothing is sealed meanwhile. */
static int catch_up(struct compact *c)
{
	struct layers *ls = c->ls;
	size_t n;
	int err = 0;

	lock_acquire(&ls->lock);
	n = ls->newest ? ls->newest->row.chain.n : 0;
	lock_release(&ls->lock);
	for (; c->chain_n < n && !err; c->chain_n += !err)
		err = take_in(c, c->chain_n);
	return err;
}

int compact_plan(struct layers *ls, enum compact_effort effort, struct compact **out)
{
	struct compact *c = calloc(1, sizeof(*c));
	int err;

	if (!c)
		return -ENOMEM;
	c->ls = ls;
	index_init(&c->full);
	err = catch_up(c);
	if (!err && !c->chain_n)
		err = -ENOENT;
	if (!err)
		err = choose_victims(c, effort);
	if (!err && !c->nvictims && c->chain_n == 1 && is_enough(ls->newest, effort))
		err = -ENOENT;
	if (!err)
		err = list_moves(c);
	if (!err) {
		err = layer_create_as(ls->store->dir, TMP_PATH, ls->store->uuid, &c->file);
		c->tmp = !err;
	}
	if (err) {
		compact_free(c);
		return err;
	}
	*out = c;
	return 0;
}

static void let_go_slot(struct compact *c)
{
	lock_acquire(&c->ls->lock);
	c->slot->nwhole--;
	layers_slot_unref(c->slot);
	layers_shrink(c->ls);
	lock_release(&c->ls->lock);
}

void compact_free(struct compact *c)
{
	if (c->file)
		layer_close(c->file);
	if (c->tmp)
		io_unlink(c->ls->store->dir, TMP_PATH);
	if (c->slot)
		let_go_slot(c);
	index_fini(&c->full);
	account_change(&c->ls->store->account, ACCOUNT_INDEXES, c->full_bytes, 0);
	buf_free(c->pack.data, PACK_BYTES);
	free(c->pack.v);
	free(c->victims);
	free(c->moves);
	free(c);
}

void compact_progress(const struct compact *c, uint64_t *done_bytes, uint64_t *total_bytes)
{
	*done_bytes = c->done_bytes;
	*total_bytes = c->total_bytes;
}

/* Copying. */

static int read_frame(struct compact *c, const struct layer_block *b, void **frame_out)
{
	struct layers_slot *slot;
	void *frame;
	int err = store_may_compact(c->ls->store, b->frame_len);

	if (!err)
		err = layers_get(c->ls, b->layer, &slot);
	if (err)
		return err;
	frame = buf_alloc(b->frame_len);
	err = frame ? layer_read(layers_file(slot), b->frame_off, 0, frame, b->frame_len) : -ENOMEM;
	layers_put(c->ls, slot);
	if (err) {
		buf_free(frame, b->frame_len);
		return err;
	}
	*frame_out = frame;
	return 0;
}

static int flush_pack(struct compact *c)
{
	struct codec_params params = { .level = PACK_LEVEL, .policy = CODEC_POLICY_AUTO, .elem_bytes = 1 };
	struct pack *p = &c->pack;
	size_t cap = codec_bound(p->len), len = 0;
	enum codec_filter filter = CODEC_FILTER_NONE;
	uint64_t off = 0;
	int hint = -1, err;
	void *frame;

	if (!p->n)
		return 0;
	frame = buf_alloc(cap);
	err = frame ? codec_encode(&params, p->data, p->len, frame, cap, &hint, &len, &filter) : -ENOMEM;
	if (!err)
		err = layer_append(c->file, frame, len, p->len, 0, &off);
	buf_free(frame, cap);
	for (size_t i = 0; i < p->n && !err; i++) {
		struct layer_block *b = p->v[i];

		b->layer = PLACED_HERE;
		b->frame_off = off;
		b->frame_len = (uint32_t)len;
		b->frame_raw = p->len;
		b->filter = (uint8_t)filter;
		b->elem_bytes = 1;
	}
	p->n = p->len = 0;
	return err;
}

static int pack_block(struct compact *c, struct layer_block *b, const unsigned char *raw)
{
	struct pack *p = &c->pack;
	uint32_t at = (p->len + INDEX_PACK_ALIGN - 1) & ~(INDEX_PACK_ALIGN - 1);
	int err = 0;

	if (!p->data) {
		p->data = buf_alloc(PACK_BYTES);
		if (!p->data)
			return -ENOMEM;
	}
	if (at + b->raw_len > PACK_BYTES) {
		err = flush_pack(c);
		at = 0;
	}
	if (!err && p->n == p->cap) {
		void *v = realloc(p->v, (p->cap = p->cap ? p->cap * 2 : 64) * sizeof(*p->v));

		if (!v)
			return -ENOMEM;
		p->v = v;
	}
	if (err)
		return err;
	memset(p->data + p->len, 0, at - p->len);
	memcpy(p->data + at, raw + b->raw_off, b->raw_len);
	p->len = at + b->raw_len;
	p->v[p->n++] = b;
	b->raw_off = at;
	return 0;
}

/* The n live blocks of a frame that is mostly dead; *done is false if the frame cannot be decoded. */
static int repack(struct compact *c, struct layer_block **v, size_t n, const void *frame, bool *done)
{
	unsigned char *raw = buf_alloc(v[0]->frame_raw);
	uint32_t raw_bytes = v[0]->frame_raw;
	int err = raw ? codec_decode(frame, v[0]->frame_len, v[0]->filter, v[0]->elem_bytes, raw, raw_bytes) : -ENOMEM;

	*done = !err;
	/* It is damaged: it moves as it is, and its readers are told. */
	if (err == -EUCLEAN)
		err = 0;
	for (size_t i = 0; i < n && !err && *done; i++)
		err = pack_block(c, v[i], raw);
	buf_free(raw, raw_bytes);
	return err;
}

static int copy_frame(struct compact *c, struct layer_block **v, size_t n, const void *frame)
{
	uint64_t off;
	int err = layer_append(c->file, frame, v[0]->frame_len, v[0]->frame_raw, 0, &off);

	for (size_t i = 0; i < n && !err; i++) {
		v[i]->layer = PLACED_HERE;
		v[i]->frame_off = off;
	}
	return err;
}

/* The next frame, with all blocks in it. */
static int move_frame(struct compact *c, uint64_t *bytes_out)
{
	struct layer_block **v = &c->moves[c->next];
	uint32_t frame_len = v[0]->frame_len;
	uint64_t live = 0;
	bool packed = false;
	size_t n = 0;
	void *frame;
	int err;

	for (; c->next + n < c->nmoves && same_frame(v[n], v[0]); n++)
		live += v[n]->raw_len;
	err = read_frame(c, v[0], &frame);
	if (err)
		return err;
	/* Only what fits a pack can have been packed. */
	if (live < v[0]->frame_raw / 2 && v[0]->frame_raw <= PACK_BYTES)
		err = repack(c, v, n, frame, &packed);
	if (!err && !packed)
		err = copy_frame(c, v, n, frame);
	buf_free(frame, frame_len);
	c->next += n;
	*bytes_out = frame_len;
	return err;
}

int compact_step(struct compact *c, uint64_t bytes, bool *more)
{
	uint64_t done = 0, frame = 0;
	int err = 0;

	while (!err && done < bytes && c->next < c->nmoves) {
		err = move_frame(c, &frame);
		done += frame;
	}
	c->done_bytes += done;
	*more = c->next < c->nmoves;
	return err || *more ? err : flush_pack(c);
}

/* Installing. */

static void place_here(struct index *full, uint64_t number)
{
	for (size_t i = 0; i < full->n; i++) {
		struct index_record *r = full->v[i];

		for (size_t k = 0; k < r->nblocks; k++) {
			if (r->blocks[k].layer == PLACED_HERE)
				r->blocks[k].layer = number;
		}
	}
}

/* The live bytes of all layers are known exactly now: `full` is the picture, and behind it comes what was staged. */
static int settle_live(struct compact *c, const struct index *full)
{
	struct layers *ls = c->ls;
	struct layers_live *live;
	size_t n;
	int err = layers_live_count(full, ls->open ? layer_index(ls->open->file) : NULL, &ls->pending, &live, &n);

	if (err)
		return err;
	for (size_t i = 0; i < ls->n; i++) {
		struct layers_slot *slot = ls->v[i];
		struct layers_live *l = layers_live_find(live, n, slot->row.number);

		slot->row_dirty |= slot->row.live_bytes != (l ? l->bytes : 0);
		slot->row.live_bytes = l ? l->bytes : 0;
		if (compact_moved(c, slot->row.number))
			slot->moved_to = c->slot->row.number;
	}
	free(live);
	return 0;
}

static int enter_locked(struct compact *c, struct meta_layer *row)
{
	struct layers *ls = c->ls;
	int err = layers_slot_add(ls, row, &c->slot);

	if (err)
		return err;
	err = settle_live(c, layer_index(c->file));
	if (err) {
		layers_slot_leave(ls, c->slot);
		free(c->slot);
		c->slot = NULL;
		return err;
	}
	c->slot->file = c->file;
	c->slot->refs++;
	c->slot->nwhole++; /* compact_find */
	c->file = NULL;
	layers_slot_charge(ls, c->slot);
	charge(c);
	layers_slot_sealed_now(ls, c->slot);
	return 0;
}

static int enter(struct compact *c, struct meta_layer *row)
{
	int err = layers_live_refs(layer_index(c->file), row->number, &row->refs);

	row->chain.v = malloc(sizeof(uint64_t));
	if (!row->chain.v)
		err = -ENOMEM;
	else
		row->chain.v[row->chain.n++] = row->number;
	if (!err) {
		lock_acquire(&c->ls->lock);
		err = enter_locked(c, row);
		lock_release(&c->ls->lock);
	}
	if (err) {
		free(row->chain.v);
		free(row->refs.v);
	}
	return err;
}

static uint64_t take_number(struct layers *ls)
{
	uint64_t number;

	lock_acquire(&ls->lock);
	number = ls->next_number++;
	lock_release(&ls->lock);
	return number;
}

int compact_install(struct compact *c, uint64_t commit, int64_t time_ns)
{
	struct layers *ls = c->ls;
	struct meta_layer row = { .number = take_number(ls), .state = META_LAYER_FULL, .commit = commit, .time_ns = time_ns };
	int err = catch_up(c);

	if (!err)
		err = layer_adopt(c->file, ls->store->dir, TMP_PATH, row.number);
	if (err)
		return err;
	place_here(&c->full, row.number);
	c->tmp = false;
	err = index_set_chain(&c->full, &row.number, 1);
	if (!err)
		err = layer_seal_full(c->file, &c->full, commit, time_ns);
	if (!err)
		err = layer_sync(c->file);
	if (!err) {
		row.raw_bytes = layer_head(c->file)->raw_bytes;
		err = enter(c, &row);
	}
	if (err) {
		char path[LAYER_NAME_MAX];

		layer_path(row.number, path);
		io_unlink(ls->store->dir, path);
	}
	return err;
}

bool compact_installed(const struct compact *c)
{
	return c->slot != NULL;
}

int compact_find(const struct compact *c, uint64_t ino, uint64_t block, struct layer_block *out)
{
	const struct index_record *r = index_find(layer_index(c->slot->file), ino);
	const struct layer_block *b = r ? index_record_block(r, block) : NULL;

	if (!b)
		return err_corrupt("layers", c->slot->row.number, "compaction lost block %llu of inode %llu",
				   (unsigned long long)block, (unsigned long long)ino);
	*out = *b;
	return 0;
}
