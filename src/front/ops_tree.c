/*
 * FUSE operations on names and attributes: decode, call tree/, answer.
 */
#include "front/priv.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "front/caller.h"
#include "front/notify.h"
#include "spillfs.h"

#define READDIR_BATCH 64u

void front_fill_entry(const struct front *f, const struct tree_attr *a, struct fuse_entry_param *e)
{
	memset(e, 0, sizeof(*e));
	e->ino = a->st.st_ino;
	e->generation = 1; /* inode numbers are never reused */
	e->attr = a->st;
	e->attr.st_ino = tree_shown_ino(f->tree, e->ino);
	front_show(f, &e->attr);
	e->attr_timeout = a->attr_ms / 1000.0;
	e->entry_timeout = a->name_ms / 1000.0;
}

static void reply_entry(fuse_req_t req, int err, struct tree_attr *a)
{
	struct front *f = front_of(req);
	struct fuse_entry_param e;

	if (err) {
		front_reply_err(req, err);
		return;
	}
	front_fill_entry(f, a, &e);
	if (fuse_reply_entry(req, &e) == -ENOENT) /* interrupted: the kernel did not count it */
		tree_forget(f->tree, e.ino, 1);
}

static void reply_attr(fuse_req_t req, int err, struct tree_attr *a)
{
	if (err) {
		front_reply_err(req, err);
		return;
	}
	a->st.st_ino = tree_shown_ino(front_of(req)->tree, a->st.st_ino);
	front_show(front_of(req), &a->st);
	fuse_reply_attr(req, &a->st, a->attr_ms / 1000.0);
}

/* The kernel keeps a name that is not there: if it asked again, two programs that make the same file could drop its entry, and
 * so the file that the first has closed; with its writeback cache the kernel would then take the size from before for it. */
static void reply_absent(fuse_req_t req)
{
	const struct fuse_entry_param e = { .entry_timeout = FRONT_TIMEOUT_SECONDS };

	fuse_reply_entry(req, &e);
}

/* An operation on a name that waits until the kernel has written back what it holds. */
struct pending_name {
	fuse_req_t req;
	fuse_ino_t parent;
	mode_t mode;
	char name[];
};

static struct pending_name *new_pending_name(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	size_t len = strlen(name) + 1;
	struct pending_name *p = malloc(sizeof(*p) + len);

	if (p) {
		*p = (struct pending_name){ .req = req, .parent = parent, .mode = mode };
		memcpy(p->name, name, len);
	}
	return p;
}

static void answer_lookup(void *ctx)
{
	struct pending_name *p = ctx;
	struct tree_caller who = front_caller(p->req);
	struct tree_attr a;
	int err = tree_lookup(front_of(p->req)->tree, p->parent, p->name, &who, &a);

	reply_entry(p->req, err, &a);
	free(p);
}

/* A view has been looked up whose size, with the writeback cache, may be another when the kernel has written back what it holds of
 * the array: then that is done, and the view is looked up again. True: it is not answered here. */
static bool looks_again(fuse_req_t req, fuse_ino_t parent, const char *name, uint64_t found)
{
	struct front *f = front_of(req);
	struct tree_inos inos = { 0 };
	struct pending_name *p;

	if (!f->config.writeback || !tree_is_view(found) || tree_unwritten(f->tree, found, &inos) || !inos.n)
		return false;
	p = new_pending_name(req, parent, name, 0);
	if (!p) {
		free(inos.v);
		return false;
	}
	tree_forget(f->tree, found, 1);
	front_write_back(f, &inos, answer_lookup, p);
	return true;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct tree *t = front_of(req)->tree;
	struct tree_caller who = front_caller(req);
	struct tree_attr a;
	int err = tree_lookup(t, parent, name, &who, &a);

	if (err == -ENOENT && tree_names_settled(t, parent))
		reply_absent(req);
	else if (err || !looks_again(req, parent, name, a.st.st_ino))
		reply_entry(req, err, &a);
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

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct tree_attr a;
	int err = tree_getattr(front_of(req)->tree, ino, &a);

	(void)fi;
	reply_attr(req, err, &a);
}

/* An answer that waits until the kernel has forgotten what else has changed. */
struct pending_answer {
	fuse_req_t req;
	int err;
	struct tree_attr a;
	void (*reply)(fuse_req_t req, int err, struct tree_attr *a);
};

static void answer_told(void *ctx)
{
	struct pending_answer *p = ctx;

	p->reply(p->req, p->err, &p->a);
	free(p);
}

static void reply_when_told(fuse_req_t req, int err, struct tree_attr *a, void (*reply)(fuse_req_t req, int err, struct tree_attr *a))
{
	struct pending_answer *p = front_take_told() ? malloc(sizeof(*p)) : NULL;

	if (!p) {
		reply(req, err, a);
		return;
	}
	*p = (struct pending_answer){ .req = req, .err = err, .reply = reply };
	if (!err)
		p->a = *a;
	notify_then(front_of(req)->notify, answer_told, p);
}

