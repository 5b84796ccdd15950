/*
 * The block map of one layered array: block number to frame, sparse. Pure data structure; the caller holds the array's
 * lock (RANK_ARRAY).
 *
 * Memory: 64 bytes for each block between the first and the last that are stored of 256 neighbours, at most doubled; 16 bytes for
 * each 256 blocks where any are stored of 16384 neighbours, and for each 16384 blocks of the length. An array of one block takes 96
 * bytes, a block of the highest number 8 MiB, of which a page is touched.
 */
#ifndef SPILLFS_ARRAY_BLOCKMAP_H
#define SPILLFS_ARRAY_BLOCKMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "block/ref.h"

struct dirty_block;

struct blockmap_entry {
	struct block_ref ref; /* changed: since the last stage, it stands in the array's list of changes */
	struct dirty_block *dirty; /* newer than ref */
};

struct blockmap_group;

struct blockmap {
	struct blockmap_group *groups;
	size_t ngroups, npages, nentries;
};

void blockmap_init(struct blockmap *m);
void blockmap_fini(struct blockmap *m);
/* Memory that the map holds. */
size_t blockmap_bytes(const struct blockmap *m);
/* NULL where nothing was ever stored. The entry stays where it is until blockmap_need makes another one. */
struct blockmap_entry *blockmap_find(const struct blockmap *m, uint64_t block);
/* Makes the entry. -ENOMEM, -EFBIG. */
int blockmap_need(struct blockmap *m, uint64_t block, struct blockmap_entry **out);
/* The first block at or behind `from` that has an entry, which may be empty; false if there is none. */
bool blockmap_next(const struct blockmap *m, uint64_t from, uint64_t *block_out, struct blockmap_entry **out);

#endif
