/*
 * umount, sync, commit, info.
 *
 * Invariants:
 * 1. umount holds the daemon's pidfd before it unmounts, so that it waits for that very process.
 * 2. Nothing of the mount is open here, and no working directory lies in it, when it is unmounted.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tool/disks.h"
#include "tool/holders.h"
#include "tool/text.h"
#include "tool/tool.h"
#include "util/mnt.h"
#include "util/number.h"

/* How long umount waits for the daemon, and before it says a word. */
#define TIMEOUT_SECONDS 60
#define TIMEOUT_SECONDS_MAX 1000000
#define QUIET_MS 1000

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

/* False: it goes on after so many milliseconds. */
static bool has_gone(int pidfd, int64_t ms)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };
	int n;

	while ((n = poll(&p, 1, ms < INT_MAX ? (int)ms : INT_MAX)) < 0 && errno == EINTR)
		;
	return n > 0;
}

/* The mount is gone from here. Others of the same file system, elsewhere, keep the daemon. */
static enum tool_exit wait_daemon(int pidfd, const struct tool_mount *m, dev_t dev, int watch, int64_t timeout_ms)
{
	int64_t first = timeout_ms < QUIET_MS ? timeout_ms : QUIET_MS;
	size_t n;

	if (has_gone(pidfd, first))
		return TOOL_OK;
	fprintf(stderr, "spillctl: %s is unmounted here; its daemon, process %" PRIu64 ", has not ended yet\n", m->root, m->info.pid);
	n = watch < 0 ? 0 : holders_print(stderr, "spillctl: still ", dev, watch);
	if (!n)
		fputs("spillctl: it finishes its writes, or somebody holds it who cannot be seen from here\n", stderr);
	if (timeout_ms > first && has_gone(pidfd, timeout_ms - first))
		return TOOL_OK;
	return tool_fail(TOOL_HELD, "%s: not waited for longer than %" PRId64 " s: the store stays in use until its daemon has ended",
			 m->root, timeout_ms / 1000);
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

/* The root is closed, so that it is not what keeps the mount in use. */
static enum tool_exit unmount(struct tool_mount *m, dev_t dev, int watch, bool lazy, int64_t timeout_ms)
{
	int pidfd = m->has_info ? open_daemon(m->info.pid) : -1, err;
	enum tool_exit code = TOOL_OK;
	char said[256];

	err = mnt_unmount(m->root, lazy, said, sizeof(said));
	if (err == -EBUSY) {
		code = tool_fail(TOOL_FAILED, "%s is in use, and stays mounted (--lazy detaches it all the same)", m->root);
		holders_print(stderr, "spillctl: ", dev, -1);
	} else if (err < 0) {
		code = tool_fail(TOOL_FAILED, "cannot unmount %s: %s", m->root, said);
	} else if (!lazy && pidfd >= 0) {
		code = wait_daemon(pidfd, m, dev, watch, timeout_ms);
	} else if (!lazy) {
		code = tool_fail(TOOL_FAILED, "%s is unmounted, but its daemon cannot be waited for from here", m->root);
	}
	if (pidfd >= 0)
		close(pidfd);
	return code;
}

enum tool_exit cmd_umount(const struct tool_call *call)
{
	const char *text = tool_value(call, 't');
	uint64_t timeout = TIMEOUT_SECONDS;
	enum tool_exit code, unsynced = TOOL_OK;
	struct tool_mount m;
	struct stat st = { 0 };
	int watch;

	if (text && (number_parse(text, &timeout) || timeout > TIMEOUT_SECONDS_MAX))
		return tool_fail(TOOL_USAGE, "umount: '%s' is not a number of seconds up to %d", text, TIMEOUT_SECONDS_MAX);
	if (mnt_ask(call->args[0]) == -ENOTCONN)
		return umount_dead(call->args[0]);
	code = tool_mount_open(call->args[0], false, &m);
	if (code != TOOL_OK)
		return code;
	if (fsync(m.fd) < 0)
		unsynced = tool_fail(TOOL_FAILED, "%s: not everything could be made durable: %s", m.root, strerror(errno));
	if (fstat(m.fd, &st) < 0 || chdir("/") < 0)
		unsynced = tool_fail(TOOL_FAILED, "%s: %s", m.root, strerror(errno));
	watch = holders_watch(m.fd);
	close(m.fd);
	m.fd = -1;
	code = unmount(&m, st.st_dev, watch, tool_flag(call, 'l'), (int64_t)timeout * 1000);
	if (watch >= 0)
		close(watch);
	tool_mount_close(&m);
	return unsynced == TOOL_OK ? code : unsynced;
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

/* The directories, if there are several: state, what is left of their file system, path. */
static enum tool_exit print_disks(const struct tool_mount *m)
{
	struct tool_disks d;
	enum tool_exit code;

	/* The daemon may be older, and know of none. */
	if (faccessat(m->fd, ".spillfs/disks", F_OK, 0) && errno == ENOENT)
		return TOOL_OK;
	code = tool_disks_read(m, &d);
	if (code != TOOL_OK)
		return code;
	for (size_t i = 0; i < d.n; i++)
		printf("directory %-3" PRIu64 " %s, %s of %s free: %s\n", d.v[i].number, d.v[i].state, text_size(d.v[i].avail_bytes).s,
		       text_size(d.v[i].total_bytes).s, d.v[i].path);
	tool_disks_free(&d);
	return TOOL_OK;
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
	code = print_disks(&m);
	tool_mount_close(&m);
	return code;
}
