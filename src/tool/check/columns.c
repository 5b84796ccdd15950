/*
 * Passes over column files and over what belongs to nobody, and the reading of all data.
 *
 * Invariants:
 * 1. A column that loses bytes keeps its size and goes to lost+found; what it has lost reads as zeros.
 * 2. A column file that no inode names is kept, as a file in lost+found, when something else was wrong: then its inode may be
 *    what is lost. Otherwise it is deleted: after a crash that is no error, and the next mount would do it; a daemon that
 *    has closed the store leaves none.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "array/array.h"
#include "io/beneath.h"
#include "tool/check/inside.h"

#define READ_BYTES (1u << 20)

static void column_name(int64_t number, char out[32])
{
	snprintf(out, 32, "columns/%" PRId64, number);
}

static const struct check_numbered column_files = {
	.dir = "columns", .table = "temp.column_file", .width = 1, .first = 1, .last = INT64_MAX
};

/* A number that neither a row nor a file has. */
static int new_number(struct check *c, int64_t *out)
{
	return check_number(c, 1, out, "SELECT 1 + max(coalesce((SELECT max(file)"
			    " FROM inodes), 0), coalesce((SELECT max(number) FROM temp.column_file), 0))", "");
}

/* Closes it, too. */
static int set_length(int fd, int64_t size)
{
	int err = ftruncate(fd, size) < 0 || fsync(fd) < 0 ? -errno : 0;

	close(fd);
	return err;
}

/* ino gets a new column file: a copy of file number `from`, or a hole if that is 0. */
static int give_file(struct check *c, int64_t ino, int64_t from, int64_t size)
{
	char name[32], from_name[32];
	struct stat st = { 0 };
	int64_t number;
	int fd, err = new_number(c, &number);

	if (err)
		return err;
	column_name(number, name);
	column_name(from, from_name);
	if (from) {
		err = check_copy_file(c, c->dirfd, from_name, c->dirfd, name);
	} else {
		err = beneath_open(c->dirfd, name, O_WRONLY | O_CREAT | O_EXCL, &fd);
		if (!err)
			err = set_length(fd, size);
	}
	if (!err)
		err = check_sync_dir(c, "columns");
	if (!err)
		err = beneath_stat(c->dirfd, name, &st);
	if (err)
		return err == -ECANCELED ? err : check_fail_file(c, err, name);
	err = check_change(c, "INSERT INTO temp.column_file VALUES(?,?)", "ii", number, (int64_t)st.st_size);
	if (err)
		return err;
	return check_mend(c, from ? "it has a copy now" : "it is a hole now", "UPDATE inodes SET file=? WHERE ino=?",
			  "ii", number, ino);
}

/* ino, size, number */
static int missing_column(struct check *c, sqlite3_value **v)
{
	const char *who = check_who(c, check_int(v[0]));
	char name[32];
	int err = c->repair ? give_file(c, check_int(v[0]), 0, check_int(v[1])) : 0;

	if (!err)
		err = check_lose(c, check_int(v[0]), ARRAY_COLUMN);
	column_name(check_int(v[2]), name);
	if (!err)
		check_found(c, "%s: its %" PRId64 " bytes are lost with %s, which does not exist", who, check_int(v[1]),
			    name);
	return err;
}

/* After the commit: until then the file is as the rows say that it is not. */
static int stretch(struct check *c, struct check_deferred *d)
{
	char name[32];
	int fd, err;

	column_name(d->number, name);
	err = beneath_open(c->dirfd, name, O_WRONLY, &fd);
	if (!err)
		err = set_length(fd, d->size_bytes);
	return err ? check_fail_file(c, err, name) : 0;
}

/* ino, size, number, size of the file */
static int short_column(struct check *c, sqlite3_value **v)
{
	const char *who = check_who(c, check_int(v[0]));
	char name[32];
	int err = check_defer(c, stretch, check_int(v[2]), check_int(v[1]));

	if (!err)
		err = check_lose(c, check_int(v[0]), ARRAY_COLUMN);
	check_mended(c, "they are a hole now");
	column_name(check_int(v[2]), name);
	if (!err)
		check_found(c, "%s: bytes %" PRId64 " to %" PRId64 " are lost: %s ends before them", who,
			    check_int(v[3]), check_int(v[1]) - 1, name);
	return err;
}

/* ino, size, number, the first owner */
static int double_column(struct check *c, sqlite3_value **v)
{
	const char *who = check_who(c, check_int(v[0])), *first = check_who(c, check_int(v[3]));
	char name[32];
	int err = c->repair ? give_file(c, check_int(v[0]), check_int(v[2]), 0) : 0;

	if (!err)
		err = check_lose(c, check_int(v[0]), ARRAY_COLUMN);
	column_name(check_int(v[2]), name);
	if (!err)
		check_found(c, "%s: %s belongs to %s, too", who, name, first);
	return err;
}

int check_pass_columns(struct check *c)
{
	int err = check_list_numbered(c, &column_files);

	if (!err)
		err = check_rows(c, "SELECT ino, size, file FROM inodes WHERE kind=" CHECK_COLUMN " AND " CHECK_IS_REG("mode")
				 " AND file<>0 AND file NOT IN (SELECT number FROM temp.column_file) ORDER BY ino",
				 missing_column);
	if (!err)
		err = check_rows(c, "SELECT i.ino, i.size, i.file, o.first FROM inodes i"
				 " JOIN (SELECT file, min(ino) first FROM inodes WHERE kind=" CHECK_COLUMN " AND file<>0"
				 " GROUP BY file HAVING count(*)>1) o ON o.file=i.file WHERE i.kind=" CHECK_COLUMN
				 " AND i.ino<>o.first ORDER BY i.ino", double_column);
	if (!err)
		err = check_rows(c, "SELECT i.ino, i.size, i.file, f.size FROM inodes i"
				 " JOIN temp.column_file f ON f.number=i.file WHERE i.kind=" CHECK_COLUMN
				 " AND " CHECK_IS_REG("i.mode") " AND f.size<i.size AND f.size>=0 ORDER BY i.ino",
				 short_column);
	return err;
}

