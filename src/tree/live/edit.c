/*
 * Changing the data of a live file.
 *
 * Invariant: the inode is marked dirty under the exclusive lock before its data changes, so that a commit that has staged it before has
 * it again afterwards.
 */
#include "tree/live/edit.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>

#include "array/runs.h"
#include "spillfs.h"
#include "store/commit.h"
#include "store/store.h"
#include "tree/live/live.h"
#include "tree/live/passthrough.h"
#include "tree/live/quota.h"
#include "tree/live/room.h"
#include "util/err.h"

/* A write that does not fit into a quota goes in as far as whole pages of this size do. */
#define QUOTA_STEP_BYTES 4096u

static int edit_once(struct inode *i, int (*fn)(struct array *a, void *ctx), void *ctx)
{
	struct array *a;
	int err;

	rwlock_exclusive(&i->rw);
	err = inode_need_array(i, &a);
	if (!err) {
		live_mark_dirty(i);
		through_refresh_locked(i);
		err = fn(a, ctx);
		inode_array_changed(i);
		inode_new_version(i);
		through_absorb_locked(i);
		quota_settle(i);
	}
	rwlock_release(&i->rw);
	return err;
}

static int edit_frozen(struct inode *i, int (*fn)(struct array *a, void *ctx), void *ctx)
{
	struct commit *c = i->tree->store->commit;
	int err;

	if (i->facts.kind != ARRAY_LAYERED)
		return edit_once(i, fn, ctx);
	commit_freeze_enter(c);
	err = edit_once(i, fn, ctx);
	commit_freeze_leave(c);
	return err;
}

/* A change could not be made: waits for what it needs. 0: it may be tried again. */
static int wait_for_edit(struct tree *t, int err, struct room_wait *room, unsigned *waits)
{
	if (err == -EAGAIN)
		return commit_wait(t->store->commit, COMMIT_SYNC);
	return err_wait(err, waits) ? 0 : room_wait(t, err, room);
}

int edit_array(struct inode *i, int (*fn)(struct array *a, void *ctx), void *ctx)
{
	struct store *s = i->tree->store;
	struct room_wait room = { 0 };
	unsigned waits = 0;
	int err;

	room_measure(i);
	room_free(i->tree); /* the row is there already; for the rest the array asks */
	do {
		if (atomic_load(&s->read_only))
			return -EROFS;
		err = edit_frozen(i, fn, ctx);
		if (!err)
			return 0;
		err = wait_for_edit(i->tree, err, &room, &waits);
	} while (!err);
	return err;
}

static void note_growth(struct array *a, uint64_t before, struct runs_writer *w)
{
	struct runs *r = array_runs(a);

	if (r && w && a->size_bytes > before)
		runs_grew(r, w, a->size_bytes);
}

static uint64_t growth(uint64_t size, uint64_t end)
{
	return end > size ? end - size : 0;
}

/* The bytes that a change has cut off. It is not asked of writes: blocks that are encoded meanwhile become less, too. What was reserved
 * is free at once. */
static uint64_t less(struct array *a, uint64_t stored)
{
	uint64_t left = atomic_load(&a->stored_bytes);

	return stored > left ? stored - left : 0;
}

struct new_size {
	struct inode *inode;
	uint64_t bytes, freed_bytes;
	struct runs_writer *writer;
};

static int do_resize(struct array *a, void *ctx)
{
	struct new_size *n = ctx;
	uint64_t before = a->size_bytes, stored = atomic_load(&a->stored_bytes), more = growth(before, n->bytes);
	int err = more ? quota_take(n->inode, array_growth(a, before, more, ARRAY_ENDS), more) : 0;

	if (!err)
		err = array_resize(a, n->bytes);
	if (n->bytes < before)
		n->freed_bytes += less(a, stored);
	note_growth(a, before, n->writer);
	return err;
}

int edit_resize(struct inode *i, uint64_t size_bytes, struct runs_writer *w)
{
	struct new_size n = { i, size_bytes, 0, w };
	int err = edit_array(i, do_resize, &n);

	commit_freed(i->tree->store->commit, n.freed_bytes, false);
	return err ? err : through_cut(i);
}

struct writing {
	struct inode *inode;
	struct edit_bytes *bytes;
	bool inside;
	struct runs_writer *writer;
};

/* Takes from the quotas what the beginning of b needs: all of it, or whole pages that fit. */
static int take_fitting(struct inode *i, struct array *a, const struct edit_bytes *b, size_t *len_out)
{
	size_t len = b->len;
	int err;

	for (;;) {
		uint64_t end = b->off + len;

		err = quota_take(i, array_growth(a, b->off, len, ARRAY_WRITES), growth(a->size_bytes, end));
		end = (b->off + len / 2) / QUOTA_STEP_BYTES * QUOTA_STEP_BYTES;
		if (!err || end <= b->off)
			break;
		len = (size_t)(end - b->off);
	}
	if (!err)
		*len_out = len;
	return err;
}

