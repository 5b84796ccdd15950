/*
 * Quotas: every way to change what files hold, by many threads, against a recount of the rows.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "spillfs.h"
#include "store/classes.h"
#include "store/commit.h"
#include "store/meta/inside.h"
#include "tree/inode.h"
#include "tree/live/quota.h"
#include "unit.h"
#include "world.h"

#define KIB 1024u
#define MIB (1024u * KIB)

static const struct tree_caller me;

static int set_quota(struct world *w, uint64_t dir, const char *name, const char *value)
{
	return tree_setxattr(w->tree, dir, name, value, strlen(value), 0, &me);
}

static uint64_t dir_of(struct world *w, uint64_t parent, const char *name)
{
	uint64_t ino = 0;

	CHECK_OK(world_make(w, parent, name, S_IFDIR | 0755, &ino));
	return ino;
}

struct sums {
	uint64_t dir, held, size;
	bool found;
};

static int see(void *ctx, uint64_t dir, const struct quota_amount *limit, const struct quota_amount *used)
{
	struct sums *s = ctx;

	(void)limit;
	if (dir == s->dir)
		*s = (struct sums){ dir, used->held_bytes, used->size_bytes, true };
	return 0;
}

static struct sums used(struct world *w, uint64_t dir)
{
	struct sums s = { .dir = dir };

	CHECK_OK(quota_walk(w->tree, see, &s));
	return s;
}

/* By the rows, in SQL that has nothing in common with the account's. Of several names the oldest counts. */
static struct sums recount(struct world *w, uint64_t dir)
{
	static const char sql[] =
		"WITH RECURSIVE d(ino) AS (SELECT ? UNION SELECT i.ino FROM d JOIN inodes i ON i.parent=d.ino WHERE i.mode/4096=4)"
		" SELECT i.ino, i.stored, i.size, b.value FROM inodes i LEFT JOIN blobs b ON b.ino=i.ino AND b.what=4"
		" WHERE i.mode/4096=8 AND (SELECT n.parent FROM names n WHERE n.ino=i.ino ORDER BY n.cookie LIMIT 1) IN (SELECT ino FROM d)";
	struct meta *m = w->store->meta;
	struct sums s = { .dir = dir, .found = true };
	sqlite3_stmt *row;

	meta_lock(m);
	CHECK_EQ(sqlite3_prepare_v2(m->db, sql, -1, &row, NULL), SQLITE_OK);
	sqlite3_bind_int64(row, 1, (sqlite3_int64)dir);
	while (sqlite3_step(row) == SQLITE_ROW) {
		const uint64_t *v = sqlite3_column_blob(row, 3);
		size_t n = (size_t)sqlite3_column_bytes(row, 3) / 16;

		s.held += (uint64_t)sqlite3_column_int64(row, 1);
		s.size += (uint64_t)sqlite3_column_int64(row, 2);
		for (size_t k = 0; k < n; k++)
			s.held += v[2 * k + 1];
	}
	sqlite3_finalize(row);
	meta_unlock(m);
	return s;
}

/* After commits, for which nobody waits in scratch/. */
static void check_count(struct world *w, uint64_t dir)
{
	struct sums got, want;

	for (int k = 0; k < 3; k++)
		CHECK_OK(commit_wait(w->store->commit, COMMIT_SYNC));
	got = used(w, dir);
	want = recount(w, dir);
	CHECK(got.found);
	CHECK_EQ(got.held, want.held);
	CHECK_EQ(got.size, want.size);
}

/* What random bytes take is what they are. */
static void *noise(size_t n)
{
	unsigned char *p = unit_allot(n);
	uint64_t seed = 7;

	unit_rand_fill(&seed, p, n);
	return p;
}

static int write_at(struct world *w, uint64_t dir, const char *name, const void *p, size_t n, uint64_t off, size_t *in)
{
	struct tree_file_info info = { .direct = true };
	struct tree_file *f;
	struct tree_attr a;
	int err = tree_lookup(w->tree, dir, name, NULL, &a);

	*in = 0;
	if (err == -ENOENT)
		err = tree_make(w->tree, dir, name, S_IFREG | 0644, 0, NULL, &me, &a);
	if (err)
		return err;
	err = tree_file_open(w->tree, a.st.st_ino, O_WRONLY, &me, &f, &info);
	if (!err) {
		err = tree_write(f, p, n, off, &(struct tree_write_how){ .who = &me }, in);
		tree_file_release(f);
	}
	tree_forget(w->tree, a.st.st_ino, 1);
	return err;
}

/* Behind the end. */
static int reserve(struct world *w, uint64_t ino, uint64_t off, uint64_t len)
{
	struct tree_file_info info = { .direct = true };
	struct tree_file *f;
	int err;

	CHECK_OK(tree_file_open(w->tree, ino, O_WRONLY, &me, &f, &info));
	err = tree_fallocate(f, FALLOC_FL_KEEP_SIZE, off, len, &me);
	tree_file_release(f);
	return err;
}

static int set_size(struct world *w, uint64_t ino, off_t size)
{
	struct stat st = { .st_size = size };
	struct tree_attr a;

	return tree_setattr(w->tree, ino, TREE_SET_SIZE, &st, &me, NULL, &a);
}

static uint64_t left(struct world *w, uint64_t ino)
{
	struct statvfs st;

	CHECK_OK(tree_statfs(w->tree, ino, &st));
	return st.f_bfree * st.f_frsize;
}

UNIT_TEST(quota_bounds_writes_of_each_kind)
{
	struct io_dir *disk = world_disk();
	char *p = noise(2 * MIB);
	struct statvfs st;
	struct world w;
	size_t in;

	world_open(&w, disk, &world_config);
	for (size_t k = 0; k < CLASSES_N; k++) {
		uint64_t q = dir_of(&w, classes[k].ino, "q");

		CHECK_OK(set_quota(&w, q, SPILLFS_XATTR_QUOTA, "1m"));
		CHECK_OK(tree_statfs(w.tree, q, &st));
		CHECK_EQ(st.f_blocks * st.f_frsize, MIB);
		CHECK_EQ(left(&w, q), MIB);
		/* As much as fits, and then no byte more. */
		CHECK_OK(write_at(&w, q, "a", p, 2 * MIB, 0, &in));
		CHECK(in >= MIB - 16 * KIB && in <= MIB);
		CHECK_EQ(write_at(&w, q, "a", p, MIB, in, &in), -EDQUOT);
		check_count(&w, q);
		/* Others are untouched. */
		CHECK_OK(write_at(&w, classes[k].ino, "out", p, 2 * MIB, 0, &in));
		CHECK_EQ(in, 2 * MIB);
		/* What is deleted comes back at once. */
		CHECK_OK(tree_unlink(w.tree, q, "a", NULL));
		CHECK_OK(write_at(&w, q, "b", p, 512 * KIB, 0, &in));
		CHECK_EQ(in, 512 * KIB);
		check_count(&w, q);
	}
	CHECK_OK(world_close(&w));
	free(p);
}

