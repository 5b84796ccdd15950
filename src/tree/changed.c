/*
 * Telling the kernel.
 */
#include "tree/changed.h"

#include <errno.h>

#include "store/meta.h"
#include "store/store.h"
#include "tree/inode.h"
#include "tree/live/live.h"

void tree_on_changes(struct tree *t, const struct tree_changes *c)
{
	t->changes = *c;
	if (t->scratch)
		tree_on_changes(t->scratch, c);
}

void changed_name(struct tree *t, uint64_t parent, const char *name)
{
	parent = live_shown_of(t, parent);
	if (t->changes.name)
		t->changes.name(t->changes.ctx, parent, name);
	/* With a name that it does not know the kernel forgets nothing of the directory's times and links. */
	changed_attr(t, parent);
}

void changed_attr(struct tree *t, uint64_t ino)
{
	if (t->changes.attr)
		t->changes.attr(t->changes.ctx, ino);
}

void changed_facts(struct tree *t, uint64_t ino)
{
	struct meta *m = realm_tree(t, ino)->store->meta;
	char name[META_NAME_MAX + 1];
	uint64_t parent;
	int err = -ENOENT;

	changed_attr(t, ino);
	if (t->sizes_stick) {
		meta_lock(m);
		err = meta_name_of_locked(m, ino, &parent, name);
		meta_unlock(m);
	}
	if (!err)
		changed_name(t, parent, name);
}

void changed_pages(struct tree *t, uint64_t ino, uint64_t off, uint64_t len)
{
	changed_pages_then(t, ino, off, len, NULL, NULL);
}

void changed_pages_then(struct tree *t, uint64_t ino, uint64_t off, uint64_t len, void (*then)(void *ctx), void *ctx)
{
	if (t->changes.pages)
		t->changes.pages(t->changes.ctx, ino, off, len, then, ctx);
	else if (then)
		then(ctx);
}
