/*
 * scratch/: the world beside others, and a scratch store alone, in one process.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/io.h"
#include "spillfs.h"
#include "store/commit.h"
#include "store/meta.h"
#include "store/store.h"
#include "tree/realm.h"
#include "tree/tree.h"
#include "unit.h"
#include "util/clock.h"
#include "world.h"

#define ROOT (META_INO_SCRATCH + META_INO_ROOT)

static const struct tree_caller me = { 0 };

/* A world, and the store of its scratch/. */
struct scene {
	struct world w;
	struct io_dir *faults; /* that the durable store is on */
	struct store *scratch;
};

/* The disk of the durable store. All files together may have size_bytes, 0: no bound; spill_bytes as in store_config. */
static struct io_dir *open_with(struct scene *s, uint64_t size_bytes, uint64_t spill_bytes)
{
	struct store_config config = world_config;
	struct io_dir *dir, *disk = world_disk();
	struct store_refusal why;

	s->faults = world_faults(disk);
	config.size_bytes = size_bytes;
	config.pool_files = 1;
	config.commit_seconds = 3600;
	CHECK_OK(world_open_dir(&s->w, s->faults, &config));
	config.scratch = true;
	config.above = META_INO_SCRATCH;
	config.spill_bytes = spill_bytes;
	CHECK_OK(io_mem_dir(&dir));
	CHECK_OK(store_open(dir, "scratch", &config, &s->scratch, &why));
	CHECK_OK(tree_add_scratch(s->w.tree, s->scratch));
	for (uint64_t ino = META_INO_BUCKETS; ino <= META_INO_LAYERS; ino++) {
		struct tree_attr a;

		CHECK_OK(tree_lookup(s->w.tree, META_INO_ROOT, ino == META_INO_BUCKETS ? "buckets" : ino == META_INO_COLUMNS ? "columns" : "layers",
				     &me, &a));
	}
	return disk;
}

static struct io_dir *open_bounded(struct scene *s, uint64_t size_bytes)
{
	return open_with(s, size_bytes, 0);
}

static struct io_dir *open_scene(struct scene *s)
{
	return open_bounded(s, 0);
}

static void close_scene(struct scene *s)
{
	CHECK_OK(world_close(&s->w));
	CHECK_OK(store_close(s->scratch));
}

static uint64_t make(struct world *w, uint64_t dir, const char *name, mode_t mode)
{
	struct tree_attr a;

	CHECK_OK(tree_make(w->tree, dir, name, mode, 0, NULL, &me, &a));
	return a.st.st_ino;
}

static void fill(struct world *w, uint64_t ino, const void *p, size_t n, uint64_t off)
{
	struct tree_file_info info = { .direct = true };
	struct tree_file *f;

	CHECK_OK(tree_file_open(w->tree, ino, O_WRONLY, &me, &f, &info));
	CHECK_OK(tree_write(f, p, n, off, &(struct tree_write_how){ .whole = true, .who = &me }, &(size_t){ 0 }));
	CHECK_OK(tree_flush(f, true));
	tree_file_release(f);
}

static void check_xattr(struct world *w, uint64_t ino, const char *name, const char *want)
{
	size_t len;
	void *value;

	CHECK_OK(tree_getxattr(w->tree, ino, name, &value, &len));
	if (len != strlen(want) || memcmp(value, want, len))
		unit_fail(__FILE__, __LINE__, "%s is %.*s, not %s", name, (int)len, (char *)value, want);
	free(value);
}

static int set_kind(struct world *w, uint64_t ino, const char *kind)
{
	return tree_setxattr(w->tree, ino, SPILLFS_XATTR_KIND, kind, strlen(kind), 0, &me);
}

/* ---- beside others ---- */

/* What one world has deleted is there for the next write of the other, which waits for it. */
UNIT_TEST(space_that_either_world_frees_is_there_for_the_other)
{
	static const uint64_t dirs[] = { META_INO_LAYERS, ROOT, META_INO_COLUMNS, ROOT, META_INO_BUCKETS, ROOT, META_INO_LAYERS };
	const size_t n = 900 << 10;
	unsigned char *p = unit_allot(n);
	uint64_t seed = 5;
	struct scene s;

	unit_rand_fill(&seed, p, n);
	open_bounded(&s, 1 << 20);
	for (size_t k = 0; k < sizeof(dirs) / sizeof(*dirs); k++) {
		uint64_t f = make(&s.w, dirs[k], "f", S_IFREG | 0644);

		fill(&s.w, f, p, n, 0);
		CHECK_OK(tree_unlink(s.w.tree, dirs[k], "f", &me));
		tree_forget(s.w.tree, f, 1);
	}
	close_scene(&s);
	free(p);
}

static void set_cold(struct world *w, uint64_t ino)
{
	CHECK_OK(tree_setxattr(w->tree, ino, SPILLFS_XATTR_COMPRESS, "cold", 4, 0, &me));
}

/* May the kernel keep what it knows of a file? Known again: as the kernel asks that has forgotten it. */
static bool is_kept(struct world *w, uint64_t dir, const char *name, bool again)
{
	struct tree_attr a;

	CHECK_OK(tree_lookup(w->tree, dir, name, NULL, &a));
	tree_forget(w->tree, a.st.st_ino, 1);
	if (again) {
		tree_forget(w->tree, a.st.st_ino, 1);
		CHECK_OK(tree_lookup(w->tree, dir, name, NULL, &a));
	}
	CHECK_OK(tree_getattr(w->tree, a.st.st_ino, &a));
	return a.attr_ms > 0;
}

/* Where a file's count may change without a change of it. */
UNIT_TEST(scratch_has_what_may_be_cold_asked_for_again)
{
	char p[1000] = "bytes";
	uint64_t dir, layers, plain, cold;
	struct scene s;

	open_scene(&s);
	dir = make(&s.w, ROOT, "d", S_IFDIR | 0755);
	plain = make(&s.w, dir, "plain", S_IFREG | 0644);
	fill(&s.w, plain, p, sizeof(p), 0);
	/* As long as nothing is cold, a file need not be opened to tell. */
	CHECK(is_kept(&s.w, dir, "plain", false) && is_kept(&s.w, dir, "plain", true));
	cold = make(&s.w, dir, "cold", S_IFREG | 0644);
	layers = make(&s.w, ROOT, "layers", S_IFDIR | 0755);
	CHECK_OK(set_kind(&s.w, layers, "layered"));
	set_cold(&s.w, make(&s.w, layers, "layered", S_IFREG | 0644));
	CHECK(is_kept(&s.w, layers, "layered", false) && is_kept(&s.w, dir, "plain", true));
	set_cold(&s.w, cold);
	fill(&s.w, cold, p, sizeof(p), 0);
	fill(&s.w, plain, p, sizeof(p), 0);
	CHECK(!is_kept(&s.w, dir, "cold", false));
	CHECK(is_kept(&s.w, dir, "plain", false) && is_kept(&s.w, layers, "layered", false));
	/* What was written so stays so. */
	CHECK_OK(tree_setxattr(s.w.tree, cold, SPILLFS_XATTR_COMPRESS, "none", 4, 0, &me));
	CHECK(!is_kept(&s.w, dir, "cold", false));
	set_cold(&s.w, cold);
	/* Once something is, it has to be: a commit lets go of the inode as well. */
	CHECK_OK(commit_wait(s.scratch->commit, COMMIT_SYNC));
	CHECK(!is_kept(&s.w, dir, "plain", true) && !is_kept(&s.w, dir, "cold", true));
	fill(&s.w, plain, p, sizeof(p), 0);
	CHECK(is_kept(&s.w, dir, "plain", false) && is_kept(&s.w, ROOT, "d", false));
	/* The durable store has nothing cold. */
	plain = make(&s.w, META_INO_BUCKETS, "plain", S_IFREG | 0644);
	CHECK(is_kept(&s.w, META_INO_BUCKETS, "plain", false) && is_kept(&s.w, META_INO_BUCKETS, "plain", true));
	close_scene(&s);
}

