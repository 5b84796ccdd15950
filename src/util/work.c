/*
 * The worker threads.
 *
 * Invariants: (1) jobs of one class start in the order of their submission, and no background job starts
 * while an urgent one waits; (2) a job is off its queue before it runs, so that it may free or resubmit
 * itself; (3) the threads end only when stopping is set and both queues are empty; (4) they hold
 * no lock between jobs.
 */
#include "util/work.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "util/lock.h"
#include "util/thread.h"

struct work_queue {
	struct work *head;
	struct work **tail;
};

struct work_pool {
	struct lock lock; /* RANK_WORK: everything below but threads */
	pthread_cond_t cond;
	struct work_queue queue[2]; /* by work_class */
	bool stopping;
	unsigned nthreads;
	pthread_t threads[];
};

static struct work *work_next_locked(struct work_pool *p)
{
	for (int class = WORK_URGENT; class <= WORK_BACKGROUND; class++) {
		struct work_queue *q = &p->queue[class];
		struct work *w = q->head;

		if (!w)
			continue;
		q->head = w->next;
		if (!q->head)
			q->tail = &q->head;
		w->next = NULL;
		return w;
	}
	return NULL;
}

static void *work_thread(void *arg)
{
	struct work_pool *p = arg;
	struct work *w;

	lock_acquire(&p->lock);
	for (;;) {
		w = work_next_locked(p);
		if (w) {
			lock_release(&p->lock);
			w->run(w);
			assert(lock_none_held());
			lock_acquire(&p->lock);
		} else if (p->stopping) {
			break;
		} else {
			lock_wait(&p->lock, &p->cond);
		}
	}
	lock_release(&p->lock);
	return NULL;
}

int work_pool_new(unsigned nthreads, const char *name, struct work_pool **out)
{
	char label[16]; /* the kernel's limit */
	struct work_pool *p;
	int err = 0;

	if (nthreads == 0)
		return -EINVAL;
	p = calloc(1, sizeof(*p) + nthreads * sizeof(p->threads[0]));
	if (!p)
		return -ENOMEM;
	lock_init(&p->lock, RANK_WORK);
	lock_cond_init(&p->cond);
	for (int i = 0; i < 2; i++)
		p->queue[i].tail = &p->queue[i].head;
	while (p->nthreads < nthreads) {
		snprintf(label, sizeof(label), "%.10s-%u", name, p->nthreads % 1000);
		err = thread_start(label, work_thread, p, &p->threads[p->nthreads]);
		if (err)
			break;
		p->nthreads++;
	}
	if (err) {
		work_pool_free(p);
		return err;
	}
	*out = p;
	return 0;
}

void work_pool_free(struct work_pool *p)
{
	if (!p)
		return;
	lock_acquire(&p->lock);
	p->stopping = true;
	lock_broadcast(&p->cond);
	lock_release(&p->lock);
	for (unsigned i = 0; i < p->nthreads; i++)
		thread_join(p->threads[i]);
	assert(!p->queue[WORK_URGENT].head && !p->queue[WORK_BACKGROUND].head);
	pthread_cond_destroy(&p->cond);
	lock_fini(&p->lock);
	free(p);
}

void work_submit(struct work_pool *p, struct work *w, enum work_class class)
{
	struct work_queue *q = &p->queue[class];

	w->next = NULL;
	lock_acquire(&p->lock);
	*q->tail = w;
	q->tail = &w->next;
	lock_signal(&p->cond);
	lock_release(&p->lock);
}

unsigned work_pool_nthreads(const struct work_pool *p)
{
	return p->nthreads;
}
