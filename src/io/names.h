/*
 * The names of a directory in memory: full paths, of files and directories. Private to io/.
 *
 * Not thread-safe. A file belongs to who has added it: names hold its pointer only. What stands where a file or a directory should be and
 * is none is -EUCLEAN, and a report.
 */
#ifndef SPILLFS_IO_NAMES_H
#define SPILLFS_IO_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct name {
	struct name *next;
	void *file; /* NULL: a directory */
	char path[];
};

struct names {
	struct name **heads;
	size_t nheads, n;
};

void names_fini(struct names *s); /* there may be some */

struct name *names_find(const struct names *s, const char *path);
/* The one behind n, in no order, or the first; NULL: there is none. n may be removed then. */
struct name *names_next(const struct names *s, const struct name *n);
bool names_is_in(const struct name *n, const char *dir);
/* Can a name stand there? -ENOENT, -ENOTDIR: its directory is none. */
int names_check_parent(const struct names *s, const char *path);
/* The same of a directory itself. */
int names_check_dir(const struct names *s, const char *dir);
/* The file of that name: -ENOENT, -EUCLEAN. */
int names_file(const struct names *s, const char *path, void **out);
/* The name is not there yet; names_check_parent's errors, -ENOMEM. */
int names_add(struct names *s, const char *path, void *file);
/* The same, whatever its directory is; file NULL: a directory. */
int names_put(struct names *s, const char *path, void *file);
/* Takes it, whatever it is. */
void names_drop(struct names *s, struct name *n);
/* 0 if it is there. */
int names_mkdir(struct names *s, const char *path);
/* Takes the name of a file, which is *out. */
int names_remove(struct names *s, const char *path, void **out);
/* Takes names until it has a file's, which it returns; NULL: there are none left. */
void *names_take_any(struct names *s);
/* *replaced: the file that had the name `to`, or NULL. Directories are not renamed: -EOPNOTSUPP. */
int names_rename(struct names *s, const char *from, const char *to, void **replaced);
/* The names in a directory, without it, for names_tell. */
int names_list(const struct names *s, const char *dir, char ***out, size_t *n_out);
/* Calls each with them as long as it answers 0; then its answer. It may change the names. Frees the list. */
int names_tell(char **list, size_t n, int (*each)(void *ctx, const char *name), void *ctx);

#endif
