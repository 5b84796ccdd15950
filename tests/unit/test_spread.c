/*
 * Several directories as one: io/spread on disks in memory, and a store on it. Where files go, a full disk, one that fails, one that is
 * emptied, with the power cut at any step; directories that are not there, or are another store's.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "block/layer.h"
#include "io/spread/inside.h"
#include "store/classes.h"
#include "store/commit.h"
#include "store/disklist.h"
#include "store/disks/inside.h"
#include "store/layers.h"
#include "store/mark.h"
#include "store/room.h"
#include "unit.h"
#include "util/clock.h"
#include "world.h"

#define MIB (1ull << 20)
#define NDISKS 3u
#define MOVED_NAME "layers/00000001.zst"

static const char *const folders[] = { "pool", "layers", NULL };

static uint64_t keeps(uint64_t total_bytes)
{
	return total_bytes / 16;
}

/* ---- io/spread alone ---- */

static struct io_dir *faults[NDISKS + 1];
static uint64_t owed_on_one;

static uint64_t owes(void *ctx, unsigned disk, bool all)
{
	(void)ctx;
	return all && disk == 1 ? owed_on_one : 0;
}

/* Over disks that stay open, each behind io/fault. */
static struct io_dir *spread_over(struct io_dir *const disks[NDISKS], bool draining)
{
	struct io_spread_disk v[NDISKS];
	const struct io_spread_config c = { .disks = v, .n = NDISKS, .folders = folders, .keeps = keeps, .owes = owes };
	struct io_dir *d;

	for (unsigned i = 0; i < NDISKS; i++) {
		v[i] = (struct io_spread_disk){ .dir = faults[i] = world_faults(disks[i]), .shown = i == 2 ? "two" : i ? "one" : "home",
						.draining = draining && i == 1 };
	}
	CHECK_OK(io_spread_dir(&c, &d));
	return d;
}

static struct io_dir *new_spread(struct io_dir *disks[NDISKS])
{
	struct io_dir *d;

	for (unsigned i = 0; i < NDISKS; i++) {
		disks[i] = world_disk();
		io_mem_set_space(disks[i], 64 * MIB);
	}
	d = spread_over(disks, false);
	CHECK_OK(io_spread_mend(d));
	return d;
}

static unsigned char byte_at(uint64_t seed, uint64_t off)
{
	return (unsigned char)((off * 2654435761u + seed * 97) >> 7);
}

static void fill(struct io *f, uint64_t seed, uint64_t off, size_t n)
{
	unsigned char *p = unit_allot(n);

	for (size_t i = 0; i < n; i++)
		p[i] = byte_at(seed, off + i);
	CHECK_OK(io_pwrite(f, p, n, off));
	free(p);
}

static bool is_filled(struct io *f, uint64_t seed, uint64_t off, size_t n)
{
	unsigned char *p = unit_allot(n);
	bool same = !io_pread(f, p, n, off);

	for (size_t i = 0; i < n && same; i++)
		same = p[i] == byte_at(seed, off + i);
	free(p);
	return same;
}

static struct io *make(struct io_dir *d, const char *name, unsigned kind)
{
	struct io *f;

	CHECK_OK(io_open(d, name, IO_CREATE | kind, &f));
	return f;
}

/* A layered file on disk 1, the only one with room. */
static struct io *make_on_one(struct io_dir *d, struct io_dir *const disks[NDISKS])
{
	io_mem_set_space(disks[0], 0);
	io_mem_set_space(disks[2], 0);
	return make(d, MOVED_NAME, IO_OF_LAYERED);
}

/* It has 1 MiB, and disk 2 has room for it, too. */
static struct io *make_to_move(struct io_dir *d, struct io_dir *const disks[NDISKS])
{
	struct io *f = make_on_one(d, disks);

	fill(f, 1, 0, MIB);
	CHECK_OK(io_sync(f));
	io_mem_set_space(disks[2], 64 * MIB);
	return f;
}

/* How many of the disks have the name; *where: one of them. */
static unsigned places(struct io_dir *const disks[NDISKS], const char *name, unsigned *where)
{
	unsigned n = 0;

	for (unsigned i = 0; i < NDISKS; i++) {
		if (!world_has(disks[i], name))
			continue;
		*where = i;
		n++;
	}
	return n;
}

static int count_name(void *ctx, const char *name)
{
	(void)name;
	++*(unsigned *)ctx;
	return 0;
}

UNIT_TEST(spread_places_finds_and_lists)
{
	struct io_dir *disks[NDISKS], *d = new_spread(disks);
	unsigned seen[NDISKS] = { 0 }, n = 0, where = 9;
	struct io *f[6], *g;
	char name[32];

	for (unsigned i = 0; i < 6; i++) {
		snprintf(name, sizeof(name), "pool/%02u", i);
		f[i] = make(d, name, IO_OF_BUCKET);
		CHECK_EQ(places(disks, name, &where), 1);
		CHECK_EQ(io_disk(f[i]), where);
		seen[where]++;
		fill(f[i], i, 0, 100000);
	}
	for (unsigned i = 0; i < NDISKS; i++)
		CHECK_EQ(seen[i], 2);
	/* What is not spread is at home. */
	g = make(d, "layers/HEAD", IO_OF_OTHER);
	CHECK(places(disks, "layers/HEAD", &where) == 1 && where == 0);
	io_close(g);
	g = make(d, "meta.db", IO_PINNED);
	CHECK(places(disks, "meta.db", &where) == 1 && where == 0);
	io_close(g);
	CHECK_OK(io_list(d, "pool", count_name, &n));
	CHECK_EQ(n, 6);
	/* A name is found wherever it is, renamed where it is, and gone everywhere. */
	for (unsigned i = 0; i < 6; i++) {
		snprintf(name, sizeof(name), "pool/%02u", i);
		CHECK_OK(io_open(d, name, IO_RDONLY | IO_OF_BUCKET, &g));
		CHECK(is_filled(g, i, 0, 100000));
		io_close(g);
	}
	where = io_disk(f[4]);
	CHECK_OK(io_rename(d, "pool/04", "layers/x"));
	CHECK(world_has(disks[where], "layers/x"));
	CHECK_OK(io_unlink(d, "layers/x"));
	CHECK_EQ(io_unlink(d, "layers/x"), -ENOENT);
	CHECK_EQ(io_open(d, "layers/x", IO_RDONLY, &g), -ENOENT);
	for (unsigned i = 0; i < 6; i++)
		io_close(f[i]);
	io_dir_close(d);
}

UNIT_TEST(spread_leaves_a_full_disk)
{
	struct io_dir *disks[NDISKS], *d = new_spread(disks);
	unsigned turns[NDISKS] = { 0 };
	struct io *f, *pool;

	for (unsigned i = 0; i < 300; i++)
		turns[io_next_disk(d)]++;
	CHECK(turns[0] > 70 && turns[1] > 70 && turns[2] > 70);
	f = make(d, "layers/00000001.zst", IO_OF_LAYERED);
	CHECK(io_takes(f));
	fill(f, 1, 0, 3 * MIB);
	io_mem_set_space(disks[io_disk(f)], 3 * MIB);
	/* It moves, with all that it has, and the writer is told nothing. */
	fill(f, 1, 3 * MIB, 2 * MIB);
	CHECK(is_filled(f, 1, 0, 5 * MIB));
	CHECK(places(disks, "layers/00000001.zst", &(unsigned){ 0 }) == 1);
	/* A pool file stays, says so, and others are chosen. */
	pool = make(d, "pool/00", IO_OF_BUCKET);
	fill(pool, 2, 0, MIB);
	io_mem_set_space(disks[io_disk(pool)], MIB);
	CHECK_EQ(io_pwrite(pool, "x", 1, 8 * MIB), -ENOSPC);
	CHECK(!io_takes(pool));
	CHECK(is_filled(pool, 2, 0, MIB));
	for (unsigned i = 0; i < 50; i++)
		CHECK(io_next_disk(d) != io_disk(pool));
	io_close(f);
	io_close(pool);
	io_dir_close(d);
}

UNIT_TEST(spread_leaves_a_failing_disk)
{
	struct io_dir *disks[NDISKS], *d = new_spread(disks);
	struct io_spread_state state;
	unsigned bad;
	struct io *f, *pool;

	f = make(d, "layers/00000001.zst", IO_OF_LAYERED);
	fill(f, 1, 0, MIB);
	CHECK_OK(io_sync(f));
	bad = io_disk(f);
	io_fault_arm(faults[bad], 1, -EIO, false);
	/* The old name cannot be deleted there: the file stays, and the writer is told. */
	CHECK_EQ(io_pwrite(f, "x", 1, MIB), -EIO);
	CHECK(io_spread_look(d, bad, &state) && state.failing);
	CHECK(is_filled(f, 1, 0, MIB));
	CHECK_EQ(places(disks, "layers/00000001.zst", &bad), 1);
	for (unsigned i = 0; i < 50; i++)
		CHECK(io_next_disk(d) != bad);
	/* Nothing of it was written since the sync: the next one has nothing to say. */
	CHECK_OK(io_sync(f));
	pool = make(d, "pool/00", IO_OF_BUCKET);
	CHECK(io_disk(pool) != bad);
	io_close(pool);
	io_close(f);
	io_dir_close(d);
}

struct writer {
	struct io *f;
	atomic_bool stop;
	atomic_uint rounds;
};

/* Writes and reads all of the file again and again. */
static void *write_on(void *arg)
{
	struct writer *w = arg;

	while (!atomic_load(&w->stop)) {
		unsigned round = atomic_fetch_add(&w->rounds, 1) + 1;

		for (unsigned i = 0; i < 32; i++)
			fill(w->f, round, i * 65536ull, 65536);
		CHECK(is_filled(w->f, round, 0, 32 * 65536));
	}
	return NULL;
}

UNIT_TEST(spread_is_emptied_beside_a_writer)
{
	struct io_dir *disks[NDISKS], *d = new_spread(disks);
	struct writer w = { .f = NULL };
	struct io *f[NDISKS], *reader;
	uint64_t moved, size;
	pthread_t t;
	unsigned n = 0, where = 9;
	char name[32];

	for (unsigned i = 0; i < NDISKS; i++) {
		snprintf(name, sizeof(name), "pool/%02u", i);
		f[i] = make(d, name, IO_OF_BUCKET);
		fill(f[i], 0, 0, 32 * 65536);
		if (io_disk(f[i]) == 1)
			w.f = f[i];
	}
	CHECK_EQ(io_spread_drain(d, 1, &moved), -EINVAL);
	io_spread_set_draining(d, 1, true);
	CHECK(!io_takes(w.f));
	CHECK_EQ(pthread_create(&t, NULL, write_on, &w), 0);
	while (atomic_load(&w.rounds) < 3)
		;
	CHECK_OK(io_spread_drain(d, 1, &moved));
	CHECK(moved >= 32 * 65536);
	CHECK_EQ(io_spread_drain(d, 1, &moved), -ENODATA);
	n = atomic_load(&w.rounds);
	while (atomic_load(&w.rounds) < n + 3)
		;
	atomic_store(&w.stop, true);
	CHECK_EQ(pthread_join(t, NULL), 0);
	CHECK(io_disk(w.f) != 1 && io_takes(w.f));
	CHECK_OK(io_size(w.f, &size, NULL));
	CHECK_EQ(size, 32 * 65536);
	for (unsigned i = 0; i < NDISKS; i++) {
		snprintf(name, sizeof(name), "pool/%02u", i);
		CHECK(places(disks, name, &where) == 1 && where != 1);
		CHECK_OK(io_open(d, name, IO_RDONLY | IO_OF_BUCKET, &reader));
		CHECK(is_filled(reader, f[i] == w.f ? atomic_load(&w.rounds) : 0, 0, 32 * 65536));
		io_close(reader);
		io_close(f[i]);
	}
	io_dir_close(d);
}

static void put(struct io_dir *disk, const char *name, const char *text)
{
	struct io *f = make(disk, name, IO_OF_OTHER);

	CHECK_OK(io_pwrite(f, text, strlen(text), 0));
	io_close(f);
}

static bool says(struct io_dir *d, const char *name, const char *text)
{
	char got[32] = "";
	struct io *f;
	size_t n;

	if (io_open(d, name, IO_RDONLY, &f))
		return false;
	CHECK_OK(io_pread_some(f, got, sizeof(got) - 1, 0, &n));
	io_close(f);
	return !strcmp(got, text);
}

/* ---- what happens in the midst of a move ---- */

static struct io_ops hooked;
static const struct io_ops *plain;
static struct io_dir *hook_dir;

/* The file's own transfers go through `hooked`, which begins as a copy of them. */
static void hook(struct io *f, struct io_dir *d)
{
	struct io *inner = ((struct spread_handle *)f)->inner;

	plain = inner->ops;
	hooked = *plain;
	inner->ops = &hooked;
	hook_dir = d;
}

static void *open_another(void *arg)
{
	struct io *f;

	(void)arg;
	CHECK_OK(io_open(hook_dir, "layers/00000009.zst", IO_CREATE | IO_OF_LAYERED, &f));
	io_close(f);
	return NULL;
}

/* A layered file that is to move from disk 1 to disk 2, and is not synced. */
static struct io *make_unsynced(struct io_dir *d, struct io_dir *const disks[NDISKS])
{
	struct io *f = make_on_one(d, disks);

	fill(f, 1, 0, 100000);
	io_mem_set_space(disks[2], 64 * MIB);
	io_spread_set_draining(d, 1, true);
	return f;
}

static int sync_beside_an_open(struct io *f)
{
	struct timespec limit;
	pthread_t t;

	CHECK_EQ(pthread_create(&t, NULL, open_another, NULL), 0);
	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec += 60;
	CHECK_EQ(pthread_timedjoin_np(t, NULL, &limit), 0);
	return plain->sync(f);
}

/* A sync can take long: names can be used meanwhile. */
UNIT_TEST(spread_syncs_what_moves_beside_others)
{
	struct io_dir *disks[NDISKS], *d;
	uint64_t moved;
	struct io *f;

	d = new_spread(disks);
	f = make_unsynced(d, disks);
	hook(f, d);
	hooked.sync = sync_beside_an_open;
	CHECK_OK(io_spread_drain(d, 1, &moved));
	CHECK_EQ(io_disk(f), 2);
	CHECK(is_filled(f, 1, 0, 100000));
	io_close(f);
	io_dir_close(d);
}

