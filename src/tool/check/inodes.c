/*
 * Passes over inodes and what hangs on them besides data: blobs and extended attributes.
 *
 * Invariants:
 * 1. Where a file stands decides its class, unless its data says otherwise: then it goes to the lost+found
 *    of the class that its data has.
 * 2. No bytes of a user's are dropped: an inline column without its file becomes a file.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "array/acl.h"
#include "array/array.h"
#include "array/dtype.h"
#include "array/setting.h"
#include "spillfs.h"
#include "store/classes.h"
#include "store/meta.h"
#include "tool/check/inside.h"

#define INLINE_MAX (64 << 10)

static const char *kind_text(int64_t kind)
{
	const struct class *class = class_by_kind((uint64_t)kind);

	return class ? class->kind_name : kind == ARRAY_NONE ? "none" : "unknown";
}

/* The fixed directories. */
static int check_fixed(struct check *c, int64_t ino, int64_t kind, const char *name)
{
	int64_t there, is = 0, mode = 0;
	int64_t want = S_IFDIR | (ino == META_INO_ROOT ? 0755 : 01777);
	int err = check_number(c, 0, &there, "SELECT 1 FROM inodes WHERE ino=?", "i", ino);

	if (!err && !there) {
		err = check_mend(c, "made anew", "INSERT INTO inodes VALUES(?,?,?,2,0,0,0,0,0,0,1,0,0,0,0)", "iii", ino,
				 kind, want);
		if (!err)
			err = check_touched(c, ino);
		if (!err)
			check_found(c, "inode %" PRId64 ", %s, is missing", ino, name);
		return err;
	}
	if (!err)
		err = check_number(c, 0, &is, "SELECT kind FROM inodes WHERE ino=?", "i", ino);
	if (!err)
		err = check_number(c, 0, &mode, "SELECT mode FROM inodes WHERE ino=?", "i", ino);
	if (err || (is == kind && S_ISDIR(mode)))
		return err;
	err = check_mend(c, "set right", "UPDATE inodes SET kind=?, mode=? WHERE ino=?", "iii", kind,
			 S_ISDIR(mode) ? mode : want, ino);
	if (!err)
		check_found(c, "inode %" PRId64 ", %s, is no directory of its class: kind %" PRId64 ", mode %" PRIo64,
			    ino, name, is, mode);
	return err;
}

static int bad_number(struct check *c, sqlite3_value **v)
{
	check_found(c, "inode %" PRId64 ": this number is never given to a file", check_int(v[0]));
	return 0;
}

/* ino, mode, mode by what hangs on it. */
static int bad_mode(struct check *c, sqlite3_value **v)
{
	int64_t mode = check_int(v[1]), type = check_int(v[2]);
	const char *who = check_who(c, check_int(v[0]));
	int err = check_mend(c, "set", "UPDATE inodes SET mode=? WHERE ino=?", "ii", type | (mode & 07777),
			     check_int(v[0]));

	if (!err)
		check_found(c, "%s: mode %" PRIo64 " is no valid one", who, mode);
	return err;
}

/* Numbers that are out of their range become 0. */
static const struct {
	const char *column, *bad;
} ranges[] = {
	{ "uid", "uid NOT BETWEEN 0 AND 4294967295" },
	{ "gid", "gid NOT BETWEEN 0 AND 4294967295" },
	{ "rdev", "rdev < 0" },
	{ "nlink", "nlink NOT BETWEEN 0 AND 4294967295" },
	{ "stored", "stored < 0" },
	{ "file", "file<>0 AND kind<>" CHECK_COLUMN },
	{ "parent", "parent<>0 AND NOT " CHECK_IS_DIR("mode") },
	{ "size", "size<>0 AND NOT " CHECK_IS_REG("mode") " AND NOT " CHECK_IS_LINK("mode") },
};

/* ino, value, column */
static int bad_range(struct check *c, sqlite3_value **v)
{
	const char *who = check_who(c, check_int(v[0])), *column = (const char *)sqlite3_value_text(v[2]);
	char sql[128];
	int err;

	snprintf(sql, sizeof(sql), "UPDATE inodes SET %s=0 WHERE ino=?", column);
	err = check_mend(c, "set to 0", sql, "i", check_int(v[0]));
	if (!err)
		check_found(c, "%s: %s is %" PRId64, who, column, check_int(v[1]));
	return err;
}

