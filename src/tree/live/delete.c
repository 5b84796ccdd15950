/*
 * The end of inodes.
 *
 * Invariant: an inode without a name lives while it is referenced; then its row and its storage go in one transaction.
 */
#include <errno.h>
#include <string.h>

#include "store/classes.h"
#include "store/commit.h"
#include "store/layers.h"
#include "store/store.h"
#include "tree/live/live.h"
#include "tree/live/quota.h"
#include "tree/live/room.h"
#include "util/log.h"

/* A deleted file counts for so much at least. */
#define FREED_FILE_BYTES 4096u
/* Lines of the log for files that are left behind; the others are counted. */
#define TOLD_MAX 16u

static int delete_locked(struct inode *i, struct array *a)
{
	struct store *s = i->tree->store;
	int err = a ? array_drop_locked(a) : 0;

	layers_lock(s->layers);
	if (!err && class_is_logged(i->facts.kind))
		err = layers_note_gone_locked(s->layers, i->facts.ino, i->facts.kind == ARRAY_COLUMN);
	layers_unlock(s->layers);
	return err ? err : meta_inode_delete_locked(s->meta, i->facts.ino);
}

/* Nobody else knows the inode. */
static void delete_inode(struct inode *i)
{
	struct store *s = i->tree->store;
	struct array *a = NULL;
	int err = 0;

	if (S_ISREG(inode_mode(i))) {
		rwlock_exclusive(&i->rw);
		err = inode_need_array(i, &a);
		if (!err)
			err = array_resize(a, 0);
		if (!err && array_is_cutting(a))
			err = -EAGAIN;
		rwlock_release(&i->rw);
	}
	live_log_enter(i);
	meta_lock(s->meta);
	if (!err)
		err = delete_locked(i, a);
	meta_unlock(s->meta);
	live_log_leave(i);
	if (store_others_lack(s))
		commit_ask(s->commit);
	if (err)
		log_warn("inode %llu: not deleted before the next mount: %s", (unsigned long long)i->facts.ino, strerror(-err));
}

/* Begins to give back the data of a bucket that nobody knows. If that takes several commits, the bucket is dirty afterwards, which
 * keeps a reference. */
static void cut_orphan(struct inode *i)
{
	struct array *a;
	bool cutting;

	if (i->facts.kind != ARRAY_BUCKET || !S_ISREG(inode_mode(i)))
		return;
	rwlock_exclusive(&i->rw);
	/* delete_inode tries again, and says what fails. */
	if (!inode_need_array(i, &a) && !array_resize(a, 0)) {
		inode_array_changed(i);
		quota_settle(i);
	}
	cutting = i->array && array_is_cutting(i->array);
	rwlock_release(&i->rw);
	if (cutting)
		live_mark_dirty(i);
}

void live_forgetting(struct inode *i)
{
	leaving_expect(i);
	if (!inode_has_name(i))
		room_free(i->tree); /* it may be the last of a deleted file */
}

/* The file has no name, and nobody but a commit has it, or nobody: so many bytes come back. Counted once, however often a commit that finds no
 * space has it again. */
static uint64_t gone_bytes(struct inode *i)
{
	uint64_t bytes;
	struct array *a;

	lock_acquire(&i->attr);
	a = i->array;
	bytes = i->facts.nlink || live_of(i)->gone ? 0 : FREED_FILE_BYTES + (a ? atomic_load(&a->stored_bytes) : i->facts.stored_bytes);
	if (!i->facts.nlink)
		atomic_store(&i->tree->quota_shrinks, true);
	live_of(i)->gone |= bytes > 0;
	lock_release(&i->attr);
	return bytes;
}

/* Has the inode no name, and no other user than the one with these references? Then nobody finds it any more, nor closes its
 * array, which is to be cut. */
static bool is_orphan(struct inode *i, uint64_t n)
{
	bool orphan;

	lock_acquire(&i->tree->lock);
	orphan = i->refs == n && !inode_has_name(i);
	if (orphan)
		live_unknown_locked(i);
	lock_release(&i->tree->lock);
	return orphan;
}

