/*
 * An array as one .zst file: the frames of its blocks, and a seek table.
 *
 * Invariants:
 *  1. The frames decode to the array, one behind the other; the seek table has an entry for each.
 *  2. Blocks of which nothing is stored share frames, so that the file of a sparse array is small.
 */
#include <errno.h>
#include <stdlib.h>

#include "block/format.h"
#include "view/formats.h"
#include "view/inside.h"
#include "util/vec.h"

#define FRAMES_MAX (1u << 24)
#define ZERO_FRAME_MAX (1u << 30) /* the largest frame of the seekable format */
#define FRAME_BYTES (1u << 20)    /* of arrays without blocks */

struct frames {
	struct layer_seek_entry *v;
	uint32_t n;
	size_t cap;
};

static void note_frame(struct view *v, struct frames *list, uint64_t stored, uint64_t raw)
{
	int err = list->n == FRAMES_MAX ? -EFBIG : VEC_RESERVE(list->v, list->cap, list->n + 1);

	if (err) {
		view_fail(v, err);
		return;
	}
	list->v[list->n++] = (struct layer_seek_entry){ (uint32_t)stored, (uint32_t)raw };
}

/* The frames of a hole: of whole blocks, so that a block is in one frame. */
static void put_hole(struct view *v, uint64_t bytes, uint32_t block_bytes, struct frames *list)
{
	uint64_t most = ZERO_FRAME_MAX / block_bytes * block_bytes;
	struct view_frame f;

	for (uint64_t len; bytes && !view_end(v); bytes -= len) {
		len = bytes < most ? bytes : most;
		view_plan_zeros(len, &f);
		view_put_frame(v, &f);
		note_frame(v, list, f.len_bytes, len);
	}
}

/* The frame of what comes at `off`, or those of the hole there; returns how much that is. */
static uint64_t put_next(struct view *v, const struct view_input *in, uint64_t off, struct frames *list)
{
	uint64_t left = view_source_bytes(v, in->source) - off, len = view_hole_bytes(v, in->source, off);
	uint32_t block_bytes = view_source_block_bytes(v, in->source);
	struct view_frame f;

	if (len) {
		put_hole(v, len, block_bytes, list);
		return len;
	}
	len = block_bytes ? block_bytes : FRAME_BYTES;
	len = len < left ? len : left;
	view_plan_frame(v, &(struct view_range){ in->source, VIEW_ACCEPT_PLAIN, off, len, len, 1, SUMMARY_NONE }, &f);
	view_put_frame(v, &f);
	note_frame(v, list, f.len_bytes, len);
	return len;
}

/* A file without frames is none for `zstd -d`: a frame without content. */
static void put_empty(struct view *v, struct frames *list)
{
	static const uint8_t frame[] = {
		0x28, 0xb5, 0x2f, 0xfd, /* magic */
		0x20, 0x00,             /* single segment, content size 0 in one byte */
		0x01, 0x00, 0x00,       /* last block, raw, empty */
	};

	view_put(v, frame, sizeof(frame));
	note_frame(v, list, sizeof(frame), 0);
}

static void put_seek_table(struct view *v, const struct frames *list)
{
	uint32_t entries = list->n * (uint32_t)sizeof(*list->v);
	const struct layer_skip head = { LAYER_SEEK_MAGIC, entries + (uint32_t)sizeof(struct layer_seek_footer) };
	const struct layer_seek_footer foot = { .nframes = list->n, .magic = LAYER_SEEK_FOOTER_MAGIC };

	view_put(v, &head, sizeof(head));
	view_put(v, list->v, entries);
	view_put(v, &foot, sizeof(foot));
}

int zst_lay(struct view *v, const struct view_input *in)
{
	uint64_t size = view_source_bytes(v, in->source);
	struct frames list = { 0 };

	for (uint64_t off = 0; off < size && !view_end(v);)
		off += put_next(v, in, off, &list);
	if (!size)
		put_empty(v, &list);
	if (!view_end(v))
		put_seek_table(v, &list);
	free(list.v);
	return view_end(v);
}
