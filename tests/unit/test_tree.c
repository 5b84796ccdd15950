/*
 * Store, arrays and tree without FUSE: written, crashed, opened again.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/meta.h"
#include "store/meta_priv.h"
#include "store/store.h"
#include "tree/tree.h"
#include "tree/unwritten.h"
#include "unit.h"
#include "util/err.h"

#define BYTES 700001u
/* 1 tries every change of the store: half a minute. */
#define FAULT_STEP 7

static const uint64_t class_dirs[] = { META_INO_BUCKETS, META_INO_COLUMNS, META_INO_LAYERS };

struct world {
	struct store *store;
	struct tree *tree;
};

static int world_open_faulty(const char *dir, const char *fault, const char *armed_by, struct world *w)
{
	struct store_config config = { .cache_bytes = 4 << 20, .dirty_bytes = 4 << 20, .fault = fault, .fault_armed_by = armed_by };
	struct store_refusal why;
	static const char *const classes[] = { "buckets", "columns", "layers" };
	int fd = open(dir, O_RDONLY | O_DIRECTORY), err;
	struct tree_attr a;

	err = fd < 0 ? -errno : store_open(fd, dir, &config, &w->store, &why);
	if (!err)
		err = tree_open(w->store, &w->tree);
	/* As the kernel does before it names anything in them. */
	for (size_t k = 0; k < 3 && !err; k++)
		err = tree_lookup(w->tree, META_INO_ROOT, classes[k], NULL, &a);
	return err;
}

static int world_open(const char *dir, struct world *w)
{
	return world_open_faulty(dir, NULL, NULL, w);
}

static int world_close(struct world *w)
{
	tree_close(w->tree);
	return store_close(w->store);
}

static void fill(unsigned char *p, size_t n, unsigned seed)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (unsigned char)((i * 31 + i / 977 + seed) & 0x3f);
}

/* Makes and writes a file in each class. */
static int write_all(struct world *w, const char *name, unsigned seed)
{
	struct tree_caller me = { 0 };
	unsigned char *p = malloc(BYTES);
	int err = p ? 0 : -ENOMEM;

	if (p)
		fill(p, BYTES, seed);
	for (size_t k = 0; k < 3 && !err; k++) {
		struct tree_file_info info = { .direct = true };
		struct tree_file *f;
		struct tree_attr a;

		err = tree_make(w->tree, class_dirs[k], name, S_IFREG | 0644, 0, NULL, &me, &a);
		if (err)
			break;
		err = tree_file_open(w->tree, a.st.st_ino, O_WRONLY, &me, &f, &info);
		for (size_t done = 0, n; !err && done < BYTES; done += n)
			err = tree_write(f, p + done, BYTES - done < 100000 ? BYTES - done : 100000, done, &(struct tree_write_how){ 0 }, &n);
		if (!err)
			tree_file_release(f);
		tree_forget(w->tree, a.st.st_ino, 1);
	}
	free(p);
	return err;
}

/* Reads a part of f as front/ does; *equal says whether it is what fill(seed) wrote. */
static int compare_part(struct tree_file *f, const unsigned char *want, size_t off, size_t len, bool *equal)
{
	struct tree_read r;
	size_t done = 0;
	int err = tree_read_begin(f, off, len, 0, &r);

	if (err)
		return err;
	for (unsigned i = 0; i < r.n; i++) {
		const struct lease *l = &r.part[i];
		unsigned char *copy = malloc(l->len_bytes + 1);

		err = lease_copy(l, r.how, copy);
		if (!err && memcmp(copy, want + off + done, l->len_bytes))
			*equal = false;
		done += l->len_bytes;
		free(copy);
	}
	if (done != (BYTES - off < len ? BYTES - off : len))
		*equal = false;
	tree_read_end(&r);
	return err;
}

static int check_all(struct world *w, const char *name, unsigned seed, bool *equal)
{
	struct tree_caller me = { 0 };
	unsigned char *want = malloc(BYTES);
	int err = want ? 0 : -ENOMEM;

	*equal = true;
	if (want)
		fill(want, BYTES, seed);
	for (size_t k = 0; k < 3 && !err; k++) {
		struct tree_file_info info = { 0 };
		struct tree_file *f;
		struct tree_attr a;

		err = tree_lookup(w->tree, class_dirs[k], name, NULL, &a);
		if (err)
			break;
		*equal &= a.st.st_size == BYTES;
		err = tree_file_open(w->tree, a.st.st_ino, O_RDONLY, &me, &f, &info);
		for (size_t off = 0; !err && off < BYTES; off += 131072)
			err = compare_part(f, want, off, 131072, equal);
		if (!err)
			tree_file_release(f);
		tree_forget(w->tree, a.st.st_ino, 1);
	}
	free(want);
	return err;
}

