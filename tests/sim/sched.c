/*
 * See sched.h.
 *
 * Invariants: (1) one thread, `now`, runs; each other one waits for its baton; (2) a thread that is not READY is so until the event
 * that it waits for, or its time; (3) nothing of this file depends on addresses or on the real clock.
 */
#include "sched.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/clock.h"
#include "util/lock.h"
#include "util/thread.h"

#define THREADS_MAX 4096
#define BEGIN_NS (1700000000 * CLOCK_SECOND_NS)
#define STUCK_NS (3600 * CLOCK_SECOND_NS)
/* One wait of so many ends without a cause, as those of pthreads may. */
#define SPURIOUS_ONE_IN 64u
#define CALM_ONE_IN 256u

enum state { READY, AT_LOCK, AT_COND, ASLEEP, AT_JOIN, ENDED };

struct thread {
	char name[16];
	enum state state;
	const void *on;   /* the lock, the condition variable, the thread */
	const char *rank; /* of the lock */
	int64_t until_ns;
	bool timed_out;
	sem_t baton;
	pthread_t id;
	void *(*run)(void *);
	void *arg;
};

static struct {
	struct thread *v[THREADS_MAX];
	unsigned n;
	struct thread *now;
	int64_t now_ns, progress_ns;
	uint64_t random, trace;
	unsigned switch_one_in;
} s;

uint64_t sim_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

uint64_t sched_draw(uint64_t n)
{
	return sim_random(&s.random) % n;
}

void sched_note(uint64_t fact)
{
	s.trace = (s.trace ^ fact) * 0x100000001b3ull;
	s.trace ^= s.trace >> 29;
}

uint64_t sched_trace(void)
{
	return s.trace;
}

int64_t sched_now_ns(void)
{
	return s.now_ns;
}

void sched_progress(void)
{
	s.progress_ns = s.now_ns;
}

/* ---- who is next ---- */

static void stuck(const char *why)
{
	static const char *const doing[] = { "could run", "waits for a lock of", "waits on a condition under", "sleeps", "waits for the end of" };
	char text[8192];
	size_t n = (size_t)snprintf(text, sizeof(text), "%s\n", why);

	for (unsigned i = 0; i < s.n && n < sizeof(text); i++) {
		const struct thread *t = s.v[i];
		const char *what = t->state == AT_JOIN ? ((const struct thread *)t->on)->name : t->rank;

		if (t->state != ENDED)
			n += (size_t)snprintf(text + n, sizeof(text) - n, "    %u %s: %s %s\n", i, t->name, doing[t->state], what ? what : "");
	}
	sched_stuck(text);
}

/* Threads whose time has come are ready. */
static void ring(void)
{
	for (unsigned i = 0; i < s.n; i++) {
		struct thread *t = s.v[i];

		if ((t->state == AT_COND || t->state == ASLEEP) && t->until_ns <= s.now_ns) {
			t->timed_out = t->state == AT_COND;
			t->state = READY;
		}
	}
}

static void move_time(void)
{
	int64_t next = INT64_MAX;

	for (unsigned i = 0; i < s.n; i++) {
		struct thread *t = s.v[i];

		if ((t->state == AT_COND || t->state == ASLEEP) && t->until_ns < next)
			next = t->until_ns;
	}
	if (next == INT64_MAX)
		stuck("deadlock: no thread can go on");
	s.now_ns = next;
	if (s.now_ns - s.progress_ns > STUCK_NS)
		stuck("hang: nothing was achieved in an hour");
	ring();
}

static struct thread *pick(void)
{
	unsigned ready[THREADS_MAX], n = 0;

	for (;;) {
		for (unsigned i = 0; i < s.n; i++) {
			if (s.v[i]->state == READY)
				ready[n++] = i;
		}
		if (n)
			break;
		move_time();
	}
	n = ready[n > 1 ? sched_draw(n) : 0];
	sched_note(n);
	return s.v[n];
}

static void pass_to(struct thread *next, bool come_back)
{
	struct thread *me = s.now;

	if (next == me)
		return;
	s.now = next;
	sem_post(&next->baton);
	while (come_back && sem_wait(&me->baton))
		;
}

/* Returns when the thread is ready, and its turn has come. */
static void block(enum state state, const void *on, const char *rank, int64_t until_ns)
{
	struct thread *me = s.now;

	me->state = state;
	me->on = on;
	me->rank = rank;
	me->until_ns = until_ns;
	me->timed_out = false;
	pass_to(pick(), true);
}

void sched_step(void)
{
	if (sched_draw(s.switch_one_in) == 0)
		pass_to(pick(), true);
}

