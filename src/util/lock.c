/*
 * Ranked locks over pthreads, or over what a simulation has put in place of what blocks in them (struct lock_ops): there a lock is
 * tried until it is free.
 *
 * Invariants of a debug build, each checked with an abort that names the locks: (1) the ranks a thread
 * holds rise from its first to its innermost lock, equal only where _nested was asked for, and never
 * the same lock twice; (2) a lock is released by the thread that took it; (3) a wait releases the
 * innermost lock.
 *
 * rwlocks prefer writers: no thread takes one twice (1), so that cannot deadlock, and a stream of
 * readers does not starve a writer.
 */
#include "util/lock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "util/clock.h"

static const char *const rank_names[RANK_NRANKS] = {
	[RANK_UPLOAD] = "RANK_UPLOAD",
	[RANK_COMMIT] = "RANK_COMMIT", [RANK_FREEZE] = "RANK_FREEZE", [RANK_GATE] = "RANK_GATE",
	[RANK_INODE] = "RANK_INODE",
	[RANK_META] = "RANK_META",     [RANK_META_SCRATCH] = "RANK_META_SCRATCH", [RANK_ICACHE] = "RANK_ICACHE", [RANK_ATTR] = "RANK_ATTR",
	[RANK_ARRAY] = "RANK_ARRAY",   [RANK_BUDGET] = "RANK_BUDGET", [RANK_LAYERS] = "RANK_LAYERS",
	[RANK_POOL] = "RANK_POOL",     [RANK_CACHE] = "RANK_CACHE",   [RANK_SPILL] = "RANK_SPILL",
	[RANK_MOVE] = "RANK_MOVE",     [RANK_DISKS] = "RANK_DISKS",   [RANK_PLACE] = "RANK_PLACE",
	[RANK_PIECE] = "RANK_PIECE",   [RANK_LEASE] = "RANK_LEASE",
	[RANK_END] = "RANK_END",       [RANK_EDGE] = "RANK_EDGE",
	[RANK_FD] = "RANK_FD",         [RANK_NOTIFY] = "RANK_NOTIFY", [RANK_WORK] = "RANK_WORK",
	[RANK_MEM] = "RANK_MEM",
};

static const struct lock_ops *in_use; /* NULL: pthreads' own */

#ifdef SPILLFS_DEBUG

#define LOCK_MAX_HELD 32

struct held {
	const void *lock;
	enum lock_rank rank;
};

static _Thread_local struct held held[LOCK_MAX_HELD];
static _Thread_local unsigned nheld;

static _Noreturn void held_abort(const char *what, enum lock_rank rank)
{
	fprintf(stderr, "spillfs: lock rank violation: %s %s while holding", what, rank_names[rank]);
	for (unsigned i = 0; i < nheld; i++)
		fprintf(stderr, " %s", rank_names[held[i].rank]);
	fprintf(stderr, "%s\n", nheld ? "" : " nothing");
	abort();
}

static void held_push(const void *lock, enum lock_rank rank, bool nested)
{
	for (unsigned i = 0; i < nheld; i++)
		if (held[i].lock == lock)
			held_abort("taking twice", rank);
	/* (1) makes the last one the highest, in whatever order the others were released. */
	if (nheld && (nested ? rank < held[nheld - 1].rank : rank <= held[nheld - 1].rank))
		held_abort("taking", rank);
	if (nheld == LOCK_MAX_HELD)
		held_abort("too many locks: taking", rank);
	held[nheld++] = (struct held){ lock, rank };
}

static void held_pop(const void *lock, enum lock_rank rank)
{
	unsigned i = nheld;

	while (i > 0 && held[i - 1].lock != lock)
		i--;
	if (i == 0)
		held_abort("releasing a lock not held,", rank);
	memmove(&held[i - 1], &held[i], (nheld - i) * sizeof(held[0]));
	nheld--;
}

static void held_check_innermost(const void *lock, enum lock_rank rank)
{
	if (nheld == 0 || held[nheld - 1].lock != lock)
		held_abort("waiting on", rank);
}

bool lock_none_held(void)
{
	return nheld == 0;
}

#else

static inline void held_push(const void *lock, enum lock_rank rank, bool nested)
{
	(void)lock, (void)rank, (void)nested;
}

static inline void held_pop(const void *lock, enum lock_rank rank)
{
	(void)lock, (void)rank;
}

static inline void held_check_innermost(const void *lock, enum lock_rank rank)
{
	(void)lock, (void)rank;
}

bool lock_none_held(void)
{
	return true;
}

#endif

static void lock_must(int err, const char *what)
{
	if (err == 0)
		return;
	fprintf(stderr, "spillfs: %s: %s\n", what, strerror(err));
	abort();
}

void lock_replace(const struct lock_ops *ops)
{
	in_use = ops;
}

static bool any_replaced(void)
{
	return __builtin_expect(in_use != NULL, 0);
}

static bool is_replaced(enum lock_rank rank)
{
	return any_replaced() && rank != RANK_MEM;
}

static int try_mutex(void *native)
{
	return pthread_mutex_trylock(native);
}

