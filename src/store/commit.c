/*
 * The commit thread.
 *
 * Invariants:
 *  1. Tickets: a request is served by a commit that started after it was made.
 *  2. Deferred work runs only after the log that holds its transaction is durable.
 *  3. Names are committed with the data that was there before them, unless that lacks space.
 *  4. After a failure that is not passing (err_is_passing) the store is read-only and nothing commits.
 */
#include "store/commit.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "block/cache.h"
#include "block/pool.h"
#include "store/layers/compact.h"
#include "store/layers.h"
#include "store/meta.h"
#include "store/store.h"
#include "util/clock.h"
#include "util/buf.h"
#include "util/err.h"
#include "util/lock.h"
#include "util/log.h"
#include "util/plant.h"
#include "util/stats.h"
#include "util/thread.h"

/* The heap is trimmed when the daemon holds so many bytes less than before. */
#define TRIM_BYTES (16u << 20)
/* Copied by compaction before requests are looked at. */
#define STEP_BYTES (1u << 20)
/* Between two looks at the size of the open layer. */
#define LOOK_NS CLOCK_SECOND_NS
/* Commits after a compaction that failed before the next one is begun by itself. */
#define BACKOFF_COMMITS 16u
/* Compactions for one wait for space, at most. */
#define SPACE_ROUNDS_MAX 64u
/* The longest chain. A compaction begins at half of it; at this length a seal waits for its end. */
#define CHAIN_LONGEST 64u

struct commit {
	struct store *store;
	struct commit_hooks hooks;
	void *ctx;
	pthread_t thread;
	struct rwlock freeze, gate;

	struct lock lock;
	pthread_cond_t wake, finished_cond;
	uint64_t requested, finished; /* tickets */
	bool seal, space, stop, started, busy, quiet;
	bool again;      /* the thread's: the last commit has left work */
	int result;      /* of the last commit */
	uint64_t number; /* of the last durable commit */

	bool compact_wanted;              /* somebody has asked for one */
	struct commit_compaction shown;   /* under lock */
	struct compact *job;              /* the thread's, with the next */
	enum compact_effort effort;
	int64_t next_step_ns;             /* pacing, CLOCK_MONOTONIC */
	uint64_t backoff_until;           /* commit number */
	int64_t retry_ns;                 /* after a commit that failed: when to look at the open layer again */

	int unsealed;                     /* why the last commit has not sealed what it should have */
	size_t held_most;                 /* bytes in the account and dirty, at most since the heap was trimmed */

};

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
	lock_init(&c->lock, RANK_COMMIT);
	rwlock_init(&c->freeze, RANK_FREEZE);
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
	rwlock_fini(&c->freeze);
	free(c);
}

void commit_gate_enter(struct commit *c)
{
	if (!PLANTED(PLANT_NO_GATE))
		rwlock_shared(&c->gate);
}

void commit_gate_leave(struct commit *c)
{
	if (!PLANTED(PLANT_NO_GATE))
		rwlock_release(&c->gate);
}

void commit_freeze_enter(struct commit *c)
{
	rwlock_shared(&c->freeze);
}

void commit_freeze_leave(struct commit *c)
{
	rwlock_release(&c->freeze);
}

static int sync_data(struct commit *c)
{
	int err = PLANTED(PLANT_NO_POOL_SYNC) ? 0 : pool_sync(c->store->pool);

	if (!err)
		err = layers_sync(c->store->layers);
	if (!err && !PLANTED(PLANT_NO_COLUMN_SYNC))
		err = c->hooks.sync(c->ctx);
	return err;
}

/* Step 2. A commit that seals freezes changes while it stages: the layer is complete then, or else it is not sealed. */
static int stage(struct commit *c, enum layers_stage how, bool *empty, int *left)
{
	struct store *s = c->store;
	int err = c->hooks.stage(c->ctx, left);

	c->unsealed = *left;
	if (err)
		return err;
	meta_lock(s->meta);
	err = layers_stage_locked(s->layers, c->number + 1, clock_now_ns(), *left ? LAYERS_STAGE : how, &c->unsealed);
	*empty = !meta_pending_locked(s->meta);
	meta_unlock(s->meta);
	return err;
}

