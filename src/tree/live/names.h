/*
 * Files without a name, which get one when they are whole.
 */
#ifndef SPILLFS_TREE_NAME_H
#define SPILLFS_TREE_NAME_H

#include "tree/inode.h"

/* A regular file of the directory's class and with its defaults, owned as a new file in it, with one reference. It goes
 * with the last one, or in a crash, if it has no name by then. */
int name_make_nameless(struct tree *t, uint64_t parent, const struct tree_caller *who, mode_t mode, struct inode **out);
/* Gives it a name; in place of the file `old` (0: none), or of another one that `who` owns or that has the same owners and
 * mode as i. -EEXIST: something else has it; -EACCES: old has not got it any more, and who may not write the directory;
 * -ENOENT: the directory is gone. */
int name_publish(struct tree *t, uint64_t parent, const char *name, struct inode *i, uint64_t old,
		 const struct tree_caller *who);

#endif
