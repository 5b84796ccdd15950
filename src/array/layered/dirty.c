/*
 * Dirty blocks, their budget, and the flush jobs that encode and append them.
 *
 * Invariants:
 *  1. d->bytes is the sum of cap_bytes over all blocks with the dirty reference (of both buffers of one that
 *     grows); it exceeds the budget by at most one block of each writer that found the queue empty.
 *  2. A block is in the queue exactly if it is dirty and neither being flushed nor claimed by its writer:
 *     the thread that takes a block from the queue may flush it. Blocks in the queue do not change.
 *  3. Every end of a flush, every discard and every growth broadcasts under the lock, so that no waiter is
 *     lost.
 *  4. Frames stand in a layer in the order in which their jobs were submitted: what a sequential writer
 *     wrote reads back sequentially, and a layer of one array decodes to it.
 *  5. At most jobs_max jobs are submitted at a time, so that frames which wait for their turn to be
 *     appended stay few.
 *  6. A job is one block, or several small ones with the same codec parameters that fit a pack: the others
 *     join the first, the oldest first. It ends as a whole: all of its blocks are clean, or all are dirty and
 *     back in the queue, in the order of the job.
 */
#include "array/layered/dirty.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "array/arrays.h"
#include "array/layered/inside.h"
#include "array/setting.h"
#include "array/promise.h"
#include "block/cache.h"
#include "io/io.h"
#include "store/layers.h"
#include "store/store.h"
#include "util/buf.h"
#include "util/err.h"
#include "util/lock.h"
#include "util/plant.h"
#include "util/stats.h"

struct dirty {
	struct store *store;
	struct lock lock;
	pthread_cond_t changed;
	struct dirty_block queue; /* head of the ring */
	struct dirty_block *line, **line_tail; /* submitted jobs, in order */
	bool appending;                        /* somebody is at work on the line */
	size_t bytes, budget;
	size_t inline_bytes; /* of columns, which a commit writes */
	size_t njobs, jobs_max;
	size_t nflushing;       /* blocks of these jobs */
	size_t nqueued, wanted; /* blocks in the queue; how many of them should be flushed soon */
	uint64_t small_bytes;   /* what the small ones in the queue take in packs */
	uint64_t ended;         /* blocks flushed so far, well or not */
	int error;         /* of the last failed flush */
	uint64_t failures; /* counts them */
};

