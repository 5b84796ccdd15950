/*
 * Passes over the directory tree: names, directories, link counts.
 *
 * Invariants:
 * 1. A name is removed only when there is nothing behind it, or when a directory has another one.
 * 2. An inode that has no name, or none that can be reached, gets one in lost+found.
 * 3. Link counts come last: they follow from the names as the passes before have left them.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "array/array.h"
#include "store/classes.h"
#include "store/meta.h"
#include "tool/check/inside.h"

static const char *quoted(struct check *c, sqlite3_value *v)
{
	const void *bytes = sqlite3_value_blob(v);

	return check_quote(c, bytes, (size_t)sqlite3_value_bytes(v));
}

/* cookie, parent, name */
static int bad_bytes(struct check *c, sqlite3_value **v)
{
	char name[32];
	int n = snprintf(name, sizeof(name), "renamed-%" PRId64, check_int(v[0]));
	int err = check_change(c, "UPDATE names SET name=? WHERE cookie=?", "bi", name, (size_t)n, check_int(v[0]));

	if (err)
		return err;
	check_mended(c, "renamed to \"%s\"", name);
	check_found(c, "%s: entry %s is no valid name", check_who(c, check_int(v[1])), quoted(c, v[2]));
	return 0;
}

/* cookie, parent, name, ino */
static int bad_target(struct check *c, sqlite3_value **v)
{
	int64_t ino = check_int(v[3]), parent = check_int(v[1]);
	const char *who = check_who(c, parent);
	int err = check_mend(c, "the entry is removed", "DELETE FROM names WHERE cookie=?", "i", check_int(v[0]));

	if (!err)
		err = check_touched(c, parent);
	if (err)
		return err;
	if (ino == META_INO_ROOT || class_by_ino((uint64_t)ino))
		check_found(c, "%s: entry %s points to the fixed directory %" PRId64, who, quoted(c, v[2]), ino);
	else
		check_found(c, "%s: entry %s points to inode %" PRId64 ", which does not exist", who, quoted(c, v[2]),
			    ino);
	return 0;
}

/* cookie, parent, name, ino, kind, type of the parent or NULL */
static int bad_parent(struct check *c, sqlite3_value **v)
{
	const char *who = check_who(c, check_int(v[3]));
	int64_t parent = check_int(v[1]);
	int err = check_lose_name(c, check_int(v[0]), check_int(v[3]), check_int(v[4]));

	if (err)
		return err;
	if (parent == META_INO_ROOT)
		check_found(c, "%s stands in the root, as %s", who, quoted(c, v[2]));
	else if (sqlite3_value_type(v[5]) == SQLITE_NULL)
		check_found(c, "%s stands in inode %" PRId64 ", which does not exist, as %s", who, parent,
			    quoted(c, v[2]));
	else
		check_found(c, "%s stands in inode %" PRId64 ", which is no directory, as %s", who, parent,
			    quoted(c, v[2]));
	return 0;
}

/* The root's own entries. */
static int check_fixed_name(struct check *c, int64_t ino, const char *name)
{
	int64_t there;
	int err = check_number(c, 0, &there, "SELECT 1 FROM names WHERE parent=1 AND name=? AND ino=?", "bi", name,
			       strlen(name), ino);

	if (err || there)
		return err;
	err = check_mend(c, "made anew", "INSERT INTO names(parent, name, ino) VALUES(1,?,?)", "bi", name, strlen(name),
			 ino);
	if (!err)
		err = check_touched(c, META_INO_ROOT);
	if (!err)
		check_found(c, "the root has no entry \"%s\"", name);
	return err;
}

/* cookie, parent, name, ino */
static int second_name(struct check *c, sqlite3_value **v)
{
	const char *who = check_who(c, check_int(v[3])), *where = check_who(c, check_int(v[1]));
	int err = check_mend(c, "the entry is removed", "DELETE FROM names WHERE cookie=?", "i", check_int(v[0]));

	if (!err)
		err = check_touched(c, check_int(v[1]));
	if (!err)
		check_found(c, "%s has a second name, %s in %s", who, quoted(c, v[2]), where);
	return err;
}

#define OURS "(n.parent=1 AND (n.ino, n.name) IN (SELECT ino, name FROM temp.classes))"

