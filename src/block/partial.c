/*
 * Pages that are used in part: open addressing with linear probing. A page that leaves moves those behind it up, so that there
 * are no marks of deleted ones.
 *
 * Invariant: at most three quarters of the places are taken.
 */
#include "block/partial.h"

#include <errno.h>
#include <stdlib.h>

#define PAGE_MASK ((uint64_t)PARTIAL_PAGE_BYTES - 1)
#define CAP_MIN 8u

/* Pool files end at 2^62 bytes, and there are at most 4096 of them; one more, as 0 is an empty place. */
static uint64_t key_of(uint32_t file, uint64_t phys)
{
	return (phys / PARTIAL_PAGE_BYTES << 12 | (file & 0xfff)) + 1;
}

static size_t home_of(const struct partial *p, uint64_t key)
{
	key *= 0x9e3779b97f4a7c15u;
	return (size_t)(key ^ key >> 32) & (p->cap - 1);
}

/* Its place, or the empty one that it would take; there is one. */
static size_t place_of(const struct partial *p, uint64_t key)
{
	size_t at = home_of(p, key);

	while (p->v[at].key && p->v[at].key != key)
		at = (at + 1) & (p->cap - 1);
	return at;
}

void partial_fini(struct partial *p)
{
	free(p->v);
	*p = (struct partial){ 0 };
}

int partial_reserve(struct partial *p, size_t more)
{
	struct partial larger = { .n = p->n, .cap = p->cap ? p->cap : CAP_MIN };

	while (larger.cap / 4 * 3 < p->n + more)
		larger.cap *= 2;
	if (larger.cap == p->cap || !more)
		return 0;
	larger.v = calloc(larger.cap, sizeof(*larger.v));
	if (!larger.v)
		return -ENOMEM;
	for (size_t i = 0; i < p->cap; i++) {
		if (p->v[i].key)
			larger.v[place_of(&larger, p->v[i].key)] = p->v[i];
	}
	free(p->v);
	*p = larger;
	return 0;
}

/* Empties a place, and fills it with what could not have it before. */
static void leave(struct partial *p, size_t at)
{
	size_t next = at;

	p->n--;
	for (;;) {
		size_t home;

		next = (next + 1) & (p->cap - 1);
		if (!p->v[next].key)
			break;
		home = home_of(p, p->v[next].key);
		if (((next - home) & (p->cap - 1)) < ((next - at) & (p->cap - 1)))
			continue;
		p->v[at] = p->v[next];
		at = next;
	}
	p->v[at].key = 0;
}

/* Counts so many bytes more, or fewer, for one page. One that is not there has none before, or all. */
static void change(struct partial *p, uint64_t key, uint32_t bytes, bool add)
{
	size_t at = place_of(p, key);
	struct partial_page *page = &p->v[at];

	if (!page->key) {
		*page = (struct partial_page){ key, add ? 0 : PARTIAL_PAGE_BYTES };
		p->n++;
	}
	page->used_bytes = add ? page->used_bytes + bytes : page->used_bytes - bytes;
	if (!page->used_bytes || page->used_bytes >= PARTIAL_PAGE_BYTES)
		leave(p, at);
}

/* Only the first and the last page can be used in part. */
static void change_ends(struct partial *p, uint32_t file, uint64_t phys, uint64_t len, bool add)
{
	uint64_t end = phys + len, first = phys & ~PAGE_MASK, last = end & ~PAGE_MASK;

	if (first == last) {
		change(p, key_of(file, first), (uint32_t)len, add);
		return;
	}
	if (phys > first)
		change(p, key_of(file, first), (uint32_t)(first + PARTIAL_PAGE_BYTES - phys), add);
	if (end > last)
		change(p, key_of(file, last), (uint32_t)(end - last), add);
}

void partial_add(struct partial *p, uint32_t file, uint64_t phys_bytes, uint64_t len_bytes)
{
	change_ends(p, file, phys_bytes, len_bytes, true);
}

void partial_remove(struct partial *p, uint32_t file, uint64_t phys_bytes, uint64_t len_bytes)
{
	change_ends(p, file, phys_bytes, len_bytes, false);
}

bool partial_has(const struct partial *p, uint32_t file, uint64_t phys_bytes)
{
	uint64_t key = key_of(file, phys_bytes);

	return p->cap && p->v[place_of(p, key)].key == key;
}
