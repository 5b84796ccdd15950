/*
 * See client.h.
 */
#include "client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "spillfs.h"
#include "store/meta.h"
#include "tree/live/quota.h"

#define DEPTH_MAX 8
#define NOTE "user.note"

static const struct tree_caller me;

/* The inodes of a path; each has a lookup. */
struct walk {
	uint64_t ino[DEPTH_MAX];
	unsigned n;
	struct tree_attr attr;
	char last[256]; /* with parent: the name behind the last slash */
};

static void walk_end(struct tree *t, struct walk *w)
{
	while (w->n)
		tree_forget(t, w->ino[--w->n], 1);
}

static uint64_t walk_ino(const struct walk *w)
{
	return w->n ? w->ino[w->n - 1] : META_INO_ROOT;
}

/* parent: all but the last name. */
static int walk_begin(struct tree *t, const char *path, bool parent, struct walk *w)
{
	int err = 0;

	memset(w, 0, sizeof(*w));
	while (*path && !err) {
		size_t n = strcspn(path, "/");

		memcpy(w->last, path, n);
		w->last[n] = '\0';
		path += n + (path[n] == '/');
		if (parent && !*path)
			return 0;
		err = tree_lookup(t, walk_ino(w), w->last, NULL, &w->attr);
		if (!err)
			w->ino[w->n++] = w->attr.st.st_ino;
	}
	if (err)
		walk_end(t, w);
	return err;
}

int client_stat(struct tree *t, const char *path, struct stat *out)
{
	struct tree_attr a;
	struct walk w;
	int err = walk_begin(t, path, false, &w);

	if (err)
		return err;
	err = tree_getattr(t, walk_ino(&w), &a);
	if (!err)
		*out = a.st;
	walk_end(t, &w);
	return err;
}

int client_make(struct tree *t, const char *path, mode_t mode)
{
	struct tree_attr a;
	struct walk w;
	int err = walk_begin(t, path, true, &w);

	if (err)
		return err;
	err = tree_make(t, walk_ino(&w), w.last, mode, 0, NULL, &me, &a);
	if (!err)
		tree_forget(t, a.st.st_ino, 1);
	walk_end(t, &w);
	return err;
}

int client_unlink(struct tree *t, const char *path)
{
	struct walk w;
	int err = walk_begin(t, path, true, &w);

	if (err)
		return err;
	err = tree_unlink(t, walk_ino(&w), w.last, NULL);
	walk_end(t, &w);
	return err;
}

int client_rmdir(struct tree *t, const char *path)
{
	struct walk w;
	int err = walk_begin(t, path, true, &w);

	if (err)
		return err;
	err = tree_rmdir(t, walk_ino(&w), w.last);
	walk_end(t, &w);
	return err;
}

int client_rename(struct tree *t, const char *from, const char *to)
{
	struct walk w, v;
	int err = walk_begin(t, from, true, &w);

	if (err)
		return err;
	err = walk_begin(t, to, true, &v);
	if (!err) {
		err = tree_rename(t, walk_ino(&w), w.last, walk_ino(&v), v.last, 0, NULL);
		walk_end(t, &v);
	}
	walk_end(t, &w);
	return err;
}

int client_link(struct tree *t, const char *from, const char *to)
{
	struct tree_attr a;
	struct walk w, v;
	int err = walk_begin(t, from, false, &w);

	if (err)
		return err;
	err = walk_begin(t, to, true, &v);
	if (!err) {
		err = tree_link(t, walk_ino(&w), walk_ino(&v), v.last, &a);
		if (!err)
			tree_forget(t, a.st.st_ino, 1);
		walk_end(t, &v);
	}
	walk_end(t, &w);
	return err;
}

/* ---- open files ---- */

static int with_file(struct tree *t, const char *path, int flags, int (*use)(struct tree_file *f, void *ctx), void *ctx)
{
	struct tree_file_info info = { .direct = true };
	struct tree_file *f;
	struct walk w;
	int err = walk_begin(t, path, false, &w), closed;

	if (err)
		return err;
	err = tree_file_open(t, walk_ino(&w), flags, &me, &f, &info);
	if (!err) {
		err = use(f, ctx);
		closed = tree_flush(f, true);
		tree_file_release(f);
		err = err ? err : closed;
	}
	walk_end(t, &w);
	return err;
}

struct client_held {
	struct tree *tree;
	struct walk walk;
	struct tree_file *file;
};

int client_hold(struct tree *t, const char *path, struct client_held **out)
{
	struct tree_file_info info = { 0 };
	struct client_held *h = calloc(1, sizeof(*h));
	int err = walk_begin(t, path, false, &h->walk);

	h->tree = t;
	if (!err) {
		err = tree_file_open(t, walk_ino(&h->walk), O_RDONLY, &me, &h->file, &info);
		if (err)
			walk_end(t, &h->walk);
	}
	if (err)
		free(h);
	else
		*out = h;
	return err;
}

