/*
 * Passes over the data of buckets: extents, and the pool files they lie in.
 *
 * Invariants:
 * 1. Nothing is written into a part of a pool file that an extent has: what must move goes behind the end.
 * 2. A bucket that loses bytes keeps its size and goes to lost+found; what it has lost reads as zeros.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "array/array.h"
#include "block/pool.h"
#include "io/beneath.h"
#include "tool/check/inside.h"

/* Rounds of moving extents apart; one does for two owners. */
#define ROUNDS_MAX 64

/* ino, extents, bytes, end, mode or NULL */
static int foreign_extents(struct check *c, sqlite3_value **v)
{
	int64_t ino = check_int(v[0]), made = 0;
	const char *who = check_who(c, ino);
	bool lost = false;
	int err = 0;

	if (sqlite3_value_type(v[4]) == SQLITE_NULL)
		err = check_was_given(c, ino, &lost);
	if (err)
		return err;
	if (lost) {
		err = check_make_file(c, ino, ARRAY_BUCKET, check_int(v[3]), 0, NULL);
	} else {
		err = check_make_file(c, 0, ARRAY_BUCKET, check_int(v[3]), 0, &made);
		if (!err)
			err = check_change(c, "UPDATE extents SET ino=? WHERE ino=?", "ii", made, ino);
	}
	if (!err)
		err = check_change(c, "UPDATE inodes SET stored=? WHERE ino=?", "ii", check_int(v[2]),
				   made ? made : ino);
	if (!err)
		check_found(c, "%s has %" PRId64 " extents, %" PRId64 " bytes, but is no bucket", who, check_int(v[1]),
			    check_int(v[2]));
	return err;
}

/* Takes stored along, which the extents decide. */
static int recount(struct check *c, int64_t ino)
{
	return check_change(c, "UPDATE inodes SET stored=(SELECT coalesce(sum(len), 0) FROM extents e"
			    " WHERE e.ino=inodes.ino) WHERE ino=?", "i", ino);
}

static int lose_bucket(struct check *c, int64_t ino)
{
	int err = recount(c, ino);

	return err ? err : check_lose(c, ino, ARRAY_BUCKET);
}

/* ino, off, len, file, phys */
static int bad_extent(struct check *c, sqlite3_value **v)
{
	const char *who = check_who(c, check_int(v[0]));
	int err = check_mend(c, "removed", "DELETE FROM extents WHERE ino=? AND off=?", "ii", check_int(v[0]),
			     check_int(v[1]));

	if (!err)
		err = lose_bucket(c, check_int(v[0]));
	if (!err)
		check_found(c, "%s: an extent of %" PRId64 " bytes at %" PRId64 ", in pool file %" PRId64 " at %" PRId64
			    ", cannot be", who, check_int(v[2]), check_int(v[1]), check_int(v[3]), check_int(v[4]));
	return err;
}

/* ino, off, len, end of those before */
static int double_range(struct check *c, sqlite3_value **v)
{
	int64_t ino = check_int(v[0]), off = check_int(v[1]), len = check_int(v[2]), cut = check_int(v[3]) - off;
	const char *who = check_who(c, ino);
	int err;

	if (cut >= len)
		err = check_mend(c, "the first one kept", "DELETE FROM extents WHERE ino=? AND off=?", "ii", ino, off);
	else
		err = check_mend(c, "the first one kept",
				 "UPDATE extents SET off=off+?1, phys=phys+?1, len=len-?1 WHERE ino=?2 AND off=?3",
				 "iii", cut, ino, off);
	if (!err)
		err = lose_bucket(c, ino);
	if (!err)
		check_found(c, "%s: two extents have its bytes %" PRId64 " to %" PRId64, who, off,
			    off + (cut < len ? cut : len) - 1);
	return err;
}

/* ino, size, end */
static int short_size(struct check *c, sqlite3_value **v)
{
	const char *who = check_who(c, check_int(v[0]));
	int err = check_mend(c, "the size is set to that", "UPDATE inodes SET size=? WHERE ino=?", "ii",
			     check_int(v[2]), check_int(v[0]));

	if (!err)
		check_found(c, "%s: its size is %" PRId64 ", but its extents end at %" PRId64, who, check_int(v[1]),
			    check_int(v[2]));
	return err;
}

