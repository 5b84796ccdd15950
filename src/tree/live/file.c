/*
 * Open files of the live tree: how the kernel is to work on them, reading and writing.
 *
 * Invariant: what is written around the kernel's cache leaves no stale page: pages of open files are dropped before the writer is
 * answered, pages of closed ones when the file is opened next.
 */
#include "tree/live/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>

#include "store/commit.h"
#include "store/store.h"
#include "tree/live/edit.h"
#include "tree/live/growth.h"
#include "tree/live/live.h"
#include "tree/live/privs.h"
#include "tree/live/quota.h"
#include "tree/live/room.h"
#include "tree/live/tail.h"
#include "tree/reading.h"
#include "util/stats.h"

#define RELATIME_NS (86400ll * 1000000000)

static struct live_file *live_file_of(struct tree_file *f)
{
	return (struct live_file *)f;
}

static bool writes(const struct tree_file *f)
{
	return (f->flags & O_ACCMODE) != O_RDONLY;
}

/* Opening. */

/* A close of this one is a request, before the release (set_opened). */
static bool tells_of_closes(const struct live_file *f)
{
	return f->base.tree->sizes_stick || writes(&f->base);
}

static int empty(struct inode *i, const struct tree_caller *who)
{
	int err = privs_drop(i, who, PRIVS_DATA, NULL);

	if (!err)
		err = edit_resize(i, 0, NULL);
	if (!err)
		live_touch(i, TREE_SET_MTIME | TREE_SET_CTIME);
	return err;
}

static void count_open(const struct live_file *f, enum array_kind kind)
{
	if (kind == ARRAY_COLUMN)
		stats_add(f->through.backing ? STAT_COLUMN_OPENS_PASSTHROUGH :
			  f->cached ? STAT_COLUMN_OPENS_CACHED : STAT_COLUMN_OPENS_DIRECT, 1);
}

/* Can the kernel have pages by it? */
static bool has_pages(const struct live_file *f)
{
	return f->cached || f->maps;
}

/* How the kernel is to work on it. Under a quota, writes go around the kernel's cache: it would take what does not fit. So they do where
 * the settings say it: the kernel writes dirty pages back one by one when a file is cut. -EAGAIN: after a commit. */
static int choose_mode(struct live_file *f, struct inode *i, struct tree_file_info *info)
{
	int acc = f->base.flags & O_ACCMODE, err;
	bool bound = quota_applies(i), around;
	struct array *a;

	rwlock_exclusive(&i->rw);
	err = inode_need_array(i, &a);
	if (!err)
		err = through_open(i, a, f->base.flags, bound || f->consume.on, &f->through);
	if (!err) {
		inode_hold_array(i);
		info->backing = f->through.backing;
		around = bound || a->params.direct;
		info->direct = info->backing ? f->through.told : acc == O_WRONLY ? info->direct || around :
			       f->consume.on || (acc == O_RDWR && around && i->tree->sizes_stick && info->maps);
		f->cached = !info->direct && !info->backing;
		f->maps = info->direct && !info->backing && acc != O_WRONLY;
		if (has_pages(f))
			atomic_fetch_add(&i->ncached, 1);
		/* inode_stat says from then on that there may be data. */
		info->new_attr = !i->lost_bits && (f->through.unsettles ||
							    (f->cached && acc != O_RDONLY && !atomic_load(&a->stored_bytes)));
	}
	rwlock_release(&i->rw);
	return err;
}

static int open_file(struct live_file *f, struct inode *i, const struct tree_caller *who, struct tree_file_info *info)
{
	int flags = f->base.flags, err = flags & O_TRUNC ? empty(i, who) : 0;

	consume_begin(&f->consume, i, flags, who);
	through_make_room(i, flags);
	if (!err)
		err = choose_mode(f, i, info);
	while (err == -EAGAIN) {
		err = commit_wait(i->tree->store->commit, COMMIT_SYNC);
		if (!err)
			err = choose_mode(f, i, info);
	}
	if (err)
		return err;
	count_open(f, i->facts.kind);
	inode_ref(i);
	f->base.inode = f->base.pages = i;
	f->told_bytes = inode_size(i);
	if (writes(&f->base))
		atomic_fetch_add(&live_of(i)->nwriters, 1);
	if (tells_of_closes(f)) {
		atomic_fetch_add(&live_of(i)->nkept, 1);
		leaving_end(i);
	}
	if (has_pages(f) && writes(&f->base))
		atomic_fetch_add(&i->nmappable, 1);
	if (f->cached)
		f->drops = inode_pages_old(i);
	info->keep_cache = f->cached && !f->drops;
	return 0;
}

static const struct file_ops live_file_ops;

