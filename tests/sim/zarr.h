/*
 * A reader of Zarr: views of arrays of one dimension, read as their metadata say, and compared with what was written. It shares no code
 * with what lays them out.
 */
#ifndef SPILLFS_SIM_ZARR_H
#define SPILLFS_SIM_ZARR_H

#include "model.h"
#include "tree/tree.h"

/* Can this version (2 or 3) show the type of the array? */
bool zarr_shows(unsigned version, const struct content *want);
/* 0, or the error of a call; what differs from the whole elements is a failure. */
int zarr_compare(struct tree *t, unsigned version, const char *path, const struct content *want);

#endif
