/*
 * Dirty blocks of layered arrays: decoded blocks in memory that are not yet in a layer, within a budget
 * shared by all arrays. A full budget makes writers wait for the work pool, which encodes the blocks that
 * were written longest ago; the pool never waits for a writer. Small blocks, of whatever arrays, that are
 * flushed together share a frame: a pack.
 *
 * A block is DIRTY (only its writer, who holds the inode exclusively, changes it) or FLUSHING (nobody
 * changes it; readers may read). A failed flush makes it DIRTY again: nothing is lost, the error goes to
 * whoever waits.
 */
#ifndef SPILLFS_ARRAY_LAYERED_DIRTY_H
#define SPILLFS_ARRAY_LAYERED_DIRTY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "array/array.h"
#include "array/blockmap.h"
#include "block/codec.h"
#include "util/work.h"

struct dirty;
struct store;

/* A pack holds at most this many decoded bytes, of blocks no longer than the second. */
#define DIRTY_PACK_BYTES (256u << 10)
#define DIRTY_PACK_BLOCK_MAX (64u << 10)
/* A frame that does not compress is longer than its block, by three bytes for each 128 KiB and its ends, and one of a pack begins
 * aligned: by this and a byte for each 32 KiB at most. */
#define DIRTY_FRAME_BYTES 32u

struct dirty_block {
	struct work work;
	struct array *array;
	uint64_t block;
	unsigned char *data;
	uint32_t cap_bytes;   /* size that data was allocated with; grows up to params.block_bytes */
	uint32_t len_bytes;   /* valid bytes; what follows means zeros */
	struct codec_params codec; /* as of the last write */
	unsigned how;         /* of its writers together: IO_DIRECT, IO_KEPT */
	bool promised;        /* its space is: nobody asks for it */
	bool flushing;
	unsigned refs;        /* readers, plus one while it is dirty; RANK_BUDGET */
	struct dirty *home;
	struct dirty_block *prev, *next; /* DIRTY blocks, oldest write first */
	/* While flushing. */
	struct dirty_block *pack_next; /* the others of its job */
	struct block_ref ref;
	/* In the first block of a job, for all of it. */
	struct dirty_block *line_next;
	bool encoded;
	int encode_err;
	void *pack;  /* what the frame decodes to; NULL: that is a block's data */
	void *frame; /* NULL: all zeros */
	size_t frame_cap;
	uint32_t frame_len, frame_raw;
};

int dirty_new(struct store *s, struct dirty **out);
void dirty_free(struct dirty *d);

/* Makes room for a block that holds `bytes` and allocates it (len 0, one reference). Blocks. -ENOSPC, -ENOMEM,
 * or the error of a flush that had to make room. */
int dirty_make(struct dirty *d, struct array *a, uint64_t block, uint32_t bytes, struct dirty_block **out);
/* Makes a claimed or new block hold `bytes`, at most the array's block size. Blocks and fails as dirty_make; the
 * block is as before then. */
int dirty_grow(struct dirty_block *b, uint32_t bytes);
/* Inline bytes of a column are dirty, or no more. -EAGAIN: too many are, and a commit has to write them first. */
int dirty_take(struct dirty *d, size_t bytes);
void dirty_give_back(struct dirty *d, size_t bytes);
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

/* Encodes all dirty blocks (of one array, and what shares their packs) and waits. 0, or the error of one that
 * stayed dirty. */
int dirty_flush_array(struct dirty *d, struct array *a);
int dirty_flush_all(struct dirty *d);
/* Has the array dirty or flushing blocks? */
bool dirty_has(struct array *a);

/* A dirty block counts as this until its frame is stored, which is never more: noise as it is, and the frame around it. */
static inline uint64_t dirty_share(uint32_t bytes)
{
	return bytes ? bytes + DIRTY_FRAME_BYTES + bytes / 32768 : 0;
}

/* Where the next block of a pack may begin: aligned for any element. */
static inline uint32_t dirty_pack_align(uint32_t bytes)
{
	return (bytes + INDEX_PACK_ALIGN - 1) & ~(INDEX_PACK_ALIGN - 1);
}

#endif
