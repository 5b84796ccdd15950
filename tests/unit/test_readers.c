/*
 * front/readers: how many threads read at once. A pipe takes the place of the device.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>

#include "front/readers.h"
#include "unit.h"
#include "util/thread.h"

#define NTHREADS 8
#define NREQUESTS 2000

static struct readers readers;

static unsigned parked(void)
{
	unsigned n;

	lock_acquire(&readers.lock);
	n = readers.nparked;
	lock_release(&readers.lock);
	return n;
}

static void *enter(void *arg)
{
	readers_enter(&readers);
	return arg;
}

/* Two read, and a third is parked. */
static void setup(pthread_t *third)
{
	readers_init(&readers);
	for (unsigned i = 0; i < READERS_MAX; i++)
		readers_enter(&readers);
	CHECK_OK(thread_start("third", enter, NULL, third));
	while (!parked())
		sched_yield();
}

UNIT_TEST(readers_the_last_wakes_another)
{
	pthread_t third;

	setup(&third);
	readers_leave(&readers);
	CHECK_EQ(parked(), 1);
	readers_leave(&readers);
	thread_join(third);
	CHECK_EQ(parked(), 0);
	CHECK_EQ(readers.nreading, 1);
	readers_leave(&readers);
	CHECK_EQ(readers.nreading, 0);
	readers_fini(&readers);
}

/* As libfuse ends the threads of its loop. */
UNIT_TEST(readers_that_are_parked_can_be_cancelled)
{
	pthread_t third;

	setup(&third);
	CHECK_OK(pthread_cancel(third));
	thread_join(third);
	readers_leave(&readers);
	readers_fini(&readers);
}

static int device[2];
static atomic_int nserved, nreading, most;

static void *serve(void *arg)
{
	ssize_t n;
	char byte;

	do {
		int now, seen;

		readers_enter(&readers);
		now = atomic_fetch_add(&nreading, 1) + 1;
		seen = atomic_load(&most);
		while (now > seen && !atomic_compare_exchange_weak(&most, &seen, now))
			;
		n = read(device[0], &byte, 1);
		atomic_fetch_sub(&nreading, 1);
		readers_leave(&readers);
		atomic_fetch_add(&nserved, n == 1);
	} while (n == 1);
	return arg;
}

UNIT_TEST(readers_serve_all_requests)
{
	char bytes[NREQUESTS] = { 0 };
	pthread_t t[NTHREADS];

	readers_init(&readers);
	CHECK_OK(pipe(device));
	for (int i = 0; i < NTHREADS; i++)
		CHECK_OK(thread_start("serve", serve, NULL, &t[i]));
	for (int i = 0; i < NREQUESTS; i += 100)
		CHECK_EQ(write(device[1], bytes, 100), 100);
	close(device[1]);
	for (int i = 0; i < NTHREADS; i++)
		thread_join(t[i]);
	close(device[0]);
	CHECK_EQ(nserved, NREQUESTS);
	CHECK(most <= (int)READERS_MAX);
	readers_fini(&readers);
}
