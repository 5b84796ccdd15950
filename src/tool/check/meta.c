/*
 * Passes over meta.db as a database: is it whole, has it the tables, do they hold what they are declared to
 * hold; and the facts.
 *
 * Invariant: the passes behind these may rely on every value of a known table having its column's type.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/meta.h"
#include "store/meta/vfs.h"
#include "store/meta/sql.h"
#include "tool/check/inside.h"

#define INTEGRITY_LINES 20

static const char *text_of(sqlite3_stmt *s, int column)
{
	const unsigned char *text = sqlite3_column_text(s, column);

	return text ? (const char *)text : "";
}

/* Damage that SQLite meets is a finding; everything else is a failure of the check. */
static int sqlite_said(struct check *c, int rc)
{
	rc &= 0xff;
	if (rc != SQLITE_CORRUPT && rc != SQLITE_NOTADB && rc != SQLITE_FORMAT && rc != SQLITE_ERROR)
		return check_db_fail(c);
	check_found(c, "meta.db: %s", sqlite3_errmsg(c->db));
	return 0;
}

/* The checksum of every page: also of those that are not in use. */
static int check_pages(struct check *c)
{
	uint8_t page[META_PAGE_BYTES];
	int fd = check_db_file(c), err = 0;
	bool sums = true;
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0) {
		err = check_fail(c, fd < 0 ? fd : -errno, "meta.db: %s", strerror(fd < 0 ? -fd : errno));
		if (fd >= 0)
			close(fd);
		return err;
	}
	for (off_t at = 0; !err && sums && (n = pread(fd, page, sizeof(page), at)) > 0; at += n) {
		if (!at && n >= 100)
			sums = meta_page_has_sums(page);
		if (sums && n == sizeof(page) && !meta_page_is_right(page))
			check_found(c, "meta.db: the checksum of page %lld is wrong",
				    (long long)(at / META_PAGE_BYTES + 1));
		err = check_tick(c, (uint64_t)at, (uint64_t)st.st_size);
	}
	if (!sums)
		check_note(c, "meta.db: its pages have no checksums");
	if (!err && n < 0)
		check_found(c, "meta.db cannot be read: %s", strerror(errno));
	close(fd);
	return err;
}

int check_pass_database(struct check *c)
{
	sqlite3_stmt *s;
	struct stat st;
	char sql[64];
	int err, rc;

	if (fstatat(c->dirfd, "meta.db", &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT) {
		check_found(c, "meta.db is missing");
		return 0;
	}
	err = check_db_read(c);
	if (!err)
		err = check_pages(c);
	if (err || c->fatal)
		return err;
	snprintf(sql, sizeof(sql), "PRAGMA integrity_check(%d)", INTEGRITY_LINES);
	rc = sqlite3_prepare_v2(c->db, sql, -1, &s, NULL);
	if (rc != SQLITE_OK)
		return sqlite_said(c, rc);
	while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
		const char *text = text_of(s, 0);

		if (strcmp(text, "ok"))
			check_found(c, "meta.db: %s", check_quote(c, text, strlen(text)));
	}
	if (rc != SQLITE_DONE)
		err = sqlite_said(c, rc);
	sqlite3_finalize(s);
	return err;
}

/* An empty database with the schema that this program knows. */
static int open_model(struct check *c, sqlite3 **out)
{
	sqlite3 *db;

	if (sqlite3_open(":memory:", &db) == SQLITE_OK && sqlite3_exec(db, SQL_SCHEMA, NULL, NULL, NULL) == SQLITE_OK) {
		*out = db;
		return 0;
	}
	sqlite3_close(db);
	return check_fail(c, -ENOMEM, "SQLite: no database in memory");
}

/* Calls each with the columns of the rows of a query on the model. */
static int walk_model(struct check *c, const char *sql, int (*each)(struct check *c, sqlite3_stmt *s))
{
	sqlite3 *model = NULL;
	sqlite3_stmt *s = NULL;
	int err = open_model(c, &model);

	if (err)
		return err;
	if (sqlite3_prepare_v2(model, sql, -1, &s, NULL) != SQLITE_OK)
		err = check_fail(c, -EIO, "SQLite: %s", sqlite3_errmsg(model));
	while (!err && sqlite3_step(s) == SQLITE_ROW)
		err = each(c, s);
	sqlite3_finalize(s);
	sqlite3_close(model);
	return err;
}

#define MODEL_COLUMNS \
	"SELECT t.name, p.name, lower(p.type), p.\"notnull\", p.pk, p.cid FROM sqlite_schema t," \
	" pragma_table_info(t.name) p" \
	" WHERE t.type='table' ORDER BY t.name, p.cid"

