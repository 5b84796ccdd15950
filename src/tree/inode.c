/*
 * The cache of inodes.
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

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "array/dtype.h"
#include "array/setting.h"
#include "block/index.h"
#include "store/commit.h"
#include "store/history.h"
#include "store/layers.h"
#include "store/store.h"
#include "tree/live/passthrough.h"
#include "tree/past/past.h"
#include "tree/views/views.h"
#include "util/clock.h"
#include "util/log.h"

#include "spillfs.h"

/* The kernel's coarse clock moves on by this at most at once. */
#define TICK_NS 20000000

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

bool inode_is_mappable(struct tree *t, uint64_t ino)
{
	struct inode *i;
	bool is;

	lock_acquire(&t->lock);
	i = *slot_of(t, ino);
	is = i && atomic_load(&i->nmappable) > 0;
	lock_release(&t->lock);
	return is;
}

static _Atomic uint32_t *edits_of(struct tree *t, uint64_t ino)
{
	return &t->edits[hash_ino(ino, TREE_EDIT_SLOTS)];
}

void inode_new_version(struct inode *i)
{
	atomic_fetch_add(edits_of(i->tree, i->ino), 1);
	atomic_store(&i->version, atomic_fetch_add(&i->tree->versions, 1) + 1);
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
	atomic_init(&i->has_capabilities, -1);
	atomic_init(&i->xattrs_bytes, UINT64_MAX);
	/* The same whenever an unchanged file is loaded again. Times alone would not tell: with the kernel's writeback cache
	 * they come after the data. */
	atomic_init(&i->version, (((uint64_t)row->ctime_ns * 31 + (uint64_t)row->mtime_ns) * 31 + row->size_bytes) * 31 +
				 atomic_load(edits_of(t, row->ino)));
	return i;
}

static void free_inode(struct inode *i)
{
	leaving_end(i);
	if (i->array)
		array_close(i->array);
	if (i->past)
		past_free(i->past);
	if (i->view)
		views_free_node(i->view);
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
	if (i) {
		i->refs++;
		if (i->idle)
			inode_used_locked(i);
	}
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
	inode_known_locked(i);
	lock_release(&t->lock);
	*out = i;
	return 0;
}

int inode_get_made(struct tree *t, const struct meta_inode *row, struct past *past, struct view_node *view,
		   struct inode **out)
{
	struct inode *made = new_inode(t, row), *i;

	if (!made)
		return -ENOMEM;
	lock_acquire(&t->lock);
	i = *slot_of(t, row->ino);
	if (i) {
		i->refs++;
		/* The state that it was found in first may have been dropped since; this one is there. */
		if (i->past && past)
			atomic_store(&i->past->layer, past->layer);
	} else {
		made->past = past;
		made->view = view;
		if (t->ninodes++ > t->nbuckets * 2)
			grow_table(t);
		*slot_of(t, row->ino) = made;
		inode_known_locked(made);
	}
	lock_release(&t->lock);
	if (i) {
		made->past = past;
		made->view = view;
		free_inode(made);
	}
	*out = i ? i : made;
	return 0;
}

void inode_ref(struct inode *i)
{
	lock_acquire(&i->tree->lock);
	i->refs++;
	lock_release(&i->tree->lock);
}

static int delete_locked(struct inode *i, struct array *a)
{
	struct store *s = i->tree->store;
	int err = a ? array_drop_locked(a) : 0;

	layers_lock(s->layers);
	if (!err && (i->kind == ARRAY_LAYERED || i->kind == ARRAY_COLUMN))
		err = layers_note_gone_locked(s->layers, i->ino, i->kind == ARRAY_COLUMN);
	layers_unlock(s->layers);
	return err ? err : meta_inode_delete_locked(s->meta, i->ino);
}

/* Invariant 4. Nobody else knows the inode any more. */
static void delete_inode(struct inode *i)
{
	struct store *s = i->tree->store;
	struct array *a = NULL;
	int err = 0;

	if (S_ISREG(i->mode)) {
		rwlock_exclusive(&i->rw);
		err = inode_need_array(i, &a);
		if (!err)
			err = array_resize(a, 0);
		if (!err && array_is_cutting(a))
			err = -EAGAIN;
		rwlock_release(&i->rw);
	}
	inode_log_enter(i);
	meta_lock(s->meta);
	if (!err)
		err = delete_locked(i, a);
	meta_unlock(s->meta);
	inode_log_leave(i);
	if (store_others_lack(s))
		commit_ask(s->commit);
	if (err)
		log_warn("inode %llu: not deleted before the next mount: %s", (unsigned long long)i->ino, strerror(-err));
}

