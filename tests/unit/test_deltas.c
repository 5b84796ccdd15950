/*
 * Packed differences as Parquet's DELTA_BINARY_PACKED: their length follows from that of the stored frame, and they decode to the
 * elements.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/codec.h"
#include "parquet_read.h"
#include "unit.h"
#include "view/deltas.h"

#define ELEMS_MAX 70000u /* more than one zstd block of u64 */

enum data { WALK, STEADY, NOISE, EXTREMES, NDATA };

static void fill(uint8_t *p, size_t n, uint32_t w, enum data how)
{
	uint64_t x = 88172645463325252u, at = 0;

	for (size_t i = 0; i < n; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		at += how == WALK ? x % 1000 - 400 : how == STEADY ? 3 : 0;
		if (how == NOISE)
			at = x;
		else if (how == EXTREMES)
			at = x & 4 ? (uint64_t)1 << (8 * w - 1) : ((uint64_t)1 << (8 * w - 1)) - 1;
		memcpy(p + i * w, &at, w);
	}
}

/* Stores n elements; false: not as packed differences. */
static bool store(const uint8_t *p, size_t n, uint32_t w, uint8_t *frame, size_t *len)
{
	const struct codec_params params = { .level = CODEC_LEVEL_PACK, .policy = (enum codec_policy)(FILTER_DELTA | FILTER_PACK), .elem_bytes = w };
	struct filter f;
	struct codec_hint hint = CODEC_HINT_NONE;

	CHECK_OK(codec_encode(&params, p, n * w, frame, codec_bound(n * w), &hint, len, &f));
	return f.steps == (FILTER_DELTA | FILTER_PACK);
}

/* Returns whether it could be stored so. */
static bool check(const uint8_t *p, size_t n, uint32_t w, uint8_t *frame, uint8_t *coded, uint8_t *back)
{
	size_t len, bytes, other;

	if (!store(p, n, w, frame, &len))
		return false;
	CHECK(deltas_bytes(n, w, len, &bytes));
	coded[bytes] = 0x5a;
	CHECK_OK(deltas_encode(p, n, w, coded, bytes));
	CHECK_EQ(coded[bytes], 0x5a);
	parquet_read_deltas(coded, bytes, w, n, back);
	CHECK(!memcmp(back, p, n * w));
	CHECK_EQ(deltas_encode(p, n, w, coded, bytes - 1), -EUCLEAN);
	CHECK_EQ(deltas_encode(p, n, w, coded, bytes + 1), -EUCLEAN);
	CHECK(!deltas_bytes(n, w, len + 1, &other) && !deltas_bytes(n, w, len - 1, &other));
	CHECK(!deltas_bytes(n, w, SIZE_MAX, &other) && !deltas_bytes(n, w, 0, &other));
	return true;
}

UNIT_TEST(deltas_of_all_lengths)
{
	static const size_t counts[] = { 2047, 2048, 2049, 2050, 2081, 3071, 3100, 8192, 16384, 16400, 20000, 32768, 33000, ELEMS_MAX };
	size_t room = codec_bound(ELEMS_MAX * 8), ncoded = 0;
	uint8_t *p = malloc(ELEMS_MAX * 8), *frame = malloc(room), *coded = malloc(2 * room), *back = malloc(ELEMS_MAX * 8);

	for (uint32_t w = 4; w <= 8; w += 4) {
		for (enum data how = WALK; how < NDATA; how++) {
			fill(p, ELEMS_MAX, w, how);
			for (size_t k = 0; k < sizeof(counts) / sizeof(*counts); k++)
				ncoded += check(p, counts[k], w, frame, coded, back);
			for (size_t n = 1; n < 1300; n += n < 5 || (n > 1020 && n < 1060) ? 1 : 37)
				ncoded += check(p, n, w, frame, coded, back);
		}
	}
	CHECK(ncoded > 80);
	free(back);
	free(coded);
	free(frame);
	free(p);
}

