/*
 * Inodes that are only remembered: nobody uses them but the kernel, which keeps names for as long as it has memory, and
 * their arrays. Each has a share of the account (util/account.h); when that is used up, the arrays used longest ago are
 * closed, and the kernel is asked to forget the names used longest ago, which brings their inodes back.
 *
 * Invariants:
 *  1. An array that is open, dirty, or held by a commit or a view is not closed (at_rest_locked).
 *  2. `awake` lists inodes in the order of their last use, `closed` those of them whose arrays were closed first; an inode
 *     stands in one of them at most, and only if the kernel can be asked about it: not a directory, which may be
 *     somebody's working directory, and not what has no row.
 *  3. Closing writes nothing: what an array knows is in the store, or in the inode.
 */
#include <errno.h>

#include "array/arrays.h"
#include "store/commit.h"
#include "store/store.h"
#include "tree/live/live.h"

static struct account *account_of(struct tree *t)
{
	return &t->store->account;
}

static void unlink_locked(struct live_inode *i)
{
	struct idle_list *l = i->idle;

	if (!l)
		return;
	*(i->older ? &i->older->younger : &l->oldest) = i->younger;
	*(i->younger ? &i->younger->older : &l->youngest) = i->older;
	i->idle = NULL;
}

static void push_locked(struct idle_list *l, struct live_inode *i)
{
	unlink_locked(i);
	i->idle = l;
	i->older = l->youngest;
	i->younger = NULL;
	*(l->youngest ? &l->youngest->younger : &l->oldest) = i;
	l->youngest = i;
}

/* Invariant 1. With its lock held exclusively as well, the array may be closed. */
static bool at_rest_locked(const struct live_inode *i)
{
	return !i->base.dirty && !i->staged && !atomic_load(&i->base.nholds);
}

void live_used_locked(struct inode *base)
{
	struct live_inode *i = live_of(base);

	if (!S_ISDIR(inode_mode(base)) && at_rest_locked(i))
		push_locked(&base->tree->awake, i);
}

void live_unknown_locked(struct inode *i)
{
	unlink_locked(live_of(i));
}

/* The inode used longest ago, with one more reference; NULL: none. It is in no list then. */
static struct live_inode *take_oldest(struct tree *t, struct idle_list *first, struct idle_list *second)
{
	struct live_inode *i;

	lock_acquire(&t->lock);
	i = first->oldest ? first->oldest : second ? second->oldest : NULL;
	if (i) {
		unlink_locked(i);
		i->base.refs++;
	}
	lock_release(&t->lock);
	return i;
}

/* Its array goes; false if somebody uses it again. */
static bool close_array(struct live_inode *i)
{
	struct tree *t = i->base.tree;
	bool rests;

	rwlock_exclusive(&i->base.rw);
	lock_acquire(&t->lock);
	rests = at_rest_locked(i);
	lock_release(&t->lock);
	if (rests) {
		inode_drop_array(&i->base);
		lock_acquire(&t->lock);
		account_change(account_of(t), ACCOUNT_ARRAYS, i->base.array_bytes, 0);
		i->base.array_bytes = 0;
		if (!i->idle)
			push_locked(&t->closed, i);
		lock_release(&t->lock);
	}
	rwlock_release(&i->base.rw);
	return rests;
}

void live_shrink(struct tree *t)
{
	struct live_inode *i;

	if (account_over(account_of(t), ACCOUNT_ARRAYS))
		summaries_drop_parked(t->arrays);
	while (account_over(account_of(t), ACCOUNT_ARRAYS)) {
		i = take_oldest(t, &t->awake, NULL);
		/* The rest is dirty or open: what is dirty can be closed after a commit. */
		if (!i) {
			if (t->store->commit)
				commit_ask(t->store->commit);
			return;
		}
		close_array(i);
		inode_put(&i->base, 1);
	}
}

bool live_is_crowded(struct tree *t)
{
	return account_held(account_of(t), ACCOUNT_INODES) > account_of(t)->budget_bytes / 2;
}

bool tree_forgettable(struct tree *t, struct tree_named *out)
{
	struct live_inode *i;

	while (account_over(account_of(t), ACCOUNT_INODES)) {
		int err = -ESTALE;

		i = take_oldest(t, &t->closed, &t->awake);
		if (!i)
			break;
		if (close_array(i)) {
			meta_lock(t->store->meta);
			err = meta_name_of_locked(t->store->meta, i->base.facts.ino, &out->parent, out->name);
			meta_unlock(t->store->meta);
			/* It comes back to a list when it is used again. */
			lock_acquire(&t->lock);
			unlink_locked(i);
			lock_release(&t->lock);
		}
		inode_put(&i->base, 1);
		if (!err) {
			out->parent = live_shown_of(t, out->parent);
			return true;
		}
	}
	return t->scratch && tree_forgettable(t->scratch, out);
}
