/*
 * Parquet files: REQUIRED columns, one for each input, so that data pages (v1) have no levels and hold nothing but
 * values. A page of a column of a layered array is the stored frame of one block: codec ZSTD, PLAIN, or, shuffled,
 * BYTE_STREAM_SPLIT; integers that are stored otherwise become DELTA_BINARY_PACKED. Elements without a frame, or widened ones, stand in
 * uncompressed pages.
 *
 * Invariants:
 *  1. Pages are whole elements; the pages of a chunk stand behind each other in order, and so do the chunks of a group.
 *  2. A page is a whole block where blocks are whole elements and none reaches over the end of its row group.
 *  3. Statistics are those of the rows of the chunk and exact, or missing.
 *  4. The size of the file is the same whether statistics of buckets and columns are known or not: for what is missing there are zeros
 *     before the footer. So a view's size follows from its sources' sizes (or block maps), whatever was read of them before.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "array/summaries.h"
#include "view/formats.h"
#include "view/inside.h"
#include "view/formats/thrift.h"

#define MAGIC "PAR1"
#define PAGE_BYTES (1u << 20)
#define FRAME_PAGE_BYTES (256u << 10) /* of frames that are no blocks */
#define GROUP_ROWS 131072u
#define GROUP_ROWS_UNBLOCKED SUMMARIES_STRETCH /* whole stretches of elements of any size */
#define GROUP_BYTES_UNBLOCKED (128u << 20) /* of a column's chunk */
#define GROUP_BLOCKS_MAX 128u
#define GROUPS_MANY 16384u
#define UNIT_ROWS_MAX (1u << 20)
/* Bounds, because the layout stands in memory and readers read the whole footer. */
#define PAGES_MAX (1u << 20)
#define CHUNKS_MAX (1u << 20)

/* Numbers of parquet.thrift. */
enum parquet_type {
	TYPE_BOOLEAN = 0, TYPE_INT32 = 1, TYPE_INT64 = 2, TYPE_FLOAT = 4, TYPE_DOUBLE = 5, TYPE_FIXED = 7
};
enum converted {
	CONVERTED_NONE = 0, CONVERTED_DECIMAL = 5, CONVERTED_DATE = 6, CONVERTED_TIMESTAMP_MILLIS = 9, CONVERTED_TIMESTAMP_MICROS = 10,
	CONVERTED_UINT_8 = 11, CONVERTED_UINT_16 = 12, CONVERTED_UINT_32 = 13, CONVERTED_UINT_64 = 14,
	CONVERTED_INT_8 = 15, CONVERTED_INT_16 = 16
};
enum logical_id {
	LOGICAL_ID_DECIMAL = 5, LOGICAL_ID_DATE = 6, LOGICAL_ID_TIMESTAMP = 8, LOGICAL_ID_INTEGER = 10, LOGICAL_ID_FLOAT16 = 15
};
enum encoding { ENCODING_PLAIN = 0, ENCODING_RLE = 3, ENCODING_DELTA_BINARY_PACKED = 5, ENCODING_BYTE_STREAM_SPLIT = 9 };
enum compression { UNCOMPRESSED = 0, ZSTD = 6 };
enum page_type { DATA_PAGE = 0 };
enum repetition { REQUIRED = 0 };
enum schema_field {
	SCHEMA_TYPE = 1, SCHEMA_TYPE_LENGTH, SCHEMA_REPETITION, SCHEMA_NAME, SCHEMA_NUM_CHILDREN, SCHEMA_CONVERTED,
	SCHEMA_SCALE, SCHEMA_PRECISION, SCHEMA_LOGICAL = 10
};
enum header_field { HEADER_TYPE = 1, HEADER_UNCOMPRESSED_BYTES, HEADER_COMPRESSED_BYTES, HEADER_DATA_PAGE = 5 };
enum data_page_field { DATA_NUM_VALUES = 1, DATA_ENCODING, DATA_DEFINITION_LEVELS, DATA_REPETITION_LEVELS };
enum statistics_field { STATISTICS_NULLS = 3, STATISTICS_MAX = 5, STATISTICS_MIN };
enum chunk_field { CHUNK_FILE_OFFSET = 2, CHUNK_META };
enum meta_field {
	META_TYPE = 1, META_ENCODINGS, META_PATH, META_CODEC, META_NUM_VALUES, META_UNCOMPRESSED_BYTES,
	META_COMPRESSED_BYTES, META_DATA_PAGE_OFFSET = 9, META_STATISTICS = 12
};
enum group_field { GROUP_COLUMNS = 1, GROUP_BYTES, GROUP_NUM_ROWS };
enum file_field { FILE_VERSION = 1, FILE_SCHEMA, FILE_NUM_ROWS, FILE_GROUPS, FILE_CREATED_BY = 6, FILE_COLUMN_ORDERS };

