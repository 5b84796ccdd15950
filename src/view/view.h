/*
 * Views: a file in another format as a list of pieces. Most pieces are no copies: a range of a source array, or the stored
 * frame of one of its blocks; the rest is what the format adds, headers and footers, in memory.
 *
 * A view is laid out once, by one of the functions in view/formats.h, and then read through struct array_ops like any
 * other array (view_array). Size and headers never change. The sources are pinned: of a layered array the frames that it
 * had then; a bucket or a column keeps its identity, and what is overwritten in it later shows through, while what was cut
 * off reads as zeros.
 *
 * Laying out: the view_put functions append at the end. The first error sticks and is told by view_end, so that formats
 * need not look at each step. One thread lays out; any number read afterwards.
 */
#ifndef SPILLFS_VIEW_VIEW_H
#define SPILLFS_VIEW_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "array/array.h"
#include "block/summary.h"

struct view;

/* An array that a view shows. The view takes it over. */
struct view_source {
	struct array *array; /* NULL: the view is only asked for its size, and nothing is asked of blocks */
	struct rwlock *rw;   /* held shared while the array is read; NULL: it never changes */
	uint32_t block_bytes; /* of a pinned layered array; 0: it has no blocks */
	uint64_t size_bytes; /* as the view shows it */
	bool surveyed;       /* view_survey's */
	void (*let_go)(struct view_source *s); /* may be NULL */
	void *owner;                           /* let_go's */
};

int view_new(struct view **out);
void view_free(struct view *v);
/* The number by which the format names it. Fails as the view_put functions do; the source is let go with the view. */
unsigned view_source_add(struct view *v, const struct view_source *s);
uint64_t view_source_bytes(const struct view *v, unsigned source);
/* The size of the source's blocks; 0: it has none (bucket, column). */
uint32_t view_source_block_bytes(const struct view *v, unsigned source);

/* Bytes put so far: the next piece will stand there. */
uint64_t view_size(const struct view *v);
/* Bytes of the format itself, copied. */
void view_put(struct view *v, const void *p, size_t len);
void view_put_zeros(struct view *v, uint64_t len);
/* Zeros up to the next multiple of `align`. */
void view_put_align(struct view *v, uint64_t align);
/* [off, off + len) of a source, decoded; behind its end zeros. */
void view_put_data(struct view *v, unsigned source, uint64_t off, uint64_t len);

/* Elements on their way through a function. */
enum view_map {
	VIEW_MAP_NONE,
	VIEW_MAP_I8_I32, VIEW_MAP_I16_I32, VIEW_MAP_U8_I32, VIEW_MAP_U16_I32, /* widened */
	VIEW_MAP_BITS,                                                       /* bytes 0 and 1 to bits, lowest first */
};
/* Elements [first, first + n) of a source, mapped; not by NONE. */
void view_put_mapped(struct view *v, unsigned source, enum view_map map, uint64_t first, uint64_t n);
uint64_t view_mapped_bytes(enum view_map map, uint64_t n);

/*
 * [off, off + len) of a source, then zeros up to decoded_bytes (at least 1, below 4 GiB), as one zstd frame with content
 * size: the stored frame as it is, if the range is what one frame decodes to and its filter is accepted; a frame of RLE
 * blocks where nothing is stored; else a frame of raw blocks, whose size is known without reading. `accept` has 1 << steps for each
 * filter over elem_bytes and all of decoded_bytes that the format can show; what is not stored in one of them goes through none if
 * that is among them, else through the only one there is. Its steps are of FILTER_DELTA and FILTER_SHUFFLE alone, which turn zeros
 * into zeros, and as many bytes into as many, whatever they are.
 *
 * Beside PLAIN, DELTAS: integers become Parquet's encoding of differences (view/deltas.h) where that is shorter by its bounds: those of
 * a block's packed differences, or of whole blocks' summaries, which differ by little.
 */
#define VIEW_ACCEPT_PLAIN (1u << FILTER_NONE)
#define VIEW_ACCEPT_SHUFFLED (1u << FILTER_SHUFFLE)
#define VIEW_ACCEPT_DELTAS (1u << (FILTER_DELTA | FILTER_PACK))
struct view_range {
	unsigned source;
	unsigned accept;
	uint64_t off, len;
	uint64_t decoded_bytes;
	uint32_t elem_bytes;
	enum summary_type type;    /* of the elements, for DELTAS */
};
struct view_frame {
	uint64_t len_bytes;        /* of the frame */
	uint8_t filter;            /* what the decoded bytes have gone through: one that was accepted; with FILTER_PACK it is DELTAS */
	enum { VIEW_FRAME_STORED, VIEW_FRAME_ZEROS, VIEW_FRAME_RAW } how;
	unsigned source;           /* the rest is view_put_frame's */
	uint32_t elem_bytes;
	uint64_t off, len;
	uint64_t decoded_bytes;    /* content of the frame: another number than was asked for if it is DELTAS */
	uint64_t block;
};
void view_plan_frame(const struct view *v, const struct view_range *r, struct view_frame *out);
/* A frame of zeros, from no source. */
void view_plan_zeros(uint64_t decoded_bytes, struct view_frame *out);
void view_put_frame(struct view *v, const struct view_frame *f);
/* The same of a frame that is planned RAW, compressed again if that is cheap (view/recoded.h). This reads the source. False: nothing is put. */
bool view_put_recoded(struct view *v, const struct view_frame *f);
/* The number of bytes from the start of a block on of which nothing is stored. */
uint64_t view_hole_bytes(const struct view *v, unsigned source, uint64_t off);

/* Readers of the view have its source summarised, if that is a bucket or column: another view of it will know more. False: it is none. */
bool view_survey(struct view *v, unsigned source);
/* Smallest and largest element and number of NaNs of [off, off + len). False if the store does not know: another type, a range that
 * begins or ends inside a block or stretch (array/summaries.h), a stretch that was never summarised or has changed since. */
bool view_summary(const struct view *v, unsigned source, enum summary_type type, uint64_t off, uint64_t len,
		  struct summary *out);

/* The first error of all that was put. */
int view_end(struct view *v);
/* A number that differs if the content may differ, for one and the same state of the sources. */
uint64_t view_hash(const struct view *v);
/* The owner of an array's first source; NULL: it is pinned. */
void *view_owner(struct array *a);
/* Where a prefix of [off, off + len) of a view as an array comes from; its length is returned. *head_out: bytes of the format
 * itself; or NULL: *owner_out and *source_off_out are the owner of the source and where in it. For views of headers and whole ranges
 * alone. */
size_t view_place(struct array *a, uint64_t off, size_t len, const void **head_out, void **owner_out, uint64_t *source_off_out);
/* The view, which has not failed, as an array, which takes it over; closed by array_close. -ENFILE: open views hold as much memory as they
 * may (util/account.h), and the log says so. */
int view_array(struct arrays *home, struct view *v, struct array **out);

#endif
