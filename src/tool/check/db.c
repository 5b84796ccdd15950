/*
 * meta.db for the check: opening it, statements, the one transaction that mends.
 *
 * Invariants:
 * 1. A check that does not repair writes nothing into the store: it opens meta.db as immutable, or, when
 *    there is a log to be read with it, a copy of both.
 * 2. The first change begins the transaction; before it a copy of meta.db is durable in the store.
 * 3. All rows of a query are read before the first of them is acted on.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "io/beneath.h"
#include "io/io.h"
#include "store/classes.h"
#include "store/meta/vfs.h"
#include "tool/check/inside.h"
#include "util/clock.h"
#include "util/err.h"

int check_db_fail(struct check *c)
{
	int rc = sqlite3_errcode(c->db) & 0xff;

	if (rc == SQLITE_INTERRUPT && check_cancelled())
		return -ECANCELED;
	return check_fail(c, rc == SQLITE_NOMEM ? -ENOMEM : rc == SQLITE_FULL ? -ENOSPC : -EIO, "meta.db: %s",
			  sqlite3_errmsg(c->db));
}

static int interrupted(void *ctx)
{
	(void)ctx;
	return check_cancelled();
}

static void close_db(struct check *c)
{
	if (c->vfs)
		meta_vfs_close(c->vfs);
	else
		sqlite3_close(c->db);
	if (c->vfs_dir)
		io_dir_close(c->vfs_dir);
	c->vfs = NULL;
	c->vfs_dir = NULL;
	c->db = NULL;
}

/* As the daemon does: with checksums, and alone. */
static int open_alone(struct check *c, const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = SQLITE_OK, err;

	err = fd < 0 ? -errno : io_file_dir(fd, IO_BACKING_BUFFERED, NULL, &c->vfs_dir);
	if (err && fd >= 0)
		close(fd);
	if (!err)
		err = meta_vfs_open(c->vfs_dir, "meta.db", SQLITE_OPEN_READWRITE, &c->vfs, &rc);
	if (err) {
		close_db(c);
		return rc == SQLITE_OK || err == -EUCLEAN ? check_fail_file(c, err, "meta.db") :
							     check_fail(c, err, "meta.db: %s", sqlite3_errstr(rc));
	}
	c->db = meta_vfs_db(c->vfs);
	return 0;
}

static int open_unchanged(struct check *c, const char *path)
{
	int err;

	if (sqlite3_open_v2(path, &c->db, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX, NULL) == SQLITE_OK)
		return 0;
	err = check_db_fail(c);
	close_db(c);
	return err;
}

static_assert(ARRAY_BUCKET == 1 && ARRAY_COLUMN == 2 && ARRAY_LAYERED == 3, "the kinds in inside.h");
static_assert(S_IFMT == 61440 && S_IFDIR == 16384 && S_IFREG == 32768 && S_IFLNK == 40960, "the modes in inside.h");

/* temp.classes (ino, kind, name) is store/classes.h for SQL. */
static void tell_classes(struct check *c)
{
	sqlite3_exec(c->db, "CREATE TEMP TABLE classes(ino INTEGER PRIMARY KEY, kind INTEGER, name BLOB)", NULL, NULL, NULL);
	for (size_t k = 0; k < CLASSES_N; k++) {
		char *sql = sqlite3_mprintf("INSERT INTO temp.classes VALUES(%lld, %d, CAST(%Q AS BLOB))", (long long)classes[k].ino,
					    (int)classes[k].kind, classes[k].name);

		sqlite3_exec(c->db, sql, NULL, NULL, NULL);
		sqlite3_free(sql);
	}
}

