/*
 * Starting and joining threads.
 */
#include "util/thread.h"

#include <signal.h>
#include <stdio.h>

#include "util/stats.h"

#define NAME_BYTES 16

int thread_start(const char *name, void *(*run)(void *), void *arg, pthread_t *out)
{
	char label[NAME_BYTES];
	sigset_t all, old;
	int err;

	snprintf(label, sizeof(label), "%s", name);
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old); /* inherited by the thread */
	stats_add(STAT_THREADS, 1);
	err = -pthread_create(out, NULL, run, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (err)
		stats_sub(STAT_THREADS, 1);
	else
		pthread_setname_np(*out, label);
	return err;
}

void thread_join(pthread_t t)
{
	pthread_join(t, NULL);
	stats_sub(STAT_THREADS, 1);
}
