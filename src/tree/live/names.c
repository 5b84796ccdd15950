/*
 * Names: lookup, making, linking, unlinking and renaming inodes, reading directories.
 *
 * Invariants:
 *  1. Names, link counts and the parent of a directory change together, under the meta lock, in one
 *     transaction (meta_inode_relink_locked with the name rows).
 *  2. A file never leaves its storage class: the class is that of its directory.
 *  3. An entry's cookie is its row number, so that a directory that is read while entries come and go
 *     shows every entry that stays, once.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array/setting.h"
#include "spillfs.h"
#include "store/commit.h"
#include "store/layers.h"
#include "store/store.h"
#include "tree/inode.h"
#include "tree/live/names.h"
#include "tree/live/passthrough.h"
#include "tree/past/past.h"
#include "tree/control/control.h"
#include "tree/views/views.h"

/* Cookies: "." and "..", then the root's special entries, then rows. */
#define COOKIE_DOT 1u
#define COOKIE_DOTDOT 2u
#define COOKIE_SPECIAL 16u
#define COOKIE_ROW 64u

static int check_name(const char *name)
{
	size_t len = strlen(name);

	return len > META_NAME_MAX ? -ENAMETOOLONG : len ? 0 : -ENOENT;
}

bool tree_names_settled(struct tree *t, uint64_t parent)
{
	return parent != META_INO_ROOT && !special_is(parent) && !past_is(parent) && !views_is(parent) && !t->store->config.follow;
}

int tree_lookup(struct tree *t, uint64_t parent, const char *name, struct tree_attr *out)
{
	struct meta *m = t->store->meta;
	struct inode *i;
	uint64_t ino;
	int err = check_name(name);

	if (err)
		return err;
	if (views_is(parent)) {
		through_refresh_all(t);
		return views_lookup(t, parent, name, out);
	}
	if (past_is(parent))
		return past_lookup(t, parent, name, out);
	if (special_is(parent) || parent == META_INO_ROOT) {
		err = special_lookup(t, parent, name, out);
		if (err != -ENOENT || special_is(parent) || t->store->config.follow)
			return err;
	}
	meta_lock(m);
	err = meta_name_find_locked(m, parent, name, &ino);
	if (!err)
		err = inode_get_locked(t, ino, &i);
	meta_unlock(m);
	if (!err)
		inode_stat(i, out);
	return err;
}

void tree_forget(struct tree *t, uint64_t ino, uint64_t nlookup)
{
	struct inode *i;

	if (special_is(ino) || inode_find(t, ino, &i))
		return;
	leaving_expect(i);
	if (!i->nlink && t->store->commit)
		room_free(t); /* it may be the last of a deleted file */
	inode_put(i, nlookup);
}

/* A directory in which names may be made or removed. */
static int find_parent(struct tree *t, uint64_t ino, struct inode **out)
{
	int err;

	if (past_is(ino) || views_is(ino) || t->store->config.follow)
		return -EROFS;
	if (special_is(ino) || ino == META_INO_ROOT)
		return -EPERM;
	err = inode_find(t, ino, out);
	if (!err)
		room_measure(*out); /* it changes, too */
	return err;
}

/* Changes the link count and stores it with the names of this transaction. */
static int relink_locked(struct inode *i, int delta, uint64_t parent)
{
	uint32_t nlink;
	int64_t ctime;

	lock_acquire(&i->attr);
	nlink = i->nlink += (uint32_t)delta;
	ctime = i->ctime_ns = inode_stamp_ns(i->tree);
	i->parent = parent;
	lock_release(&i->attr);
	inode_new_version(i);
	/* Of what has no name any more the log need not know. */
	if (nlink && i->kind != ARRAY_BUCKET)
		inode_mark_changed(i);
	return meta_inode_relink_locked(i->tree->store->meta, i->ino, nlink, parent, ctime);
}

/* What the layers' log says of a name. */
static int note_name(struct inode *dir, const char *name, uint64_t ino)
{
	if (dir->kind != ARRAY_LAYERED && dir->kind != ARRAY_COLUMN)
		return 0;
	return layers_note_name(dir->tree->store->layers, dir->ino, name, ino, dir->kind == ARRAY_COLUMN);
}