struct pending_setattr {
	fuse_req_t req;
	fuse_ino_t ino;
	unsigned set;
	struct stat st;
	struct tree_file *file; /* NULL: by path */
};

static void answer_setattr(void *ctx)
{
	struct pending_setattr *p = ctx;
	struct tree_caller who = front_caller(p->req);
	struct tree_attr a;
	int err;

	/* In a truncation the kernel holds page writes back, which what is queued may wait for. */
	if (p->set & TREE_SET_SIZE)
		front_tells_now();
	err = tree_setattr(front_of(p->req)->tree, p->ino, p->set, &p->st, &who, p->file, &a);
	if (p->set & TREE_SET_SIZE)
		front_take_told_now(front_of(p->req));
	reply_when_told(p->req, err, &a, reply_attr);
	free(p);
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int to_set, struct fuse_file_info *fi)
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
	struct pending_setattr *p = malloc(sizeof(*p));

	if (!p) {
		front_reply_err(req, -ENOMEM);
		return;
	}
	*p = (struct pending_setattr){ .req = req, .ino = ino, .st = *st, .file = fi ? (struct tree_file *)(uintptr_t)fi->fh : NULL };
	for (size_t i = 0; i < sizeof(bits) / sizeof(*bits); i++) {
		if (to_set & bits[i].fuse)
			p->set |= bits[i].tree;
	}
	/* Pages that a mapping has changed before must not come later and undo the times. Not in a truncation:
	 * the kernel holds page writes back until that is answered. With the writeback cache it has written
	 * them already. */
	if ((p->set & (TREE_SET_MTIME | TREE_SET_SIZE)) == TREE_SET_MTIME && !front_of(req)->config.writeback && tree_may_have_dirty_pages(front_of(req)->tree, ino))
		notify_drop_pages(front_of(req)->notify, ino, 0, 0, answer_setattr, p);
	else
		answer_setattr(p);
}

static void make(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev, const char *target)
{
	struct tree_caller who = front_caller(req);
	struct tree_attr a;
	int err = tree_make(front_of(req)->tree, parent, name, mode, rdev, target, &who, &a);

	reply_when_told(req, err, &a, reply_entry);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	make(req, parent, name, mode, rdev, NULL);
}

static void answer_mkdir(void *ctx)
{
	struct pending_name *p = ctx;

	make(p->req, p->parent, p->name, p->mode, 0, NULL);
	free(p);
}

/* A snapshot has what was written before, whether it is closed or not. */
static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct pending_name *p;
	int err;

	if (!tree_takes_snapshots(parent)) {
		make(req, parent, name, S_IFDIR | (mode & 07777), 0, NULL);
		return;
	}
	p = new_pending_name(req, parent, name, S_IFDIR | (mode & 07777));
	err = p ? front_write_back_all(front_of(req), answer_mkdir, p) : -ENOMEM;
	if (err) {
		free(p);
		front_reply_err(req, err);
	}
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	make(req, parent, name, S_IFLNK | 0777, 0, target);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname)
{
	struct tree_attr a;
	int err = tree_link(front_of(req)->tree, ino, newparent, newname, &a);

	reply_when_told(req, err, &a, reply_entry);
}

/* Where all files are shown as one owner's, whoever may remove one may remove all. */
static const struct tree_caller *remover(fuse_req_t req, const struct tree_caller *who)
{
	return front_of(req)->config.set_uid ? NULL : who;
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct tree_caller who = front_caller(req);

	front_reply_err_when_told(req, tree_unlink(front_of(req)->tree, parent, name, remover(req, &who)));
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	front_reply_err_when_told(req, tree_rmdir(front_of(req)->tree, parent, name));
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent, const char *newname,
		      unsigned flags)
{
	struct tree_caller who = front_caller(req);

	front_reply_err_when_told(req, tree_rename(front_of(req)->tree, parent, name, newparent, newname, flags, remover(req, &who)));
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	char *target;
	int err = tree_readlink(front_of(req)->tree, ino, &target);

	if (err) {
		front_reply_err(req, err);
		return;
	}
	fuse_reply_readlink(req, target);
	free(target);
}

/* Directories. */

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct tree_dir *d;
	int err = tree_dir_open(front_of(req)->tree, &d);

	(void)ino;
	if (err) {
		front_reply_err(req, err);
		return;
	}
	fi->fh = (uintptr_t)d;
	if (fuse_reply_open(req, fi) == -ENOENT) /* interrupted: there will be no release */
		tree_dir_release(front_of(req)->tree, d);
}

static void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	tree_dir_release(front_of(req)->tree, (struct tree_dir *)(uintptr_t)fi->fh);
	front_reply_err(req, 0);
}

