/*
 * A bucket's regions, places and freed pages.
 *
 * Invariants:
 *  1. The region's bytes from next_bytes on belong to no extent and to no other bucket.
 *  2. A page of a physical file is freed when no extent and no place of this bucket has a byte in it; it goes back to
 *     the pool only after the transaction that dropped it is durable.
 *  3. A place is room of a region for a hole of the file: no extent has a byte of either. It lasts until the next stage or
 *     truncation at most.
 */
#include "array/regions.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "store/meta.h"
#include "store/store.h"
#include "util/plant.h"
#include "util/vec.h"

/* Room that is set aside for bytes on their way, at most: a few requests of each thread of the loop. */
#define PLACES_MAX_BYTES (32u << 20)

static_assert(PARTIAL_PAGE_BYTES == POOL_ALIGN, "the pool's pages");

/* Regions on their way back to the pool. */
struct freed_regions {
	struct meta_deferred deferred;
	struct pool *pool;
	struct region_list list;
};

static uint64_t page_of(uint64_t off)
{
	return off & ~(uint64_t)(POOL_ALIGN - 1);
}

static uint64_t page_end(uint64_t off)
{
	return page_of(off + POOL_ALIGN - 1);
}

/* Does an extent or a place have a byte of the page? None has the whole page. */
static bool uses_page(const struct regions *r, uint32_t file, uint64_t phys)
{
	return extent_map_has_page(r->map, file, phys) || extent_map_has_page(r->tail, file, phys) ||
	       extent_map_has_page(&r->places, file, phys);
}

void regions_init(struct regions *r, struct store *s, uint64_t ino, const struct extent_map *map, const struct extent_map *tail)
{
	*r = (struct regions){ .store = s, .ino = ino, .map = map, .tail = tail };
	r->claim_bytes = map->mapped_bytes < POOL_REGION_MIN ? POOL_ALIGN : POOL_REGION_MIN;
	extent_map_init(&r->places);
}

/* The rest of the region, from next_bytes on, is in no extent (invariant 1). */
static void unclaim_rest(struct regions *r)
{
	struct region rest = r->now;

	rest.off_bytes += r->next_bytes;
	rest.len_bytes -= r->next_bytes;
	if (r->now.len_bytes && rest.len_bytes)
		pool_unclaim(r->store->pool, &rest);
}

void regions_fini(struct regions *r, bool unstaged)
{
	uint64_t page = page_of(r->next_bytes);

	if (r->next_bytes > page && (unstaged || r->freed.n || uses_page(r, r->now.file, r->now.off_bytes + page)))
		page += POOL_ALIGN;
	r->next_bytes = page;
	unclaim_rest(r);
	extent_map_fini(&r->places);
	free(r->freed.v);
}

/* ---- freed pages ---- */

/* With the next stage; the pool has it when that is committed. */
static void free_region(struct regions *r, const struct region *gone)
{
	struct region_list *l = &r->freed;

	if (PLANTED(PLANT_EARLY_REUSE))
		pool_unclaim(r->store->pool, gone);
	else if (!VEC_RESERVE(l->v, l->cap, l->n + 1))
		l->v[l->n++] = *gone;
}

/* Frees the page that the region has left, if its extents are gone (invariant 2). */
static void release_held(struct regions *r)
{
	struct region page = { r->now.file, r->held_page - 1, POOL_ALIGN };

	if (!r->held_page || r->now.off_bytes + r->next_bytes < page.off_bytes + POOL_ALIGN)
		return;
	r->held_page = 0;
	if (!uses_page(r, page.file, page.off_bytes))
		free_region(r, &page);
}

/* Invariant 2. A page that cannot be noted (no memory) stays claimed until the next mount. */
void regions_free(void *ctx, const struct extent *piece)
{
	struct regions *r = ctx;
	uint64_t first = page_of(piece->phys_bytes), end = page_end(piece->phys_bytes + piece->len_bytes);
	uint64_t next_page = r->now.off_bytes + page_of(r->next_bytes);
	struct region gone = { .file = piece->file };

	if (first < piece->phys_bytes && uses_page(r, piece->file, first))
		first += POOL_ALIGN;
	if (first < end && end > piece->phys_bytes + piece->len_bytes && uses_page(r, piece->file, end - POOL_ALIGN))
		end -= POOL_ALIGN;
	/* The page that the region appends to next stays for now. */
	if (r->now.len_bytes && r->next_bytes < r->now.len_bytes && piece->file == r->now.file &&
	    first <= next_page && next_page < end && r->next_bytes % POOL_ALIGN) {
		end = next_page;
		r->held_page = next_page + 1;
	}
	if (first >= end)
		return;
	gone.off_bytes = first;
	gone.len_bytes = end - first;
	free_region(r, &gone);
}

