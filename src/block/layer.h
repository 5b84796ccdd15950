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
/* The file that a compaction writes: it means nothing when that has ended, and the name is used again. */
#define LAYER_COMPACTING "layers/compact.tmp"
void layer_name(uint64_t number, char out[LAYER_NAME_MAX]);
/* The same behind "layers/": the file of a layer in the store's directory. */
void layer_path(uint64_t number, char out[LAYER_NAME_MAX]);
/* -EINVAL if the name is not a layer's. */
int layer_name_parse(const char *name, uint64_t *number_out);

/* d is the store's directory. Makes the file (a leftover of the same number is truncated) and writes its
 * header; durable after layer_sync and a sync of the directory. */
int layer_create(struct io_dir *d, uint64_t number, const uint8_t store_uuid[16], struct layer **out);
/* The same under a name of the caller's choice, with number 0: it takes frames, but no segment, until
 * layer_adopt gives it its number. */
int layer_create_as(struct io_dir *d, const char *path, const uint8_t store_uuid[16], struct layer **out);
/* Gives the layer at `path` its number and its name, replacing a leftover of that name. Nobody else may use l
 * meanwhile. After a failure it is as before, and can be adopted again. */
int layer_adopt(struct layer *l, struct io_dir *d, const char *path, uint64_t number);
/* Opens the open layer after a crash: cuts it back to committed_bytes and reads the segment chain that
 * ends at segment_off (0: none) into its index. -EUCLEAN (logged) if it is shorter or damaged. */
int layer_recover(struct io_dir *d, uint64_t number, const uint8_t store_uuid[16], uint64_t committed_bytes,
		  uint64_t segment_off, struct layer **out);
/* The same for looking only: the file is opened for reading and stays as it is, what is behind committed_bytes too. */
int layer_look(struct io_dir *d, uint64_t number, const uint8_t store_uuid[16], uint64_t committed_bytes,
	       uint64_t segment_off, struct layer **out);
/* The same when what was committed is not known: up to the last segment that is whole, with all before it. The
 * bytes behind it stay in the file until the next write. -ENODATA: no segment; -EUCLEAN, logged: no layer of ours. */
int layer_salvage(struct io_dir *d, uint64_t number, const uint8_t store_uuid[16], struct layer **out,
		  uint64_t *committed_bytes_out, uint64_t *segment_off_out);
/* Opens a sealed layer: checks footer, seek table, header and index. -EUCLEAN, logged. */
int layer_open(struct io_dir *d, uint64_t number, const uint8_t store_uuid[16], struct layer **out);
/* The same in two steps. layer_open_frames checks footer and header only: frames can be read then, and what
 * layer_head says is checked as far as its own bounds. */
int layer_open_frames(struct io_dir *d, uint64_t number, const uint8_t store_uuid[16], struct layer **out);
/* Does nothing when the index is there. The caller excludes other calls of this one. */
int layer_load_index(struct layer *l);
bool layer_has_index(const struct layer *l);
/* A sealed layer's index goes; nobody else may use it. It can be loaded again. */
void layer_drop_index(struct layer *l);
/* Calls each with what the layer says of ino, if anything, and returns what that does. Without the whole index it reads a
 * part of it through the cache. The caller excludes other calls of this one and layer_load_index. */
struct cache;
int layer_with_record(struct layer *l, struct cache *cache, uint64_t ino,
		      int (*each)(void *ctx, const struct index_record *r), void *ctx);
/* The index of a sealed layer piece by piece, without loading it: index_reader_new, and index_reader_record with what
 * layer_load_index would have checked of the record besides. -EUCLEAN is logged. */
int layer_read_pieces(struct layer *l, struct index_reader **out);
int layer_next_record(struct layer *l, struct index_reader *r, struct index_record **out);
int layer_next_name(struct layer *l, struct index_reader *r, struct index_name *out);
void layer_close(struct layer *l);

/* The file, to lend ranges of it. */
struct io *layer_io(struct layer *l);
bool layer_sealed(const struct layer *l);
uint64_t layer_bytes(struct layer *l);        /* length of the file so far */
uint64_t layer_frame_bytes(struct layer *l);  /* of its frames alone */
/* The index of a sealed (layer_has_index) or recovered layer, or of the open one up to the last segment. Owned by
 * l; of an open layer only stable while the caller excludes layer_segment, layer_set_chain and sealing. */
const struct index *layer_index(const struct layer *l);
const struct layer_index_head *layer_head(const struct layer *l); /* sealed layers only */

/* Appends one frame of raw_len decoded bytes; how: as io_pwrite_as. -ENOSPC etc: nothing was appended. Open layers only. */
int layer_append(struct layer *l, const void *frame, size_t len, size_t raw_len, unsigned how, uint64_t *off_out);
/* Appends a segment of what was added and takes it into the index, which leaves *added empty; after a failure it is as it
 * was, unless the layer cannot be written any more. *segment_off_out is for layer_recover. -EINVAL: a block entry is not of this layer, or the index is none. */
int layer_segment(struct layer *l, struct index *added, uint64_t commit, int64_t time_ns,
		  uint64_t *segment_off_out);
/* The chain of the index to be sealed (n 0: none), itself last; a later segment's chain replaces it. -EINVAL,
 * -ENOMEM. */
int layer_set_chain(struct layer *l, const uint64_t *chain, size_t n);
/* Writes index (DELTA: the segments merged) and seek table. The caller syncs afterwards. After a failure the
 * layer is open as before. */
int layer_seal(struct layer *l, uint64_t commit, int64_t time_ns);
/* The same with kind FULL and the index that `fill` gives, records in order, then names in order; its chain is the layer
 * alone. It is not loaded. `fill` runs under the layer's lock: it may read other layers. layer_fill_*: -EINVAL also when an entry of
 * this layer names no frame of it. */
struct layer_filler;
int layer_seal_full(struct layer *l, int (*fill)(void *ctx, struct layer_filler *f), void *ctx, uint64_t commit, int64_t time_ns);
int layer_fill_record(struct layer_filler *f, const struct index_record *r);
int layer_fill_name(struct layer_filler *f, const struct index_name *n);
int layer_sync(struct layer *l);

/* Reads the stored bytes of a frame into frame (frame_len of them); how: as io_pread_as. -EUCLEAN, logged, when the file is shorter. */
int layer_read(struct layer *l, uint64_t off, unsigned how, void *frame, size_t frame_len);
/* Reads and decodes the frame of b, whole (b->frame_raw bytes) into out; damage is logged with layer and offset plus `who`
 * (the array and block, as text for the log) and is -EUCLEAN. */
int layer_decode(struct layer *l, const struct layer_block *b, const char *who, unsigned how, void *out);
/* Where a frame is, and its decoded bytes; 0: header, segment, index. */
struct layer_frame {
	uint64_t off;
	uint32_t len, raw;
};
/* All frames of a sealed or recovered layer, in order; malloc'd. -EUCLEAN, logged. */
int layer_frames(struct layer *l, struct layer_frame **out, size_t *n_out);
/* Compares every frame of a sealed layer with the seek table and the index and, with data, decodes all; of a recovered
 * one, which nobody appends to meanwhile, the frames up to its committed length.
 * Each damage is logged and does not end the walk; -EUCLEAN if there was any. progress (may be NULL) is told how far
 * it is; its return, if not 0, ends the walk and is returned. */
int layer_verify(struct layer *l, bool data, int (*progress)(void *ctx, uint64_t done_bytes), void *ctx);

#endif
