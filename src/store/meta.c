/*
 * The SQLite connection, its transaction, and the rows of every table.
 *
 * Invariants:
 *  1. A write statement runs inside the open transaction; the first one begins it.
 *  2. COMMIT never syncs; durability is meta_sync, after the data it points to is durable.
 *  3. After a failed write statement nothing is committed any more (meta_failed).
 *  4. The log is folded into the database only right after a COMMIT whose log is durable.
 */
#include "store/meta.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/sql.h"
#include "util/err.h"
#include "util/lock.h"
#include "util/log.h"

/* Pages in the log before it is folded into the database. */
#define META_WAL_PAGES_MAX 16384

struct meta {
	struct lock lock;
	sqlite3 *db;
	sqlite3_stmt *stmt[SQL_COUNT];
	bool in_transaction;
	atomic_bool failed;
	int wal_pages;
	int wal_fd; /* for meta_sync; opened after the first commit */
	char wal_path[64];
	uint64_t next_ino;
};

/* The path goes through /proc/self/fd and must not be resolved: the result would lead into the mount. */
static int keep_path(sqlite3_vfs *vfs, const char *name, int cap, char *out)
{
	(void)vfs;
	return snprintf(out, (size_t)cap, "%s", name) < cap ? SQLITE_OK : SQLITE_CANTOPEN;
}

static const char *store_vfs(void)
{
	static sqlite3_vfs vfs;
	sqlite3_vfs *unix_vfs = sqlite3_vfs_find("unix");

	if (!unix_vfs)
		return NULL;
	if (!vfs.zName) {
		vfs = *unix_vfs;
		vfs.xFullPathname = keep_path;
		vfs.zName = "spillfs";
		vfs.pNext = NULL;
	}
	return sqlite3_vfs_register(&vfs, 0) == SQLITE_OK ? vfs.zName : NULL;
}

static int sql_errno(struct meta *m, int rc)
{
	switch (rc & 0xff) {
	case SQLITE_OK:
	case SQLITE_DONE:
	case SQLITE_ROW:
		return 0;
	case SQLITE_CONSTRAINT:
		return -EEXIST;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return err_corrupt("meta.db", 0, "%s", m->db ? sqlite3_errmsg(m->db) : "unreadable");
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	default:
		log_error("meta.db: %s", m->db ? sqlite3_errmsg(m->db) : sqlite3_errstr(rc));
		return -EIO;
	}
}

/* Parameters: i int64, s text, b blob and its size_t length. */
static int bind_all(sqlite3_stmt *s, const char *fmt, va_list ap)
{
	int rc = SQLITE_OK;

	for (int i = 1; *fmt && rc == SQLITE_OK; fmt++, i++) {
		if (*fmt == 'i') {
			rc = sqlite3_bind_int64(s, i, va_arg(ap, int64_t));
		} else if (*fmt == 's') {
			rc = sqlite3_bind_text(s, i, va_arg(ap, const char *), -1, SQLITE_STATIC);
		} else {
			const void *p = va_arg(ap, const void *);
			size_t n = va_arg(ap, size_t);

			rc = sqlite3_bind_blob64(s, i, n ? p : "", n, SQLITE_STATIC);
		}
	}
	return rc;
}

/* Steps once. On SQLITE_ROW *row is set and the caller resets it with done(); otherwise it is reset. */
static int step(struct meta *m, enum sql id, sqlite3_stmt **row, const char *fmt, va_list ap)
{
	sqlite3_stmt *s = m->stmt[id];
	int rc = bind_all(s, fmt, ap);

	if (rc == SQLITE_OK)
		rc = sqlite3_step(s);
	*row = rc == SQLITE_ROW ? s : NULL;
	if (rc != SQLITE_ROW)
		sqlite3_reset(s);
	return sql_errno(m, rc);
}

static void done(sqlite3_stmt *s)
{
	sqlite3_reset(s);
}

/* A query for at most one row: *row is NULL when there is none. */
static int query(struct meta *m, enum sql id, sqlite3_stmt **row, const char *fmt, ...)
{
	va_list ap;
	int err;

	va_start(ap, fmt);
	err = step(m, id, row, fmt, ap);
	va_end(ap);
	return err;
}

