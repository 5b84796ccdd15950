/*
 * A thread that works and rests.
 *
 * Invariant: no lock is held while it works.
 */
#include "util/chore.h"

#include "util/clock.h"
#include "util/thread.h"

#define REST_PART 3
#define MS_NS 1000000
/* A longer rest is slept in parts of this. */
#define REST_MS_MAX 3600000

void chore_init(struct chore *c, const char *name, int64_t (*work)(void *ctx), void *ctx)
{
	*c = (struct chore){ .name = name, .work = work, .ctx = ctx };
	lock_init(&c->lock, RANK_WORK);
	lock_cond_init(&c->cond);
}

/* Until then; or, where that is never, until somebody wakes it. */
static void rest_locked(struct chore *c, int64_t until_ns)
{
	int64_t left;

	while (!c->stops && until_ns == CHORE_DONE && !c->woken)
		lock_wait(&c->lock, &c->cond);
	while (!c->stops && until_ns != CHORE_DONE && (left = until_ns - clock_monotonic_ns()) > 0) {
		int64_t ms = left / MS_NS + 1;

		lock_wait_ms(&c->lock, &c->cond, (unsigned)(ms < REST_MS_MAX ? ms : REST_MS_MAX));
	}
}

static void *run(void *arg)
{
	struct chore *c = arg;

	lock_acquire(&c->lock);
	while (!c->stops) {
		int64_t begin, end, wait;

		c->woken = false;
		lock_release(&c->lock);
		begin = clock_monotonic_ns();
		wait = c->work(c->ctx);
		end = clock_monotonic_ns();
		if (wait != CHORE_DONE)
			wait = end + (wait > REST_PART * (end - begin) ? wait : REST_PART * (end - begin));
		lock_acquire(&c->lock);
		rest_locked(c, wait);
	}
	lock_release(&c->lock);
	return NULL;
}

void chore_wake(struct chore *c)
{
	lock_acquire(&c->lock);
	c->woken = true;
	if (!c->runs && !c->stops)
		c->runs = thread_start(c->name, run, c, &c->thread) == 0;
	lock_signal(&c->cond);
	lock_release(&c->lock);
}

void chore_stop(struct chore *c)
{
	bool runs;

	lock_acquire(&c->lock);
	runs = c->runs;
	c->stops = true;
	lock_signal(&c->cond);
	lock_release(&c->lock);
	if (runs)
		thread_join(c->thread);
	pthread_cond_destroy(&c->cond);
	lock_fini(&c->lock);
}