UNIT_TEST(spread_moves_what_is_reserved)
{
	struct io_dir *disks[NDISKS], *d;
	uint64_t moved;
	struct io *f;

	d = new_spread(disks);
	f = make_unsynced(d, disks);
	CHECK_OK(io_allocate(f, 2 * MIB, 256 << 10));
	CHECK_OK(io_sync(f));
	CHECK_EQ(io_disk(f), 1);
	CHECK_OK(io_spread_drain(d, 1, &moved));
	CHECK_EQ(io_disk(f), 2);
	CHECK(is_filled(f, 1, 0, 100000));
	CHECK(io_is_allocated(f, 2 * MIB, 256 << 10));
	CHECK(!io_is_allocated(f, MIB, 4096));
	io_close(f);
	io_dir_close(d);
}

static int sync_that_fails(struct io *f)
{
	(void)f;
	hooked.sync = plain->sync;
	return -EIO;
}

/* The kernel tells once that it has lost a write: who syncs has to know. */
UNIT_TEST(spread_tells_a_lost_write_to_its_writer)
{
	struct io_dir *disks[NDISKS], *d;
	uint64_t moved;
	struct io *f;

	d = new_spread(disks);
	f = make_unsynced(d, disks);
	hook(f, d);
	hooked.sync = sync_that_fails;
	CHECK_EQ(io_spread_drain(d, 1, &moved), -EIO);
	/* Moved once more it would be known to nobody. */
	CHECK_EQ(io_spread_drain(d, 1, &moved), -EIO);
	CHECK_EQ(io_sync(f), -EIO);
	CHECK_OK(io_sync(f));
	io_close(f);
	io_dir_close(d);
}

static struct io_dir_ops dir_hooked;
static unsigned nsyncs;

static int sync_again(struct io_dir *dir, const char *name)
{
	int err = nsyncs++ ? 0 : spread_sync_folder((struct spread *)hook_dir, 1, 1, false);

	(void)dir;
	(void)name;
	return err;
}

/* One who finds that a sync of a folder has begun may not go on as if it had ended. */
UNIT_TEST(spread_syncs_a_folder_for_each_who_asks)
{
	struct io_dir *disks[NDISKS], *d;
	const struct io_dir_ops *before;
	struct io *f;

	hook_dir = d = new_spread(disks);
	f = make_on_one(d, disks);
	before = faults[1]->ops;
	dir_hooked = *before;
	dir_hooked.sync = sync_again;
	faults[1]->ops = &dir_hooked;
	nsyncs = 0;
	CHECK_OK(io_dir_sync(d, "layers"));
	CHECK_EQ(nsyncs, 2);
	CHECK_OK(io_dir_sync(d, "layers"));
	CHECK_EQ(nsyncs, 2);
	faults[1]->ops = before;
	io_close(f);
	io_dir_close(d);
}

UNIT_TEST(spread_closes_a_disk_after_its_files)
{
	struct io_dir *disks[NDISKS], *d = new_spread(disks);
	struct spread *s = (struct spread *)d;
	struct io *f;

	put(disks[1], "pool/01", "x");
	put(disks[1], DISKLIST_MARK, "mark");
	io_spread_set_draining(d, 1, true);
	CHECK_OK(spread_open_inner(s, 1, "pool/01", IO_RDONLY, &f));
	CHECK_OK(io_unlink(d, "pool/01"));
	CHECK_OK(io_spread_forget(d, 1, DISKLIST_MARK));
	CHECK(s->disks[1].dir);
	spread_close_inner(s, 1, f);
	lock_acquire(&s->names);
	spread_retire_locked(s, 1);
	lock_release(&s->names);
	CHECK(!s->disks[1].dir);
	io_dir_close(d);
}

UNIT_TEST(spread_finds_what_is_on_one_disk_while_another_cannot_be_read)
{
	struct io_dir *disks[NDISKS], *d = new_spread(disks);

	put(disks[2], MOVED_NAME, "two");
	io_fault_fail_open(faults[1], 1, 1, -EIO);
	CHECK(says(d, MOVED_NAME, "two"));
	io_dir_close(d);
}

UNIT_TEST(spread_counts_space_that_disks_share_once)
{
	struct io_dir *disks[NDISKS], *d = new_spread(disks);
	struct spread *s = (struct spread *)d;
	uint64_t total, avail, less;

	CHECK_OK(io_space(d, &total, &avail));
	s->disks[1].device = s->disks[2].device = 7;
	CHECK_OK(io_space(d, &total, &less));
	CHECK(less < avail);
	/* The other one still has it. */
	io_spread_set_draining(d, 1, true);
	CHECK_OK(io_space(d, &total, &avail));
	CHECK_EQ(avail, less);
	io_dir_close(d);
}

static pthread_t drainer;

static void *drain_beside(void *arg)
{
	uint64_t moved;

	(void)arg;
	CHECK_OK(io_spread_drain(hook_dir, 1, &moved));
	return NULL;
}

/* As io/direct does: the file is cut to its length when its writer closes it. A move has some time to end before that. */
static void close_in_the_end(struct io *f)
{
	struct spread *d = (struct spread *)hook_dir;
	bool ended = false;

	CHECK_EQ(pthread_create(&drainer, NULL, drain_beside, NULL), 0);
	for (unsigned i = 0; i < 200 && !ended; i++) {
		clock_sleep_ns(1000000);
		lock_acquire(&d->names);
		ended = atomic_load(&d->files->disk) == 2;
		lock_release(&d->names);
	}
	CHECK_OK(plain->truncate(f, 99000));
	plain->close(f);
}

UNIT_TEST(spread_moves_what_its_writer_leaves)
{
	struct io_dir *disks[NDISKS], *d;
	uint64_t size;
	struct io *f;

	d = new_spread(disks);
	f = make_unsynced(d, disks);
	hook(f, d);
	hooked.close = close_in_the_end;
	io_close(f);
	CHECK_EQ(pthread_join(drainer, NULL), 0);
	CHECK(world_has(disks[2], MOVED_NAME));
	CHECK_OK(io_open(d, MOVED_NAME, IO_RDONLY, &f));
	CHECK_OK(io_size(f, &size, NULL));
	CHECK_EQ(size, 99000);
	io_close(f);
	io_dir_close(d);
}

/* What is deleted while it moves, or is too large for the others. */
UNIT_TEST(spread_moves_no_more_than_there_is_room_for)
{
	struct io_dir *disks[NDISKS], *d = new_spread(disks);
	struct io *f = make(d, "layers/00000007.zst", IO_OF_LAYERED);
	unsigned at = io_disk(f), where = 9;
	uint64_t moved;

	if (!at) { /* the home is never emptied */
		io_mem_set_space(disks[0], MIB);
		fill(f, 7, 0, 2 * MIB);
		at = io_disk(f);
	}
	fill(f, 7, 0, 8 * MIB);
	for (unsigned i = 0; i < NDISKS; i++)
		if (i != at)
			io_mem_set_space(disks[i], 6 * MIB);
	io_spread_set_draining(d, at, true);
	CHECK_EQ(io_spread_drain(d, at, &moved), -ENOSPC);
	CHECK(is_filled(f, 7, 0, 8 * MIB));
	CHECK(places(disks, "layers/00000007.zst", &where) == 1 && where == at);
	CHECK_OK(io_unlink(d, "layers/00000007.zst"));
	CHECK(is_filled(f, 7, 0, 8 * MIB));
	CHECK_EQ(io_spread_drain(d, at, &moved), -ENODATA);
	io_close(f);
	io_dir_close(d);
}

UNIT_TEST(spread_mends_what_a_crash_has_left)
{
	struct io_dir *disks[NDISKS], *d = new_spread(disks);

	io_dir_close(d);
	put(disks[1], "pool/01", "old");
	put(disks[2], "pool/01.moving", "ne");
	put(disks[0], "pool/02", "old");
	put(disks[1], "pool/02.moved", "old");
	put(disks[2], "layers/00000003.zst.moved", "moved");
	put(disks[1], "layers/00000004.zst", "less");
	put(disks[2], "layers/00000004.zst", "more");
	/* A reader beside a daemon sees it all the same. */
	d = spread_over(disks, true);
	CHECK(says(d, "layers/00000003.zst", "moved"));
	CHECK(says(d, "layers/00000004.zst", "more"));
	CHECK_OK(io_spread_mend(d));
	CHECK(says(d, "pool/01", "old") && !world_has(disks[2], "pool/01.moving"));
	CHECK(says(disks[0], "pool/02", "old") && !world_has(disks[1], "pool/02.moved"));
	CHECK(says(disks[2], "layers/00000003.zst", "moved"));
	CHECK(!world_has(disks[1], "layers/00000004.zst"));
	io_dir_close(d);
	/* Two of which none is the lesser. */
	put(disks[1], "layers/00000004.zst", "less");
	d = spread_over(disks, false);
	CHECK_EQ(io_spread_mend(d), -EEXIST);
	CHECK(says(disks[1], "layers/00000004.zst", "less") && says(disks[2], "layers/00000004.zst", "more"));
	io_dir_close(d);
}

/* One of an older move, that could not be deleted; and which one that is nobody can tell. */
UNIT_TEST(spread_keeps_both_of_a_moved_name_on_two_disks)
{
	struct io_dir *disks[NDISKS], *d = new_spread(disks);
	struct io *f;

	io_dir_close(d);
	put(disks[1], "pool/01.moved", "old");
	put(disks[2], "pool/01.moved", "new");
	d = spread_over(disks, false);
	CHECK_EQ(io_open(d, "pool/01", IO_RDONLY | IO_OF_BUCKET, &f), -EEXIST);
	CHECK_EQ(io_spread_mend(d), -EEXIST);
	CHECK_EQ(io_open(d, "pool/01", IO_CREATE | IO_OF_BUCKET, &f), -EEXIST);
	CHECK(says(disks[1], "pool/01.moved", "old") && says(disks[2], "pool/01.moved", "new"));
	io_dir_close(d);
	/* It may be on a disk that cannot be asked, and stays; the others do not fail for it. */
	CHECK_OK(io_unlink(disks[1], "pool/01.moved"));
	d = spread_over(disks, false);
	io_fault_fail_open(faults[1], 1, 100, -EIO);
	CHECK_OK(io_spread_mend(d));
	CHECK(says(disks[2], "pool/01.moved", "new") && !world_has(disks[2], "pool/01"));
	CHECK_EQ(io_open(d, "pool/01", IO_CREATE | IO_OF_BUCKET, &f), -EIO);
	io_fault_fail_open(faults[1], 0, 0, 0);
	CHECK(says(d, "pool/01", "new"));
	io_dir_close(d);
}

UNIT_TEST(spread_is_not_empty_while_another_disk_cannot_be_read)
{
	struct io_dir *disks[NDISKS], *d = new_spread(disks);
	uint64_t moved;

	put(disks[1], "layers/00000004.zst", "mine");
	io_spread_set_draining(d, 1, true);
	io_fault_fail_open(faults[2], 1, 1, -EIO);
	CHECK_EQ(io_spread_drain(d, 1, &moved), -EIO);
	io_fault_fail_open(faults[0], 1, 1, -EMFILE);
	CHECK_EQ(io_spread_drain(d, 1, &moved), -EMFILE);
	CHECK_OK(io_spread_drain(d, 1, &moved));
	CHECK_EQ(io_spread_drain(d, 1, &moved), -ENODATA);
	CHECK(says(d, "layers/00000004.zst", "mine") && !world_has(disks[1], "layers/00000004.zst"));
	io_dir_close(d);
}

UNIT_TEST(spread_keeps_both_of_a_name_on_two_disks_to_be_emptied)
{
	struct io_dir *disks[NDISKS], *d = new_spread(disks);
	uint64_t moved;

	put(disks[1], "pool/01", "old");
	put(disks[2], "pool/01", "new");
	io_spread_set_draining(d, 1, true);
	io_spread_set_draining(d, 2, true);
	CHECK_EQ(io_spread_mend(d), -EEXIST);
	CHECK_EQ(io_spread_drain(d, 2, &moved), -EEXIST);
	CHECK(says(disks[1], "pool/01", "old") && says(disks[2], "pool/01", "new"));
	io_dir_close(d);
}

/* A file moves from disk 1 to disk 2, and the n-th change of one of them fails, as do `times` in all. The file is there by its name all the
 * while, takes what is written, and is gone once it is deleted. True: nothing failed. */
static bool move_with_fault(bool at_target, bool draining, bool deleted, uint64_t n, uint64_t times)
{
	struct io_dir *disks[NDISKS], *d = new_spread(disks), *faulty = faults[at_target ? 2 : 1];
	unsigned where, left = 0;
	bool reached;
	uint64_t moved;
	struct io *f = make_to_move(d, disks), *g;

	io_fault_fail_at(faulty, n, times, -EIO, NULL);
	io_spread_set_draining(d, 1, draining);
	if (draining)
		(void)io_spread_drain(d, 1, &moved);
	io_mem_set_space(disks[1], MIB);
	if (!draining)
		(void)io_pwrite(f, "x", 1, 2 * MIB);
	reached = io_fault_count(faulty) >= n;
	CHECK(is_filled(f, 1, 0, MIB));
	io_fault_arm(faulty, 0, 0, false);
	io_mem_set_space(disks[1], 64 * MIB);
	CHECK_OK(io_pwrite(f, "y", 1, MIB));
	CHECK_OK(io_sync(f));
	CHECK_OK(io_open(d, MOVED_NAME, IO_RDONLY | IO_OF_LAYERED, &g));
	io_close(g);
	io_close(f);
	CHECK_OK(io_open(d, MOVED_NAME, IO_OF_LAYERED, &g));
	CHECK(is_filled(g, 1, 0, MIB));
	io_close(g);
	if (deleted)
		CHECK_OK(io_unlink(d, MOVED_NAME));
	io_dir_close(d);
	d = spread_over(disks, draining);
	CHECK_OK(io_spread_mend(d));
	for (unsigned i = 0; i < NDISKS; i++)
		CHECK_OK(io_list(disks[i], "layers", count_name, &left));
	CHECK_EQ(left, deleted ? 0 : 1);
	CHECK_EQ(places(disks, MOVED_NAME, &where), left);
	if (!deleted) {
		CHECK_OK(io_open(d, MOVED_NAME, IO_RDONLY, &g));
		CHECK_OK(io_size(g, &moved, NULL));
		CHECK(is_filled(g, 1, 0, MIB) && moved >= MIB + 1);
		io_close(g);
	}
	io_dir_close(d);
	return !reached;
}

