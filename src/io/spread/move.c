/*
 * A file moves to another disk, beside those who read and write it.
 *
 * Steps, of a file NAME:  copy to NAME.moving (what is written meanwhile is noted, and copied again) | no writer any more |
 * copy what is left, sync | rename to NAME.moved, sync its folder | delete the old NAME, sync its folder | rename to NAME, sync | the
 * handles change over | writers go on.
 *
 * Invariants:
 *  1. NAME.moved is whole and durable, and has all that NAME had: where NAME is gone, it is NAME. Where NAME is there, nothing was written
 *     to NAME.moved.
 *  2. What was not synced at its old place is synced there before the copy counts: so a lost write is told who syncs.
 *  3. A step that fails leaves the file where it was, until the old NAME is deleted; after that the copy is the file.
 *  4. A disk is the target of no move once it is to be emptied.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/spread/inside.h"
#include "util/err.h"
#include "util/log.h"
#include "util/vec.h"

#define COPY_BYTES (1u << 20)
/* Ranges that are noted; with more they are made coarser, and at last the whole file is copied again. */
#define RANGES_MAX 65536u
#define COARSE_BYTES ((uint64_t)16 << 20)
/* So often what was written meanwhile is copied beside writers, to leave a little; and so often to leave what they can wait for. */
#define PASSES 4u
#define PASSES_MAX 32u
#define REST_BYTES (4u << 20)
#define REST_MAX (256u << 20)

struct move {
	struct spread *d;
	struct spread_file *f;
	unsigned from, to;
	struct io *in, *out;
	char tmp[SPREAD_NAME_MAX + 8], done[SPREAD_NAME_MAX + 8];
	void *buf;
	uint64_t bytes;
	bool unknown; /* whether the old name is still there */
};

/* ---- what is written meanwhile ---- */

static void list_forget(struct spread_file *f)
{
	free(f->written);
	f->written = NULL;
	f->nwritten = f->cap_written = 0;
	f->written_all = false;
}

static int by_offset(const void *a, const void *b)
{
	const struct spread_range *x = a, *y = b;

	return x->off < y->off ? -1 : x->off > y->off;
}

/* Fewer ranges, which have what the ranges have. */
static void coarsen_locked(struct spread_file *f)
{
	size_t n = 0;

	for (size_t i = 0; i < f->nwritten; i++) {
		struct spread_range *r = &f->written[i];

		r->off -= r->off % COARSE_BYTES;
		r->end = r->end > UINT64_MAX - COARSE_BYTES ? UINT64_MAX : (r->end + COARSE_BYTES - 1) / COARSE_BYTES * COARSE_BYTES;
	}
	qsort(f->written, f->nwritten, sizeof(*f->written), by_offset);
	for (size_t i = 0; i < f->nwritten; i++) {
		if (!n || f->written[i].off > f->written[n - 1].end)
			f->written[n++] = f->written[i];
		else if (f->written[i].end > f->written[n - 1].end)
			f->written[n - 1].end = f->written[i].end;
	}
	f->nwritten = n;
}

void spread_record(struct spread_file *f, uint64_t off, uint64_t n)
{
	if (!atomic_load(&f->recording) || !n)
		return;
	lock_acquire(&f->list_lock);
	if (f->nwritten >= RANGES_MAX)
		coarsen_locked(f);
	if (!atomic_load(&f->recording)) {
		/* The move has ended meanwhile. */
	} else if (f->nwritten && f->written[f->nwritten - 1].end == off) {
		f->written[f->nwritten - 1].end += n;
	} else if (f->nwritten >= RANGES_MAX || VEC_RESERVE(f->written, f->cap_written, f->nwritten + 1)) {
		list_forget(f);
		f->written_all = true;
	} else {
		f->written[f->nwritten++] = (struct spread_range){ off, off + n };
	}
	lock_release(&f->list_lock);
}

/* The ranges so far, the caller's; all: the whole file. */
static struct spread_range *take_ranges(struct spread_file *f, size_t *n, bool *all)
{
	struct spread_range *v;

	lock_acquire(&f->list_lock);
	v = f->written;
	*n = f->nwritten;
	*all = f->written_all;
	f->written = NULL;
	list_forget(f);
	lock_release(&f->list_lock);
	return v;
}

static uint64_t left_bytes(struct spread_file *f)
{
	uint64_t sum = 0;

	lock_acquire(&f->list_lock);
	for (size_t i = 0; i < f->nwritten; i++)
		sum += f->written[i].end - f->written[i].off;
	if (f->written_all)
		sum = UINT64_MAX;
	lock_release(&f->list_lock);
	return sum;
}

