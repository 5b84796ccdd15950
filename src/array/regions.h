/*
 * A bucket's part of the pool besides its extents: the region that it appends to, places in its regions that are set aside for bytes on
 * their way, and pages that are on their way back.
 *
 * Threads: as the array's lock has it (array.h). The two maps are the bucket's and outlive this; they say which pages its bytes are in. A
 * struct extent says where new bytes go: off_bytes in the file and len_bytes are what the caller asks for, the rest is the answer.
 */
#ifndef SPILLFS_ARRAY_REGIONS_H
#define SPILLFS_ARRAY_REGIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "block/extent.h"
#include "block/pool.h"

struct store;

struct region_list {
	struct region *v;
	size_t n, cap;
};

struct regions {
	struct store *store;
	uint64_t ino;
	const struct extent_map *map, *tail; /* the bucket's extents; those that were cut off and still have rows */
	struct region now;                   /* that it appends to */
	uint64_t next_bytes;                 /* first free byte of it, relative */
	uint64_t claim_bytes;                /* the length of the next one */
	uint64_t held_page;                  /* its extents are gone, but the region goes on in it; 0: none, else + 1 */
	struct extent_map places;            /* set aside */
	struct region_list freed;            /* pages to defer with the next stage; may overlap */
};

void regions_init(struct regions *r, struct store *s, uint64_t ino, const struct extent_map *map, const struct extent_map *tail);
/* Gives back to the pool what no extent has. unstaged: rows that a change has not reached may have pages of others. */
void regions_fini(struct regions *r, bool unstaged);

/* Finds the next bytes to append to, and shortens e to them. promised: the store has counted them. They are taken by regions_take.
 * -ENOSPC and other errors of the store's account and of the pool. */
int regions_find(struct regions *r, struct extent *e, bool promised);
void regions_take(struct regions *r, const struct extent *e);

/* Sets room aside for [from, to) of the file, as much as there is space, memory and reason for. */
void regions_set_aside(struct regions *r, uint64_t from, uint64_t to);
/* Finds the room that was set aside for e->off_bytes, and shortens e to it. False: there is none; e is shortened to the part
 * without. */
bool regions_find_place(const struct regions *r, struct extent *e);
/* The place is taken for an extent, which is its own when it has the bytes. -ENOMEM. */
int regions_take_place(struct regions *r, const struct extent *e);
/* No extent came of it: it is a place again. */
void regions_return_place(struct regions *r, const struct extent *e);
/* Its pages are freed: the bytes go elsewhere. -ENOMEM. */
int regions_leave_place(struct regions *r, const struct extent *e);
/* Drops all places: the holes stay holes. */
void regions_give_up_places(struct regions *r);

/* Frees the pages of a piece that was removed from a map, but for those with a byte of another one. ctx: the struct regions. */
void regions_free(void *ctx, const struct extent *piece);
/* The bucket is deleted: the page that the region stopped in goes, too, and so do the places. */
void regions_drop(struct regions *r);
/* The pool has what was freed when the open transaction is durable. The meta lock is held. -ENOMEM. */
int regions_defer_freed_locked(struct regions *r);

#endif
