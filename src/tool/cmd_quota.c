/*
 * quota: lists the quotas of a mount, and sets them.
 *
 * Invariant: no directory outside the mount gets an attribute.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "array/setting.h"
#include "tool/text.h"
#include "tool/tool.h"
#include "util/number.h"

/* A line of .spillfs/quotas. */
struct line {
	char *cell[4]; /* quota, used, logical quota, logical used */
	char *path;
};

static bool take_line(char **text, struct line *out)
{
	char *end = strchr(*text, '\n');

	if (!end)
		return false;
	*end = '\0';
	for (int k = 0; k < 4; k++) {
		out->cell[k] = strsep(text, "\t");
		if (!*text)
			return false;
	}
	out->path = *text;
	*text = end + 1;
	return true;
}

enum { COLUMNS = 7 };
static const char *const heads[COLUMNS] = { "quota", "used", "left", "logical quota", "used", "left", "directory" };

/* The cells of one bound: it, what is used, what is left. */
static void fill_bound(char *const pair[2], struct text_size *sizes, const char **cells)
{
	uint64_t limit, used;

	cells[0] = cells[1] = cells[2] = "";
	if (number_parse(pair[0], &limit) || number_parse(pair[1], &used))
		return;
	sizes[0] = text_size(limit);
	sizes[1] = text_size(used);
	sizes[2] = text_size(limit > used ? limit - used : 0);
	for (int k = 0; k < 3; k++)
		cells[k] = sizes[k].s;
}

static void fill_row(struct line *l, struct text_size sizes[6], const char *cells[COLUMNS])
{
	fill_bound(l->cell, sizes, cells);
	fill_bound(l->cell + 2, sizes + 3, cells + 3);
	cells[6] = l->path;
}

/* Two passes over the same text: the first fits the columns, the second prints. only: this path alone; NULL: all. Returns how many. */
static unsigned print(const char *text, const char *only, struct text_column columns[COLUMNS], bool fit)
{
	char *copy = strdup(text), *at = copy;
	unsigned n = 0;
	struct line l;

	while (copy && take_line(&at, &l)) {
		struct text_size sizes[6];
		const char *cells[COLUMNS];

		text_decode(l.path);
		if (only && strcmp(only, l.path))
			continue;
		if (!n++) {
			if (fit)
				text_fit(columns, COLUMNS, heads);
			else
				text_row(stdout, columns, COLUMNS, heads);
		}
		fill_row(&l, sizes, cells);
		if (fit)
			text_fit(columns, COLUMNS, cells);
		else
			text_row(stdout, columns, COLUMNS, cells);
	}
	free(copy);
	return n;
}

static enum tool_exit list(const struct tool_mount *m, const char *only, bool raw)
{
	struct text_column columns[COLUMNS] = {
		{ "", true, 0 }, { "  ", true, 0 }, { "  ", true, 0 }, { "  ", true, 0 }, { "  ", true, 0 }, { "  ", true, 0 }, { "  ", false, 0 },
	};
	char *text = NULL, *lines;
	enum tool_exit code = tool_mount_read(m, ".spillfs/quotas", &text);

	if (code)
		return code;
	lines = strchr(text, '\n');
	if (raw)
		fputs(text, stdout);
	else if (!lines || !print(lines + 1, only, columns, true))
		printf(only ? "%s has no quota of its own\n" : "no directory has a quota\n", only);
	else
		print(lines + 1, only, columns, false);
	free(text);
	return TOOL_OK;
}

/* The directory, opened, and its path below the root. dir is below the root, or absolute and in the mount. */
static enum tool_exit open_dir(const struct tool_mount *m, const char *dir, int *fd_out, char **path_out)
{
	size_t len = strlen(m->root);
	char *whole = NULL, *found;
	int fd;

	if (*dir == '/' ? !(whole = strdup(dir)) : asprintf(&whole, "%s/%s", m->root, dir) < 0)
		return tool_fail(TOOL_FAILED, "out of memory");
	found = realpath(whole, NULL);
	free(whole);
	if (!found)
		return tool_fail(TOOL_FAILED, "%s: %s: %s", m->root, dir, strerror(errno));
	if (strncmp(found, m->root, len) || (found[len] && found[len] != '/')) {
		free(found);
		return tool_fail(TOOL_USAGE, "%s is not in %s", dir, m->root);
	}
	fd = open(found, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0) {
		free(found);
		return tool_fail(TOOL_FAILED, "%s: %s: %s", m->root, dir, strerror(errno));
	}
	memmove(found, found[len] ? found + len + 1 : ".", strlen(found[len] ? found + len + 1 : ".") + 1);
	*fd_out = fd;
	*path_out = found;
	return TOOL_OK;
}

/* A bound may be less than what is used, but not without a word. */
static void warn_of(char *const pair[2], const char *path)
{
	uint64_t limit, used;

	if (number_parse(pair[0], &limit) || number_parse(pair[1], &used) || used <= limit)
		return;
	fprintf(stderr, "spillctl: %s: %s are in use, more than the bound of %s: nothing more can be written there until less is\n", path,
		text_size(used).s, text_size(limit).s);
}

static void compare(const struct tool_mount *m, const char *path)
{
	char *text = NULL, *at;
	struct line l;

	if (tool_mount_read(m, ".spillfs/quotas", &text))
		return;
	at = strchr(text, '\n');
	for (at = at ? at + 1 : text; take_line(&at, &l);) {
		text_decode(l.path);
		if (strcmp(l.path, path))
			continue;
		warn_of(l.cell, path);
		warn_of(l.cell + 2, path);
	}
	free(text);
}

static enum tool_exit set(const struct tool_mount *m, int fd, const char *dir, const char *name, const char *size)
{
	bool none = !strcmp(size, "none");

	if (!(none ? fremovexattr(fd, name) : fsetxattr(fd, name, size, strlen(size), 0)) || (none && errno == ENODATA))
		return TOOL_OK;
	/* The daemon has answered this user before. */
	if (errno == EPERM || errno == EOPNOTSUPP || errno == EROFS)
		return tool_fail(TOOL_FAILED, "%s: %s: only directories below buckets/, columns/, layers/ and scratch/ have quotas", m->root, dir);
	return tool_fail(TOOL_FAILED, "%s: %s: %s", m->root, dir, strerror(errno));
}

enum tool_exit cmd_quota(const struct tool_call *call)
{
	const char *name = tool_flag(call, 'l') ? SPILLFS_XATTR_QUOTA_LOGICAL : SPILLFS_XATTR_QUOTA;
	const char *dir = call->nargs > 1 ? call->args[1] : NULL, *size = call->nargs > 2 ? call->args[2] : NULL;
	struct tool_mount m;
	enum tool_exit code;
	char *path = NULL;
	int fd = -1;

	if (size && strcmp(size, "none") && setting_quota(name, size, NULL))
		return tool_fail(TOOL_USAGE, "quota: '%s' is no size: bytes, with K, M, G or T behind them, or none", size);
	code = tool_mount_open(call->args[0], true, &m);
	if (code)
		return code;
	if (dir)
		code = open_dir(&m, dir, &fd, &path);
	if (!code)
		code = size ? set(&m, fd, dir, name, size) : list(&m, path, tool_flag(call, 'r'));
	if (!code && size)
		compare(&m, path);
	if (fd >= 0)
		close(fd);
	free(path);
	tool_mount_close(&m);
	return code;
}