static void cut(struct world *w, uint64_t ino)
{
	const struct stat empty = { 0 };
	struct tree_attr a;

	CHECK_OK(tree_setattr(w->tree, ino, TREE_SET_SIZE, &empty, &me, NULL, &a));
}

static void punch(struct world *w, uint64_t ino, size_t n)
{
	struct tree_file_info info = { .direct = true };
	struct tree_file *f;

	CHECK_OK(tree_file_open(w->tree, ino, O_WRONLY, &me, &f, &info));
	CHECK_OK(tree_fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, n, &me));
	tree_file_release(f);
}

enum freeing { CUT, PUNCHED, DELETED, DELETED_CLEAN, NFREEINGS };

/* A commit that nobody asks for comes when so much is freed, also of a file that was committed a moment ago. */
static void check_commit(struct scene *s, uint64_t dir, enum freeing way, const unsigned char *p, size_t n)
{
	struct commit *c = dir == ROOT ? s->scratch->commit : s->w.store->commit;
	uint64_t f = make(&s->w, dir, "f", S_IFREG | 0644), before;

	for (size_t k = 0; k < 9; k++)
		fill(&s->w, f, p, n, k * n);
	if (way == DELETED_CLEAN)
		CHECK_OK(commit_wait(c, COMMIT_SYNC));
	before = commit_number(c);
	if (way == CUT)
		cut(&s->w, f);
	else if (way == PUNCHED)
		punch(&s->w, f, 9 * n);
	CHECK_OK(tree_unlink(s->w.tree, dir, "f", &me));
	tree_forget(s->w.tree, f, 1);
	while (commit_number(c) == before)
		usleep(1000);
}

/* New data would take as much again until it is over. */
UNIT_TEST(space_that_is_freed_does_not_wait_for_the_interval)
{
	static const uint64_t dirs[] = { META_INO_COLUMNS, META_INO_BUCKETS, ROOT };
	const size_t n = 8 << 20;
	unsigned char *p = unit_allot(n);
	uint64_t seed = 6;
	struct scene s;

	unit_rand_fill(&seed, p, n);
	open_scene(&s);
	for (size_t k = 0; k < sizeof(dirs) / sizeof(*dirs); k++)
		for (enum freeing way = CUT; way < NFREEINGS; way++)
			check_commit(&s, dirs[k], way, p, n);
	close_scene(&s);
	free(p);
}

/* A commit lets go of the file as far as it can, and does not begin anew for it as long as the disk is full. */
UNIT_TEST(space_that_a_full_disk_keeps_is_asked_for_once)
{
	const size_t n = 8 << 20;
	unsigned char *p = unit_allot(n);
	uint64_t seed = 7, f, before;
	struct io_dir *disk;
	struct scene s;

	unit_rand_fill(&seed, p, n);
	disk = open_scene(&s);
	f = make(&s.w, META_INO_LAYERS, "f", S_IFREG | 0644);
	for (size_t k = 0; k < 9; k++)
		fill(&s.w, f, p, n, k * n);
	CHECK_OK(commit_wait(s.w.store->commit, COMMIT_SYNC));
	fill(&s.w, f, p, 60000, 9 * n); /* waits for the commit */
	io_mem_set_space(disk, 0);
	before = commit_number(s.w.store->commit);
	CHECK_OK(tree_unlink(s.w.tree, META_INO_LAYERS, "f", &me));
	tree_forget(s.w.tree, f, 1);
	usleep(300000); /* for some hundreds, if there were any */
	CHECK(commit_number(s.w.store->commit) <= before + 4);
	io_mem_set_space(disk, UINT64_MAX);
	close_scene(&s);
	free(p);
}

/* A write frees nothing, although the blocks before it become smaller while it runs. */
UNIT_TEST(scratch_writes_in_layers_ask_for_no_commit)
{
	const size_t n = 1 << 20;
	unsigned char *p = unit_allot(n);
	struct scene s;
	uint64_t f, before;

	for (size_t i = 0; i < n; i++)
		p[i] = (unsigned char)(i / 1000);
	open_with(&s, 0, 16 << 20);
	CHECK_OK(set_kind(&s.w, ROOT, "layered"));
	f = make(&s.w, ROOT, "f", S_IFREG | 0644);
	CHECK_OK(commit_wait(s.scratch->commit, COMMIT_SYNC));
	before = commit_number(s.scratch->commit);
	for (size_t k = 0; k < 32; k++)
		fill(&s.w, f, p, n, k * n);
	CHECK_EQ(commit_number(s.scratch->commit), before);
	close_scene(&s);
	free(p);
}

UNIT_TEST(scratch_is_a_world_with_numbers_of_its_own)
{
	struct tree_attr a;
	struct scene s;
	uint64_t f, up;

	open_scene(&s);
	CHECK_OK(world_walk(&s.w, "scratch", &a));
	CHECK_EQ(a.st.st_ino, ROOT);
	CHECK_EQ(a.st.st_mode, S_IFDIR | 01777);
	CHECK_EQ(realm_of(s.w.tree, ROOT)->id, REALM_SCRATCH);
	CHECK_EQ(realm_of(s.w.tree, META_INO_ROOT)->id, REALM_LIVE);
	f = make(&s.w, make(&s.w, ROOT, "d", S_IFDIR | 0755), "f", S_IFREG | 0644);
	CHECK(f > ROOT && f < META_INO_SCRATCH + META_INO_END);
	fill(&s.w, f, "data", 4, 0);
	CHECK(world_holds(&s.w, "scratch/d/f", "data", 4));
	CHECK_OK(realm_of(s.w.tree, ROOT)->parent(s.w.tree, ROOT, &up));
	CHECK_EQ(up, META_INO_ROOT);
	close_scene(&s);
}

UNIT_TEST(scratch_is_listed_in_the_root_and_lists_itself)
{
	struct tree_dirent v[16];
	struct tree_dir *d;
	char got[256] = "";
	struct scene s;
	size_t n;

	open_scene(&s);
	make(&s.w, ROOT, "b", S_IFREG | 0644);
	make(&s.w, ROOT, "a", S_IFDIR | 0755);
	for (int k = 0; k < 2; k++) {
		CHECK_OK(tree_dir_open(s.w.tree, &d));
		CHECK_OK(tree_dir_read(s.w.tree, d, k ? ROOT : META_INO_ROOT, 0, true, v, 16, &n));
		for (size_t i = 0; i < n; i++) {
			snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s ", v[i].name);
			CHECK(v[i].attr.st.st_ino);
			if (v[i].counted)
				tree_forget(s.w.tree, v[i].attr.st.st_ino, 1);
		}
		tree_dir_release(s.w.tree, d);
	}
	CHECK(!strcmp(got, ". .. deltas snapshots views scratch buckets columns layers . .. b a "));
	close_scene(&s);
}

