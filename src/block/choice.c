/*
 * Choice by sample.
 *
 * Invariants: (1) a candidate replaces one that is read faster only if it is smaller by what that is worth (`worth`); (2) fields of records
 * are chosen for one by one, and their sum has to be smaller than the sample of whole records.
 */
#include "block/choice.h"

#include <errno.h>
#include <string.h>

#include "util/buf.h"

/* A sample is this many pieces of this size; smaller blocks are tried whole. */
#define SAMPLE_PIECES 4
#define SAMPLE_PIECE_BYTES (8u << 10)
#define SAMPLE_BYTES (SAMPLE_PIECES * SAMPLE_PIECE_BYTES)
/* Pieces of records each fill a group of a pack, but have not more than so many bytes together. */
#define ROWS_PIECE 1024u
#define ROWS_BYTES (64u << 10)
/* Fewer are not divided into columns. Samples are a multiple of it, so that columns of one width stand one behind another. */
#define RECORDS_MIN 8u
/* Smaller blocks without a type are compressed as they are. */
#define GUESS_BLOCK_MIN (4u << 10)
#define LEVEL_DEFAULT 3 /* array/setting.h */

/* Copies whole elements from evenly spread places of the block; returns the number of bytes. */
static size_t sample_gather(const uint8_t *raw, size_t n, uint32_t elem_bytes, uint8_t *out)
{
	size_t piece = SAMPLE_PIECE_BYTES / elem_bytes * elem_bytes;
	size_t stride = (n - piece) / (SAMPLE_PIECES - 1) / elem_bytes * elem_bytes;

	if (n <= SAMPLE_BYTES) {
		memcpy(out, raw, n);
		return n;
	}
	for (size_t i = 0; i < SAMPLE_PIECES; i++)
		memcpy(out + i * piece, raw + i * stride, piece);
	return SAMPLE_PIECES * piece;
}

static bool is_float(enum summary_type type)
{
	return type == SUMMARY_F32 || type == SUMMARY_F64;
}

static bool is_integer(enum summary_type type)
{
	return type >= SUMMARY_I8 && type <= SUMMARY_U64;
}

bool choice_has_records(const struct codec_params *p, size_t n)
{
	return p->record.bytes && p->record.bytes <= ROWS_BYTES / RECORDS_MIN && record_count(&p->record, n) >= RECORDS_MIN;
}

bool choice_is_free(const struct codec_params *p)
{
	return p->type == SUMMARY_NONE && p->elem_bytes == 1;
}

bool choice_exists(const struct codec_params *p, size_t n)
{
	if (choice_has_records(p, n))
		return true;
	if (choice_is_free(p))
		return n >= GUESS_BLOCK_MIN;
	return p->elem_bytes && n >= p->elem_bytes &&
	       (is_float(p->type) || is_integer(p->type) || filter_fits(FILTER_SHUFFLE, p->elem_bytes));
}

/* The n_out filters that may suit elements of this type, the one that is read fastest first. */
static const uint8_t *candidates(enum summary_type type, uint32_t elem_bytes, size_t *n_out)
{
	static const uint8_t floats[] = { FILTER_PACK, FILTER_DELTA | FILTER_PACK, FILTER_SCALE | FILTER_PACK,
					  FILTER_SCALE | FILTER_DELTA | FILTER_PACK, FILTER_NONE, FILTER_SHUFFLE,
					  FILTER_SCALE | FILTER_SHUFFLE, FILTER_SCALE | FILTER_DELTAS | FILTER_SHUFFLE,
					  FILTER_DELTAS | FILTER_SHUFFLE };
	static const uint8_t integers[] = { FILTER_PACK, FILTER_DELTA | FILTER_PACK, FILTER_NONE, FILTER_SHUFFLE,
					    FILTER_DELTAS | FILTER_SHUFFLE };
	static const uint8_t bytes[] = { FILTER_PACK, FILTER_DELTA | FILTER_PACK, FILTER_NONE, FILTER_DELTA };
	static const uint8_t others[] = { FILTER_NONE, FILTER_SHUFFLE };

	if (is_float(type)) {
		*n_out = sizeof(floats);
		return floats;
	}
	if (!is_integer(type)) {
		*n_out = sizeof(others);
		return others;
	}
	*n_out = elem_bytes == 1 ? sizeof(bytes) : sizeof(integers);
	return elem_bytes == 1 ? bytes : integers;
}

