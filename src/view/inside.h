/*
 * The inside of a view: shared by view.c (pieces, reading) and frame.c (zstd frames).
 */
#ifndef SPILLFS_VIEW_INSIDE_H
#define SPILLFS_VIEW_INSIDE_H

#include "view/view.h"

enum piece_kind {
	PIECE_BYTES,    /* where: in bytes_put */
	PIECE_ZEROS,
	PIECE_DATA,     /* where: in the source */
	PIECE_MAPPED,   /* where: the first element; count: elements (of bits) */
	PIECE_STORED,   /* where: the block whose frame it is */
	PIECE_RLE,      /* zstd blocks of 128 KiB of zeros, none of them the last of its frame */
	PIECE_FILTERED, /* where: in filtereds; count: bytes of it that come before */
	PIECE_DELTAS,   /* the same */
};

struct view_piece {
	uint64_t at, where, count;
	uint32_t source;
	uint8_t kind; /* enum piece_kind */
	uint8_t map;  /* enum view_map */
	uint16_t unused;
};

/* [off, off + len) of a source, then zeros up to decoded_bytes, filtered as a whole by steps that keep its length; or as DELTAS, of
 * decoded_bytes. */
struct view_filtered {
	uint64_t off, len, decoded_bytes;
	uint32_t elem_bytes, steps;
};

struct view {
	struct array array; /* from view_array on */
	struct view_source *sources;
	size_t nsources, cap_sources;
	struct view_piece *pieces;
	size_t npieces, cap_pieces;
	struct view_filtered *filtereds;
	size_t nfiltereds, cap_filtereds;
	unsigned char *bytes_put;
	size_t nbytes_put, cap_bytes_put;
	uint64_t bytes;
	size_t charged_bytes; /* to the account, from view_array on */
	int err;
};

void view_fail(struct view *v, int err);
/* The frame of a block, as stored; len is its length. */
void view_put_stored(struct view *v, unsigned source, uint64_t block, uint64_t len);
/* n zstd blocks, each 128 KiB of zeros, that are not the last of their frame. */
void view_put_zero_blocks(struct view *v, uint64_t n);
/* Bytes [skip, skip + len) of what the filter gives. */
void view_put_filtered(struct view *v, const struct view_filtered *f, unsigned source, uint64_t skip, uint64_t len);

#endif
