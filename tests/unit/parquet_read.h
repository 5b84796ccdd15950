/*
 * A reader of Thrift's compact protocol and, on it, of the Parquet files that views are: all that stands in the file is
 * checked to fit together, and the columns are decoded. Anything wrong fails the test.
 */
#ifndef SPILLFS_TESTS_PARQUET_READ_H
#define SPILLFS_TESTS_PARQUET_READ_H

#include <stddef.h>
#include <stdint.h>

struct node {
	int id;         /* of a field */
	int type;       /* as in the protocol; 1 and 2 are true and false */
	int64_t number; /* also the number of elements of a list */
	const uint8_t *bytes;
	size_t len;
	struct node *child, *next; /* fields of a struct, elements of a list */
};

/* Reads a struct; *p goes behind it. */
struct node *node_read(const uint8_t **p, const uint8_t *end);
void node_free(struct node *n);
/* NULL if it is not there. */
const struct node *node_find(const struct node *n, int id);
/* Must be there. */
const struct node *node_field(const struct node *n, int id);
const struct node *node_item(const struct node *n, size_t k);

struct parquet_file {
	struct node *meta;
	size_t ncolumns, ngroups;
	uint64_t rows;
	uint8_t **values;    /* of each column: PLAIN, but booleans as bytes */
	size_t *value_bytes; /* of one value */
	/* Pages by what they are: frames with a checksum are stored ones. */
	size_t npages, nstored, nsplit, nframes, ndeltas;
};

void parquet_read(const uint8_t *p, size_t n, struct parquet_file *out);
/* DELTA_BINARY_PACKED: count integers of `width` 4 or 8 bytes, which fill the n bytes. */
void parquet_read_deltas(const uint8_t *p, size_t n, size_t width, size_t count, uint8_t *out);
void parquet_free(struct parquet_file *f);
/* A column's entry in the schema; its ColumnMetaData in a row group. */
const struct node *parquet_schema(const struct parquet_file *f, size_t column);
const struct node *parquet_chunk(const struct parquet_file *f, size_t group, size_t column);
uint64_t parquet_group_rows(const struct parquet_file *f, size_t group);

#endif