int check_pass_extents(struct check *c)
{
	int err = check_rows(c, "SELECT ino, off, len, file, phys FROM extents WHERE off<0 OR len<=0 OR phys<0"
			     " OR file<0 OR off>1125899906842624 OR len>1125899906842624-off"
			     " OR phys>4611686018427387904 OR len>4611686018427387904-phys ORDER BY ino, off",
			     bad_extent);

	if (!err)
		err = check_rows(c, "SELECT e.ino, count(*), sum(e.len), max(e.off+e.len), i.mode"
				 " FROM extents e LEFT JOIN inodes i ON i.ino=e.ino WHERE i.ino IS NULL"
				 " OR i.kind<>" CHECK_BUCKET " OR NOT " CHECK_IS_REG("i.mode") " GROUP BY e.ino ORDER BY e.ino",
				 foreign_extents);
	if (!err)
		err = check_rows(c, "SELECT ino, off, len, reach FROM (SELECT ino, off, len, max(off+len) OVER"
				 " (PARTITION BY ino ORDER BY off ROWS BETWEEN UNBOUNDED PRECEDING"
				 " AND 1 PRECEDING) reach FROM extents) WHERE off<reach ORDER BY ino, off",
				 double_range);
	if (!err)
		err = check_rows(c, "SELECT i.ino, i.size, max(e.off+e.len) reach FROM extents e"
				 " JOIN inodes i ON i.ino=e.ino WHERE i.kind=" CHECK_BUCKET " AND (e.off<i.size OR " CHECK_NOT_CUTTING ")"
				 " GROUP BY i.ino HAVING reach>i.size ORDER BY i.ino", short_size);
	return err;
}

/* The pool. */

static void pool_name(int64_t number, char out[32])
{
	snprintf(out, 32, "pool/%02" PRId64, number);
}

/* number */
static int missing_file(struct check *c, sqlite3_value **v)
{
	char name[32];

	pool_name(check_int(v[0]), name);
	if (c->repair) {
		int fd, err = beneath_open(c->dirfd, name, O_RDWR | O_CREAT, &fd);

		if (err)
			return check_fail_file(c, err, name);
		close(fd);
		check_mended(c, "made empty");
	}
	check_found(c, "%s is missing", name);
	return 0;
}

/* ino, file, extents, bytes */
static int no_pool_file(struct check *c, sqlite3_value **v)
{
	const char *who = check_who(c, check_int(v[0]));
	char name[32];
	int err = check_mend(c, "they are holes now", "DELETE FROM extents WHERE ino=? AND file=?", "ii",
			     check_int(v[0]), check_int(v[1]));

	pool_name(check_int(v[1]), name);
	if (!err)
		err = lose_bucket(c, check_int(v[0]));
	if (!err)
		check_found(c, "%s: %" PRId64 " bytes are lost with %s, which does not exist", who, check_int(v[3]),
			    name);
	return err;
}

/* ino, off, len, file, phys, size of the file */
static int past_end(struct check *c, sqlite3_value **v)
{
	int64_t ino = check_int(v[0]), off = check_int(v[1]), left = check_int(v[5]) - check_int(v[4]), lost;
	const char *who = check_who(c, ino);
	char name[32];
	int err;

	left = left > 0 ? left : 0;
	lost = check_int(v[2]) - left;
	if (left)
		err = check_mend(c, "they are a hole now", "UPDATE extents SET len=? WHERE ino=? AND off=?", "iii",
				 left, ino, off);
	else
		err = check_mend(c, "they are a hole now", "DELETE FROM extents WHERE ino=? AND off=?", "ii", ino, off);
	if (!err)
		err = lose_bucket(c, ino);
	pool_name(check_int(v[3]), name);
	if (!err)
		check_found(c, "%s: bytes %" PRId64 " to %" PRId64 " are lost: %s ends before them, at %" PRId64, who,
			    off + left, off + left + lost - 1, name, check_int(v[5]));
	return err;
}

/* Copies an extent behind everything in its file and lets the row point there (invariant 1). */
static int move_extent(struct check *c, int64_t ino, int64_t off)
{
	int64_t file, phys, len, end;
	char name[32];
	int fd = -1, err = check_number(c, 0, &file, "SELECT file FROM extents WHERE ino=? AND off=?", "ii", ino, off);

	if (!err)
		err = check_number(c, 0, &phys, "SELECT phys FROM extents WHERE ino=? AND off=?", "ii", ino, off);
	if (!err)
		err = check_number(c, 0, &len, "SELECT len FROM extents WHERE ino=? AND off=?", "ii", ino, off);
	if (!err)
		err = check_number(c, 0, &end, "SELECT (size + 4095) / 4096 * 4096 FROM temp.pool_file WHERE number=?",
				   "i", file);
	if (err)
		return err;
	pool_name(file, name);
	err = beneath_open(check_home_of(c, name), name, O_RDWR, &fd);
	if (!err)
		err = check_copy_range(c, fd, (uint64_t)phys, fd, (uint64_t)end, (uint64_t)len);
	if (!err && fdatasync(fd) < 0)
		err = -errno;
	if (fd >= 0)
		close(fd);
	if (err)
		return err == -ECANCELED ? err : check_fail_file(c, err, name);
	err = check_mend(c, "it has a copy of them now", "UPDATE extents SET phys=? WHERE ino=? AND off=?", "iii", end,
			 ino, off);
	if (!err)
		err = check_change(c, "UPDATE temp.pool_file SET size=? WHERE number=?", "ii", end + len, file);
	return err;
}

