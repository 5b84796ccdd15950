/*
 * A directory of the store is emptied, by a thread of its own: a file can take long.
 *
 * Invariants:
 *  1. The list tells that a directory is to be emptied before a file of it moves.
 *  2. A directory leaves the list when no file of the store is in it, and loses its mark after that. Its number is not given again,
 *     unless the list is lost.
 *  3. Nothing is moved under the lock.
 */
#include <errno.h>
#include <string.h>

#include "store/disks/inside.h"
#include "util/err.h"
#include "util/log.h"
#include "util/thread.h"

#define BUSY_MS 100u
#define BUSY_TRIES 100u

/* ---- one step ---- */

/* The disk of io/spread; 0: there is none. */
static unsigned disk_locked(const struct disks *k, unsigned number)
{
	unsigned i = k->ndirs;

	while (--i && k->numbers[i] != number)
		;
	return i;
}

static int mark_locked(struct store *s, unsigned i)
{
	struct disks *k = s->disks;
	struct disklist_row *row = disklist_find(&k->list, k->numbers[i]);
	int err;

	if (!row)
		return -ENOMEM; /* it could not be put back */
	if (row->draining)
		return 0;
	row->draining = true;
	err = disks_write_list(k, s->uuid);
	if (err) {
		row->draining = false;
		return err;
	}
	io_spread_set_draining(s->dir, i, true);
	log_info("%s: is being emptied", row->path);
	return 0;
}

/* The last one has left. What is left of the list are the numbers that were given, and the count of mounts. */
static int lower_format_locked(struct store *s)
{
	s->format = STORE_FORMAT_VERSION;
	return disks_write_mark(s, s->disks);
}

/* It is empty. */
static int leave_locked(struct store *s, unsigned i)
{
	struct disks *k = s->disks;
	struct io_spread_state state;
	int err;

	io_spread_look(s->dir, i, &state);
	disklist_remove(&k->list, k->numbers[i]);
	err = disks_write_list(k, s->uuid);
	if (err) {
		disklist_add(&k->list, k->numbers[i], true, state.shown);
		return err;
	}
	k->numbers[i] = 0;
	log_info("%s: empty, and no longer a directory of the store", state.shown);
	disks_unlock_one(k, i);
	err = io_spread_forget(s->dir, i, DISKLIST_MARK);
	if (err)
		log_warn("%s/" DISKLIST_MARK ": cannot be deleted: %s", state.shown, strerror(-err));
	else if (!k->list.n && (err = lower_format_locked(s)))
		log_warn("SPILLFS: cannot be written: %s", strerror(-err));
	return 0;
}

static int saved_name(void *ctx, const char *name)
{
	size_t n = strlen(name);

	(void)ctx;
	return n > 4 && !strcmp(name + n - 4, ".zst");
}

/* A rebuild leaves on its disk what it saves. */
static int check_saved(struct store *s, unsigned i)
{
	struct io_spread_state state;
	int err = io_list(io_spread_part(s->dir, i), "lost+found", saved_name, NULL);

	/* A rebuild by the store's user has made none that he may not look into. */
	if (err != 1)
		return err == -ENOENT || err == -EACCES ? 0 : err;
	io_spread_look(s->dir, i, &state);
	log_warn("%s/lost+found: layers that spillctl rebuild has saved are there; move them away", state.shown);
	return -ENOTEMPTY;
}

int disks_drain_step(struct store *s, unsigned number, bool *done, uint64_t *moved_bytes)
{
	struct disks *k = s->disks;
	unsigned i;
	int err;

	*done = false;
	*moved_bytes = 0;
	lock_acquire(&k->lock);
	i = disk_locked(k, number);
	err = i ? mark_locked(s, i) : -ENOENT;
	lock_release(&k->lock);
	if (!err)
		err = io_spread_drain(s->dir, i, moved_bytes);
	if (err != -ENODATA)
		return err;
	err = check_saved(s, i);
	if (err)
		return err;
	lock_acquire(&k->lock);
	err = leave_locked(s, i);
	lock_release(&k->lock);
	*done = !err;
	return err;
}

/* ---- the thread ---- */

static struct disks_request *next_request_locked(struct disks *k)
{
	for (unsigned i = 1; i < k->ndirs; i++)
		if (k->requests[i].is.running)
			return &k->requests[i];
	return NULL;
}

/* Steps until it is empty, or one fails; a file that is on its way there is waited for. */
static void run_locked(struct store *s, struct disks_request *r)
{
	struct disks *k = s->disks;
	struct io_spread_state state;
	unsigned tries = 0;
	uint64_t moved;
	bool done;
	int err = 0;

	while (!k->stopping && !err && !r->is.done) {
		lock_release(&k->lock);
		err = disks_drain_step(s, r->number, &done, &moved);
		lock_acquire(&k->lock);
		r->is.moved_bytes += moved;
		r->is.files += moved > 0;
		r->is.done = done;
		if (err == -EBUSY && tries++ < BUSY_TRIES) {
			if (!k->stopping)
				lock_wait_ms(&k->lock, &k->asked, BUSY_MS);
			err = 0;
		}
	}
	r->is.err = err;
	r->is.running = false;
	if (err && io_spread_look(s->dir, (unsigned)(r - k->requests), &state))
		log_warn("%s: is not empty, and emptied no further: %s", state.shown, err_text(err));
}

static void *empty(void *arg)
{
	struct store *s = arg;
	struct disks *k = s->disks;
	struct disks_request *r;

	lock_acquire(&k->lock);
	while (!k->stopping) {
		r = next_request_locked(k);
		if (r)
			run_locked(s, r);
		else
			lock_wait(&k->lock, &k->asked);
	}
	while ((r = next_request_locked(k)))
		r->is.running = false;
	lock_release(&k->lock);
	return NULL;
}

static int start_locked(struct store *s, unsigned number)
{
	struct disks *k = s->disks;
	unsigned i = disk_locked(k, number);
	int err = 0;

	if (!i)
		return -ENOENT;
	if (k->stopping)
		return -EAGAIN;
	/* No directory is marked that nobody empties. */
	if (!k->started)
		err = thread_start("drain", empty, s, &k->thread);
	if (err)
		return err;
	k->started = true;
	/* Another one may be emptied first: this one is no target of it. */
	err = mark_locked(s, i);
	if (err)
		return err;
	if (!k->requests[i].is.running)
		k->requests[i] = (struct disks_request){ .number = number, .is.running = true };
	lock_broadcast(&k->asked);
	return 0;
}

int disks_drain_start(struct store *s, unsigned number)
{
	int err;

	if (!number || s->config.follow)
		return number ? -EROFS : -EINVAL;
	lock_acquire(&s->disks->lock);
	err = start_locked(s, number);
	lock_release(&s->disks->lock);
	return err;
}

int disks_drain_look(struct store *s, unsigned number, struct disks_drain *out)
{
	struct disks *k = s->disks;
	int err = -ENOENT;

	lock_acquire(&k->lock);
	for (unsigned i = 1; i < k->ndirs && err; i++) {
		if (!number || k->requests[i].number != number)
			continue;
		*out = k->requests[i].is;
		err = 0;
	}
	lock_release(&k->lock);
	return err;
}

void disks_stop(struct store *s)
{
	struct disks *k = s->disks;

	bool started;

	if (!k)
		return;
	lock_acquire(&k->lock);
	k->stopping = true;
	started = k->started;
	k->started = false;
	lock_broadcast(&k->asked);
	lock_release(&k->lock);
	if (!started)
		return;
	io_spread_hurry(s->dir, true);
	thread_join(k->thread);
	io_spread_hurry(s->dir, false);
}
