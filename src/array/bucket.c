/*
 * Buckets: append-mostly files pooled into a few physical ones.
 *
 * A bucket lives in physical file `ino mod N`, or, with several disks, in files of all of them in turn. It owns one growing region at a time
 * (regions.h); what it writes there becomes extents. Overwrites go in place.
 *
 * Invariants:
 *  1. An extent covers only bytes that were written, so nothing stale shows through.
 *  2. The rows whose offsets lie outside of [dirty_from, dirty_to) and [tail_from, tail_to) are as the map and the tail have them.
 *  3. A truncation that cuts off many extents moves them into the tail. Their rows lie behind the size until commits have
 *     deleted them, some each, from the end: the log of one transaction that deletes all of them could need more than
 *     the reserve. Nothing grows before the tail is gone, and nobody but the stage changes it meanwhile.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array/arrays.h"
#include "array/bucket.h"
#include "array/packed.h"
#include "array/promise.h"
#include "array/regions.h"
#include "array/runs.h"
#include "block/extent.h"
#include "block/pool.h"
#include "store/meta.h"
#include "store/store.h"
#include "util/err.h"
#include "util/log.h"

/* Text of an xattr. */
#define DESCRIBE_MAX 65536u
/* A row of an extent: in the database's log, in the database, with what is left of their pages. */
#define EXTENT_OWED_BYTES 96u
/* The row of an extent that is deleted: its part of a page in the log. */
#define EXTENT_CUT_BYTES 48u
/* A change may dirty so many rows between itself and older dirty rows without asking for space: the reserve covers them. */
#define ROWS_FREE 1024u
/* So many extents are cut off at once, however little space there is. */
#define CUT_LEAST 64u

struct bucket {
	struct array array;
	struct extent_map map;
	struct extent_map tail;        /* cut off; the stage's, which has the inode shared only */
	uint64_t tail_from, tail_to;   /* file offsets between which the rows were old when it was cut off: none of them is left */
	uint64_t dirty_from, dirty_to; /* file offsets between which the rows are old; from is UINT64_MAX: none */
	struct regions regions;
	struct runs runs;
	bool too_many_said;
	size_t ncut;         /* extents of the map that are gone since the last stage */
	uint64_t owed_bytes; /* for the rows of extents that the next commit writes, and for what it deletes */
	struct packed packed;
};

static struct bucket *bucket_of(struct array *a)
{
	return (struct bucket *)a;
}

static struct pool *pool_of(const struct bucket *b)
{
	return b->array.home->store->pool;
}

/* Rows that would be written if [from, to) changed, too. */
static uint64_t rows_between(const struct bucket *b, uint64_t from, uint64_t to)
{
	size_t first = extent_map_find(&b->map, from < b->dirty_from ? from : b->dirty_from);
	size_t end = extent_map_find(&b->map, b->dirty_from != UINT64_MAX && to < b->dirty_to ? b->dirty_to : to);

	return end - first + 2;
}

/* Owes the space of the rows of [from, to), which are written anew, and of one more row. With `ask` only if there is room. */
static int owe_rows(struct bucket *b, uint64_t from, uint64_t to, bool ask)
{
	struct store *s = b->array.home->store;
	uint64_t owed = rows_between(b, from, to) * EXTENT_OWED_BYTES + b->ncut * EXTENT_CUT_BYTES;
	uint64_t more = owed > b->owed_bytes ? owed - b->owed_bytes : 0;
	int err = ask ? store_may_write(s, more) : 0;

	if (err)
		return err;
	store_owe(s, more);
	b->owed_bytes += more;
	return 0;
}

/* The owed rows are in the open transaction (paid), or are not written at all. */
static void give_back_rows(struct bucket *b, bool paid)
{
	if (paid)
		store_pay(b->array.home->store, b->owed_bytes);
	else
		store_disown(b->array.home->store, b->owed_bytes);
	b->owed_bytes = b->ncut = 0;
}

