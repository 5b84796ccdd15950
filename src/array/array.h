/*
 * Arrays: the data of one regular file, behind one vtable. The kind follows from the folder that the
 * file was made in: bucket, column or layered. arrays.h opens one; array.c dispatches and checks bounds; an implementation
 * may rely on what its comment in struct array_ops says.
 *
 * Locking: the caller holds the inode's rwlock: exclusively for write, resize, punch, allocate,
 * remap, configure and drop, shared or exclusively for the rest. A lease is returned before that lock is
 * released. Functions named _locked need the meta lock too.
 *
 * `how` is IO_DIRECT for a caller whose own file is open with O_DIRECT, IO_KEPT for one whose bytes the kernel keeps in its
 * cache, else 0: it goes down to the files.
 *
 * Errors beyond I/O: -ENOSPC; -EROFS after a failed commit; -EUCLEAN for damaged stored bytes (logged);
 * -EAGAIN from write, resize, punch and allocate: release the lock, wait for a commit, try again.
 */
#ifndef SPILLFS_ARRAY_ARRAY_H
#define SPILLFS_ARRAY_ARRAY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "block/codec.h"
#include "block/format.h"
#include "io/lease.h"
#include "util/stats.h"

struct arrays;
struct runs;
struct compact;
struct promise;
struct summaries;
struct index_record;
struct facts;
struct io;
struct io_facts;

#define ARRAY_SIZE_MAX (1ull << 50)
#define ARRAY_BLOCK_MIN 4096u
#define ARRAY_BLOCK_MAX (16u << 20)
#define ARRAY_BLOCK_DEFAULT (128u << 10)

/* How an array is stored, as its xattrs say. */
struct array_params {
	uint32_t block_bytes; /* layered: ARRAY_BLOCK_MIN..MAX */
	bool block_default;   /* nobody asked for that size: blocks that are there keep theirs */
	bool direct;          /* for who opens it: to be written around the kernel's cache */
	bool cold;            /* bucket, column: written with IO_COLD */
	bool fresh;           /* for who opens it: it was just made, so the store has nothing of it */
	struct codec_params codec; /* its type is that of the blocks' summaries, too */
};

struct array {
	const struct array_ops *ops;
	struct arrays *home;
	uint64_t ino;
	uint64_t size_bytes;               /* changes under the exclusive lock */
	_Atomic uint64_t stored_bytes;     /* in the store; dirty bytes count as they are, compressed ones as of the last recount */
	uint64_t file_id;                  /* columns: the physical file */
	struct array_params params;
	struct promise *promise;           /* promise.h; NULL: nothing is */
	_Atomic(struct summaries *) summaries; /* summaries.h; NULL: none was ever made */
	bool unseen;                       /* others may write its file: no summaries */
};

/* The change that a range is about to meet: it is written; its space is reserved; the file ends behind it. */
enum array_growing { ARRAY_WRITES, ARRAY_RESERVES, ARRAY_ENDS };

