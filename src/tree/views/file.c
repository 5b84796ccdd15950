/*
 * Open views: pinned to be read, written in place, or an upload.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>

#include "tree/file.h"
#include "tree/live/edit.h"
#include "tree/live/passthrough.h"
#include "tree/live/privs.h"
#include "tree/live/quota.h"
#include "tree/reading.h"
#include "tree/views/inside.h"
#include "tree/views/upload.h"
#include "util/buf.h"
#include "view/view.h"

struct view_file {
	struct tree_file base;
	struct upload *upload; /* NULL: none is written */
	struct inode *live;    /* a view that is written through the kernel's cache: in place, or an upload's */
	uint64_t drops;        /* the kernel drops its pages for this open (inode_pages_old) */
};

static struct view_file *view_file_of(struct tree_file *f)
{
	return (struct view_file *)f;
}

/* Opening. */

/* views.h says why the lock is held only in between. */
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

static int open_pinned(struct view_file *f, struct inode *i, const struct tree_caller *who, struct tree_file_info *info)
{
	int err = need_view(i, who);

	if (err)
		return err;
	info->direct = false;
	f->drops = inode_pages_old(i);
	info->keep_cache = !f->drops && !views_is_live(i);
	info->new_attr = views_told(i) != inode_size(i);
	f->base.inode = f->base.pages = i;
	inode_ref(i);
	return 0;
}

static void enter_live(struct view_file *f, struct inode *i)
{
	f->live = i;
	atomic_fetch_add(&i->nmappable, 1);
	views_enter_live(i);
}

static void leave_live(struct view_file *f)
{
	if (!f->live)
		return;
	atomic_fetch_sub(&f->live->nmappable, 1);
	views_leave_live(f->live);
	f->live = NULL;
}

static void end_view(struct view_file *f)
{
	atomic_fetch_sub(&f->base.inode->ncached, 1);
	close_view(f->base.inode);
	leave_live(f);
}

/* Under a quota, writes go around the kernel's cache, as those of the array's own file do (live/file.c): it would take what does not fit,
 * and the close would tell. */
static bool goes_around(const struct view_file *f, bool bound, const struct tree_file_info *info)
{
	return bound && ((f->base.flags & O_ACCMODE) == O_WRONLY || (f->base.tree->sizes_stick && info->maps));
}

/* In place. Readers of pinned bytes go on with them; the writer is sent to look for another node. */
static int open_live(struct view_file *f, struct inode *i, const struct tree_caller *who, struct tree_file_info *info)
{
	int err;

	enter_live(f, i);
	err = open_pinned(f, i, who, info);
	if (!err && !view_owner(i->array)) {
		end_view(f);
		inode_put(i, 1);
		return -ESTALE;
	}
	if (err)
		leave_live(f);
	else
		info->direct = goes_around(f, quota_applies(view_owner(i->array)), info);
	return err;
}

/* The writeback cache does not say who has written, and the mode of a view has no bits for the kernel to take away. */
static int drop_privs_of_view(struct view_file *f, const struct tree_caller *who)
{
	struct inode *array;
	int err;

	if (!f->base.tree->sizes_stick || views_target(f->base.tree, f->base.ino, &array))
		return 0;
	err = privs_drop(array, who, PRIVS_DATA, NULL);
	inode_put(array, 1);
	return err;
}

/* To be written: a new array in place of the view's, the one that is being written there, or the view's own. */
static int open_written(struct view_file *f, struct inode *i, const struct tree_caller *who, struct tree_file_info *info)
{
	bool cached;
	int err = views_may_write(i);

	if (!err)
		err = drop_privs_of_view(f, who);
	if (err)
		return err;
	close_view(i); /* the lookup may have opened it to be read */
	err = upload_open(i, f->base.flags, who, &f->upload, &cached);
	if (err == -ENOENT)
		return open_live(f, i, who, info);
	if (err)
		return err;
	info->direct = !cached || goes_around(f, upload_is_bound(f->upload), info);
	if (cached)
		enter_live(f, i);
	f->base.pages = f->live;
	return 0;
}

static const struct file_ops view_file_ops;

int views_open(struct tree *t, uint64_t ino, int flags, const struct tree_caller *who, struct tree_file **out,
	       struct tree_file_info *info)
{
	struct tree_file *f;
	struct inode *i;
	int err;

	through_refresh_all(t);
	err = inode_find(t, ino, &i);
	if (err)
		return err;
	if ((flags & O_ACCMODE) == O_RDONLY && (flags & O_TRUNC))
		return -EROFS;
	f = file_new(t, ino, flags, &view_file_ops, sizeof(struct view_file));
	if (!f)
		return -ENOMEM;
	err = (flags & O_ACCMODE) == O_RDONLY ? open_pinned(view_file_of(f), i, who, info) : open_written(view_file_of(f), i, who, info);
	if (err) {
		free(f);
		return err;
	}
	*out = f;
	return 0;
}

/* Use. An open view has an upload, or an inode with an array. */

static int read_upload(struct upload *u, uint64_t off, size_t len, struct tree_read *out)
{
	void *buf = buf_alloc(len);
	size_t n = 0;
	int err = buf ? upload_read(u, buf, len, off, &n) : -ENOMEM;

	return reading_lend(err, buf, len, n, out);
}

static int read_view(struct tree_file *base, uint64_t off, size_t len, int flags, struct tree_read *out)
{
	struct view_file *f = view_file_of(base);

	if (f->upload)
		return read_upload(f->upload, off, len, out);
	inode_pages_dropped(base->inode, f->drops);
	return reading_begin(base->inode, off, len, reading_how(flags, true), out);
}

static int write_view(struct tree_file *base, struct edit_bytes *b, const struct tree_write_how *how)
{
	const uint64_t off = b->off, len = b->len;
	struct view_file *f = view_file_of(base);
	int err = f->upload ? upload_write(f->upload, b, how->who) : views_write(base->inode, b, how->who);

	if (how->direct && f->live)
		changed_pages(base->tree, base->ino, off, len);
	return err;
}

static int flush_view(struct tree_file *base, bool closing)
{
	struct view_file *f = view_file_of(base);

	if (f->upload)
		return upload_flush(f->upload, closing);
	/* The kernel has to forget what it has of the array, too, before this is answered. */
	if (f->live)
		changed_facts(base->tree, ((struct inode *)view_owner(base->inode->array))->facts.ino);
	return 0;
}

/* Within its size there is room for whatever is written; its size follows from its header. */
static int allocate_view(struct tree_file *base, int mode, uint64_t off, uint64_t len, const struct tree_caller *who)
{
	struct view_file *f = view_file_of(base);
	uint64_t size = f->upload ? upload_total_bytes(f->upload) : base->inode->array->size_bytes;

	(void)who;
	return !(mode & ~FALLOC_FL_KEEP_SIZE) && off + len <= size ? 0 : -EOPNOTSUPP;
}

static int seek_view(struct tree_file *base, uint64_t off, int whence, uint64_t *out)
{
	struct view_file *f = view_file_of(base);

	return f->upload ? reading_seek_flat(upload_bytes(f->upload), off, whence, out) : reading_seek(base->inode, off, whence, out);
}

static void release_view(struct tree_file *base)
{
	struct view_file *f = view_file_of(base);

	if (f->upload) {
		leave_live(f);
		upload_close(f->upload);
	} else {
		end_view(f);
		inode_put(base->inode, 1);
	}
	free(f);
}

static const struct file_ops view_file_ops = {
	.read = read_view,
	.write = write_view,
	.flush = flush_view,
	.allocate = allocate_view,
	.seek = seek_view,
	.release = release_view,
};
