/*
 * The cache of inodes, and what a commit does with the dirty ones.
 *
 * Invariants:
 *  1. A row is loaded only under the meta lock, so that one inode number has one struct inode.
 *  2. A dirty inode is on the dirty list, once, and the list holds a reference.
 *  3. A change marks the inode dirty under the lock that protects what is changed: a stage that misses
 *     the change has the inode on the list again.
 *  4. An inode without a name lives while it is referenced; then its row and its storage go in one
 *     transaction.
 */
#include "tree/inode.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "array/dtype.h"
#include "store/commit.h"
#include "store/store.h"
#include "util/log.h"

#include "spillfs.h"

int64_t inode_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* nbuckets is a power of two. */
static size_t hash_ino(uint64_t ino, size_t nbuckets)
{
	return (ino * 0x9E3779B97F4A7C15ull >> 32) & (nbuckets - 1);
}

static struct inode **slot_of(struct tree *t, uint64_t ino)
{
	struct inode **at = &t->table[hash_ino(ino, t->nbuckets)];

	while (*at && (*at)->ino != ino)
		at = &(*at)->hash_next;
	return at;
}

static void grow_table(struct tree *t)
{
	size_t n = t->nbuckets * 2;
	struct inode **old = t->table, **table = calloc(n, sizeof(*table));

	if (!table)
		return; /* longer chains */
	t->table = table;
	for (size_t b = 0; b < t->nbuckets; b++) {
		struct inode *next;

		for (struct inode *i = old[b]; i; i = next) {
			struct inode **at = &table[hash_ino(i->ino, n)];

			next = i->hash_next;
			i->hash_next = *at;
			*at = i;
		}
	}
	t->nbuckets = n;
	free(old);
}

int inode_find(struct tree *t, uint64_t ino, struct inode **out)
{
	struct inode *i;

	lock_acquire(&t->lock);
	i = *slot_of(t, ino);
	lock_release(&t->lock);
	if (!i)
		return -ESTALE;
	*out = i;
	return 0;
}

static struct inode *new_inode(struct tree *t, const struct meta_inode *row)
{
	struct inode *i = calloc(1, sizeof(*i));

	if (!i)
		return NULL;
	i->tree = t;
	i->ino = row->ino;
	i->kind = row->kind;
	i->refs = 1;
	rwlock_init(&i->rw, RANK_INODE);
	lock_init(&i->attr, RANK_ATTR);
	atomic_init(&i->size_bytes, row->size_bytes);
	i->row_stored_bytes = row->stored_bytes;
	i->file_id = row->file_id;
	i->mode = row->mode;
	i->nlink = row->nlink;
	i->uid = row->uid;
	i->gid = row->gid;
	i->rdev = row->rdev;
	i->parent = row->parent;
	i->atime_ns = row->atime_ns;
	i->mtime_ns = row->mtime_ns;
	i->ctime_ns = row->ctime_ns;
	i->btime_ns = row->btime_ns;
	atomic_init(&i->has_xattrs, -1);
	return i;
}

static void free_inode(struct inode *i)
{
	if (i->array)
		array_close(i->array);
	rwlock_fini(&i->rw);
	lock_fini(&i->attr);
	free(i);
}

int inode_get_locked(struct tree *t, uint64_t ino, struct inode **out)
{
	struct meta_inode row;
	struct inode *i;
	int err;

	lock_acquire(&t->lock);
	i = *slot_of(t, ino);
	if (i)
		i->refs++;
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
	i = new_inode(t, &row);
	if (!i)
		return -ENOMEM;
	lock_acquire(&t->lock);
	if (t->ninodes++ > t->nbuckets * 2)
		grow_table(t);
	*slot_of(t, ino) = i;
	lock_release(&t->lock);
	*out = i;
	return 0;
}

void inode_ref(struct inode *i)
{
	lock_acquire(&i->tree->lock);
	i->refs++;
	lock_release(&i->tree->lock);
}

