/*
 * Parquet views: everything in the file fits together, and the pages decode to what the arrays hold.
 *
 * With VIEW_OUT=DIR each file is written there too, with what it should hold (NAME.parquet, NAME.json, NAME.K.bin), for
 * readers that are not ours.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array/survey.h"
#include "block/summary.h"
#include "parquet_read.h"
#include "store/classes.h"
#include "unit.h"
#include "util/lock.h"
#include "view_world.h"

#define COLUMNS_MAX 8

/* An array to be shown as a column, and what is known of it. */
struct column {
	const char *name, *dtype, *logical;
	enum array_kind kind;
	enum codec_policy policy;
	uint32_t block;
	bool little;   /* integers of a range of a thousand */
	size_t tail; /* bytes behind the last whole element */
	uint8_t *data; /* filled in */
	struct array *array;
	struct dtype *d;
};

struct table {
	struct world w;
	struct column columns[COLUMNS_MAX];
	size_t n, count;
	struct parquet_file file;
};

/* Numbers of which the first half compresses well as it is, and the second shuffled. */
static double number_at(size_t i, size_t n)
{
	return i < n / 2 ? (double)(i / 7) - 100 : 1.0 / (double)(i + 1);
}

static void fill(struct column *c, size_t n)
{
	uint64_t seed = 88172645463325252u + c->d->bytes;
	enum dtype_scalar type = c->d->fields[0].type;

	c->data = calloc(n + 1, c->d->bytes);
	for (size_t i = 0; i < n && !c->d->record && (type == DTYPE_F64 || type == DTYPE_C128); i++) {
		for (size_t k = 0; k < c->d->bytes / 8; k++)
			((double *)c->data)[i * c->d->bytes / 8 + k] = number_at(i, n);
	}
	for (size_t i = 0; i < n && !c->d->record && (type == DTYPE_F32 || type == DTYPE_C64); i++) {
		for (size_t k = 0; k < c->d->bytes / 4; k++)
			((float *)c->data)[i * c->d->bytes / 4 + k] = (float)number_at(i, n);
	}
	if (!c->d->record && type >= DTYPE_F32 && type <= DTYPE_C128)
		return;
	for (size_t i = 0; i < n; i++) {
		uint64_t x = i < n / 2 ? i * 3 : unit_rand(&seed) >> 20;

		if (c->little)
			x = unit_rand(&seed) % 1000 - (c->dtype[0] == 'i' ? 500 : 0);
		if (type == DTYPE_BOOL && !c->d->record)
			x = x % 3 == 0;
		if (type == DTYPE_F16 && !c->d->record)
			x = x % 0x7c00 | (x & 0x8000);
		if (type == DTYPE_I64 && !c->d->record && !c->little)
			x -= 5000;
		memcpy(c->data + i * c->d->bytes, &x, c->d->bytes < 8 ? c->d->bytes : 8);
	}
}

static void table_open(struct table *t, size_t count)
{
	view_world_open(&t->w);
	t->count = count;
	for (t->n = 0; t->n < COLUMNS_MAX && t->columns[t->n].dtype; t->n++) {
		struct column *c = &t->columns[t->n];

		CHECK_OK(dtype_parse(c->dtype, &c->d));
		fill(c, count);
	}
}

static void write_out(const char *name, const char *suffix, const void *p, size_t n)
{
	char path[4096];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s%s", getenv("VIEW_OUT"), name, suffix);
	f = fopen(path, "w");
	CHECK(f && fwrite(p, 1, n, f) == n && !fclose(f));
}

static void write_all(const struct table *t, const char *name, const void *p, size_t n)
{
	char json[4096], suffix[32];
	size_t at = (size_t)snprintf(json, sizeof(json), "{\"rows\":%zu,\"columns\":[", t->count);

	write_out(name, ".parquet", p, n);
	for (size_t k = 0; k < t->n; k++) {
		const struct column *c = &t->columns[k];

		at += (size_t)snprintf(json + at, sizeof(json) - at,
				       "%s{\"dtype\":\"%s\",\"bytes\":%u,\"logical\":\"%s\"}", k ? "," : "", c->dtype,
				       c->d->bytes, c->logical ? c->logical : "");
		snprintf(suffix, sizeof(suffix), ".%zu.bin", k);
		write_out(name, suffix, c->data, t->count * c->d->bytes);
	}
	at += (size_t)snprintf(json + at, sizeof(json) - at, "]}\n");
	write_out(name, ".json", json, at);
}