static int check_ranges(struct check *c)
{
	int err = 0;

	for (size_t i = 0; i < sizeof(ranges) / sizeof(*ranges) && !err; i++) {
		char sql[256];

		snprintf(sql, sizeof(sql), "SELECT ino, %s, '%s' FROM inodes WHERE (%s) AND NOT " CHECK_FIXED("ino") " ORDER BY ino",
			 ranges[i].column, ranges[i].column, ranges[i].bad);
		err = check_rows(c, sql, bad_range);
	}
	return err;
}

/* The class in which each inode stands, by its names; a name that leads round in a circle has none. If a
 * directory has two names, the one counts that its row agrees with. */
static int find_places(struct check *c)
{
	static const char text[] =
		"DROP TABLE IF EXISTS temp.place;"
		"CREATE TEMP TABLE place(ino INTEGER PRIMARY KEY, class INTEGER);"
		"INSERT OR IGNORE INTO place WITH RECURSIVE t(ino, class) AS (SELECT ino, kind FROM temp.classes UNION"
		" SELECT n.ino, t.class FROM t JOIN inodes i ON i.ino=t.ino AND " CHECK_IS_DIR("i.mode")
		" JOIN names n ON n.parent=t.ino AND NOT " CHECK_FIXED("n.ino")
		" LEFT JOIN inodes d ON d.ino=n.ino AND " CHECK_IS_DIR("d.mode")
		" WHERE d.ino IS NULL OR d.parent=n.parent"
		" OR NOT EXISTS(SELECT 1 FROM names o WHERE o.ino=n.ino AND o.parent=d.parent))"
		" SELECT ino, class FROM t ORDER BY ino, class;";

	return sqlite3_exec(c->db, text, NULL, NULL, NULL) == SQLITE_OK ? 0 : check_db_fail(c);
}

/* The class of a file whose kind is not that of the place where it stands (0: nowhere). */
static int64_t right_kind(int64_t kind, int64_t place, int64_t size, bool extents, bool column)
{
	if ((place == ARRAY_BUCKET && extents) || (place == ARRAY_COLUMN && column))
		return place;
	if ((kind == ARRAY_BUCKET && extents) || (kind == ARRAY_COLUMN && column))
		return kind;
	if (extents || column)
		return extents ? ARRAY_BUCKET : ARRAY_COLUMN;
	/* Data in layers is not known here. */
	if (place && (place == ARRAY_LAYERED || kind != ARRAY_LAYERED || !size))
		return place;
	return ARRAY_LAYERED;
}

/* Invariant 1. ino, kind, mode, size, place, has extents, has a column's data */
static int bad_kind(struct check *c, sqlite3_value **v)
{
	int64_t ino = check_int(v[0]), kind = check_int(v[1]), place = check_int(v[4]), right;
	const char *who = check_who(c, ino);
	int err = 0;

	if (S_ISREG(check_int(v[2])))
		right = right_kind(kind, place, check_int(v[3]), check_int(v[5]), check_int(v[6]));
	else
		right = place ? place : ARRAY_BUCKET;
	if (right != kind)
		err = check_mend(c, "kind set", "UPDATE inodes SET kind=? WHERE ino=?", "ii", right, ino);
	if (!err && place && right != place)
		err = check_lose(c, ino, right);
	if (!err && place)
		check_found(c, "%s: its kind is %" PRId64 " (%s), but it stands where things are %s", who, kind,
			    kind_text(kind), kind_text(place));
	else if (!err)
		check_found(c, "%s: its kind is %" PRId64 " (%s)", who, kind, kind_text(kind));
	return err;
}

static int check_kinds(struct check *c)
{
	int err = find_places(c);

	if (err)
		return err;
	return check_rows(c, "SELECT i.ino, i.kind, i.mode, i.size, coalesce(p.class, 0) place, EXISTS(SELECT 1"
			  " FROM extents e WHERE e.ino=i.ino), i.file<>0 AND (i.kind=" CHECK_COLUMN
			  " OR coalesce(p.class, " CHECK_COLUMN ")=" CHECK_COLUMN ")"
			  " OR EXISTS(SELECT 1 FROM blobs b WHERE b.ino=i.ino AND b.what=2)"
			  " FROM inodes i LEFT JOIN temp.place p ON p.ino=i.ino WHERE NOT " CHECK_FIXED("i.ino")
			  " AND (CASE WHEN p.class IS NULL THEN i.kind NOT IN (SELECT kind FROM temp.classes)"
			  " ELSE p.class<>i.kind END) ORDER BY i.ino", bad_kind);
}

