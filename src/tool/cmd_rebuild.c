/*
 * rebuild: a new meta.db for a store that has lost its own.
 *
 * Invariant: everything that does not come back is named, on a line of its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/io.h"
#include "store/rebuild.h"
#include "tool/tool.h"
#include "util/log.h"

static void say(void *ctx, const char *line)
{
	(void)ctx;
	puts(line);
}

static void print_report(const char *store, const struct rebuild_report *r)
{
	if (r->newest)
		printf("%s: rebuilt from layer %" PRIu64, store, r->newest);
	else
		printf("%s: rebuilt without a sealed layer", store);
	if (r->open_layer)
		printf(" and what was committed to layer %" PRIu64 " behind it", r->open_layer);
	printf("\nlayers/: %" PRIu64 " files, %" PRIu64 " directories, %" PRIu64 " links and others; %" PRIu64 " snapshots\n",
	       r->files, r->directories, r->others, r->snapshots);
	printf("columns/: %" PRIu64 " files", r->columns);
	if (r->columns_found)
		printf(", and %" PRIu64 " without a name, now in columns/lost+found", r->columns_found);
	printf("\nbuckets/: empty, they are scratch\n");
	if (r->lost)
		printf("%" PRIu64 " things did not come back, see above\n", r->lost);
}

enum tool_exit cmd_rebuild(const struct tool_call *call)
{
	const char *store = call->args[0];
	struct rebuild_report report;
	struct store_refusal why = { "" };
	int fd = open(store, O_RDONLY | O_DIRECTORY | O_CLOEXEC), err;
	struct store_disk home;
	struct io_dir *dir;
	struct stat st;

	err = fd < 0 || fstat(fd, &st) < 0 ? -errno : 0;
	if (err && fd >= 0)
		close(fd);
	if (!err)
		home = (struct store_disk){ .device = st.st_dev, .inode = st.st_ino, .owner = st.st_uid };
	err = err ? err : store_directory(fd, &(struct store_config){ .backing = IO_BACKING_AUTO }, &dir);
	if (err)
		return tool_fail(TOOL_FAILED, "%s: %s", store, strerror(-err));
	log_init(LOG_TO_STDERR, LOG_LEVEL_WARN);
	err = store_rebuild(dir, &home, store, tool_flag(call, 'f'), say, NULL, &report, &why);
	if (err)
		return tool_fail(TOOL_FAILED, "%s", why.text);
	print_report(store, &report);
	return TOOL_OK;
}
