/*
 * Buckets: where in the pool what the kernel writes back comes to lie. Its requests overtake each other.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "block/pool.h"
#include "store/classes.h"
#include "unit.h"
#include "util/stats.h"
#include "world.h"

#define PIECE ((size_t)(256 << 10))
#define NPIECES 64u
#define SMALL 5000u

struct bucket_file {
	struct world w;
	struct io_dir *disk;
	struct tree_file *f;
	uint64_t ino;
};

static const struct tree_caller me = { 0 };

static void open_file(struct bucket_file *b, int flags)
{
	struct tree_file_info info = { 0 };
	struct tree_attr a;

	if (flags & O_CREAT)
		CHECK_OK(world_make(&b->w, classes[0].ino, "x", S_IFREG | 0644, NULL));
	CHECK_OK(tree_lookup(b->w.tree, classes[0].ino, "x", NULL, &a));
	b->ino = a.st.st_ino;
	CHECK_OK(tree_file_open(b->w.tree, b->ino, O_RDWR, &me, &b->f, &info));
}

static void begin(struct bucket_file *b)
{
	b->disk = world_disk();
	world_open(&b->w, b->disk, &world_config);
	open_file(b, O_CREAT);
}

static void close_file(struct bucket_file *b)
{
	tree_file_release(b->f);
	tree_forget(b->w.tree, b->ino, 1);
}

static void end(struct bucket_file *b)
{
	close_file(b);
	CHECK_OK(world_close(&b->w));
}

/* Through the kernel's cache. */
static void write_back(struct bucket_file *b, const unsigned char *p, size_t n, uint64_t off)
{
	size_t in;

	CHECK_OK(tree_write(b->f, p + off, n, off, &(struct tree_write_how){ .who = &me }, &in));
	CHECK_EQ(in, n);
}

static void resize(struct bucket_file *b, uint64_t size)
{
	struct stat st = { .st_size = (off_t)size };
	struct tree_attr a;

	CHECK_OK(tree_setattr(b->w.tree, b->ino, TREE_SET_SIZE, &st, &me, b->f, &a));
}

static unsigned extents(struct bucket_file *b)
{
	void *text;
	size_t len;
	unsigned n;

	CHECK_OK(tree_getxattr(b->w.tree, b->ino, "user.spillfs.extents", &text, &len));
	n = (unsigned)strtoul(text, NULL, 10);
	free(text);
	return n;
}

static void shuffle(uint64_t *seed, unsigned *order, unsigned n, unsigned reach)
{
	for (unsigned i = 0; i < n; i++)
		order[i] = i;
	for (unsigned i = 0; i + 1 < n; i++) {
		unsigned most = n - i < reach ? n - i : reach, j = i + (unsigned)(unit_rand(seed) % most), was = order[i];

		order[i] = order[j];
		order[j] = was;
	}
}

UNIT_TEST(bucket_requests_that_overtake_lie_in_order)
{
	unsigned char *p = malloc(NPIECES * PIECE);
	unsigned order[NPIECES];
	struct bucket_file b;
	uint64_t seed = 5;

	unit_rand_fill(&seed, p, NPIECES * PIECE);
	begin(&b);
	shuffle(&seed, order, NPIECES, 16);
	for (unsigned i = 0; i < NPIECES; i++)
		write_back(&b, p, PIECE, order[i] * PIECE);
	CHECK_EQ(extents(&b), 1);
	CHECK_OK(world_commit(&b.w));
	CHECK(stats_read(STAT_POOL_CLAIMED_BYTES) <= NPIECES * PIECE + POOL_REGION_MAX);
	CHECK(world_holds(&b.w, "buckets/x", p, NPIECES * PIECE));
	end(&b);
	free(p);
}

