/*
 * Threads that read requests. The kernel wakes those that wait for one in turn, so that ten idle threads would serve ten requests, each with cold
 * caches and a buffer of its own, where two can serve them all. A few wait in the kernel; the others are parked until all of these have a request.
 */
#ifndef SPILLFS_FRONT_READERS_H
#define SPILLFS_FRONT_READERS_H

#include <semaphore.h>

#include "util/lock.h"

/* So many wait in the kernel. A program that waits for each answer has one request at work, and at times one that it need not wait for, such as
 * the release of a file. With one reader, each request would wake a parked thread. */
#define READERS_MAX 2u

struct readers {
	struct lock lock; /* the next two */
	unsigned nreading; /* wait in the kernel, or are about to */
	unsigned nparked;
	sem_t wake; /* one more of the parked ones is to read */
};

void readers_init(struct readers *r);
void readers_fini(struct readers *r);
/* Around each read of a request. enter blocks while enough others read, and is a point where a thread may be cancelled; a thread that is
 * cancelled before it leaves counts further on: only the end of the session does that. */
void readers_enter(struct readers *r);
void readers_leave(struct readers *r);

#endif
