/*
 * The free ranges of one physical file: a treap ordered by offset in which every node knows the
 * longest range below it, so that a first fit is found in O(log n). No locks, no I/O.
 */
#ifndef SPILLFS_BLOCK_SPACE_H
#define SPILLFS_BLOCK_SPACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct space_node;

struct space {
	struct space_node *root;
	uint64_t free_bytes; /* sum of all ranges */
	size_t nranges;
	uint32_t seed;
};

void space_init(struct space *s);
void space_fini(struct space *s);

/* Adds a range, merged with its neighbours. -ENOMEM, -EEXIST when it overlaps a free range. */
int space_add(struct space *s, uint64_t off_bytes, uint64_t len_bytes);
/* Takes the first `want` bytes that are free in one piece, or else as much as the longest range
 * has, if that is `min` or more. False when there is no such range. Never allocates. */
bool space_take(struct space *s, uint64_t want, uint64_t min, uint64_t *off_out, uint64_t *len_out);
/* Takes this range if it is free and both its neighbours are not. Never allocates. */
bool space_remove(struct space *s, uint64_t off_bytes, uint64_t len_bytes);
/* Length of the longest range, 0 if there is none. */
uint64_t space_longest(const struct space *s);
/* Invariants: ranges sorted, not empty, disjoint and not adjacent, multiples of align, below limit;
 * the sums are right. 0 or -EUCLEAN. */
int space_check(const struct space *s, uint64_t align, uint64_t limit);

#endif
