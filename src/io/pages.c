/*
 * Pages in memory, and how they were.
 */
#include "io/pages.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_PAGES 512u
#define SECTOR 512u /* what a disk writes whole */
#define CHUNK_BYTES ((uint64_t)CHUNK_PAGES * PAGES_PAGE)

struct pages_chunk {
	unsigned char *pages[CHUNK_PAGES];
};

/* Two places in a table that hold no bytes of their own. */
static unsigned char reserved[PAGES_PAGE]; /* takes space and reads as zeros */
static unsigned char hole[1];              /* in `before`: there was no page */

/* ---- tables ---- */

static unsigned char *page_of(const struct pages_table *t, uint64_t page)
{
	uint64_t c = page / CHUNK_PAGES;

	return c < t->nchunks && t->chunks[c] ? t->chunks[c]->pages[page % CHUNK_PAGES] : NULL;
}

/* NULL: there is no memory. */
static unsigned char **place_of(struct pages_table *t, uint64_t page)
{
	uint64_t c = page / CHUNK_PAGES;

	if (c >= t->nchunks) {
		uint64_t n = c + 1 > t->nchunks * 2 ? c + 1 : t->nchunks * 2;
		struct pages_chunk **grown = realloc(t->chunks, n * sizeof(*grown));

		if (!grown)
			return NULL;
		memset(grown + t->nchunks, 0, (n - t->nchunks) * sizeof(*grown));
		t->chunks = grown;
		t->nchunks = n;
	}
	if (!t->chunks[c] && !(t->chunks[c] = calloc(1, sizeof(*t->chunks[c]))))
		return NULL;
	return &t->chunks[c]->pages[page % CHUNK_PAGES];
}

static void page_free(unsigned char *page)
{
	if (page != reserved && page != hole)
		free(page);
}

static void table_clear(struct pages_table *t)
{
	for (uint64_t c = 0; c < t->nchunks; c++) {
		for (size_t i = 0; t->chunks[c] && i < CHUNK_PAGES; i++)
			page_free(t->chunks[c]->pages[i]);
		free(t->chunks[c]);
	}
	free(t->chunks);
	*t = (struct pages_table){ 0 };
}

/* ---- one page ---- */

static bool take_space(struct pages *p, uint64_t n)
{
	if (atomic_fetch_add(&p->space->used_pages, n) + n > atomic_load(&p->space->limit_pages)) {
		atomic_fetch_sub(&p->space->used_pages, n);
		return false;
	}
	p->npages += n;
	return true;
}

static void give_space(struct pages *p, uint64_t n)
{
	atomic_fetch_sub(&p->space->used_pages, n);
	p->npages -= n;
}

/* The place of a page whose contents go to `before`, if it is the first change since the last sync: the caller puts another page there,
 * or none. *mine: the old one is the caller's. */
static unsigned char **page_change(struct pages *p, uint64_t page, bool *mine)
{
	unsigned char **was = place_of(&p->before, page), **is = was ? place_of(&p->now, page) : NULL;

	if (!is)
		return NULL;
	*mine = *was != NULL;
	if (!*was)
		*was = *is ? *is : hole;
	return is;
}

static int page_write(struct pages *p, uint64_t page, unsigned char **out)
{
	unsigned char *old = page_of(&p->now, page), *fresh, **place;
	bool mine;

	if (old && old != reserved && page_of(&p->before, page)) {
		*out = old;
		return 0;
	}
	fresh = calloc(1, PAGES_PAGE);
	if (!fresh)
		return -ENOMEM;
	if (!old && !take_space(p, 1)) {
		free(fresh);
		return -ENOSPC;
	}
	place = page_change(p, page, &mine);
	if (!place) {
		if (!old)
			give_space(p, 1);
		free(fresh);
		return -ENOMEM;
	}
	if (old)
		memcpy(fresh, old, PAGES_PAGE);
	*out = *place = fresh;
	return 0;
}

static int page_drop(struct pages *p, uint64_t page)
{
	unsigned char *old = page_of(&p->now, page), **place;
	bool mine;

	if (!old)
		return 0;
	place = page_change(p, page, &mine);
	if (!place)
		return -ENOMEM;
	if (mine)
		page_free(old);
	*place = NULL;
	give_space(p, 1);
	return 0;
}

