/*
 * block/index.h, by the files of block/index/: index, record, names, piece, head and decode.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>
#include <zstd.h>

#include "block/filter.h"
#include "block/index.h"
#include "block/summary.h"
#include "encode.h"
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
		.layer = 6 + below(2),
		.frame_off = below(4) ? 56 + below(1u << 30) : 0,
		.frame_len = (uint32_t)(1 + below(5000)),
		.frame_raw = 65536,
		.raw_off = (uint32_t)below(1000),
		.raw_len = (uint32_t)below(4096) + 1,
		.filter = (uint8_t)below(2),
		.elem_bytes = 8,
		.stat_type = (uint8_t)below(SUMMARY_NTYPES),
		.nan_bits = (uint8_t)below(33),
		.counts = (uint32_t)below(UINT32_MAX),
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

/* Entries of struct layer_xattr; returns their length. */
static size_t random_xattrs(uint8_t out[256])
{
	size_t at = 0;

	for (uint64_t i = below(4); i > 0; i--) {
		struct layer_xattr x = { .name_len = (uint16_t)(1 + below(20)), .value_len = (uint32_t)below(30) };

		memcpy(out + at, &x, sizeof(x));
		at += sizeof(x);
		memset(out + at, 'a' + (int)i, x.name_len);
		memset(out + at + x.name_len, (int)i - 1, x.value_len);
		at += x.name_len + x.value_len;
	}
	return at;
}

static void random_name(struct index *a, struct index *b)
{
	uint64_t parent = 1 + below(4), ino = below(3) ? 1 + below(100) : 0;
	char name[16];

	snprintf(name, sizeof(name), "%c%u", (int)(below(2) ? 'n' : 0xe9), (unsigned)below(60));
	CHECK_OK(index_name_put(a, parent, name, ino));
	CHECK_OK(index_name_put(b, parent, name, ino));
}

static void random_facts(struct index_record *r, const char *path, uint64_t size, const uint8_t *xattrs, size_t len)
{
	r->facts.size_bytes = size;
	r->block_bytes = 4096;
	r->facts.stored_bytes = size * 7 + 1;
	r->facts.kind = (uint16_t)(size % 4);
	r->version = size % 77;
	r->facts.mtime_ns = (int64_t)size * 3;
	r->facts.ctime_ns = (int64_t)size * 5;
	r->facts.btime_ns = -(int64_t)size;
	r->facts.rdev = size % 3;
	r->facts.file_id = size % 5;
	r->facts.mode = 0100644;
	r->facts.uid = (uint32_t)size;
	r->facts.gid = (uint32_t)size / 2;
	CHECK_OK(index_record_set_names(r, path, "f64", NULL));
	CHECK_OK(index_record_set_target(r, size % 2 ? path + 4 : NULL));
	CHECK_OK(index_record_set_xattrs(r, xattrs, len));
	CHECK_OK(index_record_set_data(r, path, size % 9 ? 0 : strlen(path)));
}

/* One random change, applied to both. */
static void random_change(struct index *a, struct index *b, uint64_t ninos)
{
	uint64_t ino = 1 + below(ninos), first = below(40), kind = below(40),
		 size = below(1u << 20);
	uint64_t count = below(10) ? below(10) : UINT64_MAX - below(3) * 20;
	struct layer_block block = random_block();
	struct index *both[2] = { a, b };
	uint8_t xattrs[256];
	size_t xattrs_len = random_xattrs(xattrs);
	char path[32];

	if (!below(3)) {
		random_name(a, b);
		return;
	}
	snprintf(path, sizeof(path), "dir/%u.f64", (unsigned)below(1000));
	if (index_find(b, ino) && index_find(b, ino)->type == LAYER_REC_GONE)
		return; /* an inode number is never used again */
	for (int i = 0; i < 2; i++) {
		struct index_record *r = add(both[i], ino);

		random_facts(r, path, size, xattrs, xattrs_len);
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
		.kind = LAYER_DELTA, .layer = 7, .commit = 9, .stored_bytes = 100
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

UNIT_TEST(index_merge_equals_replay) /* (1) (2), record (1) - (5), names (1) (3) */
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
		CHECK_OK(index_set_chain(&older, (const uint64_t[]){ 9, 3 }, 2));
		CHECK_OK(index_set_chain(&newer, (const uint64_t[]){ 3, 7 }, round % 3));
		CHECK_OK(index_set_chain(&all, (const uint64_t[]){ 3, 7 }, round % 3));
		CHECK_OK(index_merge(&older, &newer));
		CHECK(same(&older, &all));
		index_fini(&older);
		index_fini(&newer);
		index_fini(&all);
	}
}