/* ino, size, stored as it is, as it should be. */
static int bad_stored(struct check *c, sqlite3_value **v)
{
	const char *who = check_who(c, check_int(v[0]));
	int err = check_mend(c, "set", "UPDATE inodes SET stored=? WHERE ino=?", "ii", check_int(v[2]),
			     check_int(v[0]));

	if (!err)
		check_found(c, "%s: %" PRId64 " bytes are said to be stored, its extents have %" PRId64, who,
			    check_int(v[1]), check_int(v[2]));
	return err;
}

static int bad_size(struct check *c, sqlite3_value **v)
{
	const char *who = check_who(c, check_int(v[0]));
	int64_t kind = check_int(v[2]);
	int err = 0;

	/* The data of buckets and columns says it. */
	if (kind == ARRAY_BUCKET || kind == ARRAY_COLUMN)
		err = check_mend(c, "set by its data", "UPDATE inodes SET size=? WHERE ino=?", "ii", check_int(v[3]),
				 check_int(v[0]));
	if (!err)
		check_found(c, "%s: its size is %" PRId64 ", which no file can have", who, check_int(v[1]));
	return err;
}

int check_pass_inodes(struct check *c)
{
	int err = check_fixed(c, META_INO_ROOT, ARRAY_NONE, "the root");
	char name[32];

	for (size_t k = 0; k < CLASSES_N && !err; k++) {
		snprintf(name, sizeof(name), "%s/", classes[k].name);
		err = check_fixed(c, (int64_t)classes[k].ino, classes[k].kind, name);
	}
	if (!err)
		err = check_rows(c, "SELECT ino FROM inodes WHERE ino<1 OR (ino<64 AND NOT " CHECK_FIXED("ino") ") ORDER BY ino",
				 bad_number);
	if (!err)
		err = check_rows(c, "SELECT i.ino, i.mode, CASE WHEN EXISTS(SELECT 1 FROM names n"
				 " WHERE n.parent=i.ino) THEN 16384 WHEN EXISTS(SELECT 1 FROM blobs b"
				 " WHERE b.ino=i.ino AND what=1) THEN 40960 ELSE 32768 END FROM inodes i"
				 " WHERE mode & ~65535 OR " CHECK_TYPE("mode") " NOT IN (4096, 8192, 16384, 24576, 32768,"
				 " 40960, 49152) ORDER BY ino", bad_mode);
	if (!err)
		err = check_kinds(c);
	if (!err)
		err = check_ranges(c);
	if (!err)
		err = check_rows(c, "SELECT i.ino, i.stored, (SELECT coalesce(sum(len), 0) FROM extents e"
				 " WHERE e.ino=i.ino AND (e.off<i.size OR " CHECK_NOT_CUTTING ")) s FROM inodes i"
				 " WHERE i.kind=" CHECK_BUCKET " AND " CHECK_IS_REG("i.mode")
				 " AND i.stored<>s AND i.stored>=0 ORDER BY i.ino", bad_stored);
	if (!err)
		err = check_rows(c, "SELECT i.ino, i.size, i.kind, CASE i.kind"
				 " WHEN 1 THEN (SELECT coalesce(max(off + len), 0) FROM extents e"
				 " WHERE e.ino=i.ino) ELSE (SELECT coalesce(max(length(value)), 0) FROM blobs b"
				 " WHERE b.ino=i.ino AND b.what=2) END FROM inodes i WHERE " CHECK_IS_REG("i.mode")
				 " AND i.size NOT BETWEEN 0 AND 1125899906842624 ORDER BY i.ino", bad_size);
	return err;
}

/* Blobs. */

