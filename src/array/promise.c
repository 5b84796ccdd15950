/*
 * Promised space of one array.
 *
 * Invariants:
 *  1. The store's account is the sum of all promises, those of arrays that are not open included: making and dropping change
 *     both, opening and closing neither.
 *  2. A change is staged with the change of data that it belongs to: both mark the inode dirty.
 *  3. Ranges are changed with the inode held exclusively, or by a flush job that has just stored a block of it.
 */
#include "array/promise.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "array/arrays.h"
#include "block/extent.h"
#include "store/meta.h"
#include "store/store.h"
#include "util/err.h"
#include "util/lock.h"

struct promise {
	struct lock lock; /* RANK_MEM */
	struct extent_map ranges; /* each lies where it is in the file: neighbours are one */
	bool changed; /* since it was staged */
};

/* As a row has them. */
struct range {
	uint64_t off_bytes, len_bytes;
};

static int need(struct array *a)
{
	struct promise *p = a->promise ? a->promise : calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	if (!a->promise) {
		lock_init(&p->lock, RANK_MEM);
		extent_map_init(&p->ranges);
		a->promise = p;
	}
	return 0;
}

void promise_free(struct promise *p)
{
	if (!p)
		return;
	extent_map_fini(&p->ranges);
	lock_fini(&p->lock);
	free(p);
}

/* Where the range of m that holds *at ends; false if none does. *next is cut to where the first behind it begins. */
static bool held_by(const struct extent_map *m, uint64_t *at, uint64_t *next)
{
	size_t i = m ? extent_map_find(m, *at) : 0;

	if (!m || i == m->n)
		return false;
	if (m->v[i].off_bytes <= *at) {
		*at = m->v[i].off_bytes + m->v[i].len_bytes;
		return true;
	}
	if (m->v[i].off_bytes < *next)
		*next = m->v[i].off_bytes;
	return false;
}

/* The first gap in both maps at or behind *at; false if there is none before end. */
static bool next_gap(const struct extent_map *x, const struct extent_map *y, uint64_t *at, uint64_t end, struct range *out)
{
	uint64_t next = end;

	while (*at < end && (held_by(x, at, &next) || held_by(y, at, &next)))
		next = end;
	if (*at >= end)
		return false;
	*out = (struct range){ *at, next - *at };
	*at = next;
	return true;
}

static int insert(struct extent_map *m, const struct range *r)
{
	struct extent e = { .off_bytes = r->off_bytes, .len_bytes = r->len_bytes, .phys_bytes = r->off_bytes };

	return extent_map_insert(m, &e);
}

static void count_piece(void *ctx, const struct extent *piece)
{
	*(uint64_t *)ctx += piece->len_bytes;
}

uint64_t promise_gaps(struct array *a, uint64_t off, uint64_t len, const struct extent_map *have)
{
	struct promise *p = a->promise;
	uint64_t at = off, bytes = 0;
	struct range gap;

	if (p)
		lock_acquire(&p->lock);
	while (next_gap(have, p ? &p->ranges : NULL, &at, off + len, &gap))
		bytes += gap.len_bytes;
	if (p)
		lock_release(&p->lock);
	return bytes;
}

uint64_t promise_bytes(struct array *a)
{
	struct promise *p = a->promise;
	uint64_t bytes;

	if (!p)
		return 0;
	lock_acquire(&p->lock);
	bytes = p->ranges.mapped_bytes;
	lock_release(&p->lock);
	return bytes;
}

/* *made: the sum of those that are filled, whatever the answer is. */
static int fill_gaps(struct promise *p, uint64_t at, uint64_t end, const struct extent_map *have, uint64_t *made)
{
	struct range gap;
	int err = 0;

	lock_acquire(&p->lock);
	while (!err && next_gap(have, &p->ranges, &at, end, &gap)) {
		err = insert(&p->ranges, &gap);
		*made += err ? 0 : gap.len_bytes;
		p->changed = true;
	}
	lock_release(&p->lock);
	return err;
}

