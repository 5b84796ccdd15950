/*
 * The worlds of the tree, each by its table of operations, in one process: what they list, find, tell and refuse.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "array/array.h"
#include "io/io.h"
#include "spillfs.h"
#include "store/meta.h"
#include "store/store.h"
#include "tree/control/control.h"
#include "tree/dir.h"
#include "tree/inos.h"
#include "tree/realm.h"
#include "tree/tree.h"
#include "unit.h"
#include "world.h"

#define BYTES 800u /* of each array: 100 numbers */
#define NPY_HEAD 4096 /* the header, padded to a block */

static const struct tree_caller me = { 0 };

/* layers/d/x.f64 and layers/d/y.f64, equally long; buckets/b.u8, columns/c.f64, layers/link; a snapshot s of that. */
struct scene {
	struct store *store;
	struct tree *tree;
	uint64_t d, x;
	struct io_dir *disk;
};

static void open_world(struct scene *w, struct io_dir *disk, bool follow)
{
	struct store_config config = world_config;
	struct store_refusal why;
	struct io_dir *dir;

	config.keep = 4;
	config.follow = follow;
	w->disk = disk;
	CHECK_OK(io_mem_again(disk, &dir));
	CHECK_OK(store_open(dir, "test", &config, &w->store, &why));
	CHECK_OK(tree_open(w->store, &w->tree));
}

static void close_world(struct scene *w)
{
	tree_close(w->tree);
	CHECK_OK(store_close(w->store));
}

static const struct realm_ops *ops_of(struct scene *w, uint64_t ino)
{
	return realm_of(w->tree, ino);
}

static uint64_t find_in(struct scene *w, uint64_t dir, const char *name)
{
	struct tree_attr a;

	CHECK_OK(tree_lookup(w->tree, dir, name, &me, &a));
	return a.st.st_ino;
}

static uint64_t walk_to(struct scene *w, const char *path)
{
	uint64_t ino = META_INO_ROOT;
	char copy[256], *rest = copy, *name;

	snprintf(copy, sizeof(copy), "%s", path);
	while ((name = strsep(&rest, "/")))
		ino = find_in(w, ino, name);
	return ino;
}

static uint64_t make(struct scene *w, uint64_t dir, const char *name, mode_t mode)
{
	struct tree_attr a;

	CHECK_OK(tree_make(w->tree, dir, name, mode, 0, S_ISLNK(mode) ? "d/x.f64" : NULL, &me, &a));
	return a.st.st_ino;
}

static void fill(struct scene *w, uint64_t ino, size_t bytes)
{
	struct tree_file_info info = { .direct = true };
	char buf[2 * BYTES];
	struct tree_file *f;

	memset(buf, 7, sizeof(buf));
	CHECK_OK(tree_file_open(w->tree, ino, O_WRONLY, &me, &f, &info));
	CHECK_OK(tree_write(f, buf, bytes, 0, &(struct tree_write_how){ .whole = true, .who = &me }, &(size_t){ 0 }));
	CHECK_OK(tree_flush(f, true));
	tree_file_release(f);
}

static struct scene new_world(void)
{
	struct scene w;

	open_world(&w, world_disk(), false);
	find_in(&w, META_INO_ROOT, "buckets");
	find_in(&w, META_INO_ROOT, "columns");
	find_in(&w, META_INO_ROOT, "layers");
	w.d = make(&w, META_INO_LAYERS, "d", S_IFDIR | 0750);
	w.x = make(&w, w.d, "x.f64", S_IFREG | 0640);
	fill(&w, w.x, BYTES);
	fill(&w, make(&w, w.d, "y.f64", S_IFREG | 0600), BYTES);
	fill(&w, make(&w, META_INO_BUCKETS, "b.u8", S_IFREG | 0644), BYTES);
	fill(&w, make(&w, META_INO_COLUMNS, "c.f64", S_IFREG | 0644), BYTES);
	make(&w, META_INO_LAYERS, "link", S_IFLNK | 0777);
	make(&w, CONTROL_SNAPSHOTS, "s", S_IFDIR | 0755);
	return w;
}

/* The names of a directory as its world lists them, joined by spaces, and in the end whether each can be looked up. */
static void list(struct scene *w, uint64_t dir, char out[1024])
{
	struct tree_dirent v[4];
	struct tree_dir *d;
	uint64_t cookie = 0;

	*out = '\0';
	CHECK_OK(tree_dir_open(w->tree, &d));
	for (;;) {
		struct tree_listing l = { .tree = w->tree, .dir = d, .v = v, .max = 4 };
		struct tree_attr a;

		CHECK_OK(ops_of(w, dir)->readdir(w->tree, dir, cookie, &l));
		if (!l.n)
			break;
		for (size_t k = 0; k < l.n; k++) {
			CHECK(v[k].cookie != cookie);
			cookie = v[k].cookie;
			CHECK_OK(ops_of(w, dir)->lookup(w->tree, dir, v[k].name, &me, &a));
			CHECK_EQ(a.st.st_mode & S_IFMT, v[k].attr.st.st_mode & S_IFMT);
			snprintf(out + strlen(out), 1024 - strlen(out), "%s%s", *out ? " " : "", v[k].name);
		}
	}
	tree_dir_release(w->tree, d);
}

static void check_list(struct scene *w, const char *path, const char *want)
{
	char got[1024];

	list(w, walk_to(w, path), got);
	if (strcmp(got, want))
		unit_fail(__FILE__, __LINE__, "%s: \"%s\", not \"%s\"", path, got, want);
}

static struct stat stat_of(struct scene *w, uint64_t ino)
{
	struct tree_attr a;

	CHECK_OK(ops_of(w, ino)->getattr(w->tree, ino, &a));
	CHECK_EQ(a.st.st_ino, ino);
	return a.st;
}

static int try_open(struct scene *w, uint64_t ino, int flags)
{
	struct tree_file_info info = { 0 };
	struct tree_file *f;
	int err = tree_file_open(w->tree, ino, flags, &me, &f, &info);

	if (!err)
		tree_file_release(f);
	return err;
}

