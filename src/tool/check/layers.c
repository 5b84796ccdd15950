/*
 * The pass over layers: the rows of the layers and their files.
 *
 * Invariants:
 * 1. A sealed layer's file counts, because it has checksums: a row that says something else is set right.
 * 2. The open layer is as long as its row says; what is behind that is left alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "block/format.h"
#include "io/beneath.h"
#include "store/meta.h"
#include "tool/check/log.h"

/* Each number of a list must be a sealed layer; own: and the last one this. Noted as needed. */
static int check_list_of_layers(struct check *c, const char *path, const char *what, sqlite3_value *v, int64_t own)
{
	const char *bytes = sqlite3_value_blob(v);
	size_t len = (size_t)sqlite3_value_bytes(v);
	uint64_t number = 0;
	int err = 0;

	if (len % sizeof(number)) {
		check_found(c, "%s: its %s has %zu bytes", path, what, len);
		return 0;
	}
	for (size_t i = 0; i < len && !err; i += sizeof(number)) {
		int64_t there;

		memcpy(&number, bytes + i, sizeof(number));
		err = check_number(c, 0, &there, "SELECT 1 FROM layers WHERE number=? AND state<>0", "i",
				   (int64_t)number);
		if (!err && !there)
			check_found(c, "%s: its %s names layer %" PRIu64 ", which does not exist", path, what, number);
		else if (!err)
			err = check_number(c, 0, &there, "INSERT OR IGNORE INTO temp.needed VALUES(?) RETURNING 0",
					   "i", (int64_t)number);
	}
	if (!err && own && number != (uint64_t)own)
		check_found(c, "%s: its %s does not end with itself", path, what);
	return err;
}

/* number, chain */
static int check_chain(struct check *c, sqlite3_value **v)
{
	char path[LAYER_NAME_MAX];

	layer_path((uint64_t)check_int(v[0]), path);
	return check_list_of_layers(c, path, "chain", v[1], check_int(v[0]));
}

/* number, refs */
static int check_refs(struct check *c, sqlite3_value **v)
{
	char path[LAYER_NAME_MAX];

	layer_path((uint64_t)check_int(v[0]), path);
	return check_list_of_layers(c, path, "list of layers that it points into", v[1], 0);
}

/* number */
static int is_replayed(struct check *c, sqlite3_value **v)
{
	struct check_layer *l = check_log_find(c, (uint64_t)check_int(v[0]));

	if (l)
		l->replayed = true;
	return 0;
}

/* The states that can be asked for, the newest and those with a name, must be complete. Other
 * layers may be needed for frames alone, and what they were replayed from may be gone. */
static int check_states(struct check *c)
{
	int err = 0;

	if (sqlite3_exec(c->db, "DROP TABLE IF EXISTS temp.needed;"
			 "CREATE TEMP TABLE needed(number INTEGER PRIMARY KEY)", NULL, NULL, NULL) != SQLITE_OK)
		err = check_db_fail(c);
	if (!err)
		err = check_rows(c, "SELECT number, chain FROM layers WHERE state<>0 AND (number IN"
				 " (SELECT layer FROM snapshots) OR number=" CHECK_NEWEST_LAYER
				 ") ORDER BY number", check_chain);
	if (!err)
		err = check_rows(c, "SELECT number FROM temp.needed UNION SELECT number FROM layers WHERE state=0", is_replayed);
	if (!err)
		err = check_rows(c, "SELECT number, refs FROM layers WHERE state=2 AND number IN"
				 " (SELECT number FROM temp.needed) ORDER BY number", check_refs);
	return err;
}

/* How the row differs from the file, which has a checksum. */

struct row {
	int64_t number, state, bytes, segment, commit, time, raw, stored, arrays;
	sqlite3_value *chain, *refs;
	const char *path;
};

static int other_number(struct check *c, const struct row *r, const char *column, const char *what, int64_t row, int64_t file)
{
	char sql[80];
	int err;

	if (row == file)
		return 0;
	snprintf(sql, sizeof(sql), "UPDATE layers SET %s=? WHERE number=?", column);
	err = check_mend(c, "set", sql, "ii", file, r->number);
	if (!err)
		check_found(c, "%s: its row has %s %" PRId64 ", the file %" PRId64, r->path, what, row, file);
	return err;
}

static int other_list(struct check *c, const struct row *r, const char *column, const char *what, sqlite3_value *row,
		      const uint64_t *v, size_t n)
{
	size_t len = n * sizeof(*v);
	char sql[80];
	int err;

	if ((size_t)sqlite3_value_bytes(row) == len && (!len || !memcmp(sqlite3_value_blob(row), v, len)))
		return 0;
	snprintf(sql, sizeof(sql), "UPDATE layers SET %s=? WHERE number=?", column);
	err = check_mend(c, "set", sql, "bi", (const void *)v, len, r->number);
	if (!err)
		check_found(c, "%s: its row has another %s than the file", r->path, what);
	return err;
}