int promise_make(struct array *a, uint64_t off, uint64_t len, const struct extent_map *have)
{
	uint64_t begin = off & ~(uint64_t)(PROMISE_ALIGN - 1), end = (off + len + PROMISE_ALIGN - 1) & ~(uint64_t)(PROMISE_ALIGN - 1);
	uint64_t bytes, made = 0;
	int err = need(a);

	if (err)
		return err;
	bytes = promise_gaps(a, begin, end - begin, have);
	err = bytes ? store_promise(a->home->store, bytes) : 0;
	if (err)
		return err;
	err = fill_gaps(a->promise, begin, end, have, &made);
	/* Less without memory; more if a flush job has dropped something since. */
	store_unpromise(a->home->store, bytes - made);
	return err;
}

void promise_drop(struct array *a, uint64_t off, uint64_t len)
{
	struct promise *p = a->promise;
	uint64_t bytes = 0;

	if (!p)
		return;
	lock_acquire(&p->lock);
	/* Without memory for a split it stays promised. */
	if (!extent_map_remove(&p->ranges, off, len, count_piece, &bytes) && bytes)
		p->changed = true;
	lock_release(&p->lock);
	store_unpromise(a->home->store, bytes);
}

bool promise_touches(struct array *a, uint64_t off, uint64_t len)
{
	struct promise *p = a->promise;
	bool touches;
	size_t i;

	if (!p)
		return false;
	lock_acquire(&p->lock);
	i = extent_map_find(&p->ranges, off);
	touches = i < p->ranges.n && p->ranges.v[i].off_bytes < off + len;
	lock_release(&p->lock);
	return touches;
}

bool promise_holds(struct array *a, uint64_t off, uint64_t *len)
{
	struct promise *p = a->promise;
	uint64_t at = off, next = off + *len;
	bool held;

	if (!p)
		return false;
	lock_acquire(&p->lock);
	held = held_by(&p->ranges, &at, &next);
	lock_release(&p->lock);
	if (held && at < next)
		next = at;
	*len = next - off;
	return held;
}

int promise_load_locked(struct array *a)
{
	struct range *v;
	size_t len;
	int err;

	if (!store_promised(a->home->store))
		return 0;
	err = meta_blob_get_locked(a->home->store->meta, a->ino, META_BLOB_PROMISED, (void **)&v, &len);
	if (err)
		return err == -ENOENT ? 0 : err;
	err = need(a);
	for (size_t i = 0; !err && i < len / sizeof(*v); i++)
		err = insert(&a->promise->ranges, &v[i]);
	free(v);
	return err == -EEXIST || err == -EINVAL ?
		err_corrupt("meta.db", 0, "the promised ranges of inode %llu overlap", (unsigned long long)a->ino) : err;
}

int promise_stage_locked(struct array *a)
{
	struct meta *m = a->home->store->meta;
	struct promise *p = a->promise;
	struct range *v = NULL;
	size_t n = 0;
	int err = 0;

	if (!p)
		return 0;
	lock_acquire(&p->lock);
	if (p->changed) {
		v = calloc(p->ranges.n + 1, sizeof(*v));
		for (; v && n < p->ranges.n; n++)
			v[n] = (struct range){ p->ranges.v[n].off_bytes, p->ranges.v[n].len_bytes };
		err = v ? 0 : -ENOMEM;
		p->changed = false;
	}
	lock_release(&p->lock);
	if (v)
		err = meta_blob_set_locked(m, a->ino, META_BLOB_PROMISED, n ? v : NULL, n * sizeof(*v));
	if (!err && n)
		err = meta_fact_set_locked(m, META_FACT_PROMISED, 1);
	free(v);
	if (err) {
		lock_acquire(&p->lock);
		p->changed = true;
		lock_release(&p->lock);
	}
	return err;
}