UNIT_TEST(scratch_changes_nothing_that_is_durable)
{
	static const char names[][16] = { "b", "c.column", "l.layered" };
	uint64_t before, commits;
	struct scene s;

	open_scene(&s);
	CHECK_OK(tree_sync(s.w.tree));
	before = io_fault_count(s.faults);
	commits = commit_number(s.w.store->commit);
	for (int k = 0; k < 3; k++) {
		char bytes[200000];
		uint64_t ino = make(&s.w, ROOT, names[k], S_IFREG | 0644);

		memset(bytes, k + 1, sizeof(bytes));
		fill(&s.w, ino, bytes, sizeof(bytes), 0);
		CHECK_OK(tree_sync_of(s.w.tree, ino));
	}
	CHECK_OK(commit_wait(s.scratch->commit, COMMIT_SEAL));
	CHECK_EQ(io_fault_count(s.faults), before);
	CHECK_EQ(commit_number(s.w.store->commit), commits);
	close_scene(&s);
}

/* A commit that runs would wait for the disk. */
UNIT_TEST(scratch_is_not_synced_by_anybody)
{
	struct scene s;
	uint64_t commits;

	open_scene(&s);
	commits = commit_number(s.scratch->commit);
	CHECK_OK(tree_sync_of(s.w.tree, make(&s.w, ROOT, "f", S_IFREG | 0644)));
	CHECK_OK(tree_sync_of(s.w.tree, ROOT));
	CHECK_OK(world_commit(&s.w));
	CHECK_EQ(commit_number(s.scratch->commit), commits);
	close_scene(&s);
}

UNIT_TEST(scratch_has_nothing_in_common_with_classes)
{
	struct tree_attr a;
	uint64_t in, out;
	struct scene s;

	open_scene(&s);
	in = make(&s.w, ROOT, "in", S_IFREG | 0644);
	out = make(&s.w, META_INO_BUCKETS, "out", S_IFREG | 0644);
	CHECK_EQ(tree_rename(s.w.tree, ROOT, "in", META_INO_BUCKETS, "in", 0, &me), -EXDEV);
	CHECK_EQ(tree_rename(s.w.tree, META_INO_BUCKETS, "out", ROOT, "out", 0, &me), -EXDEV);
	CHECK_EQ(tree_link(s.w.tree, in, META_INO_BUCKETS, "in", &a), -EXDEV);
	CHECK_EQ(tree_link(s.w.tree, out, ROOT, "out", &a), -EXDEV);
	CHECK_EQ(tree_rmdir(s.w.tree, META_INO_ROOT, "scratch"), -EPERM);
	close_scene(&s);
}

UNIT_TEST(scratch_has_space_of_its_own)
{
	struct statvfs durable, own;
	struct scene s;

	open_scene(&s);
	io_mem_set_space(s.scratch->dir, 64 << 20);
	CHECK_OK(tree_statfs(s.w.tree, META_INO_ROOT, &durable));
	CHECK_OK(tree_statfs(s.w.tree, ROOT, &own));
	CHECK_EQ(own.f_blocks * own.f_frsize, 64 << 20);
	CHECK(durable.f_blocks > own.f_blocks);
	close_scene(&s);
}

UNIT_TEST(scratch_is_a_source_of_views)
{
	double v[100] = { 1, 2, 3 };
	struct tree_attr a;
	struct scene s;
	uint64_t d;

	open_scene(&s);
	d = make(&s.w, ROOT, "d", S_IFDIR | 0755);
	fill(&s.w, make(&s.w, d, "x.f64", S_IFREG | 0644), v, sizeof(v), 0);
	fill(&s.w, make(&s.w, d, "y.layered.f64", S_IFREG | 0644), v, sizeof(v), 0);
	CHECK_OK(world_walk(&s.w, "views/npy/scratch/d/x.npy", &a));
	CHECK(a.st.st_size > (off_t)sizeof(v));
	CHECK_OK(world_walk(&s.w, "views/parquet/scratch/d.parquet", &a));
	CHECK_OK(world_walk(&s.w, "views/zst/scratch/d/y.layered.f64.zst", &a));
	/* Only layered arrays have frames, only buckets have runs. */
	CHECK_EQ(world_walk(&s.w, "views/zst/scratch/d/x.f64.zst", &a), -ENOENT);
	CHECK_OK(world_walk(&s.w, "views/runs/scratch/d/x.f64", &a));
	CHECK_EQ(world_walk(&s.w, "views/runs/scratch/d/y.layered.f64", &a), -ENOENT);
	CHECK_OK(world_snapshot(&s.w, "s"));
	CHECK_EQ(world_walk(&s.w, "snapshots/s/scratch", &a), -ENOENT);
	CHECK_EQ(world_walk(&s.w, "snapshots/s/views/npy/scratch", &a), -ENOENT);
	close_scene(&s);
}

/* ---- kinds ---- */

UNIT_TEST(scratch_kind_follows_name_then_directory)
{
	struct scene s;
	uint64_t d, sub;

	open_scene(&s);
	d = make(&s.w, ROOT, "d", S_IFDIR | 0755);
	check_xattr(&s.w, make(&s.w, d, "plain", S_IFREG | 0644), SPILLFS_XATTR_KIND, "bucket");
	check_xattr(&s.w, make(&s.w, d, "a.layered", S_IFREG | 0644), SPILLFS_XATTR_KIND, "layered");
	check_xattr(&s.w, make(&s.w, d, "a.column.f64", S_IFREG | 0644), SPILLFS_XATTR_KIND, "column");
	check_xattr(&s.w, make(&s.w, d, ".column", S_IFREG | 0644), SPILLFS_XATTR_KIND, "bucket");
	CHECK_OK(set_kind(&s.w, d, "column"));
	check_xattr(&s.w, d, SPILLFS_XATTR_KIND, "column");
	check_xattr(&s.w, make(&s.w, d, "b", S_IFREG | 0644), SPILLFS_XATTR_KIND, "column");
	check_xattr(&s.w, make(&s.w, d, "b.bucket", S_IFREG | 0644), SPILLFS_XATTR_KIND, "bucket");
	sub = make(&s.w, d, "sub", S_IFDIR | 0755);
	check_xattr(&s.w, make(&s.w, sub, "b", S_IFREG | 0644), SPILLFS_XATTR_KIND, "column");
	CHECK_OK(tree_removexattr(s.w.tree, sub, SPILLFS_XATTR_KIND, &me));
	check_xattr(&s.w, make(&s.w, sub, "c", S_IFREG | 0644), SPILLFS_XATTR_KIND, "bucket");
	close_scene(&s);
}

UNIT_TEST(scratch_kind_is_set_on_directories_of_scratch_alone)
{
	struct scene s;
	uint64_t f;
	char *names;
	size_t len;

	open_scene(&s);
	f = make(&s.w, ROOT, "f", S_IFREG | 0644);
	CHECK_EQ(set_kind(&s.w, f, "column"), -EPERM);
	CHECK_EQ(set_kind(&s.w, ROOT, "columns"), -EINVAL);
	CHECK_EQ(set_kind(&s.w, META_INO_LAYERS, "column"), -EPERM);
	CHECK_EQ(set_kind(&s.w, make(&s.w, META_INO_LAYERS, "d", S_IFDIR | 0755), "column"), -EPERM);
	CHECK_EQ(tree_removexattr(s.w.tree, f, SPILLFS_XATTR_KIND, &me), -EPERM);
	CHECK_OK(set_kind(&s.w, ROOT, "layered"));
	CHECK_OK(tree_listxattr(s.w.tree, ROOT, &names, &len));
	CHECK_EQ(len, 0);
	free(names);
	close_scene(&s);
}

