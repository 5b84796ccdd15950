/*
 * The kinds of views, and their numbers.
 *
 * Invariant: a node's number follows from its key; while an open file of that key shows what was, a newer one gets the next number.
 */
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "tree/views/inside.h"

#define ALL_KINDS (1u << ARRAY_BUCKET | 1u << ARRAY_COLUMN | 1u << ARRAY_LAYERED)

const struct view_format_info view_formats[FORMAT_N] = {
	[FORMAT_NPY] = { "npy", ".npy", ALL_KINDS, true, false, false },
	[FORMAT_ZARR] = { "zarr", ".zarr", ALL_KINDS, true, false, true },
	[FORMAT_ZARR2] = { "zarr2", ".zarr", ALL_KINDS, true, false, true },
	[FORMAT_PARQUET] = { "parquet", ".parquet", ALL_KINDS, true, true, true },
	[FORMAT_ARROW] = { "arrow", ".arrow", ALL_KINDS, true, true, true },
	[FORMAT_ZST] = { "zst", ".zst", 1u << ARRAY_LAYERED, false, false, true },
	[FORMAT_RUNS] = { "runs", "", 1u << ARRAY_BUCKET, false, false, false },
};

uint64_t views_number_beside(const struct view_key *key, uint64_t generation)
{
	const uint64_t words[] = { key->source, key->sub, (uint64_t)key->role << 32 | key->format };

	return REALM_VIEWS_BIT | XXH64(words, sizeof(words), generation) >> 1;
}

uint64_t views_number(const struct view_key *key)
{
	return views_number_beside(key, 0);
}

/* Each name of an array has a file of its own: the content has the name (of the column), and so has an upload that replaces it. */
void views_file_key(enum view_format f, uint64_t source, uint64_t dir, const char *name, struct view_key *out)
{
	*out = (struct view_key){ .source = source, .format = f, .role = VIEW_FILE, .sub = XXH64(name, strlen(name), dir) };
}

uint64_t views_root_number(uint64_t root)
{
	return views_number(&(struct view_key){ .source = root, .role = VIEW_TOP });
}