UNIT_TEST(quota_of_a_full_directory_lets_stored_bytes_be_written_again)
{
	static const enum array_kind kinds[] = { ARRAY_BUCKET, ARRAY_COLUMN };
	struct io_dir *disk = world_disk();
	char *p = noise(MIB);
	struct world w;
	size_t in;

	world_open(&w, disk, &world_config);
	for (size_t k = 0; k < 2; k++) {
		uint64_t q = dir_of(&w, class_by_kind(kinds[k])->ino, "q");

		CHECK_OK(set_quota(&w, q, SPILLFS_XATTR_QUOTA, "512K"));
		CHECK_OK(write_at(&w, q, "a", p, 512 * KIB, 0, &in));
		CHECK_EQ(in, 512 * KIB);
		CHECK_OK(write_at(&w, q, "a", p + 1, 100 * KIB, 4096, &in));
		CHECK_EQ(write_at(&w, q, "b", p, 1, 0, &in), -EDQUOT);
		check_count(&w, q);
	}
	CHECK_OK(world_close(&w));
	free(p);
}

UNIT_TEST(quota_logical_bounds_sizes_not_what_they_take)
{
	struct io_dir *disk = world_disk();
	char *p = calloc(1, MIB);
	struct stat st = { .st_size = 2 * MIB };
	struct tree_attr a;
	struct world w;
	uint64_t q;
	size_t in;

	world_open(&w, disk, &world_config);
	q = dir_of(&w, META_INO_LAYERS, "q");
	CHECK_OK(set_quota(&w, q, SPILLFS_XATTR_QUOTA_LOGICAL, "1M"));
	CHECK_OK(write_at(&w, q, "a", p, 512 * KIB, 0, &in));
	CHECK_OK(tree_lookup(w.tree, q, "a", NULL, &a));
	CHECK_EQ(tree_setattr(w.tree, a.st.st_ino, TREE_SET_SIZE, &st, &me, NULL, &a), -EDQUOT);
	st.st_size = MIB;
	CHECK_OK(tree_setattr(w.tree, a.st.st_ino, TREE_SET_SIZE, &st, &me, NULL, &a));
	CHECK_EQ(write_at(&w, q, "b", p, 1, 0, &in), -EDQUOT);
	tree_forget(w.tree, a.st.st_ino, 1);
	check_count(&w, q);
	CHECK_OK(world_close(&w));
	free(p);
}

UNIT_TEST(quotas_nest_and_the_tightest_counts)
{
	struct io_dir *disk = world_disk();
	char *p = noise(MIB);
	uint64_t outer, inner;
	struct world w;
	size_t in;

	world_open(&w, disk, &world_config);
	outer = dir_of(&w, META_INO_BUCKETS, "outer");
	inner = dir_of(&w, dir_of(&w, outer, "mid"), "inner");
	/* The inner one first: the outer one counts it when it comes. */
	CHECK_OK(write_at(&w, inner, "a", p, 100 * KIB, 0, &in));
	CHECK_OK(set_quota(&w, inner, SPILLFS_XATTR_QUOTA, "400K"));
	CHECK_OK(set_quota(&w, outer, SPILLFS_XATTR_QUOTA, "300K"));
	CHECK_EQ(used(&w, outer).held, 100 * KIB);
	CHECK_EQ(left(&w, inner), 200 * KIB);
	CHECK_EQ(write_at(&w, inner, "b", p, 300 * KIB, 0, &in), 0);
	CHECK_EQ(in, 200 * KIB);
	CHECK_EQ(write_at(&w, outer, "c", p, 1, 0, &in), -EDQUOT);
	CHECK_OK(tree_removexattr(w.tree, outer, SPILLFS_XATTR_QUOTA, &me));
	CHECK(!used(&w, outer).found);
	CHECK_OK(write_at(&w, inner, "b", p, 100 * KIB, 200 * KIB, &in));
	CHECK_EQ(write_at(&w, inner, "b", p, 1, 300 * KIB, &in), -EDQUOT);
	CHECK_OK(set_quota(&w, outer, SPILLFS_XATTR_QUOTA, "1M"));
	check_count(&w, outer);
	check_count(&w, inner);
	CHECK_OK(world_close(&w));
	/* As the rows have it. */
	world_open(&w, disk, &world_config);
	check_count(&w, outer);
	check_count(&w, inner);
	CHECK_EQ(used(&w, outer).held, 400 * KIB);
	CHECK_OK(world_close(&w));
	free(p);
}

UNIT_TEST(quota_is_asked_by_names_that_come_from_elsewhere)
{
	struct io_dir *disk = world_disk();
	char *p = noise(MIB);
	struct tree_attr a;
	struct world w;
	uint64_t q;
	size_t in;

	world_open(&w, disk, &world_config);
	q = dir_of(&w, META_INO_BUCKETS, "q");
	dir_of(&w, META_INO_BUCKETS, "d");
	CHECK_OK(set_quota(&w, q, SPILLFS_XATTR_QUOTA, "256K"));
	CHECK_OK(write_at(&w, META_INO_BUCKETS, "big", p, 300 * KIB, 0, &in));
	CHECK_OK(write_at(&w, META_INO_BUCKETS, "fits", p, 200 * KIB, 0, &in));
	CHECK_EQ(tree_rename(w.tree, META_INO_BUCKETS, "big", q, "big", 0, &me), -EDQUOT);
	CHECK_OK(tree_rename(w.tree, META_INO_BUCKETS, "fits", q, "fits", 0, &me));
	CHECK_EQ(used(&w, q).held, 200 * KIB);
	CHECK_EQ(tree_rename(w.tree, META_INO_BUCKETS, "d", q, "d", 0, &me), -EXDEV);
	/* An exchange moves both or none. */
	CHECK_EQ(tree_rename(w.tree, META_INO_BUCKETS, "big", q, "fits", RENAME_EXCHANGE, &me), -EDQUOT);
	CHECK_EQ(used(&w, q).held, 200 * KIB);
	CHECK_OK(tree_lookup(w.tree, q, "fits", NULL, &a));
	CHECK_EQ(tree_link(w.tree, a.st.st_ino, META_INO_BUCKETS, "other", &a), -EXDEV);
	CHECK_OK(tree_link(w.tree, a.st.st_ino, q, "twin", &a));
	tree_forget(w.tree, a.st.st_ino, 2);
	CHECK_EQ(tree_rename(w.tree, q, "twin", META_INO_BUCKETS, "twin", 0, &me), -EXDEV);
	CHECK_OK(tree_unlink(w.tree, q, "fits", NULL));
	CHECK_OK(tree_rename(w.tree, q, "twin", META_INO_BUCKETS, "twin", 0, &me));
	CHECK_EQ(used(&w, q).held, 0);
	check_count(&w, q);
	CHECK_OK(world_close(&w));
	free(p);
}

UNIT_TEST(quota_follows_the_oldest_of_several_names)
{
	struct io_dir *disk = world_disk();
	char *p = noise(MIB);
	struct tree_attr a;
	struct world w;
	uint64_t q;
	size_t in;

	world_open(&w, disk, &world_config);
	q = dir_of(&w, META_INO_BUCKETS, "q");
	CHECK_OK(write_at(&w, q, "a", p, 100 * KIB, 0, &in));
	CHECK_OK(tree_lookup(w.tree, q, "a", NULL, &a));
	CHECK_OK(tree_link(w.tree, a.st.st_ino, META_INO_BUCKETS, "b", &a));
	CHECK_OK(set_quota(&w, q, SPILLFS_XATTR_QUOTA, "1M"));
	CHECK_EQ(used(&w, q).held, 100 * KIB);
	check_count(&w, q);
	CHECK_OK(tree_unlink(w.tree, q, "a", NULL));
	CHECK_EQ(used(&w, q).held, 0);
	tree_forget(w.tree, a.st.st_ino, 2);
	CHECK_OK(write_at(&w, META_INO_BUCKETS, "b", p, 200 * KIB, 0, &in));
	check_count(&w, q);
	CHECK_OK(world_close(&w));
	free(p);
}

