/*
 * See parquet_read.h. Field ids are those of parquet.thrift.
 */
#include "parquet_read.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "block/filter/shuffle.h"
#include "unit.h"

enum {
	T_STOP = 0, T_TRUE = 1, T_FALSE = 2, T_I8 = 3, T_I16 = 4, T_I32 = 5, T_I64 = 6, T_BINARY = 8, T_LIST = 9, T_STRUCT = 12
};

static uint64_t read_varint(const uint8_t **p, const uint8_t *end)
{
	uint64_t x = 0;

	for (int shift = 0;; shift += 7) {
		CHECK(*p < end && shift < 64);
		x |= (uint64_t)(**p & 0x7f) << shift;
		if (!(*(*p)++ & 0x80))
			return x;
	}
}

static int64_t read_zigzag(const uint8_t **p, const uint8_t *end)
{
	uint64_t x = read_varint(p, end);

	return (int64_t)(x >> 1 ^ (0 - (x & 1)));
}

static void read_value(struct node *n, const uint8_t **p, const uint8_t *end);

static struct node *new_node(int id, int type)
{
	struct node *n = calloc(1, sizeof(*n));

	n->id = id;
	n->type = type;
	return n;
}

static void read_fields(struct node *n, const uint8_t **p, const uint8_t *end)
{
	struct node **tail = &n->child;
	int id = 0;

	for (;;) {
		uint8_t head;

		CHECK(*p < end);
		head = *(*p)++;
		if (head == T_STOP)
			return;
		id = head >> 4 ? id + (head >> 4) : (int)read_zigzag(p, end);
		*tail = new_node(id, head & 15);
		read_value(*tail, p, end);
		tail = &(*tail)->next;
	}
}

static void read_list(struct node *n, const uint8_t **p, const uint8_t *end)
{
	struct node **tail = &n->child;
	uint8_t head;

	CHECK(*p < end);
	head = *(*p)++;
	n->number = head >> 4 == 15 ? (int64_t)read_varint(p, end) : head >> 4;
	for (int64_t i = 0; i < n->number; i++) {
		*tail = new_node(0, head & 15);
		read_value(*tail, p, end);
		tail = &(*tail)->next;
	}
}

static void read_value(struct node *n, const uint8_t **p, const uint8_t *end)
{
	switch (n->type) {
	case T_TRUE:
	case T_FALSE:
		n->number = n->type == T_TRUE;
		break;
	case T_I8:
		CHECK(*p < end);
		n->number = (int8_t)*(*p)++;
		break;
	case T_I16:
	case T_I32:
	case T_I64:
		n->number = read_zigzag(p, end);
		CHECK(n->type == T_I64 || n->number == (int32_t)n->number);
		break;
	case T_BINARY:
		n->len = read_varint(p, end);
		CHECK(n->len <= (size_t)(end - *p));
		n->bytes = *p;
		*p += n->len;
		break;
	case T_LIST:
		read_list(n, p, end);
		break;
	case T_STRUCT:
		read_fields(n, p, end);
		break;
	default:
		unit_fail(__FILE__, __LINE__, "thrift type %d", n->type);
	}
}

struct node *node_read(const uint8_t **p, const uint8_t *end)
{
	struct node *n = new_node(0, T_STRUCT);

	read_fields(n, p, end);
	return n;
}

void node_free(struct node *n)
{
	while (n) {
		struct node *next = n->next;

		node_free(n->child);
		free(n);
		n = next;
	}
}

const struct node *node_find(const struct node *n, int id)
{
	for (const struct node *f = n->child; f; f = f->next) {
		if (f->id == id)
			return f;
	}
	return NULL;
}

const struct node *node_field(const struct node *n, int id)
{
	const struct node *f = node_find(n, id);

	CHECK(f);
	return f;
}

const struct node *node_item(const struct node *n, size_t k)
{
	const struct node *f = n->child;

	CHECK((int64_t)k < n->number);
	while (k--)
		f = f->next;
	return f;
}

static int64_t number(const struct node *n, int id)
{
	return node_field(n, id)->number;
}

const struct node *parquet_schema(const struct parquet_file *f, size_t column)
{
	return node_item(node_field(f->meta, 2), column + 1);
}

static const struct node *find_group(const struct parquet_file *f, size_t group)
{
	return node_item(node_field(f->meta, 4), group);
}

