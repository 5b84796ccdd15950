/*
 * The part of a bucket that is stored compressed: its pages in pool files of io/spill that have gone to the disk packed (io_saved). They
 * count as what they take there, until a write brings them back.
 *
 * Threads: the map as the array's lock has it. The sum may be read by any; who makes it less holds the inode's lock; packed_set needs the lock of struct arrays.
 */
#ifndef SPILLFS_ARRAY_PACKED_H
#define SPILLFS_ARRAY_PACKED_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct extent;
struct extent_map;
struct pool;

struct packed {
	_Atomic uint64_t saved_bytes; /* by compression, of all extents; as of this io_packings: */
	_Atomic uint64_t packings;
};

/* The bytes that are saved of an extent (touched: that a write to it brings back); of all extents; and those that a write to [off, end) brings
 * back. */
uint64_t packed_of(struct pool *p, const struct extent *e, bool touched);
uint64_t packed_count(struct pool *p, const struct extent_map *m);
uint64_t packed_between(struct pool *p, const struct extent_map *m, uint64_t off, uint64_t end);

/* The space that mapped bytes take. */
uint64_t packed_stored(const struct packed *k, uint64_t mapped_bytes);
/* So much less is saved, until the next count. */
void packed_less(struct packed *k, uint64_t bytes);
/* A count that began at these io_packings. False: a later one is known. */
bool packed_set(struct packed *k, uint64_t packings, uint64_t saved_bytes);

#endif
