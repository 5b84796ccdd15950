/*
 * Layered arrays: fixed logical blocks, each stored as a frame of some layer; newest layer wins.
 *
 * Writes change dirty blocks in memory; flush jobs encode them into frames of the open layer and enter
 * them in the block map; the next commit stages what has changed as entries of that layer's index.
 *
 * Invariants:
 *  1. The content of a block is its dirty block if there is one, else its frame, else zeros.
 *  2. `changes` holds each block whose place differs from what was staged last, once, with that old
 *     place (ref.changed says so); `tombs` holds every range that was cut or punched since.
 *  3. What is staged points into the open layer: a layer is sealed only when all that it holds is staged.
 *     Blocks that are stored have the size that their record says, whatever an xattr says since.
 *  4. Bytes of a block behind its valid length are zeros, and so is all of it behind the size.
 */
#include "array/layered/layered.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array/layered/dirty.h"
#include "array/layered/pin.h"
#include "array/promise.h"
#include "spillfs.h"
#include "block/cache.h"
#include "block/index.h"
#include "block/layer.h"
#include "io/io.h"
#include "store/history.h"
#include "store/layers.h"
#include "store/meta.h"
#include "store/store.h"
#include "util/buf.h"
#include "util/err.h"
#include "util/log.h"
#include "util/stats.h"

static struct layered *layered_of(struct array *a)
{
	return (struct layered *)a;
}

/* Replaying the layers. */

static void replay_tomb(struct layered *l, const struct layer_tomb *t)
{
	struct blockmap_entry *e;
	uint64_t block = t->first;

	while (blockmap_next(&l->map, block, &block, &e) && block - t->first < t->count) {
		e->ref = (struct block_ref){ 0 };
		block++;
	}
}

static int replay_record(void *ctx, const struct index_record *r)
{
	static const struct layer_tomb all = { 0, UINT64_MAX };
	struct layered *l = ctx;

	l->recorded = true;
	if (r->type == LAYER_REC_GONE)
		replay_tomb(l, &all);
	if (r->nblocks)
		l->array.params.block_bytes = (uint32_t)r->block_bytes;
	for (size_t i = 0; i < r->ntombs; i++)
		replay_tomb(l, &r->tombs[i]);
	for (size_t i = 0; i < r->nblocks; i++) {
		const struct layer_block *b = &r->blocks[i];
		struct blockmap_entry *e;
		int err = b->raw_len > r->block_bytes || r->block_bytes > ARRAY_BLOCK_MAX ?
			err_corrupt("layers", b->layer, "block %llu of inode %llu is longer than its array's blocks",
				    (unsigned long long)b->block, (unsigned long long)r->ino) :
			blockmap_need(&l->map, b->block, &e);

		if (err)
			return err;
		e->ref = (struct block_ref){
			.frame_off = b->frame_off,
			.layer = (uint32_t)b->layer,
			.frame_len = b->frame_len,
			.frame_raw = b->frame_raw,
			.raw_off = b->raw_off,
			.raw_len = b->raw_len,
			.filter = b->filter,
			.elem_bytes = b->elem_bytes,
			.stat_type = b->stat_type,
			.nan_count = b->nan_count,
			.min_bits = b->min_bits,
			.max_bits = b->max_bits,
		};
	}
	return 0;
}

static uint64_t stored_bytes(struct layered *l)
{
	struct blockmap_entry *e;
	uint64_t block = 0, sum = 0;

	while (blockmap_next(&l->map, block, &block, &e)) {
		sum += block_ref_share(&e->ref);
		block++;
	}
	return sum;
}

static void layered_close(struct array *a)
{
	struct layered *l = layered_of(a);

	/* The last job lets go of the array under the budget's lock. */
	while (dirty_has(a))
		dirty_flush_array(a->home->dirty, a);
	if (l->pins)
		pins_put(l->pins);
	blockmap_fini(&l->map);
	free(l->changes);
	free(l->tombs);
	lock_fini(&l->lock);
	free(l);
}

static size_t layered_memory(struct array *a)
{
	struct layered *l = layered_of(a);
	size_t bytes;

	lock_acquire(&l->lock);
	bytes = sizeof(*l) + blockmap_bytes(&l->map) + l->cap_changes * sizeof(*l->changes) + l->cap_tombs * sizeof(*l->tombs);
	lock_release(&l->lock);
	return bytes;
}

static struct layered *new_layered(struct arrays *home, uint64_t ino, uint64_t size, const struct array_params *params)
{
	struct layered *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->array = (struct array){ .ops = &layered_ops, .home = home, .ino = ino, .size_bytes = size, .params = *params };
	l->filter_hint = -1;
	l->facts_staged = true;
	stream_init(&l->reader);
	lock_init(&l->lock, RANK_ARRAY);
	blockmap_init(&l->map);
	return l;
}

