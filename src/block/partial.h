/*
 * The pages of physical files that the extents of one bucket use in part: a hash table from page to bytes in use, so that
 * whether a page has become free is known without a look at the extents. Pure data structure: no I/O, no locks.
 *
 * Invariant: a page is in the table if more than none and fewer than all of its bytes are in use. The
 * caller knows whether another page is unused or full: bytes are added to an unused one, and taken from a full one.
 */
#ifndef SPILLFS_BLOCK_PARTIAL_H
#define SPILLFS_BLOCK_PARTIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PARTIAL_PAGE_BYTES 4096u

struct partial_page {
	uint64_t key; /* 0: empty */
	uint32_t used_bytes;
};

struct partial {
	struct partial_page *v;
	size_t n, cap; /* a power of two */
};

void partial_fini(struct partial *p);
/* Room for so many more pages. -ENOMEM. */
int partial_reserve(struct partial *p, size_t more);
/* Notes that [phys, phys + len) is used, or unused; all of it was the opposite. Each adds at most two pages, and needs their room. */
void partial_add(struct partial *p, uint32_t file, uint64_t phys_bytes, uint64_t len_bytes);
void partial_remove(struct partial *p, uint32_t file, uint64_t phys_bytes, uint64_t len_bytes);
/* Is the page that has this byte used in part? */
bool partial_has(const struct partial *p, uint32_t file, uint64_t phys_bytes);

#endif
