/*
 * The rows of meta.db: inodes, names, blobs, xattrs, extents, layers.
 *
 * Invariant: a walk ends its statement on every way out, so that no query is left open when the
 * transaction commits.
 */
#include "store/meta/inside.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "store/classes.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/plant.h"

int meta_inode_next_locked(struct meta *m, uint64_t *ino_out)
{
	*ino_out = m->next_ino++;
	return 0;
}

void meta_inode_reserve_locked(struct meta *m, uint64_t ino)
{
	if (ino >= m->next_ino)
		m->next_ino = ino + 1;
}

bool meta_is_mode(uint64_t mode)
{
	return mode <= (S_IFMT | 07777) && (S_ISREG(mode) || S_ISDIR(mode) || S_ISLNK(mode) || S_ISCHR(mode) || S_ISBLK(mode) || S_ISFIFO(mode) ||
					    S_ISSOCK(mode));
}

/* Is a row right in itself? An enemy, or a program with SQLite, may have written anything. */
static int check_inode(const struct meta *m, const struct facts *in)
{
	uint64_t ino = in->ino - m->base;
	bool known = ino == META_INO_ROOT || class_by_ino(ino) || (ino >= META_INO_FIRST && ino < META_INO_END);

	if (known && meta_is_mode(in->mode) && (!in->kind || class_by_kind(in->kind)) && (!S_ISREG(in->mode) || in->kind) &&
	    in->size_bytes <= INT64_MAX && in->stored_bytes <= INT64_MAX)
		return 0;
	return err_corrupt("meta.db", 0, "the row of inode %lld: kind %u, mode %o, size %lld", (long long)in->ino, in->kind, in->mode,
			   (long long)in->size_bytes);
}

static int inode_row(const struct meta *m, sqlite3_stmt *row, struct facts *out)
{
	int c = 0;

	out->ino = (uint64_t)sqlite3_column_int64(row, c++);
	out->kind = (uint32_t)sqlite3_column_int64(row, c++);
	out->mode = (uint32_t)sqlite3_column_int64(row, c++);
	out->nlink = (uint32_t)sqlite3_column_int64(row, c++);
	out->uid = (uint32_t)sqlite3_column_int64(row, c++);
	out->gid = (uint32_t)sqlite3_column_int64(row, c++);
	out->rdev = (uint64_t)sqlite3_column_int64(row, c++);
	out->size_bytes = (uint64_t)sqlite3_column_int64(row, c++);
	out->stored_bytes = (uint64_t)sqlite3_column_int64(row, c++);
	out->file_id = (uint64_t)sqlite3_column_int64(row, c++);
	out->parent = (uint64_t)sqlite3_column_int64(row, c++);
	out->atime_ns = sqlite3_column_int64(row, c++);
	out->mtime_ns = sqlite3_column_int64(row, c++);
	out->ctime_ns = sqlite3_column_int64(row, c++);
	out->btime_ns = sqlite3_column_int64(row, c++);
	return check_inode(m, out);
}

int meta_inode_load_locked(struct meta *m, uint64_t ino, struct facts *out)
{
	sqlite3_stmt *row;
	struct facts in;
	int err = meta_query(m, SQL_INODE_LOAD, &row, "i", (int64_t)ino);

	if (err || !row)
		return err ? err : -ENOENT;
	err = inode_row(m, row, &in);
	meta_done(row);
	if (!err)
		*out = in;
	return err;
}

static int row_exists(struct meta *m, enum sql id, uint64_t key, bool *out)
{
	sqlite3_stmt *row;
	int err = meta_query(m, id, &row, "i", (int64_t)key);

	if (err)
		return err;
	*out = row != NULL;
	if (row)
		meta_done(row);
	return 0;
}

int meta_inode_store_locked(struct meta *m, const struct facts *in)
{
	bool there = true;
	int err = m->ninodes < 0 ? 0 : row_exists(m, SQL_INODE_EXISTS, in->ino, &there);

	if (err)
		return err;
	meta_inode_reserve_locked(m, in->ino);
	err = meta_run(m, SQL_INODE_PUT, "iiiiiiiiiiiiiii", (int64_t)in->ino, (int64_t)in->kind, (int64_t)in->mode,
		       (int64_t)in->nlink, (int64_t)in->uid, (int64_t)in->gid, (int64_t)in->rdev,
		       (int64_t)in->size_bytes, (int64_t)in->stored_bytes, (int64_t)in->file_id,
		       (int64_t)in->parent, in->atime_ns, in->mtime_ns, in->ctime_ns, in->btime_ns);
	if (!err && !there)
		m->ninodes++;
	return err;
}