/* Invariant 4. Nobody else knows the inode any more. */
static void delete_inode(struct inode *i)
{
	struct meta *m = i->tree->store->meta;
	struct array *a = NULL;
	int err = 0;

	if (S_ISREG(i->mode)) {
		rwlock_exclusive(&i->rw);
		err = inode_need_array(i, &a);
		if (!err)
			err = array_resize(a, 0);
		rwlock_release(&i->rw);
	}
	meta_lock(m);
	if (!err && a)
		err = array_drop_locked(a);
	if (!err)
		err = meta_inode_delete_locked(m, i->ino);
	meta_unlock(m);
	if (err)
		log_warn("inode %llu: not deleted before the next mount: %s", (unsigned long long)i->ino, strerror(-err));
}

void inode_put(struct inode *i, uint64_t n)
{
	struct tree *t = i->tree;
	struct meta *m = t->store->meta;
	bool last, named;

	lock_acquire(&t->lock);
	last = i->refs == n;
	if (!last)
		i->refs -= n;
	lock_release(&t->lock);
	if (!last)
		return;
	/* Under the meta lock, so that nobody loads the row again before the array is closed (invariant 1). */
	meta_lock(m);
	lock_acquire(&t->lock);
	i->refs -= n;
	last = !i->refs;
	if (last) {
		*slot_of(t, i->ino) = i->hash_next;
		t->ninodes--;
	}
	lock_release(&t->lock);
	named = !last || i->nlink;
	if (last && named)
		free_inode(i);
	meta_unlock(m);
	if (!named) {
		delete_inode(i);
		free_inode(i);
	}
}

void inode_mark_dirty(struct inode *i)
{
	struct tree *t = i->tree;

	lock_acquire(&t->lock);
	if (!i->dirty) {
		i->dirty = true;
		i->refs++;
		i->dirty_next = NULL;
		*t->dirty_tail = i;
		t->dirty_tail = &i->dirty_next;
	}
	lock_release(&t->lock);
}

void inode_row(struct inode *i, struct meta_inode *out)
{
	struct array *a = i->array;

	lock_acquire(&i->attr);
	*out = (struct meta_inode){
		.ino = i->ino, .kind = i->kind, .mode = i->mode, .nlink = i->nlink, .uid = i->uid, .gid = i->gid,
		.rdev = i->rdev, .size_bytes = atomic_load(&i->size_bytes), .stored_bytes = i->row_stored_bytes,
		.file_id = i->file_id, .parent = i->parent, .atime_ns = i->atime_ns, .mtime_ns = i->mtime_ns,
		.ctime_ns = i->ctime_ns, .btime_ns = i->btime_ns,
	};
	lock_release(&i->attr);
	if (a) {
		out->size_bytes = a->size_bytes;
		out->stored_bytes = atomic_load(&a->stored_bytes);
		out->file_id = a->file_id;
	}
}

static struct timespec to_timespec(int64_t ns)
{
	struct timespec ts = { .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };

	if (ts.tv_nsec < 0) {
		ts.tv_nsec += 1000000000;
		ts.tv_sec--;
	}
	return ts;
}

void inode_stat(struct inode *i, struct tree_attr *out)
{
	struct array *a = i->array;
	struct stat *st = &out->st;
	uint64_t stored = a ? atomic_load(&a->stored_bytes) : i->row_stored_bytes;

	memset(st, 0, sizeof(*st));
	lock_acquire(&i->attr);
	st->st_ino = i->ino;
	st->st_mode = i->mode;
	st->st_nlink = i->nlink;
	st->st_uid = i->uid;
	st->st_gid = i->gid;
	st->st_rdev = i->rdev;
	st->st_atim = to_timespec(i->atime_ns);
	st->st_mtim = to_timespec(i->mtime_ns);
	st->st_ctim = to_timespec(i->ctime_ns);
	lock_release(&i->attr);
	st->st_size = (off_t)atomic_load(&i->size_bytes);
	st->st_blocks = (blkcnt_t)((stored + 511) / 512);
	st->st_blksize = 1 << 20;
	out->settled = !a || !array_unsettled(a);
}

