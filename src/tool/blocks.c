/*
 * The blocks of a layered array, or stretches of a bucket or column, as a table.
 *
 * The array is walked twice, to measure and to print: a table of millions of blocks takes no memory.
 *
 * Invariants:
 * 1. The rows of a walk cover every block inside the size once, in order.
 * 2. The totals hold for every element of the blocks that they do not name as left out: zeros of holes, and
 *    those behind the end of a short block, are values like others.
 */
#include "tool/blocks.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "array/dtype.h"
#include "block/codec.h"
#include "block/summary.h"
#include "tool/text.h"

#define NCOLUMNS 10
enum { FIRST_STORED = 2, LAST_STORED = 4 }; /* the columns on how a block is stored */

/* Blocks [first, first + count): one that is stored or dirty, or several that are zeros (b is NULL). */
struct row {
	uint64_t first, count;
	const struct spillfs_block *b;
};

/* The array, and what the first walk has found. */
struct blocks {
	const struct blocks_source *from;
	uint64_t size_bytes, block_bytes, nblocks; /* set before the first row of each walk */
	bool plain; /* the same: no layered array, and its blocks are stretches */
	enum summary_type type;
	uint32_t elem_bytes;
	struct summary all; /* its type NONE: no element yet */
	uint64_t nan_count, zero_count, stored_bytes, raw_bytes, ndirty, nunknown, nuncounted;
	struct text_column columns[NCOLUMNS];
	FILE *to;
};

typedef void (*row_fn)(struct blocks *s, const struct row *r);

static int walk_answer(struct blocks *s, const struct spillfs_blocks *io, uint64_t *next, row_fn fn)
{
	for (uint32_t i = 0; i < io->n; i++) {
		const struct spillfs_block *b = &io->v[i];

		if (b->block >= s->nblocks) /* the array was cut meanwhile */
			return 0;
		if (b->block < *next)
			return -EPROTO;
		if (b->block > *next)
			fn(s, &(struct row){ .first = *next, .count = b->block - *next });
		fn(s, &(struct row){ .first = b->block, .count = 1, .b = b });
		*next = b->block + 1;
	}
	return 0;
}

static int walk(struct blocks *s, row_fn fn)
{
	struct spillfs_blocks io = { 0 };
	uint64_t next = 0, asked = 0;
	int err;

	do {
		io.first = asked;
		io.n = 0;
		err = s->from->ask(s->from->ctx, &io);
		if (err)
			return err;
		if (!io.block_bytes || io.n > SPILLFS_BLOCKS_MAX || (io.n && io.first <= asked))
			return -EPROTO;
		if (!asked) {
			s->size_bytes = io.size_bytes;
			s->block_bytes = io.block_bytes;
			s->plain = io.plain;
			s->nblocks = io.size_bytes / io.block_bytes + (io.size_bytes % io.block_bytes != 0);
		}
		err = walk_answer(s, &io, &next, fn);
		if (err)
			return err;
		asked = io.first;
	} while (io.n);
	if (next < s->nblocks)
		fn(s, &(struct row){ .first = next, .count = s->nblocks - next });
	return 0;
}

/* ---- element types ---- */

static enum summary_type type_of(const char *dtype)
{
	for (int t = SUMMARY_NONE + 1; t < SUMMARY_NTYPES; t++)
		if (!strcmp(summary_type_name((enum summary_type)t), dtype))
			return (enum summary_type)t;
	return SUMMARY_NONE;
}

static bool is_float(enum summary_type type)
{
	return type == SUMMARY_F16 || type == SUMMARY_F32 || type == SUMMARY_F64;
}

static void note_type(struct blocks *s, const struct row *r)
{
	if (!s->type && r->b && r->b->stat_type < SUMMARY_NTYPES)
		s->type = (enum summary_type)r->b->stat_type;
}

/* Adds what b holds to a. The negative one of two zeros is the smaller. */
static void merge(struct summary *a, const struct summary *b)
{
	int c;

	if (!a->type) {
		*a = *b;
		return;
	}
	c = summary_compare((enum summary_type)a->type, b->min_bits, a->min_bits);
	if (c < 0 || (c == 0 && b->min_bits > a->min_bits))
		a->min_bits = b->min_bits;
	c = summary_compare((enum summary_type)a->type, b->max_bits, a->max_bits);
	if (c > 0 || (c == 0 && b->max_bits < a->max_bits))
		a->max_bits = b->max_bits;
}

/* ---- rows ---- */

static uint64_t byte_end(const struct blocks *s, const struct row *r)
{
	return r->first + r->count == s->nblocks ? s->size_bytes : (r->first + r->count) * s->block_bytes;
}

/* The elements that begin in the row's blocks, and are whole. */
static void elements(const struct blocks *s, const struct row *r, uint64_t *first, uint64_t *end)
{
	uint64_t whole = s->size_bytes / s->elem_bytes;
	uint64_t off = r->first * s->block_bytes, stop = byte_end(s, r);

	*first = off / s->elem_bytes + (off % s->elem_bytes != 0);
	*end = stop / s->elem_bytes + (stop % s->elem_bytes != 0);
	if (*first > whole)
		*first = whole;
	if (*end > whole)
		*end = whole;
}

