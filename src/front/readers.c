/*
 * Invariants:
 *  1. While a thread is parked, at least one reads: the last one that has got a request wakes another, which counts as reading from then on.
 *  2. No lock is held where a thread may be cancelled.
 */
#include "front/readers.h"

#include <stdbool.h>

void readers_init(struct readers *r)
{
	*r = (struct readers){ .nreading = 0 };
	lock_init(&r->lock, RANK_MEM);
	sem_init(&r->wake, 0, 0);
}

void readers_fini(struct readers *r)
{
	sem_destroy(&r->wake);
	lock_fini(&r->lock);
}

void readers_enter(struct readers *r)
{
	bool parks;

	lock_acquire(&r->lock);
	parks = r->nreading >= READERS_MAX;
	*(parks ? &r->nparked : &r->nreading) += 1;
	lock_release(&r->lock);
	while (parks && sem_wait(&r->wake))
		; /* interrupted */
}

void readers_leave(struct readers *r)
{
	bool wakes;

	lock_acquire(&r->lock);
	wakes = r->nreading == 1 && r->nparked;
	if (wakes)
		r->nparked--;
	else
		r->nreading--;
	lock_release(&r->lock);
	if (wakes)
		sem_post(&r->wake);
}
