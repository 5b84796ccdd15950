/*
 * The byte shuffle (the "shuffle" of Blosc and numcodecs, Parquet's BYTE_STREAM_SPLIT): byte k of element i goes to plane k,
 * position i; a tail shorter than one element follows as it is.
 */
#ifndef SPILLFS_BLOCK_SHUFFLE_H
#define SPILLFS_BLOCK_SHUFFLE_H

#include <stddef.h>
#include <stdint.h>

/* n bytes of `in` to `out`, which do not overlap. elem_bytes below 2: as they are. */
void shuffle_apply(const void *in, void *out, size_t n, uint32_t elem_bytes);
void shuffle_undo(const void *in, void *out, size_t n, uint32_t elem_bytes);

#endif
