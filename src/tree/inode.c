/*
 * Known inodes: the table by number, references, attributes, and arrays while they are open.
 *
 * Invariant: one number has one struct inode. Rows are loaded under the meta lock.
 */
#include "tree/inode.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/store.h"
#include "util/clock.h"

/* malloc adds this to an inode. */
#define HEAP_BYTES 16u
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

	while (*at && (*at)->facts.ino != ino)
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
			struct inode **at = &table[hash_ino(i->facts.ino, n)];

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

	t = realm_tree(t, ino);
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

	t = realm_tree(t, ino);
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
	atomic_fetch_add(edits_of(i->tree, i->facts.ino), 1);
	atomic_store(&i->version, atomic_fetch_add(&i->tree->versions, 1) + 1);
}

void inode_init(struct inode *i, struct tree *t, enum realm_id realm, const struct facts *row)
{
	i->tree = t;
	i->facts = *row;
	i->realm = t->realms[realm];
	i->refs = 1;
	rwlock_init(&i->rw, RANK_INODE);
	lock_init(&i->attr, RANK_ATTR);
	/* An unchanged file gets the same version whenever it is loaded. Times alone would not do: with the kernel's writeback
	 * cache they come after the data. */
	atomic_init(&i->version, (((uint64_t)row->ctime_ns * 31 + (uint64_t)row->mtime_ns) * 31 + row->size_bytes) * 31 +
				 atomic_load(edits_of(t, row->ino)));
}

void inode_free(struct inode *i)
{
	if (i->array)
		array_close(i->array);
	if (i->realm->fini)
		i->realm->fini(i);
	rwlock_fini(&i->rw);
	lock_fini(&i->attr);
	free(i);
}

static size_t bytes_of(const struct inode *i)
{
	return i->realm->inode_bytes + HEAP_BYTES;
}

static void used_locked(struct inode *i)
{
	if (i->realm->used_locked)
		i->realm->used_locked(i);
}

static void add_locked(struct inode *i)
{
	struct tree *t = i->tree;

	if (t->ninodes++ > t->nbuckets * 2)
		grow_table(t);
	*slot_of(t, i->facts.ino) = i;
	account_change(&t->store->account, ACCOUNT_INODES, 0, bytes_of(i));
	used_locked(i);
}

void inode_add(struct inode *i)
{
	lock_acquire(&i->tree->lock);
	add_locked(i);
	lock_release(&i->tree->lock);
}

struct inode *inode_use_locked(struct tree *t, uint64_t ino)
{
	struct inode *i = *slot_of(t, ino);

	if (i)
		i->refs++;
	return i;
}

struct inode *inode_get_made(struct inode *made)
{
	struct tree *t = made->tree;
	struct inode *i;

	lock_acquire(&t->lock);
	i = inode_use_locked(t, made->facts.ino);
	if (!i)
		add_locked(made);
	lock_release(&t->lock);
	if (!i)
		return made;
	inode_free(made);
	return i;
}

int inode_list(struct tree *t, bool (*wanted)(const struct inode *i), struct inode ***out, size_t *n_out)
{
	struct inode **v;
	size_t n = 0;

	lock_acquire(&t->lock);
	v = malloc((t->ninodes + 1) * sizeof(*v));
	for (size_t b = 0; v && b < t->nbuckets; b++) {
		for (struct inode *i = t->table[b]; i; i = i->hash_next) {
			if (!wanted(i))
				continue;
			i->refs++;
			v[n++] = i;
		}
	}
	lock_release(&t->lock);
	if (!v)
		return -ENOMEM;
	*out = v;
	*n_out = n;
	return 0;
}

bool inode_release_locked(struct inode *i, uint64_t n)
{
	struct tree *t = i->tree;

	i->refs -= n;
	if (i->refs)
		return false;
	*slot_of(t, i->facts.ino) = i->hash_next;
	t->ninodes--;
	account_change(&t->store->account, ACCOUNT_INODES, bytes_of(i), 0);
	account_change(&t->store->account, ACCOUNT_ARRAYS, i->array_bytes, 0);
	i->array_bytes = 0;
	if (i->realm->unknown_locked)
		i->realm->unknown_locked(i);
	return true;
}

