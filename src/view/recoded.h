/*
 * Blocks of a pinned layered array, compressed again in another filter than they are stored in, where that is cheap and saves enough.
 *
 * The same block gives the same frame each time. It is kept for a moment in the cache of decoded blocks, as one that is read in passing:
 * whoever asks for the size of a view opens it next.
 */
#ifndef SPILLFS_VIEW_RECODED_H
#define SPILLFS_VIEW_RECODED_H

#include <stdbool.h>
#include <stdint.h>

#include "block/cache.h"

struct array;

struct recoded {
	const void *frame; /* zstd, with content size and checksum */
	uint32_t len_bytes;
	struct cache *cache; /* the rest is recoded_put's */
	struct cache_entry *entry;
};

/* The frame of a whole block that has one of its own, of elements that have gone through `filter`. False: there is none, or it cannot be read,
 * or the frame would be hardly shorter than the block. Blocks: decodes and encodes. */
bool recoded_get(struct array *pin, uint64_t block, uint8_t filter, uint32_t elem_bytes, struct recoded *out);
void recoded_put(struct recoded *r);

#endif
