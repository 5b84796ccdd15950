/*
 * States in the tree (store/layers/state.h): snapshots/NAME/layers, snapshots/@N/layers, and layers/ of a follower, whose present is the
 * newest state. Read-only.
 *
 * Inode numbers: a file's are made of its own number and of the layer in which it last changed, so that
 * states that share a file share its pages in the kernel; a directory's of its own number and of a root, a
 * name under snapshots/. Root 0 is the follower's present.
 *
 * Directories are looked up in their state each time and hold nothing. Files hold their facts, and while they are open
 * their state.
 */
#ifndef SPILLFS_TREE_PAST_H
#define SPILLFS_TREE_PAST_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#include "tree/inode.h"

struct state;

struct past_inode {
	struct inode base;
	_Atomic uint64_t layer; /* the state in which it was found last */
	uint64_t ino;           /* there */
	char *dtype, *target;
	void *xattrs;
	size_t xattrs_len;
	struct state *state; /* while the array is open */
};

static inline struct past_inode *past_of(const struct inode *i)
{
	assert(i->realm->id == REALM_PAST);
	return (struct past_inode *)(uintptr_t)i;
}

extern const struct realm_ops past_realm;

/* The root directory of the state that `name` of snapshots/ stands for. -ENOENT. */
int past_snapshot(struct tree *t, const char *name, struct tree_attr *out);
/* layers/ of a follower. */
void past_present(struct tree *t, struct tree_attr *out);
/* States are kept ready between commits: those that may be dropped are let go. */
void past_forget_states(struct tree *t);

/* With the tree. A follower's thread looks for new commits. */
int past_open(struct tree *t);
void past_close(struct tree *t);

#endif
