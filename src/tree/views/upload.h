/*
 * Arrays made or replaced by writing a .npy file to views/npy: element type, shape and order come from its header, the
 * elements go to a file without a name, which takes the array's name when all of them are there and the last writer has
 * closed. So readers see the old array or the new one, and what is cut short or not understood changes nothing.
 *
 * Until then an upload of a new name is a file of that name in views/npy, which can be renamed, removed and given attributes.
 * Two kinds of closed uploads wait: whole ones with a temporary name (NAME.npy with something behind it), to be renamed to
 * NAME.npy; and those of which only the header was written, to be opened again and mapped (open_memmap of NumPy).
 * Uploads that still wait when the store is unmounted are lost.
 *
 * An upload belongs to a node (views/inside.h) and lives as long as it. Thread-safe; write, flush and rename block on I/O and
 * wait for commits when space has to be freed.
 */
#ifndef SPILLFS_TREE_UPLOAD_H
#define SPILLFS_TREE_UPLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

struct inode;
struct tree;
struct tree_attr;
struct tree_caller;
struct edit_bytes;
struct upload;

/* Is this the name of an upload: NAME.npy, or a temporary name? */
bool upload_name_is_good(const char *name, bool *temporary_out);

/* Makes a new node of `name` in views/npy an upload, which lookups of that name find. */
int upload_begin(struct inode *node, const char *name, const struct tree_caller *who, mode_t mode);
void upload_free(struct upload *u);

/* Opens a node's upload, one reference of the node more; O_TRUNC begins one that replaces the node's array. -ENOENT: it has none
 * and flags do not begin one; -ESTALE: to be looked up again. *cached_out: pages of it may be cached and mapped. */
int upload_open(struct inode *node, int flags, const struct tree_caller *who, struct upload **out, bool *cached_out);
/* The last close ends an upload that is neither whole nor waits; logged if something is lost. */
void upload_close(struct upload *u);

/* The header in order; elements anywhere. After an error, b holds what is not in. -EINVAL, logged: not a header that an
 * array here can have, another one than before, or elements beyond its shape. */
int upload_write(struct upload *u, struct edit_bytes *b, const struct tree_caller *who);
/* Reads what is written so far, with zeros between. *n_out is short at its end. */
int upload_read(struct upload *u, void *buf, size_t len, uint64_t off, size_t *n_out);
/* The array gets its name if it is whole. -EINVAL if closing and something is missing, which may still come: one of several
 * descriptors was closed. Nothing written is no error. -EACCES, -EEXIST, logged: the name is gone meanwhile, or another's,
 * and the caller of open may not make or replace it. */
int upload_flush(struct upload *u, bool closing);

/* Attributes: what is known of them before there is an array, then the array's. Size: that of what is written; to be set up
 * to that of the whole file, or to 0. */
void upload_stat(struct upload *u, struct tree_attr *out);
int upload_set(struct upload *u, unsigned set, const struct stat *st, const struct tree_caller *who);
/* Does a quota bound what is written? */
bool upload_is_bound(struct upload *u);
uint64_t upload_bytes(struct upload *u);
uint64_t upload_total_bytes(struct upload *u); /* 0: not known yet */
bool upload_is_published(struct upload *u);
/* The number of the array; 0: there is none yet. */
uint64_t upload_array(struct upload *u);

/* Names of uploads, in a directory of arrays. find: the node, with one more reference; -ENOENT. */
int upload_find(struct tree *t, uint64_t dir, const char *name, struct inode **out);
/* The same for an upload that waits to replace an array of this name, begun by the calling thread (NULL: by any). */
int upload_find_waiting(struct tree *t, uint64_t dir, const char *array, const struct tree_caller *who, struct inode **out);
/* The first whose number (from 1 on) is above `after`. */
int upload_next(struct tree *t, uint64_t dir, uint64_t after, uint64_t *number_out, char name[256], uint64_t *ino_out);
/* array: the name to be published under ("": temporary), old: the array that it replaces then. An upload that is whole and that nobody
 * has open is published at once. */
int upload_rename(struct inode *node, uint64_t dir, const char *name, const char *array, uint64_t old);
/* Lookups do not find it from then on; what is written to it is lost. */
void upload_drop(struct inode *node);
/* At the end: what waits is lost, and the log says so. */
void upload_drop_all(struct tree *t);

#endif
