/*
 * io/spill: files in memory and beyond it on a disk, against io/mem; the order in which they go there, a disk that is full, threads, and
 * what a real directory has of it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "io/cipher.h"
#include "io/io.h"
#include "io/pack.h"
#include "io/piece.h"
#include "unit.h"
#include "util/buf.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/stats.h"

#define PAGE 4096u
#define KIB 1024u
#define MIB (1u << 20)

/* ---- helpers ---- */

static struct io_dir *mem_disk(void)
{
	struct io_dir *d;

	CHECK_OK(io_mem_dir(&d));
	return d;
}

static struct io_dir *spill_over(struct io_dir *below, uint64_t memory_bytes)
{
	struct io_dir *d;

	CHECK_OK(io_spill_dir(below, &(struct io_spill_config){ .memory_bytes = memory_bytes }, &d));
	return d;
}

/* NULL: this build has no libcrypto. */
static struct io_dir *encrypted_over(struct io_dir *below, uint64_t memory_bytes)
{
	struct io_dir *d = NULL;
	int err = io_spill_dir(below, &(struct io_spill_config){ .memory_bytes = memory_bytes, .encrypts = true }, &d);

#ifdef HAVE_LIBCRYPTO
	CHECK_OK(err);
#else
	CHECK_EQ(err, -EOPNOTSUPP);
	io_dir_close(below);
#endif
	return d;
}

static struct io *open_file(struct io_dir *d, const char *name, unsigned flags)
{
	struct io *f;

	CHECK_OK(io_open(d, name, flags, &f));
	return f;
}

/* Bytes that follow from where they stand, and from `tag`. */
static void fill(unsigned char *p, size_t n, uint64_t off, unsigned tag)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (unsigned char)((off + i) * 2654435761u >> 13 ^ tag * 97);
}

static void put(struct io *f, size_t n, uint64_t off, unsigned tag)
{
	unsigned char *p = unit_allot(n);

	fill(p, n, off, tag);
	CHECK_OK(io_pwrite(f, p, n, off));
	free(p);
}

/* Filled by fill or fill_cold. */
static bool holds(struct io *f, size_t n, uint64_t off, unsigned tag, void (*filled)(unsigned char *, size_t, uint64_t, unsigned))
{
	unsigned char *p = unit_allot(n), *want = unit_allot(n);
	bool equal;

	CHECK_OK(io_pread(f, p, n, off));
	filled(want, n, off, tag);
	equal = memcmp(p, want, n) == 0;
	free(p);
	free(want);
	return equal;
}

static bool has(struct io *f, size_t n, uint64_t off, unsigned tag)
{
	return holds(f, n, off, tag, fill);
}

static uint64_t stored(struct io *f)
{
	uint64_t bytes;

	CHECK_OK(io_size(f, NULL, &bytes));
	return bytes;
}

static uint64_t avail(struct io_dir *d)
{
	uint64_t total, left;

	CHECK_OK(io_space(d, &total, &left));
	return left;
}

/* ---- against io/mem ---- */

#define SCRIPT_MAX (3u * MIB)
#define SCRIPT_FILES 3

struct script {
	struct io *a[SCRIPT_FILES], *b[SCRIPT_FILES]; /* spill, mem */
	uint64_t seed;
	bool cold;
	unsigned char *x, *y;
};

static void script_compare(struct script *s, int i)
{
	uint64_t na, nb, ka, kb;
	size_t ra = 0, rb = 0;

	CHECK_OK(io_size(s->a[i], &na, &ka));
	CHECK_OK(io_size(s->b[i], &nb, &kb));
	CHECK_EQ(na, nb);
	CHECK(s->cold ? ka <= kb : ka == kb);
	CHECK_OK(io_pread_some(s->a[i], s->x, SCRIPT_MAX * 2, 0, &ra));
	CHECK_OK(io_pread_some(s->b[i], s->y, SCRIPT_MAX * 2, 0, &rb));
	CHECK_EQ(ra, rb);
	CHECK_EQ(ra, na);
	CHECK(memcmp(s->x, s->y, ra) == 0);
}

static void script_seek(struct script *s, int i, uint64_t off, uint64_t n)
{
	uint64_t saved;
	bool there;

	for (int hole = 0; hole < 2; hole++) {
		uint64_t pa = ~0ull, pb = ~0ull;

		CHECK_EQ(io_seek(s->a[i], off, hole, &pa), io_seek(s->b[i], off, hole, &pb));
		CHECK_EQ(pa, pb);
	}
	/* What is compressed takes space when it is written to. The chore may come between the questions. */
	do {
		there = io_is_allocated(s->a[i], off, n);
		saved = io_saved(s->a[i], off, n, true);
	} while (there != io_is_allocated(s->a[i], off, n));
	CHECK_EQ(there, io_is_allocated(s->b[i], off, n) && !saved);
}

static void script_read(struct script *s, int i, uint64_t off, size_t n)
{
	size_t ra = 1, rb = 2;

	CHECK_OK(io_pread_some(s->a[i], s->x, n, off, &ra));
	CHECK_OK(io_pread_some(s->b[i], s->y, n, off, &rb));
	CHECK_EQ(ra, rb);
	CHECK(memcmp(s->x, s->y, ra) == 0);
}

/* Some of what is written with IO_COLD can be compressed. */
static void script_write(struct script *s, int i, uint64_t off, size_t n)
{
	bool shrinks = s->cold && unit_rand(&s->seed) % 4;
	unsigned how = s->cold && unit_rand(&s->seed) % 8 ? IO_COLD : 0;

	unit_rand_fill(&s->seed, s->x, n);
	for (size_t k = 0; shrinks && k < n; k++)
		s->x[k] &= 3;
	CHECK_OK(io_pwrite_as(s->a[i], s->x, n, off, how));
	CHECK_OK(io_pwrite(s->b[i], s->x, n, off));
}

static void script_step(struct script *s)
{
	uint64_t off = unit_rand(&s->seed) % SCRIPT_MAX;
	size_t n = unit_rand(&s->seed) % (unit_rand(&s->seed) % 4 ? 20 * KIB : 700 * KIB) + 1;
	int i = unit_rand(&s->seed) % SCRIPT_FILES;

	if (unit_rand(&s->seed) % 3 == 0) {
		off = off / PAGE * PAGE;
		n = (n + PAGE - 1) / PAGE * PAGE;
	}
	switch (unit_rand(&s->seed) % 10) {
	case 0:
	case 1:
	case 2:
		script_write(s, i, off, n);
		break;
	case 3:
	case 4:
		script_read(s, i, off, n);
		break;
	case 5:
		CHECK_OK(io_truncate(s->a[i], off));
		CHECK_OK(io_truncate(s->b[i], off));
		break;
	case 6:
		CHECK_OK(io_punch(s->a[i], off, n));
		CHECK_OK(io_punch(s->b[i], off, n));
		break;
	case 7:
		CHECK_OK(io_allocate(s->a[i], off, n));
		CHECK_OK(io_allocate(s->b[i], off, n));
		break;
	case 8:
		CHECK_OK(io_sync(s->a[i]));
		break;
	default:
		script_seek(s, i, off, n);
	}
}

/* Takes da over. */
static void script_run_as(struct io_dir *da, uint64_t memory_bytes, uint64_t seed, bool cold)
{
	struct io_dir *db = mem_disk();
	struct script s = { .seed = seed, .cold = cold, .x = malloc(SCRIPT_MAX * 2), .y = malloc(SCRIPT_MAX * 2) };
	static const char *const names[SCRIPT_FILES] = { "a", "b", "c" };

	for (int i = 0; i < SCRIPT_FILES; i++) {
		s.a[i] = open_file(da, names[i], IO_CREATE | (i == 2 ? IO_PINNED : 0));
		s.b[i] = open_file(db, names[i], IO_CREATE);
	}
	for (int step = 0; step < 600; step++) {
		script_step(&s);
		if (step % 40 == 0)
			script_compare(&s, step / 40 % SCRIPT_FILES);
		CHECK(stats_read(STAT_SPILL_MEMORY_BYTES) <= memory_bytes);
	}
	for (int i = 0; i < SCRIPT_FILES; i++) {
		script_compare(&s, i);
		io_close(s.a[i]);
		io_close(s.b[i]);
	}
	free(s.x);
	free(s.y);
	io_dir_close(da);
	io_dir_close(db);
	CHECK_EQ(stats_read(STAT_SPILL_MEMORY_BYTES), 0);
	CHECK_EQ(stats_read(STAT_SPILL_DISK_BYTES), 0);
}

