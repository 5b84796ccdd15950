/*
 * Inodes that the next commit has to store.
 *
 * Invariants:
 *  1. A dirty inode is on the dirty list, once, and the list holds a reference.
 *  2. A change marks the inode dirty under the lock that protects what is changed: a stage that misses
 *     the change has the inode on the list again.
 */
#include "store/commit.h"
#include "store/store.h"
#include "tree/live/live.h"
#include "tree/live/room.h"

/* The bytes that its row and its note take. */
static uint64_t owed_by(const struct inode *i)
{
	uint64_t xattrs = atomic_load(&live_of(i)->xattrs_bytes);

	return ROOM_INODE_BYTES + (i->facts.kind != ARRAY_BUCKET && xattrs != UINT64_MAX ? xattrs : 0);
}

void live_mark_dirty(struct inode *i)
{
	uint64_t owed = owed_by(i);
	struct live_inode *live = live_of(i);
	struct tree *t = i->tree;

	lock_acquire(&t->lock);
	if (owed > live->owed_bytes) {
		store_owe(t->store, owed - live->owed_bytes);
		live->owed_bytes = owed;
	}
	if (!i->dirty) {
		i->dirty = true;
		i->refs++;
		live->dirty_next = NULL;
		*t->dirty_tail = live;
		t->dirty_tail = &live->dirty_next;
	}
	lock_release(&t->lock);
}

void live_mark_changed(struct inode *i)
{
	inode_new_version(i);
	atomic_store(&live_of(i)->facts_changed, true);
	atomic_store(&live_of(i)->logged_as_stored, false);
	live_mark_dirty(i);
}

/* The times of a shelf are its directory's. */
static void touch_shown(struct inode *shelf, unsigned which)
{
	struct tree *t = shelf->tree->beside;
	struct inode *dir;

	lock_acquire(&t->lock);
	dir = inode_use_locked(t, live_of(shelf)->shows);
	lock_release(&t->lock);
	if (!dir)
		return;
	live_touch(dir, which);
	inode_put(dir, 1);
}

void live_touch(struct inode *i, unsigned which)
{
	int64_t now = inode_stamp_ns(i->tree);

	lock_acquire(&i->attr);
	if (which & TREE_SET_ATIME)
		i->facts.atime_ns = now;
	if (which & TREE_SET_MTIME)
		i->facts.mtime_ns = now;
	if (which & TREE_SET_CTIME)
		i->facts.ctime_ns = now;
	lock_release(&i->attr);
	if (which != TREE_SET_ATIME)
		live_mark_changed(i);
	else
		live_mark_dirty(i);
	if (live_of(i)->shows)
		touch_shown(i, which);
}

void live_log_enter(struct inode *i)
{
	if (i->facts.kind != ARRAY_BUCKET)
		commit_gate_enter(i->tree->store->commit);
}

void live_log_leave(struct inode *i)
{
	if (i->facts.kind != ARRAY_BUCKET)
		commit_gate_leave(i->tree->store->commit);
}
