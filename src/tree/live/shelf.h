/*
 * Directories below buckets/, columns/ and layers/ that are declared scratch: user.spillfs.durable=no.
 *
 * Their entries are in the scratch store, in a directory without a name there, the shelf: nothing makes them durable, and they end with
 * the mount. The directory itself stays a durable one. Its operations on names go to the shelf (live_shelf_of), and what is known
 * of the shelf is told of the directory (live_shown_of). Mode, owner, settings and default ACL of the shelf follow the directory's.
 */
#ifndef SPILLFS_TREE_SHELF_H
#define SPILLFS_TREE_SHELF_H

#include <stdbool.h>
#include <stdint.h>

struct inode;
struct tree;

/* Gives shelves to the directories that have the attribute. The tree has its scratch/. */
int shelves_load(struct tree *t);

/* The attribute. changed: its row was written or removed. -ENOTEMPTY: there is something in the directory, which would be lost, or never
 * seen; -EOPNOTSUPP: there is no scratch/. No lock may be held. */
bool shelf_is_attribute(const char *name);
int shelf_changed(struct inode *dir);
/* The attributes of dir have changed: mode and owners. */
void shelf_follow(struct inode *dir);

/* Before the directory is deleted, or replaced: from now on nothing can be made in its shelf. -ENOTEMPTY. The meta lock is held. */
int shelf_close_locked(struct inode *dir);
/* After that was tried: the shelf is gone with the directory, or is as before. No lock may be held. */
void shelf_settle(struct inode *dir);

#endif
