/*
 * block/cache.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "block/cache.h"
#include "unit.h"
#include "util/account.h"
#include "util/buf.h"
#include "util/err.h"
#include "util/stats.h"

#define NTHREADS 8
#define BLOCK 4096

struct source {
	_Atomic unsigned loads;
	_Atomic unsigned running;
	_Atomic int err;
	unsigned delay_us;
	uint64_t stamp;
};

static int source_load(void *ctx, void *dst, size_t size)
{
	struct source *s = ctx;
	int err;

	atomic_fetch_add(&s->loads, 1);
	atomic_fetch_add(&s->running, 1);
	if (s->delay_us)
		usleep(s->delay_us);
	for (size_t i = 0; i + 8 <= size; i += 8)
		memcpy((char *)dst + i, &s->stamp, 8);
	err = atomic_load(&s->err);
	if (err == -EUCLEAN)
		err_corrupt("this file", 0, "is damaged");
	atomic_fetch_sub(&s->running, 1);
	return err;
}

static struct cache_key key(uint64_t n)
{
	return (struct cache_key){ .layer = n / 7, .off_bytes = n * 4096 };
}

static struct cache *new_cache(size_t budget)
{
	static struct account account;
	struct cache *c;

	account_init(&account, budget);
	CHECK_OK(cache_new(&account, &c));
	return c;
}

static void get_put(struct cache *c, uint64_t n)
{
	struct source s = { .stamp = n };
	struct cache_entry *e;
	uint64_t stamp;

	CHECK_OK(cache_get(c, key(n), BLOCK, source_load, &s, &e));
	memcpy(&stamp, (const char *)cache_data(e) + BLOCK - 8, 8);
	CHECK_EQ(stamp, n);
	cache_put(c, e);
}

UNIT_TEST(cache_evicts_the_oldest) /* (2) (3) (4) */
{
	uint64_t bytes = stats_read(STAT_CACHE_BYTES), hits = stats_read(STAT_CACHE_HITS);
	uint64_t misses = stats_read(STAT_CACHE_MISSES);
	struct cache *c = new_cache(4 * BLOCK);

	for (uint64_t n = 0; n < 4; n++)
		get_put(c, n);
	get_put(c, 0);
	get_put(c, 4);
	CHECK(cache_has(c, key(0)) && !cache_has(c, key(1)) && cache_has(c, key(2)) &&
	      cache_has(c, key(4)));
	CHECK_EQ(stats_read(STAT_CACHE_BYTES) - bytes, 4 * BLOCK);
	CHECK_EQ(stats_read(STAT_CACHE_HITS) - hits, 1);
	CHECK_EQ(stats_read(STAT_CACHE_MISSES) - misses, 5);
	cache_shrink(c, BLOCK);
	CHECK(cache_has(c, key(4)) && !cache_has(c, key(0)));
	CHECK_EQ(stats_read(STAT_CACHE_BYTES) - bytes, BLOCK);
	cache_free(c);
	CHECK_EQ(stats_read(STAT_CACHE_BYTES), bytes);
}

static void pass(struct cache *c, uint64_t n, size_t size)
{
	struct source s = { .stamp = n };
	struct cache_entry *e;

	CHECK_OK(cache_get(c, key(n), size, source_load, &s, &e));
	cache_put_passed(c, e);
}

UNIT_TEST(cache_knows_what_was_made_of_a_block_apart)
{
	struct cache *c = new_cache(64 * BLOCK);
	struct cache_entry *e;
	uint64_t stamp;

	for (uint64_t kind = 0; kind < 3; kind++) {
		struct source s = { .stamp = 100 + kind };

		CHECK_OK(cache_get(c, (struct cache_key){ 5, 4096, kind }, BLOCK, source_load, &s, &e));
		memcpy(&stamp, cache_data(e), sizeof(stamp));
		CHECK_EQ(stamp, 100 + kind);
		cache_put(c, e);
	}
	cache_free(c);
}

