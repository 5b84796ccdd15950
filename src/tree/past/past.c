/*
 * Past states in the tree.
 *
 * Invariants:
 *  1. A number names the same content for ever: versions and roots are never used twice while mounted.
 *  2. Only open files hold a state; what is merely known to the kernel holds nothing back.
 *  3. A directory of root 0 is looked up in the newest state; a file found there stays the one that was found.
 */
#include "tree/past/past.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array/setting.h"
#include "block/index.h"
#include "store/history.h"
#include "store/layers.h"
#include "store/store.h"
#include "tree/control/control.h"
#include "tree/dir.h"
#include "tree/file.h"
#include "tree/reading.h"
#include "tree/setting.h"
#include "tree/xattr.h"
#include "tree/views/views.h"
#include "util/clock.h"

#define INO_BITS 36u
#define INO_MAX ((1ull << INO_BITS) - 1)
#define ROOTS_MAX (1u << 26)
#define ROOT_PRESENT 0u
#define FOLLOW_MS 200u
#define STATES_KEPT 4u

struct past_root {
	char name[256];
	uint64_t layer;
};

struct past_states {
	struct past_root *roots; /* root n is [n - 1]; RANK_ICACHE, as all of it */
	size_t nroots, cap_roots;
	struct history *kept[STATES_KEPT]; /* used last */
	struct lock lock;        /* RANK_COMMIT: the follower's thread */
	pthread_cond_t wake;
	pthread_t thread;
	bool follows, stop;
};

static uint64_t make_number(uint64_t high, uint64_t ino)
{
	return REALM_PAST_BIT | high << INO_BITS | ino;
}

static uint64_t root_of(uint64_t number)
{
	return (number & ~REALM_PAST_BIT) >> INO_BITS;
}

static uint64_t ino_of(uint64_t number)
{
	return number & INO_MAX;
}

/* States. */

static struct past_states *states_of(struct tree *t)
{
	return t->past;
}

/* Keeps h ready, in place of the one used longest ago. */
static void keep_state(struct tree *t, struct history *h)
{
	struct past_states *s = states_of(t);
	struct history *old;

	lock_acquire(&t->lock);
	old = s->kept[STATES_KEPT - 1];
	memmove(&s->kept[1], &s->kept[0], (STATES_KEPT - 1) * sizeof(*s->kept));
	s->kept[0] = history_get(h);
	lock_release(&t->lock);
	if (old)
		history_put(old);
}

static int get_state(struct tree *t, uint64_t layer, struct history **out)
{
	struct past_states *s = states_of(t);
	struct history *found = NULL;
	int err;

	lock_acquire(&t->lock);
	for (size_t k = 0; k < STATES_KEPT && !found; k++) {
		if (s->kept[k] && history_number(s->kept[k]) == layer)
			found = history_get(s->kept[k]);
	}
	lock_release(&t->lock);
	if (found) {
		*out = found;
		return 0;
	}
	err = history_open(t->store->layers, layer, out);
	if (!err)
		keep_state(t, *out);
	return err;
}

void past_forget_states(struct tree *t)
{
	struct past_states *s = states_of(t);
	struct history *kept[STATES_KEPT];

	lock_acquire(&t->lock);
	memcpy(kept, s->kept, sizeof(kept));
	memset(s->kept, 0, sizeof(s->kept));
	lock_release(&t->lock);
	for (size_t k = 0; k < STATES_KEPT; k++) {
		if (kept[k])
			history_put(kept[k]);
	}
}

/* The layer behind a root. */
static int root_layer(struct tree *t, uint64_t root, uint64_t *out)
{
	struct past_states *s = states_of(t);
	int err = 0;

	if (root == ROOT_PRESENT) {
		*out = layers_newest_sealed(t->store->layers);
		return 0;
	}
	lock_acquire(&t->lock);
	if (root <= s->nroots)
		*out = s->roots[root - 1].layer;
	else
		err = -ESTALE;
	lock_release(&t->lock);
	return err;
}

