/*
 * The extent map of one bucket: a sorted array of extents, searched by bisection.
 *
 * Invariants: (1) extents are sorted by off, not empty and disjoint; (2) two extents that are
 * adjacent both in the file and in the same physical file are one extent; (3) offsets and lengths
 * are 64-bit and never wrap; (4) mapped_bytes is the sum of all lengths.
 */
#include "block/extent.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define PIECES_ON_STACK 16

void extent_map_init(struct extent_map *m)
{
	memset(m, 0, sizeof(*m));
}

void extent_map_fini(struct extent_map *m)
{
	free(m->v);
	extent_map_init(m);
}

static uint64_t extent_end(const struct extent *e)
{
	return e->off_bytes + e->len_bytes;
}

size_t extent_map_find(const struct extent_map *m, uint64_t off_bytes)
{
	size_t lo = 0, hi = m->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (extent_end(&m->v[mid]) > off_bytes)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

static int map_reserve(struct extent_map *m, size_t more)
{
	size_t cap = m->cap ? m->cap : 4;
	struct extent *v;

	if (m->n + more <= m->cap)
		return 0;
	while (cap < m->n + more)
		cap *= 2;
	v = reallocarray(m->v, cap, sizeof(*v));
	if (!v)
		return -ENOMEM;
	m->v = v;
	m->cap = cap;
	return 0;
}

/* Replaces the extents [i, j) by the k of `with`; the room is reserved. */
static void map_splice(struct extent_map *m, size_t i, size_t j, const struct extent *with,
		       size_t k)
{
	memmove(m->v + i + k, m->v + j, (m->n - j) * sizeof(*m->v));
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
		err = map_reserve(m, 1);
		if (err)
			return err;
	}
	map_splice(m, i, j, &merged, 1);
	m->mapped_bytes += e->len_bytes;
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

/* What stays of the extents [i, j), which all touch [off, end): at most a head and a tail. */
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

int extent_map_remove(struct extent_map *m, uint64_t off_bytes, uint64_t len_bytes,
		      void (*freed)(void *ctx, const struct extent *piece), void *ctx)
{
	uint64_t end = len_bytes > UINT64_MAX - off_bytes ? UINT64_MAX : off_bytes + len_bytes;
	struct extent stack[PIECES_ON_STACK], *pieces = stack, keep[2];
	size_t i = extent_map_find(m, off_bytes), j = i, k, npieces;

	while (j < m->n && m->v[j].off_bytes < end)
		j++;
	npieces = j - i;
	if (!len_bytes || !npieces)
		return 0;
	k = map_remains(m, i, j, off_bytes, end, keep);
	if (k > npieces && map_reserve(m, 1))
		return -ENOMEM;
	if (npieces > PIECES_ON_STACK) {
		pieces = reallocarray(NULL, npieces, sizeof(*pieces));
		if (!pieces)
			return -ENOMEM;
	}
	for (size_t p = 0; p < npieces; p++) {
		pieces[p] = extent_clip(&m->v[i + p], off_bytes, end);
		m->mapped_bytes -= pieces[p].len_bytes;
	}
	map_splice(m, i, j, keep, k);
	for (size_t p = 0; freed && p < npieces; p++)
		freed(ctx, &pieces[p]);
	if (pieces != stack)
		free(pieces);
	return 0;
}

_Bool extent_map_touches(const struct extent_map *m, uint32_t file, uint64_t phys_bytes,
			 uint64_t len_bytes)
{
	uint64_t end = len_bytes > UINT64_MAX - phys_bytes ? UINT64_MAX : phys_bytes + len_bytes;

	for (size_t i = 0; len_bytes && i < m->n; i++) {
		const struct extent *e = &m->v[i];

		if (e->file == file && e->phys_bytes < end &&
		    e->phys_bytes + e->len_bytes > phys_bytes)
			return true;
	}
	return false;
}

int extent_map_check(const struct extent_map *m)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < m->n; i++) {
		const struct extent *e = &m->v[i];

		if (!e->len_bytes || extent_wraps(e))
			return -EUCLEAN;
		if (i && extent_end(&m->v[i - 1]) > e->off_bytes)
			return -EUCLEAN;
		if (i && extent_continues(&m->v[i - 1], e))
			return -EUCLEAN;
		sum += e->len_bytes;
	}
	return sum == m->mapped_bytes ? 0 : -EUCLEAN;
}
