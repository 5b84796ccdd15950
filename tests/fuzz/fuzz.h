/*
 * Shared by the fuzz targets: the entry, and taking an input apart. Their checks are those of unit.h: one that fails ends the
 * process. docs/CONTRIBUTING.md says how to run one and how to add one.
 */
#ifndef SPILLFS_TESTS_FUZZ_H
#define SPILLFS_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/unit.h"
#include "util/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Damage is expected. */
static __attribute__((constructor)) void fuzz_log_little(void)
{
	log_init(LOG_TO_STDERR, LOG_LEVEL_ERROR);
}

/* What of an input is left. */
struct fuzz_input {
	const uint8_t *p;
	size_t n;
};

/* A little-endian number of so many bytes; behind the end are zeros. */
static inline uint64_t fuzz_number(struct fuzz_input *in, size_t nbytes)
{
	uint64_t v = 0;

	for (size_t i = 0; i < nbytes && in->n; i++, in->p++, in->n--)
		v |= (uint64_t)*in->p << (8 * i);
	return v;
}

/* A copy of n bytes in a block of exactly that size, so that a sanitizer sees the first byte too many. free() is the caller's. */
static inline void *fuzz_copy(const void *p, size_t n)
{
	void *copy = malloc(n ? n : 1);

	CHECK(copy);
	if (n)
		memcpy(copy, p, n);
	return copy;
}

/* n bytes, or as many as are left, in such a block. */
static inline void *fuzz_bytes(struct fuzz_input *in, size_t n, size_t *n_out)
{
	void *copy;

	n = n < in->n ? n : in->n;
	copy = fuzz_copy(in->p, n);
	in->p += n;
	in->n -= n;
	*n_out = n;
	return copy;
}

/* The text up to a NUL, to `end`, which is passed over as well, or to what was the last byte. In such a block. */
static inline char *fuzz_text(struct fuzz_input *in, char end)
{
	size_t n = 0;
	char *text;

	while (n < in->n && in->p[n] && in->p[n] != (uint8_t)end)
		n++;
	text = malloc(n + 1);
	CHECK(text);
	if (n)
		memcpy(text, in->p, n);
	text[n] = '\0';
	n += n < in->n;
	in->p += n;
	in->n -= n;
	return text;
}

#endif
