/*
 * Reading the array of an open file: lent, or copied. The array is open, and i has a reference and what its world does before.
 */
#ifndef SPILLFS_TREE_READING_H
#define SPILLFS_TREE_READING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tree/tree.h"

/* As io_pread_as. flags: the handle's of this moment, for fcntl changes O_DIRECT; cached: the bytes go through the kernel's cache. */
unsigned reading_how(int flags, bool cached);
/* As tree_read_begin. */
int reading_begin(struct inode *i, uint64_t off, size_t len, unsigned how, struct tree_read *out);
/* Lends n bytes that were read into buf, of len; after an error frees it. */
int reading_lend(int err, void *buf, size_t len, size_t n, struct tree_read *out);
int reading_copy(struct inode *i, void *buf, size_t len, uint64_t off, unsigned how, size_t *n_out);
/* whence: SEEK_DATA or SEEK_HOLE; of an array, and of bytes without holes. */
int reading_seek(struct inode *i, uint64_t off, int whence, uint64_t *out);
int reading_seek_flat(uint64_t size_bytes, uint64_t off, int whence, uint64_t *out);

#endif
