/*
 * How SQLite reaches meta.db: through a VFS over a directory of io/, so that the database lies wherever the store does, on a disk, in
 * memory or behind injected faults.
 *
 * Each page of the database file ends with a checksum of the rest, verified when it is read. The checksum and its place are those of
 * SQLite's own extension cksumvfs. The log has checksums of its own.
 *
 * A database is one connection's alone, from its first lock until it is closed: other programs with SQLite find it locked
 * (SQLITE_BUSY), and the index of the log is in memory (locking_mode=EXCLUSIVE). Temporary files have no name.
 */
#ifndef SPILLFS_STORE_META_VFS_H
#define SPILLFS_STORE_META_VFS_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#define META_PAGE_BYTES 4096
#define META_SUM_BYTES 8
/* The longest row: run boundaries of earlier releases, and the lists of layers, have no bound of their own. */
#define META_ROW_MAX (32 << 20)
/* PRAGMA application_id of a database with checksums: "SPIL". */
#define META_APPLICATION_ID 0x5350494c

struct io;
struct io_dir;
struct meta_vfs;

/* Opens NAME in dir (which outlives it), with the flags of sqlite3_open_v2. 0, -ENOMEM, -EUCLEAN (something
 * is no regular file, as io/ has told), or -EIO: *rc_out is SQLite's code then. */
int meta_vfs_open(struct io_dir *dir, const char *name, int flags, struct meta_vfs **out, int *rc_out);
/* Closes the connection, all of whose statements are finalized. */
void meta_vfs_close(struct meta_vfs *v);
sqlite3 *meta_vfs_db(struct meta_vfs *v);
/* The log is there once the database was read. Its bytes and its name become durable. Any thread, also beside SQLite. */
int meta_vfs_sync_log(struct meta_vfs *v);
/* So many bytes that SQLite appends to the log next will find space, whatever others take meanwhile. -ENOSPC: they may not, and none
 * was written. Not beside SQLite. */
int meta_vfs_secure_log(struct meta_vfs *v, uint64_t bytes);
/* Bytes of that which are left. Any thread. */
uint64_t meta_vfs_log_left(struct meta_vfs *v);
/* The log was folded. The next frame is written over the first, once a new header is durable. */
void meta_vfs_rewound(struct meta_vfs *v);
/* For a new database, before anything is stored in it; does nothing to another one. An SQLite code. */
int meta_vfs_prepare(sqlite3 *db);

/* Does page 1 (its first 100 bytes do) say that the database has checksums? */
bool meta_page_has_sums(const uint8_t *page1);
/* A page of META_PAGE_BYTES. */
bool meta_page_is_right(const uint8_t *page);
void meta_page_sum(uint8_t *page);

#endif