/* The value as the file has it. */
static size_t expected(const struct column *c, const uint8_t *elem, uint8_t *out)
{
	enum dtype_scalar type = c->d->fields[0].type;
	int32_t wide;

	if (c->d->record || c->d->bytes > 2 || type == DTYPE_F16 || type == DTYPE_BOOL) {
		memcpy(out, elem, c->d->bytes);
		return c->d->bytes;
	}
	wide = c->d->bytes == 1 ? elem[0] : elem[0] | elem[1] << 8;
	if (type == DTYPE_I8)
		wide = (int8_t)wide;
	else if (type == DTYPE_I16)
		wide = (int16_t)wide;
	memcpy(out, &wide, 4);
	return 4;
}

static void check_values(const struct table *t, size_t k)
{
	const struct column *c = &t->columns[k];
	uint8_t value[4096];

	for (size_t i = 0; i < t->count; i++) {
		size_t n = expected(c, c->data + i * c->d->bytes, value);

		CHECK_EQ(n, t->file.value_bytes[k]);
		if (memcmp(value, t->file.values[k] + i * n, n))
			unit_fail(__FILE__, __LINE__, "column %zu (%s): row %zu differs", k, c->dtype, i);
	}
}

/* Bounds that are there are those of the rows; returns in how many row groups they are. */
static size_t check_statistics(const struct table *t, size_t k)
{
	const struct column *c = &t->columns[k];
	enum summary_type type = dtype_summary(c->dtype);
	size_t row = 0, found = 0;

	for (size_t g = 0; g < t->file.ngroups; g++) {
		const struct node *st = node_field(parquet_chunk(&t->file, g, k), 12);
		const struct node *max = node_find(st, 5), *min = node_find(st, 6);
		uint64_t rows = parquet_group_rows(&t->file, g);
		struct summary sum;
		uint8_t low[8], high[8];
		size_t n;

		CHECK_EQ(!max, !min);
		if (min) {
			summary_of(type, c->data + row * c->d->bytes, rows * c->d->bytes, &sum);
			if (type >= SUMMARY_F16 && type <= SUMMARY_F64) {
				sum.min_bits = sum.min_bits ? sum.min_bits : 1ull << (8 * c->d->bytes - 1);
				sum.max_bits = sum.max_bits == 1ull << (8 * c->d->bytes - 1) ? 0 : sum.max_bits;
			}
			n = expected(c, (const uint8_t *)&sum.min_bits, low);
			expected(c, (const uint8_t *)&sum.max_bits, high);
			CHECK(!sum.nan_count && min->len == n && max->len == n);
			CHECK(!memcmp(min->bytes, low, n) && !memcmp(max->bytes, high, n));
			found++;
		}
		row += rows;
	}
	return found;
}

/* Stores the columns, lays the file out, reads and checks it. t->file is the caller's to look at. */
static void table_check(struct table *t, const char *name)
{
	struct view_input in[COLUMNS_MAX];
	struct view *v;
	size_t n;
	uint8_t *p;

	CHECK_OK(view_new(&v));
	for (size_t k = 0; k < t->n; k++) {
		struct column *c = &t->columns[k];
		size_t bytes = t->count * c->d->bytes + c->tail;

		c->array = view_world_array(&t->w, c->kind, c->data, bytes, c->block, c->policy, c->dtype);
		in[k] = view_world_input(v, view_world_source(v, c->array), c->name, c->dtype, NULL);
		if (c->logical)
			CHECK_OK(logical_parse(c->logical, &in[k].logical));
	}
	CHECK_OK(parquet_lay(v, in, t->n));
	p = view_world_read(&t->w, v, &n);
	if (getenv("VIEW_OUT"))
		write_all(t, name, p, n);
	parquet_read(p, n, &t->file);
	CHECK_EQ(t->file.rows, t->count);
	CHECK_EQ(t->file.ncolumns, t->n);
	for (size_t k = 0; k < t->n; k++) {
		const struct column *c = &t->columns[k];
		size_t with = check_statistics(t, k);
		bool known = c->kind == ARRAY_LAYERED && dtype_summary(c->dtype) != SUMMARY_NONE;

		check_values(t, k);
		CHECK(known || !with);
		free((void *)in[k].dtype);
	}
	/* The file's nodes point into it. */
	t->file.meta->bytes = p;
}

