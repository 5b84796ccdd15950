/*
 * Rows and inodes.
 *
 * Invariant: a row is loaded only under the meta lock, so that one inode number has one struct inode.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "array/arrays.h"
#include "array/dtype.h"
#include "store/store.h"
#include "tree/live/cold.h"
#include "tree/live/growth.h"
#include "tree/live/live.h"
#include "tree/live/passthrough.h"
#include "tree/live/privs.h"
#include "tree/live/quota.h"
#include "tree/setting.h"

static int add_locked(struct tree *t, const struct facts *row, bool fresh, struct inode **out)
{
	struct live_inode *live = calloc(1, sizeof(*live));
	int err;

	if (!live)
		return -ENOMEM;
	inode_init(&live->base, t, REALM_LIVE, row);
	live->fresh = fresh;
	atomic_init(&live->has_xattrs, -1);
	atomic_init(&live->cold, -1);
	atomic_init(&live->has_capabilities, -1);
	atomic_init(&live->xattrs_bytes, UINT64_MAX);
	err = quota_enter_locked(&live->base);
	if (err) {
		inode_free(&live->base);
		return err;
	}
	inode_add(&live->base);
	*out = &live->base;
	return 0;
}

int live_add_locked(struct tree *t, const struct facts *row, struct inode **out)
{
	return add_locked(t, row, true, out);
}

int live_get_locked(struct tree *t, uint64_t ino, struct inode **out)
{
	struct facts row;
	struct inode *i;
	int err;

	lock_acquire(&t->lock);
	i = inode_use_locked(t, ino);
	if (i && live_of(i)->idle)
		live_used_locked(i);
	lock_release(&t->lock);
	if (i) {
		*out = i;
		return 0;
	}
	err = meta_inode_load_locked(t->store->meta, ino, &row);
	if (err)
		return err;
	/* Without a name and not in memory: it is being deleted. */
	if (!row.nlink && !t->deleting_orphans)
		return -ENOENT;
	return add_locked(t, &row, false, out);
}

void live_row(struct inode *i, struct facts *out)
{
	struct array *a = i->array;

	lock_acquire(&i->attr);
	*out = i->facts;
	lock_release(&i->attr);
	if (a) {
		out->size_bytes = a->size_bytes;
		out->stored_bytes = atomic_load(&a->stored_bytes);
		out->file_id = a->file_id;
	}
}

static int see_any(void *ctx, const char *name, const void *value, size_t len)
{
	(void)name;
	(void)value;
	(void)len;
	*(bool *)ctx = true;
	return 1;
}

/* One look for all attributes that it has not got. */
static bool has_xattrs_locked(struct inode *i)
{
	bool any = false;

	if (atomic_load(&live_of(i)->has_xattrs) < 0 && !meta_xattr_walk_locked(i->tree->store->meta, i->facts.ino, see_any, &any))
		atomic_store(&live_of(i)->has_xattrs, any);
	return atomic_load(&live_of(i)->has_xattrs);
}

int live_stored_locked(struct inode *i, const char *name, void **out, size_t *len_out)
{
	int err = has_xattrs_locked(i) ? meta_xattr_get_locked(i->tree->store->meta, i->facts.ino, name, out, len_out) : -ENODATA;

	if (err == -ENODATA && !strcmp(name, PRIVS_XATTR))
		atomic_store(&live_of(i)->has_capabilities, 0);
	return err;
}

char *live_dtype_locked(struct inode *i)
{
	const char *dtype = NULL;
	char name[META_NAME_MAX + 1];

	if (!meta_name_of_locked(i->tree->store->meta, i->facts.ino, NULL, name))
		dtype = dtype_of_name(name);
	return strdup(dtype ? dtype : "");
}

/* With the lock of its attributes held, nobody takes its array away. */
void live_stat_locked(struct inode *i, struct tree_attr *out)
{
	struct array *a = i->array;

	if (live_of(i)->shelf && out->st.st_nlink)
		out->st.st_nlink = __atomic_load_n(&live_of(i)->shelf->facts.nlink, __ATOMIC_RELAXED);
	if (a)
		out->st.st_blocks = (blkcnt_t)((atomic_load(&a->stored_bytes) + 511) / 512);
	through_stat_locked(i, &out->st);
	growth_stat_locked(i, &out->st);
	if ((a && array_is_unsettled(a)) || cold_may_change(i) || live_of(i)->through.mapped || i->lost_bits)
		out->attr_ms = 0;
}

int live_load(struct inode *i, struct array **out)
{
	struct meta *m = i->tree->store->meta;
	struct array_params params;
	struct array *a;
	struct facts row;
	int err;

	live_row(i, &row);
	meta_lock(m);
	err = setting_params_locked(i, &params);
	meta_unlock(m);
	if (err)
		return err;
	cold_know(i, params.cold);
	params.fresh = live_of(i)->fresh;
	err = arrays_open(i->tree->arrays, &row, &params, &a);
	if (err)
		return err;
	live_of(i)->fresh = false;
	/* A column may have kept what was written to it after the last commit before a kill: the row follows. */
	if (row.nlink && atomic_load(&a->stored_bytes) != row.stored_bytes) {
		live_mark_dirty(i);
		quota_settle_opened(i, a);
	}
	*out = a;
	return 0;
}
