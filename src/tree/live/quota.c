/*
 * The account of quotas.
 *
 * A struct quota is a directory that has one; `top` stands above all. An inode in memory points to its own: a directory to that which its
 * entries belong to, which is its own if it has one.
 *
 * Invariants, under the lock:
 *  1. used of a quota is the sum of what the inodes count for that belong to it or to a quota below it: inode.counted of those in memory,
 *     their rows of the others.
 *  2. A clean inode counts for what its row says. (Each change marks the inode dirty first, and the stage counts what it stores.)
 *  3. A quota that was taken away is dead: it bounds nothing, its inodes count in what is above it, and it is freed with the last of
 *     them.
 */
#include "tree/live/quota.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "array/setting.h"
#include "spillfs.h"
#include "store/store.h"
#include "util/log.h"
#include "util/plant.h"

struct quota {
	struct quota *parent; /* NULL: top */
	struct quota *next;
	uint64_t dir;         /* number of the directory; 0: top */
	uint64_t shown;       /* of a shelf: its directory; 0: it is none */
	bool dead;
	uint64_t nusers;      /* inodes and quotas that point to it; and the list, while it is not dead */
	struct quota_amount limit, used;
};

struct quotas {
	struct lock lock; /* RANK_QUOTA */
	struct quota top;
	struct quota *first;
	atomic_uint nlimits; /* bounds in effect */
};

static const char *const attributes[2] = { SPILLFS_XATTR_QUOTA, SPILLFS_XATTR_QUOTA_LOGICAL };

int quotas_new(uint64_t size_bytes, struct quotas **out)
{
	struct quotas *qs = calloc(1, sizeof(*qs));

	if (!qs)
		return -ENOMEM;
	lock_init(&qs->lock, RANK_QUOTA);
	qs->top.limit = (struct quota_amount){ size_bytes ? size_bytes : UINT64_MAX, UINT64_MAX };
	qs->top.nusers = 1;
	atomic_init(&qs->nlimits, size_bytes != 0);
	*out = qs;
	return 0;
}

/* Chains. */

static struct quota *alive(struct quota *q)
{
	while (q->dead)
		q = q->parent;
	return q;
}

static void let_go(struct quota *q)
{
	while (q && !--q->nusers) {
		struct quota *above = q->parent;

		free(q);
		q = above;
	}
}

/* The inodes have left. Those that are dead go with the last quota that is below them. */
void quotas_free(struct quotas *qs)
{
	while (qs && qs->first) {
		struct quota *q = qs->first;

		qs->first = q->next;
		let_go(q);
	}
	if (qs)
		lock_fini(&qs->lock);
	free(qs);
}

static void add(struct quota *q, const struct quota_amount *more, int sign)
{
	for (; q; q = q->parent) {
		q->used.held_bytes += sign > 0 ? more->held_bytes : -more->held_bytes;
		q->used.size_bytes += sign > 0 ? more->size_bytes : -more->size_bytes;
	}
}

/* Where there is no limit, what was there at the mount may not have been counted, and `used` is less than nothing. */
static bool fits(uint64_t used, uint64_t more, uint64_t limit)
{
	return !more || limit == UINT64_MAX || (used <= limit && more <= limit - used);
}

static bool is_above(const struct quota *q, const struct quota *below)
{
	while (below && below != q)
		below = below->parent;
	return below;
}

/* Is there room for more in q and all above it, but for those that are above `from` (NULL: none is), too? */
static int check(const struct quota *q, const struct quota_amount *more, const struct quota *from)
{
	for (; q; q = q->parent) {
		if (q->dead || (from && is_above(q, from)))
			continue;
		if ((!PLANTED(PLANT_NO_QUOTA) && !fits(q->used.held_bytes, more->held_bytes, q->limit.held_bytes)) ||
		    !fits(q->used.size_bytes, more->size_bytes, q->limit.size_bytes))
			return q->dir ? -EDQUOT : -ENOSPC;
	}
	return 0;
}

static void point(struct inode *i, struct quota *q)
{
	struct quota *before = live_of(i)->quota;

	q->nusers++;
	live_of(i)->quota = q;
	let_go(before);
}

static void count_as(struct inode *i, const struct quota_amount *amount)
{
	struct live_inode *live = live_of(i);

	add(live->quota, &live->counted, -1);
	live->counted = *amount;
	add(live->quota, &live->counted, 1);
}

/* Where an inode belongs. */

static struct quota *find(struct quotas *qs, uint64_t dir)
{
	struct quota *q = qs->first;