static void table_close(struct table *t)
{
	free((void *)t->file.meta->bytes);
	parquet_free(&t->file);
	for (size_t k = 0; k < t->n; k++) {
		array_close(t->columns[k].array);
		free(t->columns[k].data);
		free(t->columns[k].d);
	}
	world_close(&t->w);
}

/* The file as it is laid anew, from arrays that hold `data`; returns in how many row groups the bounds of column 0 are. */
static size_t lay_again(struct table *t, size_t *size_out)
{
	struct column *c = &t->columns[0];
	struct rwlock rw;
	const struct view_source source = { .array = c->array, .rw = &rw, .size_bytes = c->array->size_bytes };
	size_t with;
	struct view *v;
	uint8_t *p;
	struct view_input in;

	rwlock_init(&rw, RANK_INODE);
	CHECK_OK(view_new(&v));
	in = view_world_input(v, view_source_add(v, &source), c->name, c->dtype, NULL);
	t->count = in.count;
	CHECK_OK(parquet_lay(v, &in, 1));
	*size_out = view_size(v);
	/* What is laid shows the state before it is read, and learnt. */
	p = view_world_read(&t->w, v, &(size_t){ 0 });
	parquet_read(p, *size_out, &t->file);
	CHECK_EQ(t->file.rows, t->count);
	check_values(t, 0);
	with = check_statistics(t, 0);
	free(p);
	parquet_free(&t->file);
	free((void *)in.dtype);
	rwlock_fini(&rw);
	return with;
}

/* One change of the array and of `data`, which has room for `cap` bytes; or none, where a column waits for a commit. */
static void change(struct column *c, uint64_t *state, size_t *size, size_t cap)
{
	size_t off = unit_rand(state) % (*size + 1), len = unit_rand(state) % (300 << 10), end;
	size_t bytes = unit_rand(state) % cap;
	uint8_t junk[600];

	switch (unit_rand(state) % 4) {
	case 0:
		off = unit_rand(state) % (cap - sizeof(junk));
		unit_rand_fill(state, junk, sizeof(junk));
		if (array_write(c->array, junk, sizeof(junk), off) == -EAGAIN)
			break;
		if (off > *size)
			memset(c->data + *size, 0, off - *size);
		memcpy(c->data + off, junk, sizeof(junk));
		*size = off + sizeof(junk) > *size ? off + sizeof(junk) : *size;
		break;
	case 1:
		end = off + len < *size ? off + len : *size;
		memset(c->data + off, 0, end - off);
		CHECK_OK(array_punch(c->array, off, len));
		break;
	case 2:
		if (array_resize(c->array, bytes) == -EAGAIN)
			break;
		if (bytes > *size)
			memset(c->data + *size, 0, bytes - *size);
		*size = bytes;
		break;
	default:
		if (*size < cap && !array_allocate(c->array, *size, cap - *size, false)) {
			memset(c->data + *size, 0, cap - *size);
			*size = cap;
		}
	}
}

/* Statistics of buckets and columns come with a reader, and whatever happens they are right or missing; the size of the file does not
 * tell the two apart. */
