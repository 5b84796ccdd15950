/*
 * Summaries of blocks.
 *
 * Every type is compared as a signed integer of its width, its key, whose order is the type's: unsigned
 * numbers with the top bit flipped, floats with the bits below the sign flipped if the sign is set (so
 * that -0.0 stands right below 0.0, and NaNs stand outside of the infinities).
 *
 * Invariants: (1) only integers are compared, so the vector path and the portable one give the same bits
 * on every machine, and no f16 support is needed; (2) the summary does not depend on the order of elements.
 */
#include "block/summary.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALWAYS_INLINE inline __attribute__((always_inline))

enum form { FORM_SIGNED, FORM_UNSIGNED, FORM_FLOAT };

/* The NaNs and zeros of this many elements fit the vector path's counters; of bytes, of CHUNK_BYTES. Both are whole steps. */
#define CHUNK_ELEMS 65536u
#define CHUNK_BYTES 7680u

static const struct {
	const char *name;
	uint8_t bytes;
	uint8_t form; /* enum form */
	uint64_t inf; /* floats: bits of +inf */
} types[SUMMARY_NTYPES] = {
	[SUMMARY_NONE] = { "", 0, FORM_UNSIGNED, 0 },
	[SUMMARY_I8] = { "i8", 1, FORM_SIGNED, 0 },
	[SUMMARY_I16] = { "i16", 2, FORM_SIGNED, 0 },
	[SUMMARY_I32] = { "i32", 4, FORM_SIGNED, 0 },
	[SUMMARY_I64] = { "i64", 8, FORM_SIGNED, 0 },
	[SUMMARY_U8] = { "u8", 1, FORM_UNSIGNED, 0 },
	[SUMMARY_U16] = { "u16", 2, FORM_UNSIGNED, 0 },
	[SUMMARY_U32] = { "u32", 4, FORM_UNSIGNED, 0 },
	[SUMMARY_U64] = { "u64", 8, FORM_UNSIGNED, 0 },
	[SUMMARY_F16] = { "f16", 2, FORM_FLOAT, 0x7c00 },
	[SUMMARY_F32] = { "f32", 4, FORM_FLOAT, 0x7f800000 },
	[SUMMARY_F64] = { "f64", 8, FORM_FLOAT, 0x7ff0000000000000 },
	[SUMMARY_BOOL] = { "bool", 1, FORM_UNSIGNED, 0 },
};

/* The smallest and the largest key seen; sign-extended. */
struct range {
	int64_t lo, hi;
	uint32_t nans, zeros;
};

/*
 * scan_T: widens r by n elements. Called with constants for form and inf, so that each type gets a loop
 * without branches. A NaN counts as +inf for the lower bound and as -inf for the upper one: both are what
 * the bounds start with.
 */
#define DEFINE_SCAN(T)                                                                                          \
	static ALWAYS_INLINE void scan_##T(const void *p, size_t n, enum form form, T inf, struct range *r)     \
	{                                                                                                       \
		const T rest = (T)(UINT64_MAX >> (65 - sizeof(T) * 8));                                         \
		T lo = (T)r->lo, hi = (T)r->hi;                                                                 \
		uint32_t nans = 0, zeros = 0;                                                                   \
                                                                                                                \
		for (size_t i = 0; i < n; i++) {                                                                \
			T bits, key;                                                                            \
			bool nan;                                                                               \
                                                                                                                \
			memcpy(&bits, (const char *)p + i * sizeof(T), sizeof(T));                              \
			key = form == FORM_SIGNED   ? bits :                                                    \
			      form == FORM_UNSIGNED ? (T)(bits ^ (T)~rest) :                                    \
						      (T)(bits ^ ((T)(bits >> (sizeof(T) * 8 - 1)) & rest));    \
			nan = form == FORM_FLOAT && (T)(bits & rest) > inf;                                     \
			lo = nan || key >= lo ? lo : key;                                                       \
			hi = nan || key <= hi ? hi : key;                                                       \
			nans += nan;                                                                            \
			zeros += (T)(form == FORM_FLOAT ? bits & rest : bits) == 0;                             \
		}                                                                                               \
		r->lo = lo;                                                                                     \
		r->hi = hi;                                                                                     \
		r->nans += nans;                                                                                \
		r->zeros += zeros;                                                                              \
	}

