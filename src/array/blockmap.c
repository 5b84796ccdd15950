/*
 * The sparse block map. Invariant: a page exists if some block of it was ever stored or dirty.
 */
#include "array/blockmap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_BLOCKS 256u
#define PAGES_MAX (1ull << 24) /* 1 PiB of blocks of the default size */

void blockmap_init(struct blockmap *m)
{
	*m = (struct blockmap){ 0 };
}

void blockmap_fini(struct blockmap *m)
{
	for (size_t i = 0; i < m->npages; i++)
		free(m->pages[i]);
	free(m->pages);
	blockmap_init(m);
}

struct blockmap_entry *blockmap_find(const struct blockmap *m, uint64_t block)
{
	uint64_t page = block / PAGE_BLOCKS;

	if (page >= m->npages || !m->pages[page])
		return NULL;
	return &m->pages[page][block % PAGE_BLOCKS];
}

static int grow(struct blockmap *m, uint64_t page)
{
	size_t n = m->npages ? m->npages : 4;
	struct blockmap_entry **pages;

	if (page >= PAGES_MAX)
		return -EFBIG;
	while (n <= page)
		n *= 2;
	/* calloc, not realloc: the untouched part of a huge table costs no memory. */
	pages = calloc(n, sizeof(*m->pages));
	if (!pages)
		return -ENOMEM;
	if (m->npages)
		memcpy(pages, m->pages, m->npages * sizeof(*m->pages));
	free(m->pages);
	m->pages = pages;
	m->npages = n;
	return 0;
}

int blockmap_need(struct blockmap *m, uint64_t block, struct blockmap_entry **out)
{
	uint64_t page = block / PAGE_BLOCKS;

	if (page >= m->npages) {
		int err = grow(m, page);

		if (err)
			return err;
	}
	if (!m->pages[page]) {
		m->pages[page] = calloc(PAGE_BLOCKS, sizeof(struct blockmap_entry));
		if (!m->pages[page])
			return -ENOMEM;
	}
	*out = &m->pages[page][block % PAGE_BLOCKS];
	return 0;
}

_Bool blockmap_next(const struct blockmap *m, uint64_t from, uint64_t *block_out, struct blockmap_entry **out)
{
	uint64_t page = from / PAGE_BLOCKS;

	while (page < m->npages && !m->pages[page]) {
		page++;
		from = page * PAGE_BLOCKS;
	}
	if (page >= m->npages)
		return 0;
	*block_out = from;
	*out = &m->pages[page][from % PAGE_BLOCKS];
	return 1;
}
