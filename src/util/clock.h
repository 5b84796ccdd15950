/*
 * The one clock: time of day, time since some start, sleeping, and waiting until a time. A test may put a clock of its own in
 * its place, which covers every look and every timed wait of the program.
 *
 * Times are 64-bit nanoseconds, as the store has them, of any sign, and the C library's struct timespec. Any thread.
 */
#ifndef SPILLFS_UTIL_CLOCK_H
#define SPILLFS_UTIL_CLOCK_H

#include <pthread.h>
#include <stdint.h>
#include <time.h>

#define CLOCK_SECOND_NS 1000000000ll

/* Exact; the nanoseconds of the result are never negative. */
static inline struct timespec clock_timespec(int64_t ns)
{
	int64_t s = ns / CLOCK_SECOND_NS, rest = ns % CLOCK_SECOND_NS;

	if (rest < 0) {
		rest += CLOCK_SECOND_NS;
		s--;
	}
	return (struct timespec){ .tv_sec = s, .tv_nsec = rest };
}

/* Exact from 1677-09-21 to 2262-04-11, which are what can be stored; the nearer of them beyond. */
static inline int64_t clock_ns(struct timespec ts)
{
	int64_t s = ts.tv_sec, rest = ts.tv_nsec, ns;

	/* The product of the first second would not fit. */
	if (s < 0 && rest > 0) {
		s++;
		rest -= CLOCK_SECOND_NS;
	}
	if (__builtin_mul_overflow(s, CLOCK_SECOND_NS, &ns) || __builtin_add_overflow(ns, rest, &ns))
		return ts.tv_sec < 0 ? INT64_MIN : INT64_MAX;
	return ns;
}

/* The time of day. Time stamps of files: the kernel takes its own, which the writeback cache sends, from the same coarse
 * clock, so that a stamp never lies before an older one. */
int64_t clock_now_ns(void);
/* Never goes backward; from an unspecified start. */
int64_t clock_monotonic_ns(void);
/* The processor time that the calling thread has taken; no test's clock replaces it. */
int64_t clock_thread_cpu_ns(void);
/* A signal may end it early. */
void clock_sleep_ns(int64_t ns);
/* pthread_cond_timedwait until a time of clock_monotonic_ns: 0, or ETIMEDOUT. c must come from lock_cond_init. */
int clock_wait(pthread_cond_t *c, pthread_mutex_t *m, int64_t until_ns);

/* A clock: the functions above, but the processor time. */
struct clock_ops {
	int64_t (*now_ns)(void);
	int64_t (*monotonic_ns)(void);
	void (*sleep_ns)(int64_t ns);
	int (*wait)(pthread_cond_t *c, pthread_mutex_t *m, int64_t until_ns);
};

/* For tests: the process has this clock from here on; NULL: the system's. While no other thread runs. */
void clock_replace(const struct clock_ops *ops);

#endif
