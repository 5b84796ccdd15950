/*
 * The table of operations of scratch/, as the tree beside it calls them: each is the live tree's, on the tree of scratch/.
 *
 * Invariant: an inode of scratch/ belongs to tree.scratch, where its world is REALM_LIVE; nothing here has inodes of its own.
 */
#include "tree/scratch/scratch.h"

#include <errno.h>

#include "store/store.h"
#include "tree/dir.h"
#include "tree/live/file.h"
#include "tree/live/live.h"

static int look_up(struct tree *t, uint64_t dir, const char *name, const struct tree_caller *who, struct tree_attr *out)
{
	return live_lookup(t->scratch, dir, name, who, out);
}

static int read_dir(struct tree *t, uint64_t dir, uint64_t cookie, struct tree_listing *to)
{
	int err;

	to->tree = t->scratch;
	err = live_readdir(t->scratch, dir, cookie, to);
	to->tree = t;
	return err;
}

static int walk(struct tree *t, struct tree_dir *d, uint64_t dir, uint64_t cookie, int (*each)(void *ctx, const struct realm_entry *e),
		void *ctx)
{
	return live_walk(t->scratch, d, dir, cookie, each, ctx);
}

static int find(struct tree *t, uint64_t dir, const struct realm_stem *what, struct inode **out)
{
	return live_find(t->scratch, dir, what, out);
}

static uint64_t root_of(const struct tree *t)
{
	return t->scratch->store->config.above + META_INO_ROOT;
}

static int parent_of(struct tree *t, uint64_t dir, uint64_t *out)
{
	*out = META_INO_ROOT;
	return dir == root_of(t) ? 0 : live_parent(t->scratch, dir, out);
}

static int enter(struct tree *t, uint64_t root, struct tree_attr *out)
{
	struct meta *m = t->scratch->store->meta;
	struct inode *i;
	int err;

	(void)root;
	meta_lock(m);
	err = live_get_locked(t->scratch, root_of(t), &i);
	meta_unlock(m);
	if (!err)
		inode_stat(i, out);
	return err;
}

static int make(struct tree *t, uint64_t dir, const struct realm_new *what, struct tree_attr *out)
{
	return live_make(t->scratch, dir, what, out);
}

static int link_to(struct tree *t, uint64_t ino, uint64_t dir, const char *name, struct tree_attr *out)
{
	return live_link(t->scratch, ino, dir, name, out);
}

static int remove_file(struct tree *t, uint64_t dir, const char *name, const struct tree_caller *who)
{
	return live_unlink(t->scratch, dir, name, who);
}

static int remove_dir(struct tree *t, uint64_t dir, const char *name)
{
	return live_rmdir(t->scratch, dir, name);
}

static int move(struct tree *t, uint64_t dir, const char *name, uint64_t newdir, const char *newname, unsigned flags,
		const struct tree_caller *who)
{
	return live_rename(t->scratch, dir, name, newdir, newname, flags, who);
}

static int read_link(struct tree *t, uint64_t ino, char **out)
{
	return live_readlink(t->scratch, ino, out);
}

static int get_attr(struct tree *t, uint64_t ino, struct tree_attr *out)
{
	return live_getattr(t->scratch, ino, out);
}

static int set_attr(struct tree *t, uint64_t ino, unsigned set, const struct stat *st, const struct tree_caller *who,
		    struct tree_file *f, struct tree_attr *out)
{
	return live_setattr(t->scratch, ino, set, st, who, f, out);
}

static int get_xattr(struct tree *t, uint64_t ino, const char *name, void **out, size_t *len_out)
{
	return live_getxattr(t->scratch, ino, name, out, len_out);
}

static int list_xattr(struct tree *t, uint64_t ino, char **out, size_t *len_out)
{
	return live_listxattr(t->scratch, ino, out, len_out);
}

static int set_xattr(struct tree *t, uint64_t ino, const char *name, const void *value, size_t len, int flags)
{
	return live_setxattr(t->scratch, ino, name, value, len, flags);
}

static int remove_xattr(struct tree *t, uint64_t ino, const char *name)
{
	return live_removexattr(t->scratch, ino, name);
}

static int mark(struct tree *t, uint64_t ino, struct spillfs_mark *out)
{
	return live_mark(t->scratch, ino, out);
}

static int open_file(struct tree *t, uint64_t ino, int flags, const struct tree_caller *who, struct tree_file **out,
		     struct tree_file_info *info)
{
	return live_open(t->scratch, ino, flags, who, out, info);
}

static int arrays(struct tree *t, uint64_t ino, struct tree_inos *out)
{
	return live_realm.arrays(t->scratch, ino, out);
}

const struct realm_ops scratch_realm = {
	.id = REALM_SCRATCH,
	.refusal = -EPERM,
	.names_settled = true,
	.lookup = look_up,
	.readdir = read_dir,
	.walk = walk,
	.find = find,
	.parent = parent_of,
	.enter = enter,
	.make = make,
	.link = link_to,
	.unlink = remove_file,
	.rmdir = remove_dir,
	.rename = move,
	.readlink = read_link,
	.getattr = get_attr,
	.setattr = set_attr,
	.getxattr = get_xattr,
	.listxattr = list_xattr,
	.setxattr = set_xattr,
	.removexattr = remove_xattr,
	.mark = mark,
	.open = open_file,
	.arrays = arrays,
};