void inode_log_enter(struct inode *i)
{
	if (i->kind != ARRAY_BUCKET)
		commit_gate_enter(i->tree->store->commit);
}

void inode_log_leave(struct inode *i)
{
	if (i->kind != ARRAY_BUCKET)
		commit_gate_leave(i->tree->store->commit);
}

/* Takes n references back; true if those were the last: it is in the table no more. */
static bool release_locked(struct inode *i, uint64_t n)
{
	struct tree *t = i->tree;

	i->refs -= n;
	if (i->refs)
		return false;
	*slot_of(t, i->ino) = i->hash_next;
	t->ninodes--;
	inode_unknown_locked(i);
	return true;
}

/* Of what has no row. */
static void put_made(struct inode *i, uint64_t n)
{
	struct tree *t = i->tree;
	bool last;

	lock_acquire(&t->lock);
	last = release_locked(i, n);
	lock_release(&t->lock);
	if (last)
		free_inode(i);
}

void inode_put(struct inode *i, uint64_t n)
{
	struct tree *t = i->tree;
	struct meta *m = t->store->meta;
	bool last, named;

	if (i->past || i->view) {
		put_made(i, n);
		return;
	}
	lock_acquire(&t->lock);
	last = i->refs == n;
	if (!last) {
		i->refs -= n;
		if (i->refs == (uint64_t)i->dirty + i->staged)
			leaving_end_locked(i);
	}
	lock_release(&t->lock);
	if (!last)
		return;
	if (!i->nlink)
		cut_orphan(i);
	/* Under the meta lock, so that nobody loads the row again before the array is closed (invariant 1). */
	meta_lock(m);
	lock_acquire(&t->lock);
	last = release_locked(i, n);
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

void inode_forget(struct tree *t, uint64_t ino, uint64_t n)
{
	struct inode *i;

	if (!inode_find(t, ino, &i))
		inode_put(i, n);
}

/* What its row and its note take. */
static uint64_t owed_by(const struct inode *i)
{
	uint64_t xattrs = atomic_load(&i->xattrs_bytes);

	return ROOM_INODE_BYTES + (i->kind != ARRAY_BUCKET && xattrs != UINT64_MAX ? xattrs : 0);
}

void inode_mark_dirty(struct inode *i)
{
	uint64_t owed = owed_by(i);
	struct tree *t = i->tree;

	lock_acquire(&t->lock);
	if (owed > i->owed_bytes) {
		store_owe(t->store, owed - i->owed_bytes);
		i->owed_bytes = owed;
	}
	if (!i->dirty) {
		i->dirty = true;
		i->refs++;
		i->dirty_next = NULL;
		*t->dirty_tail = i;
		t->dirty_tail = &i->dirty_next;
	}
	lock_release(&t->lock);
}

void inode_mark_changed(struct inode *i)
{
	inode_new_version(i);
	atomic_store(&i->facts_changed, true);
	inode_mark_dirty(i);
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

void inode_stat(struct inode *i, struct tree_attr *out)
{
	struct stat *st = &out->st;
	struct array *a;
	uint64_t stored;
	bool settled;

	memset(st, 0, sizeof(*st));
	lock_acquire(&i->attr);
	/* Who closes it takes it away with this lock held. A past file's is not needed: the row says the same. */
	a = i->past ? NULL : i->array;
	stored = a ? atomic_load(&a->stored_bytes) : i->row_stored_bytes;
	settled = !a || !array_unsettled(a);
	st->st_ino = i->ino;
	st->st_mode = i->mode;
	st->st_nlink = i->nlink;
	st->st_uid = i->uid;
	st->st_gid = i->gid;
	st->st_rdev = i->rdev;
	st->st_atim = clock_timespec(i->atime_ns);
	st->st_mtim = clock_timespec(i->mtime_ns);
	st->st_ctim = clock_timespec(i->ctime_ns);
	st->st_size = (off_t)atomic_load(&i->size_bytes);
	st->st_blocks = (blkcnt_t)((stored + 511) / 512);
	through_stat_locked(i, st);
	settled &= !i->through.mapped && !i->lost_bits;
	lock_release(&i->attr);
	/* The kernel may have pages that nobody here has seen. */
	if (!st->st_blocks && atomic_load(&i->nmappable) > 0)
		st->st_blocks = TREE_BLOCKS_LEAST;
	st->st_blksize = TREE_IO_BYTES;
	out->attr_ms = settled ? TREE_KEEP_MS : 0;
	out->name_ms = TREE_KEEP_MS;
}

bool inode_may_add(const struct inode *dir, const struct tree_caller *who)
{
	mode_t need = S_IWUSR | S_IXUSR;

	if (!who->uid)
		return true;
	if (who->uid != dir->uid)
		need >>= who->gid == dir->gid ? 3 : 6;
	return (dir->mode & need) == need;
}

int64_t inode_stamp_ns(struct tree *t)
{
	int64_t now = clock_now_ns(), newest = atomic_load(&t->newest_ns);

	return newest > now && newest - now < TICK_NS ? newest : now;
}

void inode_saw_stamp(struct tree *t, int64_t ns)
{
	int64_t now = clock_now_ns(), newest = atomic_load(&t->newest_ns);

	while (ns > now && ns - now < TICK_NS && (ns > newest || newest - now >= TICK_NS) &&
	       !atomic_compare_exchange_weak(&t->newest_ns, &newest, ns))
		;
}

void inode_touch(struct inode *i, unsigned which)
{
	int64_t now = inode_stamp_ns(i->tree);

	lock_acquire(&i->attr);
	if (which & TREE_SET_ATIME)
		i->atime_ns = now;
	if (which & TREE_SET_MTIME)
		i->mtime_ns = now;
	if (which & TREE_SET_CTIME)
		i->ctime_ns = now;
	lock_release(&i->attr);
	if (which != TREE_SET_ATIME)
		inode_mark_changed(i);
	else
		inode_mark_dirty(i);
}

static int open_array(struct inode *i, struct array **out)
{
	struct meta *m = i->tree->store->meta;
	struct array_params params;
	struct meta_inode row;
	int err = i->past ? past_hold(i) : 0;

	assert(!i->view);
	if (err)
		return err;
	inode_row(i, &row);
	meta_lock(m);
	err = inode_params_locked(i, &params);
	meta_unlock(m);
	if (err)
		return err;
	if (i->past) {
		row.ino = i->past->ino;
		params.past = i->past->state;
	}
	return array_open(i->tree->arrays, &row, &params, out);
}

int inode_need_array(struct inode *i, struct array **out)
{
	struct array *a = i->array;
	int err = 0;

	if (!a) {
		err = open_array(i, &a);
		if (err)
			return err;
		i->array = a;
	}
	*out = a;
	return 0;
}

void inode_drop_array(struct inode *i)
{
	struct array *a = i->array;

	if (!a)
		return;
	lock_acquire(&i->attr);
	i->row_stored_bytes = atomic_load(&a->stored_bytes);
	i->file_id = a->file_id;
	i->array = NULL;
	lock_release(&i->attr);
	array_close(a);
}

void inode_idle_array(struct inode *i)
{
	if (i->past && !atomic_load(&i->nholds)) {
		inode_drop_array(i);
		if (i->past->state)
			history_put(i->past->state);
		i->past->state = NULL;
	}
	inode_rest(i);
}

void inode_array_changed(struct inode *i)
{
	struct array *a = i->array;

	atomic_store(&i->size_bytes, a->size_bytes);
}

/* The text of a past file's attribute, or NULL. */
static char *past_setting(const struct past *p, const char *name)
{
	struct index_record r = { .xattrs = p->xattrs, .xattrs_len = (uint32_t)p->xattrs_len };
	const void *value;
	size_t len;

	return index_record_xattr(&r, name, &value, &len) ? strndup(value, len) : NULL;
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

	if (atomic_load(&i->has_xattrs) < 0 && !meta_xattr_walk_locked(i->tree->store->meta, i->ino, see_any, &any))
		atomic_store(&i->has_xattrs, any);
	return atomic_load(&i->has_xattrs);
}

/* The text of a row, or NULL. */
static char *xattr_text_locked(struct inode *i, const char *name)
{
	void *text;
	size_t len;

	if (i->past)
		return past_setting(i->past, name);
	if (!has_xattrs_locked(i) || meta_xattr_get_locked(i->tree->store->meta, i->ino, name, &text, &len))
		return NULL;
	return text;
}

char *inode_setting_locked(struct inode *i, const char *name)
{
	const char *inherited = setting_inherited_name(name);
	char *text = xattr_text_locked(i, name);

	return !text && inherited ? xattr_text_locked(i, inherited) : text;
}

int inode_dtype_locked(struct inode *i, char **out)
{
	char *text = inode_setting_locked(i, SPILLFS_XATTR_DTYPE), name[META_NAME_MAX + 1];
	const char *dtype = i->past ? i->past->dtype : NULL;

	if (!text) {
		if (!i->past && !meta_name_of_locked(i->tree->store->meta, i->ino, NULL, name))
			dtype = dtype_of_name(name);
		text = strdup(dtype ? dtype : "");
	}
	if (!text)
		return -ENOMEM;
	*out = text;
	return 0;
}

/* Whole rows in about ARRAY_BLOCK_DEFAULT bytes, so that blocks can be chunks of an array of several dimensions. */
static uint32_t default_block_locked(struct inode *i, uint32_t elem_bytes)
{
	char *text = inode_setting_locked(i, SPILLFS_XATTR_SHAPE), *order = inode_setting_locked(i, SPILLFS_XATTR_ORDER);
	struct shape shape = { 0 };
	uint64_t row = 0;

	if (text && !shape_parse(text, &shape)) {
		shape.fortran = order && *order == 'F';
		row = shape_row(&shape);
	}
	free(text);
	free(order);
	row = !row || row > ARRAY_BLOCK_MAX / elem_bytes ? elem_bytes : row * elem_bytes;
	return row > ARRAY_BLOCK_DEFAULT ? (uint32_t)row : (uint32_t)(ARRAY_BLOCK_DEFAULT / row * row);
}

int inode_params_locked(struct inode *i, struct array_params *out)
{
	char *block = inode_setting_locked(i, SPILLFS_XATTR_BLOCK_SIZE), *codec = inode_setting_locked(i, SPILLFS_XATTR_CODEC);
	char *filter = inode_setting_locked(i, SPILLFS_XATTR_FILTER), *own = xattr_text_locked(i, SPILLFS_XATTR_BLOCK_SIZE), *dtype;
	int err = inode_dtype_locked(i, &dtype);

	if (!err) {
		*out = (struct array_params){
			.block_default = !own,
			.codec.level = !codec ? 3 : strcmp(codec, "none") ? atoi(codec + strlen("zstd:")) : 0,
			.codec.policy = !filter || !strcmp(filter, "auto") ? CODEC_POLICY_AUTO :
					!strcmp(filter, "none") ? CODEC_POLICY_NONE : CODEC_POLICY_SHUFFLE,
			.codec.elem_bytes = 1,
			.stat_type = dtype_summary(dtype),
		};
		if (*dtype)
			dtype_size(dtype, &out->codec.elem_bytes);
		out->block_bytes = block ? (uint32_t)strtoul(block, NULL, 10) : default_block_locked(i, out->codec.elem_bytes);
		if (out->codec.elem_bytes > 16)
			out->codec.elem_bytes = 1;
		free(dtype);
	}
	free(block);
	free(own);
	free(codec);
	free(filter);
	return err;
}

static void forget_all(struct tree *t, bool views)
{
	for (size_t b = 0; b < t->nbuckets; b++) {
		struct inode *i = t->table[b];

		while (i) {
			uint64_t refs = i->refs - i->dirty;

			if (!refs || !i->view == views) {
				i = i->hash_next;
				continue;
			}
			inode_put(i, refs);
			i = t->table[b];
		}
	}
}

void inode_forget_all(struct tree *t)
{
	forget_all(t, true); /* these hold others */
	forget_all(t, false);
}

/* No commit will come any more: what is left dirty is let go of as it is. */
static void abandon(struct inode *i)
{
	rwlock_exclusive(&i->rw);
	/* Empty, an array holds no dirty memory. */
	if (i->array)
		array_resize(i->array, 0);
	rwlock_release(&i->rw);
	lock_acquire(&i->tree->lock);
	release_locked(i, i->refs);
	lock_release(&i->tree->lock);
	free_inode(i);
}

void inode_abandon_dirty(struct tree *t)
{
	while (t->dirty_head) {
		struct inode *i = t->dirty_head;

		t->dirty_head = i->dirty_next;
		store_disown(t->store, i->owed_bytes);
		i->owed_bytes = 0;
		abandon(i);
	}
	t->dirty_tail = &t->dirty_head;
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