UNIT_TEST(scratch_kinds_share_directories)
{
	struct tree_attr a;
	struct scene s;
	uint64_t d, f;

	open_scene(&s);
	d = make(&s.w, ROOT, "d", S_IFDIR | 0755);
	CHECK_OK(set_kind(&s.w, d, "layered"));
	f = make(&s.w, ROOT, "f", S_IFREG | 0644);
	fill(&s.w, f, "f", 1, 0);
	CHECK_OK(tree_link(s.w.tree, f, d, "linked", &a));
	CHECK_OK(tree_rename(s.w.tree, ROOT, "f", d, "moved", 0, &me));
	check_xattr(&s.w, f, SPILLFS_XATTR_KIND, "bucket");
	CHECK(world_holds(&s.w, "scratch/d/moved", "f", 1));
	close_scene(&s);
}

/* ---- alone ---- */

static const struct store_config alone = { .cache_bytes = 4 << 20, .dirty_bytes = 4 << 20, .threads = 2, .pool_files = 2, .scratch = true };

UNIT_TEST(scratch_alone_has_files_in_its_root)
{
	struct tree_dirent v[8];
	struct tree_attr a;
	struct tree_dir *d;
	struct world w;
	uint64_t ino;
	size_t n;

	world_open(&w, world_disk(), &alone);
	CHECK_OK(world_make(&w, META_INO_ROOT, "f", S_IFREG | 0644, &ino));
	CHECK_OK(tree_rename(w.tree, META_INO_ROOT, "f", META_INO_ROOT, "views", 0, &me));
	CHECK_OK(world_walk(&w, ".spillfs/stats", &a));
	CHECK_EQ(world_walk(&w, "layers", &a), -ENOENT);
	CHECK_EQ(world_walk(&w, "snapshots", &a), -ENOENT);
	CHECK_OK(tree_dir_open(w.tree, &d));
	CHECK_OK(tree_dir_read(w.tree, d, META_INO_ROOT, 0, false, v, 8, &n));
	CHECK_EQ(n, 3);
	CHECK(!strcmp(v[2].name, "views"));
	tree_dir_release(w.tree, d);
	CHECK(tree_names_settled(w.tree, META_INO_ROOT));
	CHECK_OK(world_close(&w));
}

/* The log of a scratch store has no names. */
UNIT_TEST(scratch_layers_are_sealed_and_compacted)
{
	struct world w;
	unsigned char bytes[1 << 20];
	uint64_t ino;

	world_open(&w, world_disk(), &alone);
	for (size_t k = 0; k < sizeof(bytes); k++)
		bytes[k] = (unsigned char)(k * 2654435761u >> 13);
	CHECK_OK(world_write(&w, META_INO_ROOT, "keep.layered", bytes, sizeof(bytes)));
	CHECK_OK(world_write(&w, META_INO_ROOT, "gone.layered", bytes, sizeof(bytes)));
	CHECK_OK(world_commit(&w));
	CHECK_OK(tree_unlink(w.tree, META_INO_ROOT, "gone.layered", &me));
	CHECK_OK(world_make(&w, META_INO_ROOT, "d", S_IFDIR | 0755, &ino));
	CHECK_OK(tree_rename(w.tree, META_INO_ROOT, "keep.layered", ino, "kept", 0, &me));
	bytes[5]++;
	CHECK_OK(world_write(&w, ino, "kept", bytes, 4096));
	CHECK_OK(world_commit(&w));
	world_compact(&w);
	CHECK_OK(world_commit(&w));
	CHECK(world_holds(&w, "d/kept", bytes, sizeof(bytes)));
	CHECK_OK(world_close(&w));
}

UNIT_TEST(scratch_ends_without_a_commit)
{
	struct io_dir *faults = world_faults(world_disk());
	unsigned char bytes[300000] = { 1 };
	struct world w;
	uint64_t before;

	CHECK_OK(world_open_dir(&w, faults, &alone));
	CHECK_OK(world_write(&w, META_INO_ROOT, "a", bytes, sizeof(bytes)));
	CHECK_OK(world_write(&w, META_INO_ROOT, "b.layered", bytes, sizeof(bytes)));
	before = commit_number(w.store->commit);
	tree_close(w.tree);
	CHECK_EQ(commit_number(w.store->commit), before);
	CHECK_OK(store_close(w.store));
}

/* ---- lifetimes ---- */

/* A process that does nothing until it is killed. Lifetimes are not tested in valgrind, which lacks pidfd_open. */
static pid_t idle_process(void)
{
	pid_t pid = fork();

	if (!pid) {
		pause();
		_exit(0);
	}
	CHECK(pid > 0);
	return pid;
}

static void end_process(pid_t pid)
{
	CHECK(!kill(pid, SIGKILL));
	CHECK_EQ(waitpid(pid, NULL, 0), pid);
}

static int set_lifetime(struct world *w, uint64_t ino, const char *text, uid_t uid)
{
	struct tree_caller who = { .uid = uid, .thread = getpid() };

	return tree_setxattr(w->tree, ino, SPILLFS_XATTR_LIFETIME, text, strlen(text), 0, &who);
}

static void set_pid(struct world *w, uint64_t ino, pid_t pid)
{
	char text[32];

	snprintf(text, sizeof(text), "pid:%ld", (long)pid);
	CHECK_OK(set_lifetime(w, ino, text, 0));
	check_xattr(w, ino, SPILLFS_XATTR_LIFETIME, text);
}

/* Within ten seconds. */
static void wait_until_absent(struct world *w, uint64_t dir, const char *name)
{
	struct tree_attr a;
	int err = 0;

	for (int k = 0; k < 1000; k++) {
		err = tree_lookup(w->tree, dir, name, &me, &a);
		if (err)
			break;
		tree_forget(w->tree, a.st.st_ino, 1);
		clock_sleep_ns(10000000);
	}
	CHECK_EQ(err, -ENOENT);
}

static uint64_t inodes_in(struct store *s)
{
	uint64_t n;

	meta_lock(s->meta);
	CHECK_OK(meta_inode_count_locked(s->meta, &n));
	meta_unlock(s->meta);
	return n;
}

static _Atomic uint64_t last_name_changed;

static void see_name(void *ctx, uint64_t parent, const char *name)
{
	(void)ctx;
	(void)name;
	last_name_changed = parent;
}

static void see_attr(void *ctx, uint64_t ino)
{
	(void)ctx;
	(void)ino;
}

