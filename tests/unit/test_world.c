/*
 * The whole stack in memory: pools, columns, layers, meta.db, commits, snapshots and views over io/mem and io/fault. All that
 * was committed is there after a close, a cut of the power, a failing disk; a full one loses nothing and gives back.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "block/codec.h"
#include "spillfs.h"
#include "store/classes.h"
#include "store/commit.h"
#include "store/layers/compact.h"
#include "store/mark.h"
#include "store/rebuild.h"
#include "unit.h"
#include "util/buf.h"
#include "util/clock.h"
#include "util/stats.h"
#include "world.h"

/* Inline or one page; a file of its own; several blocks and regions. */
static const size_t sizes[] = { 3000, 80000, 400000 };
#define NSIZES 3u
#define BYTES_MAX 400000u

/* Half of it compresses. Never two alike. */
static const unsigned char *bytes_of(unsigned round, size_t kind, size_t i)
{
	static unsigned char p[BYTES_MAX];
	uint64_t state = round * 64 + kind * 8 + i + 1;

	for (size_t k = 0; k < sizes[i]; k++)
		p[k] = (unsigned char)(k / 1024 % 2 ? unit_rand(&state) : (k / 8 ^ round));
	return p;
}

/* Files of all kinds and sizes, new ones in each round. */
static int write_round(struct world *w, unsigned round, size_t nsizes)
{
	char name[32];
	int err = 0;

	for (size_t k = 0; k < CLASSES_N && !err; k++) {
		for (size_t i = 0; i < nsizes && !err; i++) {
			snprintf(name, sizeof(name), "r%u-%zu.u8", round, i);
			err = world_write(w, classes[k].ino, name, bytes_of(round, k, i), sizes[i]);
		}
	}
	return err;
}

static void check_round(struct world *w, unsigned round, size_t nsizes)
{
	char path[64];

	for (size_t k = 0; k < CLASSES_N; k++) {
		for (size_t i = 0; i < nsizes; i++) {
			snprintf(path, sizeof(path), "%s/r%u-%zu.u8", classes[k].name, round, i);
			if (!world_holds(w, path, bytes_of(round, k, i), sizes[i]))
				unit_fail(__FILE__, __LINE__, "%s is not what was committed", path);
		}
	}
}

/* layers/again is written anew in each round: blocks are never changed in place, so a state is one or the other. */
static bool is_again_of(struct world *w, unsigned round)
{
	return world_holds(w, "layers/again", bytes_of(round, 0, 1), sizes[1]);
}

static int write_again(struct world *w, unsigned round)
{
	return world_write(w, META_INO_LAYERS, "again", bytes_of(round, 0, 1), sizes[1]);
}

/* ---- one life after another ---- */

/* A view: the array's bytes behind a header. */
static bool view_ends_with(struct world *w, const char *path, const void *p, size_t n)
{
	unsigned char *got;
	size_t len;
	bool same;

	if (world_read(w, path, &got, &len))
		return false;
	same = len > n && !memcmp(got + len - n, p, n) && !memcmp(got, "\x93NUMPY", 6);
	free(got);
	return same;
}

static void check_views(struct world *w, unsigned round)
{
	unsigned char *got;
	char path[64];
	size_t len;

	for (size_t k = 0; k < CLASSES_N; k++) {
		for (size_t i = 0; i < NSIZES; i++) {
			snprintf(path, sizeof(path), "views/npy/%s/r%u-%zu.npy", classes[k].name, round, i);
			CHECK(view_ends_with(w, path, bytes_of(round, k, i), sizes[i]));
		}
	}
	snprintf(path, sizeof(path), "views/parquet/layers/r%u-2.parquet", round);
	CHECK_OK(world_read(w, path, &got, &len));
	CHECK(len > sizes[2] / 2 && !memcmp(got, "PAR1", 4) && !memcmp(got + len - 4, "PAR1", 4));
	free(got);
}

UNIT_TEST(memory_holds_a_store)
{
	struct io_dir *disk = world_disk();
	struct tree_attr a;
	struct world w;

	world_open(&w, disk, &world_config);
	CHECK(stats_read(STAT_THREADS) >= 3); /* of work and commit */
	CHECK_OK(write_round(&w, 1, NSIZES));
	CHECK_OK(write_again(&w, 1));
	CHECK_OK(world_snapshot(&w, "one"));
	CHECK_OK(write_again(&w, 2));
	CHECK_OK(world_commit(&w));
	for (int life = 0; life < 2; life++) {
		check_round(&w, 1, NSIZES);
		check_views(&w, 1);
		CHECK(is_again_of(&w, 2));
		CHECK(world_holds(&w, "snapshots/one/layers/again", bytes_of(1, 0, 1), sizes[1]));
		CHECK(world_holds(&w, "snapshots/one/layers/r1-2.u8", bytes_of(1, 2, 2), sizes[2]));
		CHECK_OK(world_close(&w));
		CHECK_EQ(stats_read(STAT_THREADS), 0);
		world_open(&w, disk, &world_config);
	}
	CHECK_OK(tree_rmdir(w.tree, world_walk(&w, "snapshots", &a) ? 0 : a.st.st_ino, "one"));
	CHECK_OK(world_close(&w));
	CHECK(world_has(disk, "meta.db") && !world_has(disk, "meta.db-wal") && !world_has(disk, "meta.db-shm"));
	CHECK(!world_has(disk, "meta.db-journal"));
}

