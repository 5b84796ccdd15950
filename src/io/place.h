/*
 * A piece of io/piece on the disk: what it has there, in a slot of its own, as it is or compressed. Private to io/.
 *
 * The caller holds the piece's lock, shared for what reads, exclusive for the rest. The memory of a piece is the caller's. All functions wait
 * for transfers, and return what the disk says.
 */
#ifndef SPILLFS_IO_PLACE_H
#define SPILLFS_IO_PLACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/piece.h"

extern const struct piece_place place_nowhere;

static inline uint64_t place_pages(const struct piece *p)
{
	return p->data | p->reserved;
}

static inline bool place_is_on_disk(const struct piece *p)
{
	return p->place.slot != PIECE_NO_SLOT;
}

static inline bool place_is_loose(const struct piece *p)
{
	return place_is_on_disk(p) && !p->place.packed && p->cold && !p->promised && !p->noise && p->data;
}

/* Changes what a piece has and where it is on the disk, and all that counts it. */
void place_set_locked(struct piece_space *s, struct piece *p, uint64_t data, uint64_t reserved, const struct piece_place *place);

/* Gives n slots in a row back. */
void place_give(struct piece_space *s, uint64_t first, uint64_t n);
/* Space for these pages of a slot, where the file system can say so. */
int place_reserve(struct piece_space *s, uint64_t slot, uint64_t pages);

/* Writes pages of a piece, whose memory is at mem (NULL: it has none), to a slot. packs: compressed, if that is less. Where there is no memory
 * to compress them in, they are no noise: a cold piece is loose then. */
int place_put(struct piece_space *s, struct piece *p, const unsigned char *mem, uint64_t data, bool packs, struct piece_place *out);
/* Writes their compressed form to to->slot. Leaves to->packed at 0 where they do not shrink. -ENOMEM: there is no memory to try it. */
int place_pack(struct piece_space *s, const unsigned char *mem, uint64_t data, struct piece_place *to);
/* Reads a compressed form to mem, where it lies in the piece. Pages that are data no longer come as well. */
int place_unpack(struct piece_space *s, const struct piece *p, unsigned char *mem);

/* Bytes of a piece, of whatever pages. mem: all of them; NULL: they are read from the disk, where they lie as they are. */
int place_read(struct piece_space *s, const struct piece *p, const unsigned char *mem, char *to, size_t n, size_t off, unsigned how);
/* The rest is for a piece that lies on the disk as it is. */
int place_write(struct piece_space *s, const struct piece *p, const char *buf, size_t n, size_t off, unsigned how);
/* Within a page of data. */
int place_zero(struct piece_space *s, const struct piece *p, size_t n, size_t off);
void place_punch(struct piece_space *s, const struct piece *p, uint64_t pages);

#endif