UNIT_TEST(tree_keeps_what_was_written)
{
	const char *dir = unit_tmpdir();
	struct world w;
	bool equal;

	CHECK_OK(world_open(dir, &w));
	CHECK_OK(write_all(&w, "a.u8", 1));
	CHECK_OK(check_all(&w, "a.u8", 1, &equal));
	CHECK(equal);
	CHECK_OK(world_close(&w));
	CHECK_OK(world_open(dir, &w));
	CHECK_OK(check_all(&w, "a.u8", 1, &equal));
	CHECK(equal);
	CHECK_EQ(write_all(&w, "a.u8", 2), -EEXIST);
	CHECK_OK(world_close(&w));
}

UNIT_TEST(tree_after_a_crash_has_what_was_synced)
{
	const char *dir = unit_tmpdir();
	struct world w;
	bool equal;
	int status;
	pid_t pid = fork();

	if (!pid) {
		if (world_open(dir, &w) || write_all(&w, "synced", 3) || tree_sync(w.tree) || write_all(&w, "lost", 4))
			_exit(1);
		_exit(0); /* nothing is closed */
	}
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && !WEXITSTATUS(status));
	CHECK_OK(world_open(dir, &w));
	CHECK_OK(check_all(&w, "synced", 3, &equal));
	CHECK(equal);
	/* Without a commit the names of the others are not there; their space is used again. */
	CHECK_EQ(check_all(&w, "lost", 4, &equal), -ENOENT);
	CHECK_OK(write_all(&w, "lost", 5));
	CHECK_OK(check_all(&w, "synced", 3, &equal));
	CHECK(equal);
	CHECK_OK(world_close(&w));
}

/* A commit that seals; one that could not be made is asked for again. */
static int commit_in_the_end(struct world *w)
{
	uint64_t layer;
	bool sealed;
	int err = tree_commit(w->tree, &layer, &sealed);

	return err_is_passing(err) ? tree_commit(w->tree, &layer, &sealed) : err;
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
	for (size_t k = 0; k < 3 && !err; k++) {
		err = tree_lookup(w->tree, class_dirs[k], "gone", NULL, &a);
		if (!err)
			err = tree_setattr(w->tree, a.st.st_ino, TREE_SET_SIZE, &st, NULL, NULL, &a);
		if (!err)
			err = tree_unlink(w->tree, class_dirs[k], "gone", NULL);
		tree_forget(w->tree, a.st.st_ino, 1);
	}
	return err ? err : commit_in_the_end(w);
}

UNIT_TEST(a_passing_shortage_is_no_failed_commit)
{
	static const char *const errors[] = { "EMFILE", "ENFILE", "ENOMEM", "EINTR" };
	uint64_t n = 1, count = 1;

	for (; n <= count; n += FAULT_STEP) {
		const char *top = unit_tmpdir();
		char dir[128], arm[128], fault[64];
		struct world w;
		bool equal = true;
		int err, fd;

		snprintf(dir, sizeof(dir), "%s/store", top);
		CHECK_OK(mkdir(dir, 0700));
		snprintf(arm, sizeof(arm), "%s/arm", top);
		snprintf(fault, sizeof(fault), "fail:%llu:%s:1", (unsigned long long)n, errors[n / FAULT_STEP % 4]);
		CHECK_OK(world_open_faulty(dir, fault, arm, &w));
		fd = open(arm, O_CREAT | O_WRONLY, 0600);
		err = live_through(&w);
		CHECK(!atomic_load(&w.store->read_only));
		CHECK_OK(check_all(&w, "kept", 1, &equal));
		count = io_fault_count(w.store->dir);
		CHECK_OK(world_close(&w));
		CHECK_OK(err);
		close(fd);
		CHECK_OK(world_open(dir, &w));
		CHECK_OK(check_all(&w, "kept", 1, &equal));
		CHECK(equal);
		CHECK_OK(world_close(&w));
	}
	CHECK(n > 100);
}