static int make_fixed(struct meta *m, uint64_t ino, enum array_kind kind, uint32_t mode)
{
	struct facts row;
	int err = meta_inode_load_locked(m, ino, &row);

	if (err != -ENOENT)
		return err;
	row = (struct facts){
		.ino = ino, .kind = kind, .mode = S_IFDIR | mode, .nlink = 2,
		.uid = geteuid(), .gid = getegid(), .parent = m->base + META_INO_ROOT,
	};
	row.atime_ns = row.mtime_ns = row.ctime_ns = row.btime_ns = clock_now_ns();
	return meta_inode_store_locked(m, &row);
}

static int make_class(struct meta *m, const struct class *class)
{
	uint64_t there;
	int err = make_fixed(m, class->ino, class->kind, 01777);

	if (err)
		return err;
	err = meta_name_find_locked(m, META_INO_ROOT, class->name, &there);
	return err == -ENOENT ? meta_name_insert_locked(m, META_INO_ROOT, class->name, class->ino) : err;
}

int meta_roots_locked(struct meta *m)
{
	const uint32_t nlink = 2 + CLASSES_N;
	struct facts root;
	int err = make_fixed(m, META_INO_ROOT, ARRAY_NONE, 0755);

	for (size_t k = 0; k < CLASSES_N && !err; k++)
		err = make_class(m, &classes[k]);
	if (!err)
		err = meta_inode_load_locked(m, META_INO_ROOT, &root);
	if (err || root.nlink == nlink)
		return err;
	return meta_inode_relink_locked(m, META_INO_ROOT, nlink, META_INO_ROOT, root.ctime_ns);
}

int meta_scratch_root_locked(struct meta *m)
{
	return make_fixed(m, m->base + META_INO_ROOT, ARRAY_BUCKET, 01777);
}

int meta_inode_relink_locked(struct meta *m, uint64_t ino, uint32_t nlink, uint64_t parent, int64_t ctime_ns)
{
	return meta_run(m, SQL_INODE_RELINK, "iiii", (int64_t)nlink, (int64_t)parent, ctime_ns, (int64_t)ino);
}

int meta_inode_delete_locked(struct meta *m, uint64_t ino)
{
	static const enum sql by_ino[] = { SQL_INODE_DELETE, SQL_BLOBS_DELETE, SQL_XATTRS_DELETE };
	int err = meta_extents_cut_locked(m, ino, 0, UINT64_MAX);

	for (size_t i = 0; i < sizeof(by_ino) / sizeof(*by_ino) && !err; i++) {
		err = meta_run(m, by_ino[i], "i", (int64_t)ino);
		if (!err && by_ino[i] == SQL_INODE_DELETE && m->ninodes >= 0)
			m->ninodes -= sqlite3_changes(m->db);
	}
	return err;
}

/* All rows are counted once, for the first who asks. */
int meta_inode_count_locked(struct meta *m, uint64_t *out)
{
	sqlite3_stmt *row;
	int err = m->ninodes < 0 ? meta_query(m, SQL_INODE_COUNT, &row, "") : 0;

	if (err)
		return err;
	if (m->ninodes < 0 && row) {
		m->ninodes = sqlite3_column_int64(row, 0);
		meta_done(row);
	}
	*out = m->ninodes < 0 ? 0 : (uint64_t)m->ninodes;
	return 0;
}

int meta_column_exists_locked(struct meta *m, uint64_t file_id, bool *out)
{
	return row_exists(m, SQL_COLUMN_EXISTS, file_id, out);
}

int meta_name_find_locked(struct meta *m, uint64_t parent, const char *name, uint64_t *ino_out)
{
	sqlite3_stmt *row;
	int err = meta_query(m, SQL_NAME_FIND, &row, "ib", (int64_t)parent, name, strlen(name));

	if (err || !row)
		return err ? err : -ENOENT;
	*ino_out = (uint64_t)sqlite3_column_int64(row, 0);
	meta_done(row);
	return 0;
}

