/*
 * lost+found, and files that are put together again. All of it changes rows, in the transaction of the
 * repair; without --repair nothing here does anything.
 *
 * Invariants:
 * 1. A file that is moved here keeps its name behind its inode number: with the suffix that says its type.
 * 2. Each class has a lost+found of its own, because a file never leaves its class.
 * 3. Link counts are not kept here: the pass "links" sets them last.
 */
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "array/array.h"
#include "store/classes.h"
#include "store/meta.h"
#include "tool/check/inside.h"
#include "util/clock.h"

#define LOST "lost+found"

static int new_ino(struct check *c, int64_t *out)
{
	int64_t ino;
	int err = check_number(c, META_INO_FIRST, &ino, "SELECT max((SELECT coalesce(max(value), 0) FROM facts"
			       " WHERE key='next_ino'), (SELECT max(ino) + 1 FROM inodes), ?)", "i",
			       (int64_t)META_INO_FIRST);

	if (!err)
		err = check_change(c, "REPLACE INTO facts(key, value) VALUES('next_ino', ?)", "i", ino + 1);
	if (!err)
		*out = ino;
	return err;
}

int check_was_given(struct check *c, int64_t ino, bool *out)
{
	int64_t next;
	int err = check_number(c, META_INO_FIRST, &next, "SELECT value FROM facts WHERE key='next_ino'", "");

	if (!err)
		*out = ino >= META_INO_FIRST && ino < next;
	return err;
}

static int insert_inode(struct check *c, int64_t ino, int64_t kind, int64_t mode, int64_t size, int64_t file,
			int64_t parent)
{
	int64_t now = clock_now_ns();

	return check_change(c, "INSERT INTO inodes(ino, kind, mode, nlink, uid, gid, rdev, size, stored, file, parent,"
			    " atime, mtime, ctime, btime) VALUES(?,?,?,?,0,0,0,?,0,?,?,?,?,?,?)", "iiiiiiiiiii", ino,
			    kind, mode, (int64_t)(S_ISDIR(mode) ? 2 : 1), size, file, parent, now, now, now, now);
}

int check_touched(struct check *c, int64_t ino)
{
	int err = check_change(c, "CREATE TEMP TABLE IF NOT EXISTS touched(ino INTEGER PRIMARY KEY)", "");

	return err ? err : check_change(c, "INSERT OR IGNORE INTO temp.touched VALUES(?)", "i", ino);
}

/* The directory lost+found of a class, made if it is missing; another name if that one is taken by a file. */
static int lost_dir(struct check *c, int64_t kind, int64_t *out, char name[32])
{
	int64_t top = (int64_t)class_by_kind((uint64_t)kind)->ino, ino = 0;
	int err;

	for (int i = 0;; i++) {
		int64_t taken;

		snprintf(name, 32, i ? LOST ".%d" : LOST, i);
		err = check_number(c, 0, &taken, "SELECT 1 FROM names WHERE parent=? AND name=?", "ib", top, name,
				   strlen(name));
		if (err)
			return err;
		if (!taken)
			break;
		err = check_number(c, 0, &ino, "SELECT i.ino FROM names n JOIN inodes i ON i.ino=n.ino"
				   " WHERE n.parent=? AND n.name=? AND " CHECK_IS_DIR("i.mode"), "ib", top, name,
				   strlen(name));
		if (err || ino) {
			*out = ino;
			return err;
		}
	}
	err = new_ino(c, &ino);
	if (!err)
		err = insert_inode(c, ino, kind, S_IFDIR | 0700, 0, 0, top);
	if (!err)
		err = check_change(c, "INSERT INTO names(parent, name, ino) VALUES(?,?,?)", "ibi", top, name,
				   strlen(name), ino);
	if (!err)
		err = check_touched(c, top);
	if (!err)
		*out = ino;
	return err;
}

/* "70-name", or "70"; *len_out bytes, no NUL counted. */
static int lost_name(struct check *c, int64_t dir, int64_t cookie, int64_t ino, const void *old, size_t old_len,
		     char out[META_NAME_MAX + 1], size_t *len_out)
{
	for (int tries = 0;; tries++) {
		int64_t taken;
		size_t n;
		int err;

		if (tries)
			n = (size_t)snprintf(out, META_NAME_MAX, "%" PRId64 ".%" PRId64, ino, cookie + tries - 1);
		else
			n = (size_t)snprintf(out, META_NAME_MAX, "%" PRId64, ino);
		if (old_len)
			out[n++] = '-';
		/* A long name keeps its end. */
		if (old_len > META_NAME_MAX - n) {
			old = (const char *)old + (old_len - (META_NAME_MAX - n));
			old_len = META_NAME_MAX - n;
		}
		if (old_len)
			memcpy(out + n, old, old_len);
		for (size_t i = n; i < n + old_len; i++)
			out[i] = !out[i] || out[i] == '/' ? '_' : out[i];
		n += old_len;
		err = check_number(c, 0, &taken, "SELECT 1 FROM names WHERE parent=? AND name=?", "ib", dir, out, n);
		if (err || !taken) {
			*len_out = n;
			return err;
		}
	}
}

