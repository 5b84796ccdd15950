/*
 * Names of the live tree: lookup, making, linking, unlinking and renaming inodes, reading directories.
 *
 * Invariants:
 *  1. Names, link counts and the parent of a directory change together, under the meta lock, in one
 *     transaction (meta_inode_relink_locked with the name rows).
 *  2. A file never leaves its storage class: the class is that of its directory. (A scratch store has none: kind.h.)
 *  3. An entry's cookie is its row number, so that a directory that is read while entries come and go
 *     shows every entry that stays, once.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array/acl.h"
#include "array/setting.h"
#include "store/classes.h"
#include "store/commit.h"
#include "store/layers.h"
#include "store/store.h"
#include "tree/dir.h"
#include "tree/live/kind.h"
#include "tree/live/live.h"
#include "tree/live/privs.h"
#include "tree/live/quota.h"
#include "tree/live/room.h"
#include "tree/live/shelf.h"
#include "tree/xattr.h"
#include "util/err.h"

int live_lookup(struct tree *t, uint64_t parent, const char *name, const struct tree_caller *who, struct tree_attr *out)
{
	struct meta *m = t->store->meta;
	struct inode *i;
	uint64_t ino;
	int err;

	(void)who;
	meta_lock(m);
	err = meta_name_find_locked(m, parent, name, &ino);
	if (!err)
		err = live_get_locked(t, ino, &i);
	meta_unlock(m);
	if (!err)
		inode_stat(i, out);
	return err;
}

/* A directory in which names may be made or removed. */
static int find_parent(struct tree *t, uint64_t ino, struct inode **out)
{
	int err = ino == META_INO_ROOT && !t->store->config.scratch ? -EPERM : inode_find(t, ino, out);

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
	nlink = i->facts.nlink + (uint32_t)delta;
	__atomic_store_n(&i->facts.nlink, nlink, __ATOMIC_RELAXED);
	ctime = i->facts.ctime_ns = inode_stamp_ns(i->tree);
	i->facts.parent = parent;
	lock_release(&i->attr);
	inode_new_version(i);
	/* The log need not know of a file that has lost its last name. */
	if (nlink && i->facts.kind != ARRAY_BUCKET)
		live_mark_changed(i);
	return meta_inode_relink_locked(i->tree->store->meta, i->facts.ino, nlink, parent, ctime);
}

/* Notes in the layers' log what a name stands for. */
static int note_name(struct inode *dir, const char *name, uint64_t ino)
{
	if (!class_is_logged(dir->facts.kind))
		return 0;
	return layers_note_name(dir->tree->store->layers, dir->facts.ino, name, ino, dir->facts.kind == ARRAY_COLUMN);
}

static int add_name_locked(struct inode *dir, const char *name, uint64_t ino)
{
	int err = live_of(dir)->shelf ? -ESTALE : 0; /* it has got one meanwhile */

	if (!err)
		err = meta_name_insert_locked(dir->tree->store->meta, dir->facts.ino, name, ino);
	return err ? err : note_name(dir, name, ino);
}

/* The entry stands for another inode, at the same place in the order of readdir, so that a walk meets it once. */
static int point_name_locked(struct inode *dir, const char *name, uint64_t ino)
{
	int err = meta_name_point_locked(dir->tree->store->meta, dir->facts.ino, name, ino);

	return err ? err : note_name(dir, name, ino);
}

/* The entry is called newname, at the same place. */
static int rename_entry_locked(struct inode *dir, const char *name, const char *newname, uint64_t ino)
{
	int err = meta_name_move_locked(dir->tree->store->meta, dir->facts.ino, name, newname);

	if (!err)
		err = note_name(dir, name, 0);
	return err ? err : note_name(dir, newname, ino);
}

static int remove_name_locked(struct inode *dir, const char *name)
{
	int err = meta_name_delete_locked(dir->tree->store->meta, dir->facts.ino, name);

	return err ? err : note_name(dir, name, 0);
}

/* The defaults that a directory gives to what is made in it. */
#define INHERIT_MAX 16
struct inherit {
	char *name[INHERIT_MAX];
	void *value[INHERIT_MAX];
	size_t len[INHERIT_MAX], n;
	mode_t mode; /* of what is made */
	bool any;  /* attribute, be it a default or not */
	void *acl; /* the default ACL; NULL: none */
	size_t acl_len;
};

