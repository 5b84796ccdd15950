/*
 * Listings of the store's directories; those of files whose names are numbers become temporary tables.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "tool/check/inside.h"
#include "util/number.h"

static int not_dots(const struct dirent *d)
{
	return strcmp(d->d_name, ".") && strcmp(d->d_name, "..");
}

int check_list(struct check *c, const char *dir, int (*each)(struct check *c, void *ctx, const char *name), void *ctx)
{
	struct dirent **v;
	int n = scandirat(c->dirfd, dir, &v, not_dots, alphasort), err = 0;

	if (n < 0)
		return -errno;
	for (int i = 0; i < n; i++) {
		if (!err)
			err = each(c, ctx, v[i]->d_name);
		free(v[i]);
	}
	free(v);
	return err;
}

static int add_numbered(struct check *c, void *ctx, const char *name)
{
	const struct check_numbered *of = ctx;
	char path[300], sql[64];
	uint64_t number;
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", of->dir, name);
	if (number_of_name(name, of->width, "", &number) || number < of->first || number > of->last) {
		check_note(c, "%s is not known here", check_quote(c, path, strlen(path)));
		return 0;
	}
	if (fstatat(c->dirfd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return check_fail(c, -errno, "%s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode)) {
		check_found(c, "%s is no regular file", path);
		return 0;
	}
	snprintf(sql, sizeof(sql), "INSERT INTO %s VALUES(?,?)", of->table);
	return check_keep(c, sql, "ii", (int64_t)number, (int64_t)st.st_size);
}

int check_list_numbered(struct check *c, const struct check_numbered *of)
{
	struct check_numbered copy = *of;
	char sql[128];
	int err;

	snprintf(sql, sizeof(sql), "DROP TABLE IF EXISTS %s", of->table);
	err = check_keep(c, sql, "");
	snprintf(sql, sizeof(sql), "CREATE TEMP TABLE %s(number INTEGER PRIMARY KEY, size INTEGER)", of->table);
	if (!err)
		err = check_keep(c, sql, "");
	if (!err)
		err = check_list(c, of->dir, add_numbered, &copy);
	return err == -ENOENT ? 0 : err;
}
