/*
 * block/record, and blocks of records through block/codec.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array/setting.h"
#include "block/codec.h"
#include "block/ref.h"
#include "unit.h"

#define BLOCK (128u << 10)

static uint64_t rand_state = 1;

static uint64_t below(uint64_t n)
{
	return unit_rand(&rand_state) % n;
}

static struct record of_dtype(const char *dtype)
{
	struct settings s = SETTINGS_DEFAULT;
	struct array_params p;

	settings_params(&s, dtype, &p);
	return p.codec.record;
}

UNIT_TEST(record_lists_have_a_code_for_each_field)
{
	struct record_column v[RECORD_COLUMNS_MAX];
	struct record r = of_dtype("price:f64,at:i64,count:i32,id:u8");

	CHECK_EQ(r.bytes, 21);
	CHECK_EQ(r.ncodes, 4);
	CHECK(!memcmp(r.codes, "\x5b\x23\x1a\x28", 4)); /* 11 << 3 | 3, 4 << 3 | 3, 3 << 3 | 2, 5 << 3 */
	CHECK_EQ(record_columns(&r, v), 4);
	CHECK_EQ(v[3].at, 20);
	CHECK_EQ(v[2].width, 4);
	CHECK_EQ(v[1].value, SUMMARY_I64);
	CHECK_EQ(of_dtype("f64").bytes, 0);
	CHECK_EQ(of_dtype("").bytes, 0);
	r = of_dtype("a:c64,b:c128,c:bool,d:f16");
	CHECK_EQ(record_columns(&r, v), 4);
	CHECK_EQ(v[1].width, 16);
	CHECK_EQ(v[1].value, SUMMARY_NONE);
}

/* 256 neighbours of a type take few codes; what finds no room is the rest. */
UNIT_TEST(record_lists_end_where_there_is_no_room)
{
	struct record_column v[RECORD_COLUMNS_MAX];
	struct record r = record_begin(256 * 4, 0);

	for (int i = 0; i < 256; i++)
		CHECK(record_add(&r, 3, 4));
	CHECK_EQ(r.ncodes, 9);
	CHECK_EQ(record_columns(&r, v), 256);
	r = record_begin(4096, 7);
	for (unsigned i = 0; i < RECORD_CODES_MAX; i++)
		CHECK(record_add(&r, (uint8_t)i, 1u << i % 5));
	CHECK(!record_add(&r, 1, 8));
	CHECK_EQ(record_columns(&r, v), RECORD_CODES_MAX + 1);
	CHECK(v[16].rest && !v[15].rest);
	CHECK_EQ(v[16].at + v[16].width, 4096);
	CHECK_EQ(record_begin(70000, 0).bytes, 0);
}

UNIT_TEST(record_lists_of_others_are_refused)
{
	static const struct record bad[] = {
		{ .bytes = 0, .ncodes = 1, .codes = { 3 } },
		{ .bytes = 8, .ncodes = 0 },
		{ .bytes = 8, .ncodes = 17 },
		{ .bytes = 8, .ncodes = 255 },
		{ .bytes = 8, .ncodes = 1, .codes = { 5 } },      /* a width of 32 */
		{ .bytes = 8, .ncodes = 1, .codes = { 7 } },      /* repeats nothing */
		{ .bytes = 8, .ncodes = 1, .codes = { 4 } },      /* longer than the record */
		{ .bytes = 8, .ncodes = 2, .codes = { 2, 15 } },  /* three fields of 4 bytes */
		{ .bytes = 8, .lead_bytes = 8, .ncodes = 1, .codes = { 3 } },
		{ .bytes = 4096, .ncodes = 16, .codes = { 0, 255, 255, 255, 255, 255, 255, 255, 255 } },
	};
	struct record_column v[RECORD_COLUMNS_MAX];

	for (size_t k = 0; k < sizeof(bad) / sizeof(*bad); k++) {
		uint8_t in[64] = { 0 }, planes[64 + 8 * RECORD_COLUMNS_MAX], out[64];

		CHECK_EQ(record_columns(&bad[k], v), 0);
		CHECK_EQ(record_undo(&bad[k], in, sizeof(in), planes, out), -EUCLEAN);
	}
}

/* A list of random widths and chains, also of such as do not fit. */
static struct record random_record(void)
{
	size_t fields = 1 + below(below(4) ? 6 : 40);
	uint8_t value = 0;
	struct record r;
	uint32_t bytes = 0, width = 1;