static int delete_file(struct check *c, struct check_deferred *d)
{
	char name[32];
	int err;

	column_name(d->number, name);
	err = beneath_unlink(c->dirfd, name);
	if (!err)
		err = check_sync_dir(c, "columns");
	return err ? check_fail_file(c, err, name) : 0;
}

/* number, size */
static int lost_file(struct check *c, sqlite3_value **v)
{
	char name[32];
	int err = check_int(v[1]) ? check_make_file(c, 0, ARRAY_COLUMN, check_int(v[1]), check_int(v[0]), NULL) :
				    check_defer(c, delete_file, check_int(v[0]), 0);

	column_name(check_int(v[0]), name);
	if (!err)
		check_found(c, "%s, %" PRId64 " bytes, belongs to no file", name, check_int(v[1]));
	return err;
}

static int leftover(struct check *c, sqlite3_value **v)
{
	char name[32];
	int err = check_defer(c, delete_file, check_int(v[0]), 0);

	column_name(check_int(v[0]), name);
	if (!err && c->killed) {
		check_note(c, "%s, %" PRId64 " bytes, belongs to no file; the next mount deletes it", name, check_int(v[1]));
	} else if (!err) {
		check_mended(c, "deleted");
		check_found(c, "%s, %" PRId64 " bytes, belongs to no file", name, check_int(v[1]));
	}
	return err;
}

int check_pass_leftovers(struct check *c)
{
	struct check_numbered files = column_files;
	int err;

	files.told = true;
	err = check_list_numbered(c, &files);
	return err ? err : check_rows(c, "SELECT number, size FROM temp.column_file"
				      " WHERE number NOT IN (SELECT file FROM inodes WHERE kind=" CHECK_COLUMN ") ORDER BY number",
				      c->nfound ? lost_file : leftover);
}

/* All data of buckets and columns, as far as it can be read. */

struct reading {
	uint64_t done_bytes, total_bytes;
};

/* Where the data at off, or behind it, begins: a hole of 15 TiB is not read. end: there is none before it. The file's end, if it ends before. */
static uint64_t data_from(int fd, uint64_t off, uint64_t end)
{
	off_t at = lseek(fd, (off_t)off, SEEK_DATA);

	if (at < 0 && errno != ENXIO)
		return off;
	if (at < 0)
		at = lseek(fd, 0, SEEK_END);
	return at < 0 || (uint64_t)at < off ? off : (uint64_t)at < end ? (uint64_t)at : end;
}

/* As much of what is data in [*off, end) as fits into buf; *off is behind it then. 0: the file ends before. */
static ssize_t read_some(int fd, char *buf, uint64_t *off, uint64_t end)
{
	ssize_t n;

	*off = data_from(fd, *off, end);
	if (*off == end)
		return 1;
	n = pread(fd, buf, end - *off < READ_BYTES ? (size_t)(end - *off) : READ_BYTES, (off_t)*off);
	if (n > 0)
		*off += (uint64_t)n;
	return n;
}

static int read_range(struct check *c, const char *name, uint64_t off, uint64_t len, int64_t ino)
{
	struct reading *all = c->ctx;
	uint64_t end = off + len, before;
	char *buf = malloc(READ_BYTES);
	int fd = -1, err = buf ? 0 : -ENOMEM, opened = beneath_open(check_home_of(c, name), name, O_RDONLY, &fd);

	while (!err && off < end) {
		ssize_t n;

		before = off;
		n = opened ? -1 : read_some(fd, buf, &off, end);
		if (opened)
			errno = -opened;
		if (n < 0 && errno == EINTR && !check_cancelled())
			continue;
		if (n <= 0) {
			check_found(c, "%s: %s cannot be read at %" PRIu64 ": %s", check_who(c, ino), name, off,
				    n ? strerror(errno) : "it ends there");
			break;
		}
		all->done_bytes += off - before;
		err = check_tick(c, all->done_bytes, all->total_bytes);
	}
	if (fd >= 0)
		close(fd);
	free(buf);
	return err;
}

/* file, phys, len, ino */
static int read_extent(struct check *c, sqlite3_value **v)
{
	char name[32];

	snprintf(name, sizeof(name), "pool/%02" PRId64, check_int(v[0]));
	return read_range(c, name, (uint64_t)check_int(v[1]), (uint64_t)check_int(v[2]), check_int(v[3]));
}

/* file, size, ino */
static int read_column(struct check *c, sqlite3_value **v)
{
	char name[32];

	column_name(check_int(v[0]), name);
	return read_range(c, name, 0, (uint64_t)check_int(v[1]), check_int(v[2]));
}

int check_pass_data(struct check *c)
{
	struct reading all = { 0 };
	int64_t buckets, columns;
	int err = check_number(c, 0, &buckets, "SELECT sum(len) FROM extents", "");

	if (!err)
		err = check_number(c, 0, &columns, "SELECT sum(size) FROM inodes WHERE kind=" CHECK_COLUMN " AND file>0", "");
	if (err)
		return err;
	all.total_bytes = (uint64_t)(buckets + columns);
	c->ctx = &all;
	err = check_rows(c, "SELECT file, phys, len, ino FROM extents ORDER BY file, phys", read_extent);
	if (!err)
		err = check_rows(c, "SELECT file, size, ino FROM inodes WHERE kind=" CHECK_COLUMN " AND file>0 ORDER BY file",
				 read_column);
	c->ctx = NULL;
	return err;
}
