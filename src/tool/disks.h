/*
 * The directories that a mounted store is spread over, as .spillfs/disks lists them: one line each, "NUMBER STATE TOTAL AVAILABLE PATH".
 */
#ifndef SPILLFS_TOOL_DISKS_H
#define SPILLFS_TOOL_DISKS_H

#include <stddef.h>
#include <stdint.h>

#include "tool/tool.h"

struct tool_disk {
	uint64_t number; /* 0: the store's own */
	const char *state, *path;
	uint64_t total_bytes, avail_bytes;
};

/* n is 0 where there is one directory alone, or the daemon knows no others. */
struct tool_disks {
	char *text; /* the strings are in it */
	struct tool_disk *v;
	size_t n;
};

/* Failure is said on stderr. */
enum tool_exit tool_disks_read(const struct tool_mount *m, struct tool_disks *out);
void tool_disks_free(struct tool_disks *d);
const struct tool_disk *tool_disks_find(const struct tool_disks *d, const char *path);

#endif