static void script_run(struct io_dir *da, uint64_t memory_bytes, uint64_t seed)
{
	script_run_as(da, memory_bytes, seed, false);
}

UNIT_TEST(spill_agrees_with_mem)
{
	static const uint64_t budgets[] = { 0, 3 * PAGE, 256 * KIB, 900 * KIB, 3 * MIB, 1u << 30 };

	for (size_t i = 0; i < sizeof(budgets) / sizeof(*budgets); i++) {
		script_run(spill_over(mem_disk(), budgets[i]), budgets[i], i * 77 + 1);
		script_run(spill_over(mem_disk(), budgets[i]), budgets[i], i * 991 + 5);
	}
}

static struct io_dir *real_dir_at(const char *path, enum io_backing backing)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct io_dir *d;

	CHECK(fd >= 0);
	CHECK_OK(io_file_dir_leased(fd, backing, 4, 64 * KIB, &d));
	io_file_try_direct(d);
	return d;
}

static struct io_dir *real_dir(enum io_backing backing)
{
	return real_dir_at(unit_tmpdir(), backing);
}

UNIT_TEST(spill_agrees_with_mem_on_a_real_disk)
{
	static const enum io_backing backings[] = { IO_BACKING_AUTO, IO_BACKING_BUFFERED, IO_BACKING_DIRECT };

	for (int i = 0; i < 3; i++) {
		script_run(spill_over(real_dir(backings[i]), 0), 0, i * 31 + 3);
		script_run(spill_over(real_dir(backings[i]), MIB), MIB, i * 17 + 9);
	}
}

/* A clock that is so much faster than the system's, from its start on. */
#define HURRY 20000

static int64_t hurry_begin_ns;

static int64_t hurried_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (clock_ns(ts) - hurry_begin_ns) * HURRY;
}

static int64_t hurried_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return clock_ns(ts);
}

static void hurried_sleep_ns(int64_t ns)
{
	struct timespec ts = clock_timespec(ns / HURRY);

	nanosleep(&ts, NULL);
}

static int hurried_wait(pthread_cond_t *c, pthread_mutex_t *m, int64_t until_ns)
{
	struct timespec ts = clock_timespec(hurry_begin_ns + until_ns / HURRY);

	return pthread_cond_timedwait(c, m, &ts);
}

/* What is loose is packed while others go on, and a thousandth of a second later. */
static void hurry(bool on)
{
	static const struct clock_ops ops = { hurried_now_ns, hurried_ns, hurried_sleep_ns, hurried_wait };

	if (on)
		hurry_begin_ns = clock_monotonic_ns();
	clock_replace(on ? &ops : NULL);
}

UNIT_TEST(spill_that_is_packed_where_it_lies_agrees_with_mem)
{
	static const uint64_t budgets[] = { 0, 256 * KIB, 900 * KIB };
	struct io_dir *d;

	hurry(true);
	for (size_t i = 0; i < sizeof(budgets) / sizeof(*budgets); i++) {
		script_run_as(spill_over(mem_disk(), budgets[i]), budgets[i], i * 83 + 3, true);
		script_run_as(spill_over(real_dir(IO_BACKING_AUTO), budgets[i]), budgets[i], i * 89 + 7, true);
		d = encrypted_over(mem_disk(), budgets[i]);
		if (d)
			script_run_as(d, budgets[i], i * 97 + 1, true);
	}
	hurry(false);
}

UNIT_TEST(spill_that_is_cold_agrees_with_mem)
{
	static const uint64_t budgets[] = { 0, 3 * PAGE, 256 * KIB, 900 * KIB, 3 * MIB };
	struct io_dir *d;

	for (size_t i = 0; i < sizeof(budgets) / sizeof(*budgets); i++) {
		uint64_t before = stats_read(STAT_SPILL_COLD_STORED_BYTES);

		script_run_as(spill_over(mem_disk(), budgets[i]), budgets[i], i * 57 + 3, true);
		script_run_as(spill_over(real_dir(IO_BACKING_AUTO), budgets[i]), budgets[i], i * 59 + 7, true);
		CHECK(stats_read(STAT_SPILL_COLD_STORED_BYTES) > before);
		d = encrypted_over(mem_disk(), budgets[i]);
		if (d)
			script_run_as(d, budgets[i], i * 61 + 1, true);
	}
}

/* ---- names ---- */

static int count_name(void *ctx, const char *name)
{
	(void)name;
	++*(int *)ctx;
	return 0;
}

static int stop_at_once(void *ctx, const char *name)
{
	(void)ctx, (void)name;
	return -EINTR;
}

static int unlink_it(void *ctx, const char *name)
{
	char path[64] = "sub/";

	return io_unlink(ctx, strcat(path, name));
}

UNIT_TEST(spill_names)
{
	struct io_dir *d = spill_over(mem_disk(), MIB);
	struct io *f, *g;
	char name[16];
	int n = 0;

	CHECK_OK(io_mkdir(d, "sub"));
	CHECK_OK(io_mkdir(d, "sub"));
	CHECK_EQ(io_mkdir(d, "no/sub"), -ENOENT);
	CHECK_EQ(io_open(d, "no/f", IO_CREATE, &f), -ENOENT);
	CHECK_EQ(io_open(d, "f", 0, &f), -ENOENT);
	CHECK_EQ(io_open(d, "/f", IO_CREATE, &f), -EINVAL);
	CHECK_EQ(io_open(d, "sub", 0, &f), -EUCLEAN);
	CHECK_EQ(io_unlink(d, "sub"), -EUCLEAN);
	for (int i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "sub/%d", i);
		io_close(open_file(d, name, IO_CREATE | IO_EXCL));
	}
	CHECK_EQ(io_open(d, "sub/7", IO_CREATE | IO_EXCL, &f), -EEXIST);
	CHECK_EQ(io_open(d, "sub/7/x", IO_CREATE, &f), -ENOTDIR);
	CHECK_EQ(io_mkdir(d, "sub/7"), -EUCLEAN);
	CHECK_OK(io_list(d, "sub", count_name, &n));
	CHECK_EQ(n, 300);
	CHECK_EQ(io_list(d, "sub", stop_at_once, NULL), -EINTR);
	CHECK_EQ(io_list(d, "no", count_name, &n), -ENOENT);
	n = 0;
	CHECK_OK(io_list(d, ".", count_name, &n));
	CHECK_EQ(n, 1);

	f = open_file(d, "sub/1", 0);
	g = open_file(d, "sub/2", 0);
	put(f, 100, 0, 1);
	put(g, 100, 0, 2);
	CHECK_EQ(io_rename(d, "sub/none", "sub/2"), -ENOENT);
	CHECK_EQ(io_rename(d, "sub/1", "no/2"), -ENOENT);
	CHECK_OK(io_rename(d, "sub/1", "sub/1"));
	CHECK_OK(io_rename(d, "sub/1", "sub/2"));
	CHECK(has(g, 100, 0, 2));
	io_close(g);
	g = open_file(d, "sub/2", IO_RDONLY);
	CHECK(has(g, 100, 0, 1));
	CHECK_EQ(io_pwrite(g, "x", 1, 0), -EBADF);
	CHECK_EQ(io_truncate(g, 0), -EBADF);
	CHECK_EQ(io_open(d, "sub/1", 0, &f), -ENOENT);
	CHECK_OK(io_unlink(d, "sub/2"));
	CHECK(has(f, 100, 0, 1));
	io_close(f);
	io_close(g);
	CHECK_OK(io_list(d, "sub", unlink_it, d));
	n = 0;
	CHECK_OK(io_list(d, "sub", count_name, &n));
	CHECK_EQ(n, 0);
	CHECK_EQ(stats_read(STAT_SPILL_MEMORY_BYTES) > MIB / 8 + PIECE_BYTES, 0);
	io_dir_close(d);
}

