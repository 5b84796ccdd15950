/*
 * Dirty blocks and the flush jobs that encode them.
 *
 * Invariants:
 *  1. d->bytes is the sum of cap_bytes over all blocks with the dirty reference; it exceeds the budget by
 *     at most one block of each writer that found the queue empty.
 *  2. A block is in the queue exactly if it is dirty and neither being flushed nor claimed by its writer:
 *     whoever takes blocks from the queue may flush them.
 *  3. Every end of a flush and every discard broadcasts under the lock, so that no waiter is lost.
 *  4. Frames stand in a layer in the order in which their blocks were submitted: what a sequential writer
 *     wrote reads back sequentially, and a layer of one array decodes to it.
 *  5. At most flushing_max blocks are submitted at a time, so that frames which wait for their turn to be
 *     appended stay few.
 */
#include "array/dirty.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "array/layered.h"
#include "block/cache.h"
#include "store/layers.h"
#include "store/store.h"
#include "util/buf.h"
#include "util/lock.h"
#include "util/stats.h"

struct dirty {
	struct store *store;
	struct lock lock;
	pthread_cond_t changed;
	struct dirty_block queue; /* head of the ring */
	struct dirty_block *line, **line_tail; /* submitted, in order */
	bool appending;                        /* somebody is at work on the line */
	size_t bytes, budget;
	size_t nflushing;
	size_t flushing_max;
	size_t nqueued, wanted; /* blocks in the queue; how many of them should be flushed soon */
	uint64_t ended;         /* flush jobs so far */
	int error;         /* of the last failed flush */
	uint64_t failures; /* counts them */
};

static struct layered *layered_of(struct dirty_block *b)
{
	return (struct layered *)b->array;
}

int dirty_new(struct store *s, struct dirty **out)
{
	struct dirty *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->store = s;
	d->budget = s->config.dirty_bytes;
	d->flushing_max = 2 * work_pool_nthreads(s->work);
	d->queue.prev = d->queue.next = &d->queue;
	d->line_tail = &d->line;
	lock_init(&d->lock, RANK_BUDGET);
	lock_cond_init(&d->changed);
	*out = d;
	return 0;
}

void dirty_free(struct dirty *d)
{
	/* The last job signals before it lets go of the lock. */
	lock_acquire(&d->lock);
	while (d->nflushing)
		lock_wait(&d->lock, &d->changed);
	lock_release(&d->lock);
	pthread_cond_destroy(&d->changed);
	lock_fini(&d->lock);
	free(d);
}

static void unlink_block(struct dirty_block *b)
{
	if (!b->next)
		return;
	b->prev->next = b->next;
	b->next->prev = b->prev;
	b->prev = b->next = NULL;
	b->home->nqueued--;
}

static void put_locked(struct dirty_block *b)
{
	if (--b->refs)
		return;
	buf_free(b->data, b->cap_bytes);
	free(b);
}

void dirty_get(struct dirty_block *b)
{
	lock_acquire(&b->home->lock);
	b->refs++;
	lock_release(&b->home->lock);
}

void dirty_put(struct dirty_block *b)
{
	struct dirty *d = b->home;

	lock_acquire(&d->lock);
	put_locked(b);
	lock_release(&d->lock);
}

/* The block leaves the dirty state (invariant 1). ref: where it is stored now; what was just written is
 * likely to be read, so an undisturbed buffer goes to the cache. */
static void clean_locked(struct dirty_block *b, const struct block_ref *ref)
{
	struct dirty *d = b->home;

	if (ref && ref->frame_off && b->refs == 1 && b->len_bytes == b->cap_bytes) {
		cache_insert(d->store->cache, (struct cache_key){ ref->layer, ref->frame_off }, b->data, b->cap_bytes);
		b->data = NULL;
	}

	d->bytes -= b->cap_bytes;
	stats_sub(STAT_DIRTY_BYTES, b->cap_bytes);
	layered_of(b)->ndirty--;
	put_locked(b);
	pthread_cond_broadcast(&d->changed);
}