UNIT_TEST(scratch_lifetime_ends_with_its_process)
{
	struct tree_file_info info = { .direct = true };
	pid_t pid;
	struct tree_file *f;
	struct tree_attr a;
	struct scene s;
	uint64_t d, sub, open;
	char name[16];

	if (unit_in_valgrind())
		return;
	pid = idle_process();
	open_scene(&s);
	tree_on_changes(s.w.tree, &(struct tree_changes){ .name = see_name, .attr = see_attr });
	d = make(&s.w, ROOT, "d", S_IFDIR | 0755);
	sub = make(&s.w, make(&s.w, d, "sub", S_IFDIR | 0755), "deep", S_IFDIR | 0755);
	for (int k = 0; k < 200; k++) {
		snprintf(name, sizeof(name), "%d", k);
		tree_forget(s.w.tree, make(&s.w, k % 2 ? d : sub, name, S_IFREG | 0644), 1);
	}
	make(&s.w, ROOT, "other", S_IFREG | 0644);
	open = make(&s.w, sub, "open", S_IFREG | 0644);
	CHECK_OK(tree_link(s.w.tree, open, ROOT, "linked", &a));
	CHECK_OK(tree_file_open(s.w.tree, open, O_RDWR, &me, &f, &info));
	set_pid(&s.w, d, pid);
	end_process(pid);
	wait_until_absent(&s.w, ROOT, "d");
	/* It is told a moment after the name is gone. */
	for (int k = 0; k < 1000 && last_name_changed != ROOT; k++)
		clock_sleep_ns(10000000);
	CHECK_EQ(last_name_changed, ROOT);
	CHECK_EQ(tree_make(s.w.tree, d, "new", S_IFREG | 0644, 0, NULL, &me, &a), -ENOENT);
	CHECK_EQ(tree_rename(s.w.tree, ROOT, "other", d, "new", 0, &me), -ENOENT);
	CHECK_EQ(tree_rename(s.w.tree, d, "sub", ROOT, "sub", 0, &me), -ENOENT);
	CHECK_EQ(tree_rmdir(s.w.tree, d, "sub"), -ENOENT);
	CHECK_OK(tree_write(f, "still", 5, 0, &(struct tree_write_how){ .whole = true, .who = &me }, &(size_t){ 0 }));
	tree_file_release(f);
	CHECK(world_holds(&s.w, "scratch/linked", "still", 5));
	close_scene(&s);
}

/* What is removed leaves no row. */
UNIT_TEST(scratch_lifetime_leaves_nothing_behind)
{
	pid_t pid;
	uint64_t before, d;
	struct scene s;

	if (unit_in_valgrind())
		return;
	pid = idle_process();
	open_scene(&s);
	before = inodes_in(s.scratch);
	d = make(&s.w, ROOT, "d", S_IFDIR | 0755);
	CHECK_OK(world_write(&s.w, d, "a", "1", 1));
	CHECK_OK(world_write(&s.w, d, "b.layered", "22", 2));
	tree_forget(s.w.tree, make(&s.w, d, "e", S_IFDIR | 0755), 1);
	CHECK(inodes_in(s.scratch) > before);
	set_pid(&s.w, d, pid);
	end_process(pid);
	wait_until_absent(&s.w, ROOT, "d");
	tree_forget(s.w.tree, d, 1);
	for (int k = 0; k < 1000 && inodes_in(s.scratch) > before; k++) {
		CHECK_OK(commit_wait(s.scratch->commit, COMMIT_SYNC));
		clock_sleep_ns(1000000);
	}
	CHECK_EQ(inodes_in(s.scratch), before);
	close_scene(&s);
}

UNIT_TEST(scratch_lifetime_can_be_set_anew)
{
	pid_t first, second;
	struct tree_attr a;
	struct scene s;
	uint64_t kept, moved, end;
	void *value;
	size_t len;

	if (unit_in_valgrind())
		return;
	first = idle_process();
	second = idle_process();
	open_scene(&s);
	kept = make(&s.w, ROOT, "kept", S_IFDIR | 0755);
	moved = make(&s.w, ROOT, "moved", S_IFDIR | 0755);
	end = make(&s.w, ROOT, "end", S_IFDIR | 0755);
	set_pid(&s.w, kept, first);
	set_pid(&s.w, moved, first);
	set_pid(&s.w, end, first);
	CHECK_OK(set_lifetime(&s.w, kept, "mount", 0));
	CHECK_EQ(tree_getxattr(s.w.tree, kept, SPILLFS_XATTR_LIFETIME, &value, &len), -ENODATA);
	CHECK_EQ(tree_removexattr(s.w.tree, kept, SPILLFS_XATTR_LIFETIME, &me), -ENODATA);
	set_pid(&s.w, moved, second);
	CHECK_OK(tree_rename(s.w.tree, ROOT, "moved", kept, "there", 0, &me));
	end_process(first);
	wait_until_absent(&s.w, ROOT, "end");
	CHECK_OK(tree_lookup(s.w.tree, ROOT, "kept", &me, &a));
	CHECK_OK(tree_lookup(s.w.tree, kept, "there", &me, &a));
	end_process(second);
	wait_until_absent(&s.w, kept, "there");
	CHECK_OK(tree_lookup(s.w.tree, ROOT, "kept", &me, &a));
	close_scene(&s);
}

UNIT_TEST(scratch_lifetime_refuses_what_it_cannot_keep)
{
	static const char *const bad[] = { "", "pid:", "pid:0", "pid:-1", "pid:1x", "pid:99999999999", "forever", "pid:self " };
	struct tree_caller nobody_known = { .uid = 0 };
	struct scene s;
	uint64_t d;

	if (unit_in_valgrind())
		return;
	open_scene(&s);
	d = make(&s.w, ROOT, "d", S_IFDIR | 0755);
	for (size_t k = 0; k < sizeof(bad) / sizeof(*bad); k++)
		CHECK_EQ(set_lifetime(&s.w, d, bad[k], 0), -EINVAL);
	CHECK_EQ(set_lifetime(&s.w, d, "pid:2147483647", 0), -ESRCH);
	CHECK_EQ(set_lifetime(&s.w, d, "pid:self", 1234), -EPERM);
	CHECK_OK(set_lifetime(&s.w, d, "pid:self", 0));
	CHECK_EQ(set_lifetime(&s.w, d, "mount", 1234), -EPERM);
	CHECK_EQ(tree_removexattr(s.w.tree, d, SPILLFS_XATTR_LIFETIME, &(struct tree_caller){ .uid = 1234 }), -EPERM);
	CHECK_OK(tree_removexattr(s.w.tree, d, SPILLFS_XATTR_LIFETIME, &me));
	CHECK_EQ(set_lifetime(&s.w, ROOT, "pid:self", 0), -EBUSY);
	CHECK_EQ(set_lifetime(&s.w, make(&s.w, ROOT, "f", S_IFREG | 0644), "pid:self", 0), -ENOTDIR);
	CHECK_EQ(set_lifetime(&s.w, META_INO_BUCKETS, "pid:self", 0), -EINVAL);
	CHECK_EQ(tree_setxattr(s.w.tree, d, SPILLFS_XATTR_LIFETIME, "pid:self", 8, 0, &nobody_known), -ESRCH);
	CHECK_OK(set_lifetime(&s.w, d, "pid:self", 0));
	close_scene(&s);
}

/* A process whose session has no leader any more, as one that nohup or a CI runner has left. The leader has ended. */
static pid_t leaderless_process(void)
{
	int fds[2];
	pid_t leader, pid;

	CHECK(!pipe(fds));
	leader = fork();
	if (!leader) {
		setsid();
		pid = idle_process();
		_exit(write(fds[1], &pid, sizeof(pid)) != sizeof(pid));
	}
	CHECK(leader > 0);
	CHECK_EQ(waitpid(leader, NULL, 0), leader);
	CHECK_EQ(read(fds[0], &pid, sizeof(pid)), sizeof(pid));
	close(fds[0]);
	close(fds[1]);
	return pid;
}

