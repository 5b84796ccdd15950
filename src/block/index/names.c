/*
 * The names and the chain of an index.
 *
 * Invariants: (1) names are sorted by (parent, name as bytes), one each; (2) each is what a directory
 * can hold: 1 to 255 bytes, no '/', not "." or ".."; (3) merging gives what putting the newer names one
 * by one would give.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "block/index/inside.h"
#include "util/vec.h"

void index_names_free(struct index *ix)
{
	for (size_t i = 0; i < ix->nnames; i++)
		free(ix->names[i].name);
	free(ix->names);
}

bool index_name_valid(const char *name, size_t len)
{
	if (!len || len > INDEX_NAME_BYTES_MAX || memchr(name, 0, len) || memchr(name, '/', len))
		return false;
	return !(name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')));
}

/* strcmp compares bytes as unsigned; the end of a name is below all of them. */
static int key_compare(const struct index_name *a, uint64_t parent, const char *name)
{
	if (a->parent != parent)
		return a->parent < parent ? -1 : 1;
	return strcmp(a->name, name);
}

int index_name_compare(const struct index_name *a, const struct index_name *b)
{
	return key_compare(a, b->parent, b->name);
}

/* Position of the first name that is not below. */
static size_t name_position(const struct index *ix, uint64_t parent, const char *name)
{
	return VEC_LOWER_BOUND(i, ix->nnames, key_compare(&ix->names[i], parent, name) < 0);
}

int index_name_put(struct index *ix, uint64_t parent, const char *name, uint64_t ino)
{
	size_t i = name_position(ix, parent, name);
	char *copy;

	if (i < ix->nnames && !key_compare(&ix->names[i], parent, name)) {
		ix->names[i].ino = ino;
		return 0;
	}
	if (VEC_RESERVE(ix->names, ix->cap_names, ix->nnames + 1))
		return -ENOMEM;
	copy = strdup(name);
	if (!copy)
		return -ENOMEM;
	VEC_INSERT(ix->names, ix->nnames, i, (struct index_name){ parent, ino, copy });
	return 0;
}

bool index_name_find(const struct index *ix, uint64_t parent, const char *name, uint64_t *ino_out)
{
	size_t i = name_position(ix, parent, name);

	if (i == ix->nnames || key_compare(&ix->names[i], parent, name))
		return false;
	*ino_out = ix->names[i].ino;
	return true;
}

void index_name_range(const struct index *ix, uint64_t parent, size_t *first_out, size_t *end_out)
{
	*first_out = name_position(ix, parent, "");
	*end_out = parent == UINT64_MAX ? ix->nnames : name_position(ix, parent + 1, "");
}

/* Replaces or adds all names of `newer` in one pass over both. */
static int names_put_many(struct index *ix, const struct index *newer)
{
	struct index_name *v = reallocarray(NULL, ix->nnames + newer->nnames, sizeof(*v));
	size_t i = 0, j = 0, k = 0, fresh = 0;
	char **copies = reallocarray(NULL, newer->nnames, sizeof(*copies));

	if (!v || !copies)
		goto nomem;
	for (; fresh < newer->nnames; fresh++) {
		copies[fresh] = strdup(newer->names[fresh].name);
		if (!copies[fresh])
			goto nomem;
	}
	while (i < ix->nnames || j < newer->nnames) {
		int order = i == ix->nnames ? 1 : -1;

		if (i < ix->nnames && j < newer->nnames)
			order = index_name_compare(&ix->names[i], &newer->names[j]);
		if (order == 0)
			free(ix->names[i++].name);
		if (order < 0) {
			v[k++] = ix->names[i++];
		} else {
			v[k] = newer->names[j];
			v[k++].name = copies[j++];
		}
	}
	free(copies);
	free(ix->names);
	ix->cap_names = ix->nnames + newer->nnames;
	ix->names = v;
	ix->nnames = k;
	return 0;
nomem:
	while (fresh-- > 0)
		free(copies[fresh]);
	free(copies);
	free(v);
	return -ENOMEM;
}

int index_names_merge(struct index *ix, const struct index *newer)
{
	int err = 0;

	if (newer->nnames > INDEX_MERGE_FEW)
		return names_put_many(ix, newer);
	for (size_t i = 0; !err && i < newer->nnames; i++)
		err = index_name_put(ix, newer->names[i].parent, newer->names[i].name, newer->names[i].ino);
	return err;
}

void index_names_flatten(struct index *ix)
{
	size_t n = 0;

	for (size_t i = 0; i < ix->nnames; i++) {
		if (ix->names[i].ino)
			ix->names[n++] = ix->names[i];
		else
			free(ix->names[i].name);
	}
	ix->nnames = n;
}

int index_set_chain(struct index *ix, const uint64_t *chain, size_t n)
{
	uint64_t *copy = NULL;

	if (n) {
		copy = reallocarray(NULL, n, sizeof(*copy));
		if (!copy)
			return -ENOMEM;
		memcpy(copy, chain, n * sizeof(*copy));
	}
	free(ix->chain);
	ix->chain = copy;
	ix->nchain = n;
	return 0;
}

static int number_compare(const void *a, const void *b)
{
	uint64_t x, y;

	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return (x > y) - (x < y);
}

int index_chain_check(const uint64_t *chain, size_t n)
{
	uint64_t *sorted;
	int err = 0;

	if (!n)
		return 0;
	sorted = reallocarray(NULL, n, sizeof(*sorted));
	if (!sorted)
		return -ENOMEM;
	memcpy(sorted, chain, n * sizeof(*sorted));
	qsort(sorted, n, sizeof(*sorted), number_compare);
	for (size_t i = 0; !err && i < n; i++)
		if (!sorted[i] || (i && sorted[i - 1] == sorted[i]))
			err = -EINVAL;
	free(sorted);
	return err;
}