static int load_runs(struct bucket *b)
{
	struct meta *m = b->array.home->store->meta;
	uint64_t *v;
	bool whole;
	size_t n;
	int err = meta_runs_load_locked(m, b->array.ino, &v, &n, &whole);

	if (err)
		return err;
	runs_load(&b->runs, v, n, b->array.size_bytes);
	if (!whole)
		b->runs.changed = 0;
	return 0;
}

static int load_locked(struct bucket *b)
{
	int err;

	if (b->array.params.fresh) {
		runs_load(&b->runs, NULL, 0, 0);
		return 0;
	}
	err = meta_extents_load_locked(b->array.home->store->meta, b->array.ino, &b->map);
	return err ? err : load_runs(b);
}

static void free_bucket(struct bucket *b)
{
	extent_map_fini(&b->map);
	extent_map_fini(&b->tail);
	runs_fini(&b->runs);
	free(b);
}

static void bucket_close(struct array *a)
{
	struct bucket *b = bucket_of(a);

	regions_fini(&b->regions, b->dirty_from != UINT64_MAX || b->tail.n || b->tail_to);
	give_back_rows(b, false);
	free_bucket(b);
}

static size_t bucket_memory(struct array *a)
{
	struct bucket *b = bucket_of(a);

	return sizeof(*b) + (b->map.cap + b->regions.places.cap) * sizeof(*b->map.v) + b->map.partial.cap * sizeof(*b->map.partial.v) + b->runs.cap * sizeof(*b->runs.v);
}

static void set_stored(struct bucket *b)
{
	atomic_store(&b->array.stored_bytes, packed_stored(&b->packed, b->map.mapped_bytes));
}

/* The later of two that look at once knows better. */
static bool bucket_recount(struct array *a)
{
	struct bucket *b = bucket_of(a);
	uint64_t was = atomic_load(&a->stored_bytes), packings = io_packings(a->home->store->dir), saved;

	if (packings == atomic_load(&b->packed.packings))
		return false;
	saved = packed_count(pool_of(b), &b->map);
	lock_acquire(&a->home->lock);
	if (packed_set(&b->packed, packings, saved))
		set_stored(b);
	lock_release(&a->home->lock);
	return atomic_load(&a->stored_bytes) != was;
}

/* The bytes that a write to [off, end) would bring back, since they are compressed. */
static uint64_t brought_back(struct bucket *b, uint64_t off, uint64_t end)
{
	return io_packings(b->array.home->store->dir) ? packed_between(pool_of(b), &b->map, off, end) : 0;
}

/* Finds the extents that a cut had left behind the size when the daemon was killed (invariant 3). */
static int split_tail(struct bucket *b, uint64_t size)
{
	size_t i = extent_map_find(&b->map, size);

	if (i < b->map.n && b->map.v[i].off_bytes < size)
		i++;
	return i < b->map.n ? extent_map_split(&b->map, b->map.v[i].off_bytes, &b->tail) : 0;
}

static int bucket_open(struct arrays *home, const struct facts *row, const struct array_params *params,
		       struct array **out)
{
	struct bucket *b = calloc(1, sizeof(*b));
	int err;

	if (!b)
		return -ENOMEM;
	b->array = (struct array){ .ops = &bucket_ops, .home = home, .ino = row->ino, .size_bytes = row->size_bytes,
				   .params = *params };
	b->dirty_from = UINT64_MAX;
	extent_map_init(&b->map);
	extent_map_init(&b->tail);
	meta_lock(home->store->meta);
	err = load_locked(b);
	meta_unlock(home->store->meta);
	if (!err)
		err = split_tail(b, row->size_bytes);
	if (err) {
		free_bucket(b);
		return err;
	}
	regions_init(&b->regions, home->store, b->array.ino, &b->map, &b->tail);
	set_stored(b);
	bucket_recount(&b->array);
	*out = &b->array;
	return 0;
}

