/*
 * How SQLite reaches meta.db: through the ordinary VFS, with two differences. Paths are taken as they are,
 * not resolved; and each page of the database file ends with a checksum of the rest, verified when it is read.
 *
 * The checksum and its place are those of SQLite's own extension cksumvfs. The log has checksums of its own.
 */
#ifndef SPILLFS_STORE_META_VFS_H
#define SPILLFS_STORE_META_VFS_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#define META_PAGE_BYTES 4096
#define META_SUM_BYTES 8
/* PRAGMA application_id of a database with checksums: "SPIL". */
#define META_APPLICATION_ID 0x5350494c

struct io_dir;

/* The name of the VFS, registered; NULL when that fails. With `faults` (an io/fault directory, for tests) every change
 * counts as one of its operations; the last `faults` given holds for all databases of the process. */
const char *meta_vfs(struct io_dir *faults);
/* Where space is asked for when a write finds none (io_yields); NULL: nowhere. As with faults. */
void meta_vfs_yield_from(struct io_dir *dir);
/* For a new database, before anything is stored in it; does nothing to another one. An SQLite code. */
int meta_vfs_prepare(sqlite3 *db);

/* Does page 1 (its first 100 bytes do) say that the database has checksums? */
bool meta_page_has_sums(const uint8_t *page1);
/* A page of META_PAGE_BYTES. */
bool meta_page_is_right(const uint8_t *page);
void meta_page_sum(uint8_t *page);

#endif
