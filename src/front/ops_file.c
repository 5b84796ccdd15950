/*
 * FUSE operations on open files: decode, call tree/, answer.
 */
#include "front/priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#include "front/notify.h"
#include "front/passthrough.h"
#include "front/payload.h"
#include "util/buf.h"
#include "util/log.h"

static struct tree_file *file_of(struct fuse_file_info *fi)
{
	return (struct tree_file *)(uintptr_t)fi->fh;
}

static void set_opened(struct fuse_file_info *fi, struct tree_file *file, const struct tree_file_info *info)
{
	fi->fh = (uintptr_t)file;
	fi->direct_io = info->direct;
	fi->keep_cache = info->keep_cache;
	/* Closing it has nothing to say to us; of others, it writes back what was mapped. */
	fi->noflush = (fi->flags & O_ACCMODE) == O_RDONLY;
#ifdef HAVE_FUSE_PARALLEL_DIRECT_WRITES
	fi->parallel_direct_writes = info->direct;
#endif
}

/* An open that waits until the kernel has written back what others have changed, or its answer, until the kernel has
 * forgotten the attributes that it was told. */
struct pending_open {
	fuse_req_t req;
	fuse_ino_t ino;
	struct tree_file *file;
	struct fuse_file_info fi;
	uint32_t backing;
};

static void answer_open(void *ctx)
{
	struct pending_open *p = ctx;

	if (passthrough_reply_open(p->req, &p->fi, p->backing) == -ENOENT)
		tree_file_release(p->file);
	free(p);
}

/* With its writeback cache, the kernel holds page writes back while it waits for an open that cuts the file: it must not
 * wait for the notify thread, which may be waiting for such a write. It forgets the file's attributes by itself. */
static bool cuts(const struct front *f, const struct fuse_file_info *fi)
{
	return f->config.writeback && (fi->flags & O_TRUNC);
}

static void open_written(void *ctx)
{
	struct pending_open *p = ctx;
	struct front *f = front_of(p->req);
	struct tree_caller who = front_caller(p->req);
	/* With the writeback cache the kernel keeps the times, and knows only of writes that go through it. */
	struct tree_file_info info = { .direct = !f->config.writeback };
	int err;

	if (cuts(f, &p->fi))
		front_tells_now();
	err = tree_file_open(f->tree, p->ino, p->fi.flags, &who, &p->file, &info);
	if (info.new_attr)
		front_tell_attr(f, p->ino);
	if (cuts(f, &p->fi))
		front_take_told_now(f);
	if (err) {
		front_reply_err(p->req, err);
		free(p);
		return;
	}
	set_opened(&p->fi, p->file, &info);
	p->backing = info.backing;
	if (front_take_told())
		notify_then(f->notify, answer_open, p);
	else
		answer_open(p);
}

/* Pages of the kernel's that belong to what is opened. Those of a view the lookup has had written back that comes before each open,
 * with the writeback cache; more of them would change its size again. */
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
	struct pending_open *p = malloc(sizeof(*p));
	struct tree_inos inos;
	int err = p ? unwritten(f, ino, fi, &inos) : -ENOMEM;

	if (err) {
		free(p);
		front_reply_err(req, err);
		return;
	}
	*p = (struct pending_open){ .req = req, .ino = ino, .fi = *fi };
	if (cuts(f, fi)) {
		front_write_back(f, &inos, NULL, NULL);
		open_written(p);
	} else {
		front_write_back(f, &inos, open_written, p);
	}
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct front *f = front_of(req);
	struct tree_caller who = front_caller(req);
	struct fuse_entry_param e;
	struct tree_file_info info = { .direct = !f->config.writeback };
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
		front_reply_err(req, err);
		return;
	}
	front_fill_entry(f, &a, &e);
	set_opened(fi, file, &info);
	if (passthrough_reply_create(req, &e, fi, info.backing) == -ENOENT) {
		tree_file_release(file);
		tree_forget(f->tree, a.st.st_ino, 1);
	}
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	tree_file_release(file_of(fi));
	front_reply_err(req, 0);
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

