/*
 * The store's files for the check: the mark, copies, listings, and what waits for the commit.
 *
 * Invariant: a file of the store that its rows may point to is only changed by a deferred action, which
 * runs when the mended rows are durable; before, only new files are made.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
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

#define COPY_BYTES (1u << 20)

int check_copy_range(struct check *c, int from, uint64_t from_off, int to, uint64_t to_off, uint64_t len)
{
	char *buf = malloc(COPY_BYTES);
	int err = buf ? 0 : -ENOMEM;

	(void)c;
	while (!err && len) {
		ssize_t n = pread(from, buf, len < COPY_BYTES ? (size_t)len : COPY_BYTES, (off_t)from_off), w = 0;

		if (n <= 0)
			err = n ? -errno : -ENODATA;
		if (err == -EINTR && !check_cancelled()) {
			err = 0;
			continue;
		}
		for (ssize_t done = 0; !err && done < n; done += w) {
			w = pwrite(to, buf + done, (size_t)(n - done), (off_t)to_off + done);
			if (w < 0)
				err = -errno;
		}
		if (err)
			break;
		from_off += (uint64_t)n;
		to_off += (uint64_t)n;
		len -= (uint64_t)n;
		err = check_cancelled() ? -ECANCELED : 0;
	}
	free(buf);
	return err;
}

int check_copy_file(struct check *c, int from, const char *name, int to, const char *newname)
{
	int in = openat(from, name, O_RDONLY | O_CLOEXEC), out = -1, err = in < 0 ? -errno : 0;
	struct stat st;

	if (!err && fstat(in, &st) < 0)
		err = -errno;
	if (!err) {
		out = openat(to, newname, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		err = out < 0 ? -errno : check_copy_range(c, in, 0, out, 0, (uint64_t)st.st_size);
	}
	if (!err && (fsync(out) < 0 || fsync(to) < 0))
		err = -errno;
	if (in >= 0)
		close(in);
	if (out >= 0)
		close(out);
	if (err && out >= 0)
		unlinkat(to, newname, 0);
	return err;
}

static int not_dots(const struct dirent *d)
{
	return strcmp(d->d_name, ".") && strcmp(d->d_name, "..");
}

int check_list(struct check *c, const char *dir, int (*each)(struct check *c, const char *name))
{
	struct dirent **v;
	int n = scandirat(c->dirfd, dir, &v, not_dots, alphasort), err = 0;

	if (n < 0)
		return -errno;
	for (int i = 0; i < n; i++) {
		if (!err)
			err = each(c, v[i]->d_name);
		free(v[i]);
	}
	free(v);
	return err;
}

bool check_decimal(const char *text, int64_t *out)
{
	uint64_t n;

	if (*text == '0' || strlen(text) > 18 || text_number(text, &n) < 0)
		return false;
	*out = (int64_t)n;
	return true;
}

int check_defer(struct check *c, int (*run)(struct check *c, struct check_deferred *d), int64_t number, int64_t size)
{
	struct check_deferred *d;

	if (!c->repair)
		return 0;
	d = calloc(1, sizeof(*d));
	if (!d)
		return -ENOMEM;
	*d = (struct check_deferred){ .next = c->deferred, .run = run, .number = number, .size_bytes = size };
	c->deferred = d;
	return 0;
}

/* The mark. */

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
