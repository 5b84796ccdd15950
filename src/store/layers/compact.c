/*
 * Compaction. It walks the state three times: to weigh the layers, to list the blocks that move, and to write the new index.
 *
 * Invariants:
 *  1. Nothing refers to a copied frame before the new layer is installed.
 *  2. A layer that a snapshot needs is no victim: the snapshot would keep it, and nothing would be given back. A layer that
 *     only the states of the last commits need is one: those states pass, but a new full layer that points into it would keep it
 *     longer. If space is wanted at once, it is no victim either.
 *  3. Blocks at the same place share one move. Blocks outside the victims stay where they are.
 *  4. A frame is copied whole, as it is, unless less than half of it is live: then its live blocks are packed anew.
 */
#include "store/layers/compact.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/codec.h"
#include "block/layer.h"
#include "block/ref.h"
#include "store/layers/inside.h"
#include "store/layers/state_reader.h"
#include "store/store.h"
#include "util/buf.h"
#include "util/err.h"
#include "util/log.h"
#include "util/vec.h"

#define CHAIN_MAX 32u
/* A layer is worth compacting when half of it is dead, and the dead half is not small. */
#define WORTH_BYTES (4u << 20)
#define WORTH_SPACE_BYTES (64u << 10)
#define WORTH_SUM_BYTES (16u << 20)
/* Layers below this size are merged when there are so many of them. */
#define SMALL_BYTES (1u << 20)
#define SMALL_MAX 16u
#define SMALL_ALL_BYTES (64u << 20)
#define PACK_BYTES (256u << 10)
#define PACK_LEVEL 3
/* The list of moves may take this part of -o cache, or this size if that is more. One layer is always taken. */
#define MOVES_PART 8u
#define MOVES_MIN ((size_t)5 << 20)

/* The place of a block that moves: the old one, and the new one when it was copied. */
struct move {
	uint64_t layer, frame_off, to_off;
	uint32_t frame_len, frame_raw; /* of the new one when it was copied */
	uint32_t raw_off, raw_len, to_raw_off;
	struct filter filter;
};

struct pack {
	unsigned char *data;
	uint32_t len;
	struct move **v;
	size_t n, cap;
};

