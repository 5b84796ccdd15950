/*
 * A hash table of full paths. A directory is listed by looking at all of them, which happens when a store is opened.
 */
#include "io/names.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/err.h"

#define HEADS_MIN 64

static bool is_root(const char *path)
{
	return !*path || strcmp(path, ".") == 0;
}

static size_t hash(const char *path, size_t len)
{
	uint64_t h = 14695981039346656037u;

	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char)path[i]) * 1099511628211u;
	return (size_t)(h ^ h >> 32);
}

/* Where the name stands, or would; the table has heads. */
static struct name **slot_of(const struct names *s, const char *path, size_t len)
{
	struct name **p = &s->heads[hash(path, len) & (s->nheads - 1)];

	while (*p && (strncmp((*p)->path, path, len) || (*p)->path[len]))
		p = &(*p)->next;
	return p;
}

void names_fini(struct names *s)
{
	while (names_take_any(s))
		;
	free(s->heads);
}

struct name *names_find(const struct names *s, const char *path)
{
	return s->nheads ? *slot_of(s, path, strlen(path)) : NULL;
}

struct name *names_next(const struct names *s, const struct name *n)
{
	size_t i = n ? (hash(n->path, strlen(n->path)) & (s->nheads - 1)) + 1 : 0;

	if (n && n->next)
		return n->next;
	while (i < s->nheads && !s->heads[i])
		i++;
	return i < s->nheads ? s->heads[i] : NULL;
}

static int no_file(const char *path)
{
	return err_corrupt(path, 0, "it is a directory, not a regular file");
}

int names_file(const struct names *s, const char *path, void **out)
{
	struct name *n = names_find(s, path);

	if (!n)
		return is_root(path) ? no_file(path) : -ENOENT;
	if (!n->file)
		return no_file(path);
	*out = n->file;
	return 0;
}

/* The length of the directory part; 0 in the root. */
static size_t parent_len(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? (size_t)(slash - path) : 0;
}

int names_check_parent(const struct names *s, const char *path)
{
	size_t len = parent_len(path);
	struct name *n = len && s->nheads ? *slot_of(s, path, len) : NULL;

	if (!len)
		return 0;
	return !n ? -ENOENT : n->file ? -ENOTDIR : 0;
}

static int grow(struct names *s)
{
	size_t nheads = s->nheads ? s->nheads * 2 : HEADS_MIN;
	struct names grown = { .heads = calloc(nheads, sizeof(*grown.heads)), .nheads = nheads, .n = s->n };

	if (!grown.heads)
		return -ENOMEM;
	for (size_t i = 0; i < s->nheads; i++) {
		while (s->heads[i]) {
			struct name *n = s->heads[i], **slot = slot_of(&grown, n->path, strlen(n->path));

			s->heads[i] = n->next;
			n->next = NULL;
			*slot = n;
		}
	}
	free(s->heads);
	*s = grown;
	return 0;
}

int names_put(struct names *s, const char *path, void *file)
{
	int err = s->n >= s->nheads ? grow(s) : 0;
	size_t len = strlen(path);
	struct name *n = err ? NULL : malloc(sizeof(*n) + len + 1);

	if (!n)
		return -ENOMEM;
	*n = (struct name){ .file = file };
	memcpy(n->path, path, len + 1);
	*slot_of(s, path, len) = n;
	s->n++;
	return 0;
}

int names_add(struct names *s, const char *path, void *file)
{
	int err = names_check_parent(s, path);

	return err ? err : names_put(s, path, file);
}

void names_drop(struct names *s, struct name *n)
{
	*slot_of(s, n->path, strlen(n->path)) = n->next;
	s->n--;
	free(n);
}

int names_mkdir(struct names *s, const char *path)
{
	struct name *n = names_find(s, path);

	if (is_root(path))
		return 0;
	if (!n)
		return names_add(s, path, NULL);
	return n->file ? err_corrupt(path, 0, "it is a regular file, not a directory") : 0;
}

int names_remove(struct names *s, const char *path, void **out)
{
	struct name *n = names_find(s, path);
	int err = n && n->file ? 0 : n || is_root(path) ? no_file(path) : -ENOENT;

	if (err)
		return err;
	*out = n->file;
	names_drop(s, n);
	return 0;
}

void *names_take_any(struct names *s)
{
	for (size_t i = 0; i < s->nheads; i++) {
		while (s->heads[i]) {
			struct name *n = s->heads[i];
			void *file = n->file;

			s->heads[i] = n->next;
			free(n);
			s->n--;
			if (file)
				return file;
		}
	}
	return NULL;
}

int names_rename(struct names *s, const char *from, const char *to, void **replaced)
{
	struct name *n = names_find(s, from), *over = names_find(s, to);
	void *file;
	int err = n ? names_check_parent(s, to) : -ENOENT;

	if (!err && !n->file)
		err = -EOPNOTSUPP;
	if (!err && over && !over->file)
		err = no_file(to);
	if (err)
		return err;
	*replaced = NULL;
	if (n == over)
		return 0;
	file = n->file;
	if (over) {
		*replaced = over->file;
		over->file = file;
	} else {
		err = names_add(s, to, file);
	}
	return err ? err : names_remove(s, from, &file);
}

/* ---- listing ---- */

static int list_add(char ***list, size_t *n, const char *name)
{
	char **grown = reallocarray(*list, *n + 1, sizeof(**list));

	if (!grown)
		return -ENOMEM;
	*list = grown;
	grown[*n] = strdup(name);
	if (!grown[*n])
		return -ENOMEM;
	++*n;
	return 0;
}

static void free_list(char **list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(list[i]);
	free(list);
}

bool names_is_in(const struct name *n, const char *dir)
{
	size_t len = is_root(dir) ? 0 : strlen(dir);

	return parent_len(n->path) == len && strncmp(n->path, dir, len) == 0;
}

int names_check_dir(const struct names *s, const char *dir)
{
	struct name *n = names_find(s, dir);

	if (is_root(dir))
		return 0;
	return !n ? -ENOENT : n->file ? -ENOTDIR : 0;
}

int names_list(const struct names *s, const char *dir, char ***out, size_t *n_out)
{
	size_t skip = is_root(dir) ? 0 : strlen(dir) + 1, n = 0;
	char **list = NULL;
	int err = names_check_dir(s, dir);

	for (struct name *e = names_next(s, NULL); e && !err; e = names_next(s, e))
		err = names_is_in(e, dir) ? list_add(&list, &n, e->path + skip) : 0;
	if (err) {
		free_list(list, n);
		return err;
	}
	*out = list;
	*n_out = n;
	return 0;
}

int names_tell(char **list, size_t n, int (*each)(void *ctx, const char *name), void *ctx)
{
	int err = 0;

	for (size_t i = 0; i < n && !err; i++)
		err = each(ctx, list[i]);
	free_list(list, n);
	return err;
}
