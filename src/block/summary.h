/*
 * A block in short: smallest and largest element and the numbers of NaNs and zeros, kept in the layer's
 * index so that readers can skip blocks.
 *
 * Bits are those of the element type, zero-extended to 64. NaNs are in neither bound; -0.0 counts as
 * equal to 0.0 (min is -0.0 and max is 0.0 if both occur, as Parquet asks). Where no element counts (only
 * NaNs, or none), min_bits > max_bits in the type's order: min is +inf and max is -inf. -0.0 is a zero.
 *
 * Pure functions, thread-safe.
 */
#ifndef SPILLFS_BLOCK_SUMMARY_H
#define SPILLFS_BLOCK_SUMMARY_H

#include <stddef.h>
#include <stdint.h>

/* Stored in layer files: the numbers are part of the format. */
enum summary_type {
	SUMMARY_NONE = 0,
	SUMMARY_I8 = 1, SUMMARY_I16 = 2, SUMMARY_I32 = 3, SUMMARY_I64 = 4,
	SUMMARY_U8 = 5, SUMMARY_U16 = 6, SUMMARY_U32 = 7, SUMMARY_U64 = 8,
	SUMMARY_F16 = 9, SUMMARY_F32 = 10, SUMMARY_F64 = 11,
	SUMMARY_BOOL = 12, /* as U8 */
	SUMMARY_NTYPES
};

#define SUMMARY_UNCOUNTED UINT32_MAX
struct summary {
	uint8_t type; /* enum summary_type; NONE: the rest is 0 */
	uint32_t nan_count;
	uint32_t zero_count; /* SUMMARY_UNCOUNTED: nobody has counted them (blocks of older stores) */
	uint64_t min_bits, max_bits;
};

/* Summarises the whole elements in n bytes, aligned to 8; bytes behind the last one do not count. NONE for type NONE and for
 * n below one element. */
void summary_of(enum summary_type type, const void *p, size_t n, struct summary *out);
/* -1, 0, 1 in the type's order; not for NaNs. */
int summary_compare(enum summary_type type, uint64_t a_bits, uint64_t b_bits);
/* The name of the element type ("f64"), and the value as text with as many digits as tell it apart. */
const char *summary_type_name(enum summary_type type);
void summary_text(enum summary_type type, uint64_t bits, char out[40]);

#endif
