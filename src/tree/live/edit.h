/*
 * Changing the data of a file: one way for write, truncate, punch and allocate.
 */
#ifndef SPILLFS_TREE_EDIT_H
#define SPILLFS_TREE_EDIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes to be written, those that are not in yet. how: as io_pwrite_as. */
struct edit_bytes {
	const char *buf;
	size_t len;
	uint64_t off;
	unsigned how;
};

struct array;
struct inode;
struct runs_writer;

/* Runs fn with the array of i, locked exclusively, and marks the inode dirty first. Where fn needs space
 * or a cut to be committed (-ENOSPC, -EAGAIN) a commit is waited for and fn runs again: it must be
 * repeatable. -EROFS after a failed commit. */
int edit_array(struct inode *i, int (*fn)(struct array *a, void *ctx), void *ctx);
/* w: the open file that grows it, for the runs of buckets (array/runs.h); NULL: none does. */
int edit_resize(struct inode *i, uint64_t size_bytes, struct runs_writer *w);
/* Takes from the beginning of b what is in: after an error, b holds what is not in. */
int edit_write(struct inode *i, struct edit_bytes *b, struct runs_writer *w);
/* The same, but -EFBIG behind the end. */
int edit_write_inside(struct inode *i, struct edit_bytes *b);
/* w closes a descriptor: what it has appended to a bucket ends. unsure: the kernel does not say whose writes are whose. */
int edit_end_run(struct inode *i, struct runs_writer *w, bool unsure);
/* mode as fallocate(2). *punched_out, with an error, too: bytes may be zeros that were not. -EOPNOTSUPP. */
int edit_allocate(struct inode *i, int mode, uint64_t off, uint64_t len, struct runs_writer *w, bool *punched_out);
/* w is gone. */
void edit_leave(struct inode *i, const struct runs_writer *w);

static inline void edit_bytes_take(struct edit_bytes *b, size_t n)
{
	b->buf += n;
	b->len -= n;
	b->off += n;
}

#endif
