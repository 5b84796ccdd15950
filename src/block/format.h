/*
 * On-disk structures of a layer file, little-endian, without padding. docs/FORMAT.md has the tables.
 *
 *   file    := header frame* (segment frame*)* [index seektable]
 *   header  := skippable frame (magic LAYER_SKIP_MAGIC) holding struct layer_header
 *   frame   := a zstd frame with content size and checksum: one block, or several packed small ones
 *   segment := skippable frame holding struct layer_index_head (kind SEGMENT) and records: what was
 *              added since the last segment; written when the open layer is made durable
 *   index   := the same with kind INDEX: the records of the whole layer; written when it is sealed
 *   seektable := zstd seekable format 0.1.0 (zstd contrib/seekable_format): skippable frame
 *              0x184D2A5E, one entry per frame of the file in order, skippable ones with
 *              decompressed size 0, checksum flag off, footer magic 0x8F92EAB1
 *
 * A sealed layer thus reads backwards: footer, seek table, then the index, whose offset follows from
 * the seek table's last entry.
 */
#ifndef SPILLFS_BLOCK_FORMAT_H
#define SPILLFS_BLOCK_FORMAT_H

#include <assert.h>
#include <stdint.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "spillfs stores little-endian structures and is built for little-endian machines"
#endif

#define LAYER_SKIP_MAGIC 0x184D2A53u
#define LAYER_SEEK_MAGIC 0x184D2A5Eu
#define LAYER_SEEK_FOOTER_MAGIC 0x8F92EAB1u
#define LAYER_FORMAT_VERSION 1u

struct layer_skip { /* before header, segment, index and seek table */
	uint32_t magic;
	uint32_t len_bytes; /* of what follows */
};
static_assert(sizeof(struct layer_skip) == 8, "format");

struct layer_header {
	char magic[8]; /* "SPILLHDR" */
	uint32_t version;
	uint32_t zero;
	uint64_t layer;
	uint8_t store_uuid[16];
	uint64_t xxh64; /* of the bytes before this field, seed 0 */
};
static_assert(sizeof(struct layer_header) == 48, "format");

enum layer_index_kind { LAYER_SEGMENT = 1, LAYER_INDEX = 2 };

struct layer_index_head {
	char magic[8]; /* "SPILLIDX" */
	uint32_t version;
	uint32_t kind;            /* enum layer_index_kind */
	uint64_t layer;
	uint64_t prev_off_bytes;  /* SEGMENT: file offset of the segment before (its layer_skip), 0: none */
	uint64_t commit;          /* commit number that made it durable */
	int64_t time_ns;          /* CLOCK_REALTIME of that commit */
	uint64_t raw_bytes;       /* sum over the block entries */
	uint64_t stored_bytes;    /* frames, without index */
	uint64_t nrecords;
	uint64_t records_bytes;   /* records follow the head, each 8-aligned */
	uint64_t xxh64;           /* of head (this field zero) and records */
};
static_assert(sizeof(struct layer_index_head) == 88, "format");

enum layer_record_type {
	LAYER_REC_ARRAY = 1, /* an array's facts, tombstones and new blocks */
	LAYER_REC_GONE = 2,  /* an array that was unlinked: everything older is dead */
};

/* Records are sorted by (ino, type); one ino has at most one record in an index. */
struct layer_record {
	uint32_t len_bytes; /* of the whole record, padded to 8 */
	uint16_t type;      /* enum layer_record_type; readers skip what they do not know */
	uint16_t path_len;  /* bytes of path, relative to layers/, no NUL */
	uint64_t ino;
	uint64_t size_bytes; /* logical length of the array */
	uint64_t block_bytes;
	uint64_t nblocks;    /* entries of struct layer_block */
	uint64_t ntombs;     /* entries of struct layer_tomb */
	int64_t mtime_ns;
	uint32_t mode, uid, gid;
	uint16_t dtype_len;  /* bytes of dtype text */
	uint16_t shape_len;  /* bytes of shape text */
	/* then: blocks, tombs, path, dtype, shape, zero padding to 8 */
};
static_assert(sizeof(struct layer_record) == 72, "format");

/* One block as stored in this layer; entries sorted by block. Tombstones apply before the entries. */
struct layer_block {
	uint64_t block;         /* number of the block in its array */
	uint64_t frame_off;     /* file offset of the frame; 0: the block is all zeros */
	uint32_t frame_len;
	uint32_t frame_raw;     /* decoded size of the frame */
	uint32_t raw_off;       /* where the block begins in the decoded frame (packed frames) */
	uint32_t raw_len;       /* bytes of the block; less than the block size at the array's end */
	uint8_t filter;         /* enum codec_filter */
	uint8_t elem_bytes;     /* element size used by the filter */
	uint8_t has_minmax;
	uint8_t zero[5];
	uint64_t min_bits;      /* the dtype's own bits, zero-extended */
	uint64_t max_bits;
};
static_assert(sizeof(struct layer_block) == 56, "format");

/* A read barrier: blocks [first, first + count) show nothing older than this layer. */
struct layer_tomb {
	uint64_t first;
	uint64_t count; /* UINT64_MAX: to the end */
};
static_assert(sizeof(struct layer_tomb) == 16, "format");

struct layer_seek_entry {
	uint32_t stored_bytes;
	uint32_t raw_bytes;
};

struct layer_seek_footer {
	uint32_t nframes;
	uint8_t descriptor; /* 0: no per-frame checksum */
	uint32_t magic;     /* LAYER_SEEK_FOOTER_MAGIC */
} __attribute__((packed));
static_assert(sizeof(struct layer_seek_footer) == 9, "format");

#endif
