/*
 * The sparse block map.
 *
 * Invariants: (1) a page's entries are a run of neighbours, from the first that was needed to the last, and as many
 * again ahead in the direction in which it grew; (2) entries never go while the map lives; (3) an entry moves only
 * when another one of its page is made.
 */
#include "array/blockmap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_BLOCKS 256u
#define PAGES_MAX (1ull << 24) /* 1 PiB of blocks of the default size */

struct blockmap_page {
	struct blockmap_entry *v;
	uint16_t first, n; /* of the page's blocks */
};

void blockmap_init(struct blockmap *m)
{
	*m = (struct blockmap){ 0 };
}

void blockmap_fini(struct blockmap *m)
{
	for (size_t i = 0; i < m->npages; i++)
		free(m->pages[i].v);
	free(m->pages);
	blockmap_init(m);
}

size_t blockmap_bytes(const struct blockmap *m)
{
	return m->npages * sizeof(*m->pages) + m->nentries * sizeof(struct blockmap_entry);
}

static bool has(const struct blockmap_page *p, unsigned in)
{
	return in >= p->first && in < p->first + p->n;
}

struct blockmap_entry *blockmap_find(const struct blockmap *m, uint64_t block)
{
	uint64_t page = block / PAGE_BLOCKS;
	unsigned in = block % PAGE_BLOCKS;

	if (page >= m->npages || !has(&m->pages[page], in))
		return NULL;
	return &m->pages[page].v[in - m->pages[page].first];
}

static int grow_table(struct blockmap *m, uint64_t page)
{
	size_t n = m->npages ? m->npages : 1;
	struct blockmap_page *pages;

	if (page >= PAGES_MAX)
		return -EFBIG;
	while (n <= page)
		n *= 2;
	/* calloc, not realloc: the untouched part of a huge table costs no memory. */
	pages = calloc(n, sizeof(*pages));
	if (!pages)
		return -ENOMEM;
	if (m->npages)
		memcpy(pages, m->pages, m->npages * sizeof(*pages));
	free(m->pages);
	m->pages = pages;
	m->npages = n;
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
	uint64_t page = block / PAGE_BLOCKS;
	unsigned in = block % PAGE_BLOCKS;
	int err = page < m->npages ? 0 : grow_table(m, page);

	if (!err && !has(&m->pages[page], in))
		err = grow_page(m, &m->pages[page], in);
	if (err)
		return err;
	*out = &m->pages[page].v[in - m->pages[page].first];
	return 0;
}

bool blockmap_next(const struct blockmap *m, uint64_t from, uint64_t *block_out, struct blockmap_entry **out)
{
	uint64_t page = from / PAGE_BLOCKS;
	unsigned in = from % PAGE_BLOCKS;

	for (; page < m->npages; page++, in = 0) {
		const struct blockmap_page *p = &m->pages[page];

		if (in >= p->first + p->n)
			continue;
		in = in > p->first ? in : p->first;
		*block_out = page * PAGE_BLOCKS + in;
		*out = &p->v[in - p->first];
		return true;
	}
	return false;
}
