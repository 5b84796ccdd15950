/*
 * A new meta.db out of the layers' log, for a store that has lost its own.
 *
 * Comes back: everything under layers/ and the snapshots, as of the newest sealed layer and of what was committed to the
 * open one after it; columns with the bytes that their files hold, by the names (and, below 64 KiB, the bytes) that they had when something
 * under layers/ was committed last, or a layer sealed. Does not: buckets, which are scratch.
 */
#ifndef SPILLFS_STORE_REBUILD_H
#define SPILLFS_STORE_REBUILD_H

#include <stdbool.h>
#include <stdint.h>

#include "store/store.h"

struct rebuild_report {
	uint64_t newest;     /* sealed layer whose state was taken, 0: none */
	uint64_t open_layer; /* unsealed layer that was applied to it, 0: none */
	uint64_t files, directories, others; /* under layers/ */
	uint64_t columns, columns_found; /* with their names; without, now in columns/lost+found */
	uint64_t snapshots;
	uint64_t lost; /* things that could not be brought back; each was said */
};

/* Takes dir over; home tells whose it is (NULL: nobody's). Refuses a store that has a meta.db unless `replace`: then that is kept under another name.
 * say gets a line for everything that does not come back. Blocks on I/O; single-threaded. */
int store_rebuild(struct io_dir *dir, const struct store_disk *home, const char *shown, bool replace, void (*say)(void *ctx, const char *line), void *ctx,
		  struct rebuild_report *out, struct store_refusal *why);

#endif