UNIT_TEST(spread_moves_a_file_or_leaves_it_whatever_fails)
{
	for (unsigned how = 0; how < 16; how++)
		for (uint64_t n = 1; !move_with_fault(how & 1, how & 2, how & 4, n, how & 8 ? 1 : 0); n++)
			CHECK(n < 50);
}

UNIT_TEST(spread_moves_nothing_to_a_disk_that_is_emptied_itself)
{
	struct io_dir *disks[NDISKS], *d = new_spread(disks);
	struct spread *s = (struct spread *)d;
	struct spread_file *f;
	uint64_t moved;

	put(disks[1], MOVED_NAME, "mine");
	io_spread_set_draining(d, 1, true);
	io_spread_set_draining(d, 2, true);
	lock_acquire(&s->names);
	CHECK_OK(spread_use_locked(s, MOVED_NAME, IO_OF_LAYERED, 1, &f));
	s->disks[2].incoming++;
	lock_release(&s->names);
	CHECK_EQ(spread_move(s, f, 1, 2, &moved), -EAGAIN);
	/* What was begun before is waited for. */
	CHECK_EQ(io_spread_drain(d, 2, &moved), -EBUSY);
	s->disks[2].incoming--;
	CHECK_EQ(io_spread_drain(d, 2, &moved), -ENODATA);
	lock_acquire(&s->names);
	spread_unuse_locked(s, f);
	lock_release(&s->names);
	CHECK(says(disks[1], MOVED_NAME, "mine") && !world_has(disks[2], MOVED_NAME));
	io_dir_close(d);
}

UNIT_TEST(spread_goes_on_beside_a_disk_that_fails)
{
	static const int errors[] = { -EIO, -EROFS };

	for (unsigned i = 0; i < 2; i++) {
		struct io_dir *disks[NDISKS], *d = new_spread(disks);
		struct io_spread_state state;
		unsigned where = 9;
		struct io *f;

		put(disks[1], "layers/00000004.zst", "old");
		CHECK_OK(io_dir_sync(d, "layers"));
		io_fault_arm(faults[1], 1, errors[i], false);
		/* What it does not forget is deleted by the next mount. */
		CHECK_OK(io_unlink(d, "layers/00000004.zst"));
		CHECK(io_spread_look(d, 1, &state) && state.failing);
		CHECK_OK(io_dir_sync(d, "layers"));
		/* What is made is made elsewhere, whether the disk can be read or not. */
		io_fault_fail_open(faults[1], 1, 1000, -EIO);
		put(d, "layers/HEAD.tmp", "4");
		CHECK_OK(io_rename(d, "layers/HEAD.tmp", "layers/HEAD"));
		CHECK(says(d, "layers/HEAD", "4"));
		CHECK_OK(io_open(d, "layers/00000005.zst", IO_CREATE | IO_EXCL | IO_OF_LAYERED, &f));
		CHECK(places(disks, "layers/00000005.zst", &where) == 1 && where != 1);
		io_close(f);
		CHECK_OK(io_dir_sync(d, "layers"));
		/* A pool file may be there. */
		CHECK_EQ(io_open(d, "pool/05", IO_CREATE | IO_OF_BUCKET, &f), -EIO);
		CHECK_EQ(places(disks, "pool/05", &where), 0);
		io_dir_close(d);
	}
}

/* A name that was given must last. */
UNIT_TEST(spread_tells_that_a_new_name_is_not_durable)
{
	struct io_dir *disks[NDISKS], *d = new_spread(disks);
	unsigned where = 9;
	struct io *f;

	io_mem_set_space(disks[0], 0);
	f = make(d, MOVED_NAME, IO_OF_LAYERED);
	CHECK(places(disks, MOVED_NAME, &where) == 1 && where);
	io_fault_arm(faults[where], 1, -EIO, false);
	CHECK_EQ(io_dir_sync(d, "layers"), -EIO);
	CHECK_EQ(io_dir_sync(d, "layers"), -EIO);
	io_fault_arm(faults[where], 0, 0, false);
	CHECK_OK(io_dir_sync(d, "layers"));
	io_close(f);
	io_dir_close(d);
}

/* ---- answers that are lost, and what does not fit ---- */

static const struct io_dir_ops *dir_plain;
static struct io_dir *dir_blind;
static int dir_answer;

static int unlink_with_answer(struct io_dir *dir, const char *name)
{
	CHECK_OK(dir_plain->unlink(dir, name));
	if (dir_blind)
		io_fault_fail_open(dir_blind, 1, 1, -EIO);
	return dir_answer;
}

static int rename_with_answer(struct io_dir *dir, const char *from, const char *to)
{
	int err = dir_plain->rename(dir, from, to);

	return strstr(to, SPREAD_MOVED) ? err : dir_answer;
}

static void hook_dir_ops(struct io_dir *dir)
{
	dir_plain = dir->ops;
	dir_hooked = *dir_plain;
	dir->ops = &dir_hooked;
}

/* The old name is gone although its deletion was answered with an error: the copy is the file. */
UNIT_TEST(spread_keeps_the_copy_of_what_is_gone)
{
	static const int answers[] = { -ENOENT, -EIO, -ESTALE };

	for (unsigned i = 0; i < 6; i++) {
		struct io_dir *disks[NDISKS], *d = new_spread(disks);
		struct io *f = make_to_move(d, disks);
		unsigned where = 9;
		uint64_t moved;

		hook_dir_ops(faults[1]);
		dir_hooked.unlink = unlink_with_answer;
		dir_answer = answers[i % 3];
		dir_blind = NULL;
		if (i < 3) {
			io_mem_set_space(disks[1], MIB);
			CHECK_OK(io_pwrite(f, "x", 1, MIB));
		} else {
			io_spread_set_draining(d, 1, true);
			CHECK_OK(io_spread_drain(d, 1, &moved));
		}
		faults[1]->ops = dir_plain;
		CHECK_OK(io_sync(f));
		io_close(f);
		CHECK(places(disks, MOVED_NAME, &where) == 1 && where == 2);
		CHECK_OK(io_open(d, MOVED_NAME, IO_RDONLY, &f));
		CHECK(is_filled(f, 1, 0, MIB));
		io_close(f);
		io_dir_close(d);
	}
}

/* Where the old disk does not say whether it still has the name the copy stays, and who syncs is told. */
UNIT_TEST(spread_keeps_the_copy_of_what_may_be_gone)
{
	struct io_dir *disks[NDISKS], *d = new_spread(disks);
	struct io *f = make_to_move(d, disks);

	hook_dir_ops(faults[1]);
	dir_hooked.unlink = unlink_with_answer;
	dir_answer = -EIO;
	dir_blind = faults[1];
	io_mem_set_space(disks[1], MIB);
	CHECK_EQ(io_pwrite(f, "x", 1, MIB), -ENOSPC);
	CHECK(is_filled(f, 1, 0, MIB));
	CHECK_EQ(io_sync(f), -EIO);
	faults[1]->ops = dir_plain;
	io_close(f);
	io_dir_close(d);
	d = spread_over(disks, false);
	CHECK_OK(io_spread_mend(d));
	CHECK(world_has(disks[2], MOVED_NAME));
	CHECK_OK(io_open(d, MOVED_NAME, IO_RDONLY, &f));
	CHECK(is_filled(f, 1, 0, MIB));
	io_close(f);
	io_dir_close(d);
}

/* So it is with the new name. */
UNIT_TEST(spread_sees_that_the_copy_has_its_name)
{
	struct io_dir *disks[NDISKS], *d = new_spread(disks);
	struct io *f = make_to_move(d, disks);
	uint64_t moved;

	hook_dir_ops(faults[2]);
	dir_hooked.rename = rename_with_answer;
	dir_answer = -EIO;
	io_spread_set_draining(d, 1, true);
	CHECK_OK(io_spread_drain(d, 1, &moved));
	faults[2]->ops = dir_plain;
	CHECK(!((struct spread_handle *)f)->file->unnamed);
	CHECK_OK(io_unlink(d, MOVED_NAME));
	CHECK(!world_has(disks[2], MOVED_NAME));
	io_close(f);
	io_dir_close(d);
}

/* A write that finds no space copies nothing to a disk that has no room for all of the file. */
UNIT_TEST(spread_copies_nothing_to_where_it_does_not_fit)
{
	struct io_dir *disks[NDISKS], *d = new_spread(disks);
	struct io *f = make_to_move(d, disks);
	unsigned where = 9;

	fill(f, 1, MIB, 7 * MIB);
	io_mem_set_space(disks[0], 6 * MIB);
	io_mem_set_space(disks[1], 8 * MIB);
	io_mem_set_space(disks[2], 6 * MIB);
	io_fault_arm(faults[0], 0, 0, false);
	io_fault_arm(faults[2], 0, 0, false);
	CHECK_EQ(io_pwrite(f, "x", 1, 8 * MIB), -ENOSPC);
	CHECK_EQ(io_fault_count(faults[0]), 0);
	CHECK_EQ(io_fault_count(faults[2]), 0);
	CHECK(is_filled(f, 1, 0, 8 * MIB));
	io_mem_set_space(disks[2], 64 * MIB);
	CHECK_OK(io_pwrite(f, "x", 1, 8 * MIB));
	CHECK(places(disks, MOVED_NAME, &where) == 1 && where == 2);
	io_close(f);
	io_dir_close(d);
}

/* The last of a disk is left to writes that are not sparing; at home others count. */
UNIT_TEST(spread_keeps_the_last_of_a_disk)
{
	struct io_dir *disks[NDISKS], *d = new_spread(disks);
	struct io *f = make_to_move(d, disks), *pool;
	uint64_t left;

	io_mem_set_space(disks[2], 12 * MIB);
	io_mem_set_space(disks[1], 32 * MIB);
	owed_on_one = 4 * MIB;
	CHECK(!io_lacks(f, owed_on_one, &left));
	CHECK_EQ(left, 59 * MIB / 2);
	fill(f, 1, MIB, 26 * MIB);
	/* 2 MiB are kept, and 3 are left; another disk has more than twice as much. */
	CHECK(io_lacks(f, owed_on_one, &left));
	CHECK_EQ(left, 7 * MIB / 2);
	CHECK_EQ(spread_room((struct spread *)d, 1), 0);
	io_mem_set_space(disks[2], 4 * MIB);
	CHECK(!io_lacks(f, owed_on_one, &left));
	/* A quota: statfs says otherwise. */
	spread_refused((struct spread *)d, 1, MOVED_NAME, -ENOSPC);
	CHECK(io_lacks(f, owed_on_one, &left));
	CHECK_EQ(left, 0);
	((struct spread *)d)->disks[1].full_until_ns = 0;
	/* Also where new data goes elsewhere. */
	io_spread_set_draining(d, 1, true);
	CHECK(!io_lacks(f, owed_on_one, &left));
	CHECK_EQ(left, 7 * MIB / 2);
	io_spread_set_draining(d, 1, false);
	fill(f, 1, 27 * MIB, 3 * MIB);
	owed_on_one = 0;
	CHECK(io_lacks(f, 0, &left));
	CHECK_OK(io_pwrite_as(f, "x", 1, 30 * MIB, IO_SPARING));
	fill(f, 1, 30 * MIB, MIB);
	CHECK_EQ(io_pwrite_as(f, "x", 1, 31 * MIB, IO_SPARING), -ENOSPC);
	fill(f, 1, 31 * MIB, MIB / 2);
	io_close(f);
	/* New data of buckets goes home, where it was counted. */
	CHECK_OK(io_unlink(d, MOVED_NAME));
	io_mem_set_space(disks[1], 64 * MIB);
	io_mem_set_space(disks[2], 0);
	((struct spread *)d)->disks[1].full_until_ns = 0;
	pool = make(d, "pool/00", IO_OF_BUCKET);
	CHECK_EQ(io_disk(pool), 1);
	fill(pool, 1, 0, 61 * MIB);
	CHECK(!io_takes(pool));
	io_close(pool);
	io_dir_close(d);
}

static int rename_twice(struct io_dir *dir, const char *from, const char *to)
{
	int err = dir_plain->rename(dir, from, to);

	return err || !strstr(to, SPREAD_MOVED) ? err : -EIO;
}

/* What was given up leaves nothing that a later move would meet. */
UNIT_TEST(spread_leaves_no_copy_of_what_it_gave_up)
{
	struct io_dir *disks[NDISKS], *d = new_spread(disks);
	struct io *f = make_to_move(d, disks);
	uint64_t moved;

	hook_dir_ops(faults[2]);
	dir_hooked.rename = rename_twice;
	io_spread_set_draining(d, 1, true);
	CHECK_EQ(io_spread_drain(d, 1, &moved), -EIO);
	faults[2]->ops = dir_plain;
	CHECK(!world_has(disks[2], MOVED_NAME SPREAD_MOVED));
	CHECK(is_filled(f, 1, 0, MIB));
	io_close(f);
	io_dir_close(d);
}

static int unlink_without_descriptors(struct io_dir *dir, const char *name)
{
	(void)name;
	io_fault_fail_open(dir, 1, 1, -EMFILE);
	return -EMFILE;
}

