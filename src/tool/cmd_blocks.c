/*
 * stats: the blocks of a layered array, or stretches of another.
 *
 * Invariant: nothing but a regular file on a FUSE file system is sent a request.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "array/dtype.h"
#include "tool/blocks.h"
#include "tool/tool.h"

static int ask_daemon(void *ctx, struct spillfs_blocks *io)
{
	return ioctl(*(int *)ctx, SPILLFS_IOC_BLOCKS, io) < 0 ? -errno : 0;
}

/* A snapshot's files may have no such attribute: then the statistics tell the type. */
static void read_dtype(int fd, char out[DTYPE_TEXT_MAX + 1])
{
	ssize_t n = fgetxattr(fd, SPILLFS_XATTR_DTYPE, out, DTYPE_TEXT_MAX);

	out[n > 0 ? n : 0] = '\0';
}

static enum tool_exit print_stats(int fd, const char *path, bool summary_only)
{
	struct blocks_source from = { .ask = ask_daemon, .ctx = &fd };
	char dtype[DTYPE_TEXT_MAX + 1];
	struct stat st;
	int err;

	if (fstat(fd, &st) < 0)
		return tool_fail(TOOL_FAILED, "%s: %s", path, strerror(errno));
	if (S_ISDIR(st.st_mode))
		return tool_fail(TOOL_NOT_MOUNT, "%s is a directory (spillctl stat shows the statistics of a mount)",
				 path);
	err = S_ISREG(st.st_mode) ? tool_need_fuse(fd) : -ENOTTY;
	if (err == 0) {
		read_dtype(fd, dtype);
		err = blocks_print(stdout, &from, path, dtype, summary_only);
	}
	if (err == -ENOTTY)
		return tool_fail(TOOL_NOT_MOUNT, "%s is not an array on a spillfs", path);
	if (err == -EPROTO)
		return tool_fail(TOOL_FAILED, "%s: the daemon's answer is not understood", path);
	if (err < 0)
		return tool_fail(TOOL_FAILED, "%s: %s", path, strerror(-err));
	return TOOL_OK;
}

enum tool_exit cmd_stats(const struct tool_call *call)
{
	const char *path = call->args[0];
	/* A FIFO would wait for a writer. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	enum tool_exit code;

	if (fd < 0) {
		int err = errno;

		return tool_fail(err == ENOENT || err == ENOTDIR || err == ENOTCONN ? TOOL_NOT_MOUNT : TOOL_FAILED,
				 "%s: %s", path, strerror(err));
	}
	code = print_stats(fd, path, tool_flag(call, 's'));
	close(fd);
	return code;
}