static int add_name_locked(struct inode *dir, const char *name, uint64_t ino)
{
	int err = meta_name_insert_locked(dir->tree->store->meta, dir->ino, name, ino);

	return err ? err : note_name(dir, name, ino);
}

/* The entry stands for another inode, at the same place in the order of readdir, so that a walk meets it once. */
static int point_name_locked(struct inode *dir, const char *name, uint64_t ino)
{
	int err = meta_name_point_locked(dir->tree->store->meta, dir->ino, name, ino);

	return err ? err : note_name(dir, name, ino);
}

/* The entry is called newname, at the same place. */
static int rename_entry_locked(struct inode *dir, const char *name, const char *newname, uint64_t ino)
{
	int err = meta_name_move_locked(dir->tree->store->meta, dir->ino, name, newname);

	if (!err)
		err = note_name(dir, name, 0);
	return err ? err : note_name(dir, newname, ino);
}

static int remove_name_locked(struct inode *dir, const char *name)
{
	int err = meta_name_delete_locked(dir->tree->store->meta, dir->ino, name);

	return err ? err : note_name(dir, name, 0);
}

/* The defaults that a directory gives to what is made in it. */
#define INHERIT_MAX 16
struct inherit {
	char *name[INHERIT_MAX];
	void *value[INHERIT_MAX];
	size_t len[INHERIT_MAX], n;
};

/* Rows come by name: what the directory was given itself follows, and replaces, what it had inherited. */
static int collect_default(void *ctx, const char *name, const void *value, size_t len)
{
	const char *inherited = setting_inherited_name(name);
	struct inherit *h = ctx;

	if ((strncmp(name, "user.spillfs.", 13) && !setting_is_inherited(name)) || h->n == INHERIT_MAX)
		return 0;
	h->name[h->n] = strdup(inherited ? inherited : name);
	h->value[h->n] = malloc(len + 1);
	if (!h->name[h->n] || !h->value[h->n])
		return -ENOMEM;
	memcpy(h->value[h->n], value, len);
	h->len[h->n++] = len;
	return 0;
}

static int inherit_locked(struct inode *parent, uint64_t ino, bool *any)
{
	struct meta *m = parent->tree->store->meta;
	struct inherit h = { 0 };
	int err;

	*any = false;
	if (!atomic_load(&parent->has_xattrs))
		return 0;
	err = meta_xattr_walk_locked(m, parent->ino, collect_default, &h);
	for (size_t k = 0; k < INHERIT_MAX && h.name[k]; k++) {
		if (!err && k < h.n)
			err = meta_xattr_set_locked(m, ino, h.name[k], h.value[k], h.len[k]);
		free(h.name[k]);
		free(h.value[k]);
	}
	*any = h.n != 0;
	if (!err && !h.n)
		atomic_store(&parent->has_xattrs, -1);
	return err;
}

static int make_locked(struct inode *parent, const char *name, const struct meta_inode *row, const char *target,
		       struct inode **out)
{
	struct tree *t = parent->tree;
	struct meta *m = t->store->meta;
	uint64_t there;
	bool any;
	int err = meta_name_find_locked(m, parent->ino, name, &there);

	if (err != -ENOENT)
		return err ? err : -EEXIST;
	if (!parent->nlink)
		return -ENOENT;
	err = meta_inode_store_locked(m, row);
	if (!err && target)
		err = meta_blob_set_locked(m, row->ino, META_BLOB_SYMLINK, target, strlen(target));
	if (!err)
		err = inherit_locked(parent, row->ino, &any);
	if (!err)
		err = add_name_locked(parent, name, row->ino);
	if (!err && S_ISDIR(row->mode))
		err = relink_locked(parent, 1, parent->parent);
	if (!err)
		err = inode_get_locked(t, row->ino, out);
	if (!err)
		atomic_store(&(*out)->has_xattrs, any ? 1 : 0);
	return err;
}

