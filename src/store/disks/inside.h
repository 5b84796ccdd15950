/*
 * Shared by the files of store/disks: open.c (which directories the store has) and drain.c (one is emptied). For these only.
 */
#ifndef SPILLFS_STORE_DISKS_INSIDE_H
#define SPILLFS_STORE_DISKS_INSIDE_H

#include <pthread.h>

#include "store/disklist.h"
#include "store/disks.h"
#include "store/store.h"
#include "util/lock.h"

/* A directory is to be emptied; and what has come of that. */
struct disks_request {
	unsigned number; /* 0: none */
	struct disks_drain is;
};

struct disks {
	struct io_dir *home;
	bool unlisted;                      /* the list was lost: it is written when the store is known to be whole */
	struct store_disk dirs[DISKLIST_MAX + 1]; /* until io/spread has them */
	unsigned ndirs;                     /* with the home */
	struct io *locks[DISKLIST_MAX + 1]; /* the marks of them, locked; NULL: the home's, a follower's, or removed */

	struct lock lock; /* RANK_UPLOAD: what follows, and the file of the list */
	pthread_cond_t asked;
	struct disklist list;
	uint64_t mounts; /* the most of the marks */
	unsigned numbers[DISKLIST_MAX + 1]; /* of the disks of io/spread; 0 again: removed */
	struct disks_request requests[DISKLIST_MAX + 1]; /* the same order */
	bool started, stopping;             /* the thread that empties */
	pthread_t thread;
};

int disks_write_list(struct disks *k, const uint8_t uuid[16]);
int disks_write_mark(struct store *s, struct disks *k);
void disks_unlock_one(struct disks *k, unsigned i);

/* One step, by one thread at a time: moves one file, at most. The first one notes that the directory is to be emptied; *done: it is
 * empty, and no longer one of the store's. -ENOENT: there is no such directory; -EBUSY: a file comes there at this moment; -ENOSPC: the
 * others have no room; -ENOTEMPTY: it has what a rebuild has saved. */
int disks_drain_step(struct store *s, unsigned number, bool *done, uint64_t *moved_bytes);

#endif
