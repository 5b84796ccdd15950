/*
 * The kind of a file: that of its folder; in a scratch store, whose directories have files of all kinds, what its name or its directory
 * says.
 */
#ifndef SPILLFS_TREE_LIVE_KIND_H
#define SPILLFS_TREE_LIVE_KIND_H

#include <stdbool.h>

#include "tree/live/live.h"

/* The kind of what is made in dir under this name (NULL: under none yet), whose type row->mode has. Of a scratch store, of a regular file:
 * as its name says, which ends in .bucket, .column or .layered (an element type may follow: x.column.f64); else as the setting of the
 * directory says; else a bucket. The meta lock is held. */
int kind_of_new_locked(struct inode *dir, const char *name, struct facts *row);
/* May a name in `dir` stand for i, which is of the same tree? */
bool kind_fits(const struct inode *i, const struct inode *dir);
/* Is this the setting that a directory of a scratch store has, and files have not? */
bool kind_is_setting(const struct inode *i, const char *name);
/* -EINVAL: there is no such kind. */
int kind_check(const char *value);

#endif
