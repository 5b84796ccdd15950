/*
 * Behind readers and writers of one file whose bytes a cache above keeps (IO_KEPT): the ranges that the page cache need not have
 * as well. What is read in order is dropped some MiB behind the reader; what was written, when the kernel has written it, which it is told to begin
 * with some MiB behind the writer. Memory only: the caller drops the ranges. Any thread. Private to io/.
 */
#ifndef SPILLFS_IO_BEHIND_H
#define SPILLFS_IO_BEHIND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/lock.h"

#define BEHIND_STREAMS 8u
#define BEHIND_WRITERS 8u
#define BEHIND_STEP_BYTES (4u << 20)   /* dropped at a time */
#define BEHIND_IDLE_BYTES (16u << 20)  /* so much others read until a stream has ended */
#define BEHIND_AGAIN_BYTES (16u << 20) /* before that, and dropped once more: a late reader has had them read again, or they were being written */
#define BEHIND_MARGIN_BYTES (4u << 20) /* left to requests that overtake each other */

struct behind_range {
	uint64_t from, to; /* whole pages; empty if from >= to */
};

struct behind {
	struct lock lock;
	/* Read in order and not dropped; reads: how many, 0 in one that is unused; read_bytes: of what is between from and to;
	 * last: passed_bytes at its last read. */
	struct behind_stream {
		uint64_t from, to, read_bytes, last;
		unsigned reads;
	} streams[BEHIND_STREAMS];
	uint64_t passed_bytes; /* of all reads */
	/* Writes that are near each other: a range around them, and their bytes, 0 in one that is unused. Far from all,
	 * a write takes the place of the fewest bytes, whose pages are left to the kernel. */
	struct behind_written {
		struct behind_range range;
		uint64_t bytes;
	} unstarted[BEHIND_WRITERS], unsynced[BEHIND_WRITERS];
	struct behind_range started; /* the kernel writes it */
};

void behind_init(struct behind *b);
void behind_fini(struct behind *b);
/* n bytes at off have been read; the file ends at end_bytes (UINT64_MAX: not known). What may be dropped. */
struct behind_range behind_read(struct behind *b, uint64_t off, size_t n, uint64_t end_bytes);
/* n bytes at off have been written through the page cache. *start: for sync_file_range; and what may be dropped of that from before. */
struct behind_range behind_wrote(struct behind *b, uint64_t off, size_t n, struct behind_range *start);
/* Before a sync. What may be dropped when that has succeeded. */
void behind_syncs(struct behind *b, struct behind_range out[BEHIND_WRITERS]);

#endif
