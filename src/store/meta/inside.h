/*
 * The inside of store/meta: the connection and how statements are run. All under the meta lock.
 */
#ifndef SPILLFS_STORE_META_INSIDE_H
#define SPILLFS_STORE_META_INSIDE_H

#include <sqlite3.h>
#include <stdatomic.h>

#include "store/meta.h"
#include "store/meta/sql.h"
#include "util/lock.h"

struct meta {
	struct lock lock;
	struct meta_vfs *vfs;
	struct io_dir *dir;
	sqlite3 *db; /* the connection of vfs */
	sqlite3_stmt *stmt[SQL_COUNT];
	bool in_transaction;
	struct meta_deferred *deferred, **deferred_tail;
	atomic_bool failed;
	int wal_pages, wal_pages_max;
	int64_t file_bytes;           /* of the database, when the log was folded last */
	_Atomic uint64_t growth_bytes;
	_Atomic uint64_t held_pages;  /* of the transaction: changed, and perhaps not in the log yet */
	uint64_t cache_bytes;         /* no more than this, if the log gets its room */
	size_t rows_deleted;          /* of extents, in the transaction */
	unsigned statements;          /* since growth_bytes was looked at */
	bool shrinking_failed;
	uint64_t base, next_ino; /* meta_number_above */
	int64_t ninodes;         /* rows; -1: nobody has asked yet */
};

/* -errno of an SQLite result code; 0 for OK, ROW and DONE. Damage and I/O errors are logged. */
int meta_errno(struct meta *m, int rc);

/* Parameters: i int64_t, s text, b blob and its size_t length. */

/* Steps a query once. *row is NULL when there is no row; else the caller ends it with meta_done. */
int meta_query(struct meta *m, enum sql id, sqlite3_stmt **row, const char *fmt, ...);
void meta_done(sqlite3_stmt *s);
/* Runs a write statement inside the transaction, which it begins if there is none. */
int meta_run(struct meta *m, enum sql id, const char *fmt, ...);
/* The last statement has deleted extents. */
void meta_extents_deleted(struct meta *m);

#endif
