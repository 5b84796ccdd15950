/*
 * block/filter.
 */
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/codec.h"
#include "block/filter.h"
#include "unit.h"

static uint64_t rand_state = 1;

static uint64_t below(uint64_t n)
{
	return unit_rand(&rand_state) % n;
}

/* Integers of e bytes as they may be; the bytes behind the last whole one are random. */
static void fill_integers(uint8_t *p, size_t n, size_t e)
{
	uint64_t kind = below(6), at = unit_rand(&rand_state), bits = below(8 * e + 1);

	unit_rand_fill(&rand_state, p, n);
	for (size_t i = 0; i + e <= n && kind; i += e) {
		if (kind == 1)
			at += bits ? unit_rand(&rand_state) >> (64 - bits) : 0;
		else if (kind == 2)
			at = bits ? unit_rand(&rand_state) >> (64 - bits) : 0;
		else if (kind == 3)
			at += below(3) - 1;
		else if (kind == 4)
			at = below(50) ? i / e : unit_rand(&rand_state);
		memcpy(p + i, &at, e);
	}
}

static uint64_t odd_float(size_t e)
{
	static const uint64_t f64[] = { 0x8000000000000000, 0x7ff8000000000000, 0xfff0000000000000, 0x7ff0000000000001, 1,
					0x7fefffffffffffff, 0x4338000000000000, 0x3fb999999999999b };
	static const uint32_t f32[] = { 0x80000000, 0x7fc00000, 0xff800000, 0x7f800001, 1, 0x7f7fffff, 0x4f000000, 0x3dccccce };

	return e == 8 ? f64[below(8)] : f32[below(8)];
}

/* Decimals, of which a few may be none. */
static void fill_decimals(uint8_t *p, size_t n, size_t e)
{
	uint64_t odd = below(2) ? 0 : 1 + below(300), reach = below(2) ? 200 : 200000;
	double at = (double)below(reach), power = pow(10, (double)below(7));

	unit_rand_fill(&rand_state, p, n);
	for (size_t i = 0; i + e <= n; i += e) {
		double x;
		float y;

		at += (double)below(201) - 100;
		x = at / power;
		y = (float)x;
		memcpy(p + i, e == 8 ? (void *)&x : (void *)&y, e);
		if (odd && !below(odd)) {
			uint64_t bits = odd_float(e);

			memcpy(p + i, &bits, e);
		}
	}
}

/* Does the filter take the block? It comes back bit for bit then. */
static bool round_trip(const struct filter *f, const uint8_t *raw, size_t n)
{
	uint8_t *scratch = unit_allot(n), *out = unit_allot(n), *back = unit_allot(n);
	size_t used = 0;
	int err = filter_apply(f, raw, n, scratch, out, &used);

	CHECK(!err || err == -ERANGE);
	if (!err) {
		CHECK(used <= n);
		for (size_t i = used; i < n; i++)
			CHECK_EQ(out[i], 0);
		memset(back, 0xa5, n);
		CHECK_OK(filter_undo(f->steps, f->elem_bytes, out, n, back));
		CHECK(!memcmp(raw, back, n));
	}
	free(scratch);
	free(out);
	free(back);
	return !err;
}

static size_t some_size(void)
{
	static const size_t around[] = { 0, 1, 8, 100, 1024, 2048, 8192, 16384, 70000 };

	return around[below(9)] + below(20);
}

UNIT_TEST(filter_round_trips_integers) /* (1) (2) */
{
	for (unsigned steps = 1; steps < 32; steps++) {
		size_t taken = 0;

		if (!filter_known(steps) || steps & FILTER_SCALE)
			continue;
		for (int round = 0; round < 200; round++) {
			struct filter f = { .steps = (uint8_t)steps, .elem_bytes = (uint8_t)(1u << below(4)) };
			size_t n = some_size();
			uint8_t *raw = unit_allot(n);

			fill_integers(raw, n, f.elem_bytes);
			if (filter_fits(steps, f.elem_bytes))
				taken += round_trip(&f, raw, n);
			free(raw);
		}
		CHECK(taken > 20);
	}
}

