/*
 * Operations on open files.
 *
 * Invariants:
 *  1. A file that was opened for a request that the kernel has given up is released at once.
 *  2. An answer for which the kernel holds pages does not wait for the notify thread.
 */
#include "front/ops/ops.h"

#include <fcntl.h>
#include <sys/uio.h>

#include "front/answer.h"
#include "front/passthrough.h"
#include "front/payload.h"
#include "front/told.h"
#include "front/writeback.h"
#include "util/buf.h"
#include "util/log.h"

static void set_opened(struct fuse_file_info *fi, struct tree_file *file, const struct tree_file_info *info)
{
	fi->fh = (uintptr_t)file;
	fi->direct_io = info->direct;
	fi->keep_cache = info->keep_cache;
	/* The close of a reader tells nothing; that of a writer writes back what was mapped. */
	fi->noflush = (fi->flags & O_ACCMODE) == O_RDONLY;
#ifdef HAVE_FUSE_PARALLEL_DIRECT_WRITES
	fi->parallel_direct_writes = info->direct;
#endif
}

static void reply_open(fuse_req_t req, struct answer *a)
{
	if (passthrough_reply_open(req, &a->open.info, a->open.backing) == -ENOENT)
		tree_file_release(a->open.file);
}

/* With its writeback cache, the kernel holds page writes back while it waits for an open that cuts the file: it must not
 * wait for the notify thread, which may be waiting for such a write. It forgets the file's attributes by itself. */
static bool cuts(const struct front *f, const struct fuse_file_info *fi)
{
	return f->config.writeback && (fi->flags & O_TRUNC);
}

/* An open, after the kernel has written back what others have changed. */
struct opening {
	struct deferred d;
	struct fuse_file_info info;
};

static void run_open(struct deferred *d)
{
	struct opening *o = (struct opening *)d;
	struct front *f = front_of(d->req);
	struct tree_caller who = front_caller(d->req);
	/* With the writeback cache the kernel keeps the times, and knows only of writes that go through it. */
	struct tree_file_info info = { .direct = !f->config.writeback, .maps = f->handshake.got & HANDSHAKE_DIRECT_MAPS };
	struct answer a = { .reply = reply_open };

	if (cuts(f, &o->info))
		told_at_once_begin();
	a.err = tree_file_open(f->tree, d->ino, o->info.flags, &who, &a.open.file, &info);
	if (info.new_attr)
		told_attr(f, d->ino);
	if (cuts(f, &o->info))
		told_at_once_end(f);
	if (!a.err) {
		set_opened(&o->info, a.open.file, &info);
		a.open.info = o->info;
		a.open.backing = info.backing;
	}
	answer_when_told(d->req, &a);
}

/* The files whose dirty pages belong to what is opened. With the writeback cache, the lookup before each open has had those of a
 * view written back; more of them would change its size again. */
static int unwritten(struct front *f, fuse_ino_t ino, const struct fuse_file_info *fi, struct tree_inos *out)
{
	*out = (struct tree_inos){ 0 };
	if (f->config.writeback && (fi->flags & O_ACCMODE) == O_RDONLY && tree_is_view(ino))
		return 0;
	return tree_unwritten(f->tree, ino, out);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct front *f = front_of(req);
	struct opening *o = deferred_new(req, ino, sizeof(*o), run_open);
	struct tree_inos inos;
	int err;

	if (!o)
		return;
	o->info = *fi;
	err = unwritten(f, ino, fi, &inos);
	if (err) {
		deferred_fail(&o->d, err);
	} else if (cuts(f, fi)) {
		writeback_files(f, &inos);
		deferred_run(&o->d);
	} else {
		deferred_after_files(&o->d, &inos);
	}
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct front *f = front_of(req);
	struct tree_caller who = front_caller(req);
	struct fuse_entry_param e;
	struct tree_file_info info = { .direct = !f->config.writeback, .maps = f->handshake.got & HANDSHAKE_DIRECT_MAPS };
	struct tree_file *file;
	struct tree_attr a;
	int err = tree_create(f->tree, parent, name, mode & 07777, &who, &a);

	if (!err) {
		err = tree_file_open(f->tree, a.st.st_ino, fi->flags & ~O_TRUNC, &who, &file, &info);
		if (!err && info.new_attr) {
			err = tree_getattr(f->tree, a.st.st_ino, &a);
			if (err)
				tree_file_release(file);
		}
		if (err)
			tree_forget(f->tree, a.st.st_ino, 1);
	}
	if (err) {
		answer_err(req, err);
		return;
	}
	answer_fill_entry(f, &a, &e);
	set_opened(fi, file, &info);
	if (passthrough_reply_create(req, &e, fi, info.backing) == -ENOENT) {
		tree_file_release(file);
		tree_forget(f->tree, a.st.st_ino, 1);
	}
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	tree_file_release(front_file(fi));
	answer_err(req, 0);
}

