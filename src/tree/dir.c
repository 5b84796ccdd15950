/*
 * Open directories.
 */
#include "tree/dir.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/layers/state.h"
#include "store/store.h"
#include "tree/inode.h"

int tree_dir_open(struct tree *t, struct tree_dir **out)
{
	struct tree_dir *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	lock_acquire(&t->lock);
	d->next = t->dirs;
	d->link = &t->dirs;
	if (d->next)
		d->next->link = &d->next;
	t->dirs = d;
	lock_release(&t->lock);
	*out = d;
	return 0;
}

void tree_dir_release(struct tree *t, struct tree_dir *d)
{
	lock_acquire(&t->lock);
	*d->link = d->next;
	if (d->next)
		d->next->link = d->link;
	lock_release(&t->lock);
	if (d->state)
		state_put(d->state);
	free(d);
}

void dir_release_all(struct tree *t)
{
	while (t->dirs)
		tree_dir_release(t, t->dirs);
}

struct tree_dirent *dir_add(struct tree_listing *l, uint64_t cookie, const char *name)
{
	struct tree_dirent *d;

	if (l->n == l->max)
		return NULL;
	d = &l->v[l->n++];
	memset(d, 0, sizeof(*d));
	d->cookie = cookie;
	snprintf(d->name, sizeof(d->name), "%s", name);
	return d;
}

int dir_last_locked(struct tree *t, struct tree_dir *d, uint64_t *out)
{
	uint64_t last = atomic_load(&d->last);
	int err = last ? 0 : meta_name_last_locked(t->store->meta, &last);

	if (err)
		return err;
	atomic_store(&d->last, last);
	*out = last;
	return 0;
}

void dir_uncount(struct tree_listing *l, size_t first)
{
	for (size_t k = first; k < l->n; k++) {
		if (l->v[k].counted)
			inode_forget(l->tree, l->v[k].attr.st.st_ino, 1);
	}
	l->n = first;
}