/* Facts without a block size, as what changes only the facts of an array writes them. */
static void merge_facts(struct index *ix, uint64_t ino, uint32_t block_bytes, uint64_t stored, bool gone)
{
	struct index newer;
	struct index_record *r;

	index_init(&newer);
	r = add(&newer, ino);
	r->block_bytes = block_bytes;
	r->facts.stored_bytes = stored;
	if (gone)
		index_record_gone(r);
	CHECK_OK(index_merge(ix, &newer));
	index_fini(&newer);
}

UNIT_TEST(index_merge_keeps_the_block_size) /* record (5) */
{
	struct layer_block b = { .block = 3, .layer = 7, .raw_len = 100, .frame_off = 56, .frame_len = 9, .frame_raw = 100 };
	struct index_record *r;
	struct index ix;

	index_init(&ix);
	r = add(&ix, 1);
	r->block_bytes = 100;
	r->facts.stored_bytes = 9;
	CHECK_OK(index_record_put(r, &b));
	merge_facts(&ix, 1, 0, UINT64_MAX, false);
	CHECK_EQ(r->block_bytes, 100);
	CHECK_EQ(r->facts.stored_bytes, UINT64_MAX);
	CHECK_EQ(r->nblocks, 1);
	CHECK(same(&ix, &ix)); /* a block size of 0 would not encode */
	merge_facts(&ix, 1, 200, 8, false);
	CHECK_EQ(r->block_bytes, 200);
	CHECK_EQ(r->facts.stored_bytes, 8);
	merge_facts(&ix, 2, 0, 5, false); /* there is no older one */
	CHECK_EQ(index_find(&ix, 2)->block_bytes, 0);
	merge_facts(&ix, 2, 4096, 5, false);
	CHECK_EQ(index_find(&ix, 2)->block_bytes, 4096);
	merge_facts(&ix, 1, 0, 0, true); /* what is gone keeps nothing */
	CHECK_EQ(r->block_bytes, 0);
	CHECK_EQ(r->facts.stored_bytes, 0);
	index_fini(&ix);
}

#define NLAYERS 4

/* The frame of a block by asking the layers one by one, newest first; 0: zeros. */
static uint64_t replay_block(const struct index *v, uint64_t ino, uint64_t block, uint64_t *layer)
{
	for (size_t i = NLAYERS; i-- > 0;) {
		const struct index_record *r = index_find(&v[i], ino);
		const struct layer_block *b = r ? index_record_block(r, block) : NULL;

		if (b)
			*layer = b->layer;
		if (b)
			return b->frame_off;
		if (r && (r->type == LAYER_REC_GONE || index_record_hides(r, block)))
			break;
	}
	return 0;
}

static uint64_t replay_name(const struct index *v, uint64_t parent, const char *name)
{
	uint64_t ino = 0;

	for (size_t i = NLAYERS; i-- > 0;)
		if (index_name_find(&v[i], parent, name, &ino))
			return ino;
	return 0;
}

static void check_flat(const struct index *v, const struct index *flat)
{
	for (uint64_t ino = 1; ino <= 6; ino++) {
		const struct index_record *r = index_find(flat, ino);

		CHECK(!r || (r->type == LAYER_REC_INODE && !r->ntombs));
		for (uint64_t block = 0; block < 41; block++) {
			const struct layer_block *b = r ? index_record_block(r, block) : NULL;
			uint64_t layer = 0;

			CHECK_EQ(b ? b->frame_off : 0, replay_block(v, ino, block, &layer));
			CHECK(!b || b->layer == layer);
		}
	}
	for (uint64_t parent = 1; parent < 5; parent++) {
		for (unsigned i = 0; i < 120; i++) {
			uint64_t ino = 0;
			char name[16];

			snprintf(name, sizeof(name), "%c%u", i % 2 ? 'n' : 0xe9, i / 2);
			CHECK_EQ(index_name_find(flat, parent, name, &ino), replay_name(v, parent, name) != 0);
			CHECK_EQ(ino, replay_name(v, parent, name));
		}
	}
}

