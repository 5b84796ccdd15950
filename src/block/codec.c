/*
 * Blocks to frames and back: the filter that was asked for, is remembered or chosen, then zstd or raw blocks.
 *
 * Invariants: (1) decode takes exactly one frame, nothing before or behind it, of exactly the size asked for; (2) a block is stored raw
 * untried only if its bytes are as frequent as those of noise, and the last block of its array that was tried did not
 * shrink; one of RAW_EVERY such blocks is tried; (3) columns of records are chosen only if a whole block of them, which is encoded
 * both ways, is smaller than without.
 */
#include "block/codec.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "block/choice.h"
#include "block/frame.h"
#include "util/buf.h"

#define SAMPLE_EVERY 16

/* A hint remembers the filter's steps, exponent and width, for how many blocks they still hold, and how many blocks may still be
 * stored raw untried. -1 is no memory. */
#define HINT_STEPS_MASK 0xff
#define HINT_EXPONENT_ONE 0x100
#define HINT_EXPONENT_MASK 0x1f00
#define HINT_FILTER_ONE 0x2000
#define HINT_FILTER_MASK 0x1e000
#define HINT_WIDTH_ONE 0x20000
#define HINT_WIDTH_MASK 0x3e0000
#define HINT_RAW_ONE 0x400000

#define RAW_EVERY 16
/* In a column with FILTER_SHUFFLE: the planes of up to 16 bytes, what is behind them, and zeros. */
#define COLUMN_PARTS_MAX 18
#define SCALE_HEAD_BYTES 8 /* docs/FORMAT.md; the second is the bytes of an integer */
/* Byte frequencies are counted in this many pieces of this size, spread evenly. */
#define NOISE_PIECES 16
#define NOISE_PIECE_BYTES (1u << 10)
#define NOISE_BYTES (NOISE_PIECES * NOISE_PIECE_BYTES)
#define NOISE_BLOCK_MIN (4 * NOISE_BYTES)
/* The sum of squared frequencies is its least, when all are equal, or above that by at most this part: then the
 * entropy is within one per cent of 8 bits, and zstd gains nothing from it either. */
#define NOISE_EXCESS_PART 8

size_t codec_bound(size_t n)
{
	return frame_bound(n);
}

static bool same_fields(const struct record *a, const struct record *b)
{
	struct record_column x[RECORD_COLUMNS_MAX], y[RECORD_COLUMNS_MAX];
	size_t n = record_columns(a, x), k = 0;

	if (n != record_columns(b, y))
		return false;
	while (k < n && x[k].width == y[k].width)
		k++;
	return n && k == n;
}

/* The filter that is remembered, if it holds on for these elements. */
static bool hint_filter(const struct codec_hint *hint, const struct codec_params *p, struct filter *out)
{
	struct filter f = { .steps = (uint8_t)(hint->bits & HINT_STEPS_MASK), .elem_bytes = (uint8_t)((hint->bits & HINT_WIDTH_MASK) / HINT_WIDTH_ONE),
			    .exponent = (uint8_t)((hint->bits & HINT_EXPONENT_MASK) / HINT_EXPONENT_ONE) };

	if (!(hint->bits & HINT_FILTER_MASK))
		return false;
	if (f.steps == FILTER_RECORD) {
		f.record = p->record;
		f.record.ncodes = f.elem_bytes;
		memcpy(f.record.codes, hint->codes, sizeof(hint->codes));
		if (!same_fields(&f.record, &p->record))
			return false;
	} else if (!filter_fits(f.steps, f.elem_bytes) || (f.elem_bytes != p->elem_bytes && !choice_is_free(p))) {
		return false;
	}
	*out = f;
	return true;
}

static void hint_remember(struct codec_hint *hint, const struct filter *f)
{
	hint->bits &= ~(HINT_STEPS_MASK | HINT_EXPONENT_MASK | HINT_FILTER_MASK | HINT_WIDTH_MASK);
	hint->bits |= f->steps | f->exponent * HINT_EXPONENT_ONE | f->elem_bytes * HINT_WIDTH_ONE | (SAMPLE_EVERY - 1) * HINT_FILTER_ONE;
	memcpy(hint->codes, f->record.codes, sizeof(hint->codes));
}

