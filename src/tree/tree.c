/*
 * The tree as front/ sees it: each operation goes to the world that the inode number belongs to.
 *
 * Invariants:
 *  1. A change that a world has not is refused as the world says; a follower refuses all with -EROFS.
 *  2. The names of a directory that is declared scratch are those of its shelf: only here, and where views take a directory as their
 *     source, is one taken for the other.
 *  3. Cookies of listings: "." and "..", the root's control entries, then those of the directory's own world.
 */
#include "tree/tree.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "array/acl.h"
#include "array/arrays.h"
#include "spillfs.h"
#include "store/commit.h"
#include "store/disks.h"
#include "store/layers.h"
#include "store/store.h"
#include "tree/control/control.h"
#include "tree/dir.h"
#include "tree/inode.h"
#include "tree/live/live.h"
#include "tree/live/passthrough.h"
#include "tree/live/quota.h"
#include "tree/live/room.h"
#include "tree/live/shelf.h"
#include "tree/past/past.h"
#include "tree/realm.h"
#include "tree/scratch/lifetime.h"
#include "tree/scratch/scratch.h"
#include "tree/views/upload.h"
#include "tree/views/views.h"
#include "util/clock.h"
#include "util/cred.h"
#include "util/plant.h"

static const struct realm_ops *const worlds[REALM_N] = {
	[REALM_LIVE] = &live_realm,
	[REALM_SCRATCH] = &scratch_realm,
	[REALM_PAST] = &past_realm,
	[REALM_VIEWS] = &views_realm,
	[REALM_CONTROL] = &control_realm,
};

/* Opening and closing: the fixed directories, the caches, the commit thread's hooks. */

static int make_roots(struct tree *t)
{
	int err;

	meta_lock(t->store->meta);
	err = t->store->config.scratch ? meta_scratch_root_locked(t->store->meta) : meta_roots_locked(t->store->meta);
	meta_unlock(t->store->meta);
	return err;
}

/* The root and the class directories are always known: the kernel does not look up the root. */
static int hold_root(struct tree *t)
{
	struct inode *root;
	int err;

	meta_lock(t->store->meta);
	err = live_get_locked(t, t->store->config.above + META_INO_ROOT, &root);
	meta_unlock(t->store->meta);
	return err;
}

/* shared: the quotas of the tree beside it; NULL: it has its own. */
static int open_tree(struct store *s, struct quotas *shared, struct tree **out)
{
	struct tree *t = calloc(1, sizeof(*t));
	int err;

	if (!t)
		return -ENOMEM;
	t->store = s;
	memcpy(t->realms, worlds, sizeof(worlds));
	t->mount_ns = clock_now_ns();
	t->nbuckets = 1024;
	t->dirty_tail = &t->dirty_head;
	t->leaving_tail = &t->leaving;
	lock_init(&t->lock, RANK_ICACHE);
	lock_cond_init(&t->left);
	t->table = calloc(t->nbuckets, sizeof(*t->table));
	err = t->table ? arrays_new(s, &t->arrays) : -ENOMEM;
	if (!err)
		err = past_open(t);
	t->quotas = shared;
	t->shares_quotas = shared;
	if (!err && !shared)
		err = quotas_new(s->config.size_bytes, &t->quotas);
	if (!err && s->config.follow) {
		*out = t;
		return 0;
	}
	if (!err)
		err = make_roots(t);
	if (!err)
		err = quotas_load(t);
	if (!err)
		err = hold_root(t);
	if (!err)
		err = live_delete_orphans(t);
	if (!err)
		err = cut_resume(t);
	if (!err)
		err = live_relog(t);
	if (!err)
		err = commit_start(s->commit, &live_commit_hooks, t);
	/* The fixed directories of a new store are there even if it is killed at once. */
	if (!err)
		err = commit_wait(s->commit, COMMIT_SYNC);
	if (err) {
		tree_close(t);
		return err;
	}
	*out = t;
	return 0;
}

int tree_open(struct store *s, struct tree **out)
{
	return open_tree(s, NULL, out);
}