void inode_touch(struct inode *i, unsigned which)
{
	int64_t now = inode_now_ns();

	lock_acquire(&i->attr);
	if (which & TREE_SET_ATIME)
		i->atime_ns = now;
	if (which & TREE_SET_MTIME)
		i->mtime_ns = now;
	if (which & TREE_SET_CTIME)
		i->ctime_ns = now;
	lock_release(&i->attr);
	inode_mark_dirty(i);
}

int inode_need_array(struct inode *i, struct array **out)
{
	struct meta *m = i->tree->store->meta;
	struct array_params params;
	struct meta_inode row;
	struct array *a = i->array;
	int err = 0;

	if (!a) {
		inode_row(i, &row);
		meta_lock(m);
		err = inode_params_locked(i, &params);
		meta_unlock(m);
		if (!err)
			err = array_open(i->tree->arrays, &row, &params, &a);
		if (err)
			return err;
		i->array = a;
	}
	*out = a;
	return 0;
}

void inode_array_changed(struct inode *i)
{
	struct array *a = i->array;

	atomic_store(&i->size_bytes, a->size_bytes);
}

/* The text of a settable user.spillfs attribute, or NULL. */
static char *setting_locked(struct inode *i, const char *name)
{
	void *text;
	size_t len;

	if (!atomic_load(&i->has_xattrs) || meta_xattr_get_locked(i->tree->store->meta, i->ino, name, &text, &len))
		return NULL;
	return text;
}

int inode_dtype_locked(struct inode *i, char **out)
{
	char *text = setting_locked(i, SPILLFS_XATTR_DTYPE), path[4096];
	const char *dtype = NULL;

	if (!text) {
		if (!meta_path_locked(i->tree->store->meta, META_INO_ROOT, i->ino, path, sizeof(path)))
			dtype = dtype_of_name(path);
		text = strdup(dtype ? dtype : "");
	}
	if (!text)
		return -ENOMEM;
	*out = text;
	return 0;
}

int inode_params_locked(struct inode *i, struct array_params *out)
{
	char *block = setting_locked(i, SPILLFS_XATTR_BLOCK_SIZE), *codec = setting_locked(i, SPILLFS_XATTR_CODEC);
	char *filter = setting_locked(i, SPILLFS_XATTR_FILTER), *dtype;
	int err = inode_dtype_locked(i, &dtype);

	if (!err) {
		*out = (struct array_params){
			.block_bytes = block ? (uint32_t)strtoul(block, NULL, 10) : ARRAY_BLOCK_DEFAULT,
			.codec.level = !codec ? 3 : strcmp(codec, "none") ? atoi(codec + strlen("zstd:")) : 0,
			.codec.policy = !filter || !strcmp(filter, "auto") ? CODEC_POLICY_AUTO :
					!strcmp(filter, "none") ? CODEC_POLICY_NONE : CODEC_POLICY_SHUFFLE,
			.codec.elem_bytes = 1,
			.stat_type = dtype_summary(dtype),
		};
		if (*dtype)
			dtype_size(dtype, &out->codec.elem_bytes);
		if (out->codec.elem_bytes > 16)
			out->codec.elem_bytes = 1;
		free(dtype);
	}
	free(block);
	free(codec);
	free(filter);
	return err;
}

/* The commit. */

static int hook_flush(void *ctx)
{
	struct tree *t = ctx;

	return arrays_flush(t->arrays);
}

