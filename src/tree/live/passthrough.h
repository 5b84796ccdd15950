/*
 * Columns that the kernel reads, writes and maps by itself (passthrough): which opens, and how the tree keeps up with what it
 * is not told.
 *
 * Rules of the kernel, for all opens of an inode at one time: either all pass through, with one backing, or none does; open(2) fails
 * with EIO else. An open can pass through for maps alone and send its reads and writes here.
 */
#ifndef SPILLFS_TREE_PASSTHROUGH_H
#define SPILLFS_TREE_PASSTHROUGH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

struct array;
struct inode;
struct tree;

/* One open. */
struct through_open {
	uint32_t backing; /* 0: it does not pass through, and the rest means nothing */
	bool told;        /* its reads and writes come here: only maps pass through */
	bool blind;       /* it writes, and nobody here is told */
	bool unsettles;   /* attributes change without a request: maps */
};

/* Before a file is opened: waits for the commit that frees space, where the kernel would find none. */
void through_make_room(struct inode *i, int flags);
/* With rw held exclusively. told: its reads and writes have to come here. -EAGAIN: a commit is to be waited for first. Other errors
 * are final: the file is mapped by somebody in this mode, and cannot be opened in it. */
int through_open(struct inode *i, struct array *a, int flags, bool told, struct through_open *out);
/* Once for each open that succeeded, whatever its mode, when the kernel has released it. No lock may be held, as for the rest. */
void through_close(struct inode *i, const struct through_open *o);
/* The inode catches up with what the kernel has done; at once if it does nothing. _locked: rw is held exclusively. */
void through_refresh(struct inode *i);
void through_refresh_locked(struct inode *i);
void through_refresh_all(struct tree *t);
/* The last changes of the file were made here: rw is held exclusively. */
void through_absorb_locked(struct inode *i);
/* Size and times as the file has them. attr is held. */
void through_stat_locked(struct inode *i, struct stat *st);
/* A truncation is to be answered: readers must not find more than is left. */
int through_cut(struct inode *i);
/* Before the file gets privileges: the next change, however soon, takes them away again. */
void through_vouch(struct inode *i);
/* At the end. */
void through_end_all(struct tree *t);
/* For .spillfs/config. */
const char *through_mode(struct tree *t, const char **why_out);

#endif