int tree_add_scratch(struct tree *t, struct store *s)
{
	int err = open_tree(s, t->quotas, &t->scratch);

	if (err)
		return err;
	t->scratch->beside = t;
	return shelves_load(t);
}

void tree_close(struct tree *t)
{
	lifetimes_stop(t);
	if (t->scratch) /* a directory that ends there touches the one here that shows it */
		lifetimes_stop(t->scratch);
	dir_release_all(t);
	upload_drop_all(t);
	through_end_all(t);
	if (t->store->config.follow) {
		if (t->past)
			past_close(t);
		inode_forget_all(t);
	} else if (t->table && t->arrays) {
		commit_quiesce(t->store->commit);
		inode_forget_all(t);
		/* No inode is in memory after this: the commit lets go of the dirty ones, and deletes those without a name. */
		commit_stop(t->store->commit);
		live_abandon_dirty(t);
	}
	if (t->past)
		past_close(t); /* commits let go of states */
	if (t->scratch)
		tree_close(t->scratch); /* views have let go of its arrays */
	if (t->arrays)
		arrays_free(t->arrays);
	if (!t->shares_quotas)
		quotas_free(t->quotas);
	free(t->table);
	pthread_cond_destroy(&t->left);
	lock_fini(&t->lock);
	free(t);
}

int tree_sync(struct tree *t)
{
	struct room_wait wait = { 0 };
	int err;

	if (t->store->config.follow || t->store->config.scratch)
		return 0;
	do {
		err = commit_wait(t->store->commit, COMMIT_SYNC);
		if (!err && PLANTED(PLANT_SCRATCH_FSYNC) && t->scratch)
			err = commit_wait(t->scratch->store->commit, COMMIT_SYNC);
		if (!err)
			return 0;
		err = room_wait(t, err, &wait);
	} while (!err);
	return err;
}

int tree_sync_of(struct tree *t, uint64_t ino)
{
	return tree_sync(realm_tree(t, ino));
}

int tree_commit(struct tree *t, uint64_t *newest_layer_out, bool *sealed_out)
{
	uint64_t before = layers_newest_sealed(t->store->layers), after;
	int err;

	if (t->store->config.follow)
		return -EROFS;
	err = commit_wait(t->store->commit, COMMIT_SEAL);
	if (err)
		return err;
	after = layers_newest_sealed(t->store->layers);
	*newest_layer_out = after;
	*sealed_out = after != before;
	return 0;
}

void tree_info(struct tree *t, struct spillfs_info *out)
{
	struct store *s = t->store;

	*out = (struct spillfs_info){
		.pid = (uint64_t)getpid(),
		.commit = s->commit ? commit_number(s->commit) : 0,
		.newest_layer = layers_newest_sealed(s->layers),
		.format = s->format,
	};
}

int tree_compact(struct tree *t, bool start, struct spillfs_compact *out)
{
	struct commit_compaction c;
	struct layers_totals totals;

	if (!t->store->commit)
		return -EROFS;
	commit_compact(t->store->commit, start, &c);
	layers_totals(t->store->layers, &totals);
	*out = (struct spillfs_compact){
		.start = start, .running = c.running, .done_bytes = c.done_bytes, .total_bytes = c.total_bytes, .finished = c.finished,
		.error = c.error, .layers = totals.nlayers, .bytes = totals.bytes,
	};
	return 0;
}

int tree_drain(struct tree *t, const struct spillfs_drain *in, struct spillfs_drain *out)
{
	unsigned number = (unsigned)in->directory;
	struct disks_drain d;
	int err = in->directory > UINT32_MAX ? -ENOENT : in->start ? disks_drain_start(t->store, number) : 0;

	if (!err)
		err = disks_drain_look(t->store, number, &d);
	if (!err)
		*out = (struct spillfs_drain){ .directory = number, .running = d.running, .done = d.done, .files = d.files,
					       .moved_bytes = d.moved_bytes, .error = d.err };
	return err;
}

int tree_lend_store(struct tree *t, int (*use)(void *ctx, int fd), void *ctx)
{
	return io_lend(t->store->lock, use, ctx);
}

