/*
 * Times: 64-bit nanoseconds, as the store has them, and the C library's struct timespec. No state.
 */
#ifndef SPILLFS_UTIL_CLOCK_H
#define SPILLFS_UTIL_CLOCK_H

#include <stdint.h>
#include <time.h>

#define CLOCK_SECOND_NS 1000000000ll

/* Of any sign: the nanoseconds of the result are never negative. */
static inline struct timespec clock_timespec(int64_t ns)
{
	int64_t s = ns / CLOCK_SECOND_NS, rest = ns % CLOCK_SECOND_NS;

	if (rest < 0) {
		rest += CLOCK_SECOND_NS;
		s--;
	}
	return (struct timespec){ .tv_sec = s, .tv_nsec = rest };
}

/* The nearest time that can be stored: from 1677-09-21 to 2262-04-11. */
static inline int64_t clock_ns(struct timespec ts)
{
	int64_t ns;

	if (__builtin_mul_overflow((int64_t)ts.tv_sec, CLOCK_SECOND_NS, &ns) ||
	    __builtin_add_overflow(ns, (int64_t)ts.tv_nsec, &ns))
		return ts.tv_sec < 0 ? INT64_MIN : INT64_MAX;
	return ns;
}

static inline int64_t clock_read_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return clock_ns(ts);
}

/* The time of day. Time stamps of files: the kernel takes its own, which the writeback cache sends, from the same coarse
 * clock, so that a stamp never lies before an older one. */
static inline int64_t clock_now_ns(void)
{
	return clock_read_ns(CLOCK_REALTIME_COARSE);
}

static inline int64_t clock_monotonic_ns(void)
{
	return clock_read_ns(CLOCK_MONOTONIC);
}

#endif
