/*
 * block/index and block/index_code.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "block/index.h"
#include "unit.h"

static uint64_t rand_state = 1;

static uint64_t below(uint64_t n)
{
	return unit_rand(&rand_state) % n;
}

static struct layer_block random_block(void)
{
	struct layer_block b = {
		.block = below(40),
		.frame_off = below(4) ? 56 + below(1u << 30) : 0,
		.frame_len = (uint32_t)(1 + below(5000)),
		.frame_raw = 65536,
		.raw_off = (uint32_t)below(1000),
		.raw_len = (uint32_t)below(4097),
		.filter = (uint8_t)below(2),
		.elem_bytes = 8,
		.has_minmax = (uint8_t)below(2),
		.min_bits = below(UINT64_MAX),
		.max_bits = below(UINT64_MAX),
	};

	return b;
}

static struct index_record *add(struct index *ix, uint64_t ino)
{
	struct index_record *r = NULL;

	CHECK_OK(index_add(ix, ino, &r));
	return r;
}

/* One random change, applied to both. */
static void random_change(struct index *a, struct index *b, uint64_t ninos)
{
	uint64_t ino = 1 + below(ninos), first = below(40), kind = below(40),
		 size = below(1u << 20);
	uint64_t count = below(10) ? below(10) : UINT64_MAX - below(3) * 20;
	struct layer_block block = random_block();
	struct index *both[2] = { a, b };
	char path[32];

	snprintf(path, sizeof(path), "dir/%u.f64", (unsigned)below(1000));
	if (index_find(b, ino) && index_find(b, ino)->type == LAYER_REC_GONE)
		return; /* an inode number is never used again */
	for (int i = 0; i < 2; i++) {
		struct index_record *r = add(both[i], ino);

		r->size_bytes = size;
		r->block_bytes = 4096;
		r->mtime_ns = (int64_t)size * 3;
		r->mode = 0100644;
		CHECK_OK(index_record_set_names(r, path, "f64", NULL));
		if (kind == 0)
			index_record_gone(r);
		else if (kind < 10)
			CHECK_OK(index_record_tomb(r, first, count));
		else
			CHECK_OK(index_record_put(r, &block));
	}
}

static void *encode(const struct index *ix, size_t *len)
{
	struct layer_index_head head = {
		.kind = LAYER_INDEX, .layer = 7, .commit = 9, .stored_bytes = 100
	};
	void *bytes = NULL;

	CHECK_OK(index_encode(ix, &head, &bytes, len));
	return bytes;
}

static bool same(const struct index *a, const struct index *b)
{
	size_t a_len, b_len;
	void *x = encode(a, &a_len), *y = encode(b, &b_len);
	bool equal = a_len == b_len && !memcmp(x, y, a_len);

	free(x);
	free(y);
	return equal;
}

UNIT_TEST(index_merge_equals_replay) /* (1) - (5) */
{
	for (int round = 0; round < 600; round++) {
		uint64_t ninos = round % 3 ? 6 : 200;
		int nops = round % 3 ? 80 : 400;
		struct index older, newer, all;

		index_init(&older);
		index_init(&newer);
		index_init(&all);
		for (int i = (int)below((uint64_t)nops); i > 0; i--)
			random_change(&older, &all, ninos);
		for (int i = (int)below((uint64_t)nops); i > 0; i--)
			random_change(&newer, &all, ninos);
		CHECK_OK(index_merge(&older, &newer));
		CHECK(same(&older, &all));
		index_fini(&older);
		index_fini(&newer);
		index_fini(&all);
	}
}