void tree_sizes_stick(struct tree *t)
{
	t->sizes_stick = true;
	if (t->scratch)
		tree_sizes_stick(t->scratch);
}

void tree_keep_acls(struct tree *t)
{
	t->acls = true;
	if (t->scratch)
		tree_keep_acls(t->scratch);
}

#define STATFS_UNIT 4096u
/* With less than this part of it left, what was deleted a moment ago counts. */
#define STATFS_SHORT_PART 4u

static int space_of(struct tree *t, uint64_t ino, uint64_t *total, uint64_t *left, uint64_t *avail)
{
	int err = store_space(t->store, total, left, avail);

	if (!err)
		quota_space(t, ino, total, left, avail);
	return err;
}

int tree_statfs(struct tree *t, uint64_t ino, struct statvfs *out)
{
	struct store *s;
	uint64_t total, left, avail, inodes = 0;
	int err;

	ino = live_shelf_of(t, ino);
	t = realm_tree(t, ino);
	s = t->store;
	err = space_of(t, ino, &total, &left, &avail);
	if (!err && avail < total / STATFS_SHORT_PART && room_settle(t))
		err = space_of(t, ino, &total, &left, &avail);
	if (!err && s->meta) {
		meta_lock(s->meta);
		err = meta_inode_count_locked(s->meta, &inodes);
		meta_unlock(s->meta);
	}
	if (err)
		return err;
	memset(out, 0, sizeof(*out));
	/* Clients multiply by either: both are the same unit. */
	out->f_bsize = out->f_frsize = STATFS_UNIT;
	out->f_blocks = total / STATFS_UNIT;
	out->f_bfree = left / STATFS_UNIT;
	out->f_bavail = avail / STATFS_UNIT;
	/* Inodes are rows: as many as there is space for. */
	out->f_files = inodes + avail / 512;
	out->f_ffree = out->f_favail = avail / 512;
	out->f_namemax = META_NAME_MAX;
	return 0;
}

/* Changes. */

/* May the world's operation be called? */
static int may_change(const struct tree *t, const struct realm_ops *r, bool has)
{
	if (t->store->config.follow)
		return -EROFS;
	return has ? 0 : r->refusal;
}

static int check_name(const char *name)
{
	size_t len = strlen(name);

	return len > META_NAME_MAX ? -ENAMETOOLONG : len ? 0 : -ENOENT;
}

/* Names. */

bool tree_names_settled(struct tree *t, uint64_t parent)
{
	return (parent != META_INO_ROOT || t->store->config.scratch) && realm_of(t, parent)->names_settled;
}

bool tree_takes_snapshots(uint64_t dir)
{
	return dir == CONTROL_SNAPSHOTS;
}

int tree_lookup(struct tree *t, uint64_t parent, const char *name, const struct tree_caller *who, struct tree_attr *out)
{
	int err = check_name(name);

	if (err)
		return err;
	parent = live_shelf_of(t, parent);
	if (parent == META_INO_ROOT) {
		err = control_realm.lookup(t, parent, name, who, out);
		if (err != -ENOENT || realm_of(t, parent) == &control_realm)
			return err;
	}
	return realm_of(t, parent)->lookup(t, parent, name, who, out);
}

void tree_forget(struct tree *t, uint64_t ino, uint64_t nlookup)
{
	struct inode *i;

	if (inode_find(t, ino, &i))
		return;
	if (i->realm->forgetting)
		i->realm->forgetting(i);
	inode_put(i, nlookup);
}

int tree_make(struct tree *t, uint64_t parent, const char *name, mode_t mode, dev_t rdev, const char *target,
	      const struct tree_caller *who, struct tree_attr *out)
{
	uint64_t dir = live_shelf_of(t, parent);
	const struct realm_ops *r = realm_of(t, dir);
	int err = check_name(name);

	if (!err)
		err = may_change(t, r, r->make);
	return err ? err : r->make(t, dir, &(struct realm_new){ name, mode, rdev, target, who }, out);
}

