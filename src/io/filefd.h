/*
 * The descriptors of a directory's open files: shared by io/file.c (files and names) and io/filefd.c (which
 * of them are open). Private to io/.
 */
#ifndef SPILLFS_IO_FILEFD_H
#define SPILLFS_IO_FILEFD_H

#include <stdatomic.h>
#include <sys/types.h>

#include "io/ballast.h"
#include "io/behind.h"
#include "io/direct.h"
#include "io/io.h"
#include "util/lock.h"

#define FILE_HASH_SIZE 1024u

struct file_link {
	struct file_link *prev, *next;
};

struct file_dir {
	struct io_dir base;
	int dirfd;
	enum io_backing backing;
	enum io_lease_wait lease_wait;
	struct direct_dir direct;
	struct lease_pool *own_leases; /* NULL: they are somebody else's */
	struct ballast ballast;
	const char *why;
	struct lock names;    /* RANK_FD: held by open, close, unlink and rename over their system calls */
	struct lock table;    /* RANK_FD, after names: all below, and the files' fields */
	struct file_link lru; /* next is the most recent */
	unsigned idle_fds, budget;
	struct file *hash[FILE_HASH_SIZE]; /* by name, all open files */
};

struct file {
	struct io base;
	struct file_link link; /* in the LRU when next is not NULL */
	struct file_dir *dir;
	struct file *hash_next;
	char *name;
	dev_t dev;
	ino_t ino;
	int fd, dfd; /* -1: closed */
	struct direct_end end; /* if has_end */
	unsigned kind;
	unsigned users;
	int close_err; /* of a close by the LRU, for the next sync */
	bool rdonly, nameless, no_direct;
	bool has_end; /* direct transfers were to be had when it was opened */
	bool pinned;  /* the descriptor stays open: one of `users` */
	atomic_bool shared; /* io_share */
	bool held; /* by the name operation under way */
	atomic_bool dirty;
	struct behind behind;
};

/* Puts a file whose fd is open under its name, idle unless it has a user; the caller holds `names`. */
void fd_register(struct file *f);
/* Takes it out; its descriptors stay for fd_close. The caller holds `names`. */
void fd_unregister(struct file *f);
void fd_close(struct file *f);
void fd_set_budget(struct file_dir *d, unsigned n);

/* Keeps the descriptor open until fd_put. */
int fd_get(struct file *f, int *fd);
void fd_put(struct file *f);
/* False for a file whose name is gone: it ends with its last close. */
bool fd_has_name(struct file *f);
/* As io_has_writers. Closes the descriptors for the question: they would be the answer. */
bool fd_has_writers(struct file *f);
/* The error of an earlier close by the LRU, once. */
int fd_take_close_err(struct file *f);
/* The same for one transfer, with the direct descriptor where the transfer is to use it. */
int fd_get_io(struct file *f, uint64_t off, size_t n, unsigned how, bool writes, struct direct_io *x);
void fd_put_io(struct file *f, const struct direct_io *x);

/* Direct writes may make the file longer than it is said to be. */
static inline bool fd_tracks_end(const struct file *f)
{
	return f->has_end && !atomic_load(&f->shared);
}

/* beneath_open that closes idle files when the process has no descriptors left. */
int fd_open(struct file_dir *d, const char *name, int oflags, int *out);

/* beneath_parent in the same way. */
int fd_parent(struct file_dir *d, const char *name, int *parent, const char **last);

/* The fate of a file's name: it stays, is another file's or nobody's, or has become `to`. */
enum name_fate { NAME_STAYS, NAME_GONE, NAME_MOVES };
/* Takes the open files of a name into use around a name operation. The caller holds `names`, and calls
 * fd_release_name also after a failure. */
int fd_hold_name(struct file_dir *d, const char *name);
void fd_release_name(struct file_dir *d, const char *name, enum name_fate fate, const char *to);

#endif