int layered_new_pinned(struct array *a, struct pins *pins, struct layered **out)
{
	struct layered *l = new_layered(a->home, a->ino, a->size_bytes, &a->params);

	if (!l)
		return -ENOMEM;
	l->pins = pins;
	*out = l;
	return 0;
}

static int layered_open(struct arrays *home, const struct meta_inode *row, const struct array_params *params,
			struct array **out)
{
	struct layered *l = new_layered(home, row->ino, row->size_bytes, params);
	int err;

	if (!l)
		return -ENOMEM;
	err = params->past ? history_replay(params->past, row->ino, replay_record, l) :
			     layers_replay(home->store->layers, row->ino, replay_record, l);
	if (err) {
		layered_close(&l->array);
		return err;
	}
	atomic_store(&l->array.stored_bytes, stored_bytes(l));
	*out = &l->array;
	return 0;
}

/* Reading. */

struct load {
	struct store *store;
	struct history *past; /* NULL: the present, or a pinned array */
	struct pins *pins;
	uint64_t ino, block;
	struct block_ref ref;
	unsigned how;
};

static int load_frame(void *ctx, void *dst, size_t size)
{
	struct load *load = ctx;
	const struct block_ref *r = &load->ref;
	struct layers *ls = load->store->layers;
	struct layer_block b = {
		.block = load->block, .frame_off = r->frame_off, .frame_len = r->frame_len, .frame_raw = r->frame_raw,
		.raw_off = r->raw_off, .raw_len = r->raw_len, .filter = r->filter, .elem_bytes = r->elem_bytes,
	};
	struct layers_slot *slot;
	char who[80];
	int err = 0;

	(void)size;
	if (load->pins)
		slot = pins_find(load->pins, r->layer);
	else
		err = load->past ? history_layer(load->past, r->layer, &slot) : layers_get(ls, r->layer, &slot);
	if (err || !slot)
		return err ? err : -ESTALE;
	snprintf(who, sizeof(who), "inode %llu block %llu", (unsigned long long)load->ino,
		 (unsigned long long)load->block);
	err = layer_decode(layers_file(slot), &b, who, load->how, dst);
	if (!load->pins)
		layers_put(ls, slot);
	return err;
}

/* What this load reads from stays. */
static void load_hold(struct load *load)
{
	if (load->pins)
		pins_get(load->pins);
	else if (load->past)
		history_get(load->past);
}

static void load_let_go(struct load *load)
{
	if (load->pins)
		pins_put(load->pins);
	else if (load->past)
		history_put(load->past);
}

static struct load load_of(struct layered *l, const struct block_ref *ref, uint64_t block, unsigned how)
{
	return (struct load){ .store = l->array.home->store, .past = l->pins ? NULL : l->array.params.past,
			      .pins = l->pins, .ino = l->array.ino, .block = block, .ref = *ref, .how = how };
}

/* The layer has named itself. */
int layered_report(struct layered *l, const struct block_ref *r, uint64_t block, int err)
{
	struct meta *m = l->array.home->store->meta;
	char path[4096] = "?";

	if (err == -ESTALE)
		err = err_corrupt("layers", r->layer, "the layer is missing");
	if (err != -EUCLEAN)
		return err;
	if (m && !l->array.params.past) {
		meta_lock(m);
		meta_path_locked(m, META_INO_LAYERS, l->array.ino, path, sizeof(path));
		meta_unlock(m);
	} else {
		snprintf(path, sizeof(path), "(inode %llu)", (unsigned long long)l->array.ino);
	}
	log_error("layers/%s: block %llu cannot be read: layer %u is damaged at byte %llu", path,
		  (unsigned long long)block, r->layer, (unsigned long long)r->frame_off);
	return err;
}

/* The decoded frame of ref, pinned in the cache. */
int layered_get_frame(struct layered *l, const struct block_ref *ref, uint64_t block, unsigned how, struct cache_entry **out)
{
	struct store *s = l->array.home->store;
	struct load load = load_of(l, ref, block, how);
	struct cache_key key = { ref->layer, ref->frame_off };

	return layered_report(l, ref, block, cache_get(s->cache, key, ref->frame_raw, load_frame, &load, out));
}

/* May outlive the array; it holds the state. */
struct prefetch {
	struct work work;
	struct load load;
};