static int set_up(struct check *c)
{
	sqlite3_exec(c->db, "PRAGMA temp_store=MEMORY", NULL, NULL, NULL);
	sqlite3_progress_handler(c->db, 10000, interrupted, NULL);
	sqlite3_db_config(c->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	/* A damaged schema must not make SQLite run what it says. */
	sqlite3_db_config(c->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
	tell_classes(c);
	return 0;
}

/* A directory of our own with a copy of the database and its log. */
static int copy_db(struct check *c)
{
	const char *tmp = getenv("TMPDIR");
	int to, err;

	if (asprintf(&c->copy_dir, "%s/spillfs-check.XXXXXX", tmp && *tmp ? tmp : "/tmp") < 0) {
		c->copy_dir = NULL;
		return -ENOMEM;
	}
	if (!mkdtemp(c->copy_dir)) {
		err = check_fail(c, -errno, "%s: %s", c->copy_dir, strerror(errno));
		free(c->copy_dir);
		c->copy_dir = NULL;
		return err;
	}
	to = open(c->copy_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	err = to < 0 ? -errno : check_copy_file(c, c->dirfd, "meta.db", to, "meta.db");
	if (!err)
		err = check_copy_file(c, c->dirfd, "meta.db-wal", to, "meta.db-wal");
	if (to >= 0)
		close(to);
	if (err && err != -ECANCELED)
		check_fail(c, err, "cannot copy meta.db to %s: %s", c->copy_dir, err_text(err));
	return err;
}

static void drop_copy(struct check *c)
{
	static const char *const names[] = { "meta.db", "meta.db-wal", "meta.db-shm" };
	int dir;

	if (!c->copy_dir)
		return;
	dir = open(c->copy_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (size_t i = 0; dir >= 0 && i < sizeof(names) / sizeof(*names); i++)
		unlinkat(dir, names[i], 0);
	if (dir >= 0)
		close(dir);
	rmdir(c->copy_dir);
	free(c->copy_dir);
	c->copy_dir = NULL;
}

int check_db_read(struct check *c)
{
	char path[64];
	struct stat st;
	int fd, err = beneath_open(c->dirfd, "meta.db", O_RDONLY, &fd);

	if (err)
		return check_fail_file(c, err, "meta.db");
	close(fd); /* SQLite opens it by itself */
	c->killed = fstatat(c->dirfd, "meta.db-wal", &st, AT_SYMLINK_NOFOLLOW) == 0 && (st.st_size || !S_ISREG(st.st_mode));
	if (!c->killed) {
		snprintf(path, sizeof(path), "file:/proc/self/fd/%d/meta.db?immutable=1", c->dirfd);
		err = open_unchanged(c, path);
		return err ? err : set_up(c);
	}
	err = copy_db(c);
	if (err)
		return err;
	err = open_alone(c, c->copy_dir);
	if (!err)
		err = set_up(c);
	/* So that each page stands once, in the copy. It mends what a crash has left of this in the store. */
	if (!err && sqlite3_exec(c->db, "PRAGMA wal_checkpoint(TRUNCATE)", NULL, NULL, NULL) == SQLITE_INTERRUPT)
		err = -ECANCELED;
	return err;
}

int check_db_file(struct check *c)
{
	int dir = c->copy_dir ? open(c->copy_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : c->dirfd, fd, err;

	if (dir < 0)
		return -errno;
	err = beneath_open(dir, "meta.db", O_RDONLY, &fd);
	if (c->copy_dir)
		close(dir);
	return err ? err : fd;
}

int check_db_write(struct check *c)
{
	char path[64];
	int err;

	check_db_close(c);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", c->dirfd);
	err = open_alone(c, path);
	if (!err)
		err = set_up(c);
	/* The log goes into the database, so that a copy of that is all there is to be saved. */
	if (!err && sqlite3_exec(c->db, "PRAGMA synchronous=FULL; PRAGMA wal_checkpoint(TRUNCATE)", NULL, NULL, NULL))
		err = check_db_fail(c);
	return err;
}

void check_db_close(struct check *c)
{
	if (c->db) {
		if (!sqlite3_get_autocommit(c->db))
			sqlite3_exec(c->db, "ROLLBACK", NULL, NULL, NULL);
		close_db(c);
	}
	drop_copy(c);
}

int check_db_commit(struct check *c)
{
	if (!c->mending)
		return 0;
	c->mending = false;
	/* The layers' log may have mended rows as they were: the next mount compares them. */
	if (sqlite3_exec(c->db, "REPLACE INTO facts(key, value) VALUES('relog', 1), ('logged', 0)", NULL, NULL, NULL))
		return check_db_fail(c);
	return sqlite3_exec(c->db, "COMMIT", NULL, NULL, NULL) == SQLITE_OK ? 0 : check_db_fail(c);
}

/* A name of its own, also for the second repair in one second. */
static int save_db(struct check *c)
{
	time_t now = clock_timespec(clock_now_ns()).tv_sec;
	char name[48];
	struct tm tm;
	int err = -EEXIST;

	strftime(name, sizeof(name), "meta.db.before-repair-%Y%m%dT%H%M%SZ", gmtime_r(&now, &tm));
	for (int i = 0; i < 100 && err == -EEXIST; i++) {
		snprintf(c->backup, sizeof(c->backup), i ? "%s.%d" : "%s", name, i);
		err = check_copy_file(c, c->dirfd, "meta.db", c->dirfd, c->backup);
	}
	return !err || err == -ECANCELED ? err : check_fail(c, err, "%s: %s", c->backup, strerror(-err));
}

/* Invariant 2. */
static int begin_mending(struct check *c)
{
	int err = 0;

	if (c->mending)
		return 0;
	if (!*c->backup)
		err = save_db(c);
	if (err)
		return err;
	if (sqlite3_exec(c->db, "BEGIN IMMEDIATE", NULL, NULL, NULL) != SQLITE_OK)
		return check_db_fail(c);
	c->mending = true;
	return 0;
}

static int prepare(struct check *c, const char *sql, sqlite3_stmt **out)
{
	return sqlite3_prepare_v2(c->db, sql, -1, out, NULL) == SQLITE_OK ? 0 : check_db_fail(c);
}

static int prepare_bound(struct check *c, sqlite3_stmt **out, const char *sql, const char *fmt, va_list ap)
{
	int err = prepare(c, sql, out), rc = SQLITE_OK;

	for (int i = 1; !err && *fmt && rc == SQLITE_OK; fmt++, i++) {
		if (*fmt == 'i') {
			rc = sqlite3_bind_int64(*out, i, va_arg(ap, int64_t));
		} else if (*fmt == 's') {
			rc = sqlite3_bind_text(*out, i, va_arg(ap, const char *), -1, SQLITE_STATIC);
		} else {
			const void *p = va_arg(ap, const void *);
			size_t n = va_arg(ap, size_t);

			rc = sqlite3_bind_blob64(*out, i, n ? p : "", n, SQLITE_STATIC);
		}
	}
	if (!err && rc != SQLITE_OK) {
		err = check_db_fail(c);
		sqlite3_finalize(*out);
	}
	return err;
}

struct row {
	struct row *next;
	sqlite3_value *v[];
};

static int read_rows(struct check *c, sqlite3_stmt *s, struct row **out)
{
	int n = sqlite3_column_count(s), rc;
	struct row **end = out;

	while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
		struct row *r = calloc(1, sizeof(*r) + (size_t)n * sizeof(*r->v));

		if (!r)
			return -ENOMEM;
		*end = r;
		end = &r->next;
		for (int i = 0; i < n; i++) {
			r->v[i] = sqlite3_value_dup(sqlite3_column_value(s, i));
			if (!r->v[i])
				return -ENOMEM;
		}
	}
	return rc == SQLITE_DONE ? 0 : check_db_fail(c);
}

int check_rows(struct check *c, const char *sql, int (*each)(struct check *c, sqlite3_value **v))
{
	struct row *rows = NULL;
	sqlite3_stmt *s;
	int err = prepare(c, sql, &s), n;

	if (err)
		return err;
	n = sqlite3_column_count(s);
	err = read_rows(c, s, &rows);
	sqlite3_finalize(s);
	while (rows) {
		struct row *r = rows;

		rows = r->next;
		if (!err)
			err = check_cancelled() ? -ECANCELED : each(c, r->v);
		for (int i = 0; i < n; i++)
			sqlite3_value_free(r->v[i]);
		free(r);
	}
	return err;
}

int check_number(struct check *c, int64_t otherwise, int64_t *out, const char *sql, const char *fmt, ...)
{
	sqlite3_stmt *s;
	va_list ap;
	int err, rc;

	va_start(ap, fmt);
	err = prepare_bound(c, &s, sql, fmt, ap);
	va_end(ap);
	if (err)
		return err;
	rc = sqlite3_step(s);
	if (rc == SQLITE_ROW && sqlite3_column_type(s, 0) != SQLITE_NULL)
		*out = sqlite3_column_int64(s, 0);
	else if (rc == SQLITE_ROW || rc == SQLITE_DONE)
		*out = otherwise;
	else
		err = check_db_fail(c);
	sqlite3_finalize(s);
	return err;
}

static int run(struct check *c, const char *sql, const char *fmt, va_list ap)
{
	sqlite3_stmt *s;
	int err = prepare_bound(c, &s, sql, fmt, ap);

	if (err)
		return err;
	while (sqlite3_step(s) == SQLITE_ROW)
		;
	return sqlite3_finalize(s) == SQLITE_OK ? 0 : check_db_fail(c);
}

int check_keep(struct check *c, const char *sql, const char *fmt, ...)
{
	va_list ap;
	int err;

	va_start(ap, fmt);
	err = run(c, sql, fmt, ap);
	va_end(ap);
	return err;
}

int check_mend(struct check *c, const char *what, const char *sql, const char *fmt, ...)
{
	va_list ap;
	int err;

	if (!c->repair)
		return 0;
	err = begin_mending(c);
	if (err)
		return err;
	va_start(ap, fmt);
	err = run(c, sql, fmt, ap);
	va_end(ap);
	if (!err && what)
		check_mended(c, "%s", what);
	return err;
}
