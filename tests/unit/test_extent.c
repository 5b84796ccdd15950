/*
 * block/extent against a model: one entry for each byte of a small bucket.
 */
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "block/extent.h"
#include "unit.h"

#define MODEL_BYTES 12000
#define PAGE 4096
#define HOLE 0

/* The invariants of extent.h but the last. */
static int check(const struct extent_map *m)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < m->n; i++) {
		const struct extent *e = &m->v[i], *before = i ? e - 1 : NULL;

		if (!e->len_bytes || e->off_bytes + e->len_bytes < e->off_bytes)
			return -EUCLEAN;
		if (before && before->off_bytes + before->len_bytes > e->off_bytes)
			return -EUCLEAN;
		if (before && before->off_bytes + before->len_bytes == e->off_bytes && before->file == e->file &&
		    before->phys_bytes + before->len_bytes == e->phys_bytes)
			return -EUCLEAN;
		sum += e->len_bytes;
	}
	return sum == m->mapped_bytes ? 0 : -EUCLEAN;
}

/* file << 32 | phys + 1, HOLE where nothing is mapped */
static uint64_t model[MODEL_BYTES];

static uint64_t below(uint64_t n)
{
	static uint64_t state = 1;

	return unit_rand(&state) % n;
}

static uint64_t place(const struct extent *e, uint64_t at)
{
	return (uint64_t)e->file << 32 | (e->phys_bytes + at + 1);
}

static void map_matches(const struct extent_map *m)
{
	static uint64_t seen[MODEL_BYTES];
	uint64_t mapped = 0;

	memset(seen, 0, sizeof(seen));
	for (size_t i = 0; i < m->n; i++)
		for (uint64_t k = 0; k < m->v[i].len_bytes; k++)
			seen[m->v[i].off_bytes + k] = place(&m->v[i], k);
	CHECK(!memcmp(seen, model, sizeof(seen)));
	for (size_t i = 0; i < MODEL_BYTES; i++)
		mapped += model[i] != HOLE;
	CHECK_EQ(m->mapped_bytes, mapped);
	CHECK_OK(check(m)); /* (1) (2) (3) (4) */
}

static void find_matches(const struct extent_map *m, uint64_t off)
{
	size_t i = extent_map_find(m, off);

	CHECK(i == 0 || m->v[i - 1].off_bytes + m->v[i - 1].len_bytes <= off);
	CHECK(i == m->n || m->v[i].off_bytes + m->v[i].len_bytes > off);
}

static void random_insert(struct extent_map *m)
{
	struct extent e = { .off_bytes = below(MODEL_BYTES), .file = (uint32_t)below(2) };
	bool overlap = false;
	int err;

	e.len_bytes = 1 + below(below(4) ? 60 : 6000);
	if (e.len_bytes > MODEL_BYTES - e.off_bytes)
		e.len_bytes = MODEL_BYTES - e.off_bytes;
	/* Often the place that continues a neighbour; no place is that of two. */
	e.phys_bytes = e.off_bytes + 1000 + below(3) / 2 * (MODEL_BYTES + 3000);
	for (uint64_t k = 0; k < e.len_bytes; k++)
		overlap |= model[e.off_bytes + k] != HOLE;
	err = extent_map_insert(m, &e);
	CHECK_EQ(err, overlap ? -EEXIST : 0);
	for (uint64_t k = 0; !err && k < e.len_bytes; k++)
		model[e.off_bytes + k] = place(&e, k);
}

struct removal {
	const struct extent_map *map;
	uint64_t from, end, at;
};

/* Pieces come in file order and the map has forgotten them already. */
static void removed(void *ctx, const struct extent *piece)
{
	struct removal *r = ctx;
	size_t i = extent_map_find(r->map, r->from);

	CHECK(i == r->map->n || r->map->v[i].off_bytes >= r->end);
	CHECK(piece->off_bytes >= r->at && piece->off_bytes + piece->len_bytes <= r->end);
	for (uint64_t k = 0; k < piece->len_bytes; k++) {
		CHECK_EQ(model[piece->off_bytes + k], place(piece, k));
		model[piece->off_bytes + k] = HOLE;
	}
	r->at = piece->off_bytes + piece->len_bytes;
}

static void random_remove(struct extent_map *m)
{
	struct removal r = { .map = m, .from = below(MODEL_BYTES) };
	uint64_t len = below(8) ? below(900) : below(4) ? below(MODEL_BYTES) : UINT64_MAX;

	r.end = len > MODEL_BYTES - r.from ? MODEL_BYTES : r.from + len;
	r.at = r.from;
	CHECK_OK(extent_map_remove(m, r.from, len, removed, &r));
	for (uint64_t k = r.from; k < r.end; k++)
		CHECK_EQ(model[k], HOLE);
}

/* Full pages are not known. */
static void pages_match(const struct extent_map *m)
{
	size_t used[2][8] = { { 0 } };

	for (size_t i = 0; i < MODEL_BYTES; i++) {
		if (model[i] != HOLE)
			used[model[i] >> 32][((model[i] & UINT32_MAX) - 1) / PAGE]++;
	}
	for (uint32_t file = 0; file < 2; file++) {
		for (size_t page = 0; page < 8; page++)
			CHECK_EQ(extent_map_has_page(m, file, page * PAGE + below(PAGE)), used[file][page] && used[file][page] < PAGE);
	}
}

