/*
 * One layer file: layers/NNNNNNNN.zst, written once from front to back, then sealed and immutable.
 *
 * Appends are serialised by the layer itself; reads of frames need no lock. A failed append cuts the
 * file back, so that the file is always a sequence of whole frames.
 */
#ifndef SPILLFS_BLOCK_LAYER_H
#define SPILLFS_BLOCK_LAYER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "block/index.h"
#include "io/io.h"

struct layer;

/* "NNNNNNNN.zst" (decimal, at least eight digits). */
#define LAYER_NAME_MAX 32
void layer_name(uint64_t number, char out[LAYER_NAME_MAX]);
/* The same behind "layers/": the file of a layer in the store's directory. */
void layer_path(uint64_t number, char out[LAYER_NAME_MAX]);
/* -EINVAL if the name is not a layer's. */
int layer_name_parse(const char *name, uint64_t *number_out);

/* d is the store's directory. Makes the file (a leftover of the same number is truncated) and writes its
 * header; durable after layer_sync and a sync of the directory. */
int layer_create(struct io_dir *d, uint64_t number, const uint8_t store_uuid[16], struct layer **out);
/* Opens the open layer after a crash: cuts it back to committed_bytes and reads the segment chain that
 * ends at segment_off (0: none) into its index. -EUCLEAN (logged) if it is shorter or damaged. */
int layer_recover(struct io_dir *d, uint64_t number, const uint8_t store_uuid[16], uint64_t committed_bytes,
		  uint64_t segment_off, struct layer **out);
/* Opens a sealed layer: checks footer, seek table, header and index. -EUCLEAN, logged. */
int layer_open(struct io_dir *d, uint64_t number, const uint8_t store_uuid[16], struct layer **out);
void layer_close(struct layer *l);

uint64_t layer_number(const struct layer *l);
bool layer_sealed(const struct layer *l);
uint64_t layer_bytes(struct layer *l);        /* length of the file so far */
uint64_t layer_frame_bytes(struct layer *l);  /* of its frames alone */
/* The records of a sealed or recovered layer, or of the open one up to the last segment. Owned by l;
 * of an open layer only stable while the caller excludes layer_segment and layer_seal. */
const struct index *layer_index(const struct layer *l);
const struct layer_index_head *layer_head(const struct layer *l); /* sealed layers only */

/* Appends one frame of raw_len decoded bytes. -ENOSPC etc: nothing was appended. Open layers only. */
int layer_append(struct layer *l, const void *frame, size_t len, size_t raw_len, uint64_t *off_out);
/* Appends a segment with the records of `added`, merges them into the index; *segment_off_out is what layer_recover wants. */
int layer_segment(struct layer *l, const struct index *added, uint64_t commit, int64_t time_ns, uint64_t *segment_off_out);
/* Writes index and seek table. The caller syncs afterwards. After a failure the layer is open as before. */
int layer_seal(struct layer *l, uint64_t commit, int64_t time_ns);
int layer_sync(struct layer *l);

/* Reads the stored bytes of a frame into frame (frame_len of them). -EUCLEAN, logged, when the file is shorter. */
int layer_read(struct layer *l, uint64_t off, void *frame, size_t frame_len);
/* Reads and decodes the frame of b, whole (b->frame_raw bytes) into out; damage is logged with layer and offset plus `who`
 * (the array and block, as text for the log) and is -EUCLEAN. */
int layer_decode(struct layer *l, const struct layer_block *b, const char *who, void *out);

#endif
