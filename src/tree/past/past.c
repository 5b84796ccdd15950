/*
 * The table of operations of states.
 */
#include "tree/past/past.h"

#include <errno.h>

#include "tree/past/inside.h"

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
