/*
 * Memory for the pieces of io/pieces: frames of 64 pages, cut from large mappings and recycled. Pages are counted, against a budget, from
 * when a frame is asked for them until they are given back to the system; so the count is what the process has of them at most. Memory
 * beside them counts against the budget, too: where that has grown, frames get less. Private to io/.
 *
 * All functions are thread-safe; one caller at a time uses one frame.
 */
#ifndef SPILLFS_IO_FRAMES_H
#define SPILLFS_IO_FRAMES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/lock.h"

#define FRAME_PAGE 4096u
#define FRAME_PAGES 64u
#define FRAME_BYTES (FRAME_PAGE * FRAME_PAGES)

struct frame {
	unsigned char *p; /* NULL: none */
	uint64_t pages;   /* that are counted: bit i is page i */
};

struct frames_region;

struct frames {
	_Atomic uint64_t beside_bytes; /* memory beside frames */
	struct lock lock;              /* all below */
	uint64_t budget_pages, used_pages;
	struct frames_region *regions;
	size_t nregions;
	size_t fresh; /* frames of the newest region that nobody has had */
	struct frame *idle;
	size_t nidle, idle_cap;
	size_t nwarm; /* of these, at the end, have pages */
};

void frames_init(struct frames *f, uint64_t budget_bytes);
/* All frames must be back. */
void frames_fini(struct frames *f);

/* Lets the frame have these pages, too; an empty one gets memory first. The contents of pages that it had not are undefined. -ENOSPC: the
 * budget has too little left; -ENOMEM. */
int frames_take(struct frames *f, struct frame *frame, uint64_t pages);
/* Gives pages of it back to the system. */
void frames_drop(struct frames *f, struct frame *frame, uint64_t pages);
/* Gives all of it back, and leaves an empty one. */
void frames_give(struct frames *f, struct frame *frame);

uint64_t frames_left_bytes(struct frames *f);

/* The first run of bits of *mask, which loses it; false: there is none. */
static inline bool frames_run(uint64_t *mask, unsigned *first, unsigned *n)
{
	uint64_t end;

	if (!*mask)
		return false;
	*first = (unsigned)__builtin_ctzll(*mask);
	end = ~(*mask >> *first);
	*n = end ? (unsigned)__builtin_ctzll(end) : FRAME_PAGES;
	*mask &= *n == FRAME_PAGES ? 0 : ~((((uint64_t)1 << *n) - 1) << *first);
	return true;
}

static inline unsigned frames_count(uint64_t pages)
{
	return (unsigned)__builtin_popcountll(pages);
}

#endif