struct compact {
	struct layers *ls;
	struct layer *file;
	bool tmp; /* the file has its temporary name */
	uint64_t number; /* of the file, when it has one */
	struct layers_slot *slot; /* when it is installed */
	uint64_t *victims; /* rising */
	size_t nvictims;
	struct move *moves; /* by place */
	size_t nmoves, next, cap_moves;
	bool limited, gained; /* victims are left for the next compaction, which finds fewer */
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

/* The bytes of the layer's frames, and how many of them live arrays or the newest sealed state point to. */
static void weigh(const struct layers_slot *slot, enum compact_effort effort, uint64_t *bytes, uint64_t *live)
{
	*bytes = layers_slot_sealed(slot) ? slot->row.stored_bytes : layer_frame_bytes(slot->file);
	*live = slot->row.live_bytes;
	/* The other efforts seal first, so that these bytes are dead. */
	if (effort == COMPACT_WORTH)
		*live += slot->dying_bytes;
}

/* Is enough of the layers dead? With `marked`, only layers that no state needs are counted. */
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
		layers_mark_states(ls, true);
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

/* On a full disk a compaction takes few layers at a time, because copied frames exist twice until the commit. */
static bool has_space(struct layers *ls, uint64_t bytes, enum compact_effort effort)
{
	return effort != COMPACT_SPACE || !store_may_compact(ls->store, bytes);
}

/* Calls each with the records of the newest sealed state. */
static int walk(struct compact *c, int (*each)(struct compact *c, const struct index_record *r, void *ctx), void *ctx)
{
	struct state_reader *p;
	int err = state_reader_open(c->ls, &p);

	if (err)
		return err;
	while (!err) {
		struct index_record *r;

		err = state_reader_record(p, &r);
		if (err)
			break;
		err = each(c, r, ctx);
		index_record_free(r);
	}
	state_reader_close(p);
	return err == -ENOENT ? 0 : err;
}

struct weigh {
	struct layers_tally live;
	struct meta_numbers gone;
};

static int weigh_record(struct compact *c, const struct index_record *r, void *ctx)
{
	struct weigh *w = ctx;

	(void)c;
	return layers_tally_add(&w->live, r, NULL, &w->gone);
}

static size_t moves_max(const struct layers *ls)
{
	size_t bytes = ls->store->account.budget_bytes / MOVES_PART;

	return (bytes > MOVES_MIN ? bytes : MOVES_MIN) / sizeof(struct move);
}

/* Chooses the victims: sealed layers that no snapshot needs and that would give space back. The set's lock is held. */
static void choose_among(struct compact *c, const struct layers_tally *live, enum compact_effort effort)
{
	struct layers *ls = c->ls;
	uint64_t copied = 0;
	size_t nsmall = 0;

	for (int pass = 0; pass < 2; pass++) {
		for (size_t i = 0; i < ls->n; i++) {
			struct layers_slot *slot = ls->v[i];
			const struct layers_live *l = layers_tally_find(live, slot->row.number);

			if (slot->needed || !layers_slot_sealed(slot) || !l)
				continue;
			if (pass == 0) {
				nsmall += is_small(slot, effort);
				continue;
			}
			if (!is_worth(slot, l->bytes, nsmall, effort) || !has_space(ls, copied + l->bytes, effort))
				continue;
			if (c->nvictims && c->cap_moves + l->nblocks > moves_max(ls)) {
				c->limited = true;
				continue;
			}
			c->gained |= c->nvictims || mostly_dead(slot->row.stored_bytes, l->bytes, effort);
			c->victims[c->nvictims++] = slot->row.number;
			c->cap_moves += l->nblocks;
			copied += l->bytes;
		}
	}
}

static int choose_victims(struct compact *c, enum compact_effort effort)
{
	struct layers *ls = c->ls;
	struct weigh w = { 0 };
	int err = layers_gone(ls, &w.gone);

	if (!err)
		err = walk(c, weigh_record, &w);
	c->victims = err ? NULL : calloc(w.live.n + 1, sizeof(*c->victims));
	if (!err && !c->victims)
		err = -ENOMEM;
	if (!err) {
		lock_acquire(&ls->lock);
		layers_mark_states(ls, effort == COMPACT_SPACE);
		choose_among(c, &w.live, effort);
		lock_release(&ls->lock);
	}
	free(w.live.v);
	free(w.gone.v);
	return err;
}

bool compact_moved(const struct compact *c, uint64_t layer)
{
	size_t at = VEC_LOWER_BOUND(i, c->nvictims, c->victims[i] < layer);

	return at < c->nvictims && c->victims[at] == layer;
}

static int compare_places(const void *a, const void *b)
{
	const struct move *x = a, *y = b;

	if (x->layer != y->layer)
		return x->layer < y->layer ? -1 : 1;
	if (x->frame_off != y->frame_off)
		return x->frame_off < y->frame_off ? -1 : 1;
	return x->raw_off < y->raw_off ? -1 : x->raw_off > y->raw_off;
}

static bool same_frame(const struct move *x, const struct move *y)
{
	return x->layer == y->layer && x->frame_off == y->frame_off;
}

static int list_record(struct compact *c, const struct index_record *r, void *ctx)
{
	(void)ctx;
	for (size_t k = 0; k < r->nblocks; k++) {
		const struct layer_block *b = &r->blocks[k];

		if (!compact_moved(c, b->layer))
			continue;
		if (c->nmoves == c->cap_moves)
			return err_corrupt("layers", b->layer, "it has more blocks than were counted");
		c->moves[c->nmoves++] = (struct move){
			.layer = b->layer, .frame_off = b->frame_off, .frame_len = b->frame_len, .frame_raw = b->frame_raw,
			.raw_off = b->raw_off, .raw_len = b->raw_len, .filter = layer_block_filter(b),
		};
	}
	return 0;
}

/* One for each place (invariant 3). */
static void unite_moves(struct compact *c)
{
	size_t n = 0;

	for (size_t i = 0; i < c->nmoves; i++) {
		const struct move *m = &c->moves[i];
		struct move *last = n ? &c->moves[n - 1] : NULL;

		if (!last || !same_frame(m, last))
			c->total_bytes += m->frame_len;
		if (last && !compare_places(m, last))
			last->raw_len = m->raw_len > last->raw_len ? m->raw_len : last->raw_len;
		else
			c->moves[n++] = *m;
	}
	c->nmoves = n;
}

static int list_moves(struct compact *c)
{
	int err;

	if (!c->cap_moves)
		return 0;
	c->moves = malloc(c->cap_moves * sizeof(*c->moves));
	if (!c->moves)
		return -ENOMEM;
	account_change(&c->ls->store->account, ACCOUNT_INDEXES, 0, c->cap_moves * sizeof(*c->moves));
	err = walk(c, list_record, NULL);
	if (err)
		return err;
	qsort(c->moves, c->nmoves, sizeof(*c->moves), compare_places);
	unite_moves(c);
	return 0;
}

/* Is the newest state one full layer, of which few frames died while it was made? */
static bool is_enough(struct layers *ls, enum compact_effort effort)
{
	const struct layers_slot *newest;
	bool enough;

	lock_acquire(&ls->lock);
	newest = ls->newest;
	enough = newest && newest->row.chain.n == 1 && newest->row.state == META_LAYER_FULL &&
		 !mostly_dead(newest->row.stored_bytes, newest->row.live_bytes, effort);
	lock_release(&ls->lock);
	return enough;
}

int compact_plan(struct layers *ls, enum compact_effort effort, struct compact **out)
{
	struct compact *c = calloc(1, sizeof(*c));
	int err;

	if (!c)
		return -ENOMEM;
	c->ls = ls;
	err = choose_victims(c, effort);
	if (!err && !c->nvictims && is_enough(ls, effort))
		err = -ENOENT;
	if (!err)
		err = list_moves(c);
	if (!err) {
		err = layer_create_as(ls->store->dir, LAYER_COMPACTING, ls->store->uuid, &c->file);
		c->tmp = !err;
	}
	if (err) {
		compact_free(c);
		return err;
	}
	*out = c;
	return 0;
}

void compact_free(struct compact *c)
{
	if (c->file)
		layer_close(c->file);
	if (c->tmp)
		io_unlink(c->ls->store->dir, LAYER_COMPACTING);
	if (c->slot)
		layers_put(c->ls, c->slot);
	if (c->moves)
		account_change(&c->ls->store->account, ACCOUNT_INDEXES, c->cap_moves * sizeof(*c->moves), 0);
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

static int read_frame(struct compact *c, const struct move *b, void **frame_out)
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
	struct filter filter = { 0 };
	uint64_t off = 0;
	struct codec_hint hint = CODEC_HINT_NONE;
	void *frame;
	int err;

	if (!p->n)
		return 0;
	frame = buf_alloc(cap);
	err = frame ? codec_encode(&params, p->data, p->len, frame, cap, &hint, &len, &filter) : -ENOMEM;
	if (!err)
		err = layer_append(c->file, frame, len, p->len, 0, &off);
	buf_free(frame, cap);
	for (size_t i = 0; i < p->n && !err; i++) {
		struct move *m = p->v[i];

		m->to_off = off;
		m->frame_len = (uint32_t)len;
		m->frame_raw = p->len;
		m->filter = filter;
	}
	p->n = p->len = 0;
	return err;
}

static int pack_block(struct compact *c, struct move *b, const unsigned char *raw)
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
	if (!err)
		err = VEC_RESERVE(p->v, p->cap, p->n + 1);
	if (err)
		return err;
	memset(p->data + p->len, 0, at - p->len);
	memcpy(p->data + at, raw + b->raw_off, b->raw_len);
	p->len = at + b->raw_len;
	p->v[p->n++] = b;
	b->to_raw_off = at;
	return 0;
}

