/*
 * Frames: zstd, or raw blocks in a zstd frame written by hand.
 *
 * Invariants: (1) every frame made has a content size and a checksum and no dictionary; (2) decode
 * takes exactly one such frame, nothing before or behind it, of exactly the size asked for; (3) a
 * frame with any byte changed is refused or decodes to the same bytes (a few header bits carry
 * nothing); (4) contexts belong to one thread and die with it; (5) a block is stored raw untried only if
 * its bytes are as frequent as those of noise, and the last block of its array that was tried did not
 * shrink; one of RAW_EVERY such blocks is tried.
 */
#include "block/codec.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>
#include <zstd.h>

#include "util/buf.h"
#include "util/plant.h"

#define RAW_BLOCK_MAX (128u << 10) /* RFC 8878: a block has at most 128 KiB */
#define RAW_WINDOW_128K 0x38       /* exponent 7: 1 KiB << 7 */
#define FRAME_CHECKSUM 0x04
#define FRAME_FCS_4BYTES 0x80
#define FRAME_DICT_MASK 0x03
#define RAW_HEAD_BYTES 10
#define CHECKSUM_BYTES 4
#define FRAME_RAW_MAX UINT32_MAX

/* A sample is this many pieces of this size; smaller blocks are tried whole. */
#define SAMPLE_PIECES 4
#define SAMPLE_PIECE_BYTES (8u << 10)
#define SAMPLE_BYTES (SAMPLE_PIECES * SAMPLE_PIECE_BYTES)
#define SAMPLE_EVERY 16
/* Smaller blocks without a type are compressed as they are. */
#define GUESS_BLOCK_MIN (4u << 10)
#define LEVEL_DEFAULT 3 /* array/setting.h */

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
/* Byte frequencies are counted in this many pieces of this size, spread evenly. */
#define NOISE_PIECES 16
#define NOISE_PIECE_BYTES (1u << 10)
#define NOISE_BYTES (NOISE_PIECES * NOISE_PIECE_BYTES)
#define NOISE_BLOCK_MIN (4 * NOISE_BYTES)
/* The sum of squared frequencies is its least, when all are equal, or above that by at most this part: then the
 * entropy is within one per cent of 8 bits, and zstd gains nothing from it either. */
#define NOISE_EXCESS_PART 8
/* Whole pieces of so many bytes are copied at a time: some processors copy a larger one at a third of the speed when
 * it goes a few bytes further into its page than it comes from. */
#define COPY_PIECE_BYTES (4u << 10)

struct contexts {
	ZSTD_CCtx *c;
	ZSTD_DCtx *d;
};

static pthread_key_t contexts_key;
static pthread_once_t contexts_once = PTHREAD_ONCE_INIT;

static void contexts_free(void *arg)
{
	struct contexts *ctx = arg;

	ZSTD_freeCCtx(ctx->c);
	ZSTD_freeDCtx(ctx->d);
	free(ctx);
}

static void contexts_init_key(void)
{
	if (pthread_key_create(&contexts_key, contexts_free))
		abort();
}

/* The calling thread's contexts, NULL when memory is out. */
static struct contexts *contexts_get(void)
{
	struct contexts *ctx;

	pthread_once(&contexts_once, contexts_init_key);
	ctx = pthread_getspecific(contexts_key);
	if (ctx)
		return ctx;
	ctx = calloc(1, sizeof(*ctx));
	if (!ctx)
		return NULL;
	if (pthread_setspecific(contexts_key, ctx)) {
		free(ctx);
		return NULL;
	}
	return ctx;
}

static ZSTD_CCtx *compressor_get(void)
{
	struct contexts *ctx = contexts_get();

	if (ctx && !ctx->c)
		ctx->c = ZSTD_createCCtx();
	return ctx ? ctx->c : NULL;
}

static ZSTD_DCtx *decompressor_get(void)
{
	struct contexts *ctx = contexts_get();

	if (ctx && !ctx->d)
		ctx->d = ZSTD_createDCtx();
	return ctx ? ctx->d : NULL;
}

size_t codec_bound(size_t n)
{
	/* Covers the raw frame too: three bytes for each 128 KiB are less than n / 256. */
	return ZSTD_compressBound(n) + 32;
}

static void put_le32(uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}