/* ino, what, value, mode or NULL. A blob that does not fit its inode. */
static int bad_blob(struct check *c, sqlite3_value **v)
{
	int64_t ino = check_int(v[0]), what = check_int(v[1]), made = 0;
	int len = sqlite3_value_bytes(v[2]);
	const char *who = check_who(c, ino);
	bool lost = false;
	int err = 0;

	if (sqlite3_value_type(v[3]) == SQLITE_NULL)
		err = check_was_given(c, ino, &lost);
	if (err)
		return err;
	if (what == META_BLOB_INLINE && lost)
		err = check_make_file(c, ino, ARRAY_COLUMN, len, 0, NULL);
	else if (what == META_BLOB_INLINE) {
		err = check_make_file(c, 0, ARRAY_COLUMN, len, 0, &made);
		if (!err)
			err = check_change(c, "UPDATE blobs SET ino=? WHERE ino=? AND what=2", "ii", made, ino);
	} else
		err = check_mend(c, "removed", "DELETE FROM blobs WHERE ino=? AND what=?", "ii", ino, what);
	if (err)
		return err;
	if (what == META_BLOB_SYMLINK)
		check_found(c, "%s has a link's target, %s, but is no link", who,
			    check_quote(c, sqlite3_value_blob(v[2]), (size_t)len));
	else if (what == META_BLOB_INLINE)
		check_found(c, "%s has %d inline bytes, but is no inline column", who, len);
	else if (what == META_BLOB_RUNS || what > META_BLOB_RUNS_MORE)
		check_found(c, "%s has %d run boundaries, but is no bucket", who, len / 8);
	else if (what == META_BLOB_PROMISED)
		check_found(c, "%s has %d bytes of promised ranges, but is neither a bucket nor a layered array", who, len);
	else if (what == META_BLOB_RESERVED)
		check_found(c, "%s has an end of reserved space, but is no column with a file", who);
	else
		check_found(c, "%s has a blob of unknown kind %" PRId64 ", %d bytes", who, what, len);
	return err;
}

/* ino, size, length of the target or NULL, kind */
static int bad_link(struct check *c, sqlite3_value **v)
{
	int64_t ino = check_int(v[0]);
	const char *who = check_who(c, ino);
	int err;

	if (sqlite3_value_type(v[2]) != SQLITE_NULL && check_int(v[2]) > 0) {
		err = check_mend(c, "set", "UPDATE inodes SET size=? WHERE ino=?", "ii", check_int(v[2]), ino);
		if (!err)
			check_found(c, "%s: its size is %" PRId64 ", its target has %" PRId64 " bytes", who,
				    check_int(v[1]), check_int(v[2]));
		return err;
	}
	err = check_lose(c, ino, check_int(v[3]));
	if (!err)
		err = check_change(c, "REPLACE INTO blobs(ino, what, value) VALUES(?,1,CAST('lost' AS BLOB))", "i",
				   ino);
	if (!err)
		err = check_change(c, "UPDATE inodes SET size=4 WHERE ino=?", "i", ino);
	if (!err)
		check_found(c, "%s has lost its target", who);
	return err;
}

/* ino, size, inline bytes, how many */
static int bad_inline(struct check *c, sqlite3_value **v)
{
	int64_t ino = check_int(v[0]), size = check_int(v[1]), len = check_int(v[3]);
	const char *who = check_who(c, ino);
	int err = 0;

	/* Also if they are more than can be inline: the bytes that are there are the file. */
	if (len > size || size >= INLINE_MAX)
		err = check_mend(c, "the size is set to that", "UPDATE inodes SET size=? WHERE ino=?", "ii", len, ino);
	else if (c->repair) {
		char *all = calloc(1, (size_t)size);

		if (!all)
			return -ENOMEM;
		if (len)
			memcpy(all, sqlite3_value_blob(v[2]), (size_t)len);
		err = check_mend(c, "padded with zeros", "REPLACE INTO blobs(ino, what, value) VALUES(?,2,?)", "ib",
				 ino, all, (size_t)size);
		free(all);
	}
	if (!err && len < size)
		err = check_lose(c, ino, ARRAY_COLUMN);
	if (!err)
		check_found(c, "%s: its size is %" PRId64 ", but there are %" PRId64 " inline bytes", who, size, len);
	return err;
}

/* ino, size, boundaries, those in the piece before or NULL, piece */
static int check_runs(struct check *c, sqlite3_value **v)
{
	const char *bytes = sqlite3_value_blob(v[2]), *who;
	size_t len = (size_t)sqlite3_value_bytes(v[2]), good;
	const char *before = sqlite3_value_blob(v[3]);
	uint64_t last = 0, at;
	int nbefore = sqlite3_value_bytes(v[3]), err;

	if (nbefore >= 8)
		memcpy(&last, before + nbefore - 8, 8);
	for (good = 0; good + 8 <= len; good += 8, last = at) {
		memcpy(&at, bytes + good, 8);
		if (at <= last || at > (uint64_t)check_int(v[1]))
			break;
	}
	if (good == len && len)
		return 0;
	who = check_who(c, check_int(v[0]));
	if (good)
		err = check_mend(c, "the others removed", "UPDATE blobs SET value=? WHERE ino=? AND what=?", "bii",
				 bytes, good, check_int(v[0]), check_int(v[4]));
	else
		err = check_mend(c, "removed", "DELETE FROM blobs WHERE ino=? AND what=?", "ii", check_int(v[0]),
				 check_int(v[4]));
	if (!err) /* what follows cannot be told from what is wrong */
		err = check_change(c, "DELETE FROM blobs WHERE ino=? AND what>? AND what>16", "ii", check_int(v[0]), check_int(v[4]));
	if (!err)
		check_found(c, "%s: of its run boundaries, %zu bytes, only the first %zu are valid", who, len,
			    good / 8);
	return err;
}

