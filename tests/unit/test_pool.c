/*
 * block/pool and block/space.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "block/pool.h"
#include "block/space.h"
#include "io/io.h"
#include "unit.h"
#include "util/stats.h"

#define NTHREADS 8
#define PAGES_MAX (1u << 17)

static uint64_t below(uint64_t n)
{
	static uint64_t state = 1;

	return unit_rand(&state) % n;
}

static struct pool *ready_pool(struct io_dir *dir, unsigned nfiles)
{
	struct pool *p;

	CHECK_OK(pool_open(dir, nfiles, &p));
	CHECK_OK(pool_ready(p));
	return p;
}

static struct io_dir *mem_dir(void)
{
	struct io_dir *dir;

	CHECK_OK(io_mem_dir(&dir));
	return dir;
}

/* A store whose pool has one file of `size` bytes. */
static struct io_dir *dir_with_file(uint64_t size)
{
	struct io_dir *dir = mem_dir();
	struct pool *p = ready_pool(dir, 1);

	CHECK_OK(io_truncate(pool_file(p, 0), size));
	pool_close(p);
	return dir;
}

UNIT_TEST(space_matches_a_bitmap)
{
	static uint8_t is_free[600];
	struct space s;

	space_init(&s);
	memset(is_free, 0, sizeof(is_free));
	for (int op = 0; op < 20000; op++) {
		uint64_t off = below(580), len = 1 + below(19), got = 0, got_off = 0, longest = 0,
			 run = 0;
		bool clash = false;

		for (size_t i = 0; i < sizeof(is_free); i++) {
			run = is_free[i] ? run + 1 : 0;
			longest = run > longest ? run : longest;
		}
		CHECK_EQ(space_longest(&s), longest);
		if (below(2)) {
			for (uint64_t i = off; i < off + len; i++)
				clash |= is_free[i];
			CHECK_EQ(space_add(&s, off, len), clash ? -EEXIST : 0);
			if (!clash)
				memset(is_free + off, 1, len);
		} else {
			uint64_t min = 1 + below(len);
			bool found = space_take(&s, len, min, &got_off, &got);

			CHECK_EQ(found, longest >= min);
			CHECK(!found || got == (len < longest ? len : longest));
			for (uint64_t i = 0; found && i < got; i++)
				CHECK(is_free[got_off + i]);
			if (found)
				memset(is_free + got_off, 0, got);
		}
		off = below(580);
		len = 1 + below(19);
		run = 0;
		while (is_free[off + run])
			run++;
		clash = run != len || (off && is_free[off - 1]);
		CHECK_EQ(space_remove(&s, off, len), !clash);
		if (!clash)
			memset(is_free + off, 0, len);
		CHECK_OK(space_check(&s, 1, sizeof(is_free)));
	}
	space_fini(&s);
}

struct claimer {
	pthread_t thread;
	struct pool *pool;
	_Atomic uint8_t *owned;
	uint64_t seed;
};

static uint64_t claimer_rand(struct claimer *c)
{
	c->seed = c->seed * 6364136223846793005ull + 1442695040888963407ull;
	return c->seed >> 33;
}

static void region_own(struct claimer *c, const struct region *r, uint8_t now)
{
	for (uint64_t page = 0; page < r->len_bytes / POOL_ALIGN; page++) {
		uint64_t at = r->off_bytes / POOL_ALIGN + page;

		CHECK(at < PAGES_MAX);
		CHECK_EQ(atomic_exchange(&c->owned[r->file * PAGES_MAX + at], now), !now);
	}
}

static void *claimer_run(void *arg)
{
	struct claimer *c = arg;
	struct region held[32];
	unsigned n = 0;

	for (int op = 0; op < 3000; op++) {
		if (n < 32 && claimer_rand(c) % 2) {
			uint64_t want =
				1 + claimer_rand(c) % (claimer_rand(c) % 8 ? 70000 : 600000);
			uint64_t up = (want + POOL_ALIGN - 1) / POOL_ALIGN * POOL_ALIGN;
			struct region *r = &held[n];

			CHECK_OK(pool_claim(c->pool, (uint32_t)(claimer_rand(c) % 2), want, r));
			CHECK(r->len_bytes <= up);
			CHECK(r->len_bytes >= (up < POOL_REGION_MIN ? up : POOL_REGION_MIN));
			region_own(c, r, 1);
			n++;
		} else if (n) {
			struct region *r = &held[claimer_rand(c) % n];

			region_own(c, r, 0);
			if (claimer_rand(c) % 2)
				pool_release(c->pool, r);
			else
				pool_unclaim(c->pool, r);
			if (claimer_rand(c) % 8 == 0)
				pool_reclaim(c->pool);
			*r = held[--n];
		}
	}
	for (; n; n--) {
		region_own(c, &held[n - 1], 0);
		pool_release(c->pool, &held[n - 1]);
	}
	return NULL;
}