/* Every change of a directory, and of a file in it, through the facade. */
static void check_refused(struct scene *w, uint64_t dir, uint64_t file, int want)
{
	struct stat st = { .st_mode = 0600 };
	struct spillfs_mark mark;
	struct tree_attr a;
	struct tree *t = w->tree;

	CHECK_EQ(tree_make(t, dir, "new", S_IFREG | 0644, 0, NULL, &me, &a), want);
	CHECK_EQ(tree_make(t, dir, "new", S_IFLNK | 0777, 0, "to", &me, &a), want);
	CHECK_EQ(tree_create(t, dir, "new", 0644, &me, &a), want);
	CHECK_EQ(tree_unlink(t, dir, "x.f64", &me), want);
	CHECK_EQ(tree_rename(t, dir, "x.f64", dir, "z.f64", 0, &me), want);
	CHECK_EQ(tree_link(t, file, dir, "z.f64", &a), want);
	CHECK_EQ(tree_setattr(t, file, TREE_SET_MODE, &st, &me, NULL, &a), want);
	CHECK_EQ(tree_setxattr(t, file, "user.note", "1", 1, 0, NULL), want);
	CHECK_EQ(tree_removexattr(t, file, "user.note", &me), want);
	CHECK(tree_mark(t, file, &mark) < 0);
}

/* ---- which world ---- */

UNIT_TEST(realm_numbers_belong_to_worlds)
{
	struct scene w = new_world();

	CHECK_EQ(ops_of(&w, META_INO_ROOT)->id, REALM_LIVE);
	CHECK_EQ(ops_of(&w, w.x)->id, REALM_LIVE);
	CHECK_EQ(ops_of(&w, CONTROL_SNAPSHOTS)->id, REALM_CONTROL);
	CHECK_EQ(ops_of(&w, walk_to(&w, "deltas/00000001.zst"))->id, REALM_CONTROL);
	CHECK_EQ(ops_of(&w, walk_to(&w, "snapshots/s"))->id, REALM_PAST);
	CHECK_EQ(ops_of(&w, walk_to(&w, "snapshots/s/layers/d/x.f64"))->id, REALM_PAST);
	CHECK_EQ(ops_of(&w, walk_to(&w, "views"))->id, REALM_VIEWS);
	CHECK_EQ(ops_of(&w, walk_to(&w, "snapshots/s/views/npy/layers/d/x.npy"))->id, REALM_VIEWS);
	close_world(&w);
}

UNIT_TEST(realm_every_world_can_be_asked)
{
	struct scene w = new_world();
	const uint64_t inos[] = { w.x, CONTROL_STATS, walk_to(&w, "snapshots/s"), walk_to(&w, "views/npy") };

	for (size_t k = 0; k < 4; k++) {
		const struct realm_ops *r = ops_of(&w, inos[k]);

		CHECK(r->lookup && r->readdir && r->getattr && r->open);
		CHECK(r->refusal == -EPERM || r->refusal == -EROFS);
	}
	close_world(&w);
}

UNIT_TEST(realm_unknown_numbers_are_stale)
{
	struct scene w = new_world();
	struct tree_attr a;

	CHECK_EQ(tree_getattr(w.tree, 999999, &a), -ESTALE);
	CHECK_EQ(tree_getattr(w.tree, REALM_VIEWS_BIT | 77, &a), -ESTALE);
	CHECK_EQ(tree_getattr(w.tree, CONTROL_DELTA_BASE + 99, &a), -ESTALE);
	CHECK_EQ(tree_getattr(w.tree, REALM_PAST_BIT | 5ull << 36 | 4, &a), -ESTALE);
	tree_forget(w.tree, 999999, 1);
	close_world(&w);
}

/* ---- the live tree ---- */

UNIT_TEST(realm_live_lists_and_finds)
{
	struct scene w = new_world();

	check_list(&w, "layers", "d link");
	check_list(&w, "layers/d", "x.f64 y.f64");
	check_list(&w, "buckets", "b.u8");
	close_world(&w);
}

UNIT_TEST(realm_live_tells_attributes)
{
	struct scene w = new_world();
	struct stat st = stat_of(&w, w.x);

	CHECK_EQ(st.st_size, BYTES);
	CHECK_EQ(st.st_mode, S_IFREG | 0640);
	CHECK_EQ(stat_of(&w, w.d).st_mode, S_IFDIR | 0750);
	close_world(&w);
}

/* With O_DIRECT a lease goes around the store's cache as well, whoever lends it. */
UNIT_TEST(realm_reads_go_the_way_of_the_handle)
{
	struct scene w = new_world();
	const char *const paths[] = { "layers/d/x.f64", "buckets/b.u8", "columns/c.f64", "snapshots/s/layers/d/x.f64", "views/npy/layers/d/x.npy" };

	for (size_t k = 0; k < sizeof(paths) / sizeof(*paths); k++) {
		struct tree_file_info info = { 0 };
		struct tree_file *f;
		struct tree_read r;

		CHECK_OK(tree_file_open(w.tree, walk_to(&w, paths[k]), O_RDONLY, &me, &f, &info));
		CHECK_OK(tree_read_begin(f, 0, BYTES, O_DIRECT, &r));
		CHECK_EQ(r.how, IO_DIRECT);
		tree_read_end(&r);
		CHECK_OK(tree_read_begin(f, 0, BYTES, 0, &r));
		CHECK_EQ(r.how, IO_KEPT);
		tree_read_end(&r);
		tree_file_release(f);
	}
	close_world(&w);
}

UNIT_TEST(realm_live_knows_the_parent)
{
	struct scene w = new_world();
	uint64_t up;

	CHECK_OK(ops_of(&w, w.d)->parent(w.tree, w.d, &up));
	CHECK_EQ(up, META_INO_LAYERS);
	close_world(&w);
}

UNIT_TEST(realm_live_reads_links)
{
	struct scene w = new_world();
	uint64_t ino = walk_to(&w, "layers/link");
	char *target;

	CHECK_OK(ops_of(&w, ino)->readlink(w.tree, ino, &target));
	CHECK(!strcmp(target, "d/x.f64"));
	free(target);
	CHECK_EQ(tree_readlink(w.tree, w.x, &target), -EINVAL);
	close_world(&w);
}

