/*
 * The arrays whose pages a view shows, and the views that have pages of an array.
 */
#include "tree/inos.h"
#include "tree/views/inside.h"
#include "tree/views/upload.h"

/* The array that a node's pages are written to. */
static uint64_t written_array(const struct view_inode *v)
{
	return v->upload ? upload_array(v->upload) : v->node.key.source;
}

int views_written_to(struct tree *t, uint64_t array, uint64_t asked, struct tree_inos *out)
{
	int err = 0;

	lock_acquire(&t->lock);
	for (const struct view_inode *v = t->written; v && !err; v = v->next_written) {
		if (v->base.facts.ino != asked && written_array(v) == array)
			err = inos_add(out, v->base.facts.ino);
	}
	lock_release(&t->lock);
	return err;
}

/* As they were when the table was looked at last. */
static int columns_of(struct inode *i, struct tree_inos *out)
{
	const struct tree_inos *c = &view_of(i)->columns;
	int err = 0;

	lock_acquire(&i->attr);
	for (size_t k = 0; k < c->n && !err; k++)
		err = inos_add(out, c->v[k]);
	lock_release(&i->attr);
	return err;
}

int views_arrays(struct tree *t, uint64_t ino, struct tree_inos *out)
{
	const struct view_key *key;
	struct inode *i;

	if (inode_find(t, ino, &i))
		return 0;
	key = &view_of(i)->node.key;
	if (views_is_fixed(t, key->source))
		return 0;
	return key->role == VIEW_TABLE ? columns_of(i, out) : inos_add(out, key->source);
}