int live_open(struct tree *t, uint64_t ino, int flags, const struct tree_caller *who, struct tree_file **out,
	      struct tree_file_info *info)
{
	struct tree_file *f;
	struct inode *i;
	int err = inode_find(t, ino, &i);

	if (err)
		return err;
	f = file_new(t, ino, flags, &live_file_ops, sizeof(struct live_file));
	if (!f)
		return -ENOMEM;
	err = open_file(live_file_of(f), i, who, info);
	if (err) {
		consume_end(&live_file_of(f)->consume, i);
		free(f);
		return err;
	}
	*out = f;
	return 0;
}

/* Closing. */

/* At the first close of a descriptor, which the closer waits for, unlike the release, and at fsync. */
static void end_writing(struct live_file *f)
{
	if (writes(&f->base) && !atomic_exchange(&f->written, true))
		atomic_fetch_sub(&live_of(f->base.inode)->nwriters, 1);
}

/* At each close of a descriptor, and the release: the first is the last, unless there are duplicates. */
static void note_close(struct live_file *f)
{
	struct inode *i = f->base.inode;

	if (!atomic_exchange(&f->closed, true) && tells_of_closes(f))
		atomic_fetch_sub(&live_of(i)->nkept, 1);
	leaving_expect(i);
}

/* A caller has the descriptor: the kernel has done what it does at an open. */
static void note_opened(struct live_file *f)
{
	inode_pages_dropped(f->base.inode, f->drops);
}

/* A caller uses the file, so the close that was seen was that of a duplicate descriptor, such as a child process inherits. */
static void note_use(struct live_file *f)
{
	struct inode *i = f->base.inode;

	note_opened(f);
	if (!atomic_load(&f->closed) || !tells_of_closes(f) || !atomic_exchange(&f->closed, false))
		return;
	atomic_fetch_add(&live_of(i)->nkept, 1);
	leaving_end(i);
}

/* The closer waits for this one, too (array/runs.h). */
static int end_run(struct live_file *f)
{
	struct inode *i = f->base.inode;
	bool unsure = i->tree->sizes_stick, grew = atomic_load(&f->writer.grew);
	uint64_t size;

	if (i->facts.kind != ARRAY_BUCKET || !writes(&f->base))
		return 0;
	size = inode_size(i);
	if (!grew && (!unsure || size <= f->told_bytes))
		return 0;
	f->told_bytes = size;
	return edit_end_run(i, &f->writer, unsure);
}

static int flush_file(struct tree_file *base, bool closing)
{
	struct live_file *f = live_file_of(base);
	int err;

	note_opened(f);
	through_refresh(base->inode);
	err = closing ? end_run(f) : 0;
	/* The kernel keeps the times that it has, and knows of no write around its cache. */
	if (closing && atomic_exchange(&f->times_stale, false))
		changed_facts(base->tree, base->inode->facts.ino);
	end_writing(f);
	if (closing)
		note_close(f);
	else
		note_use(f);
	return err;
}

static void release_file(struct tree_file *base)
{
	struct live_file *f = live_file_of(base);
	struct inode *i = base->inode;

	if (writes(base)) {
		if (!base->tree->sizes_stick)
			end_run(f); /* of what came after the last close */
		edit_leave(i, &f->writer);
	}
	end_writing(f);
	note_close(f);
	if (has_pages(f) && writes(base))
		atomic_fetch_sub(&i->nmappable, 1);
	if (has_pages(f))
		atomic_fetch_sub(&i->ncached, 1);
	consume_end(&f->consume, i);
	through_close(i, &f->through);
	inode_let_go_array(i);
	inode_put(i, 1);
	free(f);
}

/* Reading. */

/* relatime: a read counts when the file changed since the last one, or a day has passed. */
static void note_read(struct inode *i)
{
	int64_t now;
	bool due;

	now = inode_stamp_ns(i->tree);
	lock_acquire(&i->attr);
	due = i->facts.atime_ns <= i->facts.mtime_ns || i->facts.atime_ns <= i->facts.ctime_ns || now - i->facts.atime_ns > RELATIME_NS;
	lock_release(&i->attr);
	if (due && !store_may_write(i->tree->store, ROOM_INODE_BYTES))
		live_touch(i, TREE_SET_ATIME);
}

static void refresh_file(struct tree_file *f)
{
	through_refresh(f->inode);
}

static void consume_file(struct tree_file *f, uint64_t off, size_t len)
{
	consume_read(&live_file_of(f)->consume, f->inode, off, len);
}

