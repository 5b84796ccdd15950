/*
 * The files and directories that views show.
 */
#include <errno.h>

#include "store/store.h"
#include "tree/views/inside.h"

int views_source_of(struct tree *t, uint64_t number, struct inode **out)
{
	struct tree *home = realm_tree(t, number);
	struct meta *m = home->store->meta;
	int err;

	if (views_is_fixed(t, number)) {
		err = inode_find(t, number, out);
		if (!err)
			inode_ref(*out);
		return err;
	}
	meta_lock(m);
	err = live_get_locked(home, number, out);
	meta_unlock(m);
	return err == -ENOENT ? -ESTALE : err;
}

int views_hold_dir(struct tree *t, uint64_t number, struct inode **out)
{
	enum realm_id id = realm_of(t, number)->id;

	*out = NULL;
	return id == REALM_LIVE || id == REALM_SCRATCH ? views_source_of(t, number, out) : 0;
}

void views_let_go_dir(struct inode *dir)
{
	if (dir)
		inode_put(dir, 1);
}

int views_source(struct tree *t, const struct view_node *n, struct inode **out)
{
	if (!n->past)
		return views_source_of(t, n->key.source, out);
	inode_ref(n->past);
	*out = n->past;
	return 0;
}