/* A want of descriptors changes nothing, and loses nothing. */
UNIT_TEST(spread_keeps_the_old_name_without_descriptors)
{
	struct io_dir *disks[NDISKS], *d = new_spread(disks);
	struct io *f = make_to_move(d, disks);
	unsigned where = 9;

	hook_dir_ops(faults[1]);
	dir_hooked.unlink = unlink_without_descriptors;
	io_mem_set_space(disks[1], MIB);
	CHECK_EQ(io_pwrite(f, "x", 1, MIB), -ENOSPC);
	faults[1]->ops = dir_plain;
	io_fault_fail_open(faults[1], 0, 0, 0);
	CHECK_OK(io_sync(f));
	CHECK(places(disks, MOVED_NAME, &where) == 1 && where == 1);
	CHECK(!world_has(disks[2], MOVED_NAME SPREAD_MOVED));
	CHECK_OK(io_pwrite(f, "x", 1, MIB));
	CHECK_EQ(io_disk(f), 2);
	io_close(f);
	io_dir_close(d);
}

static int list_beside_a_move(struct io_dir *dir, const char *name, int (*each)(void *ctx, const char *name), void *ctx)
{
	if (world_has(dir, MOVED_NAME)) {
		put(dir_blind, MOVED_NAME, "layer");
		CHECK_OK(io_unlink(dir, MOVED_NAME));
	}
	return dir_plain->list(dir, name, each, ctx);
}

/* A follower lists while the daemon moves a file from a disk that is listed later to an earlier one. */
UNIT_TEST(spread_lists_what_moves_beside_it)
{
	struct io_dir *disks[NDISKS], *d = new_spread(disks);
	unsigned n = 0;

	io_dir_close(d);
	put(disks[2], MOVED_NAME, "layer");
	d = spread_over(disks, false);
	dir_blind = disks[1];
	hook_dir_ops(faults[2]);
	dir_hooked.list = list_beside_a_move;
	CHECK_OK(io_list(d, "layers", count_name, &n));
	faults[2]->ops = dir_plain;
	CHECK_EQ(n, 1);
	CHECK(world_has(disks[1], MOVED_NAME));
	io_dir_close(d);
}

/* What a rebuild has saved on one disk is another file than what it has saved on another. */
UNIT_TEST(spread_renames_into_the_folder_of_a_disk)
{
	struct io_dir *disks[NDISKS], *d = new_spread(disks);

	CHECK_OK(io_mkdir(disks[1], "lost+found"));
	put(disks[1], "lost+found/00000001.zst", "one");
	put(disks[2], MOVED_NAME, "two");
	CHECK_OK(io_rename(d, MOVED_NAME, "lost+found/00000001.zst"));
	CHECK(says(disks[1], "lost+found/00000001.zst", "one") && says(disks[2], "lost+found/00000001.zst", "two"));
	io_dir_close(d);
}

static const struct io_ops *target_plain;
static struct io_ops target_hooked;

static int write_beside_another_drain(struct io *f, const void *buf, size_t n, uint64_t off, unsigned how)
{
	io_spread_set_draining(hook_dir, 2, true);
	return target_plain->pwrite(f, buf, n, off, how);
}

static int open_target(struct io_dir *dir, const char *name, unsigned flags, struct io **out)
{
	int err = dir_plain->open(dir, name, flags, out);

	if (!err && strstr(name, SPREAD_MOVING)) {
		target_plain = (*out)->ops;
		target_hooked = *target_plain;
		target_hooked.pwrite = write_beside_another_drain;
		(*out)->ops = &target_hooked;
	}
	return err;
}

/* The disk to which a file is on its way is to be emptied, too: another one is chosen. */
UNIT_TEST(spread_chooses_anew_when_its_target_is_emptied)
{
	struct io_dir *disks[NDISKS], *d = new_spread(disks);
	struct io *f = make_to_move(d, disks);
	uint64_t moved;

	fill(f, 1, MIB, MIB);
	io_mem_set_space(disks[0], 32 * MIB);
	hook_dir = d;
	hook_dir_ops(faults[2]);
	dir_hooked.open = open_target;
	io_spread_set_draining(d, 1, true);
	CHECK_OK(io_spread_drain(d, 1, &moved));
	faults[2]->ops = dir_plain;
	CHECK_EQ(io_disk(f), 1);
	CHECK_OK(io_spread_drain(d, 1, &moved));
	CHECK_EQ(io_disk(f), 0);
	CHECK_EQ(io_spread_drain(d, 1, &moved), -ENODATA);
	CHECK(is_filled(f, 1, 0, 2 * MIB));
	io_close(f);
	io_dir_close(d);
}

static pthread_t renamer;

static void *rename_beside(void *arg)
{
	CHECK_OK(io_rename(hook_dir, arg, "layers/00000002.zst"));
	return NULL;
}

static const struct io_ops *read_plain;
static struct io_ops read_hooked;

/* Gives the other one a second to end the move. */
static int read_beside_a_rename(struct io *f, void *buf, size_t n, uint64_t off, unsigned how, size_t *out)
{
	struct spread *d = (struct spread *)hook_dir;
	bool asked = false;

	read_hooked.pread_some = read_plain->pread_some;
	CHECK_EQ(pthread_create(&renamer, NULL, rename_beside, MOVED_NAME), 0);
	for (unsigned i = 0; i < 1000 && !asked; i++) {
		clock_sleep_ns(1000000);
		lock_acquire(&d->names);
		asked = d->files->unwanted;
		lock_release(&d->names);
	}
	return read_plain->pread_some(f, buf, n, off, how, out);
}

static int open_hooked(struct io_dir *dir, const char *name, unsigned flags, struct io **out)
{
	int err = dir_plain->open(dir, name, flags, out);

	if (!err && (flags & IO_RDONLY) && (flags & IO_OF_MASK) == IO_OF_LAYERED) {
		read_plain = (*out)->ops;
		read_hooked = *read_plain;
		read_hooked.pread_some = read_beside_a_rename;
		(*out)->ops = &read_hooked;
	}
	return err;
}

/* A rename does not wait for the copy: it may be a commit that renames. */
UNIT_TEST(spread_moves_no_more_what_is_renamed)
{
	struct io_dir *disks[NDISKS], *d = new_spread(disks);
	struct io *f = make_to_move(d, disks);
	uint64_t moved = 0;

	hook_dir = d;
	io_spread_set_draining(d, 1, true);
	hook_dir_ops(faults[1]);
	dir_hooked.open = open_hooked;
	CHECK_OK(io_spread_drain(d, 1, &moved));
	CHECK_EQ(pthread_join(renamer, NULL), 0);
	faults[1]->ops = dir_plain;
	CHECK_EQ(moved, 0);
	CHECK(world_has(disks[1], "layers/00000002.zst") && !world_has(disks[2], "layers/00000002.zst"));
	CHECK_OK(io_spread_drain(d, 1, &moved));
	CHECK(world_has(disks[2], "layers/00000002.zst") && is_filled(f, 1, 0, MIB));
	io_close(f);
	io_dir_close(d);
}

/* ---- a store ---- */

struct machine {
	struct io_dir *disks[NDISKS + 1]; /* "/1" and so on are paths of all but the first; the last one is a test's to make */
	bool gone[NDISKS + 1];            /* no such path */
	bool fails;                   /* what is opened goes through io/fault */
	unsigned dead;                /* this one fails from the start, if it is not 0 */
	struct io *holder;            /* closed when a mark is opened for the third time */
	bool beside;                  /* when the next one is opened, another mount begins and ends */
};

static void mount_beside(struct machine *m);

static struct machine *waited_for;
static unsigned tries;

static int open_after_a_while(struct io_dir *dir, const char *name, unsigned flags, struct io **out)
{
	if (!strcmp(name, DISKLIST_MARK) && !(flags & IO_RDONLY) && ++tries == 3) {
		io_close(waited_for->holder);
		waited_for->holder = NULL;
	}
	return dir_plain->open(dir, name, flags, out);
}

static int open_disk(void *ctx, const char *path, struct store_disk *out)
{
	struct machine *m = ctx;
	unsigned i = (unsigned)(path[1] - '0');

	if (i > NDISKS || !m->disks[i] || m->gone[i])
		return -ENOENT;
	mount_beside(m);
	*out = (struct store_disk){ .device = 100 + i, .inode = 1 };
	if (m->fails)
		out->dir = faults[i] = world_faults(m->disks[i]);
	if (m->holder) {
		waited_for = m;
		hook_dir_ops(out->dir);
		dir_hooked.open = open_after_a_while;
	}
	if (m->fails && i && m->dead == i)
		io_fault_arm(faults[i], 1, -EIO, false);
	return m->fails ? 0 : io_mem_again(m->disks[i], &out->dir);
}

static const char *both[] = { "/1", "/2" };

static struct store_config config_for(struct machine *m, size_t ndisks)
{
	struct store_config c = world_config;

	c.disks = both;
	c.ndisks = ndisks;
	c.open_disk = open_disk;
	c.open_ctx = m;
	c.home = (struct store_disk){ .device = 100, .inode = 1 };
	c.layer_bytes = 1 << 20;
	return c;
}

static void new_machine(struct machine *m)
{
	*m = (struct machine){ .fails = false };
	for (unsigned i = 0; i < NDISKS; i++) {
		m->disks[i] = world_disk();
		io_mem_set_space(m->disks[i], 96 * MIB);
	}
}

static int open_on(struct world *w, struct machine *m, size_t ndisks)
{
	const struct store_config c = config_for(m, ndisks);
	struct io_dir *dir;

	if (m->fails)
		dir = faults[0] = world_faults(m->disks[0]);
	else
		CHECK_OK(io_mem_again(m->disks[0], &dir));
	return world_open_dir(w, dir, &c);
}

static void mount_beside(struct machine *m)
{
	struct world w;

	if (!m->beside)
		return;
	m->beside = false;
	CHECK_OK(open_on(&w, m, 0));
	CHECK_OK(world_close(&w));
}

static void mark_of(struct world *w, unsigned number, char out[DISKLIST_MARK_MAX])
{
	struct disklist_mark m = { .number = number, .mounts = w->store->disks->list.mounts };

	memcpy(m.uuid, w->store->uuid, sizeof(m.uuid));
	disklist_mark_text(&m, out);
}

#define FILE_BYTES 700000u

static const unsigned char *bytes_of(unsigned n)
{
	static unsigned char p[FILE_BYTES];
	uint64_t state = n + 1;

	unit_rand_fill(&state, p, sizeof(p));
	return p;
}

static int write_files(struct world *w, unsigned from, unsigned to)
{
	char name[32];
	int err = 0;

	for (unsigned n = from; n < to && !err; n++) {
		snprintf(name, sizeof(name), "f%u", n);
		err = world_write(w, META_INO_BUCKETS, name, bytes_of(n), FILE_BYTES);
		if (!err)
			err = world_write(w, META_INO_LAYERS, name, bytes_of(n), FILE_BYTES);
	}
	return err;
}

/* A store on so many directories besides its own, with files. */
static void begin(struct machine *m, struct world *w, size_t ndisks, unsigned nfiles)
{
	new_machine(m);
	CHECK_OK(open_on(w, m, ndisks));
	CHECK_OK(write_files(w, 0, nfiles));
}

static void check_files(struct world *w, unsigned from, unsigned to)
{
	char path[48];

	for (unsigned n = from; n < to; n++) {
		for (unsigned k = 0; k < 2; k++) {
			snprintf(path, sizeof(path), "%s/f%u", k ? "layers" : "buckets", n);
			if (!world_holds(w, path, bytes_of(n), FILE_BYTES))
				unit_fail(__FILE__, __LINE__, "%s is not what was committed", path);
		}
	}
}

static unsigned files_in(struct io_dir *disk, const char *folder)
{
	unsigned n = 0;

	CHECK_OK(io_list(disk, folder, count_name, &n));
	return n;
}

UNIT_TEST(store_on_several_disks)
{
	struct machine m;
	struct world w;

	new_machine(&m);
	CHECK_OK(open_on(&w, &m, 2));
	CHECK_EQ(w.store->format, STORE_FORMAT_SPREAD);
	CHECK_OK(write_files(&w, 0, 8));
	CHECK_OK(world_commit(&w));
	CHECK_OK(write_files(&w, 8, 12));
	CHECK_OK(world_close(&w));
	CHECK(files_in(m.disks[1], "pool") && files_in(m.disks[2], "pool") && files_in(m.disks[1], "layers") + files_in(m.disks[2], "layers"));
	/* The list is remembered. */
	CHECK_OK(open_on(&w, &m, 0));
	check_files(&w, 0, 12);
	world_compact(&w);
	CHECK_OK(write_files(&w, 4, 6));
	CHECK_OK(world_close(&w));
	CHECK_OK(open_on(&w, &m, 1));
	check_files(&w, 0, 12);
	CHECK_OK(world_close(&w));
}

UNIT_TEST(store_on_several_disks_has_snapshots_of_long_names)
{
	char name[META_NAME_MAX + 1], path[sizeof("layers/refs/") + META_NAME_MAX];
	struct machine m;
	struct world w;

	begin(&m, &w, 2, 1);
	memset(name, 'n', META_NAME_MAX);
	name[META_NAME_MAX] = '\0';
	CHECK_OK(world_snapshot(&w, name));
	CHECK_OK(world_commit(&w));
	snprintf(path, sizeof(path), "layers/refs/%s", name);
	CHECK(world_has(m.disks[0], path));
	CHECK_OK(write_files(&w, 1, 2));
	CHECK_OK(world_close(&w));
}

UNIT_TEST(store_adds_a_disk_later)
{
	struct machine m;
	struct world w;

	new_machine(&m);
	CHECK_OK(open_on(&w, &m, 0));
	CHECK_EQ(w.store->format, STORE_FORMAT_VERSION);
	CHECK_OK(write_files(&w, 0, 4));
	CHECK_OK(world_close(&w));
	CHECK(!world_has(m.disks[0], DISKLIST_NAME));
	CHECK_OK(open_on(&w, &m, 1));
	check_files(&w, 0, 4);
	CHECK_OK(write_files(&w, 4, 8));
	CHECK_OK(world_close(&w));
	CHECK_OK(open_on(&w, &m, 2));
	check_files(&w, 0, 8);
	CHECK_OK(world_close(&w));
}