UNIT_TEST(spill_locks_and_lends_nothing)
{
	struct io_dir *d = spill_over(mem_disk(), MIB);
	struct io *f = open_file(d, "lock", IO_CREATE | IO_PINNED), *g = open_file(d, "lock", IO_PINNED);
	struct io_facts facts;

	CHECK_OK(io_lock(f, 0, 0));
	CHECK_OK(io_lock(f, 0, 0));
	CHECK_EQ(io_lock(g, 0, 0), -EWOULDBLOCK);
	io_close(f);
	CHECK_OK(io_lock(g, 0, 0));
	CHECK_EQ(io_facts(g, &facts), -EOPNOTSUPP);
	CHECK_EQ(io_share(g, true), -EOPNOTSUPP);
	CHECK_EQ(io_hold_back(d, 1, 1), -EOPNOTSUPP);
	CHECK_EQ(io_pwrite(g, "x", 1, (uint64_t)1 << 50), -EFBIG);
	CHECK_OK(io_dir_sync(d, "."));
	io_close(g);
	io_dir_close(d);
}

/* ---- memory first ---- */

/* What has been written to the disk, whatever became of it. */
static uint64_t written(void)
{
	uint64_t n = 0;

	for (int way = 0; way <= STATS_UNCACHED; way++)
		n += stats_read(stats_backing_write(IO_OF_SPILL / IO_OF_BUCKET, (enum stats_way)way));
	return n;
}

UNIT_TEST(spill_that_fits_never_touches_the_disk)
{
	struct io_dir *d = spill_over(real_dir(IO_BACKING_AUTO), 64 * MIB);
	struct io *f = open_file(d, "f", IO_CREATE);

	for (int round = 0; round < 4; round++) {
		for (uint64_t off = 0; off < 60 * MIB; off += MIB)
			put(f, MIB, off, 1);
		CHECK(has(f, 60 * MIB, 0, 1));
		CHECK_EQ(stats_read(STAT_SPILL_MEMORY_BYTES), 60 * MIB);
		if (round % 2)
			CHECK_OK(io_truncate(f, 0));
		else
			CHECK_OK(io_punch(f, 0, 60 * MIB));
		CHECK_EQ(stored(f), 0);
	}
	CHECK_EQ(written(), 0);
	for (uint64_t off = 0; off < 68 * MIB; off += MIB)
		put(f, MIB, off, 1);
	CHECK_EQ(written(), 4 * MIB);
	CHECK_EQ(stats_read(STAT_SPILL_DISK_BYTES), 4 * MIB);
	CHECK(has(f, 68 * MIB, 0, 1));
	io_close(f);
	io_dir_close(d);
}

UNIT_TEST(spill_moves_the_oldest_first)
{
	struct io_dir *d = spill_over(mem_disk(), 4 * PIECE_BYTES);
	struct io *f[6], *kept = open_file(d, "kept", IO_CREATE | IO_PINNED);
	static const char *const names[6] = { "0", "1", "2", "3", "4", "5" };

	put(kept, PIECE_BYTES, 0, 9);
	for (int i = 0; i < 6; i++) {
		f[i] = open_file(d, names[i], IO_CREATE);
		put(f[i], PIECE_BYTES, 0, i);
		CHECK_EQ(stats_read(STAT_SPILL_DISK_BYTES), (i > 2 ? i - 2 : 0) * PIECE_BYTES);
	}
	/* 3, 4 and 5 are in memory: without them the disk has as much as before. */
	for (int i = 3; i < 6; i++) {
		CHECK_OK(io_truncate(f[i], 0));
		CHECK_EQ(stats_read(STAT_SPILL_DISK_BYTES), 3 * PIECE_BYTES);
	}
	for (int i = 0; i < 3; i++) {
		CHECK(has(f[i], PIECE_BYTES, 0, i));
		CHECK_OK(io_truncate(f[i], 0));
		CHECK_EQ(stats_read(STAT_SPILL_DISK_BYTES), (2 - i) * PIECE_BYTES);
	}
	put(f[0], 8 * PIECE_BYTES, 0, 3);
	CHECK_EQ(stats_read(STAT_SPILL_DISK_BYTES), 5 * PIECE_BYTES);
	CHECK_OK(io_truncate(kept, 0));
	CHECK_EQ(stats_read(STAT_SPILL_DISK_BYTES), 5 * PIECE_BYTES);
	put(kept, 6 * PIECE_BYTES, 0, 9);
	CHECK_EQ(stats_read(STAT_SPILL_DISK_BYTES), 10 * PIECE_BYTES);
	CHECK(has(kept, 6 * PIECE_BYTES, 0, 9) && has(f[0], 8 * PIECE_BYTES, 0, 3));
	for (int i = 0; i < 6; i++)
		io_close(f[i]);
	io_close(kept);
	io_dir_close(d);
}

UNIT_TEST(spill_gives_space_back)
{
	struct io_dir *below = mem_disk(), *d = spill_over(below, MIB);
	uint64_t all = avail(d), disk = avail(below);
	struct io *f = open_file(d, "f", IO_CREATE);

	put(f, 8 * MIB, 0, 1);
	CHECK_EQ(avail(d), all - 8 * MIB);
	CHECK_EQ(avail(below), disk - 7 * MIB);
	CHECK_OK(io_punch(f, PAGE, 3 * PAGE)); /* on the disk, within a piece */
	CHECK_EQ(avail(below), disk - 7 * MIB + 3 * PAGE);
	CHECK_OK(io_punch(f, 8 * MIB - 4 * PAGE, PAGE)); /* in memory */
	CHECK_EQ(avail(d), all - 8 * MIB + 4 * PAGE);
	CHECK_EQ(stored(f), 8 * MIB - 4 * PAGE);
	CHECK_OK(io_truncate(f, 2 * MIB));
	CHECK_EQ(avail(below), disk - 2 * MIB + 3 * PAGE);
	put(f, 8 * MIB, 2 * MIB, 1);
	CHECK_EQ(avail(below), disk - 9 * MIB + 3 * PAGE);
	CHECK_OK(io_unlink(d, "f"));
	CHECK(has(f, 8 * MIB, 2 * MIB, 1));
	io_close(f);
	CHECK_EQ(avail(below), disk);
	CHECK(avail(d) >= all - MIB / 8 - PIECE_BYTES);
	io_dir_close(d);
}

/* ---- cold pieces ---- */

/* Bytes of which a sixteenth is left when they are compressed, or a little more. */
static void fill_cold(unsigned char *p, size_t n, uint64_t off, unsigned tag)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (unsigned char)((off + i) % 64 ? 'a' + tag : ((off + i) * 2654435761u >> 13));
}

static int put_cold(struct io *f, size_t n, uint64_t off, unsigned tag)
{
	unsigned char *p = unit_allot(n);
	int err;

	fill_cold(p, n, off, tag);
	err = io_pwrite_as(f, p, n, off, IO_COLD);
	free(p);
	return err;
}

static bool has_cold(struct io *f, size_t n, uint64_t off, unsigned tag)
{
	return holds(f, n, off, tag, fill_cold);
}

/* In memory raw, on the disk compressed, and counted as it is there. */
static void check_cold(struct io_dir *below, struct io_dir *d)
{
	struct io *f = open_file(d, "f", IO_CREATE);
	uint64_t disk = avail(below), took, raw = stats_read(STAT_SPILL_COLD_RAW_BYTES), became = stats_read(STAT_SPILL_COLD_STORED_BYTES);

	CHECK_OK(put_cold(f, MIB, 0, 1));
	CHECK_EQ(stored(f), MIB);
	CHECK_EQ(io_packings(d), 0);
	CHECK_OK(put_cold(f, 7 * MIB, MIB, 1));
	took = disk - avail(below);
	CHECK(took >= 7 * MIB / 64 && took <= 7 * MIB / 16);
	CHECK_EQ(took, stats_read(STAT_SPILL_DISK_BYTES));
	CHECK_EQ(stored(f), MIB + took);
	CHECK_EQ(stats_read(STAT_SPILL_COLD_RAW_BYTES) - raw, 7 * MIB);
	CHECK_EQ(stats_read(STAT_SPILL_COLD_STORED_BYTES) - became, took);
	CHECK_EQ(io_packings(d), 28);
	CHECK_EQ(io_saved(f, 0, 7 * MIB, true), 7 * MIB - took);
	CHECK_EQ(io_saved(f, 0, 8 * MIB, false), 7 * MIB - took);
	CHECK(io_saved(f, 0, MIB / 2, false) <= MIB / 2);
	CHECK_EQ(io_saved(f, 7 * MIB, MIB, true), 0);
	CHECK(!io_is_allocated(f, 0, PAGE) && io_is_allocated(f, 7 * MIB, MIB));
	CHECK(has_cold(f, 8 * MIB, 0, 1) && has_cold(f, 100, 4000, 1) && has_cold(f, MIB, 300 * KIB + 5, 1));
	CHECK_EQ(io_packings(d), 28); /* who reads changes nothing */

	/* A piece that is written to is in memory again, and others go instead. */
	CHECK_OK(put_cold(f, 10, 5000, 2));
	CHECK_EQ(io_saved(f, 0, PIECE_BYTES, true), 0);
	CHECK(has_cold(f, 5000, 0, 1) && has_cold(f, 10, 5000, 2) && has_cold(f, 8 * MIB - 5010, 5010, 1));
	CHECK_EQ(io_packings(d), 30);
	CHECK_OK(put_cold(f, 10, 5000, 1));
	CHECK_OK(io_truncate(f, 0));
	CHECK_EQ(avail(below), disk);
	CHECK_EQ(stored(f), 0);
	io_close(f);
	io_dir_close(d);
}