UNIT_TEST(index_tombstones_drop_and_merge) /* (2) (3) */
{
	struct index ix;
	struct index_record *r;

	index_init(&ix);
	r = add(&ix, 5);
	for (uint64_t i = 20; i-- > 0;)
		CHECK_OK(index_record_put(r, &(struct layer_block){ .block = i }));
	CHECK_EQ(r->nblocks, 20);
	CHECK_OK(index_record_tomb(r, 4, 2));
	CHECK_OK(index_record_tomb(r, 8, 2));
	CHECK_OK(index_record_tomb(r, 0, 0));
	CHECK_EQ(r->ntombs, 2);
	CHECK_EQ(r->nblocks, 16);
	CHECK_OK(index_record_tomb(r, 6, 2)); /* closes the gap */
	CHECK_EQ(r->ntombs, 1);
	CHECK_EQ(r->tombs[0].first, 4);
	CHECK_EQ(r->tombs[0].count, 6);
	CHECK_OK(index_record_put(r, &(struct layer_block){ .block = 5 })); /* on top of it */
	CHECK_EQ(r->ntombs, 1);
	CHECK_OK(index_record_tomb(r, 15, UINT64_MAX - 15));
	CHECK_EQ(r->ntombs, 2);
	CHECK_EQ(r->tombs[1].count, UINT64_MAX);
	CHECK_OK(index_record_tomb(r, 10, UINT64_MAX));
	CHECK_EQ(r->ntombs, 1);
	CHECK_EQ(r->tombs[0].count, UINT64_MAX);
	CHECK_EQ(r->nblocks, 5);
	index_record_gone(r); /* (4) */
	CHECK_EQ(r->nblocks + r->ntombs, 0);
	CHECK(index_find(&ix, 5) == r && !index_find(&ix, 4) && !index_find(&ix, 6));
	index_fini(&ix);
}

UNIT_TEST(index_names_have_limits)
{
	char *text = malloc(70000);
	struct index ix;
	struct index_record *r;

	CHECK(text);
	memset(text, 'x', 70000);
	text[65536] = '\0';
	index_init(&ix);
	r = add(&ix, 1);
	CHECK(!strcmp(r->path, "") && !strcmp(r->dtype, "") && !strcmp(r->shape, ""));
	CHECK_OK(index_record_set_names(r, "a", "b", "c"));
	CHECK_EQ(index_record_set_names(r, "q", "q", text), -ENAMETOOLONG);
	CHECK(!strcmp(r->path, "a") && !strcmp(r->dtype, "b") && !strcmp(r->shape, "c"));
	text[65535] = '\0';
	CHECK_OK(index_record_set_names(r, text, text, text));
	CHECK(same(&ix, &ix));
	index_fini(&ix);
	free(text);
}

static void random_index(struct index *ix, int nops)
{
	struct index shadow;

	index_init(ix);
	index_init(&shadow);
	for (int i = 0; i < nops; i++)
		random_change(ix, &shadow, 8);
	index_fini(&shadow);
}

/* Decodes a copy of exactly n bytes, so that a read past the end is seen. What it takes, encodes
 * again. */
static int decode_exactly(const void *bytes, size_t n)
{
	struct layer_index_head head = { 0 };
	struct index ix;
	void *copy = malloc(n ? n : 1), *again;
	size_t len;
	int err;

	CHECK(copy);
	memcpy(copy, bytes, n);
	err = index_decode(copy, n, &head, &ix);
	free(copy);
	CHECK(err == 0 || err == -EUCLEAN);
	if (err)
		return err;
	CHECK_OK(index_encode(&ix, &head, &again, &len));
	CHECK(len <= n);
	free(again);
	index_fini(&ix);
	return 0;
}

UNIT_TEST(index_code_round_trips) /* index_code (1) */
{
	for (int round = 0; round < 300; round++) {
		struct layer_index_head head;
		struct index ix, back;
		uint64_t raw = 0;
		size_t len;
		void *bytes;

		random_index(&ix, round % 50);
		bytes = encode(&ix, &len);
		CHECK_EQ(len % 8, 0);
		CHECK_OK(index_decode(bytes, len, &head, &back));
		CHECK(same(&ix, &back));
		for (size_t i = 0; i < ix.n; i++)
			for (size_t k = 0; k < ix.v[i]->nblocks; k++)
				raw += ix.v[i]->blocks[k].raw_len;
		CHECK_EQ(head.raw_bytes, raw);
		CHECK_EQ(head.nrecords, ix.n);
		CHECK_EQ(head.layer, 7);
		CHECK_EQ(head.commit, 9);
		index_fini(&ix);
		index_fini(&back);
		free(bytes);
	}
}

