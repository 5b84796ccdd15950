/*
 * Files that writes around the kernel's cache make longer.
 *
 * The kernel's page of the old end has zeros behind it, which a reader gets who learns the new size before the page is dropped. So stat
 * tells the old size until it is; the kernel itself hears of the new one by the answer to the write, which comes later.
 */
#ifndef SPILLFS_TREE_GROWTH_H
#define SPILLFS_TREE_GROWTH_H

#include <sys/stat.h>

struct inode;

/* Around such a write, from before it until the kernel has dropped its pages: the size stays what it is for stat. */
void growth_begin(struct inode *i);
void growth_end(struct inode *i);
/* attr is held. */
void growth_stat_locked(const struct inode *i, struct stat *st);

#endif
