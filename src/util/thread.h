/*
 * The one place where threads are started, each by a name; spillfs_threads of .spillfs/stats counts those that run. (libfuse
 * starts those of its loop by itself.)
 */
#ifndef SPILLFS_UTIL_THREAD_H
#define SPILLFS_UTIL_THREAD_H

#include <pthread.h>

/* Runs run(arg) in a thread that takes no signals. Names are cut to 15 bytes, the kernel's most.
 * -EAGAIN: the system has no more threads. */
int thread_start(const char *name, void *(*run)(void *), void *arg, pthread_t *out);
/* Waits for its end. Each thread that was started is joined once. */
void thread_join(pthread_t t);

/* How threads are made and joined. For a simulation in which one thread runs at a time (util/lock.h). */
struct thread_ops {
	int (*start)(const char *name, void *(*run)(void *), void *arg, pthread_t *out);
	void (*join)(pthread_t t);
};

/* The process has these from here on; NULL: pthreads' own. While no other thread runs. */
void thread_replace(const struct thread_ops *ops);

#endif