static int check_column(struct check *c, sqlite3_stmt *s)
{
	int64_t there, same;
	int err = check_number(c, 0, &there, "SELECT count(*) FROM pragma_table_info(?)", "s", text_of(s, 0));

	if (!err)
		err = check_number(c, 0, &same, "SELECT count(*) FROM pragma_table_info(?) WHERE name=?"
				   " AND lower(type)=? AND \"notnull\"=? AND pk=?", "sssii", text_of(s, 0),
				   text_of(s, 1), text_of(s, 2), sqlite3_column_int64(s, 3),
				   sqlite3_column_int64(s, 4));
	if (err || same)
		return err;
	if (there)
		check_found(c, "meta.db: table %s: column %s is missing or another", text_of(s, 0), text_of(s, 1));
	else if (!sqlite3_column_int64(s, 5))
		check_found(c, "meta.db: table %s is missing", text_of(s, 0));
	return 0;
}

int check_pass_schema(struct check *c)
{
	return walk_model(c, MODEL_COLUMNS, check_column);
}

static int check_type(struct check *c, sqlite3_stmt *s)
{
	char sql[256];
	int64_t n;
	int err;

	snprintf(sql, sizeof(sql), "SELECT count(*) FROM %s WHERE typeof(%s)<>'%s'", text_of(s, 0), text_of(s, 1),
		 text_of(s, 2));
	err = check_number(c, 0, &n, sql, "");
	if (!err && n)
		check_found(c, "meta.db: table %s: %" PRId64 " values of column %s are no %s", text_of(s, 0), n,
			    text_of(s, 1), text_of(s, 2));
	return err;
}

int check_pass_types(struct check *c)
{
	return walk_model(c, MODEL_COLUMNS, check_type);
}

/* Indexes can be made anew; triggers and views have no place here. */

static int check_index(struct check *c, sqlite3_stmt *s)
{
	int64_t same;
	int err = check_number(c, 0, &same,
			       "SELECT count(*) FROM sqlite_schema WHERE type='index' AND name=? AND sql=?", "ss",
			       text_of(s, 0), text_of(s, 1));

	if (err || same)
		return err;
	/* A unique one fails where names are double: then it stays missing, and the check fails. */
	err = check_mend(c, "made anew", text_of(s, 1), "");
	if (!err)
		check_found(c, "meta.db: index %s is missing", text_of(s, 0));
	return err;
}

static int drop_foreign(struct check *c, sqlite3_value **v)
{
	const char *type = (const char *)sqlite3_value_text(v[0]), *name = (const char *)sqlite3_value_text(v[1]);
	char *sql;
	int err;

	sql = sqlite3_mprintf("DROP %s \"%w\"", type, name);
	if (!sql)
		return -ENOMEM;
	err = check_mend(c, "dropped", sql, "");
	sqlite3_free(sql);
	if (!err)
		check_found(c, "meta.db: %s %s does not belong here", type, check_quote(c, name, strlen(name)));
	return err;
}

int check_pass_indexes(struct check *c)
{
	int err = check_rows(c, "SELECT type, name FROM sqlite_schema WHERE type IN ('trigger', 'view') ORDER BY name",
			     drop_foreign);

	if (err)
		return err;
	return walk_model(c, "SELECT name, sql FROM sqlite_schema WHERE type='index' AND sql IS NOT NULL ORDER BY name",
			  check_index);
}

/* A fact must be there and at least `least`, what the rows say. */
static int check_fact(struct check *c, const char *key, int64_t least)
{
	int64_t value;
	int err = check_number(c, -1, &value, "SELECT value FROM facts WHERE key=?", "s", key);

	if (err || value >= least)
		return err;
	err = check_mend(c, "set", "REPLACE INTO facts(key, value) VALUES(?,?)", "si", key, least);
	if (!err && value < 0)
		check_found(c, "%s is missing or negative; the rows ask for at least %" PRId64, key, least);
	else if (!err)
		check_found(c, "%s is %" PRId64 "; the rows ask for at least %" PRId64, key, value, least);
	return err;
}

int check_pass_facts(struct check *c)
{
	static const struct {
		const char *key, *least;
	} facts[] = {
		{ "commit", "SELECT max(commit_number) FROM layers" },
		{ "next_ino", "SELECT max(coalesce(max(ino), 0) + 1, 64) FROM inodes" },
		{ "next_layer", "SELECT max(number) + 1 FROM layers" },
	};
	int64_t commits = 0;
	int err = check_number(c, 0, &commits, "SELECT count(*) FROM facts WHERE key='commit'", "");

	/* Each store has one before it has its mark. */
	if (!err && !commits) {
		check_found(c, "meta.db holds no commit: it was lost, or a rebuild was cut short");
		c->fatal = true;
	}
	for (size_t i = 0; i < sizeof(facts) / sizeof(*facts) && !err && !c->fatal; i++) {
		int64_t least;

		err = check_number(c, -1, &least, facts[i].least, "");
		/* There may be no rows. */
		if (!err && least >= 0)
			err = check_fact(c, facts[i].key, least);
	}
	return err;
}
