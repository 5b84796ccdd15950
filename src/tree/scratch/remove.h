/*
 * Removing a directory with all that is in it, by the daemon itself.
 */
#ifndef SPILLFS_TREE_SCRATCH_REMOVE_H
#define SPILLFS_TREE_SCRATCH_REMOVE_H

#include <stdint.h>

struct tree;

/* t: a tree over a scratch store. The directory loses its name at once, and nothing can be made in it, or be moved into it or out of it, from
 * then on; then what is in it goes, at any depth. Files that somebody has open live until they are closed, and so do other names of a file. The
 * kernel is told. -ENOENT: it has no name any more; -EBUSY: it is the top. Blocks on I/O; any thread, with no lock held. */
int scratch_remove_dir(struct tree *t, uint64_t ino);

#endif
