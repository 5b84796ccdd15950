/*
 * The disk of the simulation: io/mem behind a directory that counts each call, lets other threads run at it, takes time for it, and
 * fails it by plan. Before each call whose number is asked for, a cut of the power is tried (disk_on_cut).
 */
#ifndef SPILLFS_SIM_DISK_H
#define SPILLFS_SIM_DISK_H

#include <stdbool.h>
#include <stdint.h>

#include "io/io.h"

/* The last two are those of a file without a name, into which scratch/ is spilled. */
enum disk_call {
	DISK_OPEN, DISK_READ, DISK_WRITE, DISK_SYNC, DISK_TRUNCATE, DISK_ALLOCATE, DISK_PUNCH, DISK_UNLINK, DISK_RENAME, DISK_MKDIR,
	DISK_SYNC_DIR, DISK_LIST, DISK_SPILL_READ, DISK_SPILL_WRITE, DISK_NCALLS
};

extern const char *const disk_call_names[DISK_NCALLS];

/* From the `nth` call of a kind on (1: the next), `times` fail with err (negative). half: the first of them, a write, writes half. */
struct disk_fault {
	enum disk_call call;
	uint64_t nth, times;
	int err;
	bool half;
};

/* Takes inner over. slow_ns: each call takes up to so much simulated time; 0: none. */
int disk_wrap(struct io_dir *inner, uint64_t slow_ns, struct io_dir **out);
/* NULL: it does not fail. */
void disk_plan_fault(const struct disk_fault *f);

/* Has a planned fault ever struck? */
bool disk_has_failed(void);

/* Calls that change something, of all disks of the process, since the last disk_on_cut. */
uint64_t disk_changes(void);
/* Before each change, try is called with its number. NULL: never. Begins the count anew. */
void disk_on_cut(void (*try)(uint64_t change));

#endif