/* ---- copying ---- */

/* Notes what the other disk refuses: it takes no more such files then. */
static int at_target(struct move *m, int err)
{
	if (err && err != -EOPNOTSUPP)
		spread_refused(m->d, m->to, m->f->name, err);
	return err;
}

static bool is_gone_locked(const struct spread_file *f)
{
	return f->gone || f->unwanted;
}

static bool is_wanted_no_more(struct move *m)
{
	bool gone;

	lock_acquire(&m->d->names);
	gone = is_gone_locked(m->f) || atomic_load(&m->d->hurried);
	lock_release(&m->d->names);
	return gone;
}

/* A copy takes nothing of what a disk keeps. -EAGAIN: another disk is to be chosen. */
static int has_room(struct move *m)
{
	const struct spread_disk *to = &m->d->disks[m->to];
	uint64_t keep;
	int64_t bytes;

	if (atomic_load(&to->draining) || atomic_load(&to->failing) || atomic_load(&to->removed))
		return -EAGAIN;
	return !spread_balance(m->d, m->to, true, &bytes, &keep) || bytes > 0 ? 0 : -ENOSPC;
}

/* [off, end), which has data. */
static int copy_data(struct move *m, uint64_t off, uint64_t end)
{
	int err = 0;

	while (off < end && !err) {
		size_t n = end - off < COPY_BYTES ? (size_t)(end - off) : COPY_BYTES, got = 0;

		err = io_pread_some(m->in, m->buf, n, off, &got);
		if (err || !got)
			return err;
		err = has_room(m);
		if (!err)
			err = at_target(m, io_pwrite(m->out, m->buf, got, off));
		off += got;
		m->bytes += got;
		if (!err && is_wanted_no_more(m))
			err = -ENOENT;
	}
	return err;
}

/* A hole of the copy may have had data in an earlier pass. */
static int copy_hole(struct move *m, uint64_t off, uint64_t end, bool again)
{
	int err = again ? at_target(m, io_punch(m->out, off, end - off)) : 0;

	if (err != -EOPNOTSUPP)
		return err;
	memset(m->buf, 0, COPY_BYTES);
	for (err = 0; off < end && !err; off += COPY_BYTES)
		err = at_target(m, io_pwrite(m->out, m->buf, end - off < COPY_BYTES ? (size_t)(end - off) : COPY_BYTES, off));
	return err;
}

/* [off, end), with its holes. again: the copy has something there already. */
static int copy_range(struct move *m, uint64_t off, uint64_t end, bool again)
{
	int err = 0;

	while (off < end && !err) {
		uint64_t data = off, hole = end;

		err = io_seek(m->in, off, false, &data);
		if (err == -ENXIO) {
			uint64_t size = off;

			err = io_size(m->out, &size, NULL);
			return !err && again && size > off ? at_target(m, io_truncate(m->out, off)) : err;
		}
		if (!err && data > off)
			err = copy_hole(m, off, data < end ? data : end, again);
		if (err || data >= end)
			return err;
		err = io_seek(m->in, data, true, &hole);
		if (!err)
			err = copy_data(m, data, hole < end ? hole : end);
		off = hole;
	}
	return err;
}

static int copy_ranges(struct move *m)
{
	bool all;
	size_t n;
	struct spread_range *v = take_ranges(m->f, &n, &all);
	int err = all ? copy_range(m, 0, UINT64_MAX, true) : 0;

	for (size_t i = 0; i < n && !err; i++)
		err = copy_range(m, v[i].off, v[i].end, true);
	free(v);
	return err;
}

/* All of it, beside its writers; a little may be left. -EBUSY: they write faster than it is copied, and would have to wait for long. */
static int copy_beside(struct move *m)
{
	int err = copy_range(m, 0, UINT64_MAX, false);
	uint64_t left = left_bytes(m->f);

	for (unsigned i = 0; !err && left > (i < PASSES ? REST_BYTES : REST_MAX); i++) {
		err = i < PASSES_MAX ? copy_ranges(m) : -EBUSY;
		left = left_bytes(m->f);
	}
	return err ? err : at_target(m, io_sync(m->out));
}

/* The handle that writes knows the length. */
static struct spread_handle *writer_of(struct spread_file *f)
{
	struct spread_handle *h = f->handles;

	while (h && (h->flags & IO_RDONLY))
		h = h->next;
	return h;
}

