/*
 * Directories that have a shelf, and shelves, by number (shelf.h).
 *
 * Invariant: no inode is used beyond the table's lock, so any number may be asked for.
 */
#include "store/store.h"
#include "tree/live/live.h"

uint64_t live_shelf_of(struct tree *t, uint64_t dir)
{
	uint64_t number = dir;
	struct inode *i;

	if (!atomic_load(&t->nshelves) || dir >= META_INO_END)
		return dir;
	lock_acquire(&t->lock);
	i = inode_use_locked(t, dir);
	if (i && i->realm->id == REALM_LIVE) {
		lock_acquire(&i->attr);
		if (live_of(i)->shelf)
			number = live_of(i)->shelf->facts.ino;
		lock_release(&i->attr);
	}
	if (i)
		i->refs--;
	lock_release(&t->lock);
	return number;
}

uint64_t live_shown_of(struct tree *t, uint64_t dir)
{
	uint64_t number = dir;
	struct inode *i;

	t = realm_tree(t, dir);
	if (!t->store->config.scratch)
		return dir;
	lock_acquire(&t->lock);
	i = inode_use_locked(t, dir);
	if (i && live_of(i)->shows)
		number = live_of(i)->shows;
	if (i)
		i->refs--;
	lock_release(&t->lock);
	return number;
}
