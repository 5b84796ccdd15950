/*
 * Finding files whose changed pages the kernel may hold: those that are open in a way that can leave some. A view that is written
 * in place has pages of its own, which are its array's.
 */
#include "tree/unwritten.h"

#include <stdlib.h>

#include "store/store.h"
#include "tree/inode.h"
#include "tree/realm.h"
#include "tree/views/views.h"

/* An array's own pages, unless the array itself is asked for, and those of views that are written. */
static int add_array(struct tree *t, uint64_t array, uint64_t asked, struct tree_inos *s)
{
	int err = array != asked && inode_is_mappable(t, array) ? inos_add(s, array) : 0;

	return err ? err : views_written_to(t, array, asked, s);
}

static int finish(int err, struct tree_inos *s, struct tree_inos *out)
{
	if (err)
		free(s->v);
	else
		*out = *s;
	return err;
}

int tree_unwritten(struct tree *t, uint64_t ino, struct tree_inos *out)
{
	const struct realm_ops *r = realm_of(t, ino);
	struct tree_inos arrays = { 0 }, s = { 0 };
	int err = r->arrays ? r->arrays(t, ino, &arrays) : 0;

	for (size_t k = 0; k < arrays.n && !err; k++)
		err = add_array(t, arrays.v[k], ino, &s);
	free(arrays.v);
	return finish(err, &s, out);
}

int tree_unwritten_all(struct tree *t, struct tree_inos *out)
{
	struct tree_inos s = { 0 };
	int err = 0;

	if (t->store->config.scratch)
		return finish(0, &s, out);
	lock_acquire(&t->lock);
	for (size_t b = 0; b < t->nbuckets && !err; b++) {
		for (struct inode *i = t->table[b]; i && !err; i = i->hash_next) {
			if (atomic_load(&i->nmappable) > 0)
				err = inos_add(&s, i->facts.ino);
		}
	}
	lock_release(&t->lock);
	return finish(err, &s, out);
}