UNIT_TEST(scratch_lifetime_of_a_session_needs_its_leader)
{
	pid_t left;
	struct scene s;
	uint64_t d;

	if (unit_in_valgrind())
		return;
	left = leaderless_process();
	CHECK(setsid() > 0 || getsid(0) == getpid());
	open_scene(&s);
	d = make(&s.w, ROOT, "d", S_IFDIR | 0755);
	CHECK_EQ(tree_setxattr(s.w.tree, d, SPILLFS_XATTR_LIFETIME, "session", 7, 0, &(struct tree_caller){ .thread = left }), -ESRCH);
	CHECK_EQ(tree_getxattr(s.w.tree, d, SPILLFS_XATTR_LIFETIME, &(void *){ NULL }, &(size_t){ 0 }), -ENODATA);
	CHECK_OK(set_lifetime(&s.w, d, "session", 0));
	check_xattr(&s.w, d, SPILLFS_XATTR_LIFETIME, "session");
	close_scene(&s);
	CHECK(!kill(left, SIGKILL));
}

/* At the end of the mount lifetimes go unused; directories that somebody else has removed are forgotten. */
UNIT_TEST(scratch_lifetimes_end_with_the_tree)
{
	pid_t pid;
	struct scene s;
	uint64_t d;

	if (unit_in_valgrind())
		return;
	pid = idle_process();
	open_scene(&s);
	for (int k = 0; k < 20; k++) {
		d = make(&s.w, ROOT, "d", S_IFDIR | 0755);
		set_pid(&s.w, d, pid);
		CHECK_OK(tree_rmdir(s.w.tree, ROOT, "d"));
	}
	set_pid(&s.w, make(&s.w, ROOT, "left", S_IFDIR | 0755), pid);
	close_scene(&s);
	end_process(pid);
}

/* ---- durable directories that are declared scratch ---- */

static int set_durable(struct world *w, uint64_t dir, const char *value)
{
	return tree_setxattr(w->tree, dir, SPILLFS_XATTR_DURABLE, value, strlen(value), 0, &me);
}

static uint64_t make_declared(struct scene *s, uint64_t folder, const char *name)
{
	uint64_t d = make(&s->w, folder, name, S_IFDIR | 0755);

	CHECK_OK(set_durable(&s->w, d, "no"));
	return d;
}

/* The names in a directory, each with a space behind it; and the number that ".." has. */
static void list(struct world *w, uint64_t dir, char got[512], uint64_t *up_out)
{
	struct tree_dirent v[16];
	struct tree_dir *d;
	size_t n;

	*got = '\0';
	CHECK_OK(tree_dir_open(w->tree, &d));
	CHECK_OK(tree_dir_read(w->tree, d, dir, 0, false, v, 16, &n));
	*up_out = v[1].attr.st.st_ino;
	for (size_t k = 2; k < n; k++)
		snprintf(got + strlen(got), 512 - strlen(got), "%s ", v[k].name);
	tree_dir_release(w->tree, d);
}

/* The store as a kill and a new mount leave it. */
static void mount_again(struct scene *s, struct io_dir *disk)
{
	struct store_config config = world_config;
	struct store_refusal why;
	struct io_dir *dir;

	close_scene(s);
	world_open(&s->w, disk, &world_config);
	config.scratch = true;
	config.above = META_INO_SCRATCH;
	CHECK_OK(io_mem_dir(&dir));
	CHECK_OK(store_open(dir, "scratch", &config, &s->scratch, &why));
	CHECK_OK(tree_add_scratch(s->w.tree, s->scratch));
}

UNIT_TEST(declared_directory_is_durable_and_what_is_in_it_is_not)
{
	static const char *const folders[] = { "buckets", "columns", "layers" }, *const kinds[] = { "bucket", "column", "layered" };
	struct tree_attr a;
	struct scene s;
	struct io_dir *disk = open_scene(&s);

	for (unsigned k = 0; k < 3; k++) {
		uint64_t d = make_declared(&s, META_INO_BUCKETS + k, "d"), sub = make(&s.w, d, "sub", S_IFDIR | 0700), f;
		char path[64];

		f = make(&s.w, sub, "f", S_IFREG | 0644);
		CHECK(d < META_INO_SCRATCH && sub > META_INO_SCRATCH && f > META_INO_SCRATCH);
		check_xattr(&s.w, f, SPILLFS_XATTR_KIND, kinds[k]);
		check_xattr(&s.w, d, SPILLFS_XATTR_DURABLE, "no");
		check_xattr(&s.w, sub, SPILLFS_XATTR_DURABLE, "no");
		fill(&s.w, f, "data", 4, 0);
		snprintf(path, sizeof(path), "%s/d/sub/f", folders[k]);
		CHECK(world_holds(&s.w, path, "data", 4));
	}
	CHECK_OK(world_commit(&s.w));
	mount_again(&s, disk);
	for (unsigned k = 0; k < 3; k++) {
		char path[64], names[512];
		uint64_t up;

		CHECK_OK(world_walk(&s.w, folders[k], &a));
		snprintf(path, sizeof(path), "%s/d", folders[k]);
		CHECK_OK(world_walk(&s.w, path, &a));
		list(&s.w, a.st.st_ino, names, &up);
		CHECK(!*names);
		CHECK_EQ(a.st.st_nlink, 2);
		/* It goes on being what it was declared. */
		CHECK(make(&s.w, a.st.st_ino, "f", S_IFREG | 0644) > META_INO_SCRATCH);
	}
	close_scene(&s);
}

/* The directory and its shelf have the same, or the caller is told and nothing has changed. */
UNIT_TEST(declared_directory_keeps_an_attribute_that_its_shelf_refuses)
{
	struct scene s;
	uint64_t d;

	open_scene(&s);
	d = make_declared(&s, META_INO_LAYERS, "d");
	CHECK_OK(tree_setxattr(s.w.tree, d, "user.a", "old", 3, 0, &me));
	atomic_store(&s.scratch->read_only, true);
	CHECK_EQ(tree_setxattr(s.w.tree, d, "user.a", "new", 3, 0, &me), -EROFS);
	check_xattr(&s.w, d, "user.a", "old");
	CHECK_EQ(tree_removexattr(s.w.tree, d, "user.a", &me), -EROFS);
	check_xattr(&s.w, d, "user.a", "old");
	CHECK_EQ(tree_setxattr(s.w.tree, d, "user.b", "new", 3, 0, &me), -EROFS);
	CHECK_EQ(tree_getxattr(s.w.tree, d, "user.b", &(void *){ NULL }, &(size_t){ 0 }), -ENODATA);
	atomic_store(&s.scratch->read_only, false);
	CHECK_OK(tree_removexattr(s.w.tree, d, "user.a", &me));
	CHECK_EQ(tree_getxattr(s.w.tree, d, "user.a", &(void *){ NULL }, &(size_t){ 0 }), -ENODATA);
	close_scene(&s);
}

UNIT_TEST(declared_directory_is_synced_by_nobody)
{
	uint64_t d, before, commits;
	struct scene s;

	open_scene(&s);
	d = make_declared(&s, META_INO_LAYERS, "d");
	CHECK_OK(tree_sync(s.w.tree));
	before = io_fault_count(s.faults);
	commits = commit_number(s.w.store->commit);
	for (int k = 0; k < 20; k++) {
		char bytes[200000], name[16];
		uint64_t f;

		snprintf(name, sizeof(name), "f%d", k);
		memset(bytes, k + 1, sizeof(bytes));
		f = make(&s.w, d, name, S_IFREG | 0644);
		fill(&s.w, f, bytes, sizeof(bytes), 0);
		CHECK_OK(tree_sync_of(s.w.tree, f));
	}
	CHECK_EQ(io_fault_count(s.faults), before);
	CHECK_EQ(commit_number(s.w.store->commit), commits);
	close_scene(&s);
}

