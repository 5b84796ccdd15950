/*
 * The live tree's table of operations. Every change is one of rows, which a commit makes durable.
 */
#include "tree/live/live.h"

#include <errno.h>

#include "tree/inos.h"
#include "tree/live/file.h"
#include "tree/live/quota.h"

static int live_arrays(struct tree *t, uint64_t ino, struct tree_inos *out)
{
	(void)t;
	return inos_add(out, ino);
}

static void live_fini(struct inode *i)
{
	leaving_end(i);
	quota_leave(i);
}

const struct realm_ops live_realm = {
	.id = REALM_LIVE,
	.refusal = -EPERM,
	.names_settled = true,
	.lookup = live_lookup,
	.readdir = live_readdir,
	.walk = live_walk,
	.find = live_find,
	.parent = live_parent,
	.make = live_make,
	.link = live_link,
	.unlink = live_unlink,
	.rmdir = live_rmdir,
	.rename = live_rename,
	.readlink = live_readlink,
	.getattr = live_getattr,
	.setattr = live_setattr,
	.getxattr = live_getxattr,
	.listxattr = live_listxattr,
	.setxattr = live_setxattr,
	.removexattr = live_removexattr,
	.mark = live_mark,
	.open = live_open,
	.arrays = live_arrays,
	.inode_bytes = sizeof(struct live_inode),
	.forgetting = live_forgetting,
	.put = live_put,
	.fini = live_fini,
	.used_locked = live_used_locked,
	.unknown_locked = live_unknown_locked,
	.stat_locked = live_stat_locked,
	.load = live_load,
	.stored_locked = live_stored_locked,
	.dtype_locked = live_dtype_locked,
};
