/*
 * The formats: each lays out one file of a view (view/view.h). Pure but for what they read from the sources' block maps:
 * no data is read, but for a chunk of Zarr that is compressed again. Errors are view_end's, and those named here.
 *
 * Sources of the formats: npy: NumPy's NEP 1 and lib/format; zarr: the Zarr specifications v2 and v3; parquet:
 * parquet-format's parquet.thrift and Encodings.md; arrow: the columnar format's Message.fbs, Schema.fbs, File.fbs;
 * zst: RFC 8878 and zstd's contrib/seekable_format.
 */
#ifndef SPILLFS_VIEW_FORMATS_H
#define SPILLFS_VIEW_FORMATS_H

#include "array/dtype.h"
#include "view/view.h"

/* An array as the formats see it. */
struct view_input {
	const char *name;          /* of the column, UTF-8 or not */
	const struct dtype *dtype; /* NULL where a format needs none (zst, runs) */
	struct logical logical;
	struct shape shape;        /* as long as its whole rows */
	uint64_t count;            /* elements: shape_count(&shape) */
	unsigned source;
	uint8_t filter;            /* steps that blocks may be stored with: by the settings, whatever the blocks are */
};

/* NAME.npy: version 1.0 (2.0, 3.0 where the header needs it), header padded to 4096. */
int npy_lay(struct view *v, const struct view_input *in);

/* One row of columns for each element; all have the same count. n >= 1. parquet: -EFBIG: more than 2^20 pages, or 2^20
 * chunks of columns. */
int parquet_lay(struct view *v, const struct view_input *in, size_t n);
int arrow_lay(struct view *v, const struct view_input *in, size_t n);

/* The frames of a layered array behind each other, and a seek table. -EFBIG: more than 2^24 frames (of zeros, one may be
 * many blocks). */
int zst_lay(struct view *v, const struct view_input *in);

/* Zarr. A chunk is a number of whole rows; its number counts along the slowest axis. */
enum zarr_version { ZARR_V2, ZARR_V3 };
enum zarr_meta { ZARR_META_ARRAY, ZARR_META_GROUP };
bool zarr_can(enum zarr_version version, const struct dtype *d);
/* The names of the metadata files: "zarr.json", ".zarray", ".zgroup". */
const char *zarr_meta_name(enum zarr_version version, enum zarr_meta what);
/* in is NULL for a group. */
int zarr_meta_lay(struct view *v, enum zarr_version version, enum zarr_meta what, const struct view_input *in);
/* Chunks of the array, the last one perhaps of fewer rows than it stands for; 0: the array is empty. Path of the chunk
 * below the array's directory: v2 "17.0.0", v3 "c/17/0/0"; in order F "0.0.17"; without dimensions "0" and "c". -EFBIG:
 * rows of 4 GiB or more. */
uint64_t zarr_nchunks(const struct view *v, const struct view_input *in);
int zarr_chunk_lay(struct view *v, const struct view_input *in, uint64_t chunk);
/* The range of the array that a chunk is laid out of, of a source with such blocks (0: with none); empty: there is no such chunk. */
void zarr_chunk_range(uint32_t block_bytes, const struct view_input *in, uint64_t chunk, uint64_t *off_bytes, uint64_t *len_bytes);

#endif
