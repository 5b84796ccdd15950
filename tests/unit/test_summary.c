/*
 * Summaries of blocks, against a naive reference that compares values; the portable path too.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array/dtype.h"
#include "block/ref.h"
#include "block/summary.h"
#include "unit.h"

/* The same source once more, without vectors. */
#ifndef SPILLFS_NO_SIMD
#define SPILLFS_NO_SIMD
#endif
#define summary_of portable_of
#define summary_compare portable_compare
#define summary_type_name portable_type_name
#define summary_text portable_text
#include "block/summary.c"
#undef summary_of
#undef summary_compare
#undef summary_type_name
#undef summary_text

static size_t width(enum summary_type t)
{
	uint32_t bytes;

	CHECK_OK(dtype_size(summary_type_name(t), &bytes));
	return bytes;
}

static bool is_float(enum summary_type t)
{
	return t == SUMMARY_F16 || t == SUMMARY_F32 || t == SUMMARY_F64;
}

/* The value of a float type's bits, by arithmetic alone. */
static double value_of(enum summary_type t, uint64_t bits)
{
	int nfraction = t == SUMMARY_F16 ? 10 : t == SUMMARY_F32 ? 23 : 52;
	int nexp = t == SUMMARY_F16 ? 5 : t == SUMMARY_F32 ? 8 : 11, bias = (1 << (nexp - 1)) - 1;
	uint64_t fraction = bits & (((uint64_t)1 << nfraction) - 1);
	int e = (int)(bits >> nfraction & ((1u << nexp) - 1));
	double v;

	if (e == (1 << nexp) - 1)
		v = fraction ? NAN : INFINITY;
	else if (e)
		v = ldexp((double)fraction + ldexp(1, nfraction), e - bias - nfraction);
	else
		v = ldexp((double)fraction, 1 - bias - nfraction);
	return bits >> (nfraction + nexp) ? -v : v;
}

/* a < b, where -0.0 < 0.0. */
static bool less(enum summary_type t, uint64_t a, uint64_t b)
{
	size_t n = width(t);

	if (is_float(t)) {
		double x = value_of(t, a), y = value_of(t, b);

		return x < y || (x == 0 && y == 0 && signbit(x) && !signbit(y));
	}
	if (t <= SUMMARY_I64 && n < 8) { /* sign-extend */
		a = (a ^ (uint64_t)1 << (8 * n - 1)) - ((uint64_t)1 << (8 * n - 1));
		b = (b ^ (uint64_t)1 << (8 * n - 1)) - ((uint64_t)1 << (8 * n - 1));
	}
	return t <= SUMMARY_I64 ? (int64_t)a < (int64_t)b : a < b;
}

static const uint64_t infinity[SUMMARY_NTYPES] = {
	[SUMMARY_F16] = 0x7c00, [SUMMARY_F32] = 0x7f800000, [SUMMARY_F64] = 0x7ff0000000000000,
};
static const uint64_t minus[SUMMARY_NTYPES] = {
	[SUMMARY_F16] = 0x8000, [SUMMARY_F32] = 0x80000000, [SUMMARY_F64] = 0x8000000000000000,
};

static struct summary naive(enum summary_type t, const unsigned char *p, size_t n)
{
	struct summary s = { .type = SUMMARY_NONE };
	size_t size = width(t);
	bool any = false;

	if (n < size)
		return s;
	s.type = (uint8_t)t;
	for (size_t i = 0; i + size <= n; i += size) {
		uint64_t bits = 0;

		memcpy(&bits, p + i, size);
		s.zero_count += is_float(t) ? value_of(t, bits) == 0 : bits == 0;
		if (is_float(t) && isnan(value_of(t, bits))) {
			s.nan_count++;
			continue;
		}
		if (!any || less(t, bits, s.min_bits))
			s.min_bits = bits;
		if (!any || less(t, s.max_bits, bits))
			s.max_bits = bits;
		any = true;
	}
	if (!any) {
		s.min_bits = infinity[t];
		s.max_bits = infinity[t] | minus[t];
	}
	return s;
}

static void check(enum summary_type t, const void *p, size_t n)
{
	struct summary want = naive(t, p, n), got, portable;

	summary_of(t, p, n, &got);
	portable_of(t, p, n, &portable);
	CHECK_EQ(got.type, want.type);
	CHECK_EQ(got.nan_count, want.nan_count);
	CHECK_EQ(got.zero_count, want.zero_count);
	CHECK_EQ(got.min_bits, want.min_bits);
	CHECK_EQ(got.max_bits, want.max_bits);
	CHECK_EQ(portable.type, want.type);
	CHECK_EQ(portable.nan_count, want.nan_count);
	CHECK_EQ(portable.zero_count, want.zero_count);
	CHECK_EQ(portable.min_bits, want.min_bits);
	CHECK_EQ(portable.max_bits, want.max_bits);
}

/* An exact allocation, so that sanitizers see a read behind the end. */
static void check_copy(enum summary_type t, const void *p, size_t n)
{
	void *copy = malloc(n ? n : 1);

	memcpy(copy, p, n);
	check(t, copy, n);
	free(copy);
}

