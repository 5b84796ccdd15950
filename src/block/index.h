/*
 * The records of a layer's index in memory: built while a layer is written, parsed when it is read,
 * encoded and decoded for its segments and its final index. No I/O, no locks.
 *
 * Invariants: (1) records are sorted by ino, one each; (2) block entries of a record are sorted, one
 * for each block; (3) tombstones are sorted and disjoint and apply before the entries.
 */
#ifndef SPILLFS_BLOCK_INDEX_H
#define SPILLFS_BLOCK_INDEX_H

#include <stddef.h>
#include <stdint.h>

#include "block/format.h"

struct index_record {
	uint64_t ino;
	uint16_t type; /* enum layer_record_type */
	uint64_t size_bytes, block_bytes;
	int64_t mtime_ns;
	uint32_t mode, uid, gid;
	char *path, *dtype, *shape; /* NUL-terminated, owned; never NULL in a parsed record */
	struct layer_block *blocks;
	size_t nblocks, cap_blocks;
	struct layer_tomb *tombs;
	size_t ntombs, cap_tombs;
};

struct index {
	struct index_record **v; /* sorted by ino */
	size_t n, cap;
};

void index_init(struct index *ix);
void index_fini(struct index *ix);

/* The record of ino, or NULL. */
struct index_record *index_find(const struct index *ix, uint64_t ino);
/* The record of ino, made empty (type ARRAY, strings "") if missing. -ENOMEM. */
int index_add(struct index *ix, uint64_t ino, struct index_record **out);
/* Replaces the text fields; each may be NULL for "". -ENOMEM, -ENAMETOOLONG (over 65535). */
int index_record_set_names(struct index_record *r, const char *path, const char *dtype, const char *shape);
/* Adds or replaces the entry of b->block. -ENOMEM. */
int index_record_put(struct index_record *r, const struct layer_block *b);
/* Drops the entries in [first, first + count) and adds the range to the tombstones, merged. -ENOMEM. */
int index_record_tomb(struct index_record *r, uint64_t first, uint64_t count);
/* Turns the record into GONE: no entries, no tombstones. */
void index_record_gone(struct index_record *r);
/* Applies the newer index on top of ix, so that ix equals both replayed in order: newer facts and
 * names win, newer tombstones drop older entries, newer entries replace, GONE replaces all. -ENOMEM (ix undefined). */
int index_merge(struct index *ix, const struct index *newer);

/* The bytes of head + records, xxh64 set. Fields of *head other than magic, version, nrecords,
 * records_bytes, raw_bytes (sum of raw_len) and xxh64 are the caller's. *out is malloc'd. */
int index_encode(const struct index *ix, struct layer_index_head *head, void **out, size_t *len_out);
/* Parses n bytes written by index_encode. -EUCLEAN on any damage: checksum, counts, order, overflow, lengths (not logged), -ENOMEM. Safe on
 * hostile input. */
int index_decode(const void *bytes, size_t n, struct layer_index_head *head_out, struct index *ix_out);

#endif