static int read_file(struct tree_file *base, uint64_t off, size_t len, int flags, struct tree_read *out)
{
	struct live_file *f = live_file_of(base);
	int err;

	note_use(f);
	if (f->cached && !(flags & O_DIRECT))
		tail_replaced(base->inode, off, len);
	through_refresh(base->inode);
	err = reading_begin(base->inode, off, len, reading_how(flags, f->cached), out);
	if (!err)
		note_read(base->inode);
	return err;
}

static int seek_file(struct tree_file *f, uint64_t off, int whence, uint64_t *out)
{
	through_refresh(f->inode);
	return reading_seek(f->inode, off, whence, out);
}

/* Writing. */

static void note_write(struct inode *i)
{
	lock_acquire(&i->attr);
	i->facts.mtime_ns = i->facts.ctime_ns = inode_stamp_ns(i->tree);
	lock_release(&i->attr);
	live_mark_changed(i);
}

/* Pages that the kernel writes back, without what is not the file's. */
static int write_pages(struct live_file *f, struct edit_bytes *b)
{
	uint64_t from, to;
	int err = 0;

	if (!tail_covers(f->base.inode, b->off, b->len, &from, &to))
		return edit_write(f->base.inode, b, &f->writer);
	if (from > b->off) {
		const size_t rest = (size_t)(b->off + b->len - from);

		b->len -= rest;
		err = edit_write(f->base.inode, b, &f->writer);
		b->len += rest;
	}
	if (err)
		return err;
	edit_bytes_take(b, (size_t)(to - b->off));
	return b->len ? edit_write(f->base.inode, b, &f->writer) : 0;
}

static int write_bytes(struct live_file *f, struct edit_bytes *b)
{
	tail_replaced(f->base.inode, b->off, b->len);
	return edit_write(f->base.inode, b, &f->writer);
}

/* Before the write is answered, and so before its file is released. */
static void end_growth(void *ctx)
{
	growth_end(ctx);
}

/* After a write around the cache to [off, off + len): has the kernel drop that, and what is between it and the end that was before, if
 * anybody has pages open. */
static void drop_pages(struct inode *i, uint64_t before, uint64_t off, uint64_t len, bool grows)
{
	uint64_t from = tail_drop_from(i, before, off);

	if (atomic_load(&i->ncached))
		changed_pages_then(i->tree, i->facts.ino, from, off + len - from, grows ? end_growth : NULL, i);
	else if (grows)
		growth_end(i);
}

static int write_file(struct tree_file *base, struct edit_bytes *b, const struct tree_write_how *how)
{
	const uint64_t off = b->off, len = b->len;
	struct live_file *f = live_file_of(base);
	struct inode *i = base->inode;
	/* After an asynchronous one the kernel itself drops nothing, be the handle cached or not. */
	bool around = how->direct || !f->cached, grows;
	uint64_t before;
	int err;

	if (how->who)
		note_use(f);
	err = privs_drop(i, how->who, PRIVS_DATA, NULL);
	if (err)
		return err;
	before = inode_size(i);
	grows = around && how->who && !f->through.backing && off + len > before;
	if (grows)
		growth_begin(i);
	err = how->who ? write_bytes(f, b) : write_pages(f, b);
	if (b->off > off && !how->keep_times)
		note_write(i);
	/* An error does not say which bytes it has left as they were. In this order: an open in between sees the mark, or is seen. */
	if (!f->cached)
		inode_pages_stale(i);
	if (!f->cached && how->who && i->tree->sizes_stick)
		atomic_store(&f->times_stale, true);
	if (around)
		drop_pages(i, before, off, len, grows);
	return err;
}

static int allocate_file(struct tree_file *base, int mode, uint64_t off, uint64_t len, const struct tree_caller *who)
{
	struct inode *i = base->inode;
	uint64_t before, end = off + len;
	bool punched = false;
	int err = privs_drop(i, who, PRIVS_DATA, NULL);

	before = inode_size(i);
	if (!err)
		err = edit_allocate(i, mode, off, len, &live_file_of(base)->writer, &punched);
	if (!err || punched)
		note_write(i);
	if (!err && !(mode & FALLOC_FL_KEEP_SIZE) && tail_drop_from(i, before, end) < end)
		changed_pages(i->tree, i->facts.ino, before, end - before);
	if (punched && !atomic_load(&i->ncached))
		inode_pages_stale(i);
	/* The kernel drops the pages of what succeeds. */
	if (punched && err)
		changed_pages(i->tree, i->facts.ino, off, len);
	return err;
}

static const struct file_ops live_file_ops = {
	.consume = consume_file,
	.read = read_file,
	.write = write_file,
	.flush = flush_file,
	.allocate = allocate_file,
	.seek = seek_file,
	.refresh = refresh_file,
	.release = release_file,
};
