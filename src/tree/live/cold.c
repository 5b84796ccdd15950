/*
 * Files that are stored compressed once they are cold.
 *
 * Invariant: an inode whose count has changed is dirty, so that its row follows (quota.c, invariant 2).
 */
#include "tree/live/cold.h"

#include <stdlib.h>

#include "store/store.h"
#include "tree/live/quota.h"

void cold_know(struct inode *i, bool cold)
{
	int unknown = -1;

	if (cold) {
		atomic_store(&live_of(i)->cold, 1);
		atomic_store(&i->tree->has_cold, true);
	} else {
		atomic_compare_exchange_strong(&live_of(i)->cold, &unknown, 0);
	}
}

static bool may_be_cold(const struct inode *i)
{
	return i->realm->id == REALM_LIVE && S_ISREG(inode_mode(i)) && i->facts.kind != ARRAY_LAYERED && atomic_load(&live_of(i)->cold);
}

static bool is_cold(const struct inode *i)
{
	return may_be_cold(i) && atomic_load(&live_of(i)->cold) > 0;
}

bool cold_may_change(const struct inode *i)
{
	return may_be_cold(i) && (is_cold(i) || atomic_load(&i->tree->has_cold));
}

/* False: its array is not open. */
static bool count(struct inode *i)
{
	bool open;

	rwlock_shared(&i->rw);
	open = i->array;
	if (open && array_recount(i->array)) {
		live_mark_dirty(i);
		quota_settle(i);
	}
	rwlock_release(&i->rw);
	return open;
}

/* The array counts when it is opened, and shows what the file is. */
static void open_array(struct inode *i)
{
	struct array *a;

	rwlock_exclusive(&i->rw);
	if (!inode_need_array(i, &a))
		inode_idle_array(i);
	rwlock_release(&i->rw);
}

void cold_recount(struct inode *i)
{
	if (!io_packings(i->tree->store->dir) || !may_be_cold(i))
		return;
	if (!count(i))
		open_array(i);
}

void cold_recount_all(struct tree *t)
{
	uint64_t packings = io_packings(t->store->dir);
	struct inode **v;
	size_t n;

	if (packings == atomic_load(&t->packings) || inode_list(t, is_cold, &v, &n))
		return;
	for (size_t k = 0; k < n; k++) {
		count(v[k]);
		inode_put(v[k], 1);
	}
	free(v);
	atomic_store(&t->packings, packings);
}
