/*
 * Shelves.
 *
 * Invariants:
 *  1. A directory with a shelf has no entries in its own store, and is held; it holds its shelf. live_inode.shelf changes under the meta lock
 *     and attr.
 *  2. live_inode.shows of a shelf is its directory's number, from before anybody finds the shelf to its end.
 *  3. In a shelf that is closed (it has no links) nothing can be made. It is closed while it is empty, under the meta locks of both stores.
 */
#include "tree/live/shelf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "array/setting.h"
#include "spillfs.h"
#include "store/classes.h"
#include "store/store.h"
#include "tree/live/live.h"
#include "tree/live/quota.h"
#include "tree/live/room.h"
#include "util/log.h"
#include "util/plant.h"

bool shelf_is_attribute(const char *name)
{
	return setting_durable(name, "", NULL) != -ENODATA;
}

/* Making one. */

static int copy_attribute(void *ctx, const char *name, const void *value, size_t len)
{
	struct inode *shelf = ctx;

	if (setting_is_of_directory(name))
		return 0;
	return meta_xattr_set_locked(shelf->tree->store->meta, shelf->facts.ino, name, value, len);
}

/* The shelf's files are of the kind of the directory's folder. */
static int copy_attributes_locked(struct inode *dir, struct inode *shelf)
{
	const char *kind = class_by_kind(dir->facts.kind)->kind_name;
	int err = meta_xattr_walk_locked(dir->tree->store->meta, dir->facts.ino, copy_attribute, shelf);

	if (!err)
		err = meta_xattr_set_locked(shelf->tree->store->meta, shelf->facts.ino, SPILLFS_XATTR_KIND, kind, strlen(kind));
	return err;
}

static int make_locked(struct inode *dir, struct tree *scratch, struct inode **out)
{
	struct meta *m = scratch->store->meta;
	struct inode *shelf;
	struct facts row;
	int err;

	live_row(dir, &row);
	row.nlink = 2;
	row.kind = ARRAY_BUCKET;
	row.parent = scratch->store->config.above + META_INO_ROOT;
	meta_inode_next_locked(m, &row.ino);
	err = meta_inode_store_locked(m, &row);
	if (!err)
		err = quota_stand_in(dir, row.ino);
	if (!err)
		err = live_get_locked(scratch, row.ino, &shelf);
	if (err) {
		meta_inode_delete_locked(m, row.ino);
		return err;
	}
	live_of(shelf)->shows = dir->facts.ino;
	err = copy_attributes_locked(dir, shelf);
	atomic_store(&live_of(shelf)->has_xattrs, -1);
	*out = shelf;
	return err;
}

/* The directory and its shelf, or none. */
static void point(struct inode *dir, struct inode *shelf)
{
	lock_acquire(&dir->attr);
	live_of(dir)->shelf = shelf;
	lock_release(&dir->attr);
	if (shelf)
		atomic_fetch_add(&dir->tree->nshelves, 1);
	else
		atomic_fetch_sub(&dir->tree->nshelves, 1);
}

static void set_links(struct inode *shelf, uint32_t nlink)
{
	lock_acquire(&shelf->attr);
	__atomic_store_n(&shelf->facts.nlink, nlink, __ATOMIC_RELAXED);
	lock_release(&shelf->attr);
}

static int open_shelf(struct inode *dir)
{
	struct tree *t = dir->tree, *scratch = t->scratch;
	struct inode *shelf = NULL;
	bool empty = true;
	int err;

	if (!scratch)
		return -EOPNOTSUPP;
	meta_lock(t->store->meta);
	err = live_of(dir)->shelf ? -EEXIST : meta_name_empty_locked(t->store->meta, dir->facts.ino, &empty);
	if (!err && !empty && !PLANTED(PLANT_SHELF_FULL))
		err = -ENOTEMPTY;
	if (!err) {
		meta_lock(scratch->store->meta);
		err = make_locked(dir, scratch, &shelf);
		meta_unlock(scratch->store->meta);
	}
	if (!err) {
		inode_ref(dir);
		point(dir, shelf);
	}
	meta_unlock(t->store->meta);
	if (err && shelf) {
		set_links(shelf, 0);
		inode_put(shelf, 1);
	}
	return err == -EEXIST ? 0 : err;
}

/* The end of one. */

int shelf_close_locked(struct inode *dir)
{
	struct inode *shelf = live_of(dir)->shelf;
	struct meta *m = dir->tree->scratch ? dir->tree->scratch->store->meta : NULL;
	bool empty;
	int err;

	if (!shelf)
		return 0;
	meta_lock(m);
	err = meta_name_empty_locked(m, shelf->facts.ino, &empty);
	if (!err && !empty)
		err = -ENOTEMPTY;
	if (!err)
		set_links(shelf, 0);
	meta_unlock(m);
	return err;
}

