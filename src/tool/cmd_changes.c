/*
 * log, diff: the past as the layers have it.
 *
 * Invariants:
 * 1. A difference is no failure: diff ends with TOOL_OK whether there is one or not.
 * 2. An unknown snapshot or layer is named, the first of the two that is.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tool/changes.h"
#include "tool/text.h"
#include "tool/tool.h"
#include "util/number.h"

static enum tool_exit bad_text(const struct tool_mount *m, const char *what, unsigned line, int err)
{
	if (err == -ENOMEM)
		return tool_fail(TOOL_FAILED, "out of memory");
	return tool_fail(TOOL_FAILED, "%s: the daemon's %s is not understood from line %u on", m->root, what, line);
}

enum tool_exit cmd_log(const struct tool_call *call)
{
	const char *number = tool_value(call, 'n');
	uint64_t max = UINT64_MAX;
	enum tool_exit code;
	struct tool_mount m;
	unsigned line = 0;
	char *text = NULL;
	int err;

	if (number && number_parse(number, &max))
		return tool_fail(TOOL_USAGE, "log: '%s' is not a number of layers", number);
	code = tool_mount_open(call->args[0], false, &m);
	if (code != TOOL_OK)
		return code;
	code = tool_mount_read(&m, ".spillfs/log", &text);
	if (code == TOOL_OK && tool_flag(call, 'r')) {
		changes_print_raw(stdout, text, max);
	} else if (code == TOOL_OK) {
		err = changes_print_log(stdout, text, max, &line);
		if (err < 0)
			code = bad_text(&m, "log", line, err);
	}
	free(text);
	tool_mount_close(&m);
	return code;
}

/* "@42" is a layer, anything else a snapshot's name. */
static bool is_layer(const char *state, uint64_t *out)
{
	return state[0] == '@' && number_parse(state + 1, out) == 0;
}

static bool is_unknown(const struct tool_mount *m, const char *state)
{
	bool unknown = false;
	char *text, *path;
	uint64_t layer;
	struct stat st;

	if (is_layer(state, &layer)) {
		if (text_read_at(m->fd, ".spillfs/log", &text) == 0) {
			unknown = !changes_has_layer(text, layer);
			free(text);
		}
	} else if (asprintf(&path, "snapshots/%s", state) >= 0) {
		unknown = fstatat(m->fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT;
		free(path);
	}
	return unknown;
}

static enum tool_exit no_diff(const struct tool_mount *m, char *const states[2], int err)
{
	for (int i = 0; err == -ENOENT && i < 2; i++) {
		uint64_t n;

		if (!is_unknown(m, states[i]))
			continue;
		if (is_layer(states[i], &n))
			return tool_fail(TOOL_FAILED, "%s: no layer %s (spillctl log lists them)", m->root, states[i]);
		if (number_parse(states[i], &n) == 0)
			return tool_fail(TOOL_FAILED, "%s: no snapshot '%s' (a layer is written @%s)", m->root,
					 states[i], states[i]);
		return tool_fail(TOOL_FAILED, "%s: no snapshot '%s'", m->root, states[i]);
	}
	return tool_fail(TOOL_FAILED, "%s: cannot compare %s with %s: %s", m->root, states[0], states[1],
			 strerror(-err));
}

static int read_diff(const struct tool_mount *m, char *const states[2], char **out)
{
	char *a = text_encode(states[0]), *b = text_encode(states[1]), *path = NULL;
	int err = -ENOMEM;

	if (a && b && asprintf(&path, ".spillfs/diff/%s..%s", a, b) >= 0) {
		err = text_read_at(m->fd, path, out);
		free(path);
	}
	free(a);
	free(b);
	return err;
}

enum tool_exit cmd_diff(const struct tool_call *call)
{
	char *const *states = call->args + 1;
	enum tool_exit code;
	struct tool_mount m;
	unsigned line = 0;
	char *text = NULL;
	int err;

	for (int i = 0; i < 2; i++)
		if (!*states[i] || strchr(states[i], '/'))
			return tool_fail(TOOL_USAGE, "diff: '%s' is neither a snapshot's name nor @LAYER", states[i]);
	code = tool_mount_open(call->args[0], false, &m);
	if (code != TOOL_OK)
		return code;
	err = read_diff(&m, states, &text);
	if (err < 0) {
		code = no_diff(&m, states, err);
	} else if (tool_flag(call, 'r')) {
		fputs(text, stdout);
	} else {
		err = changes_print_diff(stdout, text, &line);
		if (err < 0)
			code = bad_text(&m, "diff", line, err);
	}
	free(text);
	tool_mount_close(&m);
	return code;
}
