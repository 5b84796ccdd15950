/*
 * On-disk structures of a layer file, little-endian, without padding. docs/FORMAT.md has the tables.
 *
 *   file    := header frame* (segment frame*)* [index seektable]
 *   header  := skippable frame (magic LAYER_SKIP_MAGIC) holding struct layer_header
 *   frame   := a zstd frame with content size and checksum: one block, or several packed small ones
 *   segment := skippable frame holding struct layer_index_head (kind SEGMENT) and its body: what was
 *              added since the last segment; written when the open layer is made durable
 *   index   := the same with kind DELTA (all of what the layer changes) or FULL (the whole state);
 *              written when it is sealed
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
#define LAYER_FORMAT_VERSION 2u
/* The longest frame, decoded and as stored: what an entry may have a reader take memory for. */
#define LAYER_FRAME_MAX (16u << 20)
#define LAYER_FRAME_STORED_MAX (LAYER_FRAME_MAX + (1u << 20))

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

enum layer_index_kind {
	LAYER_SEGMENT = 1, /* what was added since the segment before */
	LAYER_DELTA = 2,   /* of a sealed layer: what it changes */
	LAYER_FULL = 3,    /* of a sealed layer: the whole state, with entries that point into other layers */
};

struct layer_index_head {
	char magic[8]; /* "SPILLIDX" */
	uint32_t version;
	uint32_t kind;            /* enum layer_index_kind */
	uint64_t layer;
	uint64_t prev_off_bytes;  /* SEGMENT: file offset of the segment before (its layer_skip), 0: none */
	uint64_t commit;          /* commit number that made it durable */
	int64_t time_ns;          /* CLOCK_REALTIME of that commit */
	uint64_t raw_bytes;       /* sum over the block entries whose frames are in this layer */
	uint64_t stored_bytes;    /* frames, without index */
	uint64_t nrecords, nnames, nchain;
	uint64_t body_bytes;      /* records, names and chain, decoded; 0: no body follows */
	uint64_t xxh64;           /* of head (this field zero) and the body as stored */
	/* then the body, in one or several zstd frames: records, names, chain (u64 layer numbers) */
};
static_assert(sizeof(struct layer_index_head) == 104, "format");

enum layer_record_type {
	LAYER_REC_INODE = 1, /* an inode's facts; tombstones and new blocks of an array */
	LAYER_REC_GONE = 2,  /* an inode that was deleted: everything older is dead */
};

/* The kind of a record's inode, in meta.db as well. */
enum array_kind {
	ARRAY_NONE = 0,
	ARRAY_BUCKET = 1,
	ARRAY_COLUMN = 2,
	ARRAY_LAYERED = 3,
	ARRAY_VIEW = 4, /* never stored: another format's file */
};

/* Records are sorted by ino; one ino has at most one record in an index. */
struct layer_record {
	uint32_t len_bytes; /* of the whole record, padded to 8 */
	uint16_t type;      /* enum layer_record_type; readers skip what they do not know */
	uint16_t kind;      /* enum array_kind; directories: the class of what is in them */
	uint64_t ino;
	uint64_t version;    /* the layer in which the inode last changed */
	uint64_t size_bytes; /* logical length of the array; of a symbolic link's target */
	uint64_t nblocks;    /* entries of struct layer_block */
	uint64_t ntombs;     /* entries of struct layer_tomb */
	int64_t mtime_ns, ctime_ns, btime_ns;
	uint64_t rdev;
	uint64_t file_id;    /* columns: number of the file in columns/, 0: data holds the bytes */
	uint32_t mode, uid, gid;
	uint32_t block_bytes; /* 0: as in older records */
	uint16_t path_len;   /* bytes of one path when it was written, relative to its class; no NUL */
	uint16_t dtype_len;  /* bytes of dtype text */
	uint16_t shape_len;  /* bytes of shape text */
	uint16_t target_len; /* symbolic links: bytes of the target */
	uint32_t xattrs_len; /* bytes of struct layer_xattr entries */
	uint32_t data_len;   /* inline columns: bytes of the content */
	uint64_t stored_bytes; /* what the data takes in the store */
	/* then: blocks, tombs, path, dtype, shape, target, xattrs, data, zero padding to 8 */
};
static_assert(sizeof(struct layer_record) == 128, "format");

/* In the xattrs of a record, one behind another: head, full name, value. */
struct layer_xattr {
	uint16_t name_len;
	uint16_t zero;
	uint32_t value_len;
};
static_assert(sizeof(struct layer_xattr) == 8, "format");

/* A name that changed. Sorted by (parent, name); one for each pair. */
struct layer_name {
	uint32_t len_bytes; /* with the name, padded to 8 */
	uint16_t name_len;  /* bytes of name, 1..255, no NUL, no '/' */
	uint16_t zero;
	uint64_t parent;    /* directory */
	uint64_t ino;       /* 0: the name is gone */
	/* then: name, zero padding to 8 */
};
static_assert(sizeof(struct layer_name) == 24, "format");

/* One block; entries sorted by block. Tombstones apply before the entries. */
struct layer_block {
	uint64_t block;         /* number of the block in its array */
	uint64_t layer;         /* whose file the frame is in: this one, or in a full index any */
	uint64_t frame_off;     /* file offset of the frame; 0: the block is all zeros */
	uint32_t frame_len;
	uint32_t frame_raw;     /* decoded size of the frame */
	uint32_t raw_off;       /* where the block begins in the decoded frame (packed frames) */
	uint32_t raw_len;       /* bytes of the block; less than the block size at the array's end */
	uint8_t filter;         /* enum filter_step */
	uint8_t elem_bytes;     /* element size used by the filter; of FILTER_RECORD: codes, and a struct record in place of what follows */
	uint8_t stat_type;      /* enum summary_type of the four fields below; 0: they do not count */
	uint8_t nan_bits;       /* 0: counts is the NaNs alone; else one more than the bits of counts that are the NaNs */
	uint32_t counts;        /* floats: elements that are NaN (they are in neither bound); above them those that are zero */
	uint64_t min_bits;      /* smallest element, its own bits, zero-extended */
	uint64_t max_bits;      /* largest; min > max: no element that is a number */
};
static_assert(sizeof(struct layer_block) == 64, "format");

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
