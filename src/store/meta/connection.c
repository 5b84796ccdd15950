/*
 * The SQLite connection, its transaction and its log, and the store's small facts. The rows are in rows.c.
 *
 * Invariants:
 *  1. A write statement runs inside the open transaction; the first one begins it.
 *  2. COMMIT never syncs; durability is meta_sync, after the data it points to is durable.
 *  3. After a failed write statement nothing more is committed (meta_failed).
 *  4. The log is folded into the database only right after a COMMIT; what that points to is durable
 *     already, and SQLite makes the log durable first. The database is made smaller (VACUUM) only then, too.
 *  5. A transaction's pages go to the log in spill and in COMMIT alone, which have room for all of them first (secure_log): SQLite takes
 *     a whole transaction back when its log finds no space, and with it what was answered already.
 */
#include "store/meta.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/io.h"
#include "store/meta/inside.h"
#include "store/meta/vfs.h"
#include "util/err.h"
#include "util/lock.h"
#include "util/log.h"
#include "util/stats.h"

/* Pages in the log before it is folded into the database. */
#define META_WAL_PAGES_MAX 16384
#define META_CACHE_BYTES (8u << 20)
/* No cache has so many pages: SQLite writes none of a transaction by itself. */
#define NO_SPILL "PRAGMA cache_spill=1000000000"
/* The pages that statements use at a time, by which a cache is longer than it may be. */
#define CACHE_MORE_BYTES (64u * META_PAGE_BYTES)
/* The header of the log, and a frame of a transaction that has changed nothing. */
#define LOG_MORE_BYTES (2u * META_PAGE_BYTES)
/* Statements between two looks at the size that the database will have. Each inserts one page at most, unless its value is
 * long. */
#define GROWTH_STATEMENTS 16u
/* A row of an extent and its part of the pages that it lies in. */
#define EXTENT_ROW_BYTES 48u
/* Pages that are given back at a time, so that the log stays short. */
#define TRIM_PAGES "64"
/* The database shrinks when at least so many of its pages are unused, and half of all; but not while it is mounted if more
 * than so many are in use: nobody can look anything up meanwhile. When it is opened or closed, fewer unused pages will do: then nobody waits
 * for the syncs. */
#define META_FREE_PAGES_MIN 4096
#define META_FREE_PAGES_RESTING_MIN 64
#define META_LIVE_PAGES_MAX 16384

int meta_errno(struct meta *m, int rc)
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
	case SQLITE_CANTOPEN:
	case SQLITE_IOERR:
		if (m->db && (sqlite3_extended_errcode(m->db) == SQLITE_IOERR_DATA || sqlite3_system_errno(m->db) == EUCLEAN))
			return -EUCLEAN; /* logged by the VFS, or by io/ */
		if (m->db && sqlite3_system_errno(m->db) == EFBIG) {
			log_error("meta.db: it may not get longer (RLIMIT_FSIZE)");
			return -EFBIG;
		}
		/* fall through */
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

	stats_add(STAT_META_STATEMENTS, 1);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(s);
	*row = rc == SQLITE_ROW ? s : NULL;
	if (rc != SQLITE_ROW)
		sqlite3_reset(s);
	return meta_errno(m, rc);
}

void meta_done(sqlite3_stmt *s)
{
	sqlite3_reset(s);
}

/* A query for at most one row: *row is NULL when there is none. */
int meta_query(struct meta *m, enum sql id, sqlite3_stmt **row, const char *fmt, ...)
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
	err = meta_query(m, SQL_BEGIN, &row, "");
	if (!err)
		m->in_transaction = true;
	return err;
}

static int64_t pages(struct meta *m, enum sql id)
{
	sqlite3_stmt *row;
	int64_t n = 0;

	if (!meta_query(m, id, &row, "") && row) {
		n = sqlite3_column_int64(row, 0);
		meta_done(row);
	}
	return n;
}

/* The end of the file as the transaction will leave it, and as it is. */
static void look_at_growth(struct meta *m)
{
	int64_t grown = pages(m, SQL_PAGES) * META_PAGE_BYTES - m->file_bytes;

	atomic_store(&m->growth_bytes, grown > 0 ? (uint64_t)grown : 0);
}

/* The file's size: after opening, and when the log was folded. */
static void look_at_file(struct meta *m)
{
	sqlite3_file *f;
	sqlite3_int64 bytes;

	if (sqlite3_file_control(m->db, "main", SQLITE_FCNTL_FILE_POINTER, &f) == SQLITE_OK && f->pMethods &&
	    f->pMethods->xFileSize(f, &bytes) == SQLITE_OK)
		m->file_bytes = bytes;
	look_at_growth(m);
}

