/*
 * The directories that a mounted store is spread over.
 */
#include "tool/disks.h"

#include <stdlib.h>
#include <string.h>

#include "util/number.h"
#include "util/vec.h"

/* Cuts a line, which is changed; false: it is none. */
static bool parse_line(char *line, struct tool_disk *out)
{
	char *rest = line, *number = strsep(&rest, " "), *state = strsep(&rest, " "), *total = strsep(&rest, " "), *avail = strsep(&rest, " ");

	if (!rest || number_parse(number, &out->number) || number_parse(total, &out->total_bytes) || number_parse(avail, &out->avail_bytes))
		return false;
	out->state = state;
	out->path = rest;
	return true;
}

enum tool_exit tool_disks_read(const struct tool_mount *m, struct tool_disks *out)
{
	struct tool_disks d = { 0 };
	size_t cap = 0;
	enum tool_exit code = tool_mount_read(m, ".spillfs/disks", &d.text);
	char *rest = d.text;

	if (code != TOOL_OK)
		return code;
	for (char *line; (line = strsep(&rest, "\n"));) {
		if (VEC_RESERVE(d.v, cap, d.n + 1)) {
			tool_disks_free(&d);
			return tool_fail(TOOL_FAILED, "out of memory");
		}
		d.n += parse_line(line, &d.v[d.n]);
	}
	*out = d;
	return TOOL_OK;
}

void tool_disks_free(struct tool_disks *d)
{
	free(d->v);
	free(d->text);
}

const struct tool_disk *tool_disks_find(const struct tool_disks *d, const char *path)
{
	for (size_t i = 0; i < d->n; i++)
		if (!strcmp(d->v[i].path, path))
			return &d->v[i];
	return NULL;
}