int tree_make(struct tree *t, uint64_t parent_ino, const char *name, mode_t mode, dev_t rdev, const char *target,
	      const struct tree_caller *who, struct tree_attr *out)
{
	struct meta *m = t->store->meta;
	struct meta_inode row = { .mode = mode, .nlink = S_ISDIR(mode) ? 2 : 1, .uid = who->uid, .gid = who->gid, .rdev = rdev };
	struct inode *parent, *i;
	int err = check_name(name);

	if (!err && parent_ino == SPECIAL_SNAPSHOTS && S_ISDIR(mode))
		return special_make_snapshot(t, name, out);
	if (!err && views_is(parent_ino) && S_ISDIR(mode))
		return views_mkdir(t, parent_ino, name, mode, who, out);
	if (!err)
		err = find_parent(t, parent_ino, &parent);
	if (!err)
		err = room_need(t, ROOM_NAME_BYTES);
	if (err)
		return err;
	lock_acquire(&parent->attr);
	if (parent->mode & S_ISGID) {
		row.gid = parent->gid;
		if (S_ISDIR(mode))
			row.mode |= S_ISGID;
	}
	lock_release(&parent->attr);
	row.kind = parent->kind;
	row.atime_ns = row.mtime_ns = row.ctime_ns = row.btime_ns = inode_stamp_ns(t);
	if (S_ISDIR(mode))
		row.parent = parent_ino;
	if (target)
		row.size_bytes = strlen(target);
	inode_log_enter(parent);
	meta_lock(m);
	meta_inode_next_locked(m, &row.ino);
	err = make_locked(parent, name, &row, target, &i);
	meta_unlock(m);
	if (!err && i->kind != ARRAY_BUCKET)
		inode_mark_changed(i);
	inode_log_leave(parent);
	if (err)
		return err;
	inode_touch(parent, TREE_SET_MTIME | TREE_SET_CTIME);
	inode_stat(i, out);
	return 0;
}

int tree_create(struct tree *t, uint64_t parent, const char *name, mode_t mode, const struct tree_caller *who,
		struct tree_attr *out)
{
	int err = check_name(name);

	if (err)
		return err;
	if (views_is(parent))
		return t->store->config.follow ? -EROFS : views_make(t, parent, name, mode, who, out);
	return tree_make(t, parent, name, S_IFREG | mode, 0, NULL, who, out);
}

int tree_link(struct tree *t, uint64_t ino, uint64_t parent_ino, const char *name, struct tree_attr *out)
{
	struct meta *m = t->store->meta;
	struct inode *i, *parent;
	uint64_t there;
	int err = check_name(name);

	if (special_is(ino))
		return -EPERM;
	if (!err && views_is(ino) && views_is(parent_ino))
		return views_link(t, ino, parent_ino, name, out);
	if (!err)
		err = find_parent(t, parent_ino, &parent);
	if (!err && (past_is(ino) || views_is(ino)))
		err = -EXDEV;
	if (!err)
		err = inode_find(t, ino, &i);
	if (!err && S_ISDIR(i->mode))
		err = -EPERM;
	if (!err && i->kind != parent->kind)
		err = -EXDEV;
	if (!err)
		err = room_need(t, ROOM_NAME_BYTES);
	if (err)
		return err;
	inode_log_enter(parent);
	meta_lock(m);
	err = meta_name_find_locked(m, parent_ino, name, &there);
	err = err == -ENOENT ? 0 : err ? err : -EEXIST;
	if (!err && (!i->nlink || !parent->nlink))
		err = -ENOENT;
	if (!err && i->nlink >= 65000)
		err = -EMLINK;
	if (!err)
		err = add_name_locked(parent, name, ino);
	if (!err)
		err = relink_locked(i, 1, 0);
	meta_unlock(m);
	inode_log_leave(parent);
	if (err)
		return err;
	inode_ref(i);
	inode_mark_changed(i);
	inode_touch(parent, TREE_SET_MTIME | TREE_SET_CTIME);
	inode_stat(i, out);
	return 0;
}

/* The inode has one name less in parent; a directory its last. */
static int unlinked_locked(struct inode *parent, struct inode *i)
{
	int err = relink_locked(i, S_ISDIR(i->mode) ? -2 : -1, i->parent);

	leaving_expect(i);
	if (!err && S_ISDIR(i->mode))
		err = relink_locked(parent, -1, parent->parent);
	return err;
}

static int drop_name_locked(struct inode *parent, const char *name, struct inode *i)
{
	int err = remove_name_locked(parent, name);

	return err ? err : unlinked_locked(parent, i);
}