int dirty_new(struct store *s, struct dirty **out)
{
	struct dirty *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->store = s;
	d->budget = s->config.dirty_bytes;
	d->jobs_max = 2 * work_pool_nthreads(s->work);
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

static bool is_small(const struct dirty_block *b)
{
	return b->len_bytes <= DIRTY_PACK_BLOCK_MAX;
}

static void unlink_block(struct dirty_block *b)
{
	if (!b->next)
		return;
	b->prev->next = b->next;
	b->next->prev = b->prev;
	b->prev = b->next = NULL;
	b->home->nqueued--;
	if (is_small(b))
		b->home->small_bytes -= dirty_pack_align(b->len_bytes);
}

/* Into the queue, behind `after`. */
static void queue_locked(struct dirty_block *b, struct dirty_block *after)
{
	b->prev = after;
	b->next = after->next;
	after->next->prev = b;
	after->next = b;
	b->home->nqueued++;
	if (is_small(b))
		b->home->small_bytes += dirty_pack_align(b->len_bytes);
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

static void account_locked(struct dirty *d, size_t more, size_t less)
{
	d->bytes += more - less;
	stats_add(STAT_DIRTY_BYTES, more);
	stats_sub(STAT_DIRTY_BYTES, less);
	store_owe_data(d->store, more);
	store_disown_data(d->store, less);
	if (less)
		lock_broadcast(&d->changed);
}

/* Is what was written to leave the cache early? It is if the kernel keeps it, or if the frame is in the page cache and
 * did not shrink to half: decoding that again costs less than memory that is new. */
static bool leaves_early(const struct dirty_block *b, const struct block_ref *ref)
{
	bool frame_kept = !(b->how & IO_DIRECT) && b->home->store->config.backing != IO_BACKING_DIRECT &&
			  ref->frame_len < IO_DIRECT_MIN;

	return (b->how & IO_KEPT) || (frame_kept && ref->frame_len > ref->frame_raw / 2);
}

/* The block leaves the dirty state (invariant 1). ref: where it is stored now; what was just written is
 * likely to be read, so an undisturbed buffer goes to the cache. */
static void clean_locked(struct dirty_block *b, const struct block_ref *ref)
{
	struct dirty *d = b->home;
	bool whole = ref && ref->frame_off && ref->raw_len == ref->frame_raw;

	if (whole && b->refs == 1 && b->len_bytes == b->cap_bytes) {
		cache_insert(d->store->cache, (struct cache_key){ .layer = ref->layer, .off_bytes = ref->frame_off }, b->data, b->cap_bytes,
			     leaves_early(b, ref));
		b->data = NULL;
	}
	account_locked(d, 0, b->cap_bytes);
	layered_of(b->array)->ndirty--;
	put_locked(b);
}

/* Appends a job's frame; what a pack decodes to goes to the cache for the readers of any of its blocks. */
static int append_frame(struct dirty *d, struct dirty_block *job)
{
	struct store *s = d->store;
	uint64_t layer, off;
	unsigned how = 0;
	int err = job->promised ? 0 : store_may_flush(s, job->frame_len);

	for (struct dirty_block *b = job; b; b = b->pack_next)
		how |= b->how;
	how = layered_frame_how(how, job->frame_len, job->frame_raw);
	if (!err)
		err = layers_append(s->layers, job->frame, job->frame_len, job->frame_raw, how, &layer, &off);
	if (err)
		return err;
	for (struct dirty_block *b = job; b; b = b->pack_next) {
		if (b->ref.raw_len) {
			b->ref.layer = layer;
			b->ref.frame_off = off;
		}
	}
	if (job->pack)
		cache_insert(s->cache, (struct cache_key){ .layer = layer, .off_bytes = off }, job->pack, job->frame_raw, false);
	job->pack = NULL;
	return 0;
}

/* Appends the frame and enters its blocks in their arrays' maps. */
static int append(struct dirty *d, struct dirty_block *job)
{
	int err = job->encode_err;

	if (!err && job->frame)
		err = append_frame(d, job);
	dirty_encode_drop(job);
	for (struct dirty_block *b = job; b && !err; b = b->pack_next)
		layered_flushed(layered_of(b->array), b, &b->ref);
	return err;
}

/* The end of a job, good or bad (invariant 6). */
static void end_job_locked(struct dirty *d, struct dirty_block *job, int err)
{
	struct dirty_block *after = &d->queue, *next;

	d->njobs--;
	if (err) {
		d->error = err;
		d->failures++;
		lock_broadcast(&d->changed);
	}
	for (struct dirty_block *b = job; b; b = next) {
		next = b->pack_next;
		b->flushing = false;
		d->nflushing--;
		d->ended++;
		layered_of(b->array)->nflushing--;
		if (err) {
			layered_of(b->array)->flush_failures++;
			layered_of(b->array)->flush_error = err;
			if (PLANTED(PLANT_LOST_BLOCK))
				memset(b->data, 0, b->len_bytes);
			queue_locked(b, after);
			after = b;
		} else {
			clean_locked(b, &b->ref);
		}
	}
}

/* Another thread has met it: what this one has reported is not why. */
static int of_a_job(int err)
{
	err_forget();
	return err;
}

static void run_job(struct work *w);

/* Takes a block out of the queue for a job. */
static void take_locked(struct dirty_block *b)
{
	unlink_block(b);
	b->flushing = true;
	b->pack_next = NULL;
	b->home->nflushing++;
	layered_of(b->array)->nflushing++;
}

static bool same_codec(const struct codec_params *a, const struct codec_params *b)
{
	return a->level == b->level && a->policy == b->policy && a->elem_bytes == b->elem_bytes &&
	       a->type == b->type && a->record.bytes == b->record.bytes;
}

/* Other small blocks join a small one, oldest first, until one would not fit. */
static size_t fill_pack_locked(struct dirty *d, struct dirty_block *first)
{
	struct dirty_block *b = d->queue.next, *last = first;
	uint32_t bytes = first->len_bytes;
	size_t n = 1;

	while (d->small_bytes && b != &d->queue) {
		struct dirty_block *next = b->next;

		if (is_small(b) && b->promised == first->promised && same_codec(&b->codec, &first->codec)) {
			if (dirty_pack_align(bytes) + b->len_bytes > DIRTY_PACK_BYTES)
				break;
			bytes = dirty_pack_align(bytes) + b->len_bytes;
			take_locked(b);
			last->pack_next = b;
			last = b;
			n++;
		}
		b = next;
	}
	return n;
}

/* Submits a job that begins with b, which is in the queue; the number of its blocks. */
static size_t submit_locked(struct dirty_block *b)
{
	struct dirty *d = b->home;
	size_t n = 1;

	take_locked(b);
	if (is_small(b))
		n = fill_pack_locked(d, b);
	b->encoded = false;
	b->line_next = NULL;
	*d->line_tail = b;
	d->line_tail = &b->line_next;
	d->njobs++;
	b->work.run = run_job;
	work_submit(d->store->work, &b->work, WORK_URGENT);
	return n;
}

/* Submits the oldest blocks as long as more are wanted than the pool has at hand (invariant 5). */
static void pump_locked(struct dirty *d)
{
	while (d->wanted && d->njobs < d->jobs_max && d->queue.next != &d->queue) {
		size_t n = submit_locked(d->queue.next);

		d->wanted -= n < d->wanted ? n : d->wanted;
	}
	if (d->queue.next == &d->queue)
		d->wanted = 0;
}

/* Jobs are encoded in parallel and appended in the order of their submission (invariant 4): whoever
 * finishes the first in line appends what is ready behind it. */
static void run_job(struct work *w)
{
	struct dirty_block *job = (struct dirty_block *)w;
	struct dirty *d = job->home;

	job->encode_err = dirty_encode(job);
	lock_acquire(&d->lock);
	job->encoded = true;
	while (!d->appending && d->line && d->line->encoded) {
		int err;

		job = d->line;
		d->line = job->line_next;
		if (!d->line)
			d->line_tail = &d->line;
		d->appending = true;
		lock_release(&d->lock);
		err = append(d, job);
		lock_acquire(&d->lock);
		d->appending = false;
		end_job_locked(d, job, err);
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
	b->codec.record.lead_bytes = settings_lead(&b->array->params, b->block);
	unlink_block(b);
	queue_locked(b, d->queue.prev);
	/* From here on another thread may encode and free b as soon as the lock is released. A small block waits for others to
	 * be packed with it. */
	if (done && (!is_small(b) || d->small_bytes >= DIRTY_PACK_BYTES)) {
		d->wanted++;
		pump_locked(d);
	}
	lock_release(&d->lock);
}

/* Waits until `bytes` more fit, flushing the oldest blocks. */
static int make_room(struct dirty *d, size_t bytes)
{
	uint64_t failures = d->failures;

	while (d->bytes + d->inline_bytes + bytes > d->budget && (d->queue.next != &d->queue || d->nflushing)) {
		if (d->failures != failures)
			return of_a_job(d->error);
		if (!d->wanted)
			d->wanted = 1;
		pump_locked(d);
		lock_wait(&d->lock, &d->changed);
	}
	return 0;
}

int dirty_take(struct dirty *d, size_t bytes)
{
	int err = 0;

	lock_acquire(&d->lock);
	/* The rest of the budget is for blocks, which need no commit. */
	if (d->inline_bytes && d->inline_bytes + bytes > d->budget / 2)
		err = -EAGAIN;
	if (!err) {
		d->inline_bytes += bytes;
		stats_add(STAT_DIRTY_BYTES, bytes);
	}
	lock_release(&d->lock);
	return err;
}

void dirty_give_back(struct dirty *d, size_t bytes)
{
	lock_acquire(&d->lock);
	d->inline_bytes -= bytes;
	stats_sub(STAT_DIRTY_BYTES, bytes);
	lock_broadcast(&d->changed);
	lock_release(&d->lock);
}

/* The size of the buffer for so many bytes of a block. */
static uint32_t capacity(const struct array *a, uint32_t bytes)
{
	uint32_t cap = ARRAY_BLOCK_MIN;

	assert(bytes <= a->params.block_bytes);
	while (cap < bytes)
		cap *= 2;
	return cap < a->params.block_bytes ? cap : a->params.block_bytes;
}

/* Waits for room for a buffer instead of one of `old` bytes, allocates and accounts it: under the lock, so that memory in use and d->bytes
 * agree, and no two writers are granted the same space. */
static int alloc_locked(struct dirty *d, uint32_t bytes, uint32_t old, unsigned char **out)
{
	unsigned char *data;
	int err = make_room(d, bytes);

	if (!err)
		err = store_may_owe_data(d->store, bytes - old);
	if (err)
		return err;
	data = buf_alloc(bytes);
	if (!data)
		return -ENOMEM;
	account_locked(d, bytes, 0);
	*out = data;
	return 0;
}

static bool is_promised(struct array *a, uint64_t block)
{
	uint32_t bs = a->params.block_bytes;

	return promise_touches(a, block * bs, bs);
}

int dirty_make(struct dirty *d, struct array *a, uint64_t block, uint32_t bytes, struct dirty_block **out)
{
	uint32_t cap = capacity(a, bytes);
	bool promised = is_promised(a, block);
	struct dirty_block *b;
	int err = promised ? 0 : store_may_write_data(d->store, cap);

	if (err)
		return err;
	b = calloc(1, sizeof(*b));
	if (!b)
		return -ENOMEM;
	b->home = d;
	b->array = a;
	b->block = block;
	b->refs = 1;
	b->cap_bytes = cap;
	b->promised = promised;
	lock_acquire(&d->lock);
	err = alloc_locked(d, cap, 0, &b->data);
	if (!err)
		layered_of(a)->ndirty++;
	lock_release(&d->lock);
	if (err) {
		free(b);
		return err;
	}
	*out = b;
	return 0;
}

int dirty_grow(struct dirty_block *b, uint32_t bytes)
{
	struct dirty *d = b->home;
	uint32_t cap = capacity(b->array, bytes), old = b->cap_bytes;
	unsigned char *data;
	int err;

	assert(!b->flushing && !b->next);
	b->promised = is_promised(b->array, b->block);
	if (bytes <= old)
		return 0;
	err = b->promised ? 0 : store_may_write_data(d->store, cap - old);
	if (err)
		return err;
	lock_acquire(&d->lock);
	err = alloc_locked(d, cap, old, &data);
	lock_release(&d->lock);
	if (err)
		return err;
	memcpy(data, b->data, b->len_bytes);
	buf_free(b->data, old);
	b->data = data;
	b->cap_bytes = cap;
	lock_acquire(&d->lock);
	account_locked(d, 0, old);
	lock_release(&d->lock);
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
	const struct layered *l = layered_of(a);
	struct dirty_block *b = d->queue.next;

	while (l->ndirty > l->nflushing && b != &d->queue) {
		if (b->array != a) {
			b = b->next;
			continue;
		}
		if (d->njobs >= d->jobs_max)
			return true;
		submit_locked(b);
		b = d->queue.next; /* those before and behind it may have joined it */
	}
	return false;
}

int dirty_flush_array(struct dirty *d, struct array *a)
{
	struct layered *l = layered_of(a);
	uint64_t failures;
	int err;

	lock_acquire(&d->lock);
	failures = l->flush_failures;
	while (l->flush_failures == failures && (submit_some_locked(d, a) || l->nflushing))
		lock_wait(&d->lock, &d->changed);
	err = l->flush_failures == failures ? 0 : of_a_job(l->flush_error);
	lock_release(&d->lock);
	return err;
}

int dirty_flush_all(struct dirty *d)
{
	uint64_t failures, target;
	int err;

	lock_acquire(&d->lock);
	failures = d->failures;
	/* Waits for the ends of what is there to flush, not for an empty queue: under a steady stream of writers it never is. */
	target = d->ended + d->nflushing + d->nqueued;
	while (d->ended < target && d->failures == failures && (d->nqueued || d->nflushing)) {
		d->wanted = d->nqueued;
		pump_locked(d);
		lock_wait(&d->lock, &d->changed);
	}
	err = d->failures == failures ? 0 : of_a_job(d->error);
	lock_release(&d->lock);
	return err;
}

bool dirty_has(struct array *a)
{
	struct dirty *d = a->home->dirty;
	bool has;

	lock_acquire(&d->lock);
	has = layered_of(a)->ndirty != 0;
	lock_release(&d->lock);
	return has;
}
