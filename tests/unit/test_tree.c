/*
 * Store, arrays and tree without FUSE: written, crashed, opened again.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/classes.h"
#include "store/meta/inside.h"
#include "tree/unwritten.h"
#include "unit.h"
#include "util/account.h"
#include "util/err.h"
#include "world.h"

#define BYTES 700001u
/* 1 tries every change of the store: a quarter of a minute. */
#define FAULT_STEP 7

static void fill(unsigned char *p, size_t n, unsigned seed)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (unsigned char)((i * 31 + i / 977 + seed) & 0x3f);
}

/* Makes and writes a file in each class. */
static int write_all(struct world *w, const char *name, unsigned seed)
{
	unsigned char *p = malloc(BYTES);
	int err = 0;

	fill(p, BYTES, seed);
	for (size_t k = 0; k < CLASSES_N && !err; k++)
		err = world_write(w, classes[k].ino, name, p, BYTES);
	free(p);
	return err;
}

static bool holds_all(struct world *w, const char *name, unsigned seed)
{
	unsigned char *want = malloc(BYTES);
	bool same = true;
	char path[64];

	fill(want, BYTES, seed);
	for (size_t k = 0; k < CLASSES_N; k++) {
		snprintf(path, sizeof(path), "%s/%s", classes[k].name, name);
		same &= world_holds(w, path, want, BYTES);
	}
	free(want);
	return same;
}

UNIT_TEST(tree_keeps_what_was_written)
{
	struct io_dir *disk = world_disk();
	struct tree_attr a;
	struct world w;

	world_open(&w, disk, &world_config);
	CHECK_OK(write_all(&w, "a.u8", 1));
	CHECK(holds_all(&w, "a.u8", 1));
	CHECK_OK(world_close(&w));
	world_open(&w, disk, &world_config);
	CHECK(holds_all(&w, "a.u8", 1));
	CHECK_EQ(world_make(&w, META_INO_LAYERS, "a.u8", S_IFREG | 0644, NULL), -EEXIST);
	CHECK_EQ(world_walk(&w, "layers/b.u8", &a), -ENOENT);
	CHECK_OK(world_close(&w));
}

UNIT_TEST(tree_after_a_crash_has_what_was_synced)
{
	struct io_dir *disk = world_disk();
	struct tree_attr a;
	struct world w;

	world_open(&w, disk, &world_config);
	CHECK_OK(write_all(&w, "synced", 3));
	CHECK_OK(tree_sync(w.tree));
	CHECK_OK(write_all(&w, "lost", 4));
	CHECK_OK(io_mem_cut_power(disk, 0));
	world_close(&w);
	world_open(&w, disk, &world_config);
	CHECK(holds_all(&w, "synced", 3));
	/* Without a commit the names of the others are not there; their space is used again. */
	CHECK_EQ(world_walk(&w, "layers/lost", &a), -ENOENT);
	CHECK_OK(write_all(&w, "lost", 5));
	CHECK(holds_all(&w, "synced", 3));
	CHECK_OK(world_close(&w));
}

/* A commit that seals; one that could not be made is asked for again. */
static int commit_in_the_end(struct world *w)
{
	int err = world_commit(w);

	return err_is_passing(err) ? world_commit(w) : err;
}

/* Files of all kinds are written, emptied, deleted and committed; everything that changes the store fails once, n-th of all. */
static int live_through(struct world *w)
{
	struct stat st = { 0 };
	struct tree_attr a;
	int err = write_all(w, "kept", 1);

	if (!err)
		err = write_all(w, "gone", 2);
	if (!err)
		err = commit_in_the_end(w);
	for (size_t k = 0; k < CLASSES_N && !err; k++) {
		err = tree_lookup(w->tree, classes[k].ino, "gone", NULL, &a);
		if (!err)
			err = tree_setattr(w->tree, a.st.st_ino, TREE_SET_SIZE, &st, NULL, NULL, &a);
		if (!err)
			err = tree_unlink(w->tree, classes[k].ino, "gone", NULL);
		tree_forget(w->tree, a.st.st_ino, 1);
	}
	return err ? err : commit_in_the_end(w);
}