static void run_prefetch(struct work *w)
{
	struct prefetch *p = (struct prefetch *)w;
	struct cache *cache = p->load.store->cache;
	struct cache_key key = { p->load.ref.layer, p->load.ref.frame_off };
	struct cache_entry *e;

	/* A damaged frame is reported to the reader that asks for it. */
	if (!cache_has(cache, key) && !cache_get(cache, key, p->load.ref.frame_raw, load_frame, &p->load, &e)) {
		stats_add(STAT_CACHE_PREFETCHED, 1);
		cache_put(cache, e);
	}
	load_let_go(&p->load);
	free(p);
}

static void prefetch_block(struct layered *l, uint64_t block, unsigned how)
{
	struct store *s = l->array.home->store;
	struct blockmap_entry *e;
	struct prefetch *p;
	struct block_ref ref = { 0 };

	lock_acquire(&l->lock);
	e = blockmap_find(&l->map, block);
	if (e && !e->dirty)
		ref = e->ref;
	lock_release(&l->lock);
	if (!ref.frame_off || cache_has(s->cache, (struct cache_key){ ref.layer, ref.frame_off }))
		return;
	p = calloc(1, sizeof(*p));
	if (!p)
		return;
	p->work.run = run_prefetch;
	p->load = load_of(l, &ref, block, how);
	load_hold(&p->load);
	work_submit(s->work, &p->work, WORK_BACKGROUND);
}

/* `block` is read, up to its end or not. Is it to leave the cache early? */
static bool follow_reader(struct layered *l, uint64_t block, unsigned how, bool to_end)
{
	uint64_t window = stream_window(l->array.params.block_bytes), next, end;
	bool follows = stream_follow(&l->reader, block, to_end, window, &next, &end);

	for (; next < end; next++)
		prefetch_block(l, next, how);
	return follows && to_end && (how & IO_KEPT) && stream_pass(&l->reader, block, window);
}

static void give_back_dirty(struct lease *lease)
{
	dirty_put(lease->owner);
}

static void give_back_cached(struct lease *lease)
{
	cache_put(lease->owner, lease->item);
}

static void give_back_passed(struct lease *lease)
{
	cache_put_passed(lease->owner, lease->item);
}

static int layered_borrow(struct array *a, uint64_t off, size_t len, unsigned how, struct lease *out)
{
	struct layered *l = layered_of(a);
	uint32_t bs = a->params.block_bytes, in = (uint32_t)(off % bs);
	uint64_t block = off / bs;
	struct blockmap_entry *e;
	struct dirty_block *d = NULL;
	struct block_ref ref = { 0 };
	struct cache_entry *cached;
	uint32_t valid;
	bool passed;
	int err;

	if (len > bs - in)
		len = bs - in;
	lock_acquire(&l->lock);
	e = blockmap_find(&l->map, block);
	if (e) {
		ref = e->ref;
		d = e->dirty;
		if (d)
			dirty_get(d);
	}
	lock_release(&l->lock);
	valid = d ? d->len_bytes : ref.frame_off ? ref.raw_len : 0;
	if (in >= valid) {
		if (d)
			dirty_put(d);
		lease_zeros(out, len < LEASE_ZERO_MAX ? len : LEASE_ZERO_MAX);
		return 0;
	}
	if (len > valid - in)
		len = valid - in;
	if (d) {
		*out = (struct lease){ .ptr = d->data + in, .len_bytes = len, .give_back = give_back_dirty, .owner = d };
		return 0;
	}
	err = layered_get_frame(l, &ref, block, how, &cached);
	if (err)
		return err;
	passed = follow_reader(l, block, how, in + len == ref.frame_raw);
	*out = (struct lease){
		.ptr = (const unsigned char *)cache_data(cached) + ref.raw_off + in,
		.len_bytes = len,
		.give_back = passed ? give_back_passed : give_back_cached,
		.owner = a->home->store->cache,
		.item = cached,
	};
	return 0;
}

/* Changes of the map. All with l->lock held. */

/* The block's place is about to change (invariant 2). */
int layered_note_change_locked(struct layered *l, uint64_t block, struct blockmap_entry *e)
{
	if (e->ref.changed)
		return 0;
	if (l->nchanges == l->cap_changes) {
		size_t cap = l->cap_changes ? l->cap_changes * 2 : 1;
		void *v = realloc(l->changes, cap * sizeof(*l->changes));

		if (!v)
			return -ENOMEM;
		l->changes = v;
		l->cap_changes = cap;
	}
	l->changes[l->nchanges++] = (struct layered_change){
		.block = block,
		.old_layer = e->ref.frame_off ? e->ref.layer : 0,
		.old_len = (uint32_t)block_ref_share(&e->ref),
	};
	e->ref.changed = 1;
	return 0;
}