static int state_of(struct tree *t, uint64_t number, struct history **out)
{
	uint64_t layer;
	int err = root_layer(t, root_of(number), &layer);

	if (!err)
		err = get_state(t, layer, out);
	return err == -ENOENT ? -ESTALE : err;
}

static int need_root_locked(struct past_states *s, const char *name, uint64_t layer, uint64_t *out)
{
	for (size_t k = s->nroots; k-- > 0;) {
		if (s->roots[k].layer == layer && !strcmp(s->roots[k].name, name)) {
			*out = k + 1;
			return 0;
		}
	}
	if (s->nroots == s->cap_roots) {
		size_t cap = s->cap_roots ? s->cap_roots * 2 : 16;
		void *v = cap < ROOTS_MAX ? realloc(s->roots, cap * sizeof(*s->roots)) : NULL;

		if (!v)
			return -ENOMEM;
		s->roots = v;
		s->cap_roots = cap;
	}
	s->roots[s->nroots] = (struct past_root){ .layer = layer };
	strcpy(s->roots[s->nroots].name, name);
	*out = ++s->nroots;
	return 0;
}

/* Attributes. */

static void dir_attr(struct history *h, uint64_t number, struct tree_attr *out)
{
	const struct index_record *r = NULL;
	struct stat *st = &out->st;

	memset(out, 0, sizeof(*out));
	st->st_ino = number;
	st->st_nlink = 2;
	st->st_blksize = TREE_IO_BYTES;
	if (ino_of(number) == META_INO_ROOT || history_inode(h, ino_of(number), &r)) {
		st->st_mode = S_IFDIR | 0755;
		st->st_atim = st->st_mtim = st->st_ctim = clock_timespec(history_time_ns(h));
	} else {
		st->st_mode = r->mode;
		st->st_uid = r->uid;
		st->st_gid = r->gid;
		st->st_atim = st->st_mtim = clock_timespec(r->mtime_ns);
		st->st_ctim = clock_timespec(r->ctime_ns);
	}
	out->attr_ms = out->name_ms = root_of(number) != ROOT_PRESENT ? TREE_KEEP_MS : 0;
}

static int past_getattr(struct tree *t, uint64_t ino, struct tree_attr *out)
{
	struct history *h;
	struct inode *i;
	int err;

	if (!inode_find(t, ino, &i)) {
		inode_stat(i, out);
		return 0;
	}
	err = state_of(t, ino, &h);
	if (err)
		return err;
	dir_attr(h, ino, out);
	history_put(h);
	return 0;
}