UNIT_TEST(index_flatten_equals_replay) /* (3) */
{
	for (int round = 0; round < 100; round++) {
		struct index v[NLAYERS], all, flat;

		index_init(&all);
		index_init(&flat);
		for (int i = 0; i < NLAYERS; i++) {
			index_init(&v[i]);
			for (uint64_t n = below(200); n > 0; n--)
				random_change(&v[i], &all, 6);
			CHECK_OK(index_merge(&flat, &v[i]));
		}
		index_flatten(&flat);
		check_flat(v, &flat);
		index_flatten(&all);
		CHECK(same(&flat, &all));
		for (int i = 0; i < NLAYERS; i++)
			index_fini(&v[i]);
		index_fini(&all);
		index_fini(&flat);
	}
}

UNIT_TEST(index_names_are_sorted_and_found) /* names (1) */
{
	static const char *const names[] = { "a", "ab", "a\x01", "\xff", "b", "A", "...", ".a" };
	size_t first, end;
	struct index ix;
	uint64_t ino;

	index_init(&ix);
	CHECK(index_empty(&ix));
	CHECK_OK(index_set_chain(&ix, (const uint64_t[]){ 1 }, 1));
	CHECK(index_empty(&ix));
	for (uint64_t parent = 3; parent > 0; parent--)
		for (uint64_t i = 0; i < 8; i++)
			CHECK_OK(index_name_put(&ix, parent == 3 ? UINT64_MAX : parent, names[i], 10 * parent + i));
	CHECK(!index_empty(&ix));
	CHECK_EQ(ix.nnames, 24);
	CHECK_OK(index_name_put(&ix, 2, "b", 0));
	CHECK_EQ(ix.nnames, 24);
	CHECK(index_name_find(&ix, 2, "b", &ino));
	CHECK_EQ(ino, 0);
	CHECK(index_name_find(&ix, UINT64_MAX, "ab", &ino));
	CHECK_EQ(ino, 31);
	CHECK(!index_name_find(&ix, 2, "c", &ino) && !index_name_find(&ix, 4, "a", &ino));
	index_name_range(&ix, 2, &first, &end);
	CHECK_EQ(first, 8);
	CHECK_EQ(end, 16);
	CHECK(!strcmp(ix.names[8].name, "...") && !strcmp(ix.names[15].name, "\xff"));
	index_name_range(&ix, 7, &first, &end);
	CHECK_EQ(first, end);
	index_name_range(&ix, UINT64_MAX, &first, &end);
	CHECK_EQ(first, 16);
	CHECK_EQ(end, 24);
	CHECK(same(&ix, &ix));
	index_flatten(&ix);
	CHECK_EQ(ix.nnames, 23);
	index_fini(&ix);
}

static int count_xattr(void *ctx, const char *name, const void *value, size_t len)
{
	unsigned *n = ctx;

	CHECK(!strcmp(name, *n ? "user.two" : "user.one"));
	CHECK_EQ(len, *n ? 0 : 3);
	CHECK(len == 0 || !memcmp(value, "abc", 3));
	return ++*n == 2 ? 77 : 0;
}

UNIT_TEST(index_xattrs_are_read_back)
{
	static const uint8_t xattrs[] = "\x08\0\0\0\x03\0\0\0user.oneabc\x08\0\0\0\0\0\0\0user.two";
	const void *value = NULL;
	struct index_record *r;
	unsigned n = 0;
	struct index ix;
	size_t len = 0;

	index_init(&ix);
	r = add(&ix, 1);
	CHECK_OK(index_record_xattr_walk(r, count_xattr, &n));
	CHECK_EQ(n, 0);
	CHECK_OK(index_record_set_xattrs(r, xattrs, sizeof(xattrs) - 1));
	CHECK_EQ(index_record_xattr_walk(r, count_xattr, &n), 77);
	CHECK_EQ(n, 2);
	CHECK(index_record_xattr(r, "user.one", &value, &len));
	CHECK(len == 3 && !memcmp(value, "abc", 3));
	CHECK(index_record_xattr(r, "user.two", &value, &len) && len == 0);
	CHECK(!index_record_xattr(r, "user.on", &value, &len) && !index_record_xattr(r, "", &value, &len));
	CHECK(same(&ix, &ix));
	index_fini(&ix);
}

