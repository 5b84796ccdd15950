/*
 * The pass over layers: the rows of the layers and their files.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "block/format.h"
#include "block/layer.h"
#include "store/meta.h"
#include "tool/check.h"
#include "tool/text.h"

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

/* The states that can be asked for, the newest and those with a name, must be complete. Of other layers only
 * frames may be needed, and what they were replayed from may be gone. */
static int check_states(struct check *c)
{
	int err = 0;

	if (sqlite3_exec(c->db, "DROP TABLE IF EXISTS temp.needed;"
			 "CREATE TEMP TABLE needed(number INTEGER PRIMARY KEY)", NULL, NULL, NULL) != SQLITE_OK)
		err = check_db_fail(c);
	if (!err)
		err = check_rows(c, "SELECT number, chain FROM layers WHERE state<>0 AND (number IN"
				 " (SELECT layer FROM snapshots) OR number=(SELECT max(number) FROM layers"
				 " WHERE state<>0)) ORDER BY number", check_chain);
	if (!err)
		err = check_rows(c, "SELECT number, refs FROM layers WHERE state=2 AND number IN"
				 " (SELECT number FROM temp.needed) ORDER BY number", check_refs);
	return err;
}

static void check_length(struct check *c, const char *path, const struct stat *st, int64_t state, int64_t bytes)
{
	if (st->st_size < bytes)
		check_found(c, "%s has %lld bytes, %" PRId64 " are committed", path, (long long)st->st_size, bytes);
	else if (state && st->st_size > bytes)
		check_found(c, "%s is sealed at %" PRId64 " bytes, but has %lld", path, bytes, (long long)st->st_size);
}

/* number, state, bytes, segment, live, is the newest */
static int check_layer(struct check *c, sqlite3_value **v)
{
	int64_t number = check_int(v[0]), state = check_int(v[1]), bytes = check_int(v[2]), segment = check_int(v[3]);
	char path[LAYER_NAME_MAX];
	struct stat st;

	if (number < 1) {
		check_found(c, "a layer cannot have the number %" PRId64, number);
		return 0;
	}
	layer_path((uint64_t)number, path);
	if (fstatat(c->dirfd, path, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		if (errno != ENOENT)
			return check_fail(c, -errno, "%s: %s", path, strerror(errno));
		check_found(c, "%s, of %" PRId64 " bytes, is missing", path, bytes);
		return 0;
	}
	if (state < META_LAYER_OPEN || state > META_LAYER_FULL)
		check_found(c, "%s is neither open nor sealed: %" PRId64, path, state);
	if (state == META_LAYER_OPEN && !check_int(v[5]))
		check_found(c, "%s is open, but not the newest", path);
	if (bytes < 8 + (int64_t)sizeof(struct layer_header) || segment < 0 || segment >= bytes)
		check_found(c, "%s: a length of %" PRId64 " bytes with a segment at %" PRId64 " cannot be", path, bytes,
			    segment);
	else
		check_length(c, path, &st, state, bytes);
	if (check_int(v[4]) < 0 || check_int(v[4]) > bytes)
		check_found(c, "%s: %" PRId64 " of its bytes are said to be live", path, check_int(v[4]));
	return 0;
}

/* name, layer */
static int bad_snapshot(struct check *c, sqlite3_value **v)
{
	check_found(c, "snapshot %s is of layer %" PRId64 ", which does not exist",
		    check_quote(sqlite3_value_blob(v[0]), (size_t)sqlite3_value_bytes(v[0])), check_int(v[1]));
	return 0;
}

static int unknown_file(struct check *c, const char *name)
{
	uint64_t number;
	int64_t there = 0;
	int err = 0;

	if (!layer_name_parse(name, &number))
		err = check_number(c, 0, &there, "SELECT 1 FROM layers WHERE number=?", "i", (int64_t)number);
	if (!err && !there && strcmp(name, "HEAD") && strcmp(name, "refs") && !strstr(name, ".tmp"))
		check_note(c, "layers/%s belongs to no commit", name);
	return err;
}

/* HEAD may be behind by what a crash has cut off, but never names what is not there. */
static int check_head(struct check *c)
{
	int64_t newest, sealed = 0;
	uint64_t number;
	char *text, *end;
	int err = check_number(c, 0, &newest, "SELECT max(number) FROM layers WHERE state<>0", "");

	if (err)
		return err;
	err = text_read_at(c->dirfd, "layers/HEAD", &text);
	if (err == -ENOENT) {
		if (newest)
			check_note(c, "layers/HEAD is missing");
		return 0;
	}
	if (err)
		return check_fail(c, err, "layers/HEAD: %s", strerror(-err));
	end = strchr(text, '\n');
	if (end)
		*end = '\0';
	if (!end || end[1] || layer_name_parse(text, &number))
		check_found(c, "layers/HEAD names no layer: %s", check_quote(text, strlen(text)));
	else {
		err = check_number(c, 0, &sealed, "SELECT 1 FROM layers WHERE number=? AND state<>0", "i",
				   (int64_t)number);
		if (!err && !sealed)
			check_note(c, "layers/HEAD names layer %" PRIu64 ", the newest is %" PRId64, number, newest);
	}
	free(text);
	return err;
}

int check_pass_layers(struct check *c)
{
	int err = check_rows(c, "SELECT number, state, bytes, segment, live, number=(SELECT max(number) FROM layers)"
			     " FROM layers ORDER BY number", check_layer);

	if (!err)
		err = check_states(c);
	if (!err)
		err = check_rows(c, "SELECT name, layer FROM snapshots WHERE layer NOT IN (SELECT number FROM layers"
				 " WHERE state<>0) ORDER BY name", bad_snapshot);
	if (!err)
		err = check_list(c, "layers", unknown_file);
	if (err == -ENOENT)
		err = 0;
	return err ? err : check_head(c);
}