UNIT_TEST(cache_blocks_read_in_passing_leave_early) /* (2) (3) (6) */
{
	const size_t big = 1 << 20;
	uint64_t bytes = stats_read(STAT_CACHE_BYTES);
	struct cache *c = new_cache(64 * big);
	struct source s = { .stamp = 3 };
	struct cache_entry *e;

	for (uint64_t n = 100; n < 108; n++)
		get_put(c, n);
	pass(c, 50, 16 * big); /* larger than the limit: the newest stays all the same */
	CHECK(cache_has(c, key(50)));
	for (uint64_t n = 0; n < 12; n++)
		pass(c, n, big);
	CHECK(!cache_has(c, key(50)) && !cache_has(c, key(6)) && cache_has(c, key(8)) && cache_has(c, key(11)));
	CHECK(stats_read(STAT_CACHE_BYTES) - bytes <= 5 * big + 8 * BLOCK);
	for (uint64_t n = 100; n < 108; n++)
		CHECK(cache_has(c, key(n)));
	/* Asked for otherwise, one stays; while it is pinned it is on neither list. */
	CHECK_OK(cache_get(c, key(11), big, source_load, &s, &e));
	for (uint64_t n = 20; n < 30; n++)
		pass(c, n, big);
	cache_put(c, e);
	for (uint64_t n = 30; n < 40; n++)
		pass(c, n, big);
	CHECK(cache_has(c, key(11)));
	CHECK_EQ(s.loads, 0);
	/* What was passed goes before the others do. */
	cache_insert(c, key(60), buf_alloc(32 * big), 32 * big, true);
	cache_insert(c, key(61), buf_alloc(32 * big), 32 * big, false);
	CHECK(!cache_has(c, key(60)) && cache_has(c, key(61)) && cache_has(c, key(11)) && cache_has(c, key(100)));
	cache_free(c);
	CHECK_EQ(stats_read(STAT_CACHE_BYTES), bytes);
}

UNIT_TEST(cache_a_block_is_passed_for_all_who_had_it) /* (6) */
{
	const size_t big = 1 << 20;
	uint64_t bytes = stats_read(STAT_CACHE_BYTES);
	struct cache *c = new_cache(64 * big);
	struct source s = { .stamp = 1 };
	struct cache_entry *front, *end;

	for (uint64_t n = 0; n < 20; n++) {
		CHECK_OK(cache_get(c, key(n), big, source_load, &s, &front));
		CHECK_OK(cache_get(c, key(n), big, source_load, &s, &end));
		cache_put_passed(c, end);
		cache_put(c, front); /* of the same stream, and later */
	}
	CHECK(!cache_has(c, key(0)) && cache_has(c, key(19)));
	CHECK(stats_read(STAT_CACHE_BYTES) - bytes <= 5 * big);
	CHECK_OK(cache_get(c, key(19), big, source_load, &s, &front));
	cache_put(c, front); /* by itself, it makes the block stay */
	for (uint64_t n = 20; n < 40; n++)
		pass(c, n, big);
	CHECK(cache_has(c, key(19)));
	cache_free(c);
}

UNIT_TEST(cache_pinned_blocks_stay) /* (4) */
{
	uint64_t bytes = stats_read(STAT_CACHE_BYTES);
	struct cache *c = new_cache(2 * BLOCK);
	struct cache_entry *e[5], *other;
	struct source s = { 0 };

	for (uint64_t n = 0; n < 5; n++)
		CHECK_OK(cache_get(c, key(n), BLOCK, source_load, &s, &e[n]));
	CHECK_EQ(stats_read(STAT_CACHE_BYTES) - bytes, 5 * BLOCK);
	cache_insert(c, key(9), buf_alloc(BLOCK), BLOCK, false);
	CHECK(!cache_has(c, key(9)));
	cache_shrink(c, 0);
	for (uint64_t n = 0; n < 5; n++)
		CHECK(cache_has(c, key(n)));
	CHECK_EQ(cache_get(c, key(0), BLOCK + 1, source_load, &s, &other), -EUCLEAN);
	for (uint64_t n = 0; n < 5; n++)
		cache_put(c, e[n]);
	CHECK_EQ(stats_read(STAT_CACHE_BYTES) - bytes, 2 * BLOCK);
	cache_free(c);
}

