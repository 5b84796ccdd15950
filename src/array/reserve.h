/*
 * Space that the file of a column has besides what is written: fallocate has reserved it, inside the size or behind it, or it was reserved
 * ahead of appends. The first counts as stored and lasts; the second does not count, and goes when the column is closed.
 *
 * The file tells which pages have their place (io_find_allocated). A struct reserve tells how far they are wanted.
 *
 * Invariant: the kept sum is what the file has allocated in [behind_from, behind_end), which is all behind the end while a cut waits.
 * Nothing is written, reserved or punched there until the cut, so the sum is forgotten by what can change that part of the file or
 * come after it: a truncation, fallocate, growth, another file, and a count that finds no cut waiting. While others write to the file,
 * nothing is kept from one count to the next.
 *
 * Threads: as the array's lock has it (array.h). f is the column's file, size what the column says, not the file.
 */
#ifndef SPILLFS_ARRAY_RESERVE_H
#define SPILLFS_ARRAY_RESERVE_H

#include <stdbool.h>
#include <stdint.h>

struct facts;
struct io;
struct meta;
struct store;

struct reserve {
	uint64_t ahead_bytes;   /* allocated up to here, joined to the data */
	uint64_t wanted_bytes;  /* fallocate asked for it up to here: behind the end only */
	uint64_t row_end_bytes; /* the same, as the row has it; 0: there is none */
	uint64_t behind_from, behind_end, behind_bytes; /* the kept sum; an empty range: none is kept */
};

static inline uint64_t reserve_whole(uint64_t n)
{
	return (n + 4095) & ~(uint64_t)4095;
}

static inline bool reserve_is_wanted(const struct reserve *r, uint64_t size)
{
	return r->wanted_bytes > size;
}

/* Drops the kept sum. */
static inline void reserve_forget(struct reserve *r)
{
	r->behind_from = r->behind_end = 0;
}

/* By the row, which says what was committed; what a kill has left in the file besides is cut off. Errors of meta.db and of the cut. */
int reserve_load(struct reserve *r, struct meta *m, struct io *f, const struct facts *row);
/* Puts the end into the row of ino. The meta lock is held; without a file size is UINT64_MAX. */
int reserve_stage_locked(struct reserve *r, struct meta *m, uint64_t ino, uint64_t size);

/* The bytes that the column counts for. While a cut waits, the first call asks for every extent that it will cut, and keeps their sum. */
uint64_t reserve_stored(struct reserve *r, struct io *f, uint64_t size);
/* The bytes of the whole pages [off, end) that a write would add to that; stored: as it is. */
uint64_t reserve_growth(const struct reserve *r, struct io *f, uint64_t size, uint64_t stored, uint64_t off, uint64_t end);

/* Reserves ahead of an append that ends at `end`: as much again as the column has, within bounds. */
void reserve_ahead(struct reserve *r, struct store *s, struct io *f, uint64_t end);
/* Cuts what is reserved ahead: the column grows over a gap, where it would count as data once somebody reads it. */
int reserve_cut(struct reserve *r, struct io *f, uint64_t size);
/* fallocate has reserved [off, end). */
void reserve_made(struct reserve *r, uint64_t size, uint64_t off, uint64_t end);
/* A truncation: nothing behind the end is wanted any more. The caller cuts it. */
void reserve_unwanted(struct reserve *r);

#endif
