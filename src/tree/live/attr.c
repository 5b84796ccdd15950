/*
 * Attributes and the state of the file system.
 */
#include <errno.h>
#include <string.h>

#include "store/meta.h"
#include "store/store.h"
#include "tree/edit.h"
#include "tree/inode.h"
#include "tree/live/passthrough.h"
#include "tree/past/past.h"
#include "tree/privs.h"
#include "tree/control/control.h"
#include "tree/live/tail.h"
#include "tree/views/views.h"
#include "util/clock.h"

int tree_getattr(struct tree *t, uint64_t ino, struct tree_attr *out)
{
	struct inode *i;
	int err;

	if (special_is(ino) || (ino == META_INO_ROOT && t->store->config.follow))
		return special_getattr(t, ino, out);
	if (views_is(ino)) {
		through_refresh_all(t);
		return views_getattr(t, ino, out);
	}
	err = inode_find(t, ino, &i);
	if (err && past_is(ino))
		return past_getattr(t, ino, out);
	if (err)
		return err;
	through_refresh(i);
	inode_stat(i, out);
	return 0;
}

/* lost: bits of the mode that a change of size or owner has taken away; the kernel may not know. */
static void apply(struct inode *i, unsigned set, const struct stat *st, uint32_t lost)
{
	int64_t now;

	if (set & TREE_SET_MTIME)
		inode_saw_stamp(i->tree, clock_ns(st->st_mtim));
	if (set & TREE_SET_CTIME)
		inode_saw_stamp(i->tree, clock_ns(st->st_ctim));
	now = inode_stamp_ns(i->tree);
	lock_acquire(&i->attr);
	if (set & TREE_SET_MODE)
		i->mode = (i->mode & S_IFMT) | (st->st_mode & 07777 & ~lost);
	if (set & TREE_SET_UID)
		i->uid = st->st_uid;
	if (set & TREE_SET_GID)
		i->gid = st->st_gid;
	if (set & TREE_SET_ATIME)
		i->atime_ns = clock_ns(st->st_atim);
	else if (set & TREE_SET_ATIME_NOW)
		i->atime_ns = now;
	if (set & TREE_SET_MTIME)
		i->mtime_ns = clock_ns(st->st_mtim);
	else if (set & (TREE_SET_MTIME_NOW | TREE_SET_SIZE))
		i->mtime_ns = now;
	i->ctime_ns = set & TREE_SET_CTIME ? clock_ns(st->st_ctim) : now;
	lock_release(&i->attr);
	inode_mark_changed(i);
}

bool tree_may_have_dirty_pages(struct tree *t, uint64_t ino)
{
	return !special_is(ino) && inode_is_mappable(t, ino);
}

bool tree_attr_kept(struct tree *t, uint64_t ino)
{
	struct inode *i;

	return special_is(ino) || views_is(ino) || inode_find(t, ino, &i) || !i->lost_bits;
}

static int resize(struct inode *i, off_t size, struct tree_file *f)
{
	uint64_t before = atomic_load(&i->size_bytes);
	int err;

	if (!S_ISREG(i->mode))
		return S_ISDIR(i->mode) ? -EISDIR : -EINVAL;
	if (size < 0)
		return -EINVAL;
	err = edit_resize(i, (uint64_t)size, f ? file_writer(f) : NULL);
	if (!err)
		tail_resized(i, before);
	return err;
}

int tree_setattr(struct tree *t, uint64_t ino, unsigned set, const struct stat *st, const struct tree_caller *who, struct tree_file *f,
		 struct tree_attr *out)
{
	struct inode *i;
	uint32_t lost = 0;
	int err;

	if (special_is(ino))
		return -EPERM;
	if (past_is(ino) || t->store->config.follow)
		return -EROFS;
	if (views_is(ino))
		return views_setattr(t, ino, set, st, who, out);
	err = inode_find(t, ino, &i);
	if (!err && atomic_load(&t->store->read_only))
		err = -EROFS;
	if (!err && !(set & TREE_SET_SIZE))
		err = room_note(i);
	if (!err && (set & (TREE_SET_UID | TREE_SET_GID | TREE_SET_SIZE)))
		err = privs_drop(i, who, set & TREE_SET_SIZE ? PRIVS_DATA : PRIVS_OWNER, &lost);
	if (!err && (set & TREE_SET_MODE) && (st->st_mode & (S_ISUID | S_ISGID)))
		through_vouch(i);
	else if (!err)
		through_refresh(i);
	if (!err && (set & TREE_SET_SIZE))
		err = resize(i, st->st_size, f);
	if (err)
		return err;
	apply(i, set, st, lost);
	inode_stat(i, out);
	return 0;
}

#define STATFS_UNIT 4096u

int tree_statfs(struct tree *t, struct statvfs *out)
{
	uint64_t total, left, avail, inodes = 0;
	int err = store_space(t->store, &total, &left, &avail);

	if (!err && t->store->meta) {
		meta_lock(t->store->meta);
		err = meta_inode_count_locked(t->store->meta, &inodes);
		meta_unlock(t->store->meta);
	}
	if (err)
		return err;
	memset(out, 0, sizeof(*out));
	/* Clients multiply by either: both are the same unit. */
	out->f_bsize = out->f_frsize = STATFS_UNIT;
	out->f_blocks = total / STATFS_UNIT;
	out->f_bfree = left / STATFS_UNIT;
	out->f_bavail = avail / STATFS_UNIT;
	/* Inodes are rows: as many as there is space for. */
	out->f_files = inodes + avail / 512;
	out->f_ffree = out->f_favail = avail / 512;
	out->f_namemax = META_NAME_MAX;
	return 0;
}
