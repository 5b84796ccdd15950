/*
 * Dirty blocks of layered arrays and their packs, on a store without a tree: the test is the only one who
 * holds the inodes.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "array/layered/dirty.h"
#include "array/layered/inside.h"
#include "block/cache.h"
#include "block/summary.h"
#include "unit.h"
#include "util/buf.h"
#include "util/stats.h"
#include "world.h"

#define MANY 300u

static void open_cached(struct world *w, size_t dirty_bytes, size_t cache_bytes)
{
	struct store_config config = world_config;

	config.dirty_bytes = dirty_bytes;
	config.cache_bytes = cache_bytes;
	world_open_arrays(w, world_disk(), &config);
}

static void open_dirty(struct world *w, size_t dirty_bytes)
{
	open_cached(w, dirty_bytes, 4 << 20);
}

static struct array_params plain = { .block_bytes = ARRAY_BLOCK_DEFAULT, .codec = { .level = 3, .policy = CODEC_POLICY_AUTO, .elem_bytes = 1 } };

static struct array *make(struct world *w, const struct array_params *params)
{
	return world_make_array(w, ARRAY_LAYERED, params);
}

static const struct block_ref *ref_of(struct array *a, uint64_t block)
{
	struct blockmap_entry *e = blockmap_find(&((struct layered *)a)->map, block);

	CHECK(e != NULL);
	return &e->ref;
}

static bool is_dirty(struct array *a, uint64_t block)
{
	struct blockmap_entry *e = blockmap_find(&((struct layered *)a)->map, block);

	return e && e->dirty;
}

/* Compressible, different for each seed. */
static void fill(unsigned char *p, size_t n, uint64_t seed)
{
	uint64_t state = seed + 1;

	for (size_t i = 0; i < n; i++)
		p[i] = (unsigned char)(i % 16 < 12 ? i / 16 : unit_rand(&state));
	p[0] |= 1;
}

static void write_seed(struct array *a, size_t n, uint64_t seed)
{
	unsigned char *p = malloc(n);

	fill(p, n, seed);
	CHECK_OK(array_write(a, p, n, 0));
	free(p);
}

static bool holds(struct array *a, size_t n, uint64_t seed)
{
	unsigned char *want = malloc(n), *got = malloc(n + 1);
	size_t len = 0;
	bool same;

	fill(want, n, seed);
	CHECK_OK(array_read(a, got, n + 1, 0, &len));
	same = len == n && !memcmp(want, got, n);
	free(want);
	free(got);
	return same;
}

UNIT_TEST(dirty_memory_follows_what_is_written)
{
	struct array_params odd = plain;
	struct array *a, *b;
	struct world w;

	open_dirty(&w, 8 << 20);
	odd.block_bytes = 3 * 4096;
	a = make(&w, &plain);
	b = make(&w, &odd);
	CHECK_OK(array_write(a, "x", 1, 0));
	CHECK_EQ(stats_read(STAT_DIRTY_BYTES), 4096);
	CHECK_OK(array_write(a, "y", 1, 4096));
	CHECK_EQ(stats_read(STAT_DIRTY_BYTES), 8192);
	CHECK_OK(array_write(a, "z", 1, 100000));
	CHECK_EQ(stats_read(STAT_DIRTY_BYTES), 131072);
	CHECK_OK(array_write(a, "z", 1, 131072));
	CHECK_EQ(stats_read(STAT_DIRTY_BYTES), 131072 + 4096);
	CHECK_OK(array_write(b, "x", 1, 8192));
	CHECK_EQ(stats_read(STAT_DIRTY_BYTES), 131072 + 4096 + 3 * 4096);
	CHECK_OK(arrays_flush(w.home));
	CHECK_EQ(stats_read(STAT_DIRTY_BYTES), 0);
	CHECK_EQ(ref_of(a, 0)->raw_len, 100001);
	/* What is stored needs room, too. */
	CHECK_OK(array_write(a, "w", 1, 10));
	CHECK_EQ(stats_read(STAT_DIRTY_BYTES), 131072);
	CHECK_OK(array_resize(a, 0));
	CHECK_EQ(stats_read(STAT_DIRTY_BYTES), 0);
	array_close(a);
	array_close(b);
	world_close(&w);
}