UNIT_TEST(cache_insert_keeps_what_has_room)
{
	struct cache *c = new_cache(3 * BLOCK);
	struct cache_entry *e;
	struct source s = { .stamp = 77 };
	void *buf;

	for (uint64_t n = 0; n < 10; n++) {
		buf = buf_alloc(BLOCK);
		CHECK(buf);
		memset(buf, (int)n, BLOCK);
		cache_insert(c, key(n), buf, BLOCK, false);
	}
	CHECK(!cache_has(c, key(6)) && cache_has(c, key(7)) && cache_has(c, key(9)));
	cache_insert(c, key(9), buf_alloc(BLOCK), BLOCK, false);
	cache_insert(c, key(20), buf_alloc(4 * BLOCK), 4 * BLOCK, false);
	CHECK(!cache_has(c, key(20)));
	CHECK_OK(cache_get(c, key(9), BLOCK, source_load, &s, &e));
	CHECK_EQ(s.loads, 0);
	CHECK_EQ(*(const char *)cache_data(e), 9);
	cache_put(c, e);
	cache_free(c);
}

/* What others add to the account, blocks have less of; what a buffer takes counts. */
UNIT_TEST(cache_takes_what_the_account_leaves)
{
	struct source s = { 0 };
	struct cache_entry *e;
	struct account a;
	struct cache *c;

	account_init(&a, 64 * BLOCK);
	CHECK_OK(cache_new(&a, &c));
	for (uint64_t n = 0; n < 100; n++) {
		CHECK_OK(cache_get(c, key(n), 100, source_load, &s, &e));
		cache_put(c, e);
	}
	CHECK(account_held(&a, ACCOUNT_BLOCKS) <= 64 * BLOCK);
	CHECK(account_held(&a, ACCOUNT_BLOCKS) >= 64 * buf_bytes(100));
	account_change(&a, ACCOUNT_ARRAYS, 0, 16 * BLOCK);
	CHECK(!account_over(&a, ACCOUNT_ARRAYS));
	account_change(&a, ACCOUNT_ARRAYS, 16 * BLOCK, 40 * BLOCK);
	CHECK(account_over(&a, ACCOUNT_ARRAYS));
	CHECK_OK(cache_get(c, key(100), 100, source_load, &s, &e));
	cache_put(c, e);
	CHECK(account_held(&a, ACCOUNT_BLOCKS) <= 24 * BLOCK);
	/* A quarter is theirs, whatever the others hold. */
	account_change(&a, ACCOUNT_INDEXES, 0, 100 * BLOCK);
	CHECK_EQ(account_room_for_blocks(&a), 16 * BLOCK);
	cache_free(c);
	CHECK_EQ(account_held(&a, ACCOUNT_BLOCKS), 0);
}

UNIT_TEST(cache_without_budget_still_serves)
{
	struct cache *c = new_cache(0);

	for (uint64_t n = 0; n < 1000; n++)
		get_put(c, n % 3);
	CHECK(!cache_has(c, key(0)));
	cache_free(c);
}

UNIT_TEST(cache_table_grows)
{
	struct cache *c = new_cache(SIZE_MAX);
	struct source s = { 0 };
	struct cache_entry *e;

	for (int round = 0; round < 2; round++)
		for (uint64_t n = 0; n < 20000; n++) {
			CHECK_OK(cache_get(c, key(n), 16, source_load, &s, &e));
			cache_put(c, e);
		}
	CHECK_EQ(s.loads, 20000);
	cache_free(c);
}

struct reader {
	pthread_t thread;
	struct cache *cache;
	struct source *source;
	uint64_t seed;
	int err;
	bool names_another;
};

static void *reader_one(void *arg)
{
	struct reader *r = arg;
	struct cache_entry *e;

	err_corrupt("another file", 0, "is damaged");
	r->err = cache_get(r->cache, key(1), BLOCK, source_load, r->source, &e);
	r->names_another = strstr(err_text(-EUCLEAN), "another file") != NULL;
	if (!r->err) {
		CHECK_EQ(*(const uint64_t *)cache_data(e), r->source->stamp);
		cache_put(r->cache, e);
	}
	return NULL;
}

