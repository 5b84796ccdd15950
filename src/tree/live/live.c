/*
 * The live tree's table of operations. Every change is one of rows, which a commit makes durable.
 */
#include "tree/live/live.h"

#include <errno.h>

const struct realm_ops live_realm = {
	.id = REALM_LIVE,
	.refusal = -EPERM,
	.names_settled = true,
	.lookup = live_lookup,
	.readdir = live_readdir,
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
};