/* Nothing is changed, deleted or lost. */
UNIT_TEST(store_refuses_disks_that_are_not_its_own)
{
	struct machine m, other;
	struct world w;
	struct io_dir *mine;

	begin(&m, &w, 2, 6);
	CHECK_OK(world_close(&w));
	m.gone[1] = true;
	CHECK_EQ(open_on(&w, &m, 0), -ENOENT);
	m.gone[1] = false;
	/* A file system that is not mounted leaves an empty directory. */
	mine = m.disks[1];
	m.disks[1] = world_disk();
	CHECK_EQ(open_on(&w, &m, 0), -ENOENT);
	CHECK_EQ(open_on(&w, &m, 2), -ENOENT);
	/* Another store's. */
	new_machine(&other);
	CHECK_OK(open_on(&w, &other, 2));
	CHECK_OK(write_files(&w, 0, 2));
	CHECK_OK(world_close(&w));
	m.disks[1] = other.disks[1];
	CHECK_EQ(open_on(&w, &m, 0), STORE_ENOTSTORE);
	/* Two that have changed places. */
	m.disks[1] = m.disks[2];
	m.disks[2] = mine;
	CHECK_EQ(open_on(&w, &m, 0), STORE_ENOTSTORE);
	m.disks[2] = m.disks[1];
	m.disks[1] = mine;
	/* By another name, too. */
	both[1] = "/1x";
	CHECK_EQ(open_on(&w, &m, 2), -EINVAL);
	both[1] = "/0";
	CHECK_EQ(open_on(&w, &m, 2), -EINVAL);
	both[1] = "/2";
	CHECK_OK(open_on(&w, &m, 0));
	check_files(&w, 0, 6);
	CHECK_OK(world_close(&w));
	CHECK_OK(open_on(&w, &other, 0));
	check_files(&w, 0, 2);
	CHECK_OK(world_close(&w));
}

UNIT_TEST(store_fills_one_disk_and_goes_on)
{
	struct machine m;
	struct world w;

	new_machine(&m);
	io_mem_set_space(m.disks[1], 12 * MIB);
	CHECK_OK(open_on(&w, &m, 2));
	CHECK_OK(write_files(&w, 0, 8));
	CHECK_OK(world_commit(&w));
	/* Others take the rest of it. */
	io_mem_set_space(m.disks[1], 4 * MIB);
	CHECK_OK(write_files(&w, 8, 24));
	CHECK_OK(world_commit(&w));
	check_files(&w, 0, 24);
	CHECK_OK(world_close(&w));
	CHECK_OK(open_on(&w, &m, 0));
	check_files(&w, 0, 24);
	CHECK_OK(world_close(&w));
}

/* Others take all but so much. */
static void fill_disk(struct io_dir *disk, uint64_t left)
{
	uint64_t total, avail;
	struct io *others = make(disk, "others", IO_OF_OTHER);

	CHECK_OK(io_space(disk, &total, &avail));
	fill(others, 0, 0, avail - left);
	io_close(others);
}

/* Regions that are used up, on a disk without room, while another disk has some. */
UNIT_TEST(store_without_room_at_home_says_so)
{
	static const struct tree_caller me;
	struct tree_file_info info = { .direct = true };
	struct tree_file *f[8];
	struct tree_attr a;
	struct machine m;
	struct world w;
	unsigned nfull = 0;
	char name[24];
	size_t n;

	new_machine(&m);
	CHECK_OK(open_on(&w, &m, 1));
	for (unsigned i = 0; i < 8; i++) {
		snprintf(name, sizeof(name), "b%u", i);
		CHECK_OK(tree_make(w.tree, META_INO_BUCKETS, name, S_IFREG | 0644, 0, NULL, &me, &a));
		CHECK_OK(tree_file_open(w.tree, a.st.st_ino, O_WRONLY, &me, &f[i], &info));
		CHECK_OK(tree_write(f[i], bytes_of(i), 4096, 0, &(struct tree_write_how){ 0 }, &n));
	}
	CHECK_OK(world_commit(&w));
	io_mem_set_space(m.disks[0], 16 * MIB);
	fill_disk(m.disks[0], 4096);
	for (unsigned i = 0; i < 8; i++) {
		int err = tree_write(f[i], bytes_of(i) + 4096, 4096, 4096, &(struct tree_write_how){ 0 }, &n);

		CHECK(!err || err == -ENOSPC);
		nfull += err != 0;
	}
	CHECK(nfull);
	io_mem_set_space(m.disks[0], 96 * MIB);
	for (unsigned i = 0; i < 8; i++) {
		CHECK_OK(tree_write(f[i], bytes_of(i) + 4096, 4096, 4096, &(struct tree_write_how){ 0 }, &n));
		snprintf(name, sizeof(name), "buckets/b%u", i);
		tree_file_release(f[i]);
		CHECK(world_holds(&w, name, bytes_of(i), 8192));
	}
	CHECK_OK(world_close(&w));
}

/* What rows will take is the home's to give, however much room others have. */
UNIT_TEST(store_owes_its_home_no_more_than_it_has)
{
	struct machine m;
	struct world w;
	char name[24];
	unsigned nfull = 0;
	uint64_t total, avail;

	new_machine(&m);
	CHECK_OK(open_on(&w, &m, 2));
	CHECK_OK(world_commit(&w));
	io_mem_set_space(m.disks[0], 16 * MIB);
	fill_disk(m.disks[0], 4 * MIB);
	for (unsigned i = 0; i < 400; i++) {
		int err;

		snprintf(name, sizeof(name), "c%u", i);
		err = world_write(&w, META_INO_COLUMNS, name, bytes_of(i), 60000);
		CHECK(!err || err == -ENOSPC);
		nfull += err != 0;
		CHECK_OK(io_space(m.disks[0], &total, &avail));
		CHECK(avail + meta_log_left(w.store->meta) + MIB / 4 > store_owed_on(w.store, 0, true) + room_reserve_of(total));
	}
	CHECK(nfull);
	CHECK_OK(world_commit(&w));
	CHECK(world_holds(&w, "columns/c0", bytes_of(0), 60000));
	CHECK_OK(world_close(&w));
}

/* The writer is told; the next one succeeds, elsewhere. */
UNIT_TEST(store_goes_on_beside_a_failing_disk)
{
	struct machine m;
	struct world w;
	int err = 0;

	new_machine(&m);
	m.fails = true;
	CHECK_OK(open_on(&w, &m, 1));
	CHECK_OK(write_files(&w, 0, 6));
	CHECK_OK(world_commit(&w)); /* no layer is open then */
	io_fault_arm(faults[1], 1, -EIO, false);
	for (unsigned n = 100; n < 120 && !err; n++) {
		char name[16];

		snprintf(name, sizeof(name), "t%u", n);
		err = world_write(&w, META_INO_BUCKETS, name, bytes_of(n), FILE_BYTES);
	}
	CHECK_EQ(err, -EIO);
	CHECK_OK(write_files(&w, 6, 12));
	CHECK_OK(world_commit(&w));
	check_files(&w, 0, 12);
	io_fault_arm(faults[1], 0, 0, false);
	CHECK_OK(world_close(&w));
	m.fails = false;
	CHECK_OK(open_on(&w, &m, 0));
	check_files(&w, 0, 12);
	CHECK_OK(world_close(&w));
}

static int drain_all(struct world *w, unsigned number)
{
	uint64_t moved;
	bool done;
	int err;

	do
		err = disks_drain_step(w->store, number, &done, &moved);
	while (!err && !done);
	return err;
}

UNIT_TEST(store_empties_no_disk_into_promised_space)
{
	uint64_t total, avail, bytes;
	struct machine m;
	struct world w;

	begin(&m, &w, 2, 8);
	CHECK_OK(world_commit(&w));
	io_spread_set_draining(w.store->dir, 1, true);
	CHECK_OK(io_space(w.store->dir, &total, &avail));
	io_spread_set_draining(w.store->dir, 1, false);
	bytes = avail - FILE_BYTES / 2;
	CHECK_OK(store_promise(w.store, bytes));
	CHECK_EQ(drain_all(&w, 1), -ENOSPC);
	check_files(&w, 0, 8);
	store_unpromise(w.store, bytes);
	CHECK_OK(drain_all(&w, 1));
	check_files(&w, 0, 8);
	CHECK_OK(world_close(&w));
}

UNIT_TEST(store_empties_a_disk)
{
	struct machine m;
	struct world w;
	char *text;

	begin(&m, &w, 2, 8);
	CHECK_OK(world_commit(&w));
	CHECK_OK(write_files(&w, 8, 12));
	CHECK_EQ(disks_drain_start(w.store, 0), -EINVAL);
	CHECK_EQ(disks_drain_start(w.store, 7), -ENOENT);
	CHECK_EQ(drain_all(&w, 7), -ENOENT);
	CHECK_OK(drain_all(&w, 1));
	CHECK_EQ(drain_all(&w, 1), -ENOENT);
	text = disks_text(w.store);
	CHECK(strstr(text, "/2\n") && !strstr(text, "/1\n"));
	free(text);
	CHECK(!files_in(m.disks[1], "pool") && !files_in(m.disks[1], "layers") && !world_has(m.disks[1], DISKLIST_MARK));
	CHECK_OK(write_files(&w, 12, 14));
	check_files(&w, 0, 14);
	CHECK_OK(drain_all(&w, 2));
	CHECK_EQ(w.store->format, STORE_FORMAT_VERSION);
	CHECK_OK(world_close(&w));
	m.gone[1] = m.gone[2] = true;
	CHECK_OK(open_on(&w, &m, 0));
	check_files(&w, 0, 14);
	CHECK_OK(world_close(&w));
	/* An emptied one can be added again. */
	m.gone[1] = false;
	CHECK_OK(open_on(&w, &m, 1));
	check_files(&w, 0, 14);
	CHECK_OK(world_close(&w));
}

/* What was not deleted there would count again. */
UNIT_TEST(store_does_not_take_a_failing_disk_back)
{
	struct machine m;
	struct world w;
	uint64_t moved;
	char *text;
	bool done;

	new_machine(&m);
	m.fails = true;
	CHECK_OK(open_on(&w, &m, 2));
	CHECK_OK(write_files(&w, 0, 6));
	CHECK_OK(world_commit(&w));
	CHECK_OK(disks_drain_step(w.store, 1, &done, &moved));
	CHECK_OK(world_close(&w));
	for (unsigned dead = 1; dead < 2; dead--) {
		m.dead = dead;
		CHECK_OK(open_on(&w, &m, 2));
		text = disks_text(w.store);
		CHECK(strstr(text, "1 draining") ? dead : !dead);
		free(text);
		check_files(&w, 0, 6);
		CHECK_OK(world_close(&w));
	}
}

/* One life: a store is emptied on disk 1 until the n-th change of `disk` fails, and the power is cut. True: it got further than that. */
static bool cut_while_emptied(unsigned disk, size_t ndisks, uint64_t n)
{
	struct machine m;
	struct world w;
	char *list;
	bool done;
	int err;

	new_machine(&m);
	m.fails = true;
	CHECK_OK(open_on(&w, &m, ndisks));
	CHECK_OK(write_files(&w, 0, 3));
	CHECK_OK(world_commit(&w));
	CHECK_OK(write_files(&w, 3, 4));
	CHECK_OK(tree_sync(w.tree));
	for (unsigned i = 0; i <= ndisks; i++)
		io_fault_arm(faults[i], i == disk ? n : 0, -EIO, true);
	err = drain_all(&w, 1);
	done = !err;
	for (unsigned i = 0; i < NDISKS; i++)
		CHECK_OK(io_mem_cut_power(m.disks[i], n * 3 + i + 1));
	world_close(&w);
	m.fails = false;
	m.gone[1] = done; /* it may be taken away */
	CHECK_OK(open_on(&w, &m, 0));
	check_files(&w, 0, 4);
	list = disks_text(w.store);
	err = !done && strstr(list, "/1\n") ? 0 : -ENOENT;
	free(list);
	CHECK_EQ(drain_all(&w, 1), err);
	CHECK_OK(write_files(&w, 2, 5));
	check_files(&w, 0, 5);
	CHECK_OK(world_close(&w));
	CHECK_OK(open_on(&w, &m, 0));
	check_files(&w, 0, 5);
	CHECK_OK(world_close(&w));
	return done;
}

UNIT_TEST(store_loses_nothing_when_emptying_is_cut_short)
{
	for (size_t ndisks = 1; ndisks < NDISKS; ndisks++)
		for (unsigned disk = 0; disk <= ndisks; disk++)
			for (uint64_t n = 1; !cut_while_emptied(disk, ndisks, n); n++)
				CHECK(n < 200);
}

/* A copy, or one that left the store while its mark stayed. */
UNIT_TEST(store_refuses_the_same_disk_at_two_places)
{
	static const char *copy[] = { "/2" };
	struct machine m;
	struct world w;
	char mark[DISKLIST_MARK_MAX];
	struct store_config c;
	struct io_dir *dir;

	begin(&m, &w, 1, 4);
	mark_of(&w, 1, mark);
	CHECK_OK(world_close(&w));
	put(m.disks[2], DISKLIST_MARK, mark);
	c = config_for(&m, 1);
	c.disks = copy;
	CHECK_OK(io_mem_again(m.disks[0], &dir));
	CHECK_EQ(world_open_dir(&w, dir, &c), -EEXIST);
	CHECK_OK(open_on(&w, &m, 0));
	check_files(&w, 0, 4);
	CHECK_OK(world_close(&w));
}

/* One that the list has lost: nothing has to be deleted for it. */
UNIT_TEST(store_takes_back_a_disk_with_files)
{
	char mark[DISKLIST_MARK_MAX];
	struct machine m;
	struct world w;
	char *text;

	begin(&m, &w, 1, 4);
	mark_of(&w, 2, mark);
	CHECK_OK(world_close(&w));
	put(m.disks[2], DISKLIST_MARK, mark);
	CHECK_OK(io_mkdir(m.disks[2], "layers"));
	put(m.disks[2], "layers/00009999.zst", "layer");
	CHECK_OK(open_on(&w, &m, 2));
	text = disks_text(w.store);
	CHECK(strstr(text, "/1\n") && strstr(text, "/2\n"));
	free(text);
	check_files(&w, 0, 4);
	CHECK_OK(world_close(&w));
}