static void check_survey(enum array_kind kind, const char *dtype)
{
	struct table t = { .columns = { { .name = "x", .dtype = dtype, .kind = kind, .policy = CODEC_POLICY_NONE } } };
	struct column *c = &t.columns[0];
	size_t cap = 5 << 20, size, first, second, ngroups;
	uint64_t state = 77;
	unsigned known = 0;

	table_open(&t, cap / 8);
	c->data = realloc(c->data, cap);
	unit_rand_fill(&state, c->data, cap);
	size = cap - (1 << 20) - 3;
	c->array = view_world_array(&t.w, kind, c->data, size, 0, CODEC_POLICY_NONE, dtype);
	CHECK_EQ(lay_again(&t, &first), 0);
	ngroups = t.count / 262144 + (t.count % 262144 != 0);
	CHECK_EQ(lay_again(&t, &second), ngroups);
	CHECK_EQ(first, second);
	for (int round = 0; round < (unit_in_valgrind() ? 6 : 18); round++) {
		struct survey_stretch s;

		change(c, &state, &size, cap);
		CHECK_EQ(c->array->size_bytes, size);
		known += lay_again(&t, &first) != 0;
		if (round % 3 == 0)
			CHECK_EQ(lay_again(&t, &second), (t.count + 262143) / 262144);
		else if (size && survey_next(c->array, unit_rand(&state) % 20, &s) == 0)
			lay_again(&t, &second);
		else
			continue;
		CHECK_EQ(first, second);
	}
	CHECK(known);
	array_close(c->array);
	free(c->data);
	free(c->d);
	world_close(&t.w);
}

UNIT_TEST(parquet_statistics_come_with_readers)
{
	check_survey(ARRAY_COLUMN, "i64");
	check_survey(ARRAY_BUCKET, "u8");
	check_survey(ARRAY_BUCKET, "i32");
	check_survey(ARRAY_COLUMN, "i16");
}

static const char *const dtypes[] = { "i8",  "i16", "i32", "i64", "u8",   "u16",  "u32",             "u64",
				      "f16", "f32", "f64", "c64", "c128", "bool", "pos:u32,lcp:u32", "a:u64,b:i8" };
#define NDTYPES (sizeof(dtypes) / sizeof(*dtypes))

static void check_dtype(const char *dtype, enum array_kind kind, enum codec_policy policy, size_t count)
{
	struct table t = { .columns = { { .name = "x", .dtype = dtype, .kind = kind, .policy = policy } } };
	char name[128], type[32] = "";
	size_t stats;

	table_open(&t, count);
	if (t.columns[0].d->record)
		snprintf(type, sizeof(type), "rec%u", t.columns[0].d->bytes);
	snprintf(name, sizeof(name), "%s-%s-%d-%zu", *type ? type : dtype, class_by_kind(kind)->kind_name, policy, count);
	table_check(&t, name);
	stats = check_statistics(&t, 0);
	if (kind == ARRAY_LAYERED && dtype_summary(dtype))
		CHECK_EQ(stats, t.file.ngroups);
	if (!strcmp(dtype, "f64") && kind == ARRAY_LAYERED) {
		/* AUTO takes filters that Parquet does not know. */
		CHECK(policy == CODEC_POLICY_AUTO || t.file.nstored == t.file.npages);
		CHECK(policy != CODEC_POLICY_SHUFFLE || t.file.nsplit == t.file.npages);
		CHECK(policy != CODEC_POLICY_NONE || !t.file.nsplit);
	}
	table_close(&t);
}

UNIT_TEST(parquet_types_layered)
{
	for (size_t k = 0; k < NDTYPES; k++)
		check_dtype(dtypes[k], ARRAY_LAYERED, CODEC_POLICY_AUTO, 300001);
}

UNIT_TEST(parquet_types_filters)
{
	for (size_t k = 0; k < NDTYPES; k++) {
		check_dtype(dtypes[k], ARRAY_LAYERED, CODEC_POLICY_NONE, 140000);
		check_dtype(dtypes[k], ARRAY_LAYERED, CODEC_POLICY_SHUFFLE, 140000);
	}
}