/* Files of columns/ that no inode has go at the next mount, if their names are those of columns. */
UNIT_TEST(other_files_of_columns_stay)
{
	static const char *const others[] = { "columns/007", "columns/+7", "columns/-1", "columns/18446744073709551615", "columns/ 7" };
	struct io_dir *disk = world_disk();
	struct world w;

	world_open(&w, disk, &world_config);
	CHECK_OK(world_close(&w));
	CHECK_OK(io_replace(disk, "columns/7", "tmp", "", 0));
	for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
		CHECK_OK(io_replace(disk, others[i], "tmp", "", 0));
	world_open(&w, disk, &world_config);
	CHECK(!world_has(disk, "columns/7"));
	for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
		CHECK(world_has(disk, others[i]));
	CHECK_OK(world_write(&w, META_INO_COLUMNS, "c", bytes_of(1, 2, 2), sizes[2]));
	CHECK(world_has(disk, "columns/1"));
	CHECK_OK(world_close(&w));
}

UNIT_TEST(a_mark_has_a_version_and_a_uuid)
{
	static const char *const bad[] = {
		"spillfs 2", "spillfs 2\n", "spillfs 2\nuuid ", "spillfs 2\nuuid 01234567-89ab-4def-8123-456789abcde\n",
		"spillfs 2\nuuid 01234567-89ab-4def-8123-456789abcdef0\n", "spillfs 2\nuuid 0123456789ab4def8123456789abcdef\n",
		"spillfs 2\nuuid g1234567-89ab-4def-8123-456789abcdef\n",
	};
	uint8_t uuid[16] = { 1 }, again[16];
	char text[MARK_TEXT_MAX];
	size_t n;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		CHECK_EQ(mark_uuid(bad[i], uuid), -EINVAL);
	CHECK_EQ(uuid[0], 1);
	CHECK_OK(mark_uuid_new(uuid));
	n = mark_text(UINT_MAX, uuid, text);
	CHECK_EQ(n, strlen(text));
	CHECK_EQ(mark_version(text), UINT_MAX);
	CHECK_OK(mark_uuid(text, again));
	CHECK(!memcmp(uuid, again, sizeof(uuid)));
	CHECK_EQ(mark_version("spillfs 99999999999999999999\n"), UINT_MAX);
	CHECK_EQ(mark_version("spillfs -2\n") + mark_version("spillfs\n") + mark_version("") + mark_version("Spillfs 2\n"), 0);
}

/* Stands still. */
static int64_t no_time(void)
{
	return 0;
}

static void no_sleep(int64_t ns)
{
	(void)ns;
}

/* Another program that reads it is waited for, and then told of. */
UNIT_TEST(meta_db_is_the_stores_alone)
{
	static const struct clock_ops hasty = { .now_ns = no_time, .monotonic_ns = no_time, .sleep_ns = no_sleep };
	struct io_dir *disk = world_disk(), *dir;
	struct store_refusal why;
	struct io *db, *log;
	struct store *s;
	struct world w;

	world_open(&w, disk, &world_config);
	CHECK_OK(io_open(disk, "meta.db", IO_PINNED, &db));
	CHECK_EQ(io_lock(db, 0x40000000, 512), -EWOULDBLOCK); /* the bytes that SQLite locks */
	CHECK_OK(world_close(&w));
	CHECK_OK(io_lock(db, 0x40000000, 512));
	CHECK_OK(io_mem_again(disk, &dir));
	clock_replace(&hasty);
	CHECK_EQ(store_open(dir, "/the/store", &world_config, &s, &why), -EBUSY);
	CHECK(!strcmp(why.text, "/the/store/meta.db: another program has it open"));
	clock_replace(NULL);
	io_close(db);
	/* The index of the log that an earlier spillfs has left goes. */
	CHECK_OK(io_open(disk, "meta.db-shm", IO_CREATE, &log));
	io_close(log);
	world_open(&w, disk, &world_config);
	CHECK(!world_has(disk, "meta.db-shm"));
	CHECK_OK(world_close(&w));
}

/* ---- power ---- */

#define NROUNDS 4u

/* All that was committed is there; the rest is there or not, and harms nothing. */
static void check_after_cut(struct world *w, unsigned committed)
{
	for (unsigned round = 1; round <= committed; round++)
		check_round(w, round, 2);
	CHECK(is_again_of(w, committed) || is_again_of(w, committed + 1));
}

static void lose_power(struct world *w, struct io_dir *disk, uint64_t seed)
{
	CHECK_OK(io_mem_cut_power(disk, seed));
	world_close(w);
	world_open(w, disk, &world_config);
}

UNIT_TEST(power_may_go_after_each_commit)
{
	for (uint64_t seed = 0; seed < 6; seed++) {
		struct io_dir *disk = world_disk();
		struct world w;

		world_open(&w, disk, &world_config);
		for (unsigned round = 1; round <= NROUNDS; round++) {
			if (round == 3) { /* with a log that is new in this life */
				CHECK_OK(world_close(&w));
				world_open(&w, disk, &world_config);
			}
			CHECK_OK(write_round(&w, round, 2));
			CHECK_OK(write_again(&w, round));
			CHECK_OK(round % 2 ? world_commit(&w) : tree_sync(w.tree));
			if (seed % 2) { /* in the middle of the next round */
				CHECK_OK(write_round(&w, 100 + round, 2));
				CHECK_OK(write_again(&w, round + 1));
			}
			lose_power(&w, disk, seed);
			check_after_cut(&w, round);
		}
		CHECK_OK(world_close(&w));
		world_open(&w, disk, &world_config);
		check_after_cut(&w, NROUNDS);
		CHECK_OK(world_close(&w));
	}
}

