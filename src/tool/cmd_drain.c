/*
 * drain: empties one of the directories that a mounted store is spread over, file by file.
 *
 * Invariants:
 * 1. The daemon does it, and goes on when this program is killed. It remembers what it was asked for: after the next mount it goes on when it is
 *    asked again.
 * 2. "may be taken away" is said of a directory that is listed no more.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tool/disks.h"
#include "tool/text.h"
#include "tool/tool.h"
#include "util/clock.h"

#define POLL_NS 20000000

static int ask(int fd, struct spillfs_drain *d)
{
	return ioctl(fd, SPILLFS_IOC_DRAIN, d) < 0 ? -errno : 0;
}

static enum tool_exit fail(const struct tool_mount *m, const char *dir, int err, uint64_t moved)
{
	if (moved)
		fprintf(stderr, "spillctl: %s: %s were moved, and stay where they are\n", dir, text_size(moved).s);
	if (err == -ENOTTY)
		return tool_fail(TOOL_FAILED, "%s: the daemon of this mount is too old to be asked", m->root);
	if (err == -ENOSPC)
		return tool_fail(TOOL_FAILED, "%s: the other directories have no room for what is left in it; it takes no new data, and "
				 "is emptied further when this is asked again (to take new data again: mount with -o pool=%s)", dir, dir);
	if (err == -EBUSY)
		return tool_fail(TOOL_FAILED, "%s: files of it are written faster than they can be copied, or come there all the while; it takes no "
				 "new data, and is emptied further when this is asked again, with fewer writers", dir);
	if (err == -EEXIST)
		return tool_fail(TOOL_FAILED, "%s: a file of it is in another directory, too, and nothing tells which counts; the log names "
				 "both", dir);
	if (err == -ENOTEMPTY)
		return tool_fail(TOOL_FAILED, "%s: nothing of the store is left in it but layers that spillctl rebuild has saved, in lost+found; move them "
				 "away and ask again", dir);
	return tool_fail(TOOL_FAILED, "%s: cannot be emptied: %s; the log says of which file (it takes no new data; ask again to go on)", dir,
			 strerror(-err));
}

static enum tool_exit drain(const struct tool_mount *m, const char *dir, const struct tool_disk *disk)
{
	struct spillfs_drain d = { .directory = disk->number, .start = 1 };
	int err = ask(m->fd, &d);

	while (!err && d.running) {
		clock_sleep_ns(POLL_NS);
		d.start = 0;
		err = ask(m->fd, &d);
	}
	if (err || !d.done)
		return fail(m, dir, err ? err : d.error ? (int)d.error : -ECANCELED, d.moved_bytes);
	printf("%s: empty (%" PRIu64 " files, %s moved); it may be taken away\n", dir, d.files, text_size(d.moved_bytes).s);
	return TOOL_OK;
}

enum tool_exit cmd_drain(const struct tool_call *call)
{
	char absolute[PATH_MAX];
	const char *dir = realpath(call->args[1], absolute) ? absolute : call->args[1];
	struct tool_disks disks;
	const struct tool_disk *disk;
	struct tool_mount m;
	enum tool_exit code = tool_mount_open(call->args[0], true, &m);

	if (code != TOOL_OK)
		return code;
	code = tool_disks_read(&m, &disks);
	if (code == TOOL_OK) {
		disk = tool_disks_find(&disks, dir);
		if (!disk)
			code = tool_fail(TOOL_FAILED, "%s: not a directory of this store (spillctl info %s lists them)", dir, m.root);
		else if (!disk->number)
			code = tool_fail(TOOL_FAILED, "%s: the store's own directory, which has its meta.db and columns, cannot be emptied", dir);
		else
			code = drain(&m, dir, disk);
		tool_disks_free(&disks);
	}
	tool_mount_close(&m);
	return code;
}
