/*
 * Layered arrays: fixed logical blocks, each stored as a frame of some layer; newest layer wins.
 */
#ifndef SPILLFS_ARRAY_LAYERED_H
#define SPILLFS_ARRAY_LAYERED_H

#include "array/array.h"

struct state;
struct spillfs_blocks;

extern const struct array_ops layered_ops;

/* An array as it is in a past state, which outlives it, to be read only. Closed by array_close. */
int layered_open_state(struct arrays *home, const struct facts *row, const struct array_params *params, struct state *state,
		       struct array **out);

/* Where the blocks of a layered array are, from `first` on (spillfs.h). */
void layered_blocks(struct array *a, uint64_t first, struct spillfs_blocks *out);

#endif
