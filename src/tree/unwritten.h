/*
 * Files of which the kernel may hold changed pages that nobody here has seen: a mapping leaves such pages and, with the kernel's
 * writeback cache, each write(2). Whatever shows the bytes of one by another name, or is to hold those of all, has them written
 * back first.
 */
#ifndef SPILLFS_TREE_UNWRITTEN_H
#define SPILLFS_TREE_UNWRITTEN_H

#include "tree/inos.h"

struct tree;

/* The files whose pages belong to what ino shows; for a table that means each of its columns. -ENOMEM. */
int tree_unwritten(struct tree *t, uint64_t ino, struct tree_inos *out);
/* All there are. -ENOMEM. */
int tree_unwritten_all(struct tree *t, struct tree_inos *out);

#endif