UNIT_TEST(quota_says_what_is_wrong)
{
	struct io_dir *disk = world_disk();
	char *p = noise(MIB);
	struct tree_attr a;
	struct world w;
	void *value;
	size_t in, len;
	uint64_t q;

	world_open(&w, disk, &world_config);
	q = dir_of(&w, META_INO_COLUMNS, "q");
	CHECK_OK(write_at(&w, q, "a", p, 200 * KIB, 0, &in));
	CHECK_OK(world_walk(&w, "columns/q/a", &a));
	CHECK_EQ(set_quota(&w, q, SPILLFS_XATTR_QUOTA, "much"), -EINVAL);
	CHECK_EQ(set_quota(&w, q, SPILLFS_XATTR_QUOTA, "0"), -EINVAL);
	CHECK_EQ(set_quota(&w, q, SPILLFS_XATTR_QUOTA, "16777216T"), -EINVAL);
	CHECK_OK(tree_lookup(w.tree, q, "a", NULL, &a));
	CHECK_EQ(set_quota(&w, a.st.st_ino, SPILLFS_XATTR_QUOTA, "1M"), -ENOTDIR);
	tree_forget(w.tree, a.st.st_ino, 1);
	/* Below what is used: it stays, and nothing is added. */
	CHECK_OK(set_quota(&w, q, SPILLFS_XATTR_QUOTA, "100K"));
	CHECK_EQ(write_at(&w, q, "b", p, 1, 0, &in), -EDQUOT);
	CHECK_EQ(left(&w, q), 0);
	CHECK_OK(tree_getxattr(w.tree, q, SPILLFS_XATTR_QUOTA, &value, &len));
	CHECK(len == 4 && !memcmp(value, "100K", 4));
	free(value);
	/* What is made in it has no quota of its own. */
	CHECK_EQ(tree_getxattr(w.tree, dir_of(&w, q, "sub"), SPILLFS_XATTR_QUOTA, &value, &len), -ENODATA);
	CHECK_OK(tree_listxattr(w.tree, q, (char **)&value, &len));
	CHECK_EQ(len, 0);
	free(value);
	CHECK_OK(world_close(&w));
	free(p);
}

UNIT_TEST(quota_counts_open_files_without_a_name_until_they_go)
{
	struct io_dir *disk = world_disk();
	struct tree_file_info info = { .direct = true };
	char *p = noise(MIB);
	struct tree_file *f;
	struct tree_attr a;
	struct world w;
	uint64_t q;
	size_t in;

	world_open(&w, disk, &world_config);
	q = dir_of(&w, META_INO_BUCKETS, "q");
	CHECK_OK(set_quota(&w, q, SPILLFS_XATTR_QUOTA, "256K"));
	CHECK_OK(tree_make(w.tree, q, "a", S_IFREG | 0644, 0, NULL, &me, &a));
	CHECK_OK(tree_file_open(w.tree, a.st.st_ino, O_WRONLY, &me, &f, &info));
	CHECK_OK(tree_unlink(w.tree, q, "a", NULL));
	tree_forget(w.tree, a.st.st_ino, 1);
	CHECK_OK(tree_write(f, p, 200 * KIB, 0, &(struct tree_write_how){ .who = &me }, &in));
	CHECK_EQ(used(&w, q).held, 200 * KIB);
	CHECK_EQ(tree_write(f, p, 100 * KIB, 200 * KIB, &(struct tree_write_how){ .who = &me, .whole = true }, &in), -EDQUOT);
	tree_file_release(f);
	CHECK_OK(write_at(&w, q, "b", p, 256 * KIB, 0, &in));
	CHECK_EQ(in, 256 * KIB);
	check_count(&w, q);
	CHECK_OK(world_close(&w));
	free(p);
}

UNIT_TEST(quota_keeps_what_is_reserved)
{
	struct io_dir *disk = world_disk();
	struct tree_file_info info = { .direct = true };
	char *p = noise(MIB);
	struct tree_file *f;
	struct tree_attr a;
	struct world w;
	size_t in;

	world_open(&w, disk, &world_config);
	for (size_t k = 0; k < CLASSES_N; k++) {
		uint64_t q = dir_of(&w, classes[k].ino, "q");

		CHECK_OK(set_quota(&w, q, SPILLFS_XATTR_QUOTA, "512K"));
		CHECK_OK(tree_make(w.tree, q, "a", S_IFREG | 0644, 0, NULL, &me, &a));
		CHECK_OK(tree_file_open(w.tree, a.st.st_ino, O_WRONLY, &me, &f, &info));
		CHECK_EQ(tree_fallocate(f, 0, 0, MIB, &me), -EDQUOT);
		CHECK_OK(tree_fallocate(f, 0, 0, 512 * KIB, &me));
		CHECK_EQ(write_at(&w, q, "b", p, 1, 0, &in), -EDQUOT);
		/* Its owner can write it. */
		CHECK_OK(tree_write(f, p, 256 * KIB, 0, &(struct tree_write_how){ .who = &me }, &in));
		CHECK_EQ(in, 256 * KIB);
		check_count(&w, q);
		CHECK_OK(tree_fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 512 * KIB, &me));
		check_count(&w, q);
		CHECK_EQ(used(&w, q).held, 0);
		tree_file_release(f);
		tree_forget(w.tree, a.st.st_ino, 1);
	}
	CHECK_OK(world_close(&w));
	free(p);
}

