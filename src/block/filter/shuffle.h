/*
 * The byte shuffle (the "shuffle" of Blosc and numcodecs, Parquet's BYTE_STREAM_SPLIT): byte k of element i goes to plane k,
 * position i; a tail shorter than one element follows as it is.
 */
#ifndef SPILLFS_BLOCK_FILTER_SHUFFLE_H
#define SPILLFS_BLOCK_FILTER_SHUFFLE_H

#include <stddef.h>
#include <stdint.h>

/* n bytes of `in` to `out`, which do not overlap. elem_bytes below 2: as they are. */
void shuffle_apply(const void *in, void *out, size_t n, uint32_t elem_bytes);
void shuffle_undo(const void *in, void *out, size_t n, uint32_t elem_bytes);
/* The same of `count` elements, which are [first, first + count) of the nelems that the planes are of. */
void shuffle_apply_part(const void *elems, size_t count, void *planes, size_t nelems, size_t first, uint32_t elem_bytes);
void shuffle_undo_part(const void *planes, size_t nelems, size_t first, void *elems, size_t count, uint32_t elem_bytes);

#endif