void layered_set_ref_locked(struct layered *l, struct blockmap_entry *e, const struct block_ref *ref)
{
	uint8_t changed = e->ref.changed;

	atomic_fetch_add(&l->array.stored_bytes, block_ref_share(ref));
	atomic_fetch_sub(&l->array.stored_bytes, block_ref_share(&e->ref));
	e->ref = *ref;
	e->ref.changed = changed;
}

int layered_note_tomb_locked(struct layered *l, uint64_t first, uint64_t count)
{
	if (l->ntombs && l->tombs[l->ntombs - 1].first == first && l->tombs[l->ntombs - 1].count == count)
		return 0;
	if (l->ntombs == l->cap_tombs) {
		size_t cap = l->cap_tombs ? l->cap_tombs * 2 : 1;
		void *v = realloc(l->tombs, cap * sizeof(*l->tombs));

		if (!v)
			return -ENOMEM;
		l->tombs = v;
		l->cap_tombs = cap;
	}
	l->tombs[l->ntombs++] = (struct layered_tomb){ first, count };
	return 0;
}

/* What was promised for the block is used, once all of that is stored. */
static void keep_promise(struct layered *l, const struct dirty_block *b, const struct block_ref *ref)
{
	uint32_t bs = l->array.params.block_bytes;
	uint32_t valid = (b->len_bytes + PROMISE_ALIGN - 1) / PROMISE_ALIGN * PROMISE_ALIGN;
	uint64_t begin = b->block * bs;

	if (ref->frame_off && b->promised && !promise_touches(&l->array, begin + valid, bs - valid))
		promise_drop(&l->array, begin, bs);
}

void layered_flushed(struct layered *l, struct dirty_block *b, const struct block_ref *ref)
{
	struct blockmap_entry *e;

	lock_acquire(&l->lock);
	e = blockmap_find(&l->map, b->block);
	assert(e && e->dirty == b);
	e->dirty = NULL;
	atomic_fetch_sub(&l->array.stored_bytes, b->len_bytes);
	layered_set_ref_locked(l, e, ref);
	keep_promise(l, b, ref);
	lock_release(&l->lock);
}

/* Blocks are stored as a whole: in the worst case each as it is, whatever part of it is written. */
static int layered_allocate(struct array *a, uint64_t off, uint64_t len)
{
	uint32_t bs = a->params.block_bytes;
	uint64_t first = off / bs * bs, last = (off + len + bs - 1) / bs * bs, size = off + len > a->size_bytes ? off + len : a->size_bytes;

	return promise_make(a, first, (last < size ? last : size) - first, NULL);
}

static int layered_seek(struct array *a, uint64_t off, bool hole, uint64_t *out)
{
	struct layered *l = layered_of(a);
	uint32_t bs = a->params.block_bytes;
	uint64_t block = off / bs, blocks = (a->size_bytes + bs - 1) / bs;

	lock_acquire(&l->lock);
	while (block < blocks) {
		struct blockmap_entry *e = blockmap_find(&l->map, block);
		bool data = e && (e->dirty || e->ref.frame_off);

		if (data != hole)
			break;
		if (hole || e)
			block++;
		else if (!blockmap_next(&l->map, block, &block, &e))
			block = blocks;
	}
	lock_release(&l->lock);
	*out = block * bs > off ? block * bs : off;
	return 0;
}

static int layered_flush(struct array *a)
{
	return dirty_flush_array(a->home->dirty, a);
}

/* Staging. */

static int put_entry(struct index_record *r, uint64_t block, const struct block_ref *ref)
{
	struct layer_block b = {
		.block = block, .layer = ref->layer, .frame_off = ref->frame_off, .frame_len = ref->frame_len,
		.frame_raw = ref->frame_raw, .raw_off = ref->raw_off, .raw_len = ref->raw_len, .filter = ref->filter,
		.elem_bytes = ref->elem_bytes, .stat_type = ref->stat_type, .nan_count = ref->nan_count,
		.min_bits = ref->min_bits, .max_bits = ref->max_bits,
	};

	return index_record_put(r, &b);
}

static int stage_changes(struct layered *l, struct layers *ls, struct index_record *r)
{
	size_t kept = 0;
	int err = 0;

	for (size_t i = 0; i < l->nchanges; i++) {
		struct layered_change *c = &l->changes[i];
		struct blockmap_entry *e = blockmap_find(&l->map, c->block);

		assert(!e->dirty);
		if (!err)
			err = e->ref.frame_off ? put_entry(r, c->block, &e->ref) : index_record_tomb(r, c->block, 1);
		if (err) {
			l->changes[kept++] = *c;
			continue;
		}
		layers_account_locked(ls, c->old_layer, -(int64_t)c->old_len);
		if (e->ref.frame_off)
			layers_account_locked(ls, e->ref.layer, (int64_t)block_ref_share(&e->ref));
		e->ref.changed = 0;
	}
	l->nchanges = kept;
	return err;
}

