/*
 * FlatBuffers, written; no more than Arrow's metadata needs.
 *
 * A buffer is written from front to back: a table with its scalars first, then what it points to, then the link, for
 * links only point forward. Scalars are written even if they are the schema's defaults. When memory runs out the rest
 * has no effect, and `failed` tells.
 */
#ifndef SPILLFS_VIEW_FORMATS_FLAT_H
#define SPILLFS_VIEW_FORMATS_FLAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct flat {
	unsigned char *p;
	size_t len, cap;
	bool failed;
};

/* A field of a table; its number is its place in the list. */
struct flat_field {
	uint8_t bytes; /* 1, 2, 4, 8; 0: absent */
	uint64_t value;
};
#define FLAT_LINK { 4, 0 } /* set by flat_link */

#define FLAT_FIELDS_MAX 8

/* Empties it, and leaves room for the link to the root. A zeroed struct flat is fine, too. */
void flat_begin(struct flat *f);
void flat_free(struct flat *f);
/* These return the place of what they wrote, for links to it. */
size_t flat_table(struct flat *f, const struct flat_field *fields, unsigned n);
size_t flat_string(struct flat *f, const char *s);
/* Structs of 64-bit words: n of them, of `each` words. */
size_t flat_structs(struct flat *f, const uint64_t *words, size_t n, size_t each);
/* A vector of n links, set by flat_link_element. */
size_t flat_links(struct flat *f, size_t n);
void flat_root(struct flat *f, size_t target);
void flat_link(struct flat *f, size_t table, unsigned field, size_t target);
void flat_link_element(struct flat *f, size_t links, size_t i, size_t target);

#endif
