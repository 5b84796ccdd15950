/*
 * See base.h.
 */
#include "base.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "unit/unit.h"
#include "unit/world.h"
#include "util/clock.h"

static const struct tree_caller me;

/* ---- time stands still: a store is the same each time it is made, but for its uuid ---- */

static int64_t still_now_ns(void)
{
	return 1700000000000000000;
}

static int64_t real_monotonic_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return clock_ns(ts);
}

static void real_sleep_ns(int64_t ns)
{
	const struct timespec ts = clock_timespec(ns);

	nanosleep(&ts, NULL);
}

static int real_wait(pthread_cond_t *c, pthread_mutex_t *m, int64_t until_ns)
{
	const struct timespec ts = clock_timespec(until_ns);

	return pthread_cond_timedwait(c, m, &ts);
}

static const struct clock_ops still_clock = { still_now_ns, real_monotonic_ns, real_sleep_ns, real_wait };

/* ---- files ---- */

/* Files stay known to the end of the tree. */
static uint64_t make(struct world *w, uint64_t parent, const char *name, mode_t mode)
{
	struct tree_attr a;

	CHECK_OK(tree_make(w->tree, parent, name, mode, 0, NULL, &me, &a));
	return a.st.st_ino;
}

static void set(struct world *w, uint64_t ino, const char *name, const char *value)
{
	CHECK_OK(tree_setxattr(w->tree, ino, name, value, strlen(value), 0, NULL));
}

static void write_at(struct world *w, uint64_t ino, int flags, uint64_t off, uint32_t seed, size_t n)
{
	struct tree_file_info info = { .direct = true };
	uint32_t *v = malloc(n);
	struct tree_file *f;
	struct tree_attr a;
	size_t in;

	CHECK(v);
	CHECK_OK(tree_getattr(w->tree, ino, &a));
	off = flags & O_APPEND ? (uint64_t)a.st.st_size : off; /* as the kernel says it */
	for (size_t i = 0; i < n / 4; i++)
		v[i] = seed + (uint32_t)(i * i / 64);
	CHECK_OK(tree_file_open(w->tree, ino, O_WRONLY | flags, &me, &f, &info));
	CHECK_OK(tree_write(f, v, n, off, &(struct tree_write_how){ .flags = O_WRONLY | flags }, &in));
	CHECK_EQ(in, n);
	tree_file_release(f);
	free(v);
}

/* Promises space behind the end. */
static void promise(struct world *w, uint64_t ino, uint64_t off, uint64_t n)
{
	struct tree_file_info info = { .direct = true };
	struct tree_file *f;

	CHECK_OK(tree_file_open(w->tree, ino, O_WRONLY, &me, &f, &info));
	CHECK_OK(tree_fallocate(f, FALLOC_FL_KEEP_SIZE, off, n, &me));
	tree_file_release(f);
}

static void make_buckets(struct world *w)
{
	uint64_t a = make(w, META_INO_BUCKETS, "runs.u32", S_IFREG | 0644), d = make(w, META_INO_BUCKETS, "d", S_IFDIR | 0755);
	uint64_t b = make(w, d, "holes", S_IFREG | 0600);

	for (uint32_t i = 0; i < 5; i++)
		write_at(w, a, O_APPEND, 0, i, 3000);
	write_at(w, b, 0, 20000, 1, 400);
	write_at(w, b, 0, 0, 2, 5000);
	promise(w, b, 30000, 50000);
	set(w, a, "user.note", "of no consequence");
	set(w, a, "user.spillfs.dtype", "u32");
}

static void make_columns(struct world *w)
{
	uint64_t small = make(w, META_INO_COLUMNS, "small", S_IFREG | 0644), big = make(w, META_INO_COLUMNS, "big.i64", S_IFREG | 0644);
	uint64_t t = make(w, META_INO_COLUMNS, "table", S_IFDIR | 0755);
	struct tree_attr a;

	write_at(w, small, 0, 0, 3, 1000);
	write_at(w, big, 0, 0, 4, 70000);
	for (int i = 0; i < 3; i++) {
		char name[] = "c0.u32";

		name[1] = (char)('0' + i);
		write_at(w, make(w, t, name, S_IFREG | 0644), 0, 0, 5, 800);
	}
	CHECK_OK(tree_link(w->tree, small, t, "again", &a));
	tree_forget(w->tree, a.st.st_ino, 1);
	set(w, big, "user.spillfs.shape", "100,87");
	set(w, big, "user.spillfs.logical", "timestamp[us,UTC]");
}