UNIT_TEST(index_tombstones_drop_and_merge) /* record (1) (2) */
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
	CHECK(index_record_hides(r, 10) && index_record_hides(r, 1ull << 40) && index_record_hides(r, 4));
	CHECK(!index_record_hides(r, 3) && index_record_block(r, 3) && !index_record_block(r, 4));
	CHECK_OK(index_record_set_xattrs(r, "no xattr", 8));
	CHECK_OK(index_record_set_data(r, "data", 4));
	CHECK_OK(index_record_set_target(r, "target"));
	index_record_gone(r); /* record (3) */
	CHECK(!*r->target && !r->xattrs_len && !r->data_len);
	CHECK(same(&ix, &ix));
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
	uint64_t body_bytes;
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
	body_bytes = head.body_bytes;
	CHECK_OK(index_encode(&ix, &head, &again, &len));
	CHECK(head.body_bytes <= body_bytes); /* less: unknown records are skipped */
	free(again);
	index_fini(&ix);
	return 0;
}

UNIT_TEST(index_code_round_trips) /* decode (1) */
{
	for (int round = 0; round < 300; round++) {
		struct layer_index_head head;
		struct index ix, back;
		uint64_t raw = 0;
		size_t len;
		void *bytes;

		random_index(&ix, round % 50);
		CHECK_OK(index_set_chain(&ix, (const uint64_t[]){ UINT64_MAX, 1, 7 }, (size_t)round % 4));
		bytes = encode(&ix, &len);
		CHECK_OK(index_decode(bytes, len, &head, &back));
		CHECK(same(&ix, &back));
		for (size_t i = 0; i < ix.n; i++)
			for (size_t k = 0; k < ix.v[i]->nblocks; k++)
				if (ix.v[i]->blocks[k].layer == 7 && ix.v[i]->blocks[k].frame_off)
					raw += ix.v[i]->blocks[k].raw_len;
		CHECK_EQ(head.raw_bytes, raw);
		CHECK_EQ(head.nrecords, ix.n);
		CHECK_EQ(head.nnames, ix.nnames);
		CHECK_EQ(head.nchain, back.nchain);
		CHECK_EQ(head.body_bytes % 8, 0);
		CHECK_EQ(head.body_bytes != 0, len > sizeof(head));
		CHECK_EQ(head.layer, 7);
		CHECK_EQ(head.commit, 9);
		index_fini(&ix);
		index_fini(&back);
		free(bytes);
	}
}

UNIT_TEST(index_code_rejects_damage) /* decode (2) */
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

/* head and decoded body of an index, in one piece. */
static uint8_t *unpack(const struct index *ix, size_t *len_out)
{
	struct layer_index_head head;
	uint8_t *bytes, *plain;
	size_t len;

	bytes = encode(ix, &len);
	memcpy(&head, bytes, sizeof(head));
	plain = malloc(sizeof(head) + head.body_bytes);
	CHECK(plain);
	memcpy(plain, &head, sizeof(head));
	if (head.body_bytes)
		CHECK_EQ(ZSTD_decompress(plain + sizeof(head), head.body_bytes, bytes + sizeof(head), len - sizeof(head)),
			 head.body_bytes);
	free(bytes);
	*len_out = sizeof(head) + head.body_bytes;
	return plain;
}

/* The way back, with a right checksum; body_bytes stays what it says. */
static uint8_t *pack(const uint8_t *plain, size_t len, size_t *len_out)
{
	size_t head = sizeof(struct layer_index_head), cap = ZSTD_compressBound(len);
	uint8_t *bytes = malloc(head + cap);

	CHECK(bytes);
	memcpy(bytes, plain, head);
	*len_out = head;
	if (len > head)
		*len_out += ZSTD_compress(bytes + head, cap, plain + head, len - head, 3);
	rehash(bytes, *len_out);
	return bytes;
}

/* An enemy's index with a right checksum: blocks of 0 bytes, by which their numbers would be divided. */
UNIT_TEST(index_code_refuses_blocks_of_no_bytes)
{
	struct index ix;
	uint8_t *plain, *bytes;
	size_t len, n;
	const uint32_t none = 0;

	index_init(&ix);
	CHECK_OK(index_record_put(add(&ix, 7), &(struct layer_block){ .block = 3, .layer = 1 }));
	index_find(&ix, 7)->block_bytes = 4096;
	plain = unpack(&ix, &len);
	bytes = pack(plain, len, &n);
	CHECK_OK(decode_exactly(bytes, n));
	free(bytes);
	memcpy(plain + sizeof(struct layer_index_head) + offsetof(struct layer_record, block_bytes), &none, sizeof(none));
	bytes = pack(plain, len, &n);
	CHECK_EQ(decode_exactly(bytes, n), -EUCLEAN);
	free(bytes);
	free(plain);
	index_fini(&ix);
}

