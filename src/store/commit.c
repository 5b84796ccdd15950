/*
 * The commit thread.
 *
 * Invariants:
 *  1. Tickets: a request is served by a commit that started after it was made.
 *  2. Deferred work runs only after the log that holds its transaction is durable.
 *  3. After a failure other than -ENOSPC and -ENOMEM the store is read-only and nothing commits.
 */
#include "store/commit.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "block/pool.h"
#include "store/layers.h"
#include "store/meta.h"
#include "store/store.h"
#include "util/lock.h"
#include "util/log.h"
#include "util/stats.h"

#define MAINTAIN_ROUNDS_MAX 8

struct commit {
	struct store *store;
	struct commit_hooks hooks;
	void *ctx;
	pthread_t thread;
	struct rwlock gate;

	struct lock lock;
	pthread_cond_t wake, finished_cond;
	uint64_t requested, finished; /* tickets */
	bool seal, stop, started, busy, quiet;
	int result;      /* of the last commit */
	uint64_t number; /* of the last durable commit */

	struct commit_deferred *deferred, **deferred_tail; /* under the meta lock */
};

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int commit_new(struct store *s, struct commit **out)
{
	struct commit *c = calloc(1, sizeof(*c));
	int64_t number = 0;
	int err;

	if (!c)
		return -ENOMEM;
	c->store = s;
	meta_lock(s->meta);
	err = meta_fact_get_locked(s->meta, "commit", &number);
	meta_unlock(s->meta);
	if (err && err != -ENOENT) {
		free(c);
		return err;
	}
	c->number = (uint64_t)number;
	c->deferred_tail = &c->deferred;
	lock_init(&c->lock, RANK_COMMIT);
	rwlock_init(&c->gate, RANK_GATE);
	lock_cond_init(&c->wake);
	lock_cond_init(&c->finished_cond);
	*out = c;
	return 0;
}

void commit_free(struct commit *c)
{
	pthread_cond_destroy(&c->wake);
	pthread_cond_destroy(&c->finished_cond);
	lock_fini(&c->lock);
	rwlock_fini(&c->gate);
	free(c);
}

void commit_gate_enter(struct commit *c)
{
	rwlock_shared(&c->gate);
}

void commit_gate_leave(struct commit *c)
{
	rwlock_release(&c->gate);
}

void commit_defer_locked(struct commit *c, struct commit_deferred *d)
{
	d->next = NULL;
	*c->deferred_tail = d;
	c->deferred_tail = &d->next;
}

/* After a failed write back the kernel counts the pages as clean: trying again would succeed and prove
 * nothing. So a failed sync is never one of the errors that are tried again. */
static int final_error(int err)
{
	return err == -ENOSPC || err == -ENOMEM ? -EIO : err;
}

static int sync_data(struct commit *c)
{
	int err = pool_sync(c->store->pool);

	if (!err)
		err = layers_sync(c->store->layers);
	if (!err)
		err = c->hooks.sync(c->ctx);
	return final_error(err);
}

/* Steps 2 to 4. *deferred is what the transaction freed. */
static int commit_transaction(struct commit *c, struct commit_deferred **deferred, bool *empty, int *left)
{
	struct store *s = c->store;
	bool pending;
	int err = c->hooks.stage(c->ctx, left);

	if (err)
		return err;
	meta_lock(s->meta);
	err = layers_stage_locked(s->layers, c->number + 1, now_ns(), *left == 0);
	pending = meta_pending_locked(s->meta);
	meta_unlock(s->meta);
	*empty = !pending;
	if (err || !pending)
		return err;
	err = sync_data(c);
	if (err)
		return err;
	meta_lock(s->meta);
	err = meta_fact_set_locked(s->meta, "commit", (int64_t)(c->number + 1));
	if (!err)
		err = meta_commit_locked(s->meta);
	if (!err) {
		*deferred = c->deferred;
		c->deferred = NULL;
		c->deferred_tail = &c->deferred;
	}
	meta_unlock(s->meta);
	return err;
}

static int commit_once(struct commit *c, bool seal, bool *released)
{
	struct store *s = c->store;
	struct commit_deferred *deferred = NULL;
	bool empty = true;
	int err, left = 0;

	if (atomic_load(&s->read_only))
		return -EROFS;
	err = c->hooks.flush(c->ctx);
	if (seal)
		layers_rotate(s->layers);
	if (!err || err == -ENOSPC) {
		rwlock_exclusive(&c->gate);
		err = commit_transaction(c, &deferred, &empty, &left);
		if (!err && !empty)
			err = final_error(meta_sync(s->meta));
		rwlock_release(&c->gate);
	}
	if (!err && !empty) {
		__atomic_add_fetch(&c->number, 1, __ATOMIC_RELAXED);
		stats_add(STAT_COMMITS, 1);
		err = layers_publish(s->layers);
		while (deferred) {
			struct commit_deferred *d = deferred;

			deferred = d->next;
			d->run(d);
		}
	}
	c->hooks.done(c->ctx, err);
	if (err) {
		stats_add(STAT_COMMIT_FAILURES, 1);
		if ((err != -ENOSPC && err != -ENOMEM) || meta_failed(s->meta)) {
			if (!atomic_exchange(&s->read_only, true))
				log_error("commit failed: %s; the store is read-only until it is mounted again", strerror(-err));
		} else {
			log_warn("commit failed: %s; it is tried again", strerror(-err));
		}
	}
	*released = !err && !empty;
	return err ? err : left;
}

