/*
 * Names below a directory that may have been made by an enemy.
 *
 * Invariants:
 *  1. Every path is resolved by openat2 with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS, or part by part with O_NOFOLLOW where the
 *     kernel has no openat2 or a filter refuses it.
 *  2. What is there is opened by O_PATH first, which does nothing to it, and for use only when it is known what it is: by its
 *     descriptor, so that it cannot become something else between the two.
 */
#include "io/beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/err.h"

#define FILE_MODE 0600
#define DIRECTORY_MODE 0700

static int open_at(int dirfd, const char *name, int oflags, int *out)
{
	int fd = openat(dirfd, name, oflags | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC, FILE_MODE);

	if (fd < 0)
		return -errno;
	*out = fd;
	return 0;
}

/* The directory named by the first len bytes of path, inside dirfd. */
static int step_into(int dirfd, const char *path, size_t len, int *out)
{
	char name[NAME_MAX + 1];

	if (len > NAME_MAX)
		return -ENAMETOOLONG;
	memcpy(name, path, len);
	name[len] = '\0';
	return strcmp(name, "..") ? open_at(dirfd, name, O_PATH | O_DIRECTORY, out) : -EXDEV;
}

/* Invariant 1 without openat2. */
static int resolve_by_parts(int dirfd, const char *path, int oflags, int *out)
{
	int at = dirfd, next = dirfd, err = 0;
	size_t len;

	while (!err && path[len = strcspn(path, "/")]) {
		err = step_into(at, path, len, &next);
		if (at != dirfd)
			close(at);
		at = err ? dirfd : next;
		path += len + 1;
	}
	if (!err)
		err = strcmp(path, "..") ? open_at(at, path, oflags, out) : -EXDEV;
	if (at != dirfd)
		close(at);
	return err;
}

static int resolve(int dirfd, const char *path, int oflags, int *out)
{
	const struct open_how how = {
		.flags = (uint64_t)(unsigned)(oflags | O_NOFOLLOW | O_CLOEXEC | (oflags & O_PATH ? 0 : O_NOCTTY)),
		.mode = oflags & O_CREAT ? FILE_MODE : 0,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
	};
	long fd;

	if (path[0] == '/')
		return -EXDEV;
	fd = syscall(SYS_openat2, dirfd, path, &how, sizeof(how));
	if (fd >= 0) {
		*out = (int)fd;
		return 0;
	}
	/* A filter that does not know the call says EPERM, which it can mean otherwise. */
	return errno == ENOSYS || errno == EPERM ? resolve_by_parts(dirfd, path, oflags, out) : -errno;
}

/* ---- what is not as it should be ---- */

const char *beneath_kind(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG: return "regular file";
	case S_IFDIR: return "directory";
	case S_IFLNK: return "symbolic link";
	case S_IFIFO: return "FIFO";
	case S_IFSOCK: return "socket";
	case S_IFBLK: return "block device";
	case S_IFCHR: return "character device";
	default: return "thing of an unknown kind";
	}
}

static int refuse(const char *path, mode_t mode, bool directory)
{
	return err_corrupt(path, 0, "it is a %s, not a %s", beneath_kind(mode), directory ? "directory" : "regular file");
}

/* Tells what is there, and gives a descriptor that does nothing but hold it. */
static int look(int dirfd, const char *path, struct stat *st, int *out)
{
	int fd, err = resolve(dirfd, path, O_PATH, &fd);

	if (err)
		return err;
	if (fstat(fd, st) < 0) {
		err = -errno;
		close(fd);
		return err;
	}
	*out = fd;
	return 0;
}

/* Finds what stands in the way of path, whose resolving failed with err. */
static int explain(int dirfd, const char *path, int err)
{
	char part[PATH_MAX];
	size_t len = 0;
	struct stat st;
	int fd;

	if (err != -ELOOP && err != -ENOTDIR)
		return err;
	while (path[len]) {
		len += strcspn(path + len, "/");
		if (snprintf(part, sizeof(part), "%.*s", (int)len, path) >= (int)sizeof(part) || look(dirfd, part, &st, &fd))
			return err;
		close(fd);
		if (!S_ISDIR(st.st_mode))
			return refuse(part, st.st_mode, true);
		len += path[len] == '/';
	}
	return err;
}

/* ---- opening ---- */

/* Invariant 2. Where /proc is not mounted, by name again: then it may not wait, and must be the same file. */
static int open_held(int held, const struct stat *st, int dirfd, const char *path, int oflags, int *out)
{
	struct stat again;
	char self[40];
	int fd, err;

	snprintf(self, sizeof(self), "/proc/self/fd/%d", held);
	fd = open(self, (oflags & ~O_NOFOLLOW) | O_NOCTTY | O_CLOEXEC);
	err = fd < 0 ? -errno : 0;
	if (err == -ENOENT || err == -ENOTDIR) {
		err = resolve(dirfd, path, oflags | O_NONBLOCK, &fd);
		if (!err && (fstat(fd, &again) || again.st_dev != st->st_dev || again.st_ino != st->st_ino)) {
			close(fd);
			err = -ESTALE;
		}
	}
	if (!err)
		*out = fd;
	return err;
}