const struct node *parquet_chunk(const struct parquet_file *f, size_t group, size_t column)
{
	return node_field(node_item(node_field(find_group(f, group), 1), column), 3);
}

uint64_t parquet_group_rows(const struct parquet_file *f, size_t group)
{
	return (uint64_t)number(find_group(f, group), 3);
}

static size_t value_bytes(const struct node *schema)
{
	static const size_t bytes[] = { 1, 4, 8, 12, 4, 8, 0, 0 };
	int64_t type = number(schema, 1);

	return type == 7 ? (size_t)number(schema, 2) : bytes[type];
}

/* The page's body, decompressed: `raw` bytes. */
static uint8_t *page_body(struct parquet_file *f, const uint8_t *p, size_t len, size_t raw, int64_t codec)
{
	uint8_t *body = malloc(raw);

	if (codec == 0) {
		CHECK_EQ(len, raw);
		memcpy(body, p, raw);
		return body;
	}
	CHECK_EQ(codec, 6);
	CHECK_EQ(ZSTD_findFrameCompressedSize(p, len), len);
	CHECK_EQ(ZSTD_getFrameContentSize(p, len), raw);
	CHECK_EQ(ZSTD_decompress(body, raw, p, len), raw);
	f->nframes++;
	f->nstored += (p[4] & 4) != 0;
	return body;
}

static uint64_t read_bits(const uint8_t *p, size_t at, unsigned bits)
{
	uint64_t x = 0;

	for (unsigned b = 0; b < bits; b++, at++)
		x |= (uint64_t)(p[at / 8] >> at % 8 & 1) << b;
	return x;
}

static void put_integer(uint8_t *out, size_t i, size_t width, uint64_t x)
{
	for (size_t b = 0; b < width; b++)
		out[i * width + b] = (uint8_t)(x >> 8 * b);
}

void parquet_read_deltas(const uint8_t *p, size_t n, size_t width, size_t count, uint8_t *out)
{
	const uint8_t *end = p + n;
	size_t block = read_varint(&p, end), nminis = read_varint(&p, end), i = 1;
	uint64_t x;

	CHECK(block % 128 == 0 && nminis && block / nminis % 32 == 0);
	CHECK_EQ(read_varint(&p, end), count);
	x = (uint64_t)read_zigzag(&p, end);
	put_integer(out, 0, width, x);
	while (i < count) {
		uint64_t least = (uint64_t)read_zigzag(&p, end);
		const uint8_t *bits = p;

		CHECK(nminis <= (size_t)(end - p));
		p += nminis;
		for (size_t m = 0; m < nminis && i < count; m++) {
			CHECK(bits[m] <= 8 * width && block / nminis / 8 * bits[m] <= (size_t)(end - p));
			for (size_t k = 0; k < block / nminis && i < count; k++, i++) {
				x += least + read_bits(p, k * bits[m], bits[m]);
				put_integer(out, i, width, x);
			}
			p += block / nminis / 8 * bits[m];
		}
	}
	CHECK(p == end);
}

static void decode_page(const uint8_t *body, size_t raw, int64_t type, int64_t encoding, size_t width, size_t count,
			uint8_t *out)
{
	if (type == 0) {
		CHECK_EQ(raw, (count + 7) / 8);
		for (size_t i = 0; i < count; i++)
			out[i] = body[i / 8] >> i % 8 & 1;
		return;
	}
	if (encoding == 5) {
		CHECK(type == 1 || type == 2);
		parquet_read_deltas(body, raw, width, count, out);
		return;
	}
	CHECK_EQ(raw, count * width);
	if (encoding == 9)
		shuffle_undo(body, out, raw, (uint32_t)width);
	else
		memcpy(out, body, raw);
	CHECK(encoding == 0 || (encoding == 9 && (type == 4 || type == 5)));
}

