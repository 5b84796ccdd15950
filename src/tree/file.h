/*
 * Open files. Each world has a struct of its own that begins with this one, and a table of what is done to it; file.c does the rest.
 */
#ifndef SPILLFS_TREE_FILE_H
#define SPILLFS_TREE_FILE_H

#include <stdatomic.h>

#include "tree/tree.h"

struct edit_bytes;

/* As the functions of tree.h. */
struct file_ops {
	int (*read)(struct tree_file *f, uint64_t off, size_t len, int flags, struct tree_read *out);
	/* Takes from the beginning of b what is in: after an error, b holds what is not in. NULL: -EBADF */
	int (*write)(struct tree_file *f, struct edit_bytes *b, const struct tree_write_how *how);
	int (*flush)(struct tree_file *f, bool closing); /* NULL: nothing to do */
	int (*allocate)(struct tree_file *f, int mode, uint64_t off, uint64_t len, const struct tree_caller *who); /* NULL: -EBADF */
	int (*seek)(struct tree_file *f, uint64_t off, int whence, uint64_t *out);
	void (*consume)(struct tree_file *f, uint64_t off, size_t len); /* as tree_consume; NULL: none does */
	void (*refresh)(struct tree_file *f); /* before its inode's array is read; NULL: nothing to do */
	void (*release)(struct tree_file *f); /* frees it */
};

struct tree_file {
	struct tree *tree;
	const struct file_ops *ops;
	struct inode *inode; /* with a reference, its array is open; NULL: it has none */
	struct inode *pages; /* of which a failed write of pages is told; NULL: none */
	uint64_t ino;
	int flags;
	atomic_uint nlost_told; /* of nlost of `pages` */
};

/* A zeroed struct of `bytes` that begins with a struct tree_file; NULL: no memory. */
struct tree_file *file_new(struct tree *t, uint64_t ino, int flags, const struct file_ops *ops, size_t bytes);

#endif
