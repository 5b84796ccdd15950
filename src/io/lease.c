/*
 * Copies of leases, the zero lease, and the pool of aligned buffers.
 *
 * Invariants: (1) outstanding + nidle = nalloc <= n; (2) a return signals under the lock, one waiter for
 * each buffer, so that no wakeup is lost; (3) a borrower waits only while something is outstanding:
 * a failed allocation with nothing outstanding is -ENOMEM.
 */
#include "io/lease.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "io/io.h"
#include "util/clock.h"
#include "util/lock.h"
#include "util/stats.h"

#define LEASE_ALIGN 4096u

struct lease_pool {
	struct lock lock; /* RANK_LEASE: all below that changes */
	pthread_cond_t returned;
	size_t buf_bytes;
	void *(*alloc)(size_t align, size_t size);
	unsigned n;
	unsigned nalloc;
	unsigned nidle;
	unsigned outstanding;
	void *idle[];
};

/* Not const: that would put a megabyte of zeros into the program file. */
static unsigned char lease_zero_bytes[LEASE_ZERO_MAX] __attribute__((aligned(4096)));

int lease_copy(const struct lease *l, unsigned how, void *dst)
{
	int err;

	if (l->ptr) {
		memcpy(dst, l->ptr, l->len_bytes);
		return 0;
	}
	err = io_pread_as(l->file, dst, l->len_bytes, l->off_bytes, how | IO_CACHED);
	return err == -ENODATA ? -EIO : err;
}

void lease_zeros(struct lease *l, size_t len_bytes)
{
	assert(len_bytes <= LEASE_ZERO_MAX);
	*l = (struct lease){ .ptr = lease_zero_bytes, .len_bytes = len_bytes };
}

static void lease_pool_check_locked(const struct lease_pool *p)
{
	assert(p->outstanding + p->nidle == p->nalloc && p->nalloc <= p->n);
	(void)p;
}

int lease_pool_new(unsigned n, size_t size_bytes, struct lease_pool **out)
{
	struct lease_pool *p;

	if (n == 0 || size_bytes == 0 || size_bytes % LEASE_ALIGN)
		return -EINVAL;
	p = calloc(1, sizeof(*p) + n * sizeof(p->idle[0]));
	if (!p)
		return -ENOMEM;
	lock_init(&p->lock, RANK_LEASE);
	lock_cond_init(&p->returned);
	p->buf_bytes = size_bytes;
	p->alloc = aligned_alloc;
	p->n = n;
	*out = p;
	return 0;
}

void lease_pool_free(struct lease_pool *p)
{
	if (!p)
		return;
	assert(p->outstanding == 0);
	while (p->nidle)
		free(p->idle[--p->nidle]);
	pthread_cond_destroy(&p->returned);
	lock_fini(&p->lock);
	free(p);
}

/* -EAGAIN: a buffer will come back; -ENOMEM: none will. */
static int lease_take_locked(struct lease_pool *p, void **out)
{
	void *buf = NULL;

	if (p->nidle) {
		buf = p->idle[--p->nidle];
	} else if (p->nalloc < p->n) {
		buf = p->alloc(LEASE_ALIGN, p->buf_bytes);
		if (buf)
			p->nalloc++;
	}
	if (!buf)
		return p->outstanding ? -EAGAIN : -ENOMEM;
	p->outstanding++;
	lease_pool_check_locked(p);
	stats_add(STAT_LEASES_IN_USE, 1);
	*out = buf;
	return 0;
}

int lease_pool_borrow(struct lease_pool *p, void **out)
{
	int64_t since = 0;
	int err;

	lock_acquire(&p->lock);
	while ((err = lease_take_locked(p, out)) == -EAGAIN) {
		if (!since) {
			since = clock_monotonic_ns();
			stats_add(STAT_LEASE_WAITS, 1);
		}
		lock_wait(&p->lock, &p->returned);
	}
	lock_release(&p->lock);
	if (since)
		stats_add(STAT_LEASE_WAIT_NS, (uint64_t)(clock_monotonic_ns() - since));
	return err;
}

int lease_pool_try_borrow(struct lease_pool *p, void **out)
{
	int err;

	lock_acquire(&p->lock);
	err = lease_take_locked(p, out);
	lock_release(&p->lock);
	return err;
}

void lease_pool_return(struct lease_pool *p, void *buf)
{
	lock_acquire(&p->lock);
	assert(p->outstanding > 0);
	p->outstanding--;
	p->idle[p->nidle++] = buf;
	lease_pool_check_locked(p);
	stats_sub(STAT_LEASES_IN_USE, 1);
	lock_signal(&p->returned);
	lock_release(&p->lock);
}

size_t lease_pool_buf_bytes(const struct lease_pool *p)
{
	return p->buf_bytes;
}

void lease_pool_set_alloc(struct lease_pool *p, void *(*alloc)(size_t align, size_t size))
{
	lock_acquire(&p->lock);
	p->alloc = alloc;
	lock_release(&p->lock);
}
