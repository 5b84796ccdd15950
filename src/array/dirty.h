/*
 * Dirty blocks of layered arrays: whole decoded blocks in memory that are not yet in a layer, within a
 * budget shared by all arrays. A full budget makes writers wait for the work pool, which encodes the
 * blocks that were written longest ago; the pool never waits for a writer.
 *
 * A block is DIRTY (only its writer, who holds the inode exclusively, changes it) or FLUSHING (nobody
 * changes it; readers may read). A failed flush makes it DIRTY again: nothing is lost, the error goes to
 * whoever waits.
 */
#ifndef SPILLFS_ARRAY_DIRTY_H
#define SPILLFS_ARRAY_DIRTY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "array/blockmap.h"
#include "block/codec.h"
#include "util/work.h"

struct array;
struct dirty;
struct store;

struct dirty_block {
	struct work work;
	struct array *array;
	uint64_t block;
	unsigned char *data;  /* params.block_bytes of them */
	uint32_t cap_bytes;   /* size that data was allocated with */
	uint32_t len_bytes;   /* valid bytes; what follows is undefined and means zeros */
	struct codec_params codec; /* as of the last write */
	unsigned refs;        /* readers, plus one while it is dirty; RANK_BUDGET */
	bool flushing;
	struct dirty *home;
	struct dirty_block *prev, *next; /* DIRTY blocks, oldest write first */
	/* While flushing. */
	struct dirty_block *line_next;
	bool encoded;
	int encode_err;
	void *frame; /* NULL: all zeros */
	size_t frame_cap;
	struct block_ref ref;
};

int dirty_new(struct store *s, struct dirty **out);
void dirty_free(struct dirty *d);

/* Makes room for `bytes` and allocates a block (len 0, one reference). Blocks. -ENOSPC, -ENOMEM, or the
 * error of a flush that had to make room. */
int dirty_make(struct dirty *d, struct array *a, uint64_t block, struct dirty_block **out);
/* The block was written to: it goes to the queue's young end. done: its writer has filled it, it should be
 * encoded soon. The caller must not use b afterwards. */
void dirty_touch(struct dirty_block *b, bool done);
/* Waits until b is not being flushed and takes it out of the queue, so that nobody flushes it while it is
 * changed: dirty_touch puts it back. False if it is no longer dirty (look it up again). The caller holds a
 * reference taken by dirty_get. */
bool dirty_claim(struct dirty_block *b);
/* Drops a DIRTY or never queued block. */
void dirty_discard(struct dirty_block *b);
void dirty_get(struct dirty_block *b);
void dirty_put(struct dirty_block *b);

/* Encodes all dirty blocks (of one array) and waits. 0, or the error of one that stayed dirty. */
int dirty_flush_array(struct dirty *d, struct array *a);
int dirty_flush_all(struct dirty *d);
/* Has the array dirty or flushing blocks? */
bool dirty_has(struct array *a);

#endif
