/*
 * Listings of the store's directories; those of files whose names are numbers become temporary tables.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/beneath.h"
#include "tool/check/inside.h"
#include "util/number.h"

static int not_dots(const struct dirent *d)
{
	return strcmp(d->d_name, ".") && strcmp(d->d_name, "..");
}

/* The names in one of the store's directories, which may lack a folder that others have. */
static int list_in(struct check *c, int dirfd, const char *dir, int (*each)(struct check *c, void *ctx, const char *name), void *ctx)
{
	struct dirent **v;
	int fd, n, err = beneath_open(dirfd, dir, O_RDONLY | O_DIRECTORY, &fd);

	if (err == -EUCLEAN)
		return check_fail_file(c, err, dir);
	if (err)
		return err;
	n = scandirat(fd, ".", &v, not_dots, alphasort);
	err = n < 0 ? -errno : 0;
	close(fd);
	if (err)
		return err;
	for (int i = 0; i < n; i++) {
		if (!err)
			err = each(c, ctx, v[i]->d_name);
		free(v[i]);
	}
	free(v);
	return err;
}

int check_list(struct check *c, const char *dir, int (*each)(struct check *c, void *ctx, const char *name), void *ctx)
{
	bool spread = !strcmp(dir, "pool") || !strcmp(dir, "layers"), any;
	int err = list_in(c, c->dirfd, dir, each, ctx);

	any = !err;
	for (size_t i = 0; spread && i < c->ndisks && (!err || err == -ENOENT); i++) {
		err = list_in(c, c->disks[i].fd, dir, each, ctx);
		any |= !err;
	}
	return err == -ENOENT && any ? 0 : err;
}

static int add_numbered(struct check *c, void *ctx, const char *name)
{
	const struct check_numbered *of = ctx;
	char path[300], sql[64];
	uint64_t number;
	struct stat st;
	int err;

	snprintf(path, sizeof(path), "%s/%s", of->dir, name);
	if (number_of_name(name, of->width, "", &number) || number < of->first || number > of->last) {
		check_note(c, "%s is not known here", check_quote(c, path, strlen(path)));
		return 0;
	}
	err = beneath_stat(check_home_of(c, path), path, &st);
	if (err)
		return check_fail_file(c, err, path);
	if (!S_ISREG(st.st_mode)) {
		if (!of->told)
			check_found(c, "%s is a %s, not a regular file", path, beneath_kind(st.st_mode));
		return 0;
	}
	snprintf(sql, sizeof(sql), "INSERT OR IGNORE INTO %s VALUES(?,?)", of->table);
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
