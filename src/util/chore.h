/*
 * Work that nobody waits for, and that a thread of its own does bit by bit: after each bit it rests, at least three times as long as
 * that took, so that it takes a quarter of a processor at most. The thread starts when there is something to do for the first time.
 *
 * Any thread; calls do not wait for a bit, but for chore_stop.
 */
#ifndef SPILLFS_UTIL_CHORE_H
#define SPILLFS_UTIL_CHORE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "util/lock.h"

/* Nothing is left to do until chore_wake. */
#define CHORE_DONE INT64_MAX

struct chore {
	const char *name; /* of the thread */
	/* One bit of the work. Nanoseconds until there may be more; CHORE_DONE. */
	int64_t (*work)(void *ctx);
	void *ctx;
	struct lock lock; /* all below */
	pthread_cond_t cond;
	pthread_t thread;
	bool runs, woken, stops;
};

void chore_init(struct chore *c, const char *name, int64_t (*work)(void *ctx), void *ctx);
/* There is something to do. Where the system has no thread for it, that is tried again by the next call. */
void chore_wake(struct chore *c);
/* Returns when the thread has ended, after a bit at most. Nobody wakes it any more. */
void chore_stop(struct chore *c);

#endif