int meta_name_insert_locked(struct meta *m, uint64_t parent, const char *name, uint64_t ino)
{
	return meta_run(m, SQL_NAME_INSERT, "ibi", (int64_t)parent, name, strlen(name), (int64_t)ino);
}

/* -ENOENT if the statement has found no row to change. */
static int changed(struct meta *m, int err)
{
	return !err && sqlite3_changes(m->db) == 0 ? -ENOENT : err;
}

int meta_name_point_locked(struct meta *m, uint64_t parent, const char *name, uint64_t ino)
{
	return changed(m, meta_run(m, SQL_NAME_POINT, "iib", (int64_t)ino, (int64_t)parent, name, strlen(name)));
}

int meta_name_move_locked(struct meta *m, uint64_t parent, const char *name, const char *newname)
{
	return changed(m, meta_run(m, SQL_NAME_MOVE, "bib", newname, strlen(newname), (int64_t)parent, name, strlen(name)));
}

int meta_name_last_locked(struct meta *m, uint64_t *out)
{
	sqlite3_stmt *row;
	int err = meta_query(m, SQL_NAME_LAST, &row, "");

	if (err || !row)
		return err ? err : -ENOENT;
	*out = (uint64_t)sqlite3_column_int64(row, 0);
	meta_done(row);
	return 0;
}

int meta_name_delete_locked(struct meta *m, uint64_t parent, const char *name)
{
	return changed(m, meta_run(m, SQL_NAME_DELETE, "ib", (int64_t)parent, name, strlen(name)));
}

int meta_name_empty_locked(struct meta *m, uint64_t parent, bool *out)
{
	bool any;
	int err = row_exists(m, SQL_NAME_ANY, parent, &any);

	if (!err)
		*out = !any;
	return err;
}

/* The next row of a statement that query has started; ends it when there is none. */
static int next_row(struct meta *m, sqlite3_stmt **row)
{
	int rc = sqlite3_step(*row);

	if (rc == SQLITE_ROW)
		return 0;
	meta_done(*row);
	*row = NULL;
	return meta_errno(m, rc);
}

/* Ends a walk: a positive return of the callback only stops it. */
static int end_walk(sqlite3_stmt *row, int err)
{
	if (row)
		meta_done(row);
	return err < 0 ? err : 0;
}

/* The first row of a statement that query has started, and its end; ino 0: there is none. */
static int first_inode(struct meta *m, sqlite3_stmt *row, int err, struct facts *out)
{
	struct facts in = { 0 };

	/* The check reports a damaged row; the other rows can be used. */
	while (!err && row && inode_row(m, row, &in)) {
		in.ino = 0;
		err = next_row(m, &row);
	}
	err = end_walk(row, err);
	if (!err)
		*out = in;
	return err;
}

int meta_inode_orphan_after_locked(struct meta *m, uint64_t after, struct facts *out)
{
	sqlite3_stmt *row;
	int err = meta_query(m, SQL_INODE_ORPHANS, &row, "i", (int64_t)after);

	return first_inode(m, row, err, out);
}

int meta_inode_kind_after_locked(struct meta *m, uint32_t kind, uint64_t after, struct facts *out)
{
	sqlite3_stmt *row;
	int err = meta_query(m, SQL_INODE_KIND, &row, "ii", (int64_t)kind, (int64_t)after);

	return first_inode(m, row, err, out);
}

int meta_inode_cut_after_locked(struct meta *m, uint64_t after, struct facts *out)
{
	sqlite3_stmt *row;
	int err = meta_query(m, SQL_INODE_CUT, &row, "i", (int64_t)after);

	return first_inode(m, row, err, out);
}

static int name_column(sqlite3_stmt *row, int column, char name[META_NAME_MAX + 1])
{
	int len = sqlite3_column_bytes(row, column);

	if (len <= 0 || len > META_NAME_MAX)
		return -EUCLEAN;
	memcpy(name, sqlite3_column_blob(row, column), (size_t)len);
	name[len] = '\0';
	return strlen(name) == (size_t)len && !strchr(name, '/') && strcmp(name, ".") && strcmp(name, "..") ? 0 : -EUCLEAN;
}

static int bad_name(uint64_t parent, int bytes)
{
	return err_corrupt("meta.db", 0, "a name of %d bytes in directory %llu is none", bytes, (unsigned long long)parent);
}

