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

#include "io/beneath.h"
#include "tool/check/inside.h"

#define COPY_BYTES (1u << 20)
#define TEXT_BYTES_MAX 4096u

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
	int in = -1, out = -1, err = beneath_open(from, name, O_RDONLY, &in);
	struct stat st;

	if (!err && fstat(in, &st) < 0)
		err = -errno;
	if (!err)
		err = beneath_open(to, newname, O_WRONLY | O_CREAT | O_EXCL, &out);
	if (!err)
		err = check_copy_range(c, in, 0, out, 0, (uint64_t)st.st_size);
	if (!err && (fsync(out) < 0 || fsync(to) < 0))
		err = -errno;
	if (in >= 0)
		close(in);
	if (out >= 0)
		close(out);
	if (err && out >= 0)
		beneath_unlink(to, newname);
	return err;
}

int check_read_text(struct check *c, const char *path, char **out)
{
	char *text = calloc(1, TEXT_BYTES_MAX + 1);
	int fd, err = text ? beneath_open(c->dirfd, path, O_RDONLY, &fd) : -ENOMEM;

	if (!err) {
		err = pread(fd, text, TEXT_BYTES_MAX, 0) < 0 ? -errno : 0;
		close(fd);
	}
	if (err) {
		free(text);
		return err;
	}
	*out = text;
	return 0;
}

int check_replace(struct check *c, const char *path, const char *tmp, const char *text)
{
	int fd, err = beneath_open(c->dirfd, tmp, O_WRONLY | O_CREAT | O_TRUNC, &fd);
	size_t len = strlen(text);
	ssize_t n;

	if (err)
		return err;
	n = write(fd, text, len);
	if (n < 0 || fsync(fd) < 0)
		err = -errno;
	else if (n != (ssize_t)len)
		err = -ENOSPC;
	close(fd);
	return err ? err : beneath_rename(c->dirfd, tmp, path);
}

int check_sync_dir(struct check *c, const char *path)
{
	int fd, err = beneath_open(c->dirfd, path, O_RDONLY | O_DIRECTORY, &fd);

	if (err)
		return err;
	err = fsync(fd) < 0 ? -errno : 0;
	close(fd);
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