UNIT_TEST(bucket_holes_keep_no_room)
{
	unsigned char *p = malloc(NPIECES * PIECE);
	struct bucket_file b;
	uint64_t seed = 6;

	unit_rand_fill(&seed, p, NPIECES * PIECE);
	begin(&b);
	/* Nothing is page-aligned, so that places share pages with extents. */
	for (unsigned i = 0; i < NPIECES; i += 3)
		write_back(&b, p, SMALL, i * PIECE + 100);
	CHECK_OK(world_commit(&b.w));
	CHECK_OK(world_commit(&b.w));
	CHECK(stats_read(STAT_POOL_CLAIMED_BYTES) <= NPIECES / 3 * (SMALL + 3 * POOL_ALIGN) + POOL_REGION_MAX);
	resize(&b, 0);
	CHECK_OK(world_commit(&b.w));
	end(&b);
	world_open(&b.w, b.disk, &world_config);
	CHECK_EQ(stats_read(STAT_POOL_CLAIMED_BYTES), 0);
	CHECK_OK(world_close(&b.w));
	free(p);
}

/* Random pieces in any order, cuts and commits, beside what they have to leave. */
UNIT_TEST(bucket_places_agree_with_a_model)
{
	const size_t most = 8 << 20;
	unsigned char *p = malloc(most), *model = calloc(1, most);

	for (uint64_t seed = 1; seed <= 40; seed++) {
		uint64_t state = seed, size = 0;
		struct bucket_file b;

		unit_rand_fill(&state, p, most);
		memset(model, 0, most);
		begin(&b);
		for (unsigned i = 0; i < 60; i++) {
			uint64_t what = unit_rand(&state) % 16, reach = size + (1 << 20) < most ? size + (1 << 20) : most;
			uint64_t off = unit_rand(&state) % reach, n = 1 + unit_rand(&state) % (256 << 10);

			n = n < most - off ? n : most - off;
			if (what == 0) {
				CHECK_OK(world_commit(&b.w));
			} else if (what == 1) {
				resize(&b, off);
				if (off < size)
					memset(model + off, 0, size - off);
				size = off;
			} else {
				write_back(&b, p, n, off);
				memcpy(model + off, p + off, n);
				size = off + n > size ? off + n : size;
			}
		}
		CHECK(world_holds(&b.w, "buckets/x", model, size));
		end(&b);
		world_open(&b.w, b.disk, &world_config); /* finds places that two extents share */
		CHECK(world_holds(&b.w, "buckets/x", model, size));
		CHECK_OK(world_close(&b.w));
	}
	free(p);
	free(model);
}

/* ---- pages that are freed ---- */

#define NFILES 6u
#define MOST (400u << 10)

struct some_file {
	struct tree_file *f;
	uint64_t ino;
};

static void open_some(struct world *w, struct some_file *s, const char *name)
{
	struct tree_file_info info = { 0 };
	struct tree_attr a;

	if (tree_lookup(w->tree, classes[0].ino, name, NULL, &a)) {
		CHECK_OK(world_make(w, classes[0].ino, name, S_IFREG | 0644, NULL));
		CHECK_OK(tree_lookup(w->tree, classes[0].ino, name, NULL, &a));
	}
	s->ino = a.st.st_ino;
	CHECK_OK(tree_file_open(w->tree, s->ino, O_RDWR, &me, &s->f, &info));
}

static void close_some(struct world *w, struct some_file *s)
{
	if (!s->f)
		return;
	tree_file_release(s->f);
	tree_forget(w->tree, s->ino, 1);
	s->f = NULL;
}

/* Writes, cuts and holes, mostly within pages that others have bytes of. */
static void change_some(struct world *w, struct some_file *s, uint64_t *seed, const unsigned char *p)
{
	uint64_t r = unit_rand(seed), off = (r >> 8) % MOST, len = (r >> 32) % (r % 7 ? 9000 : 100000) + 1;
	struct stat st = { .st_size = r % 2 ? (off_t)off : 0 };
	struct tree_attr a;
	size_t done;

	off &= r % 3 ? UINT64_MAX : ~(uint64_t)(POOL_ALIGN - 1);
	len = r % 5 ? len : (len + POOL_ALIGN - 1) & ~(uint64_t)(POOL_ALIGN - 1);
	switch ((r >> 4) % 12) {
	case 0:
	case 1:
		CHECK_OK(tree_setattr(w->tree, s->ino, TREE_SET_SIZE, &st, &me, s->f, &a));
		break;
	case 2:
	case 3:
		CHECK_OK(tree_fallocate(s->f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len, &me));
		break;
	default:
		CHECK_OK(tree_write(s->f, p, len, off, &(struct tree_write_how){ .who = &me, .direct = (r >> 4) % 12 == 4 }, &done));
	}
}