static size_t fd_bytes(const struct tree_read *r)
{
	size_t sum = 0;

	for (unsigned i = 0; i < r->n; i++)
		sum += r->part[i].ptr ? 0 : r->part[i].len_bytes;
	return sum;
}

/* The n_out parts as memory, with room at buf for those that are in files. */
static int gather(const struct tree_read *r, char *buf, struct iovec *v, int *n_out)
{
	int n = 0;

	for (unsigned i = 0; i < r->n; i++) {
		const struct lease *l = &r->part[i];
		int err = l->ptr ? 0 : lease_copy(l, r->how, buf);

		if (err)
			return err;
		v[n++] = (struct iovec){ l->ptr ? (void *)(uintptr_t)l->ptr : buf, l->len_bytes };
		if (!l->ptr)
			buf += l->len_bytes;
	}
	*n_out = n;
	return 0;
}

static size_t read_bytes(const struct tree_read *r)
{
	size_t sum = 0;

	for (unsigned i = 0; i < r->n; i++)
		sum += r->part[i].len_bytes;
	return sum;
}

/* fuse_reply_data would copy what is more than one piece of memory, through memory that is new each time. */
static void reply_read(fuse_req_t req, fuse_ino_t ino, uint64_t off, const struct tree_read *r)
{
	struct iovec v[TREE_READ_PARTS];
	size_t room = fd_bytes(r);
	char *buf = room ? buf_alloc(room) : NULL;
	int n, err = room && !buf ? -ENOMEM : gather(r, buf, v, &n);

	if (err == -EIO)
		log_error("inode %llu at %llu: a file of the store cannot be read, or ends too early", (unsigned long long)ino,
			  (unsigned long long)off);
	if (err)
		answer_err(req, err);
	else
		fuse_reply_iov(req, v, n);
	buf_free(buf, room);
}

struct reading {
	struct deferred d;
	struct tree_file *file;
	uint64_t off_bytes;
	size_t len_bytes;
	int flags;
};

static void run_read(struct deferred *d)
{
	struct reading *g = (struct reading *)d;
	struct tree_read r;
	int err = tree_read_begin(g->file, g->off_bytes, g->len_bytes, g->flags, &r);

	if (err) {
		answer_err(d->req, err);
		return;
	}
	reply_read(d->req, d->ino, g->off_bytes, &r);
	tree_read_end(&r);
}

/* A read with O_DIRECT takes what is short for the end of the file, though the kernel may hold pages far behind it. */
static void read_after_growth(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct reading *g = deferred_new(req, ino, sizeof(*g), run_read);

	if (!g)
		return;
	g->file = front_file(fi);
	g->off_bytes = (uint64_t)off;
	g->len_bytes = size;
	g->flags = fi->flags;
	deferred_after_growth(&g->d);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct tree_read r;
	bool ends;
	int err;

	/* An owner of locks is named by read(2) around the kernel's cache, and not for the pages of a map. */
	if (fi->lock_owner)
		tree_consume(front_file(fi), (uint64_t)off, size);
	err = tree_read_begin(front_file(fi), (uint64_t)off, size, fi->flags, &r);
	if (err) {
		answer_err(req, err);
		return;
	}
	/* The flags are also those of a page that the kernel reads, and holds, for a map of such a descriptor. */
	ends = fi->lock_owner && fi->flags & O_DIRECT && front_of(req)->config.writeback && read_bytes(&r) < size;
	if (!ends)
		reply_read(req, ino, (uint64_t)off, &r);
	tree_read_end(&r);
	if (ends)
		read_after_growth(req, ino, size, off, fi);
}