/* A regular file that is there. `same`: it must be that one, and may have any number of names. */
static int open_file(int dirfd, const char *path, int oflags, const struct stat *same, int *out)
{
	struct stat st;
	int held, err = look(dirfd, path, &st, &held);

	if (err)
		return explain(dirfd, path, err);
	if (same && (st.st_dev != same->st_dev || st.st_ino != same->st_ino))
		err = -ESTALE;
	else if (!S_ISREG(st.st_mode))
		err = refuse(path, st.st_mode, false);
	else if (!same && st.st_nlink > 1 && (oflags & O_ACCMODE) != O_RDONLY)
		err = err_corrupt(path, 0, "it has %ju names (hard links), and what is written would change the others, too; copy it",
				  (uintmax_t)st.st_nlink);
	else
		err = open_held(held, &st, dirfd, path, oflags, out);
	close(held);
	return err;
}

int beneath_open(int dirfd, const char *path, int oflags, int *out)
{
	bool makes = oflags & O_CREAT, alone = oflags & O_EXCL;
	int err;

	if (oflags & O_DIRECTORY)
		return explain(dirfd, path, resolve(dirfd, path, oflags, out));
	do {
		err = alone ? -ENOENT : open_file(dirfd, path, oflags & ~O_CREAT, NULL, out);
		if (err == -ENOENT && makes)
			err = explain(dirfd, path, resolve(dirfd, path, oflags | O_EXCL, out));
	} while (err == -EEXIST && !alone);
	return err;
}

int beneath_open_unnamed(int dirfd, int *out)
{
	int fd = openat(dirfd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, FILE_MODE);
	char name[40];

	if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT || errno == EINVAL)) {
		snprintf(name, sizeof(name), ".spillfs-unnamed-%ld", (long)gettid());
		unlinkat(dirfd, name, 0);
		fd = openat(dirfd, name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, FILE_MODE);
		if (fd >= 0)
			unlinkat(dirfd, name, 0);
	}
	if (fd < 0)
		return -errno;
	*out = fd;
	return 0;
}

int beneath_reopen(int dirfd, const char *path, int oflags, dev_t dev, ino_t ino, int *out)
{
	const struct stat same = { .st_dev = dev, .st_ino = ino };

	return open_file(dirfd, path, oflags, &same, out);
}

/* ---- names ---- */

int beneath_parent(int dirfd, const char *path, int *fd, const char **name)
{
	const char *last = strrchr(path, '/');
	char dir[PATH_MAX];
	int err;

	if (!last) {
		*fd = dirfd;
		*name = path;
		return 0;
	}
	if (snprintf(dir, sizeof(dir), "%.*s", (int)(last - path), path) >= (int)sizeof(dir))
		return -ENAMETOOLONG;
	err = explain(dirfd, dir, resolve(dirfd, dir, O_PATH | O_DIRECTORY, fd));
	if (!err)
		*name = last + 1;
	return err;
}

void beneath_parent_end(int dirfd, int fd)
{
	if (fd != dirfd)
		close(fd);
}

int beneath_stat(int dirfd, const char *path, struct stat *out)
{
	int fd, err = look(dirfd, path, out, &fd);

	if (err)
		return explain(dirfd, path, err);
	close(fd);
	return 0;
}

int beneath_unlink_at(int fd, const char *name, const char *path)
{
	if (unlinkat(fd, name, 0) == 0)
		return 0;
	return errno == EISDIR ? refuse(path, S_IFDIR, false) : -errno;
}

int beneath_unlink(int dirfd, const char *path)
{
	const char *name;
	int fd, err = beneath_parent(dirfd, path, &fd, &name);

	if (err)
		return err;
	err = beneath_unlink_at(fd, name, path);
	beneath_parent_end(dirfd, fd);
	return err;
}

/* Files are renamed, over files. */
int beneath_rename_at(int from_fd, const char *from_name, int to_fd, const char *to_name, const char *to)
{
	if (renameat(from_fd, from_name, to_fd, to_name) == 0)
		return 0;
	return errno == EISDIR ? refuse(to, S_IFDIR, false) : -errno;
}

int beneath_rename(int dirfd, const char *from, const char *to)
{
	const char *from_name, *to_name;
	int from_fd, to_fd, err = beneath_parent(dirfd, from, &from_fd, &from_name);

	if (err)
		return err;
	err = beneath_parent(dirfd, to, &to_fd, &to_name);
	if (!err) {
		err = beneath_rename_at(from_fd, from_name, to_fd, to_name, to);
		beneath_parent_end(dirfd, to_fd);
	}
	beneath_parent_end(dirfd, from_fd);
	return err;
}

int beneath_mkdir(int dirfd, const char *path)
{
	const char *name;
	int fd, err = beneath_parent(dirfd, path, &fd, &name);
	struct stat st;

	if (err)
		return err;
	err = mkdirat(fd, name, DIRECTORY_MODE) ? -errno : 0;
	if (err == -EEXIST && !fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW))
		err = S_ISDIR(st.st_mode) ? 0 : refuse(path, st.st_mode, true);
	beneath_parent_end(dirfd, fd);
	return err;
}