static int stage_array_locked(struct inode *i, struct array *a, const struct meta_inode *row, bool *more)
{
	struct meta *m = i->tree->store->meta;
	char path[4096] = "", *dtype, *shape = setting_locked(i, SPILLFS_XATTR_SHAPE);
	struct array_facts facts = { .mode = row->mode, .uid = row->uid, .gid = row->gid, .mtime_ns = row->mtime_ns };
	int err = inode_dtype_locked(i, &dtype);

	if (err) {
		free(shape);
		return err;
	}
	if (row->nlink && i->kind == ARRAY_LAYERED)
		meta_path_locked(m, META_INO_LAYERS, i->ino, path, sizeof(path));
	facts.path = path;
	facts.dtype = dtype;
	facts.shape = shape ? shape : "";
	err = array_stage_locked(a, &facts, more);
	free(dtype);
	free(shape);
	return err;
}

static int stage_inode(struct inode *i)
{
	struct meta *m = i->tree->store->meta;
	struct meta_inode row;
	struct array *a;
	bool more = false;
	int err = 0;

	rwlock_shared(&i->rw);
	a = i->array;
	if (a)
		err = array_flush(a);
	meta_lock(m);
	inode_row(i, &row);
	if (!err && a)
		err = stage_array_locked(i, a, &row, &more);
	if (!err)
		err = meta_inode_store_locked(m, &row);
	meta_unlock(m);
	rwlock_release(&i->rw);
	if (more)
		inode_mark_dirty(i);
	return err;
}

/* What becomes dirty while this runs waits for the next commit, or it would never end. */
static int hook_stage(void *ctx, int *left)
{
	struct tree *t = ctx;
	int err = 0;

	lock_acquire(&t->lock);
	t->staged = t->dirty_head;
	t->dirty_head = NULL;
	t->dirty_tail = &t->dirty_head;
	for (struct inode *i = t->staged; i; i = i->dirty_next) {
		i->staged_next = i->dirty_next;
		i->dirty = false;
	}
	lock_release(&t->lock);
	for (struct inode *i = t->staged; i && !err; i = i->staged_next) {
		err = stage_inode(i);
		if (err == -ENOSPC) {
			*left = err;
			inode_mark_dirty(i);
			err = 0;
		}
	}
	return err;
}

static int hook_sync(void *ctx)
{
	struct tree *t = ctx;
	int err = 0;

	for (struct inode *i = t->staged; i && !err; i = i->staged_next) {
		if (i->array)
			err = array_sync(i->array);
	}
	return err;
}

static void hook_done(void *ctx, int err)
{
	struct tree *t = ctx;

	while (t->staged) {
		struct inode *i = t->staged;

		t->staged = i->staged_next;
		if (err)
			inode_mark_dirty(i);
		inode_put(i, 1);
	}
}

void inode_forget_all(struct tree *t)
{
	for (size_t b = 0; b < t->nbuckets; b++) {
		struct inode *i = t->table[b];

		while (i) {
			uint64_t refs = i->refs - i->dirty;

			if (!refs) {
				i = i->hash_next;
				continue;
			}
			inode_put(i, refs);
			i = t->table[b];
		}
	}
}

static int take_first(void *ctx, const struct meta_inode *row)
{
	*(struct meta_inode *)ctx = *row;
	return 1;
}

int inode_delete_orphans(struct tree *t)
{
	struct meta *m = t->store->meta;
	struct meta_inode row = { 0 };
	int err;

	t->deleting_orphans = true;
	do {
		uint64_t after = row.ino;
		struct inode *i;

		row.ino = 0;
		meta_lock(m);
		err = meta_inode_orphans_locked(m, after, take_first, &row);
		if (!err && row.ino)
			err = inode_get_locked(t, row.ino, &i);
		meta_unlock(m);
		if (!err && row.ino)
			inode_put(i, 1);
	} while (!err && row.ino);
	t->deleting_orphans = false;
	return err;
}

const struct commit_hooks inode_commit_hooks = {
	.flush = hook_flush,
	.stage = hook_stage,
	.sync = hook_sync,
	.done = hook_done,
	.compact = inode_compact,
};
