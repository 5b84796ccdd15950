/*
 * Compaction: the arrays that a mostly dead layer holds move what is live to the open layer.
 *
 * Runs on the commit thread between two commits, so that what it moves is staged by the next one as a
 * whole. An inode is locked for a few blocks at a time: readers and writers go on meanwhile.
 */
#include <errno.h>
#include <stdlib.h>

#include "store/layers.h"
#include "store/store.h"
#include "tree/inode.h"

static int evacuate_inode(struct inode *i, uint64_t victim)
{
	struct array *a;
	bool more = true;
	int err = 0;

	while (!err && more) {
		rwlock_exclusive(&i->rw);
		err = inode_need_array(i, &a);
		if (!err) {
			inode_mark_dirty(i);
			err = array_evacuate(a, victim, &more);
		}
		rwlock_release(&i->rw);
	}
	return err;
}

static int evacuate(struct tree *t, uint64_t victim, uint64_t ino)
{
	struct meta *m = t->store->meta;
	struct inode *i;
	int err;

	meta_lock(m);
	err = inode_get_locked(t, ino, &i);
	meta_unlock(m);
	if (err == -ENOENT)
		return layers_restate_gone(t->store->layers, victim, ino);
	if (!err) {
		err = evacuate_inode(i, victim);
		inode_put(i, 1);
	}
	return err;
}

int inode_compact(void *ctx, bool *did)
{
	struct tree *t = ctx;
	uint64_t victim, *inos;
	size_t n;
	int err = layers_victim(t->store->layers, &victim, &inos, &n);

	*did = false;
	if (err)
		return err == -ENOENT ? 0 : err;
	for (size_t k = 0; k < n && !err; k++)
		err = evacuate(t, victim, inos[k]);
	free(inos);
	if (err != -ENOSPC && err != -ENOMEM)
		layers_victim_done(t->store->layers, victim, !err);
	*did = !err;
	return err;
}