/* Behind the end, where no size tells of it. */
UNIT_TEST(quota_counts_what_is_reserved_behind_the_end)
{
	struct io_dir *disk = world_disk();
	struct tree_file_info info = { .direct = true };
	char *p = noise(MIB);
	uint64_t q[CLASSES_N], kept[CLASSES_N];
	struct tree_file *f;
	struct tree_attr a;
	struct world w;
	size_t in;

	world_open(&w, disk, &world_config);
	for (size_t k = 0; k < CLASSES_N; k++) {
		q[k] = dir_of(&w, classes[k].ino, "q");
		CHECK_OK(set_quota(&w, q[k], SPILLFS_XATTR_QUOTA, "512K"));
		CHECK_OK(tree_make(w.tree, q[k], "a", S_IFREG | 0644, 0, NULL, &me, &a));
		CHECK_OK(tree_file_open(w.tree, a.st.st_ino, O_WRONLY, &me, &f, &info));
		CHECK_EQ(tree_fallocate(f, FALLOC_FL_KEEP_SIZE, 0, MIB, &me), -EDQUOT);
		CHECK_OK(tree_fallocate(f, FALLOC_FL_KEEP_SIZE, 0, 256 * KIB, &me));
		CHECK_EQ(used(&w, q[k]).held, 256 * KIB);
		CHECK_EQ(used(&w, q[k]).size, 0);
		CHECK_OK(tree_fallocate(f, FALLOC_FL_KEEP_SIZE, 0, 256 * KIB, &me)); /* it has that */
		CHECK_EQ(tree_fallocate(f, FALLOC_FL_KEEP_SIZE, 256 * KIB, 300 * KIB, &me), -EDQUOT);
		CHECK_EQ(tree_fallocate(f, FALLOC_FL_KEEP_SIZE, MIB, 300 * KIB, &me), -EDQUOT);
		CHECK_OK(tree_write(f, p, 64 * KIB, 0, &(struct tree_write_how){ .who = &me }, &in));
		check_count(&w, q[k]);
		kept[k] = used(&w, q[k]).held;
		CHECK(kept[k] >= 250 * KIB && kept[k] <= 330 * KIB);
		tree_file_release(f);
		tree_forget(w.tree, a.st.st_ino, 1);
	}
	CHECK_OK(world_close(&w));
	world_open(&w, disk, &world_config);
	for (size_t k = 0; k < CLASSES_N; k++) {
		CHECK_OK(tree_lookup(w.tree, classes[k].ino, "q", &me, &a));
		CHECK_EQ(used(&w, q[k]).held, kept[k]);
		CHECK_EQ(write_at(&w, q[k], "b", p, 300 * KIB, 0, &in), 0);
		CHECK(in <= 512 * KIB - kept[k]);
		CHECK_OK(tree_lookup(w.tree, q[k], "a", &me, &a));
		CHECK_OK(tree_file_open(w.tree, a.st.st_ino, O_WRONLY, &me, &f, &info));
		/* What it has reserved is its own still. */
		CHECK_OK(tree_write(f, p, 64 * KIB, 64 * KIB, &(struct tree_write_how){ .who = &me }, &in));
		if (classes[k].kind != ARRAY_LAYERED)
			CHECK_EQ(in, 64 * KIB);
		check_count(&w, q[k]);
		tree_file_release(f);
		a.st.st_size = 64 * KIB;
		CHECK_OK(tree_setattr(w.tree, a.st.st_ino, TREE_SET_SIZE, &a.st, &me, NULL, &a));
		CHECK_OK(tree_unlink(w.tree, q[k], "b", &me));
		CHECK_OK(world_commit(&w));
		check_count(&w, q[k]);
		tree_forget(w.tree, a.st.st_ino, 1);
		CHECK(used(&w, q[k]).held <= 80 * KIB);
	}
	CHECK_OK(world_close(&w));
	free(p);
}

/* A cut to the size that it has gives back what fallocate has reserved behind it, joined to the data or not, also in a later mount. */
UNIT_TEST(quota_gives_back_what_was_reserved_behind_the_end)
{
	for (unsigned k = 0; k < 4; k++) {
		struct tree_file_info info = { .direct = true };
		struct io_dir *disk = world_disk();
		char *p = noise(64 * KIB);
		uint64_t q, held, stored;
		struct tree_file *f;
		struct tree_attr a;
		struct world w;
		struct io *file;
		size_t in;

		world_open(&w, disk, &world_config);
		q = dir_of(&w, META_INO_COLUMNS, "q");
		CHECK_OK(set_quota(&w, q, SPILLFS_XATTR_QUOTA, "4M"));
		CHECK_OK(write_at(&w, q, "a", p, 64 * KIB, 0, &in));
		CHECK_OK(tree_lookup(w.tree, q, "a", &me, &a));
		held = used(&w, q).held;
		CHECK_OK(tree_file_open(w.tree, a.st.st_ino, O_WRONLY, &me, &f, &info));
		CHECK_OK(tree_fallocate(f, FALLOC_FL_KEEP_SIZE, (k % 2 ? 256 : 64) * KIB, MIB, &me));
		CHECK_EQ(used(&w, q).held, held + MIB);
		tree_file_release(f);
		tree_forget(w.tree, a.st.st_ino, 1);
		if (k > 1) {
			CHECK_OK(world_close(&w));
			world_open(&w, disk, &world_config);
			CHECK_OK(tree_lookup(w.tree, META_INO_COLUMNS, "q", &me, &a));
		}
		CHECK_OK(tree_lookup(w.tree, q, "a", &me, &a));
		CHECK_OK(tree_setattr(w.tree, a.st.st_ino, TREE_SET_SIZE, &a.st, &me, NULL, &a));
		CHECK_OK(world_commit(&w));
		CHECK_EQ(used(&w, q).held, held);
		CHECK_OK(io_open(disk, "columns/1", IO_RDONLY, &file));
		CHECK_OK(io_size(file, &(uint64_t){ 0 }, &stored));
		io_close(file);
		CHECK_EQ(stored, 64 * KIB);
		tree_forget(w.tree, a.st.st_ino, 1);
		CHECK_OK(world_close(&w));
		free(p);
	}
}

/* What a column reserves ahead of its appends does not count, and no more when something is reserved behind the end as well. */
UNIT_TEST(quota_counts_nothing_that_is_reserved_ahead)
{
	struct tree_file_info info = { .direct = true };
	struct io_dir *disk = world_disk();
	char *p = noise(MIB);
	struct tree_file *f;
	struct tree_attr a;
	struct world w;
	uint64_t q;
	size_t in;

	world_open(&w, disk, &world_config);
	q = dir_of(&w, META_INO_COLUMNS, "q");
	CHECK_OK(set_quota(&w, q, SPILLFS_XATTR_QUOTA, "64M"));
	for (uint64_t off = 0; off < 8 * MIB; off += MIB)
		CHECK_OK(write_at(&w, q, "a", p, MIB, off, &in));
	CHECK_EQ(used(&w, q).held, 8 * MIB);
	CHECK_OK(tree_lookup(w.tree, q, "a", &me, &a));
	CHECK_OK(tree_file_open(w.tree, a.st.st_ino, O_WRONLY, &me, &f, &info));
	CHECK_OK(tree_fallocate(f, FALLOC_FL_KEEP_SIZE, 8 * MIB, 4 * KIB, &me));
	CHECK_EQ(used(&w, q).held, 8 * MIB + 4 * KIB);
	tree_file_release(f);
	tree_forget(w.tree, a.st.st_ino, 1);
	CHECK_OK(world_close(&w));
	free(p);
}

/* A sparse column of which fallocate has reserved two ranges behind the end: the bytes that it holds do not tell where the second ends. */
static void make_sparse(struct world *w, uint64_t q)
{
	char *p = noise(64 * KIB);
	struct tree_attr a;
	size_t in;

	CHECK_OK(set_quota(w, q, SPILLFS_XATTR_QUOTA, "1M"));
	CHECK_OK(write_at(w, q, "a", p, 64 * KIB, MIB, &in));
	CHECK_OK(tree_lookup(w->tree, q, "a", &me, &a));
	CHECK_OK(reserve(w, a.st.st_ino, 2 * MIB, 64 * KIB));
	CHECK_OK(reserve(w, a.st.st_ino, 4 * MIB, 64 * KIB));
	CHECK_EQ(used(w, q).held, 192 * KIB);
	tree_forget(w->tree, a.st.st_ino, 1);
	free(p);
}

