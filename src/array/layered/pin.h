/*
 * Pinned arrays: what a layered array is now, to be read later whatever has been written to it since. The frames stay
 * where they are; a pin holds a copy of their places, and their layers.
 */
#ifndef SPILLFS_ARRAY_LAYERED_PIN_H
#define SPILLFS_ARRAY_LAYERED_PIN_H

#include "array/array.h"
#include "array/blockmap.h"

/* An array that reads in [off, off + len) as `a`, which is flushed and locked shared, does now; elsewhere undefined.
 * Closed by array_close; needs no lock. -EOPNOTSUPP: the array is of another kind. */
int pin_array(struct array *a, uint64_t off, uint64_t len, struct array **out);
/* The place of a block of a pinned array; false: it is all zeros. */
bool pin_block(struct array *pin, uint64_t block, struct block_ref *out);
/* The first block at or behind `from` of which something is stored; false: there is none. */
bool pin_next(struct array *pin, uint64_t from, uint64_t *out);
/* Lends a prefix of `len` bytes of the block's frame, as stored, from byte `skip` of it on. Inside the frame only. */
int pin_lend_frame(struct array *pin, uint64_t block, uint64_t skip, size_t len, struct lease *out);

#endif
