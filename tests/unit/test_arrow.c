/*
 * Arrow files, read back by a reader of their own: metadata well-formed and aligned, buffers decode to the arrays.
 *
 * With VIEW_OUT=dir the files are written there, NAME.arrow, and each column's bytes, NAME.K.raw, for other readers.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <zstd.h>

#include "unit.h"
#include "view/formats/flat.h"
#include "view_world.h"

#define COLUMNS_MAX 16

/* A FlatBuffer being read: bounds and alignment are checked at each step. Places count from its start. */
struct fb {
	const uint8_t *p;
	size_t len;
};

static uint64_t fb_int(const struct fb *b, size_t at, unsigned bytes)
{
	uint64_t x = 0;

	CHECK(at % bytes == 0 && at + bytes <= b->len);
	for (unsigned i = 0; i < bytes; i++)
		x |= (uint64_t)b->p[at + i] << 8 * i;
	return x;
}

static size_t fb_follow(const struct fb *b, size_t at)
{
	size_t target = at + fb_int(b, at, 4);

	CHECK(target > at && target < b->len);
	return target;
}

/* The place of a table's field; 0: absent. */
static size_t fb_field(const struct fb *b, size_t table, unsigned field)
{
	int32_t back = (int32_t)fb_int(b, table, 4);
	size_t vtable = table - (size_t)back, size = fb_int(b, vtable, 2), off;

	CHECK(size >= 4 && size % 2 == 0 && vtable + size <= b->len && table + fb_int(b, vtable + 2, 2) <= b->len);
	if (4 + 2 * field >= size)
		return 0;
	off = fb_int(b, vtable + 4 + 2 * field, 2);
	CHECK(off < fb_int(b, vtable + 2, 2));
	return off ? table + off : 0;
}

static uint64_t fb_get(const struct fb *b, size_t table, unsigned field, unsigned bytes)
{
	size_t at = fb_field(b, table, field);

	CHECK(at);
	return fb_int(b, at, bytes);
}

static size_t fb_sub(const struct fb *b, size_t table, unsigned field)
{
	size_t at = fb_field(b, table, field);

	CHECK(at);
	return fb_follow(b, at);
}

/* A vector's first element, with room for all. */
static size_t fb_vector(const struct fb *b, size_t table, unsigned field, size_t each, size_t align, size_t *n_out)
{
	size_t at = fb_sub(b, table, field);

	*n_out = fb_int(b, at, 4);
	CHECK((at + 4) % align == 0 && at + 4 + *n_out * each <= b->len);
	return at + 4;
}

static const char *fb_string(const struct fb *b, size_t table, unsigned field)
{
	size_t n, at = fb_vector(b, table, field, 1, 4, &n);

	CHECK(at + n < b->len && !b->p[at + n]);
	CHECK_EQ(strlen((const char *)b->p + at), n);
	return (const char *)b->p + at;
}

/* The columns of a test, and what was found of them in the file. */
struct column {
	const char *dtype, *logical, *name, *shape;
	enum array_kind kind;
	enum codec_policy policy;
	uint32_t block;
	uint8_t *p;
	size_t bytes;

	uint8_t *got;
	size_t ngot; /* elements */
	size_t stored, zeros, plain; /* buffers */
};

struct file {
	struct column *columns;
	size_t ncolumns;
	const uint8_t *p;
	size_t len;
	size_t nbatches;
	size_t first_data; /* offset in the file */
};

static bool is_bool(const struct column *c)
{
	return !strcmp(c->dtype, "bool");
}

