/*
 * The extent map of one bucket: sorted by file offset, in memory. Pure data structure: no I/O, no
 * locks (the caller holds the array's).
 *
 * Invariants: (1) extents are sorted by off, not empty and disjoint; (2) two extents that are adjacent
 * both in the file and in the same physical file are one extent; (3) offsets and lengths are 64-bit
 * and never wrap; (4) no two extents have a byte of a physical file in common.
 */
#ifndef SPILLFS_BLOCK_EXTENT_H
#define SPILLFS_BLOCK_EXTENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "block/partial.h"

struct extent {
	uint64_t off_bytes;  /* in the bucket */
	uint64_t len_bytes;
	uint64_t phys_bytes; /* in the physical file */
	uint32_t file;
};

struct extent_map {
	struct extent *v;     /* n of them, in an allocation with room on both sides */
	size_t n;
	struct extent *all;
	size_t cap;
	uint64_t mapped_bytes; /* sum of len_bytes */
	struct partial partial;
};

void extent_map_init(struct extent_map *m);
void extent_map_fini(struct extent_map *m);

/* Index of the first extent that ends behind off (it may begin behind off too); m->n if none. */
size_t extent_map_find(const struct extent_map *m, uint64_t off_bytes);
/* e must not overlap an extent of the map. -ENOMEM, -EEXIST on overlap, -EINVAL on wrap or len 0. */
int extent_map_insert(struct extent_map *m, const struct extent *e);
/* Removes [off, off + len) and calls freed for every physical piece removed, in file order, after the
 * map is changed. -ENOMEM: nothing is changed then. */
int extent_map_remove(struct extent_map *m, uint64_t off_bytes, uint64_t len_bytes,
		      void (*freed)(void *ctx, const struct extent *piece), void *ctx);
/* Moves what lies at or behind off into the empty map `tail`. -ENOMEM: nothing is changed. */
int extent_map_split(struct extent_map *m, uint64_t off_bytes, struct extent_map *tail);
/* True if some extent has a byte in the page of `file` that has this byte. No extent may have all of that page. */
bool extent_map_has_page(const struct extent_map *m, uint32_t file, uint64_t phys_bytes);

#endif