/* Packed differences are pages of the same where the format has integers of that width, and plain ones elsewhere. */
UNIT_TEST(parquet_packed_differences)
{
	static const char *const wide[] = { "i32", "i64", "u32", "u64" }, *const others[] = { "i8", "u16", "f64", "f32", "f16" };

	for (size_t i = 0; i < sizeof(wide) / sizeof(*wide) + sizeof(others) / sizeof(*others); i++) {
		bool packs = i < sizeof(wide) / sizeof(*wide);
		struct table t = { .columns = { { .name = "t", .dtype = packs ? wide[i] : others[i - sizeof(wide) / sizeof(*wide)],
						  .kind = ARRAY_LAYERED, .policy = (enum codec_policy)(FILTER_DELTA | FILTER_PACK) } } };
		char name[64];

		table_open(&t, 300000);
		snprintf(name, sizeof(name), "packed-%s", t.columns[0].dtype);
		table_check(&t, name);
		CHECK(packs ? 2 * t.file.ndeltas >= t.file.npages : !t.file.ndeltas);
		table_close(&t);
	}
}

/* Integers of little range become differences however their blocks are stored: shuffled, in packs, cut by the end. */
UNIT_TEST(parquet_differences_of_ranges)
{
	static const char *const types[] = { "i32", "i64", "u32", "u64", "f64", "i16" };
	static const enum codec_policy policies[] = { CODEC_POLICY_SHUFFLE, (enum codec_policy)FILTER_PACK,
						      (enum codec_policy)(FILTER_DELTA | FILTER_ZIGZAG | FILTER_SHUFFLE) };

	for (size_t i = 0; i < sizeof(types) / sizeof(*types) * 6; i++) {
		bool wide = i / 6 < 4;
		struct table t = { .columns = { { .name = "t", .dtype = types[i / 6], .kind = ARRAY_LAYERED, .policy = policies[i % 3],
						  .block = i % 6 < 3 ? 131072 : 8192, .little = true } } };
		char name[64];

		table_open(&t, 300000);
		snprintf(name, sizeof(name), "range-%s-%zu", t.columns[0].dtype, i % 6);
		table_check(&t, name);
		CHECK(wide ? 2 * t.file.ndeltas >= t.file.npages : !t.file.ndeltas);
		table_close(&t);
	}
}

UNIT_TEST(parquet_types_flat)
{
	for (size_t k = 0; k < NDTYPES; k++) {
		check_dtype(dtypes[k], ARRAY_BUCKET, CODEC_POLICY_NONE, 140000);
		check_dtype(dtypes[k], ARRAY_COLUMN, CODEC_POLICY_NONE, 270001);
	}
	check_dtype("u8", ARRAY_COLUMN, CODEC_POLICY_NONE, 1100000);
}

UNIT_TEST(parquet_short_files)
{
	static const size_t counts[] = { 0, 1, 2, 7, 8, 9, 32768 };

	for (size_t i = 0; i < sizeof(counts) / sizeof(*counts); i++) {
		for (size_t k = 0; k < NDTYPES; k++)
			check_dtype(dtypes[k], ARRAY_LAYERED, CODEC_POLICY_AUTO, counts[i]);
		check_dtype("f64", ARRAY_COLUMN, CODEC_POLICY_AUTO, counts[i]);
		check_dtype("bool", ARRAY_BUCKET, CODEC_POLICY_AUTO, counts[i]);
	}
}

/* Nothing is stored of a hole; its frames are made, and its bounds are zeros. */
UNIT_TEST(parquet_holes)
{
	struct table t = { .columns = {
		{ .name = "x", .dtype = "f64", .kind = ARRAY_LAYERED, .policy = CODEC_POLICY_AUTO, .block = 65536 * 2 },
		{ .name = "y", .dtype = "i16", .kind = ARRAY_LAYERED, .policy = CODEC_POLICY_AUTO, .block = 65536 * 2 },
	} };

	table_open(&t, 500000);
	memset(t.columns[0].data + 16384 * 8, 0, 300000 * 8);
	memset(t.columns[1].data + 65536 * 2, 0, 65536 * 2);
	table_check(&t, "holes");
	CHECK(t.file.nframes > t.file.nstored);
	CHECK_EQ(check_statistics(&t, 0), t.file.ngroups);
	CHECK_EQ(check_statistics(&t, 1), t.file.ngroups);
	table_close(&t);
}

