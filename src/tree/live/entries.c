/*
 * Entries of directories as views want them: names and element types from rows, without inodes.
 */
#include <errno.h>
#include <string.h>

#include "array/dtype.h"
#include "spillfs.h"
#include "store/store.h"
#include "tree/dir.h"
#include "tree/live/live.h"

struct entries {
	struct meta *meta;
	uint64_t last; /* cookie */
	int (*each)(void *ctx, const struct realm_entry *e);
	void *ctx;
};

/* As live_dtype_locked and the attribute say, without an inode. */
static int give_entry(void *ctx, const struct meta_entry *e)
{
	struct entries *to = ctx;
	char text[DTYPE_TEXT_MAX + 1] = "", one[META_NAME_MAX + 1];
	const char *name = e->name, *type = text;

	if (e->cookie > to->last)
		return 1;
	if (e->xattr && e->xattr_len <= DTYPE_TEXT_MAX)
		memcpy(text, e->xattr, e->xattr_len);
	if (!e->xattr && S_ISREG(e->mode)) {
		/* Several names may say several types: the file has one of them. */
		if (e->nlink > 1 && !meta_name_of_locked(to->meta, e->ino, NULL, one))
			name = one;
		type = dtype_of_name(name);
	}
	return to->each(to->ctx, &(struct realm_entry){ e->cookie, e->ino, e->name, e->mode, e->kind, type ? type : "" });
}

int live_walk(struct tree *t, struct tree_dir *d, uint64_t dir, uint64_t cookie, int (*each)(void *ctx, const struct realm_entry *e),
	      void *ctx)
{
	struct meta *m = t->store->meta;
	struct entries to = { .meta = m, .each = each, .ctx = ctx };
	int err;

	meta_lock(m);
	err = dir_last_locked(t, d, &to.last);
	if (!err)
		err = meta_entry_walk_locked(m, dir, cookie, SPILLFS_XATTR_DTYPE, give_entry, &to);
	meta_unlock(m);
	return err;
}

/* All that begin with the stem and a dot come in one statement. The inode is loaded under the same lock: no entry changes in
 * between. */
int live_find(struct tree *t, uint64_t dir, const struct realm_stem *what, struct inode **out)
{
	struct meta *m = t->store->meta;
	struct entries to = { .meta = m, .last = UINT64_MAX, .each = what->each, .ctx = what->ctx };
	uint64_t ino = 0;
	int err;

	meta_lock(m);
	err = meta_entry_stem_locked(m, dir, what->stem, SPILLFS_XATTR_DTYPE, give_entry, &to);
	if (!err && what->pick) {
		ino = what->pick(what->ctx);
		err = ino ? live_get_locked(t, ino, out) : -ENOENT;
	}
	meta_unlock(m);
	return err;
}
