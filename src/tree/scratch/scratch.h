/*
 * scratch/: a tree of its own over a store that nothing makes durable. Its operations are those of the live tree.
 */
#ifndef SPILLFS_TREE_SCRATCH_H
#define SPILLFS_TREE_SCRATCH_H

#include "tree/realm.h"

#define SCRATCH_NAME "scratch"

extern const struct realm_ops scratch_realm;

#endif