/* How much of n bytes that were written stays decoded. */
static uint64_t cached_after(struct world *w, const unsigned char *p, size_t n, unsigned how)
{
	uint64_t before = stats_read(STAT_CACHE_BYTES);
	struct array *a = make(w, &plain);

	CHECK_OK(array_write_as(a, p, n, 0, how, &(size_t){ 0 }));
	CHECK_OK(arrays_flush(w->home));
	array_close(a);
	return stats_read(STAT_CACHE_BYTES) - before;
}

UNIT_TEST(dirty_blocks_that_did_not_shrink_leave_the_cache_early)
{
	const size_t n = 8 << 20, few = 5 << 20;
	unsigned char *dense = malloc(n), *thin = malloc(n);
	uint64_t state = 7;
	struct world w;

	unit_rand_fill(&state, dense, n);
	fill(thin, n, 1);
	open_cached(&w, n, 16 * n);
	CHECK_EQ(cached_after(&w, thin, n, 0), n);
	CHECK_EQ(cached_after(&w, dense, n, IO_DIRECT), n);
	CHECK(cached_after(&w, thin, n, IO_KEPT) <= few);
	cache_shrink(w.store->cache, 0);
	CHECK(cached_after(&w, dense, n, 0) <= few);
	world_close(&w);
	free(dense);
	free(thin);
}

UNIT_TEST(dirty_budget_holds_for_blocks_that_grow)
{
	static unsigned char buf[262144];
	struct array *a[20];
	struct world w;
	uint64_t state = 5;

	open_dirty(&w, 1 << 20);
	unit_rand_fill(&state, buf, sizeof(buf));
	for (int i = 0; i < 20; i++)
		a[i] = make(&w, &plain);
	for (size_t off = 0; off < sizeof(buf); off += 3000) {
		size_t n = sizeof(buf) - off < 3000 ? sizeof(buf) - off : 3000;

		for (int i = 0; i < 20; i++) {
			CHECK_OK(array_write(a[i], buf + off, n, off));
			CHECK(stats_read(STAT_DIRTY_BYTES) <= 1 << 20);
		}
	}
	for (int i = 0; i < 20; i++) {
		static unsigned char got[262144];
		size_t len;

		CHECK_OK(array_read(a[i], got, sizeof(got), 0, &len));
		CHECK(len == sizeof(got) && !memcmp(got, buf, len));
		array_close(a[i]);
	}
	CHECK_EQ(stats_read(STAT_DIRTY_BYTES), 0);
	world_close(&w);
}

/* The refs of a pack: one frame, places in order, shares that cover the frame. */
static void check_pack(struct array **a, size_t n)
{
	const struct block_ref *first = ref_of(a[0], 0);
	uint64_t end = 0, shares = 0;

	for (size_t i = 0; i < n; i++) {
		const struct block_ref *r = ref_of(a[i], 0);

		CHECK_EQ(r->frame_off, first->frame_off);
		CHECK_EQ(r->layer, first->layer);
		CHECK_EQ(r->frame_len, first->frame_len);
		CHECK_EQ(r->frame_raw, first->frame_raw);
		CHECK_EQ(r->raw_off, (end + 15) / 16 * 16);
		end = r->raw_off + r->raw_len;
		shares += block_ref_share(r);
		CHECK_EQ(atomic_load(&a[i]->stored_bytes), block_ref_share(r));
	}
	CHECK_EQ(end, first->frame_raw);
	CHECK(shares >= first->frame_len && shares <= first->frame_len + n + 16);
}

