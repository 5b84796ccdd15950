/*
 * The array that a view's name stands for.
 *
 * Invariant: among arrays, one whose own name it is comes before one whose name is shortened.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "array/dtype.h"
#include "tree/views/inside.h"
#include "util/clock.h"

/* So long after a lookup of an array an open may get the array that has replaced it. */
#define REPLACED_NS 1000000000

int views_source_child(struct tree *t, uint64_t dir, const char *name, struct tree_attr *attr, struct inode **file_out)
{
	int err = realm_of(t, dir)->lookup(t, dir, name, NULL, attr);

	*file_out = NULL;
	if (err)
		return err;
	if (S_ISREG(attr->st.st_mode))
		return inode_find(t, attr->st.st_ino, file_out);
	inode_forget(t, attr->st.st_ino, 1);
	return 0;
}

static bool source_is_dir(struct tree *t, uint64_t dir, const char *name)
{
	struct tree_attr attr;
	struct inode *i;

	if (views_source_child(t, dir, name, &attr, &i))
		return false;
	if (i)
		inode_put(i, 1);
	return S_ISDIR(attr.st.st_mode);
}

/*
 * Names that want the same view. An array STEM.f64 is shown as STEM.npy, unless one of its rivals is in the way: an array STEM,
 * or with another type behind it; a directory STEM, of formats that show it as a table; a directory STEM.npy.
 */
#define RIVALS_MAX (DTYPE_NSCALARS + 2)
struct rivals {
	enum view_format format;
	const char *stem;
	const struct rival *(*pick)(const struct rivals *r);
	const struct rival *picked;
	size_t n;
	struct rival {
		uint64_t ino;
		bool is_dir, shown; /* shown: an array that the format has a view of */
		char name[META_NAME_MAX + 1];
	} v[RIVALS_MAX];
};

/* STEM.f64? */
static bool is_typed(const char *stem, const char *name)
{
	size_t len = strlen(stem);

	return !strncmp(name, stem, len) && name[len] == '.' && !strchr(name + len + 1, '.') && dtype_of_name(name + len);
}

static bool has_suffix(const char *stem, const char *suffix, const char *name)
{
	size_t len = strlen(stem);

	return *suffix && !strncmp(name, stem, len) && !strcmp(name + len, suffix);
}

static int add_rival(void *ctx, const struct realm_entry *e)
{
	struct rivals *r = ctx;
	struct rival *to = &r->v[r->n];

	if (r->n == RIVALS_MAX || (strcmp(e->name, r->stem) && !has_suffix(r->stem, view_formats[r->format].suffix, e->name) &&
				   !is_typed(r->stem, e->name)))
		return 0;
	to->ino = e->ino;
	to->is_dir = S_ISDIR(e->mode);
	to->shown = views_shows_entry(r->format, e);
	strcpy(to->name, e->name);
	r->n++;
	return 0;
}

static uint64_t pick_rival(void *ctx)
{
	struct rivals *r = ctx;

	r->picked = r->pick(r);
	return r->picked ? r->picked->ino : 0;
}

/* The endings that can stand behind a stem. */
struct endings {
	char text[DTYPE_NSCALARS][16];
	const char *v[DTYPE_NSCALARS + 1];
	size_t n;
};

static void make_endings(enum view_format f, struct endings *out)
{
	out->n = 0;
	if (*view_formats[f].suffix)
		out->v[out->n++] = view_formats[f].suffix;
	for (int s = 0; s < DTYPE_NSCALARS; s++) {
		snprintf(out->text[s], sizeof(out->text[s]), ".%s", dtype_scalar_name(s));
		out->v[out->n++] = out->text[s];
	}
}

/* All in one look; then the array that is picked of them, with a reference. pick NULL: none. */
static int find_rivals(struct tree *t, enum view_format f, uint64_t dir, const char *stem,
		       const struct rival *(*pick)(const struct rivals *r), struct rivals *out, struct inode **array_out)
{
	struct endings e;

	*out = (struct rivals){ .format = f, .stem = stem, .pick = pick };
	make_endings(f, &e);
	return realm_of(t, dir)->find(t, dir, &(struct realm_stem){ stem, e.v, e.n, add_rival, pick ? pick_rival : NULL, out }, array_out);
}

/* The array that STEM.npy stands for. NULL: none, or one of several. */
static const struct rival *array_of_stem(const struct rivals *r)
{
	const struct rival *only = NULL;

	for (size_t k = 0; k < r->n; k++) {
		const struct rival *a = &r->v[k];

		if (!strcmp(a->name, r->stem) && (a->shown || (a->is_dir && view_formats[r->format].tables)))
			return a->shown ? a : NULL;
	}
	for (size_t k = 0; k < r->n && view_formats[r->format].typed; k++) {
		if (!r->v[k].shown || !is_typed(r->stem, r->v[k].name))
			continue;
		if (only)
			return NULL;
		only = &r->v[k];
	}
	return only;
}