UNIT_TEST(power_may_go_with_a_snapshot)
{
	struct io_dir *disk = world_disk();
	struct world w;

	world_open(&w, disk, &world_config);
	CHECK_OK(write_again(&w, 1));
	CHECK_OK(world_snapshot(&w, "one"));
	CHECK_OK(write_again(&w, 2));
	lose_power(&w, disk, 0);
	CHECK(is_again_of(&w, 1));
	CHECK(world_holds(&w, "snapshots/one/layers/again", bytes_of(1, 0, 1), sizes[1]));
	CHECK_OK(world_close(&w));
}

/* ---- a failing disk ---- */

/* By rounds: was all of it answered with success, and then a commit? */
struct promised {
	bool files[3], again[3], snapshot;
};

static void live(struct world *w, struct promised *out)
{
	struct promised now = { .files = { false } };

	for (unsigned round = 1; round <= 2; round++) {
		now.files[round] = !write_round(w, round, 2);
		now.again[round] = !write_again(w, round);
		if (round == 1 ? !world_commit(w) : !world_snapshot(w, "s")) {
			now.snapshot = round == 2;
			*out = now;
		}
	}
}

/* dead: nothing that failed was followed by anything that did not. */
static void check_promised(struct world *w, const struct promised *p, bool dead)
{
	struct tree_attr a;

	for (unsigned round = 1; round <= 2; round++)
		if (p->files[round])
			check_round(w, round, 2);
	/* A write that failed in the middle may have been committed so. */
	if (p->again[2])
		CHECK(is_again_of(w, 2));
	else if (p->again[1])
		CHECK(is_again_of(w, 1) || is_again_of(w, 2) || (!dead && !world_walk(w, "layers/again", &a)));
	if (p->snapshot && p->again[2])
		CHECK(world_holds(w, "snapshots/s/layers/again", bytes_of(2, 0, 1), sizes[1]));
}

enum failing { FAILS_ONCE, DIES, DIES_IN_A_WRITE /* half of it is made */ };

/* The n-th change fails, or all from there on. How many there were. cut: and then the power goes. */
static uint64_t live_on_failing_disk(uint64_t n, enum failing how, bool cut)
{
	struct io_dir *disk = world_disk(), *faults = world_faults(disk);
	struct promised promised = { .files = { false } };
	struct world w;
	uint64_t count;

	CHECK_OK(world_open_dir(&w, faults, &world_config));
	CHECK_OK(tree_sync(w.tree));
	if (how == DIES_IN_A_WRITE)
		io_fault_arm(faults, n, -EIO, true);
	else
		io_fault_fail_at(faults, n, how == FAILS_ONCE ? 1 : 0, -EIO, NULL);
	live(&w, &promised);
	count = io_fault_count(faults);
	if (cut)
		CHECK_OK(io_mem_cut_power(disk, n));
	world_close(&w);
	world_open(&w, disk, &world_config);
	check_promised(&w, &promised, how != FAILS_ONCE);
	CHECK_OK(write_round(&w, 3, 2));
	CHECK_OK(world_close(&w));
	return count;
}

#define NEVER (1u << 30)

UNIT_TEST(a_disk_that_fails_once_loses_nothing)
{
	uint64_t count = live_on_failing_disk(NEVER, FAILS_ONCE, false);

	CHECK(count > 60);
	for (uint64_t n = 1; n <= count; n++)
		live_on_failing_disk(n, FAILS_ONCE, false);
}

UNIT_TEST(a_disk_that_dies_loses_nothing)
{
	uint64_t count = live_on_failing_disk(NEVER, DIES, true);

	CHECK(count > 60);
	for (uint64_t n = 1; n <= count; n++)
		live_on_failing_disk(n, n % 3 ? DIES : DIES_IN_A_WRITE, n % 2);
}

/* ---- few descriptors ---- */

/* A store that nobody has closed: a snapshot of a sealed layer, an open layer that was committed, and behind it, because that was begun
 * before and made in its place, the full layer that the state builds upon. */
static struct io_dir *disk_with_an_open_layer(void)
{
	struct io_dir *disk = world_disk();
	struct compact *c;
	bool more = true;
	struct world w;

	world_open(&w, disk, &world_config);
	CHECK_OK(write_round(&w, 1, NSIZES));
	CHECK_OK(write_again(&w, 1));
	CHECK_OK(world_snapshot(&w, "one"));
	CHECK_OK(write_again(&w, 3));
	CHECK_OK(world_commit(&w));
	CHECK_OK(compact_plan(w.store->layers, COMPACT_ALL, &c));
	while (more)
		CHECK_OK(compact_step(c, UINT64_MAX, &more));
	CHECK_OK(write_again(&w, 2));
	CHECK_OK(tree_sync(w.tree));
	CHECK_OK(compact_install(c, commit_number(w.store->commit) + 1, 0));
	CHECK_OK(tree_sync(w.tree));
	compact_free(c);
	CHECK_OK(io_mem_cut_power(disk, 0));
	world_close(&w);
	CHECK(world_has(disk, "layers/00000003.zst") && world_has(disk, "layers/00000004.zst"));
	return disk;
}

static void check_layers_of(struct io_dir *disk, bool buckets)
{
	struct world w;

	world_open(&w, disk, &world_config);
	if (buckets)
		check_round(&w, 1, NSIZES);
	CHECK(world_holds(&w, "layers/r1-2.u8", bytes_of(1, 2, 2), sizes[2]));
	CHECK(is_again_of(&w, 2));
	CHECK(world_holds(&w, "snapshots/one/layers/again", bytes_of(1, 0, 1), sizes[1]));
	CHECK_OK(world_close(&w));
}

static void say_nothing(void *ctx, const char *line)
{
	(void)ctx;
	(void)line;
}