/* Both ranges are the file's own, and nothing else is. */
static void check_sparse(struct world *w, uint64_t q)
{
	char *p = noise(MIB);
	struct tree_attr a;
	size_t in;

	CHECK_OK(tree_lookup(w->tree, META_INO_COLUMNS, "q", &me, &a));
	CHECK_EQ(used(w, q).held, 192 * KIB);
	CHECK_OK(tree_lookup(w->tree, q, "a", &me, &a));
	CHECK_OK(reserve(w, a.st.st_ino, 2 * MIB, 4 * KIB)); /* by its file */
	CHECK_EQ(used(w, q).held, 192 * KIB);
	CHECK_EQ(write_at(w, q, "b", p, MIB, 0, &in), 0);
	CHECK_EQ(in, MIB - 192 * KIB);
	CHECK_OK(reserve(w, a.st.st_ino, 2 * MIB, 64 * KIB));
	CHECK_OK(reserve(w, a.st.st_ino, 4 * MIB, 64 * KIB));
	CHECK_EQ(reserve(w, a.st.st_ino, 4 * MIB, 68 * KIB), -EDQUOT);
	CHECK_EQ(reserve(w, a.st.st_ino, 3 * MIB, 4 * KIB), -EDQUOT);
	CHECK_EQ(write_at(w, q, "a", p, 4 * KIB, 0, &in), -EDQUOT); /* a hole inside, whatever is reserved behind */
	CHECK_OK(write_at(w, q, "a", p, 64 * KIB, 2 * MIB, &in));
	CHECK_EQ(in, 64 * KIB);
	CHECK_OK(write_at(w, q, "a", p, 64 * KIB, 4 * MIB, &in));
	CHECK_EQ(in, 64 * KIB);
	check_count(w, q);
	CHECK_EQ(used(w, q).held, MIB);
	tree_forget(w->tree, a.st.st_ino, 1);
	free(p);
}

/* A new world with columns/q below a quota. */
static uint64_t open_columns(struct world *w, struct io_dir *disk, const char *limit)
{
	uint64_t q;

	world_open(w, disk, &world_config);
	q = dir_of(w, META_INO_COLUMNS, "q");
	CHECK_OK(set_quota(w, q, SPILLFS_XATTR_QUOTA, limit));
	return q;
}

static void cut_power_of(struct world *w, struct io_dir *disk)
{
	CHECK_OK(io_mem_cut_power(disk, 0));
	world_close(w);
	world_open(w, disk, &world_config);
}

/* What a cut will leave counts from the truncation on: of a sparse column that is less than the size. */
UNIT_TEST(quota_of_a_sparse_column_counts_what_a_cut_leaves)
{
	struct io_dir *disk = world_disk();
	char *p = noise(128 * KIB);
	struct tree_attr a;
	struct world w;
	uint64_t q;
	size_t in;

	q = open_columns(&w, disk, "1M");
	CHECK_OK(write_at(&w, q, "a", p, 4 * KIB, 0, &in));
	CHECK_OK(write_at(&w, q, "a", p, 128 * KIB, MIB, &in));
	CHECK_OK(world_commit(&w));
	CHECK_EQ(used(&w, q).held, 132 * KIB);
	CHECK_OK(tree_lookup(w.tree, q, "a", &me, &a));
	CHECK_OK(set_size(&w, a.st.st_ino, MIB + 64 * KIB));
	CHECK_EQ(used(&w, q).held, 68 * KIB);
	CHECK_OK(set_size(&w, a.st.st_ino, 512 * KIB));
	CHECK_EQ(used(&w, q).held, 4 * KIB);
	CHECK_OK(write_at(&w, q, "a", p, 8 * KIB, 64 * KIB, &in));
	CHECK_EQ(used(&w, q).held, 12 * KIB);
	tree_forget(w.tree, a.st.st_ino, 1);
	check_count(&w, q);
	CHECK_EQ(used(&w, q).held, 12 * KIB);
	cut_power_of(&w, disk);
	CHECK_EQ(used(&w, q).held, 12 * KIB);
	CHECK_OK(world_close(&w));
	free(p);
}

/* Searches for extents behind a place of one file, which any thread may make. */
static struct {
	const struct io_ops *was;
	struct io_ops ops;
	uint64_t from;
	atomic_uint n;
} searches;

static bool count_search(struct io *f, uint64_t off, uint64_t n, uint64_t *from, uint64_t *to)
{
	atomic_fetch_add(&searches.n, off + n > searches.from);
	return searches.was->find_allocated(f, off, n, from, to);
}

static void watch_searches(struct world *w, uint64_t ino, uint64_t from)
{
	struct tree_file_info info = { .direct = true };
	struct tree_file *f;
	struct tree_read r;

	CHECK_OK(tree_file_open(w->tree, ino, O_RDONLY, &me, &f, &info));
	CHECK_OK(tree_read_begin(f, 0, 4 * KIB, 0, &r));
	CHECK(r.n == 1 && r.part[0].file);
	searches.was = r.part[0].file->ops;
	searches.ops = *searches.was;
	searches.ops.find_allocated = count_search;
	searches.from = from;
	atomic_store(&searches.n, 0);
	r.part[0].file->ops = &searches.ops;
	tree_read_end(&r);
	tree_file_release(f);
}

/* The extents that a cut will take are searched for once, and again after what changes them. */
UNIT_TEST(quota_counts_once_what_waits_for_a_cut)
{
	struct io_dir *disk = world_disk();
	char *p = noise(4 * KIB);
	struct tree_attr a;
	struct world w;
	unsigned first;
	uint64_t q;
	size_t in;

	q = open_columns(&w, disk, "1M");
	for (unsigned k = 0; k < 100; k++)
		CHECK_OK(write_at(&w, q, "a", p, 4 * KIB, MIB + k * 8 * KIB, &in));
	CHECK_OK(world_commit(&w));
	CHECK_EQ(used(&w, q).held, 400 * KIB);
	CHECK_OK(tree_lookup(w.tree, q, "a", &me, &a));
	watch_searches(&w, a.st.st_ino, MIB + 400 * KIB);
	CHECK_OK(set_size(&w, a.st.st_ino, MIB + 400 * KIB));
	CHECK_EQ(used(&w, q).held, 200 * KIB);
	first = atomic_load(&searches.n);
	CHECK(first >= 50);
	for (unsigned k = 0; k < 50; k++) {
		CHECK_OK(write_at(&w, q, "a", p, 4 * KIB, k * 4 * KIB, &in));
		CHECK_EQ(used(&w, q).held, (204 + k * 4) * KIB);
	}
	CHECK_EQ(atomic_load(&searches.n), first);
	CHECK_OK(set_size(&w, a.st.st_ino, MIB + 200 * KIB));
	CHECK_EQ(used(&w, q).held, 300 * KIB);
	check_count(&w, q);
	CHECK_EQ(used(&w, q).held, 300 * KIB);
	/* The file is as long again, and cut to the same place, with another part between. */
	CHECK_OK(write_at(&w, q, "a", p, 4 * KIB, MIB + 792 * KIB, &in));
	CHECK_EQ(used(&w, q).held, 304 * KIB);
	CHECK_OK(set_size(&w, a.st.st_ino, MIB + 200 * KIB));
	CHECK_EQ(used(&w, q).held, 300 * KIB);
	tree_forget(w.tree, a.st.st_ino, 1);
	check_count(&w, q);
	CHECK_OK(world_close(&w));
	free(p);
}