static void readers_run(struct reader *r, void *(*run)(void *), struct cache *c, struct source *s)
{
	for (int i = 0; i < NTHREADS; i++) {
		r[i].cache = c;
		r[i].source = s;
		r[i].seed = (uint64_t)i * 77 + 1;
		CHECK_OK(pthread_create(&r[i].thread, NULL, run, &r[i]));
	}
	for (int i = 0; i < NTHREADS; i++)
		CHECK_OK(pthread_join(r[i].thread, NULL));
}

UNIT_TEST(cache_loads_a_block_once) /* (5) */
{
	struct cache *c = new_cache(10 * BLOCK);
	struct source s = { .stamp = 5, .delay_us = 100000 };
	struct reader r[NTHREADS] = { 0 };

	readers_run(r, reader_one, c, &s);
	CHECK_EQ(s.loads, 1);
	for (int i = 0; i < NTHREADS; i++)
		CHECK_OK(r[i].err);
	cache_free(c);
}

UNIT_TEST(cache_failed_load_reaches_all_waiters) /* (1) */
{
	uint64_t bytes = stats_read(STAT_CACHE_BYTES);
	struct cache *c = new_cache(10 * BLOCK);
	struct source s = { .stamp = 5, .delay_us = 200000, .err = -EUCLEAN };
	struct reader r[NTHREADS] = { 0 };

	readers_run(r, reader_one, c, &s);
	CHECK(s.loads < NTHREADS);
	for (int i = 0; i < NTHREADS; i++)
		CHECK(r[i].err == -EUCLEAN && !r[i].names_another);
	CHECK(!cache_has(c, key(1)));
	CHECK_EQ(stats_read(STAT_CACHE_BYTES), bytes);
	s.err = 0;
	s.delay_us = 0;
	get_put(c, 1);
	cache_free(c);
}

/* Random keys, a few pins at a time, loads that fail now and then. */
static void *reader_random(void *arg)
{
	struct reader *r = arg;
	struct cache_entry *held[3];
	int n = 0;

	for (int op = 0; op < 4000; op++) {
		struct source s = { 0 };
		uint64_t k;

		r->seed = r->seed * 6364136223846793005ull + 1442695040888963407ull;
		k = r->seed >> 40;
		s.stamp = k % 40;
		s.err = k % 97 == 0 ? -EIO : 0;
		if (k % 53 == 0) {
			void *buf = buf_alloc(BLOCK);

			CHECK(buf);
			for (size_t i = 0; i < BLOCK; i += 8)
				memcpy((char *)buf + i, &s.stamp, 8);
			cache_insert(r->cache, key(s.stamp), buf, BLOCK, false);
		}
		if (n == 3)
			cache_put(r->cache, held[--n]);
		if (!cache_get(r->cache, key(s.stamp), BLOCK, source_load, &s, &held[n])) {
			CHECK_EQ(((const uint64_t *)cache_data(held[n]))[1], s.stamp);
			n++;
		}
		if (n && k % 3)
			cache_put(r->cache, held[--n]);
		CHECK(stats_read(STAT_CACHE_BYTES) <= (16 + NTHREADS * 4) * BLOCK);
	}
	while (n)
		cache_put(r->cache, held[--n]);
	return NULL;
}

UNIT_TEST(cache_keeps_its_budget_under_threads) /* (3) (4) */
{
	uint64_t bytes = stats_read(STAT_CACHE_BYTES);
	struct cache *c = new_cache(16 * BLOCK);
	struct reader r[NTHREADS] = { 0 };

	readers_run(r, reader_random, c, NULL);
	CHECK(stats_read(STAT_CACHE_BYTES) - bytes <= 16 * BLOCK);
	cache_free(c);
	CHECK_EQ(stats_read(STAT_CACHE_BYTES), bytes);
}