/* What a type should be: id, and the values of its first fields. */
static void check_type(const struct fb *b, size_t field, const struct column *c)
{
	static const struct {
		const char *text; /* of the logical type, or the dtype */
		unsigned id, bytes, value, bytes2, value2;
	} types[] = {
		{ "i8", 2, 4, 8, 1, 1 }, { "i16", 2, 4, 16, 1, 1 }, { "i32", 2, 4, 32, 1, 1 },
		{ "i64", 2, 4, 64, 1, 1 }, { "u8", 2, 4, 8, 1, 0 }, { "u16", 2, 4, 16, 1, 0 },
		{ "u32", 2, 4, 32, 1, 0 }, { "u64", 2, 4, 64, 1, 0 },
		{ "f16", 3, 2, 0, 0, 0 }, { "f32", 3, 2, 1, 0, 0 }, { "f64", 3, 2, 2, 0, 0 }, { "bool", 6, 0, 0, 0, 0 },
		{ "c64", 15, 4, 8, 0, 0 }, { "c128", 15, 4, 16, 0, 0 }, { "pos:u32,lcp:u16,x:c64", 15, 4, 14, 0, 0 },
		{ "date", 8, 2, 0, 0, 0 }, { "timestamp[s]", 10, 2, 0, 0, 0 }, { "timestamp[ns,UTC]", 10, 2, 3, 0, 0 },
		{ "duration[us]", 18, 2, 2, 0, 0 },
	};
	size_t type = fb_sub(b, field, 3), k = 0;
	const char *text = c->logical ? c->logical : c->dtype;

	while (strcmp(types[k].text, text))
		CHECK(++k < sizeof(types) / sizeof(*types));
	CHECK_EQ(fb_get(b, field, 2, 1), types[k].id);
	if (types[k].bytes)
		CHECK_EQ(fb_get(b, type, 0, types[k].bytes), types[k].value);
	if (types[k].bytes2)
		CHECK_EQ(fb_get(b, type, 1, types[k].bytes2), types[k].value2);
	if (strstr(text, "UTC"))
		CHECK(!strcmp(fb_string(b, type, 1), "UTC"));
	else if (types[k].id == 10)
		CHECK(!fb_field(b, type, 1));
}

static void check_schema(const struct fb *b, size_t schema, const struct file *f)
{
	size_t n, list = fb_vector(b, schema, 1, 4, 4, &n), children;

	CHECK_EQ(fb_get(b, schema, 0, 2), 0); /* little-endian */
	CHECK_EQ(n, f->ncolumns);
	for (size_t i = 0; i < n; i++) {
		size_t field = fb_follow(b, list + 4 * i);

		CHECK(!strcmp(fb_string(b, field, 0), f->columns[i].name));
		CHECK_EQ(fb_get(b, field, 1, 1), 0); /* not nullable */
		check_type(b, field, &f->columns[i]);
		fb_vector(b, field, 5, 4, 4, &children);
		CHECK_EQ(children, 0);
	}
}

/* The message at *at, whose body is put at *at; returns its table. */
static size_t open_message(const struct file *f, size_t *at, unsigned header, struct fb *b, uint64_t *body_bytes)
{
	const struct fb head = { f->p + *at, 8 };
	size_t message;

	CHECK(*at % 8 == 0 && *at + 8 <= f->len);
	CHECK_EQ(fb_int(&head, 0, 4), UINT32_MAX);
	*b = (struct fb){ f->p + *at + 8, fb_int(&head, 4, 4) };
	CHECK(b->len % 8 == 0 && *at + 8 + b->len <= f->len);
	message = fb_follow(b, 0);
	CHECK_EQ(fb_get(b, message, 0, 2), 4); /* V5 */
	CHECK_EQ(fb_get(b, message, 1, 1), header);
	*body_bytes = fb_get(b, message, 3, 8);
	*at += 8 + b->len;
	return fb_sub(b, message, 2);
}

/* The elements of a buffer go behind those that were found before. */
static void take(struct column *c, const uint8_t *p, size_t len, uint64_t rows)
{
	size_t elem = 1;

	if (is_bool(c)) {
		CHECK_EQ(len, (rows + 7) / 8);
		for (size_t i = 0; i < rows; i++)
			c->got[c->ngot + i] = p[i / 8] >> i % 8 & 1;
	} else {
		uint32_t bytes;

		CHECK_OK(dtype_size(c->dtype, &bytes));
		elem = bytes;
		CHECK_EQ(len, rows * elem);
		CHECK((c->ngot + rows) * elem <= c->bytes);
		memcpy(c->got + c->ngot * elem, p, len);
	}
	c->ngot += rows;
}

static void take_compressed(struct column *c, const uint8_t *p, size_t len, uint64_t rows)
{
	const struct fb head = { p, 8 };
	int64_t decoded;
	uint8_t *out;

	CHECK(len > 8);
	decoded = (int64_t)fb_int(&head, 0, 8);
	if (decoded == -1) {
		c->plain++;
		take(c, p + 8, len - 8, rows);
		return;
	}
	CHECK_EQ(ZSTD_getFrameContentSize(p + 8, len - 8), decoded);
	CHECK_EQ(ZSTD_findFrameCompressedSize(p + 8, len - 8), len - 8); /* just one */
	out = malloc((size_t)decoded);
	CHECK_EQ(ZSTD_decompress(out, (size_t)decoded, p + 8, len - 8), decoded);
	if (p[8 + 5] == 0x38) /* the window of frames made here */
		c->zeros++;
	else
		c->stored++;
	take(c, out, (size_t)decoded, rows);
	free(out);
}

