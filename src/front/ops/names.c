/*
 * Operations on names: looking up, making, removing, moving.
 */
#include "front/ops/ops.h"

#include <stdlib.h>
#include <string.h>

#include "front/answer.h"
#include "front/writeback.h"

/* The daemon alone changes the tree; so a name that is not there stays so until the kernel asks for a change. */
#define ABSENT_SECONDS 86400.0

/* An operation on a name of the directory d.ino. */
struct named {
	struct deferred d;
	mode_t mode;
	char name[];
};

static struct named *named_new(fuse_req_t req, fuse_ino_t parent, const char *name, void (*run)(struct deferred *d))
{
	size_t len = strlen(name) + 1;
	struct named *n = deferred_new(req, parent, sizeof(*n) + len, run);

	if (n)
		memcpy(n->name, name, len);
	return n;
}

static void look_up(fuse_req_t req, fuse_ino_t parent, const char *name, struct answer *a)
{
	struct tree_caller who = front_caller(req);

	*a = (struct answer){ .reply = answer_entry };
	a->err = tree_lookup(front_of(req)->tree, parent, name, &who, &a->attr);
}

static void run_lookup(struct deferred *d)
{
	struct answer a;

	look_up(d->req, d->ino, ((struct named *)d)->name, &a);
	answer_now(d->req, &a);
}

/* A view has been looked up whose size, with the writeback cache, may be another when the kernel has written back what it holds of
 * the array: then that is done, and the view is looked up again. True: it is not answered here. */
static bool looks_again(fuse_req_t req, fuse_ino_t parent, const char *name, uint64_t found)
{
	struct front *f = front_of(req);
	struct tree_inos inos = { 0 };
	struct named *n;

	if (!f->config.writeback || !tree_is_view(found) || tree_unwritten(f->tree, found, &inos) || !inos.n)
		return false;
	tree_forget(f->tree, found, 1);
	n = named_new(req, parent, name, run_lookup);
	if (n)
		deferred_after_files(&n->d, &inos);
	else
		free(inos.v);
	return true;
}

/* The kernel keeps a name that is not there: if it asked again, two programs that make the same file could drop its entry, and
 * so the file that the first has closed; with its writeback cache the kernel would then take the size from before for it. */
static void reply_absent(fuse_req_t req)
{
	const struct fuse_entry_param e = { .entry_timeout = ABSENT_SECONDS };

	fuse_reply_entry(req, &e);
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct answer a;

	look_up(req, parent, name, &a);
	if (a.err == -ENOENT && tree_names_settled(front_of(req)->tree, parent))
		reply_absent(req);
	else if (a.err || !looks_again(req, parent, name, a.attr.st.st_ino))
		answer_now(req, &a);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	tree_forget(front_of(req)->tree, ino, nlookup);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *v)
{
	for (size_t i = 0; i < count; i++)
		tree_forget(front_of(req)->tree, v[i].ino, v[i].nlookup);
	fuse_reply_none(req);
}

static void make(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev, const char *target)
{
	struct tree_caller who = front_caller(req);
	struct answer a = { .reply = answer_entry };

	a.err = tree_make(front_of(req)->tree, parent, name, mode, rdev, target, &who, &a.attr);
	answer_when_told(req, &a);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	make(req, parent, name, mode, rdev, NULL);
}

static void run_mkdir(struct deferred *d)
{
	struct named *n = (struct named *)d;

	make(d->req, d->ino, n->name, n->mode, 0, NULL);
}

/* A snapshot has all that was written before, whether it is closed or not. */
static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct named *n = named_new(req, parent, name, run_mkdir);

	if (!n)
		return;
	n->mode = S_IFDIR | (mode & 07777);
	if (tree_takes_snapshots(parent))
		deferred_after_all(&n->d);
	else
		deferred_run(&n->d);
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	make(req, parent, name, S_IFLNK | 0777, 0, target);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname)
{
	struct answer a = { .reply = answer_entry };

	a.err = tree_link(front_of(req)->tree, ino, newparent, newname, &a.attr);
	answer_when_told(req, &a);
}

/* Where all files are shown as one owner's, whoever may remove one may remove all. */
static const struct tree_caller *remover(fuse_req_t req, const struct tree_caller *who)
{
	return front_of(req)->config.set_uid ? NULL : who;
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct tree_caller who = front_caller(req);

	answer_err_when_told(req, tree_unlink(front_of(req)->tree, parent, name, remover(req, &who)));
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	answer_err_when_told(req, tree_rmdir(front_of(req)->tree, parent, name));
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent, const char *newname,
		      unsigned flags)
{
	struct tree_caller who = front_caller(req);

	answer_err_when_told(req, tree_rename(front_of(req)->tree, parent, name, newparent, newname, flags, remover(req, &who)));
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	char *target;
	int err = tree_readlink(front_of(req)->tree, ino, &target);

	if (err) {
		answer_err(req, err);
		return;
	}
	fuse_reply_readlink(req, target);
	free(target);
}

void ops_fill_names(struct fuse_lowlevel_ops *ops)
{
	ops->lookup = op_lookup;
	ops->forget = op_forget;
	ops->forget_multi = op_forget_multi;
	ops->mknod = op_mknod;
	ops->mkdir = op_mkdir;
	ops->symlink = op_symlink;
	ops->link = op_link;
	ops->unlink = op_unlink;
	ops->rmdir = op_rmdir;
	ops->rename = op_rename;
	ops->readlink = op_readlink;
}
