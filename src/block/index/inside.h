/*
 * Shared by the files of the index, from the ground up: record.c (one record), names.c (names and chain), index.c (all of them,
 * in memory); piece.c (a record or a name as bytes), head.c (what is around the pieces), stream.c (bytes, piece by piece), pages.c
 * (bytes, single records), decode.c (bytes, as a whole). For these only.
 */
#ifndef SPILLFS_BLOCK_INDEX_INSIDE_H
#define SPILLFS_BLOCK_INDEX_INSIDE_H

#include "block/index.h"

/* Up to this many newer ones are put in one by one, more are merged in one pass. */
#define INDEX_MERGE_FEW 32
#define INDEX_NAME_BYTES_MAX 255

/* record.c */

/* A copy of n bytes of text with a NUL behind; the empty text is shared. NULL when memory is out. */
char *index_text_new(const char *text, size_t n);

bool index_record_xattrs_valid(const struct index_record *r);

/* names.c */

void index_names_free(struct index *ix);
int index_names_merge(struct index *ix, const struct index *newer);
void index_names_flatten(struct index *ix);
/* May a name of len bytes stand in an index? */
bool index_name_valid(const char *name, size_t len);
/* 0, -EINVAL: a number is 0 or stands there twice, -ENOMEM. */
int index_chain_check(const uint64_t *chain, size_t n);

/* piece.c */

/* The record at p, of which len_bytes lies inside what may be read and is as long as struct layer_record at least. -ENOMEM,
 * -EUCLEAN. */
int index_record_decode(const uint8_t *p, struct index_record **out);
/* The same for a name, which is as long as it says and as struct layer_name at least; the text is the caller's. */
int index_name_decode(const uint8_t *p, struct index_name *out);
bool index_record_valid(const struct index_record *r);
/* Encoded lengths, and the bytes, to zeroed memory of that length. */
size_t index_record_bytes(const struct index_record *r);
void index_record_encode(const struct index_record *r, uint8_t *p, size_t len);
size_t index_name_bytes(const struct index_name *n);
void index_name_encode(const struct index_name *n, uint8_t *p, size_t len);

/* head.c */

/* The head; the checksum of all is right, and its counts can be. -EUCLEAN, and what the source says. */
int index_head_read(const struct index_source *src, struct layer_index_head *out);
/* All that index_writer_end says but the checksum. */
void index_head_fill(struct layer_index_head *head, uint64_t nrecords, uint64_t nnames, uint64_t nchain, uint64_t body_bytes,
		     uint64_t raw_bytes);
/* The zstd frame at p: its stored length, and what it decodes to, which is at most `most` bytes. */
bool index_frame_measure(const uint8_t *p, size_t left, uint64_t most, size_t *len_out, size_t *raw_out);
/* -ENOMEM, -EUCLEAN. */
int index_frame_decode(const uint8_t *p, size_t len, uint8_t *out, size_t raw);

#endif