/* A frame that was compressed has another length, which may be one that packed differences have, too. */
UNIT_TEST(deltas_refuse_what_is_otherwise_stored)
{
	uint8_t *p = malloc(4096 * 8), *frame = malloc(codec_bound(4096 * 8)), *coded = malloc(4096 * 10);
	size_t len, bytes, taken = 0;

	fill(p, 4096, 8, WALK);
	CHECK(store(p, 4096, 8, frame, &len));
	for (size_t other = 0; other < 2 * 4096 * 8; other++) {
		if (other == len || !deltas_bytes(4096, 8, other, &bytes))
			continue;
		taken++;
		CHECK(bytes < 4096 * 10);
		CHECK_EQ(deltas_encode(p, 4096, 8, coded, bytes), -EUCLEAN);
	}
	CHECK(taken > 0);
	free(coded);
	free(frame);
	free(p);
}

/* Elements of a range of `bits` somewhere in the width, also around its ends; the least and the greatest come twice. */
static void fill_range(uint8_t *p, size_t n, uint32_t w, unsigned bits, uint64_t from)
{
	uint64_t mask = bits ? UINT64_MAX >> (64 - bits) : 0, seed = 88172645463325252u + bits;

	for (size_t i = 0; i < n; i++) {
		uint64_t x = from + (i % 4 == 1 ? 0 : i % 4 == 2 ? mask : unit_rand(&seed) & mask);

		memcpy(p + i * w, &x, w);
	}
}

static size_t check_range(const uint8_t *p, size_t n, uint32_t w, unsigned bits, uint64_t from, uint8_t *coded, uint8_t *back)
{
	uint64_t most = bits ? UINT64_MAX >> (64 - bits) : 0;
	size_t bytes, wider;

	if (bits + 1 >= 8 * w) {
		CHECK(!deltas_range_bytes(n, w, from, from + most, &bytes));
		return 0;
	}
	CHECK(deltas_range_bytes(n, w, from, from + most, &bytes));
	CHECK(bytes < n * w + n * w / 16 + 512);
	coded[bytes] = 0x5a;
	CHECK_OK(deltas_range_encode(p, n, w, coded, bytes));
	CHECK_EQ(coded[bytes], 0x5a);
	parquet_read_deltas(coded, bytes, w, n, back);
	CHECK(!memcmp(back, p, n * w));
	if (n < 4)
		return 1;
	CHECK_EQ(deltas_range_encode(p, n, w, coded, bytes - 1), -EUCLEAN);
	CHECK_EQ(deltas_range_encode(p, n, w, coded, bytes + 1), -EUCLEAN);
	CHECK_EQ(deltas_range_encode(p, n, w, coded, 3), -EUCLEAN);
	/* The elements are not what was said of them: some differ by more than has room. */
	if (bits > 1 && deltas_range_bytes(n, w, from, from + most / 4, &wider))
		CHECK_EQ(deltas_range_encode(p, n, w, coded, wider), -EUCLEAN);
	return 1;
}

UNIT_TEST(deltas_of_ranges)
{
	static const size_t counts[] = { 1, 2, 3, 31, 32, 33, 34, 1023, 1024, 1025, 1026, 1056, 1057, 2048, 2049, 8192, 20000 };
	uint8_t *p = malloc(20000 * 8), *coded = malloc(20000 * 9), *back = malloc(20000 * 8);
	size_t ncoded = 0;

	for (uint32_t w = 4; w <= 8; w += 4) {
		const uint64_t top = (uint64_t)1 << (8 * w - 1), froms[] = { 0, 1000000007, top, top + 5, 0 - top / 4, 0 - (uint64_t)17 };

		for (unsigned bits = 0; bits < 8 * w; bits += bits < 3 ? 1 : 5) {
			for (size_t k = 0; k < sizeof(froms) / sizeof(*froms); k++) {
				fill_range(p, 20000, w, bits, froms[k]);
				for (size_t j = 0; j < sizeof(counts) / sizeof(*counts); j++)
					ncoded += check_range(p, counts[j], w, bits, froms[k], coded, back);
			}
		}
	}
	CHECK(ncoded > 1000);
	free(back);
	free(coded);
	free(p);
}