/* The pages at *p fill the chunk. */
static void read_chunk(struct parquet_file *f, const uint8_t **p, const struct node *meta, size_t width, uint8_t *out)
{
	const uint8_t *end = *p + number(meta, 7);
	int64_t rows = 0, uncompressed = 0;
	unsigned encodings = 0, listed = 0;

	while (*p < end) {
		const uint8_t *begin = *p;
		struct node *head = node_read(p, end);
		const struct node *data = node_field(head, 5);
		size_t raw = (size_t)number(head, 2), len = (size_t)number(head, 3), count = (size_t)number(data, 1);
		uint8_t *body;

		CHECK_EQ(number(head, 1), 0);
		CHECK(len <= (size_t)(end - *p) && count && raw);
		CHECK(number(data, 3) == 3 && number(data, 4) == 3);
		uncompressed += *p - begin + (int64_t)raw;
		body = page_body(f, *p, len, raw, number(meta, 4));
		decode_page(body, raw, number(meta, 1), number(data, 2), width, count, out + (size_t)rows * width);
		free(body);
		encodings |= 1u << number(data, 2);
		f->nsplit += number(data, 2) == 9;
		f->ndeltas += number(data, 2) == 5;
		f->npages++;
		rows += (int64_t)count;
		CHECK(rows <= number(meta, 5));
		*p += len;
		node_free(head);
	}
	CHECK_EQ(rows, number(meta, 5));
	CHECK_EQ(uncompressed, number(meta, 6));
	for (const struct node *e = node_field(meta, 2)->child; e; e = e->next)
		listed |= 1u << e->number;
	CHECK_EQ(listed, encodings);
}

/* Chunks stand behind each other, from the first magic to the footer. */
static void read_groups(struct parquet_file *f, const uint8_t *p, const uint8_t *footer)
{
	const uint8_t *at = p + 4;
	uint64_t row = 0;

	for (size_t g = 0; g < f->ngroups; g++) {
		int64_t total = 0;

		CHECK_EQ(node_field(find_group(f, g), 1)->number, f->ncolumns);
		for (size_t c = 0; c < f->ncolumns; c++) {
			const struct node *meta = parquet_chunk(f, g, c), *schema = parquet_schema(f, c);
			const struct node *path = node_item(node_field(meta, 3), 0), *name = node_field(schema, 4);

			CHECK_EQ(number(meta, 9), at - p);
			CHECK_EQ(number(meta, 5), parquet_group_rows(f, g));
			CHECK_EQ(number(meta, 1), number(schema, 1));
			CHECK(path->len == name->len && !memcmp(path->bytes, name->bytes, name->len));
			CHECK(number(meta, 7) <= footer - at);
			CHECK_EQ(number(node_field(meta, 12), 3), 0);
			read_chunk(f, &at, meta, f->value_bytes[c], f->values[c] + row * f->value_bytes[c]);
			total += number(meta, 6);
		}
		CHECK_EQ(total, number(find_group(f, g), 2));
		row += parquet_group_rows(f, g);
		CHECK(row <= f->rows);
	}
	CHECK_EQ(row, f->rows);
	/* Room for bounds that may come. */
	while (at < footer)
		CHECK(!*at++);
	CHECK(at == footer);
}

void parquet_read(const uint8_t *p, size_t n, struct parquet_file *out)
{
	struct parquet_file f = { 0 };
	const uint8_t *end = p + n - 8, *footer, *at;
	uint32_t len;

	CHECK(n >= 12 && !memcmp(p, "PAR1", 4) && !memcmp(p + n - 4, "PAR1", 4));
	len = end[0] | end[1] << 8 | end[2] << 16 | (uint32_t)end[3] << 24;
	CHECK(len <= n - 12);
	at = footer = end - len;
	f.meta = node_read(&at, end);
	CHECK(at == end);
	f.ncolumns = (size_t)number(node_item(node_field(f.meta, 2), 0), 5);
	CHECK_EQ(node_field(f.meta, 2)->number, f.ncolumns + 1);
	CHECK_EQ(node_field(f.meta, 7)->number, f.ncolumns);
	f.ngroups = (size_t)node_field(f.meta, 4)->number;
	f.rows = (uint64_t)number(f.meta, 3);
	f.values = calloc(f.ncolumns, sizeof(*f.values));
	f.value_bytes = calloc(f.ncolumns, sizeof(*f.value_bytes));
	for (size_t c = 0; c < f.ncolumns; c++) {
		CHECK_EQ(number(parquet_schema(&f, c), 3), 0);
		f.value_bytes[c] = value_bytes(parquet_schema(&f, c));
		f.values[c] = malloc(f.rows * f.value_bytes[c] + 1);
		node_field(node_item(node_field(f.meta, 7), c), 1);
	}
	read_groups(&f, p, footer);
	*out = f;
}

void parquet_free(struct parquet_file *f)
{
	for (size_t c = 0; c < f->ncolumns; c++)
		free(f->values[c]);
	free(f->values);
	free(f->value_bytes);
	node_free(f->meta);
}
