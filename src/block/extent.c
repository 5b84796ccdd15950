/*
 * The extent map of one bucket: a sorted array of extents, searched by bisection.
 *
 * Invariants: (1) extents are sorted by off, not empty and disjoint; (2) two extents that are
 * adjacent both in the file and in the same physical file are one extent; (3) offsets and lengths
 * are 64-bit and never wrap; (4) mapped_bytes is the sum of all lengths; (5) partial has the bytes of all extents.
 */
#include "block/extent.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "util/vec.h"

void extent_map_init(struct extent_map *m)
{
	memset(m, 0, sizeof(*m));
}

void extent_map_fini(struct extent_map *m)
{
	free(m->all);
	partial_fini(&m->partial);
	extent_map_init(m);
}

static uint64_t extent_end(const struct extent *e)
{
	return e->off_bytes + e->len_bytes;
}

size_t extent_map_find(const struct extent_map *m, uint64_t off_bytes)
{
	return VEC_LOWER_BOUND(i, m->n, extent_end(&m->v[i]) <= off_bytes);
}

/* A change of the extents [i, j) moves those on the shorter side. */
static bool nearer_front(const struct extent_map *m, size_t i, size_t j)
{
	return i < m->n - j;
}

/* Makes room for one more before the first, if `front`, or else behind the last. A map that only grows at its end has room only there;
 * else both sides get as much, so that a quarter of the allocation is used up before they are looked at again. */
static int map_reserve(struct extent_map *m, bool front)
{
	size_t before = (size_t)(m->v - m->all), cap = !m->cap ? 4 : 2 * m->n > m->cap ? 2 * m->cap : m->cap;
	struct extent *all;

	if (front ? before : before + m->n < m->cap)
		return 0;
	all = calloc(cap, sizeof(*all));
	if (!all)
		return -ENOMEM;
	before = front || before ? (cap - m->n) / 2 : 0;
	if (m->n)
		memcpy(all + before, m->v, m->n * sizeof(*all));
	free(m->all);
	m->all = all;
	m->cap = cap;
	m->v = all + before;
	return 0;
}

/* Replaces the extents [i, j) by the k of `with`; the room is reserved. */
static void map_splice(struct extent_map *m, size_t i, size_t j, const struct extent *with,
		       size_t k)
{
	struct extent *old = m->v;

	if (nearer_front(m, i, j)) {
		m->v = old + (j - i) - k;
		memmove(m->v, old, i * sizeof(*old));
	} else {
		memmove(old + i + k, old + j, (m->n - j) * sizeof(*old));
	}
	if (k)
		memcpy(m->v + i, with, k * sizeof(*m->v));
	m->n = m->n - (j - i) + k;
}

static bool extent_continues(const struct extent *a, const struct extent *b)
{
	return a->file == b->file && extent_end(a) == b->off_bytes &&
	       a->phys_bytes + a->len_bytes == b->phys_bytes;
}

static bool extent_wraps(const struct extent *e)
{
	return e->off_bytes > UINT64_MAX - e->len_bytes ||
	       e->phys_bytes > UINT64_MAX - e->len_bytes;
}

/* How many of its ends are inside of a page. */
static size_t ends_inside(const struct extent *e)
{
	return (e->phys_bytes % PARTIAL_PAGE_BYTES != 0) + ((e->phys_bytes + e->len_bytes) % PARTIAL_PAGE_BYTES != 0);
}

static void map_count(struct extent_map *m, const struct extent *e)
{
	m->mapped_bytes += e->len_bytes;
	partial_add(&m->partial, e->file, e->phys_bytes, e->len_bytes);
}

static void map_uncount(struct extent_map *m, const struct extent *e)
{
	m->mapped_bytes -= e->len_bytes;
	partial_remove(&m->partial, e->file, e->phys_bytes, e->len_bytes);
}

int extent_map_insert(struct extent_map *m, const struct extent *e)
{
	struct extent merged = *e;
	size_t i, j;
	int err;

	if (!e->len_bytes || extent_wraps(e))
		return -EINVAL;
	i = j = extent_map_find(m, e->off_bytes);
	if (i < m->n && m->v[i].off_bytes < extent_end(e))
		return -EEXIST;
	err = partial_reserve(&m->partial, ends_inside(e));
	if (err)
		return err;
	if (j < m->n && extent_continues(e, &m->v[j])) {
		merged.len_bytes += m->v[j].len_bytes;
		j++;
	}
	if (i > 0 && extent_continues(&m->v[i - 1], e)) {
		i--;
		merged.off_bytes = m->v[i].off_bytes;
		merged.phys_bytes = m->v[i].phys_bytes;
		merged.len_bytes += m->v[i].len_bytes;
	}
	if (i == j) {
		err = map_reserve(m, nearer_front(m, i, j));
		if (err)
			return err;
	}
	map_splice(m, i, j, &merged, 1);
	map_count(m, e);
	return 0;
}