static const int passing[] = { -EMFILE, -ENOMEM, -EINTR };

/* An error that passes says nothing of what is there. */
UNIT_TEST(a_mount_without_descriptors_deletes_nothing)
{
	unsigned nfailed = 0;
	bool reached = true;

	for (uint64_t n = 1; reached; n++) {
		struct io_dir *disk = disk_with_an_open_layer(), *faults = world_faults(disk);
		struct world w;

		io_fault_fail_open(faults, n, 1, passing[n % 3]);
		if (!world_open_dir(&w, faults, &world_config)) {
			reached = io_fault_fail_open(faults, 0, 0, 0) >= n;
			CHECK_OK(world_close(&w));
		} else {
			nfailed++;
		}
		check_layers_of(disk, true);
	}
	CHECK(nfailed > 3);
}

static int64_t true_time(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return clock_ns(ts);
}

static int true_wait(pthread_cond_t *c, pthread_mutex_t *m, int64_t until_ns)
{
	struct timespec ts = clock_timespec(until_ns);

	return pthread_cond_timedwait(c, m, &ts);
}

static void not_sleep(int64_t ns)
{
	(void)ns;
}

/* A rebuild that was cut short has left an empty meta.db, and layers. */
UNIT_TEST(a_half_rebuilt_store_keeps_its_layers)
{
	static const struct clock_ops clock = { .now_ns = true_time, .monotonic_ns = true_time, .sleep_ns = not_sleep, .wait = true_wait };
	unsigned nfailed = 0;
	int err = -EMFILE;

	clock_replace(&clock);
	for (uint64_t n = 1; err != -EUCLEAN; n++) {
		struct io_dir *disk = disk_with_an_open_layer(), *faults = world_faults(disk);
		struct rebuild_report report;
		struct store_refusal why;
		struct world w;

		CHECK_OK(io_replace(disk, "meta.db", "tmp", "", 0));
		CHECK_OK(io_replace(disk, "meta.db-wal", "tmp", "", 0));
		io_fault_fail_open(faults, n, UINT64_MAX, passing[n % 3]);
		err = world_open_dir(&w, faults, &world_config);
		/* No opening from the n-th on comes about, which refuses the mount; without an n-th, the empty meta.db does. */
		CHECK(err);
		nfailed += err != -EUCLEAN;
		CHECK_OK(io_mem_again(disk, &faults));
		CHECK_OK(store_rebuild(faults, NULL, "test", true, say_nothing, NULL, &report, &why));
		check_layers_of(disk, false);
	}
	CHECK(nfailed > 3);
	clock_replace(NULL);
}

/* The open layer has a lower number than the full one that HEAD names. */
UNIT_TEST(a_follower_takes_an_open_layer_for_what_it_is)
{
	struct io_dir *disk = disk_with_an_open_layer();
	struct store_config config = world_config;
	uint64_t before = stats_read(STAT_CORRUPTIONS);
	struct world w;

	config.follow = true;
	world_open(&w, disk, &config);
	CHECK(is_again_of(&w, 3));
	CHECK(world_holds(&w, "snapshots/one/layers/again", bytes_of(1, 0, 1), sizes[1]));
	CHECK_OK(world_close(&w));
	CHECK_EQ(stats_read(STAT_CORRUPTIONS), before);
}

/* A sealed layer of the past that has lost its end is damaged, and is said to be. */
UNIT_TEST(a_follower_takes_a_damaged_layer_for_what_it_is)
{
	struct io_dir *disk = world_disk();
	struct store_config config = world_config;
	uint64_t size, stored, before;
	struct world w;
	struct io *f;

	config.keep = 4;
	world_open(&w, disk, &config);
	for (unsigned round = 1; round <= 3; round++) {
		CHECK_OK(write_again(&w, round));
		CHECK_OK(world_commit(&w));
	}
	world_compact(&w);
	CHECK_OK(world_close(&w));
	CHECK_OK(io_open(disk, "layers/00000001.zst", 0, &f));
	CHECK_OK(io_size(f, &size, &stored));
	CHECK_OK(io_pwrite(f, "damaged", 7, size - 7));
	io_close(f);
	before = stats_read(STAT_CORRUPTIONS);
	config.follow = true;
	world_open(&w, disk, &config);
	CHECK(is_again_of(&w, 3));
	CHECK_OK(world_close(&w));
	CHECK_EQ(stats_read(STAT_CORRUPTIONS), before + 1);
}

/* ---- a rebuild that is cut short ---- */

/* A store of which no layer was sealed. */
static struct io_dir *disk_never_sealed(void)
{
	struct io_dir *disk = world_disk();
	struct world w;

	world_open(&w, disk, &world_config);
	CHECK_OK(write_round(&w, 1, NSIZES));
	CHECK_OK(write_again(&w, 2));
	CHECK_OK(tree_sync(w.tree));
	CHECK_OK(io_mem_cut_power(disk, 0));
	world_close(&w);
	CHECK(world_has(disk, "layers/00000001.zst") && !world_has(disk, "layers/HEAD"));
	return disk;
}

#define DAMAGED "00000005.zst"

/* The newest layer is damaged, and all others are whole. */
static struct io_dir *disk_with_a_damaged_layer(void)
{
	struct io_dir *disk = disk_with_an_open_layer();
	uint64_t size, stored;
	struct world w;
	struct io *f;

	world_open(&w, disk, &world_config);
	CHECK_OK(world_commit(&w));
	CHECK_OK(write_again(&w, 4));
	CHECK_OK(world_close(&w));
	CHECK_OK(io_open(disk, "layers/" DAMAGED, 0, &f));
	CHECK_OK(io_size(f, &size, &stored));
	CHECK_OK(io_pwrite(f, "damaged", 7, size - 100));
	CHECK_OK(io_sync(f));
	io_close(f);
	return disk;
}

