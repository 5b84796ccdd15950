/*
 * Operations on open directories.
 *
 * Invariant: a lookup is counted for each entry that reaches the kernel with its attributes, and for no other.
 */
#include "front/ops/ops.h"

#include <stdlib.h>

#include "front/answer.h"
#include "front/writeback.h"

#define BATCH 64u

static struct tree_dir *dir_of(const struct fuse_file_info *fi)
{
	return (struct tree_dir *)(uintptr_t)fi->fh;
}

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct tree_dir *d;
	int err = tree_dir_open(front_of(req)->tree, &d);

	(void)ino;
	if (err) {
		answer_err(req, err);
		return;
	}
	fi->fh = (uintptr_t)d;
	if (fuse_reply_open(req, fi) == -ENOENT) /* interrupted: there will be no release */
		tree_dir_release(front_of(req)->tree, d);
}

static void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	tree_dir_release(front_of(req)->tree, dir_of(fi));
	answer_err(req, 0);
}

static size_t add_dirent(fuse_req_t req, char *buf, size_t room, const struct tree_dirent *d, bool plus)
{
	struct fuse_entry_param e;

	if (!plus)
		return fuse_add_direntry(req, buf, room, d->name, &d->attr.st, (off_t)d->cookie);
	if (d->counted)
		answer_fill_entry(front_of(req), &d->attr, &e);
	else /* type and number only: the kernel looks it up when it is used */
		e = (struct fuse_entry_param){ .attr = d->attr.st };
	return fuse_add_direntry_plus(req, buf, room, d->name, &e, (off_t)d->cookie);
}

/* Fills buf; entries that did not fit are given back. *full ends the listing of this request. */
static size_t add_batch(fuse_req_t req, char *buf, size_t room, struct tree_dirent *v, size_t n, bool plus, bool *full)
{
	size_t used = 0;

	for (size_t i = 0; i < n; i++) {
		size_t len = *full ? 0 : add_dirent(req, buf + used, room - used, &v[i], plus);

		if (!*full && len <= room - used)
			used += len;
		else
			*full = true;
		if (*full && v[i].counted)
			tree_forget(front_of(req)->tree, v[i].attr.st.st_ino, 1);
	}
	return used;
}

static void readdir_any(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, const struct fuse_file_info *fi, bool plus)
{
	struct tree_dir *d = dir_of(fi);
	struct tree_dirent *v = malloc(BATCH * sizeof(*v));
	char *buf = malloc(size);
	uint64_t cookie = (uint64_t)off;
	size_t used = 0, n = 1;
	bool full = false;
	int err = v && buf ? 0 : -ENOMEM;

	while (!err && !full && n) {
		err = tree_dir_read(front_of(req)->tree, d, ino, cookie, plus, v, BATCH, &n);
		if (err || !n)
			break;
		cookie = v[n - 1].cookie;
		used += add_batch(req, buf + used, size - used, v, n, plus, &full);
	}
	/* Entries that were counted already must reach the kernel: an error then waits for the next call. */
	if (err && !used)
		answer_err(req, err);
	else
		fuse_reply_buf(req, buf, used);
	free(buf);
	free(v);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	readdir_any(req, ino, size, off, fi, false);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	readdir_any(req, ino, size, off, fi, true);
}

static void run_sync(struct deferred *d)
{
	answer_err(d->req, tree_sync_of(front_of(d->req)->tree, d->ino));
}

/* That of the root is sync(1). */
static void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct deferred *d = deferred_new(req, ino, sizeof(*d), run_sync);

	(void)datasync;
	(void)fi;
	if (ino == FUSE_ROOT_ID)
		deferred_after_all(d);
	else
		deferred_run(d);
}

void ops_fill_dirs(struct fuse_lowlevel_ops *ops)
{
	ops->opendir = op_opendir;
	ops->releasedir = op_releasedir;
	ops->readdir = op_readdir;
	ops->readdirplus = op_readdirplus;
	ops->fsyncdir = op_fsyncdir;
}
