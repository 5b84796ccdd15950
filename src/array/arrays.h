/*
 * All arrays of a mounted store: what they share, and how one is opened, of whatever kind.
 */
#ifndef SPILLFS_ARRAY_ARRAYS_H
#define SPILLFS_ARRAY_ARRAYS_H

#include <stdatomic.h>
#include <stdint.h>

#include "array/array.h"
#include "array/summaries.h"
#include "util/lock.h"

struct dirty;
struct store;

struct arrays {
	struct store *store;
	struct dirty *dirty;
	atomic_uint_fast64_t next_column; /* number of the next column file */
	struct lock lock;                 /* RANK_ARRAY: columns' files against the cuts that a commit runs; `parked` */
	struct summaries_park parked;     /* summaries of arrays that are closed */
};

/* Blocks: column files that no committed inode has are deleted. */
int arrays_new(struct store *s, struct arrays **out);
/* No array is open. */
void arrays_free(struct arrays *h);
/* Encodes dirty blocks of all arrays. Errors as a commit's flush. */
int arrays_flush(struct arrays *h);
/* -EINVAL: a kind that is not stored. Closed by array_close. */
int arrays_open(struct arrays *h, const struct facts *row, const struct array_params *params, struct array **out);

#endif