UNIT_TEST(index_code_keeps_the_stored_bytes) /* decode (1) */
{
	static const uint64_t values[] = { 0, 1, UINT32_MAX, 1ull << 40, UINT64_MAX };
	size_t len, at = sizeof(struct layer_index_head);
	struct layer_index_head head;
	struct index ix, back;
	uint8_t *plain;
	void *bytes;

	CHECK_EQ(sizeof(struct layer_record), 128);
	index_init(&ix);
	for (uint64_t i = 0; i < 5; i++)
		add(&ix, i + 1)->facts.stored_bytes = values[i];
	plain = unpack(&ix, &len);
	CHECK_EQ(len, at + 5 * 128);
	for (size_t i = 0; i < 5; i++)
		CHECK(!memcmp(plain + at + i * 128 + 120, &values[i], 8));
	free(plain);
	bytes = encode(&ix, &len);
	CHECK_OK(index_decode(bytes, len, &head, &back));
	for (uint64_t i = 0; i < 5; i++)
		CHECK_EQ(index_find(&back, i + 1)->facts.stored_bytes, values[i]);
	free(bytes);
	index_fini(&ix);
	index_fini(&back);
}

/* Mutations behind a right checksum: counts, lengths, orders and offsets are all hostile. */
UNIT_TEST(index_code_survives_mutations) /* decode (2), stream (2) */
{
	unsigned taken = 0;

	for (int round = 0; round < 20000; round++) {
		static const uint64_t nasty[] = { 0,          1,          8,          128,
						  UINT16_MAX, UINT32_MAX, 1ull << 63, UINT64_MAX };
		uint8_t *plain, *bytes;
		struct index ix;
		size_t len;

		random_index(&ix, 1 + round % 12);
		CHECK_OK(index_set_chain(&ix, (const uint64_t[]){ 5, 7 }, (size_t)round % 3));
		plain = unpack(&ix, &len);
		for (uint64_t n = 1 + below(3); n > 0; n--) {
			size_t at = below(len);

			if (below(2)) {
				plain[at] ^= (uint8_t)(1 << below(8));
			} else {
				size_t width = 1u << below(4);

				at = at / width * width;
				if (at + width <= len)
					memcpy(plain + at, &nasty[below(8)], width);
			}
		}
		bytes = pack(plain, len, &len);
		taken += !decode_exactly(bytes, len);
		free(plain);
		free(bytes);
		index_fini(&ix);
	}
	CHECK(taken > 100 && taken < 19900);
}

/* The stored body is hostile while its checksum is right. */
UNIT_TEST(index_code_survives_hostile_bodies) /* decode (2) */
{
	struct index ix;
	uint8_t *good, *bytes;
	size_t len, head = sizeof(struct layer_index_head), body_at = offsetof(struct layer_index_head, body_bytes);
	uint64_t body, bad;

	random_index(&ix, 40);
	good = encode(&ix, &len);
	index_fini(&ix);
	memcpy(&body, good + body_at, sizeof(body));
	bytes = malloc(2 * len + 100);
	CHECK(bytes);
	for (int round = 0; round < 5000; round++) { /* what zstd would make of damage */
		memcpy(bytes, good, len);
		for (uint64_t n = 1 + below(3); n > 0; n--)
			bytes[head + below(len - head)] ^= (uint8_t)(1 + below(255));
		rehash(bytes, len);
		decode_exactly(bytes, len);
	}
	for (size_t n = head; n < len; n++) { /* cut short */
		memcpy(bytes, good, n);
		rehash(bytes, n);
		CHECK_EQ(decode_exactly(bytes, n), -EUCLEAN);
	}
	for (int i = 0; i < 8; i++) { /* another size than the frame says */
		static const int64_t more[] = { -8, -1, 1, 8, UINT32_MAX, 1ll << 40, INT64_MIN, INT64_MAX };

		memcpy(bytes, good, len);
		bad = body + (uint64_t)more[i];
		memcpy(bytes + body_at, &bad, sizeof(bad));
		rehash(bytes, len);
		CHECK_EQ(decode_exactly(bytes, len), -EUCLEAN);
	}
	memcpy(bytes, good, len); /* two frames, a skippable one behind, a byte behind */
	memcpy(bytes + len, good + head, len - head);
	rehash(bytes, 2 * len - head);
	CHECK_EQ(decode_exactly(bytes, 2 * len - head), -EUCLEAN);
	memcpy(bytes + len, "\x50\x2a\x4d\x18\0\0\0\0", 8);
	rehash(bytes, len + 8);
	CHECK_EQ(decode_exactly(bytes, len + 8), -EUCLEAN);
	rehash(bytes, len + 1);
	CHECK_EQ(decode_exactly(bytes, len + 1), -EUCLEAN);
	memmove(bytes + head + 8, good + head, len - head); /* one before */
	memcpy(bytes + head, "\x50\x2a\x4d\x18\0\0\0\0", 8);
	rehash(bytes, len + 8);
	CHECK_EQ(decode_exactly(bytes, len + 8), -EUCLEAN);
	free(bytes);
	free(good);
}

