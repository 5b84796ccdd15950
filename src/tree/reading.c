/*
 * Leases of an array.
 *
 * Invariant: leases are lent and returned under the inode's shared lock.
 */
#include "tree/reading.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "array/array.h"
#include "io/io.h"
#include "tree/inode.h"
#include "util/buf.h"
#include "util/stats.h"

unsigned reading_how(int flags, bool cached)
{
	return flags & O_DIRECT ? IO_DIRECT : cached ? IO_KEPT : 0;
}

int reading_lend(int err, void *buf, size_t len, size_t n, struct tree_read *out)
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

/* So many small pieces that copying is cheaper than describing them. */
static int read_copied(struct array *a, uint64_t off, size_t len, unsigned how, struct tree_read *out)
{
	void *buf = buf_alloc(len);
	size_t n = 0;
	int err = buf ? array_read_as(a, buf, len, off, how, &n) : -ENOMEM;

	return reading_lend(err, buf, len, n, out);
}

static void return_parts(struct tree_read *r)
{
	while (r->n)
		lease_return(&r->part[--r->n]);
}

/* Borrows until len bytes are there, or the array ends. */
static int borrow(struct array *a, uint64_t off, size_t len, unsigned how, struct tree_read *out, size_t *done_out)
{
	size_t done = 0;

	while (done < len) {
		struct lease l;
		int err;

		if (out->n == TREE_READ_PARTS) {
			return_parts(out);
			err = read_copied(a, off, len, how, out);
			*done_out = err ? 0 : out->part[0].len_bytes;
			return err;
		}
		err = array_borrow(a, off + done, len - done, how, &l);
		if (err)
			return err;
		if (!l.len_bytes) {
			lease_return(&l);
			break;
		}
		out->part[out->n++] = l;
		done += l.len_bytes;
	}
	*done_out = done;
	return 0;
}

int reading_begin(struct inode *i, uint64_t off, size_t len, unsigned how, struct tree_read *out)
{
	size_t done;
	const struct array_ops *ops;
	int err;

	out->inode = i;
	out->how = how;
	inode_ref(i);
	rwlock_shared(&i->rw);
	err = borrow(i->array, off, len, how, out, &done);
	if (err) {
		tree_read_end(out);
		return err;
	}
	ops = atomic_load(&i->array)->ops;
	stats_add(ops->counters.reads, 1);
	stats_add(ops->counters.read_bytes, done);
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

int reading_copy(struct inode *i, void *buf, size_t len, uint64_t off, unsigned how, size_t *n_out)
{
	int err;

	rwlock_shared(&i->rw);
	err = array_read_as(i->array, buf, len, off, how, n_out);
	rwlock_release(&i->rw);
	return err;
}

int reading_seek(struct inode *i, uint64_t off, int whence, uint64_t *out)
{
	int err;

	rwlock_shared(&i->rw);
	err = array_seek(i->array, off, whence == SEEK_HOLE, out);
	rwlock_release(&i->rw);
	return err;
}

int reading_seek_flat(uint64_t size_bytes, uint64_t off, int whence, uint64_t *out)
{
	if (off >= size_bytes)
		return -ENXIO;
	*out = whence == SEEK_DATA ? off : size_bytes;
	return 0;
}