/* A row's elements in short; type NONE when they are not known, or when it has none. */
static struct summary row_summary(const struct blocks *s, const struct row *r)
{
	struct summary zeros = { .type = (uint8_t)s->type }, sum = { 0 };
	uint64_t first, end, len = byte_end(s, r) - r->first * s->block_bytes;

	elements(s, r, &first, &end);
	if (first >= end || !s->type)
		return sum;
	if (!r->b)
		return zeros;
	if ((!r->b->frame_off && !s->plain) || r->b->stat_type != s->type)
		return sum;
	if (r->b->raw_len < len && r->b->raw_len % s->elem_bytes) /* the element across is not counted */
		return sum;
	sum = (struct summary){ .type = r->b->stat_type, .nan_count = r->b->nan_count, .zero_count = r->b->zero_count,
				.min_bits = r->b->min_bits, .max_bits = r->b->max_bits };
	if (r->b->raw_len + s->elem_bytes <= len)
		merge(&sum, &zeros);
	return sum;
}

/* The zeros among a row's elements, of which sum is known: those that are stored, and those behind them. False: nobody has
 * counted them. */
static bool row_zeros(const struct blocks *s, const struct row *r, const struct summary *sum, uint64_t *out)
{
	uint64_t first, end, stored = r->b ? r->b->raw_len / s->elem_bytes : 0;

	elements(s, r, &first, &end);
	if (!sum->type || (r->b && sum->zero_count == SPILLFS_UNCOUNTED))
		return false;
	*out = (r->b ? sum->zero_count : 0) + (end - first > stored ? end - first - stored : 0);
	return true;
}

static bool is_packed(const struct spillfs_block *b)
{
	return b->frame_raw > b->raw_len;
}

/* Its part of a frame that it shares. */
static uint64_t stored_bytes(const struct spillfs_block *b)
{
	return is_packed(b) ? (uint64_t)b->frame_len * b->raw_len / b->frame_raw : b->frame_len;
}

struct cells {
	char first[48], elements[48], layer[24], stored[24], filter[CODEC_DESCRIPTION_MAX], min[40], max[40], nans[16], zeros[24];
};

static struct filter filter_of(const struct spillfs_block *b)
{
	struct filter f = { .steps = b->filter, .elem_bytes = b->elem_bytes };

	if (b->filter == FILTER_RECORD)
		f.record = record_load(b->elem_bytes, b->nan_count, b->min_bits, b->max_bits);
	return f;
}

static void place_cells(const struct row *r, struct cells *c)
{
	struct filter f;

	if (!r->b || !r->b->frame_off) {
		snprintf(c->layer, sizeof(c->layer), "%s", r->b ? "dirty" : "zeros");
		strcpy(c->stored, r->b ? "-" : "0");
		strcpy(c->filter, "-");
		return;
	}
	snprintf(c->layer, sizeof(c->layer), "%" PRIu64, r->b->layer);
	snprintf(c->stored, sizeof(c->stored), "%" PRIu64, stored_bytes(r->b));
	f = filter_of(r->b);
	codec_describe(&f, c->filter);
}

/* "-" for both when no element counts. */
static void bounds_text(const struct summary *sum, char min[40], char max[40])
{
	enum summary_type type = (enum summary_type)sum->type;

	strcpy(min, "-");
	strcpy(max, "-");
	if (!type || summary_compare(type, sum->min_bits, sum->max_bits) > 0)
		return;
	summary_text(type, sum->min_bits, min);
	summary_text(type, sum->max_bits, max);
}

static void use_row(struct blocks *s, const struct row *r,
		    void (*use)(struct blocks *s, const char *const cells[NCOLUMNS]))
{
	struct summary sum = row_summary(s, r);
	uint64_t first, end, zeros;
	struct cells c;

	elements(s, r, &first, &end);
	if (r->count > 1)
		snprintf(c.first, sizeof(c.first), "%" PRIu64 "..%" PRIu64, r->first, r->first + r->count - 1);
	else
		snprintf(c.first, sizeof(c.first), "%" PRIu64, r->first);
	snprintf(c.elements, sizeof(c.elements), "[%" PRIu64 ", %" PRIu64 ")", first, end);
	place_cells(r, &c);
	bounds_text(&sum, c.min, c.max);
	strcpy(c.nans, "-");
	if (is_float((enum summary_type)sum.type))
		snprintf(c.nans, sizeof(c.nans), "%" PRIu32, sum.nan_count);
	strcpy(c.zeros, "-");
	if (row_zeros(s, r, &sum, &zeros))
		snprintf(c.zeros, sizeof(c.zeros), "%" PRIu64, zeros);
	use(s, (const char *[]){ c.first, c.elements, c.layer, c.stored, c.filter, c.min, c.max, c.nans, c.zeros,
				 r->b && r->b->frame_off && is_packed(r->b) ? "packed" : "" });
}