	while (q && q->dir != dir)
		q = q->next;
	return q;
}

/* The quota that entries of a directory belong to, by its row. A circle of rows, as damage leaves it, ends somewhere. */
static struct quota *of_dir_locked(struct tree *t, uint64_t dir)
{
	struct quota *q = NULL;

	for (unsigned k = 0; k < 4096 && dir; k++) {
		struct facts row;

		q = find(t->quotas, dir);
		if (q || meta_inode_load_locked(t->store->meta, dir, &row))
			break;
		dir = row.parent == dir ? 0 : row.parent;
	}
	return q ? q : &t->quotas->top;
}

/* The same of what is not a directory, by its oldest name. */
static struct quota *of_name_locked(struct inode *i)
{
	char name[META_NAME_MAX + 1];
	uint64_t parent;

	if (meta_name_of_locked(i->tree->store->meta, i->facts.ino, &parent, name))
		return &i->tree->quotas->top;
	return of_dir_locked(i->tree, parent);
}

static struct quota *of_inode_locked(struct inode *i)
{
	if (!i->tree->quotas->first)
		return &i->tree->quotas->top;
	return S_ISDIR(inode_mode(i)) ? of_dir_locked(i->tree, i->facts.ino) : of_name_locked(i);
}

/* Inodes come and go. */

int quota_enter_locked(struct inode *i)
{
	struct live_inode *live = live_of(i);
	struct quotas *qs = i->tree->quotas;
	bool file = S_ISREG(inode_mode(i));
	uint64_t promised = 0;
	int err = file && store_promised(i->tree->store) ? meta_promised_of_locked(i->tree->store->meta, i->facts.ino, &promised) : 0;

	if (err)
		return err;
	live->counted = (struct quota_amount){ file ? i->facts.stored_bytes + promised : 0, file ? i->facts.size_bytes : 0 };
	lock_acquire(&qs->lock);
	point(i, of_inode_locked(i));
	lock_release(&qs->lock);
	return 0;
}

void quota_enter_dir_locked(struct inode *i, struct inode *dir)
{
	struct quotas *qs = i->tree->quotas;

	lock_acquire(&qs->lock);
	add(live_of(i)->quota, &live_of(i)->counted, -1);
	point(i, live_of(dir)->quota);
	add(live_of(i)->quota, &live_of(i)->counted, 1);
	lock_release(&qs->lock);
}

static void drop(struct quotas *qs, struct quota *q)
{
	struct quota **at = &qs->first;

	while (*at != q)
		at = &(*at)->next;
	*at = q->next;
	q->dead = true;
	atomic_fetch_sub(&qs->nlimits, (q->limit.held_bytes != UINT64_MAX) + (q->limit.size_bytes != UINT64_MAX));
	let_go(q);
}

void quota_leave(struct inode *i)
{
	struct quotas *qs = i->tree->quotas;
	struct live_inode *live = live_of(i);
	struct quota *own;

	lock_acquire(&qs->lock);
	if (!i->facts.nlink && !PLANTED(PLANT_QUOTA_LEAK))
		count_as(i, &(struct quota_amount){ 0, 0 });
	own = i->facts.nlink ? NULL : find(qs, i->facts.ino);
	if (own)
		drop(qs, own);
	let_go(live->quota);
	live->quota = NULL;
	lock_release(&qs->lock);
}

/* Counting. */

bool quota_bounds(struct tree *t)
{
	return atomic_load(&t->quotas->nlimits);
}

bool quota_applies(struct inode *i)
{
	struct quotas *qs = i->tree->quotas;
	bool bound = false;

	if (!atomic_load(&qs->nlimits))
		return false;
	lock_acquire(&qs->lock);
	for (const struct quota *q = live_of(i)->quota; q && !bound; q = q->parent)
		bound = !q->dead && (q->limit.held_bytes != UINT64_MAX || q->limit.size_bytes != UINT64_MAX);
	lock_release(&qs->lock);
	return bound;
}

int quota_take(struct inode *i, uint64_t held_bytes, uint64_t size_bytes)
{
	struct quota_amount more = { held_bytes, size_bytes };
	struct quotas *qs = i->tree->quotas;
	int err;

	lock_acquire(&qs->lock);
	err = check(live_of(i)->quota, &more, NULL);
	if (!err) {
		live_of(i)->counted.held_bytes += held_bytes;
		live_of(i)->counted.size_bytes += size_bytes;
		add(live_of(i)->quota, &more, 1);
	}
	lock_release(&qs->lock);
	return err;
}

