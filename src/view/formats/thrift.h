/*
 * A writer of Thrift's compact protocol, straight into a view: what Parquet's headers and footer are made of. Errors
 * are the view's.
 *
 * Fields are written in rising order of their ids. In a list an element stands as a field of id 0. Each struct that is
 * begun is ended; so is the outermost one.
 */
#ifndef SPILLFS_VIEW_FORMATS_THRIFT_H
#define SPILLFS_VIEW_FORMATS_THRIFT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct view;

#define THRIFT_DEPTH_MAX 8

enum thrift_type {
	THRIFT_TRUE = 1, THRIFT_FALSE = 2, THRIFT_I8 = 3, THRIFT_I32 = 5, THRIFT_I64 = 6, THRIFT_BINARY = 8,
	THRIFT_LIST = 9, THRIFT_STRUCT = 12
};

struct thrift {
	struct view *view;
	unsigned depth;
	int last[THRIFT_DEPTH_MAX]; /* id of the last field of each struct that is open */
	uint8_t ahead[256];         /* what the view does not have yet */
	size_t nahead;
};

/* Begins the outermost struct. */
void thrift_begin(struct thrift *t, struct view *v);
void thrift_struct(struct thrift *t, int id);
void thrift_end(struct thrift *t);
/* A struct without fields. */
void thrift_empty(struct thrift *t, int id);
/* n elements follow. */
void thrift_list(struct thrift *t, int id, enum thrift_type type, size_t n);
void thrift_bool(struct thrift *t, int id, bool x); /* not in a list */
void thrift_i8(struct thrift *t, int id, int8_t x);
void thrift_i32(struct thrift *t, int id, int32_t x);
void thrift_i64(struct thrift *t, int id, int64_t x);
void thrift_binary(struct thrift *t, int id, const void *p, size_t len);
/* Strings are UTF-8: a byte that is not is written as %XX. */
void thrift_string(struct thrift *t, int id, const char *s);

#endif
