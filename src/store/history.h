/*
 * A state of layers/: the replay of a sealed layer's chain. (A snapshot is a name for one; the code calls it a history.) Immutable, so
 * that everything that is handed out stays right while the state is held. Thread-safe; opening reads the indexes of the chain,
 * nothing else blocks.
 */
#ifndef SPILLFS_STORE_HISTORY_H
#define SPILLFS_STORE_HISTORY_H

#include "store/layers.h"

struct history;

/* The state at sealed layer `number`; 0: at the newest. Takes a reference. -ENOENT if it is not retained. */
int history_open(struct layers *ls, uint64_t number, struct history **out);
struct history *history_get(struct history *h);
void history_put(struct history *h);
uint64_t history_number(const struct history *h); /* 0: nothing was ever sealed, the state is empty */
int64_t history_time_ns(const struct history *h);

/* As layers_get, of a layer that the state's blocks are in: also when it has been dropped meanwhile. */
int history_layer(struct history *h, uint64_t number, struct layers_slot **out);

/* Names. -ENOENT. */
int history_find(struct history *h, uint64_t parent, const char *name, uint64_t *ino_out);
/* Entries of a directory in byte order; cookies are 1, 2, ... A non-zero return of each ends the walk. */
int history_walk(struct history *h, uint64_t parent, uint64_t after,
		 int (*each)(void *ctx, uint64_t cookie, const char *name, uint64_t ino), void *ctx);
/* The newest record of an inode: its facts. -ENOENT. Valid while h is held. */
int history_inode(struct history *h, uint64_t ino, const struct index_record **out);
/* Calls each with the records of ino, oldest first. */
int history_replay(struct history *h, uint64_t ino, int (*each)(void *ctx, const struct index_record *r), void *ctx);
/* The present as far as it is committed: the newest sealed state and the segments of the open layer. As history_merge. */
int history_merge_present(struct layers *ls, struct index *out);
/* All of it as one index (records with their blocks, names); the caller's. -ENOMEM. */
int history_merge(struct history *h, struct index *out);

#endif