/* Without what plain files do not have: where and how a block is stored. Returns the number of cells. */
static size_t leave_out(const struct blocks *s, const char *const cells[NCOLUMNS], const char *out[NCOLUMNS])
{
	size_t n = 0;

	for (size_t i = 0; i < NCOLUMNS; i++) {
		if (!s->plain || i < FIRST_STORED || (i > LAST_STORED && i + 1 < NCOLUMNS))
			out[n++] = cells[i];
	}
	return n;
}

static void fit_cells(struct blocks *s, const char *const cells[NCOLUMNS])
{
	const char *kept[NCOLUMNS];
	size_t n = leave_out(s, cells, kept);

	text_fit(s->columns, n, kept);
}

static void print_cells(struct blocks *s, const char *const cells[NCOLUMNS])
{
	const char *kept[NCOLUMNS];
	size_t n = leave_out(s, cells, kept);

	text_row(s->to, s->columns, n, kept);
}

static void measure_row(struct blocks *s, const struct row *r)
{
	struct summary sum = row_summary(s, r);
	uint64_t first, end, zeros;

	use_row(s, r, fit_cells);
	if (r->b && !r->b->frame_off && !s->plain) {
		s->ndirty++;
		return;
	}
	if (r->b && !s->plain) {
		s->stored_bytes += stored_bytes(r->b);
		s->raw_bytes += r->b->raw_len;
	}
	elements(s, r, &first, &end);
	if (sum.type) {
		merge(&s->all, &sum);
		s->nan_count += sum.nan_count;
		if (row_zeros(s, r, &sum, &zeros))
			s->zero_count += zeros;
		else
			s->nuncounted += r->count;
	} else if (first < end) {
		s->nunknown += r->count;
	}
}

static void print_row(struct blocks *s, const struct row *r)
{
	use_row(s, r, print_cells);
}

/* ---- around the table ---- */

static void print_array(const struct blocks *s, const char *name, const char *dtype)
{
	if (!*dtype)
		dtype = s->type ? summary_type_name(s->type) : "no type";
	fprintf(s->to, "%s: %s, %" PRIu64 " elements, %s in %" PRIu64 " blocks of %s", name, dtype, s->size_bytes / s->elem_bytes,
		text_size(s->size_bytes).s, s->nblocks, text_size(s->block_bytes).s);
	if (!s->plain)
		fprintf(s->to, ", stored %s", text_size(s->stored_bytes).s);
	if (s->stored_bytes)
		fprintf(s->to, " (%.2fx)", (double)s->raw_bytes / (double)s->stored_bytes);
	putc('\n', s->to);
}

static void print_totals(const struct blocks *s)
{
	char min[40], max[40];

	if (!s->type) {
		fputs("no statistics: they are kept for single numbers only\n", s->to);
		return;
	}
	bounds_text(&s->all, min, max);
	fprintf(s->to, "min   %s\nmax   %s\n", min, max);
	if (is_float(s->type))
		fprintf(s->to, "NaNs  %" PRIu64 "\n", s->nan_count);
	fprintf(s->to, "zeros %" PRIu64 "\n", s->zero_count);
	if (s->ndirty)
		fprintf(s->to, "not counted: %" PRIu64 " dirty blocks\n", s->ndirty);
	if (s->nunknown)
		fprintf(s->to, "not counted: %" PRIu64 " blocks without statistics of this type\n", s->nunknown);
	if (s->nuncounted)
		fprintf(s->to, "not counted: zeros of %" PRIu64 " blocks that have no such count\n", s->nuncounted);
}

int blocks_print(FILE *to, const struct blocks_source *from, const char *name, const char *dtype, bool summary_only)
{
	static const char *const titles[NCOLUMNS] = {
		"block", "elements", "layer", "stored", "filter", "min", "max", "NaNs", "zeros", "",
	};
	struct blocks s = { .from = from, .to = to, .type = type_of(dtype), .elem_bytes = 1 };
	int err = 0;

	for (size_t i = 0; i < NCOLUMNS; i++)
		s.columns[i] = (struct text_column){ .before = "  " };
	if (!*dtype)
		err = walk(&s, note_type);
	if (err)
		return err;
	if (dtype_size(*dtype || !s.type ? dtype : summary_type_name(s.type), &s.elem_bytes))
		s.elem_bytes = 1;
	err = walk(&s, measure_row);
	if (err)
		return err;
	fit_cells(&s, titles);
	for (size_t i = 0; i < NCOLUMNS; i++)
		s.columns[i].right = i != 1 && (s.plain || i != LAST_STORED) && i + 1 != NCOLUMNS;
	print_array(&s, name, dtype);
	if (!summary_only) {
		putc('\n', to);
		print_cells(&s, titles);
		err = walk(&s, print_row);
		putc('\n', to);
	}
	if (!err)
		print_totals(&s);
	return err;
}