static void take_batch(struct file *f, const struct fb *b, size_t batch, size_t body, uint64_t body_bytes)
{
	size_t nnodes, nbuffers, nodes = fb_vector(b, batch, 1, 16, 8, &nnodes);
	size_t buffers = fb_vector(b, batch, 2, 16, 8, &nbuffers), end = 0;
	uint64_t rows = fb_get(b, batch, 0, 8);
	bool compressed = fb_field(b, batch, 3);

	CHECK(nnodes == f->ncolumns && nbuffers == 2 * f->ncolumns);
	CHECK(body % 8 == 0 && body_bytes % 8 == 0);
	for (size_t i = 0; i < f->ncolumns; i++) {
		size_t words = buffers + 32 * i, off = fb_int(b, words + 16, 8), len = fb_int(b, words + 24, 8);

		CHECK(fb_int(b, nodes + 16 * i, 8) == rows && !fb_int(b, nodes + 16 * i + 8, 8));
		CHECK_EQ(fb_int(b, words + 8, 8), 0); /* validity */
		CHECK(off % 8 == 0 && off >= end && off + len <= body_bytes);
		end = off + len;
		if (compressed) {
			take_compressed(&f->columns[i], f->p + body + off, len, rows);
			continue;
		}
		CHECK_EQ((body + off) % (!i || len > 65536 ? 4096 : 64), 0);
		take(&f->columns[i], f->p + body + off, len, rows);
	}
	if (compressed) {
		size_t compression = fb_sub(b, batch, 3);

		CHECK(fb_get(b, compression, 0, 1) == 1 && fb_get(b, compression, 1, 1) == 0);
	}
	if (!f->nbatches++)
		f->first_data = body;
}

/* Walks the footer, and the messages in the order that they stand in: both tell the same. */
static void read_file(struct file *f)
{
	const uint8_t *tail = f->p + f->len - 10; /* its length is at no aligned place */
	size_t at = 8, footer, blocks, nblocks, ndictionaries;
	uint64_t body_bytes;
	struct fb b, foot;

	CHECK(f->len > 32 && !memcmp(f->p, "ARROW1\0\0", 8) && !memcmp(f->p + f->len - 6, "ARROW1", 6));
	foot.len = tail[0] | tail[1] << 8 | tail[2] << 16 | (size_t)tail[3] << 24;
	CHECK(foot.len < f->len - 18);
	foot.p = tail - foot.len;
	CHECK_EQ((foot.p - f->p) % 8, 0);
	footer = fb_follow(&foot, 0);
	CHECK_EQ(fb_get(&foot, footer, 0, 2), 4);
	check_schema(&foot, fb_sub(&foot, footer, 1), f);
	fb_vector(&foot, footer, 2, 24, 8, &ndictionaries);
	blocks = fb_vector(&foot, footer, 3, 24, 8, &nblocks);
	CHECK_EQ(ndictionaries, 0);
	check_schema(&b, open_message(f, &at, 1, &b, &body_bytes), f);
	CHECK_EQ(body_bytes, 0);
	for (size_t i = 0; i < nblocks; i++) {
		size_t start = at, batch = open_message(f, &at, 3, &b, &body_bytes);

		CHECK_EQ(fb_int(&foot, blocks + 24 * i, 8), start);
		CHECK_EQ(fb_int(&foot, blocks + 24 * i + 8, 8), at - start);
		CHECK_EQ(fb_int(&foot, blocks + 24 * i + 16, 8), body_bytes);
		take_batch(f, &b, batch, at, body_bytes);
		at += body_bytes;
	}
	CHECK(!memcmp(f->p + at, "\377\377\377\377\0\0\0\0", 8));
	CHECK_EQ(at + 8, foot.p - f->p);
}

static void write_out(const char *name, const void *p, size_t n)
{
	const char *dir = getenv("VIEW_OUT");
	char path[4096];
	int fd;

	if (!dir)
		return;
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	CHECK(fd >= 0);
	CHECK_EQ(write(fd, p, n), n);
	close(fd);
}

