/*
 * Operations on extended attributes.
 */
#include "front/ops/ops.h"

#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "array/setting.h"
#include "front/answer.h"
#include "front/caller.h"
#include "front/writeback.h"
#include "spillfs.h"

static void reply_value(fuse_req_t req, int err, const void *value, size_t len, size_t size)
{
	if (err)
		answer_err(req, err);
	else if (!size)
		fuse_reply_xattr(req, len);
	else if (len > size)
		answer_err(req, -ERANGE);
	else
		fuse_reply_buf(req, value, len);
}

static void get_value(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	void *value = NULL;
	size_t len = 0;
	int err = tree_getxattr(front_of(req)->tree, ino, name, &value, &len);

	reply_value(req, err, value, len, size);
	free(value);
}

struct length {
	struct deferred d;
	size_t size;
};

static void run_length(struct deferred *d)
{
	get_value(d->req, d->ino, SPILLFS_XATTR_LENGTH, ((struct length *)d)->size);
}

/* The kernel may know of more elements. */
static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct length *l;

	if (strcmp(name, SPILLFS_XATTR_LENGTH)) {
		get_value(req, ino, name, size);
		return;
	}
	l = deferred_new(req, ino, sizeof(*l), run_length);
	if (!l)
		return;
	l->size = size;
	deferred_after_growth(&l->d);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	const struct fuse_ctx *who = fuse_req_ctx(req);
	char *names = NULL;
	size_t len = 0;
	int err = tree_listxattr(front_of(req)->tree, ino, &names, &len);

	if (!err)
		len = caller_visible_names(who->pid, who->uid, names, len);
	reply_value(req, err, names, len, size);
	free(names);
}

static void run_mark(struct deferred *d)
{
	answer_err(d->req, tree_setxattr(front_of(d->req)->tree, d->ino, SPILLFS_XATTR_MARK, "1", 1, 0, NULL));
}

/* A quota is for those to set who may do all with the mount: its directory's owner cannot lift it. */
static bool may_set(fuse_req_t req, const char *name)
{
	uid_t uid = fuse_req_ctx(req)->uid;

	return !uid || uid == geteuid() || setting_quota(name, "", NULL) == -ENODATA;
}

static void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags)
{
	struct tree_caller who = front_caller(req);

	if (!may_set(req, name))
		answer_err(req, -EPERM);
	/* The file ends where the kernel knows it to end. */
	else if (!strcmp(name, SPILLFS_XATTR_MARK) && size == 1 && *value == '1' && !(flags & XATTR_REPLACE))
		deferred_after_growth(deferred_new(req, ino, sizeof(struct deferred), run_mark));
	else
		answer_err_when_told(req, tree_setxattr(front_of(req)->tree, ino, name, value, size, flags, &who));
}

static void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct tree_caller who = front_caller(req);

	if (!may_set(req, name))
		answer_err(req, -EPERM);
	else
		answer_err_when_told(req, tree_removexattr(front_of(req)->tree, ino, name, &who));
}

void ops_fill_xattrs(struct fuse_lowlevel_ops *ops)
{
	ops->getxattr = op_getxattr;
	ops->listxattr = op_listxattr;
	ops->setxattr = op_setxattr;
	ops->removexattr = op_removexattr;
}