	r = record_begin(1 + (uint32_t)below(40) + 16 * (uint32_t)fields, 0);
	for (size_t k = 0; k < fields; k++) {
		if (below(3)) {
			width = 1u << below(5);
			value = (uint8_t)below(32);
		}
		if (bytes + width > r.bytes || !record_add(&r, value, width))
			break;
		bytes += width;
	}
	r.lead_bytes = (uint16_t)below(r.bytes);
	return r;
}

/* Smooth, constant or noise. */
static void fill_records(uint8_t *p, size_t n, size_t bytes)
{
	unit_rand_fill(&rand_state, p, n);
	for (size_t i = bytes; i < n; i++) {
		if (i % bytes % 3)
			p[i] = (uint8_t)(p[i - bytes] + (i % bytes % 3 == 1 ? p[i] % 2 : 0));
	}
}

UNIT_TEST(record_columns_come_back)
{
	for (int round = 0; round < 3000; round++) {
		struct record r = random_record(), done = r;
		size_t n = below(8) ? 1 + below(3000) : 1 + below(60000), used[RECORD_COLUMNS_MAX];
		uint8_t *in = unit_allot(n), *out = unit_allot(n), *scratch = unit_allot(n), *back = unit_allot(n);
		uint8_t *planes = unit_allot(record_planes_bytes(RECORD_COLUMNS_MAX, n));
		bool all_fit;
		int err;

		fill_records(in, n, r.bytes);
		err = record_apply(&done, in, n, planes, scratch, out, used, &all_fit);
		CHECK(!err || (err == -ERANGE && !all_fit));
		if (!err) {
			memset(back, 0xa5, n);
			CHECK_OK(record_undo(&done, out, n, planes, back));
			CHECK(!memcmp(in, back, n));
		}
		free(in);
		free(out);
		free(scratch);
		free(back);
		free(planes);
	}
}

/* Sanitizers see what is read or written behind the bytes. */
UNIT_TEST(record_undo_stays_within_bounds)
{
	for (int round = 0; round < 20000; round++) {
		struct record r = random_record();
		size_t n = 1 + below(500);
		uint8_t *in = unit_allot(n), *out = unit_allot(n), *planes = unit_allot(record_planes_bytes(RECORD_COLUMNS_MAX, n));

		if (below(2))
			unit_rand_fill(&rand_state, &r, sizeof(r));
		if (below(2))
			r.ncodes = (uint8_t)(1 + below(16));
		fill_records(in, n, 1 + below(20));
		record_undo(&r, in, n, planes, out);
		free(in);
		free(out);
		free(planes);
	}
}

/* A block's entry holds the list. */
UNIT_TEST(record_lists_are_kept_in_entries)
{
	struct filter f = { .steps = FILTER_RECORD, .elem_bytes = 16, .record = random_record() }, back;
	struct layer_block b = { .filter = FILTER_SHUFFLE, .stat_type = SUMMARY_F64, .nan_bits = 3, .counts = 9, .min_bits = 1, .max_bits = 2 };

	f.record.ncodes = 16;
	for (int i = 0; i < 16; i++)
		f.record.codes[i] = (uint8_t)(i << 3);
	f.record.lead_bytes = 3;
	layer_block_set_filter(&b, &f);
	CHECK_EQ(b.stat_type, SUMMARY_NONE);
	CHECK_EQ(b.nan_bits, 0);
	back = layer_block_filter(&b);
	CHECK(!memcmp(&back.record, &f.record, sizeof(f.record)));
	layer_block_set_filter(&b, &(struct filter){ .steps = FILTER_NONE, .elem_bytes = 1 });
	CHECK(!b.counts && !b.min_bits && !b.max_bits);
}

/* Encodes n bytes in blocks of one array, and returns what they take. Records begin anywhere in a block. */
static size_t stored(const struct codec_params *params, const uint8_t *raw, size_t n, struct filter *last)
{
	size_t cap = codec_bound(BLOCK), sum = 0, len;
	uint8_t *frame = unit_allot(cap), *back = unit_allot(BLOCK);
	struct codec_hint hint = CODEC_HINT_NONE;
	struct codec_params p = *params;

	for (size_t off = 0; off < n; off += BLOCK) {
		size_t bytes = n - off < BLOCK ? n - off : BLOCK, into = p.record.bytes ? off % p.record.bytes : 0;

		p.record.lead_bytes = (uint16_t)(into ? p.record.bytes - into : 0);
		CHECK_OK(codec_encode(&p, raw + off, bytes, frame, cap, &hint, &len, last));
		CHECK(len <= codec_bound(bytes));
		memset(back, 0xa5, bytes);
		CHECK_OK(codec_decode(frame, len, last, back, bytes));
		CHECK(!memcmp(back, raw + off, bytes));
		sum += len;
	}
	free(frame);
	free(back);
	return sum;
}

