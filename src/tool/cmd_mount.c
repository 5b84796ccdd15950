/*
 * umount, sync, commit, info.
 *
 * Invariants:
 * 1. umount holds the daemon's pidfd before it unmounts, so that it waits for that very process.
 * 2. Nothing of the mount is open here, and no working directory lies in it, when it is unmounted.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "tool/tool.h"
#include "util/mnt.h"

/*
 * A descriptor for the daemon, or -1 when it cannot be waited for. The number is of the daemon's own
 * pid namespace: in another one it may name nobody, or somebody else.
 */
static int open_daemon(uint64_t pid)
{
	char path[64], text[4096];
	ssize_t n;
	int pidfd, fd;

	if (pid == 0 || pid > INT_MAX)
		return -1;
	pidfd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
	if (pidfd < 0)
		return -1;
	snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text));
	if (fd >= 0)
		close(fd);
	if (n > 0 && memmem(text, (size_t)n, "spillfs", 7))
		return pidfd;
	close(pidfd);
	return -1;
}

static void wait_daemon(int pidfd)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	while (poll(&p, 1, -1) < 0 && errno == EINTR)
		;
}

/* A mount whose daemon is dead cannot be resolved: the path counts as it is written. */
static enum tool_exit umount_dead(const char *path)
{
	char said[256], absolute[PATH_MAX];
	size_t len = strlen(path);
	struct mnt m;

	while (len > 1 && path[len - 1] == '/')
		len--;
	if (path[0] == '/') {
		snprintf(absolute, sizeof(absolute), "%.*s", (int)len, path);
	} else {
		char *here = getcwd(NULL, 0);

		snprintf(absolute, sizeof(absolute), "%s/%.*s", here ? here : "", (int)len, path);
		free(here);
	}
	if (mnt_find(absolute, &m) < 0 || strcmp(m.type, MNT_TYPE))
		return tool_fail(TOOL_NOT_MOUNT, "%s is not in a mounted spillfs", path);
	if (mnt_unmount(absolute, true, said, sizeof(said)) < 0)
		return tool_fail(TOOL_FAILED, "%s: %s", path, said);
	fprintf(stderr, "spillctl: %s: detached the mount of a dead daemon\n", path);
	return TOOL_OK;
}

enum tool_exit cmd_umount(const struct tool_call *call)
{
	bool lazy = tool_flag(call, 'l');
	enum tool_exit code;
	struct tool_mount m;
	struct statfs fs;
	char said[256];
	int pidfd, err;

	if (statfs(call->args[0], &fs) < 0 && errno == ENOTCONN)
		return umount_dead(call->args[0]);
	code = tool_mount_open(call->args[0], false, &m);
	if (code != TOOL_OK)
		return code;
	if (fsync(m.fd) < 0)
		code = tool_fail(TOOL_FAILED, "%s: not everything could be made durable: %s", m.root,
				 strerror(errno));
	close(m.fd);
	m.fd = -1;
	pidfd = m.has_info ? open_daemon(m.info.pid) : -1;
	if (chdir("/") < 0)
		code = tool_fail(TOOL_FAILED, "/: %s", strerror(errno));
	err = mnt_unmount(m.root, lazy, said, sizeof(said));
	if (err == -EBUSY)
		code = tool_fail(TOOL_FAILED, "%s is in use: a file in it is open or a process works in it "
				 "(fuser -m %s lists them; --lazy detaches it all the same)", m.root, m.root);
	else if (err < 0)
		code = tool_fail(TOOL_FAILED, "cannot unmount %s: %s", m.root, said);
	else if (!lazy && pidfd >= 0)
		wait_daemon(pidfd);
	else if (!lazy)
		code = tool_fail(TOOL_FAILED, "%s is unmounted, but its daemon cannot be waited for from here",
				 m.root);
	if (pidfd >= 0)
		close(pidfd);
	tool_mount_close(&m);
	return code;
}

enum tool_exit cmd_sync(const struct tool_call *call)
{
	struct tool_mount m;
	enum tool_exit code = tool_mount_open(call->args[0], false, &m);

	if (code != TOOL_OK)
		return code;
	if (fsync(m.fd) < 0)
		code = tool_fail(TOOL_FAILED, "%s: cannot make everything durable: %s", m.root, strerror(errno));
	tool_mount_close(&m);
	return code;
}

enum tool_exit cmd_commit(const struct tool_call *call)
{
	struct spillfs_commit commit = { 0 };
	struct tool_mount m;
	enum tool_exit code = tool_mount_open(call->args[0], true, &m);

	if (code != TOOL_OK)
		return code;
	if (ioctl(m.fd, SPILLFS_IOC_COMMIT, &commit) < 0)
		code = tool_fail(TOOL_FAILED, "%s: cannot commit: %s", m.root, strerror(errno));
	else if (commit.sealed)
		printf("layer %llu sealed\n", (unsigned long long)commit.layer);
	else
		puts("nothing to commit");
	tool_mount_close(&m);
	return code;
}

enum tool_exit cmd_info(const struct tool_call *call)
{
	struct tool_mount m;
	enum tool_exit code = tool_mount_open(call->args[0], true, &m);

	if (code != TOOL_OK)
		return code;
	printf("mountpoint    %s\n", m.root);
	printf("daemon pid    %llu\n", (unsigned long long)m.info.pid);
	printf("store format  %llu\n", (unsigned long long)m.info.format);
	printf("last commit   %llu\n", (unsigned long long)m.info.commit);
	if (m.info.newest_layer)
		printf("newest layer  %llu\n", (unsigned long long)m.info.newest_layer);
	else
		puts("newest layer  none");
	tool_mount_close(&m);
	return code;
}