UNIT_TEST(spill_compresses_what_is_cold)
{
	struct io_dir *below = mem_disk(), *d;

	check_cold(below, spill_over(below, MIB));
	CHECK_OK(io_mem_dir(&below));
	d = encrypted_over(below, MIB + 64 * KIB); /* sums take some of it */
	if (d)
		check_cold(below, d);
}

/* Until so much of it takes no space. */
static void wait_saved(struct io *f, uint64_t n, uint64_t saved)
{
	for (int i = 0; i < 20000 && io_saved(f, 0, n, true) < saved; i++)
		usleep(1000);
	CHECK(io_saved(f, 0, n, true) >= saved);
}

/* Written at once, in parts of a piece, and written over. */
static void check_loose(struct io_dir *below, struct io_dir *d)
{
	struct io *f = open_file(d, "f", IO_CREATE), *g = open_file(d, "g", IO_CREATE);
	uint64_t disk = avail(below);

	for (uint64_t off = 0; off < 4 * MIB; off += 64 * KIB)
		CHECK_OK(put_cold(f, 64 * KIB, off, 1));
	put(g, PIECE_BYTES, 0, 9);
	wait_saved(f, 4 * MIB, 3 * MIB);
	CHECK(has_cold(f, 4 * MIB, 0, 1));
	for (uint64_t off = 0; off < 4 * MIB; off += 512 * KIB)
		CHECK_OK(put_cold(f, 10, off + 5000, 2));
	CHECK(has_cold(f, 5000, 0, 1) && has_cold(f, 10, 5000, 2) && has_cold(f, 512 * KIB - 10, 5010, 1));
	wait_saved(f, 4 * MIB, 3 * MIB);
	CHECK(has_cold(f, 5000, 0, 1) && has_cold(f, 10, 5000, 2) && has_cold(f, 512 * KIB - 10, 5010, 1));
	CHECK(has(g, PIECE_BYTES, 0, 9));
	CHECK_EQ(io_saved(g, 0, PIECE_BYTES, true), 0);
	io_close(f);
	io_close(g);
	CHECK_OK(io_unlink(d, "f"));
	CHECK_OK(io_unlink(d, "g"));
	/* The chore may be at one of them, and give back what it takes a moment later. */
	for (int i = 0; avail(below) != disk; i++) {
		CHECK(i < 20000);
		usleep(1000);
	}
	CHECK_EQ(stats_read(STAT_SPILL_DISK_BYTES), 0);
	io_dir_close(d);
}

UNIT_TEST(spill_compresses_what_lies_on_the_disk)
{
	struct io_dir *below = mem_disk(), *d;

	hurry(true);
	check_loose(below, spill_over(below, 0));
	CHECK_OK(io_mem_dir(&below));
	d = encrypted_over(below, 0);
	if (d)
		check_loose(below, d);
	hurry(false);
}

static bool refuses_all(size_t bytes)
{
	(void)bytes;
	return true;
}

/* While it goes to the disk in the place of others; as soon as there is some again, it is compressed. */
UNIT_TEST(spill_compresses_later_what_found_no_memory)
{
	struct io_dir *d = spill_over(mem_disk(), PIECE_BYTES);
	struct io *f = open_file(d, "f", IO_CREATE), *g = open_file(d, "g", IO_CREATE);

	hurry(true);
	CHECK_OK(put_cold(f, PIECE_BYTES, 0, 1));
	buf_set_refusal(refuses_all);
	put(g, PIECE_BYTES, 0, 9);
	clock_sleep_ns(20 * PIECE_COLD_NS);
	CHECK_EQ(io_saved(f, 0, PIECE_BYTES, true), 0);
	buf_set_refusal(NULL);
	wait_saved(f, PIECE_BYTES, PIECE_BYTES / 2);
	CHECK(has_cold(f, PIECE_BYTES, 0, 1));
	io_close(f);
	io_close(g);
	io_dir_close(d);
	hurry(false);
}

/* Also the part of a context that zstd takes with the first use of it. */
UNIT_TEST(packer_tells_a_want_of_memory_from_noise)
{
	unsigned char *mem = unit_allot(PIECE_BYTES), *form = unit_allot(PIECE_BYTES);
	struct rlimit all, none;
	struct packer k;
	unsigned npages = 0;
	int err = -ENOMEM;

	packer_init(&k);
	fill_cold(mem, PIECE_BYTES, 0, 1);
	CHECK_OK(getrlimit(RLIMIT_AS, &all));
	none = (struct rlimit){ 1, all.rlim_max };
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	CHECK_OK(unit_in_valgrind() ? 0 : setrlimit(RLIMIT_AS, &none));
	if (!unit_in_valgrind())
		err = pack(&k, mem, UINT64_MAX, form, &npages);
	CHECK_OK(setrlimit(RLIMIT_AS, &all));
#endif
	(void)none;
	CHECK_EQ(err, -ENOMEM);
	CHECK_OK(pack(&k, mem, UINT64_MAX, form, &npages));
	CHECK(npages > 0 && npages < FRAME_PAGES / 2);
	packer_fini(&k);
	free(mem);
	free(form);
}

static unsigned refuse_in;

static bool refuses_second(size_t bytes)
{
	return bytes == PIECE_BYTES && refuse_in && !--refuse_in;
}

UNIT_TEST(spill_compresses_later_what_was_cut_without_memory)
{
	struct io_dir *d = spill_over(mem_disk(), 0);
	struct io *f = open_file(d, "f", IO_CREATE);

	hurry(true);
	CHECK_OK(put_cold(f, PIECE_BYTES, 0, 1));
	CHECK(io_saved(f, 0, PIECE_BYTES, true) > 0);
	/* What it was decompressed to is there, the buffer for the new form is not. */
	refuse_in = 2;
	buf_set_refusal(refuses_second);
	CHECK_OK(io_truncate(f, PIECE_BYTES / 2));
	buf_set_refusal(NULL);
	CHECK_EQ(refuse_in, 0);
	wait_saved(f, PIECE_BYTES, PIECE_BYTES / 4);
	CHECK(has_cold(f, PIECE_BYTES / 2, 0, 1));
	io_close(f);
	io_dir_close(d);
	hurry(false);
}

/* The next piece starts the thread that the first one did not get, and it packs both. */
UNIT_TEST(spill_starts_its_thread_again)
{
	struct io_dir *d = spill_over(mem_disk(), 0);
	struct io *f = open_file(d, "f", IO_CREATE);

	hurry(true);
	unit_fail_threads(0, 1);
	CHECK_OK(put_cold(f, 128 * KIB, 0, 1));
	CHECK_EQ(stats_read(STAT_THREADS), 0);
	CHECK_OK(put_cold(f, 128 * KIB, PIECE_BYTES, 1));
	wait_saved(f, 2 * PIECE_BYTES, 200 * KIB);
	CHECK(has_cold(f, 128 * KIB, 0, 1) && has_cold(f, 128 * KIB, PIECE_BYTES, 1));
	io_close(f);
	io_dir_close(d);
	unit_fail_threads(0, 0);
	hurry(false);
}