void past_present(struct tree *t, struct tree_attr *out)
{
	struct history *h;
	uint64_t number = make_number(ROOT_PRESENT, META_INO_LAYERS);

	if (!state_of(t, number, &h)) {
		dir_attr(h, number, out);
		history_put(h);
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
	struct history *h;
	uint64_t layer, root;
	char *end;
	int err = 0;

	if (name[0] == '@') {
		layer = strtoull(name + 1, &end, 10);
		if (name[1] < '1' || name[1] > '9' || *end)
			return -ENOENT;
	} else {
		err = layers_snapshot_find(t->store->layers, name, &s);
		if (err)
			return err;
		layer = s.layer;
	}
	err = get_state(t, layer, &h);
	if (err)
		return err;
	lock_acquire(&t->lock);
	err = need_root_locked(states_of(t), name, layer, &root);
	lock_release(&t->lock);
	if (!err) {
		dir_attr(h, make_number(root, META_INO_ROOT), out);
		out->name_ms = 0;
		if (name[0] != '@')
			out->st.st_atim = out->st.st_mtim = out->st.st_ctim = clock_timespec(s.time_ns);
	}
	history_put(h);
	return err;
}

/* Files. */

static int copy_facts(struct past_inode *p, uint64_t layer, const struct index_record *r)
{
	atomic_init(&p->layer, layer);
	p->ino = r->ino;
	p->dtype = strdup(r->dtype);
	p->target = strdup(r->target);
	p->xattrs = malloc(r->xattrs_len + 1u);
	p->xattrs_len = r->xattrs_len;
	if (!p->dtype || !p->target || !p->xattrs)
		return -ENOMEM;
	if (r->xattrs_len)
		memcpy(p->xattrs, r->xattrs, r->xattrs_len);
	return 0;
}

/* The inode of a file of state h, with one more reference. */
static int get_file(struct tree *t, struct history *h, const struct index_record *r, struct inode **out)
{
	const struct meta_inode row = {
		.ino = make_number(r->version, r->ino), .kind = r->kind, .mode = r->mode, .nlink = 1, .uid = r->uid,
		.gid = r->gid, .rdev = r->rdev, .size_bytes = r->size_bytes, .stored_bytes = r->stored_bytes,
		.atime_ns = r->mtime_ns, .mtime_ns = r->mtime_ns, .ctime_ns = r->ctime_ns, .btime_ns = r->btime_ns,
	};
	struct past_inode *p;

	if (r->version >= ROOTS_MAX || r->ino > INO_MAX)
		return -EOVERFLOW;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	inode_init(&p->base, t, REALM_PAST, &row);
	if (copy_facts(p, history_number(h), r)) {
		inode_free(&p->base);
		return -ENOMEM;
	}
	*out = inode_get_made(&p->base);
	/* The state that it was found in first may have been dropped since; this one is there. */
	atomic_store(&past_of(*out)->layer, history_number(h));
	return 0;
}

/* Its state is held while its array is open. */
static int hold_state(struct past_inode *p)
{
	struct tree *t = p->base.tree;
	const struct index_record *r;
	struct history *h;

	if (p->state || !history_open(t->store->layers, atomic_load(&p->layer), &p->state))
		return 0;
	/* The state in which it was found is gone; the newest may have the same version of it. */
	if (state_of(t, make_number(ROOT_PRESENT, META_INO_ROOT), &h))
		return -ESTALE;
	if (history_inode(h, p->ino, &r) || r->version != root_of(p->base.ino)) {
		history_put(h);
		return -ESTALE;
	}
	atomic_store(&p->layer, history_number(h));
	p->state = h;
	return 0;
}

static void let_go_state(struct past_inode *p)
{
	if (p->state)
		history_put(p->state);
	p->state = NULL;
}

static void past_fini(struct inode *i)
{
	struct past_inode *p = past_of(i);

	let_go_state(p);
	free(p->dtype);
	free(p->target);
	free(p->xattrs);
}

static void past_idle(struct inode *i)
{
	inode_drop_array(i);
	let_go_state(past_of(i));
}

static int past_load(struct inode *i, struct array **out)
{
	struct past_inode *p = past_of(i);
	struct array_params params;
	const struct meta_inode row = { .ino = p->ino, .kind = i->kind, .mode = i->mode, .nlink = i->nlink,
					.size_bytes = atomic_load(&i->size_bytes), .stored_bytes = i->row_stored_bytes, .file_id = i->file_id };
	int err = hold_state(p);

	if (!err)
		err = inode_params_locked(i, &params);
	if (err)
		return err;
	params.past = p->state;
	return array_open(i->tree->arrays, &row, &params, out);
}

static int past_stored_locked(struct inode *i, const char *name, void **out, size_t *len_out)
{
	const struct past_inode *p = past_of(i);
	struct index_record r = { .xattrs = p->xattrs, .xattrs_len = (uint32_t)p->xattrs_len };
	const void *value;
	size_t len;
	char *copy;

	if (!index_record_xattr(&r, name, &value, &len))
		return -ENODATA;
	copy = malloc(len + 1);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, value, len);
	copy[len] = '\0';
	*out = copy;
	*len_out = len;
	return 0;
}

static char *past_dtype_locked(struct inode *i)
{
	return strdup(past_of(i)->dtype);
}

/* Directories. */

static int entry_attr(struct tree *t, struct history *h, uint64_t root, uint64_t ino, bool count, struct tree_attr *out)
{
	const struct index_record *r;
	struct inode *i;
	int err = history_inode(h, ino, &r);

	if (err)
		return err == -ENOENT ? -EUCLEAN : err;
	if (S_ISDIR(r->mode)) {
		dir_attr(h, make_number(root, ino), out);
		return 0;
	}
	if (!count) {
		memset(out, 0, sizeof(*out));
		out->st.st_ino = make_number(r->version, ino);
		out->st.st_mode = r->mode;
		return 0;
	}
	err = get_file(t, h, r, &i);
	if (!err) {
		inode_stat(i, out);
		out->name_ms = root == ROOT_PRESENT ? 0 : TREE_KEEP_MS;
	}
	return err;
}

