/*
 * A pool of worker threads with two queues: urgent work (compression that a writer waits for) goes
 * before background work (prefetch). Jobs are embedded in their owner's structures; nothing is
 * allocated. Jobs must never wait for another job of the same pool.
 */
#ifndef SPILLFS_UTIL_WORK_H
#define SPILLFS_UTIL_WORK_H

struct work;
struct work_pool;

struct work {
	void (*run)(struct work *w); /* may free w */
	struct work *next;           /* the pool's while queued */
};

enum work_class { WORK_URGENT, WORK_BACKGROUND };

int work_pool_new(unsigned nthreads, const char *name, struct work_pool **out);
/* Runs what is queued, then joins the threads. */
void work_pool_free(struct work_pool *p);
/* Never blocks, never fails. w belongs to the pool until run is called. */
void work_submit(struct work_pool *p, struct work *w, enum work_class class);
unsigned work_pool_nthreads(const struct work_pool *p);

#endif
