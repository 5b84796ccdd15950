/*
 * Frames: zstd, or raw blocks in a zstd frame written by hand.
 *
 * Invariants: (1) every frame made has a content size and a checksum and no dictionary; (2) decode
 * takes exactly one such frame, nothing before or behind it, of exactly the size asked for; (3) a
 * frame with any byte changed is refused or decodes to the same bytes (a few header bits carry
 * nothing); (4) contexts belong to one thread and die with it.
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

void codec_thread_fini(void)
{
	struct contexts *ctx;

	pthread_once(&contexts_once, contexts_init_key);
	ctx = pthread_getspecific(contexts_key);
	if (!ctx)
		return;
	pthread_setspecific(contexts_key, NULL);
	contexts_free(ctx);
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
		memcpy(p + 3, in + done, len);
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
	codec_shuffle(buf, mixed, len, p->elem_bytes);
	err = compress(c, p->level, buf, len, frame, bound, &plain);
	if (!err)
		err = compress(c, p->level, mixed, len, frame, bound, &shuffled);
	if (!err)
		*shuffle_out = shuffled < plain - plain / 32;
	buf_free(buf, total);
	return err;
}

/* The hint is -1, or the choice in bit 0 and the number of blocks it still holds for above. */
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
	if (*hint >= 2) {
		*shuffle_out = *hint & 1;
		*hint -= 2;
		return 0;
	}
	err = sample_try(c, p, raw, n, shuffle_out);
	if (!err)
		*hint = (SAMPLE_EVERY - 1) * 2 + *shuffle_out;
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
	err = choose_shuffle(c, p, raw, n, hint, &shuffle);
	if (err)
		return err;
	if (shuffle) {
		mixed = buf_alloc(n);
		if (!mixed)
			return -ENOMEM;
		codec_shuffle(raw, mixed, n, p->elem_bytes);
		raw = mixed;
	}
	if (p->level)
		err = compress(c, p->level, raw, n, frame, cap, &len);
	else
		len = encode_raw(raw, n, frame);
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
		codec_unshuffle(mixed, out, n, elem_bytes);
	buf_free(mixed, n);
	return err;
}