static int bucket_borrow(struct array *a, uint64_t off, size_t len, unsigned how, struct lease *out)
{
	struct bucket *b = bucket_of(a);
	size_t i = extent_map_find(&b->map, off);
	const struct extent *e = i < b->map.n ? &b->map.v[i] : NULL;

	(void)how; /* nothing is read here */
	if (!e || e->off_bytes > off) {
		if (e && len > e->off_bytes - off)
			len = (size_t)(e->off_bytes - off);
		lease_zeros(out, len < LEASE_ZERO_MAX ? len : LEASE_ZERO_MAX);
		return 0;
	}
	if (len > e->off_bytes + e->len_bytes - off)
		len = (size_t)(e->off_bytes + e->len_bytes - off);
	*out = (struct lease){ .len_bytes = len, .file = pool_file(pool_of(b), e->file),
			       .off_bytes = e->phys_bytes + (off - e->off_bytes) };
	return 0;
}

static void mark_dirty(struct bucket *b, uint64_t from, uint64_t to)
{
	if (b->dirty_from == UINT64_MAX || to > b->dirty_to)
		b->dirty_to = to;
	if (from < b->dirty_from)
		b->dirty_from = from;
}

/* New bytes, which have a place in the region. */
static int write_new(struct bucket *b, const void *buf, const struct extent *e, unsigned how, bool promised)
{
	struct store *s = b->array.home->store;
	uint64_t claimed = promised ? 0 : e->len_bytes;
	int err = claimed ? store_claim(s, claimed) : 0; /* the region is claimed from the pool, not from the store */

	if (err)
		return err;
	err = owe_rows(b, e->off_bytes, e->off_bytes + e->len_bytes, !promised);
	if (!err)
		err = io_pwrite_as(pool_file(pool_of(b), e->file), buf, e->len_bytes, e->phys_bytes, how);
	store_unclaim(s, claimed);
	return err;
}

/* Writes e to the place that the caller has found, and adds it to the map. */
static int add_extent(struct bucket *b, const void *buf, const struct extent *e, unsigned how, bool promised)
{
	int err = write_new(b, buf, e, how, promised);

	if (err)
		return err;
	pool_touch(pool_of(b), e->file);
	return extent_map_insert(&b->map, e);
}

static int add_in_place(struct bucket *b, const void *buf, const struct extent *e, unsigned how, bool promised)
{
	int err = regions_take_place(&b->regions, e);

	if (err)
		return err;
	err = add_extent(b, buf, e, how, promised);
	if (err)
		regions_return_place(&b->regions, e);
	return err;
}

/* A disk that turns out to be full is left for another one, if there is a file of the pool. */
static int add_next(struct bucket *b, const void *buf, struct extent *e, unsigned how, bool promised)
{
	uint64_t len = e->len_bytes;
	uint32_t full = UINT32_MAX;
	int err;

	for (;;) {
		e->len_bytes = len;
		err = regions_find(&b->regions, e, promised);
		if (err)
			return err;
		err = add_extent(b, buf, e, how, promised);
		if (!err_is_full(err) || e->file == full || !pool_leaves(pool_of(b), e->file))
			break;
		full = e->file;
	}
	if (!err)
		regions_take(&b->regions, e);
	return err;
}

/* Into the room that was set aside, or elsewhere if its disk has become full. */
static int fill_place(struct bucket *b, const void *buf, struct extent *e, unsigned how, bool promised)
{
	int err = add_in_place(b, buf, e, how, promised);

	if (!err_is_full(err) || !pool_leaves(pool_of(b), e->file))
		return err;
	err = regions_leave_place(&b->regions, e);
	return err ? err : add_next(b, buf, e, how, promised);
}

/* Writes into a gap of the map; *n_out bytes of it. */
static int write_gap(struct bucket *b, const void *buf, size_t len, uint64_t off, unsigned how, size_t *n_out)
{
	struct extent e = { .off_bytes = off, .len_bytes = len };
	bool promised = promise_holds(&b->array, off, &e.len_bytes);
	int err = regions_find_place(&b->regions, &e) ? fill_place(b, buf, &e, how, promised) : add_next(b, buf, &e, how, promised);

	if (err)
		return err;
	/* It may have become one with the extent behind it. */
	mark_dirty(b, off, off + e.len_bytes + 1);
	if (promised)
		promise_drop(&b->array, off, e.len_bytes);
	set_stored(b);
	*n_out = (size_t)e.len_bytes;
	return 0;
}

