/*
 * Growing vectors, and the search of sorted ones. A vector is n elements in an allocation with room for cap, as three fields or
 * variables of their owner's. Adding costs amortised O(1); the first allocation is exact, since most lists stay short.
 */
#ifndef SPILLFS_UTIL_VEC_H
#define SPILLFS_UTIL_VEC_H

#include <stddef.h>
#include <string.h>

/* Makes room for n elements: v points to the first (NULL with cap 0), cap is a size_t. -ENOMEM: nothing has changed. v may move. */
#define VEC_RESERVE(v, cap, n) vec_reserve(&(v), &(cap), (n), sizeof(*(v)))

/* list: the address of a pointer to elements of elem_bytes. */
int vec_reserve(void *list, size_t *cap, size_t n, size_t elem_bytes);

/* Puts an element at position `at` of n, for which there is room, and takes one away; those behind move. */
#define VEC_INSERT(v, n, at, ...)                                                     \
	do {                                                                          \
		size_t at_ = (at);                                                    \
                                                                                      \
		memmove(&(v)[at_ + 1], &(v)[at_], ((n) - at_) * sizeof(*(v)));        \
		(v)[at_] = __VA_ARGS__;                                               \
		(n)++;                                                                \
	} while (0)
#define VEC_REMOVE(v, n, at)                                                          \
	do {                                                                          \
		size_t at_ = (at);                                                    \
                                                                                      \
		(n)--;                                                                \
		memmove(&(v)[at_], &(v)[at_ + 1], ((n) - at_) * sizeof(*(v)));        \
	} while (0)

/* How many of n sorted elements are below what is looked for, which is the position of the first that is not. `below` says of
 * element i whether it is: VEC_LOWER_BOUND(i, n, v[i].key < key). It looks at the last element first, since most vectors are
 * filled in order. */
#define VEC_LOWER_BOUND(i, n, below)                                                  \
	({                                                                            \
		size_t from_ = 0, to_ = (n);                                          \
                                                                                      \
		for (size_t i = to_ - 1; from_ < to_; i = from_ + (to_ - from_) / 2) { \
			if (below)                                                    \
				from_ = i + 1;                                        \
			else                                                          \
				to_ = i;                                              \
		}                                                                     \
		from_;                                                                \
	})

#endif