/* A frame that says 4 GiB, and one that decodes to far more than an index of its size would. */
UNIT_TEST(index_code_bounds_the_body) /* head */
{
	struct layer_index_head head = { .kind = LAYER_DELTA, .layer = 7 };
	size_t len, n = 100u << 20;
	struct index ix;
	uint8_t *bytes, *zeros;
	void *empty;

	index_init(&ix);
	CHECK_OK(index_encode(&ix, &head, &empty, &len));
	CHECK_EQ(len, sizeof(head));
	CHECK_EQ(head.body_bytes, 0);
	CHECK_OK(decode_exactly(empty, len));
	bytes = malloc(65536);
	CHECK(bytes);
	memcpy(bytes, empty, len);
	memcpy(bytes + len, "\x28\xb5\x2f\xfd\xa0\xff\xff\xff\xff\x01\0\0", 12); /* content size 2^32 - 1 */
	head.body_bytes = UINT32_MAX;
	memcpy(bytes, &head, sizeof(head));
	rehash(bytes, len + 12);
	CHECK_EQ(decode_exactly(bytes, len + 12), -EUCLEAN);
	zeros = calloc(1, n);
	CHECK(zeros);
	head.body_bytes = n;
	memcpy(bytes, &head, sizeof(head));
	len += ZSTD_compress(bytes + len, 65536 - len, zeros, n, 3);
	rehash(bytes, len);
	CHECK_EQ(decode_exactly(bytes, len), -EUCLEAN);
	free(zeros);
	free(bytes);
	free(empty);
	index_fini(&ix);
}

UNIT_TEST(index_code_skips_unknown_records)
{
	struct layer_index_head head;
	struct index ix, back;
	uint16_t type = 77;
	uint8_t *plain, *bytes;
	size_t len;

	index_init(&ix);
	add(&ix, 3);
	add(&ix, 4);
	CHECK_OK(index_name_put(&ix, 3, "x", 4));
	plain = unpack(&ix, &len);
	memcpy(plain + sizeof(head) + offsetof(struct layer_record, type), &type, sizeof(type));
	bytes = pack(plain, len, &len);
	CHECK_OK(index_decode(bytes, len, &head, &back));
	CHECK_EQ(back.n, 1);
	CHECK_EQ(back.v[0]->facts.ino, 4);
	CHECK_EQ(back.nnames, 1);
	index_fini(&ix);
	index_fini(&back);
	free(plain);
	free(bytes);
}

static int encode_err(const struct index *ix)
{
	struct layer_index_head head = { .kind = LAYER_DELTA, .layer = 7 };
	void *bytes;
	size_t len;
	int err = index_encode(ix, &head, &bytes, &len);

	if (!err)
		free(bytes);
	return err;
}