/* The name of old is i's from now on. */
static int replace_name_locked(struct inode *parent, const char *name, struct inode *old, struct inode *i)
{
	int err = unlinked_locked(parent, old);

	return err ? err : point_name_locked(parent, name, i->ino);
}

static int check_removable_locked(struct inode *i, bool dir)
{
	bool empty;
	int err;

	if (!dir)
		return S_ISDIR(i->mode) ? -EISDIR : 0;
	if (!S_ISDIR(i->mode))
		return -ENOTDIR;
	err = meta_name_empty_locked(i->tree->store->meta, i->ino, &empty);
	return err ? err : empty ? 0 : -ENOTEMPTY;
}

static int remove_name(struct tree *t, uint64_t parent_ino, const char *name, bool dir)
{
	struct meta *m = t->store->meta;
	struct inode *parent, *i = NULL;
	uint64_t ino;
	int err = find_parent(t, parent_ino, &parent);

	if (err)
		return err;
	room_free(t);
	inode_log_enter(parent);
	meta_lock(m);
	err = meta_name_find_locked(m, parent_ino, name, &ino);
	if (!err)
		err = inode_get_locked(t, ino, &i);
	if (!err)
		err = check_removable_locked(i, dir);
	if (!err)
		err = drop_name_locked(parent, name, i);
	meta_unlock(m);
	inode_log_leave(parent);
	if (!err)
		inode_touch(parent, TREE_SET_MTIME | TREE_SET_CTIME);
	if (i)
		inode_put(i, 1);
	return err;
}

/* A present directory's inode, with one more reference. */
static int get_dir(struct tree *t, uint64_t ino, struct inode **out)
{
	struct meta *m = t->store->meta;
	int err;

	meta_lock(m);
	err = inode_get_locked(t, ino, out);
	meta_unlock(m);
	return err;
}

int name_make_nameless(struct tree *t, uint64_t parent_ino, const struct tree_caller *who, mode_t mode, struct inode **out)
{
	struct meta *m = t->store->meta;
	struct meta_inode row = { .mode = mode, .uid = who->uid, .gid = who->gid };
	struct inode *parent;
	bool any = false;
	int err = room_need(t, ROOM_NAME_BYTES);

	if (!err)
		err = get_dir(t, parent_ino, &parent);
	if (err)
		return err;
	lock_acquire(&parent->attr);
	if (parent->mode & S_ISGID)
		row.gid = parent->gid;
	lock_release(&parent->attr);
	row.kind = parent->kind;
	row.atime_ns = row.mtime_ns = row.ctime_ns = row.btime_ns = inode_stamp_ns(t);
	meta_lock(m);
	meta_inode_next_locked(m, &row.ino);
	row.nlink = 1; /* or it would not be loaded */
	err = meta_inode_store_locked(m, &row);
	if (!err)
		err = inherit_locked(parent, row.ino, &any);
	if (!err)
		err = inode_get_locked(t, row.ino, out);
	if (!err) {
		atomic_store(&(*out)->has_xattrs, any ? 1 : 0);
		err = relink_locked(*out, -1, 0);
	} else {
		meta_inode_delete_locked(m, row.ino);
	}
	meta_unlock(m);
	inode_put(parent, 1);
	return err;
}

static bool may_replace(struct inode *there, struct inode *i, const struct tree_caller *who)
{
	return S_ISREG(there->mode) && (!who->uid || who->uid == there->uid ||
					(there->uid == i->uid && there->gid == i->gid && there->mode == i->mode));
}

static int publish_locked(struct inode *parent, const char *name, struct inode *i, uint64_t old,
			  const struct tree_caller *who, struct inode **old_out)
{
	struct meta *m = parent->tree->store->meta;
	uint64_t ino;
	int err = meta_name_find_locked(m, parent->ino, name, &ino);

	if (!err)
		err = inode_get_locked(parent->tree, ino, old_out);
	else if (err == -ENOENT)
		err = parent->nlink ? 0 : -ENOENT;
	if (!err && *old_out && ino != old && !may_replace(*old_out, i, who))
		err = -EEXIST;
	if (!err && !*old_out && old && !inode_may_add(parent, who))
		err = -EACCES;
	if (!err)
		err = *old_out ? replace_name_locked(parent, name, *old_out, i) : add_name_locked(parent, name, i->ino);
	return err ? err : relink_locked(i, 1, 0);
}

