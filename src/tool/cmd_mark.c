/*
 * mark: ends the runs of buckets.
 *
 * Invariant: nothing that is not in a spillfs gets an attribute.
 */
#include <errno.h>
#include <string.h>
#include <sys/xattr.h>

#include "tool/tool.h"

static enum tool_exit mark(const char *path)
{
	struct tool_mount m;
	enum tool_exit code = tool_mount_open(path, false, &m);

	if (code)
		return code;
	tool_mount_close(&m);
	if (!setxattr(path, SPILLFS_XATTR_MARK, "1", 1, 0))
		return TOOL_OK;
	if (errno == EOPNOTSUPP)
		return tool_fail(TOOL_NOT_MOUNT, "%s is not a file below buckets/: nothing else has runs", path);
	return tool_fail(TOOL_FAILED, "%s: %s", path, strerror(errno));
}

enum tool_exit cmd_mark(const struct tool_call *call)
{
	enum tool_exit code = TOOL_OK;

	for (int i = 0; i < call->nargs; i++) {
		enum tool_exit one = mark(call->args[i]);

		if (code == TOOL_OK)
			code = one;
	}
	return code;
}
