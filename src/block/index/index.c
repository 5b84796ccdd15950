/*
 * The index of a layer in memory: the list of its records, merging and flattening. What is inside a
 * record is in record.c, names and chain are in names.c, the bytes in piece.c, head.c, stream.c and decode.c.
 *
 * Invariants: (1) records are sorted by ino, one each; (2) replaying an index on another gives what
 * replaying both in order would give; (3) a flattened index says of every ino and name that it
 * mentions what it is, and nothing of what it hides.
 */
#include "block/index.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "block/index/inside.h"
#include "util/vec.h"

void index_init(struct index *ix)
{
	memset(ix, 0, sizeof(*ix));
}

void index_fini(struct index *ix)
{
	for (size_t i = 0; i < ix->n; i++)
		index_record_free(ix->v[i]);
	free(ix->v);
	index_names_free(ix);
	free(ix->chain);
	index_init(ix);
}

/* The memory that malloc takes for n bytes. */
static size_t heap(size_t n)
{
	return n ? (n + 8 + 15) & ~(size_t)15 : 0;
}

static size_t text_memory(const char *text)
{
	return *text ? heap(strlen(text) + 1) : 0;
}

size_t index_memory(const struct index *ix)
{
	size_t sum = ix->cap * sizeof(*ix->v) + ix->cap_names * sizeof(*ix->names) + ix->nchain * sizeof(*ix->chain);

	for (size_t i = 0; i < ix->n; i++) {
		const struct index_record *r = ix->v[i];

		sum += heap(sizeof(*r)) + heap(r->cap_blocks * sizeof(*r->blocks)) + heap(r->cap_tombs * sizeof(*r->tombs)) +
		       text_memory(r->path) + text_memory(r->dtype) + text_memory(r->shape) + text_memory(r->target) +
		       heap(r->xattrs_len) + heap(r->data_len);
	}
	for (size_t i = 0; i < ix->nnames; i++)
		sum += text_memory(ix->names[i].name);
	return sum;
}

bool index_empty(const struct index *ix)
{
	return !ix->n && !ix->nnames;
}

/* Position of the first record whose ino is not below. */
static size_t index_position(const struct index *ix, uint64_t ino)
{
	return VEC_LOWER_BOUND(i, ix->n, ix->v[i]->facts.ino < ino);
}

size_t index_where(const struct index *ix, uint64_t ino)
{
	size_t i = index_position(ix, ino);

	return i < ix->n && ix->v[i]->facts.ino == ino ? i : SIZE_MAX;
}

struct index_record *index_find(const struct index *ix, uint64_t ino)
{
	size_t i = index_position(ix, ino);

	return i < ix->n && ix->v[i]->facts.ino == ino ? ix->v[i] : NULL;
}

int index_add(struct index *ix, uint64_t ino, struct index_record **out)
{
	size_t i = index_position(ix, ino);
	struct index_record *r;
	int err;

	if (i < ix->n && ix->v[i]->facts.ino == ino) {
		*out = ix->v[i];
		return 0;
	}
	err = VEC_RESERVE(ix->v, ix->cap, ix->n + 1);
	if (err)
		return err;
	err = index_record_new(ino, &r);
	if (err)
		return err;
	VEC_INSERT(ix->v, ix->n, i, r);
	*out = r;
	return 0;
}

/* Records that only `newer` has. */
static size_t count_missing(const struct index *ix, const struct index *newer)
{
	size_t missing = 0;

	for (size_t j = 0; j < newer->n; j++)
		missing += !index_find(ix, newer->v[j]->facts.ino);
	return missing;
}

/* Adds an empty record for every ino that only `newer` has, in one pass from the end. */
static int index_widen(struct index *ix, const struct index *newer)
{
	size_t missing = count_missing(ix, newer), i, j, k;

	if (VEC_RESERVE(ix->v, ix->cap, ix->n + missing))
		return -ENOMEM;
	i = ix->n;
	k = ix->n + missing;
	for (j = newer->n; j-- > 0;) {
		uint64_t ino = newer->v[j]->facts.ino;

		while (i > 0 && ix->v[i - 1]->facts.ino > ino)
			ix->v[--k] = ix->v[--i];
		if (i > 0 && ix->v[i - 1]->facts.ino == ino) {
			ix->v[--k] = ix->v[--i];
			continue;
		}
		if (index_record_new(ino, &ix->v[k - 1])) {
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

	if (newer->n > INDEX_MERGE_FEW)
		err = index_widen(ix, newer);
	for (size_t i = 0; !err && i < newer->n; i++) {
		struct index_record *r;

		err = index_add(ix, newer->v[i]->facts.ino, &r);
		if (!err)
			err = index_record_merge(r, newer->v[i]);
	}
	if (!err)
		err = index_names_merge(ix, newer);
	if (!err)
		err = index_set_chain(ix, newer->chain, newer->nchain);
	return err;
}

/* The records of newer->v move to ix->v, which has room, in one pass from the end; those that both have are merged. */
static int take_records(struct index *ix, struct index *newer, size_t missing)
{
	size_t i = ix->n, k = ix->n + missing;
	int err = 0;

	if (!newer->n)
		return 0;
	for (size_t j = newer->n; j-- > 0 && !err;) {
		struct index_record *r = newer->v[j];

		while (i > 0 && ix->v[i - 1]->facts.ino > r->facts.ino)
			ix->v[--k] = ix->v[--i];
		if (i > 0 && ix->v[i - 1]->facts.ino == r->facts.ino) {
			err = index_record_merge(ix->v[i - 1], r);
			index_record_free(r);
			ix->v[--k] = ix->v[--i];
		} else {
			ix->v[--k] = r;
		}
		newer->v[j] = NULL;
	}
	/* After a failure there is a gap. */
	memmove(ix->v + i, ix->v + k, (ix->n + missing - k) * sizeof(*ix->v));
	ix->n = i + (ix->n + missing - k);
	return err;
}

int index_take(struct index *ix, struct index *newer)
{
	size_t missing = count_missing(ix, newer);
	int err = VEC_RESERVE(ix->v, ix->cap, ix->n + missing);

	if (err)
		return err;
	err = take_records(ix, newer, missing);
	if (!err)
		err = index_names_merge(ix, newer);
	if (!err)
		err = index_set_chain(ix, newer->chain, newer->nchain);
	index_fini(newer);
	return err;
}

void index_flatten(struct index *ix)
{
	size_t n = 0;

	for (size_t i = 0; i < ix->n; i++) {
		if (ix->v[i]->type == LAYER_REC_GONE) {
			index_record_free(ix->v[i]);
			continue;
		}
		index_record_flatten(ix->v[i]);
		ix->v[n++] = ix->v[i];
	}
	ix->n = n;
	index_names_flatten(ix);
}
