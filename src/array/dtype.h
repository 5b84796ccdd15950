/*
 * Element types, shapes, and what elements mean: the texts of the xattrs user.spillfs.dtype, .shape, .order and .logical.
 *
 * An element is a scalar, "f64", or a record of named scalars without padding, "pos:u32,lcp:u32". Little-endian; bool is
 * one byte, 0 or 1. A shape is "10,20,3": up to 32 dimensions; "()" is that of a single element without dimensions. In
 * order "C" the last index varies fastest, in order "F" the first.
 */
#ifndef SPILLFS_ARRAY_DTYPE_H
#define SPILLFS_ARRAY_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DTYPE_TEXT_MAX 1024
#define DTYPE_FIELDS_MAX 256
#define SHAPE_DIMS_MAX 32

enum dtype_scalar {
	DTYPE_I8, DTYPE_I16, DTYPE_I32, DTYPE_I64, DTYPE_U8, DTYPE_U16, DTYPE_U32, DTYPE_U64,
	DTYPE_F16, DTYPE_F32, DTYPE_F64, DTYPE_C64, DTYPE_C128, DTYPE_BOOL, DTYPE_NSCALARS
};

struct dtype_field {
	const char *name; /* points into the dtype's text, not terminated; NULL for a scalar's only field */
	size_t name_len;
	enum dtype_scalar type;
	uint32_t off_bytes;
};

struct dtype {
	char text[DTYPE_TEXT_MAX + 1];
	bool record;
	uint32_t bytes; /* of one element */
	uint32_t nfields;
	struct dtype_field fields[]; /* a scalar has one */
};

/* -EINVAL for an unknown type, a bad field name, or a text that is too long; -ENOMEM. *out is the caller's to free(). */
int dtype_parse(const char *text, struct dtype **out);
/* Bytes of one element; errors as dtype_parse. */
int dtype_size(const char *text, uint32_t *bytes_out);
const char *dtype_scalar_name(enum dtype_scalar s);
uint32_t dtype_scalar_bytes(enum dtype_scalar s);
uint8_t dtype_scalar_summary(enum dtype_scalar s); /* enum summary_type; NONE: complex numbers */
/* enum summary_type of a scalar type; NONE for what has no order of its own: complex numbers, records, "". */
uint8_t dtype_summary(const char *text);
/* The type that a file name's suffix gives ("prices.f64" gives "f64"); NULL if it gives none. */
const char *dtype_of_name(const char *name);

struct shape {
	unsigned ndims;
	uint64_t dims[SHAPE_DIMS_MAX];
	bool fortran;
};

/* -EINVAL: no shape, or its product is above 2^63 - 1. */
int shape_parse(const char *text, struct shape *out);
/* The dimensions' text, as shape_parse takes it. */
#define SHAPE_TEXT_MAX (SHAPE_DIMS_MAX * 21 + 4)
void shape_text(const struct shape *s, char out[SHAPE_TEXT_MAX]);
uint64_t shape_count(const struct shape *s);
/* Elements of one step along the axis that varies slowest (the first; in order F the last); 1 without dimensions. */
uint64_t shape_row(const struct shape *s);
/* Makes the slowest axis as long as `count` elements fill it: an array that has grown or was cut since its shape was set.
 * A row that is not whole does not show. An array without a shape has one dimension. */
void shape_fit(struct shape *s, uint64_t count);

/* The meaning of integers: "timestamp[us]", "timestamp[ns,UTC]", "duration[ms]" (i64); "date" (i32, days), counted from
 * 1970-01-01; "decimal(9,2)" (up to 9 digits i32 or i64, up to 18 i64): numbers of so many digits, that many of them behind the
 * point. */
enum logical_kind { LOGICAL_NONE, LOGICAL_TIMESTAMP, LOGICAL_DURATION, LOGICAL_DATE, LOGICAL_DECIMAL };
#define DECIMAL_DIGITS_I32 9u
#define DECIMAL_DIGITS_I64 18u
enum logical_unit { LOGICAL_S, LOGICAL_MS, LOGICAL_US, LOGICAL_NS };
struct logical {
	enum logical_kind kind;
	enum logical_unit unit;
	bool utc;
	uint8_t precision, scale; /* DECIMAL: 1 to 18 digits, 0 to precision of them behind the point */
};
int logical_parse(const char *text, struct logical *out); /* -EINVAL */
const char *logical_unit_name(enum logical_unit u); /* "s", "ms", "us", "ns" */
/* May elements of this type mean that? */
bool logical_fits(const struct logical *l, const struct dtype *d);

#endif
