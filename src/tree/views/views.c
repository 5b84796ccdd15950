/*
 * The table of operations of views.
 */
#include "tree/views/views.h"

#include <errno.h>

#include "tree/live/passthrough.h"
#include "tree/views/inside.h"

static int look_up(struct tree *t, uint64_t dir, const char *name, const struct tree_caller *who, struct tree_attr *out)
{
	through_refresh_all(t);
	return views_lookup(t, dir, name, who, out);
}

static int get_attr(struct tree *t, uint64_t ino, struct tree_attr *out)
{
	through_refresh_all(t);
	return views_getattr(t, ino, out);
}

static int make(struct tree *t, uint64_t dir, const struct realm_new *what, struct tree_attr *out)
{
	return S_ISDIR(what->mode) ? views_mkdir(t, dir, what, out) : -EROFS;
}

const struct realm_ops views_realm = {
	.id = REALM_VIEWS,
	.refusal = -EROFS,
	.lookup = look_up,
	.readdir = views_readdir,
	.enter = views_enter,
	.make = make,
	.create = views_make,
	.link = views_link,
	.unlink = views_unlink,
	.rmdir = views_rmdir,
	.rename = views_rename,
	.getattr = get_attr,
	.setattr = views_setattr,
	.shown_ino = views_shown_ino,
	.getxattr = views_getxattr,
	.listxattr = views_listxattr,
	.setxattr = views_setxattr,
	.removexattr = views_removexattr,
	.open = views_open,
	.inode_bytes = sizeof(struct view_inode),
	.fini = views_fini,
	.arrays = views_arrays,
};
