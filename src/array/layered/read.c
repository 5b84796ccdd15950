/*
 * Reading a layered array: dirty blocks and decoded frames are lent; what a stream reads next is decoded ahead.
 *
 * Invariant: the layer of a frame is held while the frame is decoded: by the array if it is pinned or of a state, else for the time
 * of the load.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "array/arrays.h"
#include "array/layered/dirty.h"
#include "array/layered/inside.h"
#include "block/cache.h"
#include "block/filter.h"
#include "block/layer.h"
#include "store/layers/held.h"
#include "store/layers.h"
#include "store/meta.h"
#include "store/store.h"
#include "util/err.h"
#include "util/log.h"
#include "util/stats.h"

struct load {
	struct store *store;
	struct held *held; /* NULL: the set has the layer */
	uint64_t ino, block;
	struct block_ref ref;
	unsigned how;
};

static int load_frame(void *ctx, void *dst, size_t size)
{
	struct load *load = ctx;
	struct layers *ls = load->store->layers;
	struct layer_block b = block_ref_entry(&load->ref, load->block);
	struct layers_slot *slot;
	char who[80];
	int err = load->held ? held_find(load->held, b.layer, &slot) : layers_get(ls, b.layer, &slot);

	(void)size;
	if (err)
		return err;
	snprintf(who, sizeof(who), "inode %llu block %llu", (unsigned long long)load->ino,
		 (unsigned long long)load->block);
	err = layer_decode(layers_file(slot), &b, who, layered_frame_how(load->how, b.frame_len, b.frame_raw), dst);
	if (!load->held)
		layers_put(ls, slot);
	return err;
}

static struct load load_of(struct layered *l, const struct block_ref *ref, uint64_t block, unsigned how)
{
	return (struct load){ .store = l->array.home->store, .held = l->held, .ino = l->array.ino, .block = block, .ref = *ref, .how = how };
}

/* The layer has named itself. */
int layered_report(struct layered *l, const struct block_ref *r, uint64_t block, int err)
{
	struct meta *m = l->array.home->store->meta;
	char path[4096] = "?", why[96], report[4300];

	if (err == -ESTALE)
		err = err_corrupt("layers", r->layer, "the layer is missing");
	if (err != -EUCLEAN)
		return err;
	if (m && !l->past) {
		meta_lock(m);
		meta_path_locked(m, META_INO_LAYERS, l->array.ino, path, sizeof(path));
		meta_unlock(m);
	} else {
		snprintf(path, sizeof(path), "(inode %llu)", (unsigned long long)l->array.ino);
	}
	if (!filter_known(r->filter))
		snprintf(why, sizeof(why), "it has filter %u, of a later version of spillfs", r->filter);
	else
		snprintf(why, sizeof(why), "layer %llu is damaged at byte %llu", (unsigned long long)r->layer, (unsigned long long)r->frame_off);
	snprintf(report, sizeof(report), "layers/%s: block %llu cannot be read: %s", path, (unsigned long long)block, why);
	if (err_is_news(report))
		log_error("%s", report);
	return err;
}

/* The decoded frame of ref, pinned in the cache. */
int layered_get_frame(struct layered *l, const struct block_ref *ref, uint64_t block, unsigned how, struct cache_entry **out)
{
	struct store *s = l->array.home->store;
	struct load load = load_of(l, ref, block, how);
	struct cache_key key = { .layer = ref->layer, .off_bytes = ref->frame_off };

	return layered_report(l, ref, block, cache_get(s->cache, key, ref->frame_raw, load_frame, &load, out));
}

/* A prefetch may outlive the array; it holds the layers. */
struct prefetch {
	struct work work;
	struct load load;
};

static void run_prefetch(struct work *w)
{
	struct prefetch *p = (struct prefetch *)w;
	struct cache *cache = p->load.store->cache;
	struct cache_key key = { .layer = p->load.ref.layer, .off_bytes = p->load.ref.frame_off };
	struct cache_entry *e;

	/* A damaged frame is reported to the reader that asks for it. */
	if (!cache_has(cache, key) && !cache_get(cache, key, p->load.ref.frame_raw, load_frame, &p->load, &e)) {
		stats_add(STAT_CACHE_PREFETCHED, 1);
		cache_put(cache, e);
	}
	held_put(p->load.held);
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
	if (!ref.frame_off || cache_has(s->cache, (struct cache_key){ .layer = ref.layer, .off_bytes = ref.frame_off }))
		return;
	p = calloc(1, sizeof(*p));
	if (!p)
		return;
	p->work.run = run_prefetch;
	p->load = load_of(l, &ref, block, how);
	if (p->load.held)
		held_get(p->load.held);
	work_submit(s->work, &p->work, WORK_BACKGROUND);
}

/* Notes that `block` is read, with `to_end` up to its end. Is it to leave the cache early? */
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

int layered_borrow(struct array *a, uint64_t off, size_t len, unsigned how, struct lease *out)
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

int layered_seek(struct array *a, uint64_t off, bool hole, uint64_t *out)
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