void inode_put(struct inode *i, uint64_t n)
{
	struct tree *t = i->tree;
	bool last;

	if (i->realm->put) {
		i->realm->put(i, n);
		return;
	}
	lock_acquire(&t->lock);
	last = inode_release_locked(i, n);
	lock_release(&t->lock);
	if (last)
		inode_free(i);
}

void inode_ref(struct inode *i)
{
	lock_acquire(&i->tree->lock);
	i->refs++;
	lock_release(&i->tree->lock);
}

void inode_forget(struct tree *t, uint64_t ino, uint64_t n)
{
	struct inode *i;

	if (!inode_find(t, ino, &i))
		inode_put(i, n);
}

bool inode_has_name(struct inode *i)
{
	bool named;

	lock_acquire(&i->attr);
	named = i->facts.nlink;
	lock_release(&i->attr);
	return named;
}

void inode_stat(struct inode *i, struct tree_attr *out)
{
	struct stat *st = &out->st;

	memset(st, 0, sizeof(*st));
	out->attr_ms = out->name_ms = TREE_KEEP_MS;
	lock_acquire(&i->attr);
	st->st_ino = i->facts.ino;
	st->st_mode = inode_mode(i);
	st->st_nlink = i->facts.nlink;
	st->st_uid = i->facts.uid;
	st->st_gid = i->facts.gid;
	st->st_rdev = i->facts.rdev;
	st->st_atim = clock_timespec(i->facts.atime_ns);
	st->st_mtim = clock_timespec(i->facts.mtime_ns);
	st->st_ctim = clock_timespec(i->facts.ctime_ns);
	st->st_size = (off_t)inode_size(i);
	st->st_blocks = (blkcnt_t)((i->facts.stored_bytes + 511) / 512);
	if (i->realm->stat_locked)
		i->realm->stat_locked(i, out);
	lock_release(&i->attr);
	/* The kernel may have pages that nobody here has seen. */
	if (!st->st_blocks && atomic_load(&i->nmappable) > 0)
		st->st_blocks = TREE_BLOCKS_LEAST;
	st->st_blksize = TREE_IO_BYTES;
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

int inode_need_array(struct inode *i, struct array **out)
{
	struct array *a = i->array;
	int err = 0;

	if (!a) {
		err = i->realm->load(i, &a);
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
	i->facts.stored_bytes = atomic_load(&a->stored_bytes);
	i->facts.file_id = a->file_id;
	i->array = NULL;
	lock_release(&i->attr);
	array_close(a);
}

void inode_array_changed(struct inode *i)
{
	struct array *a = i->array;

	inode_set_size(i, a->size_bytes);
}

void inode_rest(struct inode *i)
{
	struct array *a = i->array;
	size_t bytes = a ? array_memory(a) : 0;

	lock_acquire(&i->tree->lock);
	account_change(&i->tree->store->account, ACCOUNT_ARRAYS, i->array_bytes, bytes);
	i->array_bytes = bytes;
	used_locked(i);
	lock_release(&i->tree->lock);
}

void inode_idle_array(struct inode *i)
{
	if (i->realm->idle && !atomic_load(&i->nholds))
		i->realm->idle(i);
	inode_rest(i);
}

void inode_hold_array(struct inode *i)
{
	atomic_fetch_add(&i->nholds, 1);
}

void inode_let_go_array(struct inode *i)
{
	atomic_fetch_sub(&i->nholds, 1);
	if (i->realm->idle) {
		rwlock_exclusive(&i->rw);
		inode_idle_array(i);
	} else {
		rwlock_shared(&i->rw);
		inode_rest(i);
	}
	rwlock_release(&i->rw);
}

static void forget_world(struct tree *t, const struct realm_ops *realm)
{
	for (size_t b = 0; b < t->nbuckets; b++) {
		struct inode *i = t->table[b];

		while (i) {
			uint64_t refs = i->refs - i->dirty;

			if (!refs || i->realm != realm) {
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
	for (int id = REALM_N; id-- > 0;)
		forget_world(t, t->realms[id]);
}