void client_let_go(struct client_held *h)
{
	if (!h)
		return;
	tree_file_release(h->file);
	walk_end(h->tree, &h->walk);
	free(h);
}

struct bytes {
	unsigned char *p;
	size_t n, cap;
	uint64_t off;
};

static int write_all(struct tree_file *f, void *ctx)
{
	const struct bytes *b = ctx;
	size_t in = 0;
	int err = 0;

	for (size_t done = 0; done < b->n && !err; done += in)
		err = tree_write(f, b->p + done, b->n - done < CLIENT_STEP_BYTES ? b->n - done : CLIENT_STEP_BYTES, b->off + done,
				 &(struct tree_write_how){ .direct = true, .who = &me }, &in);
	return err;
}

int client_write(struct tree *t, const char *path, const void *p, size_t n, uint64_t off)
{
	return with_file(t, path, O_WRONLY, write_all, &(struct bytes){ .p = (unsigned char *)p, .n = n, .off = off });
}

int client_upload(struct tree *t, const char *path, const void *p, size_t n)
{
	struct tree_file_info info = { .direct = true };
	struct bytes b = { .p = (unsigned char *)p, .n = n };
	struct tree_file *f;
	struct tree_attr a;
	struct walk w;
	int err = walk_begin(t, path, true, &w), closed;

	if (err)
		return err;
	err = tree_create(t, walk_ino(&w), w.last, 0644, &me, &a);
	if (!err) {
		err = tree_file_open(t, a.st.st_ino, O_WRONLY, &me, &f, &info);
		if (!err) {
			err = write_all(f, &b);
			closed = tree_flush(f, true);
			tree_file_release(f);
			err = err ? err : closed;
		}
		tree_forget(t, a.st.st_ino, 1);
	}
	walk_end(t, &w);
	return err;
}

static int read_some(struct tree_file *f, struct bytes *b)
{
	struct tree_read r;
	int err = tree_read_begin(f, b->n, CLIENT_STEP_BYTES, 0, &r);
	size_t n = 0;

	if (err)
		return err;
	for (unsigned i = 0; i < r.n; i++)
		n += r.part[i].len_bytes;
	if (b->n + n > b->cap) {
		b->cap = 2 * (b->n + n);
		b->p = realloc(b->p, b->cap);
	}
	for (unsigned i = 0; i < r.n && !err; i++) {
		err = lease_copy(&r.part[i], r.how, b->p + b->n);
		b->n += r.part[i].len_bytes;
	}
	tree_read_end(&r);
	return err ? err : n ? 1 : 0;
}

static int read_all(struct tree_file *f, void *ctx)
{
	int more;

	while ((more = read_some(f, ctx)) > 0)
		;
	return more;
}

int client_read(struct tree *t, const char *path, unsigned char **out, size_t *n_out)
{
	struct bytes b = { .p = malloc(1), .cap = 1 };
	int err = with_file(t, path, O_RDONLY, read_all, &b);

	if (err) {
		free(b.p);
		return err;
	}
	*out = b.p;
	*n_out = b.n;
	return 0;
}

struct range {
	int mode;
	uint64_t off, len;
};

static int allocate(struct tree_file *f, void *ctx)
{
	const struct range *r = ctx;

	return tree_fallocate(f, r->mode, r->off, r->len, &me);
}

int client_fallocate(struct tree *t, const char *path, int mode, uint64_t off, uint64_t len)
{
	return with_file(t, path, O_WRONLY, allocate, &(struct range){ mode, off, len });
}

/* ---- attributes ---- */

static int set_attr(struct tree *t, const char *path, unsigned set, const struct stat *st)
{
	struct tree_attr a;
	struct walk w;
	int err = walk_begin(t, path, false, &w);

	if (err)
		return err;
	err = tree_setattr(t, walk_ino(&w), set, st, &me, NULL, &a);
	walk_end(t, &w);
	return err;
}

int client_truncate(struct tree *t, const char *path, uint64_t size)
{
	return set_attr(t, path, TREE_SET_SIZE, &(struct stat){ .st_size = (off_t)size });
}

int client_chmod(struct tree *t, const char *path, mode_t mode)
{
	return set_attr(t, path, TREE_SET_MODE, &(struct stat){ .st_mode = mode });
}

int client_set_note(struct tree *t, const char *path, uint32_t note)
{
	struct walk w;
	int err = walk_begin(t, path, false, &w);

	if (err)
		return err;
	err = tree_setxattr(t, walk_ino(&w), NOTE, &note, sizeof(note), 0, NULL);
	walk_end(t, &w);
	return err;
}