/* How elements stand in the file. */
static const struct physical {
	uint8_t type;      /* enum parquet_type */
	uint8_t map;       /* enum view_map */
	uint8_t converted;
	uint8_t int_bits;  /* LogicalType INTEGER; 0: it has none */
	bool int_signed;
	bool split;        /* readers know it under BYTE_STREAM_SPLIT */
} scalars[DTYPE_NSCALARS] = {
	[DTYPE_I8] = { TYPE_INT32, VIEW_MAP_I8_I32, CONVERTED_INT_8, 8, true, false },
	[DTYPE_I16] = { TYPE_INT32, VIEW_MAP_I16_I32, CONVERTED_INT_16, 16, true, false },
	[DTYPE_I32] = { TYPE_INT32, VIEW_MAP_NONE, CONVERTED_NONE, 0, true, false },
	[DTYPE_I64] = { TYPE_INT64, VIEW_MAP_NONE, CONVERTED_NONE, 0, true, false },
	[DTYPE_U8] = { TYPE_INT32, VIEW_MAP_U8_I32, CONVERTED_UINT_8, 8, false, false },
	[DTYPE_U16] = { TYPE_INT32, VIEW_MAP_U16_I32, CONVERTED_UINT_16, 16, false, false },
	[DTYPE_U32] = { TYPE_INT32, VIEW_MAP_NONE, CONVERTED_UINT_32, 32, false, false },
	[DTYPE_U64] = { TYPE_INT64, VIEW_MAP_NONE, CONVERTED_UINT_64, 64, false, false },
	[DTYPE_F16] = { TYPE_FIXED, VIEW_MAP_NONE, CONVERTED_NONE, 0, false, false },
	[DTYPE_F32] = { TYPE_FLOAT, VIEW_MAP_NONE, CONVERTED_NONE, 0, false, true },
	[DTYPE_F64] = { TYPE_DOUBLE, VIEW_MAP_NONE, CONVERTED_NONE, 0, false, true },
	[DTYPE_C64] = { TYPE_FIXED, VIEW_MAP_NONE, CONVERTED_NONE, 0, false, false },
	[DTYPE_C128] = { TYPE_FIXED, VIEW_MAP_NONE, CONVERTED_NONE, 0, false, false },
	[DTYPE_BOOL] = { TYPE_BOOLEAN, VIEW_MAP_BITS, CONVERTED_NONE, 0, false, false },
};
static const struct physical record_physical = { .type = TYPE_FIXED };

struct column {
	const struct view_input *in;
	const struct physical *as;
	struct logical logical;
	uint32_t elem_bytes; /* of the source */
	bool framed;         /* its pages are frames */
	bool surveyed;       /* statistics may come later */
	enum summary_type type;
	uint64_t block_rows; /* 0: no blocks, or blocks that cut elements */
	uint64_t page_rows;  /* of pages that are no blocks */
};

