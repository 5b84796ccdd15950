/*
 * Starting and joining threads, and the place of the functions in use.
 */
#include "util/thread.h"

#include <signal.h>
#include <stdio.h>

#include "util/stats.h"

#define NAME_BYTES 16

static int system_start(const char *name, void *(*run)(void *), void *arg, pthread_t *out)
{
	(void)name;
	return -pthread_create(out, NULL, run, arg);
}

static void system_join(pthread_t t)
{
	pthread_join(t, NULL);
}

static const struct thread_ops system_threads = { system_start, system_join };
static const struct thread_ops *in_use = &system_threads;

void thread_replace(const struct thread_ops *ops)
{
	in_use = ops ? ops : &system_threads;
}

int thread_start(const char *name, void *(*run)(void *), void *arg, pthread_t *out)
{
	char label[NAME_BYTES];
	sigset_t all, old;
	int err;

	snprintf(label, sizeof(label), "%s", name);
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old); /* inherited by the thread */
	stats_add(STAT_THREADS, 1);
	err = in_use->start(label, run, arg, out);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (err)
		stats_sub(STAT_THREADS, 1);
	else
		pthread_setname_np(*out, label);
	return err;
}

void thread_join(pthread_t t)
{
	in_use->join(t);
	stats_sub(STAT_THREADS, 1);
}