/* Steps 3 and 4. *deferred is what the transaction freed. */
static int transact(struct commit *c, struct meta_deferred **deferred)
{
	struct store *s = c->store;
	int err = sync_data(c);

	if (err)
		return err;
	meta_lock(s->meta);
	err = meta_fact_set_locked(s->meta, "commit", (int64_t)(c->number + 1));
	if (!err)
		err = meta_commit_locked(s->meta);
	/* The log is the first to give space back. */
	if (!err && store_is_short(s))
		err = meta_fold_locked(s->meta);
	if (!err) {
		store_settle(s);
		*deferred = meta_take_deferred_locked(s->meta);
	}
	meta_unlock(s->meta);
	return err || PLANTED(PLANT_NO_LOG_SYNC) ? err : meta_sync(s->meta);
}

static int gated(struct commit *c, enum layers_stage how, struct meta_deferred **deferred, bool *empty, int *left)
{
	bool freeze = how != LAYERS_STAGE;
	int err;

	if (freeze)
		rwlock_exclusive(&c->freeze);
	rwlock_exclusive(&c->gate);
	err = stage(c, how, empty, left);
	if (PLANTED(PLANT_EARLY_HEAD))
		layers_publish(c->store->layers);
	if (freeze)
		rwlock_release(&c->freeze);
	if (!err && !*empty)
		err = transact(c, deferred);
	rwlock_release(&c->gate);
	return err;
}

/* Ends deferred work whose commit has failed for good. */
static void drop(struct meta_deferred *deferred)
{
	while (deferred) {
		struct meta_deferred *d = deferred;

		deferred = d->next;
		d->run(d, false);
	}
}

static void failed(struct commit *c, int err)
{
	struct store *s = c->store;

	stats_add(STAT_COMMIT_FAILURES, 1);
	if (err_is_passing(err) && !meta_failed(s->meta))
		log_warn("commit failed: %s; it is tried again", err_text(err));
	else if (!atomic_exchange(&s->read_only, true))
		log_error("commit failed: %s; the store is read-only until it is mounted again", err_text(err));
}

/* Step 5. HEAD comes first: a follower must not find that its layers are gone. Without space for HEAD (or a descriptor) the
 * deferred work runs all the same, or there would never be any; followers wait until HEAD can be written. */
static int release(struct commit *c, struct meta_deferred *deferred)
{
	struct layers *ls = c->store->layers;
	int err = layers_publish(ls);
	bool later = err_is_passing(err);

	while (deferred && (!err || later)) {
		struct meta_deferred *d = deferred;

		deferred = d->next;
		d->run(d, true);
	}
	drop(deferred);
	pool_reclaim(c->store->pool);
	if (later)
		err = layers_publish(ls);
	if (err_is_passing(err)) {
		log_warn("layers/HEAD or layers/refs cannot be written: %s; it is tried again", strerror(-err));
		err = 0;
	}
	return err;
}

static int commit_once(struct commit *c, enum layers_stage how, bool *released)
{
	struct store *s = c->store;
	struct meta_deferred *deferred = NULL;
	bool empty = true;
	int err, left = 0;

	err_forget();
	*released = c->again = false;
	if (atomic_load(&s->read_only))
		return -EROFS;
	err = c->hooks.flush(c->ctx);
	/* Without space what was freed can be committed all the same. For all else names wait for their data. */
	if (!err || err_wants_space(err))
		err = gated(c, how, &deferred, &empty, &left);
	if (!err && !empty) {
		__atomic_add_fetch(&c->number, 1, __ATOMIC_RELAXED);
		stats_add(STAT_COMMITS, 1);
	}
	if (!err)
		err = release(c, deferred);
	else
		drop(deferred);
	c->hooks.done(c->ctx, err);
	c->again &= !err;
	store_others_settle(s);
	if (err)
		failed(c, err);
	*released = !err && !empty;
	return err ? err : left;
}

static int commit_run(struct commit *c, enum layers_stage how)
{
	unsigned waits = 0;
	bool released;
	int err;

	do
		err = commit_once(c, how, &released);
	while (err_wait(err, &waits));
	/* There was no space for something, and there may be now. */
	if (err == -ENOSPC && released)
		err = commit_once(c, how, &released);
	return err;
}