/* A thread does it, and tells how far it is. */
UNIT_TEST(store_empties_a_disk_by_itself)
{
	struct disks_drain is;
	struct machine m;
	struct world w;

	new_machine(&m);
	CHECK_OK(open_on(&w, &m, 2));
	CHECK_EQ(disks_drain_look(w.store, 1, &is), -ENOENT);
	CHECK_OK(write_files(&w, 0, 8));
	CHECK_OK(world_commit(&w));
	CHECK_OK(disks_drain_start(w.store, 1));
	CHECK_OK(disks_drain_start(w.store, 1));
	CHECK_OK(write_files(&w, 8, 12));
	do
		CHECK_OK(disks_drain_look(w.store, 1, &is));
	while (is.running);
	CHECK(is.done && !is.err && is.files && is.moved_bytes > MIB);
	CHECK_EQ(disks_drain_start(w.store, 1), -ENOENT);
	CHECK_OK(disks_drain_look(w.store, 1, &is));
	CHECK(is.done);
	CHECK(!files_in(m.disks[1], "pool") && !files_in(m.disks[1], "layers"));
	check_files(&w, 0, 12);
	/* Without room it says so; a store that is closed does not wait for its end. */
	io_mem_set_space(m.disks[0], MIB);
	CHECK_EQ(disks_drain_start(w.store, 2), -ENOSPC);
	io_mem_set_space(m.disks[0], 96 * MIB);
	CHECK_OK(disks_drain_start(w.store, 2));
	CHECK_OK(world_close(&w));
	CHECK_OK(open_on(&w, &m, 0));
	check_files(&w, 0, 12);
	CHECK_OK(world_close(&w));
}

/* A disk that nobody empties goes on taking files. */
UNIT_TEST(store_without_a_thread_empties_no_disk)
{
	struct io_spread_state state;
	struct disks_drain is;
	struct machine m;
	struct world w;

	new_machine(&m);
	CHECK_OK(open_on(&w, &m, 2));
	CHECK_OK(write_files(&w, 0, 8));
	unit_fail_threads(0, 1);
	CHECK_EQ(disks_drain_start(w.store, 1), -EAGAIN);
	CHECK(io_spread_look(w.store->dir, 1, &state));
	CHECK(!state.draining);
	CHECK_EQ(disks_drain_look(w.store, 1, &is), -ENOENT);
	CHECK_OK(disks_drain_start(w.store, 1));
	do
		CHECK_OK(disks_drain_look(w.store, 1, &is));
	while (is.running);
	CHECK(is.done);
	CHECK_OK(world_close(&w));
	unit_fail_threads(0, 0);
}

static bool text_has(struct world *w, const char *part)
{
	char *text = disks_text(w->store);
	bool has = text && strstr(text, part);

	free(text);
	return has;
}

/* The second of two is no target of the first, and one that is asked for at the end is refused. */
UNIT_TEST(store_empties_two_disks)
{
	struct disks_drain is;
	struct machine m;
	struct world w;

	begin(&m, &w, 2, 8);
	CHECK_OK(world_commit(&w));
	CHECK_OK(disks_drain_start(w.store, 1));
	CHECK_OK(disks_drain_start(w.store, 2));
	CHECK_OK(disks_drain_look(w.store, 2, &is));
	CHECK(text_has(&w, "2 draining") || is.done);
	store_closing(w.store);
	CHECK(disks_drain_start(w.store, 1) < 0);
	CHECK(disks_drain_start(w.store, 2) < 0);
	CHECK_OK(world_close(&w));
	CHECK_OK(open_on(&w, &m, 0));
	check_files(&w, 0, 8);
	CHECK_OK(world_close(&w));
}

/* Nothing is made in the place of what is on a disk that was not named, and the list is lost as before. */
UNIT_TEST(store_without_its_list_has_to_be_named_whole)
{
	struct machine m;
	struct world w;
	unsigned n;

	begin(&m, &w, 2, 8);
	CHECK_OK(world_close(&w));
	CHECK_OK(io_unlink(m.disks[0], DISKLIST_NAME));
	n = files_in(m.disks[0], "pool") + files_in(m.disks[1], "pool") + files_in(m.disks[2], "pool");
	CHECK_EQ(open_on(&w, &m, 0), -EUCLEAN);
	CHECK_EQ(open_on(&w, &m, 1), -EUCLEAN);
	both[0] = "/2";
	CHECK_EQ(open_on(&w, &m, 1), -EUCLEAN);
	CHECK_EQ(files_in(m.disks[0], "pool") + files_in(m.disks[1], "pool") + files_in(m.disks[2], "pool"), n);
	CHECK(!world_has(m.disks[0], DISKLIST_NAME));
	/* A new one would get a number that the missing one may have. */
	both[0] = "/3";
	m.disks[3] = world_disk();
	CHECK_EQ(open_on(&w, &m, 2), -ENOENT);
	both[0] = "/1";
	CHECK_OK(open_on(&w, &m, 2));
	check_files(&w, 0, 8);
	CHECK_OK(world_close(&w));
	CHECK_OK(open_on(&w, &m, 0));
	check_files(&w, 0, 8);
	CHECK_OK(world_close(&w));
}

/* The mark of a directory that has left could not be deleted: no other one gets its number. */
/* Layers that are opened at first use are all that tells. */
UNIT_TEST(store_without_its_list_has_all_its_layers)
{
	char name[32];
	struct machine m;
	struct world w;

	new_machine(&m);
	CHECK_OK(open_on(&w, &m, 2));
	io_mem_set_space(m.disks[0], 4 * MIB);
	io_mem_set_space(m.disks[1], 0);
	CHECK_OK(world_write(&w, META_INO_LAYERS, "f0", bytes_of(0), FILE_BYTES));
	CHECK_OK(world_commit(&w));
	CHECK_OK(world_close(&w));
	CHECK(files_in(m.disks[2], "layers"));
	io_mem_set_space(m.disks[0], 64 * MIB);
	io_mem_set_space(m.disks[1], 64 * MIB);
	for (unsigned n = 1; n < 64; n++) {
		snprintf(name, sizeof(name), "pool/%02x", n);
		for (unsigned i = 0; i < 3; i++)
			io_unlink(m.disks[i], name);
	}
	CHECK_EQ(files_in(m.disks[2], "pool"), 0);
	CHECK_OK(io_unlink(m.disks[0], DISKLIST_NAME));
	CHECK_EQ(open_on(&w, &m, 1), -ENOENT);
	CHECK(!world_has(m.disks[0], DISKLIST_NAME));
	CHECK_OK(open_on(&w, &m, 2));
	CHECK(world_holds(&w, "layers/f0", bytes_of(0), FILE_BYTES));
	CHECK_OK(world_close(&w));
}

UNIT_TEST(store_gives_no_number_twice)
{
	struct machine m;
	struct world w;
	char *text;

	new_machine(&m);
	m.fails = true;
	CHECK_OK(open_on(&w, &m, 1));
	CHECK_OK(write_files(&w, 0, 2));
	CHECK_OK(world_commit(&w));
	io_fault_arm(faults[1], UINT64_MAX, -EROFS, false);
	while (files_in(m.disks[1], "pool") + files_in(m.disks[1], "layers"))
		CHECK_OK(disks_drain_step(w.store, 1, &(bool){ false }, &(uint64_t){ 0 }));
	io_fault_arm(faults[1], 1, -EROFS, false);
	CHECK_OK(drain_all(&w, 1));
	CHECK(world_has(m.disks[1], DISKLIST_MARK));
	CHECK_OK(world_close(&w));
	m.fails = false;
	both[0] = "/2";
	CHECK_OK(open_on(&w, &m, 1));
	both[0] = "/1";
	text = disks_text(w.store);
	CHECK(strstr(text, "\n2 "));
	free(text);
	check_files(&w, 0, 2);
	CHECK_OK(world_close(&w));
}

/* What left with files in it may have old ones. */
UNIT_TEST(store_refuses_a_disk_that_has_left_with_files)
{
	char mark[DISKLIST_MARK_MAX];
	struct machine m;
	struct world w;

	begin(&m, &w, 2, 4);
	mark_of(&w, 1, mark);
	CHECK_OK(drain_all(&w, 1));
	CHECK_OK(world_close(&w));
	put(m.disks[1], DISKLIST_MARK, mark);
	put(m.disks[1], "pool/00", "old");
	CHECK_EQ(open_on(&w, &m, 2), STORE_ENOTSTORE);
	CHECK_OK(open_on(&w, &m, 0));
	check_files(&w, 0, 4);
	CHECK_OK(world_close(&w));
}

UNIT_TEST(store_does_not_give_away_what_a_rebuild_has_saved)
{
	struct machine m;
	struct world w;

	begin(&m, &w, 1, 2);
	CHECK_OK(world_commit(&w));
	CHECK_OK(io_mkdir(m.disks[1], "lost+found"));
	put(m.disks[1], "lost+found/00000001.zst", "layer");
	CHECK_EQ(drain_all(&w, 1), -ENOTEMPTY);
	CHECK(world_has(m.disks[1], DISKLIST_MARK));
	CHECK_OK(io_rename(m.disks[1], "lost+found/00000001.zst", "lost+found/#12"));
	CHECK_OK(drain_all(&w, 1));
	check_files(&w, 0, 2);
	CHECK_OK(world_close(&w));
}

static struct store_config with_long_layers(struct machine *m)
{
	struct store_config c = config_for(m, 2);

	c.layer_bytes = 256 * MIB;
	return c;
}

/* The open layer is on a disk other than the home, too large for any other one, and that disk becomes full like all of them: what is
 * deleted can be committed. */
UNIT_TEST(store_on_full_disks_can_be_emptied)
{
	static const struct tree_caller me;
	struct store_config c;
	struct io_dir *dir;
	struct machine m;
	struct world w;
	unsigned n = 0;
	char name[16];
	int err = 0;

	new_machine(&m);
	c = with_long_layers(&m);
	io_mem_set_space(m.disks[0], 16384 * MIB);
	CHECK_OK(io_mem_again(m.disks[0], &dir));
	CHECK_OK(world_open_dir(&w, dir, &c));
	io_mem_set_space(m.disks[0], 16 * MIB);
	io_mem_set_space(m.disks[1], 48 * MIB);
	io_mem_set_space(m.disks[2], 24 * MIB);
	for (; n < 300 && !err; n++) {
		snprintf(name, sizeof(name), "f%u", n);
		err = world_write(&w, META_INO_LAYERS, name, bytes_of(n), FILE_BYTES);
	}
	CHECK_EQ(err, -ENOSPC);
	CHECK(n > 90);
	for (unsigned i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		CHECK_OK(tree_unlink(w.tree, META_INO_LAYERS, name, &me));
	}
	CHECK_OK(world_commit(&w));
	CHECK_OK(world_commit(&w));
	CHECK_OK(write_files(&w, 0, 4));
	CHECK_OK(world_commit(&w));
	check_files(&w, 0, 4);
	CHECK_OK(world_close(&w));
}

static void append_some(struct world *w, int want)
{
	uint64_t number, off;

	CHECK_EQ(layers_append(w->store->layers, bytes_of(0), FILE_BYTES, FILE_BYTES, 0, &number, &off), want);
}

static void open_with_long_layers(struct world *w, struct machine *m)
{
	struct store_config c = with_long_layers(m);
	struct io_dir *dir;

	CHECK_OK(io_mem_again(m->disks[0], &dir));
	CHECK_OK(world_open_dir(w, dir, &c));
}

/* Only disk 1 has room. */
static void begin_with_room_on_one(struct machine *m, struct world *w)
{
	new_machine(m);
	io_mem_set_space(m->disks[0], 16 * MIB);
	open_with_long_layers(w, m);
	io_mem_set_space(m->disks[2], 0);
}

/* The open layer is there. */
static void begin_on_one(struct machine *m, struct world *w)
{
	begin_with_room_on_one(m, w);
	CHECK_OK(write_files(w, 0, 1));
	CHECK_OK(commit_wait(w->store->commit, COMMIT_SYNC));
	CHECK_EQ(store_data_disk(w->store), 1);
}

/* What is owed has to fit on one disk: that of the open layer, else the one where the next will be. */
UNIT_TEST(store_grants_what_one_disk_takes)
{
	uint64_t number, off;
	struct machine m;
	struct world w;

	new_machine(&m);
	io_mem_set_space(m.disks[0], 40 * MIB);
	io_mem_set_space(m.disks[2], 40 * MIB);
	open_with_long_layers(&w, &m);
	CHECK_OK(store_may_owe_data(w.store, 85 * MIB));
	CHECK_EQ(store_may_owe_data(w.store, 95 * MIB), -ENOSPC);
	store_owe_data(w.store, 50 * MIB);
	append_some(&w, 0);
	CHECK_EQ(store_data_disk(w.store), 1);
	CHECK_OK(store_may_owe_data(w.store, 35 * MIB));
	CHECK_EQ(store_may_owe_data(w.store, 45 * MIB), -ENOSPC);
	/* It moves to a disk that has less, unless a commit has already taken it away: no index knows what is in it. */
	io_mem_set_space(m.disks[1], 0);
	CHECK_OK(layers_append(w.store->layers, bytes_of(0), 100, 100, 0, &number, &off));
	CHECK(store_data_disk(w.store) == 2 || store_data_disk(w.store) == UINT_MAX);
	CHECK_EQ(store_may_owe_data(w.store, 1), -ENOSPC);
	store_disown_data(w.store, 50 * MIB);
	CHECK_OK(store_may_owe_data(w.store, 30 * MIB));
	/* No disk has any; the home's reserve is the bound of what goes there. */
	io_mem_set_space(m.disks[2], 0);
	CHECK_OK(world_commit(&w));
	fill_disk(m.disks[0], 4 * MIB);
	CHECK_OK(world_commit(&w));
	CHECK_EQ(store_data_disk(w.store), 0);
	CHECK_OK(store_may_owe_data(w.store, 50 * MIB));
	CHECK_EQ(store_may_write_data(w.store, 50 * MIB), -ENOSPC);
	CHECK_OK(world_close(&w));
}

