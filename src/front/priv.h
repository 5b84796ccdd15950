/*
 * What the two halves of the FUSE operations share: names and attributes (ops_tree.c), open files
 * (ops_file.c), the session (front.c).
 */
#ifndef SPILLFS_FRONT_PRIV_H
#define SPILLFS_FRONT_PRIV_H

#ifndef FUSE_USE_VERSION
#define FUSE_USE_VERSION 312
#endif

#include <errno.h>
#include <fuse_lowlevel.h>

#include "front/front.h"
#include "front/handshake.h"
#include "tree/tree.h"
#include "tree/unwritten.h"

/* The daemon is the only one who changes the tree, so what the kernel knows stays right. */
#define FRONT_TIMEOUT_SECONDS 86400.0

struct notify;

struct front {
	struct fuse_session *se;
	struct tree *tree;
	struct notify *notify;
	struct handshake handshake;
	struct front_config config;
};

static inline struct front *front_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

static inline struct tree_caller front_caller(fuse_req_t req)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	return (struct tree_caller){ ctx->uid, ctx->gid, ctx->pid };
}

/* The only place where -errno becomes a reply. */
static inline void front_reply_err(fuse_req_t req, int err)
{
	fuse_reply_err(req, err == -EUCLEAN ? EIO : -err);
}

/* Did the operation that this thread is at change what the kernel knows otherwise (tree_on_changes)? Asked once: its answer
 * has to wait for what is queued (notify_then). */
bool front_take_told(void);
/* Around an operation whose answer cannot wait for that, since the kernel holds pages until it has it: the attributes of the
 * file, which have nothing to do with pages, are forgotten at once. A program that lost its set-user bit must not run with it.
 * The queue does not tell them as well, since it would do so after the answer: the kernel throws away the mode that it has asked for
 * meanwhile, and goes on with the old one. */
void front_tells_now(void);
void front_take_told_now(struct front *f);
/* The kernel is to forget the attributes of ino; told, then. */
void front_tell_attr(struct front *f, uint64_t ino);
/* front_reply_err, then. */
void front_reply_err_when_told(fuse_req_t req, int err);
/* Has the kernel write back what it holds of these files (taken over), then calls then(ctx); at once if there are none. */
void front_write_back(struct front *f, struct tree_inos *inos, void (*then)(void *ctx), void *ctx);
/* The same of all files; error: it has not been tried. */
int front_write_back_all(struct front *f, void (*then)(void *ctx), void *ctx);
/* Applies -o uid=, gid=, umask= to what is shown. */
void front_show(const struct front *f, struct stat *st);
/* The answer to what has looked a up, which was counted. */
void front_fill_entry(const struct front *f, const struct tree_attr *a, struct fuse_entry_param *e);

/* Each half fills in its operations. */
void front_ops_tree(struct fuse_lowlevel_ops *ops);
void front_ops_file(struct fuse_lowlevel_ops *ops);

#endif
