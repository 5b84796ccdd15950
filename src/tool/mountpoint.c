/*
 * The mount that a path lies in: found from any path inside it.
 *
 * Invariants:
 * 1. The root is the highest directory on the way up that is still on the path's own device.
 * 2. No request is sent to a file system that is not FUSE.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "tool/text.h"
#include "tool/tool.h"
#include "util/mnt.h"

#define FUSE_SUPER_MAGIC 0x65735546

/* Cuts path, absolute and resolved, down to its mount's root. */
static int climb(char *path)
{
	struct stat here, up;

	if (stat(path, &here) < 0)
		return -errno;
	for (;;) {
		char parent[PATH_MAX];
		char *slash;

		if (!strcmp(path, "/"))
			return 0;
		strcpy(parent, path);
		slash = strrchr(parent, '/');
		slash[slash == parent ? 1 : 0] = '\0';
		if (stat(parent, &up) < 0)
			return -errno;
		if (up.st_dev != here.st_dev)
			return 0;
		strcpy(path, parent);
	}
}

int tool_need_fuse(int fd)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) < 0) /* a daemon that cannot read its store says EIO, and answers what follows all the same */
		return errno == EIO ? 0 : -errno;
	return (unsigned long)fs.f_type == FUSE_SUPER_MAGIC ? 0 : -ENOTTY;
}

/* 0, or the errno with which it is not a spillfs; -EPERM: it is one that does not answer us. */
static int ask(int fd, struct spillfs_info *out)
{
	struct spillfs_info info = { 0 };
	int err = tool_need_fuse(fd);

	if (err < 0)
		return err;
	if (ioctl(fd, SPILLFS_IOC_INFO, &info) < 0)
		return -errno;
	*out = info;
	return 0;
}

enum tool_exit tool_mount_open(const char *path, bool need_info, struct tool_mount *out)
{
	struct tool_mount m = { .fd = -1 };
	char root[PATH_MAX];
	int err = mnt_ask(path);

	if (err == 0 && !realpath(path, root))
		err = -errno;
	if (err == 0)
		err = climb(root);
	if (err == 0)
		err = mnt_ask(root);
	if (err == -ENOTCONN)
		return tool_fail(TOOL_NOT_MOUNT, "%s: the daemon behind this mount is dead; mount again, "
				 "or spillctl umount it", path);
	if (err < 0)
		return tool_fail(TOOL_NOT_MOUNT, "%s: %s", path, strerror(-err));
	m.fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (m.fd < 0)
		return tool_fail(TOOL_FAILED, "%s: %s", root, strerror(errno));
	err = ask(m.fd, &m.info);
	m.has_info = err == 0;
	if (err < 0 && (err != -EPERM || need_info)) {
		close(m.fd);
		if (err == -EPERM)
			return tool_fail(TOOL_FAILED, "%s: only root and the user who runs the daemon may do this",
					 root);
		return tool_fail(TOOL_NOT_MOUNT, "%s is not in a mounted spillfs", path);
	}
	m.root = strdup(root);
	if (!m.root) {
		close(m.fd);
		return tool_fail(TOOL_FAILED, "out of memory");
	}
	*out = m;
	return TOOL_OK;
}

void tool_mount_close(struct tool_mount *m)
{
	if (m->fd >= 0)
		close(m->fd);
	free(m->root);
	m->fd = -1;
	m->root = NULL;
}

enum tool_exit tool_mount_read(const struct tool_mount *m, const char *path, char **out)
{
	int err = text_read_at(m->fd, path, out);

	if (err == 0)
		return TOOL_OK;
	return tool_fail(err == -ENOENT && !m->has_info ? TOOL_NOT_MOUNT : TOOL_FAILED, "%s/%s: %s", m->root, path,
			 strerror(-err));
}