static uint32_t get_le32(const uint8_t *p)
{
	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void copy(uint8_t *to, const uint8_t *from, size_t n)
{
	for (; n > COPY_PIECE_BYTES; n -= COPY_PIECE_BYTES) {
		memcpy(to, from, COPY_PIECE_BYTES);
		to += COPY_PIECE_BYTES;
		from += COPY_PIECE_BYTES;
	}
	memcpy(to, from, n);
}

enum raw_type { RAW_COPY = 0, RAW_ZEROS = 1 }; /* RFC 8878: block types */

/* The blocks of bytes [from, to) of n; returns where the next stands. */
static uint8_t *put_raw_blocks(uint8_t *p, const uint8_t *in, size_t from, size_t to, size_t n, enum raw_type type)
{
	while (from < to) {
		size_t len = to - from < RAW_BLOCK_MAX ? to - from : RAW_BLOCK_MAX;
		uint32_t head = (uint32_t)len << 3 | (uint32_t)type << 1 | (from + len == n);

		p[0] = (uint8_t)head;
		p[1] = (uint8_t)(head >> 8);
		p[2] = (uint8_t)(head >> 16);
		p[3] = 0;
		if (type == RAW_COPY)
			copy(p + 3, in + from, len);
		p += 3 + (type == RAW_COPY ? len : 1);
		from += len;
	}
	return p;
}

size_t codec_raw_len(size_t used, size_t n)
{
	size_t ncopies = (used + RAW_BLOCK_MAX - 1) / RAW_BLOCK_MAX, nzeros = (n - used + RAW_BLOCK_MAX - 1) / RAW_BLOCK_MAX;

	return RAW_HEAD_BYTES + 3 * ncopies + used + 4 * nzeros + CHECKSUM_BYTES;
}

/* The n bytes are zeros from `used` on. A window of 128 KiB instead of the single-segment form: streaming decoders refuse large windows.
 */
static size_t encode_raw(const void *raw, size_t used, size_t n, void *frame)
{
	uint8_t *out = frame, *p = out + RAW_HEAD_BYTES;

	put_le32(out, ZSTD_MAGICNUMBER);
	out[4] = FRAME_FCS_4BYTES | FRAME_CHECKSUM;
	out[5] = RAW_WINDOW_128K;
	put_le32(out + 6, (uint32_t)n);
	p = put_raw_blocks(p, raw, 0, used, n, RAW_COPY);
	p = put_raw_blocks(p, raw, used, n, n, RAW_ZEROS);
	put_le32(p, (uint32_t)XXH64(raw, n, 0));
	return (size_t)(p + CHECKSUM_BYTES - out);
}

static int compress(ZSTD_CCtx *c, int level, const void *raw, size_t n, void *frame, size_t cap,
		    size_t *len_out)
{
	size_t len;

	ZSTD_CCtx_reset(c, ZSTD_reset_session_and_parameters);
	ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, level);
	ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 1);
	ZSTD_CCtx_setParameter(c, ZSTD_c_contentSizeFlag, 1);
	len = ZSTD_compress2(c, frame, cap, raw, n);
	if (ZSTD_isError(len))
		return -EIO;
	*len_out = len;
	return 0;
}

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

/* Numbers are looked for in an array of which nobody has said what it holds. */
static bool is_unknown(const struct codec_params *p)
{
	return p->type == SUMMARY_NONE && p->elem_bytes == 1;
}

/* Is there anything to choose from for n bytes? */
static bool has_candidates(const struct codec_params *p, size_t n)
{
	if (is_unknown(p))
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

/* The bytes that the sample takes. -ERANGE: the filter does not fit it. */
static int sample_try(ZSTD_CCtx *c, int level, const struct filter *f, const struct sample *s, size_t *len_out)
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
	return compress(c, level, in, s->len, s->frame, codec_bound(SAMPLE_BYTES), len_out);
}

/* The size below which another filter replaces the best so far, since it is read more slowly. What is packed is written and read several
 * times as fast as what zstd compresses, but never longer; levels above the default one ask for space. */
static size_t worth(size_t best, unsigned steps, unsigned other, int level)
{
	if (!(steps & FILTER_PACK) || other & FILTER_PACK)
		return best - best / 32;
	return other == FILTER_NONE ? best : best - best / (level <= LEVEL_DEFAULT ? 4 : 32);
}

