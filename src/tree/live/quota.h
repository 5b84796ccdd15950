/*
 * Quotas: bounds on what the files below a directory may hold (user.spillfs.quota, quota_logical), and all files of the mount (-o size).
 *
 * Each inode belongs to the nearest directory above it that has a quota, and counts there and in all above that one. It counts for
 * what its array holds in the store (array_held), and for its size. Blocks that only a snapshot or an unfinished compaction needs are
 * nobody's. A file without a name goes on counting where it was, until it is deleted. A file with several names counts where the oldest
 * is; names on two sides of a new quota stay as they are, but none is made.
 *
 * Nothing is written that would pass a bound, but that a block of a layered array counts twice for a moment if it is stored while it is
 * written to, and that what fallocate has reserved of such an array counts besides what is written there until that is stored.
 *
 * -EDQUOT is of a directory's quota, -ENOSPC of -o size.
 *
 * Threads: any. Nothing blocks but statements.
 */
#ifndef SPILLFS_TREE_QUOTA_H
#define SPILLFS_TREE_QUOTA_H

#include "tree/live/live.h"

struct quotas;

/* Without a directory; -ENOMEM. size_bytes: of -o size; 0: no bound. */
int quotas_new(uint64_t size_bytes, struct quotas **out);
void quotas_free(struct quotas *q);
/* Reads the quotas of a tree's store, and what is used; no inode is known yet. */
int quotas_load(struct tree *t);

/* The inode is in memory now, or is not any more. enter: its facts are the row; the meta lock is held. */
int quota_enter_locked(struct inode *i);
void quota_leave(struct inode *i);
/* It was made in this directory, without a name. */
void quota_enter_dir_locked(struct inode *i, struct inode *dir);

/* Is any bound in effect for the inode? */
bool quota_applies(struct inode *i);
/* Is any bound in effect in the tree? */
bool quota_bounds(struct tree *t);
/* Takes so many bytes more for an inode, whose data is locked exclusively, before they are written. */
int quota_take(struct inode *i, uint64_t held_bytes, uint64_t size_bytes);
/* The inode counts for what its array holds now. Its data is locked. */
void quota_settle(struct inode *i);
/* The same of an array that was just opened, and is about to be the inode's. */
void quota_settle_opened(struct inode *i, struct array *a);
/* Is something counted as more than it will be after a commit? */
bool quota_may_shrink(struct tree *t);

/* May a name in dir stand for i? -EXDEV: it is a directory, or has other names, and another quota; -EDQUOT, -ENOSPC. move: it counts
 * there from now on. The meta lock is held. */
int quota_link_locked(struct inode *i, struct inode *dir);
int quota_move_locked(struct inode *i, struct inode *dir);
/* It counts where its names are, whatever the bounds are: a name has gone, or a move could not be made. The meta lock is held. */
void quota_rehome_locked(struct inode *i);

/* The attributes. changed: the row of one was written or removed; the meta lock is held. */
bool quota_is_attribute(const char *name);
int quota_changed_locked(struct inode *dir);

/* The shelf of dir (shelf.h), and all below it, counts where dir's entries do. Before the shelf is in memory. */
int quota_stand_in(struct inode *dir, uint64_t shelf);

/* For statfs of ino: cuts the figures to the bound of which least is left. */
void quota_space(struct tree *t, uint64_t ino, uint64_t *total_bytes, uint64_t *free_bytes, uint64_t *avail_bytes);

/* The quotas of a tree, by number of the directory; 0 is of -o size. A limit of UINT64_MAX is none. */
int quota_walk(struct tree *t, int (*each)(void *ctx, uint64_t dir, const struct quota_amount *limit, const struct quota_amount *used), void *ctx);

#endif
