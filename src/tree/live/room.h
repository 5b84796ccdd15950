/*
 * Space for what a change needs: waiting for the commit that frees it. No lock may be held.
 */
#ifndef SPILLFS_TREE_ROOM_H
#define SPILLFS_TREE_ROOM_H

#include "tree/live/live.h"

/* The bytes that a dirty inode owes to the commit, and that a change of names or attributes needs, with room for pages it splits. */
#define ROOM_INODE_BYTES 4608u
#define ROOM_NAME_BYTES 65536u
/* Waits for a commit that frees space, if `bytes` are not there. -ENOSPC: they are not there afterwards, either. */
int room_need(struct tree *t, uint64_t bytes);
/* The state of an operation's tries to get room; zeros at first. The tree beside shares the disk, and bounds. */
struct room_wait {
	struct room_wait_in {
		struct leaving_wait leaving;
		unsigned ncommits; /* after which nothing was leaving */
	} own, beside;
};

/* The same for a change that has failed with err. 0: it may be tried again. */
int room_wait(struct tree *t, int err, struct room_wait *w);
/* Before the facts of an inode change. Those of layers and columns are noted for the log with all attributes: where these are
 * more than a few bytes, as room_need; else as room_free. */
int room_note(struct inode *i);
/* Looks up how many bytes room_note is about, so that marking the inode dirty owes them. */
void room_measure(struct inode *i);
/* Before rows are deleted or changed, which always works: waits for a commit if that has to write a large part of the space that is
 * left. */
void room_free(struct tree *t);
/* Waits until what was deleted is given back, a few seconds at most, for who asks how much there is. False: there was nothing to wait for. */
bool room_settle(struct tree *t);

#endif
