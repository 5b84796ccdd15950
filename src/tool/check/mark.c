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
#include <sys/random.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "block/format.h"
#include "store/store.h"
#include "tool/check/inside.h"
#include "tool/text.h"

static bool parse_uuid(const char *text, uint8_t out[16])
{
	static const char shape[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
	size_t n = 0;

	for (const char *s = shape; *s; s++, text++) {
		unsigned digit = *text >= '0' && *text <= '9' ? (unsigned)*text - '0' :
				 *text >= 'a' && *text <= 'f' ? (unsigned)*text - 'a' + 10 : 16;

		if (*s == '-' ? *text != '-' : digit > 15)
			return false;
		if (*s == '-')
			continue;
		out[n / 2] = (uint8_t)(n % 2 ? out[n / 2] | digit : digit << 4);
		n++;
	}
	return *text == '\n' || !*text;
}

/* The uuid as the header of a layer has it. */
static int uuid_of_layer(struct check *c, const char *name)
{
	struct {
		struct layer_skip skip;
		struct layer_header head;
	} h;
	char path[300];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "layers/%s", name);
	fd = openat(c->dirfd, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = pread(fd, &h, sizeof(h), 0);
	close(fd);
	if (n != sizeof(h) || memcmp(h.head.magic, "SPILLHDR", 8) ||
	    h.head.xxh64 != XXH64(&h.head, offsetof(struct layer_header, xxh64), 0))
		return 0;
	memcpy(c->uuid, h.head.store_uuid, sizeof(c->uuid));
	return 1;
}

static int write_mark(struct check *c, unsigned version)
{
	const uint8_t *u = c->uuid;
	char text[128];
	int n, fd, err = 0;

	n = snprintf(text, sizeof(text), "spillfs %u\nuuid ", version);
	for (int i = 0; i < 16; i++)
		n += snprintf(text + n, sizeof(text) - (size_t)n, "%s%02x",
			      i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", u[i]);
	text[n++] = '\n';
	fd = openat(c->dirfd, "SPILLFS.tmp", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, text, (size_t)n) != n || fsync(fd) < 0)
		err = -errno;
	if (fd >= 0)
		close(fd);
	if (!err && (renameat(c->dirfd, "SPILLFS.tmp", c->dirfd, "SPILLFS") < 0 || fsync(c->dirfd) < 0))
		err = -errno;
	return err ? check_fail(c, err, "SPILLFS: %s", strerror(-err)) : 0;
}

/* A store without its mark is one all the same if it has the rest. */
static int mend_mark(struct check *c, unsigned version)
{
	int err;

	/* Also for looking: what the layers are compared with. */
	err = check_list(c, "layers", uuid_of_layer);
	if (!c->repair)
		return 0;
	if (err != 1) {
		if (getrandom(c->uuid, sizeof(c->uuid), 0) != sizeof(c->uuid))
			return -errno;
		c->uuid[6] = (c->uuid[6] & 0x0f) | 0x40;
		c->uuid[8] = (c->uuid[8] & 0x3f) | 0x80;
	}
	err = write_mark(c, version ? version : STORE_FORMAT_VERSION);
	if (!err)
		check_mended(c, "written anew");
	return err;
}

int check_pass_mark(struct check *c)
{
	unsigned version = 0;
	char *text, *second;
	bool valid;
	int err = text_read_at(c->dirfd, "SPILLFS", &text);

	if (err == -ENOENT) {
		err = mend_mark(c, 0);
		if (!err)
			check_found(c, "SPILLFS is missing");
		return err;
	}
	if (err)
		return check_fail(c, err, "SPILLFS: %s", strerror(-err));
	second = strchr(text, '\n');
	valid = sscanf(text, "spillfs %u\n", &version) == 1 && second && !strncmp(second, "\nuuid ", 6) &&
		parse_uuid(second + 6, c->uuid);
	free(text);
	if (version > STORE_FORMAT_VERSION)
		return check_fail(c, -EPROTONOSUPPORT, "the store has format %u, this program knows up to %u", version,
				  STORE_FORMAT_VERSION);
	if (valid)
		return 0;
	err = mend_mark(c, version);
	if (!err)
		check_found(c, "SPILLFS holds no format version and uuid");
	return err;
}