UNIT_TEST(filter_round_trips_decimals) /* (1) (2) */
{
	for (unsigned steps = 1; steps < 32; steps++) {
		size_t taken = 0;

		if (!filter_known(steps) || !(steps & FILTER_SCALE))
			continue;
		for (int round = 0; round < 200; round++) {
			struct filter f = { .steps = (uint8_t)steps, .elem_bytes = (uint8_t)(4u << below(2)) };
			size_t n = some_size();
			uint8_t *raw = unit_allot(n);

			fill_decimals(raw, n, f.elem_bytes);
			if (filter_find_exponent(raw, n, f.elem_bytes, &f.exponent))
				taken += round_trip(&f, raw, n);
			free(raw);
		}
		CHECK(taken > 30);
	}
}

/* Whatever the bits are, a filter refuses them or gives them back. */
UNIT_TEST(filter_round_trips_any_bits) /* (1) */
{
	size_t n = 8 * 4096;
	uint64_t *raw = unit_allot(n);

	for (int round = 0; round < 100; round++) {
		uint64_t keep = round % 2 ? ~(uint64_t)0 : ~(uint64_t)0 << below(64);

		for (size_t i = 0; i < n / 8; i++)
			raw[i] = unit_rand(&rand_state) & keep;
		for (unsigned steps = 1; steps < 32; steps++) {
			struct filter f = { .steps = (uint8_t)steps, .elem_bytes = (uint8_t)(4u << below(2)), .exponent = (uint8_t)below(19) };

			if (filter_known(steps))
				round_trip(&f, (uint8_t *)raw, n);
		}
	}
	free(raw);
}

UNIT_TEST(filter_round_trips_all_f16) /* (1) */
{
	struct filter f = { .elem_bytes = 2 };
	uint16_t *raw = unit_allot(0x20000);

	for (unsigned i = 0; i < 0x10000; i++)
		raw[i] = (uint16_t)i;
	for (unsigned steps = 1; steps < 32; steps++) {
		f.steps = (uint8_t)steps;
		if (filter_fits(steps, 2))
			CHECK(round_trip(&f, (uint8_t *)raw, 0x20000));
	}
	free(raw);
}

static void check_bytes(const struct filter *f, const void *raw, size_t n, const char *should, size_t len)
{
	uint8_t *scratch = unit_allot(n), *out = unit_allot(n);
	size_t used;

	CHECK_OK(filter_apply(f, raw, n, scratch, out, &used));
	CHECK_EQ(used, len);
	CHECK(!memcmp(out, should, len));
	free(scratch);
	free(out);
}

/* docs/FORMAT.md */
UNIT_TEST(filter_bytes_are_the_formats)
{
	static const int16_t v[] = { 1000, 1001, 999, 999 };
	static const double x[] = { 0.25, -0.5, 1.0 / 3, 1 };
	struct filter f = { .steps = FILTER_DELTA, .elem_bytes = 2 };
	/* One exception in four is more than filter_apply makes, but no damage. */
	_Alignas(8) char scaled[32] = "\2\1\0\0\1\0\0\0" "\x19\xce\xce\x64";
	double back[4];

	check_bytes(&f, v, 8, "\xe8\x03\x01\x00\xfe\xff\x00\x00", 8);
	f.steps = FILTER_DELTA | FILTER_ZIGZAG;
	check_bytes(&f, v, 8, "\xd0\x07\x02\x00\x03\x00\x00\x00", 8);
	f.steps |= FILTER_SHUFFLE;
	check_bytes(&f, v, 8, "\xd0\x02\x03\x00\x07\x00\x00\x00", 8);
	memcpy(scaled + 12, &x[2], 8);
	memcpy(scaled + 20, "\2\0\0\0", 4);
	CHECK_OK(filter_undo(FILTER_SCALE, 8, scaled, 32, back));
	CHECK(!memcmp(back, x, sizeof(x)));
	f = (struct filter){ .steps = FILTER_SCALE, .elem_bytes = 8, .exponent = 2 };
	check_bytes(&f, x, 16, "\2\1\0\0\0\0\0\0\x19\xce", 10);
}