/* The n live blocks of a frame that is mostly dead; *done is false if the frame cannot be decoded. */
static int repack(struct compact *c, struct move *v, size_t n, const void *frame, bool *done)
{
	unsigned char *raw = buf_alloc(v[0].frame_raw);
	uint32_t raw_bytes = v[0].frame_raw;
	int err = raw ? codec_decode(frame, v[0].frame_len, &v[0].filter, raw, raw_bytes) : -ENOMEM;

	*done = !err;
	/* A damaged frame moves as it is, and its readers get an error. */
	if (err == -EUCLEAN)
		err = 0;
	for (size_t i = 0; i < n && !err && *done; i++)
		err = pack_block(c, &v[i], raw);
	buf_free(raw, raw_bytes);
	return err;
}

static int copy_frame(struct compact *c, struct move *v, size_t n, const void *frame)
{
	uint64_t off;
	int err = layer_append(c->file, frame, v[0].frame_len, v[0].frame_raw, 0, &off);

	for (size_t i = 0; i < n && !err; i++) {
		v[i].to_off = off;
		v[i].to_raw_off = v[i].raw_off;
	}
	return err;
}

/* The next frame, with all blocks in it. */
static int move_frame(struct compact *c, uint64_t *bytes_out)
{
	struct move *v = &c->moves[c->next];
	uint32_t frame_len = v[0].frame_len;
	uint64_t live = 0;
	bool packed = false;
	size_t n = 0;
	void *frame;
	int err;

	for (; c->next + n < c->nmoves && same_frame(&v[n], &v[0]); n++)
		live += v[n].raw_len;
	err = read_frame(c, &v[0], &frame);
	if (err)
		return err;
	/* Only what fits a pack can have been packed. */
	if (live < v[0].frame_raw / 2 && v[0].frame_raw <= PACK_BYTES)
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

int compact_place(const struct compact *c, struct layer_block *b)
{
	const struct move key = { .layer = b->layer, .frame_off = b->frame_off, .raw_off = b->raw_off };
	const struct move *m = c->nmoves ? bsearch(&key, c->moves, c->nmoves, sizeof(key), compare_places) : NULL;

	if (!m)
		return err_corrupt("layers", b->layer, "compaction lost the block at %u in the frame at %llu", b->raw_off,
				   (unsigned long long)b->frame_off);
	b->layer = c->number;
	b->frame_off = m->to_off;
	b->frame_len = m->frame_len;
	b->frame_raw = m->frame_raw;
	b->raw_off = m->to_raw_off;
	layer_block_set_filter(b, &m->filter);
	return 0;
}

/* The new index as it is written, and the bytes that it makes live. */
struct fill {
	struct compact *c;
	struct state_reader *reader;
	const struct index *open; /* of the open layer, behind the index; NULL: none */
	struct meta_numbers gone;
	struct layers_tally live, all;
};

static int fill_record(struct fill *f, struct layer_filler *to, struct index_record *r)
{
	int err = 0;

	for (size_t k = 0; k < r->nblocks && !err; k++) {
		if (compact_moved(f->c, r->blocks[k].layer))
			err = compact_place(f->c, &r->blocks[k]);
	}
	if (!err)
		err = layer_fill_record(to, r);
	if (!err)
		err = layers_tally_add(&f->all, r, NULL, NULL);
	return err ? err : layers_tally_add(&f->live, r, f->open, &f->gone);
}

static int fill_records(struct fill *f, struct layer_filler *to)
{
	struct index_record *r;
	int err = state_reader_record(f->reader, &r);

	while (!err) {
		err = fill_record(f, to, r);
		index_record_free(r);
		if (!err)
			err = state_reader_record(f->reader, &r);
	}
	return err == -ENOENT ? 0 : err;
}

static int fill_names(struct fill *f, struct layer_filler *to)
{
	struct index_name name;
	int err = state_reader_name(f->reader, &name);

	while (!err) {
		err = layer_fill_name(to, &name);
		free(name.name);
		if (!err)
			err = state_reader_name(f->reader, &name);
	}
	return err == -ENOENT ? 0 : err;
}

static int fill_index(void *ctx, struct layer_filler *to)
{
	int err = fill_records(ctx, to);

	return err ? err : fill_names(ctx, to);
}

/* The index also has the layers that were sealed since the plan. */
static int write_index(struct fill *f, uint64_t commit, int64_t time_ns)
{
	int err = state_reader_open(f->c->ls, &f->reader);

	if (err)
		return err;
	err = layer_seal_full(f->c->file, fill_index, f, commit, time_ns);
	state_reader_close(f->reader);
	if (!err && f->open)
		err = layers_tally_index(&f->live, f->open, &f->gone);
	return err;
}

/* Deletions from here on are applied by settle_live, after the count. */
static int begin_count(struct fill *f)
{
	struct layers *ls = f->c->ls;

	lock_acquire(&ls->lock);
	f->open = ls->open ? layer_index(ls->open->file) : NULL;
	for (size_t i = 0; i < ls->n; i++)
		ls->v[i]->counted_from = ls->v[i]->row.live_bytes;
	lock_release(&ls->lock);
	return layers_gone(ls, &f->gone);
}

/* Sets the live bytes of all layers to those that were counted, with the changes that came while they were counted. */
static void settle_live(struct compact *c, const struct layers_tally *live)
{
	struct layers *ls = c->ls;
	uint64_t less = 0; /* of what has moved */

	for (size_t i = 0; i < ls->n; i++) {
		struct layers_slot *slot = ls->v[i];
		const struct layers_live *l = layers_tally_find(live, slot->row.number);
		uint64_t now = (l ? l->bytes : 0) + slot->row.live_bytes;

		now = now > slot->counted_from ? now - slot->counted_from : 0;
		if (compact_moved(c, slot->row.number)) {
			if (slot->row.live_bytes < slot->counted_from)
				less += slot->counted_from - slot->row.live_bytes;
			slot->moved_to = c->number;
			now = 0;
		}
		slot->row_dirty |= slot->row.live_bytes != now;
		slot->row.live_bytes = now;
	}
	c->slot->row.live_bytes = c->slot->row.live_bytes > less ? c->slot->row.live_bytes - less : 0;
}

static int enter(struct compact *c, struct meta_layer *row, const struct fill *f)
{
	struct layers *ls = c->ls;
	int err = layers_tally_refs(&f->all, row->number, &row->refs);

	row->chain.v = malloc(sizeof(uint64_t));
	if (!row->chain.v)
		err = -ENOMEM;
	else
		row->chain.v[row->chain.n++] = row->number;
	lock_acquire(&ls->lock);
	if (!err)
		err = layers_slot_add(ls, row, &c->slot);
	if (!err) {
		settle_live(c, &f->live);
		c->slot->file = c->file;
		c->slot->refs++;
		c->file = NULL;
		layers_slot_sealed_now(ls, c->slot);
	}
	lock_release(&ls->lock);
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
	struct fill f = { .c = c };
	int err = layer_adopt(c->file, ls->store->dir, LAYER_COMPACTING, row.number);

	if (err)
		return err;
	c->number = row.number;
	c->tmp = false;
	err = begin_count(&f);
	if (!err)
		err = write_index(&f, commit, time_ns);
	if (!err)
		err = layer_sync(c->file);
	if (!err) {
		row.raw_bytes = layer_head(c->file)->raw_bytes;
		err = enter(c, &row, &f);
	}
	free(f.gone.v);
	free(f.live.v);
	free(f.all.v);
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

bool compact_again(const struct compact *c)
{
	return c->limited && c->gained;
}
