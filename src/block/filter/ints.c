/*
 * Integers in groups: differences, zigzag, packing (width.h), once for each width.
 *
 * Invariants: (1) each function's opposite undoes it, for all values; (2) a function touches one group and no more; (3) all processors get
 * the same bits: the functions for AVX2 are the same C, and division and conversions are exact or rounded alike (there is no FMA in AVX2).
 */
#include <string.h>

#include "block/filter/inside.h"

/* Else gcc leaves the loops of conversions alone. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O3")
#endif

#define FOR
#define FOR_NAME
#define BITS 8
#include "block/filter/width.h"
#define BITS 16
#include "block/filter/width.h"
#define BITS 32
#include "block/filter/width.h"
#define BITS 64
#include "block/filter/width.h"

#if defined(__SSE2__) && !defined(SPILLFS_NO_SIMD)
/* The same for vectors of twice the length. */
#undef FOR
#undef FOR_NAME
#define FOR __attribute__((target("avx2")))
#define FOR_NAME _avx2
#define BITS 8
#include "block/filter/width.h"
#define BITS 16
#include "block/filter/width.h"
#define BITS 32
#include "block/filter/width.h"
#define BITS 64
#include "block/filter/width.h"

static bool has_avx2(void)
{
	return __builtin_cpu_supports("avx2");
}
#else
#define ints_8_avx2 ints_8
#define ints_16_avx2 ints_16
#define ints_32_avx2 ints_32
#define ints_64_avx2 ints_64

static bool has_avx2(void)
{
	return false;
}
#endif

const struct ints *ints_of(uint32_t int_bytes)
{
	bool wide = has_avx2();

	switch (int_bytes) {
	case 1: return wide ? &ints_8_avx2 : &ints_8;
	case 2: return wide ? &ints_16_avx2 : &ints_16;
	case 4: return wide ? &ints_32_avx2 : &ints_32;
	case 8: return wide ? &ints_64_avx2 : &ints_64;
	default: return NULL;
	}
}