int name_publish(struct tree *t, uint64_t parent_ino, const char *name, struct inode *i, uint64_t old_ino,
		 const struct tree_caller *who)
{
	struct inode *parent, *old = NULL;
	int err = get_dir(t, parent_ino, &parent);

	if (err)
		return err;
	/* As a rename: what takes another file's name must not be durable before its data. */
	commit_gate_enter(t->store->commit);
	meta_lock(t->store->meta);
	err = publish_locked(parent, name, i, old_ino, who, &old);
	meta_unlock(t->store->meta);
	commit_gate_leave(t->store->commit);
	if (!err)
		inode_touch(parent, TREE_SET_MTIME | TREE_SET_CTIME);
	if (old)
		inode_put(old, 1);
	inode_put(parent, 1);
	return err;
}

int tree_unlink(struct tree *t, uint64_t parent, const char *name, const struct tree_caller *who)
{
	return views_is(parent) ? views_unlink(t, parent, name, who) : remove_name(t, parent, name, false);
}

int tree_rmdir(struct tree *t, uint64_t parent, const char *name)
{
	if (parent == SPECIAL_SNAPSHOTS)
		return special_drop_snapshot(t, name);
	if (views_is(parent))
		return views_rmdir(t, parent, name);
	return remove_name(t, parent, name, true);
}

/* One half of a rename: a name of i, until now in from, is in to. */
static int moved_locked(struct inode *i, struct inode *from, struct inode *to)
{
	int err = relink_locked(i, 0, S_ISDIR(i->mode) ? to->ino : i->parent);

	if (!err && S_ISDIR(i->mode) && from != to) {
		err = relink_locked(from, -1, from->parent);
		if (!err)
			err = relink_locked(to, 1, to->parent);
	}
	return err;
}

struct rename {
	struct inode *from, *to, *source, *target;
	const char *name, *newname;
	unsigned flags;
};

static int check_rename_locked(struct rename *r)
{
	struct tree *t = r->from->tree;
	struct meta *m = t->store->meta;
	uint64_t ino;
	int err = meta_name_find_locked(m, r->from->ino, r->name, &ino);

	if (!err)
		err = inode_get_locked(t, ino, &r->source);
	if (err)
		return err;
	err = meta_name_find_locked(m, r->to->ino, r->newname, &ino);
	if (!err)
		err = inode_get_locked(t, ino, &r->target);
	else if (err == -ENOENT && !(r->flags & RENAME_EXCHANGE))
		err = 0;
	if (err)
		return err;
	if (r->source->kind != r->to->kind)
		return -EXDEV;
	if (!r->to->nlink)
		return -ENOENT;
	if (!r->target)
		return 0;
	if (r->flags & RENAME_NOREPLACE)
		return -EEXIST;
	if (r->source == r->target || (r->flags & RENAME_EXCHANGE))
		return 0;
	err = check_removable_locked(r->target, S_ISDIR(r->source->mode));
	return err;
}

/* The entries alone. What has a name before and after keeps its place. */
static int rename_entries_locked(struct rename *r)
{
	int err;

	if (r->target && (r->flags & RENAME_EXCHANGE)) {
		err = point_name_locked(r->to, r->newname, r->source->ino);
		return err ? err : point_name_locked(r->from, r->name, r->target->ino);
	}
	if (r->from == r->to && !r->target)
		return rename_entry_locked(r->from, r->name, r->newname, r->source->ino);
	err = remove_name_locked(r->from, r->name);
	if (err)
		return err;
	return r->target ? replace_name_locked(r->to, r->newname, r->target, r->source)
			 : add_name_locked(r->to, r->newname, r->source->ino);
}

static int apply_rename_locked(struct rename *r)
{
	int err;

	if (r->source == r->target)
		return 0;
	err = rename_entries_locked(r);
	if (!err)
		err = moved_locked(r->source, r->from, r->to);
	if (!err && r->target && (r->flags & RENAME_EXCHANGE))
		err = moved_locked(r->target, r->to, r->from);
	return err;
}

