/*
 * Buckets of many extents are cut by several commits (array/bucket.c): until the last one their inodes are dirty again after each.
 *
 * Invariant: the fact `cutting` is set in the store while a committed bucket has extents behind its size. The next mount goes on
 * with those, and with files without a name like with any (live_delete_orphans).
 */
#include <errno.h>

#include "store/commit.h"
#include "store/store.h"
#include "tree/live/live.h"

void cut_go_on(struct inode *i)
{
	live_mark_dirty(i);
	i->tree->cutting = true;
	commit_again(i->tree->store->commit);
}

int cut_note(struct tree *t)
{
	struct meta *m = t->store->meta;
	int err;

	if (t->cutting == t->cutting_noted)
		return 0;
	meta_lock(m);
	err = meta_fact_set_locked(m, META_FACT_CUTTING, t->cutting);
	meta_unlock(m);
	if (!err)
		t->cutting_noted = t->cutting;
	return err;
}

/* The first inode above `after` that is to be cut, with a reference; NULL: none. */
static int next_cut(struct tree *t, uint64_t after, struct inode **out)
{
	struct meta *m = t->store->meta;
	struct facts row = { 0 };
	int err;

	*out = NULL;
	meta_lock(m);
	err = meta_inode_cut_after_locked(m, after, &row);
	if (!err && row.ino)
		err = live_get_locked(t, row.ino, out);
	meta_unlock(m);
	return err;
}

static int was_cutting(struct tree *t, bool *out)
{
	struct meta *m = t->store->meta;
	int64_t value = 0;
	int err;

	meta_lock(m);
	err = meta_fact_get_locked(m, META_FACT_CUTTING, &value);
	meta_unlock(m);
	*out = value != 0;
	return err == -ENOENT ? 0 : err;
}

int cut_resume(struct tree *t)
{
	struct inode *i;
	uint64_t after = 0;
	int err = was_cutting(t, &t->cutting_noted);

	while (!err && t->cutting_noted) {
		struct array *a;

		err = next_cut(t, after, &i);
		if (err || !i)
			break;
		after = i->facts.ino;
		rwlock_exclusive(&i->rw);
		err = inode_need_array(i, &a);
		rwlock_release(&i->rw);
		if (!err)
			live_mark_dirty(i);
		inode_put(i, 1);
	}
	return err;
}