/* The part of e inside [off, end). */
static struct extent extent_clip(const struct extent *e, uint64_t off, uint64_t end)
{
	uint64_t lo = e->off_bytes > off ? e->off_bytes : off;
	uint64_t hi = extent_end(e) < end ? extent_end(e) : end;

	return (struct extent){
		.off_bytes = lo,
		.len_bytes = hi - lo,
		.phys_bytes = e->phys_bytes + (lo - e->off_bytes),
		.file = e->file,
	};
}

/* The extents [i, j) all touch [off, end): at most a head and a tail of them stay. */
static size_t map_remains(const struct extent_map *m, size_t i, size_t j, uint64_t off,
			  uint64_t end, struct extent keep[2])
{
	size_t k = 0;

	if (m->v[i].off_bytes < off)
		keep[k++] = extent_clip(&m->v[i], 0, off);
	if (extent_end(&m->v[j - 1]) > end)
		keep[k++] = extent_clip(&m->v[j - 1], end, UINT64_MAX);
	return k;
}

/* The parts of the extents [i, j) inside [off, end); malloc'd. *npages: at most so many pages are used in part by them. */
static struct extent *map_pieces(const struct extent_map *m, size_t i, size_t j, uint64_t off, uint64_t end, size_t *npages)
{
	struct extent *v = calloc(j - i, sizeof(*v));
	uint64_t page = UINT64_MAX;
	uint32_t file = 0;

	*npages = 0;
	for (size_t p = 0; v && p < j - i; p++) {
		uint64_t first, last;

		v[p] = extent_clip(&m->v[i + p], off, end);
		first = v[p].phys_bytes / PARTIAL_PAGE_BYTES;
		last = (v[p].phys_bytes + v[p].len_bytes - 1) / PARTIAL_PAGE_BYTES;
		/* Neighbours in the file mostly lie side by side. */
		*npages += (first != page || v[p].file != file) + (last != first);
		page = last;
		file = v[p].file;
	}
	return v;
}

int extent_map_remove(struct extent_map *m, uint64_t off_bytes, uint64_t len_bytes,
		      void (*freed)(void *ctx, const struct extent *piece), void *ctx)
{
	uint64_t end = len_bytes > UINT64_MAX - off_bytes ? UINT64_MAX : off_bytes + len_bytes;
	size_t i = extent_map_find(m, off_bytes), j = i, k, npieces, npages;
	struct extent *pieces, keep[2];

	while (j < m->n && m->v[j].off_bytes < end)
		j++;
	npieces = j - i;
	if (!len_bytes || !npieces)
		return 0;
	k = map_remains(m, i, j, off_bytes, end, keep);
	pieces = map_pieces(m, i, j, off_bytes, end, &npages);
	if (!pieces || (k > npieces && map_reserve(m, nearer_front(m, i, j))) || partial_reserve(&m->partial, npages)) {
		free(pieces);
		return -ENOMEM;
	}
	for (size_t p = 0; p < npieces; p++)
		map_uncount(m, &pieces[p]);
	map_splice(m, i, j, keep, k);
	for (size_t p = 0; freed && p < npieces; p++)
		freed(ctx, &pieces[p]);
	free(pieces);
	return 0;
}

int extent_map_split(struct extent_map *m, uint64_t off_bytes, struct extent_map *tail)
{
	size_t i = extent_map_find(m, off_bytes), n = m->n - i, npages;
	bool head = n && m->v[i].off_bytes < off_bytes;
	struct extent *v = n ? map_pieces(m, i, m->n, off_bytes, UINT64_MAX, &npages) : NULL;

	if (!n)
		return 0;
	if (!v || partial_reserve(&m->partial, npages) || partial_reserve(&tail->partial, npages)) {
		free(v);
		return -ENOMEM;
	}
	for (size_t p = 0; p < n; p++) {
		map_uncount(m, &v[p]);
		map_count(tail, &v[p]);
	}
	if (head)
		m->v[i] = extent_clip(&m->v[i], 0, off_bytes);
	m->n = i + head; /* its room stays */
	free(tail->all);
	tail->all = tail->v = v;
	tail->n = tail->cap = n;
	return 0;
}

bool extent_map_has_page(const struct extent_map *m, uint32_t file, uint64_t phys_bytes)
{
	return partial_has(&m->partial, file, phys_bytes);
}
