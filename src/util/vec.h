/*
 * Growing vectors: n elements in an allocation with room for cap, as three fields or variables of their owner's. What is
 * added costs amortised O(1); the first allocation is exact, since most lists stay short.
 */
#ifndef SPILLFS_UTIL_VEC_H
#define SPILLFS_UTIL_VEC_H

#include <stddef.h>

/* Makes room for n elements: v points to the first (NULL with cap 0), cap is a size_t. -ENOMEM: nothing has changed. v may move. */
#define VEC_RESERVE(v, cap, n) vec_reserve(&(v), &(cap), (n), sizeof(*(v)))

/* list: the address of a pointer to elements of elem_bytes. */
int vec_reserve(void *list, size_t *cap, size_t n, size_t elem_bytes);

#endif
