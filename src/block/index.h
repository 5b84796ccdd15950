/*
 * The index of a layer in memory: built while a layer is written, parsed when it is read, encoded and
 * decoded for its segments and its final index. No I/O, no locks.
 *
 * Invariants: (1) records are sorted by ino, one each; (2) block entries of a record are sorted, one
 * for each block; (3) tombstones are sorted, disjoint and not adjacent, and apply before the entries; (4)
 * names are sorted by (parent, name as bytes), one each.
 */
#ifndef SPILLFS_BLOCK_INDEX_H
#define SPILLFS_BLOCK_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "block/facts.h"
#include "block/format.h"

/* Blocks that share a frame begin at multiples of this in what it decodes to. */
#define INDEX_PACK_ALIGN 16u

/* The bytes of a frame that a block of raw_len in it accounts for, by what it takes of the decoded bytes, padding
 * included. Rounded up, so that the frame of live blocks is never counted as partly dead. */
static inline uint64_t index_share(uint32_t frame_len, uint32_t frame_raw, uint32_t raw_len)
{
	uint64_t taken = ((uint64_t)raw_len + INDEX_PACK_ALIGN - 1) / INDEX_PACK_ALIGN * INDEX_PACK_ALIGN;

	if (taken >= frame_raw)
		return frame_len;
	return taken ? (frame_len * taken + frame_raw - 1) / frame_raw : 1;
}

struct index_record {
	struct facts facts; /* layers do not store nlink and parent, which follow from names, nor atime_ns: it is mtime_ns */
	uint64_t version;
	uint16_t type; /* enum layer_record_type */
	uint32_t block_bytes;
	char *path, *dtype, *shape, *target; /* NUL-terminated, owned; never NULL in a parsed record */
	void *xattrs, *data;                 /* owned; NULL when empty */
	uint32_t xattrs_len, data_len;
	struct layer_block *blocks;
	size_t nblocks, cap_blocks;
	struct layer_tomb *tombs;
	size_t ntombs, cap_tombs;
};

struct index_name {
	uint64_t parent;
	uint64_t ino; /* 0: gone */
	char *name;   /* NUL-terminated, owned */
};

struct index {
	struct index_record **v; /* sorted by ino */
	size_t n, cap;
	struct index_name *names;
	size_t nnames, cap_names;
	uint64_t *chain; /* layers to be replayed for the state of this one, in order, itself last */
	size_t nchain;
};

void index_init(struct index *ix);
void index_fini(struct index *ix);
/* Memory that it holds. Takes time with its size. */
size_t index_memory(const struct index *ix);
/* No record and no name; a chain alone says nothing new. */
bool index_empty(const struct index *ix);

/* Position of the record of ino in ix->v; SIZE_MAX if there is none. */
size_t index_where(const struct index *ix, uint64_t ino);
/* The record of ino, or NULL. */
struct index_record *index_find(const struct index *ix, uint64_t ino);
/* The record of ino, made empty (type INODE, strings "") if missing. -ENOMEM. */
int index_add(struct index *ix, uint64_t ino, struct index_record **out);
/* Replaces the text fields; each may be NULL for "". -ENOMEM, -ENAMETOOLONG (over 65535). */
int index_record_set_names(struct index_record *r, const char *path, const char *dtype, const char *shape);
int index_record_set_target(struct index_record *r, const char *target);
/* Copies. -ENOMEM, -EFBIG (over 2^32 - 1). */
int index_record_set_xattrs(struct index_record *r, const void *xattrs, size_t len);
int index_record_set_data(struct index_record *r, const void *data, size_t len);
/* Adds one more. -ENOMEM, -EFBIG. */
int index_record_add_xattr(struct index_record *r, const char *name, const void *value, size_t len);
/* All but blocks and tombstones becomes that of `from`; block_bytes 0 changes nothing. -ENOMEM. */
int index_record_set_facts(struct index_record *r, const struct index_record *from);
/* A record as index_add makes it, in no index. -ENOMEM. */
int index_record_new(uint64_t ino, struct index_record **out);
void index_record_free(struct index_record *r);
/* The xattr of this name, not NUL-terminated; false if there is none. */
bool index_record_xattr(const struct index_record *r, const char *name, const void **value_out, size_t *len_out);
/* Calls each for every xattr (name NUL-terminated); a non-zero return ends the walk and is returned. */
int index_record_xattr_walk(const struct index_record *r,
			    int (*each)(void *ctx, const char *name, const void *value, size_t len), void *ctx);
/* Adds or replaces the entry of b->block. -ENOMEM. */
int index_record_put(struct index_record *r, const struct layer_block *b);
/* The entry of the block, or NULL. */
struct layer_block *index_record_block(const struct index_record *r, uint64_t block);
/* Do the tombstones cover the block? */
bool index_record_hides(const struct index_record *r, uint64_t block);
/* Makes r the record that replaying the newer one behind it gives. -ENOMEM: r is only good for index_record_free. */
int index_record_merge(struct index_record *r, const struct index_record *newer);
/* Tombstones, and entries that say "all zeros", go. */
void index_record_flatten(struct index_record *r);
/* Drops the entries in [first, first + count) and adds the range to the tombstones, merged. -ENOMEM. */
int index_record_tomb(struct index_record *r, uint64_t first, uint64_t count);
/* Turns the record into GONE: no entries, tombstones, target, xattrs, data. */
void index_record_gone(struct index_record *r);