UNIT_TEST(pool_claims_of_many_threads_never_overlap) /* (1) (2) (3) (6) */
{
	static _Atomic uint8_t owned[2 * PAGES_MAX];
	uint64_t claimed = stats_read(STAT_POOL_CLAIMED_BYTES),
		 idle = stats_read(STAT_POOL_FREE_BYTES);
	struct io_dir *dir = mem_dir();
	struct pool *p = ready_pool(dir, 2);
	struct claimer c[NTHREADS];
	struct region r;

	for (int i = 0; i < NTHREADS; i++) {
		c[i] = (struct claimer){ .pool = p, .owned = owned, .seed = (uint64_t)i + 1 };
		CHECK_OK(pthread_create(&c[i].thread, NULL, claimer_run, &c[i]));
	}
	for (int i = 0; i < NTHREADS; i++)
		CHECK_OK(pthread_join(c[i].thread, NULL));
	pool_reclaim(p);
	CHECK_OK(pool_check(p));
	CHECK_EQ(stats_read(STAT_POOL_CLAIMED_BYTES), claimed);
	/* All is free and merged: one region from the beginning of each file. */
	for (uint32_t file = 0; file < 2; file++) {
		uint64_t before = stats_read(STAT_POOL_FREE_BYTES);

		CHECK_OK(pool_claim(p, file, 1 << 20, &r));
		CHECK_EQ(r.off_bytes, 0);
		CHECK_EQ(r.len_bytes, 1 << 20);
		CHECK_EQ(stats_read(STAT_POOL_FREE_BYTES), before - (1 << 20));
	}
	pool_close(p);
	CHECK_EQ(stats_read(STAT_POOL_CLAIMED_BYTES), claimed);
	CHECK_EQ(stats_read(STAT_POOL_FREE_BYTES), idle);
	io_dir_close(dir);
}

UNIT_TEST(pool_reuses_and_merges) /* (2) (4) */
{
	struct io_dir *dir = mem_dir();
	struct pool *p = ready_pool(dir, 1);
	uint8_t ones[8192], back[8192];
	struct region r[6], again;

	for (int i = 0; i < 6; i++) {
		CHECK_OK(pool_claim(p, 0, 100 << 10, &r[i]));
		CHECK_EQ(r[i].off_bytes, i * (100 << 10));
	}
	memset(ones, 1, sizeof(ones));
	CHECK_OK(io_pwrite(pool_file(p, 0), ones, sizeof(ones), r[1].off_bytes));
	CHECK_OK(io_pwrite(pool_file(p, 0), ones, sizeof(ones), r[4].off_bytes));
	pool_release(p, &r[1]);
	pool_release(p, &r[3]);
	CHECK_OK(io_pread(pool_file(p, 0), back, sizeof(back), r[1].off_bytes));
	CHECK(!memcmp(back, ones, sizeof(back))); /* not before the reclaim */
	pool_reclaim(p);
	CHECK_OK(io_pread(pool_file(p, 0), back, sizeof(back), r[1].off_bytes));
	memset(ones, 0, sizeof(ones));
	CHECK(!memcmp(back, ones, sizeof(back))); /* punched */
	/* Neither has 200 KiB, but a part of them is enough for a claim. */
	CHECK_OK(pool_claim(p, 0, 200 << 10, &again));
	CHECK_EQ(again.off_bytes, r[1].off_bytes);
	CHECK_EQ(again.len_bytes, 100 << 10);
	pool_unclaim(p, &again);
	pool_release(p, &r[2]);
	pool_reclaim(p);
	CHECK_OK(pool_check(p));
	CHECK_OK(pool_claim(p, 0, 300 << 10, &again));
	CHECK_EQ(again.off_bytes, r[1].off_bytes);
	CHECK_EQ(again.len_bytes, 300 << 10);
	CHECK_OK(pool_claim(p, 0, 1, &again));
	CHECK_EQ(again.off_bytes, 600 << 10);
	CHECK_EQ(again.len_bytes, POOL_ALIGN);
	/* What is too small for a region stays for small claims. */
	pool_unclaim(p, &again);
	CHECK_OK(pool_claim(p, 0, 64 << 10, &again));
	CHECK_EQ(again.off_bytes, (600 << 10) + POOL_ALIGN);
	CHECK_EQ(pool_claim(p, 0, 0, &again), -EINVAL);
	pool_close(p);
	io_dir_close(dir);
}

#define NREGIONS 200