UNIT_TEST(a_passing_shortage_is_no_failed_commit)
{
	static const int errors[] = { -EMFILE, -ENFILE, -ENOMEM, -EINTR };
	uint64_t n = 1, count = 1;

	for (; n <= count; n += FAULT_STEP) {
		struct io_dir *disk = world_disk(), *faults = world_faults(disk);
		struct world w;
		int err;

		CHECK_OK(world_open_dir(&w, faults, &world_config));
		io_fault_fail_at(faults, n, 1, errors[n / FAULT_STEP % 4], NULL);
		err = live_through(&w);
		CHECK(!atomic_load(&w.store->read_only));
		CHECK(holds_all(&w, "kept", 1));
		count = io_fault_count(faults);
		CHECK_OK(world_close(&w));
		CHECK_OK(err);
		world_open(&w, disk, &world_config);
		CHECK(holds_all(&w, "kept", 1));
		CHECK_OK(world_close(&w));
	}
	CHECK(n > 100);
}

static int open_again(struct io_dir *disk, const char *shown, struct store_refusal *why)
{
	struct io_dir *dir;
	struct store *s;

	CHECK_OK(io_mem_again(disk, &dir));
	return store_open(dir, shown, &world_config, &s, why);
}

UNIT_TEST(store_refuses_what_is_not_its_own)
{
	struct io_dir *disk = world_disk();
	struct store_refusal why;
	struct world w;
	struct io *f;

	CHECK_OK(io_open(disk, "something", IO_CREATE, &f));
	io_close(f);
	CHECK_EQ(open_again(disk, "/where/it/is", &why), STORE_ENOTSTORE);
	CHECK(strstr(why.text, "/where/it/is"));
	CHECK_OK(io_unlink(disk, "something"));
	world_open(&w, disk, &world_config);
	CHECK_EQ(open_again(disk, "x", &why), STORE_EHELD);
	CHECK(strstr(why.text, "pid"));
	CHECK_OK(world_close(&w));
	CHECK_OK(io_replace(disk, "SPILLFS", "SPILLFS.tmp", "spillfs 99\nuuid 0\n", 18));
	CHECK_EQ(open_again(disk, "x", &why), STORE_ENEWER);
}

/* As when a later release has a class more. */
UNIT_TEST(store_gets_the_classes_that_it_lacks)
{
	struct io_dir *disk = world_disk();
	struct facts root;
	struct tree_attr a;
	struct world w;

	world_open(&w, disk, &world_config);
	meta_lock(w.store->meta);
	CHECK_OK(meta_name_delete_locked(w.store->meta, META_INO_ROOT, "columns"));
	CHECK_OK(meta_inode_delete_locked(w.store->meta, META_INO_COLUMNS));
	CHECK_OK(meta_inode_relink_locked(w.store->meta, META_INO_ROOT, 4, META_INO_ROOT, 0));
	meta_unlock(w.store->meta);
	CHECK_OK(world_close(&w));
	world_open(&w, disk, &world_config);
	CHECK_OK(world_walk(&w, "columns", &a));
	CHECK_EQ(a.st.st_ino, META_INO_COLUMNS);
	meta_lock(w.store->meta);
	CHECK_OK(meta_inode_load_locked(w.store->meta, META_INO_ROOT, &root));
	meta_unlock(w.store->meta);
	CHECK_EQ(root.nlink, 2 + CLASSES_N);
	CHECK_OK(world_close(&w));
}

/* Rows that an enemy has written: a class that does not exist, a size below zero, an attribute without a value, a block size
 * that is no number. */
UNIT_TEST(store_rows_of_an_enemy)
{
	struct io_dir *disk = world_disk();
	struct facts good, bad;
	struct tree_attr a;
	struct world w;
	struct meta *m;
	size_t len = 1;
	void *value;

	world_open(&w, disk, &world_config);
	m = w.store->meta;
	CHECK_OK(world_write(&w, META_INO_LAYERS, "x.f64", "12345678", 8));
	CHECK_OK(world_walk(&w, "layers/x.f64", &a));
	CHECK_OK(world_commit(&w));
	meta_lock(m);
	CHECK_OK(meta_inode_load_locked(m, a.st.st_ino, &good));
	bad = good;
	bad.kind = 9;
	CHECK_OK(meta_inode_store_locked(m, &bad));
	CHECK_EQ(meta_inode_load_locked(m, a.st.st_ino, &bad), -EUCLEAN);
	bad = good;
	bad.size_bytes = (uint64_t)-8;
	CHECK_OK(meta_inode_store_locked(m, &bad));
	CHECK_EQ(meta_inode_load_locked(m, a.st.st_ino, &bad), -EUCLEAN);
	CHECK_OK(meta_inode_store_locked(m, &good));
	CHECK_OK(meta_xattr_set_locked(m, a.st.st_ino, "user.none", NULL, 0));
	CHECK_OK(meta_xattr_get_locked(m, a.st.st_ino, "user.none", &value, &len));
	CHECK_EQ(len, 0);
	free(value);
	CHECK_OK(meta_xattr_set_locked(m, META_INO_LAYERS, "user.spillfs.block_size", "many", 4));
	CHECK_OK(meta_xattr_set_locked(m, a.st.st_ino, "user.spillfs.block_size", "0", 1));
	meta_unlock(m);
	CHECK_OK(world_close(&w));
	world_open(&w, disk, &world_config);
	CHECK(world_holds(&w, "layers/x.f64", "12345678", 8));
	CHECK_OK(world_write(&w, META_INO_LAYERS, "y.f64", "12345678", 8));
	CHECK(world_holds(&w, "layers/y.f64", "12345678", 8));
	CHECK_OK(world_close(&w));
}

