/*
 * Layered arrays: fixed logical blocks, each stored as a frame of some layer; newest layer wins.
 */
#ifndef SPILLFS_ARRAY_LAYERED_H
#define SPILLFS_ARRAY_LAYERED_H

#include "array/array.h"

struct spillfs_blocks;

extern const struct array_ops layered_ops;

/* Where the blocks of a layered array are, from `first` on (spillfs.h). */
void layered_blocks(struct array *a, uint64_t first, struct spillfs_blocks *out);

#endif
