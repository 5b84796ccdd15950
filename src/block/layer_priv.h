/*
 * What layer.c (writing, reading) and layer_open.c (opening, recovery) share. For these two only.
 */
#ifndef SPILLFS_BLOCK_LAYER_PRIV_H
#define SPILLFS_BLOCK_LAYER_PRIV_H

#include <stdatomic.h>

#include "block/layer.h"
#include "util/lock.h"

#define LAYER_HEADER_FRAME_BYTES (sizeof(struct layer_skip) + sizeof(struct layer_header))
/* zstd's seekable format refuses tables with more entries. */
#define LAYER_FRAMES_MAX 0x8000000u

struct layer {
	struct io *io;
	uint64_t number;
	char name[LAYER_NAME_MAX + 8]; /* for the log: layers/NNNNNNNN.zst */
	_Atomic bool sealed;
	_Atomic uint64_t end_bytes;   /* of the whole frames */
	_Atomic uint64_t frame_bytes; /* of the zstd frames among them */
	struct index ix;
	struct layer_index_head head; /* when sealed */

	struct lock lock;              /* serialises appends; what follows is under it */
	struct layer_seek_entry *seek; /* of every frame so far, until the layer is sealed */
	size_t nseek, cap_seek;
	uint64_t segment_off;         /* the last segment, 0: none */
	uint64_t segment_frame_bytes; /* frame_bytes when it was written */
	bool tail;                    /* bytes behind end_bytes wait to be cut off */
	int broken;                   /* -errno for all later writes */
};

int layer_new(struct io *io, uint64_t number, struct layer **out); /* takes io over on success */
int layer_seek_reserve(struct layer *l);
/* Notes one more frame at the end; the room is reserved. raw_bytes 0: skippable. */
void layer_seek_push(struct layer *l, uint64_t stored_bytes, uint64_t raw_bytes);
void layer_seek_drop(struct layer *l);

#endif
