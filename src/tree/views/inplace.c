/*
 * Writing views in place.
 *
 * Such a node is live: it is laid out over the array itself, not over a pin. Readers that have a pin keep their node, and the writer
 * is sent to another. Pages that the kernel alone has changed are written back before the array, or another view of it, is opened
 * (tree/unwritten.h).
 *
 * Invariant: while a view is written in place, it is one node, whoever opens it: all share the kernel's pages. It shows the array as it
 * is, not as it was.
 */
#include <errno.h>
#include <string.h>

#include "tree/live/edit.h"
#include "tree/live/privs.h"
#include "tree/views/inside.h"
#include "util/log.h"
#include "view/view.h"

int views_write_array(struct inode *i, struct edit_bytes *b, const struct tree_caller *who)
{
	const uint64_t off = b->off, len = b->len;
	int err = privs_drop(i, who, PRIVS_DATA, NULL);

	if (err)
		return err;
	err = edit_write_inside(i, b); /* it may have been cut since the view was opened */
	if (b->off > off)
		live_touch(i, TREE_SET_MTIME | TREE_SET_CTIME);
	/* As of a write around the cache: in this order, an open in between sees the mark or is seen. */
	inode_pages_stale(i);
	if (atomic_load(&i->ncached))
		changed_pages(i->tree, i->facts.ino, off, len);
	else
		changed_attr(i->tree, i->facts.ino);
	return err;
}

/* The first n bytes of b: elements of source, at `at`. */
static int write_elements(struct inode *source, uint64_t at, struct edit_bytes *b, size_t n, const struct tree_caller *who)
{
	struct edit_bytes part = { b->buf, n, at, b->how };
	int err = views_write_array(source, &part, who);

	edit_bytes_take(b, n - part.len);
	return err;
}

int views_write(struct inode *i, struct edit_bytes *b, const struct tree_caller *who)
{
	int err = 0;

	if (b->off > i->array->size_bytes || b->len > i->array->size_bytes - b->off)
		return -EFBIG;
	while (b->len && !err) {
		const void *head;
		struct inode *source;
		uint64_t at;
		size_t n = view_place(i->array, b->off, b->len, &head, (void **)&source, &at);

		if (!head) {
			err = write_elements(source, at, b, n, who);
		} else if (memcmp(head, b->buf, n)) {
			log_warn("views/npy: %s: what is written in place has another header; write a new file, and rename it over this one",
				 view_of(i)->node.name ? view_of(i)->node.name : "");
			err = -EINVAL;
		} else {
			edit_bytes_take(b, n);
		}
	}
	return err;
}

static struct view_inode **written_slot(struct view_inode *v)
{
	struct view_inode **at = &v->base.tree->written;

	while (*at && *at != v)
		at = &(*at)->next_written;
	return at;
}

void views_enter_live(struct inode *i)
{
	struct view_inode *v = view_of(i);

	lock_acquire(&i->tree->lock);
	if (!v->nlive++) {
		v->next_written = i->tree->written;
		i->tree->written = v;
	}
	lock_release(&i->tree->lock);
}

void views_leave_live(struct inode *i)
{
	struct view_inode *v = view_of(i);

	lock_acquire(&i->tree->lock);
	if (!--v->nlive) {
		*written_slot(v) = v->next_written;
		/* Open descriptors keep this node; the next lookup gets a node that shows the array as it is then. */
		atomic_store(&v->superseded, true);
	}
	lock_release(&i->tree->lock);
}

bool views_is_live(struct inode *i)
{
	bool live;

	lock_acquire(&i->tree->lock);
	live = view_of(i)->nlive > 0;
	lock_release(&i->tree->lock);
	return live;
}