int meta_name_walk_locked(struct meta *m, uint64_t parent, uint64_t after,
			  int (*each)(void *ctx, uint64_t cookie, const char *name, uint64_t ino), void *ctx)
{
	sqlite3_stmt *row;
	int err = meta_query(m, SQL_NAME_WALK, &row, "ii", (int64_t)parent, (int64_t)after);

	while (!err && row) {
		char name[META_NAME_MAX + 1];

		if (name_column(row, 1, name)) {
			err = bad_name(parent, sqlite3_column_bytes(row, 1));
			break;
		}
		err = each(ctx, (uint64_t)sqlite3_column_int64(row, 0), name, (uint64_t)sqlite3_column_int64(row, 2));
		if (!err)
			err = next_row(m, &row);
	}
	return end_walk(row, err);
}

/* The entries of a query, one after the other. */
static int each_entry(struct meta *m, uint64_t parent, sqlite3_stmt *row, int (*each)(void *ctx, const struct meta_entry *e), void *ctx)
{
	int err = 0;

	while (!err && row) {
		char name[META_NAME_MAX + 1];
		struct meta_entry e = { .name = name };

		if (name_column(row, 1, name)) {
			err = bad_name(parent, sqlite3_column_bytes(row, 1));
			break;
		}
		e.cookie = (uint64_t)sqlite3_column_int64(row, 0);
		e.ino = (uint64_t)sqlite3_column_int64(row, 2);
		e.kind = (uint32_t)sqlite3_column_int64(row, 3);
		e.mode = (uint32_t)sqlite3_column_int64(row, 4);
		e.nlink = (uint32_t)sqlite3_column_int64(row, 5);
		if (sqlite3_column_type(row, 6) != SQLITE_NULL) {
			e.xattr_len = (size_t)sqlite3_column_bytes(row, 6);
			e.xattr = e.xattr_len ? sqlite3_column_blob(row, 6) : "";
		}
		err = each(ctx, &e);
		if (!err)
			err = next_row(m, &row);
	}
	return end_walk(row, err);
}

int meta_entry_walk_locked(struct meta *m, uint64_t parent, uint64_t after, const char *xattr,
			   int (*each)(void *ctx, const struct meta_entry *e), void *ctx)
{
	sqlite3_stmt *row;
	int err = meta_query(m, SQL_ENTRY_WALK, &row, "sii", xattr, (int64_t)parent, (int64_t)after);

	return err ? err : each_entry(m, parent, row, each, ctx);
}

int meta_entry_stem_locked(struct meta *m, uint64_t parent, const char *stem, const char *xattr,
			   int (*each)(void *ctx, const struct meta_entry *e), void *ctx)
{
	char from[META_NAME_MAX + 2], to[META_NAME_MAX + 2];
	size_t len = strnlen(stem, META_NAME_MAX);
	sqlite3_stmt *row;
	int err;

	memcpy(from, stem, len);
	memcpy(to, stem, len);
	from[len] = '.';
	to[len] = '.' + 1;
	err = meta_query(m, SQL_ENTRY_STEM, &row, "sibbb", xattr, (int64_t)parent, stem, len, from, len + 1, to, len + 1);
	return err ? err : each_entry(m, parent, row, each, ctx);
}

int meta_name_of_locked(struct meta *m, uint64_t ino, uint64_t *parent_out, char name[META_NAME_MAX + 1])
{
	sqlite3_stmt *row;
	int err = meta_query(m, SQL_NAME_OF, &row, "i", (int64_t)ino);

	if (err || !row)
		return err ? err : -ENOENT;
	err = name_column(row, 1, name) ? bad_name((uint64_t)sqlite3_column_int64(row, 0), sqlite3_column_bytes(row, 1)) : 0;
	if (!err && parent_out)
		*parent_out = (uint64_t)sqlite3_column_int64(row, 0);
	meta_done(row);
	return err;
}

int meta_path_locked(struct meta *m, uint64_t top, uint64_t ino, char *out, size_t cap)
{
	char *path = out + cap - 1;

	*path = '\0';
	/* A circle of directories ends the loop, too: each name takes room in the buffer. */
	while (ino != top) {
		char name[META_NAME_MAX + 1];
		int err = meta_name_of_locked(m, ino, &ino, name);
		size_t len = err ? 0 : strlen(name);

		if (err)
			return err;
		if ((size_t)(path - out) < len + 1)
			return -ENAMETOOLONG;
		if (*path)
			*--path = '/';
		path -= len;
		memcpy(path, name, len);
	}
	memmove(out, path, strlen(path) + 1);
	return 0;
}