static int bucket_write(struct array *a, const void *buf, size_t len, uint64_t off, unsigned how, size_t *done_out)
{
	struct bucket *b = bucket_of(a);
	struct pool *p = pool_of(b);
	uint64_t packed, left;
	size_t done = 0;
	int err = b->tail.n && off + len > a->size_bytes ? -EAGAIN : runs_reserve(&b->runs);

	how |= a->params.cold ? IO_COLD : 0;
	/* A write through the kernel's cache that leaves a hole behind the end has usually overtaken another write, which will fill the
	 * hole: with room of its own, the file lies in order on the disk. */
	if (!err && off > a->size_bytes && (how & IO_KEPT))
		regions_set_aside(&b->regions, a->size_bytes, off);
	while (done < len && !err) {
		uint64_t at = off + done;
		size_t i = extent_map_find(&b->map, at), n = len - done;
		const struct extent *e = i < b->map.n ? &b->map.v[i] : NULL;

		if (e && e->off_bytes <= at) {
			uint64_t in = at - e->off_bytes;

			if (n > e->len_bytes - in)
				n = (size_t)(e->len_bytes - in);
			packed = brought_back(b, at, at + n);
			err = io_pwrite_as(pool_file(p, e->file), (const char *)buf + done, n, e->phys_bytes + in, how);
			/* After an error a part is compressed as before, or, where memory went to the rest, has become so. */
			left = err ? brought_back(b, at, at + n) : 0;
			packed_less(&b->packed, packed > left ? packed - left : 0);
			pool_touch(p, e->file); /* with an error, too: a part may be in */
		} else {
			if (e && n > e->off_bytes - at)
				n = (size_t)(e->off_bytes - at);
			err = write_gap(b, (const char *)buf + done, n, at, how, &n);
		}
		if (!err)
			done += n;
	}
	set_stored(b);
	*done_out = done;
	if (done && off + done > a->size_bytes)
		a->size_bytes = off + done;
	return err;
}

static void free_piece(void *ctx, const struct extent *piece)
{
	struct bucket *b = ctx;

	packed_less(&b->packed, packed_of(pool_of(b), piece, false));
	regions_free(&b->regions, piece);
}

/* The extents [i, j) touch [off, end). */
static void touched(const struct extent_map *m, uint64_t off, uint64_t end, size_t *i, size_t *j)
{
	*i = extent_map_find(m, off);
	*j = extent_map_find(m, end);
	*j += *j < m->n && m->v[*j].off_bytes < end;
}

/* Rows between older dirty rows and this change would be written anew without need. If there is no space for them, a commit
 * comes first. */
static int check_between(struct bucket *b, uint64_t from, uint64_t to, size_t ncut)
{
	uint64_t rows = rows_between(b, from, to);
	bool many = b->dirty_from != UINT64_MAX && rows > ncut + ROWS_FREE;

	return many && store_may_write(b->array.home->store, (rows - ncut) * EXTENT_OWED_BYTES) == -ENOSPC ? -EAGAIN : 0;
}

/* Drops [off, off + len) from the map. */
static int cut(struct bucket *b, uint64_t off, uint64_t len)
{
	uint64_t end = off + len, from;
	size_t i, j;
	int err;

	touched(&b->map, off, end, &i, &j);
	if (i == j)
		return 0;
	from = b->map.v[i].off_bytes < off ? b->map.v[i].off_bytes : off;
	err = check_between(b, from, end, j - i);
	if (err)
		return err;
	err = extent_map_remove(&b->map, off, len, free_piece, b);
	if (err)
		return err;
	set_stored(b);
	/* The rest of the last one begins at the end. */
	mark_dirty(b, from, end + 1);
	b->ncut += j - i;
	return owe_rows(b, from, end + 1, false);
}

/* So many extents may go at once. */
static size_t cut_at_once(struct bucket *b)
{
	struct store *s = b->array.home->store;
	size_t many = meta_extents_max(s->meta) / 4;

	return store_is_short(s) ? CUT_LEAST : many > CUT_LEAST ? many : CUT_LEAST;
}