static void tell(struct check *c, int64_t kind, const char *dir, const char *name, size_t len)
{
	char path[META_NAME_MAX + 64];
	int n = snprintf(path, sizeof(path), "%s/%s/", class_by_kind((uint64_t)kind)->name, dir);

	memcpy(path + n, name, len);
	check_mended(c, "moved to %s", check_quote(c, path, (size_t)n + len));
}

/* One name, of the row `cookie`; 0: there is none yet. */
static int move_name(struct check *c, int64_t cookie, int64_t ino, int64_t kind, const void *old, size_t old_len)
{
	char name[META_NAME_MAX + 1], dir_name[32];
	size_t len = 0;
	int64_t dir = 0;
	int64_t old_dir = 0;
	int err = lost_dir(c, kind, &dir, dir_name);

	if (!err)
		err = check_number(c, dir, &old_dir, "SELECT parent FROM names WHERE cookie=?", "i", cookie);
	if (!err)
		err = check_touched(c, old_dir);
	if (!err)
		err = check_touched(c, dir);
	if (!err && !cookie)
		err = check_touched(c, ino);
	if (!err)
		err = lost_name(c, dir, cookie, ino, old, old_len, name, &len);
	if (!err && cookie)
		err = check_change(c, "UPDATE names SET parent=?, name=?, ino=? WHERE cookie=?", "ibii", dir, name, len,
				   ino, cookie);
	else if (!err)
		err = check_change(c, "INSERT INTO names(parent, name, ino) VALUES(?,?,?)", "ibi", dir, name, len, ino);
	if (!err)
		err = check_change(c, "UPDATE inodes SET parent=? WHERE ino=? AND " CHECK_IS_DIR("mode"), "ii", dir,
				   ino);
	if (!err)
		tell(c, kind, dir_name, name, len);
	return err;
}

static int64_t usable_kind(int64_t kind)
{
	return class_by_kind((uint64_t)kind) ? kind : ARRAY_BUCKET;
}

static int move_row(struct check *c, sqlite3_value **v)
{
	return move_name(c, check_int(v[0]), check_int(v[1]), check_int(v[2]), sqlite3_value_blob(v[3]),
			 (size_t)sqlite3_value_bytes(v[3]));
}

int check_lose(struct check *c, int64_t ino, int64_t kind)
{
	int64_t dir = 0, names, inside;
	char sql[256], dir_name[32];
	int err;

	if (!c->repair)
		return 0;
	kind = usable_kind(kind);
	err = check_number(c, 0, &names, "SELECT count(*) FROM names WHERE ino=?", "i", ino);
	if (!err)
		err = lost_dir(c, kind, &dir, dir_name);
	if (!err)
		err = check_number(c, 0, &inside, "SELECT count(*) FROM names WHERE ino=? AND parent=?", "ii", ino,
				   dir);
	if (err)
		return err;
	if (inside) /* by another finding */
		return 0;
	if (!names)
		return move_name(c, 0, ino, kind, NULL, 0);
	snprintf(sql, sizeof(sql),
		 "SELECT cookie, ino, %" PRId64 ", name FROM names WHERE ino=%" PRId64 " ORDER BY cookie", kind, ino);
	return check_rows(c, sql, move_row);
}

int check_lose_name(struct check *c, int64_t cookie, int64_t ino, int64_t kind)
{
	char sql[256];

	if (!c->repair)
		return 0;
	kind = usable_kind(kind);
	snprintf(sql, sizeof(sql), "SELECT cookie, %" PRId64 ", %" PRId64 ", name FROM names WHERE cookie=%" PRId64,
		 ino, kind, cookie);
	return check_rows(c, sql, move_row);
}

int check_make_file(struct check *c, int64_t ino, int64_t kind, int64_t size, int64_t file, int64_t *ino_out)
{
	int64_t names = 0;
	int err = 0;

	if (!c->repair)
		return 0;
	if (!ino)
		err = new_ino(c, &ino);
	if (!err)
		err = insert_inode(c, ino, kind, S_IFREG | 0600, size, file, 0);
	if (!err)
		err = check_number(c, 0, &names, "SELECT count(*) FROM names WHERE ino=?", "i", ino);
	if (!err && names)
		check_mended(c, "its row is made anew");
	else if (!err)
		err = check_lose(c, ino, kind);
	if (!err && ino_out)
		*ino_out = ino;
	return err;
}
