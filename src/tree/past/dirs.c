/*
 * Directories of states, and their entries.
 *
 * Invariant: a directory of the follower's present is looked up in the newest state; a file found there stays the one that was found.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "array/acl.h"
#include "array/setting.h"
#include "block/index.h"
#include "store/layers.h"
#include "store/store.h"
#include "tree/control/control.h"
#include "tree/dir.h"
#include "tree/past/inside.h"
#include "tree/views/views.h"
#include "tree/xattr.h"
#include "util/clock.h"

/* Attributes. */

static void dir_attr(struct state *state, uint64_t number, struct tree_attr *out)
{
	const struct index_record *r = NULL;
	struct stat *st = &out->st;

	memset(out, 0, sizeof(*out));
	st->st_ino = number;
	st->st_nlink = 2;
	st->st_blksize = TREE_IO_BYTES;
	if (past_ino_of(number) == META_INO_ROOT || state_inode(state, past_ino_of(number), &r)) {
		st->st_mode = S_IFDIR | 0755;
		st->st_atim = st->st_mtim = st->st_ctim = clock_timespec(state_time_ns(state));
	} else {
		st->st_mode = r->facts.mode;
		st->st_uid = r->facts.uid;
		st->st_gid = r->facts.gid;
		st->st_atim = st->st_mtim = clock_timespec(r->facts.mtime_ns);
		st->st_ctim = clock_timespec(r->facts.ctime_ns);
	}
	out->attr_ms = out->name_ms = past_root_of(number) != ROOT_PRESENT ? TREE_KEEP_MS : 0;
}

int past_getattr(struct tree *t, uint64_t ino, struct tree_attr *out)
{
	struct state *state;
	struct inode *i;
	int err;

	if (!inode_find(t, ino, &i)) {
		inode_stat(i, out);
		return 0;
	}
	err = past_state_of(t, ino, &state);
	if (err)
		return err;
	dir_attr(state, ino, out);
	state_put(state);
	return 0;
}

void past_present(struct tree *t, struct tree_attr *out)
{
	struct state *state;
	uint64_t number = past_number(ROOT_PRESENT, META_INO_LAYERS);

	if (!past_state_of(t, number, &state)) {
		dir_attr(state, number, out);
		state_put(state);
		return;
	}
	memset(out, 0, sizeof(*out));
	out->st.st_ino = number;
	out->st.st_mode = S_IFDIR | 0755;
	out->st.st_nlink = 2;
}

int past_snapshot(struct tree *t, const char *name, struct tree_attr *out)
{
	struct layers_snapshot s;
	struct state *state;
	uint64_t root;
	int err = layers_snapshot_find(t->store->layers, name, &s);

	if (!err)
		err = past_get_state(t, s.layer, &state);
	if (err)
		return err;
	err = past_need_root(t, name, s.layer, &root);
	if (!err) {
		dir_attr(state, past_number(root, META_INO_ROOT), out);
		out->name_ms = 0;
		if (name[0] != '@')
			out->st.st_atim = out->st.st_mtim = out->st.st_ctim = clock_timespec(s.time_ns);
	}
	state_put(state);
	return err;
}

/* Directories. */

/* The record of the inode that a name has: damage where there is none. */
static int named_record(struct state *state, uint64_t ino, const struct index_record **out)
{
	const struct index_record *r;
	int err = state_inode(state, ino, &r);

	if (err)
		return err == -ENOENT ? -EUCLEAN : err;
	if (r->facts.ino > INO_MAX || r->version >= ROOTS_MAX)
		return -EOVERFLOW;
	*out = r;
	return 0;
}

static int entry_attr(struct tree *t, struct state *state, uint64_t root, uint64_t ino, bool count, struct tree_attr *out)
{
	const struct index_record *r;
	struct inode *i;
	int err = named_record(state, ino, &r);

	if (err)
		return err;
	if (S_ISDIR(r->facts.mode)) {
		dir_attr(state, past_number(root, ino), out);
		return 0;
	}
	if (!count) {
		memset(out, 0, sizeof(*out));
		out->st.st_ino = past_number(r->version, ino);
		out->st.st_mode = r->facts.mode;
		return 0;
	}
	err = past_get_file(t, state, r, &i);
	if (!err) {
		inode_stat(i, out);
		out->name_ms = root == ROOT_PRESENT ? 0 : TREE_KEEP_MS;
	}
	return err;
}