/* Encodes a block; what is all zeros gets no frame. */
static int encode(struct dirty_block *b)
{
	struct layered *l = layered_of(b);
	int hint = __atomic_load_n(&l->filter_hint, __ATOMIC_RELAXED), err;
	enum codec_filter filter;
	size_t len;

	b->frame = NULL;
	b->ref = (struct block_ref){ 0 };
	if (buf_is_zero(b->data, b->len_bytes))
		return 0;
	b->frame_cap = codec_bound(b->len_bytes);
	b->frame = buf_alloc(b->frame_cap);
	if (!b->frame)
		return -ENOMEM;
	err = codec_encode(&b->codec, b->data, b->len_bytes, b->frame, b->frame_cap, &hint, &len, &filter);
	if (err)
		return err;
	__atomic_store_n(&l->filter_hint, hint, __ATOMIC_RELAXED);
	b->ref.frame_len = (uint32_t)len;
	b->ref.frame_raw = b->ref.raw_len = b->len_bytes;
	b->ref.filter = (uint8_t)filter;
	b->ref.elem_bytes = (uint8_t)b->codec.elem_bytes;
	stats_add(STAT_ENCODE_RAW_BYTES, b->len_bytes);
	stats_add(STAT_ENCODE_STORED_BYTES, len);
	return 0;
}

/* Appends the frame and enters it in the array's map. */
static int append(struct dirty_block *b)
{
	struct store *s = b->home->store;
	uint64_t layer;
	int err = b->encode_err;

	if (!err && b->frame) {
		err = store_may_write(s, b->ref.frame_len);
		if (!err)
			err = layers_append(s->layers, b->frame, b->ref.frame_len, b->len_bytes, &layer, &b->ref.frame_off);
		if (!err)
			b->ref.layer = (uint32_t)layer;
	}
	buf_free(b->frame, b->frame_cap);
	b->frame = NULL;
	if (!err)
		layered_flushed(layered_of(b), b, &b->ref);
	return err;
}

static void queue_locked(struct dirty_block *b, bool young)
{
	struct dirty_block *head = &b->home->queue, *after = young ? head->prev : head;

	b->prev = after;
	b->next = after->next;
	after->next->prev = b;
	after->next = b;
	b->home->nqueued++;
}

/* The end of a flush, good or bad. */
static void end_flush_locked(struct dirty_block *b, int err)
{
	struct dirty *d = b->home;

	b->flushing = false;
	d->nflushing--;
	d->ended++;
	layered_of(b)->nflushing--;
	if (err) {
		d->error = err;
		d->failures++;
		queue_locked(b, false);
		pthread_cond_broadcast(&d->changed);
	} else {
		clean_locked(b, &b->ref);
	}
}

static void run_flush(struct work *w);

static void submit_locked(struct dirty_block *b)
{
	struct dirty *d = b->home;

	unlink_block(b);
	b->flushing = true;
	b->encoded = false;
	b->line_next = NULL;
	*d->line_tail = b;
	d->line_tail = &b->line_next;
	d->nflushing++;
	layered_of(b)->nflushing++;
	b->work.run = run_flush;
	work_submit(d->store->work, &b->work, WORK_URGENT);
}

/* Submits the oldest blocks as long as more are wanted than the pool has at hand (invariant 5). */
static void pump_locked(struct dirty *d)
{
	while (d->wanted && d->nflushing < d->flushing_max && d->queue.next != &d->queue) {
		d->wanted--;
		submit_locked(d->queue.next);
	}
	if (d->queue.next == &d->queue)
		d->wanted = 0;
}

/* Blocks are encoded in parallel and appended in the order of their submission (invariant 4): whoever
 * finishes the first in line appends what is ready behind it. */
static void run_flush(struct work *w)
{
	struct dirty_block *b = (struct dirty_block *)w;
	struct dirty *d = b->home;

	b->encode_err = encode(b);
	lock_acquire(&d->lock);
	b->encoded = true;
	while (!d->appending && d->line && d->line->encoded) {
		int err;

		b = d->line;
		d->line = b->line_next;
		if (!d->line)
			d->line_tail = &d->line;
		d->appending = true;
		lock_release(&d->lock);
		err = append(b);
		lock_acquire(&d->lock);
		d->appending = false;
		end_flush_locked(b, err);
		if (!err)
			pump_locked(d);
	}
	lock_release(&d->lock);
}

