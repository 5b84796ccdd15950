/*
 * Integers in groups: differences, zigzag, packing (width.h), once for each width.
 *
 * Invariants: (1) each function's opposite undoes it, for all values; (2) a function touches one group and no more.
 */
#include <string.h>

#include "block/filter/inside.h"

/* Else gcc leaves the loops of conversions alone. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O3")
#endif

#define BITS 8
#include "block/filter/width.h"
#define BITS 16
#include "block/filter/width.h"
#define BITS 32
#include "block/filter/width.h"
#define BITS 64
#include "block/filter/width.h"

const struct ints *ints_of(uint32_t int_bytes)
{
	switch (int_bytes) {
	case 1: return &ints_8;
	case 2: return &ints_16;
	case 4: return &ints_32;
	case 8: return &ints_64;
	default: return NULL;
	}
}