UNIT_TEST(store_next_layer_of_an_enemy)
{
	static const int64_t bad[] = { -1, INT64_MIN, INT64_MAX };

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct io_dir *disk = world_disk(), *again;
		struct world w;

		world_open(&w, disk, &world_config);
		meta_lock(w.store->meta);
		CHECK_OK(meta_fact_set_locked(w.store->meta, "next_layer", bad[i]));
		meta_unlock(w.store->meta);
		CHECK_OK(world_close(&w));
		CHECK_OK(io_mem_again(disk, &again));
		CHECK_EQ(world_open_dir(&w, again, &world_config), -EUCLEAN);
		CHECK(strstr(err_text(-EUCLEAN), "the next layer would be"));
	}
}

/* Listings ask the database about as often as there are entries, in views as in the directories themselves. */

static int count_statement(unsigned what, void *ctx, void *statement, void *text)
{
	(void)what;
	(void)statement;
	(void)text;
	++*(unsigned *)ctx;
	return 0;
}

static int make_files(struct world *w, uint64_t dir, unsigned n)
{
	char name[32];
	int err = 0;

	for (unsigned k = 0; k < n && !err; k++) {
		snprintf(name, sizeof(name), "a%u.%s", k, k % 3 ? "f64" : "u16");
		err = world_make(w, dir, name, S_IFREG | 0644, NULL);
	}
	return err;
}

/* A directory as the kernel reads it: how many entries, and how many statements that took. */
static int list_all(struct world *w, uint64_t dir, unsigned *nentries, unsigned *nstatements)
{
	sqlite3 *db = w->store->meta->db;
	struct tree_dirent v[64];
	struct tree_dir *d;
	uint64_t cookie = 0;
	size_t n = 1;
	int err = tree_dir_open(w->tree, &d);

	*nentries = *nstatements = 0;
	if (err)
		return err;
	sqlite3_trace_v2(db, SQLITE_TRACE_STMT, count_statement, nstatements);
	while (!err && n) {
		err = tree_dir_read(w->tree, d, dir, cookie, false, v, 64, &n);
		*nentries += err ? 0 : (unsigned)n;
		cookie = n ? v[n - 1].cookie : 0;
	}
	sqlite3_trace_v2(db, 0, NULL, NULL);
	tree_dir_release(w->tree, d);
	return err;
}

UNIT_TEST(views_are_listed_with_as_few_statements_as_their_directories)
{
	static const char *const formats[] = { "npy", "parquet", "arrow", "zarr", "zarr2" };
	enum { FILES = 1000 };
	struct world w;

	world_open(&w, world_disk(), &world_config);
	for (size_t k = 0; k < CLASSES_N; k++) {
		unsigned n, statements, own, entries;
		struct tree_attr view;
		uint64_t dir;
		char path[64];

		CHECK_OK(world_make(&w, classes[k].ino, "d", S_IFDIR | 0755, &dir));
		CHECK_OK(make_files(&w, dir, FILES));
		CHECK_OK(list_all(&w, dir, &entries, &own));
		CHECK_EQ(entries, FILES + 2);
		CHECK(own >= FILES);
		for (size_t f = 0; f < 5; f++) {
			snprintf(path, sizeof(path), "views/%s/%s/d", formats[f], classes[k].name);
			CHECK_OK(world_walk(&w, path, &view));
			CHECK_OK(list_all(&w, view.st.st_ino, &n, &statements));
			CHECK_EQ(n, entries + (f > 2));
			CHECK(statements <= 2 * own);
		}
	}
	CHECK_OK(world_close(&w));
}

