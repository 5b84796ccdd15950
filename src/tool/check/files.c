/*
 * The store's files for the check: copies, listings, and actions that wait for the commit.
 *
 * Invariant: a file of the store that its rows may point to is only changed by a deferred action, which
 * runs when the mended rows are durable; before, only new files are made.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tool/check/inside.h"

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
