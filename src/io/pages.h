/*
 * The bytes of a file in memory: pages, holes, what is reserved, and what all of it was when it was synced last. Private to io/mem.
 *
 * Invariants: (1) a page beyond the size does not exist, and the bytes of the last page beyond the size are zero, so that growth
 * shows zeros; (2) a page that does not exist is a hole; (3) a file that is synced has no memory of older bytes.
 *
 * Not thread-safe: the file's lock is held. Offsets and lengths are bytes, of 44 bits at most.
 */
#ifndef SPILLFS_IO_PAGES_H
#define SPILLFS_IO_PAGES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGES_PAGE 4096u

/* The space that the files of a disk share. */
struct pages_space {
	_Atomic uint64_t used_pages, limit_pages;
};

struct pages_chunk;

struct pages_table {
	uint64_t nchunks;
	struct pages_chunk **chunks;
};

struct pages {
	struct pages_space *space;
	uint64_t size_bytes, synced_bytes;
	uint64_t npages; /* that take space */
	bool is_left;    /* but for them: nobody uses the file */
	struct pages_table now;
	struct pages_table before; /* pages that have changed since the last sync, as they were */
};

/* Up to n bytes: how many there were before the end. */
size_t pages_read(const struct pages *p, void *buf, size_t n, uint64_t off);
/* -ENOSPC, -ENOMEM: what came before is written. */
int pages_write(struct pages *p, const void *buf, size_t n, uint64_t off);
int pages_set_size(struct pages *p, uint64_t size);
/* Whole pages become holes. */
int pages_punch(struct pages *p, uint64_t off, uint64_t end);
/* Holes become reserved: zeros that take space, but no data. -ENOSPC: nothing is. */
int pages_reserve(struct pages *p, uint64_t off, uint64_t end);
/* The first part of the range that takes space, as data or reserved. */
bool pages_find(const struct pages *p, uint64_t off, uint64_t end, uint64_t *from, uint64_t *to);
/* The next data or hole at or after off; the size is a hole. -ENXIO: there is none. */
int pages_seek(const struct pages *p, uint64_t off, bool hole, uint64_t *out);

/* The space that the file takes is free for others, since only a loss of power could bring it back; or it is not. */
void pages_leave(struct pages *p, bool leave);
void pages_sync(struct pages *p);
/* As after a loss of power: what has changed since the last sync is as it was; with seed, by chance, page by page, and in some pages
 * sector by sector of 512 bytes. */
void pages_revert(struct pages *p, uint64_t seed);
void pages_free(struct pages *p);

#endif