int past_lookup(struct tree *t, uint64_t parent, const char *name, const struct tree_caller *who, struct tree_attr *out)
{
	uint64_t ino, root = past_root_of(parent);
	struct state *state;
	int err = past_state_of(t, parent, &state);

	(void)who;
	if (err)
		return err;
	if (past_ino_of(parent) == META_INO_ROOT) {
		if (!strcmp(name, VIEWS_NAME))
			err = t->realms[REALM_VIEWS]->enter(t, parent, out);
		else
			err = strcmp(name, "layers") ? -ENOENT : 0;
		if (!strcmp(name, "layers"))
			dir_attr(state, past_number(root, META_INO_LAYERS), out);
	} else {
		err = state_find(state, past_ino_of(parent), name, &ino);
		if (!err)
			err = entry_attr(t, state, root, ino, true, out);
	}
	state_put(state);
	return err;
}

/* For "..": not kept in the log, and only shown. */
int past_parent(struct tree *t, uint64_t ino, uint64_t *out)
{
	(void)t;
	*out = past_ino_of(ino) == META_INO_ROOT ? CONTROL_SNAPSHOTS :
	       past_ino_of(ino) == META_INO_LAYERS && past_root_of(ino) == ROOT_PRESENT ? META_INO_ROOT :
	       past_number(past_root_of(ino), META_INO_ROOT);
	return 0;
}

int past_readlink(struct tree *t, uint64_t ino, char **out)
{
	struct inode *i;

	if (inode_find(t, ino, &i) || !S_ISLNK(inode_mode(i)))
		return -EINVAL;
	*out = strdup(past_of(i)->target);
	return *out ? 0 : -ENOMEM;
}

static int add_name(void *ctx, uint64_t cookie, const char *name, uint64_t ino)
{
	struct tree_dirent *d = dir_add(ctx, cookie, name);

	if (!d)
		return 1;
	d->attr.st.st_ino = ino;
	return 0;
}

/* The state in which the listing of the directory was begun; at its start, the newest. */
static int listed_state(struct tree *t, struct tree_dir *d, uint64_t ino, uint64_t cookie, struct state **out)
{
	struct state *state = NULL, *old;
	int err;

	if (past_root_of(ino) != ROOT_PRESENT)
		return past_state_of(t, ino, out);
	lock_acquire(&t->lock);
	if (cookie && d->state)
		state = state_get(d->state);
	lock_release(&t->lock);
	if (!state) {
		err = past_state_of(t, ino, &state);
		if (err)
			return err;
		lock_acquire(&t->lock);
		old = d->state;
		d->state = state_get(state);
		lock_release(&t->lock);
		if (old)
			state_put(old);
	}
	*out = state;
	return 0;
}

static void list_root(uint64_t ino, struct state *state, uint64_t cookie, struct tree_listing *to)
{
	struct tree_dirent *d = cookie ? NULL : dir_add(to, 1, "layers");

	if (d)
		dir_attr(state, past_number(past_root_of(ino), META_INO_LAYERS), &d->attr);
	d = cookie < 2 ? dir_add(to, 2, VIEWS_NAME) : NULL;
	if (d) {
		d->attr.st.st_ino = views_root_number(ino);
		d->attr.st.st_mode = S_IFDIR;
	}
}

int past_readdir(struct tree *t, uint64_t ino, uint64_t cookie, struct tree_listing *to)
{
	size_t first = to->n;
	struct state *state;
	int err = listed_state(t, to->dir, ino, cookie, &state);

	if (err)
		return err;
	if (past_ino_of(ino) == META_INO_ROOT)
		list_root(ino, state, cookie, to);
	else
		err = state_walk(state, past_ino_of(ino), cookie, add_name, to);
	for (size_t k = first; k < to->n && !err && past_ino_of(ino) != META_INO_ROOT; k++) {
		struct tree_dirent *d = &to->v[k];

		err = entry_attr(t, state, past_root_of(ino), d->attr.st.st_ino, to->count, &d->attr);
		d->counted = !err && to->count && !S_ISDIR(d->attr.st.st_mode);
	}
	state_put(state);
	return err;
}

/* Entries as views want them. */

struct entries {
	struct state *state;
	uint64_t root;
	int (*each)(void *ctx, const struct realm_entry *e);
	void *ctx;
};

/* The element type in effect: the attribute, its own or inherited, else as the name said it. */
static int give_record(struct entries *to, uint64_t cookie, const char *name, const struct index_record *r)
{
	bool dir = S_ISDIR(r->facts.mode);
	const char *type = dir ? "" : r->dtype;
	uint64_t number = past_number(dir ? to->root : r->version, r->facts.ino);

	return to->each(to->ctx, &(struct realm_entry){ cookie, number, name, r->facts.mode, r->facts.kind, type });
}

static int give_entry(void *ctx, uint64_t cookie, const char *name, uint64_t ino)
{
	struct entries *to = ctx;
	const struct index_record *r;
	int err = named_record(to->state, ino, &r);

	return err ? err : give_record(to, cookie, name, r);
}