UNIT_TEST(index_code_rejects_damage) /* index_code (2) */
{
	struct index ix;
	uint8_t *bytes;
	size_t len;

	random_index(&ix, 40);
	bytes = encode(&ix, &len);
	for (size_t n = 0; n < len; n++)
		CHECK_EQ(decode_exactly(bytes, n), -EUCLEAN);
	for (size_t i = 0; i < len; i++) {
		uint8_t flip = (uint8_t)(1 + below(255));

		bytes[i] ^= flip;
		CHECK_EQ(decode_exactly(bytes, len), -EUCLEAN);
		bytes[i] ^= flip;
	}
	CHECK_OK(decode_exactly(bytes, len));
	free(bytes);
	index_fini(&ix);
}

static void rehash(uint8_t *bytes, size_t len)
{
	uint64_t hash;

	memset(bytes + offsetof(struct layer_index_head, xxh64), 0, sizeof(hash));
	hash = XXH64(bytes, len, 0);
	memcpy(bytes + offsetof(struct layer_index_head, xxh64), &hash, sizeof(hash));
}

/* Mutations behind a right checksum: counts, lengths, orders and offsets are all hostile. */
UNIT_TEST(index_code_survives_mutations) /* index_code (2) (3) */
{
	unsigned taken = 0;

	for (int round = 0; round < 30000; round++) {
		static const uint64_t nasty[] = { 0,          1,          8,          72,
						  UINT16_MAX, UINT32_MAX, 1ull << 63, UINT64_MAX };
		struct index ix;
		uint8_t *bytes;
		size_t len;

		random_index(&ix, 1 + round % 12);
		bytes = encode(&ix, &len);
		for (uint64_t n = 1 + below(3); n > 0; n--) {
			size_t at = below(len);

			if (below(2)) {
				bytes[at] ^= (uint8_t)(1 << below(8));
			} else {
				size_t width = 1u << below(4);

				at = at / width * width;
				memcpy(bytes + at, &nasty[below(8)], width);
			}
		}
		rehash(bytes, len);
		taken += !decode_exactly(bytes, len);
		free(bytes);
		index_fini(&ix);
	}
	CHECK(taken > 100 && taken < 29900);
}

UNIT_TEST(index_code_skips_unknown_records)
{
	struct layer_index_head head;
	struct index ix, back;
	uint16_t type = 77;
	uint8_t *bytes;
	size_t len;

	index_init(&ix);
	add(&ix, 3);
	add(&ix, 4);
	bytes = encode(&ix, &len);
	memcpy(bytes + sizeof(head) + offsetof(struct layer_record, type), &type, sizeof(type));
	rehash(bytes, len);
	CHECK_OK(index_decode(bytes, len, &head, &back));
	CHECK_EQ(back.n, 1);
	CHECK_EQ(back.v[0]->ino, 4);
	index_fini(&ix);
	index_fini(&back);
	free(bytes);
}

UNIT_TEST(index_code_refuses_to_write_what_it_would_not_read) /* index_code (3) */
{
	struct layer_index_head head = { .kind = LAYER_INDEX };
	struct index ix;
	struct index_record *r;
	size_t len;
	void *bytes;

	index_init(&ix);
	r = add(&ix, 1);
	r->block_bytes = 100;
	CHECK_OK(index_record_put(r, &(struct layer_block){ .block = 1, .raw_len = 101 }));
	CHECK_EQ(index_encode(&ix, &head, &bytes, &len), -EINVAL);
	CHECK_OK(index_record_put(r, &(struct layer_block){ .block = 1,
							    .raw_len = 50,
							    .frame_off = 56,
							    .frame_len = 9,
							    .frame_raw = 60,
							    .raw_off = 11 }));
	CHECK_EQ(index_encode(&ix, &head, &bytes, &len), -EINVAL);
	index_fini(&ix);
}
