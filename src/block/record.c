/*
 * Records and columns.
 *
 * Invariants: (1) record_undo gives the bytes that record_apply took, for every list, n and lead; (2) it believes nothing of a list that it
 * has not compared with n; (3) a column takes as many bytes filtered as not, so that it begins where the list alone says.
 *
 * Records and columns are exchanged some rows at a time, so that the records stay in the first level of the cache while all their
 * fields are copied.
 */
#include "block/record.h"

#include <errno.h>
#include <string.h>

#include "block/filter.h"
#include "util/plant.h"

#define WIDTH_BITS 3u
#define WIDTH_MASK 7u
#define WIDTH_LOG_MAX 4u
/* Records of so many bytes together are exchanged at a time. */
#define TILE_BYTES (8u << 10)

struct record record_begin(uint32_t bytes, uint32_t lead_bytes)
{
	struct record r = { 0 };

	if (bytes && bytes <= RECORD_BYTES_MAX && lead_bytes < bytes) {
		r.bytes = (uint16_t)bytes;
		r.lead_bytes = (uint16_t)lead_bytes;
	}
	return r;
}

static bool is_repeat(uint8_t code)
{
	return (code & WIDTH_MASK) == RECORD_REPEAT;
}

/* The code that the last one repeats, or is. */
static uint8_t last_code(const struct record *r)
{
	unsigned k = r->ncodes;

	while (is_repeat(r->codes[--k]))
		;
	return r->codes[k];
}

bool record_add(struct record *r, uint8_t value, uint32_t width)
{
	uint8_t code = (uint8_t)(value << WIDTH_BITS | (unsigned)__builtin_ctz(width)), *last = r->ncodes ? &r->codes[r->ncodes - 1] : NULL;
	bool same = last && last_code(r) == code;

	if (same && is_repeat(*last) && *last >> WIDTH_BITS < RECORD_VALUE_MAX) {
		*last += 1 << WIDTH_BITS;
		return true;
	}
	if (r->ncodes == RECORD_CODES_MAX)
		return false;
	r->codes[r->ncodes++] = same ? RECORD_REPEAT : code;
	return true;
}

/* count columns more; 0: they do not fit. */
static size_t add_columns(const struct record *r, struct record_column *v, size_t n, uint8_t code, unsigned count)
{
	unsigned width = 1u << (code & WIDTH_MASK), at = n ? v[n - 1].at + v[n - 1].width : 0u;

	if (n + count > RECORD_FIELDS_MAX || at + count * width > r->bytes)
		return 0;
	for (; count; count--, at += width)
		v[n++] = (struct record_column){ (uint16_t)at, (uint16_t)width, code >> WIDTH_BITS, false };
	return n;
}

size_t record_columns(const struct record *r, struct record_column out[RECORD_COLUMNS_MAX])
{
	size_t n = 0, end;
	uint8_t like = 0;

	if (!r->bytes || r->lead_bytes >= r->bytes || !r->ncodes || r->ncodes > RECORD_CODES_MAX || is_repeat(r->codes[0]))
		return 0;
	for (unsigned k = 0; k < r->ncodes; k++) {
		uint8_t code = r->codes[k];
		unsigned count = is_repeat(code) ? (code >> WIDTH_BITS) + 1u : 1;

		like = is_repeat(code) ? like : code;
		if ((like & WIDTH_MASK) > WIDTH_LOG_MAX)
			return 0;
		n = add_columns(r, out, n, like, count);
		if (!n)
			return 0;
	}
	end = out[n - 1].at + (size_t)out[n - 1].width;
	if (end < r->bytes) {
		out[n] = (struct record_column){ (uint16_t)end, (uint16_t)(r->bytes - end), 0, true };
		n++;
	}
	return n;
}

void record_store(const struct record *r, uint32_t *counts_out, uint64_t *min_out, uint64_t *max_out)
{
	*counts_out = r->bytes | (PLANTED(PLANT_RECORD_LEAD) ? 0u : (uint32_t)r->lead_bytes << 16);
	memcpy(min_out, r->codes, sizeof(*min_out));
	memcpy(max_out, r->codes + sizeof(*min_out), sizeof(*max_out));
}

struct record record_load(uint8_t ncodes, uint32_t counts, uint64_t min, uint64_t max)
{
	struct record r = { .bytes = (uint16_t)counts, .lead_bytes = (uint16_t)(counts >> 16), .ncodes = ncodes };

	memcpy(r.codes, &min, sizeof(min));
	memcpy(r.codes + sizeof(min), &max, sizeof(max));
	return r;
}

size_t record_count(const struct record *r, size_t n)
{
	return n < r->lead_bytes ? 0 : (n - r->lead_bytes) / r->bytes;
}

size_t record_planes_bytes(size_t ncolumns, size_t n)
{
	return n + 8 * ncolumns;
}

size_t record_next_plane(size_t at, const struct record_column *c, size_t count)
{
	return (at + count * c->width + 7) & ~(size_t)7;
}

/* A constant width lets the compiler move a value by a register. */
#define MOVE(w)                                                                          \
	case w:                                                                          \
		for (size_t i = 0; i < n; i++, to += to_step, from += from_step)         \
			memcpy(to, from, w);                                             \
		return

