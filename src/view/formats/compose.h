/*
 * Header and metadata texts of the formats, while they are composed.
 */
#ifndef SPILLFS_VIEW_FORMATS_COMPOSE_H
#define SPILLFS_VIEW_FORMATS_COMPOSE_H

#include <stddef.h>

/* Above what any type (DTYPE_TEXT_MAX) and shape (SHAPE_DIMS_MAX) take, written twice in any format. */
#define VIEW_TEXT_MAX (32u << 10)

struct view_text {
	size_t n;
	char s[VIEW_TEXT_MAX]; /* NUL-terminated once something is added */
};

/* A name as UTF-8, malloc'd: bytes that are none are %XX. NULL: memory is out. */
char *view_utf8(const char *name);

void view_text_add(struct view_text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