static void make_layered(struct world *w)
{
	uint64_t d, e, a;
	struct tree_attr link;

	set(w, META_INO_LAYERS, "user.spillfs.block_size", "4096");
	d = make(w, META_INO_LAYERS, "d", S_IFDIR | 0755);
	e = make(w, d, "e", S_IFDIR | 01777);
	a = make(w, META_INO_LAYERS, "a.i32", S_IFREG | 0644);
	set(w, a, "user.spillfs.filter", "shuffle");
	set(w, a, "user.spillfs.dtype", "i32");
	write_at(w, a, 0, 0, 6, 20000);
	write_at(w, make(w, d, "b", S_IFREG | 0644), 0, 9000, 7, 3000);
	write_at(w, make(w, e, "c", S_IFREG | 0644), 0, 0, 8, 100);
	write_at(w, make(w, e, "d.f64", S_IFREG | 0644), 0, 0, 9, 8000);
	CHECK_OK(tree_make(w->tree, e, "link", S_IFLNK | 0777, 0, "../b", &me, &link));
	tree_forget(w->tree, link.st.st_ino, 1);
	make(w, e, "pipe", S_IFIFO | 0600);
	make(w, e, "gone", S_IFREG | 0600);
	set(w, d, "user.k", "v");
}

static uint64_t ino_of(struct world *w, const char *path)
{
	struct tree_attr a = { .st.st_ino = META_INO_ROOT };
	char name[64];

	for (size_t n; *path; path += n + (path[n] == '/')) {
		n = strcspn(path, "/");
		snprintf(name, sizeof(name), "%.*s", (int)n, path);
		CHECK_OK(tree_lookup(w->tree, a.st.st_ino, name, NULL, &a));
	}
	return a.st.st_ino;
}

/* What a later state changes of an earlier one. */
static void change(struct world *w, uint32_t round)
{
	char name[32];

	write_at(w, ino_of(w, "layers/a.i32"), 0, 4096 * (round % 4), 100 + round, 5000);
	write_at(w, ino_of(w, "layers/d/b"), 0, 0, 200 + round, 2000);
	write_at(w, ino_of(w, "buckets/runs.u32"), O_APPEND, 0, round, 2000);
	snprintf(name, sizeof(name), "n%u", round);
	write_at(w, make(w, ino_of(w, "layers/d/e"), name, S_IFREG | 0644), 0, 0, 300 + round, 4000);
	if (round == 1)
		CHECK_OK(tree_unlink(w->tree, ino_of(w, "layers/d/e"), "gone", &me));
}

/* ---- stores ---- */

static void fill(struct world *w)
{
	make_buckets(w);
	make_columns(w);
	make_layered(w);
	CHECK_OK(world_commit(w));
	CHECK_OK(world_snapshot(w, "first"));
	for (uint32_t i = 1; i < 4; i++) {
		change(w, i);
		CHECK_OK(world_commit(w));
	}
	CHECK_OK(world_snapshot(w, "second"));
}

static void make_in_memory(enum base which, struct image *out)
{
	struct store_config config = world_config;
	struct io_dir *disk;
	struct world w;

	config.keep = 4;
	config.threads = 1;
	clock_replace(&still_clock);
	CHECK_OK(io_mem_dir(&disk));
	world_open(&w, disk, &config);
	fill(&w);
	if (which == BASE_COMPACTED) {
		world_compact(&w);
		change(&w, 5);
		CHECK_OK(world_commit(&w));
	}
	change(&w, 6);
	CHECK_OK(tree_sync(w.tree));
	change(&w, 7);
	if (which == BASE_CUT)
		CHECK_OK(tree_sync(w.tree));
	if (which == BASE_CUT)
		io_mem_cut_power(disk, 0);
	CHECK(!world_close(&w) == (which != BASE_CUT));
	image_of_dir(disk, out);
	io_dir_close(disk);
	clock_replace(NULL);
}

void base_make(enum base which, struct image *out)
{
	const char *src = getenv("SRCDIR");
	struct io_dir *d;
	char path[4096];
	int fd;

	if (which != BASE_GOLDEN) {
		make_in_memory(which, out);
		return;
	}
	snprintf(path, sizeof(path), "%s/tests/golden/store", src ? src : ".");
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(fd >= 0);
	CHECK_OK(io_file_dir(fd, IO_BACKING_BUFFERED, NULL, &d));
	image_of_dir(d, out);
	io_dir_close(d);
}