/* A disk that has just refused a write takes nothing, whatever statfs says, until it has room again. */
UNIT_TEST(store_grants_nothing_of_a_disk_that_is_full)
{
	struct machine m;
	struct world w;

	begin_on_one(&m, &w);
	fill_disk(m.disks[0], 5 * MIB);
	fill_disk(m.disks[1], 0);
	append_some(&w, -ENOSPC);
	CHECK_EQ(store_may_owe_data(w.store, 1), -ENOSPC);
	CHECK_OK(io_unlink(m.disks[1], "others"));
	((struct spread *)w.store->dir)->disks[1].full_until_ns = 0;
	CHECK_OK(commit_wait(w.store->commit, COMMIT_SYNC));
	CHECK_OK(store_may_owe_data(w.store, 50 * MIB));
	CHECK_OK(world_close(&w));
}

/* A disk that has little room, but some, is left before a large block finds none. */
UNIT_TEST(store_leaves_a_disk_before_a_block_is_refused)
{
	struct machine m;
	struct world w;

	begin_on_one(&m, &w);
	CHECK(!layers_want_seal(w.store->layers));
	io_mem_set_space(m.disks[2], 96 * MIB);
	fill_disk(m.disks[1], 7 * MIB);
	CHECK_OK(commit_wait(w.store->commit, COMMIT_SYNC));
	CHECK_OK(commit_wait(w.store->commit, COMMIT_SYNC));
	CHECK(!layers_want_seal(w.store->layers));
	CHECK_OK(store_may_owe_data(w.store, 16 * MIB));
	check_files(&w, 0, 1);
	CHECK_OK(world_close(&w));
}

/* Notes go to the open layer as well; and no operation that makes one is refused for it. */
UNIT_TEST(store_counts_notes_where_they_go)
{
	struct machine m;
	struct world w;
	uint64_t ino;

	new_machine(&m);
	open_with_long_layers(&w, &m);
	CHECK_OK(world_make(&w, META_INO_LAYERS, "f", S_IFREG | 0644, &ino));
	CHECK(store_owed_data(w.store) > 0);
	CHECK(!layers_want_seal(w.store->layers));
	store_bound_data(w.store, 1);
	CHECK(!layers_want_seal(w.store->layers)); /* for one note */
	store_owe_data(w.store, MIB);
	CHECK(layers_want_seal(w.store->layers));
	store_disown_data(w.store, MIB);
	CHECK_OK(world_commit(&w));
	CHECK_EQ(store_owed_data(w.store), 0);
	CHECK(!layers_want_seal(w.store->layers));
	CHECK_OK(world_close(&w));
}

/* What fallocate has reserved is somewhere, and not where the open layer is. */
UNIT_TEST(store_bounds_promised_blocks)
{
	struct array_params params = { .block_bytes = ARRAY_BLOCK_DEFAULT };
	struct store_config c;
	struct array *a;
	struct machine m;
	struct world w;

	new_machine(&m);
	c = with_long_layers(&m);
	world_open_arrays(&w, m.disks[0], &c);
	a = world_make_array(&w, ARRAY_LAYERED, &params);
	CHECK_OK(array_allocate(a, 0, 4 * MIB, false));
	CHECK_OK(array_write(a, bytes_of(0), 100000, 0));
	CHECK(store_owed_data(w.store) > 0);
	store_bound_data(w.store, store_owed_data(w.store) + 1);
	CHECK_EQ(array_write(a, bytes_of(0), 100000, 2 * MIB), -ENOSPC);
	store_bound_data(w.store, UINT64_MAX);
	CHECK_OK(array_write(a, bytes_of(0), 100000, 2 * MIB));
	array_close(a);
	CHECK_OK(world_close(&w));
}

/* A writer who was told that all is full finds what has come free since, without a commit between. */
UNIT_TEST(store_looks_again_where_it_was_full)
{
	static const struct tree_caller me;
	struct tree_file_info info = { .direct = false };
	struct tree_file *f;
	struct tree_attr a;
	struct machine m;
	struct world w;
	uint64_t off;
	size_t n;
	int err = 0;

	begin_with_room_on_one(&m, &w);
	CHECK_OK(tree_make(w.tree, META_INO_LAYERS, "f", S_IFREG | 0644, 0, NULL, &me, &a));
	CHECK_OK(tree_file_open(w.tree, a.st.st_ino, O_WRONLY, &me, &f, &info));
	CHECK_OK(tree_write(f, bytes_of(0), FILE_BYTES, 0, &(struct tree_write_how){ 0 }, &n));
	CHECK_OK(commit_wait(w.store->commit, COMMIT_SYNC));
	fill_disk(m.disks[0], 4 * MIB);
	fill_disk(m.disks[1], 2 * MIB);
	for (off = MIB; !err; off += MIB)
		err = tree_write(f, bytes_of(0), FILE_BYTES, off, &(struct tree_write_how){ 0 }, &n);
	CHECK_EQ(err, -ENOSPC);
	CHECK_EQ(tree_write(f, bytes_of(0), FILE_BYTES, off, &(struct tree_write_how){ 0 }, &n), -ENOSPC);
	CHECK_OK(io_unlink(m.disks[1], "others"));
	CHECK_OK(tree_write(f, bytes_of(0), FILE_BYTES, off, &(struct tree_write_how){ 0 }, &n));
	tree_file_release(f);
	CHECK_OK(world_close(&w));
}

/* The mount opens it, and says what is the matter. */
UNIT_TEST(store_without_its_open_layer_is_refused)
{
	for (unsigned k = 0; k < 2; k++) {
		struct machine m;
		struct world w;

		new_machine(&m);
		CHECK_OK(open_on(&w, &m, k));
		CHECK_OK(write_files(&w, 0, 1));
		CHECK_OK(commit_wait(w.store->commit, COMMIT_SYNC));
		for (unsigned i = 0; i < NDISKS; i++)
			CHECK_OK(io_mem_cut_power(m.disks[i], 0));
		world_close(&w);
		for (unsigned i = 0; i < NDISKS; i++)
			io_unlink(m.disks[i], MOVED_NAME);
		CHECK_EQ(open_on(&w, &m, k), -ENOENT);
	}
}

/* A compaction copies to one disk. */
UNIT_TEST(store_compacts_no_more_than_one_disk_takes)
{
	struct machine m;
	struct world w;

	new_machine(&m);
	CHECK_OK(open_on(&w, &m, 2));
	CHECK_OK(store_may_compact(w.store, 60 * MIB));
	CHECK_EQ(store_may_compact(w.store, 120 * MIB), -ENOSPC);
	/* In the end it takes of what the home keeps. */
	io_mem_set_space(m.disks[0], 16 * MIB);
	io_mem_set_space(m.disks[1], 0);
	io_mem_set_space(m.disks[2], 0);
	fill_disk(m.disks[0], 4 * MIB);
	CHECK_OK(store_may_compact(w.store, 2 * MIB));
	CHECK_EQ(store_may_compact(w.store, 5 * MIB), -ENOSPC);
	CHECK_OK(world_close(&w));
}

/* Rows and columns have no other place. */
UNIT_TEST(store_empties_no_disk_into_what_its_home_owes)
{
	struct machine m;
	struct world w;
	unsigned n;

	begin(&m, &w, 2, 8);
	CHECK_OK(world_commit(&w));
	io_mem_set_space(m.disks[2], 40 * MIB);
	store_owe(w.store, 84 * MIB);
	n = files_in(m.disks[0], "pool") + files_in(m.disks[0], "layers");
	CHECK_OK(drain_all(&w, 1));
	CHECK_EQ(files_in(m.disks[0], "pool") + files_in(m.disks[0], "layers"), n);
	CHECK_EQ(drain_all(&w, 2), -ENOSPC);
	store_disown(w.store, 84 * MIB);
	CHECK_OK(drain_all(&w, 2));
	check_files(&w, 0, 8);
	CHECK_OK(world_close(&w));
}

/* Room that was set aside on a disk is given up when the disk has become full. */
UNIT_TEST(store_leaves_places_on_a_full_disk)
{
	static const struct tree_caller me;
	struct tree_file_info info = { .direct = false };
	const size_t half = FILE_BYTES / 2;
	struct tree_file *f[12];
	struct tree_attr a;
	struct machine m;
	struct world w;
	char name[24];
	size_t n;

	new_machine(&m);
	CHECK_OK(open_on(&w, &m, 2));
	for (unsigned i = 0; i < 12; i++) {
		snprintf(name, sizeof(name), "b%u", i);
		CHECK_OK(tree_make(w.tree, META_INO_BUCKETS, name, S_IFREG | 0644, 0, NULL, &me, &a));
		CHECK_OK(tree_file_open(w.tree, a.st.st_ino, O_WRONLY, &me, &f[i], &info));
		CHECK_OK(tree_write(f[i], bytes_of(i) + half, FILE_BYTES - half, half, &(struct tree_write_how){ 0 }, &n));
		CHECK_EQ(n, FILE_BYTES - half);
	}
	CHECK_OK(world_commit(&w));
	fill_disk(m.disks[1], 0);
	for (unsigned i = 0; i < 12; i++) {
		CHECK_OK(tree_write(f[i], bytes_of(i), half, 0, &(struct tree_write_how){ 0 }, &n));
		CHECK_EQ(n, half);
		snprintf(name, sizeof(name), "buckets/b%u", i);
		tree_file_release(f[i]);
		CHECK(world_holds(&w, name, bytes_of(i), FILE_BYTES));
	}
	CHECK_OK(world_commit(&w));
	CHECK_OK(world_close(&w));
	CHECK_OK(open_on(&w, &m, 0));
	for (unsigned i = 0; i < 12; i++) {
		snprintf(name, sizeof(name), "buckets/b%u", i);
		CHECK(world_holds(&w, name, bytes_of(i), FILE_BYTES));
	}
	CHECK_OK(world_close(&w));
}

/* One disk that failed has kept it, and it was made anew on another one. */
UNIT_TEST(store_forgets_what_a_compaction_has_left)
{
	struct machine m;
	struct world w;

	begin(&m, &w, 2, 4);
	CHECK_OK(world_close(&w));
	put(m.disks[1], "layers/compact.tmp", "old");
	put(m.disks[2], "layers/compact.tmp", "new");
	put(m.disks[0], "layers/compact.tmp.moved", "old");
	put(m.disks[1], "layers/compact.tmp.moved", "old");
	CHECK_OK(open_on(&w, &m, 0));
	for (unsigned i = 0; i < NDISKS; i++)
		CHECK(!world_has(m.disks[i], "layers/compact.tmp") && !world_has(m.disks[i], "layers/compact.tmp.moved"));
	check_files(&w, 0, 4);
	CHECK_OK(world_close(&w));
}

UNIT_TEST(store_makes_anew_what_a_compaction_has_left_on_a_disk_that_fails)
{
	struct machine m;
	struct world w;
	struct io *f;

	new_machine(&m);
	m.fails = true;
	CHECK_OK(open_on(&w, &m, 2));
	io_mem_set_space(m.disks[1], 1024 * MIB);
	f = make(w.store->dir, LAYER_COMPACTING, IO_OF_LAYERED);
	CHECK(world_has(m.disks[1], LAYER_COMPACTING));
	io_fault_arm(faults[1], 1, -EROFS, false);
	CHECK(io_pwrite(f, "x", 1, 0) < 0);
	io_close(f);
	io_unlink(w.store->dir, LAYER_COMPACTING);
	CHECK(world_has(m.disks[1], LAYER_COMPACTING));
	f = make(w.store->dir, LAYER_COMPACTING, IO_OF_LAYERED);
	CHECK(world_has(m.disks[0], LAYER_COMPACTING) || world_has(m.disks[2], LAYER_COMPACTING));
	CHECK_OK(io_pwrite(f, "x", 1, 0));
	io_close(f);
	world_close(&w);
}

static int copy_names(void *ctx, const char *name)
{
	struct io_dir *const *dirs = ctx;
	char text[4096];
	struct io *from, *to;
	uint64_t off = 0;
	size_t n = 0;

	if (io_open(dirs[0], name, IO_RDONLY, &from))
		return 0; /* a folder */
	to = make(dirs[1], name, IO_OF_OTHER);
	do {
		CHECK_OK(io_pread_some(from, text, sizeof(text), off, &n));
		if (n)
			CHECK_OK(io_pwrite(to, text, n, off));
		off += n;
	} while (n);
	io_close(from);
	io_close(to);
	return 0;
}

/* A copy of the home has the list of the same directories. */
UNIT_TEST(store_refuses_a_disk_that_a_copy_of_it_uses)
{
	struct store_refusal why;
	struct store_config c;
	struct io_dir *dirs[2], *dir;
	struct store *again;
	struct machine m;
	struct world w;

	begin(&m, &w, 1, 4);
	CHECK_OK(world_close(&w));
	dirs[0] = m.disks[0];
	dirs[1] = m.disks[3] = world_disk();
	CHECK_OK(io_list(dirs[0], ".", copy_names, dirs));
	CHECK_OK(open_on(&w, &m, 0));
	for (unsigned i = 0; i < 3; i++) {
		c = config_for(&m, i);
		c.home.device = 103;
		c.follow = c.alone = i == 2;
		c.ndisks = i & 1;
		CHECK_OK(io_mem_again(dirs[1], &dir));
		CHECK_EQ(store_open(dir, "copy", &c, &again, &why), STORE_EHELD);
		CHECK(strstr(why.text, "/1: the directory is in use") && strstr(why.text, "copy"));
	}
	CHECK_OK(write_files(&w, 4, 6));
	check_files(&w, 0, 6);
	/* Once it has left it is another's to use. */
	CHECK_OK(drain_all(&w, 1));
	check_files(&w, 0, 6);
	CHECK_OK(world_close(&w));
	CHECK_OK(open_on(&w, &m, 1));
	check_files(&w, 0, 6);
	CHECK_OK(world_close(&w));
}

static uint64_t mounts_of(struct machine *m, unsigned disk)
{
	struct disklist_mark mark;
	char text[DISKLIST_MARK_MAX] = "";
	struct io *f;
	size_t n;

	CHECK_OK(io_open(m->disks[disk], DISKLIST_MARK, IO_RDONLY, &f));
	CHECK_OK(io_pread_some(f, text, sizeof(text) - 1, 0, &n));
	io_close(f);
	CHECK_OK(disklist_mark_parse(text, &mark));
	return mark.mounts;
}

