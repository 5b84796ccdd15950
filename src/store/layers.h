/*
 * The set of layers: the open one that frames are appended to, and the sealed ones, oldest first.
 * Newest wins per block.
 *
 * A frame is found through the block entry of some index, so what an array appends becomes durable in
 * two steps: layers_append places the frame, and at the next commit the array puts its entries into the
 * pending index of the frame's layer, which layers_stage_locked writes as a segment.
 *
 * Locks: RANK_LAYERS inside; layers_*_locked need the meta lock as well.
 */
#ifndef SPILLFS_STORE_LAYERS_H
#define SPILLFS_STORE_LAYERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "block/index.h"

struct layer;
struct layers;
struct layers_slot;
struct store;

/* Recovers the open layer, deletes files that no commit knows. */
int layers_open(struct store *s, struct layers **out);
void layers_close(struct layers *ls);

/* Appends a frame to the open layer, making one if there is none. -ENOSPC: nothing was appended. */
int layers_append(struct layers *ls, const void *frame, size_t len, size_t raw_len, uint64_t *number_out,
		  uint64_t *off_out);

/* Pins a layer so that its file stays open. -EUCLEAN (logged) if there is no such layer. */
int layers_get(struct layers *ls, uint64_t number, struct layers_slot **out);
void layers_put(struct layers *ls, struct layers_slot *slot);
struct layer *layers_file(struct layers_slot *slot);

/* Calls each with the committed records of ino, oldest layer first, under the lock. */
int layers_replay(struct layers *ls, uint64_t ino,
		  int (*each)(void *ctx, uint64_t number, const struct index_record *r), void *ctx);

/* Staging: between layers_lock and layers_unlock, the pending record of ino in the layer that this
 * transaction writes: the oldest unsealed one, made if there is none. Only blocks whose frame is in that
 * layer may be entered; the others wait for the next transaction. */
void layers_lock(struct layers *ls);
void layers_unlock(struct layers *ls);
int layers_pending_locked(struct layers *ls, uint64_t ino, uint64_t *number_out, struct index_record **out);
/* Stored bytes of layer `number` that live arrays point to: += delta. */
void layers_account_locked(struct layers *ls, uint64_t number, int64_t delta_bytes);

/* Commit, in order: rotate (only to seal: later appends go to a new layer), stage (segments, rows,
 * sealing what was rotated out, dropping layers that nothing needs), sync, publish (HEAD names the newest sealed). */
void layers_rotate(struct layers *ls);
/* A layer that was rotated out waits to be sealed. */
bool layers_have_closing(struct layers *ls);
int layers_stage_locked(struct layers *ls, uint64_t commit, int64_t time_ns, bool may_seal);
int layers_sync(struct layers *ls);
int layers_publish(struct layers *ls);

/* The open layer has reached its threshold, or sealing gives space back: it, or the newest sealed one,
 * is dead. */
bool layers_want_seal(struct layers *ls);
uint64_t layers_newest_sealed(struct layers *ls);

/* Compaction. The oldest sealed layer that is mostly dead, and the inodes that it names (malloc'd). -ENOENT.
 * Called on the commit thread between commits. */
int layers_victim(struct layers *ls, uint64_t *number_out, uint64_t **inos_out, size_t *n_out);
/* moved: all of them have moved, so that the next commit may drop it. Otherwise it cannot be emptied (damage)
 * and is left alone until the next mount. */
void layers_victim_done(struct layers *ls, uint64_t number, bool moved);
/* An inode that exists no more: what older layers hold of it stays hidden without the victim. */
int layers_restate_gone(struct layers *ls, uint64_t victim, uint64_t ino);

/* One sealed layer, for deltas/. */
struct layers_info {
	uint64_t number;
	uint64_t bytes;
	int64_t time_ns;
};
/* The first sealed layer with a number of at least `from`; -ENOENT. */
int layers_next_sealed(struct layers *ls, uint64_t from, struct layers_info *out);
/* Sums over the sealed layers and the open one. */
void layers_totals(struct layers *ls, uint64_t *nlayers, uint64_t *bytes, uint64_t *live_bytes);

#endif
