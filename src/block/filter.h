/*
 * Filters: what is done to the elements of a block before compression, undone bit for bit.
 *
 * A filter is a chain: a set of steps, taken in the order of the enum. Its number is stored with each block
 * (layer_block.filter); docs/FORMAT.md says what each step makes. What comes out is never longer than the block, and zeros fill it
 * up to the block's length: so whatever filter a block has, its frame decodes to as many bytes as the block has.
 *
 * Scaling turns decimals into integers: a value x becomes k where k / 10^e has the same bits as x, which is verified for each value.
 * Those for which there is no such k (-0.0, NaN, infinity, more digits) are exceptions, and stored as they are behind the integers.
 * Division is exact for all decimals that a number of this type has, where multiplication by 10^-e is not.
 *
 * Sources: decimal scaling with exceptions: A. Afroozeh, L. Kuffo, P. Boncz, "ALP: Adaptive Lossless floating-Point Compression",
 * SIGMOD 2024 (which multiplies twice, and has two exponents). Frame-of-reference packing in groups of 1,024, lane by lane:
 * A. Afroozeh, P. Boncz, "The FastLanes Compression Layout", VLDB 2023. Choice by sample (codec.c): M. Kuschewski et al.,
 * "BtrBlocks", SIGMOD 2023.
 *
 * Pure functions, thread-safe; nothing is allocated.
 */
#ifndef SPILLFS_BLOCK_FILTER_H
#define SPILLFS_BLOCK_FILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "block/record.h"

/* Stored in layer files: the numbers are part of the format. */
enum filter_step {
	FILTER_NONE = 0,
	FILTER_SCALE = 4,   /* floats to integers of 1, 2, 4 or 8 bytes, the fewest that hold all */
	FILTER_DELTA = 2,   /* each integer but the first less the one before, modulo their width */
	FILTER_ZIGZAG = 16, /* 0, -1, 1, -2 ... to 0, 1, 2, 3 ...; behind DELTA only */
	FILTER_SHUFFLE = 1, /* shuffle.h; the last, and not with PACK */
	FILTER_PACK = 8,    /* 1,024 integers at a time: the smallest, and the others as so many bits above it */
	FILTER_RECORD = 32, /* record.h: each field its own chain. With no other step, and not for filter_apply */
};
#define FILTER_DELTAS (FILTER_DELTA | FILTER_ZIGZAG)

struct filter {
	uint8_t steps;      /* enum filter_step */
	uint8_t elem_bytes; /* of an element: 2 to 16; with other steps than SHUFFLE 1, 2, 4 or 8; with SCALE 4 (f32) or 8 (f64); RECORD: codes */
	uint8_t exponent;   /* SCALE: e. Not needed to undo it */
	struct record record; /* RECORD: the chains of the fields */
};

/* Is there a filter of these steps? One of a later release is not known. */
bool filter_known(unsigned steps);
/* Can elements of so many bytes go through it? FILTER_NONE is for all, FILTER_RECORD for none. */
bool filter_fits(unsigned steps, uint32_t elem_bytes);
/* "none", or the names of the steps in order: "scale+delta+pack"; the number of one that is not known. */
#define FILTER_TEXT_MAX 40
void filter_text(unsigned steps, char out[FILTER_TEXT_MAX]);
/* The steps of a text of filter_text, but of a number. -EINVAL: there is no such filter. */
int filter_parse(const char *text, uint8_t *steps_out);

/* The least e with which SCALE fits nearly all values of a sample of n bytes, or else that which fits the most: floats of elem_bytes 4 or 8,
 * aligned to 8. False: none fits enough. */
bool filter_find_exponent(const void *sample, size_t n, uint32_t elem_bytes, uint8_t *out);
/* Filters n bytes of `in` into `out` and zeros what is behind *used_out up to n. All are of n bytes, `in` and scratch, which SCALE uses, aligned to 8.
 * -ERANGE: too many exceptions, or it would be longer than n. */
int filter_apply(const struct filter *f, const void *in, size_t n, void *scratch, void *out, size_t *used_out);
/* The n bytes of `in` unfiltered; out is aligned to 8. -EUCLEAN: it is none, or was not made by filter_apply. Reads nothing behind in + n and writes
 * nothing behind out + n whatever `in` holds. */
int filter_undo(unsigned steps, uint32_t elem_bytes, const void *in, size_t n, void *out);

#endif