UNIT_TEST(dirty_small_blocks_share_a_frame)
{
	struct array *a[MANY];
	struct world w;

	open_dirty(&w, 8 << 20);
	for (size_t i = 0; i < MANY; i++) {
		a[i] = make(&w, &plain);
		write_seed(a[i], 500 + i, i);
	}
	CHECK_OK(arrays_flush(w.home));
	CHECK_EQ(stats_read(STAT_DIRTY_BYTES), 0);
	check_pack(a, MANY);
	for (int round = 0; round < 2; round++) {
		uint64_t misses = stats_read(STAT_CACHE_MISSES);

		for (size_t i = 0; i < MANY; i++)
			CHECK(holds(a[i], 500 + i, i));
		/* The pack was in the cache; after that it is decoded once. */
		CHECK_EQ(stats_read(STAT_CACHE_MISSES), misses + (size_t)round);
		cache_shrink(w.store->cache, 0);
	}
	/* An overwritten member leaves; the others stay where they are. */
	write_seed(a[7], 507, 99);
	CHECK_OK(array_flush(a[7]));
	CHECK_EQ(ref_of(a[7], 0)->raw_off, 0);
	CHECK_EQ(ref_of(a[7], 0)->frame_raw, 507);
	CHECK(holds(a[7], 507, 99) && holds(a[6], 506, 6) && holds(a[8], 508, 8));
	for (size_t i = 0; i < MANY; i++)
		array_close(a[i]);
	world_close(&w);
}

UNIT_TEST(dirty_packs_are_as_long_as_a_block)
{
	struct array *a[12];
	struct world w;

	open_dirty(&w, 8 << 20);
	for (size_t i = 0; i < 12; i++) {
		a[i] = make(&w, &plain);
		write_seed(a[i], i == 5 ? 65537 : 65536, i);
	}
	CHECK_OK(arrays_flush(w.home));
	for (size_t i = 0; i < 12; i++) {
		CHECK_EQ(ref_of(a[i], 0)->frame_raw, i == 5 ? 65537 : i == 11 ? 3 * 65536 : 4 * 65536);
		CHECK(holds(a[i], i == 5 ? 65537 : 65536, i));
		if (i == 11)
			break;
		if (i == 7 || i == 8) /* 9, 10, 11 are the rest */
			i = 10;
	}
	for (size_t i = 0; i < 12; i++)
		array_close(a[i]);
	world_close(&w);
}

UNIT_TEST(dirty_zeros_have_no_place)
{
	static const unsigned char zeros[3000];
	struct array *a[4];
	struct world w;

	open_dirty(&w, 8 << 20);
	for (size_t i = 0; i < 4; i++) {
		a[i] = make(&w, &plain);
		if (i == 2)
			write_seed(a[i], 3000, 1);
		else
			CHECK_OK(array_write(a[i], zeros, sizeof(zeros), 0));
	}
	CHECK_OK(arrays_flush(w.home));
	for (size_t i = 0; i < 4; i++) {
		CHECK_EQ(ref_of(a[i], 0)->frame_off != 0, i == 2);
		CHECK_EQ(atomic_load(&a[i]->stored_bytes), i == 2 ? ref_of(a[i], 0)->frame_len : 0);
		CHECK(!is_dirty(a[i], 0));
	}
	CHECK_EQ(ref_of(a[2], 0)->frame_raw, 3000);
	CHECK(holds(a[2], 3000, 1));
	for (size_t i = 0; i < 4; i++)
		array_close(a[i]);
	world_close(&w);
}

UNIT_TEST(dirty_packs_have_one_codec)
{
	struct array_params params[3] = { plain, plain, plain };
	struct array *a[9];
	struct world w;

	open_dirty(&w, 8 << 20);
	params[1].codec.level = 0;
	params[2].codec.elem_bytes = 8;
	for (size_t i = 0; i < 9; i++) {
		a[i] = make(&w, &params[i % 3]);
		write_seed(a[i], 1000, i);
	}
	/* Flushing one takes along what may share its frame, and nothing else. */
	CHECK_OK(array_flush(a[4]));
	for (size_t i = 0; i < 9; i++)
		CHECK_EQ(is_dirty(a[i], 0), i % 3 != 1);
	CHECK_OK(arrays_flush(w.home));
	for (size_t i = 0; i < 9; i++) {
		CHECK_EQ(ref_of(a[i], 0)->frame_off, ref_of(a[i % 3], 0)->frame_off);
		CHECK_EQ(ref_of(a[i], 0)->elem_bytes, params[i % 3].codec.elem_bytes);
		CHECK(holds(a[i], 1000, i));
	}
	CHECK(ref_of(a[0], 0)->frame_off != ref_of(a[2], 0)->frame_off);
	for (size_t i = 0; i < 9; i++)
		array_close(a[i]);
	world_close(&w);
}

