/*
 * The block map of one layered array: block number to frame, sparse. Pure data structure; the caller holds the array's
 * lock (RANK_ARRAY).
 *
 * Memory: 64 bytes for each block between the first and the last that are stored of 256 neighbours, at most doubled, and
 * 16 bytes for each 256 blocks of the length. An array of one block takes 80 bytes.
 */
#ifndef SPILLFS_ARRAY_BLOCKMAP_H
#define SPILLFS_ARRAY_BLOCKMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "block/index.h"

struct dirty_block;

/* Where a block is stored; frame_off 0: it is all zeros. */
struct block_ref {
	uint64_t frame_off;
	uint32_t layer;
	uint32_t frame_len, frame_raw;
	uint32_t raw_off, raw_len;
	uint8_t filter, elem_bytes;
	uint8_t changed;   /* since the last stage: it stands in the array's list of changes */
	/* enum summary_type of the fields below; 0: none. They are about the whole elements in raw_len bytes: zeros
	 * behind them, and an element that raw_len cuts, do not count. */
	uint8_t stat_type;
	uint32_t nan_count;
	uint64_t min_bits, max_bits;
};

/* Stored bytes that the block accounts for. */
static inline uint64_t block_ref_share(const struct block_ref *r)
{
	return r->frame_off ? index_share(r->frame_len, r->frame_raw, r->raw_len) : 0;
}

struct blockmap_entry {
	struct block_ref ref;
	struct dirty_block *dirty; /* newer than ref */
};

struct blockmap_page;

struct blockmap {
	struct blockmap_page *pages;
	size_t npages, nentries;
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
