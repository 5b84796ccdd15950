/*
 * Consuming readers: where user.spillfs.consume is 1, what a handle has read in order from the start of the file is freed behind it.
 *
 * Such a handle is opened O_RDONLY by somebody who may write the file. The kernel does not cache for it, since what it reads ahead for
 * a program would count as read. Nor do the pages count that a map of it reads: the kernel drops and reads them again. Who goes back reads zeros.
 */
#ifndef SPILLFS_TREE_CONSUME_H
#define SPILLFS_TREE_CONSUME_H

#include <stdbool.h>
#include <stdint.h>

#include "util/lock.h"

struct inode;
struct tree_caller;

struct consume {
	bool on;
	struct lock lock;     /* RANK_CONSUME */
	bool ended;           /* it has jumped */
	uint64_t freed, seen; /* all before is freed; was asked for */
};

/* Around the life of a handle that is opened with these flags; c is zeros at first. */
void consume_begin(struct consume *c, struct inode *i, int flags, const struct tree_caller *who);
void consume_end(struct consume *c, struct inode *i);
/* Before a read; no lock of the inode is held. */
void consume_read(struct consume *c, struct inode *i, uint64_t off_bytes, uint64_t len);

#endif
