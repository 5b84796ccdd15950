/*
 * The notifier threads, each with a queue of invalidations.
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
#include "util/clock.h"
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

struct teller {
	struct notify *notify;
	pthread_t thread;
	pthread_cond_t wake;
	struct request *head, **tail;
	bool telling, stop;
};

/* Waits behind both queues: in that of the names, and in a list of the same order, by the time at which it goes on without them. */
struct second {
	struct notify *notify;
	struct second *next;
	int64_t until_ns;
	void (*then)(void *ctx); /* NULL: it has gone on */
	void *ctx;
};

struct notify {
	struct fuse_session *se;
	struct tree *tree;
	struct lock lock;
	struct teller names, files;
	struct second *seconds, **seconds_tail;
	bool silent;
	pthread_cond_t told;
};

/* Tells the kernel. With the lock held, which is released meanwhile. */
static void tell_locked(struct teller *t, const struct request *r)
{
	struct notify *n = t->notify;

	if (!r->ino || n->silent)
		return;
	t->telling = true;
	lock_release(&n->lock);
	if (r->name)
		fuse_lowlevel_notify_inval_entry(n->se, r->ino, r->name, strlen(r->name));
	else
		fuse_lowlevel_notify_inval_inode(n->se, r->ino, r->off, r->len);
	lock_acquire(&n->lock);
	t->telling = false;
	lock_broadcast(&n->told);
}

/* With the lock held, which is released meanwhile. */
static bool forget_one(struct teller *t)
{
	struct notify *n = t->notify;
	struct tree_named named;
	bool any;

	if (n->silent)
		return false;
	lock_release(&n->lock);
	any = tree_forgettable(n->tree, &named);
	lock_acquire(&n->lock);
	/* A process that has the file open or as a working directory keeps it; the name is looked up again when it is used. */
	if (any)
		tell_locked(t, &(struct request){ .ino = named.parent, .name = named.name });
	return any;
}

static void append_locked(struct teller *t, struct request *r)
{
	*t->tail = r;
	t->tail = &r->next;
	lock_signal(&t->wake);
}

static void enqueue(struct teller *t, const struct request *like)
{
	struct request *r = malloc(sizeof(*r));

	if (!r) {
		free(like->name);
		if (like->then)
			like->then(like->ctx);
		return;
	}
	*r = *like;
	lock_acquire(&t->notify->lock);
	append_locked(t, r);
	lock_release(&t->notify->lock);
}

/* Takes the first one out of the list. What it asked to be dropped of files is before it in their queue. With the lock held, which is
 * released meanwhile. */
static void second_go_on_locked(struct notify *n)
{
	struct second *s = n->seconds;
	struct request r = { .then = s->then, .ctx = s->ctx };

	s->then = NULL;
	n->seconds = s->next;
	if (!n->seconds)
		n->seconds_tail = &n->seconds;
	lock_release(&n->lock);
	enqueue(&n->files, &r);
	lock_acquire(&n->lock);
}

/* Behind the names. Those that came before it have gone on: they were before it in that queue, too. */
static void second_come(void *ctx)
{
	struct second *s = ctx;
	struct notify *n = s->notify;

	lock_acquire(&n->lock);
	if (s->then)
		second_go_on_locked(n);
	lock_release(&n->lock);
	free(s);
}

/* With the lock held, which is released meanwhile. */
static void rest(struct teller *t)
{
	struct notify *n = t->notify;
	int64_t left;

	if (t == &n->names) {
		if (!forget_one(t) && !t->head && !t->stop)
			lock_wait_ms(&n->lock, &t->wake, LOOK_MS);
		return;
	}
	left = n->seconds ? n->seconds->until_ns - clock_monotonic_ns() : 0;
	if (!n->seconds)
		lock_wait(&n->lock, &t->wake);
	else if (left > 0)
		lock_wait_ms(&n->lock, &t->wake, (unsigned)(left / 1000000) + 1);
	else
		second_go_on_locked(n);
}

