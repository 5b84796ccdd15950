/*
 * Buckets: where in the pool what the kernel writes back comes to lie. Its requests overtake each other.
 */
#include <fcntl.h>
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
