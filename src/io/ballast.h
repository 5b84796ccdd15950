/*
 * Space of a directory's file system that is held back from everybody else: an allocated file without a name, which shrinks
 * when something here finds no space. Private to io/; io_hold_back and io_yields are for the rest.
 */
#ifndef SPILLFS_IO_BALLAST_H
#define SPILLFS_IO_BALLAST_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "util/lock.h"

struct ballast {
	struct lock lock;      /* RANK_MEM */
	int fd;                /* -1: never needed */
	_Atomic uint64_t bytes;
};

void ballast_init(struct ballast *b);
void ballast_fini(struct ballast *b);
/* Makes it so large at least, and at most. -ENOSPC: it is as large as before; -EOPNOTSUPP. */
int ballast_set(struct ballast *b, int dirfd, uint64_t least_bytes, uint64_t most_bytes);
/* err is a want of space, and some was held back: there is room for need_bytes more (or what there was), to be tried again. */
bool ballast_yield(struct ballast *b, int err, uint64_t need_bytes);

#endif