/* fuse_reply_data would copy what is more than one piece of memory, through memory that is new each time. */
static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct iovec v[TREE_READ_PARTS];
	struct tree_read r;
	size_t room;
	char *buf;
	int n, err = tree_read_begin(file_of(fi), (uint64_t)off, size, fi->flags, &r);

	if (err) {
		front_reply_err(req, err);
		return;
	}
	room = fd_bytes(&r);
	buf = room ? buf_alloc(room) : NULL;
	err = room && !buf ? -ENOMEM : gather(&r, buf, v, &n);
	if (err == -EIO)
		log_error("inode %llu at %llu: a file of the store cannot be read, or ends too early", (unsigned long long)ino,
			  (unsigned long long)off);
	if (err)
		front_reply_err(req, err);
	else
		fuse_reply_iov(req, v, n);
	buf_free(buf, room);
	tree_read_end(&r);
}

/* A write whose answer waits until the kernel has forgotten what it changed. */
struct pending_write {
	fuse_req_t req;
	size_t size;
};

static void answer_write(void *ctx)
{
	struct pending_write *p = ctx;

	fuse_reply_write(p->req, p->size);
	free(p);
}

static void reply_write_when_told(fuse_req_t req, size_t size)
{
	struct pending_write *p = front_take_told() ? malloc(sizeof(*p)) : NULL;

	if (!p) {
		fuse_reply_write(req, size);
		return;
	}
	*p = (struct pending_write){ req, size };
	notify_then(front_of(req)->notify, answer_write, p);
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
	int err;

	(void)ino;
	/* Through the cache, the kernel may hold pages of this file, which what is queued waits for. */
	if (!how.direct)
		front_tells_now();
	err = tree_write(file_of(fi), payload_find(buf), size, (uint64_t)off, &how, &size);
	if (!how.direct)
		front_take_told_now(f);
	/* The kernel syncs after a write through its cache, not after a direct one. */
	if (!err && (fi->flags & O_DSYNC))
		err = tree_sync(f->tree);
	if (err)
		front_reply_err_when_told(req, err);
	else
		reply_write_when_told(req, size);
}

static void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	front_reply_err_when_told(req, tree_flush(file_of(fi), true));
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct front *f = front_of(req);
	int err = tree_flush(file_of(fi), false);

	(void)datasync;
	if (!err)
		err = tree_sync(f->tree);
	/* With its writeback cache the kernel keeps a count of blocks from before what it has just written. */
	if (f->config.writeback && tree_attr_kept(f->tree, ino))
		front_tell_attr(f, ino);
	front_reply_err_when_told(req, err);
}

static void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len, struct fuse_file_info *fi)
{
	struct tree_caller who = front_caller(req);

	(void)ino;
	front_reply_err_when_told(req, off < 0 || len <= 0 ? -EINVAL : tree_fallocate(file_of(fi), mode, (uint64_t)off, (uint64_t)len, &who));
}

struct pending_seek {
	fuse_req_t req;
	struct tree_file *file;
	uint64_t off;
	int whence;
};

static void answer_seek(void *ctx)
{
	struct pending_seek *p = ctx;
	uint64_t at;
	int err = tree_seek(p->file, p->off, p->whence, &at);

	if (err)
		front_reply_err(p->req, err);
	else
		fuse_reply_lseek(p->req, (off_t)at);
	free(p);
}

/* Pages that a shared mapping has changed are known to the kernel alone: it writes them back when they
 * are dropped, and only then is the question answered. */
static void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
	struct pending_seek *p = malloc(sizeof(*p));

	if (!p || off < 0) {
		free(p);
		front_reply_err(req, off < 0 ? -ENXIO : -ENOMEM);
		return;
	}
	*p = (struct pending_seek){ req, file_of(fi), (uint64_t)off, whence };
	if (tree_may_have_dirty_pages(front_of(req)->tree, ino))
		notify_drop_pages(front_of(req)->notify, ino, 0, 0, answer_seek, p);
	else
		answer_seek(p);
}

static void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in, struct fuse_file_info *fi_in,
			       fuse_ino_t ino_out, off_t off_out, struct fuse_file_info *fi_out, size_t len, int flags)
{
	struct tree_caller who = front_caller(req);
	size_t n;
	int err = flags ? -EINVAL : tree_copy(file_of(fi_in), (uint64_t)off_in, file_of(fi_out), (uint64_t)off_out, len, &who, &n);

	(void)ino_in;
	(void)ino_out;
	if (err)
		front_reply_err_when_told(req, err);
	else
		reply_write_when_told(req, n);
}

void front_ops_file(struct fuse_lowlevel_ops *ops)
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