/* Leaves what is behind the new size to the commits (invariant 3). */
static int cut_later(struct bucket *b, uint64_t size)
{
	size_t i = extent_map_find(&b->map, size);
	uint64_t from = b->map.v[i].off_bytes;
	int err = b->tail.n ? -EAGAIN : extent_map_split(&b->map, size, &b->tail);

	if (err)
		return err;
	for (size_t k = 0; k < b->tail.n; k++)
		packed_less(&b->packed, packed_of(pool_of(b), &b->tail.v[k], false));
	set_stored(b);
	if (b->dirty_from != UINT64_MAX && b->dirty_to > size) {
		b->tail_from = b->dirty_from > size ? b->dirty_from : size;
		b->tail_to = b->dirty_to;
	}
	if (b->dirty_from >= size)
		b->dirty_from = UINT64_MAX;
	else if (b->dirty_to > size)
		b->dirty_to = size;
	if (from < size)
		mark_dirty(b, from, size);
	return 0;
}

static int bucket_resize(struct array *a, uint64_t size)
{
	struct bucket *b = bucket_of(a);
	size_t behind = b->map.n - extent_map_find(&b->map, size);
	int err = runs_reserve(&b->runs);

	if (!err && b->tail.n && size > a->size_bytes)
		err = -EAGAIN;
	if (!err)
		regions_give_up_places(&b->regions);
	if (!err && behind && size < a->size_bytes)
		err = behind > CUT_LEAST && behind > cut_at_once(b) ? cut_later(b, size) : cut(b, size, a->size_bytes - size);
	if (err)
		return err;
	runs_cut(&b->runs, size);
	a->size_bytes = size;
	return 0;
}

/* A long hole is made in pieces, with a commit after each. */
static int bucket_punch(struct array *a, uint64_t off, uint64_t len)
{
	struct bucket *b = bucket_of(a);
	size_t i, j, most;
	int err;

	touched(&b->map, off, off + len, &i, &j);
	most = j - i > CUT_LEAST ? cut_at_once(b) : CUT_LEAST;
	if (j - i <= most)
		return cut(b, off, len);
	err = cut(b, off, b->map.v[i + most].off_bytes - off);
	return err ? err : -EAGAIN;
}

static int bucket_allocate(struct array *a, uint64_t off, uint64_t len)
{
	struct bucket *b = bucket_of(a);

	return b->tail.n && off + len > a->size_bytes ? -EAGAIN : promise_make(a, off, len, &b->map);
}

static uint64_t bucket_growth(struct array *a, uint64_t off, uint64_t len, enum array_growing how)
{
	uint64_t end = off + len;

	if (how == ARRAY_ENDS)
		return 0;
	if (how == ARRAY_RESERVES) {
		off &= ~(uint64_t)(PROMISE_ALIGN - 1);
		end = (end + PROMISE_ALIGN - 1) & ~(uint64_t)(PROMISE_ALIGN - 1);
	}
	return promise_gaps(a, off, end - off, &bucket_of(a)->map) + (how == ARRAY_WRITES ? brought_back(bucket_of(a), off, end) : 0);
}

static int bucket_seek(struct array *a, uint64_t off, bool hole, uint64_t *out)
{
	const struct extent_map *m = &bucket_of(a)->map;
	size_t i = extent_map_find(m, off);

	if (hole) {
		for (; i < m->n && m->v[i].off_bytes <= off; i++)
			off = m->v[i].off_bytes + m->v[i].len_bytes;
		*out = off;
	} else if (i < m->n) {
		*out = m->v[i].off_bytes > off ? m->v[i].off_bytes : off;
	} else {
		*out = a->size_bytes;
	}
	return 0;
}

static int stage_runs_locked(struct bucket *b)
{
	size_t n, from = b->runs.changed;
	const uint64_t *v = runs_stored(&b->runs, &n);
	int err = from == SIZE_MAX ? 0 : meta_runs_set_locked(b->array.home->store->meta, b->array.ino, v, n, from);

	if (!err)
		b->runs.changed = SIZE_MAX;
	return err;
}

/* The last rows of the tail, as many as the transaction may still delete (invariant 3); but first those that it does not have
 * as they are, like those of a hole. They are no more than was to be written. */