int tree_rename(struct tree *t, uint64_t parent, const char *name, uint64_t newparent, const char *newname,
		unsigned flags, const struct tree_caller *who)
{
	struct meta *m = t->store->meta;
	struct rename r = { .name = name, .newname = newname, .flags = flags };
	int err = check_name(newname);

	if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE))
		return -EINVAL;
	if (!err && views_is(parent) && views_is(newparent))
		return views_rename(t, parent, name, newparent, newname, flags, who);
	if (!err && (views_is(parent) || views_is(newparent)))
		return -EXDEV;
	if (!err)
		err = find_parent(t, parent, &r.from);
	if (!err)
		err = find_parent(t, newparent, &r.to);
	if (!err)
		err = room_need(t, ROOM_NAME_BYTES);
	if (err)
		return err;
	/* What takes another file's name must not be durable before its data: between staging and COMMIT
	 * the data may be newer than what was staged. */
	commit_gate_enter(t->store->commit);
	meta_lock(m);
	err = check_rename_locked(&r);
	if (!err)
		err = apply_rename_locked(&r);
	meta_unlock(m);
	commit_gate_leave(t->store->commit);
	if (!err) {
		inode_touch(r.from, TREE_SET_MTIME | TREE_SET_CTIME);
		inode_touch(r.to, TREE_SET_MTIME | TREE_SET_CTIME);
	}
	if (r.source)
		inode_put(r.source, 1);
	if (r.target)
		inode_put(r.target, 1);
	return err;
}

int tree_readlink(struct tree *t, uint64_t ino, char **out)
{
	struct meta *m = t->store->meta;
	void *target;
	size_t len;
	int err;

	if (special_is(ino) || views_is(ino))
		return -EINVAL;
	if (past_is(ino)) {
		struct inode *i;

		if (inode_find(t, ino, &i) || !S_ISLNK(i->mode))
			return -EINVAL;
		*out = strdup(i->past->target);
		return *out ? 0 : -ENOMEM;
	}
	meta_lock(m);
	err = meta_blob_get_locked(m, ino, META_BLOB_SYMLINK, &target, &len);
	meta_unlock(m);
	if (!err)
		*out = target;
	return err == -ENOENT ? -EINVAL : err;
}

/* Directories. */

struct listing {
	struct tree *tree;
	struct tree_dirent *v;
	size_t n, max;
	uint64_t last; /* the row that the walk ends at */
};

int tree_dir_open(struct tree *t, struct tree_dir **out)
{
	struct tree_dir *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	lock_acquire(&t->lock);
	d->next = t->dirs;
	d->link = &t->dirs;
	if (d->next)
		d->next->link = &d->next;
	t->dirs = d;
	lock_release(&t->lock);
	*out = d;
	return 0;
}

void tree_dir_release(struct tree *t, struct tree_dir *d)
{
	lock_acquire(&t->lock);
	*d->link = d->next;
	if (d->next)
		d->next->link = d->link;
	lock_release(&t->lock);
	past_dir_fini(d);
	free(d);
}

static struct tree_dirent *add_entry(struct listing *l, uint64_t cookie, const char *name)
{
	struct tree_dirent *d = &l->v[l->n++];

	memset(&d->attr, 0, sizeof(d->attr));
	d->cookie = cookie;
	d->counted = false;
	snprintf(d->name, sizeof(d->name), "%s", name);
	return d;
}

static int add_row(void *ctx, uint64_t cookie, const char *name, uint64_t ino)
{
	struct listing *l = ctx;

	if (l->n == l->max || cookie > l->last)
		return 1;
	add_entry(l, COOKIE_ROW + cookie, name)->attr.st.st_ino = ino;
	return 0;
}

/* Fills in the attributes of the rows; without count only their type. */
static int fill_rows_locked(struct listing *l, size_t first, bool count)
{
	for (size_t k = first; k < l->n; k++) {
		struct tree_dirent *d = &l->v[k];
		struct inode *i;
		struct meta_inode row;
		int err;

		if (count) {
			err = inode_get_locked(l->tree, d->attr.st.st_ino, &i);
			if (!err)
				inode_stat(i, &d->attr);
			d->counted = !err;
		} else {
			err = meta_inode_load_locked(l->tree->store->meta, d->attr.st.st_ino, &row);
			if (!err)
				d->attr.st.st_mode = row.mode;
		}
		if (err)
			return err;
	}
	return 0;
}

