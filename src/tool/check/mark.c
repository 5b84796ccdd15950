/*
 * The pass over the store's mark, the file SPILLFS: the version of its format, and its uuid; and over its directories on other disks.
 *
 * Invariants:
 * 1. A version that this program does not know ends the check before anything is changed.
 * 2. A mark that is made anew has the uuid of the list of directories, if there is one, else of the layers, where one can be read. Without
 *    a list it is made only where all files that meta.db names are here: else others may be in directories that nobody knows.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "block/format.h"
#include "block/layer.h"
#include "io/beneath.h"
#include "store/disklist.h"
#include "store/mark.h"
#include "store/store.h"
#include "tool/check/inside.h"

/* The uuid as the header of a layer has it. */
static int uuid_of_layer(struct check *c, void *ctx, const char *name)
{
	struct {
		struct layer_skip skip;
		struct layer_header head;
	} h;
	char path[300];
	ssize_t n;
	int fd;

	(void)ctx;
	snprintf(path, sizeof(path), "layers/%s", name);
	if (beneath_open(check_home_of(c, path), path, O_RDONLY, &fd))
		return 0;
	n = pread(fd, &h, sizeof(h), 0);
	close(fd);
	if (n != sizeof(h) || memcmp(h.head.magic, "SPILLHDR", 8) ||
	    h.head.xxh64 != XXH64(&h.head, offsetof(struct layer_header, xxh64), 0))
		return 0;
	memcpy(c->uuid, h.head.store_uuid, sizeof(c->uuid));
	return 1;
}

static int write_mark(struct check *c)
{
	char text[MARK_TEXT_MAX];
	int err;

	mark_text(c->format == STORE_FORMAT_SPREAD ? STORE_FORMAT_SPREAD : STORE_FORMAT_VERSION, c->uuid, text);
	err = check_replace(c, "SPILLFS", "SPILLFS.tmp", text);
	if (!err && fsync(c->dirfd) < 0)
		err = -errno;
	return err ? check_fail_file(c, err, "SPILLFS") : 0;
}

/* A store without its mark is one all the same if it has the rest. */
static int mend_mark(struct check *c)
{
	int err = check_disks_know(c);

	if (err && err != -ENOENT)
		return err;
	if (err) {
		/* Also for looking: what the layers are compared with. */
		err = check_list(c, "layers", uuid_of_layer, NULL) == 1 ? 0 : mark_uuid_new(c->uuid);
		if (!err)
			err = check_disks_none(c);
	}
	if (err || !c->repair)
		return err;
	err = write_mark(c);
	if (!err)
		check_mended(c, "written anew");
	return err;
}

/* With a list that names another store's directories nothing can be known of the files. */
static int mark_pass(struct check *c)
{
	unsigned version;
	bool valid;
	char *text;
	int err = check_read_text(c, "SPILLFS", &text);

	if (err == -ENOENT) {
		err = mend_mark(c);
		if (!err)
			check_found(c, "SPILLFS is missing");
		return err;
	}
	if (err)
		return check_fail_file(c, err, "SPILLFS");
	version = mark_version(text);
	valid = version && !mark_uuid(text, c->uuid);
	free(text);
	if (version > STORE_FORMAT_SPREAD)
		return check_fail(c, -EPROTONOSUPPORT, "the store has format %u, this program knows up to %u", version,
				  STORE_FORMAT_SPREAD);
	c->format = version;
	if (version && version < STORE_FORMAT_VERSION)
		return check_fail(c, -EPROTONOSUPPORT, "the store has format %u, which was never released; this program knows %u", version,
				  STORE_FORMAT_VERSION);
	if (valid)
		return 0;
	err = mend_mark(c);
	if (!err)
		check_found(c, "SPILLFS holds no format version and uuid");
	return err;
}

/* A file that is on its way, or in two places: only a mount knows which one counts. NAME.moved beside NAME means nothing, nor does what a
 * compaction has left. */
static int check_name(struct check *c, void *ctx, const char *name)
{
	const char *folder = ctx;
	size_t len = strlen(name), end = strlen(".moved");
	bool moved = len > end && !strcmp(name + len - end, ".moved");
	char path[300];

	snprintf(path, sizeof(path), "%s/%.*s", folder, (int)(moved ? len - end : len), name);
	if (!strcmp(path, LAYER_COMPACTING) || (moved && check_has(c, path)))
		return 0;
	if (moved)
		return check_fail(c, -EBUSY, "%s/%s: a file was on its way to another directory when the daemon ended; mount the store once, which"
				  " finishes that", folder, name);
	return check_places_of(c, path) > 1 ? check_fail(c, -EEXIST, "%s is in two directories of the store: move one of them away", path) : 0;
}

static int check_places(struct check *c)
{
	static char *const folders[] = { "pool", "layers" };
	int err = 0;

	for (size_t i = 0; i < sizeof(folders) / sizeof(*folders) && !err; i++) {
		err = check_list(c, folders[i], check_name, folders[i]);
		if (err == -ENOENT)
			err = 0;
	}
	return err;
}

int check_pass_mark(struct check *c)
{
	int err = mark_pass(c);

	if (!err)
		err = check_disks_open(c);
	return err || !c->ndisks ? err : check_places(c);
}
