/*
 * Attributes of the live tree.
 */
#include <errno.h>

#include "store/store.h"
#include "tree/live/cold.h"
#include "tree/live/edit.h"
#include "tree/live/file.h"
#include "tree/live/live.h"
#include "tree/live/passthrough.h"
#include "tree/live/privs.h"
#include "tree/live/room.h"
#include "tree/live/shelf.h"
#include "tree/live/tail.h"
#include "util/clock.h"

int live_getattr(struct tree *t, uint64_t ino, struct tree_attr *out)
{
	struct inode *i;
	int err = inode_find(t, ino, &i);

	if (err)
		return err;
	through_refresh(i);
	cold_recount(i);
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
		inode_set_mode(i, (inode_mode(i) & S_IFMT) | (st->st_mode & 07777 & ~lost));
	if (set & TREE_SET_UID)
		i->facts.uid = st->st_uid;
	if (set & TREE_SET_GID)
		i->facts.gid = st->st_gid;
	if (set & TREE_SET_ATIME)
		i->facts.atime_ns = clock_ns(st->st_atim);
	else if (set & TREE_SET_ATIME_NOW)
		i->facts.atime_ns = now;
	if (set & TREE_SET_MTIME)
		i->facts.mtime_ns = clock_ns(st->st_mtim);
	else if (set & (TREE_SET_MTIME_NOW | TREE_SET_SIZE))
		i->facts.mtime_ns = now;
	i->facts.ctime_ns = set & TREE_SET_CTIME ? clock_ns(st->st_ctim) : now;
	lock_release(&i->attr);
	live_mark_changed(i);
}

static int resize(struct inode *i, off_t size, struct tree_file *f)
{
	uint64_t before = inode_size(i);
	int err;

	if (!S_ISREG(inode_mode(i)))
		return S_ISDIR(inode_mode(i)) ? -EISDIR : -EINVAL;
	if (size < 0)
		return -EINVAL;
	err = edit_resize(i, (uint64_t)size, f ? &((struct live_file *)f)->writer : NULL);
	if (!err)
		tail_resized(i, before);
	return err;
}

int live_setattr(struct tree *t, uint64_t ino, unsigned set, const struct stat *st, const struct tree_caller *who, struct tree_file *f,
		 struct tree_attr *out)
{
	struct inode *i;
	uint32_t lost = 0;
	int err = inode_find(t, ino, &i);

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
	shelf_follow(i);
	inode_stat(i, out);
	return 0;
}