/* Three buffers, and a frame. */
struct sample {
	uint8_t *raw, *scratch, *filtered, *frame;
	size_t frame_cap;
	size_t len, piece_bytes; /* each piece is by itself */
};

/* Bytes that a filter with PACK makes, of which nothing is compressed: piece by piece, because a leap from one to the next would count. */
static int sample_pack(const struct filter *f, const struct sample *s, size_t *len_out)
{
	size_t sum = 0, used;

	for (size_t off = 0; off < s->len; off += s->piece_bytes) {
		size_t n = s->len - off < s->piece_bytes ? s->len - off : s->piece_bytes;
		int err = filter_apply(f, s->raw + off, n, s->scratch, s->filtered, &used);

		if (err)
			return err;
		sum += used;
	}
	*len_out = sum;
	return 0;
}

/* The bytes that the sample takes; those of a low level where these are half as much again as would be of use, below `limit`. -ERANGE: the
 * filter does not fit it. */
static int sample_try(ZSTD_CCtx *c, int level, const struct filter *f, const struct sample *s, size_t limit, size_t *len_out)
{
	const uint8_t *in = s->raw;
	size_t used;
	int err;

	if (f->steps & FILTER_PACK)
		return sample_pack(f, s, len_out);
	if (level == CODEC_LEVEL_PACK) {
		*len_out = s->len;
		return f->steps == FILTER_NONE ? 0 : -ERANGE;
	}
	if (f->steps != FILTER_NONE) {
		err = filter_apply(f, s->raw, s->len, s->scratch, s->filtered, &used);
		if (err)
			return err;
		in = s->filtered;
	}
	if (level > CHOICE_QUICK_LEVEL && limit < s->len) {
		err = frame_compress(c, CHOICE_QUICK_LEVEL, in, s->len, s->frame, s->frame_cap, len_out);
		if (err || *len_out >= limit + limit / 2)
			return err;
	}
	return frame_compress(c, level, in, s->len, s->frame, s->frame_cap, len_out);
}

/* The size below which another filter replaces the best so far, since it is read more slowly. What is packed is written and read several
 * times as fast as what zstd compresses, but never longer; levels above the default one ask for space. */
static size_t worth(size_t best, unsigned steps, unsigned other, int level)
{
	if (!(steps & FILTER_PACK) || other & FILTER_PACK)
		return best - best / 32;
	return other == FILTER_NONE ? best : best - best / (level <= LEVEL_DEFAULT ? 4 : 32);
}

/* Byte planes of floats, which those of the integers that they stand for are smaller than. */
static bool is_of_bits(unsigned steps)
{
	return steps & FILTER_SHUFFLE && !(steps & FILTER_SCALE);
}

/* *best: the bytes that the sample takes with *out, 0: none yet. */
static int sample_choose(ZSTD_CCtx *c, const struct codec_params *p, const struct sample *s, size_t *best, struct filter *out)
{
	struct filter f = { .elem_bytes = (uint8_t)p->elem_bytes };
	bool scales = is_float(p->type) && filter_fits(FILTER_SCALE, p->elem_bytes) &&
		      filter_find_exponent(s->raw, s->len, p->elem_bytes, &f.exponent);
	bool scaled = false;
	size_t n, len;
	const uint8_t *v = candidates(p->type, p->elem_bytes, &n);

	for (size_t i = 0; i < n; i++) {
		size_t limit;
		int err;

		f.steps = v[i];
		if ((f.steps & FILTER_SCALE && !scales) || !filter_fits(f.steps, p->elem_bytes) || (scaled && is_of_bits(f.steps)))
			continue;
		limit = *best ? worth(*best, out->steps, f.steps, p->level) : SIZE_MAX;
		err = sample_try(c, p->level, &f, s, limit, &len);
		if (err == -ERANGE)
			continue;
		if (err)
			return err;
		scaled = scaled || f.steps & FILTER_SCALE;
		if (len < limit) {
			*best = len;
			*out = f;
		}
	}
	return 0;
}

