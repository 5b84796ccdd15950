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

#include "block/shuffle.h"
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

/* A hint remembers the filter, for how many blocks it still holds, and how many blocks may still be
 * stored raw untried. -1 is no memory. */
#define HINT_SHUFFLE 0x1
#define HINT_FILTER_ONE 0x2
#define HINT_FILTER_MASK 0xfe
#define HINT_RAW_ONE 0x100

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

/* A window of 128 KiB instead of the single-segment form: streaming decoders refuse large windows.
 */
static size_t encode_raw(const void *raw, size_t n, void *frame)
{
	const uint8_t *in = raw;
	uint8_t *out = frame, *p = out + RAW_HEAD_BYTES;

	put_le32(out, ZSTD_MAGICNUMBER);
	out[4] = FRAME_FCS_4BYTES | FRAME_CHECKSUM;
	out[5] = RAW_WINDOW_128K;
	put_le32(out + 6, (uint32_t)n);
	for (size_t done = 0; done < n;) {
		size_t len = n - done < RAW_BLOCK_MAX ? n - done : RAW_BLOCK_MAX;
		uint32_t head = (uint32_t)len << 3 | (done + len == n);

		p[0] = (uint8_t)head;
		p[1] = (uint8_t)(head >> 8);
		p[2] = (uint8_t)(head >> 16);
		copy(p + 3, in + done, len);
		p += 3 + len;
		done += len;
	}
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

static bool elem_shuffles(uint32_t elem_bytes)
{
	return elem_bytes >= 2 && elem_bytes <= 16;
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

/* Shuffling must win by 1/32: it costs a pass over the block at every read. */
static int sample_try(ZSTD_CCtx *c, const struct codec_params *p, const void *raw, size_t n,
		      bool *shuffle_out)
{
	size_t bound = codec_bound(SAMPLE_BYTES), total = 2 * SAMPLE_BYTES + bound, len, plain,
	       shuffled;
	uint8_t *buf = buf_alloc(total), *mixed, *frame;
	int err;

	if (!buf)
		return -ENOMEM;
	mixed = buf + SAMPLE_BYTES;
	frame = mixed + SAMPLE_BYTES;
	len = sample_gather(raw, n, p->elem_bytes, buf);
	shuffle_apply(buf, mixed, len, p->elem_bytes);
	err = compress(c, p->level, buf, len, frame, bound, &plain);
	if (!err)
		err = compress(c, p->level, mixed, len, frame, bound, &shuffled);
	if (!err)
		*shuffle_out = shuffled < plain - plain / 32;
	buf_free(buf, total);
	return err;
}

static int choose_shuffle(ZSTD_CCtx *c, const struct codec_params *p, const void *raw, size_t n,
			  int *hint, bool *shuffle_out)
{
	int err;

	if (!elem_shuffles(p->elem_bytes) || p->policy == CODEC_POLICY_NONE) {
		*shuffle_out = false;
		return 0;
	}
	if (p->policy == CODEC_POLICY_SHUFFLE) {
		*shuffle_out = true;
		return 0;
	}
	if (!p->level || n < p->elem_bytes) { /* nothing to gain, nothing to remember */
		*shuffle_out = false;
		return 0;
	}
	if (*hint & HINT_FILTER_MASK) {
		*shuffle_out = *hint & HINT_SHUFFLE;
		*hint -= HINT_FILTER_ONE;
		return 0;
	}
	err = sample_try(c, p, raw, n, shuffle_out);
	if (!err)
		*hint = (*hint & ~(HINT_SHUFFLE | HINT_FILTER_MASK)) + (SAMPLE_EVERY - 1) * HINT_FILTER_ONE + *shuffle_out;
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

/* Compresses, or stores raw, what is filtered already. */
static int encode_block(ZSTD_CCtx *c, int level, const void *raw, size_t n, void *frame, size_t cap, int *hint, size_t *len_out)
{
	int err;

	if (!level || skip_compression(raw, n, hint)) {
		*len_out = encode_raw(raw, n, frame);
		return 0;
	}
	err = compress(c, level, raw, n, frame, cap, len_out);
	if (!err)
		remember_outcome(n, *len_out, hint);
	return err;
}

int codec_encode(const struct codec_params *p, const void *raw, size_t n, void *frame, size_t cap,
		 int *hint, size_t *frame_len_out, enum codec_filter *filter_out)
{
	ZSTD_CCtx *c = NULL;
	void *mixed = NULL;
	bool shuffle;
	size_t len;
	int err;

	assert(p->level >= 0 && p->level <= 19 && n > 0 && cap >= codec_bound(n));
	if (n > FRAME_RAW_MAX)
		return -EIO;
	if (p->level) {
		c = compressor_get();
		if (!c)
			return -ENOMEM;
	}
	if (*hint < 0)
		*hint = 0;
	err = choose_shuffle(c, p, raw, n, hint, &shuffle);
	if (err)
		return err;
	if (shuffle) {
		mixed = buf_alloc(n);
		if (!mixed)
			return -ENOMEM;
		shuffle_apply(raw, mixed, n, p->elem_bytes);
		raw = mixed;
	}
	err = encode_block(c, p->level, raw, n, frame, cap, hint, &len);
	buf_free(mixed, n);
	if (err)
		return err;
	*frame_len_out = len;
	*filter_out = shuffle ? CODEC_FILTER_SHUFFLE : CODEC_FILTER_NONE;
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

int codec_decode(const void *frame, size_t frame_len, enum codec_filter filter, uint32_t elem_bytes,
		 void *out, size_t n)
{
	void *mixed;
	int err;

	if (!frame_fits(frame, frame_len, n))
		return -EUCLEAN;
	if (filter == CODEC_FILTER_NONE)
		return decompress(frame, frame_len, out, n);
	if (filter != CODEC_FILTER_SHUFFLE || !elem_shuffles(elem_bytes))
		return -EUCLEAN;
	mixed = buf_alloc(n);
	if (!mixed)
		return -ENOMEM;
	err = decompress(frame, frame_len, mixed, n);
	if (!err)
		shuffle_undo(mixed, out, n, elem_bytes);
	buf_free(mixed, n);
	return err;
}
