/*
 * FlatBuffers, written.
 *
 * Invariants:
 *  1. All scalars are aligned to their size, counted from the start of the buffer: whoever places the buffer aligns it
 *     to 8.
 *  2. A table stands right behind its vtable; links point forward.
 */
#include "view/formats/flat.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define LINK_BYTES 4u
#define VTABLE_HEAD 4u /* its own size and the table's */

void flat_free(struct flat *f)
{
	free(f->p);
	*f = (struct flat){ 0 };
}

/* `len` zeros at the end, such that byte `skip` of them is aligned; the place of the first. */
static size_t add(struct flat *f, size_t len, size_t skip, size_t align)
{
	size_t at = f->len + (align - (f->len + skip) % align) % align, want = f->cap ? f->cap : 512;
	unsigned char *grown;

	if (f->failed)
		return 0;
	while (want < at + len)
		want *= 2;
	grown = want > f->cap ? realloc(f->p, want) : f->p;
	if (!grown) {
		f->failed = true;
		return 0;
	}
	f->p = grown;
	f->cap = want;
	memset(f->p + f->len, 0, at + len - f->len);
	f->len = at + len;
	return at;
}

static void set(struct flat *f, size_t at, unsigned bytes, uint64_t x)
{
	if (f->failed)
		return;
	assert(at + bytes <= f->len);
	for (unsigned i = 0; i < bytes; i++)
		f->p[at + i] = (unsigned char)(x >> 8 * i);
}

static uint32_t get(const struct flat *f, size_t at, unsigned bytes)
{
	uint32_t x = 0;

	for (unsigned i = 0; i < bytes; i++)
		x |= (uint32_t)f->p[at + i] << 8 * i;
	return x;
}

static void point(struct flat *f, size_t at, size_t target)
{
	assert(f->failed || target > at);
	set(f, at, LINK_BYTES, target - at);
}

void flat_begin(struct flat *f)
{
	f->len = 0;
	add(f, LINK_BYTES, 0, LINK_BYTES);
}

/* Places in the table, the widest fields first, which needs the least padding; the table's size. */
static size_t place(const struct flat_field *fields, unsigned n, size_t places[FLAT_FIELDS_MAX], unsigned *align_out)
{
	size_t at = LINK_BYTES;
	unsigned align = LINK_BYTES;

	for (unsigned bytes = 8; bytes; bytes /= 2) {
		for (unsigned i = 0; i < n; i++) {
			if (fields[i].bytes != bytes)
				continue;
			at = (at + bytes - 1) / bytes * bytes;
			places[i] = at;
			at += bytes;
			align = bytes > align ? bytes : align;
		}
	}
	*align_out = align;
	return at;
}

size_t flat_table(struct flat *f, const struct flat_field *fields, unsigned n)
{
	size_t places[FLAT_FIELDS_MAX] = { 0 }, head = VTABLE_HEAD + 2 * n, size, at;
	unsigned align;

	assert(n <= FLAT_FIELDS_MAX);
	size = place(fields, n, places, &align);
	at = add(f, head + size, head, align);
	set(f, at, 2, head);
	set(f, at + 2, 2, size);
	set(f, at + head, LINK_BYTES, head); /* how far back the vtable is */
	for (unsigned i = 0; i < n; i++) {
		set(f, at + VTABLE_HEAD + 2 * i, 2, places[i]);
		set(f, at + head + places[i], fields[i].bytes, fields[i].value);
	}
	return at + head;
}

size_t flat_string(struct flat *f, const char *s)
{
	size_t len = strlen(s), at = add(f, LINK_BYTES + len + 1, 0, LINK_BYTES);

	set(f, at, LINK_BYTES, len);
	if (!f->failed)
		memcpy(f->p + at + LINK_BYTES, s, len);
	return at;
}

size_t flat_structs(struct flat *f, const uint64_t *words, size_t n, size_t each)
{
	size_t at = add(f, LINK_BYTES + n * each * 8, LINK_BYTES, 8);

	set(f, at, LINK_BYTES, n);
	for (size_t i = 0; i < n * each; i++)
		set(f, at + LINK_BYTES + 8 * i, 8, words[i]);
	return at;
}

size_t flat_links(struct flat *f, size_t n)
{
	size_t at = add(f, LINK_BYTES * (1 + n), 0, LINK_BYTES);

	set(f, at, LINK_BYTES, n);
	return at;
}

void flat_root(struct flat *f, size_t target)
{
	point(f, 0, target);
}

void flat_link(struct flat *f, size_t table, unsigned field, size_t target)
{
	size_t vtable;

	if (f->failed)
		return;
	vtable = table - get(f, table, LINK_BYTES);
	point(f, table + get(f, vtable + VTABLE_HEAD + 2 * field, 2), target);
}

void flat_link_element(struct flat *f, size_t links, size_t i, size_t target)
{
	point(f, links + LINK_BYTES * (1 + i), target);
}