static size_t add_dirent(fuse_req_t req, char *buf, size_t room, const struct tree_dirent *d, bool plus)
{
	struct fuse_entry_param e;

	if (!plus)
		return fuse_add_direntry(req, buf, room, d->name, &d->attr.st, (off_t)d->cookie);
	if (d->counted)
		front_fill_entry(front_of(req), &d->attr, &e);
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
	struct tree_dir *d = (struct tree_dir *)(uintptr_t)fi->fh;
	struct tree_dirent *v = malloc(READDIR_BATCH * sizeof(*v));
	char *buf = malloc(size);
	uint64_t cookie = (uint64_t)off;
	size_t used = 0, n = 1;
	bool full = false;
	int err = v && buf ? 0 : -ENOMEM;

	while (!err && !full && n) {
		err = tree_dir_read(front_of(req)->tree, d, ino, cookie, plus, v, READDIR_BATCH, &n);
		if (err || !n)
			break;
		cookie = v[n - 1].cookie;
		used += add_batch(req, buf + used, size - used, v, n, plus, &full);
	}
	/* Entries that were counted already must reach the kernel: an error then waits for the next call. */
	if (err && !used)
		front_reply_err(req, err);
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

struct pending_all {
	fuse_req_t req;
	void (*answer)(fuse_req_t req);
};

static void answer_all(void *ctx)
{
	struct pending_all *p = ctx;

	p->answer(p->req);
	free(p);
}

/* Answers when the kernel has written back what it holds of any file. */
static void answer_when_written(fuse_req_t req, void (*answer)(fuse_req_t req))
{
	struct pending_all *p = malloc(sizeof(*p));
	int err = p ? 0 : -ENOMEM;

	if (!err) {
		*p = (struct pending_all){ req, answer };
		err = front_write_back_all(front_of(req), answer_all, p);
	}
	if (err) {
		free(p);
		front_reply_err(req, err);
	}
}

static void answer_sync(fuse_req_t req)
{
	front_reply_err(req, tree_sync(front_of(req)->tree));
}

/* That of the root is what sync(1) would be. */
static void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	(void)datasync;
	(void)fi;
	if (ino == FUSE_ROOT_ID)
		answer_when_written(req, answer_sync);
	else
		answer_sync(req);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct statvfs st;
	int err = tree_statfs(front_of(req)->tree, &st);

	(void)ino;
	if (err)
		front_reply_err(req, err);
	else
		fuse_reply_statfs(req, &st);
}

/* Extended attributes. */

static void reply_value(fuse_req_t req, int err, const void *value, size_t len, size_t size)
{
	if (err)
		front_reply_err(req, err);
	else if (!size)
		fuse_reply_xattr(req, len);
	else if (len > size)
		front_reply_err(req, -ERANGE);
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

struct pending_length {
	fuse_req_t req;
	fuse_ino_t ino;
	size_t size;
};

static void answer_length(void *ctx)
{
	struct pending_length *p = ctx;

	get_value(p->req, p->ino, SPILLFS_XATTR_LENGTH, p->size);
	free(p);
}

/* With the writeback cache the kernel may know of more elements. */
static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct front *f = front_of(req);
	bool waits = f->config.writeback && !strcmp(name, SPILLFS_XATTR_LENGTH) && tree_may_have_dirty_pages(f->tree, ino);
	struct pending_length *p = waits ? malloc(sizeof(*p)) : NULL;

	if (!p) {
		get_value(req, ino, name, size);
		return;
	}
	*p = (struct pending_length){ req, ino, size };
	notify_drop_pages(f->notify, ino, 0, 0, answer_length, p);
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

/* A mark waits until the kernel has written back what makes the file longer. */
struct pending_mark {
	fuse_req_t req;
	fuse_ino_t ino;
	void (*answer)(struct pending_mark *p);
};

static void answer_mark(void *ctx)
{
	struct pending_mark *p = ctx;

	p->answer(p);
	free(p);
}

static void answer_mark_xattr(struct pending_mark *p)
{
	front_reply_err(p->req, tree_setxattr(front_of(p->req)->tree, p->ino, SPILLFS_XATTR_MARK, "1", 1, 0));
}

static void answer_mark_ioctl(struct pending_mark *p)
{
	struct spillfs_mark mark;
	int err = tree_mark(front_of(p->req)->tree, p->ino, &mark);

	if (err)
		front_reply_err(p->req, err);
	else
		fuse_reply_ioctl(p->req, 0, &mark, sizeof(mark));
}

static void mark_run(fuse_req_t req, fuse_ino_t ino, void (*answer)(struct pending_mark *p))
{
	struct front *f = front_of(req);
	struct pending_mark *p = malloc(sizeof(*p));

	if (!p) {
		front_reply_err(req, -ENOMEM);
		return;
	}
	*p = (struct pending_mark){ req, ino, answer };
	if (f->config.writeback && tree_may_have_dirty_pages(f->tree, ino))
		notify_drop_pages(f->notify, ino, 0, 0, answer_mark, p);
	else
		answer_mark(p);
}

static void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags)
{
	if (!strcmp(name, SPILLFS_XATTR_MARK) && size == 1 && *value == '1' && !(flags & XATTR_REPLACE))
		mark_run(req, ino, answer_mark_xattr);
	else
		front_reply_err_when_told(req, tree_setxattr(front_of(req)->tree, ino, name, value, size, flags));
}