UNIT_TEST(declared_directory_is_one_directory_to_programs)
{
	struct tree_attr a, sub;
	struct statvfs own;
	char names[512];
	uint64_t d, up;
	struct scene s;

	open_scene(&s);
	io_mem_set_space(s.scratch->dir, 64 << 20);
	d = make_declared(&s, META_INO_BUCKETS, "d");
	CHECK_OK(tree_getattr(s.w.tree, d, &sub));
	while (clock_now_ns() <= clock_ns(sub.st.st_ctim))
		;
	make(&s.w, d, "f", S_IFREG | 0644);
	make(&s.w, make(&s.w, d, "one", S_IFDIR | 0755), "deep", S_IFREG | 0644);
	make(&s.w, d, "two", S_IFDIR | 0755);
	CHECK_OK(tree_getattr(s.w.tree, d, &a));
	CHECK_EQ(a.st.st_nlink, 4);
	CHECK(clock_ns(a.st.st_mtim) > clock_ns(sub.st.st_mtim) && clock_ns(a.st.st_ctim) > clock_ns(sub.st.st_ctim));
	list(&s.w, d, names, &up);
	CHECK(!strcmp(names, "f one two "));
	CHECK_EQ(up, META_INO_BUCKETS);
	CHECK_OK(world_walk(&s.w, "buckets/d/one", &sub));
	list(&s.w, sub.st.st_ino, names, &up);
	CHECK_EQ(up, d);
	CHECK_OK(tree_statfs(s.w.tree, d, &own));
	CHECK_EQ(own.f_blocks * own.f_frsize, 64 << 20);
	CHECK_EQ(tree_rmdir(s.w.tree, META_INO_BUCKETS, "d"), -ENOTEMPTY);
	CHECK_OK(tree_unlink(s.w.tree, sub.st.st_ino, "deep", &me));
	CHECK_OK(tree_rmdir(s.w.tree, d, "one"));
	CHECK_OK(tree_rmdir(s.w.tree, d, "two"));
	CHECK_OK(tree_unlink(s.w.tree, d, "f", &me));
	CHECK_OK(tree_getattr(s.w.tree, d, &a));
	CHECK_EQ(a.st.st_nlink, 2);
	CHECK_OK(tree_rmdir(s.w.tree, META_INO_BUCKETS, "d"));
	CHECK_EQ(tree_make(s.w.tree, d, "late", S_IFREG | 0644, 0, NULL, &me, &a), -ENOENT);
	close_scene(&s);
}

UNIT_TEST(declared_directory_passes_on_what_it_says)
{
	struct tree_attr a;
	struct stat st = { .st_mode = 02770, .st_gid = 77 };
	struct scene s;
	uint64_t d;

	open_scene(&s);
	d = make(&s.w, META_INO_LAYERS, "d", S_IFDIR | 0755);
	CHECK_OK(tree_setxattr(s.w.tree, d, SPILLFS_XATTR_DTYPE, "f64", 3, 0, &me));
	CHECK_OK(set_durable(&s.w, d, "no"));
	check_xattr(&s.w, make(&s.w, d, "f", S_IFREG | 0644), SPILLFS_XATTR_DTYPE, "f64");
	CHECK_OK(tree_setxattr(s.w.tree, d, SPILLFS_XATTR_DTYPE, "u16", 3, 0, &me));
	check_xattr(&s.w, make(&s.w, make(&s.w, d, "sub", S_IFDIR | 0755), "g", S_IFREG | 0644), SPILLFS_XATTR_DTYPE, "u16");
	CHECK_OK(tree_removexattr(s.w.tree, d, SPILLFS_XATTR_DTYPE, &me));
	CHECK_EQ(tree_getxattr(s.w.tree, make(&s.w, d, "h", S_IFREG | 0644), SPILLFS_XATTR_DTYPE, &(void *){ NULL }, &(size_t){ 0 }), -ENODATA);
	CHECK_OK(tree_setattr(s.w.tree, d, TREE_SET_MODE | TREE_SET_GID, &st, &me, NULL, &a));
	CHECK_OK(tree_getattr(s.w.tree, make(&s.w, d, "in", S_IFREG | 0640), &a));
	CHECK_EQ(a.st.st_gid, 77);
	close_scene(&s);
}

UNIT_TEST(declared_directory_is_another_world_to_names)
{
	uint64_t d, e, f;
	struct tree_attr a;
	struct scene s;

	open_scene(&s);
	d = make_declared(&s, META_INO_BUCKETS, "d");
	e = make_declared(&s, META_INO_BUCKETS, "e");
	make(&s.w, META_INO_BUCKETS, "out", S_IFREG | 0644);
	f = make(&s.w, d, "in", S_IFREG | 0644);
	fill(&s.w, f, "in", 2, 0);
	CHECK_EQ(tree_rename(s.w.tree, d, "in", META_INO_BUCKETS, "in", 0, &me), -EXDEV);
	CHECK_EQ(tree_rename(s.w.tree, META_INO_BUCKETS, "out", d, "out", 0, &me), -EXDEV);
	CHECK_EQ(tree_link(s.w.tree, f, META_INO_BUCKETS, "in", &a), -EXDEV);
	/* Between scratch directories, and within one. */
	CHECK_OK(tree_rename(s.w.tree, d, "in", e, "in", 0, &me));
	CHECK(world_holds(&s.w, "buckets/e/in", "in", 2));
	CHECK_OK(tree_rename(s.w.tree, e, "in", ROOT, "in", 0, &me));
	CHECK_OK(tree_rename(s.w.tree, ROOT, "in", make(&s.w, d, "sub", S_IFDIR | 0755), "in", 0, &me));
	CHECK(world_holds(&s.w, "buckets/d/sub/in", "in", 2));
	/* The directory itself goes where it likes. It replaces an empty one, and is replaced when it is empty. */
	CHECK_OK(tree_rename(s.w.tree, META_INO_BUCKETS, "d", META_INO_BUCKETS, "e", 0, &me));
	CHECK(world_holds(&s.w, "buckets/e/sub/in", "in", 2));
	make(&s.w, META_INO_BUCKETS, "d", S_IFDIR | 0755);
	CHECK_EQ(tree_rename(s.w.tree, META_INO_BUCKETS, "d", META_INO_BUCKETS, "e", 0, &me), -ENOTEMPTY);
	CHECK(world_holds(&s.w, "buckets/e/sub/in", "in", 2));
	make(&s.w, d, "more", S_IFREG | 0644);
	close_scene(&s);
}