/* layers/ and columns/ as they were. */
static void check_never_sealed(struct io_dir *disk)
{
	struct world w;

	world_open(&w, disk, &world_config);
	CHECK(is_again_of(&w, 2));
	for (size_t i = 0; i < NSIZES; i++) {
		char path[64];

		for (size_t k = 1; k < CLASSES_N; k++) {
			snprintf(path, sizeof(path), "%s/r1-%zu.u8", classes[k].name, i);
			CHECK(world_holds(&w, path, bytes_of(1, k, i), sizes[i]));
		}
	}
	CHECK_OK(world_close(&w));
}

static void check_sealed(struct io_dir *disk)
{
	check_layers_of(disk, false);
}

/* Where the cut came before anything was changed, the damage is still there. */
static void check_damaged(struct io_dir *disk)
{
	struct rebuild_report report;
	struct store_refusal why;
	struct io_dir *again;
	struct world w;

	if (world_has(disk, "layers/" DAMAGED)) {
		CHECK_OK(io_mem_again(disk, &again));
		CHECK_OK(store_rebuild(again, NULL, "test", true, say_nothing, NULL, &report, &why));
	}
	world_open(&w, disk, &world_config);
	CHECK(is_again_of(&w, 2));
	CHECK(world_holds(&w, "layers/r1-2.u8", bytes_of(1, 2, 2), sizes[2]));
	CHECK_OK(write_again(&w, 5));
	CHECK_OK(world_close(&w));
	CHECK(world_has(disk, "lost+found/" DAMAGED) && !world_has(disk, "layers/" DAMAGED));
}

/* The power is cut at the n-th change of a rebuild: the next mount shows all there is, or is refused until a rebuild comes to its end.
 * Returns whether there were so many. */
static bool cut_rebuild(struct io_dir *disk, uint64_t n, uint64_t seed, void (*check)(struct io_dir *disk))
{
	struct io_dir *faults = world_faults(disk);
	struct rebuild_report report;
	struct store_refusal why;
	struct world w;
	bool reached;

	io_fault_arm(faults, n, -EIO, n % 2);
	reached = store_rebuild(faults, NULL, "test", true, say_nothing, NULL, &report, &why) != 0;
	CHECK_OK(io_mem_cut_power(disk, seed));
	if (!world_open_dir(&w, world_faults(disk), &world_config)) {
		CHECK_OK(world_close(&w));
	} else {
		CHECK_OK(io_mem_again(disk, &faults));
		CHECK_OK(store_rebuild(faults, NULL, "test", true, say_nothing, NULL, &report, &why));
	}
	check(disk);
	return reached;
}

UNIT_TEST(a_rebuild_that_is_cut_short_loses_nothing)
{
	static const struct {
		struct io_dir *(*make)(void);
		void (*check)(struct io_dir *disk);
		bool chance; /* not where files change their directory: io/mem may then lose both names, and no file system does */
	} stores[] = {
		{ disk_never_sealed, check_never_sealed, true },
		{ disk_with_an_open_layer, check_sealed, true },
		{ disk_with_a_damaged_layer, check_damaged, false },
	};

	/* There each takes seconds. */
	uint64_t step = unit_in_valgrind() || UNIT_TSAN ? 15 : 1;

	for (size_t k = 0; k < sizeof(stores) / sizeof(*stores); k++) {
		uint64_t n = 1;

		while (cut_rebuild(stores[k].make(), n, n % 2 && stores[k].chance ? n : 0, stores[k].check))
			n += step;
		CHECK(n > 30);
	}
}

/* SPILLFS and the rows are lost: the files are no remains of a making that was cut short. */
UNIT_TEST(a_store_without_mark_and_rows_keeps_its_files)
{
	for (unsigned k = 0; k < 3; k++) {
		struct io_dir *disk = disk_with_an_open_layer(), *again;
		struct world w;

		CHECK_OK(io_unlink(disk, "SPILLFS"));
		CHECK_OK(io_unlink(disk, "meta.db"));
		if (k)
			CHECK_OK(io_unlink(disk, "layers/HEAD"));
		CHECK_OK(io_mem_again(disk, &again));
		CHECK_EQ(world_open_dir(&w, again, &world_config), -EUCLEAN);
		CHECK(world_has(disk, "layers/00000003.zst") && world_has(disk, "layers/00000004.zst") && !world_has(disk, "SPILLFS"));
		/* The meta.db that was made is empty, and does not make it a store the next time. */
		CHECK_OK(io_mem_again(disk, &again));
		CHECK_EQ(world_open_dir(&w, again, &world_config), -EUCLEAN);
		CHECK(world_has(disk, "layers/00000003.zst") && world_has(disk, "layers/00000004.zst"));
	}
}

/* Without --force, a meta.db that is there ends it: then nothing has changed. */
UNIT_TEST(a_rebuild_that_is_refused_changes_nothing)
{
	struct io_dir *disk = disk_with_a_damaged_layer(), *again;
	struct rebuild_report report;
	struct store_refusal why;

	CHECK_OK(io_mem_again(disk, &again));
	CHECK_EQ(store_rebuild(again, NULL, "test", false, say_nothing, NULL, &report, &why), -EEXIST);
	CHECK(strstr(why.text, "--force"));
	CHECK(world_has(disk, "layers/" DAMAGED) && world_has(disk, "meta.db"));
}

static struct io_dir *doomed;

