/*
 * Requests by ioctl(2) (spillfs.h): of the root, and of open files.
 *
 * Invariants:
 *  1. Requests of the root are for root and for the user who runs the daemon.
 *  2. An answer has room for all of its record, or there is none.
 */
#include "front/ops/ops.h"

#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "front/answer.h"
#include "front/writeback.h"
#include "spillfs.h"

static void control_info(fuse_req_t req)
{
	struct spillfs_info info;

	tree_info(front_of(req)->tree, &info);
	fuse_reply_ioctl(req, 0, &info, sizeof(info));
}

static void run_commit(struct deferred *d)
{
	fuse_req_t req = d->req;
	struct spillfs_commit c = { 0 };
	bool sealed = false;
	int err = tree_commit(front_of(req)->tree, &c.layer, &sealed);

	c.sealed = sealed;
	if (err)
		answer_err(req, err);
	else
		fuse_reply_ioctl(req, 0, &c, sizeof(c));
}

static void control_compact(fuse_req_t req, const struct spillfs_compact *in)
{
	struct spillfs_compact out;
	int err = tree_compact(front_of(req)->tree, in->start != 0, &out);

	if (err)
		answer_err(req, err);
	else
		fuse_reply_ioctl(req, 0, &out, sizeof(out));
}

static void control_drain(fuse_req_t req, const struct spillfs_drain *in)
{
	struct spillfs_drain out;
	int err = tree_drain(front_of(req)->tree, in, &out);

	if (err)
		answer_err(req, err);
	else
		fuse_reply_ioctl(req, 0, &out, sizeof(out));
}

struct blocks_asked {
	struct deferred d;
	struct tree_file *file; /* open until the answer */
	uint64_t first;
};

static void run_blocks(struct deferred *d)
{
	const struct blocks_asked *b = (const struct blocks_asked *)d;
	struct spillfs_blocks *out = calloc(1, sizeof(*out));
	int err = out ? tree_blocks(b->file, b->first, out) : -ENOMEM;

	if (err)
		answer_err(d->req, err);
	else
		fuse_reply_ioctl(d->req, 0, out, sizeof(*out));
	free(out);
}

/* With what the kernel holds of the file, the first time. */
static void file_blocks(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, const struct spillfs_blocks *in)
{
	struct blocks_asked *b = deferred_new(req, ino, sizeof(*b), run_blocks);

	if (!b)
		return;
	b->file = front_file(fi);
	b->first = in->first;
	if (in->first)
		deferred_run(&b->d);
	else
		deferred_after_file(&b->d);
}

static void run_mark(struct deferred *d)
{
	struct spillfs_mark mark;
	int err = tree_mark(front_of(d->req)->tree, d->ino, &mark);

	if (err)
		answer_err(d->req, err);
	else
		fuse_reply_ioctl(d->req, 0, &mark, sizeof(mark));
}

/* The file ends where the kernel knows it to end. */
static void file_mark(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	int err = tree_file_may_mark(front_file(fi));

	if (err)
		answer_err(req, err);
	else
		deferred_after_growth(deferred_new(req, ino, sizeof(struct deferred), run_mark));
}

static void op_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned cmd, void *arg, struct fuse_file_info *fi, unsigned flags,
		     const void *in, size_t in_len, size_t out_len)
{
	uid_t uid = fuse_req_ctx(req)->uid;
	bool root = ino == FUSE_ROOT_ID && (cmd == SPILLFS_IOC_INFO || cmd == SPILLFS_IOC_COMMIT || cmd == SPILLFS_IOC_COMPACT ||
				   cmd == SPILLFS_IOC_DRAIN);
	bool file = ino != FUSE_ROOT_ID && (cmd == SPILLFS_IOC_BLOCKS || cmd == SPILLFS_IOC_MARK) && !(flags & FUSE_IOCTL_DIR);

	(void)arg;
	if (!root && !file)
		answer_err(req, -ENOTTY);
	else if (root && uid && uid != geteuid())
		answer_err(req, -EPERM);
	else if (out_len < _IOC_SIZE(cmd) || ((_IOC_DIR(cmd) & _IOC_WRITE) && in_len < _IOC_SIZE(cmd)))
		answer_err(req, -EINVAL);
	else if (cmd == SPILLFS_IOC_MARK)
		file_mark(req, ino, fi);
	else if (file)
		file_blocks(req, ino, fi, in);
	else if (cmd == SPILLFS_IOC_INFO)
		control_info(req);
	else if (cmd == SPILLFS_IOC_COMMIT)
		deferred_after_all(deferred_new(req, ino, sizeof(struct deferred), run_commit));
	else if (cmd == SPILLFS_IOC_DRAIN)
		control_drain(req, in);
	else
		control_compact(req, in);
}

void ops_fill_control(struct fuse_lowlevel_ops *ops)
{
	ops->ioctl = op_ioctl;
}
