/*
 * layers/HEAD and layers/refs/, which followers and rebuilding read: do they say what the rows say?
 *
 * Invariant: what a crash leaves is no error: HEAD behind the newest layer, a name whose file did not come or go yet. The next
 * mount writes them all.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/beneath.h"
#include "store/meta.h"
#include "store/ref.h"
#include "tool/check/log.h"

static int write_file(struct check *c, const char *path, const char *text)
{
	int err = check_replace(c, path, "layers/ref.tmp", text);

	return err ? check_fail_file(c, err, path) : 0;
}

static int sync_dir(struct check *c, const char *path)
{
	int err = check_sync_dir(c, path);

	return err ? check_fail_file(c, err, path) : 0;
}

/* number */
static int write_head(struct check *c, sqlite3_value **v)
{
	char text[REF_TEXT_MAX];

	ref_head_text((uint64_t)check_int(v[0]), text);
	return write_file(c, "layers/HEAD", text);
}

/* name, layer, time */
static int write_ref(struct check *c, sqlite3_value **v)
{
	char path[REF_PATH_MAX], text[REF_TEXT_MAX];

	snprintf(path, sizeof(path), "layers/refs/%.*s", sqlite3_value_bytes(v[0]), (const char *)sqlite3_value_blob(v[0]));
	ref_text((uint64_t)check_int(v[1]), check_int(v[2]), text);
	return write_file(c, path, text);
}

#define VALID_NAME "length(name) BETWEEN 1 AND 255 AND NOT instr(name, x'2f') AND NOT instr(name, x'00')" \
	" AND name NOT IN (x'2e', x'2e2e')"

/* As the rows are then. */
static int write_all(struct check *c, struct check_deferred *d)
{
	int err = check_rows(c, "SELECT number FROM layers WHERE number=" CHECK_NEWEST_LAYER, write_head);

	(void)d;
	if (err)
		return err;
	err = beneath_mkdir(c->dirfd, "layers/refs");
	if (err)
		return check_fail_file(c, err, "layers/refs");
	err = check_rows(c, "SELECT name, layer, time FROM snapshots WHERE " VALID_NAME, write_ref);
	if (!err)
		err = sync_dir(c, "layers/refs");
	return err ? err : sync_dir(c, "layers");
}

static int mend_files(struct check *c)
{
	int err = check_defer(c, write_all, 0, 0);

	if (!err)
		check_mended(c, "written anew");
	return err;
}

static int is_sealed(struct check *c, uint64_t number, bool *out)
{
	int64_t there;
	int err = check_number(c, 0, &there, "SELECT 1 FROM layers WHERE number=? AND state<>0", "i", (int64_t)number);

	if (!err)
		*out = there;
	return err;
}

static int check_head(struct check *c)
{
	int64_t newest;
	uint64_t number;
	bool there = false;
	char *text = NULL;
	int err = check_number(c, 0, &newest, "SELECT " CHECK_NEWEST_LAYER, "");

	if (!err)
		err = check_read_text(c, "layers/HEAD", &text);
	if (err == -ENOENT) {
		if (newest)
			check_note(c, "layers/HEAD is missing");
		return 0;
	}
	if (err)
		return check_fail_file(c, err, "layers/HEAD");
	if (ref_head_parse(text, &number)) {
		text[strlen(text) - (*text && text[strlen(text) - 1] == '\n')] = '\0';
		err = mend_files(c);
		if (!err)
			check_found(c, "layers/HEAD names no layer: %s", check_quote(c, text, strlen(text)));
	} else {
		err = is_sealed(c, number, &there);
		if (!err && (there || number < (uint64_t)newest)) {
			if (number != (uint64_t)newest)
				check_note(c, "layers/HEAD names layer %" PRIu64 ", the newest is %" PRId64, number, newest);
		} else if (!err) {
			err = mend_files(c);
			check_found(c, "layers/HEAD names layer %" PRIu64 ", which is not sealed; the newest is %" PRId64, number,
				    newest);
		}
	}
	free(text);
	return err;
}

static int check_ref(struct check *c, void *ctx, const char *name)
{
	char path[REF_PATH_MAX], *text = NULL;
	int64_t layer, time = 0, row_time = 0;
	uint64_t number = 0;
	bool there = false, valid;
	int err = check_number(c, -1, &layer, "SELECT layer FROM snapshots WHERE name=?", "b", name, strlen(name));

	(void)ctx;
	ref_path(name, path);
	if (!err && layer < 0) {
		check_note(c, "%s belongs to no snapshot; the next mount deletes it", check_quote(c, path, strlen(path)));
		return 0;
	}
	if (!err)
		err = check_number(c, 0, &row_time, "SELECT time FROM snapshots WHERE name=?", "b", name, strlen(name));
	if (err)
		return err;
	err = check_read_text(c, path, &text);
	if (err)
		return check_fail_file(c, err, check_quote(c, path, strlen(path)));
	valid = !ref_parse(text, &number, &time);
	free(text);
	if (valid)
		err = is_sealed(c, number, &there);
	if (err || (valid && number == (uint64_t)layer && time == row_time))
		return err;
	/* The same name may have been given again just before a crash. */
	if (valid && number < (uint64_t)layer) {
		check_note(c, "%s is of layer %" PRIu64 ", the snapshot of layer %" PRId64, check_quote(c, path, strlen(path)), number,
			   layer);
		return 0;
	}
	err = mend_files(c);
	if (err)
		return err;
	if (!valid)
		check_found(c, "%s names no layer and time", check_quote(c, path, strlen(path)));
	else if (!there)
		check_found(c, "%s names layer %" PRIu64 ", which does not exist", check_quote(c, path, strlen(path)), number);
	else
		check_found(c, "%s is of layer %" PRIu64 " at %" PRId64 ", the snapshot of layer %" PRId64 " at %" PRId64,
			    check_quote(c, path, strlen(path)), number, time, layer, row_time);
	return 0;
}

int check_refs_files(struct check *c)
{
	int err = check_list(c, "layers/refs", check_ref, NULL);

	if (err == -ENOENT)
		err = 0;
	return err ? err : check_head(c);
}