/* Packed as the format says: one integer at a time. */
UNIT_TEST(filter_packs_as_defined)
{
	for (unsigned w = 1; w <= 8; w *= 2) {
		for (unsigned bits = 0; bits < 8 * w; bits += 1 + (w > 2) * 3) {
			struct filter f = { .steps = FILTER_PACK, .elem_bytes = (uint8_t)w };
			size_t n = 1024 * w, used, lanes = 1024 / (8 * w), head = 8 + 8 + 8 + 8;
			uint8_t *raw = unit_allot(n), *scratch = unit_allot(n), *out = unit_allot(n);

			for (size_t i = 0; i < 1024; i++) {
				uint64_t x = bits ? unit_rand(&rand_state) >> (64 - bits) : 0;

				if (i == 1)
					x = 0;
				if (i == 2 && bits)
					x = ((uint64_t)1 << bits) - 1;
				x += 5;
				memcpy(raw + i * w, &x, w);
			}
			if (bits + 1 < 8 * w) { /* else x may have no room */
				CHECK_OK(filter_apply(&f, raw, n, scratch, out, &used));
				CHECK_EQ(out[16], bits);
				CHECK_EQ(used, head + 128 * bits);
				for (size_t i = 1; i < 1024; i++) {
					uint64_t x = 0, want = 0;

					for (unsigned b = 0; b < bits; b++) {
						size_t bit = i / lanes * bits + b, word = bit / (8 * w) * lanes + i % lanes;

						x |= (uint64_t)(out[head + word * w + bit % (8 * w) / 8] >> bit % 8 & 1) << b;
					}
					memcpy(&want, raw + i * w, w);
					CHECK_EQ(x + 5, want);
				}
			}
			free(raw);
			free(scratch);
			free(out);
		}
	}
}

/* Damaged bytes are refused or become others, within bounds: out and in have just n bytes, which the sanitizers see. */
UNIT_TEST(filter_undo_stays_within_bounds) /* (3) */
{
	for (int round = 0; round < 4000; round++) {
		struct filter f = { .steps = (uint8_t)below(32), .elem_bytes = (uint8_t)(4u << below(2)) };
		size_t n = some_size() % 20000, used;
		uint8_t *raw = unit_allot(n), *scratch = unit_allot(n), *out = unit_allot(n + 64);

		memset(out, 0x5a, n + 64);
		fill_decimals(raw, n, f.elem_bytes);
		filter_find_exponent(raw, n, f.elem_bytes, &f.exponent);
		if (filter_fits(f.steps, f.elem_bytes) && f.steps && !filter_apply(&f, raw, n, raw, scratch, &used)) {
			for (uint64_t k = below(4); k-- > 0 && n;)
				scratch[below(2) ? below(n) : below(n < 60 ? n : 60)] = (uint8_t)below(256);
			filter_undo(f.steps, f.elem_bytes, scratch, n, out);
		} else {
			unit_rand_fill(&rand_state, scratch, n);
			filter_undo((unsigned)below(64), (uint32_t)below(20), scratch, n, out);
		}
		for (size_t i = n; i < n + 64; i++)
			CHECK_EQ(out[i], 0x5a);
		free(raw);
		free(scratch);
		free(out);
	}
}

#define BLOCK (256u << 10)

/* Encodes blocks of one array in turn; returns the bytes stored. The filter of the last is *steps. */
static size_t stored(const struct codec_params *p, const uint8_t *raw, size_t nblocks, uint8_t *steps)
{
	size_t cap = codec_bound(BLOCK), sum = 0, len;
	uint8_t *frame = unit_allot(cap), *back = unit_allot(BLOCK);
	struct filter filter = { 0 };
	struct codec_hint hint = CODEC_HINT_NONE;

	for (size_t i = 0; i < nblocks; i++) {
		CHECK_OK(codec_encode(p, raw + i * BLOCK, BLOCK, frame, cap, &hint, &len, &filter));
		CHECK_OK(codec_decode(frame, len, &filter, back, BLOCK));
		CHECK(!memcmp(back, raw + i * BLOCK, BLOCK));
		sum += len;
	}
	*steps = filter.steps;
	free(frame);
	free(back);
	return sum;
}

