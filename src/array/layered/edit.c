/*
 * Changes of a layered array: write, punch, resize, as operations on dirty blocks.
 *
 * The inode is held exclusively: no reader, no other writer; only flush jobs run beside. The invariants
 * are those of layered.c.
 */
#include <string.h>

#include "array/arrays.h"
#include "array/layered/dirty.h"
#include "array/layered/inside.h"
#include "block/cache.h"
#include "store/store.h"

/* The dirty block of `block` if there is one, claimed; NULL otherwise. */
static struct dirty_block *claim_dirty(struct layered *l, uint64_t block)
{
	for (;;) {
		struct blockmap_entry *e;
		struct dirty_block *d;
		bool still;

		lock_acquire(&l->lock);
		e = blockmap_find(&l->map, block);
		d = e ? e->dirty : NULL;
		if (d)
			dirty_get(d);
		lock_release(&l->lock);
		if (!d)
			return NULL;
		still = dirty_claim(d);
		dirty_put(d);
		if (still)
			return d;
	}
}

/* Fills a new dirty block with what the block holds now. */
static int load_dirty(struct layered *l, struct dirty_block *d, const struct block_ref *ref, unsigned how)
{
	struct cache_entry *cached;
	int err = layered_get_frame(l, ref, d->block, how, &cached);

	if (err)
		return err;
	memcpy(d->data, (const unsigned char *)cache_data(cached) + ref->raw_off, ref->raw_len);
	d->len_bytes = ref->raw_len;
	cache_put(l->array.home->store->cache, cached);
	return 0;
}

/* A new dirty block, empty if `whole` says that all of it is about to be replaced, for `bytes` or for what
 * the block holds now. */
static int make_dirty(struct layered *l, uint64_t block, uint32_t bytes, bool whole, unsigned how, struct dirty_block **out)
{
	struct blockmap_entry *e;
	struct dirty_block *d;
	struct block_ref ref = { 0 };
	int err;

	lock_acquire(&l->lock);
	err = blockmap_need(&l->map, block, &e);
	if (!err && e->ref.frame_off && !whole)
		ref = e->ref;
	lock_release(&l->lock);
	if (err)
		return err;
	err = dirty_make(l->array.home->dirty, &l->array, block, ref.raw_len > bytes ? ref.raw_len : bytes, &d);
	if (err)
		return err;
	if (ref.frame_off)
		err = load_dirty(l, d, &ref, how);
	if (!err) {
		lock_acquire(&l->lock);
		err = layered_note_change_locked(l, block, e);
		if (!err) {
			e->dirty = d;
			atomic_fetch_add(&l->array.stored_bytes, dirty_share(d->len_bytes));
		}
		lock_release(&l->lock);
	}
	if (err) {
		dirty_discard(d);
		return err;
	}
	*out = d;
	return 0;
}

/* A dirty block for `block` that has room for `bytes`, holding its present content unless it is whole. */
static int need_dirty(struct layered *l, uint64_t block, uint32_t bytes, bool whole, unsigned how, struct dirty_block **out)
{
	struct dirty_block *d = claim_dirty(l, block);
	int err;

	if (!d)
		return make_dirty(l, block, bytes, whole, how, out);
	err = dirty_grow(d, bytes);
	if (err) {
		dirty_touch(d, false);
		return err;
	}
	*out = d;
	return 0;
}

static void set_len(struct layered *l, struct dirty_block *d, uint32_t len)
{
	atomic_fetch_add(&l->array.stored_bytes, dirty_share(len) - dirty_share(d->len_bytes));
	d->len_bytes = len;
}

static int write_block(struct layered *l, uint64_t block, uint32_t in, const void *buf, uint32_t len, bool sequential, unsigned how)
{
	uint32_t bs = l->array.params.block_bytes;
	struct dirty_block *d;
	int err = need_dirty(l, block, in + len, in == 0 && len == bs, how, &d);

	if (err)
		return err;
	if (in > d->len_bytes)
		memset(d->data + d->len_bytes, 0, in - d->len_bytes);
	memcpy(d->data + in, buf, len);
	if (in + len > d->len_bytes)
		set_len(l, d, in + len);
	d->how |= how;
	/* A sequential writer is done with a full block: it is encoded while the writer goes on. */
	dirty_touch(d, sequential && in + len == bs);
	return 0;
}