UNIT_TEST(index_code_refuses_bad_entries) /* piece (3) */
{
	struct layer_block good = { .block = 1, .layer = 7, .raw_len = 50, .frame_off = 56, .frame_len = 9,
				    .frame_raw = 60, .raw_off = 10 };
	struct layer_block bad[7];
	struct index ix;
	struct index_record *r;

	for (int i = 0; i < 7; i++)
		bad[i] = good;
	bad[0].raw_len = 101;
	bad[1].raw_off = 11;
	bad[2].layer = 0;
	bad[3].stat_type = SUMMARY_NTYPES;
	bad[4].nan_bits = 33;
	bad[5].frame_len = 0;
	bad[6].filter = FILTER_RECORD;
	bad[6].stat_type = SUMMARY_U8;
	index_init(&ix);
	r = add(&ix, 1);
	r->block_bytes = 100;
	CHECK_OK(index_record_put(r, &good));
	CHECK_OK(encode_err(&ix));
	for (int i = 0; i < 7; i++) {
		CHECK_OK(index_record_put(r, &bad[i]));
		CHECK_EQ(encode_err(&ix), -EINVAL);
	}
	CHECK_OK(index_record_put(r, &good));
	CHECK_OK(index_record_set_xattrs(r, "\x01\0\0\0\x02\0\0\0ab", 10)); /* value too long */
	CHECK_EQ(encode_err(&ix), -EINVAL);
	CHECK_OK(index_record_set_xattrs(r, "\0\0\0\0\x02\0\0\0ab", 10)); /* no name */
	CHECK_EQ(encode_err(&ix), -EINVAL);
	CHECK_OK(index_record_set_xattrs(r, "\x01\0\0\0\x01\0\0\0ab", 10));
	CHECK_OK(encode_err(&ix));
	index_fini(&ix);
}

UNIT_TEST(index_code_refuses_bad_names_and_chains) /* piece (2), stream (2), names (2) */
{
	static const char *const bad[] = { "", ".", "..", "a/b", "/" };
	char text[258];
	struct index ix;

	memset(text, 'x', sizeof(text));
	text[256] = '\0';
	for (size_t i = 0; i <= 5; i++) {
		index_init(&ix);
		CHECK_OK(index_name_put(&ix, 1, i < 5 ? bad[i] : text, 5));
		CHECK_EQ(encode_err(&ix), -EINVAL);
		index_fini(&ix);
	}
	index_init(&ix);
	text[255] = '\0';
	CHECK_OK(index_name_put(&ix, 1, text, 5));
	CHECK_OK(index_name_put(&ix, 1, "...", 5));
	CHECK_OK(index_set_chain(&ix, (const uint64_t[]){ 9, 2, 7 }, 3));
	CHECK_OK(encode_err(&ix));
	CHECK_OK(index_set_chain(&ix, (const uint64_t[]){ 9, 2, 9 }, 3));
	CHECK_EQ(encode_err(&ix), -EINVAL);
	CHECK_OK(index_set_chain(&ix, (const uint64_t[]){ 9, 0 }, 2));
	CHECK_EQ(encode_err(&ix), -EINVAL);
	index_fini(&ix);
}

/* An index whose body is one frame, or several. */
static void make_rows(struct index *ix, uint64_t n)
{
	index_init(ix);
	for (uint64_t ino = 1; ino <= n; ino++) {
		char name[32];

		add(ix, ino * 3)->facts.size_bytes = ino;
		snprintf(name, sizeof(name), "%06llu", (unsigned long long)ino);
		CHECK_OK(index_name_put(ix, ino / 100 + 1, name, ino * 3));
	}
	CHECK_OK(index_set_chain(ix, (const uint64_t[]){ 7, 9 }, 2));
}

/* Taking is merging, for few and for many, below, between and behind what is there. */
UNIT_TEST(index_take_is_merge)
{
	static const struct { uint64_t first, step, n; } cases[] = { { 1, 1, 2 }, { 1, 2, 100 }, { 55, 3, 40 }, { 500, 1, 50 } };

	for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
		struct index taken, merged, newer;
		void *a, *b;
		size_t a_len, b_len;
		struct layer_index_head head = { .kind = LAYER_DELTA, .layer = 9 };

		make_rows(&taken, 60);
		make_rows(&merged, 60);
		index_init(&newer);
		for (uint64_t i = 0; i < cases[c].n; i++) {
			struct index_record *r = add(&newer, cases[c].first + i * cases[c].step);

			CHECK_OK(index_record_tomb(r, 3, 4));
			if (i % 5 == 4)
				index_record_gone(r);
		}
		CHECK_OK(index_name_put(&newer, 1, "another", 77));
		CHECK_OK(index_merge(&merged, &newer));
		CHECK_OK(index_take(&taken, &newer));
		CHECK(index_empty(&newer) && !newer.cap);
		CHECK_OK(index_encode(&taken, &head, &a, &a_len));
		CHECK_OK(index_encode(&merged, &head, &b, &b_len));
		CHECK(a_len == b_len && !memcmp(a, b, a_len));
		free(a);
		free(b);
		index_fini(&taken);
		index_fini(&merged);
	}
}

