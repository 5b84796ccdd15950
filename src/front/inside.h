/*
 * The front from inside: the session's record, which every operation finds by its request.
 */
#ifndef SPILLFS_FRONT_INSIDE_H
#define SPILLFS_FRONT_INSIDE_H

#include <errno.h>
#include <fuse_lowlevel.h>

#include "front/front.h"
#include "front/handshake.h"
#include "tree/tree.h"

struct notify;

struct front {
	struct handshake handshake; /* first, as handshake.h asks for */
	struct fuse_session *se;
	struct tree *tree;
	struct notify *notify;
	struct front_config config;
	bool acls; /* POSIX ACLs: the umask comes with requests that make something */
};

static inline struct front *front_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

static inline struct tree_caller front_caller(fuse_req_t req)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	return (struct tree_caller){ ctx->uid, ctx->gid, ctx->pid, front_of(req)->acls ? ctx->umask : 0 };
}

static inline struct tree_file *front_file(const struct fuse_file_info *fi)
{
	return (struct tree_file *)(uintptr_t)fi->fh;
}

#endif