/* n values of `width` bytes. */
static void move(uint8_t *restrict to, size_t to_step, const uint8_t *restrict from, size_t from_step, size_t width, size_t n)
{
	switch (width) {
		MOVE(1);
		MOVE(2);
		MOVE(4);
		MOVE(8);
		MOVE(16);
	default:
		for (size_t i = 0; i < n; i++, to += to_step, from += from_step)
			memcpy(to, from, width);
	}
}

static size_t tile_of(size_t record_bytes)
{
	return record_bytes < TILE_BYTES / 8 ? TILE_BYTES / record_bytes : 8;
}

void record_split(const struct record_column *v, size_t ncolumns, const void *records, size_t record_bytes, size_t count, void *planes)
{
	size_t tile = tile_of(record_bytes);

	for (size_t first = 0; first < count; first += tile) {
		size_t n = count - first < tile ? count - first : tile, at = 0;

		for (size_t k = 0; k < ncolumns; k++) {
			move((uint8_t *)planes + at + first * v[k].width, v[k].width, (const uint8_t *)records + first * record_bytes + v[k].at,
			     record_bytes, v[k].width, n);
			at = record_next_plane(at, &v[k], count);
		}
	}
}

void record_join(const struct record_column *v, size_t ncolumns, const void *planes, size_t record_bytes, size_t count, void *records)
{
	size_t tile = tile_of(record_bytes);

	for (size_t first = 0; first < count; first += tile) {
		size_t n = count - first < tile ? count - first : tile, at = 0;

		for (size_t k = 0; k < ncolumns; k++) {
			move((uint8_t *)records + first * record_bytes + v[k].at, record_bytes,
			     (const uint8_t *)planes + at + first * v[k].width, v[k].width, v[k].width, n);
			at = record_next_plane(at, &v[k], count);
		}
	}
}

/* Puts one column of n bytes, and tells the chain that it went through. */
static uint8_t put_column(const struct record_column *c, const void *plane, size_t n, void *scratch, uint8_t *out, size_t *used)
{
	struct filter f = { .steps = c->value, .elem_bytes = (uint8_t)c->width };

	*used = n;
	if (f.steps != FILTER_NONE && filter_fits(f.steps, f.elem_bytes) &&
	    (!(f.steps & FILTER_SCALE) || filter_find_exponent(plane, n, f.elem_bytes, &f.exponent)) &&
	    !filter_apply(&f, plane, n, scratch, out, used))
		return f.steps;
	*used = n;
	f.steps = f.steps == FILTER_NONE || !filter_fits(FILTER_SHUFFLE, f.elem_bytes) ? FILTER_NONE : FILTER_SHUFFLE;
	if (f.steps == FILTER_NONE || filter_apply(&f, plane, n, scratch, out, used))
		memcpy(out, plane, n);
	return f.steps;
}

int record_apply(struct record *r, const void *in, size_t n, void *planes, void *scratch, void *out, size_t used[RECORD_COLUMNS_MAX],
		 bool *all_fit)
{
	struct record_column v[RECORD_COLUMNS_MAX];
	size_t ncolumns = record_columns(r, v), count = record_count(r, n), lead = r->lead_bytes < n ? r->lead_bytes : n, plane = 0, end = 0;
	struct record done = record_begin(r->bytes, r->lead_bytes);

	*all_fit = true;
	record_split(v, ncolumns, (const uint8_t *)in + lead, r->bytes, count, planes);
	for (size_t k = 0; k < ncolumns; k++) {
		size_t bytes = count * v[k].width;
		uint8_t steps = put_column(&v[k], (const uint8_t *)planes + plane, bytes, scratch, (uint8_t *)out + end, &used[k]);

		*all_fit = *all_fit && steps == v[k].value;
		if (!v[k].rest && !record_add(&done, steps, v[k].width))
			return -ERANGE;
		plane = record_next_plane(plane, &v[k], count);
		end += bytes;
	}
	*r = done;
	memcpy((uint8_t *)out + end, in, lead);
	memcpy((uint8_t *)out + end + lead, (const uint8_t *)in + lead + end, n - lead - end);
	return 0;
}

int record_undo(const struct record *r, const void *in, size_t n, void *planes, void *out)
{
	struct record_column v[RECORD_COLUMNS_MAX];
	size_t ncolumns = record_columns(r, v), count, lead, plane = 0, end = 0;

	if (!ncolumns)
		return -EUCLEAN;
	count = record_count(r, n);
	lead = r->lead_bytes < n ? r->lead_bytes : n;
	for (size_t k = 0; k < ncolumns; k++) {
		size_t bytes = count * v[k].width;
		uint8_t *to = (uint8_t *)planes + plane;

		if (v[k].value == FILTER_NONE)
			memcpy(to, (const uint8_t *)in + end, bytes);
		else if (filter_undo(v[k].value, v[k].width, (const uint8_t *)in + end, bytes, to))
			return -EUCLEAN;
		plane = record_next_plane(plane, &v[k], count);
		end += bytes;
	}
	memcpy(out, (const uint8_t *)in + end, lead);
	record_join(v, ncolumns, planes, r->bytes, count, (uint8_t *)out + lead);
	memcpy((uint8_t *)out + lead + end, (const uint8_t *)in + end + lead, n - lead - end);
	return 0;
}
