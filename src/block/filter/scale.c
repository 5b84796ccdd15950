/*
 * Decimal floats to integers.
 *
 * Invariants: (1) an integer that is no exception gives, converted to f64 and divided by 10^e (and rounded to f32), just the bits of its float:
 * each is tried; (2) no integer is outside [-2^51, 2^51), or for f32 [-2^31, 2^31).
 *
 * Rounding to an integer is the addition of 1.5 * 2^52, which leaves the integer in the low bits of the sum; what does not fit there
 * is out of range whatever the sum is.
 */
#include <errno.h>
#include <string.h>

#include "block/filter/inside.h"

/* Else gcc leaves the loops of conversions alone. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O3")
#endif

#define ROUNDER 6755399441055744.0      /* 1.5 * 2^52 */
#define ROUNDER_BITS 0x4338000000000000 /* the same */
#define F64_REACH (UINT64_C(1) << 51)
#define F32_REACH (UINT64_C(1) << 31)
/* A sample is this many values; an exponent may fail for so many of them, as for the block; for more, which a sample has by chance, if all do. */
#define SAMPLE_VALUES 128u
#define SAMPLE_FAILS 2u
#define SAMPLE_FAILS_MOST 6u

typedef uint64_t __attribute__((may_alias)) u64_any;
typedef uint32_t __attribute__((may_alias)) u32_any;
typedef double __attribute__((may_alias)) f64_any;
typedef float __attribute__((may_alias)) f32_any;

/* All values of a group together. bad is 0 when each float has its integer; the others have no bits above those of so many bytes when all
 * integers fit there. */
struct seen {
	uint64_t bad, above1, above2, above4;
};

static const double powers[FILTER_EXPONENT_MAX + 1] = { 1e0, 1e1, 1e2,	1e3,  1e4,  1e5,  1e6,	1e7,  1e8, 1e9,
							1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18 };

double scale_power(unsigned exponent)
{
	return powers[exponent];
}

static inline uint64_t bits_of_f64(double x)
{
	uint64_t bits;

	memcpy(&bits, &x, sizeof(bits));
	return bits;
}

static inline uint32_t bits_of_f32(float x)
{
	uint32_t bits;

	memcpy(&bits, &x, sizeof(bits));
	return bits;
}

/* The integer of x, and in *bad bits that are not 0 when it is not x. */
static inline uint64_t scale_f64(double x, double power, uint64_t *bad)
{
	double sum = x * power + ROUNDER;
	uint64_t k = bits_of_f64(sum) - ROUNDER_BITS;

	*bad = (bits_of_f64((sum - ROUNDER) / power) ^ bits_of_f64(x)) | (k + F64_REACH) >> 52;
	return k;
}

static inline uint64_t scale_f32(float x, double power, uint64_t *bad)
{
	double sum = (double)x * power + ROUNDER;
	uint64_t k = bits_of_f64(sum) - ROUNDER_BITS;

	*bad = (bits_of_f32((float)((sum - ROUNDER) / power)) ^ bits_of_f32(x)) | (k + F32_REACH) >> 32;
	return k;
}

static inline void see(struct seen *s, uint64_t k)
{
	s->above1 |= k + (1u << 7);
	s->above2 |= k + (1u << 15);
	s->above4 |= k + (UINT64_C(1) << 31);
}

/* The group_* take a whole group, without branches; *s has what all of it together shows. */
static void group_f64(const void *in, double power, void *k, struct seen *s)
{
	const f64_any *restrict x = in;
	u64_any *restrict to = k;
	struct seen all = { 0 };

	for (size_t i = 0; i < FILTER_GROUP; i++) {
		uint64_t bad;

		to[i] = scale_f64(x[i], power, &bad);
		all.bad |= bad;
		see(&all, to[i]);
	}
	*s = all;
}