void dirty_touch(struct dirty_block *b, bool done)
{
	struct dirty *d = b->home;

	lock_acquire(&d->lock);
	assert(!b->flushing);
	b->codec = b->array->params.codec;
	unlink_block(b);
	queue_locked(b, true);
	/* From here on b is anybody's: it may be encoded and gone when the lock is released. */
	if (done) {
		d->wanted++;
		pump_locked(d);
	}
	lock_release(&d->lock);
}

/* Waits until `bytes` more fit, flushing the oldest blocks. */
static int make_room(struct dirty *d, size_t bytes)
{
	uint64_t failures = d->failures;

	while (d->bytes + bytes > d->budget && (d->queue.next != &d->queue || d->nflushing)) {
		if (d->failures != failures)
			return d->error;
		if (!d->wanted)
			d->wanted = 1;
		pump_locked(d);
		lock_wait(&d->lock, &d->changed);
	}
	return 0;
}

int dirty_make(struct dirty *d, struct array *a, uint64_t block, struct dirty_block **out)
{
	struct dirty_block *b;
	int err = store_may_write(d->store, stats_read(STAT_DIRTY_BYTES) + a->params.block_bytes);

	if (err)
		return err;
	b = calloc(1, sizeof(*b));
	if (!b)
		return -ENOMEM;
	b->home = d;
	b->array = a;
	b->block = block;
	b->refs = 1;
	b->cap_bytes = a->params.block_bytes;
	lock_acquire(&d->lock);
	err = make_room(d, b->cap_bytes);
	if (!err) {
		/* Allocated here, so that memory in use and d->bytes agree. */
		b->data = buf_alloc(b->cap_bytes);
		if (!b->data)
			err = -ENOMEM;
	}
	if (!err) {
		d->bytes += b->cap_bytes;
		stats_add(STAT_DIRTY_BYTES, b->cap_bytes);
		((struct layered *)a)->ndirty++;
	}
	lock_release(&d->lock);
	if (err) {
		free(b);
		return err;
	}
	*out = b;
	return 0;
}

bool dirty_claim(struct dirty_block *b)
{
	struct dirty *d = b->home;
	bool dirty;

	lock_acquire(&d->lock);
	while (b->flushing)
		lock_wait(&d->lock, &d->changed);
	dirty = b->next != NULL;
	unlink_block(b);
	lock_release(&d->lock);
	return dirty;
}

void dirty_discard(struct dirty_block *b)
{
	struct dirty *d = b->home;

	lock_acquire(&d->lock);
	assert(!b->flushing);
	unlink_block(b);
	clean_locked(b, NULL);
	lock_release(&d->lock);
}

/* Submits blocks of a, as many as the pool may have at hand. False when none is left in the queue. */
static bool submit_some_locked(struct dirty *d, struct array *a)
{
	struct dirty_block *b = d->queue.next;

	while (b != &d->queue) {
		struct dirty_block *next = b->next;

		if (b->array == a) {
			if (d->nflushing >= d->flushing_max)
				return true;
			submit_locked(b);
		}
		b = next;
	}
	return false;
}

int dirty_flush_array(struct dirty *d, struct array *a)
{
	const size_t *flushing = &((struct layered *)a)->nflushing;
	uint64_t failures;
	int err;

	lock_acquire(&d->lock);
	failures = d->failures;
	while (d->failures == failures && (submit_some_locked(d, a) || *flushing))
		lock_wait(&d->lock, &d->changed);
	err = d->failures == failures ? 0 : d->error;
	lock_release(&d->lock);
	return err;
}

int dirty_flush_all(struct dirty *d)
{
	uint64_t failures, target;
	int err;

	lock_acquire(&d->lock);
	failures = d->failures;
	/* As many ends as there is to flush now: under a steady stream of writers the queue is never empty. */
	target = d->ended + d->nflushing + d->nqueued;
	while (d->ended < target && d->failures == failures && (d->nqueued || d->nflushing)) {
		d->wanted = d->nqueued;
		pump_locked(d);
		lock_wait(&d->lock, &d->changed);
	}
	err = d->failures == failures ? 0 : d->error;
	lock_release(&d->lock);
	return err;
}

bool dirty_has(struct array *a)
{
	struct dirty *d = a->home->dirty;
	bool has;

	lock_acquire(&d->lock);
	has = ((struct layered *)a)->ndirty != 0;
	lock_release(&d->lock);
	return has;
}
