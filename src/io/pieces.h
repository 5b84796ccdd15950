/*
 * The bytes of a file that lies in pieces (io/piece.h): a table of those that there are. Where there is none is a hole. Private to io/spill.
 *
 * All functions are thread-safe: reads and writes go on beside each other, and wait for a cut. Offsets and lengths are bytes, of 44 bits
 * at most. Errors are -ENOMEM and those of the disk.
 */
#ifndef SPILLFS_IO_PIECES_H
#define SPILLFS_IO_PIECES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/piece.h"

struct pieces_chunk;

struct pieces {
	struct piece_space *space;
	bool kept;          /* in memory, while others can go */
	struct rwlock lock; /* all below; shared by who reads and changes pieces */
	struct pieces_chunk **chunks;
	size_t nchunks, cap;
	_Atomic uint64_t size_bytes;   /* grows under the shared lock, too */
	_Atomic uint64_t stored_pages; /* that take space */
};

void pieces_init(struct pieces *p, struct piece_space *space, bool kept);
/* Nobody uses it. */
void pieces_fini(struct pieces *p);

/* Up to n bytes: how many there were before the end. */
int pieces_read(struct pieces *p, void *buf, size_t n, uint64_t off, unsigned how, size_t *out);
/* After a failure, some of what came before may be written. */
int pieces_write(struct pieces *p, const void *buf, size_t n, uint64_t off, unsigned how);
int pieces_set_size(struct pieces *p, uint64_t size_bytes);
/* Whole pages become holes, parts of pages zeros; also behind the size. */
int pieces_punch(struct pieces *p, uint64_t off, uint64_t end);
/* Holes become reserved, also behind the size: they read as zeros, take space and are no data. After a failure, some are. */
int pieces_reserve(struct pieces *p, uint64_t off, uint64_t end);
/* The first part of the range that has a place, where writing it takes no space, within one piece. */
bool pieces_find(struct pieces *p, uint64_t off, uint64_t end, uint64_t *from, uint64_t *to);
/* As io_saved. */
uint64_t pieces_saved(struct pieces *p, uint64_t off, uint64_t end, bool touched);
/* The next data or hole at or after off; the size is a hole. -ENXIO: there is none. */
int pieces_seek(struct pieces *p, uint64_t off, bool hole, uint64_t *out);

#endif
