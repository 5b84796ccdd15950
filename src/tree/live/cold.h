/*
 * Files of scratch/ with user.spillfs.compress=cold: what they are counted for. Their bytes go to the disk, and become fewer, when others need
 * the memory, without a change of the file: so they are counted anew when somebody looks at the file, and by each commit.
 *
 * live_inode.cold: is such a file's data, or was it, written so? -1: the array was not opened yet.
 *
 * Threads: any.
 */
#ifndef SPILLFS_TREE_LIVE_COLD_H
#define SPILLFS_TREE_LIVE_COLD_H

#include "tree/live/live.h"

/* Its settings are read. */
void cold_know(struct inode *i, bool cold);
/* May its count change without a change of it? One whose array was not opened yet may be cold, once any was. */
bool cold_may_change(const struct inode *i);
/* Waits for who writes to the file. */
void cold_recount(struct inode *i);
/* All that are known, if anything has changed. Without memory it is left to the next commit. Not with the gate held. */
void cold_recount_all(struct tree *t);

#endif
