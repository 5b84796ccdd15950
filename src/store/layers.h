/*
 * The set of layers: the open one that frames are appended to, and the sealed ones. The sealed ones are a
 * log: each says what changed since the one before, or, made by a compaction, the whole state. The state
 * at a sealed layer is the replay of its chain (block/index.h); newest wins per block.
 *
 * A frame is found through the block entry of some index, so what an array appends becomes durable in
 * two steps: layers_append places the frame, and at the next commit the array puts its entries into the
 * pending index, which layers_stage_locked writes as a segment of the open layer. Facts and names of what is
 * under layers/ go the same way.
 *
 * Retention: the newest state, those of the last `keep` commits and the snapshots can be looked at. Layers that neither they
 * nor the live arrays need are dropped.
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

/* Recovers the open layer, deletes files that no commit knows. For a follower (store.h): reads HEAD. */
int layers_open(struct store *s, struct layers **out);
void layers_close(struct layers *ls);

/* Appends a frame to the open layer, making one if there is none; how: as io_pwrite_as. -ENOSPC: nothing was appended. */
int layers_append(struct layers *ls, const void *frame, size_t len, size_t raw_len, unsigned how, uint64_t *number_out,
		  uint64_t *off_out);

/* Pins a layer so that its file stays. -ESTALE: there is no such layer. */
int layers_get(struct layers *ls, uint64_t number, struct layers_slot **out);
void layers_put(struct layers *ls, struct layers_slot *slot);
struct layer *layers_file(struct layers_slot *slot);

/* Calls each with the records of ino that make up its present state, oldest first, under the lock. */
int layers_replay(struct layers *ls, uint64_t ino, int (*each)(void *ctx, const struct index_record *r), void *ctx);

/* Staging: between layers_lock and layers_unlock. note_inode makes the pending record of an inode, or gives the one that is there the
 * facts of `facts`, which has no blocks; blocks may be entered into it (out may be NULL).
 * later: of what is under columns/, for layers_rebuild. It waits for the next segment that is written anyway, so that the
 * fsync of a column costs no write to a layer. The next mount notes again what a crash has taken, if
 * layers_lost_notes_locked says so. */
void layers_lock(struct layers *ls);
void layers_unlock(struct layers *ls);
int layers_note_inode_locked(struct layers *ls, const struct index_record *facts, bool later, struct index_record **out);
/* The inode is deleted. */
int layers_note_gone_locked(struct layers *ls, uint64_t ino, bool later);
/* A name changed: ino 0 is its removal. Takes the lock itself. */
int layers_note_name(struct layers *ls, uint64_t parent, const char *name, uint64_t ino, bool later);
int layers_lost_notes_locked(struct layers *ls, bool *lost);
/* Stored bytes of layer `number` that live arrays point to: += delta. */
void layers_account_locked(struct layers *ls, uint64_t number, int64_t delta_bytes);

/* Commit, in order: stage (a segment, rows; with SEAL the open layer is sealed, snapshots that wait for it get
 * it, and layers that nothing needs are dropped; ALL: even if it has
 * nothing but deletions of files that no state shows), sync, publish (HEAD,
 * and files for the snapshots' names). Sealing needs everything that was appended to be staged: no array may change
 * meanwhile. *left: what there was no space for to seal it; it stays open then. */
enum layers_stage { LAYERS_STAGE, LAYERS_SEAL, LAYERS_SEAL_ALL };
int layers_stage_locked(struct layers *ls, uint64_t commit, int64_t time_ns, enum layers_stage how, int *left);
int layers_sync(struct layers *ls);
int layers_publish(struct layers *ls);
uint64_t layers_newest_sealed(struct layers *ls);
/* Something would be sealed. */
bool layers_unsealed(struct layers *ls);
/* The open layer has reached its size, its disk will soon be full, or what died since the last seal a good part of it: only a sealed deletion gives
 * space back. */
bool layers_want_seal(struct layers *ls);

/* Snapshots. want: a name for the layer that the next sealing commit ends with; -EEXIST. unwant takes it back when that
 * failed. find: -ENOENT; "@N" is layer N without a time, whether there is one or not. drop: the layer may go with the next commit.
 * Names: 1..255 bytes, not beginning with '@'. */
int layers_snapshot_want(struct layers *ls, const char *name);
void layers_snapshot_unwant(struct layers *ls, const char *name);
int layers_snapshot_drop_locked(struct layers *ls, const char *name);
struct layers_snapshot {
	char name[256];
	uint64_t layer;
	int64_t time_ns;
	bool published; /* its file in layers/refs is there */
};
int layers_snapshot_find(struct layers *ls, const char *name, struct layers_snapshot *out);
/* The first with a name behind `after` ("" for the first of all), in byte order. -ENOENT. */
int layers_snapshot_next(struct layers *ls, const char *after, struct layers_snapshot *out);

/* One sealed layer. */
struct layers_info {
	uint64_t number, commit;
	uint64_t bytes;
	int64_t time_ns;
	uint64_t arrays, raw_bytes, stored_bytes;
	bool full;     /* made by a compaction */
	bool retained; /* its state can be looked at */
};
/* The first sealed layer with a number of at least `from`; -ENOENT. */
int layers_next_sealed(struct layers *ls, uint64_t from, struct layers_info *out);
/* Sums over the sealed layers and the open one; chain: layers that opening an array looks into. */
struct layers_totals {
	uint64_t nlayers, bytes, live_bytes, chain, snapshots;
};
void layers_totals(struct layers *ls, struct layers_totals *out);
/* Bytes of the layers of which neither a live array nor the newest state needs anything: those that a snapshot needs, and
 * those that only the window of the last commits (`keep`) does. */
struct layers_held {
	uint64_t snapshot_bytes, window_bytes;
};
void layers_held(struct layers *ls, struct layers_held *out);

/* A follower looks for a newer HEAD; *changed if there was one. */
int layers_follow(struct layers *ls, bool *changed);

#endif