int check_pass_names(struct check *c)
{
	int err = check_rows(c, "SELECT cookie, parent, name FROM names WHERE length(name) NOT BETWEEN 1 AND 255"
			     " OR instr(name, x'2f') OR instr(name, x'00') OR name IN (x'2e', x'2e2e') ORDER BY cookie",
			     bad_bytes);

	if (!err)
		err = check_rows(c, "SELECT n.cookie, n.parent, n.name, n.ino FROM names n"
				 " LEFT JOIN inodes i ON i.ino=n.ino"
				 " WHERE (i.ino IS NULL OR " CHECK_FIXED("n.ino") ") AND NOT " OURS " ORDER BY n.cookie", bad_target);
	if (!err)
		err = check_rows(c, "SELECT n.cookie, n.parent, n.name, n.ino, i.kind, p.mode FROM names n"
				 " JOIN inodes i ON i.ino=n.ino LEFT JOIN inodes p ON p.ino=n.parent"
				 " WHERE (p.ino IS NULL OR NOT " CHECK_IS_DIR("p.mode") " OR n.parent=1)"
				 " AND NOT " OURS " ORDER BY n.cookie", bad_parent);
	for (size_t k = 0; k < CLASSES_N && !err; k++)
		err = check_fixed_name(c, (int64_t)classes[k].ino, classes[k].name);
	if (!err)
		err = check_rows(c, "SELECT cookie, parent, name, ino FROM (SELECT n.cookie, n.parent, n.name, n.ino,"
				 " row_number() OVER (PARTITION BY n.ino ORDER BY n.parent=i.parent DESC, n.cookie)"
				 " nth FROM names n JOIN inodes i ON i.ino=n.ino WHERE " CHECK_IS_DIR("i.mode") ")"
				 " WHERE nth>1 ORDER BY cookie", second_name);
	return err;
}

/* Directories. */

/* ino, kind */
static int nameless_dir(struct check *c, sqlite3_value **v)
{
	int err = check_lose(c, check_int(v[0]), check_int(v[1]));

	if (!err)
		check_found(c, "directory %" PRId64 " has no name", check_int(v[0]));
	return err;
}

static int find_reached(struct check *c)
{
	static const char text[] =
		"DROP TABLE IF EXISTS temp.reached;"
		"CREATE TEMP TABLE reached(ino INTEGER PRIMARY KEY);"
		"INSERT INTO reached WITH RECURSIVE t(ino) AS (VALUES(1)"
		" UNION SELECT n.ino FROM t JOIN names n ON n.parent=t.ino"
		" JOIN inodes i ON i.ino=n.ino AND " CHECK_IS_DIR("i.mode") ") SELECT ino FROM t;";

	return sqlite3_exec(c->db, text, NULL, NULL, NULL) == SQLITE_OK ? 0 : check_db_fail(c);
}

/* ino, kind of a directory with a name that does not hang on the root. It is in a circle if it stands above
 * itself; each circle is told of once, at its lowest member, and what hangs on one is reached with it. */
static int unreached_dir(struct check *c, sqlite3_value **v)
{
	int64_t ino = check_int(v[0]), first;
	const char *who;
	int err = check_number(c, 0, &first, "WITH RECURSIVE up(ino) AS (SELECT parent FROM names WHERE ino=?1"
			       " UNION SELECT n.parent FROM up JOIN names n ON n.ino=up.ino) SELECT max(ino=?1)"
			       " AND min(ino)=?1 FROM up WHERE NOT EXISTS(SELECT 1 FROM temp.reached WHERE ino=?1)",
			       "i", ino);

	if (err || !first)
		return err;
	who = check_who(c, ino);
	err = check_lose(c, ino, check_int(v[1]));
	if (!err && c->repair)
		err = find_reached(c);
	if (!err)
		check_found(c, "%s is inside itself", who);
	return err;
}

/* ino, parent as the row says, parent by its name */
static int other_parent(struct check *c, sqlite3_value **v)
{
	const char *who = check_who(c, check_int(v[0]));
	int err = check_mend(c, "set", "UPDATE inodes SET parent=? WHERE ino=?", "ii", check_int(v[2]),
			     check_int(v[0]));

	if (!err)
		check_found(c, "%s: its parent is said to be inode %" PRId64 ", but it stands in %" PRId64, who,
			    check_int(v[1]), check_int(v[2]));
	return err;
}