/* Nobody reads any more: what they hold may be what is lacking. */
static void give_up_caches(struct commit *c)
{
	cache_shrink(c->store->cache, 0);
	buf_trim();
}

/* The last one: until nothing is left to commit, because what has no name is deleted when its commit lets go of it. */
static int commit_last(struct commit *c, enum layers_stage how)
{
	uint64_t before;
	int err;

	do {
		before = c->number;
		err = commit_run(c, how);
		/* An end without a seal is as good: the next mount goes on with the open layer. */
		if (err_is_passing(err)) {
			give_up_caches(c);
			err = commit_run(c, LAYERS_STAGE);
		}
		how = LAYERS_STAGE;
	} while (!err && c->number != before);
	return err;
}

/* Compaction. */

static void show_progress(struct commit *c)
{
	lock_acquire(&c->lock);
	c->shown.running = c->job != NULL;
	if (c->job)
		compact_progress(c->job, &c->shown.done_bytes, &c->shown.total_bytes);
	lock_release(&c->lock);
}

static void end_job(struct commit *c, int err)
{
	bool again = !err && c->effort == COMPACT_ALL && compact_again(c->job);

	if (c->job)
		compact_free(c->job);
	c->job = NULL;
	if (err && err != -ENOENT)
		log_warn("compaction: %s", strerror(-err));
	if (err)
		c->backoff_until = c->number + (err == -ENOENT ? 1 : BACKOFF_COMMITS);
	lock_acquire(&c->lock);
	c->compact_wanted |= again;
	c->shown.error = err == -ENOENT ? 0 : err;
	c->shown.finished += !again;
	c->shown.running = false;
	lock_broadcast(&c->finished_cond);
	lock_release(&c->lock);
}

/* A request for all of the space seals the open layer first, so that the state that is compacted has the latest deletions. By itself
 * a compaction seals nothing, because a sealed layer is a commit that others see. */
static int begin_job(struct commit *c, enum compact_effort effort)
{
	int err = 0;

	c->effort = effort;
	if (effort != COMPACT_WORTH && layers_unsealed(c->store->layers))
		err = commit_run(c, LAYERS_SEAL_ALL);
	return err ? err : compact_plan(c->store->layers, effort, &c->job);
}

/* A shortage may be over in a moment. An array that was remapped already is left as it is. */
static int remap(struct commit *c)
{
	unsigned waits = 0;
	int err;

	do
		err = c->hooks.remap(c->ctx, c->job);
	while (err_wait(err, &waits));
	return err;
}

static int install_job(struct commit *c)
{
	int err = compact_install(c->job, c->number + 1, clock_now_ns());

	if (err)
		return err;
	err = remap(c);
	/* Open arrays would look for blocks where the next commit deletes them. */
	if (err) {
		failed(c, -EIO);
		return err;
	}
	return commit_run(c, LAYERS_STAGE);
}

/* One step of a compaction, if there is something to do. */
static bool maintain_step(struct commit *c, enum compact_effort effort)
{
	bool more = false;
	int err = 0;

	if (!c->job) {
		if (effort != COMPACT_ALL && !compact_due(c->store->layers, effort))
			return false;
		err = atomic_load(&c->store->read_only) ? -EROFS : begin_job(c, effort);
	} else {
		err = compact_step(c->job, STEP_BYTES, &more);
		if (!err && !more)
			err = install_job(c);
	}
	if (err || (c->job && !more && compact_installed(c->job)))
		end_job(c, err);
	show_progress(c);
	return !err;
}

/* Gives the pages that a burst has left in the heap back to the system. */
static void trim(struct commit *c)
{
	size_t held = (size_t)stats_read(STAT_DIRTY_BYTES);

	for (unsigned part = 0; part < ACCOUNT_NPARTS; part++)
		held += account_held(&c->store->account, part);
	if (held > c->held_most)
		c->held_most = held;
	if (c->held_most - held < TRIM_BYTES)
		return;
	buf_trim();
	c->held_most = held;
}