static int copy_blob(sqlite3_stmt *row, void **out, size_t *len_out)
{
	size_t len = (size_t)sqlite3_column_bytes(row, 0);
	char *copy = malloc(len + 1);

	if (copy) {
		if (len)
			memcpy(copy, sqlite3_column_blob(row, 0), len);
		copy[len] = '\0';
		*out = copy;
		*len_out = len;
	}
	meta_done(row);
	return copy ? 0 : -ENOMEM;
}

int meta_blob_get_locked(struct meta *m, uint64_t ino, enum meta_blob what, void **out, size_t *len_out)
{
	sqlite3_stmt *row;
	int err = meta_query(m, SQL_BLOB_GET, &row, "ii", (int64_t)ino, (int64_t)what);

	if (err || !row)
		return err ? err : -ENOENT;
	return copy_blob(row, out, len_out);
}

int meta_blob_set_locked(struct meta *m, uint64_t ino, enum meta_blob what, const void *p, size_t len)
{
	if (!p)
		return meta_run(m, SQL_BLOB_DELETE, "ii", (int64_t)ino, (int64_t)what);
	return meta_run(m, SQL_BLOB_SET, "iib", (int64_t)ino, (int64_t)what, p, len);
}

int meta_promised_locked(struct meta *m, uint64_t *out)
{
	uint64_t bytes = 0, range[2];
	sqlite3_stmt *row = NULL;
	int64_t any = 0;
	int err = meta_fact_get_locked(m, META_FACT_PROMISED, &any);

	/* Otherwise it is not worth looking at all blobs. */
	if (!err && any)
		err = meta_query(m, SQL_PROMISED_ALL, &row, "");
	while (!err && row) {
		const char *v = sqlite3_column_blob(row, 0);
		size_t n = (size_t)sqlite3_column_bytes(row, 0) / sizeof(range);

		for (size_t i = 0; i < n; i++) {
			memcpy(range, v + i * sizeof(range), sizeof(range));
			bytes += range[1];
		}
		err = next_row(m, &row);
	}
	err = end_walk(row, err);
	if (!err && any && !bytes)
		err = meta_fact_set_locked(m, META_FACT_PROMISED, 0);
	if (err && err != -ENOENT)
		return err;
	*out = bytes;
	return 0;
}

int meta_runs_load_locked(struct meta *m, uint64_t ino, uint64_t **out, size_t *n_out, bool *whole)
{
	uint64_t *v = NULL;
	size_t n = 0;
	sqlite3_stmt *row;
	int err = meta_query(m, SQL_RUNS_LOAD, &row, "i", (int64_t)ino);

	*whole = true;
	while (!err && row) {
		size_t more = (size_t)sqlite3_column_bytes(row, 0) / sizeof(*v);
		void *grown = realloc(v, (n + more + 1) * sizeof(*v));

		if (!grown) {
			err = -ENOMEM;
			break;
		}
		v = grown;
		if (more)
			memcpy(v + n, sqlite3_column_blob(row, 0), more * sizeof(*v));
		*whole &= n % META_RUNS_PIECE == 0 && more <= META_RUNS_PIECE;
		n += more;
		err = next_row(m, &row);
	}
	err = end_walk(row, err);
	if (err) {
		free(v);
		return err;
	}
	*out = v;
	*n_out = n;
	return 0;
}

static int64_t runs_piece(size_t k)
{
	return k ? META_BLOB_RUNS_MORE + (int64_t)k : META_BLOB_RUNS;
}

int meta_runs_set_locked(struct meta *m, uint64_t ino, const uint64_t *v, size_t n, size_t from)
{
	size_t piece = (from < n ? from : n) / META_RUNS_PIECE;
	int err = meta_run(m, SQL_RUNS_CUT, "ii", (int64_t)ino, runs_piece(piece));

	for (size_t at = piece * META_RUNS_PIECE; at < n && !err; at += META_RUNS_PIECE, piece++) {
		size_t len = n - at < META_RUNS_PIECE ? n - at : META_RUNS_PIECE;

		err = meta_run(m, SQL_BLOB_SET, "iib", (int64_t)ino, runs_piece(piece), v + at, len * sizeof(*v));
	}
	return err;
}