/* What is behind is in the other map, and comes back. */
static void random_split(struct extent_map *m)
{
	static uint64_t whole[MODEL_BYTES];
	uint64_t off = below(MODEL_BYTES + 10);
	struct extent_map tail;

	memcpy(whole, model, sizeof(model));
	extent_map_init(&tail);
	CHECK_OK(extent_map_split(m, off, &tail));
	for (uint64_t k = off; k < MODEL_BYTES; k++)
		model[k] = HOLE;
	map_matches(m);
	pages_match(m);
	for (uint64_t k = 0; k < MODEL_BYTES; k++)
		model[k] = k < off ? HOLE : whole[k];
	map_matches(&tail);
	pages_match(&tail);
	for (size_t i = 0; i < tail.n; i++)
		CHECK_OK(extent_map_insert(m, &tail.v[i]));
	extent_map_fini(&tail);
	memcpy(model, whole, sizeof(model));
}

UNIT_TEST(extent_random_operations_match_a_byte_array)
{
	struct extent_map m;

	for (int round = 0; round < 20; round++) {
		memset(model, 0, sizeof(model));
		extent_map_init(&m);
		for (int op = 0; op < 400; op++) {
			if (below(5) < 3)
				random_insert(&m);
			else
				random_remove(&m);
			if (!below(10))
				random_split(&m);
			map_matches(&m);
			find_matches(&m, below(MODEL_BYTES + 10));
			pages_match(&m);
		}
		extent_map_fini(&m);
		CHECK_EQ(m.n, 0);
	}
}

UNIT_TEST(extent_appends_make_one_extent) /* (2) */
{
	struct extent_map m;

	extent_map_init(&m);
	for (uint64_t i = 0; i < 1000; i++) {
		struct extent e = { i * 100, 100, 7000 + i * 100, 3 };

		CHECK_OK(extent_map_insert(&m, &e));
		CHECK_EQ(m.n, 1);
	}
	CHECK_OK(extent_map_remove(&m, 500, 100, NULL, NULL));
	CHECK_EQ(m.n, 2);
	CHECK_OK(extent_map_insert(&m, &(struct extent){ 500, 100, 7500, 3 }));
	CHECK_EQ(m.n, 1);
	/* Adjacent in the file but in another physical file, or elsewhere in it. */
	CHECK_OK(extent_map_insert(&m, &(struct extent){ 100000, 100, 107000, 4 }));
	CHECK_OK(extent_map_insert(&m, &(struct extent){ 100100, 100, 5, 4 }));
	CHECK_EQ(m.n, 3);
	extent_map_fini(&m);
}

/* A page that has lost its last extent. */
static void count_free(void *ctx, const struct extent *piece)
{
	struct { const struct extent_map *map; size_t npages; } *c = ctx;

	c->npages += !extent_map_has_page(c->map, piece->file, piece->phys_bytes);
}

/* In any order, each takes the same time; if one took as long as there are extents, this would take minutes. */
UNIT_TEST(extent_many_of_one_byte)
{
	enum { MANY = 75 * PAGE };
	struct extent_map m;
	struct { const struct extent_map *map; size_t npages; } freed = { &m, 0 };

	extent_map_init(&m);
	for (uint64_t i = 0; i < MANY / 2; i++) {
		CHECK_OK(extent_map_insert(&m, &(struct extent){ MANY + 2 * i, 1, MANY + i, 0 }));
		CHECK_OK(extent_map_insert(&m, &(struct extent){ MANY - 2 - 2 * i, 1, MANY - 1 - i, 0 }));
	}
	CHECK_EQ(m.n, MANY);
	CHECK_OK(check(&m));
	for (uint64_t i = 0; i < MANY / 4; i++) {
		CHECK_OK(extent_map_remove(&m, 2 * i, 1, count_free, &freed));
		CHECK_OK(extent_map_remove(&m, 2 * (MANY - 1 - i), 1, count_free, &freed));
	}
	CHECK_EQ(m.n, MANY / 2);
	CHECK_OK(extent_map_remove(&m, 0, UINT64_MAX, count_free, &freed));
	CHECK(freed.npages >= MANY / PAGE); /* of those that end with others each says so */
	CHECK_EQ(m.partial.n, 0);
	extent_map_fini(&m);
}

UNIT_TEST(extent_large_and_wrapping) /* (3) */
{
	struct extent_map m;

	extent_map_init(&m);
	CHECK_EQ(extent_map_insert(&m, &(struct extent){ 5, 0, 0, 0 }), -EINVAL);
	CHECK_EQ(extent_map_insert(&m, &(struct extent){ UINT64_MAX - 5, 6 + 1, 0, 0 }), -EINVAL);
	CHECK_EQ(extent_map_insert(&m, &(struct extent){ 0, 7, UINT64_MAX - 5, 0 }), -EINVAL);
	CHECK_OK(extent_map_insert(&m, &(struct extent){ 5ull << 32, 6ull << 32, 1ull << 40, 1 }));
	CHECK_OK(extent_map_insert(
		&m, &(struct extent){ 11ull << 32, 4, (1ull << 40) + (6ull << 32), 1 }));
	CHECK_EQ(m.n, 1);
	CHECK_EQ(m.v[0].len_bytes, (6ull << 32) + 4);
	CHECK_OK(extent_map_remove(&m, 10ull << 32, UINT64_MAX, NULL, NULL));
	CHECK_EQ(m.mapped_bytes, 5ull << 32);
	CHECK_OK(check(&m));
	extent_map_fini(&m);
}