static void reply_write(fuse_req_t req, struct answer *a)
{
	fuse_reply_write(req, a->size_bytes);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct front *f = front_of(req);
	struct tree_caller who = front_caller(req);
	struct tree_write_how how = {
		.flags = fi->flags, .keep_times = fi->writepage && f->config.writeback, .who = fi->writepage ? NULL : &who,
		/* O_DIRECT does not tell: what fails to go around the cache goes through it. An owner of locks is named in the
		 * former alone. */
		.direct = fi->lock_owner != 0,
		/* The kernel makes EIO of a short answer to pages, or to one of the requests that it makes of a write with O_DIRECT. */
		.whole = fi->writepage || fi->flags & O_DIRECT,
	};
	struct answer a = { .reply = reply_write };

	/* Through the cache, the kernel may hold pages of this file, which what is queued waits for. */
	if (!how.direct)
		told_at_once_begin();
	a.err = tree_write(front_file(fi), payload_find(buf), size, (uint64_t)off, &how, &a.size_bytes);
	if (!how.direct)
		told_at_once_end(f);
	/* The kernel syncs after a write through its cache, not after a direct one. */
	if (!a.err && (fi->flags & O_DSYNC))
		a.err = tree_sync_of(f->tree, ino);
	answer_when_told(req, &a);
}

static void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	answer_err_when_told(req, tree_flush(front_file(fi), true));
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct front *f = front_of(req);
	int err = tree_flush(front_file(fi), false);

	(void)datasync;
	if (!err)
		err = tree_sync_of(f->tree, ino);
	/* With its writeback cache the kernel keeps a count of blocks from before what it has just written. */
	if (f->config.writeback && tree_attr_kept(f->tree, ino))
		told_attr(f, ino);
	answer_err_when_told(req, err);
}

static void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len, struct fuse_file_info *fi)
{
	struct tree_caller who = front_caller(req);

	(void)ino;
	answer_err_when_told(req, off < 0 || len <= 0 ? -EINVAL : tree_fallocate(front_file(fi), mode, (uint64_t)off, (uint64_t)len, &who));
}

struct seek {
	struct deferred d;
	struct tree_file *file;
	uint64_t off_bytes;
	int whence;
};

static void run_seek(struct deferred *d)
{
	struct seek *s = (struct seek *)d;
	uint64_t at;
	int err = tree_seek(s->file, s->off_bytes, s->whence, &at);

	if (err)
		answer_err(d->req, err);
	else
		fuse_reply_lseek(d->req, (off_t)at);
}

/* Pages that a shared mapping has changed are known to the kernel alone: it writes them back when they
 * are dropped, and only then is the question answered. */
static void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
	struct seek *s;

	if (off < 0) {
		answer_err(req, -ENXIO);
		return;
	}
	s = deferred_new(req, ino, sizeof(*s), run_seek);
	if (!s)
		return;
	s->file = front_file(fi);
	s->off_bytes = (uint64_t)off;
	s->whence = whence;
	deferred_after_file(&s->d);
}

static void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in, struct fuse_file_info *fi_in,
			       fuse_ino_t ino_out, off_t off_out, struct fuse_file_info *fi_out, size_t len, int flags)
{
	struct tree_caller who = front_caller(req);
	struct answer a = { .reply = reply_write, .err = -EINVAL };

	(void)ino_in;
	(void)ino_out;
	if (!flags)
		a.err = tree_copy(front_file(fi_in), (uint64_t)off_in, front_file(fi_out), (uint64_t)off_out, len, &who,
				  &a.size_bytes);
	answer_when_told(req, &a);
}

void ops_fill_files(struct fuse_lowlevel_ops *ops)
{
	ops->open = op_open;
	ops->create = op_create;
	ops->release = op_release;
	ops->read = op_read;
	ops->write = op_write;
	ops->flush = op_flush;
	ops->fsync = op_fsync;
	ops->fallocate = op_fallocate;
	ops->lseek = op_lseek;
	ops->copy_file_range = op_copy_file_range;
}