void quota_settle_opened(struct inode *i, struct array *a)
{
	struct quota_amount now;

	now = (struct quota_amount){ array_held(a), a->size_bytes };
	if (PLANTED(PLANT_QUOTA_KEPT) && now.held_bytes < live_of(i)->counted.held_bytes)
		now.held_bytes = live_of(i)->counted.held_bytes;
	lock_acquire(&i->tree->quotas->lock);
	count_as(i, &now);
	lock_release(&i->tree->quotas->lock);
	if (i->facts.kind == ARRAY_LAYERED && array_is_unsettled(a))
		atomic_store_explicit(&i->tree->quota_shrinks, true, memory_order_relaxed);
}

void quota_settle(struct inode *i)
{
	if (i->array)
		quota_settle_opened(i, i->array);
}

bool quota_may_shrink(struct tree *t)
{
	return atomic_load(&t->quota_shrinks) || atomic_load(&t->quota_shrinking) || io_packings(t->store->dir) != atomic_load(&t->packings);
}

/* Names. */

/* The quota of the directory that i is in: i may be a directory that has one itself. */
static struct quota *home(struct inode *i)
{
	struct quota *q = live_of(i)->quota;

	return alive(S_ISDIR(inode_mode(i)) && q->dir == i->facts.ino && !q->dead && q->parent ? q->parent : q);
}

int quota_link_locked(struct inode *i, struct inode *dir)
{
	struct quotas *qs = i->tree->quotas;
	bool same;

	lock_acquire(&qs->lock);
	same = home(i) == alive(live_of(dir)->quota);
	lock_release(&qs->lock);
	return same ? 0 : -EXDEV;
}

int quota_move_locked(struct inode *i, struct inode *dir)
{
	struct quotas *qs = i->tree->quotas;
	struct live_inode *live = live_of(i);
	struct quota *to;
	int err = 0;

	lock_acquire(&qs->lock);
	to = alive(live_of(dir)->quota);
	if (home(i) != to) {
		err = S_ISDIR(inode_mode(i)) || i->facts.nlink > 1 ? -EXDEV : check(to, &live->counted, live->quota);
		if (!err) {
			add(live->quota, &live->counted, -1);
			point(i, to);
			add(live->quota, &live->counted, 1);
		}
	}
	lock_release(&qs->lock);
	return err;
}

void quota_rehome_locked(struct inode *i)
{
	struct quotas *qs = i->tree->quotas;
	struct live_inode *live = live_of(i);

	if (!i->facts.nlink || S_ISDIR(inode_mode(i)))
		return;
	lock_acquire(&qs->lock);
	if (qs->first) {
		add(live->quota, &live->counted, -1);
		point(i, of_name_locked(i));
		add(live->quota, &live->counted, 1);
	}
	lock_release(&qs->lock);
}

/* Attributes. */

bool quota_is_attribute(const char *name)
{
	return setting_quota(name, "", NULL) != -ENODATA;
}

static uint64_t limit_locked(struct meta *m, uint64_t dir, const char *name)
{
	uint64_t bytes = UINT64_MAX;
	void *text;
	size_t len;

	if (meta_xattr_get_locked(m, dir, name, &text, &len))
		return UINT64_MAX;
	/* A value that nobody can have set bounds nothing. */
	if (strlen(text) == len)
		setting_quota(name, text, &bytes);
	free(text);
	return bytes;
}

static void set_limit(struct quotas *qs, struct quota *q, const struct quota_amount *limit)
{
	unsigned before = (q->limit.held_bytes != UINT64_MAX) + (q->limit.size_bytes != UINT64_MAX);
	unsigned after = (limit->held_bytes != UINT64_MAX) + (limit->size_bytes != UINT64_MAX);

	q->limit = *limit;
	atomic_fetch_add(&qs->nlimits, after - before);
}

static struct quota *new_quota(struct quotas *qs, uint64_t dir, struct quota *parent)
{
	struct quota *q = calloc(1, sizeof(*q));

	if (!q)
		return NULL;
	*q = (struct quota){ .parent = parent, .next = qs->first, .dir = dir, .nusers = 1, .limit = { UINT64_MAX, UINT64_MAX } };
	parent->nusers++;
	qs->first = q;
	return q;
}

/* A new quota: what has belonged to the one above it. */
struct founding {
	struct tree *t;
	struct quota *q;
	struct quota_amount own; /* of what belongs to no quota below it */
};