static void lose_power_meanwhile(int64_t ns)
{
	(void)ns;
	CHECK_OK(io_mem_cut_power(doomed, 0));
}

/* Data that cannot be written for a moment, and the power goes before the commit tries again: a rename over a file is not durable. */
UNIT_TEST(a_rename_waits_for_its_data)
{
	static const struct clock_ops clock = { .now_ns = true_time, .monotonic_ns = true_time, .sleep_ns = lose_power_meanwhile, .wait = true_wait };

	for (unsigned k = 0; k < 24; k++) {
		struct io_dir *disk = world_disk(), *faults = world_faults(disk);
		struct world w;
		int err;

		doomed = disk;
		clock_replace(&clock);
		CHECK_OK(world_open_dir(&w, faults, &world_config));
		CHECK_OK(write_again(&w, 1));
		CHECK_OK(tree_sync(w.tree));
		CHECK_OK(world_write(&w, META_INO_LAYERS, "new", bytes_of(2, 0, 1), sizes[1]));
		CHECK_OK(tree_rename(w.tree, META_INO_LAYERS, "new", META_INO_LAYERS, "again", 0, NULL));
		io_fault_fail_at(faults, 1, 1 + k / 3, passing[k % 3], NULL);
		err = tree_sync(w.tree);
		world_close(&w);
		clock_replace(NULL);
		world_open(&w, disk, &world_config);
		CHECK(is_again_of(&w, 2) || (err && is_again_of(&w, 1)));
		CHECK_OK(world_close(&w));
	}
}

#define REBUILD_OPENS_MAX 48u

UNIT_TEST(a_rebuild_without_descriptors_gives_up_nothing)
{
	struct rebuild_report report;
	struct store_refusal why;
	unsigned nfailed = 0;
	int err = -EMFILE;

	for (uint64_t n = 1; n < REBUILD_OPENS_MAX; n++) {
		struct io_dir *disk = disk_with_an_open_layer(), *faults = world_faults(disk);

		io_fault_fail_open(faults, n, 1, passing[n % 3]);
		err = store_rebuild(faults, NULL, "test", true, say_nothing, NULL, &report, &why);
		nfailed += err != 0;
		if (err) {
			CHECK_OK(io_mem_again(disk, &faults));
			CHECK_OK(store_rebuild(faults, NULL, "test", true, say_nothing, NULL, &report, &why));
		}
		CHECK_EQ(report.snapshots, 1);
		check_layers_of(disk, false);
	}
	CHECK(nfailed > 3);
	CHECK_OK(err); /* there are not so many */
}

/* ---- a block that there is no memory for ---- */

#define SCARCE_BYTES (1u << 20)

static const unsigned char *scarce_bytes(void)
{
	static unsigned char p[SCARCE_BYTES];
	uint64_t state = 1;

	for (size_t k = 0; k < sizeof(p); k++)
		p[k] = (unsigned char)(unit_rand(&state) & 15);
	return p;
}

/* layers/scarce, in one block that has not been encoded. */
static void write_scarce(struct world *w)
{
	static const struct tree_caller me;
	uint64_t ino;

	CHECK_OK(world_make(w, META_INO_LAYERS, "scarce", S_IFREG | 0644, &ino));
	CHECK_OK(tree_setxattr(w->tree, ino, SPILLFS_XATTR_BLOCK_SIZE, "1048576", 7, 0, &me));
	CHECK_OK(world_write(w, META_INO_LAYERS, "scarce", scarce_bytes(), SCARCE_BYTES));
}

static bool refuses_frame(size_t bytes)
{
	return bytes == codec_bound(SCARCE_BYTES);
}

static bool refuses_frame_beside_caches(size_t bytes)
{
	return refuses_frame(bytes) && stats_read(STAT_CACHE_BYTES);
}

/* The store's last commit, of which the block of layers/scarce is a part; what the log says meanwhile. */
static int close_refused(struct io_dir *disk, bool (*refuses)(size_t bytes), char *said, size_t cap)
{
	static const struct clock_ops clock = { .now_ns = true_time, .monotonic_ns = true_time, .sleep_ns = not_sleep, .wait = true_wait };
	FILE *log = tmpfile();
	int fd = dup(2), err;
	struct world w;

	clock_replace(&clock);
	world_open(&w, disk, &world_config);
	CHECK_OK(write_again(&w, 1));
	CHECK_OK(tree_sync(w.tree));
	CHECK(is_again_of(&w, 1) && stats_read(STAT_CACHE_BYTES));
	buf_set_refusal(refuses);
	write_scarce(&w);
	CHECK_OK(world_write(&w, META_INO_LAYERS, "new", bytes_of(2, 0, 1), sizes[1]));
	CHECK_OK(tree_rename(w.tree, META_INO_LAYERS, "new", META_INO_LAYERS, "again", 0, NULL));
	CHECK(log && fd >= 0 && dup2(fileno(log), 2) == 2);
	err = world_close(&w);
	CHECK(dup2(fd, 2) == 2 && !close(fd));
	buf_set_refusal(NULL);
	clock_replace(NULL);
	rewind(log);
	said[fread(said, 1, cap - 1, log)] = '\0';
	fclose(log);
	return err;
}

UNIT_TEST(the_end_gives_up_caches_for_a_block)
{
	struct io_dir *disk = world_disk();
	char said[1u << 16];
	struct world w;

	CHECK_OK(close_refused(disk, refuses_frame_beside_caches, said, sizeof(said)));
	CHECK(!strstr(said, "is not stored"));
	world_open(&w, disk, &world_config);
	CHECK(is_again_of(&w, 2) && world_holds(&w, "layers/scarce", scarce_bytes(), SCARCE_BYTES));
	CHECK_OK(world_close(&w));
}

