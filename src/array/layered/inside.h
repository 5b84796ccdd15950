/*
 * Shared by the files of the layered kind, from the ground up: map.c (where blocks are, and what has changed), encode.c and dirty.c
 * (blocks in memory), read.c, edit.c, stage.c, pin.c, reblock.c, layered.c. For these only.
 */
#ifndef SPILLFS_ARRAY_LAYERED_INSIDE_H
#define SPILLFS_ARRAY_LAYERED_INSIDE_H

#include "array/array.h"
#include "array/blockmap.h"
#include "array/stream.h"
#include "io/io.h"
#include "util/lock.h"

struct cache_entry;
struct dirty_block;
struct state;
struct held;

/* A block that has changed since the last stage, and where it was staged before. */
struct layered_change {
	uint64_t block;
	uint64_t old_layer; /* 0: nowhere */
	uint64_t old_share; /* of the frame, in bytes */
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
	struct codec_hint hint;
	/* Dirty blocks, and flushes of them that have failed, with the last one's error: under RANK_BUDGET by dirty.c. */
	size_t ndirty, nflushing;
	uint64_t flush_failures;
	int flush_error;
	struct held *held; /* the layers that it points into; NULL: the set has them, since the array is one of the present */
	bool past;         /* it is of a state: meta.db does not know it */
	struct stream reader;
	uint64_t write_end;
};

static inline struct layered *layered_of(struct array *a)
{
	return (struct layered *)a;
}

/* map.c */

/* An array of the present without blocks; NULL: no memory. */
struct layered *layered_new(const struct array_ops *ops, struct arrays *home, uint64_t ino, uint64_t size,
			    const struct array_params *params);
/* Nothing is dirty. */
void layered_free(struct layered *l);
size_t layered_memory(struct array *a);
/* Fills the map from the layers of the state, which the array is of; NULL: it is of the present. */
int layered_replay(struct layered *l, struct state *state);
/* The length of a block as it is, 0 of zeros; *dirty_out: the same of its dirty block, if it has one. */
uint32_t layered_block_len(struct layered *l, uint64_t block, uint32_t *dirty_out);
/* Changes of the map, with l->lock held. The block's place is about to change (invariant 1 of map.c). */
int layered_note_change_locked(struct layered *l, uint64_t block, struct blockmap_entry *e);
void layered_set_ref_locked(struct layered *l, struct blockmap_entry *e, const struct block_ref *ref);
int layered_note_tomb_locked(struct layered *l, uint64_t first, uint64_t count);
/* A flush has ended: b is at `ref` (frame_off 0: it is all zeros). Takes RANK_ARRAY. */
void layered_flushed(struct layered *l, struct dirty_block *b, const struct block_ref *ref);

/* encode.c. The frame of a job that was taken out of the queue, and the refs of its blocks without their place in a layer.
 * -ENOMEM, -EIO. dirty_encode_drop frees what is left of either. */
int dirty_encode(struct dirty_block *job);
void dirty_encode_drop(struct dirty_block *job);

/* read.c */

int layered_borrow(struct array *a, uint64_t off, size_t len, unsigned how, struct lease *out);
int layered_seek(struct array *a, uint64_t off, bool hole, uint64_t *out);
/* The decoded frame of ref, pinned in the cache; damage is logged with the array's path. */
int layered_get_frame(struct layered *l, const struct block_ref *ref, uint64_t block, unsigned how, struct cache_entry **out);
/* Names the array in the log if err is damage or a layer that is missing. Returns what the reader is told. */
int layered_report(struct layered *l, const struct block_ref *r, uint64_t block, int err);

/* edit.c */

int layered_write(struct array *a, const void *buf, size_t len, uint64_t off, unsigned how, size_t *done_out);
int layered_resize(struct array *a, uint64_t size);
int layered_punch(struct array *a, uint64_t off, uint64_t len);

/* stage.c */

int layered_stage_locked(struct array *a, const struct index_record *facts, bool changed);
int layered_drop_locked(struct array *a);
int layered_remap(struct array *a, const struct compact *c);

/* reblock.c. Blocks on I/O of the whole array. -EOPNOTSUPP: it is too large for that; -ENOSPC. After an error nothing has
 * changed. */
int layered_reblock(struct array *a, uint32_t block_bytes);

/* How a frame is read and written for elements that go by `how`. One that shrank is no second copy of what the kernel keeps, and serves
 * views: it may stay in the page cache. */
static inline unsigned layered_frame_how(unsigned how, uint32_t frame_len, uint32_t frame_raw)
{
	return frame_len <= frame_raw / 2 ? how & ~IO_KEPT : how;
}

#endif