/* The value of an attribute, which the caller frees; NULL without one. */
static int get_attribute(struct tree *t, const char *path, const char *name, void **value, size_t *n)
{
	struct walk w;
	int err = walk_begin(t, path, false, &w);

	if (err)
		return err;
	*value = NULL;
	err = tree_getxattr(t, walk_ino(&w), name, value, n);
	walk_end(t, &w);
	if (err)
		*value = NULL;
	return err == -ENODATA ? 0 : err;
}

int client_get_note(struct tree *t, const char *path, uint32_t *out)
{
	void *value;
	size_t n;
	int err = get_attribute(t, path, NOTE, &value, &n);

	if (err)
		return err;
	*out = 0;
	if (value)
		memcpy(out, value, n < sizeof(*out) ? n : sizeof(*out));
	free(value);
	return 0;
}

int client_set_quota(struct tree *t, const char *path, const char *name, uint32_t bytes)
{
	char text[16];
	struct walk w;
	int err = walk_begin(t, path, false, &w), n = snprintf(text, sizeof(text), "%u", bytes);

	if (err)
		return err;
	if (bytes)
		err = tree_setxattr(t, walk_ino(&w), name, text, (size_t)n, 0, &me);
	else
		err = tree_removexattr(t, walk_ino(&w), name, &me);
	walk_end(t, &w);
	return err == -ENODATA ? 0 : err;
}

int client_set_text(struct tree *t, const char *path, const char *name, const char *value)
{
	struct walk w;
	int err = walk_begin(t, path, false, &w);

	if (err)
		return err;
	err = tree_setxattr(t, walk_ino(&w), name, value, strlen(value), 0, &me);
	walk_end(t, &w);
	return err;
}

int client_get_text(struct tree *t, const char *path, const char *name, char **out)
{
	void *value;
	size_t n;
	int err = get_attribute(t, path, name, &value, &n);

	if (err)
		return err;
	*out = value ? strndup(value, n) : NULL;
	free(value);
	return 0;
}

int client_get_shelved(struct tree *t, const char *path, bool *out)
{
	char *value;
	int err = client_get_text(t, path, SPILLFS_XATTR_DURABLE, &value);

	if (err)
		return err;
	*out = value && !strcmp(value, "no");
	free(value);
	return 0;
}

int client_get_quota(struct tree *t, const char *path, const char *name, uint32_t *out)
{
	char *value;
	int err = client_get_text(t, path, name, &value);

	if (err)
		return err;
	*out = value ? (uint32_t)strtoul(value, NULL, 10) : 0;
	free(value);
	return 0;
}

struct counted {
	uint64_t dir;
	struct quota_amount used;
	bool found;
};

static int see_quota(void *ctx, uint64_t dir, const struct quota_amount *limit, const struct quota_amount *used)
{
	struct counted *c = ctx;

	(void)limit;
	if (dir == c->dir)
		*c = (struct counted){ dir, *used, true };
	return 0;
}

int client_quota_used(struct tree *t, const char *path, uint64_t *size_out, uint64_t *held_out)
{
	struct counted c = { 0 };
	struct walk w;
	int err = walk_begin(t, path, false, &w);

	if (err)
		return err;
	c.dir = walk_ino(&w);
	err = quota_walk(t, see_quota, &c);
	walk_end(t, &w);
	if (err || !c.found)
		return err ? err : -ENODATA;
	*size_out = c.used.size_bytes;
	*held_out = c.used.held_bytes;
	return 0;
}

int client_held(struct tree *t, uint64_t *out)
{
	struct counted c = { 0 };
	int err = quota_walk(t, see_quota, &c);

	if (err || !c.found)
		return err ? err : -ENODATA;
	*out = c.used.held_bytes;
	return 0;
}

int client_list(struct tree *t, const char *path, void (*each)(void *ctx, const char *name), void *ctx)
{
	struct tree_dirent v[8];
	struct tree_dir *d;
	uint64_t cookie = 0;
	size_t n = 1;
	struct walk w;
	int err = walk_begin(t, path, false, &w);

	if (err)
		return err;
	err = tree_dir_open(t, &d);
	while (!err && n) {
		err = tree_dir_read(t, d, walk_ino(&w), cookie, false, v, 8, &n);
		for (size_t i = 0; i < n && !err; i++) {
			cookie = v[i].cookie;
			if (strcmp(v[i].name, ".") && strcmp(v[i].name, ".."))
				each(ctx, v[i].name);
		}
	}
	tree_dir_release(t, d);
	walk_end(t, &w);
	return err;
}
