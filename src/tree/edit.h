/*
 * Changing the data of a file: one way for write, truncate, punch and allocate.
 */
#ifndef SPILLFS_TREE_EDIT_H
#define SPILLFS_TREE_EDIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct array;
struct inode;

/* Runs fn with the array of i, locked exclusively, and marks the inode dirty first. Where fn needs space
 * or a cut to be committed (-ENOSPC, -EAGAIN) a commit is waited for and fn runs again: it must be
 * repeatable. -EROFS after a failed commit. */
int edit_array(struct inode *i, int (*fn)(struct array *a, void *ctx), void *ctx);
int edit_resize(struct inode *i, uint64_t size_bytes);
/* All len bytes; how: as io_pwrite_as; *grew: so did the array, whatever the answer is. */
int edit_write(struct inode *i, const void *buf, size_t len, uint64_t off, unsigned how, bool *grew);
/* Nobody goes on writing at its end: array_end_growth. */
int edit_end_growth(struct inode *i);

#endif