int tree_create(struct tree *t, uint64_t parent, const char *name, mode_t mode, const struct tree_caller *who,
		struct tree_attr *out)
{
	uint64_t dir = live_shelf_of(t, parent);
	const struct realm_ops *r = realm_of(t, dir);
	int err = check_name(name);

	if (!err)
		err = may_change(t, r, r->create || r->make);
	if (err)
		return err;
	return (r->create ? r->create : r->make)(t, dir, &(struct realm_new){ name, S_IFREG | mode, 0, NULL, who }, out);
}

/* Between worlds, as between file systems. */
int tree_link(struct tree *t, uint64_t ino, uint64_t parent, const char *name, struct tree_attr *out)
{
	uint64_t dir = live_shelf_of(t, parent);
	const struct realm_ops *r = realm_of(t, dir);
	int err = check_name(name);

	if (!err)
		err = may_change(t, r, r->link);
	if (!err && realm_of(t, ino) != r)
		err = -EXDEV;
	return err ? err : r->link(t, ino, dir, name, out);
}

int tree_unlink(struct tree *t, uint64_t parent, const char *name, const struct tree_caller *who)
{
	uint64_t dir = live_shelf_of(t, parent);
	const struct realm_ops *r = realm_of(t, dir);
	int err = may_change(t, r, r->unlink);

	return err ? err : r->unlink(t, dir, name, who);
}

int tree_rmdir(struct tree *t, uint64_t parent, const char *name)
{
	uint64_t dir = live_shelf_of(t, parent);
	const struct realm_ops *r = realm_of(t, dir);
	int err = may_change(t, r, r->rmdir);

	return err ? err : r->rmdir(t, dir, name);
}

int tree_rename(struct tree *t, uint64_t parent, const char *name, uint64_t newparent, const char *newname,
		unsigned flags, const struct tree_caller *who)
{
	uint64_t dir = live_shelf_of(t, parent), newdir = live_shelf_of(t, newparent);
	const struct realm_ops *r = realm_of(t, dir), *to = realm_of(t, newdir);
	int err = check_name(newname);

	if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE))
		return -EINVAL;
	if (!err)
		err = may_change(t, r, r->rename);
	if (!err)
		err = may_change(t, to, to->rename);
	if (!err && r != to)
		err = -EXDEV;
	return err ? err : r->rename(t, dir, name, newdir, newname, flags, who);
}

int tree_readlink(struct tree *t, uint64_t ino, char **out)
{
	const struct realm_ops *r = realm_of(t, ino);

	return r->readlink ? r->readlink(t, ino, out) : -EINVAL;
}

/* Directories. */

#define COOKIE_DOT 1u
#define COOKIE_DOTDOT 2u
#define COOKIE_CONTROL 16u /* in the root of the live tree */
#define COOKIE_OWN 64u

static void add_dot(struct tree_listing *l, uint64_t cookie, const char *name, uint64_t ino)
{
	struct tree_dirent *d = dir_add(l, cookie, name);

	if (!d)
		return;
	d->attr.st.st_ino = ino;
	d->attr.st.st_mode = S_IFDIR;
}

static int add_dots(struct tree_listing *l, uint64_t ino, uint64_t cookie)
{
	const struct realm_ops *r = realm_of(l->tree, ino);
	uint64_t parent = META_INO_ROOT;
	int err = r->parent ? r->parent(l->tree, ino, &parent) : 0;

	if (err)
		return err;
	if (cookie < COOKIE_DOT)
		add_dot(l, COOKIE_DOT, ".", ino);
	if (cookie < COOKIE_DOTDOT)
		add_dot(l, COOKIE_DOTDOT, "..", live_shown_of(l->tree, parent));
	return 0;
}

/* The entries of a world, whose cookies stand behind `base`. */
static int add_of(struct tree_listing *l, const struct realm_ops *r, uint64_t ino, uint64_t cookie, uint64_t base)
{
	size_t first = l->n;
	int err = r->readdir(l->tree, ino, cookie < base ? 0 : cookie - base, l);

	for (size_t k = first; k < l->n; k++)
		l->v[k].cookie += base;
	return err;
}