/* ino, ranges. Nothing but space depends on them. */
static int check_promised(struct check *c, sqlite3_value **v)
{
	size_t n = (size_t)sqlite3_value_bytes(v[1]) / 16;
	const char *who = check_who(c, check_int(v[0])), *at = sqlite3_value_blob(v[1]);
	uint64_t end = 0, range[2];
	bool good = sqlite3_value_bytes(v[1]) % 16 == 0;
	int err;

	for (size_t i = 0; i < n && good; i++, end = range[0] + range[1]) {
		memcpy(range, at + i * sizeof(range), sizeof(range));
		good = range[0] >= end && range[1] && range[0] <= 2 * ARRAY_SIZE_MAX && range[1] <= 2 * ARRAY_SIZE_MAX;
	}
	if (good)
		return 0;
	err = check_mend(c, "removed", "DELETE FROM blobs WHERE ino=? AND what=4", "i", check_int(v[0]));
	if (!err)
		check_found(c, "%s: its promised ranges make no sense", who);
	return err;
}

/* ino, the end of what fallocate has reserved behind the size. Nothing but space depends on it. */
static int check_reserved(struct check *c, sqlite3_value **v)
{
	const char *who = check_who(c, check_int(v[0]));
	uint64_t end = UINT64_MAX;
	int err;

	if (sqlite3_value_bytes(v[1]) == sizeof(end))
		memcpy(&end, sqlite3_value_blob(v[1]), sizeof(end));
	if (end <= ARRAY_SIZE_MAX)
		return 0;
	err = check_mend(c, "removed", "DELETE FROM blobs WHERE ino=? AND what=5", "i", check_int(v[0]));
	if (!err)
		check_found(c, "%s: the end of its reserved space makes no sense", who);
	return err;
}

int check_pass_blobs(struct check *c)
{
	int err = check_rows(c, "SELECT b.ino, b.what, b.value, i.mode FROM blobs b LEFT"
			     " JOIN inodes i ON i.ino=b.ino WHERE i.ino IS NULL OR CASE b.what"
			     " WHEN 1 THEN NOT " CHECK_IS_LINK("i.mode") " WHEN 2 THEN NOT " CHECK_IS_REG("i.mode") " OR i.kind<>" CHECK_COLUMN
			     " OR i.file<>0 WHEN 5 THEN NOT " CHECK_IS_REG("i.mode") " OR i.kind<>" CHECK_COLUMN
			     " OR i.file=0 WHEN 4 THEN NOT " CHECK_IS_REG("i.mode") " OR i.kind NOT IN (" CHECK_BUCKET ", " CHECK_LAYERED ")"
			     " ELSE (b.what<>3 AND b.what<=16) OR NOT " CHECK_IS_REG("i.mode") " OR i.kind<>" CHECK_BUCKET " END"
			     " ORDER BY b.ino, b.what", bad_blob);

	if (!err)
		err = check_rows(c, "SELECT i.ino, i.size, length(b.value), i.kind FROM inodes i LEFT"
				 " JOIN blobs b ON b.ino=i.ino AND b.what=1 WHERE " CHECK_IS_LINK("i.mode")
				 " AND (b.ino IS NULL OR length(b.value)<>i.size OR length(b.value)=0) ORDER BY i.ino",
				 bad_link);
	if (!err)
		err = check_rows(c, "SELECT i.ino, i.size, b.value, coalesce(length(b.value), 0) n"
				 " FROM inodes i LEFT JOIN blobs b ON b.ino=i.ino AND b.what=2 WHERE i.kind=" CHECK_COLUMN
				 " AND " CHECK_IS_REG("i.mode") " AND i.file=0 AND n<>i.size ORDER BY i.ino", bad_inline);
	if (!err)
		err = check_rows(c, "SELECT b.ino, i.size, b.value, lag(b.value) OVER (PARTITION BY b.ino"
				 " ORDER BY b.what), b.what FROM blobs b JOIN inodes i ON i.ino=b.ino"
				 " WHERE (b.what=3 OR b.what>16) AND i.kind=" CHECK_BUCKET " ORDER BY b.ino, b.what", check_runs);
	if (!err)
		err = check_rows(c, "SELECT ino, value FROM blobs WHERE what=4 ORDER BY ino", check_promised);
	if (!err)
		err = check_rows(c, "SELECT ino, value FROM blobs WHERE what=5 ORDER BY ino", check_reserved);
	return err;
}