/* Claims NREGIONS adjacent regions of two pages of a new pool, and returns them in random order. */
static void claim_shuffled(struct pool *p, struct region r[NREGIONS])
{
	for (unsigned i = 0; i < NREGIONS; i++) {
		CHECK_OK(pool_claim(p, 0, 8192, &r[i]));
		CHECK_EQ(r[i].off_bytes, i * 8192);
	}
	for (unsigned i = NREGIONS - 1; i; i--) {
		unsigned k = (unsigned)below(i + 1);
		struct region other = r[k];

		r[k] = r[i];
		r[i] = other;
	}
}

static uint64_t count_punches(struct io_dir *dir, struct pool *p)
{
	io_fault_arm(dir, 0, 0, false);
	pool_reclaim(p);
	CHECK_OK(pool_check(p));
	return io_fault_count(dir);
}

UNIT_TEST(pool_punches_neighbours_once)
{
	uint64_t idle = stats_read(STAT_POOL_FREE_BYTES), punched = stats_read(STAT_POOL_PUNCHED_BYTES),
		 claimed = stats_read(STAT_POOL_CLAIMED_BYTES);
	struct region r[NREGIONS];
	struct io_dir *dir;
	struct pool *p;

	CHECK_OK(io_fault_dir(mem_dir(), &dir));
	p = ready_pool(dir, 1);
	claim_shuffled(p, r);
	for (unsigned i = 0; i < NREGIONS; i++)
		pool_release(p, &r[i]);
	pool_release(p, &r[7]); /* they may overlap */
	CHECK_EQ(stats_read(STAT_POOL_FREE_BYTES), idle);
	CHECK_EQ(count_punches(dir, p), 1);
	CHECK_EQ(stats_read(STAT_POOL_PUNCHED_BYTES) - punched, NREGIONS * 8192);
	CHECK_EQ(stats_read(STAT_POOL_FREE_BYTES) - idle, NREGIONS * 8192);
	CHECK_EQ(count_punches(dir, p), 0);
	/* What is free between them already is no reason for two, what is claimed is. */
	claim_shuffled(p, r);
	for (unsigned i = 0; i < NREGIONS; i++)
		if (r[i].off_bytes % 24576 == 8192)
			pool_unclaim(p, &r[i]);
	for (unsigned i = 0; i < NREGIONS; i++)
		if (r[i].off_bytes % 24576 != 8192 && r[i].off_bytes != 24576)
			pool_release(p, &r[i]);
	CHECK_EQ(count_punches(dir, p), 2);
	CHECK_EQ(stats_read(STAT_POOL_FREE_BYTES) - idle, (NREGIONS - 1) * 8192);
	CHECK_EQ(stats_read(STAT_POOL_CLAIMED_BYTES) - claimed, 8192);
	pool_close(p);
	io_dir_close(dir);
}

UNIT_TEST(pool_leaves_long_free_ranges_alone)
{
	struct region r[2], first;
	struct io_dir *dir;
	struct pool *p;

	CHECK_OK(io_fault_dir(mem_dir(), &dir));
	p = ready_pool(dir, 1);
	for (int i = 0; i < 2; i++)
		CHECK_OK(pool_claim(p, 0, 2 * POOL_REGION_MAX, &r[i]));
	first = (struct region){ 0, r[0].off_bytes, POOL_ALIGN };
	r[0].off_bytes += POOL_ALIGN;
	r[0].len_bytes -= POOL_ALIGN;
	pool_unclaim(p, &r[0]);
	pool_release(p, &first);
	pool_release(p, &r[1]);
	CHECK_EQ(count_punches(dir, p), 2);
	pool_close(p);
	io_dir_close(dir);
}

UNIT_TEST(pool_mount_derives_free_space)
{
	struct io_dir *dir = dir_with_file(1 << 20);
	uint64_t size, stored, idle = stats_read(STAT_POOL_FREE_BYTES);
	struct pool *p;
	struct region r;

	CHECK_OK(pool_open(dir, 1, &p));
	CHECK_OK(pool_mark_used(p, 0, 300000, 5000)); /* pages 73 and 74 */
	CHECK_OK(pool_mark_used(p, 0, 8192, 10));
	CHECK_OK(pool_mark_used(p, 0, 8202, 100)); /* the same page */
	CHECK_OK(pool_ready(p));
	CHECK_OK(pool_check(p));
	CHECK_EQ(stats_read(STAT_POOL_FREE_BYTES) - idle, 8192 + (73 - 3) * 4096);
	CHECK_OK(io_size(pool_file(p, 0), &size, &stored));
	CHECK_EQ(size, 305000);
	CHECK_OK(pool_claim(p, 0, 4096, &r));
	CHECK_EQ(r.off_bytes, 0);
	CHECK_OK(pool_claim(p, 0, 8192, &r));
	CHECK_EQ(r.off_bytes, 3 * 4096);
	CHECK_OK(pool_claim(p, 0, 1 << 20, &r));
	CHECK_EQ(r.off_bytes, 5 * 4096);
	CHECK_EQ(r.len_bytes, 68 * 4096);
	CHECK_OK(pool_claim(p, 0, 1 << 20, &r));
	CHECK_EQ(r.off_bytes, 75 * 4096);
	pool_close(p);
	io_dir_close(dir);
}

