/*
 * Finding files whose changed pages the kernel may hold: those that are open in a way that can leave some. A view that is written
 * in place has pages of its own, which are its array's.
 */
#include "tree/unwritten.h"

#include <errno.h>
#include <stdlib.h>

#include "tree/views/upload.h"
#include "tree/views/views.h"
#include "tree/views/inside.h"

static int add(struct tree_inos *s, uint64_t ino)
{
	if (s->n == s->cap) {
		size_t cap = s->cap ? s->cap * 2 : 8;
		uint64_t *v = realloc(s->v, cap * sizeof(*v));

		if (!v)
			return -ENOMEM;
		s->v = v;
		s->cap = cap;
	}
	s->v[s->n++] = ino;
	return 0;
}

/* The array that a node's pages are written to. */
static uint64_t written_array(const struct inode *i)
{
	return i->view->upload ? upload_array(i->view->upload) : i->view->key.source;
}

/* Of an array: its own pages, unless it is itself what is asked for, and those of views that are written. */
static int add_array(struct tree *t, uint64_t array, uint64_t asked, struct tree_inos *s)
{
	int err = array != asked && inode_is_mappable(t, array) ? add(s, array) : 0;

	lock_acquire(&t->lock);
	for (struct inode *live = t->live; live && !err; live = live->view->live_next) {
		if (live->ino != asked && written_array(live) == array)
			err = add(s, live->ino);
	}
	lock_release(&t->lock);
	return err;
}

static int add_columns(struct tree *t, const struct view_key *table, struct tree_inos *s)
{
	struct view_columns c;
	int err = views_columns(t, table->source, &c);

	if (err)
		return err == -ENOMEM ? err : 0; /* there is nothing to show */
	for (size_t k = 0; k < c.n && !err; k++)
		err = add_array(t, c.v[k].inode->ino, 0, s);
	views_columns_fini(&c);
	return err;
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
	struct tree_inos s = { 0 };
	struct inode *i;
	int err;

	if (inode_find(t, ino, &i) || i->past || (i->view && views_is_fixed(t, i->view->key.source)))
		err = 0;
	else if (i->view && i->view->key.role == VIEW_TABLE)
		err = add_columns(t, &i->view->key, &s);
	else
		err = add_array(t, i->view ? i->view->key.source : ino, ino, &s);
	return finish(err, &s, out);
}

int tree_unwritten_all(struct tree *t, struct tree_inos *out)
{
	struct tree_inos s = { 0 };
	int err = 0;

	lock_acquire(&t->lock);
	for (size_t b = 0; b < t->nbuckets && !err; b++) {
		for (struct inode *i = t->table[b]; i && !err; i = i->hash_next) {
			if (atomic_load(&i->nmappable) > 0)
				err = add(&s, i->ino);
		}
	}
	lock_release(&t->lock);
	return finish(err, &s, out);
}
