/*
 * The bytes of an index in memory: head and body.
 */
#ifndef SPILLFS_TESTS_UNIT_ENCODE_H
#define SPILLFS_TESTS_UNIT_ENCODE_H

#include "block/index.h"

/* Kind, layer and commit of *head are the caller's. *out is malloc'd. Errors as the writer's. */
int index_encode(const struct index *ix, struct layer_index_head *head, void **out, size_t *len_out);

#endif