/* Lays out and reads the columns as `name`; the file's properties and the columns' buffers are then told. */
static void check_file(const char *name, struct column *columns, size_t n, const char *const *raw_names,
		       struct file *out)
{
	struct view_input in[COLUMNS_MAX];
	struct array *arrays[COLUMNS_MAX];
	struct file f = { .columns = columns, .ncolumns = n };
	struct world w;
	struct view *v;
	char file[256];
	uint8_t *p;

	view_world_open(&w);
	CHECK_OK(view_new(&v));
	for (size_t i = 0; i < n; i++) {
		struct column *c = &columns[i];

		arrays[i] = view_world_array(&w, c->kind, c->p, c->bytes, c->block, c->policy, c->dtype);
		in[i] = view_world_input(v, view_world_source(v, arrays[i]), raw_names ? raw_names[i] : c->name,
					 c->dtype, c->shape);
		if (c->logical)
			CHECK_OK(logical_parse(c->logical, &in[i].logical));
		c->got = calloc(1, c->bytes + 1);
		c->ngot = c->stored = c->zeros = c->plain = 0;
	}
	CHECK_OK(arrow_lay(v, in, n));
	f.p = p = view_world_read(&w, v, &f.len);
	snprintf(file, sizeof(file), "%s.arrow", name);
	write_out(file, f.p, f.len);
	read_file(&f);
	for (size_t i = 0; i < n; i++) {
		struct column *c = &columns[i];

		CHECK_EQ(c->ngot, in[i].count);
		CHECK(!memcmp(c->got, c->p, in[i].count * in[i].dtype->bytes));
		snprintf(file, sizeof(file), "%s.%zu.raw", name, i);
		write_out(file, c->p, in[i].count * in[i].dtype->bytes);
		free(c->got);
		free((void *)in[i].dtype);
		array_close(arrays[i]);
	}
	world_close(&w);
	free(p);
	*out = f;
}

/* Bytes that compress, in a period that no element size divides. */
static uint8_t *fill(const char *dtype, size_t n)
{
	uint8_t *p = malloc(n + 1);

	for (size_t i = 0; i < n; i++)
		p[i] = !strcmp(dtype, "bool") ? i % 7 == 3 || i % 31 < 5 : (uint8_t)(i % 1021 * 5 + i / 4096);
	return p;
}

static const char *const dtypes[] = { "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "f16", "f32", "f64", "c64",
				      "c128", "bool", "pos:u32,lcp:u16,x:c64" };
static const struct {
	const char *name;
	enum array_kind kind;
} kinds[] = { { "bucket", ARRAY_BUCKET }, { "column", ARRAY_COLUMN }, { "layered", ARRAY_LAYERED } };

#define NDTYPES (sizeof(dtypes) / sizeof(*dtypes))
#define NKINDS (sizeof(kinds) / sizeof(*kinds))

static void check_one(const char *dtype, const char *logical, size_t kind, size_t count, struct file *f,
		      struct column *out)
{
	struct column c = { .dtype = dtype, .logical = logical, .name = logical ? logical : dtype,
			    .kind = kinds[kind].kind, .policy = CODEC_POLICY_NONE, .block = 131072 };
	char name[200];
	uint32_t elem;

	CHECK_OK(dtype_size(dtype, &elem));
	c.bytes = count * elem;
	c.p = fill(dtype, c.bytes);
	snprintf(name, sizeof(name), "%s-%s-%zu", kinds[kind].name, strchr(dtype, ':') ? "record" : c.name, count);
	for (char *p = name; (p = strpbrk(p, "[],"));)
		*p = '_'; /* some readers take them for patterns */
	check_file(name, &c, 1, NULL, f);
	free(c.p);
	*out = c;
}

UNIT_TEST(arrow_every_dtype_of_every_kind)
{
	struct column c;
	struct file f;

	for (size_t k = 0; k < NKINDS; k++) {
		for (size_t d = 0; d < NDTYPES; d++) {
			check_one(dtypes[d], NULL, k, 50001, &f, &c);
			if (kinds[k].kind != ARRAY_LAYERED) {
				CHECK_EQ(f.nbatches, 1);
				CHECK_EQ(f.first_data, 4096);
			}
		}
	}
}

UNIT_TEST(arrow_few_elements)
{
	static const size_t counts[] = { 0, 1, 9 };
	struct column c;
	struct file f;

	for (size_t k = 0; k < NKINDS; k++) {
		for (size_t i = 0; i < 3; i++) {
			check_one("f64", NULL, k, counts[i], &f, &c);
			CHECK_EQ(f.nbatches, counts[i] != 0);
			check_one("bool", NULL, k, counts[i], &f, &c);
			CHECK_EQ(f.nbatches, counts[i] != 0);
		}
	}
}

