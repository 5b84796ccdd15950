/*
 * What a layered array and its dirty blocks know of each other.
 */
#ifndef SPILLFS_ARRAY_LAYERED_H
#define SPILLFS_ARRAY_LAYERED_H

#include "array/array.h"
#include "array/blockmap.h"
#include "array/stream.h"
#include "util/lock.h"

/* A block that has changed since the last stage, and where it was staged before. */
struct layered_change {
	uint64_t block;
	uint32_t old_layer; /* 0: nowhere */
	uint32_t old_len;   /* its share of the frame */
};

struct layered_tomb {
	uint64_t first, count;
};

struct layered {
	struct array array;
	struct lock lock; /* RANK_ARRAY: everything below */
	struct blockmap map;
	struct layered_change *changes;
	size_t nchanges, cap_changes;
	struct layered_tomb *tombs; /* since the last stage, in order */
	size_t ntombs, cap_tombs;
	bool recorded;     /* some layer has a record of it */
	bool facts_staged; /* the last stage had the facts of now */
	int filter_hint;   /* codec's memory; atomic access */
	/* Dirty blocks, counted under RANK_BUDGET by dirty.c. */
	size_t ndirty, nflushing;
	struct pins *pins; /* of a pinned array (pin.h); else NULL */
	struct stream reader;
	uint64_t write_end;
};

/* An array without blocks that is of the same inode and size as `a`, and takes pins over. -ENOMEM. */
int layered_new_pinned(struct array *a, struct pins *pins, struct layered **out);
/* Names the array in the log if err is damage or a layer that is missing. Returns what the reader is told. */
int layered_report(struct layered *l, const struct block_ref *r, uint64_t block, int err);
/* The decoded frame of ref, pinned in the cache; damage is logged with the array's path. */
struct cache_entry;
int layered_get_frame(struct layered *l, const struct block_ref *ref, uint64_t block, unsigned how, struct cache_entry **out);

/* Changes of the map, with l->lock held. The block's place is about to change (invariant 2 of layered.c). */
int layered_note_change_locked(struct layered *l, uint64_t block, struct blockmap_entry *e);
void layered_set_ref_locked(struct layered *l, struct blockmap_entry *e, const struct block_ref *ref);
int layered_note_tomb_locked(struct layered *l, uint64_t first, uint64_t count);

/* The vtable's changing half (edit.c). */
int layered_write(struct array *a, const void *buf, size_t len, uint64_t off, unsigned how, size_t *done_out);
int layered_resize(struct array *a, uint64_t size);
int layered_punch(struct array *a, uint64_t off, uint64_t len);

/* The content in blocks of another size (reblock.c). Blocks on I/O of the whole array. -EOPNOTSUPP: it is too large for
 * that; -ENOSPC. After an error nothing has changed. */
int layered_reblock(struct array *a, uint32_t block_bytes);

/* Compaction (remap.c). */
int layered_remap(struct array *a, const struct compact *c);

/* Where the blocks from `first` on are (spillfs.h). */
struct spillfs_blocks;
void layered_blocks(struct array *a, uint64_t first, struct spillfs_blocks *out);

/* A flush has ended: b is at `ref` now (frame_off 0: it is all zeros). Takes RANK_ARRAY. */
void layered_flushed(struct layered *l, struct dirty_block *b, const struct block_ref *ref);

#endif