UNIT_TEST(parquet_zeros_of_both_signs)
{
	struct table t = { .columns = {
		{ .name = "x", .dtype = "f64", .kind = ARRAY_LAYERED, .policy = CODEC_POLICY_AUTO },
		{ .name = "y", .dtype = "f16", .kind = ARRAY_LAYERED, .policy = CODEC_POLICY_AUTO },
	} };
	const struct node *st;

	table_open(&t, 1000);
	for (size_t i = 0; i < t.count; i++) {
		((double *)t.columns[0].data)[i] = 0.0;
		((uint16_t *)t.columns[1].data)[i] = 0x8000;
	}
	table_check(&t, "zeros");
	st = node_field(parquet_chunk(&t.file, 0, 0), 12);
	CHECK(!memcmp(node_field(st, 6)->bytes, "\0\0\0\0\0\0\0\x80", 8));
	CHECK(!memcmp(node_field(st, 5)->bytes, "\0\0\0\0\0\0\0", 8));
	st = node_field(parquet_chunk(&t.file, 0, 1), 12);
	CHECK(!memcmp(node_field(st, 6)->bytes, "\0\x80", 2));
	CHECK(!memcmp(node_field(st, 5)->bytes, "\0", 2));
	table_close(&t);
}

/* Bounds are left out where NaNs are, and nowhere else. */
UNIT_TEST(parquet_nans)
{
	struct table t = { .columns = {
		{ .name = "x", .dtype = "f64", .kind = ARRAY_LAYERED, .policy = CODEC_POLICY_AUTO }
	} };

	table_open(&t, 400000);
	memset(t.columns[0].data + 8 * 140000, 0xff, 8);
	table_check(&t, "nans");
	CHECK_EQ(t.file.ngroups, 4);
	CHECK_EQ(check_statistics(&t, 0), 3);
	CHECK(!node_find(node_field(parquet_chunk(&t.file, 1, 0), 12), 6));
	table_close(&t);
}

/* With blocks that are powers of two every page is a block, whatever stands beside it. */
UNIT_TEST(parquet_tables)
{
	struct table t = { .columns = {
		{ .name = "f", .dtype = "f64", .kind = ARRAY_LAYERED, .policy = CODEC_POLICY_NONE },
		{ .name = "i", .dtype = "i32", .kind = ARRAY_LAYERED, .policy = CODEC_POLICY_NONE, .block = 1 << 20 },
		{ .name = "b", .dtype = "bool", .kind = ARRAY_LAYERED, .policy = CODEC_POLICY_NONE },
		{ .name = "s", .dtype = "i8", .kind = ARRAY_LAYERED, .policy = CODEC_POLICY_NONE, .block = 131072 },
		{ .name = "p", .dtype = "pos:u32,lcp:u32", .kind = ARRAY_BUCKET, .policy = CODEC_POLICY_NONE },
		{ .name = "c", .dtype = "c128", .kind = ARRAY_LAYERED, .policy = CODEC_POLICY_NONE, .block = 131072 },
		{ .name = "h", .dtype = "f16", .kind = ARRAY_COLUMN, .policy = CODEC_POLICY_NONE },
	} };

	table_open(&t, 600007);
	table_check(&t, "table");
	CHECK_EQ(t.file.nframes, t.file.nstored);
	CHECK_EQ(parquet_group_rows(&t.file, 0), 262144);
	for (size_t k = 0; k < 4; k++)
		CHECK_EQ(check_statistics(&t, k), t.file.ngroups);
	table_close(&t);
}

/* Blocks whose rows have no small common multiple: the largest fits, of the others some are cut. */
UNIT_TEST(parquet_tables_of_odd_blocks)
{
	struct table t = { .columns = {
		{ .name = "x", .dtype = "f64", .kind = ARRAY_LAYERED, .policy = CODEC_POLICY_SHUFFLE, .block = 4096 * 97 },
		{ .name = "y", .dtype = "f32", .kind = ARRAY_LAYERED, .policy = CODEC_POLICY_AUTO, .block = 4096 * 89 },
		{ .name = "z", .dtype = "a:u32,b:u32,c:u32", .kind = ARRAY_LAYERED, .policy = CODEC_POLICY_AUTO },
	} };

	table_open(&t, 500003);
	table_check(&t, "odd");
	CHECK(t.file.nstored && t.file.nframes > t.file.nstored);
	CHECK_EQ(parquet_group_rows(&t.file, 0) % (4096 * 89 / 4), 0);
	CHECK_EQ(check_statistics(&t, 1), t.file.ngroups);
	table_close(&t);
}