uint64_t meta_growth(struct meta *m)
{
	uint64_t held = atomic_load_explicit(&m->held_pages, memory_order_relaxed) * META_PAGE_BYTES;

	/* A statement changes a page or two, and the cache holds no more than it may. */
	return atomic_load_explicit(&m->growth_bytes, memory_order_relaxed) + (held < m->cache_bytes ? held : m->cache_bytes);
}

int meta_bound(struct meta *m, uint64_t cache_bytes, uint64_t log_bytes)
{
	uint64_t log_pages = log_bytes / META_PAGE_BYTES;
	char sql[64];

	if (log_pages < META_WAL_PAGES_MAX)
		m->wal_pages_max = (int)log_pages;
	if (cache_bytes > META_CACHE_BYTES)
		cache_bytes = META_CACHE_BYTES;
	m->cache_bytes = cache_bytes;
	snprintf(sql, sizeof(sql), "PRAGMA cache_size=-%llu", (unsigned long long)cache_bytes / 1024);
	return meta_errno(m, sqlite3_exec(m->db, sql, NULL, NULL, NULL));
}

size_t meta_extents_max(const struct meta *m)
{
	return (size_t)m->wal_pages_max * META_PAGE_BYTES / EXTENT_ROW_BYTES + 1;
}

size_t meta_extents_left_locked(const struct meta *m)
{
	size_t max = meta_extents_max(m);

	return m->rows_deleted < max ? max - m->rows_deleted : 0;
}

void meta_extents_deleted(struct meta *m)
{
	size_t n = (size_t)sqlite3_changes(m->db);

	m->rows_deleted += n;
	atomic_fetch_add(&m->held_pages, n * EXTENT_ROW_BYTES / META_PAGE_BYTES);
}

uint64_t meta_log_left(struct meta *m)
{
	return meta_vfs_log_left(m->vfs);
}

/* Memory of the pages that SQLite has, changed or not: for each more than its frame in the log takes. */
static uint64_t cache_held(struct meta *m)
{
	int now = 0, most;

	sqlite3_db_status(m->db, SQLITE_DBSTATUS_CACHE_USED, &now, &most, 0);
	return (uint64_t)now;
}

/* Room in the log for all of the transaction that is not in it (invariant 5). -ENOSPC: nothing has changed. */
static int secure_log(struct meta *m)
{
	int err = meta_vfs_secure_log(m->vfs, cache_held(m) + LOG_MORE_BYTES);

	if (!err_is_full(err))
		return err;
	sqlite3_db_release_memory(m->db); /* what stays is changed */
	return meta_vfs_secure_log(m->vfs, cache_held(m) + LOG_MORE_BYTES);
}

/* Between two statements: a transaction that is larger than the cache goes to the log, or stays in memory until there is room. */
static int spill(struct meta *m)
{
	int err;

	if (cache_held(m) <= m->cache_bytes + CACHE_MORE_BYTES || secure_log(m))
		return 0;
	err = meta_errno(m, sqlite3_db_cacheflush(m->db));
	if (!err)
		atomic_store(&m->held_pages, 0);
	return err;
}

/* Now and then a look at what the transaction takes, in the cache and later. */
static int look(struct meta *m)
{
	if (++m->statements % GROWTH_STATEMENTS)
		return 0;
	look_at_growth(m);
	return spill(m);
}

/* A write statement (invariants 1 and 3). */
int meta_run(struct meta *m, enum sql id, const char *fmt, ...)
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
		meta_done(row);
	atomic_fetch_add(&m->held_pages, 2);
	if (!err)
		err = look(m);
	if (err && err != -EEXIST && !atomic_exchange(&m->failed, true))
		log_error("meta.db: write failed (%s); the store is read-only until it is mounted again", strerror(-err));
	return err;
}

