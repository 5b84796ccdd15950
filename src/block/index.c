/*
 * The records of a layer's index in memory, and how newer records change older ones. The bytes are
 * in index_code.c.
 *
 * Invariants: (1) records are sorted by ino, one each; (2) block entries of a record are sorted,
 * one for each block; (3) tombstones are sorted, disjoint and not adjacent, and apply before the
 * entries; (4) a record of type GONE has neither; (5) replaying an index on another gives what
 * replaying both in order would give.
 */
#include "block/index.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Up to this many newer records (or entries) are put in one by one, more are merged in one pass. */
#define MERGE_FEW 32

void index_init(struct index *ix)
{
	memset(ix, 0, sizeof(*ix));
}

static void record_free(struct index_record *r)
{
	if (!r)
		return;
	free(r->path);
	free(r->dtype);
	free(r->shape);
	free(r->blocks);
	free(r->tombs);
	free(r);
}

void index_fini(struct index *ix)
{
	for (size_t i = 0; i < ix->n; i++)
		record_free(ix->v[i]);
	free(ix->v);
	index_init(ix);
}

/* Position of the first record whose ino is not below. */
static size_t index_position(const struct index *ix, uint64_t ino)
{
	size_t lo = 0, hi = ix->n;

	if (hi && ix->v[hi - 1]->ino < ino)
		return hi;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (ix->v[mid]->ino < ino)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

struct index_record *index_find(const struct index *ix, uint64_t ino)
{
	size_t i = index_position(ix, ino);

	return i < ix->n && ix->v[i]->ino == ino ? ix->v[i] : NULL;
}

/* v with room for n elements in all, doubled; NULL (v is unchanged) when memory is out. */
static void *vec_grow(void *v, size_t *cap, size_t n, size_t size)
{
	size_t want = *cap ? *cap : 4;

	while (want < n)
		want *= 2;
	v = reallocarray(v, want, size);
	if (v)
		*cap = want;
	return v;
}

static int index_reserve(struct index *ix, size_t n)
{
	void *v;

	if (n <= ix->cap)
		return 0;
	v = vec_grow(ix->v, &ix->cap, n, sizeof(*ix->v));
	if (!v)
		return -ENOMEM;
	ix->v = v;
	return 0;
}

static int record_new(uint64_t ino, struct index_record **out)
{
	struct index_record *r = calloc(1, sizeof(*r));
	int err;

	if (!r)
		return -ENOMEM;
	r->ino = ino;
	r->type = LAYER_REC_ARRAY;
	err = index_record_set_names(r, NULL, NULL, NULL);
	if (err) {
		record_free(r);
		return err;
	}
	*out = r;
	return 0;
}

int index_add(struct index *ix, uint64_t ino, struct index_record **out)
{
	size_t i = index_position(ix, ino);
	struct index_record *r;
	int err;

	if (i < ix->n && ix->v[i]->ino == ino) {
		*out = ix->v[i];
		return 0;
	}
	err = index_reserve(ix, ix->n + 1);
	if (err)
		return err;
	err = record_new(ino, &r);
	if (err)
		return err;
	memmove(ix->v + i + 1, ix->v + i, (ix->n - i) * sizeof(*ix->v));
	ix->v[i] = r;
	ix->n++;
	*out = r;
	return 0;
}

int index_record_set_names(struct index_record *r, const char *path, const char *dtype,
			   const char *shape)
{
	const char *from[3] = { path ? path : "", dtype ? dtype : "", shape ? shape : "" };
	char *to[3] = { NULL, NULL, NULL };

	for (int i = 0; i < 3; i++)
		if (strlen(from[i]) > UINT16_MAX)
			return -ENAMETOOLONG;
	for (int i = 0; i < 3; i++) {
		to[i] = strdup(from[i]);
		if (!to[i]) {
			free(to[0]);
			free(to[1]);
			return -ENOMEM;
		}
	}
	free(r->path);
	free(r->dtype);
	free(r->shape);
	r->path = to[0];
	r->dtype = to[1];
	r->shape = to[2];
	return 0;
}

/* Position of the first entry whose block is not below. */
static size_t block_position(const struct index_record *r, uint64_t block)
{
	size_t lo = 0, hi = r->nblocks;

	if (hi && r->blocks[hi - 1].block < block)
		return hi;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (r->blocks[mid].block < block)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

int index_record_put(struct index_record *r, const struct layer_block *b)
{
	size_t i = block_position(r, b->block);

	if (i < r->nblocks && r->blocks[i].block == b->block) {
		r->blocks[i] = *b;
		return 0;
	}
	if (r->nblocks == r->cap_blocks) {
		void *v = vec_grow(r->blocks, &r->cap_blocks, r->nblocks + 1, sizeof(*r->blocks));

		if (!v)
			return -ENOMEM;
		r->blocks = v;
	}
	memmove(r->blocks + i + 1, r->blocks + i, (r->nblocks - i) * sizeof(*r->blocks));
	r->blocks[i] = *b;
	r->nblocks++;
	return 0;
}

/* UINT64_MAX stands for "to the end", which no block number reaches. */
static uint64_t range_end(uint64_t first, uint64_t count)
{
	return count > UINT64_MAX - first ? UINT64_MAX : first + count;
}

static void record_drop(struct index_record *r, uint64_t first, uint64_t end)
{
	size_t i = block_position(r, first), j;

	j = end == UINT64_MAX ? r->nblocks : block_position(r, end);
	if (i == j)
		return;
	memmove(r->blocks + i, r->blocks + j, (r->nblocks - j) * sizeof(*r->blocks));
	r->nblocks -= j - i;
}

/* Position of the first tombstone that ends at or behind block. */
static size_t tomb_position(const struct index_record *r, uint64_t block)
{
	size_t lo = 0, hi = r->ntombs;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (range_end(r->tombs[mid].first, r->tombs[mid].count) < block)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

int index_record_tomb(struct index_record *r, uint64_t first, uint64_t count)
{
	uint64_t end = range_end(first, count);
	size_t i = tomb_position(r, first), j = i;
	uint64_t from = first, to = end;

	if (!count)
		return 0;
	for (; j < r->ntombs && r->tombs[j].first <= end; j++) {
		uint64_t tomb_end = range_end(r->tombs[j].first, r->tombs[j].count);

		from = r->tombs[j].first < from ? r->tombs[j].first : from;
		to = tomb_end > to ? tomb_end : to;
	}
	if (i == j && r->ntombs == r->cap_tombs) {
		void *v = vec_grow(r->tombs, &r->cap_tombs, r->ntombs + 1, sizeof(*r->tombs));

		if (!v)
			return -ENOMEM;
		r->tombs = v;
	}
	memmove(r->tombs + i + 1, r->tombs + j, (r->ntombs - j) * sizeof(*r->tombs));
	r->ntombs = r->ntombs - (j - i) + 1;
	r->tombs[i].first = from;
	r->tombs[i].count = to == UINT64_MAX ? UINT64_MAX : to - from;
	record_drop(r, first, end);
	return 0;
}

void index_record_gone(struct index_record *r)
{
	r->type = LAYER_REC_GONE;
	r->nblocks = 0;
	r->ntombs = 0;
}

/* Replaces or adds all entries of b in one pass over both. */
static int record_put_many(struct index_record *r, const struct layer_block *b, size_t n)
{
	struct layer_block *v = reallocarray(NULL, r->nblocks + n, sizeof(*v));
	size_t i = 0, j = 0, k = 0;

	if (!v)
		return -ENOMEM;
	while (i < r->nblocks || j < n) {
		if (j == n || (i < r->nblocks && r->blocks[i].block < b[j].block)) {
			v[k++] = r->blocks[i++];
		} else {
			i += i < r->nblocks && r->blocks[i].block == b[j].block;
			v[k++] = b[j++];
		}
	}
	free(r->blocks);
	r->cap_blocks = r->nblocks + n;
	r->blocks = v;
	r->nblocks = k;
	return 0;
}

static int record_merge(struct index_record *r, const struct index_record *newer)
{
	bool was_gone = r->type == LAYER_REC_GONE;
	int err = index_record_set_names(r, newer->path, newer->dtype, newer->shape);

	if (err)
		return err;
	r->size_bytes = newer->size_bytes;
	r->block_bytes = newer->block_bytes;
	r->mtime_ns = newer->mtime_ns;
	r->mode = newer->mode;
	r->uid = newer->uid;
	r->gid = newer->gid;
	r->type = newer->type;
	if (newer->type == LAYER_REC_GONE) {
		index_record_gone(r);
		return 0;
	}
	if (was_gone)
		err = index_record_tomb(r, 0, UINT64_MAX);
	for (size_t i = 0; !err && i < newer->ntombs; i++)
		err = index_record_tomb(r, newer->tombs[i].first, newer->tombs[i].count);
	if (err)
		return err;
	if (newer->nblocks > MERGE_FEW)
		return record_put_many(r, newer->blocks, newer->nblocks);
	for (size_t i = 0; !err && i < newer->nblocks; i++)
		err = index_record_put(r, &newer->blocks[i]);
	return err;
}

/* Adds an empty record for every ino that only `newer` has, in one pass from the end. */
static int index_widen(struct index *ix, const struct index *newer)
{
	size_t missing = 0, i, j, k;

	for (j = 0; j < newer->n; j++)
		missing += !index_find(ix, newer->v[j]->ino);
	if (index_reserve(ix, ix->n + missing))
		return -ENOMEM;
	i = ix->n;
	k = ix->n + missing;
	for (j = newer->n; j-- > 0;) {
		uint64_t ino = newer->v[j]->ino;

		while (i > 0 && ix->v[i - 1]->ino > ino)
			ix->v[--k] = ix->v[--i];
		if (i > 0 && ix->v[i - 1]->ino == ino) {
			ix->v[--k] = ix->v[--i];
			continue;
		}
		if (record_new(ino, &ix->v[k - 1])) {
			/* Closes the gap, so that ix can be freed. */
			memmove(ix->v + i, ix->v + k, (ix->n + missing - k) * sizeof(*ix->v));
			ix->n = i + (ix->n + missing - k);
			return -ENOMEM;
		}
		k--;
	}
	ix->n += missing;
	return 0;
}

int index_merge(struct index *ix, const struct index *newer)
{
	int err = 0;

	if (newer->n > MERGE_FEW)
		err = index_widen(ix, newer);
	for (size_t i = 0; !err && i < newer->n; i++) {
		struct index_record *r;

		err = index_add(ix, newer->v[i]->ino, &r);
		if (!err)
			err = record_merge(r, newer->v[i]);
	}
	return err;
}
