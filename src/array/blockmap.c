/*
 * The sparse block map: a table of groups of pages of entries.
 *
 * Invariants: (1) a page's entries are a run of neighbours, from the first that was needed to the last, and as many
 * again ahead in the direction in which it grew; (2) entries never go while the map lives; (3) an entry moves only
 * when another one of its page is made; (4) a group has its pages from its first to the last that was needed, so that a
 * block far behind the others costs no pages between.
 */
#include "array/blockmap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_BLOCKS 256u
#define GROUP_PAGES 64u
#define PAGES_MAX (1ull << 25) /* 1 PiB of blocks of the default size */

struct blockmap_page {
	struct blockmap_entry *v;
	uint16_t first, n; /* of the page's blocks */
};

struct blockmap_group {
	struct blockmap_page *pages;
	size_t n;
};

void blockmap_init(struct blockmap *m)
{
	*m = (struct blockmap){ 0 };
}

void blockmap_fini(struct blockmap *m)
{
	for (size_t g = 0; g < m->ngroups; g++) {
		for (size_t i = 0; i < m->groups[g].n; i++)
			free(m->groups[g].pages[i].v);
		free(m->groups[g].pages);
	}
	free(m->groups);
	blockmap_init(m);
}

size_t blockmap_bytes(const struct blockmap *m)
{
	return m->ngroups * sizeof(*m->groups) + m->npages * sizeof(*m->groups->pages) + m->nentries * sizeof(struct blockmap_entry);
}

static bool has(const struct blockmap_page *p, unsigned in)
{
	return in >= p->first && in < p->first + p->n;
}

/* NULL: there is none. */
static struct blockmap_page *find_page(const struct blockmap *m, uint64_t page)
{
	const struct blockmap_group *g = page / GROUP_PAGES < m->ngroups ? &m->groups[page / GROUP_PAGES] : NULL;

	return g && page % GROUP_PAGES < g->n ? &g->pages[page % GROUP_PAGES] : NULL;
}

struct blockmap_entry *blockmap_find(const struct blockmap *m, uint64_t block)
{
	const struct blockmap_page *p = find_page(m, block / PAGE_BLOCKS);
	unsigned in = block % PAGE_BLOCKS;

	return p && has(p, in) ? &p->v[in - p->first] : NULL;
}

/* A copy of a table of n elements, doubled until it has the element `at`; frees the old one. NULL: memory is out, and nothing has
 * changed. calloc, not realloc: the untouched part of a long one costs no memory. */
static void *stretch(void *old, size_t n, size_t size, size_t at, size_t *n_out)
{
	size_t more = n ? n : 1;
	void *v;

	while (more <= at)
		more *= 2;
	v = calloc(more, size);
	if (!v)
		return NULL;
	if (n)
		memcpy(v, old, n * size);
	free(old);
	*n_out = more;
	return v;
}

static int need_page(struct blockmap *m, uint64_t page, struct blockmap_page **out)
{
	size_t group = page / GROUP_PAGES, in = page % GROUP_PAGES, before;
	struct blockmap_group *g;
	void *v;

	if (page >= PAGES_MAX)
		return -EFBIG;
	if (group >= m->ngroups) {
		v = stretch(m->groups, m->ngroups, sizeof(*m->groups), group, &m->ngroups);
		if (!v)
			return -ENOMEM;
		m->groups = v;
	}
	g = &m->groups[group];
	before = g->n;
	if (in >= before) {
		v = stretch(g->pages, before, sizeof(*g->pages), in, &g->n);
		if (!v)
			return -ENOMEM;
		g->pages = v;
		m->npages += g->n - before;
	}
	*out = &g->pages[in];
	return 0;
}

/* Makes the page's run reach `in` (invariant 1). */
static int grow_page(struct blockmap *m, struct blockmap_page *p, unsigned in)
{
	unsigned first = p->first, end = first + p->n;
	struct blockmap_entry *v;

	if (!p->n) {
		first = in;
		end = in + 1;
	} else if (in >= end) {
		end = in + 1 > end + p->n ? in + 1 : end + p->n;
		end = end < PAGE_BLOCKS ? end : PAGE_BLOCKS;
	} else {
		first = first > p->n ? first - p->n : 0;
		first = first < in ? first : in;
	}
	v = calloc(end - first, sizeof(*v));
	if (!v)
		return -ENOMEM;
	if (p->n)
		memcpy(v + (p->first - first), p->v, p->n * sizeof(*v));
	free(p->v);
	m->nentries += end - first - p->n;
	*p = (struct blockmap_page){ .v = v, .first = (uint16_t)first, .n = (uint16_t)(end - first) };
	return 0;
}

int blockmap_need(struct blockmap *m, uint64_t block, struct blockmap_entry **out)
{
	unsigned in = block % PAGE_BLOCKS;
	struct blockmap_page *p;
	int err = need_page(m, block / PAGE_BLOCKS, &p);

	if (!err && !has(p, in))
		err = grow_page(m, p, in);
	if (err)
		return err;
	*out = &p->v[in - p->first];
	return 0;
}

bool blockmap_next(const struct blockmap *m, uint64_t from, uint64_t *block_out, struct blockmap_entry **out)
{
	uint64_t page = from / PAGE_BLOCKS;
	unsigned in = from % PAGE_BLOCKS;

	for (; page / GROUP_PAGES < m->ngroups; in = 0) {
		const struct blockmap_page *p = find_page(m, page);

		if (!p) {
			page += GROUP_PAGES - page % GROUP_PAGES;
			continue;
		}
		if (in < p->first + p->n) {
			in = in > p->first ? in : p->first;
			*block_out = page * PAGE_BLOCKS + in;
			*out = &p->v[in - p->first];
			return true;
		}
		page++;
	}
	return false;
}
