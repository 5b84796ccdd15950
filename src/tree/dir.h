/*
 * Open directories, and what a listing of one is made of.
 */
#ifndef SPILLFS_TREE_DIR_H
#define SPILLFS_TREE_DIR_H

#include <stdatomic.h>

#include "tree/tree.h"

struct state;

struct tree_dir {
	struct tree_dir *next, **link; /* in tree.dirs */
	struct state *state; /* of a follower, whose cookies are positions in a state: that of the walk's start; RANK_ICACHE */
	_Atomic uint64_t last; /* of the present: the highest cookie at the walk's start; 0: not known yet */
};

/* A place for entries: v[n] is the next one, of at most max. */
struct tree_listing {
	struct tree *tree;
	struct tree_dir *dir;
	bool count; /* each inode gets a lookup, and attributes */
	struct tree_dirent *v;
	size_t n, max;
};

/* One more entry, without attributes; NULL: there is no room for it. */
struct tree_dirent *dir_add(struct tree_listing *l, uint64_t cookie, const char *name);
/* Takes back the lookups of the entries from v[first] on, and the entries. */
void dir_uncount(struct tree_listing *l, size_t first);
/* The cookie at which a walk of the directory ends. Entries that are added after its start have higher ones: otherwise it might
 * never end. The meta lock is held. */
int dir_last_locked(struct tree *t, struct tree_dir *d, uint64_t *out);
/* At the end: the kernel does not wait for the release of these. */
void dir_release_all(struct tree *t);

#endif