static int try_shared(void *native)
{
	return pthread_rwlock_tryrdlock(native);
}

static int try_exclusive(void *native)
{
	return pthread_rwlock_trywrlock(native);
}

static void take_replaced(void *native, int (*try)(void *native), enum lock_rank rank)
{
	int err;

	in_use->step();
	while ((err = try(native)) == EBUSY)
		in_use->busy(native, rank_names[rank]);
	lock_must(err, "a lock");
}

void lock_init(struct lock *l, enum lock_rank rank)
{
	lock_must(pthread_mutex_init(&l->mutex, NULL), "pthread_mutex_init");
	l->rank = rank;
}

void lock_fini(struct lock *l)
{
	lock_must(pthread_mutex_destroy(&l->mutex), "pthread_mutex_destroy");
}

static void lock_acquire_ranked(struct lock *l, bool nested)
{
	/* Before blocking: the violation must show even where it does deadlock. */
	held_push(l, l->rank, nested);
	if (is_replaced(l->rank))
		take_replaced(&l->mutex, try_mutex, l->rank);
	else
		lock_must(pthread_mutex_lock(&l->mutex), "pthread_mutex_lock");
}

void lock_acquire(struct lock *l)
{
	lock_acquire_ranked(l, false);
}

void lock_acquire_nested(struct lock *l)
{
	lock_acquire_ranked(l, true);
}

void lock_release(struct lock *l)
{
	enum lock_rank rank = l->rank; /* whoever takes it next may free it */

	held_pop(l, rank);
	lock_must(pthread_mutex_unlock(&l->mutex), "pthread_mutex_unlock");
	if (is_replaced(rank))
		in_use->freed(&l->mutex);
}

void lock_cond_init(pthread_cond_t *c)
{
	pthread_condattr_t attr;

	lock_must(pthread_condattr_init(&attr), "pthread_condattr_init");
	lock_must(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC), "pthread_condattr_setclock");
	lock_must(pthread_cond_init(c, &attr), "pthread_cond_init");
	pthread_condattr_destroy(&attr);
}

void lock_signal(pthread_cond_t *c)
{
	if (any_replaced())
		in_use->wake(c, false);
	else
		lock_must(pthread_cond_signal(c), "pthread_cond_signal");
}

void lock_broadcast(pthread_cond_t *c)
{
	if (any_replaced())
		in_use->wake(c, true);
	else
		lock_must(pthread_cond_broadcast(c), "pthread_cond_broadcast");
}

void lock_wait(struct lock *l, pthread_cond_t *c)
{
	held_check_innermost(l, l->rank);
	if (is_replaced(l->rank))
		in_use->wait(c, &l->mutex, rank_names[l->rank], INT64_MAX);
	else
		lock_must(pthread_cond_wait(c, &l->mutex), "pthread_cond_wait");
}

int lock_wait_ms(struct lock *l, pthread_cond_t *c, unsigned ms)
{
	int64_t until_ns = clock_monotonic_ns() + (int64_t)ms * 1000000;
	int err;

	held_check_innermost(l, l->rank);
	err = is_replaced(l->rank) ? in_use->wait(c, &l->mutex, rank_names[l->rank], until_ns) : clock_wait(c, &l->mutex, until_ns);
	if (err == ETIMEDOUT)
		return -ETIMEDOUT;
	lock_must(err, "clock_wait");
	return 0;
}

void rwlock_init(struct rwlock *l, enum lock_rank rank)
{
	pthread_rwlockattr_t attr;

	lock_must(pthread_rwlockattr_init(&attr), "pthread_rwlockattr_init");
#ifdef __GLIBC__
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
#endif
	lock_must(pthread_rwlock_init(&l->rwlock, &attr), "pthread_rwlock_init");
	pthread_rwlockattr_destroy(&attr);
	l->rank = rank;
}

void rwlock_fini(struct rwlock *l)
{
	lock_must(pthread_rwlock_destroy(&l->rwlock), "pthread_rwlock_destroy");
}

static void take_shared(struct rwlock *l, bool nested)
{
	held_push(l, l->rank, nested);
	if (is_replaced(l->rank))
		take_replaced(&l->rwlock, try_shared, l->rank);
	else
		lock_must(pthread_rwlock_rdlock(&l->rwlock), "pthread_rwlock_rdlock");
}

void rwlock_exclusive(struct rwlock *l)
{
	held_push(l, l->rank, false);
	if (is_replaced(l->rank))
		take_replaced(&l->rwlock, try_exclusive, l->rank);
	else
		lock_must(pthread_rwlock_wrlock(&l->rwlock), "pthread_rwlock_wrlock");
}

void rwlock_shared(struct rwlock *l)
{
	take_shared(l, false);
}

void rwlock_shared_nested(struct rwlock *l)
{
	take_shared(l, true);
}

void rwlock_release(struct rwlock *l)
{
	enum lock_rank rank = l->rank; /* whoever takes it next may free it */

	held_pop(l, rank);
	lock_must(pthread_rwlock_unlock(&l->rwlock), "pthread_rwlock_unlock");
	if (is_replaced(rank))
		in_use->freed(&l->rwlock);
}
