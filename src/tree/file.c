/*
 * Open files: reading in leases, and everything that changes data.
 *
 * Invariants:
 *  1. Leases are lent and returned under the inode's shared lock.
 *  2. The inode is marked dirty under the exclusive lock before its data changes, so that a commit that
 *     has staged it before has it again afterwards.
 *  3. What is written around the kernel's cache leaves no stale page: pages of open files are dropped
 *     before the writer is answered, pages of closed ones when the file is opened next.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "array/layered.h"
#include "array/runs.h"
#include "spillfs.h"
#include "store/commit.h"
#include "store/store.h"
#include "tree/edit.h"
#include "tree/inode.h"
#include "tree/live/live.h"
#include "tree/live/passthrough.h"
#include "tree/past/past.h"
#include "tree/privs.h"
#include "tree/control/control.h"
#include "tree/live/tail.h"
#include "tree/views/upload.h"
#include "tree/views/views.h"
#include "util/buf.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/stats.h"
#include "view/view.h"

#define COPY_BYTES (1u << 20)
#define RELATIME_NS (86400ll * 1000000000)

struct tree_file {
	struct tree *tree;
	struct inode *inode; /* NULL: a special file, or an upload */
	struct upload *upload;
	struct inode *live;  /* a view that is written through the kernel's cache: in place, or an upload's */
	uint64_t ino;
	int flags;
	bool cached;
	struct through_open through;
	bool drops; /* a view: the kernel drops its pages when this open is answered */
	atomic_bool written; /* it is not counted as a writer any more */
	atomic_bool closed;  /* a descriptor of it was, after its last use */
	struct runs_writer writer;
	uint64_t told_bytes; /* the size when it was opened, or ended a run last */
	atomic_uint nlost_told; /* of the inode's nlost */
	struct special_file special;
};

static int edit_once(struct inode *i, int (*fn)(struct array *a, void *ctx), void *ctx)
{
	struct array *a;
	int err;

	rwlock_exclusive(&i->rw);
	err = inode_need_array(i, &a);
	if (!err) {
		inode_mark_dirty(i);
		through_refresh_locked(i);
		err = fn(a, ctx);
		inode_array_changed(i);
		inode_new_version(i);
		through_absorb_locked(i);
	}
	rwlock_release(&i->rw);
	return err;
}