/* No name is durable before its data: all that is new is held back, and the log says so. */
UNIT_TEST(the_end_names_what_is_not_stored)
{
	struct io_dir *disk = world_disk();
	char said[1u << 16];
	struct tree_attr a;
	struct world w;

	CHECK_EQ(close_refused(disk, refuses_frame, said, sizeof(said)), -ENOMEM);
	CHECK(strstr(said, "layers/scarce (inode") && strstr(said, "layers/again (inode"));
	world_open(&w, disk, &world_config);
	CHECK(is_again_of(&w, 1));
	CHECK_EQ(world_walk(&w, "layers/scarce", &a), -ENOENT);
	CHECK_OK(world_close(&w));
}

/* ---- a full disk ---- */

/* Files of 400,000 bytes until there is no space for one. */
static unsigned fill_up(struct world *w, size_t kind)
{
	char name[32];
	int err = 0;

	for (unsigned n = 0;; n++) {
		snprintf(name, sizeof(name), "full-%u", n);
		err = world_write(w, classes[kind].ino, name, bytes_of(n, kind, 2), sizes[2]);
		if (err == -ENOSPC || (!err && (err = tree_sync(w->tree)) == -ENOSPC)) {
			tree_unlink(w->tree, classes[kind].ino, name, NULL);
			return n;
		}
		CHECK_OK(err);
		CHECK(n < 1000);
	}
}

UNIT_TEST(a_full_disk_keeps_and_gives_back)
{
	for (size_t kind = 0; kind < 3; kind++) {
		struct io_dir *disk = world_disk();
		char path[64], name[32];
		struct world w;
		unsigned n;

		io_mem_set_space(disk, 24 << 20);
		world_open(&w, disk, &world_config);
		n = fill_up(&w, kind);
		CHECK(n > 10);
		for (unsigned i = 0; i < n; i++) {
			snprintf(path, sizeof(path), "%s/full-%u", classes[kind].name, i);
			CHECK(world_holds(&w, path, bytes_of(i, kind, 2), sizes[2]));
		}
		for (unsigned i = 0; i < n; i += 2) {
			snprintf(name, sizeof(name), "full-%u", i);
			CHECK_OK(tree_unlink(w.tree, classes[kind].ino, name, NULL));
		}
		CHECK_OK(tree_sync(w.tree));
		CHECK_OK(world_write(&w, classes[kind].ino, "more", bytes_of(9999, kind, 2), sizes[2]));
		CHECK_OK(world_close(&w));
		world_open(&w, disk, &world_config);
		for (unsigned i = 1; i < n; i += 2) {
			snprintf(path, sizeof(path), "%s/full-%u", classes[kind].name, i);
			CHECK(world_holds(&w, path, bytes_of(i, kind, 2), sizes[2]));
		}
		snprintf(path, sizeof(path), "%s/more", classes[kind].name);
		CHECK(world_holds(&w, path, bytes_of(9999, kind, 2), sizes[2]));
		CHECK_OK(world_close(&w));
	}
}

/* ---- time ---- */

/* A clock that a test sets; whoever waits looks at it every millisecond. */
static _Atomic int64_t set_ns;

static int64_t set_read(void)
{
	return atomic_load(&set_ns);
}

static void set_sleep(int64_t ns)
{
	atomic_fetch_add(&set_ns, ns);
}

/* A thread for which all the time that it waits passes at once. */
static _Thread_local bool is_hasty;

static int set_wait(pthread_cond_t *c, pthread_mutex_t *m, int64_t until_ns)
{
	struct timespec real;

	if (is_hasty && atomic_load(&set_ns) < until_ns)
		atomic_store(&set_ns, until_ns);
	if (atomic_load(&set_ns) >= until_ns)
		return ETIMEDOUT;
	clock_gettime(CLOCK_MONOTONIC, &real);
	real = clock_timespec(clock_ns(real) + 1000000);
	pthread_cond_timedwait(c, m, &real);
	return 0; /* who waits looks whether there is something to do */
}

static const struct clock_ops set = { set_read, set_read, set_sleep, set_wait };

UNIT_TEST(commits_come_by_the_clock_in_use)
{
	const int64_t begin = 1000000000 * CLOCK_SECOND_NS;
	struct store_config config = world_config;
	struct io_dir *disk = world_disk();
	struct tree_attr a;
	uint64_t before;
	struct world w;

	atomic_store(&set_ns, begin);
	clock_replace(&set);
	config.commit_seconds = 3600;
	world_open(&w, disk, &config);
	CHECK_OK(tree_sync(w.tree));
	before = commit_number(w.store->commit);
	CHECK_OK(write_again(&w, 1));
	CHECK_OK(world_walk(&w, "layers/again", &a));
	CHECK_EQ(a.st.st_mtim.tv_sec, 1000000000);
	CHECK_EQ(commit_number(w.store->commit), before);
	atomic_fetch_add(&set_ns, 3601 * CLOCK_SECOND_NS);
	while (commit_number(w.store->commit) == before) /* the test's time limit is the bound */
		sched_yield();
	lose_power(&w, disk, 0);
	CHECK(is_again_of(&w, 1));
	CHECK_OK(world_close(&w));
	clock_replace(NULL);
}

/* Holds every commit up: 1 once it does, until it is 2. */
static atomic_int holds_up;

static void *hold_up(void *commit)
{
	commit_gate_enter(commit);
	atomic_store(&holds_up, 1);
	while (atomic_load(&holds_up) == 1)
		usleep(1000);
	commit_gate_leave(commit);
	return NULL;
}