/* Rows come by name: what the directory was given itself follows, and replaces, what it had inherited. */
static int collect_default(void *ctx, const char *name, const void *value, size_t len)
{
	const char *inherited = setting_inherited_name(name);
	struct inherit *h = ctx;

	h->any = true;
	if (!strcmp(name, ACL_DEFAULT)) {
		h->acl = malloc(len + 1);
		h->acl_len = len;
		return h->acl ? (memcpy(h->acl, value, len), 0) : -ENOMEM;
	}
	if (!xattr_suits(h->mode, "user.") || (strncmp(name, "user.spillfs.", 13) && !setting_is_inherited(name)) || h->n == INHERIT_MAX || (!S_ISDIR(h->mode) && xattr_is_read_only(name)) ||
	    setting_is_of_directory(name))
		return 0;
	h->name[h->n] = strdup(inherited ? inherited : name);
	h->value[h->n] = malloc(len + 1);
	if (!h->name[h->n] || !h->value[h->n])
		return -ENOMEM;
	memcpy(h->value[h->n], value, len);
	h->len[h->n++] = len;
	return 0;
}

static void inherit_fini(struct inherit *h)
{
	for (size_t k = 0; k < INHERIT_MAX && h->name[k]; k++) {
		free(h->name[k]);
		free(h->value[k]);
	}
	free(h->acl);
}

static int collect_defaults_locked(struct inode *parent, mode_t mode, struct inherit *out)
{
	int err;

	*out = (struct inherit){ .mode = mode };
	if (!atomic_load(&live_of(parent)->has_xattrs))
		return 0;
	err = meta_xattr_walk_locked(parent->tree->store->meta, parent->facts.ino, collect_default, out);
	if (!err && out->acl && acl_check(out->acl, out->acl_len))
		err = -EIO;
	if (err)
		inherit_fini(out);
	else if (!out->any)
		atomic_store(&live_of(parent)->has_xattrs, 0);
	return err;
}

static int set_acls_locked(struct meta *m, const struct facts *row, const struct inherit *h, void *access, bool *any)
{
	int err = access ? meta_xattr_set_locked(m, row->ino, ACL_ACCESS, access, h->acl_len) : 0;

	if (!err && S_ISDIR(row->mode))
		err = meta_xattr_set_locked(m, row->ino, ACL_DEFAULT, h->acl, h->acl_len);
	*any |= access || S_ISDIR(row->mode);
	return err;
}

/* The mode of the row becomes what the default ACL, or else the umask, leaves of it. */
static int store_row_locked(struct inode *parent, struct facts *row, mode_t umask, const struct inherit *h, bool *any)
{
	struct meta *m = parent->tree->store->meta;
	bool has_acl = h->acl && !S_ISLNK(row->mode), extended = false;
	void *access = has_acl ? malloc(h->acl_len) : NULL;
	mode_t mode = row->mode;
	int err = has_acl && !access ? -ENOMEM : 0;

	if (access)
		extended = acl_begin(memcpy(access, h->acl, h->acl_len), h->acl_len, &mode);
	else if (!S_ISLNK(mode))
		mode &= ~(umask & 0777);
	row->mode = mode;
	if (!err)
		err = meta_inode_store_locked(m, row);
	if (!err && has_acl)
		err = set_acls_locked(m, row, h, extended ? access : NULL, any);
	free(access);
	return err;
}

/* Stores the row of an inode that is made in parent, with the attributes that it is given there. *any: there are some. own: its access
 * ACL and its mode are what they are; NULL: they are the directory's business. */
static int inherit_locked(struct inode *parent, struct facts *row, mode_t umask, const struct acl *own, bool *any)
{
	struct meta *m = parent->tree->store->meta;
	struct inherit h;
	int err = collect_defaults_locked(parent, row->mode, &h);

	if (err)
		return err;
	if (own) {
		free(h.acl);
		h.acl = NULL;
	}
	*any = h.n || (own && own->v);
	err = store_row_locked(parent, row, own ? 0 : umask, &h, any);
	if (!err && own && own->v)
		err = meta_xattr_set_locked(m, row->ino, ACL_ACCESS, own->v, own->len);
	for (size_t k = 0; k < h.n && !err; k++)
		err = meta_xattr_set_locked(m, row->ino, h.name[k], h.value[k], h.len[k]);
	inherit_fini(&h);
	return err;
}

