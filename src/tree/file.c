/*
 * Open files, of whichever world: what is the same for all.
 *
 * A failed write back of pages: the kernel reports it once for all open descriptors of the file, to the first that is closed. If that
 * is a reader's, the writer's close succeeds. So each file that is open for writing reports it here, unless the kernel did.
 */
#include "tree/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "array/array.h"
#include "array/layered/layered.h"
#include "array/summaries.h"
#include "array/survey.h"
#include "spillfs.h"
#include "tree/inode.h"
#include "tree/live/edit.h"
#include "tree/live/live.h"
#include "tree/reading.h"
#include "tree/realm.h"
#include "util/buf.h"
#include "util/err.h"

#define COPY_BYTES (1u << 20)

struct tree_file *file_new(struct tree *t, uint64_t ino, int flags, const struct file_ops *ops, size_t bytes)
{
	struct tree_file *f = calloc(1, bytes);

	if (!f)
		return NULL;
	f->tree = t;
	f->ops = ops;
	f->ino = ino;
	f->flags = flags;
	return f;
}

static void note_lost(struct tree_file *f, int err)
{
	if (!f->pages)
		return;
	atomic_store(&f->pages->lost_err, err);
	atomic_fetch_add(&f->pages->nlost, 1);
}

/* To be told at a close. An fsync comes here only if the kernel has told what there was. */
static int tell_lost(struct tree_file *f, bool closing)
{
	unsigned n = f->pages ? atomic_load(&f->pages->nlost) : 0;

	if (atomic_exchange(&f->nlost_told, n) == n || !closing || (f->flags & O_ACCMODE) == O_RDONLY)
		return 0;
	return atomic_load(&f->pages->lost_err);
}

int tree_file_open(struct tree *t, uint64_t ino, int flags, const struct tree_caller *who, struct tree_file **out,
		   struct tree_file_info *info)
{
	struct tree_file *f;
	int err;

	info->keep_cache = info->new_attr = false;
	info->backing = 0;
	err = realm_of(t, ino)->open(t, ino, flags, who, &f, info);
	if (err)
		return err;
	if (f->pages)
		atomic_store(&f->nlost_told, atomic_load(&f->pages->nlost));
	*out = f;
	return 0;
}

void tree_file_release(struct tree_file *f)
{
	struct tree *t = f->tree;

	f->ops->release(f);
	live_shrink(t);
}

void tree_consume(struct tree_file *f, uint64_t off, size_t len)
{
	if (f->ops->consume)
		f->ops->consume(f, off, len);
}

int tree_read_begin(struct tree_file *f, uint64_t off, size_t len, int flags, struct tree_read *out)
{
	out->inode = NULL;
	out->how = 0;
	out->n = 0;
	out->buf = NULL;
	out->buf_bytes = 0;
	return f->ops->read(f, off, len, flags, out);
}

int tree_write(struct tree_file *f, const void *buf, size_t len, uint64_t off, const struct tree_write_how *how, size_t *n_out)
{
	struct edit_bytes b = { buf, len, off, reading_how(how->flags, !how->direct) };
	int err = f->ops->write ? f->ops->write(f, &b, how) : -EBADF;

	if (err && !how->who)
		note_lost(f, err);
	if (err && (how->whole || b.len == len || !err_is_full(err)))
		return err;
	*n_out = len - b.len;
	return 0;
}

int tree_flush(struct tree_file *f, bool closing)
{
	int lost = tell_lost(f, closing), err = f->ops->flush ? f->ops->flush(f, closing) : 0;

	return err ? err : lost;
}

int tree_fallocate(struct tree_file *f, int mode, uint64_t off, uint64_t len, const struct tree_caller *who)
{
	if (!f->ops->allocate)
		return -EBADF;
	if (!len)
		return -EINVAL;
	if (off > ARRAY_SIZE_MAX || len > ARRAY_SIZE_MAX - off)
		return -EFBIG;
	return f->ops->allocate(f, mode, off, len, who);
}

int tree_seek(struct tree_file *f, uint64_t off, int whence, uint64_t *out)
{
	return whence == SEEK_DATA || whence == SEEK_HOLE ? f->ops->seek(f, off, whence, out) : -EINVAL;
}

/* Writers get in between the stretches. */
static int look_at_stretches(struct inode *i, uint64_t first, struct spillfs_blocks *out)
{
	struct survey_stretch s;
	int err = 0;

	*out = (struct spillfs_blocks){ .first = first, .size_bytes = inode_size(i), .block_bytes = SUMMARIES_STRETCH, .plain = 1 };
	while (!err && out->n < SPILLFS_BLOCKS_MAX) {
		rwlock_shared(&i->rw);
		err = survey_next(i->array, out->first, &s);
		rwlock_release(&i->rw);
		if (err)
			break;
		out->v[out->n++] = (struct spillfs_block){
			.block = s.number, .raw_len = s.len_bytes, .stat_type = s.sum.type, .nan_count = s.sum.nan_count,
			.zero_count = s.sum.zero_count, .min_bits = s.sum.min_bits, .max_bits = s.sum.max_bits,
		};
		out->first = s.number + 1;
	}
	return err == -ENOENT ? 0 : err;
}

int tree_blocks(struct tree_file *f, uint64_t first, struct spillfs_blocks *out)
{
	struct inode *i = f->inode;

	if (!i || i->facts.kind < ARRAY_BUCKET || i->facts.kind > ARRAY_LAYERED)
		return -ENOTTY;
	if ((f->flags & O_ACCMODE) == O_WRONLY)
		return -EBADF; /* summaries tell of the elements */
	if (f->ops->refresh)
		f->ops->refresh(f);
	if (i->facts.kind != ARRAY_LAYERED)
		return look_at_stretches(i, first, out);
	rwlock_shared(&i->rw);
	layered_blocks(i->array, first, out);
	rwlock_release(&i->rw);
	return 0;
}

int tree_file_may_mark(const struct tree_file *f)
{
	return (f->flags & O_ACCMODE) == O_RDONLY ? -EBADF : 0;
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
	if (in->ops->refresh)
		in->ops->refresh(in);
	while (done < len && !err) {
		size_t n = len - done < COPY_BYTES ? len - done : COPY_BYTES;

		err = reading_copy(in->inode, buf, n, off_in + done, reading_how(in->flags, false), &n);
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
