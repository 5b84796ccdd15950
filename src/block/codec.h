/*
 * Frames: one block of an array becomes one zstd frame with content size and checksum (RFC 8878), so
 * that `zstd -d` reads it. At level 0 the frame holds raw blocks only. Before compression a block
 * may be filtered (filter.h).
 *
 * Thread-safe: contexts are per thread. Nothing blocks.
 */
#ifndef SPILLFS_BLOCK_CODEC_H
#define SPILLFS_BLOCK_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "block/filter.h"
#include "block/summary.h"

/* A filter, or a choice. */
enum codec_policy {
	CODEC_POLICY_AUTO = -1, /* the best of several on a sample of the block */
	CODEC_POLICY_NONE = FILTER_NONE,
	CODEC_POLICY_SHUFFLE = FILTER_SHUFFLE,
	CODEC_POLICY_RECORD = FILTER_RECORD, /* each field has the best of several */
	/* and so on: for blocks that these steps do not fit, none */
};
/* Levels of zstd: negative ones are faster and store more. 0 is none. */
#define CODEC_LEVEL_MIN (-7)
#define CODEC_LEVEL_MAX 19
#define CODEC_LEVEL_PACK (-100)

struct codec_params {
	int level;                 /* of zstd; 0 stores raw blocks ("none"); CODEC_LEVEL_PACK too, and AUTO packs them */
	enum codec_policy policy;
	uint32_t elem_bytes;       /* element size; shuffle needs 2..16, otherwise it is never used */
	enum summary_type type;    /* of the elements; NONE: AUTO shuffles, or looks for numbers if elem_bytes is 1 */
	struct record record;      /* of records: the types of their fields (enum summary_type); else 0 */
};

/* Does a codec of this level compress? */
static inline bool codec_compresses(int level)
{
	return level && level != CODEC_LEVEL_PACK;
}

/* An array's memory of its last blocks; opaque. */
struct codec_hint {
	int bits;
	uint8_t codes[RECORD_CODES_MAX]; /* the fields' chains */
	bool quick;                      /* their columns are as short at a low level */
};
#define CODEC_HINT_NONE ((struct codec_hint){ .bits = -1 })

/* "none", or the steps with the bytes of an element: "scale+delta+pack:8"; of records those of each field in turn:
 * "record(scale+delta+pack:8, 3x pack:4, none:1)". */
#define CODEC_DESCRIPTION_MAX ((RECORD_CODES_MAX + 1) * (FILTER_TEXT_MAX + 12))
void codec_describe(const struct filter *f, char out[CODEC_DESCRIPTION_MAX]);

/* Can blocks of these elements have the filter that the policy names? */
bool codec_suits(const struct codec_params *p);
/* Capacity that codec_encode needs for n raw bytes. */
size_t codec_bound(size_t n);
/* Encodes n > 0 raw bytes, aligned to 8. *filter_out tells what was applied, to elements of which size. `hint` is the array's
 * memory, CODEC_HINT_NONE at first. AUTO samples again every 16th block, and a block that the filter does
 * not fit. Where blocks do not shrink, those that look like noise are stored raw, and only every 16th of them is tried.
 * -ENOMEM, -EIO (library failure). */
int codec_encode(const struct codec_params *p, const void *raw, size_t n, void *frame, size_t cap,
		 struct codec_hint *hint, size_t *frame_len_out, struct filter *filter_out);
/* Decodes a frame of exactly n raw bytes into out, aligned to 8. -EUCLEAN when the frame is damaged, has another
 * content size, no checksum, or trailing bytes, or there is no such filter (not logged: the caller knows the names). -ENOMEM. */
int codec_decode(const void *frame, size_t frame_len, const struct filter *filter, void *out, size_t n);

#endif