DEFINE_SCAN(int8_t)
DEFINE_SCAN(int16_t)
DEFINE_SCAN(int32_t)
DEFINE_SCAN(int64_t)

#if defined(__SSE2__) && !defined(SPILLFS_NO_SIMD)
#define HAVE_VECTOR 1
/* The widest vector, two of them: the loops below run two chains side by side. */
#define STEP_BYTES 64
/* SSE2 does not compare 64 bits: a loop of its instructions is slower than scan_int64_t. */
#define WIDE __attribute__((target("avx2")))

/*
 * vscan_T: the same for whole steps, at most CHUNK_ELEMS elements, in vectors of so many bytes; what a comparison of
 * vectors gives is all ones where it is true.
 */
#define DEFINE_VSCAN(T, VECTOR_BYTES, TARGET)                                                                   \
	typedef T vec_##T __attribute__((vector_size(VECTOR_BYTES)));                                           \
	typedef u##T vec_u##T __attribute__((vector_size(VECTOR_BYTES))); /* counters */                        \
                                                                                                                \
	TARGET static ALWAYS_INLINE void vstep_##T(const char *p, enum form form, T inf, vec_##T *lo,           \
						   vec_##T *hi, vec_u##T *nans, vec_u##T *zeros)                \
	{                                                                                                       \
		const T rest = (T)(UINT64_MAX >> (65 - sizeof(T) * 8));                                         \
		vec_##T bits, key, low, high, m;                                                                \
                                                                                                                \
		memcpy(&bits, p, sizeof(bits));                                                                 \
		key = form == FORM_SIGNED   ? bits :                                                            \
		      form == FORM_UNSIGNED ? bits ^ (T)~rest :                                                 \
					      bits ^ ((bits >> (T)(sizeof(T) * 8 - 1)) & rest);                 \
		low = high = key;                                                                               \
		if (form == FORM_FLOAT) {                                                                       \
			vec_##T nan = (vec_##T)((bits & rest) > inf);                                           \
                                                                                                                \
			low = (key & ~nan) | (nan & inf);                                                       \
			high = (key & ~nan) | (nan & (T)~inf);                                                  \
			*nans -= (vec_u##T)nan;                                                                 \
			bits &= rest;                                                                           \
		}                                                                                               \
		*zeros -= (vec_u##T)(bits == 0);                                                                \
		m = (vec_##T)(low < *lo);                                                                       \
		*lo = (low & m) | (*lo & ~m);                                                                   \
		m = (vec_##T)(high > *hi);                                                                      \
		*hi = (high & m) | (*hi & ~m);                                                                  \
	}                                                                                                       \
                                                                                                                \
	TARGET static ALWAYS_INLINE void vscan_##T(const void *p, size_t nsteps, enum form form, T inf,         \
					    struct range *r)                                                    \
	{                                                                                                       \
		const char *at = p;                                                                             \
		vec_##T lo0 = (vec_##T){ 0 } + (T)r->lo, lo1 = lo0, hi0 = (vec_##T){ 0 } + (T)r->hi, hi1 = hi0; \
		vec_u##T nans0 = { 0 }, nans1 = { 0 }, zeros0 = { 0 }, zeros1 = { 0 };                          \
                                                                                                                \
		for (size_t i = 0; i < nsteps * STEP_BYTES; i += 2 * VECTOR_BYTES, at += 2 * VECTOR_BYTES) {    \
			vstep_##T(at, form, inf, &lo0, &hi0, &nans0, &zeros0);                                  \
			vstep_##T(at + VECTOR_BYTES, form, inf, &lo1, &hi1, &nans1, &zeros1);                   \
		}                                                                                               \
		for (size_t k = 0; k < VECTOR_BYTES / sizeof(T); k++) {                                         \
			r->lo = lo0[k] < r->lo ? lo0[k] : r->lo;                                                \
			r->lo = lo1[k] < r->lo ? lo1[k] : r->lo;                                                \
			r->hi = hi0[k] > r->hi ? hi0[k] : r->hi;                                                \
			r->hi = hi1[k] > r->hi ? hi1[k] : r->hi;                                                \
			r->nans += (uint32_t)nans0[k] + (uint32_t)nans1[k];                                     \
			r->zeros += (uint32_t)zeros0[k] + (uint32_t)zeros1[k];                                  \
		}                                                                                               \
	}

DEFINE_VSCAN(int8_t, 16, )
DEFINE_VSCAN(int16_t, 16, )
DEFINE_VSCAN(int32_t, 16, )
DEFINE_VSCAN(int64_t, 32, WIDE)
#else
#define HAVE_VECTOR 0
#define STEP_BYTES 8
#define WIDE
#define vscan_int8_t(p, nsteps, form, inf, r) scan_int8_t(p, (nsteps) * STEP_BYTES, form, inf, r)
#define vscan_int16_t(p, nsteps, form, inf, r) scan_int16_t(p, (nsteps) * STEP_BYTES / 2, form, inf, r)
#define vscan_int32_t(p, nsteps, form, inf, r) scan_int32_t(p, (nsteps) * STEP_BYTES / 4, form, inf, r)
#define vscan_int64_t(p, nsteps, form, inf, r) scan_int64_t(p, (nsteps) * STEP_BYTES / 8, form, inf, r)
#endif

/* Whole steps by vscan_T, the rest by scan_T. */
#define SCAN(T, form, inf)                                                                                      \
	do {                                                                                                    \
		size_t nsteps = bytes / STEP_BYTES, done = nsteps * STEP_BYTES;                                 \
                                                                                                                \
		vscan_##T(p, nsteps, form, (T)(inf), r);                                                        \
		scan_##T(p + done, (bytes - done) / sizeof(T), form, (T)(inf), r);                              \
	} while (0)

/* Elements of 64 bits, on a processor that compares vectors of them. */
WIDE static void scan_chunk_wide(enum summary_type type, const char *p, size_t bytes, struct range *r)
{
	if (type == SUMMARY_F64)
		SCAN(int64_t, FORM_FLOAT, types[SUMMARY_F64].inf);
	else if (type == SUMMARY_I64)
		SCAN(int64_t, FORM_SIGNED, 0);
	else
		SCAN(int64_t, FORM_UNSIGNED, 0);
}

static bool has_wide(void)
{
#if HAVE_VECTOR
	return __builtin_cpu_supports("avx2");
#else
	return false;
#endif
}

static void scan_chunk(enum summary_type type, const char *p, size_t bytes, struct range *r)
{
	switch (type) {
	case SUMMARY_I8: SCAN(int8_t, FORM_SIGNED, 0); break;
	case SUMMARY_I16: SCAN(int16_t, FORM_SIGNED, 0); break;
	case SUMMARY_I32: SCAN(int32_t, FORM_SIGNED, 0); break;
	case SUMMARY_I64: scan_int64_t(p, bytes / 8, FORM_SIGNED, 0, r); break;
	case SUMMARY_BOOL:
	case SUMMARY_U8: SCAN(int8_t, FORM_UNSIGNED, 0); break;
	case SUMMARY_U16: SCAN(int16_t, FORM_UNSIGNED, 0); break;
	case SUMMARY_U32: SCAN(int32_t, FORM_UNSIGNED, 0); break;
	case SUMMARY_U64: scan_int64_t(p, bytes / 8, FORM_UNSIGNED, 0, r); break;
	case SUMMARY_F16: SCAN(int16_t, FORM_FLOAT, 0x7c00); break;
	case SUMMARY_F32: SCAN(int32_t, FORM_FLOAT, 0x7f800000); break;
	case SUMMARY_F64: scan_int64_t(p, bytes / 8, FORM_FLOAT, 0x7ff0000000000000, r); break;
	case SUMMARY_NONE:
	case SUMMARY_NTYPES: break;
	}
}

/* The type's low bits of v. */
static uint64_t cut(enum summary_type type, uint64_t v)
{
	return types[type].bytes == 8 ? v : v & (((uint64_t)1 << (8 * types[type].bytes)) - 1);
}

static uint64_t sign_bit(enum summary_type type)
{
	return (uint64_t)1 << (8 * types[type].bytes - 1);
}

static int64_t sign_extend(enum summary_type type, uint64_t v)
{
	return (int64_t)((cut(type, v) ^ sign_bit(type)) - sign_bit(type));
}

/* Its own inverse but for the extension of the sign. */
static int64_t key_of(enum summary_type type, uint64_t bits)
{
	uint64_t sign = sign_bit(type);

	if (types[type].form == FORM_UNSIGNED)
		bits ^= sign;
	else if (types[type].form == FORM_FLOAT && (bits & sign))
		bits ^= sign - 1;
	return sign_extend(type, bits);
}

void summary_of(enum summary_type type, const void *p, size_t n, struct summary *out)
{
	size_t size = type < SUMMARY_NTYPES ? types[type].bytes : 0, done = 0, most = size == 1 ? CHUNK_BYTES : CHUNK_ELEMS * size;
	struct range r = { .nans = 0 };

	if (!size || n < size) {
		*out = (struct summary){ .type = SUMMARY_NONE };
		return;
	}
	r.lo = types[type].form == FORM_FLOAT ? (int64_t)types[type].inf : (int64_t)(sign_bit(type) - 1);
	r.hi = ~r.lo; /* of floats: the key of -inf */
	n -= n % size;
	while (done < n) {
		size_t bytes = n - done < most ? n - done : most;

		if (size == 8 && has_wide())
			scan_chunk_wide(type, (const char *)p + done, bytes, &r);
		else
			scan_chunk(type, (const char *)p + done, bytes, &r);
		done += bytes;
	}
	*out = (struct summary){
		.type = (uint8_t)type,
		.nan_count = r.nans,
		.zero_count = r.zeros,
		.min_bits = cut(type, (uint64_t)key_of(type, (uint64_t)r.lo)),
		.max_bits = cut(type, (uint64_t)key_of(type, (uint64_t)r.hi)),
	};
}

int summary_compare(enum summary_type type, uint64_t a_bits, uint64_t b_bits)
{
	int64_t a, b;

	if (types[type].form == FORM_FLOAT) {
		a_bits = a_bits == sign_bit(type) ? 0 : a_bits;
		b_bits = b_bits == sign_bit(type) ? 0 : b_bits;
	}
	a = key_of(type, a_bits);
	b = key_of(type, b_bits);
	return (a > b) - (a < b);
}

const char *summary_type_name(enum summary_type type)
{
	return type < SUMMARY_NTYPES ? types[type].name : "";
}

/* The value of a finite f16; the bits of its infinity would give 65536. */
static double f16_value(uint64_t magnitude)
{
	int exponent = (int)(magnitude >> 10);
	double fraction = (double)(magnitude & 0x3ff);

	return exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
}

/* Does the text, read back and rounded to the type, give the bits? */
static bool f16_text_tells(uint64_t bits, const char *text)
{
	uint64_t magnitude = bits & 0x7fff;
	double v = fabs(strtod(text, NULL)), exact = f16_value(magnitude);
	double below = magnitude ? f16_value(magnitude - 1) : 0, above = f16_value(magnitude + 1);

	return v >= exact ? v - exact < above - v : exact - v < v - below;
}

static bool text_tells(enum summary_type type, uint64_t bits, const char *text)
{
	uint64_t got = 0;
	double d;
	float f;

	if (type == SUMMARY_F16)
		return f16_text_tells(bits, text);
	if (type == SUMMARY_F32) {
		f = strtof(text, NULL);
		memcpy(&got, &f, sizeof(f));
	} else {
		d = strtod(text, NULL);
		memcpy(&got, &d, sizeof(d));
	}
	return got == bits;
}

static void float_text(enum summary_type type, uint64_t bits, char out[40])
{
	uint64_t magnitude = bits & ~sign_bit(type);
	uint32_t low = (uint32_t)bits;
	double v;
	float f;

	if (magnitude >= types[type].inf) {
		strcpy(out, magnitude > types[type].inf ? "nan" : bits == magnitude ? "inf" : "-inf");
		return;
	}
	if (type == SUMMARY_F64) {
		memcpy(&v, &bits, sizeof(v));
	} else if (type == SUMMARY_F32) {
		memcpy(&f, &low, sizeof(f));
		v = f;
	} else {
		v = bits == magnitude ? f16_value(magnitude) : -f16_value(magnitude);
	}
	for (int digits = 1; digits <= 17; digits++) {
		snprintf(out, 40, "%.*g", digits, v);
		if (text_tells(type, bits, out))
			break;
	}
}

void summary_text(enum summary_type type, uint64_t bits, char out[40])
{
	if (type == SUMMARY_NONE || type >= SUMMARY_NTYPES)
		*out = 0;
	else if (types[type].form == FORM_FLOAT)
		float_text(type, bits, out);
	else if (types[type].form == FORM_SIGNED)
		snprintf(out, 40, "%" PRId64, sign_extend(type, bits));
	else
		snprintf(out, 40, "%" PRIu64, bits);
}