static int begin(struct meta *m)
{
	sqlite3_stmt *row;
	int err;

	if (atomic_load(&m->failed))
		return -EROFS;
	if (m->in_transaction)
		return 0;
	err = query(m, SQL_BEGIN, &row, "");
	if (!err)
		m->in_transaction = true;
	return err;
}

/* A write statement (invariants 1 and 3). */
static int run(struct meta *m, enum sql id, const char *fmt, ...)
{
	sqlite3_stmt *row;
	va_list ap;
	int err = begin(m);

	if (err)
		return err;
	va_start(ap, fmt);
	err = step(m, id, &row, fmt, ap);
	va_end(ap);
	if (row)
		done(row);
	if (err && err != -EEXIST && !atomic_exchange(&m->failed, true))
		log_error("meta.db: write failed (%s); the store is read-only until it is mounted again", strerror(-err));
	return err;
}

static int configure(struct meta *m)
{
	static const char text[] =
		"PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; PRAGMA wal_autocheckpoint=0;"
		"PRAGMA locking_mode=NORMAL; PRAGMA cache_size=-8192; PRAGMA temp_store=MEMORY;";
	static const char *const sql[SQL_COUNT] = {
#define X(id, text) [id] = text,
		SQL_STATEMENTS(X)
#undef X
	};
	int rc = sqlite3_exec(m->db, text, NULL, NULL, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_exec(m->db, SQL_SCHEMA, NULL, NULL, NULL);
	for (int i = 0; i < SQL_COUNT && rc == SQLITE_OK; i++)
		rc = sqlite3_prepare_v3(m->db, sql[i], -1, SQLITE_PREPARE_PERSISTENT, &m->stmt[i], NULL);
	return sql_errno(m, rc);
}

static int wal_hook(void *ctx, sqlite3 *db, const char *name, int pages)
{
	struct meta *m = ctx;

	(void)db;
	(void)name;
	m->wal_pages = pages;
	return SQLITE_OK;
}

static int load_next_ino(struct meta *m)
{
	sqlite3_stmt *row;
	int64_t next = 0;
	int err = meta_fact_get_locked(m, "next_ino", &next);

	if (err && err != -ENOENT)
		return err;
	err = query(m, SQL_INODE_MAX, &row, "");
	if (row) {
		if (sqlite3_column_int64(row, 0) >= next)
			next = sqlite3_column_int64(row, 0) + 1;
		done(row);
	}
	m->next_ino = next < META_INO_FIRST ? META_INO_FIRST : (uint64_t)next;
	return err;
}

int meta_open(const char *dir_path, struct meta **out)
{
	struct meta *m = calloc(1, sizeof(*m));
	const char *vfs = store_vfs();
	char path[64];
	int rc, err;

	if (!m)
		return -ENOMEM;
	lock_init(&m->lock, RANK_META);
	m->wal_fd = -1;
	snprintf(path, sizeof(path), "%s/meta.db", dir_path);
	snprintf(m->wal_path, sizeof(m->wal_path), "%s/meta.db-wal", dir_path);
	rc = vfs ? sqlite3_open_v2(path, &m->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, vfs)
		 : SQLITE_ERROR;
	err = sql_errno(m, rc);
	if (!err)
		err = configure(m);
	if (!err)
		err = load_next_ino(m);
	if (err) {
		meta_close(m);
		return err;
	}
	sqlite3_wal_hook(m->db, wal_hook, m);
	*out = m;
	return 0;
}

void meta_close(struct meta *m)
{
	if (m->in_transaction)
		sqlite3_exec(m->db, "ROLLBACK", NULL, NULL, NULL);
	for (int i = 0; i < SQL_COUNT; i++)
		sqlite3_finalize(m->stmt[i]);
	/* Closing folds the log; it must be durable in the database before the log is unlinked. */
	sqlite3_exec(m->db, "PRAGMA synchronous=FULL", NULL, NULL, NULL);
	sqlite3_close(m->db);
	if (m->wal_fd >= 0)
		close(m->wal_fd);
	lock_fini(&m->lock);
	free(m);
}

void meta_lock(struct meta *m)
{
	lock_acquire(&m->lock);
}

void meta_unlock(struct meta *m)
{
	lock_release(&m->lock);
}

bool meta_pending_locked(struct meta *m)
{
	return m->in_transaction;
}

bool meta_failed(struct meta *m)
{
	return atomic_load(&m->failed);
}

int meta_commit_locked(struct meta *m)
{
	sqlite3_stmt *row;
	int err;

	if (atomic_load(&m->failed))
		return -EROFS;
	if (!m->in_transaction)
		return 0;
	err = meta_fact_set_locked(m, "next_ino", (int64_t)m->next_ino);
	if (!err)
		err = query(m, SQL_COMMIT, &row, "");
	if (err) {
		atomic_store(&m->failed, true);
		return err;
	}
	m->in_transaction = false;
	return 0;
}

/* Folds a long log into the database (invariant 4). The one place where syncs run under the lock: once
 * in 64 MiB of log, because a log that is never rewound would grow for ever under a steady load. */
static int fold_wal(struct meta *m)
{
	int err = 0;

	meta_lock(m);
	if (!m->in_transaction && m->wal_pages > META_WAL_PAGES_MAX) {
		int rc = sqlite3_exec(m->db, "PRAGMA synchronous=FULL", NULL, NULL, NULL);

		if (rc == SQLITE_OK)
			rc = sqlite3_wal_checkpoint_v2(m->db, NULL, SQLITE_CHECKPOINT_RESTART, NULL, NULL);
		sqlite3_exec(m->db, "PRAGMA synchronous=OFF", NULL, NULL, NULL);
		err = sql_errno(m, rc);
		if (!err)
			m->wal_pages = 0;
	}
	meta_unlock(m);
	return err;
}

int meta_sync(struct meta *m)
{
	if (m->wal_fd < 0)
		m->wal_fd = open(m->wal_path, O_RDONLY | O_CLOEXEC);
	if (m->wal_fd < 0 || fdatasync(m->wal_fd) < 0) {
		int err = -errno;

		atomic_store(&m->failed, true);
		return err;
	}
	return fold_wal(m);
}

int meta_fact_get_locked(struct meta *m, const char *key, int64_t *out)
{
	sqlite3_stmt *row;
	int err = query(m, SQL_FACT_GET, &row, "s", key);

	if (err || !row)
		return err ? err : -ENOENT;
	*out = sqlite3_column_int64(row, 0);
	done(row);
	return 0;
}

int meta_fact_set_locked(struct meta *m, const char *key, int64_t value)
{
	return run(m, SQL_FACT_SET, "si", key, value);
}

int meta_inode_next_locked(struct meta *m, uint64_t *ino_out)
{
	*ino_out = m->next_ino++;
	return 0;
}

static void inode_row(sqlite3_stmt *row, struct meta_inode *out)
{
	int c = 0;

	out->ino = (uint64_t)sqlite3_column_int64(row, c++);
	out->kind = (uint32_t)sqlite3_column_int64(row, c++);
	out->mode = (uint32_t)sqlite3_column_int64(row, c++);
	out->nlink = (uint32_t)sqlite3_column_int64(row, c++);
	out->uid = (uint32_t)sqlite3_column_int64(row, c++);
	out->gid = (uint32_t)sqlite3_column_int64(row, c++);
	out->rdev = (uint64_t)sqlite3_column_int64(row, c++);
	out->size_bytes = (uint64_t)sqlite3_column_int64(row, c++);
	out->stored_bytes = (uint64_t)sqlite3_column_int64(row, c++);
	out->file_id = (uint64_t)sqlite3_column_int64(row, c++);
	out->parent = (uint64_t)sqlite3_column_int64(row, c++);
	out->atime_ns = sqlite3_column_int64(row, c++);
	out->mtime_ns = sqlite3_column_int64(row, c++);
	out->ctime_ns = sqlite3_column_int64(row, c++);
	out->btime_ns = sqlite3_column_int64(row, c++);
}

int meta_inode_load_locked(struct meta *m, uint64_t ino, struct meta_inode *out)
{
	sqlite3_stmt *row;
	int err = query(m, SQL_INODE_LOAD, &row, "i", (int64_t)ino);

	if (err || !row)
		return err ? err : -ENOENT;
	inode_row(row, out);
	done(row);
	return 0;
}

int meta_inode_store_locked(struct meta *m, const struct meta_inode *in)
{
	return run(m, SQL_INODE_PUT, "iiiiiiiiiiiiiii", (int64_t)in->ino, (int64_t)in->kind, (int64_t)in->mode,
		   (int64_t)in->nlink, (int64_t)in->uid, (int64_t)in->gid, (int64_t)in->rdev,
		   (int64_t)in->size_bytes, (int64_t)in->stored_bytes, (int64_t)in->file_id,
		   (int64_t)in->parent, in->atime_ns, in->mtime_ns, in->ctime_ns, in->btime_ns);
}

int meta_inode_insert_locked(struct meta *m, const struct meta_inode *in)
{
	return meta_inode_store_locked(m, in);
}

int meta_inode_relink_locked(struct meta *m, uint64_t ino, uint32_t nlink, uint64_t parent, int64_t ctime_ns)
{
	return run(m, SQL_INODE_RELINK, "iiii", (int64_t)nlink, (int64_t)parent, ctime_ns, (int64_t)ino);
}

int meta_inode_delete_locked(struct meta *m, uint64_t ino)
{
	static const enum sql by_ino[] = { SQL_INODE_DELETE, SQL_BLOBS_DELETE, SQL_XATTRS_DELETE };
	int err = run(m, SQL_EXTENTS_CUT, "ii", (int64_t)ino, (int64_t)0);

	for (size_t i = 0; i < sizeof(by_ino) / sizeof(*by_ino) && !err; i++)
		err = run(m, by_ino[i], "i", (int64_t)ino);
	return err;
}

int meta_inode_orphans_locked(struct meta *m, int (*each)(void *ctx, const struct meta_inode *in), void *ctx)
{
	sqlite3_stmt *row;
	struct meta_inode in;
	int err;

	/* One at a time: each deletes the row that it is given. */
	for (;;) {
		err = query(m, SQL_INODE_ORPHANS, &row, "");
		if (err || !row)
			return err;
		inode_row(row, &in);
		done(row);
		err = each(ctx, &in);
		if (err)
			return err;
	}
}

int meta_inode_count_locked(struct meta *m, uint64_t *out)
{
	sqlite3_stmt *row;
	int err = query(m, SQL_INODE_COUNT, &row, "");

	if (err)
		return err;
	*out = row ? (uint64_t)sqlite3_column_int64(row, 0) : 0;
	if (row)
		done(row);
	return 0;
}

int meta_column_exists_locked(struct meta *m, uint64_t file_id, bool *out)
{
	sqlite3_stmt *row;
	int err = query(m, SQL_COLUMN_EXISTS, &row, "i", (int64_t)file_id);

	if (err)
		return err;
	*out = row != NULL;
	if (row)
		done(row);
	return 0;
}

int meta_name_find_locked(struct meta *m, uint64_t parent, const char *name, uint64_t *ino_out)
{
	sqlite3_stmt *row;
	int err = query(m, SQL_NAME_FIND, &row, "ib", (int64_t)parent, name, strlen(name));

	if (err || !row)
		return err ? err : -ENOENT;
	*ino_out = (uint64_t)sqlite3_column_int64(row, 0);
	done(row);
	return 0;
}

int meta_name_insert_locked(struct meta *m, uint64_t parent, const char *name, uint64_t ino)
{
	return run(m, SQL_NAME_INSERT, "ibi", (int64_t)parent, name, strlen(name), (int64_t)ino);
}

int meta_name_delete_locked(struct meta *m, uint64_t parent, const char *name)
{
	int err = run(m, SQL_NAME_DELETE, "ib", (int64_t)parent, name, strlen(name));

	if (!err && sqlite3_changes(m->db) == 0)
		return -ENOENT;
	return err;
}

int meta_name_empty_locked(struct meta *m, uint64_t parent, bool *out)
{
	sqlite3_stmt *row;
	int err = query(m, SQL_NAME_ANY, &row, "i", (int64_t)parent);

	if (err)
		return err;
	*out = row == NULL;
	if (row)
		done(row);
	return 0;
}

/* The next row of a statement that query has started; ends it when there is none. */
static int next_row(struct meta *m, sqlite3_stmt **row)
{
	int rc = sqlite3_step(*row);

	if (rc == SQLITE_ROW)
		return 0;
	done(*row);
	*row = NULL;
	return sql_errno(m, rc);
}

/* Ends a walk: a positive return of the callback only stops it. */
static int end_walk(sqlite3_stmt *row, int err)
{
	if (row)
		done(row);
	return err < 0 ? err : 0;
}

int meta_name_walk_locked(struct meta *m, uint64_t parent, uint64_t after,
			  int (*each)(void *ctx, uint64_t cookie, const char *name, uint64_t ino), void *ctx)
{
	sqlite3_stmt *row;
	int err = query(m, SQL_NAME_WALK, &row, "ii", (int64_t)parent, (int64_t)after);

	while (!err && row) {
		char name[META_NAME_MAX + 1];
		int len = sqlite3_column_bytes(row, 1);

		if (len <= 0 || len > META_NAME_MAX) {
			err = err_corrupt("meta.db", 0, "name of %d bytes in directory %llu", len, (unsigned long long)parent);
			break;
		}
		memcpy(name, sqlite3_column_blob(row, 1), (size_t)len);
		name[len] = '\0';
		err = each(ctx, (uint64_t)sqlite3_column_int64(row, 0), name, (uint64_t)sqlite3_column_int64(row, 2));
		if (!err)
			err = next_row(m, &row);
	}
	return end_walk(row, err);
}

int meta_path_locked(struct meta *m, uint64_t top, uint64_t ino, char *out, size_t cap)
{
	char *path = out + cap - 1;

	*path = '\0';
	while (ino != top) {
		sqlite3_stmt *row;
		int err = query(m, SQL_NAME_OF, &row, "i", (int64_t)ino);
		size_t len;

		if (err || !row)
			return err ? err : -ENOENT;
		len = (size_t)sqlite3_column_bytes(row, 1);
		if ((size_t)(path - out) < len + 1) {
			done(row);
			return -ENAMETOOLONG;
		}
		if (*path)
			*--path = '/';
		path -= len;
		memcpy(path, sqlite3_column_blob(row, 1), len);
		ino = (uint64_t)sqlite3_column_int64(row, 0);
		done(row);
	}
	memmove(out, path, strlen(path) + 1);
	return 0;
}

static int copy_blob(sqlite3_stmt *row, void **out, size_t *len_out)
{
	size_t len = (size_t)sqlite3_column_bytes(row, 0);
	char *copy = malloc(len + 1);

	if (copy) {
		if (len)
			memcpy(copy, sqlite3_column_blob(row, 0), len);
		copy[len] = '\0';
		*out = copy;
		*len_out = len;
	}
	done(row);
	return copy ? 0 : -ENOMEM;
}

int meta_blob_get_locked(struct meta *m, uint64_t ino, enum meta_blob what, void **out, size_t *len_out)
{
	sqlite3_stmt *row;
	int err = query(m, SQL_BLOB_GET, &row, "ii", (int64_t)ino, (int64_t)what);

	if (err || !row)
		return err ? err : -ENOENT;
	return copy_blob(row, out, len_out);
}

int meta_blob_set_locked(struct meta *m, uint64_t ino, enum meta_blob what, const void *p, size_t len)
{
	if (!p)
		return run(m, SQL_BLOB_DELETE, "ii", (int64_t)ino, (int64_t)what);
	return run(m, SQL_BLOB_SET, "iib", (int64_t)ino, (int64_t)what, p, len);
}

int meta_xattr_get_locked(struct meta *m, uint64_t ino, const char *name, void **out, size_t *len_out)
{
	sqlite3_stmt *row;
	int err = query(m, SQL_XATTR_GET, &row, "is", (int64_t)ino, name);

	if (err || !row)
		return err ? err : -ENODATA;
	return copy_blob(row, out, len_out);
}

int meta_xattr_set_locked(struct meta *m, uint64_t ino, const char *name, const void *p, size_t len)
{
	return run(m, SQL_XATTR_SET, "isb", (int64_t)ino, name, p, len);
}

int meta_xattr_remove_locked(struct meta *m, uint64_t ino, const char *name)
{
	int err = run(m, SQL_XATTR_REMOVE, "is", (int64_t)ino, name);

	if (!err && sqlite3_changes(m->db) == 0)
		return -ENODATA;
	return err;
}

int meta_xattr_walk_locked(struct meta *m, uint64_t ino,
			   int (*each)(void *ctx, const char *name, const void *value, size_t len), void *ctx)
{
	sqlite3_stmt *row;
	int err = query(m, SQL_XATTR_WALK, &row, "i", (int64_t)ino);

	while (!err && row) {
		err = each(ctx, (const char *)sqlite3_column_text(row, 0), sqlite3_column_blob(row, 1),
			   (size_t)sqlite3_column_bytes(row, 1));
		if (!err)
			err = next_row(m, &row);
	}
	return end_walk(row, err);
}

static void extent_row(sqlite3_stmt *row, struct extent *e)
{
	e->off_bytes = (uint64_t)sqlite3_column_int64(row, 0);
	e->len_bytes = (uint64_t)sqlite3_column_int64(row, 1);
	e->file = (uint32_t)sqlite3_column_int64(row, 2);
	e->phys_bytes = (uint64_t)sqlite3_column_int64(row, 3);
}

int meta_extents_load_locked(struct meta *m, uint64_t ino, struct extent_map *out)
{
	sqlite3_stmt *row;
	int err = query(m, SQL_EXTENTS_LOAD, &row, "i", (int64_t)ino);

	while (!err && row) {
		struct extent e;

		extent_row(row, &e);
		err = extent_map_insert(out, &e);
		if (err == -EEXIST || err == -EINVAL)
			err = err_corrupt("meta.db", e.off_bytes, "bad extent of inode %llu", (unsigned long long)ino);
		if (!err)
			err = next_row(m, &row);
	}
	return end_walk(row, err);
}

int meta_extents_replace_locked(struct meta *m, uint64_t ino, const struct extent_map *map, uint64_t from_bytes)
{
	/* The extent that holds `from` may begin before it. */
	size_t first = extent_map_find(map, from_bytes);
	int err;

	if (first < map->n && map->v[first].off_bytes < from_bytes)
		from_bytes = map->v[first].off_bytes;
	err = run(m, SQL_EXTENTS_CUT, "ii", (int64_t)ino, (int64_t)from_bytes);
	for (size_t i = first; i < map->n && !err; i++) {
		const struct extent *e = &map->v[i];

		err = run(m, SQL_EXTENT_INSERT, "iiiii", (int64_t)ino, (int64_t)e->off_bytes,
			  (int64_t)e->len_bytes, (int64_t)e->file, (int64_t)e->phys_bytes);
	}
	return err;
}

int meta_extents_walk_locked(struct meta *m, int (*each)(void *ctx, const struct extent *e), void *ctx)
{
	sqlite3_stmt *row;
	int err = query(m, SQL_EXTENTS_ALL, &row, "");

	while (!err && row) {
		struct extent e;

		extent_row(row, &e);
		err = each(ctx, &e);
		if (!err)
			err = next_row(m, &row);
	}
	return end_walk(row, err);
}

int meta_layer_put_locked(struct meta *m, const struct meta_layer *in)
{
	return run(m, SQL_LAYER_PUT, "iiiiiiii", (int64_t)in->number, (int64_t)in->sealed, (int64_t)in->bytes,
		   (int64_t)in->segment_off, (int64_t)in->live_bytes, (int64_t)in->raw_bytes,
		   (int64_t)in->commit, in->time_ns);
}

int meta_layer_delete_locked(struct meta *m, uint64_t number)
{
	return run(m, SQL_LAYER_DELETE, "i", (int64_t)number);
}

int meta_layer_walk_locked(struct meta *m, int (*each)(void *ctx, const struct meta_layer *in), void *ctx)
{
	sqlite3_stmt *row;
	int err = query(m, SQL_LAYER_WALK, &row, "");

	while (!err && row) {
		struct meta_layer in = {
			.number = (uint64_t)sqlite3_column_int64(row, 0),
			.sealed = sqlite3_column_int64(row, 1) != 0,
			.bytes = (uint64_t)sqlite3_column_int64(row, 2),
			.segment_off = (uint64_t)sqlite3_column_int64(row, 3),
			.live_bytes = (uint64_t)sqlite3_column_int64(row, 4),
			.raw_bytes = (uint64_t)sqlite3_column_int64(row, 5),
			.commit = (uint64_t)sqlite3_column_int64(row, 6),
			.time_ns = sqlite3_column_int64(row, 7),
		};

		err = each(ctx, &in);
		if (!err)
			err = next_row(m, &row);
	}
	return end_walk(row, err);
}