static int stage_record(struct layered *l, struct layers *ls, const struct layers_facts *facts)
{
	struct index_record *r;
	int err = layers_note_inode_locked(ls, facts, false, &r);

	if (err)
		return err;
	r->block_bytes = l->array.params.block_bytes;
	for (size_t i = 0; i < l->ntombs && !err; i++)
		err = index_record_tomb(r, l->tombs[i].first, l->tombs[i].count);
	if (err)
		return err;
	l->ntombs = 0;
	l->recorded = l->facts_staged = true;
	return stage_changes(l, ls, r);
}

static int layered_stage_locked(struct array *a, const struct layers_facts *facts, bool changed)
{
	struct layered *l = layered_of(a);
	struct layers *ls = a->home->store->layers;
	int err = 0;

	lock_acquire(&l->lock);
	if (changed || !l->facts_staged || l->nchanges || l->ntombs) {
		layers_lock(ls);
		err = stage_record(l, ls, facts);
		layers_unlock(ls);
	}
	lock_release(&l->lock);
	return err;
}

static int layered_sync(struct array *a)
{
	(void)a;
	return 0; /* the commit syncs the layers */
}

/* Every frame goes; the tree says so to whoever replays the layers. */
static int layered_drop_locked(struct array *a)
{
	struct layered *l = layered_of(a);
	struct layers *ls = a->home->store->layers;

	lock_acquire(&l->lock);
	layers_lock(ls);
	for (size_t i = 0; i < l->nchanges; i++)
		layers_account_locked(ls, l->changes[i].old_layer, -(int64_t)l->changes[i].old_len);
	l->nchanges = 0;
	layers_unlock(ls);
	lock_release(&l->lock);
	return 0;
}

static int layered_describe(struct array *a, const char *what, char **out)
{
	struct layered *l = layered_of(a);
	uint32_t seen[1024];
	size_t n = 0;
	uint64_t block = 0;
	struct blockmap_entry *e;

	if (strcmp(what, "layers"))
		return -ENODATA;
	lock_acquire(&l->lock);
	for (; blockmap_next(&l->map, block, &block, &e); block++) {
		size_t i = 0;

		while (i < n && seen[i] != e->ref.layer)
			i++;
		if (e->ref.frame_off && i == n && n < sizeof(seen) / sizeof(*seen))
			seen[n++] = e->ref.layer;
	}
	lock_release(&l->lock);
	return asprintf(out, "%zu", n) < 0 ? -ENOMEM : 0;
}

void layered_blocks(struct array *a, uint64_t first, struct spillfs_blocks *out)
{
	struct layered *l = layered_of(a);
	struct blockmap_entry *e;
	uint64_t block = first;

	*out = (struct spillfs_blocks){ .size_bytes = a->size_bytes, .block_bytes = a->params.block_bytes };
	lock_acquire(&l->lock);
	for (; out->n < SPILLFS_BLOCKS_MAX && blockmap_next(&l->map, block, &block, &e); block++) {
		const struct block_ref *r = &e->ref;
		struct spillfs_block *b = &out->v[out->n];

		if (!e->dirty && !r->frame_off)
			continue;
		b->block = block;
		if (!e->dirty)
			*b = (struct spillfs_block){
				.block = block, .layer = r->layer, .frame_off = r->frame_off, .frame_len = r->frame_len,
				.frame_raw = r->frame_raw, .raw_off = r->raw_off, .raw_len = r->raw_len, .filter = r->filter,
				.elem_bytes = r->elem_bytes, .stat_type = r->stat_type, .nan_count = r->nan_count,
				.min_bits = r->min_bits, .max_bits = r->max_bits,
			};
		out->n++;
	}
	lock_release(&l->lock);
	out->first = block;
}

const struct array_ops layered_ops = {
	.kind = ARRAY_LAYERED,
	.open = layered_open,
	.close = layered_close,
	.memory = layered_memory,
	.borrow = layered_borrow,
	.write = layered_write,
	.resize = layered_resize,
	.punch = layered_punch,
	.allocate = layered_allocate,
	.seek = layered_seek,
	.flush = layered_flush,
	.stage_locked = layered_stage_locked,
	.sync = layered_sync,
	.drop_locked = layered_drop_locked,
	.remap = layered_remap,
	.describe = layered_describe,
};
