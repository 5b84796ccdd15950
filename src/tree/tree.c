/*
 * Opening and closing the tree: the fixed directories, the caches, the commit thread's hooks.
 */
#include "tree/tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/commit.h"
#include "store/layers.h"
#include "store/store.h"
#include "tree/inode.h"
#include "tree/live/passthrough.h"
#include "tree/past/past.h"
#include "tree/views/upload.h"
#include "util/clock.h"

_Static_assert(META_INO_BUCKETS - META_INO_ROOT == ARRAY_BUCKET && META_INO_COLUMNS - META_INO_ROOT == ARRAY_COLUMN &&
	       META_INO_LAYERS - META_INO_ROOT == ARRAY_LAYERED, "meta_roots_locked");

static int make_roots(struct tree *t)
{
	int err;

	meta_lock(t->store->meta);
	err = meta_roots_locked(t->store->meta);
	meta_unlock(t->store->meta);
	return err;
}

/* The root and the class directories are always known: the kernel does not look up the root. */
static int hold_root(struct tree *t)
{
	struct inode *root;
	int err;

	meta_lock(t->store->meta);
	err = inode_get_locked(t, META_INO_ROOT, &root);
	meta_unlock(t->store->meta);
	return err;
}

int tree_open(struct store *s, struct tree **out)
{
	struct tree *t = calloc(1, sizeof(*t));
	int err;

	if (!t)
		return -ENOMEM;
	t->store = s;
	t->mount_ns = clock_now_ns();
	t->nbuckets = 1024;
	t->dirty_tail = &t->dirty_head;
	t->leaving_tail = &t->leaving;
	lock_init(&t->lock, RANK_ICACHE);
	lock_cond_init(&t->left);
	t->table = calloc(t->nbuckets, sizeof(*t->table));
	err = t->table ? arrays_new(s, &t->arrays) : -ENOMEM;
	if (!err)
		err = past_open(t);
	if (!err && s->config.follow) {
		*out = t;
		return 0;
	}
	if (!err)
		err = make_roots(t);
	if (!err)
		err = hold_root(t);
	if (!err)
		err = inode_delete_orphans(t);
	if (!err)
		err = cut_resume(t);
	if (!err)
		err = inode_relog(t);
	if (!err)
		err = commit_start(s->commit, &inode_commit_hooks, t);
	/* The fixed directories of a new store are there even if it is killed at once. */
	if (!err)
		err = commit_wait(s->commit, COMMIT_SYNC);
	if (err) {
		tree_close(t);
		return err;
	}
	*out = t;
	return 0;
}

void tree_close(struct tree *t)
{
	/* The kernel does not wait for the end of these. */
	while (t->dirs)
		tree_dir_release(t, t->dirs);
	upload_drop_all(t);
	through_end_all(t);
	if (t->store->config.follow) {
		if (t->past)
			past_close(t);
		inode_forget_all(t);
	} else if (t->table && t->arrays) {
		commit_quiesce(t->store->commit);
		inode_forget_all(t);
		/* Ends with no inode in memory: the commit lets go of the dirty ones, and what had no name is
		 * deleted then. */
		commit_stop(t->store->commit);
		inode_abandon_dirty(t);
	}
	if (t->past)
		past_close(t); /* commits let go of states */
	if (t->arrays)
		arrays_free(t->arrays);
	free(t->table);
	pthread_cond_destroy(&t->left);
	lock_fini(&t->lock);
	free(t);
}

int tree_sync(struct tree *t)
{
	struct room_wait wait = { 0 };
	int err;

	if (t->store->config.follow)
		return 0;
	do {
		err = commit_wait(t->store->commit, COMMIT_SYNC);
		if (!err)
			return 0;
		err = room_wait(t, err, &wait);
	} while (!err);
	return err;
}

int tree_commit(struct tree *t, uint64_t *newest_layer_out, bool *sealed_out)
{
	uint64_t before = layers_newest_sealed(t->store->layers), after;
	int err;

	if (t->store->config.follow)
		return -EROFS;
	err = commit_wait(t->store->commit, COMMIT_SEAL);
	if (err)
		return err;
	after = layers_newest_sealed(t->store->layers);
	*newest_layer_out = after;
	*sealed_out = after != before;
	return 0;
}

struct store *tree_store(struct tree *t)
{
	return t->store;
}

void tree_on_changes(struct tree *t, const struct tree_changes *c)
{
	t->changes = *c;
}

void tree_changed_name(struct tree *t, uint64_t parent, const char *name)
{
	if (t->changes.name)
		t->changes.name(t->changes.ctx, parent, name);
	/* Of the directory's times and links the kernel forgets nothing with a name that it does not know. */
	tree_changed_attr(t, parent);
}

void tree_changed_attr(struct tree *t, uint64_t ino)
{
	if (t->changes.attr)
		t->changes.attr(t->changes.ctx, ino);
}

void tree_changed_facts(struct tree *t, uint64_t ino)
{
	char name[META_NAME_MAX + 1];
	uint64_t parent;
	int err = -ENOENT;

	tree_changed_attr(t, ino);
	if (t->sizes_stick) {
		meta_lock(t->store->meta);
		err = meta_name_of_locked(t->store->meta, ino, &parent, name);
		meta_unlock(t->store->meta);
	}
	if (!err)
		tree_changed_name(t, parent, name);
}

void tree_changed_pages(struct tree *t, uint64_t ino, uint64_t off, uint64_t len)
{
	if (t->changes.pages)
		t->changes.pages(t->changes.ctx, ino, off, len);
}