static int copy_folder_name(void *ctx, const char *name)
{
	void **v = ctx;
	char path[300];

	snprintf(path, sizeof(path), "%s/%s", (char *)v[1], name);
	return copy_names(v[0], path);
}

/* A copy of the home; its disk is the last one of the machine. */
static void copy_home(struct machine *m)
{
	static const char *const dirs[] = { "pool", "columns", "layers" };
	struct io_dir *both_dirs[2] = { m->disks[0], m->disks[3] = world_disk() };

	CHECK_OK(io_list(both_dirs[0], ".", copy_names, both_dirs));
	for (size_t i = 0; i < sizeof(dirs) / sizeof(*dirs); i++) {
		void *v[] = { both_dirs, (void *)dirs[i] };

		CHECK_OK(io_mkdir(both_dirs[1], dirs[i]));
		CHECK_OK(io_list(both_dirs[0], dirs[i], copy_folder_name, v));
	}
}

static int open_copy(struct world *w, struct machine *m, size_t ndisks, bool follow)
{
	struct store_config c = config_for(m, ndisks);
	struct io_dir *dir;

	c.home.device = 103;
	c.follow = follow;
	CHECK_OK(io_mem_again(m->disks[3], &dir));
	return world_open_dir(w, dir, &c);
}

/* A copy of the home does not know what was written since. */
UNIT_TEST(store_refuses_to_be_an_older_copy)
{
	struct store_config c;
	struct store_refusal why;
	struct store *again;
	struct io_dir *dir;
	struct machine m;
	struct world w;
	unsigned n;

	new_machine(&m);
	CHECK_OK(open_on(&w, &m, 2));
	CHECK_EQ(mounts_of(&m, 1), 1);
	CHECK_OK(write_files(&w, 0, 4));
	CHECK_OK(world_close(&w));
	copy_home(&m);
	CHECK_OK(open_on(&w, &m, 0));
	CHECK(mounts_of(&m, 1) == 3 && mounts_of(&m, 2) == 3);
	CHECK_OK(write_files(&w, 4, 8));
	CHECK_OK(world_close(&w));
	n = files_in(m.disks[1], "layers") + files_in(m.disks[2], "layers");
	CHECK_EQ(open_copy(&w, &m, 0, false), -ESTALE);
	CHECK_EQ(open_copy(&w, &m, 2, false), -ESTALE);
	CHECK_EQ(open_copy(&w, &m, 0, true), -ESTALE);
	CHECK_EQ(files_in(m.disks[1], "layers") + files_in(m.disks[2], "layers"), n);
	/* A rebuild takes it, and changes nothing before it has put the old meta.db aside. */
	c = config_for(&m, 0);
	c.home.device = 103;
	c.follow = c.alone = true;
	CHECK_OK(io_mem_again(m.disks[3], &dir));
	CHECK_OK(store_open(dir, "copy", &c, &again, &why));
	CHECK_EQ(mounts_of(&m, 1), 4);
	CHECK_OK(disks_count_mount(again));
	CHECK_OK(store_close(again));
	CHECK_EQ(mounts_of(&m, 1), 5);
	CHECK_EQ(open_on(&w, &m, 0), -ESTALE);
}

/* The first of two alike is the store from then on. */
UNIT_TEST(store_is_the_copy_that_is_mounted_first)
{
	struct machine m;
	struct world w;

	begin(&m, &w, 2, 4);
	CHECK_OK(world_close(&w));
	copy_home(&m);
	CHECK_OK(open_copy(&w, &m, 0, true));
	CHECK_OK(world_close(&w));
	CHECK_EQ(mounts_of(&m, 1), 2);
	CHECK_OK(open_copy(&w, &m, 0, false));
	check_files(&w, 0, 4);
	/* One of the two that is made during a mount is older when that has ended. */
	m.disks[0] = m.disks[3];
	copy_home(&m);
	CHECK_OK(write_files(&w, 4, 6));
	CHECK_OK(world_close(&w));
	CHECK_EQ(open_copy(&w, &m, 0, false), -ESTALE);
	CHECK_OK(open_on(&w, &m, 0));
	check_files(&w, 0, 6);
	CHECK_OK(world_close(&w));
}

/* It has read the list before, and the marks after that. */
UNIT_TEST(store_is_followed_beside_a_mount_that_begins)
{
	struct store_config c;
	struct io_dir *dir;
	struct machine m;
	struct world w;

	begin(&m, &w, 2, 4);
	CHECK_OK(world_close(&w));
	c = config_for(&m, 0);
	c.follow = true;
	m.beside = true;
	CHECK_OK(io_mem_again(m.disks[0], &dir));
	CHECK_OK(world_open_dir(&w, dir, &c));
	CHECK(!m.beside && mounts_of(&m, 1) == 4);
	CHECK_OK(world_close(&w));
}

/* The count goes on when the last directory has left. A copy that never had one is told, too. */
UNIT_TEST(store_refuses_a_copy_from_before_a_disk_was_added)
{
	struct machine m;
	struct world w;

	begin(&m, &w, 0, 4);
	CHECK_OK(world_close(&w));
	copy_home(&m);
	CHECK_OK(open_on(&w, &m, 1));
	CHECK_OK(world_close(&w));
	CHECK_EQ(open_copy(&w, &m, 1, false), -ESTALE);
	copy_home(&m);
	CHECK_OK(open_on(&w, &m, 0));
	CHECK_OK(drain_all(&w, 1));
	CHECK_OK(world_close(&w));
	CHECK_OK(open_on(&w, &m, 1));
	CHECK_OK(write_files(&w, 4, 6));
	CHECK_OK(world_close(&w));
	CHECK(open_copy(&w, &m, 0, false) < 0);
	CHECK(open_copy(&w, &m, 1, false) < 0);
	CHECK_OK(open_on(&w, &m, 0));
	check_files(&w, 0, 6);
	CHECK_OK(world_close(&w));
}

static void set_mounts(struct machine *m, const uint8_t uuid[16], unsigned disk, uint64_t mounts)
{
	struct disklist_mark mark = { .number = disk, .mounts = mounts };
	char text[DISKLIST_MARK_MAX];

	memcpy(mark.uuid, uuid, sizeof(mark.uuid));
	disklist_mark_text(&mark, text);
	CHECK_OK(io_unlink(m->disks[disk], DISKLIST_MARK));
	put(m->disks[disk], DISKLIST_MARK, text);
}

/* Marks that are behind come of a crash, of a disk that could not be written, and of a store that had no count. */
UNIT_TEST(store_goes_on_with_marks_that_are_behind)
{
	uint8_t uuid[16];
	struct machine m;
	struct world w;

	begin(&m, &w, 2, 4);
	memcpy(uuid, w.store->uuid, sizeof(uuid));
	CHECK_OK(world_close(&w));
	set_mounts(&m, uuid, 1, 0);
	CHECK_OK(open_on(&w, &m, 0));
	check_files(&w, 0, 4);
	CHECK_OK(world_close(&w));
	CHECK(mounts_of(&m, 1) == 4 && mounts_of(&m, 2) == 4);
	/* Without the list the marks are what is known. */
	set_mounts(&m, uuid, 2, 9);
	CHECK_EQ(open_on(&w, &m, 0), -ESTALE);
	CHECK_OK(io_unlink(m.disks[0], DISKLIST_NAME));
	CHECK_OK(open_on(&w, &m, 2));
	check_files(&w, 0, 4);
	CHECK_OK(world_close(&w));
	CHECK(mounts_of(&m, 1) == 11 && mounts_of(&m, 2) == 11);
	CHECK_OK(open_on(&w, &m, 0));
	CHECK_EQ(w.store->disks->list.mounts, 12);
	CHECK_OK(world_close(&w));
	/* A disk that cannot be written is no reason to refuse the others. */
	m.fails = true;
	m.dead = 1;
	CHECK_OK(open_on(&w, &m, 0));
	CHECK_OK(world_close(&w));
	m.fails = false;
	CHECK(mounts_of(&m, 1) == 13 && mounts_of(&m, 2) == 15);
	CHECK_OK(open_on(&w, &m, 0));
	check_files(&w, 0, 4);
	CHECK_OK(world_close(&w));
}

/* Who waits for the end of a drain is told that it has ended. */
UNIT_TEST(store_drains_nothing_when_it_is_closed)
{
	struct disks_drain look;
	struct machine m;
	struct world w;

	begin(&m, &w, 2, 12);
	CHECK_OK(world_commit(&w));
	CHECK_OK(disks_drain_start(w.store, 1));
	CHECK_OK(disks_drain_start(w.store, 2));
	disks_stop(w.store);
	for (unsigned i = 1; i < 3; i++) {
		CHECK_OK(disks_drain_look(w.store, i, &look));
		CHECK(!look.running);
	}
	CHECK_OK(world_close(&w));
}

/* A daemon that was killed lets go of its locks one after the other. */
UNIT_TEST(store_waits_for_the_lock_of_a_disk)
{
	struct machine m;
	struct world w;

	new_machine(&m);
	CHECK_OK(open_on(&w, &m, 1));
	CHECK_OK(world_close(&w));
	CHECK_OK(io_open(m.disks[1], DISKLIST_MARK, IO_PINNED, &m.holder));
	CHECK_OK(io_lock(m.holder, 0, 0));
	m.fails = true;
	CHECK_OK(open_on(&w, &m, 0));
	CHECK(!m.holder);
	CHECK_OK(world_close(&w));
}

/* A check and a rebuild would refuse it. */
UNIT_TEST(store_adds_no_disk_of_another_owner)
{
	struct store_config c;
	struct io_dir *dir;
	struct machine m;
	struct world w;

	new_machine(&m);
	c = config_for(&m, 1);
	c.home.owner = 1;
	CHECK_OK(io_mem_again(m.disks[0], &dir));
	CHECK_EQ(world_open_dir(&w, dir, &c), -EPERM);
	CHECK(!world_has(m.disks[1], DISKLIST_MARK));
	CHECK_OK(open_on(&w, &m, 1));
	CHECK_OK(world_close(&w));
}

/* ---- texts ---- */

UNIT_TEST(disk_list_reads_what_it_writes_alone)
{
	static const char *const bad[] = { "", "spillfs-disks 1\n", "disk 2 /a\ndisk 1 /b\n", "disk 1 a\n", "disk 0 /a\n",
					   "disk 1 /a", "disk 01 /a\n", "other 1 /a\n", "disk 1 /a\n\n", "mounts 0\n", "mounts 1", "mounts 1\ndisk 1 /a\n" };
	struct disklist l = { .n = 0 }, again = { .n = 0 };
	uint8_t uuid[16], other[16] = { 1 };
	char mark[DISKLIST_MARK_MAX], *text;
	struct disklist_mark m, found;
	size_t len;

	CHECK_OK(mark_uuid_new(uuid));
	CHECK_OK(disklist_add(&l, 0, false, "/a b"));
	CHECK_OK(disklist_add(&l, 4, true, "/c"));
	CHECK_EQ(disklist_add(&l, 4, false, "/d"), -EINVAL);
	CHECK_EQ(disklist_add(&l, 0, false, "d"), -EINVAL);
	CHECK_EQ(disklist_add(&l, 0, false, "/d\n"), -EINVAL);
	text = disklist_text(&l, other);
	CHECK(!strcmp(text, "spillfs-disks 1\nuuid 01000000-0000-0000-0000-000000000000\ndisk 1 /a b\ndraining 4 /c\n"));
	free(text);
	text = disklist_text(&l, uuid);
	CHECK_OK(disklist_parse(text, uuid, &again));
	CHECK(again.n == 2 && again.v[0].number == 1 && again.v[1].draining && !strcmp(again.v[0].path, "/a b"));
	CHECK_EQ(disklist_parse(text, other, &again), -EINVAL);
	/* A number is given once. */
	disklist_remove(&again, 4);
	CHECK_OK(disklist_add(&again, 0, false, "/e"));
	CHECK(again.v[1].number == 5);
	disklist_remove(&again, 5);
	disklist_fini(&l);
	free(text);
	text = disklist_text(&again, uuid);
	CHECK(strstr(text, "disk 1 /a b\nnext 6\n"));
	free(text);
	again.mounts = 7;
	text = disklist_text(&again, uuid);
	CHECK(strstr(text, "disk 1 /a b\nnext 6\nmounts 7\n"));
	CHECK_OK(disklist_parse(text, uuid, &l));
	CHECK(l.n == 1 && l.next == 6 && l.mounts == 7);
	text[strlen(text) - 1] = '\0';
	CHECK_EQ(disklist_parse(text, uuid, &l), -EINVAL);
	free(text);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		char uuid_text[MARK_UUID_TEXT];

		mark_uuid_text(uuid, uuid_text);
		CHECK(asprintf(&text, "spillfs-disks 1\nuuid %s\n%s", uuid_text, bad[i]) > 0);
		if (*bad[i])
			CHECK_EQ(disklist_parse(text, uuid, &l), -EINVAL);
		CHECK_EQ(disklist_parse(bad[i], uuid, &l), -EINVAL);
		free(text);
	}
	for (unsigned i = 0; i < 2; i++) {
		m = (struct disklist_mark){ .number = 12, .mounts = i * 34ull };
		memcpy(m.uuid, uuid, 16);
		len = disklist_mark_text(&m, mark);
		CHECK_EQ(len, strlen(mark));
		CHECK_OK(disklist_mark_parse(mark, &found));
		CHECK(found.number == 12 && !memcmp(found.uuid, uuid, 16) && found.mounts == i * 34ull);
		mark[strlen(mark) - 1] = '\0';
		CHECK_EQ(disklist_mark_parse(mark, &found), -EINVAL);
	}
	CHECK_EQ(disklist_mark_parse("", &found), -EINVAL);
	strcpy(strstr(mark, "mounts"), "mounts 0\n");
	CHECK_EQ(disklist_mark_parse(mark, &found), -EINVAL);
	disklist_fini(&l);
	disklist_fini(&again);
}
