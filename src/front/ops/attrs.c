/*
 * Operations on attributes of files, and of the file system.
 */
#include "front/ops/ops.h"

#include "front/answer.h"
#include "front/told.h"
#include "front/writeback.h"

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct answer a = { .reply = answer_attr };

	(void)fi;
	a.err = tree_getattr(front_of(req)->tree, ino, &a.attr);
	answer_now(req, &a);
}

struct setattr {
	struct deferred d;
	unsigned set; /* TREE_SET_* */
	struct stat st;
	struct tree_file *file; /* NULL: by path */
};

static void run_setattr(struct deferred *d)
{
	struct setattr *s = (struct setattr *)d;
	struct tree_caller who = front_caller(d->req);
	struct answer a = { .reply = answer_attr };
	bool cuts = s->set & TREE_SET_SIZE;

	/* In a truncation the kernel holds page writes back, which what is queued may wait for. */
	if (cuts)
		told_at_once_begin();
	a.err = tree_setattr(front_of(d->req)->tree, d->ino, s->set, &s->st, &who, s->file, &a.attr);
	if (cuts)
		told_at_once_end(front_of(d->req));
	answer_when_told(d->req, &a);
}

static unsigned tree_bits(int to_set)
{
	static const struct {
		int fuse;
		unsigned tree;
	} bits[] = {
		{ FUSE_SET_ATTR_MODE, TREE_SET_MODE }, { FUSE_SET_ATTR_UID, TREE_SET_UID },
		{ FUSE_SET_ATTR_GID, TREE_SET_GID }, { FUSE_SET_ATTR_SIZE, TREE_SET_SIZE },
		{ FUSE_SET_ATTR_ATIME, TREE_SET_ATIME }, { FUSE_SET_ATTR_MTIME, TREE_SET_MTIME },
		{ FUSE_SET_ATTR_ATIME_NOW, TREE_SET_ATIME_NOW }, { FUSE_SET_ATTR_MTIME_NOW, TREE_SET_MTIME_NOW },
		{ FUSE_SET_ATTR_CTIME, TREE_SET_CTIME },
	};
	unsigned set = 0;

	for (size_t i = 0; i < sizeof(bits) / sizeof(*bits); i++)
		set |= to_set & bits[i].fuse ? bits[i].tree : 0;
	return set;
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int to_set, struct fuse_file_info *fi)
{
	struct setattr *s = deferred_new(req, ino, sizeof(*s), run_setattr);

	if (!s)
		return;
	s->set = tree_bits(to_set);
	s->st = *st;
	s->file = fi ? front_file(fi) : NULL;
	/* Pages that a mapping has changed before must not come later and undo the times. Not in a truncation: the kernel holds page
	 * writes back until that is answered. With the writeback cache it has written them already. */
	if ((s->set & (TREE_SET_MTIME | TREE_SET_SIZE)) == TREE_SET_MTIME && !front_of(req)->config.writeback)
		deferred_after_file(&s->d);
	else
		deferred_run(&s->d);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct statvfs st;
	int err = tree_statfs(front_of(req)->tree, ino, &st);

	if (err)
		answer_err(req, err);
	else
		fuse_reply_statfs(req, &st);
}

void ops_fill_attrs(struct fuse_lowlevel_ops *ops)
{
	ops->getattr = op_getattr;
	ops->setattr = op_setattr;
	ops->statfs = op_statfs;
}