int tree_dir_read(struct tree *t, struct tree_dir *d, uint64_t ino, uint64_t cookie, bool count, struct tree_dirent *v,
		  size_t max, size_t *n_out)
{
	struct tree_listing l = { .tree = t, .dir = d, .count = count, .v = v, .max = max };
	const struct realm_ops *r;
	int err;

	if (!cookie)
		atomic_store(&d->last, 0);
	err = add_dots(&l, ino, cookie);
	ino = live_shelf_of(t, ino);
	r = realm_of(t, ino);
	if (!err && ino == META_INO_ROOT && r != &control_realm && cookie < COOKIE_OWN)
		err = add_of(&l, &control_realm, ino, cookie, COOKIE_CONTROL);
	if (!err)
		err = add_of(&l, r, ino, cookie, COOKIE_OWN);
	if (err) {
		dir_uncount(&l, 0);
		return err;
	}
	*n_out = l.n;
	return 0;
}

/* Attributes. */

int tree_getattr(struct tree *t, uint64_t ino, struct tree_attr *out)
{
	return realm_of(t, ino)->getattr(t, ino, out);
}

uint64_t tree_shown_ino(struct tree *t, uint64_t ino)
{
	const struct realm_ops *r = realm_of(t, ino);

	return r->shown_ino ? r->shown_ino(t, ino) : ino;
}

int tree_setattr(struct tree *t, uint64_t ino, unsigned set, const struct stat *st, const struct tree_caller *who, struct tree_file *f,
		 struct tree_attr *out)
{
	const struct realm_ops *r = realm_of(t, ino);
	int err = may_change(t, r, r->setattr);

	return err ? err : r->setattr(t, ino, set, st, who, f, out);
}

bool tree_may_have_dirty_pages(struct tree *t, uint64_t ino)
{
	return inode_is_mappable(t, ino);
}

bool tree_attr_kept(struct tree *t, uint64_t ino)
{
	struct inode *i;

	return inode_find(t, ino, &i) || !i->lost_bits;
}

int tree_mark(struct tree *t, uint64_t ino, struct spillfs_mark *out)
{
	const struct realm_ops *r = realm_of(t, ino);
	int err = may_change(t, r, r->mark);

	return err ? err : r->mark(t, ino, out);
}

/* Extended attributes. */

static int check_namespace(const char *name)
{
	static const char *const kept[] = { "user.", "trusted.", "security." };

	if (strlen(name) > META_NAME_MAX)
		return -ERANGE;
	for (size_t k = 0; k < sizeof(kept) / sizeof(*kept); k++) {
		if (!strncmp(name, kept[k], strlen(kept[k])))
			return name[strlen(kept[k])] ? 0 : -EINVAL;
	}
	return -EOPNOTSUPP;
}

/* Setting the attribute is the command; no value is kept. */
static int set_mark(struct tree *t, uint64_t ino, const char *value, size_t len, int flags)
{
	struct spillfs_mark mark;

	if (len != 1 || *value != '1')
		return -EINVAL;
	return flags & XATTR_REPLACE ? -ENODATA : tree_mark(t, ino, &mark);
}

/* Is this the lifetime of something in a scratch store? */
static bool is_lifetime(struct tree *t, uint64_t ino, const char *name)
{
	enum realm_id id = realm_of(t, ino)->id;

	return (id == REALM_LIVE || id == REALM_SCRATCH) && realm_tree(t, ino)->store->config.scratch && !strcmp(name, SPILLFS_XATTR_LIFETIME);
}

/* POSIX ACLs. */

/* A member may lend the group, as by chmod. */
static bool may_lend_group(const struct tree_caller *who, gid_t gid)
{
	return who->gid == gid || cred_in_group(who->thread, gid) || cred_is_capable(who->thread, who->uid, CAP_FSETID);
}

static int remove_acl(struct tree *t, const struct realm_ops *r, uint64_t ino, const char *name)
{
	int err = r->removexattr(t, ino, name);

	return err == -ENODATA ? 0 : err;
}

