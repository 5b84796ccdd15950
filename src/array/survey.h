/*
 * Surveys: the bytes of a bucket or column are read to be summarised, stretch by stretch, and the summaries are remembered
 * (array/summaries.h).
 *
 * The inode is held, shared or exclusively. Blocks: reads.
 */
#ifndef SPILLFS_ARRAY_SURVEY_H
#define SPILLFS_ARRAY_SURVEY_H

#include <stdint.h>

#include "block/summary.h"

struct array;

/* Somebody has read [off, off + len): the stretches whose last whole element is in it are summarised, if they were not. What cannot be
 * read is left out. */
void survey_passed(struct array *a, uint64_t off, uint64_t len);

struct survey_stretch {
	uint64_t number;
	uint32_t len_bytes;
	struct summary sum; /* NONE: no element, or elements without an order */
};
/* The first stretch from `from` on that is no hole. -ENOENT: there is none; errors of reading. */
int survey_next(struct array *a, uint64_t from, struct survey_stretch *out);

#endif