UNIT_TEST(quota_knows_after_a_mount_where_reserved_space_ends)
{
	for (unsigned k = 0; k < 2; k++) {
		struct io_dir *disk = world_disk();
		struct world w;
		uint64_t q;

		world_open(&w, disk, &world_config);
		q = dir_of(&w, META_INO_COLUMNS, "q");
		make_sparse(&w, q);
		if (k) {
			CHECK_OK(world_commit(&w));
			cut_power_of(&w, disk);
		} else {
			CHECK_OK(world_close(&w));
			world_open(&w, disk, &world_config);
		}
		check_sparse(&w, q);
		CHECK_OK(world_close(&w));
	}
}

static uint64_t stored_in(struct io_dir *disk, const char *name, bool sync)
{
	struct io *f;
	uint64_t stored;

	CHECK_OK(io_open(disk, name, 0, &f));
	if (sync)
		CHECK_OK(io_sync(f));
	CHECK_OK(io_size(f, &(uint64_t){ 0 }, &stored));
	io_close(f);
	return stored;
}

/* A kill leaves in the file what has happened since the last commit: bytes behind the end, and space that was reserved. Only that goes. */
UNIT_TEST(quota_keeps_what_is_reserved_over_a_kill)
{
	char *p = noise(MIB);

	for (unsigned k = 0; k < 3; k++) {
		struct io_dir *disk = world_disk();
		struct tree_attr a;
		struct world w;
		uint64_t q;
		size_t in;

		world_open(&w, disk, &world_config);
		q = dir_of(&w, META_INO_COLUMNS, "q");
		make_sparse(&w, q);
		CHECK_OK(world_commit(&w));
		CHECK_OK(tree_lookup(w.tree, q, "a", &me, &a));
		if (k != 1)
			CHECK_OK(write_at(&w, q, "a", p, 4 * KIB, 2 * MIB, &in));
		if (k != 0)
			CHECK_OK(reserve(&w, a.st.st_ino, 5 * MIB, 64 * KIB));
		tree_forget(w.tree, a.st.st_ino, 1);
		stored_in(disk, "columns/1", true);
		cut_power_of(&w, disk);
		CHECK_OK(tree_lookup(w.tree, q, "a", &me, &a));
		CHECK_EQ(a.st.st_size, MIB + 64 * KIB);
		tree_forget(w.tree, a.st.st_ino, 1);
		check_sparse(&w, q);
		CHECK_OK(world_close(&w));
		CHECK_EQ(stored_in(disk, "columns/1", false), 192 * KIB);
	}
	free(p);
}

/* A row of an earlier release has no end: what it counts above the size is all that the file has behind it. */
UNIT_TEST(quota_knows_reserved_space_by_a_row_without_an_end)
{
	struct io_dir *disk = world_disk();
	char *p = noise(MIB);
	struct tree_attr a;
	struct world w;
	uint64_t q;
	size_t in;

	q = open_columns(&w, disk, "512K");
	CHECK_OK(write_at(&w, q, "a", p, 64 * KIB, 0, &in));
	CHECK_OK(tree_lookup(w.tree, q, "a", &me, &a));
	CHECK_OK(reserve(&w, a.st.st_ino, MIB, 64 * KIB));
	tree_forget(w.tree, a.st.st_ino, 1);
	CHECK_OK(world_commit(&w));
	meta_lock(w.store->meta);
	CHECK_OK(meta_blob_set_locked(w.store->meta, a.st.st_ino, META_BLOB_RESERVED, NULL, 0));
	meta_unlock(w.store->meta);
	CHECK_OK(world_close(&w));
	world_open(&w, disk, &world_config);
	CHECK_OK(tree_lookup(w.tree, META_INO_COLUMNS, "q", &me, &a));
	CHECK_EQ(used(&w, q).held, 128 * KIB);
	CHECK_OK(write_at(&w, q, "b", p, 384 * KIB, 0, &in));
	CHECK_EQ(in, 384 * KIB);
	CHECK_OK(write_at(&w, q, "a", p, 64 * KIB, MIB, &in));
	CHECK_EQ(in, 64 * KIB);
	check_count(&w, q);
	CHECK_EQ(used(&w, q).held, 512 * KIB);
	CHECK_OK(world_close(&w));
	free(p);
}

/* ---- what is compressed once it is cold ---- */

static int write_text(struct world *w, uint64_t dir, const char *name, uint64_t off)
{
	unsigned char *p = unit_allot(MIB);
	size_t in;
	int err;

	for (size_t i = 0; i < MIB; i++)
		p[i] = (unsigned char)(i % 97 ? 'a' + i % 7 : i * 2654435761u >> 13);
	err = write_at(w, dir, name, p, MIB, off, &in);
	free(p);
	return err;
}

/* Writes 24 MiB below a quota of 12, and noise over them. */
static void check_cold(struct world *w, const char *name)
{
	uint64_t d = dir_of(w, META_INO_ROOT, "d");
	void *raw = noise(MIB);
	struct tree_attr a;
	size_t in;
	int err = 0;

	CHECK_OK(set_quota(w, d, SPILLFS_XATTR_COMPRESS, "cold"));
	CHECK_OK(set_quota(w, d, SPILLFS_XATTR_QUOTA, "12M"));
	for (uint64_t off = 0; off < 24 * MIB; off += MIB)
		CHECK_OK(write_text(w, d, name, off));
	CHECK_OK(tree_lookup(w->tree, d, name, NULL, &a));
	CHECK_OK(tree_getattr(w->tree, a.st.st_ino, &a));
	CHECK(a.st.st_blocks * 512 < 10 * (long)MIB && a.st.st_blocks * 512 > 2 * (long)MIB);
	CHECK_EQ(a.attr_ms, 0);
	check_count(w, d);
	CHECK(used(w, d).held < 10 * MIB);
	CHECK_EQ(left(w, d), 12 * MIB - used(w, d).held);
	for (uint64_t off = 0; off < 24 * MIB && !err; off += MIB) {
		err = write_at(w, d, name, raw, MIB, off, &in);
		CHECK(used(w, d).held <= 12 * MIB);
		check_count(w, d);
		CHECK(used(w, d).held <= 12 * MIB);
	}
	CHECK_EQ(err, -EDQUOT);
	CHECK_OK(tree_unlink(w->tree, d, name, &me));
	tree_forget(w->tree, a.st.st_ino, 1);
	check_count(w, d);
	CHECK_EQ(used(w, d).held, 0);
	CHECK_OK(tree_rmdir(w->tree, META_INO_ROOT, "d"));
	free(raw);
}

UNIT_TEST(quota_counts_what_is_compressed_as_it_is_stored)
{
	struct store_config config = world_config;
	struct io_dir *below, *dir;
	struct world w;

	config.scratch = true;
	CHECK_OK(io_mem_dir(&below));
	CHECK_OK(io_spill_dir(below, &(struct io_spill_config){ .memory_bytes = 4 * MIB }, &dir));
	CHECK_OK(world_open_dir(&w, dir, &config));
	check_cold(&w, "f");
	check_cold(&w, "f.column");
	CHECK_OK(world_close(&w));
}

