/*
 * A state of layers/: the replay of a sealed layer's chain. A snapshot is a name for one. Immutable, so that
 * everything that is handed out stays right while the state is held. Thread-safe; opening reads the indexes of the chain,
 * nothing else blocks.
 */
#ifndef SPILLFS_STORE_LAYERS_STATE_H
#define SPILLFS_STORE_LAYERS_STATE_H

#include "store/layers.h"

struct held;
struct state;

/* The state at sealed layer `number`; 0: at the newest. Takes a reference. -ENOENT if it is not retained. */
int state_open(struct layers *ls, uint64_t number, struct state **out);
struct state *state_get(struct state *state);
void state_put(struct state *state);
uint64_t state_number(const struct state *state); /* 0: nothing was ever sealed, the state is empty */
int64_t state_time_ns(const struct state *state);

/* The layers that the state's blocks are in, also those that have been dropped meanwhile. They stay while the state, or this, is held. */
struct held *state_held(const struct state *state);

/* Names. -ENOENT. */
int state_find(struct state *state, uint64_t parent, const char *name, uint64_t *ino_out);
/* Entries of a directory in byte order; cookies are 1, 2, ... A non-zero return of each ends the walk. */
int state_walk(struct state *state, uint64_t parent, uint64_t after,
	       int (*each)(void *ctx, uint64_t cookie, const char *name, uint64_t ino), void *ctx);
/* The newest record of an inode: its facts. -ENOENT. Valid while state is held. */
int state_inode(struct state *state, uint64_t ino, const struct index_record **out);
/* Calls each with the records of ino, oldest first. */
int state_replay(struct state *state, uint64_t ino, int (*each)(void *ctx, const struct index_record *r), void *ctx);
/* The present as far as it is committed: the newest sealed state and the segments of the open layer. As state_merge. */
int state_merge_present(struct layers *ls, struct index *out);
/* All of it as one index (records with their blocks, names); the caller's. -ENOMEM. */
int state_merge(struct state *state, struct index *out);

#endif