static int past_lookup(struct tree *t, uint64_t parent, const char *name, const struct tree_caller *who, struct tree_attr *out)
{
	uint64_t ino, root = root_of(parent);
	struct history *h;
	int err = state_of(t, parent, &h);

	(void)who;
	if (err)
		return err;
	if (ino_of(parent) == META_INO_ROOT) {
		if (!strcmp(name, VIEWS_NAME))
			err = t->realms[REALM_VIEWS]->enter(t, parent, out);
		else
			err = strcmp(name, "layers") ? -ENOENT : 0;
		if (!strcmp(name, "layers"))
			dir_attr(h, make_number(root, META_INO_LAYERS), out);
	} else {
		err = history_find(h, ino_of(parent), name, &ino);
		if (!err)
			err = entry_attr(t, h, root, ino, true, out);
	}
	history_put(h);
	return err;
}

/* For "..": not kept in the log, and only shown. */
static int past_parent(struct tree *t, uint64_t ino, uint64_t *out)
{
	(void)t;
	*out = ino_of(ino) == META_INO_ROOT ? SPECIAL_SNAPSHOTS :
	       ino_of(ino) == META_INO_LAYERS && root_of(ino) == ROOT_PRESENT ? META_INO_ROOT :
	       make_number(root_of(ino), META_INO_ROOT);
	return 0;
}