struct array_ops {
	enum array_kind kind;
	struct {
		enum stats_id reads, read_bytes, writes, write_bytes;
	} counters; /* of requests */
	/* Allocates the kind's structure with its facts from the store. */
	int (*open)(struct arrays *home, const struct facts *row, const struct array_params *params, struct array **out);
	/* Memory only; nothing is dirty. */
	void (*close)(struct array *a);
	/* The bytes that close gives back. */
	size_t (*memory)(struct array *a);
	/* Lends a prefix of [off, off + len), inside the size, len > 0. A request holds many leases at once, so
	 * this must not hold a bounded buffer. how: as io_pread_as. */
	int (*borrow)(struct array *a, uint64_t off, size_t len, unsigned how, struct lease *out);
	/* Grows the size. *done_out: all of it or, with an error, the beginning that is in. how: as io_pwrite_as. */
	int (*write)(struct array *a, const void *buf, size_t len, uint64_t off, unsigned how, size_t *done_out);
	int (*resize)(struct array *a, uint64_t size);
	/* [off, off + len) inside the size reads as zeros and takes no space where that is possible. */
	int (*punch)(struct array *a, uint64_t off, uint64_t len);
	/* The next write into the range does not fail for want of space; the size stays. */
	int (*allocate)(struct array *a, uint64_t off, uint64_t len);
	/* The bytes by which that makes array_held more, at most; what fallocate has reserved is held already. */
	uint64_t (*growth)(struct array *a, uint64_t off, uint64_t len, enum array_growing how);
	/* First data (or hole) at or behind off < size; size if there is none. */
	int (*seek)(struct array *a, uint64_t off, bool hole, uint64_t *out);
	/* Dirty memory goes to the store's files. May wait for the work pool. May be NULL: a stage does it. */
	int (*flush)(struct array *a);
	/* Rows and index entries of what has changed since the last stage; changed: so have the facts. facts: the inode's record but for
	 * its blocks; NULL unless the kind is layered. */
	int (*stage_locked)(struct array *a, const struct index_record *facts, bool changed);
	/* Makes durable what the staged rows point to and the store does not sync by itself. May be NULL: nothing. */
	int (*sync)(struct array *a);
	/* The file is gone: frees its storage after the next commit; the inode's row goes in the same
	 * transaction. dirty memory is dropped before, by resize to 0. */
	int (*drop_locked)(struct array *a);
	/* A compaction is installed: the map gets the new places of the frames that it has moved. May be NULL. */
	int (*remap)(struct array *a, const struct compact *c);
	/* Are bytes that a resize has cut off still in the store? Each stage takes some of them away. May be NULL: never. */
	bool (*is_cutting)(struct array *a);
	/* The runs of a bucket. May be NULL. */
	struct runs *(*runs)(struct array *a);
	/* Others may read its file, and write it if `write`, besides the array (io_share): the array follows it by refresh. written:
	 * bytes of it have changed. -EAGAIN as write; -EOPNOTSUPP: it has none, or should not have. All four may be NULL. */
	int (*share)(struct array *a, bool write, struct io **out);
	void (*unshare)(struct array *a);
	void (*refresh)(struct array *a, bool written);
	/* The shared file as it is; any thread. -EAGAIN: a truncation waits for its commit, and counts already. */
	int (*facts)(struct array *a, struct io_facts *out);
	/* Writes the content anew in blocks of another size. -EOPNOTSUPP: it is too large for that, or the errors of a write: nothing
	 * has changed then. May be NULL: a kind without blocks. */
	int (*reblock)(struct array *a, uint32_t block_bytes);
	/* stored_bytes follows io_packings, if it has to: did it change? May be NULL: it never has to. */
	bool (*recount)(struct array *a);
	/* Has it dirty bytes that stored_bytes only estimates? May be NULL: never. */
	bool (*is_unsettled)(struct array *a);
	/* Text of a read-only xattr of this kind, without "user.spillfs."; -ENODATA. May be NULL. */
	int (*describe)(struct array *a, const char *what, char **out);
};

void array_close(struct array *a);
size_t array_memory(struct array *a);
/* off and len are cut to the size; out->len_bytes is 0 at the end of the array. */
int array_borrow(struct array *a, uint64_t off, size_t len, unsigned how, struct lease *out);
/* Copies up to len bytes; *n_out is short only at the end of the array. */
int array_read_as(struct array *a, void *buf, size_t len, uint64_t off, unsigned how, size_t *n_out);
/* *done_out, also after an error: the bytes at the beginning of buf that are in; to go on takes only the rest. -EFBIG */
int array_write_as(struct array *a, const void *buf, size_t len, uint64_t off, unsigned how, size_t *done_out);
int array_resize(struct array *a, uint64_t size);                            /* -EFBIG */
int array_punch(struct array *a, uint64_t off, uint64_t len);
int array_allocate(struct array *a, uint64_t off, uint64_t len, bool keep_size);
/* Bytes that it holds in the store: stored_bytes, and what is promised. */
uint64_t array_held(struct array *a);
/* As the operation; the inode is held exclusively. */
uint64_t array_growth(struct array *a, uint64_t off, uint64_t len, enum array_growing how);
int array_seek(struct array *a, uint64_t off, bool hole, uint64_t *out); /* -ENXIO */
int array_flush(struct array *a);
int array_stage_locked(struct array *a, const struct index_record *facts, bool changed);
int array_sync(struct array *a);
int array_drop_locked(struct array *a);
int array_remap(struct array *a, const struct compact *c);
/* It has to be staged again, and must not be dropped before. */
bool array_is_cutting(struct array *a);
/* NULL: a kind without runs. */
struct runs *array_runs(struct array *a);
int array_share(struct array *a, bool write, struct io **out);
void array_unshare(struct array *a);
void array_refresh(struct array *a, bool written);
int array_facts(struct array *a, struct io_facts *out);
/* Others may write its shared file from here on, or no more. */
void array_unseen(struct array *a, bool begins);
int array_describe(struct array *a, const char *what, char **out);
/* New parameters. Where the block size is another one that was asked for, existing blocks are written anew: -EOPNOTSUPP for
 * an array that is too large for that, or the errors of a write; nothing has changed then. */
int array_configure(struct array *a, const struct array_params *params);

/* Counts what has become cold, or is not any longer, as it is stored: did stored_bytes change? */
bool array_recount(struct array *a);
/* Dirty bytes that stored_bytes only estimates: the attributes may change without a write. */
bool array_is_unsettled(struct array *a);

static inline int array_read(struct array *a, void *buf, size_t len, uint64_t off, size_t *n_out)
{
	return array_read_as(a, buf, len, off, 0, n_out);
}

static inline int array_write(struct array *a, const void *buf, size_t len, uint64_t off)
{
	return array_write_as(a, buf, len, off, 0, &(size_t){ 0 });
}

#endif