UNIT_TEST(realm_root_takes_no_names)
{
	struct scene w = new_world();
	struct tree_attr a;

	CHECK_EQ(tree_make(w.tree, META_INO_ROOT, "new", S_IFDIR | 0755, 0, NULL, &me, &a), -EPERM);
	CHECK_EQ(tree_unlink(w.tree, META_INO_ROOT, "stats", &me), -EPERM);
	CHECK_EQ(tree_rmdir(w.tree, META_INO_ROOT, "layers"), -EPERM);
	CHECK_EQ(tree_rename(w.tree, META_INO_ROOT, "layers", META_INO_ROOT, "others", 0, &me), -EPERM);
	CHECK_EQ(tree_rename(w.tree, w.d, "x.f64", META_INO_ROOT, "x.f64", 0, &me), -EPERM);
	CHECK_EQ(tree_link(w.tree, w.x, META_INO_ROOT, "x.f64", &a), -EPERM);
	close_world(&w);
}

UNIT_TEST(realm_root_shows_control_before_its_own)
{
	struct scene w = new_world();
	struct tree_dirent v[16];
	char got[256] = "";
	struct tree_dir *d;
	size_t n;

	CHECK_OK(tree_dir_open(w.tree, &d));
	CHECK_OK(tree_dir_read(w.tree, d, META_INO_ROOT, 0, false, v, 16, &n));
	for (size_t k = 0; k < n; k++)
		snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s ", v[k].name);
	CHECK(!strcmp(got, ". .. deltas snapshots views buckets columns layers "));
	CHECK_OK(tree_dir_read(w.tree, d, META_INO_ROOT, v[4].cookie, false, v, 16, &n));
	CHECK_EQ(n, 3);
	tree_dir_release(w.tree, d);
	close_world(&w);
}