int layered_write(struct array *a, const void *buf, size_t len, uint64_t off, unsigned how, size_t *done_out)
{
	struct layered *l = layered_of(a);
	uint32_t bs = a->params.block_bytes;
	bool sequential = off == l->write_end;
	size_t done = 0;
	int err = 0;

	while (done < len) {
		uint64_t at = off + done;
		uint32_t in = (uint32_t)(at % bs), n = bs - in;

		if (n > len - done)
			n = (uint32_t)(len - done);
		err = write_block(l, at / bs, in, (const char *)buf + done, n, sequential, how);
		if (err)
			break;
		done += n;
	}
	*done_out = done;
	l->write_end = off + done;
	l->facts_staged = false;
	if (done && off + done > a->size_bytes)
		a->size_bytes = off + done;
	return err;
}

/* Whole blocks [first, first + count) become zeros. */
static int drop_blocks(struct layered *l, uint64_t first, uint64_t count)
{
	struct blockmap_entry *e;
	uint64_t block = first;
	int err = 0;

	if (!count)
		return 0;
	for (;; block++) {
		struct dirty_block *d = NULL;
		bool more;

		lock_acquire(&l->lock);
		more = blockmap_next(&l->map, block, &block, &e) && block - first < count;
		if (more && e->dirty)
			d = e->dirty;
		lock_release(&l->lock);
		if (!more)
			break;
		if (d)
			d = claim_dirty(l, block);
		lock_acquire(&l->lock);
		e = blockmap_find(&l->map, block);
		if (d) {
			e->dirty = NULL;
			atomic_fetch_sub(&l->array.stored_bytes, dirty_share(d->len_bytes));
		}
		if (e->ref.frame_off)
			err = layered_note_change_locked(l, block, e);
		if (!err)
			layered_set_ref_locked(l, e, &(struct block_ref){ 0 });
		lock_release(&l->lock);
		if (d)
			dirty_discard(d);
		if (err)
			return err;
	}
	lock_acquire(&l->lock);
	if (l->recorded)
		err = layered_note_tomb_locked(l, first, count);
	l->facts_staged = false;
	lock_release(&l->lock);
	return err;
}

/* Bytes [in, in + len) of a block become zeros; the rest stays. */
static int zero_part(struct layered *l, uint64_t block, uint32_t in, uint32_t len)
{
	struct blockmap_entry *e;
	struct dirty_block *d;
	bool nothing;
	int err;

	lock_acquire(&l->lock);
	e = blockmap_find(&l->map, block);
	nothing = !e || (!e->dirty && !e->ref.frame_off);
	lock_release(&l->lock);
	if (nothing)
		return 0;
	err = need_dirty(l, block, 0, false, 0, &d);
	if (err)
		return err;
	if (in < d->len_bytes) {
		if (in + len >= d->len_bytes)
			set_len(l, d, in);
		else
			memset(d->data + in, 0, len);
	}
	dirty_touch(d, false);
	return 0;
}

int layered_punch(struct array *a, uint64_t off, uint64_t len)
{
	struct layered *l = layered_of(a);
	uint32_t bs = a->params.block_bytes;
	uint64_t end = off + len, first = (off + bs - 1) / bs, last = end / bs;
	int err = 0;

	if (end == a->size_bytes) /* the last block counts as whole */
		last = (end + bs - 1) / bs;
	l->facts_staged = false;
	if (first > last) /* inside one block */
		return zero_part(l, off / bs, (uint32_t)(off % bs), (uint32_t)len);
	if (off % bs)
		err = zero_part(l, off / bs, (uint32_t)(off % bs), (uint32_t)(bs - off % bs));
	if (!err && last * bs < end)
		err = zero_part(l, last, 0, (uint32_t)(end - last * bs));
	return err ? err : drop_blocks(l, first, last - first);
}

int layered_resize(struct array *a, uint64_t size)
{
	struct layered *l = layered_of(a);
	uint32_t bs = a->params.block_bytes;
	int err;

	if (size < a->size_bytes) {
		if (size % bs) {
			err = zero_part(l, size / bs, (uint32_t)(size % bs), bs - (uint32_t)(size % bs));
			if (err)
				return err;
		}
		err = drop_blocks(l, (size + bs - 1) / bs, UINT64_MAX);
		if (err)
			return err;
	}
	a->size_bytes = size;
	l->facts_staged = false;
	return 0;
}