int meta_xattr_get_locked(struct meta *m, uint64_t ino, const char *name, void **out, size_t *len_out)
{
	sqlite3_stmt *row;
	int err = meta_query(m, SQL_XATTR_GET, &row, "is", (int64_t)ino, name);

	if (err || !row)
		return err ? err : -ENODATA;
	return copy_blob(row, out, len_out);
}

int meta_xattr_set_locked(struct meta *m, uint64_t ino, const char *name, const void *p, size_t len)
{
	return meta_run(m, SQL_XATTR_SET, "isb", (int64_t)ino, name, p, len);
}

int meta_xattr_remove_locked(struct meta *m, uint64_t ino, const char *name)
{
	int err = meta_run(m, SQL_XATTR_REMOVE, "is", (int64_t)ino, name);

	if (!err && sqlite3_changes(m->db) == 0)
		return -ENODATA;
	return err;
}

int meta_xattr_walk_locked(struct meta *m, uint64_t ino,
			   int (*each)(void *ctx, const char *name, const void *value, size_t len), void *ctx)
{
	sqlite3_stmt *row;
	int err = meta_query(m, SQL_XATTR_WALK, &row, "i", (int64_t)ino);

	while (!err && row) {
		const char *name = (const char *)sqlite3_column_text(row, 0);
		size_t len = (size_t)sqlite3_column_bytes(row, 1);

		if (name && *name && strlen(name) <= META_NAME_MAX)
			err = each(ctx, name, len ? sqlite3_column_blob(row, 1) : "", len);
		else
			err = err_corrupt("meta.db", 0, "the name of an attribute of inode %llu is none", (unsigned long long)ino);
		if (!err)
			err = next_row(m, &row);
	}
	return end_walk(row, err);
}

static void extent_row(sqlite3_stmt *row, struct extent *e)
{
	e->off_bytes = (uint64_t)sqlite3_column_int64(row, 0);
	e->len_bytes = (uint64_t)sqlite3_column_int64(row, 1);
	e->file = (uint32_t)sqlite3_column_int64(row, 2);
	e->phys_bytes = (uint64_t)sqlite3_column_int64(row, 3);
}

int meta_extents_load_locked(struct meta *m, uint64_t ino, struct extent_map *out)
{
	sqlite3_stmt *row;
	int err = meta_query(m, SQL_EXTENTS_LOAD, &row, "i", (int64_t)ino);

	while (!err && row) {
		struct extent e;

		extent_row(row, &e);
		err = extent_map_insert(out, &e);
		if (err == -EEXIST || err == -EINVAL)
			err = err_corrupt("meta.db", e.off_bytes, "bad extent of inode %llu", (unsigned long long)ino);
		if (!err)
			err = next_row(m, &row);
	}
	return end_walk(row, err);
}

int meta_extents_cut_locked(struct meta *m, uint64_t ino, uint64_t from_bytes, uint64_t to_bytes)
{
	int64_t to = to_bytes < INT64_MAX ? (int64_t)to_bytes : INT64_MAX;
	int err = meta_run(m, SQL_EXTENTS_CUT, "iii", (int64_t)ino, (int64_t)from_bytes, to);

	if (!err)
		meta_extents_deleted(m);
	return err;
}

int meta_extents_replace_locked(struct meta *m, uint64_t ino, const struct extent_map *map, uint64_t from_bytes, uint64_t to_bytes)
{
	/* The extent that holds `from` may begin before it. */
	size_t first = extent_map_find(map, from_bytes);
	int err;

	if (first < map->n && map->v[first].off_bytes < from_bytes)
		from_bytes = map->v[first].off_bytes;
	err = meta_extents_cut_locked(m, ino, from_bytes, to_bytes);
	for (size_t i = first; i < map->n && map->v[i].off_bytes < to_bytes && !err; i++) {
		const struct extent *e = &map->v[i];

		if (PLANTED(PLANT_NO_EXTENT) && i + 1 == map->n)
			break;
		err = meta_run(m, SQL_EXTENT_INSERT, "iiiii", (int64_t)ino, (int64_t)e->off_bytes,
			  (int64_t)e->len_bytes, (int64_t)e->file, (int64_t)e->phys_bytes);
	}
	return err;
}

