/*
 * Removing a directory with all that is in it.
 *
 * Invariant: a directory that is being emptied has no name and is held, so that nothing is added to it and it is not deleted under us.
 */
#include "tree/scratch/remove.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/store.h"
#include "tree/changed.h"
#include "tree/live/live.h"
#include "util/vec.h"

#define BATCH 64u

/* Directories without a name that are to be emptied, each with a reference. */
struct todo {
	struct inode **v;
	size_t n, cap;
};

struct entry {
	char name[META_NAME_MAX + 1];
	uint64_t ino;
	struct inode *inode; /* with a reference; NULL: it was not detached */
};

struct batch {
	size_t n;
	struct entry v[BATCH];
};

static int add_entry(void *ctx, uint64_t cookie, const char *name, uint64_t ino)
{
	struct batch *b = ctx;

	(void)cookie;
	if (b->n == BATCH)
		return 1;
	strcpy(b->v[b->n].name, name);
	b->v[b->n].inode = NULL;
	b->v[b->n++].ino = ino;
	return 0;
}

/* The first entries of the directory lose their names. */
static int detach_batch(struct inode *dir, struct batch *b)
{
	struct meta *m = dir->tree->store->meta;
	int err;

	b->n = 0;
	meta_lock(m);
	err = meta_name_walk_locked(m, dir->facts.ino, 0, add_entry, b);
	for (size_t k = 0; k < b->n && !err; k++) {
		err = live_get_locked(dir->tree, b->v[k].ino, &b->v[k].inode);
		if (!err)
			err = live_detach_locked(dir, b->v[k].name, b->v[k].inode);
	}
	meta_unlock(m);
	return err;
}

/* A directory is emptied later; a file goes with its last reference. */
static int let_go(struct batch *b, struct todo *todo)
{
	int err = VEC_RESERVE(todo->v, todo->cap, todo->n + b->n);

	for (size_t k = 0; k < b->n; k++) {
		struct inode *i = b->v[k].inode;

		if (i && !err && S_ISDIR(inode_mode(i)))
			todo->v[todo->n++] = i;
		else if (i)
			inode_put(i, 1);
	}
	return err;
}

static int empty(struct inode *dir, struct batch *b, struct todo *todo)
{
	int err, later;

	do {
		err = detach_batch(dir, b);
		later = let_go(b, todo);
		err = err ? err : later;
	} while (!err && b->n);
	return err;
}

static int empty_all(struct inode *top)
{
	struct batch *b = malloc(sizeof(*b));
	struct todo todo = { 0 };
	int err = b ? VEC_RESERVE(todo.v, todo.cap, 1) : -ENOMEM;

	if (err)
		inode_put(top, 1);
	else
		todo.v[todo.n++] = top;
	while (todo.n) {
		struct inode *dir = todo.v[--todo.n];

		if (!err)
			err = empty(dir, b, &todo);
		inode_put(dir, 1);
	}
	free(todo.v);
	free(b);
	return err;
}

int scratch_remove_dir(struct tree *t, uint64_t ino)
{
	struct meta *m = t->store->meta;
	struct inode *top = NULL, *parent = NULL;
	char name[META_NAME_MAX + 1];
	uint64_t up;
	int err;

	if (ino == t->store->config.above + META_INO_ROOT)
		return -EBUSY;
	meta_lock(m);
	err = meta_name_of_locked(m, ino, &up, name);
	if (!err)
		err = live_get_locked(t, up, &parent);
	if (!err)
		err = live_get_locked(t, ino, &top);
	if (!err)
		err = live_detach_locked(parent, name, top);
	meta_unlock(m);
	if (!err) {
		live_touch(parent, TREE_SET_MTIME | TREE_SET_CTIME);
		changed_name(t, up, name);
		err = empty_all(top);
	} else if (top) {
		inode_put(top, 1);
	}
	if (parent)
		inode_put(parent, 1);
	return err;
}