/* A table has as many columns as its directory has arrays: a second walk of it would ask about each once more. */
UNIT_TEST(a_table_is_looked_up_by_one_walk)
{
	enum { COLUMNS = 100 };
	struct tree_caller me = { 0 };
	struct tree_inos inos = { 0 };
	unsigned statements = 0;
	struct tree_attr a;
	struct world w;
	uint64_t dir;

	world_open(&w, world_disk(), &world_config);
	CHECK_OK(world_make(&w, META_INO_LAYERS, "d", S_IFDIR | 0755, &dir));
	CHECK_OK(make_files(&w, dir, COLUMNS));
	CHECK_OK(world_walk(&w, "views/parquet/layers", &a));
	sqlite3_trace_v2(w.store->meta->db, SQLITE_TRACE_STMT, count_statement, &statements);
	CHECK_OK(tree_lookup(w.tree, a.st.st_ino, "d.parquet", &me, &a));
	CHECK_OK(tree_unwritten(w.tree, a.st.st_ino, &inos));
	free(inos.v);
	CHECK(statements <= 4 * COLUMNS);
	sqlite3_trace_v2(w.store->meta->db, 0, NULL, NULL);
	CHECK_OK(world_close(&w));
}

static const struct tree_caller me = { 0 };

/* Now and then SQLite is asked how long the database is. */
static int count_row_statement(unsigned what, void *ctx, void *statement, void *text)
{
	return strncmp(text, "PRAGMA", 6) ? count_statement(what, ctx, statement, text) : 0;
}

/* Makes the file and opens it, as the kernel does: how many statements that took. */
static int make_and_open(struct world *w, const char *name, unsigned *nstatements)
{
	struct tree_file_info info = { .direct = true };
	sqlite3 *db = w->store->meta->db;
	struct tree_file *f;
	struct tree_attr a;
	int err;

	*nstatements = 0;
	sqlite3_trace_v2(db, SQLITE_TRACE_STMT, count_row_statement, nstatements);
	err = tree_lookup(w->tree, META_INO_BUCKETS, name, NULL, &a);
	err = err == -ENOENT ? tree_make(w->tree, META_INO_BUCKETS, name, S_IFREG | 0644, 0, NULL, &me, &a) : -EEXIST;
	if (!err)
		err = tree_file_open(w->tree, a.st.st_ino, O_WRONLY, &me, &f, &info);
	sqlite3_trace_v2(db, 0, NULL, NULL);
	if (err)
		return err;
	tree_file_release(f);
	tree_forget(w->tree, a.st.st_ino, 1);
	return 0;
}

/* Nothing is asked for that cannot be there: two looks for the name, two rows, and the name once more, for the type that its suffix says. */
UNIT_TEST(a_file_is_made_and_opened_with_five_statements)
{
	struct world w;
	unsigned n;

	world_open(&w, world_disk(), &world_config);
	CHECK_OK(make_and_open(&w, "first", &n)); /* it looks for what the directory gives it, too */
	CHECK_OK(make_and_open(&w, "second", &n));
	CHECK_EQ(n, 5);
	CHECK_OK(world_close(&w));
}

/* The array of a new file has nothing to load when it is opened first; each time after that it has. */
UNIT_TEST(what_was_made_is_there_when_its_array_was_closed)
{
	enum { FILES = 300, LEN = 5000 };
	struct store_config config = world_config;
	unsigned char *p = malloc(LEN);
	struct tree_attr a[FILES];
	char name[16], path[32];
	struct world w;

	fill(p, LEN, 5);
	config.cache_bytes = 64 << 10;
	world_open(&w, world_disk(), &config);
	for (unsigned k = 0; k < FILES; k++) {
		snprintf(name, sizeof(name), "f%u", k);
		CHECK_OK(world_write(&w, META_INO_BUCKETS, name, p, LEN));
		CHECK_OK(tree_lookup(w.tree, META_INO_BUCKETS, name, NULL, &a[k])); /* the inode stays */
	}
	CHECK_OK(world_commit(&w));
	CHECK_OK(world_write(&w, META_INO_BUCKETS, "last", p, LEN));
	CHECK(!account_over(&w.store->account, ACCOUNT_ARRAYS));
	for (unsigned k = 0; k < FILES; k++) {
		snprintf(path, sizeof(path), "buckets/f%u", k);
		CHECK(world_holds(&w, path, p, LEN));
		tree_forget(w.tree, a[k].st.st_ino, 1);
	}
	CHECK_OK(world_close(&w));
	free(p);
}