/* No second look at it is needed. */
UNIT_TEST(spill_compresses_whole_pieces_at_once)
{
	struct io_dir *below = mem_disk(), *d = spill_over(below, 0);
	struct io *f = open_file(d, "f", IO_CREATE);
	unsigned char *noise = unit_allot(MIB);
	uint64_t seed = 3, disk = avail(below);

	CHECK_OK(put_cold(f, 4 * MIB, 0, 1));
	CHECK(io_saved(f, 0, 4 * MIB, true) > 3 * MIB);
	CHECK_EQ(disk - avail(below), 4 * MIB - io_saved(f, 0, 4 * MIB, true));
	CHECK_EQ(stored(f), disk - avail(below));
	CHECK(has_cold(f, 4 * MIB, 0, 1));
	unit_rand_fill(&seed, noise, MIB);
	CHECK_OK(io_pwrite_as(f, noise, MIB, 4 * MIB, IO_COLD));
	CHECK_EQ(io_saved(f, 4 * MIB, MIB, true), 0);
	CHECK(has_cold(f, 4 * MIB, 0, 1));
	free(noise);
	io_close(f);
	io_dir_close(d);
}

UNIT_TEST(spill_leaves_what_is_loose_on_a_full_disk)
{
	struct io_dir *below = mem_disk(), *d = spill_over(below, 0);
	struct io *f = open_file(d, "f", IO_CREATE);
	int err;

	hurry(true);
	io_mem_set_space(below, PIECE_BYTES);
	/* The chore may take the space between two of them. */
	do {
		CHECK_OK(io_truncate(f, 0));
		err = 0;
		for (uint64_t off = 0; off < PIECE_BYTES && !err; off += 64 * KIB)
			err = put_cold(f, 64 * KIB, off, 1);
	} while (err == -ENOSPC);
	CHECK_OK(err);
	clock_sleep_ns(20 * PIECE_COLD_NS);
	CHECK_EQ(io_saved(f, 0, PIECE_BYTES, true), 0);
	CHECK(has_cold(f, PIECE_BYTES, 0, 1));
	io_mem_set_space(below, 2 * PIECE_BYTES);
	wait_saved(f, PIECE_BYTES, PIECE_BYTES / 2);
	CHECK(has_cold(f, PIECE_BYTES, 0, 1));
	io_close(f);
	io_dir_close(d);
	hurry(false);
}

UNIT_TEST(spill_cuts_what_is_compressed)
{
	struct io_dir *below = mem_disk(), *d = spill_over(below, MIB);
	struct io *f = open_file(d, "f", IO_CREATE);
	unsigned char zeros[PAGE] = { 0 }, got[PAGE];
	uint64_t took, at;

	CHECK_OK(put_cold(f, 4 * MIB, 0, 1));
	took = avail(below);
	/* Half of a piece, and parts of pages. */
	CHECK_OK(io_punch(f, 5000, PIECE_BYTES / 2));
	CHECK(avail(below) > took);
	CHECK_OK(io_seek(f, 0, true, &at));
	CHECK_EQ(at, 2 * PAGE);
	CHECK_OK(io_seek(f, 2 * PAGE, false, &at));
	CHECK_EQ(at, PIECE_BYTES / 2 + PAGE);
	CHECK(has_cold(f, 5000, 0, 1) && has_cold(f, MIB, 5000 + PIECE_BYTES / 2, 1));
	CHECK_OK(io_pread(f, got, PAGE, 5000));
	CHECK(memcmp(got, zeros, PAGE) == 0);
	CHECK_OK(io_pread(f, got, PAGE, 900 + PIECE_BYTES / 2));
	CHECK(memcmp(got, zeros, PAGE) == 0);
	/* What is written into the hole. */
	CHECK_OK(put_cold(f, PAGE, 4 * PAGE, 3));
	CHECK(has_cold(f, PAGE, 4 * PAGE, 3) && has_cold(f, 5000, 0, 1));
	CHECK_OK(io_pread(f, got, PAGE, 5 * PAGE));
	CHECK(memcmp(got, zeros, PAGE) == 0);
	/* Growth behind a cut shows zeros. */
	CHECK_OK(io_truncate(f, MIB + 100));
	CHECK_OK(io_truncate(f, 2 * MIB));
	CHECK(has_cold(f, 100, MIB, 1));
	CHECK_OK(io_pread(f, got, PAGE, MIB + 100));
	CHECK(memcmp(got, zeros, PAGE) == 0);
	CHECK_OK(io_truncate(f, 0));
	CHECK_EQ(stored(f), 0);
	CHECK_EQ(stats_read(STAT_SPILL_DISK_BYTES), 0);
	io_close(f);
	io_dir_close(d);
}

UNIT_TEST(spill_compresses_no_noise_and_nothing_reserved)
{
	struct io_dir *below = mem_disk(), *d = spill_over(below, MIB);
	struct io *f = open_file(d, "f", IO_CREATE), *g = open_file(d, "g", IO_CREATE);
	unsigned char *noise = malloc(MIB);
	uint64_t seed = 7, disk = avail(below);

	CHECK(noise != NULL);
	for (int i = 0; i < 3; i++) {
		unit_rand_fill(&seed, noise, MIB);
		CHECK_OK(io_pwrite_as(f, noise, MIB, i * MIB, IO_COLD));
	}
	CHECK_EQ(disk - avail(below), 2 * MIB);
	CHECK_EQ(io_packings(d), 0);
	CHECK_OK(io_truncate(f, 0));
	/* What fallocate has promised is written to without more space. */
	CHECK_OK(put_cold(g, 2 * MIB, 0, 1));
	CHECK_OK(io_allocate(g, 0, MIB));
	CHECK_OK(put_cold(g, 4 * MIB, 2 * MIB, 1));
	CHECK(io_is_allocated(g, 0, MIB));
	CHECK(!io_is_allocated(g, MIB, MIB));
	CHECK(has_cold(g, 6 * MIB, 0, 1));
	/* Until it is cut off. */
	CHECK_OK(io_truncate(g, 0));
	CHECK_OK(put_cold(g, 6 * MIB, 0, 1));
	CHECK(!io_is_allocated(g, 0, MIB));
	free(noise);
	io_close(f);
	io_close(g);
	io_dir_close(d);
}

/* Noise, until there is no room. */
static void fill_disk(struct io *g)
{
	int err = 0;

	for (uint64_t at = 0; at < 64 * MIB && !err; at += PIECE_BYTES) {
		unsigned char *noise = unit_allot(PIECE_BYTES);
		uint64_t seed = at + 1;

		unit_rand_fill(&seed, noise, PIECE_BYTES);
		err = io_pwrite_as(g, noise, PIECE_BYTES, at, IO_COLD);
		free(noise);
	}
	CHECK_EQ(err, -ENOSPC);
}

static bool is_zero(struct io *f, size_t n, uint64_t off)
{
	unsigned char *p = unit_allot(n);
	size_t i = 0;

	CHECK_OK(io_pread(f, p, n, off));
	while (i < n && !p[i])
		i++;
	free(p);
	return i == n;
}

UNIT_TEST(spill_that_is_compressed_is_cut_on_a_full_disk)
{
	struct io_dir *below = mem_disk(), *d = spill_over(below, MIB);
	struct io *f = open_file(d, "f", IO_CREATE), *g = open_file(d, "g", IO_CREATE);
	const uint64_t begin = 4 * MIB - PIECE_BYTES, at = begin + 10 * PAGE + 100;

	CHECK_OK(put_cold(f, 4 * MIB, 0, 1));
	io_mem_set_space(below, 4 * MIB);
	fill_disk(g);
	/* Within a page, shorter and shorter: what comes behind the end is zeros. */
	for (unsigned k = 0; k < 4; k++) {
		CHECK_OK(io_truncate(f, at - k * PAGE * 3 / 2));
		CHECK_OK(io_truncate(f, 4 * MIB));
		CHECK(has_cold(f, at - k * PAGE * 3 / 2, 0, 1));
		CHECK(is_zero(f, 4 * MIB - at, at) && is_zero(f, 300, at - k * PAGE * 3 / 2));
	}
	CHECK_EQ(put_cold(f, 10, at - 5 * PAGE, 2), -ENOSPC);
	CHECK_OK(io_truncate(g, 0));
	/* It goes to memory, or to another place, without what was cut. */
	CHECK_OK(put_cold(f, 10, begin, 2));
	CHECK(has_cold(f, begin, 0, 1) && has_cold(f, 10, begin, 2) && has_cold(f, at - PAGE * 9 / 2 - begin - 10, begin + 10, 1));
	CHECK(is_zero(f, PAGE * 9 / 2, at - PAGE * 9 / 2) && is_zero(f, 4 * MIB - at, at));
	io_close(f);
	io_close(g);
	io_dir_close(d);
}

