/*
 * What is only remembered: inodes that nobody uses but the kernel, which keeps names for as long as it has memory, and
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

#include "store/commit.h"
#include "store/store.h"
#include "tree/inode.h"

/* What malloc adds to an inode. */
#define HEAP_BYTES 16u

static struct account *account_of(struct tree *t)
{
	return &t->store->account;
}

static void unlink_locked(struct inode *i)
{
	struct idle_list *l = i->idle;

	if (!l)
		return;
	*(i->older ? &i->older->younger : &l->oldest) = i->younger;
	*(i->younger ? &i->younger->older : &l->youngest) = i->older;
	i->idle = NULL;
}

static void push_locked(struct idle_list *l, struct inode *i)
{
	unlink_locked(i);
	i->idle = l;
	i->older = l->youngest;
	i->younger = NULL;
	*(l->youngest ? &l->youngest->younger : &l->oldest) = i;
	l->youngest = i;
}

/* Invariant 1; what holds its lock exclusively as well may close the array. */
static bool at_rest_locked(const struct inode *i)
{
	return !i->dirty && !i->staged && !atomic_load(&i->nholds);
}

void inode_known_locked(struct inode *i)
{
	account_change(account_of(i->tree), ACCOUNT_INODES, 0, sizeof(*i) + HEAP_BYTES);
	inode_used_locked(i);
}

void inode_used_locked(struct inode *i)
{
	if (!i->past && !i->view && !S_ISDIR(i->mode) && at_rest_locked(i))
		push_locked(&i->tree->awake, i);
}

void inode_unknown_locked(struct inode *i)
{
	account_change(account_of(i->tree), ACCOUNT_INODES, sizeof(*i) + HEAP_BYTES, 0);
	account_change(account_of(i->tree), ACCOUNT_ARRAYS, i->array_bytes, 0);
	i->array_bytes = 0;
	unlink_locked(i);
}

void inode_rest(struct inode *i)
{
	struct array *a = i->array;
	size_t bytes = a ? array_memory(a) : 0;

	lock_acquire(&i->tree->lock);
	account_change(account_of(i->tree), ACCOUNT_ARRAYS, i->array_bytes, bytes);
	i->array_bytes = bytes;
	inode_used_locked(i);
	lock_release(&i->tree->lock);
}

void inode_hold_array(struct inode *i)
{
	atomic_fetch_add(&i->nholds, 1);
}

void inode_let_go_array(struct inode *i)
{
	atomic_fetch_sub(&i->nholds, 1);
	if (i->past) {
		rwlock_exclusive(&i->rw);
		inode_idle_array(i);
	} else {
		rwlock_shared(&i->rw);
		inode_rest(i);
	}
	rwlock_release(&i->rw);
}

/* The inode used longest ago, with one more reference; NULL: none. It is in no list then. */
static struct inode *take_oldest(struct tree *t, struct idle_list *first, struct idle_list *second)
{
	struct inode *i;

	lock_acquire(&t->lock);
	i = first->oldest ? first->oldest : second ? second->oldest : NULL;
	if (i) {
		unlink_locked(i);
		i->refs++;
	}
	lock_release(&t->lock);
	return i;
}

/* Its array goes; false if somebody uses it again. */
static bool close_array(struct inode *i)
{
	struct tree *t = i->tree;
	bool rests;

	rwlock_exclusive(&i->rw);
	lock_acquire(&t->lock);
	rests = at_rest_locked(i);
	lock_release(&t->lock);
	if (rests) {
		inode_drop_array(i);
		lock_acquire(&t->lock);
		account_change(account_of(t), ACCOUNT_ARRAYS, i->array_bytes, 0);
		i->array_bytes = 0;
		if (!i->idle)
			push_locked(&t->closed, i);
		lock_release(&t->lock);
	}
	rwlock_release(&i->rw);
	return rests;
}

void inode_shrink(struct tree *t)
{
	struct inode *i;

	while (account_over(account_of(t), ACCOUNT_ARRAYS)) {
		i = take_oldest(t, &t->awake, NULL);
		/* The rest is dirty or open: what is dirty can be closed after a commit. */
		if (!i) {
			if (t->store->commit)
				commit_ask(t->store->commit);
			return;
		}
		close_array(i);
		inode_put(i, 1);
	}
}

bool inode_crowded(struct tree *t)
{
	return account_held(account_of(t), ACCOUNT_INODES) > account_of(t)->budget_bytes / 2;
}

bool tree_forgettable(struct tree *t, struct tree_named *out)
{
	struct inode *i;

	while (account_over(account_of(t), ACCOUNT_INODES)) {
		int err = -ESTALE;

		i = take_oldest(t, &t->closed, &t->awake);
		if (!i)
			return false;
		if (close_array(i)) {
			meta_lock(t->store->meta);
			err = meta_name_of_locked(t->store->meta, i->ino, &out->parent, out->name);
			meta_unlock(t->store->meta);
			/* It comes back to a list when it is used again. */
			lock_acquire(&t->lock);
			unlink_locked(i);
			lock_release(&t->lock);
		}
		inode_put(i, 1);
		if (!err)
			return true;
	}
	return false;
}