int check_pass_tree(struct check *c)
{
	int err = check_rows(c, "SELECT i.ino, i.kind FROM inodes i WHERE " CHECK_IS_DIR("i.mode") " AND NOT " CHECK_FIXED("i.ino")
			     " AND NOT EXISTS(SELECT 1 FROM names n WHERE n.ino=i.ino) AND (i.nlink>0"
			     " OR EXISTS(SELECT 1 FROM names n WHERE n.parent=i.ino)) ORDER BY i.ino", nameless_dir);

	if (!err)
		err = find_reached(c);
	if (!err)
		err = check_rows(c, "SELECT i.ino, i.kind FROM inodes i WHERE " CHECK_IS_DIR("i.mode") " AND NOT " CHECK_FIXED("i.ino")
				 " AND EXISTS(SELECT 1 FROM names n WHERE n.ino=i.ino) AND NOT EXISTS(SELECT 1"
				 " FROM temp.reached r WHERE r.ino=i.ino) ORDER BY i.ino", unreached_dir);
	if (!err)
		err = check_rows(c, "SELECT i.ino, i.parent, n.parent FROM names n JOIN inodes i ON i.ino=n.ino"
				 " WHERE " CHECK_IS_DIR("i.mode") " AND i.parent<>n.parent AND NOT EXISTS(SELECT 1"
				 " FROM names o WHERE o.ino=i.ino AND o.parent=i.parent) ORDER BY i.ino", other_parent);
	if (!err)
		err = check_rows(c, "SELECT ino, parent, 1 FROM inodes WHERE ino=1 AND parent<>1", other_parent);
	return err;
}

/* Links. */

/* ino, kind */
static int nameless(struct check *c, sqlite3_value **v)
{
	const char *who = check_who(c, check_int(v[0]));
	int err = check_lose(c, check_int(v[0]), check_int(v[1]));

	if (!err)
		check_found(c, "%s has no name, but a link count", who);
	return err;
}

/* ino, link count, as it should be, changed by the repair itself */
static int bad_links(struct check *c, sqlite3_value **v)
{
	const char *who = check_who(c, check_int(v[0]));
	bool silent = check_int(v[3]);
	int err;

	if (silent)
		return check_change(c, "UPDATE inodes SET nlink=? WHERE ino=?", "ii", check_int(v[2]), check_int(v[0]));
	err = check_mend(c, "set", "UPDATE inodes SET nlink=? WHERE ino=?", "ii", check_int(v[2]), check_int(v[0]));
	if (!err)
		check_found(c, "%s: its link count is %" PRId64 ", it has %" PRId64, who, check_int(v[1]),
			    check_int(v[2]));
	return err;
}

static int count_files(struct check *c)
{
	int64_t n, bytes, orphans;
	int err = check_number(c, 0, &n, "SELECT count(*) FROM inodes WHERE " CHECK_IS_REG("mode") " AND nlink>0", "");

	if (!err)
		err = check_number(c, 0, &bytes, "SELECT CAST(total(size) AS INTEGER) FROM inodes"
				   " WHERE " CHECK_IS_REG("mode") " AND nlink>0", "");
	if (!err)
		err = check_number(c, 0, &orphans, "SELECT count(*) FROM inodes WHERE nlink=0", "");
	if (err)
		return err;
	c->nfiles = (uint64_t)n;
	c->nbytes = (uint64_t)bytes;
	if (orphans)
		check_note(c, "%" PRId64 " inodes without a name, which the next mount deletes", orphans);
	return 0;
}

int check_pass_links(struct check *c)
{
	static const char made[] = "CREATE TEMP TABLE IF NOT EXISTS touched(ino INTEGER PRIMARY KEY)";
	int err = check_rows(c, "SELECT i.ino, i.kind FROM inodes i WHERE NOT " CHECK_IS_DIR("i.mode") " AND i.nlink<>0"
			     " AND NOT " CHECK_FIXED("i.ino") " AND NOT EXISTS(SELECT 1 FROM names n WHERE n.ino=i.ino) ORDER BY i.ino",
			     nameless);

	if (!err && sqlite3_exec(c->db, made, NULL, NULL, NULL) != SQLITE_OK)
		err = check_db_fail(c);
	if (!err)
		err = check_rows(c, "SELECT ino, nlink, want, touched FROM (SELECT i.ino, i.nlink, EXISTS(SELECT 1"
				 " FROM temp.touched t WHERE t.ino=i.ino) touched, CASE"
				 " WHEN " CHECK_IS_DIR("i.mode") " THEN 2 + (SELECT count(*) FROM names n"
				 " JOIN inodes d ON d.ino=n.ino WHERE n.parent=i.ino AND " CHECK_IS_DIR("d.mode") ")"
				 " ELSE (SELECT count(*) FROM names n WHERE n.ino=i.ino) END want FROM inodes i"
				 " WHERE " CHECK_FIXED("i.ino") " OR EXISTS(SELECT 1 FROM names n WHERE n.ino=i.ino))"
				 " WHERE nlink<>want ORDER BY ino", bad_links);
	return err ? err : count_files(c);
}