/* A write that finds no space leaves the rest compressed, and counted so. */
UNIT_TEST(what_stays_compressed_on_a_full_disk_counts_as_before)
{
	struct store_config config = world_config;
	uint64_t d, total, avail, ndenied = 0;
	struct io_dir *below, *dir;
	void *raw = noise(MIB);
	struct tree_attr a;
	struct world w;
	size_t in;

	config.scratch = true;
	CHECK_OK(io_mem_dir(&below));
	CHECK_OK(io_spill_dir(below, &(struct io_spill_config){ .memory_bytes = MIB }, &dir));
	CHECK_OK(world_open_dir(&w, dir, &config));
	d = dir_of(&w, META_INO_ROOT, "d");
	CHECK_OK(set_quota(&w, d, SPILLFS_XATTR_COMPRESS, "cold"));
	for (uint64_t off = 0; off < 24 * MIB; off += MIB)
		CHECK_OK(write_text(&w, d, "f", off));
	CHECK_OK(io_space(below, &total, &avail));
	io_mem_set_space(below, total - avail + MIB);
	for (uint64_t off = 0; off < 24 * MIB; off += MIB)
		ndenied += write_at(&w, d, "f", raw, MIB, off, &in) == -ENOSPC;
	CHECK(ndenied > 10);
	CHECK_OK(tree_lookup(w.tree, d, "f", NULL, &a));
	CHECK_OK(tree_getattr(w.tree, a.st.st_ino, &a));
	CHECK((uint64_t)a.st.st_blocks * 512 < total - avail + 4 * MIB);
	io_mem_set_space(below, total);
	CHECK_OK(commit_wait(w.store->commit, COMMIT_SYNC));
	CHECK_OK(world_close(&w));
	free(raw);
}

/* The commit that counts the file has it as its last user, and asks for another commit, because so much is freed. */
UNIT_TEST(what_is_compressed_is_deleted_before_a_commit_counts_it)
{
	struct store_config config = world_config;
	struct io_dir *below, *dir;
	struct tree_attr a;
	struct world w;
	uint64_t d;

	config.scratch = true;
	config.spill_bytes = MIB;
	CHECK_OK(io_mem_dir(&below));
	CHECK_OK(io_spill_dir(below, &(struct io_spill_config){ .memory_bytes = MIB }, &dir));
	CHECK_OK(world_open_dir(&w, dir, &config));
	d = dir_of(&w, META_INO_ROOT, "d");
	CHECK_OK(set_quota(&w, d, SPILLFS_XATTR_COMPRESS, "cold"));
	for (uint64_t off = 0; off < 8 * MIB; off += MIB)
		CHECK_OK(write_text(&w, d, "f", off));
	CHECK_OK(tree_lookup(w.tree, d, "f", NULL, &a));
	CHECK_OK(tree_unlink(w.tree, d, "f", &me));
	tree_forget(w.tree, a.st.st_ino, 1);
	CHECK_OK(commit_wait(w.store->commit, COMMIT_SYNC));
	CHECK_EQ(used(&w, 0).held, 0);
	CHECK_OK(world_close(&w));
}

UNIT_TEST(size_of_the_mount_bounds_all)
{
	struct store_config config = world_config;
	struct io_dir *disk = world_disk();
	char *p = noise(2 * MIB);
	struct world w;
	size_t in;

	config.size_bytes = MIB;
	world_open(&w, disk, &config);
	CHECK_EQ(left(&w, META_INO_ROOT), MIB);
	CHECK_OK(write_at(&w, META_INO_BUCKETS, "a", p, 768 * KIB, 0, &in));
	CHECK_OK(write_at(&w, META_INO_COLUMNS, "b", p, 512 * KIB, 0, &in));
	CHECK_EQ(in, 256 * KIB);
	CHECK_EQ(write_at(&w, META_INO_BUCKETS, "c", p, 1, 0, &in), -ENOSPC);
	CHECK_OK(world_close(&w));
	world_open(&w, disk, &config);
	CHECK_EQ(used(&w, 0).held, MIB);
	CHECK_EQ(write_at(&w, META_INO_BUCKETS, "c", p, 1, 0, &in), -ENOSPC);
	CHECK_OK(tree_unlink(w.tree, META_INO_BUCKETS, "a", NULL));
	CHECK_OK(write_at(&w, META_INO_BUCKETS, "c", p, MIB, 0, &in));
	CHECK_EQ(in, 768 * KIB);
	CHECK_OK(world_close(&w));
	free(p);
}

/* Many threads. */

#define THREADS 16
#define DIRS 4
#define NAMES 5

struct storm {
	struct world *w;
	uint64_t dir[DIRS]; /* outer, inner (below outer), beside, top */
	const char *noise;
	unsigned steps;
};

struct thread {
	struct storm *s;
	uint64_t seed;
	pthread_t id;
};

static int change(struct storm *s, uint64_t *seed, struct tree_file *f, uint64_t ino)
{
	struct stat st = { .st_size = (off_t)(unit_rand(seed) % (300 * KIB)) };
	uint64_t off = unit_rand(seed) % (256 * KIB), len = 1 + unit_rand(seed) % (64 * KIB);
	struct tree_attr a;
	size_t in;

	switch (unit_rand(seed) % 6) {
	case 0:
		return tree_setattr(s->w->tree, ino, TREE_SET_SIZE, &st, &me, NULL, &a);
	case 1:
		return tree_fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len, &me);
	case 2:
		return tree_fallocate(f, 0, off, len, &me);
	case 3:
		return tree_fallocate(f, FALLOC_FL_ZERO_RANGE, off, len, &me);
	default:
		return tree_write(f, s->noise + off, len, off, &(struct tree_write_how){ .who = &me }, &in);
	}
}

static int work_on_file(struct storm *s, uint64_t *seed, uint64_t dir, const char *name)
{
	struct tree_file_info info = { .direct = true };
	struct tree_file *f;
	struct tree_attr a;
	int err = tree_create(s->w->tree, dir, name, 0644, &me, &a);

	if (err == -EEXIST)
		err = tree_lookup(s->w->tree, dir, name, &me, &a);
	if (err)
		return err;
	err = tree_file_open(s->w->tree, a.st.st_ino, O_WRONLY, &me, &f, &info);
	for (int k = 0; k < 4 && !err; k++) {
		err = change(s, seed, f, a.st.st_ino);
		if (err == -EDQUOT)
			err = 0;
	}
	if (!err || err == -EDQUOT)
		tree_file_release(f);
	tree_forget(s->w->tree, a.st.st_ino, 1);
	return err;
}

static int link_file(struct storm *s, uint64_t dir, const char *name, uint64_t to, const char *newname)
{
	struct tree_attr a, b;
	int err = tree_lookup(s->w->tree, dir, name, &me, &a);

	if (err)
		return err;
	err = tree_link(s->w->tree, a.st.st_ino, to, newname, &b);
	tree_forget(s->w->tree, a.st.st_ino, err ? 1 : 2);
	return err;
}