bool codec_suits(const struct codec_params *p)
{
	unsigned steps = (unsigned)p->policy;

	if (steps == FILTER_RECORD)
		return p->record.bytes;
	return p->policy != CODEC_POLICY_AUTO && filter_fits(steps, p->elem_bytes) && (!(steps & FILTER_SCALE) || p->type == SUMMARY_F32 || p->type == SUMMARY_F64);
}

void codec_describe(const struct filter *f, char out[CODEC_DESCRIPTION_MAX])
{
	struct record_column v[RECORD_COLUMNS_MAX];
	size_t n = f->steps == FILTER_RECORD ? record_columns(&f->record, v) : 0, count, len;
	char chain[FILTER_TEXT_MAX];

	filter_text(f->steps, out);
	len = strlen(out);
	if (f->steps != FILTER_NONE && f->steps != FILTER_RECORD && filter_known(f->steps))
		sprintf(out + len, ":%u", f->elem_bytes);
	for (size_t k = 0; k < n; k += count) {
		for (count = 1; k + count < n && v[k + count].value == v[k].value && v[k + count].width == v[k].width;)
			count++;
		filter_text(v[k].value, chain);
		len += (size_t)sprintf(out + len, "%s", k ? ", " : "(");
		if (count > 1)
			len += (size_t)sprintf(out + len, "%zux ", count);
		len += (size_t)sprintf(out + len, "%s:%u%s", chain, v[k].width, k + count == n ? ")" : "");
	}
}

/* The filter that was asked for, or none for elements that it is not for. */
static struct filter asked_filter(const struct codec_params *p, const void *raw, size_t n)
{
	struct filter f = { .elem_bytes = (uint8_t)p->elem_bytes, .steps = (uint8_t)p->policy };

	if (!codec_suits(p) || f.steps == FILTER_RECORD || (f.steps & FILTER_SCALE && !filter_find_exponent(raw, n, p->elem_bytes, &f.exponent)))
		f.steps = FILTER_NONE;
	return f;
}

/* Is the filter to be chosen? Without compression nothing is to be gained. */
static bool is_choice(const struct codec_params *p, size_t n)
{
	return p->policy == CODEC_POLICY_AUTO ? p->level && choice_exists(p, n) : p->policy == CODEC_POLICY_RECORD && choice_has_records(p, n);
}

/* *tried: by a sample of just this block. */
static int choose_filter(ZSTD_CCtx *c, const struct codec_params *p, const void *raw, size_t n, struct codec_hint *hint, struct filter *out,
			 bool *tried)
{
	struct filter f = { .elem_bytes = (uint8_t)p->elem_bytes };
	int err = 0;

	*tried = false;
	if (!is_choice(p, n)) {
		if (p->policy != CODEC_POLICY_AUTO)
			f = asked_filter(p, raw, n);
	} else if (hint_filter(hint, p, &f)) {
		hint->bits -= HINT_FILTER_ONE;
	} else {
		err = choice_make(c, p, raw, n, &f);
		*tried = true;
		if (!err)
			hint_remember(hint, &f);
	}
	if (!err)
		*out = f;
	return err;
}

static bool looks_like_noise(const uint8_t *raw, size_t n)
{
	const uint64_t least = (uint64_t)NOISE_BYTES * NOISE_BYTES / 256;
	uint32_t count[256] = { 0 };
	uint64_t squares = 0;

	for (size_t i = 0; i < NOISE_PIECES; i++) {
		const uint8_t *piece = raw + (n - NOISE_PIECE_BYTES) / (NOISE_PIECES - 1) * i;

		for (size_t k = 0; k < NOISE_PIECE_BYTES; k++)
			count[piece[k]]++;
	}
	for (size_t i = 0; i < 256; i++)
		squares += (uint64_t)count[i] * count[i];
	return squares <= least + least / NOISE_EXCESS_PART;
}

