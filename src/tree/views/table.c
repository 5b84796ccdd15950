/*
 * A directory as a table: its arrays are the columns. One look walks it once, and says what all of it needs: the version, the
 * attributes and the layout.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tree/dir.h"
#include "tree/views/inside.h"
#include "util/vec.h"

#define COLUMNS_MAX 4096u
#define BATCH 32u

void views_columns_fini(struct view_columns *c)
{
	for (size_t k = 0; k < c->n; k++) {
		inode_put(c->v[k].inode, 1);
		free(c->v[k].name);
	}
	free(c->v);
}

/* Takes the reference over. */
static int add_column(struct view_columns *c, struct inode *i, const char *name)
{
	char *copy = strdup(name);
	int err = copy ? 0 : -ENOMEM;

	if (!err && c->n == COLUMNS_MAX)
		err = -ENOENT;
	if (!err)
		err = VEC_RESERVE(c->v, c->cap, c->n + 1);
	if (err) {
		free(copy);
		inode_put(i, 1);
		return err;
	}
	c->v[c->n++] = (struct view_column){ .inode = i, .name = copy };
	return 0;
}

/* A name that a column could have: its array's, or that without the suffix of a type. */
struct candidate {
	const char *name;
	size_t len, column;
	bool is_short;
};

static int compare(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;
	int order = memcmp(x->name, y->name, x->len < y->len ? x->len : y->len);

	return order ? order : (x->len > y->len) - (x->len < y->len);
}

/* Columns lose the suffix of their type, unless another would have the same name then. */
static int shorten(struct view_columns *c)
{
	struct candidate *v = calloc(2 * c->n, sizeof(*v));
	size_t n = 0;

	if (!v)
		return -ENOMEM;
	for (size_t k = 0; k < c->n; k++) {
		const char *name = c->v[k].name, *type = dtype_of_name(name);
		size_t whole = strlen(name), len = type ? whole - strlen(type) - 1 : 0;

		c->v[k].name_len = whole;
		v[n++] = (struct candidate){ .name = name, .len = whole, .column = k };
		if (len)
			v[n++] = (struct candidate){ .name = name, .len = len, .column = k, .is_short = true };
	}
	qsort(v, n, sizeof(*v), compare);
	for (size_t i = 0; i < n; i++)
		if (v[i].is_short && (!i || compare(&v[i - 1], &v[i])) && (i + 1 == n || compare(&v[i], &v[i + 1])))
			c->v[v[i].column].name_len = v[i].len;
	for (size_t k = 0; k < c->n; k++)
		c->v[k].name[c->v[k].name_len] = '\0';
	free(v);
	return 0;
}

static int add_typed(struct tree *t, const struct tree_dirent *d, uint64_t *count, struct view_columns *c)
{
	struct view_facts facts;
	struct inode *i;
	bool fits;
	int err = inode_find(t, d->attr.st.st_ino, &i);

	if (!err)
		err = views_facts(i, &facts);
	if (err || !facts.dtype)
		return err;
	free(facts.dtype);
	fits = !c->n || facts.count == *count;
	*count = facts.count;
	if (!fits)
		return -ENOENT;
	inode_ref(i);
	return add_column(c, i, d->name);
}

int views_columns(struct tree *t, uint64_t dir, struct view_columns *out)
{
	struct tree_dirent *v = malloc(BATCH * sizeof(*v));
	struct view_columns c = { 0 };
	uint64_t cookie = 0, count = 0;
	struct inode *held = NULL;
	struct tree_dir *d = NULL;
	size_t n = 1;
	int err = v ? tree_dir_open(t, &d) : -ENOMEM;

	if (!err)
		err = views_hold_dir(t, dir, &held);

	while (!err && n) {
		struct tree_listing l = { .tree = t, .dir = d, .count = true, .v = v, .max = BATCH };

		err = realm_of(t, dir)->readdir(t, dir, cookie, &l);
		n = l.n;
		if (n)
			cookie = v[n - 1].cookie;
		for (size_t k = 0; k < n; k++) {
			if (!err && S_ISREG(v[k].attr.st.st_mode))
				err = add_typed(t, &v[k], &count, &c);
			if (v[k].counted)
				inode_forget(t, v[k].attr.st.st_ino, 1);
		}
	}
	free(v);
	if (d)
		tree_dir_release(t, d);
	views_let_go_dir(held);
	if (!err && !c.n)
		err = -ENOENT;
	if (!err)
		err = shorten(&c);
	if (err) {
		views_columns_fini(&c);
		return err;
	}
	*out = c;
	return 0;
}

static uint64_t version_of(const struct view_columns *c)
{
	uint64_t sum = 0;

	for (size_t k = 0; k < c->n; k++)
		sum = (sum ^ atomic_load(&c->v[k].inode->version)) * 0x9E3779B97F4A7C15ull + c->v[k].inode->facts.ino;
	return sum;
}

static int look_at_table(struct tree *t, uint64_t dir, struct view_look *out)
{
	int err = views_columns(t, dir, &out->columns);

	if (err)
		return err == -ENOENT ? -ESTALE : err;
	out->version = version_of(&out->columns);
	return 0;
}

int views_look(struct tree *t, const struct view_node *n, struct view_look *out)
{
	struct inode *i;
	int err;

	*out = (struct view_look){ .version = 1 };
	if (n->key.role == VIEW_TABLE)
		return look_at_table(t, n->key.source, out);
	/* A file without a source never changes, nor does what is past: the number is that of a version. */
	if (n->key.role == VIEW_GROUP || views_is_fixed(t, n->key.source))
		return 0;
	err = views_source(t, n, &i);
	if (err)
		return err;
	out->version = atomic_load(&i->version);
	inode_put(i, 1);
	return 0;
}

void views_look_end(struct view_look *l)
{
	views_columns_fini(&l->columns);
}