int tree_dir_last_locked(struct tree *t, struct tree_dir *d, uint64_t *out)
{
	uint64_t last = atomic_load(&d->last);
	int err = last ? 0 : meta_name_last_locked(t->store->meta, &last);

	if (err)
		return err;
	atomic_store(&d->last, last);
	*out = last;
	return 0;
}

static void add_dots(struct listing *l, uint64_t ino, uint64_t parent, uint64_t cookie)
{
	if (cookie < COOKIE_DOT && l->n < l->max) {
		struct tree_dirent *d = add_entry(l, COOKIE_DOT, ".");

		d->attr.st.st_ino = ino;
		d->attr.st.st_mode = S_IFDIR;
	}
	if (cookie < COOKIE_DOTDOT && l->n < l->max) {
		struct tree_dirent *d = add_entry(l, COOKIE_DOTDOT, "..");

		d->attr.st.st_ino = parent;
		d->attr.st.st_mode = S_IFDIR;
	}
}

static int add_specials(struct listing *l, uint64_t ino, uint64_t cookie)
{
	uint64_t after = cookie < COOKIE_SPECIAL ? 0 : cookie - COOKIE_SPECIAL;
	size_t n;
	int err = special_readdir(l->tree, ino, after, l->v + l->n, l->max - l->n, &n);

	for (size_t k = 0; !err && k < n; k++)
		l->v[l->n + k].cookie += COOKIE_SPECIAL;
	if (!err)
		l->n += n;
	return err;
}

static int add_views(struct listing *l, struct tree_dir *d, uint64_t ino, uint64_t cookie)
{
	size_t n;
	int err = views_readdir(l->tree, d, ino, cookie < COOKIE_ROW ? 0 : cookie - COOKIE_ROW, l->v + l->n, l->max - l->n, &n);

	for (size_t k = 0; !err && k < n; k++)
		l->v[l->n + k].cookie += COOKIE_ROW;
	if (!err)
		l->n += n;
	return err;
}

static int add_past(struct listing *l, struct tree_dir *d, uint64_t ino, uint64_t cookie, bool count)
{
	size_t n;
	int err = past_readdir(l->tree, d, ino, cookie < COOKIE_ROW ? 0 : cookie - COOKIE_ROW, count, l->v + l->n,
			       l->max - l->n, &n);

	for (size_t k = 0; !err && k < n; k++)
		l->v[l->n + k].cookie += COOKIE_ROW;
	if (!err)
		l->n += n;
	return err;
}

int tree_dir_read(struct tree *t, struct tree_dir *d, uint64_t ino, uint64_t cookie, bool count, struct tree_dirent *v,
		  size_t max, size_t *n_out)
{
	struct listing l = { .tree = t, .v = v, .max = max };
	struct meta *m = t->store->meta;
	bool special = special_is(ino) || (ino == META_INO_ROOT && t->store->config.follow);
	struct inode *dir = NULL;
	int err = special || past_is(ino) || views_is(ino) ? 0 : inode_find(t, ino, &dir);
	size_t first;

	if (err)
		return err;
	if (!cookie)
		atomic_store(&d->last, 0);
	add_dots(&l, ino, dir ? dir->parent : past_is(ino) ? past_parent(ino) : META_INO_ROOT, cookie);
	if (views_is(ino))
		err = add_views(&l, d, ino, cookie);
	else if (past_is(ino))
		err = add_past(&l, d, ino, cookie, count);
	else if (!dir)
		err = add_specials(&l, ino, cookie);
	else if (ino == META_INO_ROOT && cookie < COOKIE_ROW)
		err = add_specials(&l, ino, cookie);
	first = l.n;
	if (!err && dir) {
		meta_lock(m);
		err = tree_dir_last_locked(t, d, &l.last);
		if (!err)
			err = meta_name_walk_locked(m, ino, cookie < COOKIE_ROW ? 0 : cookie - COOKIE_ROW, add_row, &l);
		if (!err)
			err = fill_rows_locked(&l, first, count && !inode_crowded(t));
		meta_unlock(m);
	}
	if (err) {
		for (size_t k = first; k < l.n; k++) {
			if (l.v[k].counted)
				tree_forget(t, l.v[k].attr.st.st_ino, 1);
		}
		return err;
	}
	*n_out = l.n;
	return 0;
}