int meta_extents_walk_locked(struct meta *m, int (*each)(void *ctx, const struct extent *e), void *ctx)
{
	sqlite3_stmt *row;
	int err = meta_query(m, SQL_EXTENTS_ALL, &row, "");

	while (!err && row) {
		struct extent e;

		extent_row(row, &e);
		err = each(ctx, &e);
		if (!err)
			err = next_row(m, &row);
	}
	return end_walk(row, err);
}

int meta_layer_put_locked(struct meta *m, const struct meta_layer *in)
{
	return meta_run(m, SQL_LAYER_PUT, "iiiiiiiiiibb", (int64_t)in->number, (int64_t)in->state, (int64_t)in->bytes,
		   (int64_t)in->segment_off, (int64_t)in->live_bytes, (int64_t)in->raw_bytes, (int64_t)in->stored_bytes,
		   (int64_t)in->arrays, (int64_t)in->commit, in->time_ns, in->chain.v, in->chain.n * sizeof(uint64_t),
		   in->refs.v, in->refs.n * sizeof(uint64_t));
}

int meta_layer_delete_locked(struct meta *m, uint64_t number)
{
	return meta_run(m, SQL_LAYER_DELETE, "i", (int64_t)number);
}

static int numbers_column(sqlite3_stmt *row, int column, struct meta_numbers *out)
{
	size_t bytes = (size_t)sqlite3_column_bytes(row, column);

	*out = (struct meta_numbers){ 0 };
	if (!bytes)
		return 0;
	out->v = malloc(bytes);
	if (!out->v)
		return -ENOMEM;
	memcpy(out->v, sqlite3_column_blob(row, column), bytes);
	out->n = bytes / sizeof(uint64_t);
	return 0;
}

int meta_layer_walk_locked(struct meta *m, int (*each)(void *ctx, const struct meta_layer *in), void *ctx)
{
	sqlite3_stmt *row;
	int err = meta_query(m, SQL_LAYER_WALK, &row, "");

	while (!err && row) {
		struct meta_layer in = {
			.number = (uint64_t)sqlite3_column_int64(row, 0),
			.state = (uint32_t)sqlite3_column_int64(row, 1),
			.bytes = (uint64_t)sqlite3_column_int64(row, 2),
			.segment_off = (uint64_t)sqlite3_column_int64(row, 3),
			.live_bytes = (uint64_t)sqlite3_column_int64(row, 4),
			.raw_bytes = (uint64_t)sqlite3_column_int64(row, 5),
			.stored_bytes = (uint64_t)sqlite3_column_int64(row, 6),
			.arrays = (uint64_t)sqlite3_column_int64(row, 7),
			.commit = (uint64_t)sqlite3_column_int64(row, 8),
			.time_ns = sqlite3_column_int64(row, 9),
		};

		err = numbers_column(row, 10, &in.chain);
		if (!err)
			err = numbers_column(row, 11, &in.refs);
		if (err)
			free(in.chain.v);
		else
			err = each(ctx, &in);
		if (!err)
			err = next_row(m, &row);
	}
	return end_walk(row, err);
}

int meta_snapshot_put_locked(struct meta *m, const char *name, uint64_t layer, int64_t time_ns)
{
	return meta_run(m, SQL_SNAPSHOT_PUT, "bii", name, strlen(name), (int64_t)layer, time_ns);
}

int meta_snapshot_delete_locked(struct meta *m, const char *name)
{
	return meta_run(m, SQL_SNAPSHOT_DELETE, "b", name, strlen(name));
}

int meta_snapshot_walk_locked(struct meta *m, int (*each)(void *ctx, const char *name, uint64_t layer, int64_t time_ns),
			      void *ctx)
{
	sqlite3_stmt *row;
	int err = meta_query(m, SQL_SNAPSHOT_WALK, &row, "");

	while (!err && row) {
		char name[META_NAME_MAX + 1];

		err = name_column(row, 0, name);
		if (err)
			err = err_corrupt("meta.db", 0, "a snapshot's name is of %d bytes", sqlite3_column_bytes(row, 0));
		else
			err = each(ctx, name, (uint64_t)sqlite3_column_int64(row, 1), sqlite3_column_int64(row, 2));
		if (!err)
			err = next_row(m, &row);
	}
	return end_walk(row, err);
}