/* Whether the block is to be stored raw untried (invariant 2). */
static bool skip_compression(const void *raw, size_t n, struct codec_hint *hint)
{
	if (hint->bits < HINT_RAW_ONE || n < NOISE_BLOCK_MIN || !looks_like_noise(raw, n))
		return false;
	hint->bits -= HINT_RAW_ONE;
	return true;
}

/* Zstd's own measure of what is worth its while. */
static void remember_outcome(size_t n, size_t frame_len, struct codec_hint *hint)
{
	hint->bits &= HINT_RAW_ONE - 1;
	if (frame_len >= n - n / 64)
		hint->bits += (RAW_EVERY - 1) * HINT_RAW_ONE;
}

/* Compresses, or stores raw, the first `used` of n bytes; the others are zeros. */
static int encode_block(ZSTD_CCtx *c, int level, const void *raw, size_t used, size_t n, void *frame, size_t cap, struct codec_hint *hint,
			size_t *len_out)
{
	int err;

	if (!codec_compresses(level) || skip_compression(raw, n, hint)) {
		*len_out = frame_put_raw(raw, used, n, frame);
		return 0;
	}
	err = frame_compress(c, level, raw, n, frame, cap, len_out);
	if (!err)
		remember_outcome(n, *len_out, hint);
	return err;
}

/* Room for a block filtered, and for the filter to work in. */
static size_t filter_room(size_t n)
{
	return 2 * ((n + 7) & ~(size_t)7);
}

/* Filters a block into buf, which has filter_room(n): another filter is looked for if the one that is remembered does not fit, and
 * none is taken if that does not fit either. Then *used_out stays as it is. */
static int filter_block(ZSTD_CCtx *c, const struct codec_params *p, const void *raw, size_t n, void *buf, struct codec_hint *hint,
			struct filter *f, bool tried, size_t *used_out)
{
	void *scratch = (uint8_t *)buf + filter_room(n) / 2;
	int err = 0;

	if (!filter_apply(f, raw, n, scratch, buf, used_out))
		return 0;
	hint->bits &= ~HINT_FILTER_MASK;
	if (!tried)
		err = choose_filter(c, p, raw, n, hint, f, &tried);
	if (!err && f->steps != FILTER_NONE && filter_apply(f, raw, n, scratch, buf, used_out))
		f->steps = FILTER_NONE;
	return err;
}

static int encode_filtered(ZSTD_CCtx *c, const struct codec_params *p, const void *raw, size_t n, void *buf, struct filter *f, bool tried,
			   void *frame, size_t cap, struct codec_hint *hint, size_t *len_out)
{
	size_t used = n;
	int err = filter_block(c, p, raw, n, buf, hint, f, tried, &used);

	if (err)
		return err;
	if (f->steps != FILTER_NONE)
		raw = buf;
	if (!(f->steps & FILTER_PACK))
		return encode_block(c, p->level, raw, used, n, frame, cap, hint, len_out);
	*len_out = frame_put_raw(raw, used, n, frame);
	return 0;
}

/* Memory of a block of records: filtered, the room of a filter, columns; and a frame, when the columns are done with. */
struct record_room {
	size_t block, planes;
	uint8_t *buf;
};

static size_t record_room_bytes(const struct record_room *r)
{
	return 2 * r->block + r->planes;
}

static bool record_room_get(struct record_room *r, size_t n)
{
	size_t frame = frame_bound(n);

	r->block = filter_room(n) / 2;
	r->planes = record_planes_bytes(RECORD_COLUMNS_MAX, n);
	r->planes = r->planes > frame ? r->planes : frame;
	r->buf = buf_alloc(record_room_bytes(r));
	return r->buf;
}

/* The pieces of a column that zstd is to look at by themselves: byte planes, or all that is used, and the zeros behind. Fewer than
 * COLUMN_PARTS_MAX. */
