/*
 * compact: starts a compaction and waits for its end.
 *
 * Invariants:
 * 1. The compaction is the daemon's: it goes on when this program is killed.
 * 2. The compaction that is waited for began after it was asked for: one that ran already is waited for as well.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tool/progress.h"
#include "tool/text.h"
#include "tool/tool.h"
#include "util/clock.h"

#define POLL_NS 100000000

static int ask(int fd, bool start, struct spillfs_compact *out)
{
	struct spillfs_compact c = { .start = start };

	if (ioctl(fd, SPILLFS_IOC_COMPACT, &c) < 0)
		return -errno;
	*out = c;
	return 0;
}

static int start_and_wait(int fd, struct spillfs_compact *before, struct spillfs_compact *after)
{
	struct progress bar;
	int err = ask(fd, false, before);

	if (err < 0)
		return err;
	progress_begin(&bar, "compacting");
	err = ask(fd, true, after);
	while (err == 0 && (after->running || after->finished <= before->finished)) {
		progress_update(&bar, after->done_bytes, after->total_bytes);
		clock_sleep_ns(POLL_NS);
		err = ask(fd, false, after);
	}
	progress_end(&bar);
	return err;
}

/* A figure of .spillfs/stats; 0 where there is none. */
static uint64_t figure(const char *stats, const char *name)
{
	const char *at = stats;
	size_t len = strlen(name);

	while ((at = strstr(at, name)) && (at[len] != ' ' || (at > stats && at[-1] != '\n')))
		at += len;
	return at ? strtoull(at + len, NULL, 10) : 0;
}

/* Layers that a compaction replaces go when no state needs it any more: not yet, with -o keep or snapshots. */
static void warn_of_window(const struct tool_mount *m)
{
	uint64_t keep = 0;
	char *stats;

	if (tool_mount_read(m, ".spillfs/stats", &stats) == TOOL_OK) {
		keep = figure(stats, "spillfs_keep");
		free(stats);
	}
	if (keep > 1)
		fprintf(stderr, "spillctl: %s keeps its last %" PRIu64 " commits (-o keep): what is merged stays until as many more have"
			" sealed a layer, and the layers can take twice their space until then\n", m->root, keep);
}

static void print_held(const struct tool_mount *m)
{
	char *stats;
	uint64_t bytes;

	if (tool_mount_read(m, ".spillfs/stats", &stats) != TOOL_OK)
		return;
	bytes = figure(stats, "spillfs_layer_window_bytes");
	if (bytes)
		printf("%s of them only for the last %" PRIu64 " commits: given back as newer ones take their place\n",
		       text_size(bytes).s, figure(stats, "spillfs_keep"));
	bytes = figure(stats, "spillfs_layer_snapshot_bytes");
	if (bytes)
		printf("%s of them only for snapshots: given back when these are removed\n", text_size(bytes).s);
	free(stats);
}

static void print_layers(const struct spillfs_compact *c)
{
	printf("%" PRIu64 " layer%s, %s", c->layers, c->layers == 1 ? "" : "s", text_size(c->bytes).s);
}

enum tool_exit cmd_compact(const struct tool_call *call)
{
	struct spillfs_compact before, after;
	struct tool_mount m;
	enum tool_exit code = tool_mount_open(call->args[0], true, &m);
	int err;

	if (code != TOOL_OK)
		return code;
	warn_of_window(&m);
	err = start_and_wait(m.fd, &before, &after);
	if (err == 0 && after.error)
		err = (int)after.error;
	if (err == -ENOTTY) {
		code = tool_fail(TOOL_FAILED, "%s: the daemon of this mount is too old to be asked", m.root);
	} else if (err < 0) {
		code = tool_fail(TOOL_FAILED, "%s: cannot compact: %s", m.root, strerror(-err));
	} else {
		print_layers(&before);
		fputs(" -> ", stdout);
		print_layers(&after);
		putchar('\n');
		print_held(&m);
	}
	tool_mount_close(&m);
	return code;
}
