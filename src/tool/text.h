/*
 * Text as the commands read and print it: whole files, sizes, percent-encoded names, aligned columns.
 */
#ifndef SPILLFS_TOOL_TEXT_H
#define SPILLFS_TOOL_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Everything in the file `path` of directory `dir`, NUL-terminated and malloc'd. */
int text_read_at(int dir, const char *path, char **out);

/* "1.2 MiB", as text_size(bytes).s, which lives to the end of the expression. */
struct text_size {
	char s[24];
};
struct text_size text_size(uint64_t bytes);

/* A name as people read it: decodes %XX in place, but leaves control characters encoded: they would break
 * the line, or drive the terminal. One that is not encoded becomes '?'. */
void text_decode(char *text);
/* The reverse for a file name: bytes up to 0x20, 0x7f, '%' and ',' as %XX, and '.' where the name has
 * "..", so that "A..B" has one reading. malloc'd; NULL when memory is out. */
char *text_encode(const char *name);

/* Aligned columns: every row is fitted first, then printed. A column in which nothing stands is left out. */
struct text_column {
	const char *before; /* stands before the column, but not before the first */
	bool right;
	int width;
};
void text_fit(struct text_column *columns, size_t n, const char *const *cells);
void text_row(FILE *to, const struct text_column *columns, size_t n, const char *const *cells);

#endif
