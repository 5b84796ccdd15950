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

#endif