static int configure(struct meta *m)
{
	static const char text[] =
		"PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; PRAGMA wal_autocheckpoint=0;"
		"PRAGMA secure_delete=OFF; PRAGMA cache_size=-8192; PRAGMA temp_store=MEMORY;" NO_SPILL;
	static const char *const sql[SQL_COUNT] = {
#define X(id, text) [id] = text,
		SQL_STATEMENTS(X)
#undef X
	};
	int rc = meta_vfs_prepare(m->db);

	if (rc == SQLITE_OK)
		rc = sqlite3_exec(m->db, text, NULL, NULL, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(m->db, SQL_SCHEMA, NULL, NULL, NULL);
	for (int i = 0; i < SQL_COUNT && rc == SQLITE_OK; i++)
		rc = sqlite3_prepare_v3(m->db, sql[i], -1, SQLITE_PREPARE_PERSISTENT, &m->stmt[i], NULL);
	return meta_errno(m, rc);
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
	err = meta_query(m, SQL_INODE_MAX, &row, "");
	if (row) {
		if (sqlite3_column_int64(row, 0) >= next && next < (int64_t)META_INO_END)
			next = sqlite3_column_int64(row, 0) + (sqlite3_column_int64(row, 0) < INT64_MAX);
		meta_done(row);
	}
	if (!err && next >= (int64_t)META_INO_END)
		return err_corrupt("meta.db", 0, "the next inode would be %lld", (long long)next);
	m->next_ino = next < META_INO_FIRST ? META_INO_FIRST : (uint64_t)next;
	return err;
}

/* Other programs may have left their shared index of the log, and the making of the database its journal. */
static void drop_leftovers(struct meta *m)
{
	io_unlink(m->dir, "meta.db-shm");
	io_unlink(m->dir, "meta.db-journal");
}

/* Folds a long log into the database and cuts it (invariant 4). The one place where syncs run under the lock: once in
 * 64 MiB of log, because a log that is never rewound would grow for ever under a steady load, and when the database
 * shrinks. */
static int fold_wal_locked(struct meta *m)
{
	int rc = sqlite3_exec(m->db, "PRAGMA synchronous=FULL", NULL, NULL, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_wal_checkpoint_v2(m->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
	sqlite3_exec(m->db, "PRAGMA synchronous=OFF", NULL, NULL, NULL);
	if (rc == SQLITE_OK) {
		m->wal_pages = 0;
		meta_vfs_rewound(m->vfs);
		look_at_file(m);
	}
	return meta_errno(m, rc);
}

/* Is there room for a temporary copy of so many pages, for the log of writing them back, and for what else may come? */
static bool has_room(struct meta *m, int64_t npages)
{
	uint64_t total, avail;

	return !io_home_space(m->dir, &total, &avail) && (int64_t)(avail / META_PAGE_BYTES) > 2 * npages + META_WAL_PAGES_MAX;
}

/* SQLite writes the rows anew into a file without a name in the store's directory, and back through the log in one
 * transaction: a crash leaves the one or the other. */
static int vacuum(struct meta *m)
{
	int rc = sqlite3_exec(m->db, "PRAGMA temp_store=FILE; PRAGMA cache_spill=1; VACUUM", NULL, NULL, NULL);

	sqlite3_exec(m->db, "PRAGMA temp_store=MEMORY;" NO_SPILL, NULL, NULL, NULL);
	return rc;
}

/* Gives the file's free pages back when they are most of it, and at least free_min: between transactions, with at most live_max pages
 * in use. A failure harms nothing, and the next mount tries again. */
static void shrink_locked(struct meta *m, int64_t free_min, int64_t live_max)
{
	int64_t unused = pages(m, SQL_PAGES_FREE), live = pages(m, SQL_PAGES) - unused;
	int rc;

	if (unused < free_min || unused < live || live > live_max || m->shrinking_failed || !has_room(m, live))
		return;
	rc = vacuum(m);
	if (rc == SQLITE_OK && fold_wal_locked(m) == 0)
		return;
	m->shrinking_failed = true;
	log_warn("meta.db: %lld unused pages are not given back: %s", (long long)unused, sqlite3_errmsg(m->db));
}

/* A crash has left the log with space that the first commit may need. Without space in the database it stays. */
static int fold_leftover(struct meta *m)
{
	int err = fold_wal_locked(m);

	if (err_is_full(err)) {
		look_at_file(m);
		err = 0;
	}
	return err;
}

int meta_open(struct io_dir *dir, struct meta **out)
{
	struct meta *m = calloc(1, sizeof(*m));
	int rc = SQLITE_OK, err;

	if (!m)
		return -ENOMEM;
	lock_init(&m->lock, RANK_META);
	m->dir = dir;
	m->deferred_tail = &m->deferred;
	m->wal_pages_max = META_WAL_PAGES_MAX;
	m->cache_bytes = META_CACHE_BYTES;
	m->ninodes = -1;
	err = meta_vfs_open(dir, "meta.db", SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &m->vfs, &rc);
	if (err) {
		err = rc == SQLITE_OK || err == -EUCLEAN ? err : meta_errno(m, rc);
	} else {
		m->db = meta_vfs_db(m->vfs);
		err = configure(m);
	}
	if (!err)
		err = load_next_ino(m);
	if (!err)
		err = fold_leftover(m);
	if (err) {
		meta_close(m);
		return err;
	}
	sqlite3_wal_hook(m->db, wal_hook, m);
	drop_leftovers(m);
	shrink_locked(m, META_FREE_PAGES_RESTING_MIN, META_LIVE_PAGES_MAX);
	*out = m;
	return 0;
}

void meta_number_above(struct meta *m, uint64_t base)
{
	m->base = base;
	m->next_ino += base;
	lock_fini(&m->lock);
	lock_init(&m->lock, RANK_META_SCRATCH);
}

void meta_lock(struct meta *m)
{
	if (m)
		lock_acquire(&m->lock);
}

void meta_unlock(struct meta *m)
{
	if (m)
		lock_release(&m->lock);
}

void meta_defer_locked(struct meta *m, struct meta_deferred *d)
{
	d->next = NULL;
	*m->deferred_tail = d;
	m->deferred_tail = &d->next;
}

struct meta_deferred *meta_take_deferred_locked(struct meta *m)
{
	struct meta_deferred *all = m->deferred;

	m->deferred = NULL;
	m->deferred_tail = &m->deferred;
	return all;
}

bool meta_pending_locked(struct meta *m)
{
	return m->in_transaction;
}

bool meta_failed(struct meta *m)
{
	return atomic_load(&m->failed);
}

int meta_trim_locked(struct meta *m)
{
	int64_t unused, before = INT64_MAX;
	int err = meta_fold_locked(m);

	while (!err && !m->in_transaction && !meta_failed(m) && (unused = pages(m, SQL_PAGES_FREE)) && unused < before) {
		before = unused;
		/* A failure here has changed nothing. */
		if (sqlite3_exec(m->db, "PRAGMA incremental_vacuum(" TRIM_PAGES ")", NULL, NULL, NULL) != SQLITE_OK)
			break;
		err = meta_fold_locked(m);
	}
	return err;
}

int meta_fold_locked(struct meta *m)
{
	int err = m->in_transaction || meta_failed(m) ? 0 : m->wal_pages ? fold_wal_locked(m) : 0;

	return err == -ENOSPC ? 0 : err;
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
	if (!err) {
		err = secure_log(m);
		if (err_is_passing(err))
			return err;
	}
	if (!err)
		err = meta_query(m, SQL_COMMIT, &row, "");
	if (err) {
		atomic_store(&m->failed, true);
		return err;
	}
	m->in_transaction = false;
	atomic_store(&m->held_pages, 0);
	m->rows_deleted = 0;
	look_at_growth(m);
	if (m->wal_pages > m->wal_pages_max)
		err = meta_fold_locked(m);
	if (!err)
		shrink_locked(m, META_FREE_PAGES_MIN, META_LIVE_PAGES_MAX);
	return err;
}

void meta_close(struct meta *m)
{
	if (m->in_transaction)
		sqlite3_exec(m->db, "ROLLBACK", NULL, NULL, NULL);
	else if (m->stmt[SQL_COUNT - 1] && !meta_failed(m))
		shrink_locked(m, META_FREE_PAGES_RESTING_MIN, INT64_MAX);
	for (int i = 0; i < SQL_COUNT; i++)
		sqlite3_finalize(m->stmt[i]);
	/* Closing folds the log; it must be durable in the database before the log is unlinked. */
	if (m->db)
		sqlite3_exec(m->db, "PRAGMA synchronous=FULL", NULL, NULL, NULL);
	if (m->vfs)
		meta_vfs_close(m->vfs);
	lock_fini(&m->lock);
	free(m);
}

/* A failure is final: nobody knows what is on the disk. */
int meta_sync(struct meta *m)
{
	int err = meta_vfs_sync_log(m->vfs);

	if (err)
		atomic_store(&m->failed, true);
	return err_is_passing(err) ? -EIO : err;
}

int meta_fact_get_locked(struct meta *m, const char *key, int64_t *out)
{
	sqlite3_stmt *row;
	int err = meta_query(m, SQL_FACT_GET, &row, "s", key);

	if (err || !row)
		return err ? err : -ENOENT;
	*out = sqlite3_column_int64(row, 0);
	meta_done(row);
	return 0;
}

int meta_fact_set_locked(struct meta *m, const char *key, int64_t value)
{
	return meta_run(m, SQL_FACT_SET, "si", key, value);
}