/* Have enough neighbours the same highest byte? Small integers have, and floats of like magnitude; few texts. */
static bool look_like_numbers(const struct sample *s, uint32_t width)
{
	size_t same = 0;

	for (size_t end = 2 * width; end <= s->len; end += width)
		same += s->raw[end - 1] == s->raw[end - 1 - width];
	return same >= s->len / width / 4;
}

/* As floats and as integers of each width that they may have. */
static int choose_unknown(ZSTD_CCtx *c, const struct codec_params *p, const struct sample *s, struct filter *out)
{
	struct codec_params as = *p;
	size_t best = 0;
	int err = 0;

	for (as.elem_bytes = 8; as.elem_bytes >= 4 && !err; as.elem_bytes /= 2) {
		as.type = as.elem_bytes == 8 ? SUMMARY_F64 : SUMMARY_F32;
		if (look_like_numbers(s, as.elem_bytes))
			err = sample_choose(c, &as, s, &best, out);
	}
	return err;
}

/* ---- records ---- */

/* A sample of records, and its columns. */
struct rows {
	struct record_column v[RECORD_COLUMNS_MAX];
	size_t ncolumns, count, piece; /* records, and those of a piece */
	struct sample s;
};

/* Copies records from evenly spread places of the block. */
static void rows_gather(struct rows *r, const struct record *record, const uint8_t *raw, size_t n)
{
	size_t bytes = record->bytes, all = record_count(record, n), most = ROWS_BYTES / bytes / RECORDS_MIN * RECORDS_MIN, npieces;

	r->piece = most < ROWS_PIECE ? most : ROWS_PIECE;
	npieces = most / r->piece < SAMPLE_PIECES ? most / r->piece : SAMPLE_PIECES;
	raw += record->lead_bytes;
	r->count = npieces * r->piece;
	if (all <= r->count) {
		r->count = all / RECORDS_MIN * RECORDS_MIN;
		r->piece = r->count < ROWS_PIECE ? r->count : ROWS_PIECE;
		memcpy(r->s.raw, raw, r->count * bytes);
		return;
	}
	for (size_t i = 0; i < npieces; i++)
		memcpy(r->s.raw + i * r->piece * bytes, raw + (npieces > 1 ? (all - r->piece) / (npieces - 1) * i : 0) * bytes, r->piece * bytes);
}

/* How many fields from k on get one chain: each its own, unless there are more of them than a list has codes. */
static size_t neighbours(const struct rows *r, size_t k)
{
	size_t end = k + 1;

	while (r->ncolumns > RECORD_CODES_MAX && end < r->ncolumns && r->v[end].value == r->v[k].value && r->v[end].width == r->v[k].width &&
	       !r->v[end].rest)
		end++;
	return end - k;
}

/* The chain of `count` columns whose sample is at s->raw, and the bytes that they take. */
static int choose_chain(ZSTD_CCtx *c, const struct codec_params *p, const struct rows *r, const struct record_column *column, size_t count,
			const struct sample *s, size_t *len_out, struct filter *out)
{
	struct codec_params as = { .level = p->level ? p->level : CODEC_LEVEL_PACK, .elem_bytes = column->width,
				   .type = column->value == SUMMARY_BOOL ? SUMMARY_U8 : (enum summary_type)column->value };
	struct sample part = *s;

	part.len = r->count * column->width * count;
	part.piece_bytes = r->piece * column->width;
	*len_out = 0;
	*out = (struct filter){ .steps = FILTER_NONE };
	if (!column->rest)
		return sample_choose(c, &as, &part, len_out, out);
	return sample_try(c, as.level, out, &part, SIZE_MAX, len_out);
}