static void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	front_reply_err_when_told(req, tree_removexattr(front_of(req)->tree, ino, name));
}

/* Control requests (spillfs.h). */

static void control_info(fuse_req_t req)
{
	struct spillfs_info info;

	tree_info(front_of(req)->tree, &info);
	fuse_reply_ioctl(req, 0, &info, sizeof(info));
}

static void control_commit(fuse_req_t req)
{
	struct spillfs_commit c = { 0 };
	bool sealed = false;
	int err = tree_commit(front_of(req)->tree, &c.layer, &sealed);

	c.sealed = sealed;
	if (err)
		front_reply_err(req, err);
	else
		fuse_reply_ioctl(req, 0, &c, sizeof(c));
}

static void control_compact(fuse_req_t req, const struct spillfs_compact *in)
{
	struct spillfs_compact out;
	int err = tree_compact(front_of(req)->tree, in->start != 0, &out);

	if (err)
		front_reply_err(req, err);
	else
		fuse_reply_ioctl(req, 0, &out, sizeof(out));
}

static void file_blocks(fuse_req_t req, struct fuse_file_info *fi, const struct spillfs_blocks *in)
{
	struct spillfs_blocks *out = calloc(1, sizeof(*out));
	int err = out ? tree_blocks((struct tree_file *)(uintptr_t)fi->fh, in->first, out) : -ENOMEM;

	if (err)
		front_reply_err(req, err);
	else
		fuse_reply_ioctl(req, 0, out, sizeof(*out));
	free(out);
}

static void file_mark(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	int err = tree_file_may_mark((struct tree_file *)(uintptr_t)fi->fh);

	if (err)
		front_reply_err(req, err);
	else
		mark_run(req, ino, answer_mark_ioctl);
}

static void op_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned cmd, void *arg, struct fuse_file_info *fi, unsigned flags,
		     const void *in, size_t in_len, size_t out_len)
{
	uid_t uid = fuse_req_ctx(req)->uid;
	bool root = ino == FUSE_ROOT_ID && (cmd == SPILLFS_IOC_INFO || cmd == SPILLFS_IOC_COMMIT || cmd == SPILLFS_IOC_COMPACT);
	bool file = ino != FUSE_ROOT_ID && (cmd == SPILLFS_IOC_BLOCKS || cmd == SPILLFS_IOC_MARK) && !(flags & FUSE_IOCTL_DIR);

	(void)arg;
	if (!root && !file)
		front_reply_err(req, -ENOTTY);
	else if (root && uid && uid != geteuid())
		front_reply_err(req, -EPERM);
	else if (out_len < _IOC_SIZE(cmd) || ((_IOC_DIR(cmd) & _IOC_WRITE) && in_len < _IOC_SIZE(cmd)))
		front_reply_err(req, -EINVAL);
	else if (cmd == SPILLFS_IOC_MARK)
		file_mark(req, ino, fi);
	else if (file)
		file_blocks(req, fi, in);
	else if (cmd == SPILLFS_IOC_INFO)
		control_info(req);
	else if (cmd == SPILLFS_IOC_COMMIT)
		answer_when_written(req, control_commit);
	else
		control_compact(req, in);
}

void front_ops_tree(struct fuse_lowlevel_ops *ops)
{
	ops->lookup = op_lookup;
	ops->forget = op_forget;
	ops->forget_multi = op_forget_multi;
	ops->getattr = op_getattr;
	ops->setattr = op_setattr;
	ops->mknod = op_mknod;
	ops->mkdir = op_mkdir;
	ops->symlink = op_symlink;
	ops->link = op_link;
	ops->unlink = op_unlink;
	ops->rmdir = op_rmdir;
	ops->rename = op_rename;
	ops->readlink = op_readlink;
	ops->opendir = op_opendir;
	ops->releasedir = op_releasedir;
	ops->readdir = op_readdir;
	ops->readdirplus = op_readdirplus;
	ops->fsyncdir = op_fsyncdir;
	ops->statfs = op_statfs;
	ops->getxattr = op_getxattr;
	ops->listxattr = op_listxattr;
	ops->setxattr = op_setxattr;
	ops->removexattr = op_removexattr;
	ops->ioctl = op_ioctl;
}
