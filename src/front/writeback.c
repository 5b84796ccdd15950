/*
 * Dirty pages that the kernel holds. They are written back as they are dropped, by the notify thread, which then runs what waits.
 */
#include "front/writeback.h"

#include <semaphore.h>
#include <stdlib.h>
#include <string.h>

#include "front/answer.h"
#include "front/notify.h"
#include "util/log.h"

void *deferred_new(fuse_req_t req, fuse_ino_t ino, size_t size, void (*run)(struct deferred *d))
{
	struct deferred *d = calloc(1, size);

	if (d)
		*d = (struct deferred){ req, ino, run };
	else
		answer_err(req, -ENOMEM);
	return d;
}

void deferred_run(struct deferred *d)
{
	if (d)
		d->run(d);
	free(d);
}

void deferred_fail(struct deferred *d, int err)
{
	answer_err(d->req, err);
	free(d);
}

static void run_deferred(void *ctx)
{
	deferred_run(ctx);
}

void deferred_after_file(struct deferred *d)
{
	if (d && tree_may_have_dirty_pages(front_of(d->req)->tree, d->ino))
		notify_drop_pages(front_of(d->req)->notify, d->ino, 0, 0, run_deferred, d);
	else
		deferred_run(d);
}

void deferred_after_growth(struct deferred *d)
{
	if (d && front_of(d->req)->config.writeback)
		deferred_after_file(d);
	else
		deferred_run(d);
}

/* Calls then(ctx) after the last of them; at once if there are none. */
static void write_back(struct front *f, struct tree_inos *inos, void (*then)(void *ctx), void *ctx)
{
	size_t n = inos->n;

	for (size_t k = 0; k < n; k++)
		notify_drop_pages(f->notify, inos->v[k], 0, 0, k + 1 == n ? then : NULL, ctx);
	free(inos->v);
	*inos = (struct tree_inos){ 0 };
	if (!n && then)
		then(ctx);
}

void deferred_after_files(struct deferred *d, struct tree_inos *inos)
{
	write_back(front_of(d->req), inos, run_deferred, d);
}

void deferred_after_all(struct deferred *d)
{
	struct tree_inos inos;
	int err;

	if (!d)
		return;
	err = tree_unwritten_all(front_of(d->req)->tree, &inos);
	if (err)
		deferred_fail(d, err);
	else
		deferred_after_files(d, &inos);
}

void writeback_files(struct front *f, struct tree_inos *inos)
{
	write_back(f, inos, NULL, NULL);
}

static void written(void *ctx)
{
	sem_post(ctx);
}

void writeback_wait_all(struct front *f)
{
	struct tree_inos inos;
	sem_t done;
	int err = tree_unwritten_all(f->tree, &inos);

	if (err) {
		log_error("what programs have written and not closed stays in the kernel: %s", strerror(-err));
		return;
	}
	sem_init(&done, 0, 0);
	write_back(f, &inos, written, &done);
	while (sem_wait(&done))
		; /* interrupted */
	sem_destroy(&done);
}