/* ---- ranges ---- */

size_t pages_read(const struct pages *p, void *buf, size_t n, uint64_t off)
{
	size_t done = 0;

	if (off >= p->size_bytes)
		return 0;
	if (n > p->size_bytes - off)
		n = (size_t)(p->size_bytes - off);
	while (done < n) {
		size_t in = (off + done) % PAGES_PAGE, k = PAGES_PAGE - in < n - done ? PAGES_PAGE - in : n - done;
		const unsigned char *page = page_of(&p->now, (off + done) / PAGES_PAGE);

		memcpy((char *)buf + done, (page ? page : reserved) + in, k);
		done += k;
	}
	return n;
}

int pages_write(struct pages *p, const void *buf, size_t n, uint64_t off)
{
	unsigned char *page;
	size_t done = 0;
	int err = 0;

	while (done < n) {
		size_t in = (off + done) % PAGES_PAGE, k = PAGES_PAGE - in < n - done ? PAGES_PAGE - in : n - done;

		err = page_write(p, (off + done) / PAGES_PAGE, &page);
		if (err)
			break;
		memcpy(page + in, (const char *)buf + done, k);
		done += k;
	}
	if (done && off + done > p->size_bytes)
		p->size_bytes = off + done;
	return err;
}

int pages_punch(struct pages *p, uint64_t off, uint64_t end)
{
	uint64_t last = p->now.nchunks * CHUNK_BYTES;
	unsigned char *page;
	int err = 0;

	if (end > last)
		end = last;
	while (off < end && !err) {
		uint64_t in = off % PAGES_PAGE, n = PAGES_PAGE - in < end - off ? PAGES_PAGE - in : end - off;

		if (!p->now.chunks[off / CHUNK_BYTES]) {
			off = (off / CHUNK_BYTES + 1) * CHUNK_BYTES;
			continue;
		}
		page = page_of(&p->now, off / PAGES_PAGE);
		if (n == PAGES_PAGE)
			err = page_drop(p, off / PAGES_PAGE);
		else if (page && page != reserved && !(err = page_write(p, off / PAGES_PAGE, &page)))
			memset(page + in, 0, (size_t)n);
		off += n;
	}
	return err;
}

int pages_set_size(struct pages *p, uint64_t size)
{
	/* Also at the size that it has: what is reserved behind it is given back. */
	int err = size <= p->size_bytes ? pages_punch(p, size, UINT64_MAX) : 0;

	if (!err)
		p->size_bytes = size;
	return err;
}

int pages_reserve(struct pages *p, uint64_t off, uint64_t end)
{
	uint64_t first = off / PAGES_PAGE, last = (end + PAGES_PAGE - 1) / PAGES_PAGE, n = 0;
	unsigned char **place = NULL;
	bool mine;

	if (last - first > atomic_load(&p->space->limit_pages))
		return -ENOSPC;
	for (uint64_t page = first; page < last; page++)
		n += !page_of(&p->now, page);
	if (!take_space(p, n))
		return -ENOSPC;
	for (uint64_t page = first; page < last; page++) {
		if (page_of(&p->now, page))
			continue;
		place = page_change(p, page, &mine);
		if (!place)
			break;
		*place = reserved;
		n--;
	}
	give_space(p, n);
	return n ? -ENOMEM : 0;
}

bool pages_find(const struct pages *p, uint64_t off, uint64_t end, uint64_t *from, uint64_t *to)
{
	uint64_t last = p->now.nchunks * CHUNK_BYTES;

	if (end > last)
		end = last;
	while (off < end && !page_of(&p->now, off / PAGES_PAGE))
		off = (off / PAGES_PAGE + 1) * PAGES_PAGE;
	if (off >= end)
		return false;
	*from = off;
	while (off < end && page_of(&p->now, off / PAGES_PAGE))
		off = (off / PAGES_PAGE + 1) * PAGES_PAGE;
	*to = off < end ? off : end;
	return true;
}