/* *sum_out: the bytes of the sample's columns, each with the chain that suits it. */
static int choose_chains(ZSTD_CCtx *c, const struct codec_params *p, const struct rows *r, uint8_t *planes, size_t *sum_out, struct filter *out)
{
	struct sample s = r->s;
	size_t len, count;
	struct filter f;

	*out = (struct filter){ .steps = FILTER_RECORD, .record = record_begin(p->record.bytes, p->record.lead_bytes) };
	record_split(r->v, r->ncolumns, r->s.raw, p->record.bytes, r->count, planes);
	s.raw = planes;
	*sum_out = 0;
	for (size_t k = 0; k < r->ncolumns; k += count) {
		int err;

		count = neighbours(r, k);
		err = choose_chain(c, p, r, &r->v[k], count, &s, &len, &f);
		if (err)
			return err;
		*sum_out += len;
		for (size_t i = 0; i < count; i++) {
			s.raw += record_next_plane(0, &r->v[k], r->count);
			if (!r->v[k].rest && !record_add(&out->record, f.steps, r->v[k].width))
				return -ERANGE;
		}
	}
	out->elem_bytes = out->record.ncodes;
	return 0;
}

/* The best of whole records, and whether columns are better. */
static int choose_for_records(ZSTD_CCtx *c, const struct codec_params *p, const void *raw, size_t n, struct rows *r, uint8_t *planes,
			      struct filter *out)
{
	struct codec_params as = { .level = p->level, .elem_bytes = p->elem_bytes };
	struct filter columns;
	size_t whole = 0, sum;
	int err;

	rows_gather(r, &p->record, raw, n);
	r->s.len = r->s.piece_bytes = r->count * p->record.bytes;
	*out = (struct filter){ .steps = FILTER_NONE, .elem_bytes = (uint8_t)p->elem_bytes };
	err = choose_chains(c, p, r, planes, &sum, &columns);
	if (err == -ERANGE)
		return 0;
	if (!err && p->policy == CODEC_POLICY_AUTO)
		err = sample_choose(c, &as, &r->s, &whole, out);
	if (!err && (p->policy != CODEC_POLICY_AUTO || sum < whole - whole / 32))
		*out = columns;
	return err;
}

static int choose_of_records(ZSTD_CCtx *c, const struct codec_params *p, const void *raw, size_t n, struct filter *out)
{
	size_t planes = record_planes_bytes(RECORD_COLUMNS_MAX, ROWS_BYTES), total = 3 * ROWS_BYTES + planes + frame_bound(ROWS_BYTES);
	uint8_t *buf = buf_alloc(total);
	struct rows r;
	int err;

	if (!buf)
		return -ENOMEM;
	r.ncolumns = record_columns(&p->record, r.v);
	r.s = (struct sample){ .raw = buf, .scratch = buf + ROWS_BYTES, .filtered = buf + 2 * ROWS_BYTES, .frame = buf + 3 * ROWS_BYTES + planes,
			       .frame_cap = frame_bound(ROWS_BYTES) };
	err = choose_for_records(c, p, raw, n, &r, buf + 3 * ROWS_BYTES, out);
	buf_free(buf, total);
	return err;
}

static int choose_of_numbers(ZSTD_CCtx *c, const struct codec_params *p, const void *raw, size_t n, struct filter *out)
{
	size_t total = 3 * SAMPLE_BYTES + frame_bound(SAMPLE_BYTES), best = 0;
	uint8_t *buf = buf_alloc(total);
	struct sample s = { .raw = buf, .scratch = buf + SAMPLE_BYTES, .filtered = buf + 2 * SAMPLE_BYTES, .frame = buf + 3 * SAMPLE_BYTES,
			    .frame_cap = frame_bound(SAMPLE_BYTES) };
	int err;

	if (!buf)
		return -ENOMEM;
	s.len = sample_gather(raw, n, choice_is_free(p) ? 8 : p->elem_bytes, buf);
	s.piece_bytes = n <= SAMPLE_BYTES ? n : s.len / SAMPLE_PIECES;
	err = choice_is_free(p) ? choose_unknown(c, p, &s, out) : sample_choose(c, p, &s, &best, out);
	buf_free(buf, total);
	return err;
}

int choice_make(ZSTD_CCtx *c, const struct codec_params *p, const void *raw, size_t n, struct filter *out)
{
	return choice_has_records(p, n) ? choose_of_records(c, p, raw, n, out) : choose_of_numbers(c, p, raw, n, out);
}
