/*
 * Element types: "f64", or a record of named fields, "pos:u32,lcp:u32". Little-endian; bool is one byte.
 */
#ifndef SPILLFS_ARRAY_DTYPE_H
#define SPILLFS_ARRAY_DTYPE_H

#include <stdbool.h>
#include <stdint.h>

#define DTYPE_TEXT_MAX 1024

/* Bytes of one element. -EINVAL for an unknown type, a bad field name, or a text that is too long. */
int dtype_size(const char *text, uint32_t *bytes_out);
/* enum summary_type of a scalar type; NONE for what has no order of its own: complex numbers, records, "". */
uint8_t dtype_summary(const char *text);
/* The type that a file name's suffix gives ("prices.f64" gives "f64"); NULL if it gives none. */
const char *dtype_of_name(const char *name);
/* A shape is "10,20,3": one to 32 positive dimensions whose product fits 63 bits. -EINVAL. */
int dtype_shape_check(const char *text);

#endif