static int step(struct storm *s, uint64_t *seed)
{
	uint64_t from = s->dir[unit_rand(seed) % DIRS], to = s->dir[unit_rand(seed) % DIRS];
	char name[16], newname[16];

	snprintf(name, sizeof(name), "f%u", (unsigned)(unit_rand(seed) % NAMES));
	snprintf(newname, sizeof(newname), "f%u", (unsigned)(unit_rand(seed) % NAMES));
	switch (unit_rand(seed) % 16) {
	case 0:
	case 1:
		return tree_unlink(s->w->tree, from, name, &me);
	case 2:
	case 3:
		return tree_rename(s->w->tree, from, name, to, newname, 0, &me);
	case 4:
		return tree_rename(s->w->tree, from, name, to, newname, RENAME_EXCHANGE, &me);
	case 5:
		return link_file(s, from, name, to, newname);
	case 6:
		return set_quota(s->w, s->dir[unit_rand(seed) % 3], SPILLFS_XATTR_QUOTA, unit_rand(seed) % 2 ? "900K" : "1500K");
	case 7:
		return tree_removexattr(s->w->tree, s->dir[unit_rand(seed) % 3], SPILLFS_XATTR_QUOTA, &me);
	case 8:
		return tree_sync(s->w->tree);
	default:
		return work_on_file(s, seed, from, name);
	}
}

static void *run(void *ctx)
{
	struct thread *t = ctx;

	for (unsigned k = 0; k < t->s->steps; k++) {
		int err = step(t->s, &t->seed);

		if (err && err != -ENOENT && err != -EEXIST && err != -EXDEV && err != -EDQUOT && err != -ENODATA)
			unit_fail(__FILE__, __LINE__, "step %u: %s", k, strerror(-err));
	}
	return NULL;
}

static void storm(uint64_t class_ino, unsigned steps)
{
	struct io_dir *disk = world_disk();
	struct thread threads[THREADS];
	struct storm s = { .noise = noise(MIB), .steps = steps };
	struct world w;

	world_open(&w, disk, &world_config);
	s.w = &w;
	s.dir[0] = dir_of(&w, class_ino, "outer");
	s.dir[1] = dir_of(&w, dir_of(&w, s.dir[0], "mid"), "inner");
	s.dir[2] = dir_of(&w, class_ino, "beside");
	s.dir[3] = class_ino;
	for (unsigned k = 0; k < THREADS; k++) {
		threads[k] = (struct thread){ .s = &s, .seed = 1000 + k };
		CHECK_OK(pthread_create(&threads[k].id, NULL, run, &threads[k]));
	}
	for (unsigned k = 0; k < THREADS; k++)
		CHECK_OK(pthread_join(threads[k].id, NULL));
	for (unsigned k = 0; k < 4; k++) {
		if (!used(&w, s.dir[k]).found)
			CHECK_OK(set_quota(&w, s.dir[k], SPILLFS_XATTR_QUOTA, "1G"));
	}
	for (unsigned k = 0; k < 4; k++)
		check_count(&w, s.dir[k]);
	CHECK_OK(world_close(&w));
	world_open(&w, disk, &world_config);
	for (unsigned k = 0; k < 4; k++)
		check_count(&w, s.dir[k]);
	CHECK_OK(world_close(&w));
	free((void *)(uintptr_t)s.noise);
}

UNIT_TEST(quota_is_exact_with_many_writers_of_buckets)
{
	storm(META_INO_BUCKETS, unit_in_valgrind() ? 5 : 60);
}

UNIT_TEST(quota_is_exact_with_many_writers_of_columns)
{
	storm(META_INO_COLUMNS, unit_in_valgrind() ? 5 : 60);
}

UNIT_TEST(quota_is_exact_with_many_writers_of_layers)
{
	storm(META_INO_LAYERS, unit_in_valgrind() ? 5 : 60);
}

/* What does not compress is stored with a frame around it, small blocks together: not even that passes what was taken. */
UNIT_TEST(quota_takes_no_less_than_what_is_stored)
{
	static const size_t sizes[] = { 1, 100, 777, 5 * KIB + 3, 64 * KIB, 128 * KIB, 300 * KIB + 1, 5 * MIB };
	char *p = noise(6 * MIB);
	struct sums before, after;
	struct world w;
	char name[16];
	size_t size = 0, in;
	uint64_t q;

	world_open(&w, world_disk(), &world_config);
	q = dir_of(&w, META_INO_LAYERS, "q");
	CHECK_OK(set_quota(&w, q, SPILLFS_XATTR_QUOTA, "1G"));
	CHECK_OK(tree_setxattr(w.tree, q, "user.spillfs.block_size", "4194304", 7, 0, &me));
	for (size_t k = 0; k < sizeof(sizes) / sizeof(*sizes); k++) {
		snprintf(name, sizeof(name), "a%zu", k);
		CHECK_OK(write_at(&w, q, name, p + size, sizes[k], 0, &in));
		size += sizes[k];
	}
	before = used(&w, q);
	for (int k = 0; k < 3; k++)
		CHECK_OK(tree_sync(w.tree));
	after = used(&w, q);
	CHECK(after.held <= before.held && after.held > before.size);
	CHECK_OK(world_close(&w));
	free(p);
}

/* Writers that only add: what is used never passes the bound, and reaches it. */
struct adder {
	struct world *w;
	uint64_t dir, limit;
	const char *noise;
	unsigned n;
	atomic_bool *over;
	pthread_t id;
};

static void *add_much(void *ctx)
{
	struct adder *a = ctx;
	char name[16];
	size_t in;
	int err = 0;

	snprintf(name, sizeof(name), "a%u", a->n);
	for (uint64_t off = 0; !err; off += in) {
		err = write_at(a->w, a->dir, name, a->noise, 12 * KIB, off, &in);
		if (used(a->w, a->dir).held > a->limit)
			atomic_store(a->over, true);
	}
	CHECK_EQ(err, -EDQUOT);
	return NULL;
}

UNIT_TEST(quota_is_never_passed_by_many_writers)
{
	struct io_dir *disk = world_disk();
	struct adder v[THREADS];
	char *p = noise(12 * KIB);
	atomic_bool over = false;
	struct world w;

	world_open(&w, disk, &world_config);
	for (size_t k = 0; k < CLASSES_N; k++) {
		uint64_t q = dir_of(&w, classes[k].ino, "q");

		CHECK_OK(set_quota(&w, q, SPILLFS_XATTR_QUOTA, "2M"));
		for (unsigned i = 0; i < THREADS; i++) {
			v[i] = (struct adder){ &w, q, 2 * MIB, p, i, &over, 0 };
			CHECK_OK(pthread_create(&v[i].id, NULL, add_much, &v[i]));
		}
		for (unsigned i = 0; i < THREADS; i++)
			CHECK_OK(pthread_join(v[i].id, NULL));
		/* A block that is stored while it is written to counts twice, until the new one is stored. */
		CHECK(!atomic_exchange(&over, false) || classes[k].kind == ARRAY_LAYERED);
		check_count(&w, q);
		CHECK_EQ(used(&w, q).held > 2 * MIB ? used(&w, q).held : 0, 0);
		CHECK(used(&w, q).held > (classes[k].kind == ARRAY_LAYERED ? MIB : 2 * MIB - 200 * KIB));
	}
	CHECK_OK(world_close(&w));
	free(p);
}