/* file, phys, len, ino, off, end of those before. If there are two owners, the later one, by its number, moves. */
static int shared_bytes(struct check *c, sqlite3_value **v)
{
	int64_t file = check_int(v[0]), phys = check_int(v[1]), ino = check_int(v[3]), off = check_int(v[4]);
	int64_t end = check_int(v[5]), other, other_off = 0;
	const char *who, *other_who;
	char name[32];
	int err = check_number(c, 0, &other, "SELECT ino FROM extents WHERE file=? AND phys<=? AND phys+len=?"
			       " AND NOT (ino=? AND off=?) ORDER BY ino LIMIT 1", "iiiii", file, phys, end, ino, off);

	if (err || !other) /* has moved */
		return err;
	err = check_number(c, 0, &other_off, "SELECT off FROM extents WHERE file=? AND phys<=? AND phys+len=?"
			   " AND ino=? AND NOT (ino=? AND off=?) LIMIT 1", "iiiiii", file, phys, end, other, ino, off);
	if (err)
		return err;
	if (phys + check_int(v[2]) < end)
		end = phys + check_int(v[2]);
	who = check_who(c, ino);
	other_who = check_who(c, other);
	if (c->repair && other > ino)
		err = move_extent(c, other, other_off);
	else if (c->repair)
		err = move_extent(c, ino, off);
	if (!err && c->repair)
		err = check_lose(c, other > ino ? other : ino, ARRAY_BUCKET);
	pool_name(file, name);
	if (!err)
		check_found(c,
			    "%s: bytes %" PRId64 " to %" PRId64 " belong to %s, at %" PRId64 ", and to %s, at %" PRId64,
			    name, phys, end - 1, other_who, other_off, who, off);
	return err;
}

/* number, size, bytes in extents */
static int tell_space(struct check *c, sqlite3_value **v)
{
	char name[32];

	pool_name(check_int(v[0]), name);
	check_note(c, "%s: %" PRId64 " bytes in extents, %" PRId64 " free", name, check_int(v[2]),
		   check_int(v[1]) - check_int(v[2]));
	return 0;
}

/* The daemon opens no file with a higher number. */
static const struct check_numbered pool_files = { .dir = "pool", .table = "temp.pool_file", .width = 2, .last = POOL_NFILES_MAX - 1 };

int check_pass_pool(struct check *c)
{
	uint64_t before;
	int rounds = 0, err = check_list_numbered(c, &pool_files);

	if (!err)
		err = check_rows(c, "WITH RECURSIVE t(n) AS (VALUES(0) UNION ALL SELECT n+1 FROM t"
				 " WHERE n<(SELECT max(number) FROM temp.pool_file)) SELECT n FROM t"
				 " WHERE n<(SELECT max(number) FROM temp.pool_file) AND n NOT IN (SELECT number"
				 " FROM temp.pool_file) ORDER BY n", missing_file);
	if (!err)
		err = check_rows(c, "SELECT ino, file, count(*), sum(len) FROM extents"
				 " WHERE file NOT IN (SELECT number FROM temp.pool_file) GROUP BY ino, file"
				 " ORDER BY ino, file", no_pool_file);
	if (!err)
		err = check_rows(c, "SELECT e.ino, e.off, e.len, e.file, e.phys, p.size FROM extents e"
				 " JOIN temp.pool_file p ON p.number=e.file WHERE e.phys+e.len>p.size"
				 " ORDER BY e.ino, e.off", past_end);
	do {
		before = c->nfound;
		if (!err)
			err = check_rows(c, "SELECT * FROM (SELECT file, phys, len, ino, off, max(phys+len) OVER"
					 " (PARTITION BY file ORDER BY phys, ino, off ROWS BETWEEN UNBOUNDED PRECEDING"
					 " AND 1 PRECEDING) reach FROM extents) WHERE phys<reach ORDER BY file, phys",
					 shared_bytes);
	} while (!err && c->repair && c->nfound > before && ++rounds < ROUNDS_MAX);
	if (!err && c->verbose)
		err = check_rows(c, "SELECT number, size, (SELECT coalesce(sum(len), 0) FROM extents e"
				 " WHERE e.file=number) FROM temp.pool_file ORDER BY number", tell_space);
	return err;
}