UNIT_TEST(summary_of_random_bytes)
{
	static unsigned char buf[70000];
	uint64_t state = 42;

	for (int t = SUMMARY_I8; t < SUMMARY_NTYPES; t++) {
		for (size_t n = 0; n < 200; n++) {
			unit_rand_fill(&state, buf, n);
			check_copy((enum summary_type)t, buf, n);
		}
		for (int round = 0; round < 20; round++) {
			size_t n = unit_rand(&state) % sizeof(buf);

			unit_rand_fill(&state, buf, n);
			check_copy((enum summary_type)t, buf, n);
		}
	}
}

/* What is special, at each place of a block that is otherwise ordinary. */
UNIT_TEST(summary_finds_the_special_values)
{
	for (int t = SUMMARY_F16; t <= SUMMARY_F64; t++) {
		size_t size = width((enum summary_type)t);
		uint64_t inf = infinity[t], sign = minus[t];
		uint64_t special[] = { 0, sign, inf, inf | sign, inf + 1, inf | sign | 1, inf | (inf >> 1),
				       1, sign | 1, inf - 1, (inf - 1) | sign };

		for (size_t k = 0; k < sizeof(special) / sizeof(*special); k++) {
			for (size_t at = 0; at < 40; at++) {
				unsigned char buf[40 * 8];

				for (size_t i = 0; i < 40; i++) {
					uint64_t bits = i == at ? special[k] : special[(at + i) % 2 ? 0 : k];

					memcpy(buf + i * size, &bits, size);
				}
				check_copy((enum summary_type)t, buf, (40 - at % 3) * size);
			}
		}
	}
}

UNIT_TEST(summary_of_small_sets)
{
	static const double nans[] = { NAN, -NAN, NAN }, zeros[] = { 0.0, -0.0, 0.0 };
	static const float mixed[] = { 1.5f, NAN, -INFINITY, 1e-45f };
	static const int16_t ints[] = { -3, 7, 32767, -32768 };
	struct summary s;

	summary_of(SUMMARY_F64, nans, sizeof(nans), &s);
	CHECK_EQ(s.nan_count, 3);
	CHECK_EQ(s.min_bits, 0x7ff0000000000000);
	CHECK_EQ(s.max_bits, 0xfff0000000000000);
	CHECK(summary_compare(SUMMARY_F64, s.min_bits, s.max_bits) > 0);
	summary_of(SUMMARY_F64, zeros, sizeof(zeros), &s);
	CHECK_EQ(s.min_bits, 0x8000000000000000);
	CHECK_EQ(s.max_bits, 0);
	CHECK_EQ(s.zero_count, 3);
	summary_of(SUMMARY_F64, zeros, 8, &s);
	CHECK_EQ(s.min_bits, 0);
	summary_of(SUMMARY_F32, mixed, sizeof(mixed), &s);
	CHECK_EQ(s.nan_count, 1);
	CHECK_EQ(s.min_bits, 0xff800000);
	CHECK_EQ(s.max_bits, 0x3fc00000);
	summary_of(SUMMARY_I16, ints, 7, &s);
	CHECK_EQ(s.min_bits, 0xfffd);
	CHECK_EQ(s.max_bits, 32767);
	summary_of(SUMMARY_I16, ints, 1, &s);
	CHECK_EQ(s.type, SUMMARY_NONE);
	summary_of(SUMMARY_NONE, ints, 8, &s);
	CHECK(s.type == SUMMARY_NONE && !s.min_bits && !s.max_bits && !s.nan_count);
}

/* More zeros than a counter of 8 or 16 bits of a vector could count. */
UNIT_TEST(summary_counts_many_zeros)
{
	size_t n = unit_in_valgrind() ? 300000 : 3000000;
	unsigned char *v = calloc(n, 8);

	for (int t = SUMMARY_I8; t < SUMMARY_NTYPES; t++) {
		check((enum summary_type)t, v, n);
		memset(v, 1, 7);
		check((enum summary_type)t, v, n - 1);
		memset(v, 0, 7);
	}
	free(v);
}

/* What a place keeps of it, and what it leaves out. */
UNIT_TEST(summary_counts_in_a_place)
{
	static const uint32_t counts[] = { 0, 1, 2, 255, 65535, 65536, 131072, 1u << 23, 1u << 24, UINT32_MAX - 1 };
	struct summary s = { .type = SUMMARY_F64, .min_bits = 5, .max_bits = 6 };

	for (size_t i = 0; i < sizeof(counts) / sizeof(*counts); i++) {
		for (size_t k = 0; k < sizeof(counts) / sizeof(*counts); k++) {
			struct block_ref r = { .changed = 1 };
			struct layer_block b;
			struct summary got;

			s.nan_count = counts[i];
			s.zero_count = counts[k];
			block_ref_summarise(&r, &s);
			CHECK(r.changed);
			b = block_ref_entry(&r, 3);
			CHECK(b.nan_bits <= BLOCK_NAN_BITS_MAX);
			r = block_ref_of(&b);
			CHECK(!r.changed);
			got = block_ref_summary(&r);
			CHECK_EQ(got.nan_count, s.nan_count);
			CHECK(got.zero_count == s.zero_count || got.zero_count == SUMMARY_UNCOUNTED);
			if ((uint64_t)(counts[i] + 1ull) * (counts[k] + 1ull) < 1ull << 31)
				CHECK_EQ(got.zero_count, s.zero_count);
			CHECK_EQ(got.min_bits, 5);
			CHECK_EQ(got.max_bits, 6);
		}
	}
	s.zero_count = SUMMARY_UNCOUNTED;
	s.nan_count = 7;
	block_ref_summarise(&(struct block_ref){ 0 }, &s);
	/* A place of an older store. */
	s = block_ref_summary(&(struct block_ref){ .stat_type = SUMMARY_F32, .counts = 7 });
	CHECK_EQ(s.nan_count, 7);
	CHECK_EQ(s.zero_count, SUMMARY_UNCOUNTED);
}