static struct inode *known(struct tree *t, uint64_t ino)
{
	struct inode *i;

	return inode_find(t, ino, &i) ? NULL : i;
}

static int found(void *ctx, const struct meta_use *u)
{
	struct founding *f = ctx;
	struct inode *i = known(f->t, u->ino);
	struct quota_amount row = { u->stored_bytes + u->promised_bytes, u->size_bytes };
	char name[META_NAME_MAX + 1];
	uint64_t parent;

	/* With several names, the one counts that counts at each load. */
	if (!S_ISDIR(u->mode) && u->nlink > 1 &&
	    (meta_name_of_locked(f->t->store->meta, u->ino, &parent, name) || of_dir_locked(f->t, parent) != f->q))
		return 0;
	if (i && alive(live_of(i)->quota) == f->q->parent)
		point(i, f->q);
	if (!S_ISREG(u->mode) || (i && live_of(i)->quota != f->q))
		return 0;
	if (i)
		row = live_of(i)->counted;
	f->own.held_bytes += row.held_bytes;
	f->own.size_bytes += row.size_bytes;
	return 0;
}

/* Quotas below the new one count in it. */
static void take_those_below_locked(struct tree *t, struct quota *q)
{
	for (struct quota *o = t->quotas->first; o; o = o->next) {
		struct facts row;

		if (o == q || alive(o->parent) != q->parent ||
		    meta_inode_load_locked(t->store->meta, o->shown ? o->shown : o->dir, &row) ||
		    of_dir_locked(t, o->shown ? o->shown : row.parent) != q)
			continue;
		q->nusers++;
		let_go(o->parent);
		o->parent = q;
		q->used.held_bytes += o->used.held_bytes;
		q->used.size_bytes += o->used.size_bytes;
	}
}

static int found_locked(struct tree *t, uint64_t dir)
{
	struct founding f = { .t = t, .q = new_quota(t->quotas, dir, of_dir_locked(t, dir)) };
	int err = f.q ? meta_tree_walk_locked(t->store->meta, dir, attributes, found, &f) : -ENOMEM;

	if (!err) {
		f.q->used = f.own; /* in what is above it that counts already */
		take_those_below_locked(t, f.q);
	} else if (f.q) {
		drop(t->quotas, f.q);
	}
	return err;
}

int quota_changed_locked(struct inode *dir)
{
	struct tree *t = dir->tree;
	struct meta *m = t->store->meta;
	uint64_t ino = dir->facts.ino;
	struct quota_amount limit = { limit_locked(m, ino, attributes[0]), limit_locked(m, ino, attributes[1]) };
	bool any = limit.held_bytes != UINT64_MAX || limit.size_bytes != UINT64_MAX;
	int err = any ? meta_fact_set_locked(m, META_FACT_QUOTAS, 1) : 0;
	struct quota *q;

	lock_acquire(&t->quotas->lock);
	if (!err && any && !find(t->quotas, ino))
		err = found_locked(t, ino);
	q = find(t->quotas, ino);
	if (!err && q && any)
		set_limit(t->quotas, q, &limit);
	else if (!err && q)
		drop(t->quotas, q);
	lock_release(&t->quotas->lock);
	return err;
}

int quota_stand_in(struct inode *dir, uint64_t shelf)
{
	struct quotas *qs = dir->tree->quotas;
	struct quota *q;

	lock_acquire(&qs->lock);
	q = new_quota(qs, shelf, alive(live_of(dir)->quota));
	if (q)
		q->shown = dir->facts.ino;
	lock_release(&qs->lock);
	return q ? 0 : -ENOMEM;
}

/* At mount. */

static int make_all_locked(struct tree *t)
{
	struct meta *m = t->store->meta;
	struct quotas *qs = t->quotas;
	struct facts row;
	uint64_t dir = 0;
	int err;

	while (!(err = meta_xattr_owner_after_locked(m, attributes, dir, &dir)) && dir) {
		if (meta_inode_load_locked(m, dir, &row) || !S_ISDIR(row.mode))
			continue; /* as nobody can have set it */
		if (!new_quota(qs, dir, &qs->top))
			return -ENOMEM;
		set_limit(qs, qs->first, &(struct quota_amount){ limit_locked(m, dir, attributes[0]), limit_locked(m, dir, attributes[1]) });
	}
	return err;
}