static void maintain(struct commit *c)
{
	uint64_t per_second = c->store->config.compact_bytes;
	enum compact_effort effort = COMPACT_WORTH;

	lock_acquire(&c->lock);
	if (c->compact_wanted && !c->job) {
		effort = COMPACT_ALL;
		c->compact_wanted = false;
	}
	lock_release(&c->lock);
	if (effort == COMPACT_WORTH && !c->job && c->number < c->backoff_until)
		return;
	maintain_step(c, effort);
	if (c->job)
		c->next_step_ns = clock_monotonic_ns() + (per_second ? (int64_t)(STEP_BYTES * 1000000000ull / per_second) : 0);
}

/* Keeps the chain bounded, however fast commits come, and however much there is to copy. */
static void bound_chain(struct commit *c)
{
	struct layers_totals totals;

	do
		layers_totals(c->store->layers, &totals);
	while (totals.chain >= CHAIN_LONGEST && (c->job || c->number >= c->backoff_until) &&
	       maintain_step(c, COMPACT_WORTH));
}

/* Does everything that gives space back, for an operation that waits for it. */
static void make_space(struct commit *c)
{
	struct store *s = c->store;
	bool began = c->job != NULL;

	while (c->again && !commit_run(c, LAYERS_STAGE))
		;
	meta_lock(s->meta);
	meta_trim_locked(s->meta);
	meta_unlock(s->meta);
	for (unsigned rounds = 0; rounds < SPACE_ROUNDS_MAX; rounds++) {
		uint64_t before = c->number;

		while (maintain_step(c, COMPACT_SPACE) && (c->job || !began))
			began = true;
		/* One after the other, each with the space that the last has given back. */
		if (c->number == before || !store_may_write(s, store_reserve_bytes(s)))
			break;
		began = false;
	}
}

/* Waits for a request, the interval, an open layer of its size, much that was freed, or the next step of a compaction. With the lock held.
 * True if there is something to commit. */
static bool wait_for_work(struct commit *c, int64_t commit_due_ns)
{
	while (!c->stop && (c->quiet || c->requested == c->finished)) {
		int64_t now = clock_monotonic_ns(), until = now + LOOK_NS;

		if (c->quiet) {
			lock_wait(&c->lock, &c->wake);
			continue;
		}
		if ((commit_due_ns && now >= commit_due_ns) ||
		    (now >= c->retry_ns && (layers_want_seal(c->store->layers) || store_frees_much(c->store))))
			return true;
		if (c->again)
			return true;
		if (c->compact_wanted || (c->job && now >= c->next_step_ns))
			return false;
		if (commit_due_ns && commit_due_ns < until)
			until = commit_due_ns;
		if (c->job && c->next_step_ns < until)
			until = c->next_step_ns;
		lock_wait_ms(&c->lock, &c->wake, (unsigned)((until - now + 999999) / 1000000));
	}
	return true;
}

/* The time at which the interval is over; 0: there is no interval. */
static int64_t next_due_ns(const struct commit *c)
{
	int64_t seconds = c->store->config.commit_seconds;

	return seconds ? clock_monotonic_ns() + seconds * CLOCK_SECOND_NS : 0;
}

/* One round with the lock held on entry and exit; false after the last. */
static bool round_of_work(struct commit *c, int64_t *commit_due_ns)
{
	bool commit = wait_for_work(c, *commit_due_ns), stop = c->stop, space = c->space, seal = c->seal;
	enum layers_stage how = layers_want_seal(c->store->layers) ? LAYERS_SEAL_ALL : c->seal || stop ? LAYERS_SEAL : LAYERS_STAGE;
	uint64_t ticket = c->requested;
	int err;

	c->busy = true;
	if (commit && !(stop && c->store->config.scratch)) {
		c->seal = c->space = false;
		lock_release(&c->lock);
		if (how != LAYERS_STAGE && !stop)
			bound_chain(c);
		err = stop ? commit_last(c, how) : commit_run(c, how);
		/* The open layer is durable as well, so only a caller that has asked for a seal gets this error. */
		if (!err && seal)
			err = c->unsealed;
		if (space && (!err || err == -ENOSPC))
			make_space(c);
		*commit_due_ns = next_due_ns(c);
		lock_acquire(&c->lock);
		c->finished = ticket;
		c->result = err;
		c->retry_ns = err || c->unsealed ? clock_monotonic_ns() + LOOK_NS : 0;
		lock_broadcast(&c->finished_cond);
	}
	if (!stop) {
		lock_release(&c->lock);
		trim(c);
		maintain(c);
		lock_acquire(&c->lock);
	}
	c->busy = false;
	lock_broadcast(&c->finished_cond);
	return !stop;
}

