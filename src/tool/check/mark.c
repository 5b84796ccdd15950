/*
 * The pass over the store's mark, the file SPILLFS: the version of its format, and its uuid.
 *
 * Invariants:
 * 1. A version that this program does not know ends the check before anything is changed.
 * 2. A mark that is made anew has the uuid of the layers, where one can be read.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "block/format.h"
#include "io/beneath.h"
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
	if (beneath_open(c->dirfd, path, O_RDONLY, &fd))
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

	mark_text(STORE_FORMAT_VERSION, c->uuid, text);
	err = check_replace(c, "SPILLFS", "SPILLFS.tmp", text);
	if (!err && fsync(c->dirfd) < 0)
		err = -errno;
	return err ? check_fail_file(c, err, "SPILLFS") : 0;
}

/* A store without its mark is one all the same if it has the rest. */
static int mend_mark(struct check *c)
{
	int err;

	/* Also for looking: what the layers are compared with. */
	err = check_list(c, "layers", uuid_of_layer, NULL);
	if (!c->repair)
		return 0;
	err = err == 1 ? 0 : mark_uuid_new(c->uuid);
	if (!err)
		err = write_mark(c);
	if (!err)
		check_mended(c, "written anew");
	return err;
}

int check_pass_mark(struct check *c)
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
	if (version > STORE_FORMAT_VERSION)
		return check_fail(c, -EPROTONOSUPPORT, "the store has format %u, this program knows up to %u", version,
				  STORE_FORMAT_VERSION);
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