static int load_dirs_locked(struct tree *t)
{
	struct quotas *qs = t->quotas;
	int err = make_all_locked(t);
	struct facts row;

	for (struct quota *q = qs->first; q && !err; q = q->next) {
		struct quota *above;

		if (meta_inode_load_locked(t->store->meta, q->dir, &row))
			continue;
		above = row.parent == q->dir ? &qs->top : of_dir_locked(t, row.parent);
		if (is_above(q, above))
			continue; /* a circle, which is damage */
		above->nusers++;
		let_go(q->parent);
		q->parent = above;
	}
	for (struct quota *q = qs->first; q && !err; q = q->next) {
		struct founding f = { .t = t, .q = q };

		err = meta_tree_walk_locked(t->store->meta, q->dir, attributes, found, &f);
		for (struct quota *up = q; up != &qs->top && !err; up = up->parent) {
			up->used.held_bytes += f.own.held_bytes;
			up->used.size_bytes += f.own.size_bytes;
		}
	}
	return err;
}

int quotas_load(struct tree *t)
{
	struct meta *m = t->store->meta;
	struct meta_use all = { 0 };
	int64_t any = 0;
	int err = 0;

	meta_lock(m);
	if (t->quotas->top.limit.held_bytes != UINT64_MAX)
		err = meta_tree_sum_locked(m, &all);
	if (!err)
		err = meta_fact_get_locked(m, META_FACT_QUOTAS, &any);
	lock_acquire(&t->quotas->lock);
	t->quotas->top.used.held_bytes += all.stored_bytes + all.promised_bytes;
	t->quotas->top.used.size_bytes += all.size_bytes;
	if (!err && any)
		err = load_dirs_locked(t);
	lock_release(&t->quotas->lock);
	meta_unlock(m);
	if (t->quotas->top.used.held_bytes > t->quotas->top.limit.held_bytes)
		log_warn("-o size=%llu: %llu bytes are in use already; nothing more can be written until less is",
			 (unsigned long long)t->quotas->top.limit.held_bytes, (unsigned long long)t->quotas->top.used.held_bytes);
	return err == -ENOENT ? 0 : err;
}

/* Figures for users. */

static uint64_t left_of(uint64_t limit, uint64_t used)
{
	return limit > used ? limit - used : 0;
}

static void cut_to(uint64_t limit, uint64_t used, uint64_t *total, uint64_t *left)
{
	if (limit == UINT64_MAX || (*total != UINT64_MAX && left_of(limit, used) >= *left))
		return;
	*total = limit;
	*left = left_of(limit, used);
}

void quota_space(struct tree *t, uint64_t ino, uint64_t *total_bytes, uint64_t *free_bytes, uint64_t *avail_bytes)
{
	struct inode *i = t->quotas && atomic_load(&t->quotas->nlimits) ? known(t, ino) : NULL;
	uint64_t total = UINT64_MAX, left = 0;
	struct quota *q;

	if (!t->quotas || !atomic_load(&t->quotas->nlimits))
		return;
	lock_acquire(&t->quotas->lock);
	for (q = i && i->realm->id == REALM_LIVE ? live_of(i)->quota : &t->quotas->top; q; q = q->parent) {
		if (q->dead)
			continue;
		cut_to(q->limit.held_bytes, q->used.held_bytes, &total, &left);
		cut_to(q->limit.size_bytes, q->used.size_bytes, &total, &left);
	}
	lock_release(&t->quotas->lock);
	if (total == UINT64_MAX)
		return;
	*total_bytes = total;
	*free_bytes = left;
	if (left < *avail_bytes)
		*avail_bytes = left;
}

int quota_walk(struct tree *t, int (*each)(void *ctx, uint64_t dir, const struct quota_amount *limit, const struct quota_amount *used), void *ctx)
{
	struct quota_amount limit, used;
	uint64_t after = 0;
	int err = 0;

	lock_acquire(&t->quotas->lock);
	limit = t->quotas->top.limit;
	used = t->quotas->top.used;
	lock_release(&t->quotas->lock);
	if (limit.held_bytes != UINT64_MAX)
		err = each(ctx, 0, &limit, &used);
	while (!err) {
		struct quota *next = NULL;

		lock_acquire(&t->quotas->lock);
		for (struct quota *q = t->quotas->first; q; q = q->next) {
			if (q->dir > after && !q->shown && (!next || q->dir < next->dir))
				next = q;
		}
		if (next) {
			after = next->dir;
			limit = next->limit;
			used = next->used;
		}
		lock_release(&t->quotas->lock);
		if (!next)
			break;
		err = each(ctx, after, &limit, &used);
	}
	return err;
}
