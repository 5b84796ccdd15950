/*
 * The bucket pool: N physical files shared by all buckets, handed out in regions.
 *
 * A region is a 4096-aligned byte range of one physical file. Claims take a freed region if there is
 * one and otherwise advance the file's atomic end cursor, with no lock. Free space is never stored: at
 * mount every extent is announced with pool_mark_used and pool_ready derives the free regions.
 *
 * Where the directory is on several disks (io/spread), each of them has a file at least, and a bucket's regions take turns on them.
 */
#ifndef SPILLFS_BLOCK_POOL_H
#define SPILLFS_BLOCK_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/io.h"

#define POOL_ALIGN 4096u
#define POOL_REGION_MIN (64u << 10)
#define POOL_REGION_MAX (4u << 20)
#define POOL_NFILES_MAX 4096u

struct pool;

struct region {
	uint32_t file;
	uint64_t off_bytes;
	uint64_t len_bytes;
};

/* Opens or creates dir/pool/00 ... (nfiles of them, or more if more exist, or if a disk has none). With 0 none is made, and -EUCLEAN, logged, tells that
 * one is missing. Nothing may be claimed before pool_ready. */
int pool_open(struct io_dir *dir, unsigned nfiles, struct pool **out);
void pool_close(struct pool *p);
unsigned pool_nfiles(const struct pool *p);

/* Mount: extents in any order; -EUCLEAN when the file number is unknown, the range is past 2^62, or two
 * ranges overlap (reported by pool_ready, logged with file and offset). A range past the end of its
 * physical file is corrupt too. pool_ready cuts each file behind its last used byte. */
int pool_mark_used(struct pool *p, uint32_t file, uint64_t off_bytes, uint64_t len_bytes);
int pool_ready(struct pool *p);

/* The file for the next region of a bucket whose file it would be on one disk. */
uint32_t pool_choose(struct pool *p, uint32_t file);
/* Is the file's disk full, failing or to be emptied, while another one takes new data? */
bool pool_leaves(struct pool *p, uint32_t file);

/* Claims up to want_bytes (rounded up to POOL_ALIGN) in `file`. out->len_bytes is at least
 * min(want, POOL_REGION_MIN) and at most want rounded up. Never blocks on I/O. */
int pool_claim(struct pool *p, uint32_t file, uint64_t want_bytes, struct region *out);
/* Gives an aligned range back: pool_reclaim frees it. The caller has made the transaction that freed it
 * durable. Ranges of one owner may overlap until then. */
void pool_release(struct pool *p, const struct region *r);
/* Everything released so far is punched out and free when it returns, merged with its neighbours: one
 * punch for ranges that have only free space between them, because each can wait for the disk. Blocks. */
void pool_reclaim(struct pool *p);
/* Gives back bytes that were claimed and never recorded in an extent: free at once, and needs no commit. */
void pool_unclaim(struct pool *p, const struct region *r);

struct io *pool_file(struct pool *p, uint32_t file);
/* Marks the file as written, so that the next pool_sync covers it; called after each pwrite. */
void pool_touch(struct pool *p, uint32_t file);
/* fdatasync of every touched file. A failure leaves the file touched. */
int pool_sync(struct pool *p);

/* Invariants: free regions are sorted, aligned, disjoint, not adjacent, below the cursor. */
int pool_check(struct pool *p);

#endif