UNIT_TEST(pool_mount_refuses_bad_extents)
{
	struct io_dir *dir = dir_with_file(1 << 20);
	struct pool *p;

	CHECK_OK(pool_open(dir, 1, &p));
	CHECK_EQ(pool_mark_used(p, 1, 0, 4096), -EUCLEAN);
	CHECK_EQ(pool_mark_used(p, 0, (1 << 20) - 10, 11), -EUCLEAN);
	CHECK_EQ(pool_mark_used(p, 0, UINT64_MAX - 10, 100), -EUCLEAN);
	CHECK_EQ(pool_mark_used(p, 0, 1ull << 62, 1), -EUCLEAN);
	CHECK_EQ(pool_mark_used(p, 0, 1, UINT64_MAX), -EUCLEAN);
	CHECK_EQ(pool_mark_used(p, 0, 0, 0), -EUCLEAN);
	CHECK_OK(pool_mark_used(p, 0, 5000, 100));
	CHECK_OK(pool_mark_used(p, 0, 4000, 1001));
	CHECK_EQ(pool_ready(p), -EUCLEAN);
	pool_close(p);
	io_dir_close(dir);
}

UNIT_TEST(pool_mount_random_extents) /* (1) (2) */
{
	struct io_dir *dir = dir_with_file(4 << 20);

	for (int round = 0; round < 20; round++) {
		static uint8_t used[1024 + 512];
		struct pool *p;

		memset(used, 0, sizeof(used));
		CHECK_OK(pool_open(dir, 1, &p));
		CHECK_OK(io_truncate(pool_file(p, 0), 4 << 20));
		pool_close(p);
		CHECK_OK(pool_open(dir, 1, &p));
		for (int i = 0; i < 100; i++) {
			uint64_t page = below(1024), off = below(4000), len = 1 + below(4096 - off);

			if (used[page])
				continue;
			used[page] = 1;
			CHECK_OK(pool_mark_used(p, 0, page * 4096 + off, len));
		}
		CHECK_OK(pool_ready(p));
		for (int i = 0; i < 300; i++) {
			struct region r;

			CHECK_OK(pool_claim(p, 0, 1 + below(8192), &r));
			for (uint64_t k = r.off_bytes / 4096;
			     k < (r.off_bytes + r.len_bytes) / 4096; k++) {
				CHECK(k >= sizeof(used) || !used[k]);
				if (k < sizeof(used))
					used[k] = 1;
			}
		}
		CHECK_OK(pool_check(p));
		pool_close(p);
	}
	io_dir_close(dir);
}

UNIT_TEST(pool_opens_all_files_there_are)
{
	struct io_dir *dir = mem_dir();
	struct pool *p = ready_pool(dir, 5);
	struct io *io;

	pool_close(p);
	CHECK_OK(io_open(dir, "pool/7x", IO_CREATE, &io));
	io_close(io);
	CHECK_OK(io_open(dir, "pool/009", IO_CREATE, &io));
	io_close(io);
	p = ready_pool(dir, 2);
	CHECK_EQ(pool_nfiles(p), 5);
	pool_close(p);
	p = ready_pool(dir, 6);
	CHECK_EQ(pool_nfiles(p), 6);
	pool_close(p);
	CHECK_EQ(pool_open(dir, POOL_NFILES_MAX + 1, &p), -EINVAL);
	io_dir_close(dir);
}

UNIT_TEST(pool_sync_covers_touched_files) /* (5) */
{
	struct io_dir *dir;
	struct pool *p;

	CHECK_OK(io_fault_dir(mem_dir(), &dir));
	p = ready_pool(dir, 3);
	io_fault_arm(dir, 0, 0, false);
	CHECK_OK(pool_sync(p));
	CHECK_EQ(io_fault_count(dir), 0);
	pool_touch(p, 1);
	pool_touch(p, 1);
	pool_touch(p, 2);
	CHECK_OK(pool_sync(p));
	CHECK_EQ(io_fault_count(dir), 2);
	CHECK_OK(pool_sync(p));
	CHECK_EQ(io_fault_count(dir), 2);
	pool_touch(p, 0);
	io_fault_arm(dir, 1, EIO, false);
	CHECK_EQ(pool_sync(p), -EIO);
	CHECK_EQ(pool_sync(p), -EIO);
	io_fault_arm(dir, 0, 0, false);
	CHECK_OK(pool_sync(p));
	CHECK_EQ(io_fault_count(dir), 1);
	pool_close(p);
	io_dir_close(dir);
}