static bool is_data(const struct pages *p, uint64_t page)
{
	const unsigned char *is = page_of(&p->now, page);

	return is && is != reserved;
}

int pages_seek(const struct pages *p, uint64_t off, bool seeks_hole, uint64_t *out)
{
	if (off >= p->size_bytes)
		return -ENXIO;
	while (off < p->size_bytes && is_data(p, off / PAGES_PAGE) == seeks_hole) {
		uint64_t c = off / CHUNK_BYTES;
		bool skip = !seeks_hole && (c >= p->now.nchunks || !p->now.chunks[c]);
		uint64_t unit = skip ? CHUNK_BYTES : PAGES_PAGE;

		off = (off / unit + 1) * unit;
	}
	if (off >= p->size_bytes) {
		if (!seeks_hole)
			return -ENXIO;
		off = p->size_bytes;
	}
	*out = off;
	return 0;
}

/* ---- durability ---- */

void pages_sync(struct pages *p)
{
	table_clear(&p->before);
	p->synced_bytes = p->size_bytes;
}

static bool chance(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state >> 33 & 1;
}

/* Each sector of a page that was being written is as it was, or as it is. */
static void page_tear(unsigned char *is, const unsigned char *was, uint64_t *seed)
{
	for (size_t at = 0; at < PAGES_PAGE; at += SECTOR) {
		if (!chance(seed))
			continue;
		if (was == hole)
			memset(is + at, 0, SECTOR);
		else
			memcpy(is + at, was + at, SECTOR);
	}
}

/* Takes the page of `before`. */
static void page_revert(struct pages *p, uint64_t page, unsigned char **was)
{
	unsigned char **is = place_of(&p->now, page); /* it had a place before */

	p->npages -= *is != NULL;
	atomic_fetch_sub(&p->space->used_pages, *is != NULL);
	page_free(*is);
	*is = *was == hole ? NULL : *was;
	*was = NULL;
	p->npages += *is != NULL;
	atomic_fetch_add(&p->space->used_pages, *is != NULL);
}

/* Bytes behind the end do not outlast a loss of power; what is reserved there does. */
static void drop_behind(struct pages *p)
{
	uint64_t off = p->size_bytes, whole = (off + PAGES_PAGE - 1) / PAGES_PAGE * PAGES_PAGE;

	pages_punch(p, off, whole);
	for (off = whole; off < p->now.nchunks * CHUNK_BYTES; off += PAGES_PAGE) {
		if (is_data(p, off / PAGES_PAGE))
			page_drop(p, off / PAGES_PAGE);
	}
}

void pages_revert(struct pages *p, uint64_t seed)
{
	bool all = !seed || chance(&seed);
	uint64_t size = all ? p->synced_bytes : p->size_bytes;
	/* A cut that did not happen did not happen as a whole. */
	uint64_t from = all && p->synced_bytes > p->size_bytes ? p->size_bytes / PAGES_PAGE : UINT64_MAX;

	for (uint64_t c = 0; c < p->before.nchunks; c++) {
		for (size_t i = 0; p->before.chunks[c] && i < CHUNK_PAGES; i++) {
			unsigned char **was = &p->before.chunks[c]->pages[i];
			uint64_t page = c * CHUNK_PAGES + i;

			if (!*was)
				continue;
			if (!seed || page >= from || chance(&seed) || (*was == reserved && page * PAGES_PAGE >= size))
				page_revert(p, page, was);
			else if (is_data(p, page) && chance(&seed))
				page_tear(page_of(&p->now, page), *was, &seed);
		}
	}
	table_clear(&p->before);
	p->size_bytes = size;
	drop_behind(p);
	pages_sync(p);
}

void pages_leave(struct pages *p, bool leave)
{
	if (p->is_left == leave)
		return;
	p->is_left = leave;
	if (leave)
		atomic_fetch_sub(&p->space->used_pages, p->npages);
	else
		atomic_fetch_add(&p->space->used_pages, p->npages);
}

void pages_free(struct pages *p)
{
	pages_leave(p, false);
	table_clear(&p->now);
	table_clear(&p->before);
	give_space(p, p->npages);
}