static uint64_t free_bytes(struct world *w)
{
	struct statvfs st;

	CHECK_OK(tree_statfs(w->tree, META_INO_ROOT, &st));
	return st.f_bavail * st.f_frsize;
}

/* How long statfs waits while no commit ends; with a file that the kernel is about to let go of. */
static int64_t statfs_waits_ns(struct world *w, bool leaving)
{
	struct tree_file_info info = { .direct = true };
	struct tree_file *f = NULL;
	struct tree_attr a;
	pthread_t holder;
	int64_t begin;

	CHECK_OK(world_write(w, META_INO_COLUMNS, "gone", bytes_of(1, 0, 2), sizes[2]));
	CHECK_OK(tree_sync(w->tree));
	CHECK_OK(tree_lookup(w->tree, META_INO_COLUMNS, "gone", NULL, &a));
	if (leaving)
		CHECK_OK(tree_file_open(w->tree, a.st.st_ino, O_RDONLY, &(struct tree_caller){ 0 }, &f, &info));
	CHECK_OK(tree_unlink(w->tree, META_INO_COLUMNS, "gone", NULL));
	if (leaving)
		CHECK_OK(tree_flush(f, true));
	else
		tree_forget(w->tree, a.st.st_ino, 1);
	atomic_store(&holds_up, 0);
	CHECK_OK(pthread_create(&holder, NULL, hold_up, w->store->commit));
	while (!atomic_load(&holds_up))
		sched_yield();
	begin = clock_monotonic_ns();
	is_hasty = true;
	free_bytes(w);
	is_hasty = false;
	begin = clock_monotonic_ns() - begin;
	atomic_store(&holds_up, 2);
	pthread_join(holder, NULL);
	if (leaving) {
		tree_file_release(f);
		tree_forget(w->tree, a.st.st_ino, 1);
	}
	return begin;
}

/* Where little is left, who asks how much has what was deleted in the answer, if the commit ends within two seconds. */
UNIT_TEST(statfs_waits_two_seconds_for_what_was_deleted)
{
	struct io_dir *disk = world_disk();
	struct world w;
	uint64_t before;

	atomic_store(&set_ns, 1000000000 * CLOCK_SECOND_NS);
	clock_replace(&set);
	io_mem_set_space(disk, 1 << 30);
	world_open(&w, disk, &world_config);
	tree_served_by(w.tree, 4);
	CHECK_EQ(statfs_waits_ns(&w, false), 0);
	io_mem_set_space(disk, 64 << 20);
	for (unsigned i = 0; free_bytes(&w) > 14 << 20; i++) {
		char name[16];

		snprintf(name, sizeof(name), "f%u", i);
		CHECK_OK(world_write(&w, META_INO_COLUMNS, name, bytes_of(1, 0, 2), sizes[2]));
	}
	for (int leaving = 0; leaving < 2; leaving++) {
		int64_t ms = statfs_waits_ns(&w, leaving) / 1000000;

		CHECK(ms >= 1990 && ms <= 2010);
	}
	CHECK_OK(tree_sync(w.tree));
	before = free_bytes(&w);
	CHECK_OK(tree_unlink(w.tree, META_INO_COLUMNS, "f0", NULL));
	CHECK(free_bytes(&w) > before + sizes[2] / 2); /* the log may be longer */
	CHECK_OK(world_close(&w));
	clock_replace(NULL);
}

/* Nothing waits for a thread that did not start. */
UNIT_TEST(a_mount_without_threads_fails)
{
	struct store_config follow = world_config;
	struct io_dir *disk = world_disk(), *dir;
	struct world w;
	int err;

	follow.follow = true;
	for (int follows = 0; follows < 2; follows++) {
		unsigned after = 0;

		do {
			CHECK_OK(io_mem_again(disk, &dir));
			unit_fail_threads(after++, 1);
			err = world_open_dir(&w, dir, follows ? &follow : &world_config);
			CHECK(!err || err == -EAGAIN);
		} while (err);
		CHECK(after > 3);
		CHECK_OK(world_close(&w));
		unit_fail_threads(0, 0);
		CHECK_EQ(stats_read(STAT_THREADS), 0);
	}
}

static uint64_t inodes_of(struct world *w)
{
	struct statvfs st;

	CHECK_OK(tree_statfs(w->tree, META_INO_ROOT, &st));
	return st.f_files - st.f_ffree;
}

/* The count that the store keeps, asked before the changes, and the one that it makes when it is opened. */
UNIT_TEST(world_counts_its_inodes)
{
	struct io_dir *disk = world_disk();
	struct world w;
	uint64_t before, after;

	world_open(&w, disk, &world_config);
	before = inodes_of(&w);
	CHECK_OK(write_round(&w, 1, NSIZES));
	CHECK_OK(world_make(&w, META_INO_COLUMNS, "dir", S_IFDIR | 0755, &(uint64_t){ 0 }));
	CHECK_OK(tree_sync(w.tree));
	CHECK_OK(write_round(&w, 1, NSIZES));
	CHECK_OK(tree_unlink(w.tree, META_INO_BUCKETS, "r1-0.u8", NULL));
	CHECK_OK(tree_unlink(w.tree, META_INO_LAYERS, "r1-1.u8", NULL));
	for (int k = 0; k < 3; k++)
		CHECK_OK(tree_sync(w.tree));
	after = inodes_of(&w);
	CHECK_EQ(after, before + CLASSES_N * NSIZES + 1 - 2);
	CHECK_OK(world_close(&w));
	world_open(&w, disk, &world_config);
	CHECK_EQ(inodes_of(&w), after);
	CHECK_OK(world_close(&w));
}
