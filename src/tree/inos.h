/*
 * A list of inode numbers.
 */
#ifndef SPILLFS_TREE_INOS_H
#define SPILLFS_TREE_INOS_H

#include <stddef.h>
#include <stdint.h>

struct tree_inos {
	uint64_t *v; /* malloc'd */
	size_t n, cap;
};

/* -ENOMEM. */
int inos_add(struct tree_inos *s, uint64_t ino);

#endif
