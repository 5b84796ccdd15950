/*
 * Dirty pages that the kernel holds: having them written back, and going on after that.
 */
#ifndef SPILLFS_FRONT_WRITEBACK_H
#define SPILLFS_FRONT_WRITEBACK_H

#include "front/inside.h"
#include "tree/unwritten.h"

/* The rest of an operation that waits for pages. An operation with more to keep has a record of its own that begins with this one. */
struct deferred {
	fuse_req_t req;
	fuse_ino_t ino; /* the operation's file or directory */
	void (*run)(struct deferred *d); /* answers; in the notify thread, if it had to wait */
};

/* size: of the whole record, which is zeroed but for these. NULL: memory is out, and req has been answered so. */
void *deferred_new(fuse_req_t req, fuse_ino_t ino, size_t size, void (*run)(struct deferred *d));

/* Each runs d and frees it: at once, if there is nothing to be written back. d may be NULL where no files are given. */
void deferred_run(struct deferred *d);
/* Answers with an error in its place. */
void deferred_fail(struct deferred *d, int err);
/* After the dirty pages of d->ino. */
void deferred_after_file(struct deferred *d);
/* The same if the kernel may know of a greater size, as it does with its writeback cache; at once without that. */
void deferred_after_growth(struct deferred *d);
/* After those of these files (taken over). */
void deferred_after_files(struct deferred *d, struct tree_inos *inos);
/* After those of all files. */
void deferred_after_all(struct deferred *d);

/* Has these files (taken over) written back; waits for nothing. */
void writeback_files(struct front *f, struct tree_inos *inos);
/* Has all files written back, and waits for that; in no operation, since the notify thread must get on. */
void writeback_wait_all(struct front *f);

#endif
