/*
 * A piece of a file: 256 KiB at a multiple of that, in memory or on the disk as a whole. Pieces share a space: a budget of memory, and
 * beyond it a file without a name, which is cut into slots of a piece each. Private to io/.
 *
 * A piece is in memory from its first byte on, as long as there is room for it. Who finds none moves the oldest piece to the disk, and the
 * next, until there is; pieces that are kept go when no others are left. A piece that is on the disk stays there. Where not even that
 * helps (the budget is 0), a piece is on the disk from its first byte on.
 *
 * A cold piece, which is one whose last write was IO_COLD, is compressed on its way to the disk (io/pack.h), unless space was reserved in
 * it, it does not shrink, or there is no memory to compress it in. A write there brings it back to memory, and others go instead of it; where
 * there is none, it lies on the disk as it is. A part that is cut off is compressed anew. One that is written to the disk at once is
 * compressed if that is all of it in one write. A cold piece that lies there as it is, and may shrink, is loose: when nobody has changed it
 * for PIECE_COLD_NS, a chore reads it, and it goes to another slot, compressed. Nobody waits for that: no lock is held but, shared, while it is read; and a piece that is changed meanwhile stays where it is.
 *
 * Pages of a piece are data, reserved (zeros that have a place and are no data), or holes. Offsets are from the piece's begin.
 * All functions are thread-safe, wait for transfers with the disk, and return what the disk says when it has no space or fails; nothing
 * is lost then, and a write may have been made in part.
 */
#ifndef SPILLFS_IO_PIECE_H
#define SPILLFS_IO_PIECE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/frames.h"
#include "io/io.h"
#include "io/pack.h"
#include "io/slots.h"
#include "util/chore.h"
#include "util/clock.h"
#include "util/lock.h"

#define PIECE_BYTES FRAME_BYTES
#define PIECE_COLD_NS (5 * CLOCK_SECOND_NS)

struct piece_link {
	struct piece_link *older, *newer;
};

/* Where a piece is on the disk. */
struct piece_place {
	uint64_t slot;    /* PIECE_NO_SLOT: nowhere */
	uint64_t packed;  /* pages that lie there compressed, at the slot's begin; 0: all pages lie where they are in the piece */
	unsigned npacked; /* pages that these take */
	uint32_t zeros_from, zeros_to; /* bytes that are zeros, whatever the compressed form has */
};

struct piece_space {
	struct frames frames;
	struct slots slots;
	struct packer packer;
	struct io *disk;
	_Atomic uint64_t packings;  /* changes of what piece_saved says */
	_Atomic uint64_t transfers; /* so far that may have taken space on the disk, or given some back */
	bool ends;                  /* with all of its space */
	struct chore packs;         /* loose pieces */
	struct lock lock;           /* the links */
	struct piece_link queue[3]; /* of the pieces in memory; of those of them that are kept; of loose ones, the one written last at the end */
};

struct piece {
	struct piece_link link; /* the space's lock; newer is NULL: in no queue */
	int64_t loose_ns;       /* the space's lock: of one in the queue of loose ones: when it came there */
	atomic_uint refs;
	bool kept;
	_Atomic uint64_t *stored_pages; /* of its file, in all */
	struct piece *next_gone;        /* piece_free_all */
	struct rwlock lock;             /* all below */
	struct frame frame;             /* empty: not in memory */
	struct piece_place place;
	uint64_t data, reserved;        /* bit i: page i */
	bool cold;                      /* to be compressed on its way to the disk */
	bool promised;                  /* space in it was reserved: it is not */
	bool noise;                     /* as it is, it was found not to shrink, or damaged */
	unsigned changes;               /* so far, by others than who moves it */
	atomic_uint saving;             /* what place and data say of it, without the lock: piece_saved */
};

#define PIECE_NO_SLOT UINT64_MAX

/* Takes disk over: an empty file. */
void piece_space_init(struct piece_space *s, uint64_t memory_bytes, struct io *disk);
/* Pieces give their space on the disk back no longer: the disk is about to be closed. While nobody uses one. */
void piece_space_end(struct piece_space *s);
/* All pieces are gone. */
void piece_space_fini(struct piece_space *s);

/* NULL: there is no memory. */
struct piece *piece_new(bool kept, _Atomic uint64_t *stored_pages);
/* Frees a list of pieces, by next_gone. Nobody else uses them, or will; but a move to the disk may be under way. Slots of neighbours that are
 * neighbours, too, are given back together: a hole costs the file system about the same, however long it is. */
void piece_free_all(struct piece_space *s, struct piece *first);

int piece_read(struct piece_space *s, struct piece *p, void *buf, size_t n, size_t off, unsigned how);
int piece_write(struct piece_space *s, struct piece *p, const void *buf, size_t n, size_t off, unsigned how);
/* Holes become reserved, in all pages that the range touches. */
int piece_reserve(struct piece_space *s, struct piece *p, size_t n, size_t off);
/* Whole pages become holes, parts of pages zeros. */
int piece_cut(struct piece_space *s, struct piece *p, size_t n, size_t off);
/* The pages that are data, or all that have a place. */
uint64_t piece_pages(struct piece *p, bool also_reserved);
/* How many bytes fewer than n bytes of it take n bytes, since it is compressed; with `touched`, than all of it. Without a wait. */
uint64_t piece_saved(const struct piece *p, size_t n, bool touched);

/* The pages that a range touches, which has at least a byte. */
static inline uint64_t piece_range(size_t n, size_t off)
{
	size_t first = off / FRAME_PAGE, last = (off + n - 1) / FRAME_PAGE;

	return UINT64_MAX >> (FRAME_PAGES - 1 - (last - first)) << first;
}

#endif
