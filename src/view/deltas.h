/*
 * Integers as Parquet's DELTA_BINARY_PACKED (parquet-format's Encodings.md), of a length that is known before the elements are read.
 *
 * Packed differences: the stored block (FILTER_DELTA | FILTER_PACK) has for each 1,024 elements the least difference and the bits of
 * the others above it. So has a Parquet block of 1,024, but its first value stands apart, and its groups begin one element later. So 31
 * of its 32 miniblocks have the bits of the stored group, and the last one, which ends in the next group, has all. Numbers that would
 * be as long as they are large are written at their greatest length.
 *
 * Ranges: the least and the greatest element are known. No two differences of elements of b bits above the least one are 2^(b + 1) apart, so
 * all miniblocks have b + 1 bits.
 */
#ifndef SPILLFS_VIEW_DELTAS_H
#define SPILLFS_VIEW_DELTAS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes that n elements of 4 or 8 bytes take, n >= 1, which are stored in a frame of frame_len bytes. False: packed differences have no frame
 * of that length. */
bool deltas_bytes(size_t n, uint32_t elem_bytes, size_t frame_len, size_t *out);
/* The n elements, which are aligned to 8, encoded. -EUCLEAN: they do not take out_bytes, so the frame was another. */
int deltas_encode(const void *elems, size_t n, uint32_t elem_bytes, void *out, size_t out_bytes);

/* The same of n elements from the least to the greatest (as block/summary.h has them). False: they would not have fewer bits than elements
 * have. */
bool deltas_range_bytes(size_t n, uint32_t elem_bytes, uint64_t min_bits, uint64_t max_bits, size_t *out);
int deltas_range_encode(const void *elems, size_t n, uint32_t elem_bytes, void *out, size_t out_bytes);

#endif
