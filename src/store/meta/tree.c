/*
 * The tree below a directory, by the names in meta.db.
 *
 * Invariant: rows that a damaged store has in a circle end a walk as any others, because each inode is met once.
 */
#include <stdlib.h>
#include <string.h>

#include "store/meta/inside.h"

/* The blob in this column is of pairs of offset and length. */
static uint64_t sum_of_ranges(sqlite3_stmt *row, int column)
{
	const char *v = sqlite3_column_blob(row, column);
	size_t n = (size_t)sqlite3_column_bytes(row, column);
	uint64_t bytes = 0, range[2];

	for (size_t at = 0; v && at + sizeof(range) <= n; at += sizeof(range)) {
		memcpy(range, v + at, sizeof(range));
		bytes += range[1];
	}
	return bytes;
}

static uint64_t number_in(sqlite3_stmt *row, int column)
{
	int64_t n = sqlite3_column_int64(row, column);

	return n > 0 ? (uint64_t)n : 0;
}

int meta_tree_walk_locked(struct meta *m, uint64_t top, const char *const xattrs[2], int (*each)(void *ctx, const struct meta_use *u), void *ctx)
{
	sqlite3_stmt *row;
	int rc, err = meta_query(m, SQL_TREE_WALK, &row, "iss", (int64_t)top, xattrs[0], xattrs[1]);

	while (!err && row) {
		struct meta_use u = { number_in(row, 0), (uint32_t)number_in(row, 1), (uint32_t)number_in(row, 2), number_in(row, 3),
				      number_in(row, 4), sum_of_ranges(row, 5) };

		err = each(ctx, &u);
		rc = err ? SQLITE_ROW : sqlite3_step(row);
		if (rc == SQLITE_ROW)
			continue;
		meta_done(row);
		row = NULL;
		err = meta_errno(m, rc);
	}
	if (row)
		meta_done(row);
	return err < 0 ? err : 0;
}

int meta_tree_sum_locked(struct meta *m, struct meta_use *out)
{
	struct meta_use u = { 0 };
	sqlite3_stmt *row;
	int err = meta_query(m, SQL_TREE_SUM, &row, "");

	if (err)
		return err;
	if (row) {
		u.size_bytes = number_in(row, 0);
		u.stored_bytes = number_in(row, 1);
		meta_done(row);
	}
	err = meta_promised_locked(m, &u.promised_bytes);
	if (!err)
		*out = u;
	return err;
}

int meta_promised_of_locked(struct meta *m, uint64_t ino, uint64_t *out)
{
	sqlite3_stmt *row;
	int err = meta_query(m, SQL_BLOB_GET, &row, "ii", (int64_t)ino, (int64_t)META_BLOB_PROMISED);

	if (err)
		return err;
	*out = row ? sum_of_ranges(row, 0) : 0;
	if (row)
		meta_done(row);
	return 0;
}

int meta_xattr_owner_after_locked(struct meta *m, const char *const xattrs[2], uint64_t after, uint64_t *out)
{
	sqlite3_stmt *row;
	int err = meta_query(m, SQL_XATTR_OWNERS, &row, "ssi", xattrs[0], xattrs[1], (int64_t)after);

	if (err)
		return err;
	*out = row ? number_in(row, 0) : 0;
	if (row)
		meta_done(row);
	return 0;
}
