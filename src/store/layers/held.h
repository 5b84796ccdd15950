/*
 * Held layers: a set of layers whose files stay, though a compaction or the commit has dropped them. A state holds the layers of its
 * chain, and what the first of them points into; whoever reads one from begin to end, the chain; an array of a state holds what
 * its state does, a pinned array the layers that it points into. Arrays of the present hold none: they ask the set for each frame
 * (layers_get), since compaction tells them the new places.
 *
 * Counted: the last put lets go of all. A set does not change once it is shared. Thread-safe then.
 */
#ifndef SPILLFS_STORE_LAYERS_HELD_H
#define SPILLFS_STORE_LAYERS_HELD_H

#include "store/layers.h"

struct held;

/* An empty one. -ENOMEM. */
int held_new(struct layers *ls, struct held **out);
struct held *held_get(struct held *h);
/* h may be NULL. */
void held_put(struct held *h);
/* from: whoever holds the layer already; NULL: it is in the set. A layer that is missing is left out: a reader of it is told so.
 * -ENOMEM, -EIO. */
int held_add(struct held *h, struct held *from, uint64_t number);
/* The layer, with its file open; it stays while h does. -ESTALE: it is not in h. */
int held_find(struct held *h, uint64_t number, struct layers_slot **out);

#endif