static int set_access(struct tree *t, const struct realm_ops *r, uint64_t ino, const void *value, size_t len,
		      const struct tree_caller *who)
{
	struct tree_attr attr;
	int err = r->getattr(t, ino, &attr);

	if (err)
		return err;
	if (acl_to_mode(value, len, &attr.st.st_mode))
		err = r->setxattr(t, ino, ACL_ACCESS, value, len, 0);
	else
		err = remove_acl(t, r, ino, ACL_ACCESS);
	if ((attr.st.st_mode & S_ISGID) && !may_lend_group(who, attr.st.st_gid))
		attr.st.st_mode &= ~(mode_t)S_ISGID;
	return err ? err : r->setattr(t, ino, TREE_SET_MODE, &attr.st, who, NULL, &attr);
}

static int set_default(struct tree *t, const struct realm_ops *r, uint64_t ino, const void *value, size_t len)
{
	struct tree_attr attr;
	int err = r->getattr(t, ino, &attr);

	if (!err && !S_ISDIR(attr.st.st_mode))
		err = -EACCES;
	return err ? err : r->setxattr(t, ino, ACL_DEFAULT, value, len, 0);
}

/* The value may begin at any address. The copy is aligned. */
static int set_copy(struct tree *t, const struct realm_ops *r, uint64_t ino, const char *name, const void *value, size_t len,
		    const struct tree_caller *who)
{
	void *copy = malloc(len + 1);
	int err = copy ? 0 : -ENOMEM;

	if (!err)
		err = acl_check(memcpy(copy, value, len), len);
	if (!err)
		err = strcmp(name, ACL_ACCESS) ? set_default(t, r, ino, copy, len) : set_access(t, r, ino, copy, len, who);
	free(copy);
	return err;
}

static int may_change_acl(struct tree *t, const struct realm_ops *r)
{
	int err = may_change(t, r, r->setxattr && r->removexattr && r->setattr);

	return !err && !t->acls ? -EOPNOTSUPP : err;
}

/* Attributes of all names. */

int tree_getxattr(struct tree *t, uint64_t ino, const char *name, void **out, size_t *len_out)
{
	const struct realm_ops *r = realm_of(t, ino);
	int err = !r->getxattr ? -ENODATA : t->acls && acl_is_name(name) ? 0 : check_namespace(name);

	if (is_lifetime(t, ino, name))
		return lifetime_get(realm_tree(t, ino), ino, out, len_out);
	return err ? err : r->getxattr(t, ino, name, out, len_out);
}

int tree_setxattr(struct tree *t, uint64_t ino, const char *name, const void *value, size_t len, int flags, const struct tree_caller *who)
{
	const struct realm_ops *r = realm_of(t, ino);
	int err;

	if (!strcmp(name, SPILLFS_XATTR_MARK))
		return set_mark(t, ino, value, len, flags);
	value = value ? value : "";
	if (is_lifetime(t, ino, name))
		return lifetime_set(realm_tree(t, ino), ino, value, len, flags, who);
	if (acl_is_name(name)) {
		err = may_change_acl(t, r);
		return err ? err : set_copy(t, r, ino, name, value, len, who);
	}
	err = may_change(t, r, r->setxattr);
	if (!err)
		err = check_namespace(name);
	return err ? err : r->setxattr(t, ino, name, value, len, flags);
}

int tree_listxattr(struct tree *t, uint64_t ino, char **out, size_t *len_out)
{
	const struct realm_ops *r = realm_of(t, ino);

	*out = NULL;
	*len_out = 0;
	return r->listxattr ? r->listxattr(t, ino, out, len_out) : 0;
}

int tree_removexattr(struct tree *t, uint64_t ino, const char *name, const struct tree_caller *who)
{
	const struct realm_ops *r = realm_of(t, ino);
	int err;

	if (is_lifetime(t, ino, name))
		return lifetime_remove(realm_tree(t, ino), ino, who);
	if (acl_is_name(name)) {
		err = may_change_acl(t, r);
		return err ? err : remove_acl(t, r, ino, name);
	}
	err = may_change(t, r, r->removexattr);
	if (!err)
		err = check_namespace(name);
	return err ? err : r->removexattr(t, ino, name);
}
