/*
 * How the check names things: quoted names, and what an inode is called.
 *
 * Invariant: nothing that is printed contains a control character, whatever a name holds.
 */
#include <inttypes.h>
#include <string.h>

#include "store/meta.h"
#include "tool/check/inside.h"

#define DEPTH_MAX 300

static char *new_label(struct check *c)
{
	return c->labels[c->next_label++ % CHECK_LABELS];
}

const char *check_quote(struct check *c, const void *bytes, size_t len)
{
	const unsigned char *b = bytes;
	char *text = new_label(c), *to = text;

	*to++ = '"';
	for (size_t i = 0; i < len && to < text + CHECK_LABEL_MAX - 8; i++) {
		if (b[i] == '"' || b[i] == '\\')
			to += sprintf(to, "\\%c", b[i]);
		else if (b[i] < 0x20 || b[i] == 0x7f)
			to += sprintf(to, "\\x%02x", b[i]);
		else
			*to++ = (char)b[i];
	}
	*to++ = '"';
	*to = '\0';
	return text;
}

/* One path from the root, from back to front; "..." stands for what is too deep or has no name. */
static size_t find_path(struct check *c, int64_t ino, char *path, size_t cap, bool *named)
{
	sqlite3_stmt *s;
	size_t at = cap;
	int depth = 0;

	*named = false;
	if (sqlite3_prepare_v2(c->db, "SELECT parent, name FROM names WHERE ino=? LIMIT 1", -1, &s, NULL) != SQLITE_OK)
		return at;
	while (ino != META_INO_ROOT) {
		size_t len = 3;
		bool found;

		sqlite3_bind_int64(s, 1, ino);
		found = sqlite3_step(s) == SQLITE_ROW && ++depth < DEPTH_MAX &&
			at > (size_t)sqlite3_column_bytes(s, 1) + 8;
		if (!found && !*named)
			break;
		if (*named)
			path[--at] = '/';
		if (found)
			len = (size_t)sqlite3_column_bytes(s, 1);
		at -= len;
		if (len)
			memcpy(path + at, found ? sqlite3_column_blob(s, 1) : "...", len);
		*named = true;
		if (!found)
			break;
		ino = sqlite3_column_int64(s, 0);
		sqlite3_reset(s);
	}
	sqlite3_finalize(s);
	return at;
}

static const char *type_text(int64_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR: return "directory";
	case S_IFREG: return "file";
	case S_IFLNK: return "symlink";
	case S_IFIFO: return "fifo";
	case S_IFSOCK: return "socket";
	case S_IFCHR:
	case S_IFBLK: return "device";
	default: return "inode";
	}
}

const char *check_who(struct check *c, int64_t ino)
{
	char path[4096], *text = new_label(c);
	const char *quoted = "";
	int64_t mode = 0;
	bool named = false;
	size_t at = 0;

	if (check_number(c, 0, &mode, "SELECT mode FROM inodes WHERE ino=?", "i", ino))
		mode = 0;
	at = ino == META_INO_ROOT ? sizeof(path) : find_path(c, ino, path, sizeof(path), &named);
	if (named || ino == META_INO_ROOT)
		quoted = check_quote(c, path + at, sizeof(path) - at);
	snprintf(text, CHECK_LABEL_MAX, "%s %" PRId64 "%s%s", type_text(mode), ino, *quoted ? " " : "", quoted);
	return text;
}