void sched_sleep(int64_t ns)
{
	block(ASLEEP, NULL, NULL, s.now_ns + (ns > 0 ? ns : 0));
}

/* ---- locks ---- */

static void lock_is_busy(const void *lock, const char *rank)
{
	block(AT_LOCK, lock, rank, INT64_MAX);
}

static void ready_all(enum state state, const void *on)
{
	for (unsigned i = 0; i < s.n; i++) {
		if (s.v[i]->state == state && s.v[i]->on == on)
			s.v[i]->state = READY;
	}
}

static void lock_was_freed(const void *lock)
{
	ready_all(AT_LOCK, lock);
}

static int cond_wait(pthread_cond_t *c, pthread_mutex_t *m, const char *rank, int64_t until_ns)
{
	bool timed_out;

	pthread_mutex_unlock(m);
	lock_was_freed(m);
	if (sched_draw(SPURIOUS_ONE_IN))
		block(AT_COND, c, rank, until_ns);
	else
		block(READY, c, rank, until_ns);
	timed_out = s.now->timed_out;
	while (pthread_mutex_trylock(m) == EBUSY)
		block(AT_LOCK, m, rank, INT64_MAX);
	return timed_out ? ETIMEDOUT : 0;
}

static void cond_wake(pthread_cond_t *c, bool all)
{
	struct thread *waiting[THREADS_MAX];
	unsigned n = 0;

	if (all) {
		ready_all(AT_COND, c);
		return;
	}
	for (unsigned i = 0; i < s.n; i++) {
		if (s.v[i]->state == AT_COND && s.v[i]->on == c)
			waiting[n++] = s.v[i];
	}
	if (n)
		waiting[sched_draw(n)]->state = READY;
}

static const struct lock_ops locks = { sched_step, lock_is_busy, lock_was_freed, cond_wait, cond_wake };

/* ---- threads ---- */

static struct thread *add_thread(const char *name)
{
	struct thread *t = calloc(1, sizeof(*t));

	if (!t || s.n == THREADS_MAX)
		abort();
	snprintf(t->name, sizeof(t->name), "%.15s", name);
	sem_init(&t->baton, 0, 0);
	return s.v[s.n++] = t;
}

static void *begin_thread(void *arg)
{
	struct thread *me = arg;

	while (sem_wait(&me->baton))
		;
	me->run(me->arg);
	me->state = ENDED;
	ready_all(AT_JOIN, me);
	pass_to(pick(), false);
	return NULL;
}

static int start_thread(const char *name, void *(*run)(void *), void *arg, pthread_t *out)
{
	struct thread *t = add_thread(name);
	pthread_attr_t attr;
	int err;

	t->run = run;
	t->arg = arg;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 512 << 10);
	err = -pthread_create(&t->id, &attr, begin_thread, t);
	pthread_attr_destroy(&attr);
	if (err)
		abort();
	*out = t->id;
	sched_step();
	return 0;
}

static void join_thread(pthread_t id)
{
	struct thread *t = NULL;

	for (unsigned i = 0; i < s.n && !t; i++) {
		if (s.v[i]->run && s.v[i]->id == id && s.v[i]->on != s.v[i])
			t = s.v[i];
	}
	if (t->state != ENDED)
		block(AT_JOIN, t, NULL, INT64_MAX);
	pthread_join(id, NULL);
	t->on = t; /* its number may be another one's */
}

static const struct thread_ops thread_hooks = { start_thread, join_thread };

/* ---- time ---- */

static int64_t read_clock(void)
{
	return s.now_ns;
}

static int wait_until(pthread_cond_t *c, pthread_mutex_t *m, int64_t until_ns)
{
	(void)c, (void)m, (void)until_ns;
	abort(); /* every timed wait is lock_wait_ms */
}

static const struct clock_ops simulated = { read_clock, read_clock, sched_sleep, wait_until };

void sched_begin(uint64_t seed, bool calm)
{
	static const unsigned rates[] = { 1, 2, 4, 16, 64 };
	int64_t now_ns = s.now_ns > BEGIN_NS ? s.now_ns : BEGIN_NS;

	memset(&s, 0, sizeof(s));
	s.random = seed;
	s.now_ns = s.progress_ns = now_ns;
	s.switch_one_in = calm ? CALM_ONE_IN : rates[sched_draw(sizeof(rates) / sizeof(*rates))];
	s.now = add_thread("main");
	clock_replace(&simulated);
	thread_replace(&thread_hooks);
	lock_replace(&locks);
}

void sched_end(void)
{
	lock_replace(NULL);
	thread_replace(NULL);
	clock_replace(NULL);
}