/* *best: the bytes that the sample takes with *out, 0: none yet. */
static int sample_choose(ZSTD_CCtx *c, const struct codec_params *p, const struct sample *s, size_t *best, struct filter *out)
{
	struct filter f = { .elem_bytes = (uint8_t)p->elem_bytes };
	bool scales = is_float(p->type) && filter_fits(FILTER_SCALE, p->elem_bytes) &&
		      filter_find_exponent(s->raw, s->len, p->elem_bytes, &f.exponent);
	size_t n, len;
	const uint8_t *v = candidates(p->type, p->elem_bytes, &n);

	for (size_t i = 0; i < n; i++) {
		int err;

		f.steps = v[i];
		if ((f.steps & FILTER_SCALE && !scales) || !filter_fits(f.steps, p->elem_bytes))
			continue;
		err = sample_try(c, p->level, &f, s, &len);
		if (err == -ERANGE)
			continue;
		if (err)
			return err;
		if (!*best || len < worth(*best, out->steps, f.steps, p->level)) {
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

static int choose_by_sample(ZSTD_CCtx *c, const struct codec_params *p, const void *raw, size_t n, struct filter *out)
{
	size_t total = 3 * SAMPLE_BYTES + codec_bound(SAMPLE_BYTES), best = 0;
	uint8_t *buf = buf_alloc(total);
	struct sample s = { buf, buf + SAMPLE_BYTES, buf + 2 * SAMPLE_BYTES, buf + 3 * SAMPLE_BYTES, 0, 0 };
	int err;

	if (!buf)
		return -ENOMEM;
	s.len = sample_gather(raw, n, is_unknown(p) ? 8 : p->elem_bytes, buf);
	s.piece_bytes = n <= SAMPLE_BYTES ? n : s.len / SAMPLE_PIECES;
	err = is_unknown(p) ? choose_unknown(c, p, &s, out) : sample_choose(c, p, &s, &best, out);
	buf_free(buf, total);
	return err;
}

/* The filter that is remembered, if it holds on for these elements. */
static bool hint_filter(int hint, const struct codec_params *p, struct filter *out)
{
	struct filter f = { .steps = (uint8_t)(hint & HINT_STEPS_MASK), .elem_bytes = (uint8_t)((hint & HINT_WIDTH_MASK) / HINT_WIDTH_ONE),
			    .exponent = (uint8_t)((hint & HINT_EXPONENT_MASK) / HINT_EXPONENT_ONE) };

	if (!(hint & HINT_FILTER_MASK) || !filter_fits(f.steps, f.elem_bytes) || (f.elem_bytes != p->elem_bytes && !is_unknown(p)))
		return false;
	*out = f;
	return true;
}

static void hint_remember(int *hint, const struct filter *f)
{
	*hint &= ~(HINT_STEPS_MASK | HINT_EXPONENT_MASK | HINT_FILTER_MASK | HINT_WIDTH_MASK);
	*hint |= f->steps | f->exponent * HINT_EXPONENT_ONE | f->elem_bytes * HINT_WIDTH_ONE | (SAMPLE_EVERY - 1) * HINT_FILTER_ONE;
}

bool codec_suits(const struct codec_params *p)
{
	unsigned steps = (unsigned)p->policy;

	return p->policy != CODEC_POLICY_AUTO && filter_fits(steps, p->elem_bytes) && (!(steps & FILTER_SCALE) || is_float(p->type));
}

/* The filter that was asked for, or none for elements that it is not for. */
static struct filter asked_filter(const struct codec_params *p, const void *raw, size_t n)
{
	struct filter f = { .elem_bytes = (uint8_t)p->elem_bytes, .steps = (uint8_t)p->policy };

	if (!codec_suits(p) || (f.steps & FILTER_SCALE && !filter_find_exponent(raw, n, p->elem_bytes, &f.exponent)))
		f.steps = FILTER_NONE;
	return f;
}

/* *tried: by a sample of just this block. */
static int choose_filter(ZSTD_CCtx *c, const struct codec_params *p, const void *raw, size_t n, int *hint, struct filter *out, bool *tried)
{
	struct filter f = { .elem_bytes = (uint8_t)p->elem_bytes };
	int err = 0;

	*tried = false;
	if (p->policy != CODEC_POLICY_AUTO)
		f = asked_filter(p, raw, n);
	/* Without compression nothing is to be gained. */
	if (p->policy == CODEC_POLICY_AUTO && p->level && has_candidates(p, n)) {
		if (hint_filter(*hint, p, &f)) {
			*hint -= HINT_FILTER_ONE;
		} else {
			err = choose_by_sample(c, p, raw, n, &f);
			*tried = true;
			if (!err)
				hint_remember(hint, &f);
		}
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

/* Whether the block is to be stored raw untried (invariant 5). */
static bool skip_compression(const void *raw, size_t n, int *hint)
{
	if (*hint < HINT_RAW_ONE || n < NOISE_BLOCK_MIN || !looks_like_noise(raw, n))
		return false;
	*hint -= HINT_RAW_ONE;
	return true;
}

/* Zstd's own measure of what is worth its while. */
static void remember_outcome(size_t n, size_t frame_len, int *hint)
{
	*hint &= HINT_RAW_ONE - 1;
	if (frame_len >= n - n / 64)
		*hint += (RAW_EVERY - 1) * HINT_RAW_ONE;
}

/* Compresses, or stores raw, the first `used` of n bytes; the others are zeros. */
static int encode_block(ZSTD_CCtx *c, int level, const void *raw, size_t used, size_t n, void *frame, size_t cap, int *hint, size_t *len_out)
{
	int err;

	if (!codec_compresses(level) || skip_compression(raw, n, hint)) {
		*len_out = encode_raw(raw, used, n, frame);
		return 0;
	}
	err = compress(c, level, raw, n, frame, cap, len_out);
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
static int filter_block(ZSTD_CCtx *c, const struct codec_params *p, const void *raw, size_t n, void *buf, int *hint, struct filter *f,
			bool tried, size_t *used_out)
{
	void *scratch = (uint8_t *)buf + filter_room(n) / 2;
	int err = 0;

	if (!filter_apply(f, raw, n, scratch, buf, used_out))
		return 0;
	*hint &= ~HINT_FILTER_MASK;
	if (!tried)
		err = choose_filter(c, p, raw, n, hint, f, &tried);
	if (!err && f->steps != FILTER_NONE && filter_apply(f, raw, n, scratch, buf, used_out))
		f->steps = FILTER_NONE;
	return err;
}

static int encode_filtered(ZSTD_CCtx *c, const struct codec_params *p, const void *raw, size_t n, void *buf, struct filter *f, bool tried,
			   void *frame, size_t cap, int *hint, size_t *len_out)
{
	size_t used = n;
	int err = filter_block(c, p, raw, n, buf, hint, f, tried, &used);

	if (err)
		return err;
	if (f->steps != FILTER_NONE)
		raw = buf;
	if (!(f->steps & FILTER_PACK))
		return encode_block(c, p->level, raw, used, n, frame, cap, hint, len_out);
	*len_out = encode_raw(raw, used, n, frame);
	return 0;
}

int codec_encode(const struct codec_params *p, const void *raw, size_t n, void *frame, size_t cap,
		 int *hint, size_t *frame_len_out, struct filter *filter_out)
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
		c = compressor_get();
		if (!c)
			return -ENOMEM;
	}
	if (*hint < 0)
		*hint = 0;
	err = choose_filter(c, p, raw, n, hint, &f, &tried);
	if (err)
		return err;
	if (f.steps == FILTER_NONE) {
		err = encode_block(c, p->level, raw, n, n, frame, cap, hint, &len);
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

/* One zstd frame (not a skippable one), with checksum, without dictionary, of n bytes, nothing
 * behind. */
static bool frame_fits(const uint8_t *frame, size_t len, size_t n)
{
	if (len < 5 || get_le32(frame) != ZSTD_MAGICNUMBER)
		return false;
	if (!(frame[4] & FRAME_CHECKSUM) || (frame[4] & FRAME_DICT_MASK))
		return false;
	return ZSTD_getFrameContentSize(frame, len) == n &&
	       ZSTD_findFrameCompressedSize(frame, len) == len;
}

static int decompress(const void *frame, size_t frame_len, void *out, size_t n)
{
	ZSTD_DCtx *d = decompressor_get();

	if (!d)
		return -ENOMEM;
	if (PLANTED(PLANT_NO_CHECKSUM)) /* ZSTD_d_forceIgnoreChecksum */
		ZSTD_DCtx_setParameter(d, ZSTD_d_experimentalParam3, 1);
	return ZSTD_decompressDCtx(d, out, n, frame, frame_len) == n ? 0 : -EUCLEAN;
}

int codec_decode(const void *frame, size_t frame_len, uint8_t filter, uint32_t elem_bytes, void *out, size_t n)
{
	void *filtered;
	int err;

	if (!frame_fits(frame, frame_len, n))
		return -EUCLEAN;
	if (filter == FILTER_NONE)
		return decompress(frame, frame_len, out, n);
	if (!filter_fits(filter, elem_bytes))
		return -EUCLEAN;
	filtered = buf_alloc(n);
	if (!filtered)
		return -ENOMEM;
	err = decompress(frame, frame_len, filtered, n);
	if (!err)
		err = filter_undo(filter, elem_bytes, filtered, n, out);
	buf_free(filtered, n);
	return err;
}