/* A block that was encoded while a layer was being sealed is in the next layer already; it is staged by
 * a transaction of its own, so that what was asked for is durable all the same. That one seals if the
 * first had no layer to seal and has made one. */
static int commit_run(struct commit *c, bool seal)
{
	uint64_t before = layers_newest_sealed(c->store->layers);
	bool released = false;
	int err;

	/* A layer that was to be sealed and could not be has to go first: entries are staged for it alone. */
	seal |= layers_have_closing(c->store->layers);
	err = commit_once(c, seal, &released);

	if (!err && seal)
		err = commit_once(c, layers_newest_sealed(c->store->layers) == before, &released);
	/* There was no space for something, and there may be now. */
	else if (err == -ENOSPC && released)
		err = commit_once(c, false, &released);
	return err;
}

/* Gives back what mostly dead layers hold: such a layer is sealed, emptied, staged, and dropped when it is
 * not the newest sealed one, which takes up to four commits. Nobody waits for them. */
static void maintain(struct commit *c)
{
	for (int round = 0; round < MAINTAIN_ROUNDS_MAX; round++) {
		bool did = false, seal = layers_want_seal(c->store->layers);
		int err = 0;

		if (!seal)
			err = c->hooks.compact(c->ctx, &did);
		if (err && err != -ENOSPC)
			log_warn("compaction: %s", strerror(-err));
		if (err || (!seal && !did) || commit_run(c, seal))
			return;
	}
}

/* Waits for a request or the interval. Returns with the lock held. */
static void wait_for_work(struct commit *c)
{
	unsigned seconds = c->store->config.commit_seconds;

	while (!c->stop && (c->quiet || c->requested == c->finished)) {
		if (!seconds || c->quiet)
			lock_wait(&c->lock, &c->wake);
		else if (lock_wait_ms(&c->lock, &c->wake, seconds * 1000) == -ETIMEDOUT && !c->quiet)
			return;
	}
}

static void *commit_thread(void *arg)
{
	struct commit *c = arg;
	bool stop;

	pthread_setname_np(pthread_self(), "commit");
	lock_acquire(&c->lock);
	do {
		uint64_t ticket;
		bool seal;
		int err;

		wait_for_work(c);
		ticket = c->requested;
		stop = c->stop;
		seal = c->seal || stop || layers_want_seal(c->store->layers);
		c->seal = false;
		c->busy = true;
		lock_release(&c->lock);
		err = commit_run(c, seal);
		lock_acquire(&c->lock);
		c->finished = ticket;
		c->result = err;
		pthread_cond_broadcast(&c->finished_cond);
		if (!stop) {
			lock_release(&c->lock);
			maintain(c);
			lock_acquire(&c->lock);
		}
		c->busy = false;
		pthread_cond_broadcast(&c->finished_cond);
	} while (!stop);
	lock_release(&c->lock);
	return NULL;
}

int commit_start(struct commit *c, const struct commit_hooks *hooks, void *ctx)
{
	int err;

	c->hooks = *hooks;
	c->ctx = ctx;
	err = -pthread_create(&c->thread, NULL, commit_thread, c);
	c->started = !err;
	return err;
}

void commit_quiesce(struct commit *c)
{
	lock_acquire(&c->lock);
	c->quiet = true;
	while (c->busy)
		lock_wait(&c->lock, &c->finished_cond);
	lock_release(&c->lock);
}

int commit_stop(struct commit *c)
{
	if (!c->started)
		return c->result;
	lock_acquire(&c->lock);
	c->stop = true;
	pthread_cond_signal(&c->wake);
	lock_release(&c->lock);
	pthread_join(c->thread, NULL);
	c->started = false;
	return c->result;
}

int commit_wait(struct commit *c, bool seal)
{
	uint64_t ticket;
	int err;

	lock_acquire(&c->lock);
	/* Invariant 1: a running commit has taken its ticket already, so this one is the next's. */
	ticket = ++c->requested;
	c->seal |= seal;
	pthread_cond_signal(&c->wake);
	while (c->finished < ticket && !c->stop)
		lock_wait(&c->lock, &c->finished_cond);
	err = c->finished < ticket ? -ESHUTDOWN : c->result;
	lock_release(&c->lock);
	return err;
}

uint64_t commit_number(struct commit *c)
{
	return __atomic_load_n(&c->number, __ATOMIC_RELAXED);
}