/* The pool ends the program when a page is freed twice. */
UNIT_TEST(bucket_pages_are_freed_once)
{
	unsigned char *p = calloc(1, 1 << 20);
	char name[8];

	for (uint64_t seed = 1; seed <= 60; seed++) {
		struct some_file files[NFILES] = { 0 };
		struct io_dir *disk = world_disk();
		uint64_t state = seed * 77;
		struct world w;

		world_open(&w, disk, &world_config);
		for (unsigned i = 0; i < 500; i++) {
			unsigned k = (unsigned)(unit_rand(&state) % NFILES);

			snprintf(name, sizeof(name), "r%u", k);
			if (!files[k].f)
				open_some(&w, &files[k], name);
			change_some(&w, &files[k], &state, p);
			if (unit_rand(&state) % 8 == 0)
				close_some(&w, &files[k]);
			if (unit_rand(&state) % 12 == 0)
				CHECK_OK(world_commit(&w));
			if (unit_rand(&state) % 40 == 0) {
				int err = tree_unlink(w.tree, classes[0].ino, name, &me);

				CHECK(err == 0 || err == -ENOENT);
				close_some(&w, &files[k]);
			}
		}
		for (unsigned k = 0; k < NFILES; k++)
			close_some(&w, &files[k]);
		CHECK_OK(world_close(&w));
		world_open(&w, disk, &world_config); /* finds bytes that two extents share */
		CHECK_OK(world_close(&w));
	}
	free(p);
}

struct hand {
	struct world *w;
	uint64_t seed;
	const unsigned char *p;
};

static void some_name(uint64_t *seed, char name[8])
{
	snprintf(name, 8, "r%u", (unsigned)(unit_rand(seed) % NFILES));
}

/* Opens one of the files, which others may delete meanwhile. */
static void try_to_open(struct hand *h, struct some_file *s)
{
	struct tree_file_info info = { 0 };
	struct tree_attr a;
	char name[8];

	some_name(&h->seed, name);
	world_make(h->w, classes[0].ino, name, S_IFREG | 0644, NULL);
	if (tree_lookup(h->w->tree, classes[0].ino, name, NULL, &a))
		return;
	s->ino = a.st.st_ino;
	if (tree_file_open(h->w->tree, s->ino, O_RDWR, &me, &s->f, &info))
		tree_forget(h->w->tree, s->ino, 1);
}

static void *hand_works(void *arg)
{
	struct hand *h = arg;
	struct some_file s = { 0 };
	char name[8];

	for (unsigned i = 0; i < 1500; i++) {
		if (!s.f)
			try_to_open(h, &s);
		if (s.f)
			change_some(h->w, &s, &h->seed, h->p);
		if (unit_rand(&h->seed) % 6 == 0)
			close_some(h->w, &s);
		if (unit_rand(&h->seed) % 30 == 0)
			CHECK_OK(world_commit(h->w));
		if (unit_rand(&h->seed) % 60 == 0) {
			some_name(&h->seed, name);
			tree_unlink(h->w->tree, classes[0].ino, name, &me);
		}
	}
	close_some(h->w, &s);
	return NULL;
}

/* The same by several threads, with so little memory for arrays that one is closed whenever nobody uses it. */
UNIT_TEST(bucket_pages_are_freed_once_beside_others)
{
	struct store_config config = world_config;
	unsigned char *p = calloc(1, 1 << 20);

	config.cache_bytes = 64 << 10;
	for (uint64_t round = 0; round < 20; round++) {
		struct io_dir *disk = world_disk();
		struct hand hands[4];
		pthread_t threads[4];
		struct world w;

		world_open(&w, disk, &config);
		for (unsigned k = 0; k < 4; k++) {
			hands[k] = (struct hand){ &w, round * 1000 + k + 1, p };
			CHECK_OK(pthread_create(&threads[k], NULL, hand_works, &hands[k]));
		}
		for (unsigned k = 0; k < 4; k++)
			CHECK_OK(pthread_join(threads[k], NULL));
		CHECK_OK(world_close(&w));
		world_open(&w, disk, &config);
		CHECK_OK(world_close(&w));
	}
	free(p);
}