/* Extended attributes. */

/* ino, name, value, inode or NULL */
static int bad_xattr(struct check *c, sqlite3_value **v)
{
	const char *name = (const char *)sqlite3_value_text(v[1]), *who = check_who(c, check_int(v[0]));
	int err = check_mend(c, "removed", "DELETE FROM xattrs WHERE ino=? AND name=?", "is", check_int(v[0]), name);

	if (!err && sqlite3_value_type(v[3]) == SQLITE_NULL)
		check_found(c, "attribute %s, %d bytes, of inode %" PRId64 ", which does not exist",
			    check_quote(c, name, strlen(name)), sqlite3_value_bytes(v[2]), check_int(v[0]));
	else if (!err)
		check_found(c, "%s: attribute %s with %d bytes is none that can be set", who,
			    check_quote(c, name, strlen(name)), sqlite3_value_bytes(v[2]));
	return err;
}

/* The same of a setting, a file's own or its directory's (setting.h). */
static int check_setting(struct check *c, sqlite3_value **v)
{
	const char *name = (const char *)sqlite3_value_text(v[1]);
	size_t len = (size_t)sqlite3_value_bytes(v[2]);
	char text[DTYPE_TEXT_MAX + 1] = "", full[64];
	int err;

	snprintf(full, sizeof(full), "%s%s", setting_is_inherited(name) ? "user." : "", name);
	if (setting_is_inherited(name) && !setting_inherited_name(full))
		return bad_xattr(c, v);
	if (len <= DTYPE_TEXT_MAX && len) {
		memcpy(text, sqlite3_value_blob(v[2]), len);
		if (strlen(text) == len && (!setting_parse(full, text, NULL) || !setting_quota(full, text, NULL) ||
					    !setting_durable(full, text, NULL)))
			return 0;
	}
	err = check_mend(c, "removed", "DELETE FROM xattrs WHERE ino=? AND name=?", "is", check_int(v[0]), name);
	if (!err)
		check_found(c, "%s: attribute %s has no valid value: %s", check_who(c, check_int(v[0])),
			    check_quote(c, name, strlen(name)), check_quote(c, sqlite3_value_blob(v[2]), len));
	return err;
}

#define ACLS "'" ACL_ACCESS "', '" ACL_DEFAULT "'"

/* ino, name, value, inode, mode: an ACL. A directory alone has a default one, and a link none. */
static int see_acl(struct check *c, sqlite3_value **v)
{
	const char *name = (const char *)sqlite3_value_text(v[1]);
	mode_t mode = (mode_t)check_int(v[4]);
	const void *value = sqlite3_value_blob(v[2]);
	bool fits = strcmp(name, ACL_DEFAULT) ? !S_ISLNK(mode) : S_ISDIR(mode);

	return value && fits && !acl_check(value, (size_t)sqlite3_value_bytes(v[2])) ? 0 : bad_xattr(c, v);
}

int check_pass_xattrs(struct check *c)
{
	int err = check_rows(c, "SELECT x.ino, x.name, x.value, i.ino FROM xattrs x LEFT"
			     " JOIN inodes i ON i.ino=x.ino WHERE i.ino IS NULL OR length(x.value)>65536"
			     " OR length(CAST(x.name AS BLOB))>255 OR NOT (x.name LIKE 'user._%'"
			     " OR x.name LIKE 'trusted._%' OR x.name LIKE 'security._%' OR substr(x.name, 1, 8)='spillfs.'"
			     " OR x.name IN (" ACLS ")) ORDER BY x.ino, x.name",
			     bad_xattr);

	if (!err)
		err = check_rows(c, "SELECT x.ino, x.name, x.value, i.ino FROM xattrs x JOIN inodes i ON i.ino=x.ino"
				 " WHERE substr(x.name, 1, 13)='user.spillfs.' OR substr(x.name, 1, 8)='spillfs.' ORDER BY x.ino, x.name", check_setting);
	if (!err)
		err = check_rows(c, "SELECT x.ino, x.name, x.value, i.ino, i.mode FROM xattrs x JOIN inodes i ON i.ino=x.ino"
				 " WHERE x.name IN (" ACLS ") ORDER BY x.ino, x.name", see_acl);
	return err;
}