UNIT_TEST(declaring_is_for_empty_directories)
{
	uint64_t d, f;
	struct tree_attr a;
	struct scene s;

	open_scene(&s);
	d = make(&s.w, META_INO_COLUMNS, "d", S_IFDIR | 0755);
	f = make(&s.w, d, "f", S_IFREG | 0644);
	CHECK_EQ(set_durable(&s.w, d, "no"), -ENOTEMPTY);
	CHECK_EQ(tree_getxattr(s.w.tree, d, SPILLFS_XATTR_DURABLE, &(void *){ NULL }, &(size_t){ 0 }), -ENODATA);
	CHECK_EQ(set_durable(&s.w, d, "maybe"), -EINVAL);
	CHECK_EQ(set_durable(&s.w, f, "no"), -ENOTDIR);
	CHECK_OK(tree_unlink(s.w.tree, d, "f", &me));
	CHECK_OK(set_durable(&s.w, d, "no"));
	CHECK_OK(set_durable(&s.w, d, "no"));
	f = make(&s.w, d, "f", S_IFREG | 0644);
	CHECK_EQ(set_durable(&s.w, d, "yes"), -ENOTEMPTY);
	CHECK_EQ(tree_removexattr(s.w.tree, d, SPILLFS_XATTR_DURABLE, &me), -ENOTEMPTY);
	check_xattr(&s.w, d, SPILLFS_XATTR_DURABLE, "no");
	CHECK_EQ(set_durable(&s.w, make(&s.w, d, "sub", S_IFDIR | 0755), "yes"), -EOPNOTSUPP);
	CHECK_OK(tree_rmdir(s.w.tree, d, "sub"));
	CHECK_OK(tree_unlink(s.w.tree, d, "f", &me));
	CHECK_OK(set_durable(&s.w, d, "yes"));
	CHECK(make(&s.w, d, "f", S_IFREG | 0644) < META_INO_SCRATCH);
	/* What is made in a durable one has no such attribute; a copy of one has none, either. */
	CHECK_EQ(tree_getxattr(s.w.tree, make(&s.w, d, "sub", S_IFDIR | 0755), SPILLFS_XATTR_DURABLE, &(void *){ NULL }, &(size_t){ 0 }), -ENODATA);
	CHECK_OK(world_walk(&s.w, "columns/d/f", &a));
	close_scene(&s);
}

UNIT_TEST(declared_directory_counts_for_quotas_above_it)
{
	struct tree_file_info info = { .direct = true };
	struct tree_write_how how = { .whole = true, .who = &me };
	uint64_t top, d, sub, f;
	static char bytes[200000];
	struct tree_file *file;
	struct scene s;

	open_scene(&s);
	top = make(&s.w, META_INO_BUCKETS, "top", S_IFDIR | 0755);
	d = make_declared(&s, top, "d");
	sub = make(&s.w, d, "sub", S_IFDIR | 0755);
	f = make(&s.w, sub, "f", S_IFREG | 0644);
	memset(bytes, 1, sizeof(bytes));
	fill(&s.w, f, bytes, sizeof(bytes), 0);
	/* Set when it is there already; and around it, and in it. */
	CHECK_OK(tree_setxattr(s.w.tree, top, SPILLFS_XATTR_QUOTA, "300K", 4, 0, &me));
	CHECK_OK(tree_file_open(s.w.tree, f, O_WRONLY, &me, &file, &info));
	CHECK_EQ(tree_write(file, bytes, sizeof(bytes), sizeof(bytes), &how, &(size_t){ 0 }), -EDQUOT);
	CHECK_OK(tree_setxattr(s.w.tree, top, SPILLFS_XATTR_QUOTA, "1M", 2, 0, &me));
	CHECK_OK(tree_setxattr(s.w.tree, d, SPILLFS_XATTR_QUOTA, "300K", 4, 0, &me));
	CHECK_EQ(tree_write(file, bytes, sizeof(bytes), sizeof(bytes), &how, &(size_t){ 0 }), -EDQUOT);
	CHECK_OK(tree_removexattr(s.w.tree, d, SPILLFS_XATTR_QUOTA, &me));
	CHECK_OK(tree_setxattr(s.w.tree, sub, SPILLFS_XATTR_QUOTA, "300K", 4, 0, &me));
	CHECK_EQ(tree_write(file, bytes, sizeof(bytes), sizeof(bytes), &how, &(size_t){ 0 }), -EDQUOT);
	CHECK_OK(tree_removexattr(s.w.tree, sub, SPILLFS_XATTR_QUOTA, &me));
	CHECK_OK(tree_write(file, bytes, sizeof(bytes), sizeof(bytes), &how, &(size_t){ 0 }));
	tree_file_release(file);
	/* What is deleted counts for nothing. */
	CHECK_OK(tree_setxattr(s.w.tree, top, SPILLFS_XATTR_QUOTA, "300K", 4, 0, &me));
	CHECK_OK(tree_unlink(s.w.tree, sub, "f", &me));
	tree_forget(s.w.tree, f, 1);
	CHECK_OK(commit_wait(s.scratch->commit, COMMIT_SYNC));
	fill(&s.w, make(&s.w, top, "durable", S_IFREG | 0644), bytes, sizeof(bytes), 0);
	close_scene(&s);
}

/* A caller who holds the view of the directory, and names it when the directory has become scratch. */
UNIT_TEST(declared_directory_takes_no_name_from_before)
{
	struct tree_attr before, npy, a;
	struct scene s;
	uint64_t d;

	open_scene(&s);
	d = make(&s.w, META_INO_BUCKETS, "d", S_IFDIR | 0755);
	CHECK_OK(world_write(&s.w, META_INO_BUCKETS, "f.u8", "abc", 3));
	CHECK_OK(world_walk(&s.w, "views/npy/buckets", &npy));
	CHECK_OK(world_walk(&s.w, "views/npy/buckets/d", &before));
	CHECK_OK(tree_setxattr(s.w.tree, d, "user.spillfs.durable", "no", 2, 0, &me));
	CHECK(tree_rename(s.w.tree, npy.st.st_ino, "f.npy", before.st.st_ino, "f.npy", 0, &me) < 0);
	CHECK(tree_make(s.w.tree, before.st.st_ino, "sub", S_IFDIR | 0755, 0, NULL, &me, &a) < 0);
	CHECK_OK(commit_wait(s.w.store->commit, COMMIT_SYNC));
	CHECK(world_holds(&s.w, "buckets/f.u8", "abc", 3));
	close_scene(&s);
}

UNIT_TEST(declared_directory_has_views_and_no_history)
{
	double v[100] = { 1, 2, 3 };
	struct tree_attr a;
	struct scene s;
	uint64_t d;

	open_scene(&s);
	d = make_declared(&s, META_INO_LAYERS, "d");
	fill(&s.w, make(&s.w, d, "x.f64", S_IFREG | 0644), v, sizeof(v), 0);
	fill(&s.w, make(&s.w, make(&s.w, d, "sub", S_IFDIR | 0755), "y.f64", S_IFREG | 0644), v, sizeof(v), 0);
	CHECK_OK(world_walk(&s.w, "views/npy/layers/d/x.npy", &a));
	CHECK_OK(world_walk(&s.w, "views/npy/layers/d/sub/y.npy", &a));
	CHECK_OK(world_walk(&s.w, "views/parquet/layers/d.parquet", &a));
	CHECK_OK(world_walk(&s.w, "views/npy/layers/d", &a));
	CHECK_OK(tree_make(s.w.tree, a.st.st_ino, "made", S_IFDIR | 0755, 0, NULL, &me, &a));
	CHECK_OK(world_walk(&s.w, "layers/d/made", &a));
	CHECK(a.st.st_ino > META_INO_SCRATCH);
	CHECK_OK(world_snapshot(&s.w, "s"));
	CHECK_OK(world_walk(&s.w, "snapshots/s/layers/d", &a));
	CHECK_EQ(world_walk(&s.w, "snapshots/s/layers/d/x.f64", &a), -ENOENT);
	close_scene(&s);
}