/* Elements that cross the ends of blocks. */
UNIT_TEST(parquet_blocks_that_cut_elements)
{
	struct table t = { .columns = {
		{ .name = "r", .dtype = "a:u32,b:u32,c:u32", .kind = ARRAY_LAYERED, .policy = CODEC_POLICY_AUTO }
	} };

	table_open(&t, 1100000);
	memset(t.columns[0].data + 12 * 100000, 0, 12 * 100000);
	table_check(&t, "cut");
	CHECK_EQ(t.file.ngroups, 5);
	CHECK_EQ(t.file.nstored, 0);
	table_close(&t);
}

/* What is no whole element does not show; no bounds are known of a block that is cut so. */
UNIT_TEST(parquet_tail)
{
	struct table t = { .columns = {
		{ .name = "x", .dtype = "f64", .kind = ARRAY_LAYERED, .policy = CODEC_POLICY_SHUFFLE, .tail = 5 }
	} };

	table_open(&t, 140000);
	table_check(&t, "tail");
	CHECK_EQ(t.file.nstored, t.file.npages - 1);
	CHECK_EQ(check_statistics(&t, 0), t.file.ngroups - 1);
	table_close(&t);
}

/* Small blocks: no more than 128 to a row group. */
UNIT_TEST(parquet_small_blocks)
{
	struct table t = { .columns = {
		{ .name = "x", .dtype = "f64", .kind = ARRAY_LAYERED, .policy = CODEC_POLICY_AUTO, .block = 4096 }
	} };

	table_open(&t, 200000);
	table_check(&t, "small");
	CHECK_EQ(parquet_group_rows(&t.file, 0), 65536);
	CHECK_EQ(t.file.npages, (200000 + 511) / 512);
	table_close(&t);
}

/* What integers mean: LogicalType, and ConvertedType where there is one. */
UNIT_TEST(parquet_logical_types)
{
	static const struct {
		const char *dtype, *logical;
		int id, converted, unit;
		bool utc;
	} cases[] = {
		{ "i64", "timestamp[ms]", 8, 0, 1, false },     { "i64", "timestamp[ms,UTC]", 8, 9, 1, true },
		{ "i64", "timestamp[us]", 8, 0, 2, false },     { "i64", "timestamp[us,UTC]", 8, 10, 2, true },
		{ "i64", "timestamp[ns]", 8, 0, 3, false },     { "i64", "timestamp[ns,UTC]", 8, 0, 3, true },
		{ "i64", "timestamp[s]", 0, 0, 0, false },      { "i64", "duration[us]", 0, 0, 0, false },
		{ "i32", "date", 6, 6, 0, false },              { "f16", NULL, 15, 0, 0, false },
		{ "u64", NULL, 10, 14, 64, false },             { "i8", NULL, 10, 15, 8, true },
		{ "i64", NULL, 0, 0, 0, false },                { "bool", NULL, 0, 0, 0, false },
		{ "i32", "decimal(9,2)", 5, 5, 902, false },    { "i64", "decimal(18,0)", 5, 5, 1800, false },
		{ "i32", "decimal(10,2)", 0, 0, 0, false },     { "u32", "decimal(9,2)", 10, 13, 32, false },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct table t = { .columns = {
			{ .name = "t", .dtype = cases[i].dtype, .logical = cases[i].logical, .kind = ARRAY_LAYERED }
		} };
		const struct node *schema, *logical, *type;
		char name[64];

		table_open(&t, 50000);
		snprintf(name, sizeof(name), "logical-%zu", i);
		table_check(&t, name);
		schema = parquet_schema(&t.file, 0);
		CHECK_EQ(node_find(schema, 6) ? node_find(schema, 6)->number : 0, cases[i].converted);
		logical = node_find(schema, 10);
		CHECK_EQ(!logical, !cases[i].id);
		type = logical ? node_field(logical, cases[i].id) : NULL;
		if (cases[i].id == 8) {
			CHECK_EQ(node_field(type, 1)->number, cases[i].utc);
			CHECK_EQ(node_field(type, 2)->child->id, cases[i].unit);
		} else if (cases[i].id == 10) {
			CHECK_EQ(node_field(type, 1)->number, cases[i].unit);
			CHECK_EQ(node_field(type, 2)->number, cases[i].utc);
		} else if (cases[i].id == 5) {
			CHECK_EQ(100 * node_field(type, 2)->number + node_field(type, 1)->number, cases[i].unit);
			CHECK_EQ(100 * node_field(schema, 8)->number + node_field(schema, 7)->number, cases[i].unit);
		}
		table_close(&t);
	}
}