/* Space that is reserved and holds no data: what is copied has its own. */
static int copy_reserved(struct move *m)
{
	uint64_t from, to = 0;
	int err = 0;

	while (!err && io_find_allocated(m->in, to, INT64_MAX - to, &from, &to)) {
		err = at_target(m, io_allocate(m->out, from, to - from));
		if (err == -EOPNOTSUPP)
			err = 0;
	}
	return err;
}

/* The rest, with no writer beside it. A handle that is opened meanwhile is not used. */
static int copy_rest(struct move *m)
{
	struct spread_handle *h;
	uint64_t size;
	int err;

	lock_acquire(&m->d->names);
	while (m->f->closing)
		lock_wait(&m->d->names, &m->d->moved);
	m->f->settling = true;
	h = writer_of(m->f);
	lock_release(&m->d->names);
	/* An earlier move has met a lost write, and nobody has been told: the copy would lack it. */
	err = atomic_load(&m->f->lost);
	if (!err)
		err = io_size(h ? h->inner : m->in, &size, NULL);
	if (!err && h && atomic_load(&m->f->dirty)) {
		err = io_sync(h->inner);
		if (err)
			atomic_store(&m->f->lost, err);
	}
	if (!err)
		err = copy_ranges(m);
	if (!err)
		err = at_target(m, io_truncate(m->out, size));
	if (!err)
		err = copy_reserved(m);
	return err ? err : at_target(m, io_sync(m->out));
}

/* ---- names and handles ---- */