static int cut_tail_locked(struct bucket *b)
{
	struct meta *m = b->array.home->store->meta;
	uint64_t from;
	size_t n;
	int err = b->tail_to ? meta_extents_cut_locked(m, b->array.ino, b->tail_from, b->tail_to) : 0;

	if (err)
		return err;
	b->tail_from = b->tail_to = 0;
	n = meta_extents_left_locked(m);
	if (!b->tail.n || !n)
		return 0;
	from = b->tail.v[n < b->tail.n ? b->tail.n - n : 0].off_bytes;
	err = meta_extents_cut_locked(m, b->array.ino, from, UINT64_MAX);
	return err ? err : extent_map_remove(&b->tail, from, UINT64_MAX - from, regions_free, &b->regions);
}

static int bucket_stage_locked(struct array *a, const struct index_record *facts, bool changed)
{
	struct bucket *b = bucket_of(a);
	struct meta *m = a->home->store->meta;
	int err = 0;

	(void)facts;
	(void)changed;
	if (b->dirty_from != UINT64_MAX) {
		err = meta_extents_replace_locked(m, a->ino, &b->map, b->dirty_from, b->dirty_to);
		if (!err)
			b->dirty_from = UINT64_MAX;
	}
	if (!err)
		err = cut_tail_locked(b);
	if (!err)
		err = stage_runs_locked(b);
	if (err)
		return err;
	regions_give_up_places(&b->regions);
	give_back_rows(b, true);
	return regions_defer_freed_locked(&b->regions);
}

static int bucket_drop_locked(struct array *a)
{
	struct bucket *b = bucket_of(a);

	regions_drop(&b->regions);
	return regions_defer_freed_locked(&b->regions);
}

static bool bucket_is_cutting(struct array *a)
{
	return bucket_of(a)->tail.n != 0;
}

static struct runs *bucket_runs(struct array *a)
{
	return &bucket_of(a)->runs;
}

/* "0 65536 131072"; more than an attribute holds is in index.u64 below views/runs. */
static int describe_runs(struct bucket *b, char **out)
{
	size_t n = 1, nbounds = runs_nbounds(&b->runs);
	char *text = malloc(DESCRIBE_MAX);

	if (!text)
		return -ENOMEM;
	strcpy(text, "0");
	for (size_t i = 0; i < nbounds; i++) {
		int len = snprintf(text + n, DESCRIBE_MAX - n, " %llu", (unsigned long long)runs_bound(&b->runs, i));

		n += (size_t)len;
		if (n < DESCRIBE_MAX)
			continue;
		if (!b->too_many_said)
			log_warn("inode %llu: its %zu run boundaries do not fit into user.spillfs.runs (E2BIG): read "
				 "views/runs/buckets/PATH/index.u64", (unsigned long long)b->array.ino, nbounds + 1);
		b->too_many_said = true;
		free(text);
		return -E2BIG;
	}
	*out = text;
	return 0;
}

static int bucket_describe(struct array *a, const char *what, char **out)
{
	struct bucket *b = bucket_of(a);

	if (!strcmp(what, "extents"))
		return asprintf(out, "%zu", b->map.n) < 0 ? -ENOMEM : 0;
	return strcmp(what, "runs") ? -ENODATA : describe_runs(b, out);
}

const struct array_ops bucket_ops = {
	.kind = ARRAY_BUCKET,
	.counters = { STAT_READ_OPS_BUCKET, STAT_READ_BYTES_BUCKET, STAT_WRITE_OPS_BUCKET, STAT_WRITE_BYTES_BUCKET },
	.open = bucket_open,
	.close = bucket_close,
	.memory = bucket_memory,
	.borrow = bucket_borrow,
	.write = bucket_write,
	.resize = bucket_resize,
	.punch = bucket_punch,
	.allocate = bucket_allocate,
	.growth = bucket_growth,
	.seek = bucket_seek,
	.stage_locked = bucket_stage_locked,
	.drop_locked = bucket_drop_locked,
	.is_cutting = bucket_is_cutting,
	.recount = bucket_recount,
	.runs = bucket_runs,
	.describe = bucket_describe,
};
