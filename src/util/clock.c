/*
 * The system's clock, and the place of the clock in use.
 */
#include "util/clock.h"

#include <stddef.h>

static int64_t read_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return clock_ns(ts);
}

static int64_t system_now(void)
{
	return read_ns(CLOCK_REALTIME_COARSE);
}

static int64_t system_monotonic(void)
{
	return read_ns(CLOCK_MONOTONIC);
}

static void system_sleep(int64_t ns)
{
	struct timespec ts = clock_timespec(ns);

	nanosleep(&ts, NULL);
}

static int system_wait(pthread_cond_t *c, pthread_mutex_t *m, int64_t until_ns)
{
	struct timespec until = clock_timespec(until_ns);

	return pthread_cond_timedwait(c, m, &until);
}

static const struct clock_ops system_clock = {
	.now_ns = system_now,
	.monotonic_ns = system_monotonic,
	.sleep_ns = system_sleep,
	.wait = system_wait,
};

static const struct clock_ops *in_use = &system_clock;

void clock_replace(const struct clock_ops *ops)
{
	in_use = ops ? ops : &system_clock;
}

int64_t clock_now_ns(void)
{
	return in_use->now_ns();
}

int64_t clock_monotonic_ns(void)
{
	return in_use->monotonic_ns();
}

int64_t clock_thread_cpu_ns(void)
{
	return read_ns(CLOCK_THREAD_CPUTIME_ID);
}

void clock_sleep_ns(int64_t ns)
{
	in_use->sleep_ns(ns);
}

int clock_wait(pthread_cond_t *c, pthread_mutex_t *m, int64_t until_ns)
{
	return in_use->wait(c, m, until_ns);
}
