/*
 * Compaction: a full layer takes the place of a chain. It holds the whole state as its index, and the live frames of
 * layers that are mostly dead or small; the others stay where they are and its index points into them. Afterwards a
 * state is the replay of this layer and those behind it, and layers that neither a state nor a live array
 * needs are dropped by the next commit.
 *
 * A compaction begins when a chain has 32 layers (at 64 a seal waits for it), or when a layer of more than 4 MiB, or many small
 * ones, are half dead. It also begins when a writer finds no space, and on request; these two seal the open layer first. It
 * copies `-o compact` bytes a second. It takes so many victims that the list of what moves stays below an eighth of `-o cache`
 * (4 MiB at least).
 *
 * The state may have any number of arrays: it is read piece by piece (state_reader.h). Only the places of the blocks that move are in
 * memory, and one compaction takes a limited number of them.
 *
 * The commit thread runs one in steps between commits, in this order: plan (by the newest sealed state), steps
 * (frames are copied into layers/compact.tmp), install (what was sealed meanwhile is taken in; the open layer stays open, and
 * follows in the log), remap of the open arrays (theirs still point to the old places), commit. A crash before that last
 * commit leaves a file that no row names. Nothing here is thread-safe but compact_moved and compact_place.
 */
#ifndef SPILLFS_STORE_LAYERS_COMPACT_H
#define SPILLFS_STORE_LAYERS_COMPACT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct compact;
struct layer_block;
struct layers;

/* How much there must be to gain: enough to be worth the work; any space; anything at all. */
enum compact_effort { COMPACT_WORTH, COMPACT_SPACE, COMPACT_ALL };

bool compact_due(struct layers *ls, enum compact_effort effort);
int compact_plan(struct layers *ls, enum compact_effort effort, struct compact **out);
/* Copies about `bytes`. *more: call again. */
int compact_step(struct compact *c, uint64_t bytes, bool *more);
void compact_progress(const struct compact *c, uint64_t *done_bytes, uint64_t *total_bytes);
/* Between two commits. */
int compact_install(struct compact *c, uint64_t commit, int64_t time_ns);
bool compact_installed(const struct compact *c);
/* Is there work left for another compaction of this effort, which has less to do? */
bool compact_again(const struct compact *c);
/* An installed one has nothing left to undo. */
void compact_free(struct compact *c);

/* After the installation. Has the layer's content moved? Puts the new place of a block for the old (layer, frame_off,
 * raw_off): -EUCLEAN (logged) if there is none. */
bool compact_moved(const struct compact *c, uint64_t layer);
int compact_place(const struct compact *c, struct layer_block *b);

#endif