/* The array that is called as the stem. NULL: none that the format has a view of. */
static const struct rival *array_called_stem(const struct rivals *r)
{
	for (size_t k = 0; k < r->n; k++) {
		if (r->v[k].shown && !strcmp(r->v[k].name, r->stem))
			return &r->v[k];
	}
	return NULL;
}

/* The array called `name` if the format has a view of it, with a reference. */
static int shown_array(struct tree *t, enum view_format f, uint64_t dir, const char *name, struct inode **out)
{
	struct rivals r;

	return find_rivals(t, f, dir, name, array_called_stem, &r, out);
}

static int named(struct tree *t, const struct view_node *n, struct inode **out)
{
	struct inode *held;
	int err;

	if (n->key.role != VIEW_FILE)
		return -ENOENT;
	err = views_hold_dir(t, n->dir, &held);
	if (err)
		return err;
	err = shown_array(t, n->key.format, n->dir, n->name, out);
	views_let_go_dir(held);
	return err;
}

/* The array that a view's name without its suffix stands for, and that array's own name. */
int views_find_array(struct tree *t, enum view_format f, uint64_t dir, const char *base, char name[META_NAME_MAX + 1],
		     struct inode **out)
{
	struct rivals r;
	int err = find_rivals(t, f, dir, base, array_of_stem, &r, out);

	if (!err)
		strcpy(name, r.picked->name);
	return err;
}

static bool fits(enum view_format f, const char *base)
{
	return strlen(base) + strlen(view_formats[f].suffix) <= META_NAME_MAX;
}

/* Can `base` with the format's suffix be the name of a view: not too long, and no mirrored directory's? */
bool views_name_is_free(struct tree *t, enum view_format f, uint64_t dir, const char *base)
{
	char file[2 * META_NAME_MAX];

	snprintf(file, sizeof(file), "%s%s", base, view_formats[f].suffix);
	return fits(f, base) && (!*view_formats[f].suffix || !source_is_dir(t, dir, file));
}

/* Does this one have the name that the array `name` would be shown by? */
static bool is_rival(const struct rivals *r, const struct rival *one, const char *name)
{
	bool whole = !strcmp(one->name, r->stem);

	if (one->is_dir)
		return whole ? view_formats[r->format].tables : has_suffix(r->stem, view_formats[r->format].suffix, one->name);
	return one->shown && strcmp(one->name, name) && (whole || is_typed(r->stem, one->name));
}

/* May the array `name` be shown as `stem`, which is it without its type? */
static bool may_shorten(struct tree *t, enum view_format f, uint64_t dir, const char *name, const char *stem)
{
	struct rivals r;
	bool alone = *stem && fits(f, stem) && !find_rivals(t, f, dir, stem, NULL, &r, NULL);

	for (size_t k = 0; alone && k < r.n; k++)
		alone = !is_rival(&r, &r.v[k], name);
	return alone;
}

/* The name of the array's view without the format's suffix. False: another thing has all names that it could have. */
bool views_shown_name(struct tree *t, enum view_format f, uint64_t dir, const char *name, char out[META_NAME_MAX + 1])
{
	const char *type = dtype_of_name(name);

	strcpy(out, name);
	if (type && view_formats[f].typed) {
		out[strlen(name) - strlen(type) - 1] = '\0';
		if (may_shorten(t, f, dir, name, out))
			return true;
		strcpy(out, name);
	}
	return views_name_is_free(t, f, dir, name);
}

bool views_strip(const char *name, const char *suffix, char out[META_NAME_MAX + 1])
{
	size_t len = strlen(name), n = strlen(suffix);

	if (len <= n || strcmp(name + len - n, suffix))
		return false;
	memcpy(out, name, len - n);
	out[len - n] = '\0';
	return true;
}

int views_find(struct tree *t, const struct view_key *dir, const char *name, char own[META_NAME_MAX + 1], struct inode **out)
{
	char base[META_NAME_MAX + 1];
	int err = views_strip(name, view_formats[dir->format].suffix, base) ? views_find_array(t, dir->format, dir->source, base, own, out) : -ENOENT;

	if (err == -ENOENT && view_formats[dir->format].tables && views_strip(name, view_formats[dir->format].suffix, base) &&
	    source_is_dir(t, dir->source, base))
		err = -EROFS;
	return err;
}

bool views_same_access(const struct stat *a, const struct stat *b)
{
	return a->st_mode == b->st_mode && a->st_uid == b->st_uid && a->st_gid == b->st_gid;
}

int views_now(struct inode *i, struct inode **out)
{
	struct view_inode *n = view_of(i);
	struct tree_attr attr;
	bool allowed;
	int err = n->node.past ? -ESTALE : named(i->tree, &n->node, out);

	if (err)
		return err == -ENOENT ? -ESTALE : err;
	inode_stat(*out, &attr);
	lock_acquire(&i->attr);
	allowed = (*out)->facts.ino == n->node.key.source ||
		  (views_same_access(&attr.st, &n->source) && clock_monotonic_ns() - atomic_load(&n->answered_ns) < REPLACED_NS);
	lock_release(&i->attr);
	if (allowed)
		return 0;
	inode_put(*out, 1);
	*out = NULL;
	return -ESTALE;
}
