/*
 * Views as pieces: what is put is what is read, frames decode to what they should.
 */
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "array/layered/pin.h"
#include "block/filter/shuffle.h"
#include "block/summary.h"
#include "unit.h"
#include "view_world.h"

#define BYTES (700000u)

/* Doubles that compress well in one half and shuffle well in the other. */
static double *numbers(size_t n)
{
	double *p = malloc(n * sizeof(*p));

	for (size_t i = 0; i < n; i++)
		p[i] = i < n / 2 ? (double)(i / 7) : 1.0 / (double)(i + 1);
	return p;
}

UNIT_TEST(view_pieces_of_all_kinds)
{
	struct world w;
	struct view *v;
	uint8_t *p = malloc(BYTES), *got;
	struct array *a, *b;
	unsigned s, t;
	size_t n;

	for (size_t i = 0; i < BYTES; i++)
		p[i] = (uint8_t)(i * 7 + i / 251);
	view_world_open(&w);
	a = view_world_array(&w, ARRAY_LAYERED, p, BYTES, 0, CODEC_POLICY_AUTO, NULL);
	b = view_world_array(&w, ARRAY_BUCKET, p, BYTES, 0, CODEC_POLICY_AUTO, NULL);
	CHECK_OK(view_new(&v));
	s = view_world_source(v, a);
	t = view_world_source(v, b);
	view_put(v, "head", 4);
	view_put(v, "er", 2);
	view_put_align(v, 4096);
	view_put_data(v, s, 10, 300000);
	view_put_data(v, s, 300010, 1000);
	view_put_data(v, t, BYTES - 5, 10); /* the last five are zeros */
	view_put_mapped(v, s, VIEW_MAP_I8_I32, 3, 1000);
	view_put_mapped(v, s, VIEW_MAP_U16_I32, 100, 3);
	view_put_mapped(v, s, VIEW_MAP_BITS, 1, 21);
	got = view_world_read(&w, v, &n);
	CHECK_EQ(n, 4096 + 301000 + 10 + 4000 + 12 + 3);
	CHECK(!memcmp(got, "header\0", 7));
	CHECK(!memcmp(got + 4096, p + 10, 301000));
	CHECK(!memcmp(got + 305096, p + BYTES - 5, 5) && !memcmp(got + 305101, "\0\0\0\0\0", 5));
	for (size_t i = 0; i < 1000; i++) {
		int32_t x;

		memcpy(&x, got + 305106 + 4 * i, 4);
		CHECK_EQ(x, (int8_t)p[3 + i]);
	}
	CHECK(!memcmp(got + 309106, (uint8_t[]){ p[200], p[201], 0, 0, p[202], p[203], 0, 0 }, 8));
	for (size_t i = 0; i < 21; i++)
		CHECK_EQ(got[309118 + i / 8] >> i % 8 & 1, p[1 + i] != 0);
	free(got);
	array_close(a);
	array_close(b);
	world_close(&w);
	free(p);
}

/* Puts the frames of all blocks, the last one padded if asked; returns how often each way was taken. */
static void put_frames(struct view *v, unsigned s, uint64_t block, bool pad, unsigned accept, unsigned how[3])
{
	uint64_t size = view_source_bytes(v, s);

	for (uint64_t off = 0; off < size; off += block) {
		uint64_t len = size - off < block ? size - off : block, before = view_size(v);
		struct view_frame f;

		view_plan_frame(v, &(struct view_range){ s, accept, off, len, pad ? block : len, 8, SUMMARY_NONE }, &f);
		CHECK(accept & 1u << f.filter);
		view_put_frame(v, &f);
		CHECK_EQ(view_size(v) - before, f.len_bytes);
		how[f.how]++;
	}
}

/* What the frames decode to, one after the other, unshuffled if shuffled. */
static uint8_t *decode(const uint8_t *p, size_t n, uint64_t block, bool shuffled, size_t *n_out)
{
	size_t cap = 16 << 20, at = 0, done = 0;
	uint8_t *out = malloc(cap), *mixed = malloc(block);

	while (at < n) {
		size_t len = ZSTD_findFrameCompressedSize(p + at, n - at), raw = (size_t)ZSTD_getFrameContentSize(p + at, n - at);

		CHECK(!ZSTD_isError(len) && raw <= block);
		CHECK_EQ(ZSTD_decompress(mixed, raw, p + at, len), raw);
		if (shuffled)
			shuffle_undo(mixed, out + done, raw, 8);
		else
			memcpy(out + done, mixed, raw);
		done += raw;
		at += len;
	}
	free(mixed);
	*n_out = done;
	return out;
}