/* Takes the meta lock, so that nobody loads the row again before the array is closed (invariant 1). An orphan has been cut
 * then, also one that has become one meanwhile. */
static void lock_orphan(struct inode *i, uint64_t n)
{
	struct meta *m = i->tree->store->meta;
	bool is_cut = false;

	for (;;) {
		if (!is_cut && is_orphan(i, n)) {
			cut_orphan(i);
			is_cut = true;
		}
		meta_lock(m);
		if (is_cut || !is_orphan(i, n))
			return;
		meta_unlock(m);
	}
}

void live_put(struct inode *i, uint64_t n)
{
	struct tree *t = i->tree;
	struct meta *m = t->store->meta;
	bool last, named;
	uint64_t gone = 0;

	lock_acquire(&t->lock);
	last = i->refs == n;
	if (!last) {
		i->refs -= n;
		if (i->refs == (uint64_t)i->dirty + live_of(i)->staged) {
			leaving_end_locked(i);
			gone = gone_bytes(i);
		}
	}
	lock_release(&t->lock);
	if (!last) {
		commit_freed(t->store->commit, gone, true);
		return;
	}
	gone = gone_bytes(i);
	lock_orphan(i, n);
	lock_acquire(&t->lock);
	last = inode_release_locked(i, n);
	lock_release(&t->lock);
	named = !last || i->facts.nlink;
	if (last && named)
		inode_free(i);
	meta_unlock(m);
	if (!named) {
		delete_inode(i);
		inode_free(i);
	}
	commit_freed(t->store->commit, gone, !last);
}

int live_delete_orphans(struct tree *t)
{
	struct meta *m = t->store->meta;
	struct facts row = { 0 };
	int err;

	t->deleting_orphans = true;
	do {
		struct inode *i;

		meta_lock(m);
		err = meta_inode_orphan_after_locked(m, row.ino, &row);
		if (!err && row.ino)
			err = live_get_locked(t, row.ino, &i);
		meta_unlock(m);
		if (!err && row.ino)
			inode_put(i, 1);
	} while (!err && row.ino);
	t->deleting_orphans = false;
	return err;
}

/* No further commit comes: dirty inodes are let go of as they are. */
static void abandon(struct inode *i)
{
	rwlock_exclusive(&i->rw);
	/* Empty, an array holds no dirty memory. */
	if (i->array)
		array_resize(i->array, 0);
	rwlock_release(&i->rw);
	lock_acquire(&i->tree->lock);
	inode_release_locked(i, i->refs);
	lock_release(&i->tree->lock);
	inode_free(i);
}

/* The next mount has the file as its last commit left it. */
static void tell_lost(struct inode *i)
{
	const struct class *class = class_by_kind(i->facts.kind);
	struct meta *m = i->tree->store->meta;
	char path[4096] = "";
	int err = -ENOENT;

	if (class) {
		meta_lock(m);
		err = meta_path_locked(m, class->ino, i->facts.ino, path, sizeof(path));
		meta_unlock(m);
	}
	log_error("%s%s%s (inode %llu): what has changed since its last commit is not stored", class ? class->name : "a file", err ? "" : "/",
		  err ? "" : path, (unsigned long long)i->facts.ino);
}

/* Does the next mount have the file, in an older state, or its directory without it? */
static bool is_lost(struct inode *i)
{
	return i->facts.nlink && S_ISREG(inode_mode(i)) && !i->tree->store->config.scratch;
}

void live_abandon_dirty(struct tree *t)
{
	size_t nlost = 0;

	while (t->dirty_head) {
		struct live_inode *live = t->dirty_head;

		if (is_lost(&live->base) && ++nlost <= TOLD_MAX)
			tell_lost(&live->base);
		t->dirty_head = live->dirty_next;
		store_disown(t->store, live->owed_bytes);
		live->owed_bytes = 0;
		abandon(&live->base);
	}
	t->dirty_tail = &t->dirty_head;
	if (nlost > TOLD_MAX)
		log_error("and %zu more files: what has changed since their last commit is not stored", nlost - TOLD_MAX);
}
