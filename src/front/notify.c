/*
 * The notifier thread: a queue of invalidations.
 *
 * Invariants:
 *  1. No lock is held while the kernel is told.
 *  2. The kernel is told only while the loop serves the writes that it may wait for.
 */

#include "front/notify.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "tree/tree.h"
#include "util/lock.h"
#include "util/thread.h"

#define LOOK_MS 1000u

struct request {
	struct request *next;
	uint64_t ino; /* of the file; of the directory, if there is a name; 0: nothing is dropped */
	off_t off, len; /* off -1: attributes alone */
	char *name;
	void (*then)(void *ctx); /* may be NULL */
	void *ctx;
};

struct notify {
	struct fuse_session *se;
	struct tree *tree;
	struct lock lock;
	pthread_cond_t wake;
	pthread_t thread;
	struct request *head, **tail;
	bool stop;
	bool telling, silent;
	pthread_cond_t told;
};

/* Tells the kernel. With the lock held, which is released meanwhile. */
static void tell_locked(struct notify *n, const struct request *r)
{
	if (!r->ino || n->silent)
		return;
	n->telling = true;
	lock_release(&n->lock);
	if (r->name)
		fuse_lowlevel_notify_inval_entry(n->se, r->ino, r->name, strlen(r->name));
	else
		fuse_lowlevel_notify_inval_inode(n->se, r->ino, r->off, r->len);
	lock_acquire(&n->lock);
	n->telling = false;
	lock_broadcast(&n->told);
}

/* With the lock held, which is released meanwhile. */
static bool forget_one(struct notify *n)
{
	struct tree_named named;
	bool any;

	if (n->silent)
		return false;
	lock_release(&n->lock);
	any = tree_forgettable(n->tree, &named);
	lock_acquire(&n->lock);
	/* A process that has the file open or as a working directory keeps it; the name is looked up again when it is used. */
	if (any)
		tell_locked(n, &(struct request){ .ino = named.parent, .name = named.name });
	return any;
}

static void *notify_thread(void *arg)
{
	struct notify *n = arg;

	lock_acquire(&n->lock);
	for (;;) {
		struct request *r = n->head;

		if (!r) {
			if (n->stop)
				break;
			if (!forget_one(n))
				lock_wait_ms(&n->lock, &n->wake, LOOK_MS);
			continue;
		}
		n->head = r->next;
		if (!n->head)
			n->tail = &n->head;
		tell_locked(n, r);
		lock_release(&n->lock);
		if (r->then)
			r->then(r->ctx);
		free(r->name);
		free(r);
		lock_acquire(&n->lock);
	}
	lock_release(&n->lock);
	return NULL;
}

int notify_new(struct fuse_session *se, struct tree *tree, struct notify **out)
{
	struct notify *n = calloc(1, sizeof(*n));
	int err;

	if (!n)
		return -ENOMEM;
	n->se = se;
	n->tree = tree;
	n->tail = &n->head;
	lock_init(&n->lock, RANK_NOTIFY);
	lock_cond_init(&n->wake);
	lock_cond_init(&n->told);
	err = thread_start("notify", notify_thread, n, &n->thread);
	if (err) {
		free(n);
		return err;
	}
	*out = n;
	return 0;
}

void notify_free(struct notify *n)
{
	lock_acquire(&n->lock);
	n->stop = true;
	lock_signal(&n->wake);
	lock_release(&n->lock);
	thread_join(n->thread);
	pthread_cond_destroy(&n->wake);
	pthread_cond_destroy(&n->told);
	lock_fini(&n->lock);
	free(n);
}

void notify_silence(struct notify *n)
{
	lock_acquire(&n->lock);
	n->silent = true;
	while (n->telling)
		lock_wait(&n->lock, &n->told);
	lock_release(&n->lock);
}

static void enqueue(struct notify *n, const struct request *like)
{
	struct request *r = malloc(sizeof(*r));

	if (!r) {
		free(like->name);
		if (like->then)
			like->then(like->ctx);
		return;
	}
	*r = *like;
	lock_acquire(&n->lock);
	*n->tail = r;
	n->tail = &r->next;
	lock_signal(&n->wake);
	lock_release(&n->lock);
}

void notify_drop_pages(struct notify *n, uint64_t ino, off_t off, off_t len, void (*then)(void *ctx), void *ctx)
{
	enqueue(n, &(struct request){ .ino = ino, .off = off, .len = len, .then = then, .ctx = ctx });
}

void notify_drop_attr(struct notify *n, uint64_t ino, void (*then)(void *ctx), void *ctx)
{
	enqueue(n, &(struct request){ .ino = ino, .off = -1, .then = then, .ctx = ctx });
}

void notify_drop_entry(struct notify *n, uint64_t parent, const char *name, void (*then)(void *ctx), void *ctx)
{
	char *copy = strdup(name);

	if (copy)
		enqueue(n, &(struct request){ .ino = parent, .name = copy, .then = then, .ctx = ctx });
	else if (then)
		then(ctx);
}

void notify_then(struct notify *n, void (*then)(void *ctx), void *ctx)
{
	enqueue(n, &(struct request){ .then = then, .ctx = ctx });
}