UNIT_TEST(dirty_failed_packs_are_dirty_again)
{
	struct array *a[MANY];
	struct world w;

	open_dirty(&w, 8 << 20);
	for (size_t i = 0; i < MANY; i++) {
		a[i] = make(&w, &plain);
		write_seed(a[i], 600, i);
	}
	atomic_store(&w.store->read_only, true);
	CHECK_EQ(arrays_flush(w.home), -EROFS);
	CHECK_EQ(array_flush(a[0]), -EROFS);
	for (size_t i = 0; i < MANY; i++)
		CHECK(is_dirty(a[i], 0) && holds(a[i], 600, i));
	CHECK_EQ(stats_read(STAT_DIRTY_BYTES), MANY * 4096);
	atomic_store(&w.store->read_only, false);
	write_seed(a[0], 600, 1234);
	CHECK_OK(arrays_flush(w.home));
	CHECK_EQ(stats_read(STAT_DIRTY_BYTES), 0);
	for (size_t i = 1; i < MANY; i++) /* still in their order */
		CHECK_EQ(ref_of(a[i], 0)->raw_off, (i - 1) * 608);
	CHECK(holds(a[0], 600, 1234));
	for (size_t i = 1; i < MANY; i++)
		CHECK(holds(a[i], 600, i));
	for (size_t i = 0; i < MANY; i++)
		array_close(a[i]);
	world_close(&w);
}

/* A block, and the part of one: the first is flushed at once, the other with its array. */
#define SCARCE_BYTES (1u << 20)
#define PART_BYTES 100000u

static atomic_bool part_is_flushed;

/* There is no memory for the first one's frame; that shows when the other one's flush has begun. */
static bool refuses_scarce(size_t bytes)
{
	if (bytes == codec_bound(PART_BYTES))
		atomic_store(&part_is_flushed, true);
	while (bytes == codec_bound(SCARCE_BYTES) && !atomic_load(&part_is_flushed))
		sched_yield();
	return bytes == codec_bound(SCARCE_BYTES);
}

UNIT_TEST(dirty_flushes_fail_by_their_own_blocks)
{
	struct array_params large = plain;
	struct array *scarce, *part;
	struct world w;

	open_dirty(&w, 8 << 20);
	large.block_bytes = SCARCE_BYTES;
	scarce = make(&w, &large);
	part = make(&w, &plain);
	buf_set_refusal(refuses_scarce);
	write_seed(scarce, SCARCE_BYTES, 2);
	write_seed(part, PART_BYTES, 1);
	CHECK_OK(array_flush(part));
	CHECK_EQ(array_flush(scarce), -ENOMEM);
	CHECK_EQ(arrays_flush(w.home), -ENOMEM);
	CHECK(!is_dirty(part, 0) && is_dirty(scarce, 0));
	buf_set_refusal(NULL);
	CHECK_OK(arrays_flush(w.home));
	CHECK(holds(part, PART_BYTES, 1) && holds(scarce, SCARCE_BYTES, 2));
	array_close(scarce);
	array_close(part);
	world_close(&w);
}