static int make_locked(struct inode *parent, const struct realm_new *what, struct facts *row, struct inode **out)
{
	struct tree *t = parent->tree;
	struct meta *m = t->store->meta;
	uint64_t there;
	bool any;
	int err = meta_name_find_locked(m, parent->facts.ino, what->name, &there);

	if (err != -ENOENT)
		return err ? err : -EEXIST;
	if (!parent->facts.nlink)
		return -ENOENT;
	if (live_of(parent)->shelf)
		return -ESTALE;
	err = kind_of_new_locked(parent, what->name, row);
	if (!err)
		err = inherit_locked(parent, row, what->who->umask, NULL, &any);
	if (!err && what->target)
		err = meta_blob_set_locked(m, row->ino, META_BLOB_SYMLINK, what->target, strlen(what->target));
	if (!err)
		err = add_name_locked(parent, what->name, row->ino);
	if (!err && S_ISDIR(row->mode))
		err = relink_locked(parent, 1, parent->facts.parent);
	if (!err)
		err = live_add_locked(t, row, out);
	if (!err)
		atomic_store(&live_of(*out)->has_xattrs, any ? 1 : 0);
	return err;
}

int live_make(struct tree *t, uint64_t parent_ino, const struct realm_new *what, struct tree_attr *out)
{
	struct meta *m = t->store->meta;
	mode_t mode = what->mode;
	struct facts row = { .mode = mode, .nlink = S_ISDIR(mode) ? 2 : 1, .uid = what->who->uid, .gid = what->who->gid,
			     .rdev = what->rdev };
	struct inode *parent, *i;
	int err = find_parent(t, parent_ino, &parent);

	if (!err)
		err = room_need(t, ROOM_NAME_BYTES);
	if (err)
		return err;
	lock_acquire(&parent->attr);
	if (inode_mode(parent) & S_ISGID) {
		row.gid = parent->facts.gid;
		if (S_ISDIR(mode))
			row.mode |= S_ISGID;
	}
	lock_release(&parent->attr);
	row.atime_ns = row.mtime_ns = row.ctime_ns = row.btime_ns = inode_stamp_ns(t);
	if (S_ISDIR(mode))
		row.parent = parent_ino;
	if (what->target)
		row.size_bytes = strlen(what->target);
	live_log_enter(parent);
	meta_lock(m);
	meta_inode_next_locked(m, &row.ino);
	err = make_locked(parent, what, &row, &i);
	meta_unlock(m);
	if (!err && i->facts.kind != ARRAY_BUCKET)
		live_mark_changed(i);
	live_log_leave(parent);
	if (err)
		return err;
	live_touch(parent, TREE_SET_MTIME | TREE_SET_CTIME);
	inode_stat(i, out);
	return 0;
}

int live_link(struct tree *t, uint64_t ino, uint64_t parent_ino, const char *name, struct tree_attr *out)
{
	struct meta *m = t->store->meta;
	struct inode *i, *parent;
	uint64_t there;
	int err = find_parent(t, parent_ino, &parent);

	if (!err)
		err = inode_find(t, ino, &i);
	if (!err && S_ISDIR(inode_mode(i)))
		err = -EPERM;
	if (!err && !kind_fits(i, parent))
		err = -EXDEV;
	if (!err)
		err = room_need(t, ROOM_NAME_BYTES);
	if (err)
		return err;
	live_log_enter(parent);
	meta_lock(m);
	err = meta_name_find_locked(m, parent_ino, name, &there);
	err = err == -ENOENT ? 0 : err ? err : -EEXIST;
	if (!err && (!i->facts.nlink || !parent->facts.nlink))
		err = -ENOENT;
	if (!err && i->facts.nlink >= 65000)
		err = -EMLINK;
	if (!err)
		err = quota_link_locked(i, parent);
	if (!err)
		err = add_name_locked(parent, name, ino);
	if (!err)
		err = relink_locked(i, 1, 0);
	meta_unlock(m);
	live_log_leave(parent);
	if (err)
		return err;
	inode_ref(i);
	live_mark_changed(i);
	live_touch(parent, TREE_SET_MTIME | TREE_SET_CTIME);
	inode_stat(i, out);
	return 0;
}

/* The inode has one name less in parent; a directory its last. */
static int unlinked_locked(struct inode *parent, struct inode *i)
{
	int err = relink_locked(i, S_ISDIR(inode_mode(i)) ? -2 : -1, i->facts.parent);

	leaving_expect(i);
	if (!err && S_ISDIR(inode_mode(i)))
		err = relink_locked(parent, -1, parent->facts.parent);
	return err;
}

static int drop_name_locked(struct inode *parent, const char *name, struct inode *i)
{
	int err = remove_name_locked(parent, name);

	return err ? err : unlinked_locked(parent, i);
}