UNIT_TEST(spill_that_is_compressed_survives_a_full_disk)
{
	struct io_dir *below = mem_disk(), *d;
	struct io *f, *g;
	uint64_t at;

	d = spill_over(below, MIB);
	f = open_file(d, "f", IO_CREATE);
	g = open_file(d, "g", IO_CREATE);
	CHECK_OK(put_cold(f, 4 * MIB, 0, 1));
	io_mem_set_space(below, 4 * MIB);
	fill_disk(g);
	/* An overwrite of what is compressed finds no room; nothing is lost by that. */
	CHECK_EQ(put_cold(f, 10, 5000, 2), -ENOSPC);
	CHECK(has_cold(f, 4 * MIB, 0, 1));
	/* Whole pages can be cut off all the same, and a whole piece gives its space back. */
	CHECK_OK(io_punch(f, PAGE, 3 * PAGE));
	CHECK_OK(io_seek(f, 0, true, &at));
	CHECK_EQ(at, PAGE);
	CHECK(has_cold(f, PAGE, 0, 1) && has_cold(f, 4 * MIB - 4 * PAGE, 4 * PAGE, 1));
	CHECK_OK(io_truncate(g, 0));
	CHECK_OK(put_cold(f, 10, 5000, 2));
	CHECK(has_cold(f, 10, 5000, 2) && has_cold(f, PAGE, 0, 1) && has_cold(f, 4 * MIB - 4 * PAGE, 4 * PAGE, 1));
	io_close(f);
	io_close(g);
	io_dir_close(d);
}

/* The disk is not asked for its space again before something goes there, or comes back. */
UNIT_TEST(spill_knows_its_space)
{
	struct io_dir *below = mem_disk(), *d = spill_over(below, MIB);
	struct io *f = open_file(d, "f", IO_CREATE), *g = open_file(below, "g", IO_CREATE);
	uint64_t all = avail(d);

	put(f, MIB, 0, 1);
	CHECK_EQ(avail(d), all - MIB);
	put(f, MIB, MIB, 1);
	CHECK_EQ(avail(d), all - 2 * MIB);
	put(f, PAGE, 3 * MIB, 1);
	CHECK_OK(io_allocate(f, 4 * MIB, 2 * MIB));
	CHECK_EQ(avail(d), all - 4 * MIB - PAGE);
	CHECK_OK(io_punch(f, 0, PAGE));
	CHECK_EQ(avail(d), all - 4 * MIB);
	CHECK_OK(io_truncate(f, 0));
	CHECK_EQ(avail(below) + MIB, all);
	CHECK(avail(d) + MIB / 8 + PIECE_BYTES >= all);
	/* What others take shows in a moment. */
	put(g, MIB, 0, 1);
	clock_sleep_ns(20000000);
	CHECK(avail(d) <= all - MIB);
	io_close(f);
	io_close(g);
	io_dir_close(d);
}

UNIT_TEST(spill_has_holes)
{
	struct io_dir *below = mem_disk(), *d = spill_over(below, MIB);
	struct io *f = open_file(d, "f", IO_CREATE);
	uint64_t at, far = (uint64_t)1 << 43;

	put(f, 1, far, 1);
	CHECK_EQ(stored(f), PAGE);
	CHECK_OK(io_seek(f, 0, false, &at));
	CHECK_EQ(at, far);
	CHECK_OK(io_seek(f, far, true, &at));
	CHECK_EQ(at, far + 1);
	CHECK_EQ(io_seek(f, far + 1, true, &at), -ENXIO);
	CHECK_OK(io_allocate(f, 0, 4 * PAGE));
	CHECK_OK(io_seek(f, 0, false, &at));
	CHECK_EQ(at, far);
	CHECK(io_is_allocated(f, 0, 4 * PAGE) && !io_is_allocated(f, 0, 5 * PAGE));
	CHECK_EQ(io_allocated(f, 0, far), 4 * PAGE);
	CHECK_EQ(io_allocated(f, PAGE + 5, far), 4 * PAGE - 5);
	CHECK(!io_find_allocated(f, far + PAGE, far, &at, &at));
	CHECK_EQ(stored(f), 5 * PAGE);
	/* What is reserved has its place on the disk, too. */
	put(f, 4 * MIB, 4 * MIB, 2);
	CHECK_EQ(stats_read(STAT_SPILL_DISK_BYTES), 3 * MIB + 5 * PAGE);
	CHECK(io_is_allocated(f, 0, 4 * PAGE));
	put(f, 10, 2 * PAGE + 7, 3);
	CHECK(has(f, 10, 2 * PAGE + 7, 3));
	CHECK_OK(io_truncate(f, 2 * PAGE + 12));
	CHECK_OK(io_truncate(f, 4 * PAGE));
	CHECK(has(f, 5, 2 * PAGE + 7, 3) && !has(f, 6, 2 * PAGE + 7, 3));
	CHECK_EQ(io_allocate(f, 0, (uint64_t)2 << 40), -ENOSPC);
	CHECK_EQ(stored(f), 3 * PAGE);
	io_close(f);
	io_dir_close(d);
}

/* ---- a disk without space, or that fails ---- */

UNIT_TEST(spill_loses_nothing_on_a_full_disk)
{
	struct io_dir *below = mem_disk(), *d = spill_over(below, MIB);
	struct io *f = open_file(d, "f", IO_CREATE);
	unsigned char *buf = calloc(1, MIB);
	uint64_t n = 0;
	int err = 0;

	io_mem_set_space(below, 2 * MIB);
	for (; !err; n += err ? 0 : 64 * KIB) {
		fill(buf, 64 * KIB, n, 5);
		err = io_pwrite(f, buf, 64 * KIB, n);
	}
	CHECK_EQ(err, -ENOSPC);
	CHECK_EQ(n, 3 * MIB);
	CHECK(has(f, 3 * MIB, 0, 5));
	CHECK_EQ(io_pwrite(f, buf, PAGE, 40 * MIB), -ENOSPC);
	CHECK_EQ(io_allocate(f, 40 * MIB, PAGE), -ENOSPC);
	put(f, 3 * MIB, 0, 6); /* what has a place can be written */
	CHECK_OK(io_punch(f, 0, MIB));
	put(f, MIB, 3 * MIB, 6);
	CHECK(has(f, 3 * MIB, MIB, 6));
	io_mem_set_space(below, 3 * MIB);
	put(f, MIB, 0, 6);
	CHECK(has(f, 4 * MIB, 0, 6));
	free(buf);
	io_close(f);
	io_dir_close(d);
}

UNIT_TEST(spill_passes_errors_of_the_disk_on)
{
	struct io_dir *below, *d;
	struct io *f;

	CHECK_OK(io_fault_dir(mem_disk(), &below));
	io_fault_arm(below, 1, -EIO, false);
	d = spill_over(below, MIB);
	f = open_file(d, "f", IO_CREATE);
	put(f, MIB, 0, 1);
	CHECK_EQ(io_pwrite(f, "x", 1, MIB), -EIO);
	CHECK(has(f, MIB, 0, 1));
	CHECK_EQ(stats_read(STAT_SPILL_DISK_BYTES), 0);
	io_fault_arm(below, 0, 0, false);
	put(f, MIB, MIB, 1);
	CHECK(has(f, 2 * MIB, 0, 1));
	io_fault_arm(below, 1, -EIO, false);
	CHECK_EQ(io_pwrite(f, "x", 1, 0), -EIO); /* on the disk */
	CHECK_EQ(io_truncate(f, 1), -EIO);
	io_fault_arm(below, 0, 0, false);
	CHECK_OK(io_truncate(f, 1));
	io_close(f);
	io_dir_close(d);
}

/* ---- threads ---- */

#define CROWD 4
#define CROWD_BYTES (2u * MIB)

struct crowd {
	struct io_dir *dir;
	struct io *shared;
	atomic_int next;
	bool cold;
};

/* Half of them can be compressed. */
static void put_in_crowd(const struct crowd *c, struct io *f, size_t n, uint64_t off, int me)
{
	if (!c->cold || me % 2)
		put(f, n, off, (unsigned)me);
	else
		CHECK_OK(put_cold(f, n, off, (unsigned)me));
}

static bool crowd_has(const struct crowd *c, struct io *f, size_t n, uint64_t off, int me)
{
	return !c->cold || me % 2 ? has(f, n, off, (unsigned)me) : has_cold(f, n, off, (unsigned)me);
}