/* Names are UTF-8; bytes that are not are escaped. */
UNIT_TEST(parquet_names)
{
	static const char *const names[][2] = {
		{ "\xc3\xa9t\xc3\xa9", "\xc3\xa9t\xc3\xa9" },
		{ "\xff", "%FF" },
		{ "a\xc3", "a%C3" },
		{ "\xc0\x80z", "%C0%80z" },
		{ "\xed\xa0\x80", "%ED%A0%80" },
		{ "\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80" },
		{ "\xf5\x80\x80\x80", "%F5%80%80%80" },
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		struct table t = { .columns = {
			{ .name = names[i][0], .dtype = "i32", .kind = ARRAY_LAYERED, .policy = CODEC_POLICY_AUTO }
		} };
		const struct node *name;
		char file[64];

		table_open(&t, 10);
		snprintf(file, sizeof(file), "name-%zu", i);
		table_check(&t, file);
		name = node_field(parquet_schema(&t.file, 0), 4);
		CHECK_EQ(name->len, strlen(names[i][1]));
		CHECK(!memcmp(name->bytes, names[i][1], name->len));
		table_close(&t);
	}
}

/* Lays out an f64 array of `bytes`, of which nothing is stored, or read. *a_out is closed after the view. */
static int lay_long(struct world *w, enum array_kind kind, uint64_t bytes, struct view **out, struct array **a_out)
{
	struct array *a = view_world_array(w, kind, NULL, 0, 0, CODEC_POLICY_AUTO, "f64");
	struct view_source s = { .array = a, .size_bytes = bytes };
	struct view_input in;
	unsigned source;
	int err;

	CHECK_OK(view_new(out));
	if (kind == ARRAY_LAYERED) {
		CHECK_OK(array_resize(a, bytes));
		CHECK_OK(array_flush(a));
		source = view_world_source(*out, a);
	} else {
		source = view_source_add(*out, &s);
	}
	in = view_world_input(*out, source, "x", "f64", NULL);
	err = parquet_lay(*out, &in, 1);
	free((void *)in.dtype);
	*a_out = a;
	return err;
}

/* Row groups become longer rather than many; what is too long for one file is refused. */
UNIT_TEST(parquet_long_files)
{
	struct world w;
	const uint8_t *at;
	struct node *meta;
	struct array *a;
	struct view *v;
	uint8_t *p;
	size_t n;

	view_world_open(&w);
	CHECK_OK(lay_long(&w, ARRAY_LAYERED, 1ull << 35, &v, &a));
	p = view_world_read(&w, v, &n);
	array_close(a);
	at = p + n - 8 - (p[n - 8] | p[n - 7] << 8 | p[n - 6] << 16 | (uint32_t)p[n - 5] << 24);
	meta = node_read(&at, p + n - 8);
	CHECK_EQ(node_field(meta, 3)->number, 1ll << 32);
	CHECK_EQ(node_field(meta, 4)->number, 16384);
	node_free(meta);
	free(p);
	CHECK_EQ(lay_long(&w, ARRAY_COLUMN, 1ull << 50, &v, &a), -EFBIG);
	view_free(v);
	array_close(a);
	world_close(&w);
}
