/*
 * The account of `-o cache`: the memory of one mount that can be had again from the store. A holder of such memory
 * adds it here, and takes it off when it is freed; decoded blocks take what the others leave.
 *
 *   part     bytes                                                            ends by
 *   blocks   decoded blocks as their buffers, in powers of two from 4 KiB     the LRU of block/cache
 *   inodes   some 400 for each that the kernel remembers                      asking the kernel to forget names (tree/live/idle.c)
 *   arrays   layered: 300, and 64 for each stored block; bucket: 250, and     closing arrays that nobody has open, the one used
 *            32 for each extent; column: 150, and its inline bytes            longest ago first (tree/live/idle.c)
 *            of both 48 for each summary of 256 KiB, also when closed         giving these up first
 *   indexes  of layers: some 350 for each array, 64 for each block; notes     sealing the open layer, at an eighth of the budget;
 *            that wait for a segment                                          giving up sealed ones that no state holds
 *   views    open ones: 64 for each block that they show, headers and         being closed: when they hold as much as the budget,
 *            footers, and the frame of a chunk that is compressed again       and 32 MiB, no further one is opened
 *
 * Not in it, since they end by themselves: dirty bytes (`-o dirty`), buffers of requests and jobs. Outside of it as
 * well: 8 MiB of idle buffers, and 8 MiB of SQLite.
 *
 * Opening a layered array reads its records, not whole indexes (block/layer.h), and compactions read indexes side by side, so
 * their memory does not grow with the number of arrays. States that are looked at, and the check, load whole indexes, and may exceed
 * the share. So may inodes in a burst of lookups, which is faster than the kernel forgets.
 *
 * Invariants: (1) a part's sum is what its holders have added and not taken off; (2) inodes, arrays and indexes are to
 * hold a quarter of the budget each at most: a holder that adds to one asks account_over, and lets go of what was used longest
 * ago. Open and dirty things cannot go: they alone may exceed the share. Blocks have a quarter in any case.
 *
 * No lock: sums are relaxed atomics, and may be older than what another thread has just done.
 */
#ifndef SPILLFS_UTIL_ACCOUNT_H
#define SPILLFS_UTIL_ACCOUNT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

enum account_part {
	ACCOUNT_BLOCKS,  /* decoded blocks, and pages of layers' indexes */
	ACCOUNT_INODES,  /* that the kernel remembers */
	ACCOUNT_ARRAYS,  /* block maps, extents, inline bytes */
	ACCOUNT_INDEXES, /* of layers: notes that wait, the open layer's, those looked into as a whole */
	ACCOUNT_VIEWS,   /* open ones */
	ACCOUNT_NPARTS
};

struct account {
	size_t budget_bytes;
	_Atomic size_t held_bytes[ACCOUNT_NPARTS];
};

static inline void account_init(struct account *a, size_t budget_bytes)
{
	*a = (struct account){ .budget_bytes = budget_bytes };
}

static inline size_t account_held(const struct account *a, enum account_part part)
{
	return atomic_load_explicit(&a->held_bytes[part], memory_order_relaxed);
}

/* A holder's bytes change from `old` to `now`. */
static inline void account_change(struct account *a, enum account_part part, size_t old, size_t now)
{
	atomic_fetch_add_explicit(&a->held_bytes[part], now - old, memory_order_relaxed);
}

/* Bytes that open views may hold. */
#define ACCOUNT_VIEWS_LEAST ((size_t)32 << 20)
static inline size_t account_views_most(const struct account *a)
{
	return a->budget_bytes > ACCOUNT_VIEWS_LEAST ? a->budget_bytes : ACCOUNT_VIEWS_LEAST;
}

/* A view that holds these is opened. False: then they would hold more; one alone may. */
static inline bool account_admit_view(struct account *a, size_t bytes)
{
	size_t most = account_views_most(a);
	size_t before = atomic_fetch_add_explicit(&a->held_bytes[ACCOUNT_VIEWS], bytes, memory_order_relaxed);

	if (!before || (bytes <= most && before <= most - bytes))
		return true;
	account_change(a, ACCOUNT_VIEWS, bytes, 0);
	return false;
}

/* Bytes that decoded blocks may take: what the others leave, and a quarter in any case. */
static inline size_t account_room_for_blocks(const struct account *a)
{
	size_t others = account_held(a, ACCOUNT_INODES) + account_held(a, ACCOUNT_ARRAYS) + account_held(a, ACCOUNT_INDEXES) +
			account_held(a, ACCOUNT_VIEWS);
	size_t least = a->budget_bytes / 4;

	return others < a->budget_bytes - least ? a->budget_bytes - others : least;
}

/* Holds the part more than its share? */
static inline bool account_over(const struct account *a, enum account_part part)
{
	return account_held(a, part) > a->budget_bytes / 4;
}

#endif