/* A column's part of a row group. */
struct chunk {
	uint64_t off, len_bytes, uncompressed_bytes; /* with the headers of its pages */
	unsigned encodings;                          /* 1 << enum encoding */
	bool bounded;                                /* sum has no NaNs, and holds */
	struct summary sum;
};

struct file {
	struct view *view;
	struct column *columns;
	size_t n;
	uint64_t nrows, group_rows, ngroups;
	struct chunk *chunks; /* n of the first row group, n of the second... */
	uint64_t npages;
};

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t most(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static void column_init(struct column *c, struct view *v, const struct view_input *in)
{
	uint32_t bs = view_source_block_bytes(v, in->source), e = in->dtype->bytes;

	*c = (struct column){ .in = in, .elem_bytes = e };
	c->as = in->dtype->record ? &record_physical : &scalars[in->dtype->fields[0].type];
	if (logical_fits(&in->logical, in->dtype))
		c->logical = in->logical;
	c->type = dtype_summary(in->dtype->text);
	c->surveyed = c->type != SUMMARY_NONE && view_survey(v, in->source);
	c->framed = bs && c->as->map == VIEW_MAP_NONE;
	c->block_rows = bs % e ? 0 : bs / e;
	c->page_rows = PAGE_BYTES / e;
	if (c->framed)
		c->page_rows = FRAME_PAGE_BYTES / e;
	else if (c->as->map != VIEW_MAP_NONE)
		c->page_rows = c->as->map == VIEW_MAP_BITS ? PAGE_BYTES * 8 : PAGE_BYTES / 4;
}

/* Row groups. */

static uint64_t common_multiple(uint64_t a, uint64_t b)
{
	uint64_t x = a, y = b;

	while (y) {
		uint64_t rest = x % y;

		x = y;
		y = rest;
	}
	return a / x * b;
}

/* Whole stretches of eight bytes' elements at least, where no element is very wide. */
static uint64_t unblocked_group_rows(const struct file *f, uint64_t widest)
{
	uint64_t many = f->nrows / GROUPS_MANY / GROUP_ROWS_UNBLOCKED + 1;
	uint64_t rows = least(GROUP_ROWS_UNBLOCKED * many, GROUP_BYTES_UNBLOCKED / widest), unit = SUMMARIES_STRETCH / 8;

	return rows > unit ? rows - rows % unit : most(rows, 1);
}

/*
 * Rows of a row group: a multiple of a unit in which all columns have whole blocks, the blocks' common multiple; or,
 * where that is large (blocks that are no powers of two), of the largest block. GROUP_ROWS or a little more; more in a
 * file that would have a great many groups, whose footer would be large. But at most GROUP_BLOCKS_MAX blocks of any
 * column, unless a unit is more.
 */
static uint64_t choose_group_rows(const struct file *f)
{
	uint64_t unit = 1, smallest = UINT64_MAX, largest = 0, widest = 1, want, bound;

	for (size_t k = 0; k < f->n; k++) {
		uint64_t rows = f->columns[k].block_rows;

		widest = most(widest, f->columns[k].elem_bytes);
		if (!rows)
			continue;
		smallest = least(smallest, rows);
		largest = most(largest, rows);
		if (unit <= ARRAY_BLOCK_MAX) /* no block has more rows */
			unit = common_multiple(unit, rows);
	}
	if (!largest)
		return unblocked_group_rows(f, widest);
	if (unit > UNIT_ROWS_MAX)
		unit = largest;
	want = most(GROUP_ROWS, f->nrows / GROUPS_MANY);
	bound = most(smallest * GROUP_BLOCKS_MAX / unit, 1);
	return unit * least((want + unit - 1) / unit, bound);
}

/* Pages. */

/* Returns the length of the header. */
static uint64_t put_page_header(struct file *f, uint64_t rows, enum encoding encoding, uint64_t uncompressed,
				uint64_t len)
{
	uint64_t before = view_size(f->view);
	struct thrift t;

	thrift_begin(&t, f->view);
	thrift_i32(&t, HEADER_TYPE, DATA_PAGE);
	thrift_i32(&t, HEADER_UNCOMPRESSED_BYTES, (int32_t)uncompressed);
	thrift_i32(&t, HEADER_COMPRESSED_BYTES, (int32_t)len);
	thrift_struct(&t, HEADER_DATA_PAGE);
	thrift_i32(&t, DATA_NUM_VALUES, (int32_t)rows);
	thrift_i32(&t, DATA_ENCODING, encoding);
	thrift_i32(&t, DATA_DEFINITION_LEVELS, ENCODING_RLE);
	thrift_i32(&t, DATA_REPETITION_LEVELS, ENCODING_RLE);
	thrift_end(&t);
	thrift_end(&t);
	return view_size(f->view) - before;
}

static void put_page(struct file *f, const struct column *c, uint64_t row, uint64_t rows, struct chunk *chunk)
{
	bool integers = c->as->type == TYPE_INT32 || c->as->type == TYPE_INT64;
	unsigned source = c->in->source;
	uint64_t bytes = rows * c->elem_bytes, off = row * c->elem_bytes, head;
	const struct view_range range = { .source = source, .off = off, .len = bytes, .decoded_bytes = bytes, .elem_bytes = c->elem_bytes,
		.accept = VIEW_ACCEPT_PLAIN | (c->as->split ? VIEW_ACCEPT_SHUFFLED : integers ? VIEW_ACCEPT_DELTAS : 0), .type = c->type };
	enum encoding encoding = ENCODING_PLAIN;
	struct view_frame frame;

	if (c->framed) {
		view_plan_frame(f->view, &range, &frame);
		if (frame.filter == FILTER_SHUFFLE)
			encoding = ENCODING_BYTE_STREAM_SPLIT;
		else if (frame.filter != FILTER_NONE)
			encoding = ENCODING_DELTA_BINARY_PACKED;
		bytes = frame.decoded_bytes;
		head = put_page_header(f, rows, encoding, bytes, frame.len_bytes);
		view_put_frame(f->view, &frame);
	} else if (c->as->map != VIEW_MAP_NONE) {
		bytes = view_mapped_bytes(c->as->map, rows);
		head = put_page_header(f, rows, encoding, bytes, bytes);
		view_put_mapped(f->view, source, c->as->map, row, rows);
	} else {
		head = put_page_header(f, rows, encoding, bytes, bytes);
		view_put_data(f->view, source, off, bytes);
	}
	chunk->encodings |= 1u << encoding;
	chunk->uncompressed_bytes += head + bytes;
}

/* Rows of the page that begins at `row`: a block, if it is one that ends in the group (or with the array). */
static uint64_t page_rows(const struct file *f, const struct column *c, uint64_t row, uint64_t end)
{
	uint64_t left = end - row, in_block;

	if (!c->framed || !c->block_rows)
		return least(left, c->page_rows);
	in_block = c->block_rows - row % c->block_rows;
	if (in_block == c->block_rows && (in_block <= left || end == f->nrows))
		return least(left, in_block);
	return least(least(left, in_block), c->page_rows);
}

static void put_chunk(struct file *f, const struct column *c, uint64_t row, uint64_t end, struct chunk *out)
{
	struct chunk chunk = { .off = view_size(f->view) };
	uint64_t begin = row;

	while (row < end && !view_end(f->view)) {
		uint64_t rows = page_rows(f, c, row, end);

		if (++f->npages > PAGES_MAX)
			view_fail(f->view, -EFBIG);
		put_page(f, c, row, rows, &chunk);
		row += rows;
	}
	chunk.len_bytes = view_size(f->view) - chunk.off;
	/* Readers that sort NaN above all numbers would take the bounds for those of NaNs too. */
	chunk.bounded = view_summary(f->view, c->in->source, c->type, begin * c->elem_bytes, (end - begin) * c->elem_bytes, &chunk.sum) &&
			!chunk.sum.nan_count;
	*out = chunk;
}

/* The footer. */

static void put_timestamp(struct thrift *t, const struct logical *l)
{
	static const uint8_t units[] = { [LOGICAL_MS] = 1, [LOGICAL_US] = 2, [LOGICAL_NS] = 3 };

	/* Older readers know the type by the converted one, which is always UTC. */
	if (l->utc && l->unit != LOGICAL_NS)
		thrift_i32(t, SCHEMA_CONVERTED,
			   l->unit == LOGICAL_MS ? CONVERTED_TIMESTAMP_MILLIS : CONVERTED_TIMESTAMP_MICROS);
	thrift_struct(t, SCHEMA_LOGICAL);
	thrift_struct(t, LOGICAL_ID_TIMESTAMP);
	thrift_bool(t, 1, l->utc); /* isAdjustedToUTC */
	thrift_struct(t, 2);       /* unit */
	thrift_empty(t, units[l->unit]);
	thrift_end(t);
	thrift_end(t);
	thrift_end(t);
}

static void put_integer(struct thrift *t, const struct physical *as)
{
	thrift_i32(t, SCHEMA_CONVERTED, as->converted);
	thrift_struct(t, SCHEMA_LOGICAL);
	thrift_struct(t, LOGICAL_ID_INTEGER);
	thrift_i8(t, 1, (int8_t)as->int_bits);
	thrift_bool(t, 2, as->int_signed);
	thrift_end(t);
	thrift_end(t);
}

static void put_decimal(struct thrift *t, const struct logical *l)
{
	thrift_i32(t, SCHEMA_CONVERTED, CONVERTED_DECIMAL);
	thrift_i32(t, SCHEMA_SCALE, l->scale);
	thrift_i32(t, SCHEMA_PRECISION, l->precision);
	thrift_struct(t, SCHEMA_LOGICAL);
	thrift_struct(t, LOGICAL_ID_DECIMAL);
	thrift_i32(t, 1, l->scale);
	thrift_i32(t, 2, l->precision);
	thrift_end(t);
	thrift_end(t);
}

static void put_unit_type(struct thrift *t, enum logical_id id)
{
	thrift_struct(t, SCHEMA_LOGICAL);
	thrift_empty(t, id);
	thrift_end(t);
}

/* The logical type; Parquet has no durations, and no timestamps in seconds. */
static void put_meaning(struct thrift *t, const struct column *c)
{
	const struct dtype *d = c->in->dtype;

	if (c->logical.kind == LOGICAL_TIMESTAMP && c->logical.unit != LOGICAL_S) {
		put_timestamp(t, &c->logical);
	} else if (c->logical.kind == LOGICAL_DATE) {
		thrift_i32(t, SCHEMA_CONVERTED, CONVERTED_DATE);
		put_unit_type(t, LOGICAL_ID_DATE);
	} else if (c->logical.kind == LOGICAL_DECIMAL) {
		put_decimal(t, &c->logical);
	} else if (c->as->int_bits) {
		put_integer(t, c->as);
	} else if (!d->record && d->fields[0].type == DTYPE_F16) {
		put_unit_type(t, LOGICAL_ID_FLOAT16);
	}
}

static void put_schema(const struct file *f, struct thrift *t)
{
	thrift_list(t, FILE_SCHEMA, THRIFT_STRUCT, f->n + 1);
	thrift_struct(t, 0);
	thrift_string(t, SCHEMA_NAME, "schema");
	thrift_i32(t, SCHEMA_NUM_CHILDREN, (int32_t)f->n);
	thrift_end(t);
	for (size_t k = 0; k < f->n; k++) {
		const struct column *c = &f->columns[k];

		thrift_struct(t, 0);
		thrift_i32(t, SCHEMA_TYPE, c->as->type);
		if (c->as->type == TYPE_FIXED)
			thrift_i32(t, SCHEMA_TYPE_LENGTH, (int32_t)c->elem_bytes);
		thrift_i32(t, SCHEMA_REPETITION, REQUIRED);
		thrift_string(t, SCHEMA_NAME, c->in->name);
		put_meaning(t, c);
		thrift_end(t);
	}
}

/* Bytes of a bound. */
static size_t bound_bytes(const struct column *c)
{
	return c->as->map == VIEW_MAP_BITS ? 1 : c->as->map != VIEW_MAP_NONE ? 4 : c->elem_bytes;
}

/* A bound as the PLAIN value of the column's type; `zero`: what a floating-point zero, which has two forms, becomes. */
static void put_bound(struct thrift *t, int id, const struct column *c, enum summary_type type, uint64_t bits,
		      uint64_t zero)
{
	uint8_t value[8];
	size_t n = bound_bytes(c);

	if (type == SUMMARY_BOOL)
		bits = bits != 0;
	else if (type == SUMMARY_I8)
		bits = (uint64_t)(int8_t)bits;
	else if (type == SUMMARY_I16)
		bits = (uint64_t)(int16_t)bits;
	else if (type >= SUMMARY_F16 && type <= SUMMARY_F64 && !summary_compare(type, bits, 0))
		bits = zero;
	assert(n <= sizeof(value));
	for (size_t i = 0; i < n; i++)
		value[i] = (uint8_t)(bits >> 8 * i);
	thrift_binary(t, id, value, n);
}

static void put_statistics(struct thrift *t, const struct column *c, const struct chunk *chunk)
{
	uint64_t minus_zero = (uint64_t)1 << (8 * c->elem_bytes - 1) % 64;

	thrift_struct(t, META_STATISTICS);
	thrift_i64(t, STATISTICS_NULLS, 0);
	if (chunk->bounded) {
		put_bound(t, STATISTICS_MAX, c, c->type, chunk->sum.max_bits, 0);
		put_bound(t, STATISTICS_MIN, c, c->type, chunk->sum.min_bits, minus_zero);
	}
	thrift_end(t);
}

/* Zeros in place of the bounds that may come later (invariant 4): each has a byte for its field, one for its length, and its bytes. */
static void put_room_for_bounds(const struct file *f)
{
	for (uint64_t k = 0; k < f->ngroups * f->n; k++) {
		const struct column *c = &f->columns[k % f->n];

		if (c->surveyed && !f->chunks[k].bounded)
			view_put_zeros(f->view, 2 * (2 + bound_bytes(c)));
	}
}

static void put_chunk_meta(const struct file *f, struct thrift *t, size_t column, uint64_t row, uint64_t end)
{
	const struct column *c = &f->columns[column];
	const struct chunk *chunk = &f->chunks[row / f->group_rows * f->n + column];

	thrift_struct(t, 0);
	thrift_i64(t, CHUNK_FILE_OFFSET, 0); /* the metadata stands here and nowhere else */
	thrift_struct(t, CHUNK_META);
	thrift_i32(t, META_TYPE, c->as->type);
	thrift_list(t, META_ENCODINGS, THRIFT_I32, (size_t)__builtin_popcount(chunk->encodings));
	for (int32_t e = ENCODING_PLAIN; e <= ENCODING_BYTE_STREAM_SPLIT; e++) {
		if (chunk->encodings & 1u << e)
			thrift_i32(t, 0, e);
	}
	thrift_list(t, META_PATH, THRIFT_BINARY, 1);
	thrift_string(t, 0, c->in->name);
	thrift_i32(t, META_CODEC, c->framed ? ZSTD : UNCOMPRESSED);
	thrift_i64(t, META_NUM_VALUES, (int64_t)(end - row));
	thrift_i64(t, META_UNCOMPRESSED_BYTES, (int64_t)chunk->uncompressed_bytes);
	thrift_i64(t, META_COMPRESSED_BYTES, (int64_t)chunk->len_bytes);
	thrift_i64(t, META_DATA_PAGE_OFFSET, (int64_t)chunk->off);
	put_statistics(t, c, chunk);
	thrift_end(t);
	thrift_end(t);
}

static void put_groups(const struct file *f, struct thrift *t)
{
	thrift_list(t, FILE_GROUPS, THRIFT_STRUCT, (size_t)f->ngroups);
	for (uint64_t row = 0; row < f->nrows && !view_end(f->view); row += f->group_rows) {
		uint64_t end = least(row + f->group_rows, f->nrows), bytes = 0;

		thrift_struct(t, 0);
		thrift_list(t, GROUP_COLUMNS, THRIFT_STRUCT, f->n);
		for (size_t k = 0; k < f->n; k++) {
			put_chunk_meta(f, t, k, row, end);
			bytes += f->chunks[row / f->group_rows * f->n + k].uncompressed_bytes;
		}
		thrift_i64(t, GROUP_BYTES, (int64_t)bytes);
		thrift_i64(t, GROUP_NUM_ROWS, (int64_t)(end - row));
		thrift_end(t);
	}
}

static void put_footer(const struct file *f)
{
	uint64_t begin = view_size(f->view), len;
	struct thrift t;
	uint8_t le[4];

	thrift_begin(&t, f->view);
	thrift_i32(&t, FILE_VERSION, 1);
	put_schema(f, &t);
	thrift_i64(&t, FILE_NUM_ROWS, (int64_t)f->nrows);
	put_groups(f, &t);
	thrift_string(&t, FILE_CREATED_BY, "spillfs version " SPILLFS_VERSION);
	/* Else readers may not trust the bounds: each is in the order of its type. */
	thrift_list(&t, FILE_COLUMN_ORDERS, THRIFT_STRUCT, f->n);
	for (size_t k = 0; k < f->n; k++) {
		thrift_struct(&t, 0);
		thrift_empty(&t, 1);
		thrift_end(&t);
	}
	thrift_end(&t);
	len = view_size(f->view) - begin;
	if (len > INT32_MAX)
		view_fail(f->view, -EFBIG);
	for (int i = 0; i < 4; i++)
		le[i] = (uint8_t)(len >> 8 * i);
	view_put(f->view, le, sizeof(le));
	view_put(f->view, MAGIC, strlen(MAGIC));
}

static int file_init(struct file *f, struct view *v, const struct view_input *in, size_t n)
{
	*f = (struct file){ .view = v, .n = n, .nrows = in[0].count };
	f->columns = calloc(n, sizeof(*f->columns));
	if (!f->columns)
		return -ENOMEM;
	for (size_t k = 0; k < n; k++) {
		assert(in[k].count == f->nrows);
		column_init(&f->columns[k], v, &in[k]);
	}
	f->group_rows = choose_group_rows(f);
	f->ngroups = f->nrows / f->group_rows + (f->nrows % f->group_rows != 0);
	if (f->ngroups > CHUNKS_MAX / n)
		return -EFBIG;
	f->chunks = calloc((size_t)f->ngroups * n + 1, sizeof(*f->chunks));
	return f->chunks ? 0 : -ENOMEM;
}

int parquet_lay(struct view *v, const struct view_input *in, size_t n)
{
	struct file f;
	int err = file_init(&f, v, in, n);

	if (err) {
		view_fail(v, err);
	} else {
		view_put(v, MAGIC, strlen(MAGIC));
		for (uint64_t row = 0; row < f.nrows; row += f.group_rows) {
			for (size_t k = 0; k < n; k++)
				put_chunk(&f, &f.columns[k], row, least(row + f.group_rows, f.nrows),
					  &f.chunks[row / f.group_rows * n + k]);
		}
		put_room_for_bounds(&f);
		put_footer(&f);
	}
	free(f.chunks);
	free(f.columns);
	return view_end(v);
}