UNIT_TEST(store_refuses_what_is_not_its_own)
{
	const char *dir = unit_tmpdir();
	struct store_config config = { .cache_bytes = 1 << 20, .dirty_bytes = 1 << 20 };
	struct store_refusal why;
	struct store *s;
	struct world w;
	int fd = openat(AT_FDCWD, dir, O_RDONLY | O_DIRECTORY), file;

	file = openat(fd, "something", O_CREAT | O_WRONLY, 0600);
	CHECK(file >= 0);
	close(file);
	CHECK_EQ(store_open(fd, dir, &config, &s, &why), STORE_ENOTSTORE);
	CHECK(strstr(why.text, dir));
	fd = open(dir, O_RDONLY | O_DIRECTORY);
	CHECK_OK(unlinkat(fd, "something", 0));
	close(fd);
	CHECK_OK(world_open(dir, &w));
	fd = open(dir, O_RDONLY | O_DIRECTORY);
	CHECK_EQ(store_open(fd, dir, &config, &s, &why), STORE_EHELD);
	CHECK(strstr(why.text, "pid"));
	CHECK_OK(world_close(&w));
	fd = open(dir, O_RDONLY | O_DIRECTORY);
	file = openat(fd, "SPILLFS", O_WRONLY | O_TRUNC);
	CHECK(write(file, "spillfs 99\nuuid 0\n", 18) == 18);
	close(file);
	CHECK_EQ(store_open(fd, dir, &config, &s, &why), STORE_ENEWER);
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
	struct tree_caller me = { 0 };
	struct tree_attr a;
	char name[32];
	int err = 0;

	for (unsigned k = 0; k < n && !err; k++) {
		snprintf(name, sizeof(name), "a%u.%s", k, k % 3 ? "f64" : "u16");
		err = tree_make(w->tree, dir, name, S_IFREG | 0644, 0, NULL, &me, &a);
		if (!err)
			tree_forget(w->tree, a.st.st_ino, 1);
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

static int walk_to(struct world *w, const char *const *path, uint64_t *out)
{
	struct tree_attr a = { .st.st_ino = META_INO_ROOT };
	int err = 0;

	for (; *path && !err; path++)
		err = tree_lookup(w->tree, a.st.st_ino, *path, NULL, &a);
	if (!err)
		*out = a.st.st_ino;
	return err;
}

UNIT_TEST(views_are_listed_with_as_few_statements_as_their_directories)
{
	static const char *const formats[] = { "npy", "parquet", "arrow", "zarr", "zarr2" };
	static const char *const classes[] = { "buckets", "columns", "layers" };
	enum { FILES = 1000 };
	struct tree_caller me = { 0 };
	struct world w;

	CHECK_OK(world_open(unit_tmpdir(), &w));
	for (size_t k = 0; k < 3; k++) {
		unsigned n, statements, own, entries;
		struct tree_attr a;
		uint64_t dir = 0;

		CHECK_OK(tree_make(w.tree, class_dirs[k], "d", S_IFDIR | 0755, 0, NULL, &me, &a));
		CHECK_OK(make_files(&w, a.st.st_ino, FILES));
		CHECK_OK(list_all(&w, a.st.st_ino, &entries, &own));
		CHECK_EQ(entries, FILES + 2);
		CHECK(own >= FILES);
		for (size_t f = 0; f < 5; f++) {
			CHECK_OK(walk_to(&w, (const char *const[]){ "views", formats[f], classes[k], "d", NULL }, &dir));
			CHECK_OK(list_all(&w, dir, &n, &statements));
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
	uint64_t dir = 0;

	CHECK_OK(world_open(unit_tmpdir(), &w));
	CHECK_OK(tree_make(w.tree, META_INO_LAYERS, "d", S_IFDIR | 0755, 0, NULL, &me, &a));
	CHECK_OK(make_files(&w, a.st.st_ino, COLUMNS));
	CHECK_OK(walk_to(&w, (const char *const[]){ "views", "parquet", "layers", NULL }, &dir));
	sqlite3_trace_v2(w.store->meta->db, SQLITE_TRACE_STMT, count_statement, &statements);
	CHECK_OK(tree_lookup(w.tree, dir, "d.parquet", &me, &a));
	CHECK_OK(tree_unwritten(w.tree, a.st.st_ino, &inos));
	free(inos.v);
	CHECK(statements <= 4 * COLUMNS);
	sqlite3_trace_v2(w.store->meta->db, 0, NULL, NULL);
	CHECK_OK(world_close(&w));
}