int live_detach_locked(struct inode *dir, const char *name, struct inode *i)
{
	bool is_dir = S_ISDIR(inode_mode(i));
	int err = remove_name_locked(dir, name);

	if (!err)
		err = relink_locked(i, is_dir ? -(int)i->facts.nlink : -1, i->facts.parent);
	leaving_expect(i);
	if (!err && is_dir && dir->facts.nlink)
		err = relink_locked(dir, -1, dir->facts.parent);
	return err;
}

/* The name of old is i's from now on. */
static int replace_name_locked(struct inode *parent, const char *name, struct inode *old, struct inode *i)
{
	int err = unlinked_locked(parent, old);

	return err ? err : point_name_locked(parent, name, i->facts.ino);
}

static int check_removable_locked(struct inode *i, bool dir)
{
	bool empty;
	int err;

	if (!dir)
		return S_ISDIR(inode_mode(i)) ? -EISDIR : 0;
	if (!S_ISDIR(inode_mode(i)))
		return -ENOTDIR;
	err = meta_name_empty_locked(i->tree->store->meta, i->facts.ino, &empty);
	if (!err && !empty)
		err = -ENOTEMPTY;
	return err ? err : shelf_close_locked(i);
}

/* A directory that was detached with what was in it has nothing that could be taken out of it. */
static int find_entry_locked(struct inode *dir, const char *name, uint64_t *ino_out)
{
	return dir->facts.nlink ? meta_name_find_locked(dir->tree->store->meta, dir->facts.ino, name, ino_out) : -ENOENT;
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
	live_log_enter(parent);
	meta_lock(m);
	err = find_entry_locked(parent, name, &ino);
	if (!err)
		err = live_get_locked(t, ino, &i);
	if (!err)
		err = check_removable_locked(i, dir);
	if (!err)
		err = drop_name_locked(parent, name, i);
	if (!err)
		quota_rehome_locked(i);
	meta_unlock(m);
	live_log_leave(parent);
	if (!err)
		live_touch(parent, TREE_SET_MTIME | TREE_SET_CTIME);
	if (i) {
		shelf_settle(i);
		inode_put(i, 1);
	}
	return err;
}

/* A present directory's inode, with one more reference. */
static int get_dir(struct tree *t, uint64_t ino, struct inode **out)
{
	struct meta *m = t->store->meta;
	int err;

	meta_lock(m);
	err = live_get_locked(t, ino, out);
	meta_unlock(m);
	return err;
}

int live_make_nameless(struct tree *t, uint64_t parent_ino, const struct tree_caller *who, mode_t mode, const struct acl *own,
		       struct inode **out)
{
	struct meta *m = t->store->meta;
	struct facts row = { .mode = mode, .uid = who->uid, .gid = who->gid };
	struct inode *parent;
	bool any = false;
	int err = room_need(t, ROOM_NAME_BYTES);