static void *commit_thread(void *arg)
{
	struct commit *c = arg;
	int64_t due = next_due_ns(c);

	lock_acquire(&c->lock);
	while (round_of_work(c, &due))
		;
	lock_release(&c->lock);
	if (c->job)
		compact_free(c->job);
	return NULL;
}

int commit_start(struct commit *c, const struct commit_hooks *hooks, void *ctx)
{
	int err;

	c->hooks = *hooks;
	c->ctx = ctx;
	err = thread_start("commit", commit_thread, c, &c->thread);
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

static void drop_all(struct commit *c)
{
	struct meta *m = c->store->meta;
	struct meta_deferred *all;

	meta_lock(m);
	all = meta_take_deferred_locked(m);
	meta_unlock(m);
	drop(all);
}

int commit_stop(struct commit *c)
{
	if (!c->started) {
		drop_all(c);
		return c->result;
	}
	lock_acquire(&c->lock);
	c->stop = true;
	lock_signal(&c->wake);
	lock_release(&c->lock);
	thread_join(c->thread);
	c->started = false;
	drop_all(c);
	return c->result;
}

/* until_ns: 0 for ever. */
static int wait_until(struct commit *c, enum commit_want want, int64_t until_ns)
{
	int64_t left_ns = 1;
	uint64_t ticket;
	int err;

	lock_acquire(&c->lock);
	/* Invariant 1: a running commit has taken its ticket already, so this one is the next's. */
	ticket = ++c->requested;
	c->seal |= want == COMMIT_SEAL;
	c->space |= want == COMMIT_SPACE;
	lock_signal(&c->wake);
	while (c->finished < ticket && !c->stop && left_ns > 0) {
		if (PLANTED(PLANT_LOST_WAKE)) {
			lock_release(&c->lock);
			lock_acquire(&c->lock);
		}
		if (!until_ns)
			lock_wait(&c->lock, &c->finished_cond);
		else if ((left_ns = until_ns - clock_monotonic_ns()) > 0)
			lock_wait_ms(&c->lock, &c->finished_cond, (unsigned)(left_ns / 1000000) + 1);
	}
	err = c->finished >= ticket ? c->result : c->stop ? -ESHUTDOWN : -ETIMEDOUT;
	lock_release(&c->lock);
	return err;
}

int commit_wait(struct commit *c, enum commit_want want)
{
	if (PLANTED(PLANT_FSYNC_AT_ONCE)) {
		commit_ask(c);
		return 0;
	}
	return wait_until(c, want, 0);
}

int commit_wait_ms(struct commit *c, unsigned ms)
{
	return wait_until(c, COMMIT_SYNC, clock_monotonic_ns() + (int64_t)ms * 1000000);
}

void commit_ask(struct commit *c)
{
	lock_acquire(&c->lock);
	if (c->requested == c->finished && !c->busy) {
		c->requested++;
		lock_signal(&c->wake);
	}
	lock_release(&c->lock);
}

void commit_freed(struct commit *c, uint64_t bytes, bool later)
{
	if (!bytes)
		return;
	store_note_freed(c->store, bytes, later);
	/* A thread that is busy looks by itself when it is at rest again. */
	if (store_frees_much(c->store))
		commit_ask(c);
}

void commit_compact(struct commit *c, bool start, struct commit_compaction *out)
{
	lock_acquire(&c->lock);
	if (start && !c->compact_wanted) {
		c->compact_wanted = true;
		lock_signal(&c->wake);
	}
	*out = c->shown;
	out->running |= c->compact_wanted;
	lock_release(&c->lock);
}

void commit_again(struct commit *c)
{
	c->again = true;
}

uint64_t commit_number(struct commit *c)
{
	return __atomic_load_n(&c->number, __ATOMIC_RELAXED);
}