static void group_f32(const void *in, double power, void *k, struct seen *s)
{
	const f32_any *restrict x = in;
	u32_any *restrict to = k;
	struct seen all = { 0 };

	for (size_t i = 0; i < FILTER_GROUP; i++) {
		uint64_t bad, q = scale_f32(x[i], power, &bad);

		to[i] = (uint32_t)q;
		all.bad |= bad;
		see(&all, q);
	}
	*s = all;
}

/* One value at a time: what has no integer gets the one before it, and is noted. */
static int group_slow(const void *in, size_t first, size_t n, uint32_t elem_bytes, double power, void *k, struct seen *s, struct scaled *out)
{
	const f64_any *x8 = in;
	const f32_any *x4 = in;
	u64_any *k8 = k;
	u32_any *k4 = k;

	for (size_t i = first; i < first + n; i++) {
		uint64_t bad, q = elem_bytes == 8 ? scale_f64(x8[i], power, &bad) : scale_f32(x4[i], power, &bad);

		if (bad) {
			if (out->nexceptions == FILTER_EXCEPTIONS_MAX)
				return -ERANGE;
			out->at[out->nexceptions++] = (uint32_t)i;
			q = !i ? 0 : elem_bytes == 8 ? k8[i - 1] : (uint64_t)(int32_t)k4[i - 1];
		}
		see(s, q);
		if (elem_bytes == 8)
			k8[i] = q;
		else
			k4[i] = (uint32_t)q;
	}
	return 0;
}

static uint8_t bytes_for(const struct seen *s)
{
	return !(s->above1 >> 8) ? 1 : !(s->above2 >> 16) ? 2 : !(s->above4 >> 32) ? 4 : 8;
}

int scale_apply(const void *in, size_t nelems, uint32_t elem_bytes, unsigned exponent, void *k, struct scaled *out)
{
	double power = powers[exponent];
	struct seen all = { 0 };

	out->nexceptions = 0;
	for (size_t first = 0; first < nelems; first += FILTER_GROUP) {
		size_t n = nelems - first < FILTER_GROUP ? nelems - first : FILTER_GROUP, off = first * elem_bytes;
		struct seen s = { .bad = 1 };

		if (n == FILTER_GROUP)
			(elem_bytes == 8 ? group_f64 : group_f32)((const uint8_t *)in + off, power, (uint8_t *)k + off, &s);
		if (s.bad) {
			s = (struct seen){ 0 };
			if (group_slow(in, first, n, elem_bytes, power, k, &s, out))
				return -ERANGE;
		}
		all.above1 |= s.above1;
		all.above2 |= s.above2;
		all.above4 |= s.above4;
	}
	if (out->nexceptions > nelems / FILTER_EXCEPTIONS_PART)
		return -ERANGE;
	out->int_bytes = bytes_for(&all);
	return 0;
}

/* How many values of the sample have no integer; counting ends at `enough`. */
static unsigned count_fails(const void *sample, size_t nelems, uint32_t elem_bytes, double power, unsigned enough)
{
	size_t step = nelems / SAMPLE_VALUES + 1;
	const f64_any *x8 = sample;
	const f32_any *x4 = sample;
	unsigned fails = 0;

	for (size_t i = 0; i < nelems && fails < enough; i += step) {
		uint64_t bad;

		if (elem_bytes == 8)
			scale_f64(x8[i], power, &bad);
		else
			scale_f32(x4[i], power, &bad);
		fails += bad != 0;
	}
	return fails;
}

/* Digits that a few values need more are not worth it: they are exceptions. */
bool filter_find_exponent(const void *sample, size_t n, uint32_t elem_bytes, uint8_t *out)
{
	unsigned least = SAMPLE_FAILS_MOST + 1;

	for (unsigned e = 0; e <= FILTER_EXPONENT_MAX && least > SAMPLE_FAILS; e++) {
		unsigned fails = count_fails(sample, n / elem_bytes, elem_bytes, powers[e], least);

		if (fails < least) {
			least = fails;
			*out = (uint8_t)e;
		}
	}
	return least <= SAMPLE_FAILS_MOST;
}