	if (!err)
		err = get_dir(t, parent_ino, &parent);
	if (err)
		return err;
	lock_acquire(&parent->attr);
	if (inode_mode(parent) & S_ISGID)
		row.gid = parent->facts.gid;
	lock_release(&parent->attr);
	row.atime_ns = row.mtime_ns = row.ctime_ns = row.btime_ns = inode_stamp_ns(t);
	meta_lock(m);
	meta_inode_next_locked(m, &row.ino);
	row.nlink = 1; /* so many, until it is complete */
	err = kind_of_new_locked(parent, NULL, &row);
	if (!err)
		err = inherit_locked(parent, &row, who->umask, own, &any);
	if (!err)
		err = live_add_locked(t, &row, out);
	if (!err) {
		atomic_store(&live_of(*out)->has_xattrs, any ? 1 : 0);
		quota_enter_dir_locked(*out, parent);
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
	return S_ISREG(inode_mode(there)) && (!who->uid || who->uid == there->facts.uid ||
					(there->facts.uid == i->facts.uid && there->facts.gid == i->facts.gid && inode_mode(there) == inode_mode(i)));
}

static int publish_locked(struct inode *parent, const char *name, struct inode *i, uint64_t old,
			  const struct tree_caller *who, struct inode **old_out)
{
	struct meta *m = parent->tree->store->meta;
	uint64_t ino;
	int err = meta_name_find_locked(m, parent->facts.ino, name, &ino);

	if (!err)
		err = live_get_locked(parent->tree, ino, old_out);
	else if (err == -ENOENT)
		err = parent->facts.nlink ? 0 : -ENOENT;
	if (!err && *old_out && ino != old && !may_replace(*old_out, i, who))
		err = -EEXIST;
	if (!err && !*old_out && old && !privs_may_locked(parent, who, S_IWUSR | S_IXUSR))
		err = -EACCES;
	if (!err)
		err = *old_out ? replace_name_locked(parent, name, *old_out, i) : add_name_locked(parent, name, i->facts.ino);
	if (!err)
		err = relink_locked(i, 1, 0);
	if (!err)
		quota_rehome_locked(i);
	if (!err && *old_out)
		quota_rehome_locked(*old_out);
	return err;
}

int live_publish(struct tree *t, uint64_t parent_ino, const char *name, struct inode *i, uint64_t old_ino,
		 const struct tree_caller *who)
{
	struct inode *parent, *old = NULL;
	int err = get_dir(t, parent_ino, &parent);

	if (err)
		return err;
	/* As a rename: a file that takes another's name must not be durable before its data. */
	commit_gate_enter(t->store->commit);
	meta_lock(t->store->meta);
	err = publish_locked(parent, name, i, old_ino, who, &old);
	meta_unlock(t->store->meta);
	commit_gate_leave(t->store->commit);
	if (!err)
		live_touch(parent, TREE_SET_MTIME | TREE_SET_CTIME);
	if (old)
		inode_put(old, 1);
	inode_put(parent, 1);
	return err;
}

int live_unlink(struct tree *t, uint64_t parent, const char *name, const struct tree_caller *who)
{
	(void)who;
	return remove_name(t, parent, name, false);
}

int live_rmdir(struct tree *t, uint64_t parent, const char *name)
{
	return remove_name(t, parent, name, true);
}

/* One half of a rename: a name of i has moved from directory `from` to directory `to`. */
static int moved_locked(struct inode *i, struct inode *from, struct inode *to)
{
	int err = relink_locked(i, 0, S_ISDIR(inode_mode(i)) ? to->facts.ino : i->facts.parent);

	if (!err && S_ISDIR(inode_mode(i)) && from != to) {
		err = relink_locked(from, -1, from->facts.parent);
		if (!err)
			err = relink_locked(to, 1, to->facts.parent);
	}
	return err;
}

struct rename {
	struct inode *from, *to, *source, *target;
	const char *name, *newname;
	unsigned flags;
	bool refused; /* by a quota, and nothing is changed */
};

static int check_rename_locked(struct rename *r)
{
	struct tree *t = r->from->tree;
	struct meta *m = t->store->meta;
	uint64_t ino;
	int err = find_entry_locked(r->from, r->name, &ino);

	if (!err)
		err = live_get_locked(t, ino, &r->source);
	if (err)
		return err;
	err = meta_name_find_locked(m, r->to->facts.ino, r->newname, &ino);
	if (!err)
		err = live_get_locked(t, ino, &r->target);
	else if (err == -ENOENT && !(r->flags & RENAME_EXCHANGE))
		err = 0;
	if (err)
		return err;
	if (!kind_fits(r->source, r->to))
		return -EXDEV;
	if (!r->to->facts.nlink)
		return -ENOENT;
	if (live_of(r->to)->shelf) /* it has got one since it was found: nothing is changed yet */
		return -ESTALE;
	if (!r->target)
		return 0;
	if (r->flags & RENAME_NOREPLACE)
		return -EEXIST;
	if (r->source == r->target || (r->flags & RENAME_EXCHANGE))
		return 0;
	err = check_removable_locked(r->target, S_ISDIR(inode_mode(r->source)));
	return err;
}

/* The entries alone. A name that is there before and after keeps its place. */
static int rename_entries_locked(struct rename *r)
{
	int err;

	if (r->target && (r->flags & RENAME_EXCHANGE)) {
		err = point_name_locked(r->to, r->newname, r->source->facts.ino);
		return err ? err : point_name_locked(r->from, r->name, r->target->facts.ino);
	}
	if (r->from == r->to && !r->target)
		return rename_entry_locked(r->from, r->name, r->newname, r->source->facts.ino);
	err = remove_name_locked(r->from, r->name);
	if (err)
		return err;
	return r->target ? replace_name_locked(r->to, r->newname, r->target, r->source)
			 : add_name_locked(r->to, r->newname, r->source->facts.ino);
}

/* Each counts where its name goes, or the rename is refused. */
static int move_quotas_locked(struct rename *r)
{
	int err = quota_move_locked(r->source, r->to);

	if (!err && (r->flags & RENAME_EXCHANGE))
		err = quota_move_locked(r->target, r->from);
	return err;
}

static int apply_rename_locked(struct rename *r)
{
	int err;

	if (r->source == r->target)
		return 0;
	err = move_quotas_locked(r);
	r->refused = err;
	if (!err)
		err = rename_entries_locked(r);
	if (!err)
		err = moved_locked(r->source, r->from, r->to);
	if (!err && r->target && (r->flags & RENAME_EXCHANGE))
		err = moved_locked(r->target, r->to, r->from);
	return err;
}

static int rename_once(struct rename *r)
{
	struct tree *t = r->from->tree;
	struct meta *m = t->store->meta;
	int err;

	r->source = r->target = NULL;
	r->refused = false;
	/* A file that takes another's name must not be durable before its data: between staging and COMMIT
	 * the data may be newer than what was staged. */
	commit_gate_enter(t->store->commit);
	meta_lock(m);
	err = check_rename_locked(r);
	if (!err)
		err = apply_rename_locked(r);
	/* Each counts where its oldest name is, also where nothing was moved. */
	if (r->source)
		quota_rehome_locked(r->source);
	if (r->target)
		quota_rehome_locked(r->target);
	meta_unlock(m);
	commit_gate_leave(t->store->commit);
	if (!err) {
		live_touch(r->from, TREE_SET_MTIME | TREE_SET_CTIME);
		live_touch(r->to, TREE_SET_MTIME | TREE_SET_CTIME);
	}
	if (r->source)
		inode_put(r->source, 1);
	if (r->target) {
		shelf_settle(r->target);
		inode_put(r->target, 1);
	}
	return err;
}

int live_rename(struct tree *t, uint64_t parent, const char *name, uint64_t newparent, const char *newname, unsigned flags,
		const struct tree_caller *who)
{
	struct rename r = { .name = name, .newname = newname, .flags = flags };
	struct room_wait wait = { 0 };
	int err = find_parent(t, parent, &r.from);

	(void)who;
	if (!err)
		err = find_parent(t, newparent, &r.to);
	if (!err)
		err = room_need(t, ROOM_NAME_BYTES);
	if (err)
		return err;
	/* Blocks that a file has given up count until the next commit. */
	do
		err = rename_once(&r);
	while (r.refused && err_is_full(err) && !(err = room_wait(t, err, &wait)));
	return err;
}

int live_readlink(struct tree *t, uint64_t ino, char **out)
{
	struct meta *m = t->store->meta;
	void *target;
	size_t len;
	int err;

	meta_lock(m);
	err = meta_blob_get_locked(m, ino, META_BLOB_SYMLINK, &target, &len);
	meta_unlock(m);
	if (!err)
		*out = target;
	return err == -ENOENT ? -EINVAL : err;
}

/* Directories. */

struct rows {
	struct tree_listing *to;
	uint64_t last; /* the row that the walk ends at */
};

static int add_row(void *ctx, uint64_t cookie, const char *name, uint64_t ino)
{
	struct rows *r = ctx;
	struct tree_dirent *d = cookie > r->last ? NULL : dir_add(r->to, cookie, name);

	if (!d)
		return 1;
	d->attr.st.st_ino = ino;
	return 0;
}

/* Fills in the attributes of the rows; without count only their type. */
static int fill_rows_locked(struct tree_listing *l, size_t first, bool count)
{
	for (size_t k = first; k < l->n; k++) {
		struct tree_dirent *d = &l->v[k];
		struct inode *i;
		struct facts row;
		int err;

		if (count) {
			err = live_get_locked(l->tree, d->attr.st.st_ino, &i);
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

int live_readdir(struct tree *t, uint64_t ino, uint64_t cookie, struct tree_listing *to)
{
	struct meta *m = t->store->meta;
	struct rows rows = { .to = to };
	size_t first = to->n;
	int err;

	meta_lock(m);
	err = dir_last_locked(t, to->dir, &rows.last);
	if (!err)
		err = meta_name_walk_locked(m, ino, cookie, add_row, &rows);
	if (!err)
		err = fill_rows_locked(to, first, to->count && !live_is_crowded(t));
	meta_unlock(m);
	return err;
}

int live_parent(struct tree *t, uint64_t ino, uint64_t *out)
{
	struct inode *dir;
	int err = inode_find(t, ino, &dir);

	if (!err)
		*out = dir->facts.parent;
	return err;
}