UNIT_TEST(codec_auto_scales_decimals)
{
	struct codec_params p = { 3, CODEC_POLICY_AUTO, 8, SUMMARY_F64, { 0 } }, plain = { 3, CODEC_POLICY_NONE, 8, SUMMARY_F64, { 0 } };
	size_t n = 20 * (size_t)BLOCK / 8;
	double *v = unit_allot(n * 8), at = 100;
	uint8_t steps;

	for (size_t i = 0; i < n; i++) {
		at += ((double)below(101) - 50) / 1000;
		v[i] = below(1000) ? nearbyint(at * 100) / 100 : i % 2 ? -0.0 : NAN;
	}
	CHECK(stored(&p, (uint8_t *)v, 20, &steps) < stored(&plain, (uint8_t *)v, 20, &steps) * 2 / 3);
	stored(&p, (uint8_t *)v, 20, &steps);
	CHECK(steps & FILTER_SCALE);
	/* The array goes on with what the filter does not fit, and with more digits. */
	for (size_t i = 3 * BLOCK / 8; i < 4 * BLOCK / 8; i++)
		v[i] = sqrt((double)i);
	for (size_t i = 5 * BLOCK / 8; i < 20 * BLOCK / 8; i++)
		v[i] = (double)(i % 100000) / 100000;
	stored(&p, (uint8_t *)v, 20, &steps);
	CHECK(steps & FILTER_SCALE);
	free(v);
}

/* A sample has more exceptions than its block by chance. Digits that many values need are found, and those of a few are not. */
UNIT_TEST(filter_finds_the_exponent_of_most)
{
	double x[4096];
	uint8_t e;

	for (unsigned round = 0; round < 200; round++) {
		unsigned digits = 1 + (unsigned)below(4);

		for (size_t i = 0; i < 4096; i++)
			x[i] = below(100) ? (double)(below(1u << 20) * 10 + 1) / pow(10, digits) : NAN;
		CHECK(filter_find_exponent(x, sizeof(x), 8, &e));
		CHECK(e == digits);
		for (size_t i = 0; i < 4096; i++)
			x[i] = (double)(below(1u << 20) * 10 + 1) / pow(10, digits + !below(8));
		CHECK(filter_find_exponent(x, sizeof(x), 8, &e));
		CHECK(e == digits + 1);
		for (size_t i = 0; i < 4096; i++)
			x[i] = (double)(below(1u << 20) * 10 + 1) / pow(10, i % 256 == 77 ? 8 : digits);
		CHECK(filter_find_exponent(x, sizeof(x), 8, &e));
		CHECK(e == digits);
		for (size_t i = 0; i < 4096; i++)
			x[i] = 1 / (double)(3 + 7 * i);
		CHECK(!filter_find_exponent(x, sizeof(x), 8, &e));
	}
}

/* Nobody has said what they are. */
UNIT_TEST(codec_auto_finds_numbers)
{
	struct codec_params p = { 3, CODEC_POLICY_AUTO, 1, SUMMARY_NONE, { 0 } }, plain = { 3, CODEC_POLICY_NONE, 1, SUMMARY_NONE, { 0 } };
	size_t n = 4 * (size_t)BLOCK;
	uint8_t *raw = unit_allot(n), steps;
	int32_t *whole = (int32_t *)raw;
	double *v = (double *)raw;

	for (size_t i = 0; i < n / 8; i++)
		v[i] = nearbyint(10000 + 500 * sin((double)i / 100) + (double)below(100)) / 100;
	CHECK(stored(&p, raw, 4, &steps) < stored(&plain, raw, 4, &steps) * 2 / 3);
	stored(&p, raw, 4, &steps);
	CHECK(steps & FILTER_SCALE);
	for (size_t i = 0; i < n / 4; i++)
		whole[i] = (int32_t)i * 1000 + (int32_t)below(1000);
	CHECK(stored(&p, raw, 4, &steps) < stored(&plain, raw, 4, &steps) * 2 / 3);
	for (size_t i = 0; i < n; i++)
		raw[i] = (uint8_t)("the quick brown fox jumps over the lazy dog "[i % 44] ^ (below(50) == 0));
	CHECK_EQ(stored(&p, raw, 4, &steps), stored(&plain, raw, 4, &steps));
	free(raw);
}