UNIT_TEST(dirty_blocks_get_summaries)
{
	struct array_params params = { .block_bytes = 65536, .codec = { .level = 3, .policy = CODEC_POLICY_AUTO, .elem_bytes = 2, .type = SUMMARY_I16 } };
	struct array *a, *b;
	struct world w;
	int16_t v[100000];

	open_dirty(&w, 8 << 20);
	a = make(&w, &params);
	b = make(&w, &plain);
	for (size_t i = 0; i < 100000; i++)
		v[i] = (int16_t)(i / 32768 * 1000 + i % 32768 % 900);
	CHECK_OK(array_write(a, v, sizeof(v), 0));
	CHECK_OK(array_write(b, v, 100, 0));
	CHECK_OK(arrays_flush(w.home));
	for (uint64_t block = 0; block < 4; block++) {
		const struct block_ref *r = ref_of(a, block);

		CHECK_EQ(r->stat_type, SUMMARY_I16);
		CHECK_EQ(r->min_bits, block * 1000);
		CHECK_EQ(r->max_bits, block * 1000 + 899);
		CHECK_EQ(block_ref_summary(r).nan_count, 0);
		CHECK_EQ(block_ref_summary(r).zero_count, block ? 0 : 37);
	}
	CHECK_EQ(ref_of(b, 0)->stat_type, SUMMARY_NONE);
	array_close(a);
	array_close(b);
	world_close(&w);
}

/* Writers with arrays of their own, and commits' flushes beside them. */

#define NWRITERS 3
#define NARRAYS 12
#define MODEL_BYTES 300000u

struct writer {
	struct world *w;
	pthread_t thread;
	uint64_t state;
	struct array *a[NARRAYS];
	unsigned char *model[NARRAYS];
};

static int writer_step(struct writer *me, unsigned char *buf)
{
	size_t i = unit_rand(&me->state) % NARRAYS, len = 1 + unit_rand(&me->state) % 6000;
	size_t off = unit_rand(&me->state) % (unit_rand(&me->state) % 4 ? 3000 : MODEL_BYTES - len);
	size_t got;

	switch (unit_rand(&me->state) % 12) {
	case 0:
		return array_flush(me->a[i]);
	case 1:
		memset(me->model[i] + off, 0, MODEL_BYTES - off);
		return off < me->a[i]->size_bytes ? array_resize(me->a[i], off) : 0;
	case 2:
		if (array_read(me->a[i], buf, me->a[i]->size_bytes, 0, &got))
			return -EIO;
		return got == me->a[i]->size_bytes && !memcmp(buf, me->model[i], got) ? 0 : -EUCLEAN;
	default:
		unit_rand_fill(&me->state, buf, len);
		memset(buf + len / 2, (int)i, len - len / 2);
		memcpy(me->model[i] + off, buf, len);
		return array_write(me->a[i], buf, len, off);
	}
}

static void *writer_run(void *arg)
{
	struct writer *me = arg;
	unsigned char *buf = malloc(MODEL_BYTES);

	for (int step = 0; step < 2000; step++)
		CHECK_OK(writer_step(me, buf));
	free(buf);
	return NULL;
}

static void *flusher_run(void *arg)
{
	struct world *w = arg;

	for (int i = 0; i < 100; i++)
		CHECK_OK(arrays_flush(w->home));
	return NULL;
}

UNIT_TEST(dirty_writers_and_flushes_at_once)
{
	struct writer writers[NWRITERS];
	pthread_t flusher;
	struct world w;

	open_dirty(&w, 512 << 10);
	for (size_t k = 0; k < NWRITERS; k++) {
		writers[k] = (struct writer){ .w = &w, .state = k + 1 };
		for (size_t i = 0; i < NARRAYS; i++) {
			writers[k].a[i] = make(&w, &plain);
			writers[k].model[i] = calloc(1, MODEL_BYTES);
		}
	}
	for (size_t k = 0; k < NWRITERS; k++)
		CHECK_OK(pthread_create(&writers[k].thread, NULL, writer_run, &writers[k]));
	CHECK_OK(pthread_create(&flusher, NULL, flusher_run, &w));
	for (size_t k = 0; k < NWRITERS; k++)
		CHECK_OK(pthread_join(writers[k].thread, NULL));
	CHECK_OK(pthread_join(flusher, NULL));
	for (size_t k = 0; k < NWRITERS; k++) {
		for (size_t i = 0; i < NARRAYS; i++) {
			array_close(writers[k].a[i]);
			free(writers[k].model[i]);
		}
	}
	CHECK_EQ(stats_read(STAT_DIRTY_BYTES), 0);
	world_close(&w);
}
