/*
 * The inside of the set of layers: for set.c (the set, staging), retain.c (snapshots, dropping), held.c, state.c, state_reader.c,
 * compact.c and follow.c. Everything here is under the set's lock.
 */
#ifndef SPILLFS_STORE_LAYERS_INSIDE_H
#define SPILLFS_STORE_LAYERS_INSIDE_H

#include "store/layers.h"
#include "store/meta.h"
#include "util/lock.h"

struct layers_slot {
	struct meta_layer row;
	bool row_dirty, unsynced;
	bool doomed; /* the file goes with the last user */
	uint64_t dying_bytes;  /* that the live arrays have let go of since the last seal */
	uint64_t counted_from; /* live bytes when compact.c began to count them */
	uint64_t moved_to;     /* compacted into that layer; 0: not */
	struct layer *file;    /* NULL until first used */
	unsigned refs;         /* users, plus one while it is in the set */
	unsigned nwhole;       /* of them, those that use the index as a whole */
	size_t index_bytes;    /* of it in the account */
	bool needed;           /* mark of retain.c, */
	uint64_t needed_from;  /* and the base of the chain that it stood in */
	bool retained;         /* its state can be looked at */
	unsigned nnames;       /* snapshots of it; 0 for a follower, which drops nothing */
	struct layers *set;
};

/* Behind it numbers run out, and a store is no real one. */
#define LAYERS_NUMBER_MAX ((uint64_t)INT64_MAX >> 1)

struct layers {
	struct lock lock;
	struct store *store;
	struct layers_slot **v; /* by number */
	size_t n, cap;
	struct layers_slot *open;   /* in v; NULL: none */
	struct layers_slot *newest; /* sealed; NULL: none */
	struct index pending;       /* for the next segment */
	struct index later;         /* for one that is written anyway */
	uint64_t pending_owed, later_owed; /* bytes of these, as they are owed (room.h) */
	bool later_lost;            /* some of it was not written: that is to be noted again at the next mount */
	size_t notes_bytes;         /* of both in the account, as of the last stage */
	uint64_t next_number;
	struct layers_snapshot *snapshots; /* by name; layer 0: waits for the next seal */
	size_t nsnapshots, cap_snapshots;
	struct layers_snapshot *dropped; /* their files in refs/ are to go */
	size_t ndropped;
	bool dir_unsynced;  /* the names of new layers are not durable yet; the commit thread's */
	bool names_dirty;   /* some snapshot has no file in refs/ yet */
	bool retain_dirty;  /* something may be dropped */
	uint64_t published; /* what HEAD says; 0: not known, it is written again */
	int follow_error;   /* the last, so that it is said once */
	unsigned follow_looks;
	uint64_t in_open;   /* bytes of the open layer; read without the lock */
	uint64_t index_open; /* memory of its index; the same */
	uint64_t dying;     /* sum of dying_bytes; the same */
	bool lacks;         /* what is dirty should go to another disk, in a layer of its own; the same */
};

static inline bool layers_slot_sealed(const struct layers_slot *slot)
{
	return slot->row.state != META_LAYER_OPEN;
}

/* In the order of the log, which is not that of numbers. */
static inline bool layers_slot_newer(const struct layers_slot *a, const struct layers_slot *b)
{
	return a->row.commit != b->row.commit ? a->row.commit > b->row.commit : a->row.chain.n > b->row.chain.n;
}

/* An empty set; NULL: there is no memory. */
struct layers *layers_new(struct store *s);
/* row's lists are taken over. */
int layers_slot_add(struct layers *ls, const struct meta_layer *row, struct layers_slot **out);
struct layers_slot *layers_slot_find(struct layers *ls, uint64_t number);
/* Takes it out of the set; the set's reference is the caller's. */
void layers_slot_leave(struct layers *ls, struct layers_slot *slot);
/* Opens the file; with index the layer's index is loaded too. */
int layers_slot_load(struct layers *ls, struct layers_slot *slot, bool index);
/* Accounts the memory that the index holds at this moment. */
void layers_slot_charge(struct layers *ls, struct layers_slot *slot);
/* Indexes that nobody uses as a whole go while all of them hold more than their share. */
void layers_shrink(struct layers *ls);
/* One user less; the last one frees it. */
void layers_slot_unref(struct layers_slot *slot);
/* Takes the slot out of the set: its row at once, its file after the commit. Meta lock. */
int layers_slot_drop_locked(struct layers *ls, struct layers_slot *slot);
/* Ends the transaction's part of a new sealed layer: it is the newest. */
void layers_slot_sealed_now(struct layers *ls, struct layers_slot *slot);

/* Files that an index changes. */
uint64_t layers_count_files(const struct index *ix);

/* Bytes of a layer that records point to, and blocks. */
struct layers_live {
	uint64_t layer, bytes, nblocks;
};

/* Counts them, record by record; zeroed at first, v is freed by the caller. */
struct layers_tally {
	struct layers_live *v; /* by layer */
	size_t n, cap;
	size_t last; /* of the block before, since neighbours are mostly alike */
};
/* newer (NULL: nothing) comes behind the record, as if merged. The bytes of inodes in `gone` (NULL: none) do not count. */
int layers_tally_add(struct layers_tally *t, const struct index_record *r, const struct index *newer,
		     const struct meta_numbers *gone);
int layers_tally_index(struct layers_tally *t, const struct index *ix, const struct meta_numbers *gone);
const struct layers_live *layers_tally_find(const struct layers_tally *t, uint64_t layer);
/* The layers other than `self` in a tally, rising; the list is the caller's. */
int layers_tally_refs(const struct layers_tally *t, uint64_t self, struct meta_numbers *out);
/* The same of an index. */
int layers_refs(const struct index *ix, uint64_t self, struct meta_numbers *out);
/* Inodes that the notes say are gone, rising; the list is the caller's. */
int layers_gone(struct layers *ls, struct meta_numbers *out);

/* retain.c: drops what is not needed; fills `retained`. Meta lock. */
int layers_retain_locked(struct layers *ls);
/* Names that wait get the newest sealed layer. Meta lock. */
int layers_snapshots_name_locked(struct layers *ls, int64_t time_ns);
/* Marks the layers that would be needed if the newest state had a chain of its own: by snapshots, and with `window` by the states
 * of the last commits. */
void layers_mark_states(struct layers *ls, bool window);
int layers_snapshots_load_locked(struct layers *ls);
int layers_refs_clean(struct layers *ls);
int layers_snapshots_publish(struct layers *ls);

/* held.c. whole: with their indexes, which stay in memory. The chain, in its order, is malloc'd; h keeps the layers of it. -EUCLEAN: one
 * is missing. */
struct held;
int held_add_chain_locked(struct held *h, const struct meta_numbers *chain, bool whole, struct layers_slot ***out);
/* Those of the list that the set has; their files are not opened. */
int held_add_known_locked(struct held *h, const struct meta_numbers *list);

/* follow.c */
int layers_follow_open(struct layers *ls);
/* The newest state whose layers are all there and whole, whatever HEAD says; *bad_out: a newer layer that is sealed and cannot be
 * used, 0: none. */
int layers_follow_best(struct layers *ls, uint64_t *bad_out);

#endif