UNIT_TEST(codec_auto_packs_integers)
{
	struct codec_params p = { 3, CODEC_POLICY_AUTO, 8, SUMMARY_I64, { 0 } }, plain = { 3, CODEC_POLICY_NONE, 8, SUMMARY_I64, { 0 } };
	size_t n = 4 * (size_t)BLOCK / 8;
	int64_t *v = unit_allot(n * 8);
	uint8_t steps;

	for (size_t i = 0; i < n; i++)
		v[i] = (i ? v[i - 1] : INT64_C(1700000000000000000)) + (int64_t)below(1000);
	CHECK(stored(&p, (uint8_t *)v, 4, &steps) < stored(&plain, (uint8_t *)v, 4, &steps) * 2 / 3);
	stored(&p, (uint8_t *)v, 4, &steps);
	CHECK_EQ(steps, FILTER_DELTA | FILTER_PACK);
	free(v);
}

UNIT_TEST(filter_texts_are_parsed)
{
	char text[FILTER_TEXT_MAX];
	uint8_t back;

	for (unsigned steps = 0; steps < 300; steps++) {
		filter_text(steps, text);
		CHECK_EQ(filter_parse(text, &back), filter_known(steps) ? 0 : -EINVAL);
		CHECK(!filter_known(steps) || back == steps);
	}
	filter_text(FILTER_SCALE | FILTER_DELTAS | FILTER_SHUFFLE, text);
	CHECK(!strcmp(text, "scale+delta+zigzag+shuffle"));
	CHECK_EQ(filter_parse("pack+delta", &back), -EINVAL);
	CHECK_EQ(filter_parse("", &back), -EINVAL);
}

UNIT_TEST(codec_takes_the_filter_that_is_asked_for)
{
	static const uint8_t chains[] = { FILTER_DELTA, FILTER_PACK, FILTER_SCALE | FILTER_DELTAS | FILTER_SHUFFLE };
	static const int levels[] = { CODEC_LEVEL_PACK, CODEC_LEVEL_MIN, -1, 0, 1 };
	double *v = unit_allot(BLOCK);
	uint8_t steps;

	for (size_t i = 0; i < BLOCK / 8; i++)
		v[i] = (double)below(1000) / 100;
	for (size_t l = 0; l < sizeof(levels) / sizeof(*levels); l++) {
		for (size_t k = 0; k < sizeof(chains); k++) {
			struct codec_params p = { levels[l], (enum codec_policy)chains[k], 8, SUMMARY_F64, { 0 } };

			stored(&p, (uint8_t *)v, 1, &steps);
			CHECK_EQ(steps, chains[k]);
			p.type = SUMMARY_I64;
			stored(&p, (uint8_t *)v, 1, &steps);
			CHECK_EQ(steps, chains[k] & FILTER_SCALE ? FILTER_NONE : chains[k]);
		}
	}
	{
		struct codec_params p = { CODEC_LEVEL_PACK, CODEC_POLICY_AUTO, 8, SUMMARY_F64, { 0 } };

		CHECK(stored(&p, (uint8_t *)v, 1, &steps) < BLOCK / 4);
		CHECK_EQ(steps, FILTER_SCALE | FILTER_PACK);
	}
	free(v);
}

/* Data for which no filter is meant. */
UNIT_TEST(codec_auto_is_never_much_longer)
{
	static const enum summary_type types[] = { SUMMARY_I8,	SUMMARY_U8,  SUMMARY_I16, SUMMARY_U32, SUMMARY_I64,
						   SUMMARY_F16, SUMMARY_F32, SUMMARY_F64, SUMMARY_NONE };
	static const uint8_t bytes[] = { 1, 1, 2, 4, 8, 2, 4, 8, 16 };
	uint8_t *raw = unit_allot(4 * BLOCK), steps;

	for (int kind = 0; kind < 3; kind++) {
		for (size_t i = 0; i < 4 * BLOCK; i++)
			raw[i] = kind == 0 ? (uint8_t)below(256) : kind == 1 ? (uint8_t)"the quick brown fox"[i % 19] : (uint8_t)(i / 1000 * below(2));
		for (size_t k = 0; k < sizeof(bytes); k++) {
			struct codec_params p = { 3, CODEC_POLICY_AUTO, bytes[k], types[k], { 0 } };
			struct codec_params plain = { 3, CODEC_POLICY_NONE, bytes[k], types[k], { 0 } };
			size_t least = stored(&plain, raw, 4, &steps);

			CHECK(stored(&p, raw, 4, &steps) <= least + least / 50 + 400);
		}
	}
	free(raw);
}
