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
#include "tool/check.h"
#include "tool/text.h"

/* number, sealed, bytes, segment, live, is the newest */
static int check_layer(struct check *c, sqlite3_value **v)
{
	int64_t number = check_int(v[0]), sealed = check_int(v[1]), bytes = check_int(v[2]), segment = check_int(v[3]);
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
	if (sealed != 0 && sealed != 1)
		check_found(c, "%s is neither open nor sealed: %" PRId64, path, sealed);
	if (!sealed && !check_int(v[5]))
		check_found(c, "%s is open, but not the newest", path);
	if (bytes < 8 + (int64_t)sizeof(struct layer_header) || segment < 0 || segment >= bytes)
		check_found(c, "%s: a length of %" PRId64 " bytes with a segment at %" PRId64 " cannot be", path, bytes, segment);
	else if (st.st_size < bytes)
		check_found(c, "%s has %lld bytes, %" PRId64 " are committed", path, (long long)st.st_size, bytes);
	else if (sealed && st.st_size > bytes)
		check_found(c, "%s is sealed at %" PRId64 " bytes, but has %lld", path, bytes, (long long)st.st_size);
	if (check_int(v[4]) < 0 || check_int(v[4]) > bytes)
		check_found(c, "%s: %" PRId64 " of its bytes are said to be live", path, check_int(v[4]));
	return 0;
}

static int unknown_file(struct check *c, const char *name)
{
	uint64_t number;
	int64_t there = 0;
	int err = 0;

	if (!layer_name_parse(name, &number))
		err = check_number(c, 0, &there, "SELECT 1 FROM layers WHERE number=?", "i", (int64_t)number);
	if (!err && !there && strcmp(name, "HEAD") && strcmp(name, "HEAD.tmp"))
		check_note(c, "layers/%s belongs to no commit", name);
	return err;
}

/* HEAD may be behind by what a crash has cut off, but never names what is not there. */
static int check_head(struct check *c)
{
	int64_t newest, sealed = 0;
	uint64_t number;
	char *text, *end;
	int err = check_number(c, 0, &newest, "SELECT max(number) FROM layers WHERE sealed=1", "");

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
		err = check_number(c, 0, &sealed, "SELECT 1 FROM layers WHERE number=? AND sealed=1", "i", (int64_t)number);
		if (!err && !sealed)
			check_note(c, "layers/HEAD names layer %" PRIu64 ", the newest is %" PRId64, number, newest);
	}
	free(text);
	return err;
}

int check_pass_layers(struct check *c)
{
	int err = check_rows(c, "SELECT number, sealed, bytes, segment, live, number=(SELECT max(number) FROM layers) FROM layers"
			     " ORDER BY number", check_layer);

	if (!err)
		err = check_list(c, "layers", unknown_file);
	if (err == -ENOENT)
		err = 0;
	return err ? err : check_head(c);
}