UNIT_TEST(arrow_times)
{
	struct column c;
	struct file f;

	for (size_t k = 0; k < NKINDS; k++) {
		check_one("i32", "date", k, 1000, &f, &c);
		check_one("i64", "timestamp[s]", k, 1000, &f, &c);
		check_one("i64", "timestamp[ns,UTC]", k, 1000, &f, &c);
		check_one("i64", "duration[us]", k, 1000, &f, &c);
	}
}

UNIT_TEST(arrow_blocks_as_stored)
{
	struct column c;
	struct file f;

	check_one("f64", NULL, 2, 16384, &f, &c); /* one block */
	CHECK(f.nbatches == 1 && c.stored == 1);
	check_one("f64", NULL, 2, 5 * 16384 + 9000, &f, &c); /* and a shorter one */
	CHECK(f.nbatches == 6 && c.stored == 6);
	check_one("pos:u32,lcp:u16,x:c64", NULL, 2, 100000, &f, &c); /* across blocks */
	CHECK(c.stored == 0 && c.plain == f.nbatches);
	check_one("bool", NULL, 2, 400000, &f, &c);
	CHECK(c.stored == 0 && c.plain == f.nbatches);
}

UNIT_TEST(arrow_holes_shuffled_blocks_and_packs)
{
	struct column c = { .dtype = "f64", .name = "x", .kind = ARRAY_LAYERED, .policy = CODEC_POLICY_NONE,
			    .block = 131072, .bytes = 10 * 131072 };
	struct file f;

	c.p = fill(c.dtype, c.bytes);
	memset(c.p + 2 * 131072, 0, 4 * 131072);
	check_file("holes", &c, 1, NULL, &f);
	CHECK(f.nbatches == 10 && c.zeros == 4 && c.stored == 6);
	c.policy = CODEC_POLICY_SHUFFLE;
	check_file("shuffled", &c, 1, NULL, &f);
	CHECK(c.stored == 0 && c.plain >= 3);
	c.policy = CODEC_POLICY_NONE;
	c.block = 8192; /* share frames: batches are not that small */
	c.bytes = 131072;
	check_file("packs", &c, 1, NULL, &f);
	CHECK(f.nbatches == 1 && c.plain == 1);
	c.dtype = "bool";
	c.bytes = 10 * 131072;
	c.block = 131072;
	for (size_t i = 0; i < c.bytes; i++)
		c.p[i] = c.p[i] != 0;
	check_file("holes-bool", &c, 1, NULL, &f);
	CHECK(c.zeros == 2 && c.plain == 3); /* no frames fit: of more rows than a block */
	free(c.p);
}

UNIT_TEST(arrow_shapes_show_whole_rows)
{
	struct column c = { .dtype = "i32", .name = "x", .shape = "1,7,11", .policy = CODEC_POLICY_NONE,
			    .bytes = 200003 };
	struct file f;

	c.p = fill(c.dtype, c.bytes);
	for (size_t k = 0; k < NKINDS; k++) {
		c.kind = kinds[k].kind;
		check_file(kinds[k].name, &c, 1, NULL, &f);
	}
	free(c.p);
}

/* A table of these types; `rows` of them. */
static void check_table(const char *name, struct column *c, size_t n, size_t rows, struct file *f)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t elem;

		CHECK_OK(dtype_size(c[i].dtype, &elem));
		c[i].name = c[i].dtype;
		c[i].policy = CODEC_POLICY_NONE;
		c[i].bytes = rows * elem;
		c[i].p = fill(c[i].dtype, c[i].bytes);
	}
	check_file(name, c, n, NULL, f);
	for (size_t i = 0; i < n; i++)
		free(c[i].p);
}

UNIT_TEST(arrow_tables_as_they_are)
{
	struct column c[] = { { .dtype = "u8" }, { .dtype = "bool" }, { .dtype = "f64" }, { .dtype = "c128" },
			      { .dtype = "i16" } };
	struct file f;

	for (size_t k = 0; k < 2; k++) {
		for (size_t i = 0; i < 5; i++)
			c[i].kind = kinds[k].kind;
		check_table(k ? "table-column" : "table-bucket", c, 5, 12345, &f);
		CHECK(f.nbatches == 1 && f.first_data == 4096);
	}
}