/* Nobody can use it again. */
static void end_shelf_locked(struct inode *dir, struct inode **out)
{
	*out = live_of(dir)->shelf;
	point(dir, NULL);
}

static void let_go(struct inode *dir, struct inode *shelf)
{
	inode_put(shelf, 1);
	inode_put(dir, 1);
}

void shelf_settle(struct inode *dir)
{
	struct meta *m = dir->tree->store->meta;
	struct inode *ended = NULL;

	if (!atomic_load(&dir->tree->nshelves))
		return;
	meta_lock(m);
	if (live_of(dir)->shelf && !inode_has_name(dir))
		end_shelf_locked(dir, &ended);
	else if (live_of(dir)->shelf && !inode_has_name(live_of(dir)->shelf))
		set_links(live_of(dir)->shelf, 2);
	meta_unlock(m);
	if (ended)
		let_go(dir, ended);
}

static int close_shelf(struct inode *dir)
{
	struct meta *m = dir->tree->store->meta;
	struct inode *ended = NULL;
	int err;

	meta_lock(m);
	err = shelf_close_locked(dir);
	if (!err && live_of(dir)->shelf)
		end_shelf_locked(dir, &ended);
	meta_unlock(m);
	if (ended)
		let_go(dir, ended);
	return err;
}

/* The attribute. */

static int is_durable_locked(struct inode *dir, bool *out)
{
	void *text;
	size_t len;
	int err = live_stored_locked(dir, SPILLFS_XATTR_DURABLE, &text, &len);

	*out = true;
	if (err)
		return err == -ENODATA ? 0 : err;
	/* A value that nobody can have set says nothing. */
	if (strlen(text) == len)
		setting_durable(SPILLFS_XATTR_DURABLE, text, out);
	free(text);
	return 0;
}

int shelf_changed(struct inode *dir)
{
	struct meta *m = dir->tree->store->meta;
	bool durable;
	int err;

	meta_lock(m);
	err = is_durable_locked(dir, &durable);
	if (!err && !durable)
		err = meta_fact_set_locked(m, META_FACT_SHELVES, 1);
	meta_unlock(m);
	if (!err && !durable && dir->tree->scratch)
		err = room_need(dir->tree->scratch, ROOM_NAME_BYTES);
	return err ? err : durable ? close_shelf(dir) : open_shelf(dir);
}

void shelf_follow(struct inode *dir)
{
	struct inode *shelf;
	struct facts row;

	if (!atomic_load(&dir->tree->nshelves))
		return;
	live_row(dir, &row);
	meta_lock(dir->tree->store->meta);
	shelf = live_of(dir)->shelf;
	if (shelf) {
		lock_acquire(&shelf->attr);
		inode_set_mode(shelf, row.mode);
		shelf->facts.uid = row.uid;
		shelf->facts.gid = row.gid;
		lock_release(&shelf->attr);
		live_mark_changed(shelf);
	}
	meta_unlock(dir->tree->store->meta);
}

/* At mount. */

static int load_one(struct tree *t, uint64_t ino)
{
	struct inode *dir;
	bool durable = true;
	int err;

	meta_lock(t->store->meta);
	err = live_get_locked(t, ino, &dir);
	if (err) {
		meta_unlock(t->store->meta);
		return err == -ENOENT || err == -EUCLEAN ? 0 : err;
	}
	if (S_ISDIR(inode_mode(dir)) && class_by_kind(dir->facts.kind) && ino != META_INO_ROOT)
		err = is_durable_locked(dir, &durable);
	meta_unlock(t->store->meta);
	if (!err && !durable)
		err = open_shelf(dir);
	if (err == -ENOTEMPTY) {
		log_warn("directory %llu has %s=no and files that are durable: it is taken as durable: move them away, and set it again", (unsigned long long)ino,
			 SPILLFS_XATTR_DURABLE);
		err = 0;
	}
	inode_put(dir, 1);
	return err;
}

int shelves_load(struct tree *t)
{
	static const char *const attributes[2] = { SPILLFS_XATTR_DURABLE, SPILLFS_XATTR_DURABLE };
	struct meta *m = t->store->meta;
	uint64_t ino = 0;
	int64_t any = 0;
	int err;

	meta_lock(m);
	err = meta_fact_get_locked(m, META_FACT_SHELVES, &any);
	meta_unlock(m);
	while (!err && any) {
		meta_lock(m);
		err = meta_xattr_owner_after_locked(m, attributes, ino, &ino);
		meta_unlock(m);
		if (err || !ino)
			break;
		err = load_one(t, ino);
	}
	return err == -ENOENT ? 0 : err;
}