/* More NaNs than a 16-bit counter of a vector could count. */
UNIT_TEST(summary_counts_many_nans)
{
	size_t n = 3000000;
	uint16_t *v = malloc(n * sizeof(*v));

	for (size_t i = 0; i < n; i++)
		v[i] = i % 1000 ? 0x7e00 : 0x3c00;
	check(SUMMARY_F16, v, n * sizeof(*v));
	free(v);
}

UNIT_TEST(summary_compares_in_the_order_of_the_type)
{
	uint64_t state = 7;

	for (int t = SUMMARY_I8; t < SUMMARY_NTYPES; t++) {
		for (int round = 0; round < 2000; round++) {
			uint64_t a = 0, b = 0;
			int want;

			unit_rand_fill(&state, &a, width((enum summary_type)t));
			unit_rand_fill(&state, &b, width((enum summary_type)t));
			if (is_float((enum summary_type)t) && (isnan(value_of(t, a)) || isnan(value_of(t, b))))
				continue;
			want = less(t, b, a) - less(t, a, b);
			CHECK_EQ(summary_compare(t, a, b), want);
			CHECK_EQ(summary_compare(t, a, a), 0);
		}
		if (is_float((enum summary_type)t))
			CHECK_EQ(summary_compare(t, 0, minus[t]), 0);
	}
}

static const char *text(enum summary_type t, uint64_t bits)
{
	static char out[40];

	summary_text(t, bits, out);
	return out;
}

UNIT_TEST(summary_texts)
{
	uint64_t tenth = 0x3fb999999999999a;

	CHECK(!strcmp(text(SUMMARY_F64, tenth), "0.1"));
	CHECK(!strcmp(text(SUMMARY_F64, tenth + 1), "0.10000000000000002"));
	CHECK(!strcmp(text(SUMMARY_F64, minus[SUMMARY_F64]), "-0"));
	CHECK(!strcmp(text(SUMMARY_F32, 0x3dcccccd), "0.1"));
	CHECK(!strcmp(text(SUMMARY_F16, 0x2e66), "0.1"));
	CHECK(!strcmp(text(SUMMARY_F16, 0x7bff), "6.55e+04"));
	CHECK(!strcmp(text(SUMMARY_F16, 0xfc00), "-inf"));
	CHECK(!strcmp(text(SUMMARY_F16, 0x7c01), "nan"));
	CHECK(!strcmp(text(SUMMARY_I8, 0xff), "-1"));
	CHECK(!strcmp(text(SUMMARY_I64, 0x8000000000000000), "-9223372036854775808"));
	CHECK(!strcmp(text(SUMMARY_U64, UINT64_MAX), "18446744073709551615"));
	CHECK(!strcmp(text(SUMMARY_BOOL, 1), "1"));
	CHECK(!strcmp(text(SUMMARY_NONE, 1), ""));
}

/* No two values of f16 have one text. */
UNIT_TEST(summary_texts_tell_all_of_f16_apart)
{
	for (uint64_t bits = 1; bits < infinity[SUMMARY_F16]; bits++) {
		double exact = value_of(SUMMARY_F16, bits), got = strtod(text(SUMMARY_F16, bits), NULL);
		double below = value_of(SUMMARY_F16, bits - 1);
		double above = bits + 1 == infinity[SUMMARY_F16] ? 65536 : value_of(SUMMARY_F16, bits + 1);

		CHECK(got - below > fabs(got - exact) && above - got > fabs(got - exact));
	}
}

UNIT_TEST(summary_types_of_dtypes)
{
	for (int t = SUMMARY_I8; t < SUMMARY_NTYPES; t++)
		CHECK_EQ(dtype_summary(summary_type_name((enum summary_type)t)), t);
	CHECK_EQ(dtype_summary(""), SUMMARY_NONE);
	CHECK_EQ(dtype_summary("c64"), SUMMARY_NONE);
	CHECK_EQ(dtype_summary("c128"), SUMMARY_NONE);
	CHECK_EQ(dtype_summary("a:u32"), SUMMARY_NONE);
	CHECK_EQ(dtype_summary("nonsense"), SUMMARY_NONE);
	CHECK(!strcmp(summary_type_name(SUMMARY_F16), "f16"));
}