static void run_freed(struct meta_deferred *d, bool durable)
{
	struct freed_regions *f = (struct freed_regions *)d;

	for (size_t i = 0; durable && i < f->list.n; i++)
		pool_release(f->pool, &f->list.v[i]);
	free(f->list.v);
	free(f);
}

int regions_defer_freed_locked(struct regions *r)
{
	struct freed_regions *f;

	if (!r->freed.n)
		return 0;
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	f->deferred.run = run_freed;
	f->pool = r->store->pool;
	f->list = r->freed;
	r->freed = (struct region_list){ 0 };
	meta_defer_locked(r->store->meta, &f->deferred);
	return 0;
}

/* That page was still in use at the last commit: it goes as the others do. */
void regions_drop(struct regions *r)
{
	r->next_bytes = page_end(r->next_bytes);
	release_held(r);
	regions_give_up_places(r);
}

/* ---- the region ---- */

/* Gives the rest of the region back: the bucket goes on elsewhere. */
static void leave_region(struct regions *r)
{
	r->next_bytes = page_end(r->next_bytes);
	release_held(r);
	unclaim_rest(r);
	r->now = (struct region){ 0 };
	r->next_bytes = 0;
}

/* Makes room in the region, or claims a new one. Regions double in size from one page on: a long bucket is read back in large
 * pieces, and short buckets lie side by side, so that the file system can free them in one piece. */
static int need_region(struct regions *r, uint64_t want, bool promised)
{
	struct pool *p = r->store->pool;
	struct region next;
	int err;

	if (r->next_bytes < r->now.len_bytes && pool_leaves(p, r->now.file))
		leave_region(r);
	if (r->next_bytes < r->now.len_bytes)
		return 0;
	if (want < r->claim_bytes)
		want = r->claim_bytes;
	if (want > POOL_REGION_MAX)
		want = POOL_REGION_MAX;
	err = promised ? 0 : store_may_write(r->store, want);
	if (!err)
		err = pool_claim(p, pool_choose(p, (uint32_t)(r->ino % pool_nfiles(p))), want, &next);
	if (err)
		return err;
	r->now = next;
	r->next_bytes = 0;
	if (r->claim_bytes < POOL_REGION_MAX)
		r->claim_bytes *= 2;
	return 0;
}

int regions_find(struct regions *r, struct extent *e, bool promised)
{
	int err = need_region(r, e->len_bytes, promised);

	if (err)
		return err;
	if (e->len_bytes > r->now.len_bytes - r->next_bytes)
		e->len_bytes = r->now.len_bytes - r->next_bytes;
	e->file = r->now.file;
	e->phys_bytes = r->now.off_bytes + r->next_bytes;
	return 0;
}

void regions_take(struct regions *r, const struct extent *e)
{
	r->next_bytes += e->len_bytes;
	release_held(r);
}

/* ---- places ---- */

void regions_set_aside(struct regions *r, uint64_t from, uint64_t to)
{
	struct extent e = { .off_bytes = from };

	while (e.off_bytes < to && to - e.off_bytes <= PLACES_MAX_BYTES - r->places.mapped_bytes) {
		e.len_bytes = to - e.off_bytes;
		if (regions_find(r, &e, false) || extent_map_insert(&r->places, &e))
			return;
		regions_take(r, &e);
		e.off_bytes += e.len_bytes;
	}
}

bool regions_find_place(const struct regions *r, struct extent *e)
{
	size_t i = extent_map_find(&r->places, e->off_bytes);
	const struct extent *p = i < r->places.n ? &r->places.v[i] : NULL;
	uint64_t in = p ? e->off_bytes - p->off_bytes : 0;

	if (p && p->off_bytes > e->off_bytes && e->len_bytes > p->off_bytes - e->off_bytes)
		e->len_bytes = p->off_bytes - e->off_bytes;
	if (!p || p->off_bytes > e->off_bytes)
		return false;
	if (e->len_bytes > p->len_bytes - in)
		e->len_bytes = p->len_bytes - in;
	e->file = p->file;
	e->phys_bytes = p->phys_bytes + in;
	return true;
}

int regions_take_place(struct regions *r, const struct extent *e)
{
	return extent_map_remove(&r->places, e->off_bytes, e->len_bytes, NULL, NULL);
}

/* Without memory it is claimed until the next mount. */
void regions_return_place(struct regions *r, const struct extent *e)
{
	extent_map_insert(&r->places, e);
}

int regions_leave_place(struct regions *r, const struct extent *e)
{
	return extent_map_remove(&r->places, e->off_bytes, e->len_bytes, regions_free, r);
}

void regions_give_up_places(struct regions *r)
{
	if (r->places.n)
		extent_map_remove(&r->places, 0, UINT64_MAX, regions_free, r);
}