int past_walk(struct tree *t, struct tree_dir *d, uint64_t dir, uint64_t cookie,
	      int (*each)(void *ctx, const struct realm_entry *e), void *ctx)
{
	struct entries to = { .root = past_root_of(dir), .each = each, .ctx = ctx };
	int err = listed_state(t, d, dir, cookie, &to.state);

	if (err)
		return err;
	err = state_walk(to.state, past_ino_of(dir), cookie, give_entry, &to);
	state_put(to.state);
	return err;
}

static int look_for(struct state *state, uint64_t dir, const struct realm_stem *what)
{
	struct entries to = { .state = state, .root = past_root_of(dir), .each = what->each, .ctx = what->ctx };
	char name[META_NAME_MAX + 1];
	int err = 0;

	for (size_t k = 0; k <= what->n && !err; k++) {
		const char *ending = k ? what->endings[k - 1] : "";
		uint64_t ino;

		if (strlen(what->stem) + strlen(ending) > META_NAME_MAX)
			continue;
		strcpy(stpcpy(name, what->stem), ending);
		if (!state_find(state, past_ino_of(dir), name, &ino))
			err = give_entry(&to, 0, name, ino);
	}
	return err < 0 ? err : 0;
}

int past_find(struct tree *t, uint64_t dir, const struct realm_stem *what, struct inode **out)
{
	const struct index_record *r;
	struct state *state;
	uint64_t ino;
	int err = past_state_of(t, dir, &state);

	if (err)
		return err;
	err = look_for(state, dir, what);
	if (!err && what->pick) {
		ino = what->pick(what->ctx);
		err = ino ? state_inode(state, past_ino_of(ino), &r) : -ENOENT;
		if (!err)
			err = past_get_file(t, state, r, out);
	}
	state_put(state);
	return err;
}

/* Extended attributes. */

struct wanted {
	const char *name; /* NULL: list */
	char *out;
	size_t len;
	bool found;
	mode_t mode; /* of what has them */
};

static int see_xattr(void *ctx, const char *name, const void *value, size_t len)
{
	struct wanted *w = ctx;
	size_t n = w->name ? len : strlen(name) + 1;
	char *p;

	if (w->name ? strcmp(name, w->name) != 0 : setting_is_inherited(name) || !xattr_suits(w->mode, name))
		return 0;
	p = realloc(w->out, w->len + n + 1);
	if (!p)
		return -ENOMEM;
	memcpy(p + w->len, w->name ? value : name, n);
	w->out = p;
	w->len += n;
	p[w->len] = '\0';
	w->found = true;
	return w->name ? 1 : 0;
}

static int walk_xattrs(struct tree *t, uint64_t ino, struct wanted *w)
{
	struct index_record of = { 0 };
	const struct index_record *r = &of;
	struct state *state = NULL;
	struct inode *i;
	int err = 0;

	if (!inode_find(t, ino, &i)) {
		of.xattrs = past_of(i)->xattrs;
		of.xattrs_len = (uint32_t)past_of(i)->xattrs_len;
		of.facts.mode = inode_mode(i);
	} else {
		err = past_state_of(t, ino, &state);
		if (!err && state_inode(state, past_ino_of(ino), &r))
			r = &of;
	}
	w->mode = r->facts.mode;
	if (!err)
		err = index_record_xattr_walk(r, see_xattr, w);
	if (state)
		state_put(state);
	if (err < 0)
		free(w->out);
	return err < 0 ? err : 0;
}

/* A directory's. */
static int show_acl(struct tree *t, uint64_t ino, const char *name, struct wanted *w)
{
	struct tree_attr attr;
	int err = past_getattr(t, ino, &attr);

	if (!err)
		err = acl_show(name, w->out, w->len, attr.st.st_mode);
	if (err)
		free(w->out);
	return err;
}

int past_getxattr(struct tree *t, uint64_t ino, const char *name, void **out, size_t *len_out)
{
	struct wanted w = { .name = name };
	struct inode *i;
	int err;

	if (!inode_find(t, ino, &i))
		return xattr_get(i, name, out, len_out);
	err = walk_xattrs(t, ino, &w);
	if (!err && !w.found)
		err = -ENODATA;
	if (!err && acl_is_name(name))
		err = show_acl(t, ino, name, &w);
	if (err)
		return err;
	*out = w.out;
	*len_out = w.len;
	return 0;
}

int past_listxattr(struct tree *t, uint64_t ino, char **out, size_t *len_out)
{
	struct wanted w = { 0 };
	int err = walk_xattrs(t, ino, &w);

	if (err)
		return err;
	*out = w.out;
	*len_out = w.len;
	return 0;
}