static size_t column_parts(const struct record_column *c, const uint8_t *at, size_t count, size_t used, size_t parts[COLUMN_PARTS_MAX])
{
	size_t n = 0, planes = 0, whole = count * c->width, head = c->value & FILTER_SCALE ? SCALE_HEAD_BYTES : 0;

	if (c->value & FILTER_SHUFFLE)
		planes = head ? at[1] : c->width;
	for (size_t k = 0; k < planes; k++)
		parts[n++] = count + (k ? 0 : head);
	used = used < head + planes * count ? head + planes * count : used;
	parts[n++] = used - (planes ? head + planes * count : 0);
	parts[n++] = whole - used;
	return n;
}

/* Compresses columns, or stores them raw if all are packed. */
static int encode_columns(ZSTD_CCtx *c, int level, const struct record *r, const uint8_t *filtered, const size_t *used, size_t n, void *frame,
			  size_t cap, size_t *len_out)
{
	struct record_column v[RECORD_COLUMNS_MAX];
	struct frame_run runs[RECORD_COLUMNS_MAX + 1];
	size_t parts[RECORD_COLUMNS_MAX * COLUMN_PARTS_MAX + 1], nparts = 0, end = 0, ncolumns = record_columns(r, v), count = record_count(r, n);
	bool packed = true;

	for (size_t k = 0; k < ncolumns; k++) {
		runs[k] = (struct frame_run){ count * v[k].width, used[k] };
		nparts += column_parts(&v[k], filtered + end, count, used[k], parts + nparts);
		packed = packed && v[k].value & FILTER_PACK;
		end += runs[k].len;
	}
	runs[ncolumns] = (struct frame_run){ n - end, n - end };
	parts[nparts++] = n - end;
	if (!packed && codec_compresses(level))
		return frame_compress_parts(c, level, filtered, parts, nparts, n, frame, cap, len_out);
	*len_out = frame_put_runs(filtered, runs, ncolumns + 1, n, frame);
	return 0;
}

/* Invariant 3: takes whole records if they are smaller. Where a low level makes them half as long again, they are not tried further. `other`
 * has room for a frame. */
static int compare_with_rows(ZSTD_CCtx *c, const struct codec_params *p, const void *raw, size_t n, uint8_t *other, void *frame, size_t cap,
			     struct codec_hint *hint, struct filter *f, size_t *len_out)
{
	bool quick = p->level > CHOICE_QUICK_LEVEL;
	size_t len;
	int err = encode_block(c, quick ? CHOICE_QUICK_LEVEL : p->level, raw, n, n, other, cap, hint, &len);

	if (!err && quick && len < *len_out + *len_out / 2)
		err = encode_block(c, p->level, raw, n, n, other, cap, hint, &len);
	if (err || len > *len_out)
		return err;
	memcpy(frame, other, len);
	*len_out = len;
	*f = (struct filter){ .steps = FILTER_NONE, .elem_bytes = (uint8_t)p->elem_bytes };
	hint_remember(hint, f);
	return 0;
}

/* Byte planes have few repeats to find, and then a low level makes them no longer, in half the time: the block that is tried shows it, and the
 * array remembers. `other` has room for a frame. */
static int compare_levels(ZSTD_CCtx *c, int level, const struct record *r, const uint8_t *filtered, const size_t *used, size_t n, uint8_t *other,
			  void *frame, size_t cap, struct codec_hint *hint, size_t *len_out)
{
	size_t len;
	int err;

	hint->quick = false;
	if (level <= CHOICE_QUICK_LEVEL)
		return 0;
	err = encode_columns(c, CHOICE_QUICK_LEVEL, r, filtered, used, n, other, cap, &len);
	if (err || len > *len_out)
		return err == -ENOSPC ? 0 : err;
	memcpy(frame, other, len);
	*len_out = len;
	hint->quick = true;
	return 0;
}

