/*
 * Shared by the files of a layer, from the ground up: file.c (frames written, bytes read), index.c (indexes read and written),
 * open.c, seal.c, find.c (single records), recover.c, check.c. For these only.
 */
#ifndef SPILLFS_BLOCK_LAYER_INSIDE_H
#define SPILLFS_BLOCK_LAYER_INSIDE_H

#include <stdatomic.h>

#include "block/layer.h"
#include "util/lock.h"

#define LAYER_HEADER_FRAME_BYTES (sizeof(struct layer_skip) + sizeof(struct layer_header))
/* zstd's seekable format refuses tables with more entries. */
#define LAYER_FRAMES_MAX 0x8000000u

struct layer {
	struct io *io;
	uint64_t number; /* 0: not adopted yet */
	uint8_t uuid[16];
	char name[LAYER_NAME_MAX + 32]; /* for the log: layers/NNNNNNNN.zst */
	bool quiet;                     /* damage is expected and not logged; while it is salvaged */
	_Atomic bool sealed, has_index;
	_Atomic uint64_t end_bytes;   /* of the whole frames */
	_Atomic uint64_t frame_bytes; /* of the zstd frames among them */
	struct index ix;
	struct index_pages pages; /* of a sealed layer's index (find.c) */
	bool has_pages;
	struct layer_index_head head; /* when sealed; and the next three */
	uint64_t index_off, table_off;
	uint32_t nframes; /* entries of the seek table */
	struct layer_ending {
		uint8_t *bytes;
		uint64_t off;
		size_t len;
	} ending; /* the file's last bytes, while it is opened; else NULL */

	struct lock lock;              /* serialises appends; what follows is under it */
	struct layer_seek_entry *seek; /* of every frame so far, until the layer is sealed */
	size_t nseek, cap_seek;
	uint64_t segment_off;         /* the last segment, 0: none */
	uint64_t segment_frame_bytes; /* frame_bytes when it was written */
	bool tail;                    /* bytes behind end_bytes wait to be cut off */
	int broken;                   /* -errno for all later writes */
};

/* file.c */

/* Takes io over on success. */
int layer_new(struct io *io, uint64_t number, const uint8_t store_uuid[16], struct layer **out);
/* Room in seek[] for one more frame. */
int layer_seek_reserve(struct layer *l);
/* Notes one more frame at the end; the room is reserved. raw_bytes 0: skippable. */
void layer_seek_push(struct layer *l, uint64_t stored_bytes, uint64_t raw_bytes);
/* Writes behind the last frame, `ahead` bytes further on; cuts off what a failure leaves. */
int layer_write_locked(struct layer *l, const void *buf, size_t n, uint64_t ahead, unsigned how);
/* Cuts off what stands behind the last frame. */
int layer_cut_locked(struct layer *l);
/* Logs damage of the file unless the layer is quiet; -EUCLEAN. */
int layer_damage(const struct layer *l, uint64_t off, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Like io_pread; a file that ends too early is damage. */
int layer_pread(struct layer *l, void *buf, size_t n, uint64_t off);

/* index.c */

static inline struct layer_index_head layer_index_head(const struct layer *l, enum layer_index_kind kind, uint64_t commit, int64_t time_ns)
{
	return (struct layer_index_head){ .kind = kind, .layer = l->number, .commit = commit, .time_ns = time_ns };
}

/* The first block entry that a record in an index of this kind may not have in l, where frames end at limit; NULL: none. */
const struct layer_block *layer_bad_block(const struct layer *l, const struct index_record *r, uint32_t kind, uint64_t limit);
/* Reads and verifies the index at off, of which [off, limit) may be read: a segment, or what stands behind them
 * in a sealed layer. */
int layer_read_index(struct layer *l, uint64_t off, uint64_t limit, bool sealed, struct layer_index_head *head_out,
		     struct index *ix_out, uint64_t *end_out);
/* Writes an index behind the last frame: a skippable frame of *len_out bytes, which the caller takes over. Fills in the
 * rest of *head. */
int layer_write_index_locked(struct layer *l, struct layer_index_head *head, int (*fill)(void *ctx, struct layer_filler *f),
			     void *ctx, const uint64_t *chain, size_t nchain, size_t *len_out);
/* A `fill` that gives all of an index, whose entries were checked. */
int layer_fill_index(void *ix, struct layer_filler *f);

/* open.c */

int layer_open_file(struct io_dir *d, uint64_t number, unsigned flags, const uint8_t store_uuid[16],
		    struct layer **out);
int layer_read_header(struct layer *l);
/* The seek table of a sealed layer; checked against the file's length. *out is malloc'd. */
int layer_read_table(struct layer *l, struct layer_seek_entry **out);

/* recover.c */

/* Measures the frame at off. *raw_out is 0 for a skippable one. */
int layer_walk_frame(struct layer *l, uint64_t off, uint64_t limit, uint64_t *stored_out, uint64_t *raw_out);

#endif