static int write_part(struct array *a, const struct writing *w)
{
	struct edit_bytes *b = w->bytes;
	uint64_t before = a->size_bytes;
	size_t len = b->len, done;
	int err = quota_bounds(w->inode->tree) ? take_fitting(w->inode, a, b, &len) : 0;

	if (err)
		return err;
	err = array_write_as(a, b->buf, len, b->off, b->how, &done);
	/* The part that is in may be committed before this runs again; writing it again would take its space twice. */
	edit_bytes_take(b, done);
	note_growth(a, before, w->writer);
	return err;
}

static int do_write(struct array *a, void *ctx)
{
	const struct writing *w = ctx;
	const struct edit_bytes *b = w->bytes;
	int err;

	if (w->inside && (b->off > a->size_bytes || b->len > a->size_bytes - b->off))
		return -EFBIG;
	do {
		err = write_part(a, w);
		if (!err && b->len)
			quota_settle(w->inode);
	} while (!err && b->len);
	return err;
}

int edit_write(struct inode *i, struct edit_bytes *b, struct runs_writer *w)
{
	return edit_array(i, do_write, &(struct writing){ i, b, false, w });
}

int edit_write_inside(struct inode *i, struct edit_bytes *b)
{
	return edit_array(i, do_write, &(struct writing){ i, b, true, NULL });
}

struct range {
	struct inode *inode;
	uint64_t off, len, freed_bytes;
	bool keep_size;
	struct runs_writer *writer;
	bool *punched; /* with an error, too */
};

static int do_allocate(struct array *a, void *ctx)
{
	struct range *r = ctx;
	uint64_t before = a->size_bytes;
	int err = quota_take(r->inode, array_growth(a, r->off, r->len, ARRAY_RESERVES), r->keep_size ? 0 : growth(before, r->off + r->len));

	if (!err)
		err = array_allocate(a, r->off, r->len, r->keep_size);

	note_growth(a, before, r->writer);
	return err;
}

static int do_punch(struct array *a, void *ctx)
{
	struct range *r = ctx;
	uint64_t stored = atomic_load(&a->stored_bytes);
	int err = array_punch(a, r->off, r->len);

	*r->punched = true;
	r->freed_bytes += less(a, stored);
	return err;
}

/* Zeros that are reserved: what is written over them does not fail for want of space. */
static int do_zero(struct array *a, void *ctx)
{
	struct range *r = ctx;
	int err = do_punch(a, ctx);

	quota_settle(r->inode); /* it has less to take */
	return err ? err : do_allocate(a, ctx);
}

static int allocate(struct inode *i, int mode, struct range *r)
{
	switch (mode & ~FALLOC_FL_KEEP_SIZE) {
	case 0:
		return edit_array(i, do_allocate, r);
	case FALLOC_FL_PUNCH_HOLE:
		return r->keep_size ? edit_array(i, do_punch, r) : -EOPNOTSUPP;
	case FALLOC_FL_ZERO_RANGE:
		return edit_array(i, do_zero, r);
	default:
		return -EOPNOTSUPP;
	}
}

int edit_allocate(struct inode *i, int mode, uint64_t off, uint64_t len, struct runs_writer *w, bool *punched_out)
{
	struct range r = { i, off, len, 0, mode & FALLOC_FL_KEEP_SIZE, w, punched_out };
	int err;

	*punched_out = false;
	err = allocate(i, mode, &r);
	commit_freed(i->tree->store->commit, r.freed_bytes, false);
	return err;
}

static int do_end_run(struct array *a, void *ctx)
{
	return runs_end(array_runs(a), ctx);
}

static int do_end_all(struct array *a, void *ctx)
{
	return runs_end_all(array_runs(a), ctx, a->size_bytes);
}

int edit_end_run(struct inode *i, struct runs_writer *w, bool unsure)
{
	return i->facts.kind == ARRAY_BUCKET ? edit_array(i, unsure ? do_end_all : do_end_run, w) : 0;
}

void edit_leave(struct inode *i, const struct runs_writer *w)
{
	if (i->facts.kind != ARRAY_BUCKET)
		return;
	rwlock_exclusive(&i->rw);
	if (i->array)
		runs_leave(array_runs(i->array), w, i->tree->sizes_stick);
	rwlock_release(&i->rw);
}

struct marking {
	uint64_t off_bytes;
	bool made;
};

static int do_mark(struct array *a, void *ctx)
{
	struct marking *m = ctx;

	m->off_bytes = a->size_bytes;
	return runs_mark(array_runs(a), a->size_bytes, &m->made);
}

int live_mark(struct tree *t, uint64_t ino, struct spillfs_mark *out)
{
	struct marking m = { 0 };
	struct inode *i;
	int err = inode_find(t, ino, &i);

	if (!err && (!S_ISREG(inode_mode(i)) || i->facts.kind != ARRAY_BUCKET))
		err = -EOPNOTSUPP;
	if (!err)
		err = room_need(t, 0);
	if (!err)
		err = edit_array(i, do_mark, &m);
	if (!err)
		*out = (struct spillfs_mark){ m.off_bytes, m.made };
	return err;
}