UNIT_TEST(realm_names_of_new_entries_are_checked)
{
	struct scene w = new_world();
	char name[400];
	struct tree_attr a;

	memset(name, 'n', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	CHECK_EQ(tree_lookup(w.tree, w.d, name, &me, &a), -ENAMETOOLONG);
	CHECK_EQ(tree_make(w.tree, w.d, name, S_IFREG | 0644, 0, NULL, &me, &a), -ENAMETOOLONG);
	CHECK_EQ(tree_rename(w.tree, w.d, "x.f64", w.d, name, 0, &me), -ENAMETOOLONG);
	CHECK_EQ(tree_rename(w.tree, w.d, "x.f64", w.d, "y.f64", 1u << 30, &me), -EINVAL);
	close_world(&w);
}

/* ---- past states ---- */

UNIT_TEST(realm_past_lists_and_finds)
{
	struct scene w = new_world();

	check_list(&w, "snapshots/s", "layers views");
	check_list(&w, "snapshots/s/layers", "d link");
	check_list(&w, "snapshots/s/layers/d", "x.f64 y.f64");
	close_world(&w);
}

UNIT_TEST(realm_past_stays_as_it_was)
{
	struct scene w = new_world();
	uint64_t then = walk_to(&w, "snapshots/s/layers/d/x.f64");

	CHECK(ops_of(&w, then)->fixed);
	CHECK(!ops_of(&w, w.x)->fixed);
	fill(&w, w.x, 2 * BYTES);
	CHECK_OK(tree_unlink(w.tree, w.d, "y.f64", &me));
	CHECK_EQ(stat_of(&w, w.x).st_size, 2 * BYTES);
	CHECK_EQ(stat_of(&w, then).st_size, BYTES);
	check_list(&w, "snapshots/s/layers/d", "x.f64 y.f64");
	close_world(&w);
}

UNIT_TEST(realm_past_refuses_changes)
{
	struct scene w = new_world();

	check_refused(&w, walk_to(&w, "snapshots/s/layers/d"), walk_to(&w, "snapshots/s/layers/d/x.f64"), -EROFS);
	CHECK_EQ(try_open(&w, walk_to(&w, "snapshots/s/layers/d/x.f64"), O_WRONLY), -EROFS);
	CHECK_EQ(try_open(&w, walk_to(&w, "snapshots/s/layers/d/x.f64"), O_RDONLY | O_TRUNC), -EROFS);
	CHECK_OK(try_open(&w, walk_to(&w, "snapshots/s/layers/d/x.f64"), O_RDONLY));
	close_world(&w);
}

UNIT_TEST(realm_past_keeps_attributes_and_links)
{
	struct scene w = new_world();
	uint64_t file, link;
	struct tree_attr a;
	char *target;
	void *value;
	size_t len;

	CHECK_OK(tree_setxattr(w.tree, w.x, "user.note", "old", 3, 0, NULL));
	CHECK_OK(tree_make(w.tree, CONTROL_SNAPSHOTS, "noted", S_IFDIR | 0755, 0, NULL, &me, &a));
	CHECK_OK(tree_setxattr(w.tree, w.x, "user.note", "new", 3, 0, NULL));
	file = walk_to(&w, "snapshots/noted/layers/d/x.f64");
	CHECK_OK(ops_of(&w, file)->getxattr(w.tree, file, "user.note", &value, &len));
	CHECK(len == 3 && !memcmp(value, "old", 3));
	free(value);
	CHECK_EQ(tree_getxattr(w.tree, walk_to(&w, "snapshots/s/layers/d/x.f64"), "user.note", &value, &len), -ENODATA);
	CHECK_OK(tree_getxattr(w.tree, file, SPILLFS_XATTR_DTYPE, &value, &len));
	CHECK(len == 3 && !memcmp(value, "f64", 3));
	free(value);
	link = walk_to(&w, "snapshots/s/layers/link");
	CHECK_OK(ops_of(&w, link)->readlink(w.tree, link, &target));
	CHECK(!strcmp(target, "d/x.f64"));
	free(target);
	close_world(&w);
}

UNIT_TEST(realm_past_parents_lead_to_the_snapshots)
{
	struct scene w = new_world();
	uint64_t root = walk_to(&w, "snapshots/s"), layers = walk_to(&w, "snapshots/s/layers"), up;

	CHECK_OK(ops_of(&w, root)->parent(w.tree, root, &up));
	CHECK_EQ(up, CONTROL_SNAPSHOTS);
	CHECK_OK(ops_of(&w, layers)->parent(w.tree, layers, &up));
	CHECK_EQ(up, root);
	close_world(&w);
}

/* ---- control files ---- */

UNIT_TEST(realm_control_lists_and_finds)
{
	struct scene w = new_world();

	check_list(&w, ".spillfs", "stats config version log quotas disks diff");
	check_list(&w, "deltas", "00000001.zst");
	check_list(&w, "snapshots", "s");
	check_list(&w, ".spillfs/diff", "");
	close_world(&w);
}

UNIT_TEST(realm_control_tells_attributes)
{
	struct scene w = new_world();

	CHECK_EQ(stat_of(&w, CONTROL_STATS).st_mode, S_IFREG | 0444);
	CHECK_EQ(stat_of(&w, CONTROL_SNAPSHOTS).st_mode, S_IFDIR | 0755);
	CHECK_EQ(stat_of(&w, walk_to(&w, "deltas/00000001.zst")).st_mode, S_IFREG | 0400);
	CHECK(stat_of(&w, walk_to(&w, "deltas/00000001.zst")).st_size > 0);
	close_world(&w);
}

UNIT_TEST(realm_control_refuses_changes)
{
	struct scene w = new_world();

	check_refused(&w, CONTROL_DOT_SPILLFS, CONTROL_STATS, -EPERM);
	CHECK_EQ(tree_rmdir(w.tree, CONTROL_DOT_SPILLFS, "diff"), -EPERM);
	CHECK_EQ(try_open(&w, CONTROL_STATS, O_WRONLY), -EACCES);
	CHECK_OK(try_open(&w, CONTROL_STATS, O_RDONLY));
	close_world(&w);
}

UNIT_TEST(realm_control_has_no_attributes_and_cannot_be_written)
{
	struct tree_file_info info = { 0 };
	struct scene w = new_world();
	struct tree_file *f;
	char *names;
	void *value;
	size_t len;

	CHECK_EQ(tree_getxattr(w.tree, CONTROL_STATS, "user.note", &value, &len), -ENODATA);
	CHECK_OK(tree_listxattr(w.tree, CONTROL_STATS, &names, &len));
	CHECK_EQ(len, 0);
	CHECK_OK(tree_file_open(w.tree, CONTROL_VERSION, O_RDONLY, &me, &f, &info));
	CHECK_EQ(tree_write(f, "x", 1, 0, &(struct tree_write_how){ .who = &me }, &(size_t){ 0 }), -EBADF);
	CHECK_EQ(tree_fallocate(f, 0, 0, 1, &me), -EBADF);
	CHECK_OK(tree_flush(f, true));
	tree_file_release(f);
	close_world(&w);
}

UNIT_TEST(realm_control_makes_and_drops_snapshots)
{
	struct scene w = new_world();
	struct tree_attr a;

	CHECK_EQ(tree_make(w.tree, CONTROL_SNAPSHOTS, "file", S_IFREG | 0644, 0, NULL, &me, &a), -EPERM);
	CHECK_EQ(tree_make(w.tree, CONTROL_SNAPSHOTS, "s", S_IFDIR | 0755, 0, NULL, &me, &a), -EEXIST);
	CHECK_OK(ops_of(&w, CONTROL_SNAPSHOTS)->rmdir(w.tree, CONTROL_SNAPSHOTS, "s"));
	CHECK_EQ(tree_lookup(w.tree, CONTROL_SNAPSHOTS, "s", &me, &a), -ENOENT);
	CHECK_EQ(tree_rmdir(w.tree, CONTROL_SNAPSHOTS, "s"), -ENOENT);
	close_world(&w);
}

UNIT_TEST(realm_control_finds_states_by_number)
{
	struct scene w = new_world();
	struct tree_attr a;

	CHECK_OK(tree_lookup(w.tree, CONTROL_SNAPSHOTS, "@1", &me, &a));
	CHECK_EQ(tree_lookup(w.tree, CONTROL_SNAPSHOTS, "@77", &me, &a), -ENOENT);
	CHECK_EQ(tree_lookup(w.tree, CONTROL_SNAPSHOTS, "@01", &me, &a), -ENOENT);
	CHECK_OK(tree_lookup(w.tree, CONTROL_DIFF, "@1..s", &me, &a));
	CHECK_EQ(tree_lookup(w.tree, CONTROL_DIFF, "@1", &me, &a), -ENOENT);
	close_world(&w);
}

/* ---- views ---- */

UNIT_TEST(realm_views_list_and_find)
{
	struct scene w = new_world();

	check_list(&w, "views", "npy zarr zarr2 parquet arrow zst runs");
	check_list(&w, "views/npy", "buckets columns layers");
	check_list(&w, "views/zst", "layers");
	check_list(&w, "views/npy/layers", "d");
	check_list(&w, "views/npy/layers/d", "x.npy y.npy");
	check_list(&w, "views/parquet/layers", "d d.parquet");
	check_list(&w, "views/zarr/layers/d", "zarr.json x.zarr y.zarr");
	close_world(&w);
}

UNIT_TEST(realm_views_of_the_past_are_those_of_the_present_then)
{
	struct scene w = new_world();

	CHECK_OK(tree_unlink(w.tree, w.d, "y.f64", &me));
	check_list(&w, "views/npy/layers/d", "x.npy");
	check_list(&w, "snapshots/s/views/npy/layers/d", "x.npy y.npy");
	check_list(&w, "snapshots/s/views/parquet/layers", "d d.parquet");
	check_list(&w, "snapshots/s/views/npy", "layers");
	close_world(&w);
}

UNIT_TEST(realm_views_tell_attributes)
{
	struct scene w = new_world();
	struct stat npy = stat_of(&w, walk_to(&w, "views/npy/layers/d/x.npy"));

	CHECK_EQ(npy.st_mode, S_IFREG | 0640);
	CHECK_EQ(npy.st_size, NPY_HEAD + BYTES);
	CHECK_EQ(stat_of(&w, walk_to(&w, "views")).st_mode, S_IFDIR | 0555);
	CHECK_EQ(stat_of(&w, walk_to(&w, "views/npy/layers/d")).st_mode, S_IFDIR | 0750);
	CHECK_EQ(stat_of(&w, walk_to(&w, "views/parquet/layers/d.parquet")).st_mode, S_IFREG | 0400);
	CHECK_EQ(stat_of(&w, walk_to(&w, "snapshots/s/views/npy/layers/d/x.npy")).st_mode, S_IFREG | 0440);
	close_world(&w);
}

UNIT_TEST(realm_views_shorten_names_unless_two_want_one)
{
	struct scene w = new_world();
	struct tree_attr a;

	make(&w, w.d, "x.u16", S_IFREG | 0644);
	check_list(&w, "views/npy/layers/d", "x.f64.npy y.npy x.u16.npy");
	CHECK_EQ(tree_lookup(w.tree, walk_to(&w, "views/npy/layers/d"), "x.npy", &me, &a), -ENOENT);
	CHECK_OK(tree_make(w.tree, CONTROL_SNAPSHOTS, "two", S_IFDIR | 0755, 0, NULL, &me, &a));
	check_list(&w, "snapshots/two/views/npy/layers/d", "x.f64.npy x.u16.npy y.npy");
	CHECK_EQ(tree_lookup(w.tree, walk_to(&w, "snapshots/two/views/npy/layers/d"), "x.npy", &me, &a), -ENOENT);
	close_world(&w);
}

/* Each shows an array of 4 GiB without data, by a piece for each of its blocks. */
UNIT_TEST(realm_views_that_are_open_are_bounded)
{
	const struct stat big = { .st_size = (off_t)4 << 30 };
	struct scene w = new_world();
	struct tree_file_info info = { 0 };
	struct tree_file *f[64];
	struct tree_attr a;
	size_t n = 0, one = 0;
	uint64_t ino = 0;
	int err = 0;

	for (; n < 64 && !err; n += !err) {
		char name[32], path[64];

		snprintf(name, sizeof(name), "big%zu.f64", n);
		CHECK_OK(tree_setattr(w.tree, make(&w, w.d, name, S_IFREG | 0640), TREE_SET_SIZE, &big, &me, NULL, &a));
		snprintf(path, sizeof(path), "views/arrow/layers/d/big%zu.arrow", n);
		ino = walk_to(&w, path);
		err = tree_file_open(w.tree, ino, O_RDONLY, &me, &f[n], &info);
		one = n || err ? one : account_held(&w.store->account, ACCOUNT_VIEWS);
	}
	CHECK_EQ(err, -ENFILE);
	CHECK(account_held(&w.store->account, ACCOUNT_VIEWS) == n * one && n * one <= ACCOUNT_VIEWS_LEAST && (n + 1) * one > ACCOUNT_VIEWS_LEAST);
	/* A small one has room, and that one after another's end. */
	CHECK_OK(try_open(&w, walk_to(&w, "views/zst/layers/d/x.f64.zst"), O_RDONLY));
	tree_file_release(f[--n]);
	CHECK_OK(try_open(&w, ino, O_RDONLY));
	while (n)
		tree_file_release(f[--n]);
	CHECK_EQ(account_held(&w.store->account, ACCOUNT_VIEWS), 0);
	close_world(&w);
}

UNIT_TEST(realm_views_that_are_no_array_refuse_changes)
{
	struct scene w = new_world();

	check_refused(&w, walk_to(&w, "views/zarr/layers/d/x.zarr"), walk_to(&w, "views/zarr/layers/d/x.zarr/zarr.json"), -EROFS);
	CHECK_EQ(tree_rmdir(w.tree, walk_to(&w, "views"), "npy"), -EROFS);
	CHECK_EQ(try_open(&w, walk_to(&w, "views/zarr/layers/d/x.zarr/zarr.json"), O_WRONLY), -EROFS);
	CHECK_EQ(try_open(&w, walk_to(&w, "views/parquet/layers/d.parquet"), O_WRONLY), -EROFS);
	close_world(&w);
}

UNIT_TEST(realm_views_of_the_past_refuse_changes)
{
	struct scene w = new_world();
	uint64_t file = walk_to(&w, "snapshots/s/views/npy/layers/d/x.npy");
	struct stat st = { .st_mode = 0600 };
	struct tree_attr a;

	CHECK_EQ(tree_setattr(w.tree, file, TREE_SET_MODE, &st, &me, NULL, &a), -EROFS);
	CHECK_EQ(tree_setxattr(w.tree, file, "user.note", "1", 1, 0, NULL), -EROFS);
	CHECK_EQ(tree_removexattr(w.tree, file, "user.note", &me), -EROFS);
	CHECK_EQ(tree_unlink(w.tree, walk_to(&w, "snapshots/s/views/npy/layers/d"), "x.npy", &me), -EROFS);
	CHECK_EQ(tree_create(w.tree, walk_to(&w, "snapshots/s/views/npy/layers/d"), "n.npy", 0644, &me, &a), -EROFS);
	CHECK_EQ(try_open(&w, file, O_WRONLY), -EROFS);
	CHECK_EQ(try_open(&w, file, O_RDWR | O_TRUNC), -EROFS);
	CHECK_OK(try_open(&w, file, O_RDONLY));
	close_world(&w);
}

UNIT_TEST(realm_views_change_their_arrays)
{
	struct scene w = new_world();
	uint64_t dir = walk_to(&w, "views/npy/layers/d"), file = walk_to(&w, "views/npy/layers/d/x.npy");
	struct stat st = { .st_mode = 0600 };
	struct tree_attr a;

	CHECK_OK(tree_setattr(w.tree, file, TREE_SET_MODE, &st, &me, NULL, &a));
	CHECK_EQ(stat_of(&w, w.x).st_mode, S_IFREG | 0600);
	CHECK_OK(tree_rename(w.tree, dir, "x.npy", dir, "z.npy", 0, &me));
	check_list(&w, "layers/d", "z.f64 y.f64");
	CHECK_OK(tree_unlink(w.tree, dir, "z.npy", &me));
	check_list(&w, "layers/d", "y.f64");
	close_world(&w);
}

UNIT_TEST(realm_views_have_another_inode_once_an_open_one_is_old)
{
	struct tree_file_info info = { 0 };
	struct scene w = new_world();
	uint64_t old = walk_to(&w, "views/npy/layers/d/x.npy"), new;
	struct tree_file *f;

	CHECK_OK(tree_file_open(w.tree, old, O_RDONLY, &me, &f, &info));
	fill(&w, w.x, 2 * BYTES);
	new = walk_to(&w, "views/npy/layers/d/x.npy");
	CHECK(new != old);
	CHECK_EQ(stat_of(&w, old).st_size, NPY_HEAD + BYTES);
	CHECK_EQ(stat_of(&w, new).st_size, NPY_HEAD + 2 * BYTES);
	CHECK_EQ(tree_shown_ino(w.tree, old), tree_shown_ino(w.tree, new));
	tree_file_release(f);
	close_world(&w);
}

UNIT_TEST(realm_tables_need_equally_long_arrays)
{
	struct scene w = new_world();
	struct tree_attr a;

	CHECK_OK(tree_lookup(w.tree, walk_to(&w, "views/parquet/layers"), "d.parquet", &me, &a));
	fill(&w, w.x, 2 * BYTES);
	CHECK_EQ(tree_lookup(w.tree, walk_to(&w, "views/parquet/layers"), "d.parquet", &me, &a), -ENOENT);
	check_list(&w, "views/parquet/layers", "d");
	close_world(&w);
}

UNIT_TEST(realm_arrays_are_what_a_view_shows)
{
	struct scene w = new_world();
	uint64_t table = walk_to(&w, "views/parquet/layers/d.parquet"), then = walk_to(&w, "snapshots/s/views/npy/layers/d/x.npy");
	struct tree_inos inos = { 0 };

	CHECK_OK(ops_of(&w, table)->arrays(w.tree, table, &inos));
	CHECK_EQ(inos.n, 2);
	CHECK_EQ(inos.v[0], w.x);
	inos.n = 0;
	CHECK_OK(ops_of(&w, then)->arrays(w.tree, then, &inos));
	CHECK_EQ(inos.n, 0);
	free(inos.v);
	close_world(&w);
}

/* ---- the nodes of views, from state to state (views/open.c) ---- */

#define NPY "views/npy/layers/d/x.npy"

static const struct tree_caller reader = { .thread = 11 }, writer = { .thread = 12 };

static uint64_t look_as(struct scene *w, const struct tree_caller *who, const char *dir, const char *name)
{
	struct tree_attr a;

	CHECK_OK(tree_lookup(w->tree, walk_to(w, dir), name, who, &a));
	return a.st.st_ino;
}

static int open_as(struct scene *w, const struct tree_caller *who, uint64_t ino, int flags, struct tree_file **out)
{
	struct tree_file_info info = { 0 };

	return tree_file_open(w->tree, ino, flags, who, out, &info);
}

static void read_all(struct tree_file *f, unsigned char *buf, size_t len)
{
	struct tree_read r;
	size_t done = 0;

	CHECK_OK(tree_read_begin(f, 0, len, 0, &r));
	for (unsigned k = 0; k < r.n; k++) {
		CHECK_OK(lease_copy(&r.part[k], r.how, buf + done));
		done += r.part[k].len_bytes;
	}
	CHECK_EQ(done, len);
	tree_read_end(&r);
}

#define MANY_BLOCKS 400u
#define MANY_OPEN 50u

/* layers/many.f64, of so many blocks of 4 KiB. */
static void make_many(struct scene *w)
{
	uint64_t ino = make(w, META_INO_LAYERS, "many.f64", S_IFREG | 0644);
	struct tree_file_info info = { .direct = true };
	size_t n = MANY_BLOCKS * 512;
	double *x = unit_allot(n * sizeof(*x));
	uint64_t seed = 3;
	struct tree_file *f;

	for (size_t i = 0; i < n; i++)
		x[i] = (double)unit_rand(&seed);
	CHECK_OK(tree_setxattr(w->tree, ino, SPILLFS_XATTR_BLOCK_SIZE, "4096", 4, 0, &me));
	CHECK_OK(tree_file_open(w->tree, ino, O_WRONLY, &me, &f, &info));
	CHECK_OK(tree_write(f, x, n * sizeof(*x), 0, &(struct tree_write_how){ .whole = true, .who = &me }, &(size_t){ 0 }));
	tree_file_release(f);
	free(x);
}

/* A chunk that is open holds the places of its own block, and is a part of the account while it is. */
UNIT_TEST(realm_views_are_in_the_account_while_they_are_open)
{
	struct scene w = new_world();
	struct tree_file *f[MANY_OPEN];
	const struct account *account = &w.store->account;
	size_t held;
	char path[64];

	make_many(&w);
	for (unsigned k = 0; k < MANY_OPEN; k++) {
		snprintf(path, sizeof(path), "views/zarr/layers/many.zarr/c/%u", k * 7);
		CHECK_OK(open_as(&w, &me, walk_to(&w, path), O_RDONLY, &f[k]));
	}
	held = account_held(account, ACCOUNT_VIEWS);
	CHECK(held > MANY_OPEN * 200 && held < MANY_OPEN * 10000);
	for (unsigned k = 0; k < MANY_OPEN; k++)
		tree_file_release(f[k]);
	CHECK_EQ(account_held(account, ACCOUNT_VIEWS), 0);
	close_world(&w);
}

/* The bytes of x.npy. */
static void read_npy(struct scene *w, unsigned char buf[NPY_HEAD + BYTES])
{
	struct tree_file *f;

	CHECK_OK(open_as(w, &reader, walk_to(w, NPY), O_RDONLY, &f));
	read_all(f, buf, NPY_HEAD + BYTES);
	tree_file_release(f);
}

static int write_file(struct tree_file *f, const void *buf, size_t len, uint64_t off)
{
	return tree_write(f, buf, len, off, &(struct tree_write_how){ .whole = true, .who = &writer }, &(size_t){ 0 });
}

UNIT_TEST(view_node_closed_is_laid_out_anew)
{
	struct scene w = new_world();
	uint64_t ino = walk_to(&w, NPY);

	fill(&w, w.x, 2 * BYTES);
	CHECK_EQ(walk_to(&w, NPY), ino);
	CHECK_EQ(stat_of(&w, ino).st_size, NPY_HEAD + 2 * BYTES);
	close_world(&w);
}

UNIT_TEST(view_node_is_the_same_while_nothing_changes)
{
	struct scene w = new_world();
	uint64_t ino = walk_to(&w, NPY);
	struct tree_file *f;

	CHECK_OK(open_as(&w, &reader, ino, O_RDONLY, &f));
	CHECK_EQ(walk_to(&w, NPY), ino);
	tree_file_release(f);
	CHECK_EQ(walk_to(&w, NPY), ino);
	close_world(&w);
}

UNIT_TEST(view_node_open_shows_what_was)
{
	unsigned char was[NPY_HEAD + BYTES], is[NPY_HEAD + BYTES];
	struct scene w = new_world();
	struct tree_file *f;

	read_npy(&w, was);
	CHECK_OK(open_as(&w, &reader, walk_to(&w, NPY), O_RDONLY, &f));
	fill(&w, w.x, 2 * BYTES);
	CHECK_OK(tree_unlink(w.tree, w.d, "x.f64", &me));
	read_all(f, is, sizeof(is));
	CHECK(!memcmp(was, is, sizeof(is)));
	tree_file_release(f);
	close_world(&w);
}

UNIT_TEST(view_node_of_what_is_gone_is_stale)
{
	struct scene w = new_world();
	uint64_t ino = walk_to(&w, NPY);
	struct tree_file *f;

	CHECK_OK(tree_unlink(w.tree, w.d, "x.f64", &me));
	tree_forget(w.tree, w.x, 1);
	CHECK_EQ(open_as(&w, &reader, ino, O_RDONLY, &f), -ESTALE);
	close_world(&w);
}

UNIT_TEST(view_node_written_refuses_readers)
{
	struct scene w = new_world();
	uint64_t ino = walk_to(&w, NPY), other;
	struct tree_file *f, *g;

	CHECK_OK(open_as(&w, &writer, ino, O_WRONLY | O_TRUNC, &f));
	CHECK_EQ(open_as(&w, &reader, ino, O_RDONLY, &g), -ESTALE);
	other = look_as(&w, &reader, "views/npy/layers/d", "x.npy");
	CHECK(other != ino);
	CHECK_OK(open_as(&w, &reader, other, O_RDONLY, &g));
	tree_file_release(g);
	tree_file_release(f);
	CHECK_EQ(stat_of(&w, w.x).st_size, BYTES);
	close_world(&w);
}

UNIT_TEST(view_node_read_refuses_writers_who_get_one_of_their_own)
{
	struct scene w = new_world();
	uint64_t ino = walk_to(&w, NPY), own;
	struct tree_file *f, *g;

	CHECK_OK(open_as(&w, &reader, ino, O_RDONLY, &f));
	CHECK_EQ(open_as(&w, &writer, ino, O_WRONLY | O_TRUNC, &g), -ESTALE);
	own = look_as(&w, &writer, "views/npy/layers/d", "x.npy");
	CHECK(own != ino);
	CHECK(look_as(&w, &reader, "views/npy/layers/d", "x.npy") != own);
	CHECK_OK(open_as(&w, &writer, own, O_WRONLY | O_TRUNC, &g));
	tree_file_release(g);
	tree_file_release(f);
	close_world(&w);
}

UNIT_TEST(view_node_of_its_own_ends_with_the_open)
{
	struct scene w = new_world();
	uint64_t ino = walk_to(&w, NPY), own;
	struct tree_file *f, *g;

	CHECK_OK(open_as(&w, &writer, ino, O_WRONLY | O_TRUNC, &f));
	CHECK_EQ(open_as(&w, &reader, ino, O_RDONLY, &g), -ESTALE);
	own = look_as(&w, &reader, "views/npy/layers/d", "x.npy");
	CHECK_OK(open_as(&w, &reader, own, O_RDONLY, &g));
	CHECK(look_as(&w, &reader, "views/npy/layers/d", "x.npy") != own);
	tree_file_release(g);
	tree_file_release(f);
	close_world(&w);
}

UNIT_TEST(view_node_known_keeps_its_size_where_the_kernel_does)
{
	struct scene w = new_world();
	struct tree_file *f;
	uint64_t ino;

	tree_sizes_stick(w.tree);
	ino = walk_to(&w, NPY);
	fill(&w, w.x, 2 * BYTES);
	CHECK_EQ(open_as(&w, &reader, ino, O_RDONLY, &f), -ESTALE);
	CHECK_EQ(stat_of(&w, ino).st_size, NPY_HEAD + BYTES);
	CHECK(walk_to(&w, NPY) != ino);
	CHECK_EQ(stat_of(&w, walk_to(&w, NPY)).st_size, NPY_HEAD + 2 * BYTES);
	close_world(&w);
}

UNIT_TEST(view_node_written_in_place_is_one_for_all)
{
	unsigned char nine[8] = { 9, 9, 9, 9, 9, 9, 9, 9 }, npy[NPY_HEAD + BYTES];
	struct scene w = new_world();
	uint64_t ino = walk_to(&w, NPY);
	struct tree_file *f, *g;

	CHECK_OK(open_as(&w, &writer, ino, O_RDWR, &f));
	CHECK_OK(write_file(f, nine, sizeof(nine), NPY_HEAD));
	CHECK_EQ(walk_to(&w, NPY), ino);
	CHECK_OK(open_as(&w, &reader, ino, O_RDONLY, &g));
	read_all(g, npy, sizeof(npy));
	CHECK(!memcmp(npy + NPY_HEAD, nine, sizeof(nine)));
	CHECK_EQ(write_file(f, "x", 1, 0), -EINVAL);
	CHECK_EQ(write_file(f, nine, sizeof(nine), sizeof(npy)), -EFBIG);
	CHECK_OK(tree_flush(f, true));
	tree_file_release(f);
	/* Those that have it open go on; the next look finds another. */
	CHECK(walk_to(&w, NPY) != ino);
	tree_file_release(g);
	close_world(&w);
}

/* ---- uploads ---- */

static struct tree_file *create(struct scene *w, const char *name, uint64_t *ino_out)
{
	struct tree_attr a;
	struct tree_file *f;

	CHECK_OK(tree_create(w->tree, walk_to(w, "views/npy/layers/d"), name, 0644, &writer, &a));
	CHECK_OK(open_as(w, &writer, a.st.st_ino, O_WRONLY, &f));
	*ino_out = a.st.st_ino;
	return f;
}

UNIT_TEST(upload_has_its_name_when_it_is_whole)
{
	unsigned char npy[NPY_HEAD + BYTES];
	struct scene w = new_world();
	struct tree_file *f;
	uint64_t ino;

	read_npy(&w, npy);
	f = create(&w, "n.npy", &ino);
	CHECK_OK(write_file(f, npy, NPY_HEAD + 8, 0));
	check_list(&w, "layers/d", "x.f64 y.f64");
	CHECK_EQ(walk_to(&w, "views/npy/layers/d/n.npy"), ino);
	CHECK_OK(write_file(f, npy + NPY_HEAD + 8, BYTES - 8, NPY_HEAD + 8));
	CHECK_OK(tree_flush(f, true));
	check_list(&w, "layers/d", "x.f64 y.f64 n");
	CHECK(walk_to(&w, "views/npy/layers/d/n.npy") != ino);
	CHECK_EQ(stat_of(&w, walk_to(&w, "layers/d/n")).st_size, BYTES);
	tree_file_release(f);
	close_world(&w);
}

UNIT_TEST(upload_cut_short_changes_nothing)
{
	unsigned char npy[NPY_HEAD + BYTES];
	struct scene w = new_world();
	struct tree_file *f;
	struct tree_attr a;
	uint64_t ino;

	read_npy(&w, npy);
	f = create(&w, "n.npy", &ino);
	CHECK_OK(write_file(f, npy, sizeof(npy) - 8, 0));
	CHECK_EQ(tree_flush(f, true), -EINVAL);
	tree_file_release(f);
	check_list(&w, "layers/d", "x.f64 y.f64");
	CHECK_EQ(tree_lookup(w.tree, walk_to(&w, "views/npy/layers/d"), "n.npy", &me, &a), -ENOENT);
	close_world(&w);
}

UNIT_TEST(upload_cannot_be_read_before_it_is_whole)
{
	struct scene w = new_world();
	struct tree_file *f, *g;
	uint64_t ino;

	f = create(&w, "n.npy", &ino);
	CHECK_EQ(open_as(&w, &reader, ino, O_RDONLY, &g), -EBUSY);
	CHECK_EQ(tree_rmdir(w.tree, walk_to(&w, "views/npy/layers"), "d"), -ENOTEMPTY);
	CHECK_OK(tree_unlink(w.tree, walk_to(&w, "views/npy/layers/d"), "n.npy", &me));
	tree_file_release(f);
	close_world(&w);
}

UNIT_TEST(upload_replaces_an_array_at_once)
{
	unsigned char npy[NPY_HEAD + BYTES], is[NPY_HEAD + BYTES];
	struct scene w = new_world();
	uint64_t ino = walk_to(&w, NPY);
	struct tree_file *f;

	read_npy(&w, npy);
	memset(npy + NPY_HEAD, 5, BYTES);
	CHECK_OK(open_as(&w, &writer, ino, O_WRONLY | O_TRUNC, &f));
	CHECK_OK(write_file(f, npy, sizeof(npy), 0));
	CHECK_EQ(walk_to(&w, "layers/d/x.f64"), w.x);
	CHECK_OK(tree_flush(f, true));
	CHECK(walk_to(&w, "layers/d/x.f64") != w.x);
	tree_file_release(f);
	read_npy(&w, is);
	CHECK(!memcmp(is, npy, sizeof(is)));
	close_world(&w);
}

/* ---- between worlds, and followers ---- */

UNIT_TEST(realm_nothing_moves_between_worlds)
{
	struct scene w = new_world();
	uint64_t view = walk_to(&w, "views/npy/layers/d"), then = walk_to(&w, "snapshots/s/layers/d");
	struct tree_attr a;

	CHECK_EQ(tree_rename(w.tree, w.d, "x.f64", view, "x.npy", 0, &me), -EXDEV);
	CHECK_EQ(tree_rename(w.tree, view, "x.npy", w.d, "x.f64", 0, &me), -EXDEV);
	CHECK_EQ(tree_rename(w.tree, w.d, "x.f64", then, "x.f64", 0, &me), -EROFS);
	CHECK_EQ(tree_rename(w.tree, then, "x.f64", w.d, "x.f64", 0, &me), -EROFS);
	CHECK_EQ(tree_rename(w.tree, w.d, "x.f64", CONTROL_DOT_SPILLFS, "x.f64", 0, &me), -EPERM);
	CHECK_EQ(tree_link(w.tree, walk_to(&w, "snapshots/s/layers/d/x.f64"), w.d, "z.f64", &a), -EXDEV);
	CHECK_EQ(tree_link(w.tree, w.x, then, "z.f64", &a), -EROFS);
	close_world(&w);
}

UNIT_TEST(realm_follower_shows_the_newest_state)
{
	struct scene w = new_world(), f;

	CHECK_OK(tree_sync(w.tree));
	open_world(&f, w.disk, true);
	CHECK_EQ(ops_of(&f, META_INO_ROOT)->id, REALM_CONTROL);
	CHECK_EQ(ops_of(&f, walk_to(&f, "layers"))->id, REALM_PAST);
	check_list(&f, "layers/d", "x.f64 y.f64");
	check_list(&f, "views/npy/layers/d", "x.npy y.npy");
	check_list(&f, "snapshots", "s");
	close_world(&f);
	close_world(&w);
}

UNIT_TEST(realm_follower_refuses_every_change)
{
	struct scene w = new_world(), f;
	struct tree_attr a;

	CHECK_OK(tree_sync(w.tree));
	open_world(&f, w.disk, true);
	check_refused(&f, META_INO_ROOT, CONTROL_STATS, -EROFS);
	check_refused(&f, walk_to(&f, "layers/d"), walk_to(&f, "layers/d/x.f64"), -EROFS);
	check_refused(&f, walk_to(&f, "views/npy/layers/d"), walk_to(&f, "views/npy/layers/d/x.npy"), -EROFS);
	CHECK_EQ(tree_make(f.tree, CONTROL_SNAPSHOTS, "t", S_IFDIR | 0755, 0, NULL, &me, &a), -EROFS);
	CHECK_EQ(tree_rmdir(f.tree, CONTROL_SNAPSHOTS, "s"), -EROFS);
	CHECK_EQ(try_open(&f, walk_to(&f, "views/npy/layers/d/x.npy"), O_WRONLY), -EROFS);
	CHECK_OK(try_open(&f, walk_to(&f, "layers/d/x.f64"), O_RDONLY));
	close_world(&f);
	close_world(&w);
}
