/*
 * The way in which SQLite opens and changes meta.db. Private to store/meta.
 */
#ifndef SPILLFS_STORE_META_VFS_H
#define SPILLFS_STORE_META_VFS_H

struct io_dir;

/* The name of the VFS to open the database with, registered; NULL if SQLite has no "unix" VFS. With `faults`
 * (an io/fault directory, for tests) every change counts as one of its operations; the last `faults` given
 * holds for all databases of the process. */
const char *meta_vfs(struct io_dir *faults);

#endif