struct trade {
	double price;
	int64_t at;
	int32_t count;
	uint8_t id;
} __attribute__((packed));

static void fill_trades(struct trade *v, size_t n)
{
	double price = 100;
	int64_t at = INT64_C(1700000000000000000), count = 0;

	for (size_t i = 0; i < n; i++) {
		price += ((double)below(101) - 50) / 1000;
		at += (int64_t)below(1000000);
		count += (int64_t)below(50);
		v[i] = (struct trade){ nearbyint(price * 100) / 100, at, (int32_t)count, (uint8_t)below(7) };
	}
}

UNIT_TEST(codec_auto_takes_each_field_by_itself)
{
	struct codec_params p = { .level = 3, .policy = CODEC_POLICY_AUTO, .elem_bytes = 1, .record = of_dtype("p:f64,t:i64,c:i32,id:u8") };
	struct codec_params plain = { .level = 3, .policy = CODEC_POLICY_NONE, .elem_bytes = 1 };
	size_t count = 40 * BLOCK / sizeof(struct trade), n = count * sizeof(struct trade);
	struct trade *v = unit_allot(n);
	char text[CODEC_DESCRIPTION_MAX];
	struct filter f;
	size_t whole;

	fill_trades(v, count);
	whole = stored(&plain, (uint8_t *)v, n, &f);
	CHECK(stored(&p, (uint8_t *)v, n, &f) < whole * 6 / 10);
	CHECK_EQ(f.steps, FILTER_RECORD);
	codec_describe(&f, text);
	CHECK(!strncmp(text, "record(scale+delta+", 19) && strstr(text, ":8, delta+pack:4, pack:1)"));
	p.level = CODEC_LEVEL_PACK;
	CHECK(stored(&p, (uint8_t *)v, n, &f) < n * 6 / 10);
	CHECK_EQ(f.steps, FILTER_RECORD);
	p.level = 0;
	stored(&p, (uint8_t *)v, n, &f);
	CHECK_EQ(f.steps, FILTER_NONE);
	p.policy = CODEC_POLICY_RECORD;
	CHECK(stored(&p, (uint8_t *)v, n, &f) < n * 6 / 10);
	CHECK_EQ(f.steps, FILTER_RECORD);
	p.record.bytes = 0;
	stored(&p, (uint8_t *)v, n, &f);
	CHECK_EQ(f.steps, FILTER_NONE);
	free(v);
}

/* Whole records that come again, in any order, are shorter than their columns. */
static void fill_dictionary(uint8_t *p, size_t n, size_t bytes, size_t words)
{
	uint8_t *dictionary = unit_allot(words * bytes);

	unit_rand_fill(&rand_state, dictionary, words * bytes);
	for (size_t off = 0; off < n; off += bytes)
		memcpy(p + off, dictionary + below(words) * bytes, n - off < bytes ? n - off : bytes);
	free(dictionary);
}

/* Text in lines of a record's length, noise, zeros with a few others, and records of a dictionary. */
static void fill_kind(int kind, uint8_t *p, size_t n, size_t bytes)
{
	if (kind >= 4) {
		fill_dictionary(p, n, bytes, kind == 4 ? 300 : kind == 5 ? 3000 : 20000);
		return;
	}
	for (size_t i = 0; i < n; i++)
		p[i] = kind == 0 ? (uint8_t)below(256) : kind == 1 ? (uint8_t)"the quick brown fox jumps over the lazy dog"[i % 43] :
		       kind == 2 ? (uint8_t)(below(40) ? 0 : below(256)) : (uint8_t)(i / 1000 * below(2));
}

UNIT_TEST(codec_records_are_never_much_longer)
{
	static const char *const dtypes[] = { "a:u8,b:u8,c:u8", "a:f64,b:i64,c:i32,d:u8", "a:f32,b:f32,c:f32,d:f32", "a:u16,b:f16,c:c128,d:bool",
					      "a:i64,b:i64" };
	struct codec_params plain = { .level = 3, .policy = CODEC_POLICY_NONE, .elem_bytes = 1 };
	size_t n = 6 * BLOCK + 77;
	uint8_t *raw = unit_allot(n);
	struct filter f;

	for (int kind = 0; kind < 7; kind++) {
		for (size_t k = 0; k < sizeof(dtypes) / sizeof(*dtypes); k++) {
			struct codec_params p = { .level = 3, .policy = CODEC_POLICY_AUTO, .elem_bytes = 1, .record = of_dtype(dtypes[k]) };
			size_t least;

			fill_kind(kind, raw, n, p.record.bytes);
			least = stored(&plain, raw, n, &f);
			CHECK(stored(&p, raw, n, &f) <= least + least / 50);
		}
	}
	free(raw);
}