static int compare_numbers(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* The other layers that the entries point into, rising. */
static int list_others(const struct index *ix, uint64_t self, uint64_t **out, size_t *n_out)
{
	size_t n = 0, cap = 64;
	uint64_t *v = malloc(cap * sizeof(*v)), last = self;

	for (size_t i = 0; v && i < ix->n; i++) {
		for (size_t k = 0; v && k < ix->v[i]->nblocks; k++) {
			uint64_t layer = ix->v[i]->blocks[k].layer;

			/* Neighbours are mostly alike. */
			if (layer == last || layer == self)
				continue;
			last = layer;
			if (lfind(&layer, v, &n, sizeof(*v), compare_numbers))
				continue;
			if (n == cap)
				v = reallocarray(v, cap *= 2, sizeof(*v));
			if (v)
				v[n++] = layer;
		}
	}
	if (!v)
		return -ENOMEM;
	qsort(v, n, sizeof(*v), compare_numbers);
	*out = v;
	*n_out = n;
	return 0;
}

static int compare_lists(struct check *c, const struct row *r, const struct index *ix, bool full)
{
	uint64_t *others = NULL;
	size_t n = 0;
	int err = other_list(c, r, "chain", "chain", r->chain, ix->chain, ix->nchain);

	if (!err && full)
		err = list_others(ix, (uint64_t)r->number, &others, &n);
	if (!err)
		err = other_list(c, r, "refs", "list of layers that it points into", r->refs, others, n);
	free(others);
	return err;
}

static int compare_file(struct check *c, const struct row *r, struct layer *file)
{
	const struct layer_index_head *head = layer_head(file);
	const struct index *ix = layer_index(file);
	bool full = head->kind == LAYER_FULL;
	int64_t arrays = 0;
	int err = other_number(c, r, "state", "state", r->state, full ? META_LAYER_FULL : META_LAYER_DELTA);

	for (size_t i = 0; i < ix->n && !full; i++)
		arrays += ix->v[i]->type == LAYER_REC_GONE || S_ISREG(ix->v[i]->facts.mode);
	if (!err)
		err = other_number(c, r, "bytes", "bytes", r->bytes, (int64_t)layer_bytes(file));
	/* The row has those of the last segment. */
	if (!err && r->commit > (int64_t)head->commit)
		err = other_number(c, r, "commit_number", "commit", r->commit, (int64_t)head->commit);
	if (!err && r->time > head->time_ns)
		err = other_number(c, r, "time", "time", r->time, head->time_ns);
	if (!err)
		err = other_number(c, r, "raw", "decoded bytes", r->raw, (int64_t)head->raw_bytes);
	if (!err)
		err = other_number(c, r, "stored", "stored bytes", r->stored, (int64_t)head->stored_bytes);
	if (!err)
		err = other_number(c, r, "arrays", "number of files", r->arrays, arrays);
	return err ? err : compare_lists(c, r, ix, full);
}

/* Opening. The first damage is told, unless the length tells it. */

static int open_sealed(struct check *c, struct check_layer *l)
{
	int err = layer_open_frames(c->log->dir, l->number, c->uuid, &l->file);

	if (!err) {
		err = layer_load_index(l->file);
		l->whole = !err;
	}
	return err;
}

/* A row may say that a layer is open which is sealed: then it ends as such, just where the row says. */
static bool is_really_sealed(struct check *c, const struct row *r, int64_t size, struct check_layer *l)
{
	if (size != r->bytes || open_sealed(c, l)) {
		if (l->file)
			layer_close(l->file);
		l->file = NULL;
		return false;
	}
	l->state = layer_head(l->file)->kind == LAYER_FULL ? META_LAYER_FULL : META_LAYER_DELTA;
	return true;
}

static int open_layer(struct check *c, const struct row *r, int64_t size)
{
	struct check_layer l = { .number = (uint64_t)r->number, .state = r->state, .bytes = (uint64_t)r->bytes };
	struct check_ear ear;
	int err;

	check_listen(&ear);
	if (r->state || is_really_sealed(c, r, size, &l)) {
		err = l.file ? 0 : open_sealed(c, &l);
	} else {
		ear.n = 0;
		err = layer_look(c->log->dir, l.number, c->uuid, l.bytes, (uint64_t)r->segment, &l.file);
		l.whole = !err;
	}
	check_listen_end();
	l.bytes = l.file ? layer_bytes(l.file) : 0;
	if (err && err != -EUCLEAN)
		return check_fail(c, err, "%s: %s", r->path, strerror(-err));
	/* Another file's header tells more than the length. */
	if (err && ear.off && size < r->bytes)
		check_found(c, "%s has %" PRId64 " bytes, %" PRId64 " are committed", r->path, size, r->bytes);
	else if (err && ear.off && r->state && size > r->bytes)
		check_found(c, "%s is sealed at %" PRId64 " bytes, but has %" PRId64, r->path, r->bytes, size);
	else if (err)
		check_found(c, "%s at byte %" PRIu64 ": %s", r->path, ear.off, ear.text);
	err = check_log_add(c, &l);
	if (!err && l.whole && l.state)
		err = compare_file(c, r, l.file);
	return err;
}

/* number, state, bytes, segment, chain, refs, commit, time, raw, stored, arrays */
static int check_layer(struct check *c, sqlite3_value **v)
{
	struct row r = {
		.number = check_int(v[0]), .state = check_int(v[1]), .bytes = check_int(v[2]), .segment = check_int(v[3]),
		.chain = v[4], .refs = v[5], .commit = check_int(v[6]), .time = check_int(v[7]), .raw = check_int(v[8]),
		.stored = check_int(v[9]), .arrays = check_int(v[10]),
	};
	char path[LAYER_NAME_MAX];
	struct stat st;
	int err;

	if (r.number < 1) {
		check_found(c, "a layer cannot have the number %" PRId64, r.number);
		return 0;
	}
	layer_path((uint64_t)r.number, path);
	r.path = path;
	err = beneath_stat(check_home_of(c, path), path, &st);
	if (err && err != -ENOENT)
		return check_fail_file(c, err, path);
	if (err) {
		check_found(c, "%s, of %" PRId64 " bytes, is missing", path, r.bytes);
		return check_log_add(c, &(struct check_layer){ .number = (uint64_t)r.number, .state = r.state });
	}
	if (!S_ISREG(st.st_mode)) {
		check_found(c, "%s is a %s, not a regular file", path, beneath_kind(st.st_mode));
		return check_log_add(c, &(struct check_layer){ .number = (uint64_t)r.number, .state = r.state });
	}
	if (r.state == META_LAYER_OPEN && (r.bytes < 8 + (int64_t)sizeof(struct layer_header) || r.segment < 0 ||
					   r.segment >= r.bytes)) {
		check_found(c, "%s: a length of %" PRId64 " bytes with a segment at %" PRId64 " cannot be", path, r.bytes,
			    r.segment);
		return check_log_add(c, &(struct check_layer){ .number = (uint64_t)r.number, .state = r.state });
	}
	return open_layer(c, &r, st.st_size);
}

/* number: the one open layer. */
static int second_open(struct check *c, sqlite3_value **v)
{
	char path[LAYER_NAME_MAX];

	layer_path((uint64_t)check_int(v[0]), path);
	check_found(c, "%s is open, but not the newest", path);
	return 0;
}

/* name, layer */
static int bad_snapshot(struct check *c, sqlite3_value **v)
{
	int err = check_mend(c, "the snapshot is removed", "DELETE FROM snapshots WHERE name=?", "b", sqlite3_value_blob(v[0]),
			     (size_t)sqlite3_value_bytes(v[0]));

	if (!err)
		check_found(c, "snapshot %s is of layer %" PRId64 ", which does not exist",
			    check_quote(c, sqlite3_value_blob(v[0]), (size_t)sqlite3_value_bytes(v[0])), check_int(v[1]));
	return err;
}

static int unknown_file(struct check *c, void *ctx, const char *name)
{
	uint64_t number;
	int64_t there = 0;
	int err = 0;

	(void)ctx;
	if (!layer_name_parse(name, &number))
		err = check_number(c, 0, &there, "SELECT 1 FROM layers WHERE number=?", "i", (int64_t)number);
	if (!err && !there && strcmp(name, "HEAD") && strcmp(name, "refs") && !strstr(name, ".tmp"))
		check_note(c, "layers/%s belongs to no commit", name);
	return err;
}

int check_pass_layers(struct check *c)
{
	int err = check_log_begin(c);

	if (!err)
		err = check_rows(c, "SELECT number, state, bytes, segment, chain, refs, commit_number, time, raw,"
				 " stored, arrays FROM layers ORDER BY number", check_layer);
	if (!err)
		err = check_rows(c, "SELECT number FROM layers WHERE state=0 AND number<(SELECT max(number) FROM layers WHERE state<>2)",
				 second_open);
	if (!err)
		err = check_rows(c, "SELECT name, layer FROM snapshots WHERE layer NOT IN (SELECT number FROM layers"
				 " WHERE state<>0) ORDER BY name", bad_snapshot);
	if (!err)
		err = check_states(c);
	if (!err)
		err = check_list(c, "layers", unknown_file, NULL);
	if (err == -ENOENT)
		err = 0;
	return err ? err : check_refs_files(c);
}