/* Each writes its own strips of one file, and a file of its own that is cut again and again. */
static void *crowd_run(void *ctx)
{
	struct crowd *c = ctx;
	int me = atomic_fetch_add(&c->next, 1);
	char name[8] = { 'a' + me };
	struct io *own = open_file(c->dir, name, IO_CREATE);
	uint64_t seed = me + 1;

	for (int i = 0; i < 40; i++) {
		uint64_t strip = (unit_rand(&seed) % (CROWD_BYTES / (16 * KIB)) / CROWD * CROWD + me) * 16 * KIB;
		size_t n = unit_rand(&seed) % (300 * KIB) + 1;

		put_in_crowd(c, c->shared, 16 * KIB, strip, me);
		CHECK(crowd_has(c, c->shared, 16 * KIB, strip, me));
		put_in_crowd(c, own, n, i * 10000, me);
		CHECK(crowd_has(c, own, n, i * 10000, me));
		io_saved(c->shared, 0, CROWD_BYTES, i % 2);
		if (i % 8 == 7)
			CHECK_OK(io_truncate(own, 0));
		else if (i % 8 == 3)
			CHECK_OK(io_punch(own, 0, 70000));
		avail(c->dir);
	}
	io_close(own);
	CHECK_OK(io_unlink(c->dir, name));
	return NULL;
}

static void crowd(struct io_dir *dir, bool cold)
{
	struct crowd c = { .dir = dir, .cold = cold };
	pthread_t threads[CROWD];

	c.shared = open_file(c.dir, "shared", IO_CREATE);
	for (int i = 0; i < CROWD; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, crowd_run, &c), 0);
	for (int i = 0; i < CROWD; i++)
		pthread_join(threads[i], NULL);
	io_close(c.shared);
	io_dir_close(c.dir);
	CHECK_EQ(stats_read(STAT_SPILL_MEMORY_BYTES), 0);
	CHECK_EQ(stats_read(STAT_SPILL_DISK_BYTES), 0);
}

UNIT_TEST(spill_by_many_threads)
{
	for (int cold = 0; cold < 2; cold++) {
		crowd(spill_over(mem_disk(), 0), cold);
		crowd(spill_over(mem_disk(), PIECE_BYTES), cold);
		crowd(spill_over(mem_disk(), 5 * PIECE_BYTES / 2), cold);
		crowd(spill_over(real_dir(IO_BACKING_AUTO), MIB), cold);
		crowd(spill_over(real_dir(IO_BACKING_DIRECT), MIB), cold);
	}
	hurry(true);
	crowd(spill_over(mem_disk(), 0), true);
	crowd(spill_over(real_dir(IO_BACKING_AUTO), PIECE_BYTES), true);
	hurry(false);
}

/* ---- a real directory ---- */

static int count_entries(const char *path)
{
	DIR *s = opendir(path);
	int n = 0;

	while (readdir(s))
		n++;
	closedir(s);
	return n - 2;
}

UNIT_TEST(spill_has_no_name_on_the_disk)
{
	const char *path = unit_tmpdir();
	struct io_dir *below = real_dir_at(path, IO_BACKING_AUTO), *d;
	struct io *f;

	io_close(open_file(below, "other", IO_CREATE));
	d = spill_over(below, MIB);
	f = open_file(d, "f", IO_CREATE);
	put(f, 8 * MIB, 0, 1);
	CHECK_EQ(stats_read(STAT_SPILL_DISK_BYTES), 7 * MIB);
	CHECK_EQ(count_entries(path), 1);
	CHECK(has(f, 8 * MIB, 0, 1));
	io_close(f);
	io_dir_close(d);
}

/* ---- damage on the disk ---- */

/* A descriptor of the file that this process has in a directory without a name. */
static int open_nameless(const char *dir)
{
	char path[280], target[512];
	DIR *s = opendir("/proc/self/fd");
	struct dirent *e;
	int fd = -1;

	while (fd < 0 && (e = readdir(s))) {
		ssize_t len;

		snprintf(path, sizeof(path), "/proc/self/fd/%s", e->d_name);
		len = readlink(path, target, sizeof(target) - 1);
		target[len > 0 ? len : 0] = '\0';
		if (!strncmp(target, dir, strlen(dir)) && strstr(target, "(deleted)"))
			fd = open(path, O_RDWR);
	}
	closedir(s);
	return fd;
}

/* Turns a bit in the first page of data, which is part of the first piece of the only file. */
static void turn_bit(const char *dir)
{
	int fd = open_nameless(dir);
	off_t at = lseek(fd, 0, SEEK_DATA);
	char c;

	CHECK(at >= 0);
	CHECK_EQ(pread(fd, &c, 1, at + 1000), 1);
	c ^= 4;
	CHECK_EQ(pwrite(fd, &c, 1, at + 1000), 1);
	close(fd);
}

/* A file of one piece that has gone to the disk: reading it is an error, but for what was written anew. */
static void damage_is_seen(struct io_dir *d, const char *dir, unsigned how)
{
	struct io *f = open_file(d, "f", IO_CREATE), *next = open_file(d, "next", IO_CREATE);
	unsigned char *p = unit_allot(256 * KIB), page[4096];

	fill_cold(p, 256 * KIB, 0, 1);
	CHECK_OK(io_pwrite_as(f, p, 256 * KIB, 0, how));
	CHECK_OK(io_pwrite(next, p, 256 * KIB, 0));
	CHECK_OK(io_pread(f, p, 256 * KIB, 0));
	turn_bit(dir);
	CHECK_EQ(io_pread(f, p, 256 * KIB, 0), -EUCLEAN);
	CHECK(strstr(err_text(-EUCLEAN), "scratch/"));
	memset(p, 7, 256 * KIB);
	CHECK_OK(io_pwrite_as(f, p, 256 * KIB, 0, how));
	CHECK_OK(io_pread(f, page, sizeof(page), 0));
	CHECK_EQ(page[1000], 7);
	free(p);
	io_close(next);
	io_close(f);
	io_dir_close(d);
}

UNIT_TEST(spill_sees_damage_of_what_is_compressed)
{
	const char *path = unit_tmpdir();

	damage_is_seen(spill_over(real_dir_at(path, IO_BACKING_AUTO), 256 * KIB), path, IO_COLD);
}

/* ---- encrypted ---- */

#ifdef HAVE_LIBCRYPTO

UNIT_TEST(spill_encrypted_agrees_with_mem)
{
	script_run(encrypted_over(mem_disk(), 0), 0, 41);
	script_run(encrypted_over(mem_disk(), 900 * KIB), 900 * KIB, 42);
	script_run(encrypted_over(real_dir(IO_BACKING_AUTO), MIB), MIB, 43);
	script_run(encrypted_over(real_dir(IO_BACKING_DIRECT), 0), 0, 44);
	crowd(encrypted_over(mem_disk(), 0), false);
	crowd(encrypted_over(real_dir(IO_BACKING_AUTO), MIB), true);
}

/* A sector in each place: the sums of a place are kept together. */
UNIT_TEST(spill_encrypted_has_sums_in_its_budget)
{
	struct io_dir *d = encrypted_over(mem_disk(), MIB);
	struct io *f = open_file(d, "f", IO_CREATE);
	const uint64_t n = 1500, sums = n * PIECE_BYTES / PAGE * sizeof(uint64_t);
	uint64_t held;

	for (uint64_t i = 0; i < n; i++)
		put(f, PAGE, i * PIECE_BYTES, 1);
	held = stats_read(STAT_MEMORY_SUMS_BYTES);
	CHECK(held > sums * 9 / 10 && held < sums * 11 / 10);
	CHECK(held + stats_read(STAT_SPILL_MEMORY_BYTES) < MIB + 32 * KIB); /* the list may have grown since */
	CHECK(stats_read(STAT_SPILL_MEMORY_BYTES) > 100 * KIB);
	for (uint64_t i = 0; i < n; i++)
		CHECK(has(f, PAGE, i * PIECE_BYTES, 1));
	/* They go with the places, and the memory is the files' again. */
	CHECK_OK(io_truncate(f, 0));
	CHECK(stats_read(STAT_MEMORY_SUMS_BYTES) < 32 * KIB);
	put(f, 900 * KIB, 0, 2);
	CHECK_EQ(stats_read(STAT_SPILL_DISK_BYTES), 0);
	CHECK(has(f, 900 * KIB, 0, 2));
	io_close(f);
	io_dir_close(d);
	CHECK_EQ(stats_read(STAT_MEMORY_SUMS_BYTES), 0);
}