/* Each field counts in steps of its own. */
static void fill_counters(uint8_t *p, size_t n, const struct record *r)
{
	struct record_column v[RECORD_COLUMNS_MAX];
	size_t ncolumns = record_columns(r, v);

	memset(p, 0, n);
	for (size_t row = 0; (row + 1) * r->bytes <= n; row++) {
		for (size_t k = 0; k < ncolumns; k++) {
			int64_t x = (int64_t)(row * k + below(10));
			double d = (double)x / 100;
			float f = (float)d;
			const void *from = v[k].value == SUMMARY_F64 ? (void *)&d : v[k].value == SUMMARY_F32 ? (void *)&f : (void *)&x;

			memcpy(p + row * r->bytes + v[k].at, from, v[k].rest ? 8 : v[k].width);
		}
	}
}

/* Columns are compressed at a low level only where a block has shown that they are as short there. */
UNIT_TEST(codec_columns_stay_as_short_as_in_the_block_that_was_tried)
{
	struct codec_params p = { .level = 3, .policy = CODEC_POLICY_RECORD, .elem_bytes = 1, .record = of_dtype("a:f64,b:i64,c:i32,d:u8") };
	size_t n = 4 * BLOCK, first, again, cap = codec_bound(n);
	uint8_t *raw = unit_allot(n), *frame = unit_allot(cap);
	unsigned quick = 0, slow = 0;
	struct filter f;

	for (int kind = 1; kind < 8; kind++) {
		struct codec_hint hint = CODEC_HINT_NONE;

		if (kind < 7)
			fill_kind(kind, raw, n, p.record.bytes);
		else
			fill_counters(raw, n, &p.record);
		CHECK_OK(codec_encode(&p, raw, n, frame, cap, &hint, &first, &f));
		CHECK_OK(codec_encode(&p, raw, n, frame, cap, &hint, &again, &f));
		CHECK(again <= first);
		CHECK_EQ(f.steps, FILTER_RECORD);
		quick += hint.quick;
		slow += !hint.quick;
	}
	CHECK(quick && slow);
	free(raw);
	free(frame);
}

/* As many fields as a record may have, and more of different kinds than a list has room for. */
UNIT_TEST(codec_takes_wide_records)
{
	struct codec_params plain = { .level = 3, .policy = CODEC_POLICY_NONE, .elem_bytes = 1 };
	static const char *const types[] = { "f64", "i32", "u8", "i64", "f32" };
	size_t n = 4 * BLOCK;
	uint8_t *raw = unit_allot(n);

	for (int mixed = 0; mixed < 2; mixed++) {
		struct codec_params p = { .level = 3, .policy = CODEC_POLICY_AUTO, .elem_bytes = 1 };
		char dtype[1024];
		size_t len = 0;
		struct filter f;

		for (int i = 0; i < (mixed ? 40 : 100); i++)
			len += (size_t)sprintf(dtype + len, "%sf%d:%s", i ? "," : "", i, mixed ? types[i % 5] : "i32");
		p.record = of_dtype(dtype);
		fill_counters(raw, n, &p.record);
		CHECK(stored(&p, raw, n, &f) < stored(&plain, raw, n, &f));
		stored(&p, raw, n, &f);
		CHECK_EQ(f.steps, FILTER_RECORD);
	}
	free(raw);
}

/* Any bytes, of any dtype, by each level and policy. */
UNIT_TEST(codec_gives_records_back)
{
	static const int levels[] = { CODEC_LEVEL_PACK, 0, 1, 3, -3 };

	for (int round = 0; round < 400; round++) {
		struct record list = random_record();
		struct codec_params p = { .level = levels[below(5)], .policy = below(2) ? CODEC_POLICY_AUTO : CODEC_POLICY_RECORD,
					  .elem_bytes = list.bytes <= 16 ? list.bytes : 1, .record = list };
		size_t n = 1 + below(below(3) ? 20000 : 200000);
		uint8_t *raw = unit_allot(n);
		struct filter f;

		if (below(3))
			fill_records(raw, n, list.bytes);
		else
			fill_kind((int)below(7), raw, n, list.bytes);
		stored(&p, raw, n, &f);
		free(raw);
	}
}