/* Names. put adds or replaces; it moves what stands behind. -ENOMEM. find: true if the index says something
 * of it; *ino_out 0: gone. */
int index_name_put(struct index *ix, uint64_t parent, const char *name, uint64_t ino);
bool index_name_find(const struct index *ix, uint64_t parent, const char *name, uint64_t *ino_out);
/* Positions [*first_out, *end_out) in ix->names of the directory's names. */
void index_name_range(const struct index *ix, uint64_t parent, size_t *first_out, size_t *end_out);
/* The order of invariant (4). */
int index_name_compare(const struct index_name *a, const struct index_name *b);
/* A copy of n numbers in place of the chain. -ENOMEM. */
int index_set_chain(struct index *ix, const uint64_t *chain, size_t n);

/* Applies the newer index on top of ix, so that ix equals both replayed in order: newer facts and
 * names win, newer tombstones drop older entries, newer entries replace, GONE replaces all; the chain
 * is the newer's. -ENOMEM: ix is only good for index_fini. */
int index_merge(struct index *ix, const struct index *newer);
/* The same without copies of records: `newer` is empty afterwards. -ENOMEM: both are as before, or `newer` is empty and ix only
 * good for index_fini. */
int index_take(struct index *ix, struct index *newer);
/* Makes a merged index a whole state: gone records and names, tombstones, and entries that say "all
 * zeros" go. */
void index_flatten(struct index *ix);

/* Parses n bytes of head and body. -EUCLEAN on any damage: checksum, counts, order, overflow, lengths
 * (not logged), -ENOMEM. Safe on hostile input; memory is bounded by n times some 10^5. */
int index_decode(const void *bytes, size_t n, struct layer_index_head *head_out, struct index *ix_out);

/* An index piece by piece (index/stream.c), when it is too long to be in memory: records in order, then names in order. */

/* Where the stored bytes of an index are, its head first. A read outside [0, len) is not asked for. */
struct index_source {
	int (*read)(void *ctx, void *buf, size_t n, uint64_t off);
	void *ctx;
	uint64_t len;
};

/* Where they go, but for the head: one write behind the other. */
struct index_sink {
	int (*write)(void *ctx, const void *bytes, size_t n);
	void *ctx;
};

struct index_source index_source_of(const void *bytes, size_t n);
/* The xxh64 of an index with this head, whatever the source has in its place. */
int index_source_hash(const struct index_source *src, const struct layer_index_head *head, uint64_t *out);

/* Errors of both: those of source and sink, -ENOMEM; reading: as index_decode; writing: -EINVAL for what index_decode would refuse,
 * -EFBIG (body over 2^32 - 1). */
struct index_reader;
/* Verifies the checksum first. */
int index_reader_new(struct index_source src, struct index_reader **out);
void index_reader_free(struct index_reader *r);
/* The next one, the caller's; -ENOENT: there are no more. Names come when all records were asked for. */
int index_reader_record(struct index_reader *r, struct index_record **out);
int index_reader_name(struct index_reader *r, struct index_name *out);

struct index_writer;
int index_writer_new(uint64_t layer, struct index_sink sink, struct index_writer **out);
void index_writer_free(struct index_writer *w);
int index_writer_record(struct index_writer *w, const struct index_record *r);
int index_writer_name(struct index_writer *w, const struct index_name *n);
/* Writes the chain, and fills in magic, version, counts, body_bytes and raw_bytes (sum of raw_len of the entries with a frame in
 * the writer's layer). The other fields are the caller's; xxh64: index_source_hash. */
int index_writer_end(struct index_writer *w, const uint64_t *chain, size_t nchain, struct layer_index_head *head);
/* All records and names of ix. */
int index_write(struct index_writer *w, const struct index *ix);

/* Single records of an index that stays encoded (index/pages.c): it is scanned once for the pages that it is stored in, and then a page
 * is read for a record. Errors as index_decode. */
struct index_page {
	uint64_t first_ino, last_ino;
	uint64_t xxh64;       /* of the stored bytes */
	uint32_t off, len;    /* stored, behind the head */
	uint32_t raw;         /* decoded bytes */
	uint32_t nrecords;
};

struct index_pages {
	struct index_page *v; /* those that hold records, by ino */
	size_t n, cap;
};

int index_pages_scan(const struct index_source *src, struct index_pages *out);
void index_pages_fini(struct index_pages *ps);
/* The only page that may have a record of ino; NULL: none has. */
const struct index_page *index_pages_find(const struct index_pages *ps, uint64_t ino);
/* page->len stored bytes become page->raw bytes at out. */
int index_page_decode(const struct index_page *page, const void *stored, void *out);
/* A copy of the record in a decoded page, for index_record_free. -ENOENT. */
int index_page_record(const struct index_page *page, const void *decoded, uint64_t ino, struct index_record **out);

#endif