/* Vector 10 of IEEE 1619, appendix B, which is the begin of a longer sector here. */
UNIT_TEST(cipher_is_aes_256_xts)
{
	static const unsigned char key[CIPHER_KEY_BYTES] = {
		0x27, 0x18, 0x28, 0x18, 0x28, 0x45, 0x90, 0x45, 0x23, 0x53, 0x60, 0x28, 0x74, 0x71, 0x35, 0x26,
		0x62, 0x49, 0x77, 0x57, 0x24, 0x70, 0x93, 0x69, 0x99, 0x59, 0x57, 0x49, 0x66, 0x96, 0x76, 0x27,
		0x31, 0x41, 0x59, 0x26, 0x53, 0x58, 0x97, 0x93, 0x23, 0x84, 0x62, 0x64, 0x33, 0x83, 0x27, 0x95,
		0x02, 0x88, 0x41, 0x97, 0x16, 0x93, 0x99, 0x37, 0x51, 0x05, 0x82, 0x09, 0x74, 0x94, 0x45, 0x92,
	};
	static const unsigned char want[32] = {
		0x1c, 0x3b, 0x3a, 0x10, 0x2f, 0x77, 0x03, 0x86, 0xe4, 0x83, 0x6c, 0x99, 0xe3, 0x70, 0xcf, 0x9b,
		0xea, 0x00, 0x80, 0x3f, 0x5e, 0x48, 0x23, 0x57, 0xa4, 0xae, 0x12, 0xd4, 0x14, 0xa3, 0xe6, 0x3b,
	};
	unsigned char plain[CIPHER_SECTOR], got[CIPHER_SECTOR];
	struct io_dir *d = mem_disk();
	struct io *below = open_file(d, "f", IO_CREATE), *raw = open_file(d, "f", IO_RDONLY), *f;
	_Atomic uint64_t held_bytes = 0;
	struct cipher_key *k;

	for (size_t i = 0; i < sizeof(plain); i++)
		plain[i] = (unsigned char)i;
	CHECK_OK(cipher_key_new(&k));
	memcpy(k->bytes, key, sizeof(key));
	CHECK_OK(cipher_wrap(below, k, &held_bytes, &f));
	CHECK_OK(io_pwrite(f, plain, sizeof(plain), 0xff * CIPHER_SECTOR));
	CHECK_OK(io_pread(raw, got, sizeof(got), 0xff * CIPHER_SECTOR));
	CHECK(memcmp(got, want, sizeof(want)) == 0);
	CHECK_OK(io_pwrite(f, "part", 4, 0xff * CIPHER_SECTOR + 77));
	memcpy(plain + 77, "part", 4);
	CHECK_OK(io_pread(f, got, sizeof(got), 0xff * CIPHER_SECTOR));
	CHECK(memcmp(got, plain, sizeof(plain)) == 0);
	io_close(f);
	io_close(raw);
	io_dir_close(d);
}

/* How often a text stands in what this process has in a directory without a name. */
static int on_disk(const char *dir, const char *text, uint64_t *bytes)
{
	int fd = open_nameless(dir), n = 0;
	unsigned char *p = unit_allot(16 * MIB);
	ssize_t len = pread(fd, p, 16 * MIB, 0);

	*bytes = (uint64_t)len;
	for (unsigned char *at = p; (at = memmem(at, (size_t)(p + len - at), text, strlen(text))); at++)
		n++;
	free(p);
	close(fd);
	return n;
}

UNIT_TEST(spill_encrypted_has_no_plaintext_on_the_disk)
{
	static const char text[] = "nobody else may read this";

	for (int encrypted = 0; encrypted < 2; encrypted++) {
		const char *path = unit_tmpdir();
		struct io_dir *below = real_dir_at(path, IO_BACKING_AUTO), *d = encrypted ? encrypted_over(below, MIB) : spill_over(below, MIB);
		struct io *f = open_file(d, "f", IO_CREATE);
		uint64_t bytes;
		char got[sizeof(text)];

		for (uint64_t off = 0; off < 8 * MIB; off += 1000)
			CHECK_OK(io_pwrite(f, text, sizeof(text), off));
		CHECK_EQ(on_disk(path, text, &bytes) > 0, !encrypted);
		CHECK(bytes >= 7 * MIB);
		CHECK_OK(io_pwrite(f, "overwritten", 11, 5));
		for (uint64_t off = 1000; off < 8 * MIB; off += 1000) {
			CHECK_OK(io_pread(f, got, sizeof(got), off));
			CHECK(memcmp(got, text, sizeof(text)) == 0);
		}
		CHECK_EQ(on_disk(path, "overwritten", &bytes) > 0, !encrypted);
		io_close(f);
		io_dir_close(d);
	}
}

/* The same bytes are others on the disk of another mount, and at another place. */
UNIT_TEST(cipher_repeats_nothing)
{
	unsigned char plain[2 * CIPHER_SECTOR] = { 0 }, got[2][2 * CIPHER_SECTOR];

	for (int i = 0; i < 2; i++) {
		struct io_dir *d = mem_disk();
		struct io *below = open_file(d, "f", IO_CREATE), *raw = open_file(d, "f", IO_RDONLY), *f;
		_Atomic uint64_t held_bytes = 0;
		struct cipher_key *k;

		CHECK_OK(cipher_key_new(&k));
		CHECK_OK(cipher_wrap(below, k, &held_bytes, &f));
		CHECK_OK(io_pwrite(f, plain, sizeof(plain), 0));
		CHECK_OK(io_pread(raw, got[i], sizeof(got[i]), 0));
		CHECK(memcmp(got[i], got[i] + CIPHER_SECTOR, CIPHER_SECTOR) != 0);
		io_close(f);
		io_close(raw);
		io_dir_close(d);
	}
	CHECK(memcmp(got[0], got[1], sizeof(got[0])) != 0);
}

UNIT_TEST(spill_encrypted_sees_damage)
{
	const char *path = unit_tmpdir();

	damage_is_seen(encrypted_over(real_dir_at(path, IO_BACKING_AUTO), 0), path, 0);
}

/* Also what was there before, at the same place. */
UNIT_TEST(cipher_sees_what_others_write)
{
	unsigned char plain[3 * CIPHER_SECTOR], was[CIPHER_SECTOR], got[CIPHER_SECTOR];
	struct io_dir *d = mem_disk();
	struct io *below = open_file(d, "f", IO_CREATE), *raw = open_file(d, "f", IO_CREATE), *f;
	_Atomic uint64_t held_bytes = 0;
	struct cipher_key *k;

	CHECK_OK(cipher_key_new(&k));
	CHECK_OK(cipher_wrap(below, k, &held_bytes, &f));
	memset(plain, 1, sizeof(plain));
	CHECK_OK(io_pwrite(f, plain, sizeof(plain), 0));
	CHECK_OK(io_pread(raw, was, sizeof(was), CIPHER_SECTOR));
	CHECK_OK(io_pwrite(f, "later", 5, CIPHER_SECTOR));
	CHECK_OK(io_pread(f, got, sizeof(got), CIPHER_SECTOR));
	CHECK_OK(io_pwrite(raw, was, sizeof(was), CIPHER_SECTOR));
	CHECK_EQ(io_pread(f, got, sizeof(got), CIPHER_SECTOR), -EUCLEAN);
	CHECK_EQ(io_pwrite(f, "part", 4, CIPHER_SECTOR + 9), -EUCLEAN);
	CHECK_OK(io_pread(f, got, sizeof(got), 0));
	CHECK_OK(io_pread(f, got, sizeof(got), 2 * CIPHER_SECTOR));
	CHECK_OK(io_pwrite(f, plain, CIPHER_SECTOR, CIPHER_SECTOR));
	CHECK_OK(io_pread(f, got, sizeof(got), CIPHER_SECTOR));
	CHECK(memcmp(got, plain, sizeof(got)) == 0);
	CHECK_OK(io_punch(f, 0, sizeof(plain)));
	CHECK_OK(io_pwrite(f, plain, sizeof(plain), 0));
	CHECK_OK(io_pread(f, got, sizeof(got), 0));
	io_close(f);
	io_close(raw);
	io_dir_close(d);
}

#else

UNIT_TEST(spill_refuses_to_encrypt_without_libcrypto)
{
	CHECK(!encrypted_over(mem_disk(), 0));
}

#endif
