/*
 * Opening views to be read.
 *
 * A node that shows a file is in one of these states; each arrow names the function that goes it.
 *
 *                  views_attr                     views_open_end                 the last close
 *     +-------+  (known = true)  +------------+  (array is set)   +--------+  (array is NULL)
 *     |  new  | ---------------> |   known    | ----------------> |  open  | --------------> known
 *     +-------+                  +------------+                   +--------+
 *         |                        |      |   out_of_date: another version is there   |
 *         | upload_open            |      +------------------+   +--------------------+
 *         | (written = true)       | upload_open, nobody     |   |
 *         v                        v has it open             v   v
 *     +---------------------------------+            +--------------+
 *     |            written              | ---------> |  superseded  |  not found any more; the next look gets
 *     +---------------------------------+ superseded +--------------+  a node with the next number
 *
 * written: the kernel's size is the upload's, so a reader is refused (-ESTALE) and looks the name up again: the kernel repeats a lookup
 * once by itself. A thread that was refused finds a node of its own until it has opened that (wish.c), pinned at the lookup, so that
 * its open finds the size that the kernel was told.
 *
 * An open begins again when somebody has noted another version while it pinned its sources, OPEN_TRIES times at most. It is refused,
 * to be looked up again, when the kernel checked permissions by attributes that are no longer those of the sources: so nobody gets
 * into an array by the rights of the one that stood in its place.
 *
 * Invariant: the content behind a number changes only while nobody has it open, and then the kernel's pages are dropped.
 */
#include <errno.h>

#include "tree/views/inside.h"
#include "tree/views/upload.h"
#include "view/view.h"

/* How often an array that changes at every look is opened anew before the thread is told to look for another view. */
#define OPEN_TRIES 10

static int begin(struct tree *t, const struct view_node *n, struct view_opening *out)
{
	struct view_look look;
	struct tree_attr attr;
	struct view *v;
	int err = views_look(t, n, &look);

	if (err)
		return err;
	err = views_source_attr(t, n, &look, &attr);
	if (!err)
		err = views_lay(t, n, &look, true, &v);
	out->version = look.version;
	views_look_end(&look);
	if (err)
		return err;
	out->source = attr.st;
	out->hash = view_hash(v);
	err = view_array(t->arrays, v, &out->array);
	if (err)
		view_free(v);
	return err;
}

/* An upload is not to be read. If its node was an array's view when it was looked up, or has become one, the reader looks it up again. */
static int refuse_upload(struct tree *t, const struct view_inode *n, pid_t thread)
{
	if (n->node.key.role == VIEW_NEW && !upload_is_published(n->upload))
		return -EBUSY;
	views_part(t, &n->node.key, thread);
	return -ESTALE;
}

/* If the array was replaced after the lookup, the name stands for another array, and the open shows that one. */
int views_open_begin(struct inode *i, struct view_opening *out)
{
	const struct view_inode *n = view_of(i);
	struct view_node now = n->node;
	struct inode *source = NULL;
	int err;

	now.live = out->live;
	if (n->upload)
		return refuse_upload(i->tree, n, out->thread);
	lock_acquire(&i->attr);
	out->nseen = n->nseen;
	lock_release(&i->attr);
	err = begin(i->tree, &now, out);
	for (int k = 0; err == -ESTALE && k < VIEWS_REPLACED_TRIES; k++) {
		if (source)
			inode_put(source, 1);
		source = NULL;
		if (views_now(i, &source))
			break;
		now.key.source = source->facts.ino;
		err = begin(i->tree, &now, out);
	}
	if (source)
		inode_put(source, 1);
	return err;
}

int views_open_end(struct inode *i, struct view_opening *o)
{
	struct view_inode *n = view_of(i);

	if (atomic_load(&n->written)) {
		views_part(i->tree, &n->node.key, o->thread);
		return -ESTALE;
	}
	if (i->array) {
		views_parted(i->tree, &n->node.key, o->thread);
		return 0;
	}
	lock_acquire(&i->attr);
	if (i->tree->sizes_stick && n->known && n->told_bytes != o->array->size_bytes) {
		atomic_store(&n->superseded, true);
		lock_release(&i->attr);
		views_part(i->tree, &n->node.key, o->thread);
		return -ESTALE;
	}
	/* The kernel has let the caller in by other attributes: it looks the name up again, and checks again. */
	if (n->source.st_mode && !views_same_access(&n->source, &o->source)) {
		lock_release(&i->attr);
		return -ESTALE;
	}
	/* Others have seen other sources since, perhaps newer ones. */
	if (n->nseen != o->nseen && (n->nseen != o->nseen + 1 || n->seen != o->version)) {
		lock_release(&i->attr);
		if (++o->ntries < OPEN_TRIES)
			return -EAGAIN;
		views_part(i->tree, &n->node.key, o->thread);
		return -ESTALE;
	}
	views_note_version_locked(n, o->version);
	if (!n->known || n->version != o->version || n->hash != o->hash)
		inode_pages_stale(i);
	n->known = true;
	n->version = o->version;
	n->hash = o->hash;
	n->laid_bytes = o->array->size_bytes;
	n->source = o->source;
	inode_set_size(i, o->array->size_bytes);
	i->array = o->array;
	lock_release(&i->attr);
	o->array = NULL;
	views_parted(i->tree, &n->node.key, o->thread);
	return 0;
}