/* What a reader gives is what was written, piece by piece. */
UNIT_TEST(index_is_read_piece_by_piece)
{
	for (uint64_t n = 0; n <= 20000; n = n * 200 + 1) {
		struct layer_index_head head = { .kind = LAYER_DELTA, .layer = 9 };
		struct index_reader *in;
		struct index_record *r;
		struct index_name name;
		struct index ix;
		void *bytes;
		size_t len;

		make_rows(&ix, n);
		CHECK_OK(index_encode(&ix, &head, &bytes, &len));
		CHECK_OK(index_reader_new(index_source_of(bytes, len), &in));
		for (size_t i = 0; i < ix.n; i++) {
			CHECK_EQ(index_reader_name(in, &name), -EINVAL);
			CHECK_OK(index_reader_record(in, &r));
			CHECK_EQ(r->facts.ino, ix.v[i]->facts.ino);
			CHECK_EQ(r->facts.size_bytes, ix.v[i]->facts.size_bytes);
			index_record_free(r);
		}
		CHECK_EQ(index_reader_record(in, &r), -ENOENT);
		for (size_t i = 0; i < ix.nnames; i++) {
			CHECK_OK(index_reader_name(in, &name));
			CHECK(!index_name_compare(&name, &ix.names[i]) && name.ino == ix.names[i].ino);
			free(name.name);
		}
		CHECK_EQ(index_reader_name(in, &name), -ENOENT);
		index_reader_free(in);
		((char *)bytes)[len - 1] ^= 1;
		CHECK_EQ(index_reader_new(index_source_of(bytes, len), &in), -EUCLEAN);
		free(bytes);
		index_fini(&ix);
	}
}

/* A long index is stored in several frames; each record is found in its own. */
UNIT_TEST(index_pages_give_single_records)
{
	struct layer_index_head head = { .kind = LAYER_DELTA, .layer = 9 }, got;
	struct index_source src;
	struct index_pages ps;
	struct index ix, back;
	unsigned char *page;
	void *bytes;
	size_t len;

	index_init(&ix);
	for (uint64_t ino = 100; ino < 10100; ino += 2) {
		struct index_record *r = add(&ix, ino);
		struct layer_block b = { .layer = 9, .frame_off = 64 + ino, .frame_len = 10, .frame_raw = 20, .raw_len = 20 };

		r->block_bytes = 4096;
		r->facts.size_bytes = ino;
		CHECK_OK(index_record_put(r, &b));
		CHECK_OK(index_name_put(&ix, 4, ino % 3 ? "some" : "other", ino));
	}
	CHECK_OK(index_encode(&ix, &head, &bytes, &len));
	CHECK_OK(index_decode(bytes, len, &got, &back));
	CHECK_EQ(back.n, ix.n);
	CHECK_EQ(back.nnames, ix.nnames);
	index_fini(&back);
	src = index_source_of(bytes, len);
	CHECK_OK(index_pages_scan(&src, &ps));
	CHECK(ps.n > 5);
	CHECK(!index_pages_find(&ps, 99) && !index_pages_find(&ps, 10099));
	page = malloc(ps.v[0].raw * 2);
	for (uint64_t ino = 100; ino < 10100; ino += 37) {
		const struct index_page *p = index_pages_find(&ps, ino);
		struct index_record *r;
		int err;

		if (!p) {
			CHECK(ino % 2);
			continue;
		}
		CHECK(p->raw < ps.v[0].raw * 2);
		CHECK_OK(index_page_decode(p, (const char *)bytes + sizeof(head) + p->off, page));
		err = index_page_record(p, page, ino, &r);
		CHECK_EQ(err, ino % 2 ? -ENOENT : 0);
		if (err)
			continue;
		CHECK_EQ(r->facts.size_bytes, ino);
		CHECK_EQ(r->nblocks, 1);
		CHECK_EQ(r->blocks[0].frame_off, 64 + ino);
		index_record_free(r);
	}
	((char *)bytes)[sizeof(head) + ps.v[1].off + 20] ^= 1;
	CHECK_EQ(index_page_decode(&ps.v[1], (const char *)bytes + sizeof(head) + ps.v[1].off, page), -EUCLEAN);
	index_pages_fini(&ps);
	CHECK_EQ(index_pages_scan(&src, &ps), -EUCLEAN);
	free(page);
	free(bytes);
	index_fini(&ix);
}