static int edit_frozen(struct inode *i, int (*fn)(struct array *a, void *ctx), void *ctx)
{
	struct commit *c = i->tree->store->commit;
	int err;

	if (i->kind != ARRAY_LAYERED)
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

struct new_size {
	uint64_t bytes;
	struct runs_writer *writer;
};

static int do_resize(struct array *a, void *ctx)
{
	const struct new_size *n = ctx;
	uint64_t before = a->size_bytes;
	int err = array_resize(a, n->bytes);

	note_growth(a, before, n->writer);
	return err;
}

int edit_resize(struct inode *i, uint64_t size_bytes, struct runs_writer *w)
{
	int err = edit_array(i, do_resize, &(struct new_size){ size_bytes, w });

	return err ? err : through_cut(i);
}

struct writing {
	struct edit_bytes *bytes;
	bool inside;
	struct runs_writer *writer;
};

static int do_write(struct array *a, void *ctx)
{
	struct writing *w = ctx;
	struct edit_bytes *b = w->bytes;
	uint64_t before = a->size_bytes;
	size_t done;
	int err;

	if (w->inside && (b->off > before || b->len > before - b->off))
		return -EFBIG;
	err = array_write_as(a, b->buf, b->len, b->off, b->how, &done);
	/* The part that is in may be committed before this runs again; writing it again would take its space twice. */
	edit_bytes_take(b, done);
	note_growth(a, before, w->writer);
	return err;
}

int edit_write(struct inode *i, struct edit_bytes *b, struct runs_writer *w)
{
	return edit_array(i, do_write, &(struct writing){ b, false, w });
}

int edit_write_inside(struct inode *i, struct edit_bytes *b)
{
	return edit_array(i, do_write, &(struct writing){ b, true, NULL });
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
	return i->kind == ARRAY_BUCKET ? edit_array(i, unsure ? do_end_all : do_end_run, w) : 0;
}

struct runs_writer *file_writer(struct tree_file *f)
{
	return &f->writer;
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

	if (!err && (!S_ISREG(i->mode) || i->kind != ARRAY_BUCKET))
		err = -EOPNOTSUPP;
	if (!err)
		err = room_need(t, 0);
	if (!err)
		err = edit_array(i, do_mark, &m);
	if (!err)
		*out = (struct spillfs_mark){ m.off_bytes, m.made };
	return err;
}

int tree_file_may_mark(const struct tree_file *f)
{
	return (f->flags & O_ACCMODE) == O_RDONLY ? -EBADF : 0;
}

void edit_leave(struct inode *i, const struct runs_writer *w)
{
	if (i->kind != ARRAY_BUCKET)
		return;
	rwlock_exclusive(&i->rw);
	if (i->array)
		runs_leave(array_runs(i->array), w, i->tree->sizes_stick);
	rwlock_release(&i->rw);
}

/* As the rest of open_inode; views.h says why with the lock only in between. */
static int try_view(struct inode *i, struct view_opening *o)
{
	int err;

	o->live = views_is_live(i);
	rwlock_exclusive(&i->rw);
	if (!i->array) {
		rwlock_release(&i->rw);
		err = views_open_begin(i, o);
		if (err)
			return err;
		rwlock_exclusive(&i->rw);
	}
	err = views_open_end(i, o);
	if (!err)
		atomic_fetch_add(&i->ncached, 1);
	rwlock_release(&i->rw);
	if (o->array)
		array_close(o->array);
	o->array = NULL;
	return err;
}

static int need_view(struct inode *i, const struct tree_caller *who)
{
	struct view_opening o = { .thread = who->thread };
	int err;

	do
		err = try_view(i, &o);
	while (err == -EAGAIN);
	return err;
}

static int open_view(struct tree_file *f, struct inode *i, const struct tree_caller *who, struct tree_file_info *info)
{
	int err = need_view(i, who);

	if (err)
		return err;
	info->direct = false;
	/* Until one of these opens is known to have reached the kernel, none may keep its pages. */
	f->drops = atomic_load(&i->stale_pages) || views_is_live(i);
	info->keep_cache = !f->drops;
	info->new_attr = views_told(i) != atomic_load(&i->size_bytes);
	f->cached = true;
	f->inode = i;
	inode_ref(i);
	return 0;
}

static void close_view(struct inode *i)
{
	struct array *a = NULL;

	rwlock_exclusive(&i->rw);
	if (!atomic_load(&i->ncached)) {
		lock_acquire(&i->attr);
		a = i->array;
		i->array = NULL;
		lock_release(&i->attr);
	}
	rwlock_release(&i->rw);
	if (a)
		array_close(a);
}

static void enter_live(struct tree_file *f, struct inode *i)
{
	f->live = i;
	atomic_fetch_add(&i->nmappable, 1);
	views_enter_live(i);
}

static void leave_live(struct tree_file *f)
{
	if (!f->live)
		return;
	atomic_fetch_sub(&f->live->nmappable, 1);
	views_leave_live(f->live);
	f->live = NULL;
}

static void end_view(struct tree_file *f)
{
	atomic_fetch_sub(&f->inode->ncached, 1);
	close_view(f->inode);
	leave_live(f);
}

/* In place. Who reads what was pinned goes on reading that; the writer is sent to look for another node. */
static int open_view_live(struct tree_file *f, struct inode *i, const struct tree_caller *who, struct tree_file_info *info)
{
	int err;

	enter_live(f, i);
	err = open_view(f, i, who, info);
	if (!err && !view_owner(i->array)) {
		end_view(f);
		inode_put(i, 1);
		return -ESTALE;
	}
	if (err)
		leave_live(f);
	return err;
}

/* The writeback cache does not say who has written, and the mode of a view has no bits for the kernel to take away. */
static int drop_privs_of_view(struct tree_file *f, const struct tree_caller *who)
{
	struct inode *array;
	int err;

	if (!f->tree->sizes_stick || views_target(f->tree, f->ino, &array))
		return 0;
	err = privs_drop(array, who, PRIVS_DATA, NULL);
	inode_put(array, 1);
	return err;
}

/* To be written: a new array in place of the view's, the one that is being written there, or the view's own. */
static int open_view_written(struct tree_file *f, const struct tree_caller *who, struct tree_file_info *info)
{
	struct inode *i;
	int err = inode_find(f->tree, f->ino, &i);
	bool cached;

	if (!err)
		err = views_may_write(i);
	if (!err)
		err = drop_privs_of_view(f, who);
	if (err)
		return err;
	close_view(i); /* the lookup may have opened it to be read */
	err = upload_open(i, f->flags, who, &f->upload, &cached);
	if (err == -ENOENT)
		return open_view_live(f, i, who, info);
	if (err)
		return err;
	info->direct = !cached;
	if (cached)
		enter_live(f, i);
	return 0;
}

static int empty(struct inode *i, const struct tree_caller *who)
{
	int err = privs_drop(i, who, PRIVS_DATA, NULL);

	if (!err)
		err = edit_resize(i, 0, NULL);
	if (!err)
		inode_touch(i, TREE_SET_MTIME | TREE_SET_CTIME);
	return err;
}

/* A close of this one is a request, before the release (set_opened). */
static bool tells_of_closes(const struct tree_file *f)
{
	return f->tree->sizes_stick || (f->flags & O_ACCMODE) != O_RDONLY;
}

static void count_open(const struct tree_file *f, enum array_kind kind)
{
	if (kind == ARRAY_COLUMN)
		stats_add(f->through.backing ? STAT_COLUMN_OPENS_PASSTHROUGH :
			  f->cached ? STAT_COLUMN_OPENS_CACHED : STAT_COLUMN_OPENS_DIRECT, 1);
}

/* How the kernel is to work on it. -EAGAIN: after a commit. */
static int choose_mode(struct tree_file *f, struct inode *i, struct tree_file_info *info)
{
	int acc = f->flags & O_ACCMODE, err;
	struct array *a;

	rwlock_exclusive(&i->rw);
	err = inode_need_array(i, &a);
	if (!err)
		err = through_open(i, a, f->flags, &f->through);
	if (!err) {
		inode_hold_array(i);
		info->backing = f->through.backing;
		info->direct = info->backing ? f->through.told : info->direct && acc == O_WRONLY;
		f->cached = !info->direct && !info->backing;
		if (f->cached)
			atomic_fetch_add(&i->ncached, 1);
		/* inode_stat says from then on that there may be data. */
		info->new_attr = !i->lost_bits && (f->through.unsettles ||
						   (f->cached && acc != O_RDONLY && !atomic_load(&a->stored_bytes)));
	}
	rwlock_release(&i->rw);
	return err;
}

static int open_inode(struct tree_file *f, const struct tree_caller *who, struct tree_file_info *info)
{
	struct inode *i;
	int acc = f->flags & O_ACCMODE, err = inode_find(f->tree, f->ino, &i);

	if (err)
		return err;
	if ((i->past || i->view) && (acc != O_RDONLY || (f->flags & O_TRUNC)))
		return -EROFS;
	if (i->view) {
		through_refresh_all(f->tree);
		return open_view(f, i, who, info);
	}
	if (f->flags & O_TRUNC)
		err = empty(i, who);
	through_make_room(i, f->flags);
	if (!err)
		err = choose_mode(f, i, info);
	while (err == -EAGAIN) {
		err = commit_wait(f->tree->store->commit, COMMIT_SYNC);
		if (!err)
			err = choose_mode(f, i, info);
	}
	if (err)
		return err;
	count_open(f, i->kind);
	f->inode = i;
	f->told_bytes = atomic_load(&i->size_bytes);
	if (acc != O_RDONLY)
		atomic_fetch_add(&i->nwriters, 1);
	if (tells_of_closes(f)) {
		atomic_fetch_add(&i->nkept, 1);
		leaving_end(i);
	}
	if (f->cached) {
		if (acc != O_RDONLY)
			atomic_fetch_add(&i->nmappable, 1);
		info->keep_cache = !atomic_exchange(&i->stale_pages, false);
	}
	inode_ref(i);
	return 0;
}

/* The inode that counts the lost pages of f. */
static struct inode *pages_of(const struct tree_file *f)
{
	return f->inode ? f->inode : f->live;
}

/*
 * Pages that could not be written back. The kernel tells that once for all who have the file open: the first to close is told, be
 * it a reader, and the writer's close succeeds. So each open for writing is told here, unless the kernel did.
 */
static void note_lost(struct tree_file *f, int err)
{
	struct inode *i = pages_of(f);

	if (!i)
		return;
	atomic_store(&i->lost_err, err);
	atomic_fetch_add(&i->nlost, 1);
}

static void lost_told(struct tree_file *f)
{
	struct inode *i = pages_of(f);

	if (i)
		atomic_store(&f->nlost_told, atomic_load(&i->nlost));
}

/* To be told at a close. An fsync comes here only if the kernel has told what there was. */
static int tell_lost(struct tree_file *f, bool closing)
{
	struct inode *i = pages_of(f);
	unsigned n = i ? atomic_load(&i->nlost) : 0;

	if (atomic_exchange(&f->nlost_told, n) == n || !closing || (f->flags & O_ACCMODE) == O_RDONLY)
		return 0;
	return atomic_load(&i->lost_err);
}

int tree_file_open(struct tree *t, uint64_t ino, int flags, const struct tree_caller *who, struct tree_file **out,
		   struct tree_file_info *info)
{
	struct tree_file *f = calloc(1, sizeof(*f));
	int err;

	if (!f)
		return -ENOMEM;
	f->tree = t;
	f->ino = ino;
	f->flags = flags;
	info->keep_cache = info->new_attr = false;
	info->backing = 0;
	if (realm_of(t, ino)->id == REALM_CONTROL) {
		err = special_open(t, ino, flags, &f->special);
		info->direct = f->special.text != NULL;
		info->keep_cache = !info->direct;
	} else if (realm_of(t, ino)->id == REALM_VIEWS && (flags & O_ACCMODE) != O_RDONLY) {
		through_refresh_all(t);
		err = open_view_written(f, who, info);
	} else {
		err = open_inode(f, who, info);
	}
	if (err) {
		free(f);
		return err;
	}
	lost_told(f);
	*out = f;
	return 0;
}

/* At the first close of a descriptor, which the closer waits for, unlike the release, and at fsync. */
static void end_writing(struct tree_file *f)
{
	if (f->inode && !f->inode->view && (f->flags & O_ACCMODE) != O_RDONLY && !atomic_exchange(&f->written, true))
		atomic_fetch_sub(&f->inode->nwriters, 1);
}

/* At each close of a descriptor, and the release: the first is the last, unless there are duplicates. */
static void note_close(struct tree_file *f)
{
	struct inode *i = f->inode;

	if (!i || i->view)
		return;
	if (!atomic_exchange(&f->closed, true) && tells_of_closes(f))
		atomic_fetch_sub(&i->nkept, 1);
	leaving_expect(i);
}

/* A caller has a descriptor of it: the close that was seen was that of a duplicate, such as a child process inherits. */
static void note_use(struct tree_file *f)
{
	if (!atomic_load(&f->closed) || !tells_of_closes(f) || !atomic_exchange(&f->closed, false))
		return;
	atomic_fetch_add(&f->inode->nkept, 1);
	leaving_end(f->inode);
}

/* The closer waits for this one, too (array/runs.h). */
static int end_run(struct tree_file *f)
{
	bool unsure = f->tree->sizes_stick, grew = atomic_load(&f->writer.grew);
	uint64_t size;

	if (!f->inode || f->inode->kind != ARRAY_BUCKET || (f->flags & O_ACCMODE) == O_RDONLY)
		return 0;
	size = atomic_load(&f->inode->size_bytes);
	if (!grew && (!unsure || size <= f->told_bytes))
		return 0;
	f->told_bytes = size;
	return edit_end_run(f->inode, &f->writer, unsure);
}

void tree_file_release(struct tree_file *f)
{
	struct inode *i = f->inode;

	if (!i) {
		leave_live(f);
		if (f->upload)
			upload_close(f->upload);
		special_close(f->tree, &f->special);
		free(f);
		return;
	}
	if ((f->flags & O_ACCMODE) != O_RDONLY) {
		if (!f->tree->sizes_stick)
			end_run(f); /* of what came after the last close */
		edit_leave(i, &f->writer);
	}
	end_writing(f);
	note_close(f);
	if (f->cached && !i->view) {
		if ((f->flags & O_ACCMODE) != O_RDONLY)
			atomic_fetch_sub(&i->nmappable, 1);
		atomic_fetch_sub(&i->ncached, 1);
	}
	through_close(i, &f->through);
	if (i->view)
		end_view(f);
	else
		inode_let_go_array(i);
	inode_put(i, 1);
	inode_shrink(f->tree);
	free(f);
}

/* The handle's flags of this moment: fcntl changes O_DIRECT. cached: the bytes go through the kernel's cache. */
static unsigned transfer_how(int flags, bool cached)
{
	return flags & O_DIRECT ? IO_DIRECT : cached ? IO_KEPT : 0;
}

/* relatime: a read counts when the file changed since the last one, or a day has passed. */
static void note_read(struct inode *i)
{
	int64_t now;
	bool due;

	if (i->past || i->view)
		return;
	now = inode_stamp_ns(i->tree);
	lock_acquire(&i->attr);
	due = i->atime_ns <= i->mtime_ns || i->atime_ns <= i->ctime_ns || now - i->atime_ns > RELATIME_NS;
	lock_release(&i->attr);
	if (due && !store_may_write(i->tree->store, ROOM_INODE_BYTES))
		inode_touch(i, TREE_SET_ATIME);
}

static void give_back_text(struct lease *l)
{
	free(l->owner);
}

static int read_special(struct tree_file *f, uint64_t off, size_t len, unsigned how, struct tree_read *out)
{
	void *buf;
	size_t n;
	int err = special_read(&f->special, off, len, how, &buf, &n);

	if (err)
		return err;
	out->part[0] = (struct lease){ .ptr = buf, .len_bytes = n, .give_back = give_back_text, .owner = buf };
	out->n = 1;
	return 0;
}

/* Lends n bytes that were read into buf, of len, or after an error frees it. */
static int lend_copy(int err, void *buf, size_t len, size_t n, struct tree_read *out)
{
	if (err) {
		buf_free(buf, len);
		return err;
	}
	out->buf = buf;
	out->buf_bytes = len;
	out->part[0] = (struct lease){ .ptr = buf, .len_bytes = n };
	out->n = 1;
	return 0;
}

static int read_upload(struct tree_file *f, uint64_t off, size_t len, struct tree_read *out)
{
	void *buf = buf_alloc(len);
	size_t n = 0;
	int err = buf ? upload_read(f->upload, buf, len, off, &n) : -ENOMEM;

	return lend_copy(err, buf, len, n, out);
}

/* So many small pieces that copying is cheaper than describing them. */
static int read_copied(struct array *a, uint64_t off, size_t len, unsigned how, struct tree_read *out)
{
	void *buf = buf_alloc(len);
	size_t n = 0;
	int err = buf ? array_read_as(a, buf, len, off, how, &n) : -ENOMEM;

	return lend_copy(err, buf, len, n, out);
}

static void return_parts(struct tree_read *r)
{
	while (r->n)
		lease_return(&r->part[--r->n]);
}

int tree_read_begin(struct tree_file *f, uint64_t off, size_t len, int flags, struct tree_read *out)
{
	unsigned how = transfer_how(flags, f->cached);
	struct inode *i = f->inode;
	struct array *a;
	size_t done = 0;
	int err = 0;

	out->inode = i;
	out->how = how;
	out->n = 0;
	out->buf = NULL;
	out->buf_bytes = 0;
	if (!i)
		return f->upload ? read_upload(f, off, len, out) : read_special(f, off, len, how, out);
	note_use(f);
	if (f->drops)
		atomic_store(&i->stale_pages, false);
	if (f->cached && !(flags & O_DIRECT))
		tail_replaced(i, off, len);
	inode_ref(i);
	through_refresh(i);
	rwlock_shared(&i->rw);
	a = i->array;
	while (done < len && !err) {
		struct lease l;

		if (out->n == TREE_READ_PARTS) {
			return_parts(out);
			err = read_copied(a, off, len, how, out);
			done = err ? 0 : out->part[0].len_bytes;
			break;
		}
		err = array_borrow(a, off + done, len - done, how, &l);
		if (err)
			break;
		if (!l.len_bytes) {
			lease_return(&l);
			break;
		}
		out->part[out->n++] = l;
		done += l.len_bytes;
	}
	if (err) {
		tree_read_end(out);
		return err;
	}
	stats_add(STAT_READ_OPS_BUCKET + i->kind - ARRAY_BUCKET, 1);
	stats_add(STAT_READ_BYTES_BUCKET + i->kind - ARRAY_BUCKET, done);
	note_read(i);
	return 0;
}

void tree_read_end(struct tree_read *r)
{
	return_parts(r);
	buf_free(r->buf, r->buf_bytes);
	r->buf = NULL;
	if (r->inode) {
		rwlock_release(&r->inode->rw);
		inode_put(r->inode, 1);
	}
}

static void note_write(struct inode *i)
{
	lock_acquire(&i->attr);
	i->mtime_ns = i->ctime_ns = inode_stamp_ns(i->tree);
	lock_release(&i->attr);
	inode_mark_changed(i);
}

static int write_view(struct tree_file *f, struct edit_bytes *b, const struct tree_write_how *how)
{
	const uint64_t off = b->off, len = b->len;
	int err = f->upload ? upload_write(f->upload, b, how->who) : views_write(f->inode, b, how->who);

	if (how->direct && f->live)
		tree_changed_pages(f->tree, f->ino, off, len);
	return err;
}

/* The first n bytes of b. */
static int write_part(struct tree_file *f, struct edit_bytes *b, size_t n)
{
	struct edit_bytes part = *b;
	int err;

	part.len = n;
	err = edit_write(f->inode, &part, &f->writer);
	edit_bytes_take(b, n - part.len);
	return err;
}

/* What the kernel writes back, without what is not the file's. */
static int write_pages(struct tree_file *f, struct edit_bytes *b)
{
	uint64_t from, to;
	int err = 0;

	if (!tail_covers(f->inode, b->off, b->len, &from, &to))
		return edit_write(f->inode, b, &f->writer);
	if (from > b->off)
		err = write_part(f, b, (size_t)(from - b->off));
	if (err)
		return err;
	edit_bytes_take(b, (size_t)(to - b->off));
	return b->len ? edit_write(f->inode, b, &f->writer) : 0;
}

static int write_bytes(struct tree_file *f, struct edit_bytes *b)
{
	tail_replaced(f->inode, b->off, b->len);
	return edit_write(f->inode, b, &f->writer);
}

/* Of [off, off + len), and between it and the end that was before. */
static void drop_pages(struct inode *i, uint64_t before, uint64_t off, uint64_t len)
{
	uint64_t from = tail_drop_from(i, before, off);

	tree_changed_pages(i->tree, i->ino, from, off + len - from);
}

static int write_any(struct tree_file *f, struct edit_bytes *b, const struct tree_write_how *how)
{
	const uint64_t off = b->off, len = b->len;
	struct inode *i = f->inode;
	uint64_t before;
	int err;

	if (f->upload || (i && i->view))
		return write_view(f, b, how);
	if (!i)
		return -EBADF;
	err = privs_drop(i, how->who, PRIVS_DATA, NULL);
	if (err)
		return err;
	before = atomic_load(&i->size_bytes);
	err = how->who ? write_bytes(f, b) : write_pages(f, b);
	if (b->off > off && !how->keep_times)
		note_write(i);
	/* An error does not say which bytes it has left as they were. In this order: an open in between sees the mark, or is seen. */
	if (!f->cached)
		atomic_store(&i->stale_pages, true);
	/* After an asynchronous one the kernel itself drops nothing, be the handle cached or not. */
	if ((how->direct || !f->cached) && atomic_load(&i->ncached))
		drop_pages(i, before, off, len);
	return err;
}

int tree_write(struct tree_file *f, const void *buf, size_t len, uint64_t off, const struct tree_write_how *how, size_t *n_out)
{
	struct edit_bytes b = { buf, len, off, transfer_how(how->flags, !how->direct) };
	int err;

	if (how->who)
		note_use(f);
	err = write_any(f, &b, how);
	if (err && !how->who)
		note_lost(f, err);
	if (err && (how->whole || b.len == len || !err_is_full(err)))
		return err;
	*n_out = len - b.len;
	return 0;
}

int tree_flush(struct tree_file *f, bool closing)
{
	int lost = tell_lost(f, closing), err;

	if (f->upload) {
		err = upload_flush(f->upload, closing);
		return err ? err : lost;
	}
	if (f->inode)
		through_refresh(f->inode);
	err = closing ? end_run(f) : 0;
	end_writing(f);
	if (closing)
		note_close(f);
	else
		note_use(f);
	/* What was written in place changes what the kernel has of the array; whoever waits for this waits for that. */
	if (f->live && f->inode)
		tree_changed_facts(f->tree, ((struct inode *)view_owner(f->inode->array))->ino);
	return err ? err : lost;
}

struct range {
	uint64_t off, len;
	bool keep_size;
	struct runs_writer *writer;
	bool punched; /* with an error, too */
};

static int do_allocate(struct array *a, void *ctx)
{
	struct range *r = ctx;
	uint64_t before = a->size_bytes;
	int err = array_allocate(a, r->off, r->len, r->keep_size);

	note_growth(a, before, r->writer);
	return err;
}

static int do_punch(struct array *a, void *ctx)
{
	struct range *r = ctx;

	r->punched = true;
	return array_punch(a, r->off, r->len);
}

/* Zeros that are reserved: what is written over them does not fail for want of space. */
static int do_zero(struct array *a, void *ctx)
{
	int err = do_punch(a, ctx);

	return err ? err : do_allocate(a, ctx);
}

/* Within its size there is room for whatever is written; its size follows from its header. */
static int allocate_view(struct tree_file *f, int mode, uint64_t end)
{
	uint64_t size = f->upload ? upload_total_bytes(f->upload) : f->inode->array->size_bytes;

	return !(mode & ~FALLOC_FL_KEEP_SIZE) && end <= size ? 0 : -EOPNOTSUPP;
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

int tree_fallocate(struct tree_file *f, int mode, uint64_t off, uint64_t len, const struct tree_caller *who)
{
	struct range r = { off, len, mode & FALLOC_FL_KEEP_SIZE, &f->writer, false };
	struct inode *i = f->inode;
	uint64_t before, end = off + len;
	int err;

	if (!i && !f->upload)
		return -EBADF;
	if (!len)
		return -EINVAL;
	if (off > ARRAY_SIZE_MAX || len > ARRAY_SIZE_MAX - off)
		return -EFBIG;
	if (!i || i->view)
		return allocate_view(f, mode, end);
	err = privs_drop(i, who, PRIVS_DATA, NULL);
	before = atomic_load(&i->size_bytes);
	if (!err)
		err = allocate(i, mode, &r);
	if (!err || r.punched)
		note_write(i);
	if (!err && !r.keep_size && tail_drop_from(i, before, end) < end)
		tree_changed_pages(i->tree, i->ino, before, end - before);
	if (r.punched && !atomic_load(&i->ncached))
		atomic_store(&i->stale_pages, true);
	/* The kernel drops the pages of what succeeds. */
	if (r.punched && err)
		tree_changed_pages(i->tree, i->ino, off, len);
	return err;
}

int tree_seek(struct tree_file *f, uint64_t off, int whence, uint64_t *out)
{
	int err;

	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return -EINVAL;
	if (!f->inode) {
		uint64_t size = f->upload ? upload_bytes(f->upload) : f->special.len;

		if (off >= size)
			return -ENXIO;
		*out = whence == SEEK_DATA ? off : size;
		return 0;
	}
	through_refresh(f->inode);
	rwlock_shared(&f->inode->rw);
	err = array_seek(f->inode->array, off, whence == SEEK_HOLE, out);
	rwlock_release(&f->inode->rw);
	return err;
}

int tree_blocks(struct tree_file *f, uint64_t first, struct spillfs_blocks *out)
{
	struct inode *i = f->inode;

	if (!i || i->kind != ARRAY_LAYERED)
		return -ENOTTY;
	rwlock_shared(&i->rw);
	layered_blocks(i->array, first, out);
	rwlock_release(&i->rw);
	return 0;
}

int tree_copy(struct tree_file *in, uint64_t off_in, struct tree_file *out, uint64_t off_out, size_t len,
	      const struct tree_caller *who, size_t *n_out)
{
	struct tree_write_how how = { .flags = out->flags, .direct = true, .who = who };
	size_t done = 0;
	void *buf;
	int err = 0;

	if (!in->inode || !out->inode)
		return -EOPNOTSUPP;
	buf = buf_alloc(COPY_BYTES);
	if (!buf)
		return -ENOMEM;
	through_refresh(in->inode);
	while (done < len && !err) {
		size_t n = len - done < COPY_BYTES ? len - done : COPY_BYTES;

		rwlock_shared(&in->inode->rw);
		err = array_read_as(in->inode->array, buf, n, off_in + done, transfer_how(in->flags, false), &n);
		rwlock_release(&in->inode->rw);
		if (!err && !n)
			break;
		if (!err)
			err = tree_write(out, buf, n, off_out + done, &how, &n);
		if (!err)
			done += n;
	}
	buf_free(buf, COPY_BYTES);
	if (err && !done)
		return err;
	*n_out = done;
	return 0;
}