static void check_frames(enum array_kind kind, enum codec_policy policy, uint32_t block, uint64_t chunk, bool pad,
			 unsigned accept, unsigned how[3])
{
	size_t n = 120000, got_n, raw_n;
	double *p = numbers(n);
	struct world w;
	struct view *v;
	struct array *a;
	uint8_t *got, *raw;
	unsigned s;

	memset(p + 60000, 0, 40000 * sizeof(*p)); /* blocks without anything in them */
	view_world_open(&w);
	a = view_world_array(&w, kind, p, n * sizeof(*p), block, policy, "f64");
	CHECK_OK(view_new(&v));
	s = view_world_source(v, a);
	put_frames(v, s, chunk, pad, accept, how);
	got = view_world_read(&w, v, &got_n);
	raw = decode(got, got_n, chunk, accept == VIEW_ACCEPT_SHUFFLED, &raw_n);
	CHECK(raw_n >= n * sizeof(*p) && (pad || raw_n == n * sizeof(*p)));
	CHECK(!memcmp(raw, p, n * sizeof(*p)));
	for (size_t i = n * sizeof(*p); i < raw_n; i++)
		CHECK_EQ(raw[i], 0);
	free(raw);
	free(got);
	array_close(a);
	world_close(&w);
	free(p);
}

UNIT_TEST(view_frames_as_stored)
{
	unsigned how[3] = { 0 };

	check_frames(ARRAY_LAYERED, CODEC_POLICY_NONE, 131072, 131072, false, VIEW_ACCEPT_PLAIN, how);
	CHECK(how[VIEW_FRAME_STORED] >= 4 && how[VIEW_FRAME_ZEROS] >= 1);
	memset(how, 0, sizeof(how));
	check_frames(ARRAY_LAYERED, CODEC_POLICY_SHUFFLE, 131072, 131072, false, VIEW_ACCEPT_SHUFFLED, how);
	CHECK(how[VIEW_FRAME_STORED] >= 4);
}

UNIT_TEST(view_frames_otherwise)
{
	unsigned how[3] = { 0 };

	check_frames(ARRAY_LAYERED, CODEC_POLICY_SHUFFLE, 131072, 131072, true, VIEW_ACCEPT_PLAIN, how);
	CHECK_EQ(how[VIEW_FRAME_STORED], 0);
	check_frames(ARRAY_LAYERED, CODEC_POLICY_NONE, 131072, 131072, true, VIEW_ACCEPT_SHUFFLED, how);
	check_frames(ARRAY_LAYERED, CODEC_POLICY_NONE, 131072, 100000, false, VIEW_ACCEPT_PLAIN, how);
	check_frames(ARRAY_LAYERED, CODEC_POLICY_NONE, 8192, 8192, true, VIEW_ACCEPT_PLAIN, how); /* packs */
	check_frames(ARRAY_COLUMN, CODEC_POLICY_NONE, 0, 300000, true, VIEW_ACCEPT_PLAIN, how);
	check_frames(ARRAY_BUCKET, CODEC_POLICY_NONE, 0, 300000, true, VIEW_ACCEPT_SHUFFLED, how);
	CHECK(how[VIEW_FRAME_RAW] > 0);
}

UNIT_TEST(view_pins_what_it_shows)
{
	size_t n = 100000, got_n;
	double *p = numbers(n);
	struct world w;
	struct view *v;
	struct array *a;
	uint8_t *got;

	view_world_open(&w);
	a = view_world_array(&w, ARRAY_LAYERED, p, n * sizeof(*p), 0, CODEC_POLICY_AUTO, "f64");
	CHECK_OK(view_new(&v));
	view_put_data(v, view_world_source(v, a), 0, n * sizeof(*p));
	for (size_t i = 0; i < n; i++)
		CHECK_OK(array_write(a, "changed!", 8, 8 * i));
	CHECK_OK(array_flush(a));
	CHECK_OK(array_resize(a, 100));
	got = view_world_read(&w, v, &got_n);
	CHECK_EQ(got_n, n * sizeof(*p));
	CHECK(!memcmp(got, p, got_n));
	free(got);
	array_close(a);
	world_close(&w);
	free(p);
}

UNIT_TEST(view_summaries)
{
	size_t n = 100000;
	double *p = numbers(n), lo, hi;
	struct world w;
	struct summary sum;
	struct view *v;
	struct array *a;
	unsigned s;

	memset(p + 16384, 0, 16384 * sizeof(*p)); /* the second block */
	p[5] = -3;
	view_world_open(&w);
	a = view_world_array(&w, ARRAY_LAYERED, p, n * sizeof(*p), 131072, CODEC_POLICY_AUTO, "f64");
	CHECK_OK(view_new(&v));
	s = view_world_source(v, a);
	CHECK(view_summary(v, s, SUMMARY_F64, 0, n * sizeof(*p), &sum));
	memcpy(&lo, &sum.min_bits, 8);
	memcpy(&hi, &sum.max_bits, 8);
	CHECK(lo == -3 && hi == (double)((n / 2 - 1) / 7));
	CHECK(view_summary(v, s, SUMMARY_F64, 131072, 131072, &sum));
	CHECK_EQ(sum.max_bits, 0);
	CHECK(!view_summary(v, s, SUMMARY_F64, 8, 131072, &sum));
	CHECK(!view_summary(v, s, SUMMARY_I64, 0, 131072, &sum));
	view_free(v);
	array_close(a);
	world_close(&w);
	free(p);
}