UNIT_TEST(arrow_tables_of_blocks)
{
	struct column c[] = { { .dtype = "u8", .kind = ARRAY_LAYERED }, { .dtype = "f64", .kind = ARRAY_LAYERED },
			      { .dtype = "i64", .kind = ARRAY_LAYERED }, { .dtype = "bool", .kind = ARRAY_LAYERED } };
	struct file f;

	check_table("table-small", c, 3, 15000, &f); /* a block each, the first one in a pack */
	CHECK(f.nbatches == 1 && c[1].stored == 1 && c[2].stored == 1);
	check_table("table-layered", c, 4, 300000, &f);
	CHECK_EQ(f.nbatches, (300000 + 16383) / 16384);
	CHECK(c[1].stored == f.nbatches && c[2].stored == f.nbatches && c[0].plain == f.nbatches);
	c[0].block = 65536 * 2; /* as many rows as there are in the blocks of the others */
	c[1].block = c[2].block = 8 * c[0].block;
	check_table("table-even", c, 3, 300000, &f);
	CHECK(f.nbatches == 3 && c[0].stored >= 2 && c[1].stored == 3 && c[2].stored == 3);
}

UNIT_TEST(arrow_tables_of_both)
{
	struct column c[] = { { .dtype = "f32", .kind = ARRAY_COLUMN }, { .dtype = "f64", .kind = ARRAY_LAYERED },
			      { .dtype = "u16", .kind = ARRAY_BUCKET } };
	struct file f;

	check_table("table-mixed", c, 3, 100000, &f);
	CHECK(c[0].plain == f.nbatches && c[1].stored == f.nbatches && c[2].plain == f.nbatches);
}

UNIT_TEST(arrow_names)
{
	static const char *const raw[] = { "caf\xC3\xA9", "caf\xE9", "\xED\xA0\x80", "\xF0\x9F\x98\x80",
					   "\xC0\x80z\xE2\x82" };
	static const char *const shown[] = { "caf\xC3\xA9", "caf%E9", "%ED%A0%80", "\xF0\x9F\x98\x80",
					     "%C0%80z%E2%82" };
	struct column c[5] = { 0 };
	struct file f;

	for (size_t i = 0; i < 5; i++)
		c[i] = (struct column){ .dtype = "u8", .name = shown[i], .kind = ARRAY_COLUMN, .bytes = 3,
					.p = (uint8_t *)"abc" };
	check_file("names", c, 5, raw, &f);
}

/* A schema that needs more than 4096. */
UNIT_TEST(arrow_long_schema_moves_a_page)
{
	struct column c[COLUMNS_MAX] = { 0 };
	char names[COLUMNS_MAX][300];
	struct file f;

	for (size_t i = 0; i < COLUMNS_MAX; i++) {
		snprintf(names[i], sizeof(names[i]), "%0299zu", i);
		c[i] = (struct column){ .dtype = "u8", .name = names[i], .kind = ARRAY_BUCKET, .bytes = 3,
					.p = (uint8_t *)"abc" };
	}
	check_file("long-schema", c, COLUMNS_MAX, NULL, &f);
	CHECK_EQ(f.first_data, 8192);
}

UNIT_TEST(flat_tables_strings_and_vectors)
{
	const struct flat_field fields[] = { { 1, 7 }, { 8, 1ull << 40 }, FLAT_LINK, { 0, 0 }, { 2, 513 }, FLAT_LINK };
	const uint64_t words[] = { 1, 2, 3, 4 };
	struct flat f = { 0 };
	struct fb b;
	size_t at, n, list;

	flat_begin(&f);
	at = flat_table(&f, fields, 6);
	flat_root(&f, at);
	flat_link(&f, at, 2, flat_string(&f, "hello"));
	flat_link(&f, at, 5, flat_structs(&f, words, 2, 2));
	CHECK(!f.failed);
	b = (struct fb){ f.p, f.len };
	CHECK_EQ(fb_follow(&b, 0), at);
	CHECK(fb_get(&b, at, 0, 1) == 7 && fb_get(&b, at, 1, 8) == 1ull << 40 && fb_get(&b, at, 4, 2) == 513);
	CHECK(!fb_field(&b, at, 3) && !fb_field(&b, at, 6));
	CHECK(!strcmp(fb_string(&b, at, 2), "hello"));
	list = fb_vector(&b, at, 5, 16, 8, &n);
	CHECK(n == 2 && fb_int(&b, list + 24, 8) == 4);
	flat_free(&f);
}
