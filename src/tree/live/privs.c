/*
 * A change of a file takes its privileges away.
 *
 * The kernel does it too for some of the writes that go through its cache, and for none that go around it. It does not
 * say which caller could have kept the bits, so the caller is looked at here, if there are any. Pages that a mapping has changed take
 * nothing away: nobody knows whose they are, or whether the file was given its privileges after they were changed.
 *
 * Invariants:
 *  1. Privileges are gone before what they vouched for changes, so no commit has one without the other.
 *  2. The kernel forgets the bits of a file before the change is answered, and keeps no attributes of it from then on: they need
 *     not be forgotten again. A kernel that is told to forget while it asks for the mode of a program to run uses the old one.
 */
#include "tree/live/privs.h"
#include "tree/live/room.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "store/meta.h"
#include "store/store.h"
#include "tree/live/live.h"
#include "tree/tree.h"
#include "tree/xattr.h"
#include "util/cred.h"

static bool may_keep_bits(const struct tree_caller *who)
{
	return cred_is_capable(who->thread, who->uid, CAP_FSETID);
}

static bool is_of_group(const struct tree_caller *who, gid_t gid)
{
	return who->gid == gid || cred_in_group(who->thread, gid) || may_keep_bits(who);
}

/* The bits of such a file that go. A set-group bit without group execution lends nothing: members may keep it. */
static uint32_t lost_bits(uint32_t mode, gid_t gid, const struct tree_caller *who, enum privs_change change)
{
	uint32_t lost = mode & S_ISUID;

	if (S_ISDIR(mode) || !(mode & (S_ISUID | S_ISGID)) || (change == PRIVS_DATA && may_keep_bits(who)))
		return 0;
	if ((mode & S_ISGID) && ((mode & S_IXGRP) || !is_of_group(who, gid)))
		lost |= S_ISGID;
	return lost;
}

static uint32_t drop_bits(struct inode *i, const struct tree_caller *who, enum privs_change change)
{
	uint32_t mode, lost;
	gid_t gid;

	lock_acquire(&i->attr);
	mode = inode_mode(i);
	gid = i->facts.gid;
	lock_release(&i->attr);
	lost = lost_bits(mode, gid, who, change);
	if (!lost)
		return 0;
	lock_acquire(&i->attr);
	i->lost_bits = true;
	inode_set_mode(i, inode_mode(i) & ~lost);
	lock_release(&i->attr);
	return lost;
}

/* *any_out: there were some. */
static int drop_capabilities(struct inode *i, bool *any_out)
{
	struct meta *m = i->tree->store->meta;
	int err;

	*any_out = false;
	if (!atomic_load(&live_of(i)->has_xattrs) || !atomic_load(&live_of(i)->has_capabilities) || S_ISDIR(inode_mode(i)))
		return 0;
	room_free(i->tree);
	live_log_enter(i);
	meta_lock(m);
	err = meta_xattr_remove_locked(m, i->facts.ino, PRIVS_XATTR);
	if (!err || err == -ENODATA)
		atomic_store(&live_of(i)->has_capabilities, 0);
	meta_unlock(m);
	live_log_leave(i);
	*any_out = !err;
	return err == -ENODATA ? 0 : err;
}

bool privs_any(struct inode *i)
{
	struct meta *m = i->tree->store->meta;
	void *value = NULL;
	size_t len;

	if (inode_mode(i) & (S_ISUID | S_ISGID))
		return true;
	if (!atomic_load(&live_of(i)->has_xattrs) || !atomic_load(&live_of(i)->has_capabilities))
		return false;
	meta_lock(m);
	if (meta_xattr_get_locked(m, i->facts.ino, PRIVS_XATTR, &value, &len) == -ENODATA)
		atomic_store(&live_of(i)->has_capabilities, 0);
	meta_unlock(m);
	free(value);
	return atomic_load(&live_of(i)->has_capabilities);
}

int privs_drop(struct inode *i, const struct tree_caller *who, enum privs_change change, uint32_t *lost_out)
{
	uint32_t lost = 0;
	bool any = false;
	int err = 0;

	if (who) {
		err = atomic_load(&i->tree->store->read_only) ? -EROFS : drop_capabilities(i, &any);
		if (err)
			return err;
		lost = drop_bits(i, who, change);
	}
	if (lost || any)
		live_touch(i, TREE_SET_CTIME);
	if (lost)
		changed_attr(i->tree, i->facts.ino);
	if (lost_out)
		*lost_out = lost;
	return 0;
}

bool privs_may_locked(struct inode *i, const struct tree_caller *who, mode_t need)
{
	if (!who->uid)
		return true;
	if (who->uid != i->facts.uid && xattr_has_acl_locked(i))
		return false;
	if (who->uid != i->facts.uid)
		need >>= who->gid == i->facts.gid || cred_in_group(who->thread, i->facts.gid) ? 3 : 6;
	return (inode_mode(i) & need) == need;
}