/* However much comes behind them, those who have waited long enough go on. */
static bool is_late(const struct teller *t)
{
	const struct second *first = t->notify->seconds;

	return t == &t->notify->files && first && first->until_ns <= clock_monotonic_ns();
}

static void *notify_thread(void *arg)
{
	struct teller *t = arg;
	struct notify *n = t->notify;

	lock_acquire(&n->lock);
	while (t->head || !t->stop) {
		struct request *r = is_late(t) ? NULL : t->head;

		if (!r) {
			rest(t);
			continue;
		}
		t->head = r->next;
		if (!t->head)
			t->tail = &t->head;
		tell_locked(t, r);
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

static int teller_start(struct teller *t, struct notify *n, const char *name)
{
	t->notify = n;
	t->tail = &t->head;
	lock_cond_init(&t->wake);
	return thread_start(name, notify_thread, t, &t->thread);
}

static void teller_stop(struct teller *t)
{
	lock_acquire(&t->notify->lock);
	t->stop = true;
	lock_signal(&t->wake);
	lock_release(&t->notify->lock);
	thread_join(t->thread);
	pthread_cond_destroy(&t->wake);
}

int notify_new(struct fuse_session *se, struct tree *tree, struct notify **out)
{
	struct notify *n = calloc(1, sizeof(*n));
	int err;

	if (!n)
		return -ENOMEM;
	n->se = se;
	n->tree = tree;
	n->seconds_tail = &n->seconds;
	lock_init(&n->lock, RANK_NOTIFY);
	lock_cond_init(&n->told);
	err = teller_start(&n->files, n, "notify");
	if (err) {
		free(n);
		return err;
	}
	err = teller_start(&n->names, n, "notify-names");
	if (err) {
		teller_stop(&n->files);
		free(n);
		return err;
	}
	*out = n;
	return 0;
}

void notify_free(struct notify *n)
{
	/* From behind a name an answer goes on to the other queue. */
	teller_stop(&n->names);
	teller_stop(&n->files);
	pthread_cond_destroy(&n->told);
	lock_fini(&n->lock);
	free(n);
}

void notify_silence(struct notify *n)
{
	lock_acquire(&n->lock);
	n->silent = true;
	while (n->names.telling || n->files.telling)
		lock_wait(&n->lock, &n->told);
	lock_release(&n->lock);
}

void notify_drop_pages(struct notify *n, uint64_t ino, off_t off, off_t len, void (*then)(void *ctx), void *ctx)
{
	enqueue(&n->files, &(struct request){ .ino = ino, .off = off, .len = len, .then = then, .ctx = ctx });
}

void notify_drop_attr(struct notify *n, uint64_t ino, void (*then)(void *ctx), void *ctx)
{
	enqueue(&n->files, &(struct request){ .ino = ino, .off = -1, .then = then, .ctx = ctx });
}

void notify_drop_entry(struct notify *n, uint64_t parent, const char *name)
{
	char *copy = strdup(name);

	if (copy)
		enqueue(&n->names, &(struct request){ .ino = parent, .name = copy });
}

void notify_then(struct notify *n, bool names, void (*then)(void *ctx), void *ctx)
{
	struct second *s = names ? malloc(sizeof(*s)) : NULL;
	struct request *r = s ? malloc(sizeof(*r)) : NULL;

	if (!r) {
		free(s);
		enqueue(&n->files, &(struct request){ .then = then, .ctx = ctx });
		return;
	}
	*r = (struct request){ .then = second_come, .ctx = s };
	lock_acquire(&n->lock);
	*s = (struct second){ n, NULL, clock_monotonic_ns() + NOTIFY_NAMES_MS * 1000000ll, then, ctx };
	*n->seconds_tail = s;
	n->seconds_tail = &s->next;
	append_locked(&n->names, r);
	lock_signal(&n->files.wake);
	lock_release(&n->lock);
}
