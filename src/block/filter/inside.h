/*
 * Shared by the files of the filters, from the ground up: shuffle.c, ints.c (integers, once for each width), scale.c (floats to
 * integers), filter.c (chains). For these only.
 */
#ifndef SPILLFS_BLOCK_FILTER_INSIDE_H
#define SPILLFS_BLOCK_FILTER_INSIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Integers go through the steps so many at a time, in the first level of the cache. */
#define FILTER_GROUP 1024u
#define FILTER_EXPONENT_MAX 18u
/* So many exceptions in all, and one of so many values. */
#define FILTER_EXCEPTIONS_MAX 1024u
#define FILTER_EXCEPTIONS_PART 64u

/* Functions of a group of integers of one width. v: FILTER_GROUP of them, aligned to 8; n: how many of them count. */
struct ints {
	void (*delta)(void *v, size_t n, uint64_t *before); /* *before: the last one of the group before, in and out */
	void (*undelta)(void *v, size_t n, uint64_t *before);
	void (*zigzag)(void *v);
	void (*unzigzag)(void *v);
	unsigned (*measure)(const void *v, uint64_t *least_out); /* the bits that each needs above the smallest */
	void (*pack)(const void *v, uint64_t least, unsigned bits, void *out); /* 128 * bits bytes */
	void (*unpack)(const void *in, uint64_t least, unsigned bits, void *v);
	void (*narrow8)(const void *wide, void *v); /* from integers of 8 bytes, which fit */
	void (*narrow4)(const void *wide, void *v); /* of 4 bytes; none for 8 */
	void (*to_f64)(const void *v, double divisor, void *out);
	void (*to_f32)(const void *v, double divisor, void *out);
};

/* For integers of 1, 2, 4 or 8 bytes; else NULL. */
const struct ints *ints_of(uint32_t int_bytes);

/* scale.c. Floats as integers of their own width. */
struct scaled {
	uint8_t int_bytes; /* the least that holds all */
	uint32_t nexceptions;
	uint32_t at[FILTER_EXCEPTIONS_MAX]; /* rising */
};
double scale_power(unsigned exponent); /* 10^exponent, up to FILTER_EXPONENT_MAX */
/* nelems floats of elem_bytes 4 or 8 to k, of the same width; an exception is as the value before it. -ERANGE: too many. */
int scale_apply(const void *in, size_t nelems, uint32_t elem_bytes, unsigned exponent, void *k, struct scaled *out);

#endif