static int past_readlink(struct tree *t, uint64_t ino, char **out)
{
	struct inode *i;

	if (inode_find(t, ino, &i) || !S_ISLNK(i->mode))
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

/* The state that the directory was begun in; at its start, that of now. */
static int listed_state(struct tree *t, struct tree_dir *d, uint64_t ino, uint64_t cookie, struct history **out)
{
	struct history *h = NULL, *old;
	int err;

	if (root_of(ino) != ROOT_PRESENT)
		return state_of(t, ino, out);
	lock_acquire(&t->lock);
	if (cookie && d->state)
		h = history_get(d->state);
	lock_release(&t->lock);
	if (!h) {
		err = state_of(t, ino, &h);
		if (err)
			return err;
		lock_acquire(&t->lock);
		old = d->state;
		d->state = history_get(h);
		lock_release(&t->lock);
		if (old)
			history_put(old);
	}
	*out = h;
	return 0;
}

static void list_root(uint64_t ino, struct history *h, uint64_t cookie, struct tree_listing *to)
{
	struct tree_dirent *d = cookie ? NULL : dir_add(to, 1, "layers");

	if (d)
		dir_attr(h, make_number(root_of(ino), META_INO_LAYERS), &d->attr);
	d = cookie < 2 ? dir_add(to, 2, VIEWS_NAME) : NULL;
	if (d) {
		d->attr.st.st_ino = views_root_number(ino);
		d->attr.st.st_mode = S_IFDIR;
	}
}

static int past_readdir(struct tree *t, uint64_t ino, uint64_t cookie, struct tree_listing *to)
{
	size_t first = to->n;
	struct history *h;
	int err = listed_state(t, to->dir, ino, cookie, &h);

	if (err)
		return err;
	if (ino_of(ino) == META_INO_ROOT)
		list_root(ino, h, cookie, to);
	else
		err = history_walk(h, ino_of(ino), cookie, add_name, to);
	for (size_t k = first; k < to->n && !err && ino_of(ino) != META_INO_ROOT; k++) {
		struct tree_dirent *d = &to->v[k];

		err = entry_attr(t, h, root_of(ino), d->attr.st.st_ino, to->count, &d->attr);
		d->counted = !err && to->count && !S_ISDIR(d->attr.st.st_mode);
	}
	history_put(h);
	return err;
}

/* Entries as views want them. */

struct entries {
	struct history *state;
	uint64_t root;
	int (*each)(void *ctx, const struct realm_entry *e);
	void *ctx;
};

/* The element type in effect: the attribute, its own or inherited, else as the name said it. */
static int give_record(struct entries *to, uint64_t cookie, const char *name, const struct index_record *r)
{
	bool dir = S_ISDIR(r->mode);
	const char *type = dir ? "" : r->dtype;
	uint64_t number = make_number(dir ? to->root : r->version, r->ino);

	return to->each(to->ctx, &(struct realm_entry){ cookie, number, name, r->mode, type });
}

static int give_entry(void *ctx, uint64_t cookie, const char *name, uint64_t ino)
{
	struct entries *to = ctx;
	const struct index_record *r;
	int err = history_inode(to->state, ino, &r);

	return err ? (err == -ENOENT ? -EUCLEAN : err) : give_record(to, cookie, name, r);
}

static int past_walk(struct tree *t, struct tree_dir *d, uint64_t dir, uint64_t cookie,
		     int (*each)(void *ctx, const struct realm_entry *e), void *ctx)
{
	struct entries to = { .root = root_of(dir), .each = each, .ctx = ctx };
	int err = listed_state(t, d, dir, cookie, &to.state);

	if (err)
		return err;
	err = history_walk(to.state, ino_of(dir), cookie, give_entry, &to);
	history_put(to.state);
	return err;
}

static int look_for(struct history *h, uint64_t dir, const struct realm_stem *what)
{
	struct entries to = { .state = h, .root = root_of(dir), .each = what->each, .ctx = what->ctx };
	char name[META_NAME_MAX + 1];
	int err = 0;

	for (size_t k = 0; k <= what->n && !err; k++) {
		const char *ending = k ? what->endings[k - 1] : "";
		uint64_t ino;

		if (strlen(what->stem) + strlen(ending) > META_NAME_MAX)
			continue;
		strcpy(stpcpy(name, what->stem), ending);
		if (!history_find(h, ino_of(dir), name, &ino))
			err = give_entry(&to, 0, name, ino);
	}
	return err < 0 ? err : 0;
}

static int past_find(struct tree *t, uint64_t dir, const struct realm_stem *what, struct inode **out)
{
	const struct index_record *r;
	struct history *h;
	uint64_t ino;
	int err = state_of(t, dir, &h);

	if (err)
		return err;
	err = look_for(h, dir, what);
	if (!err && what->pick) {
		ino = what->pick(what->ctx);
		err = ino ? history_inode(h, ino_of(ino), &r) : -ENOENT;
		if (!err)
			err = get_file(t, h, r, out);
	}
	history_put(h);
	return err;
}

/* Extended attributes. */

struct wanted {
	const char *name; /* NULL: list */
	char *out;
	size_t len;
	bool found;
};

static int see_xattr(void *ctx, const char *name, const void *value, size_t len)
{
	struct wanted *w = ctx;
	size_t n = w->name ? len : strlen(name) + 1;
	char *p;

	if (w->name ? strcmp(name, w->name) != 0 : setting_is_inherited(name))
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
	struct history *h = NULL;
	struct inode *i;
	int err = 0;

	if (!inode_find(t, ino, &i)) {
		of.xattrs = past_of(i)->xattrs;
		of.xattrs_len = (uint32_t)past_of(i)->xattrs_len;
	} else {
		err = state_of(t, ino, &h);
		if (!err && history_inode(h, ino_of(ino), &r))
			r = &of;
	}
	if (!err)
		err = index_record_xattr_walk(r, see_xattr, w);
	if (h)
		history_put(h);
	if (err < 0)
		free(w->out);
	return err < 0 ? err : 0;
}

static int past_getxattr(struct tree *t, uint64_t ino, const char *name, void **out, size_t *len_out)
{
	struct wanted w = { .name = name };
	struct inode *i;
	int err;

	if (!inode_find(t, ino, &i))
		return xattr_get(i, name, out, len_out);
	err = walk_xattrs(t, ino, &w);
	if (err || !w.found)
		return err ? err : -ENODATA;
	*out = w.out;
	*len_out = w.len;
	return 0;
}

static int past_listxattr(struct tree *t, uint64_t ino, char **out, size_t *len_out)
{
	struct wanted w = { 0 };
	int err = walk_xattrs(t, ino, &w);

	if (err)
		return err;
	*out = w.out;
	*len_out = w.len;
	return 0;
}

/* Open files. */

static int read_past(struct tree_file *f, uint64_t off, size_t len, int flags, struct tree_read *out)
{
	return reading_begin(f->inode, off, len, reading_how(flags, true), out);
}

static int seek_past(struct tree_file *f, uint64_t off, int whence, uint64_t *out)
{
	return reading_seek(f->inode, off, whence, out);
}

static void release_past(struct tree_file *f)
{
	atomic_fetch_sub(&f->inode->ncached, 1);
	inode_let_go_array(f->inode);
	inode_put(f->inode, 1);
	free(f);
}

static const struct file_ops past_file_ops = { .read = read_past, .seek = seek_past, .release = release_past };

static int hold_open(struct inode *i)
{
	struct array *a;
	int err;

	rwlock_exclusive(&i->rw);
	err = inode_need_array(i, &a);
	if (!err) {
		inode_hold_array(i);
		atomic_fetch_add(&i->ncached, 1);
	}
	rwlock_release(&i->rw);
	return err;
}

static int past_open_file(struct tree *t, uint64_t ino, int flags, const struct tree_caller *who, struct tree_file **out,
			  struct tree_file_info *info)
{
	struct tree_file *f;
	struct inode *i;
	int err = inode_find(t, ino, &i);

	(void)who;
	if (err)
		return err;
	if ((flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC))
		return -EROFS;
	f = file_new(t, ino, flags, &past_file_ops, sizeof(*f));
	if (!f)
		return -ENOMEM;
	err = hold_open(i);
	if (err) {
		free(f);
		return err;
	}
	inode_ref(i);
	f->inode = f->pages = i;
	info->direct = false;
	info->keep_cache = !atomic_exchange(&i->stale_pages, false);
	*out = f;
	return 0;
}

const struct realm_ops past_realm = {
	.id = REALM_PAST,
	.refusal = -EROFS,
	.fixed = true,
	.lookup = past_lookup,
	.readdir = past_readdir,
	.walk = past_walk,
	.find = past_find,
	.parent = past_parent,
	.readlink = past_readlink,
	.getattr = past_getattr,
	.getxattr = past_getxattr,
	.listxattr = past_listxattr,
	.open = past_open_file,
	.inode_bytes = sizeof(struct past_inode),
	.fini = past_fini,
	.load = past_load,
	.idle = past_idle,
	.stored_locked = past_stored_locked,
	.dtype_locked = past_dtype_locked,
};

/* Opening and closing. */

static void *follow(void *arg)
{
	struct tree *t = arg;
	struct past_states *s = states_of(t);

	lock_acquire(&s->lock);
	while (!s->stop) {
		bool changed = false;

		lock_release(&s->lock);
		layers_follow(t->store->layers, &changed);
		past_forget_states(t);
		lock_acquire(&s->lock);
		if (!s->stop)
			lock_wait_ms(&s->lock, &s->wake, FOLLOW_MS);
	}
	lock_release(&s->lock);
	return NULL;
}

int past_open(struct tree *t)
{
	struct past_states *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	lock_init(&s->lock, RANK_COMMIT);
	lock_cond_init(&s->wake);
	t->past = s;
	if (t->store->config.follow)
		s->follows = pthread_create(&s->thread, NULL, follow, t) == 0;
	return t->store->config.follow && !s->follows ? -EAGAIN : 0;
}

void past_close(struct tree *t)
{
	struct past_states *s = states_of(t);

	if (!s)
		return;
	if (s->follows) {
		lock_acquire(&s->lock);
		s->stop = true;
		pthread_cond_signal(&s->wake);
		lock_release(&s->lock);
		pthread_join(s->thread, NULL);
	}
	past_forget_states(t);
	pthread_cond_destroy(&s->wake);
	lock_fini(&s->lock);
	free(s->roots);
	free(s);
	t->past = NULL;
}