/* Opens the handles of the file at its new place. */
static int open_again_locked(struct move *m, struct io ***out)
{
	struct io **v;
	size_t n = 0, i = 0;
	int err = 0;

	for (struct spread_handle *h = m->f->handles; h; h = h->next)
		n++;
	v = calloc(n + 1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	for (struct spread_handle *h = m->f->handles; h && !err; h = h->next) {
		err = spread_open_inner(m->d, m->to, m->tmp, h->flags, &v[i]);
		i += !err;
	}
	if (!err) {
		*out = v;
		return 0;
	}
	while (i)
		spread_close_inner(m->d, m->to, v[--i]);
	free(v);
	return err;
}

/* The move needs it, or nobody: a commit does not. */
static int sync_folder_locked(struct move *m, unsigned disk)
{
	int folder = spread_folder(m->d, m->f->name);

	spread_touch(m->d, disk, folder, SPREAD_DELETED);
	return spread_sync_folder(m->d, disk, (unsigned)folder, true);
}

/* A change can have happened although its answer is an error: a server that is asked twice answers the second time. */
static int unlink_old_locked(struct move *m)
{
	int err = io_unlink(m->d->disks[m->from].dir, m->f->name), there;

	if (!err || err == -ENOENT)
		return 0;
	there = spread_probe(m->d, m->from, m->f->name);
	m->unknown = !err_is_passing(err) && there && there != -ENOENT;
	return there == -ENOENT ? 0 : err;
}

/* The same. The name was not on that disk before. */
static int name_new_locked(struct move *m)
{
	int err = at_target(m, io_rename(m->d->disks[m->to].dir, m->done, m->f->name));

	return err && !spread_probe(m->d, m->to, m->f->name) ? 0 : err;
}

/* The old name could not be deleted, and counts if it is there. Where that is not known the copy stays, and what is written from here on
 * may be lost: who syncs is told. */
static int give_up_locked(struct move *m, int err)
{
	struct io_dir *to = m->d->disks[m->to].dir;

	if (m->unknown) {
		atomic_store(&m->f->lost, -EIO);
		return err;
	}
	io_unlink(to, m->done);
	io_unlink(to, m->f->name);
	spread_touch(m->d, m->to, spread_folder(m->d, m->f->name), SPREAD_DELETED);
	return err;
}

/* The copy takes the name. Once the old one is deleted the copy is the file, whatever fails (invariant 1). */
static int rename_locked(struct move *m)
{
	struct io_dir *to = m->d->disks[m->to].dir;
	int err = at_target(m, io_rename(to, m->tmp, m->done)), kept;

	/* It may be done all the same, and would be one of two after the next move. */
	if (err) {
		io_unlink(to, m->done);
		return err;
	}
	err = sync_folder_locked(m, m->to);
	kept = err ? err : unlink_old_locked(m);
	/* A name that a disk keeps which cannot be written is the lesser one, if the disk is to be emptied. */
	if (err || (kept && !atomic_load(&m->d->disks[m->from].draining)))
		return give_up_locked(m, kept);
	if (!kept)
		sync_folder_locked(m, m->from);
	err = name_new_locked(m);
	m->f->unnamed = err && !kept;
	/* Beside the old name the new one has to last; else NAME.moved means the same. */
	if (!err)
		err = sync_folder_locked(m, m->to);
	if (err && kept)
		return give_up_locked(m, err);
	if (m->f->unnamed)
		log_error("%s: %s stays %s until it is used: %s", m->d->disks[m->to].shown, m->f->name, m->done, strerror(-err));
	return 0;
}

static void change_over_locked(struct move *m, struct io **v)
{
	size_t i = 0;

	rwlock_exclusive(&m->f->readers);
	for (struct spread_handle *h = m->f->handles; h; h = h->next, i++) {
		struct io *old = h->inner;

		h->inner = v[i];
		v[i] = old;
	}
	atomic_store(&m->f->disk, m->to);
	atomic_store(&m->f->dirty, false); /* the copy is synced */
	rwlock_release(&m->f->readers);
}

/* Ends the move: nobody writes. */
static int settle(struct move *m)
{
	struct io **v = NULL;
	int err;

	lock_acquire(&m->d->names);
	err = is_gone_locked(m->f) ? -ENOENT : open_again_locked(m, &v);
	if (!err) {
		err = rename_locked(m);
		if (!err)
			change_over_locked(m, v);
	}
	lock_release(&m->d->names);
	for (size_t i = 0; v && v[i]; i++)
		spread_close_inner(m->d, err ? m->to : m->from, v[i]);
	free(v);
	return err;
}

static int copy_and_settle(struct move *m)
{
	int err = copy_beside(m);

	if (err)
		return err;
	rwlock_exclusive(&m->f->writers);
	err = copy_rest(m);
	if (!err)
		err = settle(m);
	rwlock_release(&m->f->writers);
	return err;
}

static int run(struct move *m)
{
	struct io_dir *to = m->d->disks[m->to].dir;
	int err;

	m->buf = malloc(COPY_BYTES);
	if (!m->buf)
		return -ENOMEM;
	err = spread_open_inner(m->d, m->from, m->f->name, IO_RDONLY | m->f->kind, &m->in);
	if (!err) {
		err = at_target(m, spread_open_inner(m->d, m->to, m->tmp, IO_CREATE | m->f->kind, &m->out));
		if (!err)
			err = at_target(m, io_truncate(m->out, 0));
		if (!err)
			err = copy_and_settle(m);
		if (m->out)
			spread_close_inner(m->d, m->to, m->out);
		if (err && m->out)
			io_unlink(to, m->tmp);
		spread_close_inner(m->d, m->from, m->in);
	}
	free(m->buf);
	return err;
}

/* False: it is not there (any more), or the other disk is to be emptied as well, with *err. */
static bool begin_locked(struct move *m, int *err)
{
	struct spread_disk *to = &m->d->disks[m->to];

	while (m->f->moving)
		lock_wait(&m->d->names, &m->d->moved);
	*err = is_gone_locked(m->f) ? -ENOENT : 0;
	if (*err || atomic_load(&m->f->disk) != m->from)
		return false;
	if (atomic_load(&to->draining) || atomic_load(&to->removed))
		*err = -EAGAIN;
	else if (m->f->unnamed)
		*err = spread_name_locked(m->d, m->f->name, &(unsigned){ 0 });
	if (*err)
		return false;
	to->incoming++;
	m->f->moving = true;
	atomic_store(&m->f->recording, true);
	return true;
}

int spread_move(struct spread *d, struct spread_file *f, unsigned from, unsigned to, uint64_t *bytes)
{
	struct move m = { .d = d, .f = f, .from = from, .to = to };
	bool begun;
	int err;

	lock_acquire(&d->names);
	begun = begin_locked(&m, &err);
	snprintf(m.tmp, sizeof(m.tmp), "%s" SPREAD_MOVING, f->name);
	snprintf(m.done, sizeof(m.done), "%s" SPREAD_MOVED, f->name);
	lock_release(&d->names);
	if (!begun)
		return err;
	err = run(&m);
	lock_acquire(&d->names);
	lock_acquire(&f->list_lock);
	atomic_store(&f->recording, false);
	list_forget(f);
	lock_release(&f->list_lock);
	f->moving = f->settling = false;
	d->disks[to].incoming--;
	lock_broadcast(&d->moved);
	spread_retire_locked(d, from);
	lock_release(&d->names);
	if (!err) {
		*bytes = m.bytes;
		log_info("%s: moved from %s to %s", f->name, d->disks[from].shown, d->disks[to].shown);
	} else if (err != -ENOENT && err != -EAGAIN) {
		log_warn("%s: cannot be moved from %s to %s: %s", f->name, d->disks[from].shown, d->disks[to].shown, strerror(-err));
	}
	return err;
}