static int encode_records(ZSTD_CCtx *c, const struct codec_params *p, const void *raw, size_t n, struct filter *f, bool tried, void *frame,
			  size_t cap, struct codec_hint *hint, size_t *len_out)
{
	size_t used[RECORD_COLUMNS_MAX];
	struct record_room room;
	bool all_fit;
	int err, level = hint->quick && !tried && p->level > CHOICE_QUICK_LEVEL ? CHOICE_QUICK_LEVEL : p->level;

	if (!record_room_get(&room, n))
		return -ENOMEM;
	err = record_apply(&f->record, raw, n, room.buf + 2 * room.block, room.buf + room.block, room.buf, used, &all_fit);
	if (!err)
		err = encode_columns(c, level, &f->record, room.buf, used, n, frame, frame_bound(n), len_out);
	if (!err && tried)
		err = compare_levels(c, level, &f->record, room.buf, used, n, room.buf + 2 * room.block, frame, frame_bound(n), hint, len_out);
	f->elem_bytes = f->record.ncodes;
	if (err == -ERANGE || err == -ENOSPC || (!err && *len_out > n)) {
		*f = (struct filter){ .steps = FILTER_NONE, .elem_bytes = (uint8_t)p->elem_bytes };
		err = encode_block(c, p->level, raw, n, n, frame, cap, hint, len_out);
	} else if (!err && tried && p->policy == CODEC_POLICY_AUTO) {
		err = compare_with_rows(c, p, raw, n, room.buf + 2 * room.block, frame, frame_bound(n), hint, f, len_out);
	}
	if (!all_fit || (!err && f->steps == FILTER_NONE && !tried))
		hint->bits &= ~HINT_FILTER_MASK;
	buf_free(room.buf, record_room_bytes(&room));
	return err;
}

int codec_encode(const struct codec_params *p, const void *raw, size_t n, void *frame, size_t cap,
		 struct codec_hint *hint, size_t *frame_len_out, struct filter *filter_out)
{
	ZSTD_CCtx *c = NULL;
	struct filter f;
	void *buf;
	bool tried;
	size_t len;
	int err;

	assert((p->level == CODEC_LEVEL_PACK || (p->level >= CODEC_LEVEL_MIN && p->level <= CODEC_LEVEL_MAX)) && n > 0 && cap >= codec_bound(n));
	if (n > FRAME_RAW_MAX)
		return -EIO;
	if (codec_compresses(p->level)) {
		c = frame_compressor();
		if (!c)
			return -ENOMEM;
	}
	if (hint->bits < 0)
		hint->bits = 0;
	err = choose_filter(c, p, raw, n, hint, &f, &tried);
	if (err)
		return err;
	if (f.steps == FILTER_NONE) {
		err = encode_block(c, p->level, raw, n, n, frame, cap, hint, &len);
	} else if (f.steps == FILTER_RECORD) {
		err = encode_records(c, p, raw, n, &f, tried, frame, cap, hint, &len);
	} else {
		buf = buf_alloc(filter_room(n));
		if (!buf)
			return -ENOMEM;
		err = encode_filtered(c, p, raw, n, buf, &f, tried, frame, cap, hint, &len);
		buf_free(buf, filter_room(n));
	}
	if (err)
		return err;
	*frame_len_out = len;
	*filter_out = f;
	return 0;
}

/* Turns what the frame decodes to into the block. */
static int unfilter(const struct filter *f, const void *filtered, size_t n, void *planes, void *out)
{
	if (f->steps == FILTER_RECORD)
		return record_undo(&f->record, filtered, n, planes, out);
	return filter_undo(f->steps, f->elem_bytes, filtered, n, out);
}

int codec_decode(const void *frame, size_t frame_len, const struct filter *filter, void *out, size_t n)
{
	size_t block = filter_room(n) / 2, planes = filter->steps == FILTER_RECORD ? record_planes_bytes(RECORD_COLUMNS_MAX, n) : 0;
	uint8_t *buf;
	int err;

	if (!frame_fits(frame, frame_len, n))
		return -EUCLEAN;
	if (filter->steps == FILTER_NONE)
		return frame_decompress(frame, frame_len, out, n);
	if (filter->steps != FILTER_RECORD && !filter_fits(filter->steps, filter->elem_bytes))
		return -EUCLEAN;
	buf = buf_alloc(block + planes);
	if (!buf)
		return -ENOMEM;
	err = frame_decompress(frame, frame_len, buf, n);
	if (!err)
		err = unfilter(filter, buf, n, buf + block, out);
	buf_free(buf, block + planes);
	return err;
}
