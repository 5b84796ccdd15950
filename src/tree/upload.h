/*
 * Arrays made or replaced by writing a .npy file to views/npy: element type, shape and order come from its header, the
 * elements go to a file without a name, which takes the array's name when all of them are there. So readers see the old
 * array or the new one, and what is cut short or not understood changes nothing.
 *
 * Thread-safe; write and flush block on I/O and wait for commits when space has to be freed.
 */
#ifndef SPILLFS_TREE_UPLOAD_H
#define SPILLFS_TREE_UPLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tree;
struct tree_caller;
struct tree_named;
struct upload;

/* ino: a file of views/npy, or one made by views_make. -EOPNOTSUPP: flags do not say that the file begins anew (O_TRUNC);
 * -EROFS: another view; -ESTALE: to be looked up again. */
int upload_open(struct tree *t, uint64_t ino, int flags, const struct tree_caller *who, struct upload **out);
/* The header in order; elements anywhere. -EINVAL, logged: not a header that an array here can have, another one than
 * before, or elements beyond its shape. */
int upload_write(struct upload *u, const void *buf, size_t len, uint64_t off, unsigned how);
/* The array gets its name, and *named is that, if it is whole. -EINVAL if closing and something is missing, which may still
 * come: one of several descriptors was closed. Nothing written is no error. -EACCES, -EEXIST, logged: the name is gone meanwhile, or
 * another's, and the caller of open may not make or replace it. */
int upload_flush(struct upload *u, bool closing, struct tree_named *named);
/* Logged if it was not whole. */
void upload_close(struct upload *u);

#endif
