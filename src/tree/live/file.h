/*
 * An open file of the live tree.
 */
#ifndef SPILLFS_TREE_LIVE_FILE_H
#define SPILLFS_TREE_LIVE_FILE_H

#include "array/runs.h"
#include "tree/file.h"
#include "tree/live/consume.h"
#include "tree/live/passthrough.h"

struct live_file {
	struct tree_file base;
	bool cached;
	bool maps;           /* around the cache, and it can be mapped */
	uint64_t drops;      /* the kernel drops its pages for this open (inode_pages_old) */
	atomic_bool times_stale; /* the kernel has times from before what was written */
	struct consume consume;
	struct through_open through;
	atomic_bool written; /* it is not counted as a writer any more */
	atomic_bool closed;  /* a descriptor of it was, after its last use */
	struct runs_writer writer;
	uint64_t told_bytes; /* the size when it was opened, or ended a run last */
};

int live_open(struct tree *t, uint64_t ino, int flags, const struct tree_caller *who, struct tree_file **out,
	      struct tree_file_info *info);

#endif
