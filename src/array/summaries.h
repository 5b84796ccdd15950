/*
 * Summaries of a bucket or column: what is remembered of each stretch of SUMMARIES_STRETCH bytes. array/survey.h makes them;
 * array.c forgets those that a change touches before it makes the change. (A layered array has the summaries of its blocks in the
 * index.)
 *
 * A shared file is written past the array. While that may happen (summaries_close) nothing is remembered.
 *
 * They are memory of the array. When that is closed they are parked until it is opened again, because the kernel knows no name of
 * an array that only views show, and nothing changes what is not open. Over the arrays' share of the account nothing more is
 * remembered, and what is parked goes.
 *
 * Any thread may ask and remember; with the inode held at least shared, so that nothing is remembered that has changed meanwhile.
 * Forgetting and closing: held exclusively.
 */
#ifndef SPILLFS_ARRAY_SUMMARIES_H
#define SPILLFS_ARRAY_SUMMARIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "block/summary.h"

#define SUMMARIES_STRETCH (256u << 10)

struct array;
struct arrays;
struct summaries;

/* Is there a use in making another one: is it a bucket or column with an element type, with room to remember? */
bool summaries_wanted(const struct array *a);
/* False: it is not known, or is of another type or another number of whole elements. Needs no lock of the inode. */
bool summaries_find(struct array *a, enum summary_type type, uint64_t stretch, uint32_t nelems, struct summary *out);
/* Nothing, if it cannot be. */
void summaries_remember(struct array *a, uint64_t stretch, uint32_t nelems, const struct summary *s);
/* The bytes [off, end) may change, or how many of them there are. */
void summaries_forget(struct array *a, uint64_t off, uint64_t end);
/* closed: others may write from here on; false: no more. */
void summaries_close(struct array *a, bool closed);
size_t summaries_memory(struct array *a);

/* The place of an array that is closed: what is remembered holds for it. */
struct summaries_parked {
	uint64_t ino, file_id, size_bytes;
	struct summaries *summaries;
	size_t bytes;
};
struct summaries_park {
	struct summaries_parked *v; /* sorted by ino; under the lock of struct arrays */
	size_t n, cap;
};
/* Takes p->summaries over. */
void summaries_park(struct arrays *h, const struct summaries_parked *p);
/* The array was just opened. */
void summaries_unpark(struct array *a);
/* Gives up all that is parked. */
void summaries_drop_parked(struct arrays *h);

#endif
