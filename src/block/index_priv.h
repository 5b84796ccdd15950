/*
 * What the parts of the index share: index.c (records), index_record.c (one record), index_names.c (names
 * and chain), index_code.c (bytes). For these only.
 */
#ifndef SPILLFS_BLOCK_INDEX_PRIV_H
#define SPILLFS_BLOCK_INDEX_PRIV_H

#include "block/index.h"

/* Up to this many newer ones are put in one by one, more are merged in one pass. */
#define INDEX_MERGE_FEW 32
#define INDEX_NAME_BYTES_MAX 255

/* v with room for n elements in all, doubled; NULL (v is unchanged) when memory is out. */
void *index_vec_grow(void *v, size_t *cap, size_t n, size_t size);

int index_record_new(uint64_t ino, struct index_record **out);
void index_record_free(struct index_record *r);
int index_record_merge(struct index_record *r, const struct index_record *newer);
void index_record_flatten(struct index_record *r);
bool index_record_xattrs_valid(const struct index_record *r);

void index_names_free(struct index *ix);
int index_names_merge(struct index *ix, const struct index *newer);
void index_names_flatten(struct index *ix);
/* May a name of len bytes stand in an index? */
bool index_name_valid(const char *name, size_t len);
/* The order of invariant (4) of index.h. */
int index_name_compare(const struct index_name *a, const struct index_name *b);
/* 0, -EINVAL: a number is 0 or stands there twice, -ENOMEM. */
int index_chain_check(const uint64_t *chain, size_t n);

#endif
