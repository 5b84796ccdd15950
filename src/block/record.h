/*
 * Blocks of records, field by field: the values of each field stand one behind another, as a column that has a chain of filter.h
 * of its own.
 *
 * A list of fields is at most RECORD_CODES_MAX bytes, so that it has room in a block's entry (docs/FORMAT.md): one for each field, and
 * one for up to 32 neighbours that are like the field before them. What of a record no code speaks of is its rest, which is a column
 * of bytes without a chain.
 *
 * Pure functions, thread-safe; nothing is allocated.
 */
#ifndef SPILLFS_BLOCK_RECORD_H
#define SPILLFS_BLOCK_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RECORD_CODES_MAX 16u
#define RECORD_FIELDS_MAX 256u
#define RECORD_COLUMNS_MAX (RECORD_FIELDS_MAX + 1)
#define RECORD_BYTES_MAX 65535u

/* The low 3 bits of a code are the logarithm of the field's bytes (1 to 16), or RECORD_REPEAT; above them is its value. */
#define RECORD_REPEAT 7u
#define RECORD_VALUE_MAX 31u

/* A list of fields. What their values are is its owner's to say: types (enum summary_type), or chains (enum filter_step). */
struct record {
	uint16_t bytes;      /* of one record; 0: there are none */
	uint16_t lead_bytes; /* of a block, before its first whole record */
	uint8_t ncodes;
	uint8_t codes[RECORD_CODES_MAX];
};

struct record_column {
	uint16_t at, width; /* bytes of a record */
	uint8_t value;
	bool rest; /* of no code; value 0 */
};

/* A list of no fields yet. */
struct record record_begin(uint32_t bytes, uint32_t lead_bytes);
/* Adds a field of 1, 2, 4, 8 or 16 bytes behind the others. False: there is no room, and the list ends here. */
bool record_add(struct record *r, uint8_t value, uint32_t width);
/* The columns of a record, in the order of its bytes, the rest last. 0: it is no list, or its fields are longer than the record. */
size_t record_columns(const struct record *r, struct record_column out[RECORD_COLUMNS_MAX]);
/* A list as a block's entry has it: in the counts, and in the bytes of both bounds. */
void record_store(const struct record *r, uint32_t *counts_out, uint64_t *min_out, uint64_t *max_out);
struct record record_load(uint8_t ncodes, uint32_t counts, uint64_t min, uint64_t max);
/* Whole records in a block of n bytes. */
size_t record_count(const struct record *r, size_t n);

/* The columns as they are worked on: each begins at a multiple of 8. */
size_t record_planes_bytes(size_t ncolumns, size_t n);
/* count records become columns, and columns records. */
void record_split(const struct record_column *v, size_t ncolumns, const void *records, size_t record_bytes, size_t count, void *planes);
void record_join(const struct record_column *v, size_t ncolumns, const void *planes, size_t record_bytes, size_t count, void *records);
/* Where the column behind one that begins at `at` in the planes begins. */
size_t record_next_plane(size_t at, const struct record_column *c, size_t count);

/* A block of n bytes, aligned to 8, as it is stored: its columns, each through the chain that is its value, then the bytes before the first
 * whole record and behind the last. A chain that a column does not take becomes the shuffle, or none; *all_fit: there was no such. r becomes
 * the list of what was applied. used: bytes of each column that are not zeros up to its end. `planes` has record_planes_bytes(), scratch and
 * out n; all but out are aligned to 8. -ERANGE: the list has no room for what was applied. */
int record_apply(struct record *r, const void *in, size_t n, void *planes, void *scratch, void *out, size_t used[RECORD_COLUMNS_MAX],
		 bool *all_fit);
/* The block again. -EUCLEAN: it was not made by record_apply. Reads nothing behind in + n and writes nothing behind out + n. */
int record_undo(const struct record *r, const void *in, size_t n, void *planes, void *out);

#endif
