/*
 * Zstd frames.
 *
 * Invariants: (1) every frame made has a content size and a checksum and no dictionary; (2) a frame with any byte changed is refused or
 * decodes to the same bytes (a few header bits carry nothing); (3) contexts belong to one thread and die with it.
 */
#include "block/frame.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>
#include <zstd_errors.h>

#include "util/plant.h"

#define RAW_BLOCK_MAX (128u << 10) /* RFC 8878: a block has at most 128 KiB */
#define RAW_WINDOW_128K 0x38       /* exponent 7: 1 KiB << 7 */
#define FRAME_CHECKSUM 0x04
#define FRAME_FCS_4BYTES 0x80
#define FRAME_DICT_MASK 0x03
#define RAW_HEAD_BYTES 10
#define CHECKSUM_BYTES 4
/* Fewer zeros are not worth the heads of two blocks. */
#define ZEROS_MIN 16u
/* Shorter parts do not pay for a table of codes. */
#define PART_MIN (2u << 10)
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

ZSTD_CCtx *frame_compressor(void)
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

size_t frame_bound(size_t n)
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

size_t frame_raw_len(size_t used, size_t n)
{
	size_t ncopies = (used + RAW_BLOCK_MAX - 1) / RAW_BLOCK_MAX, nzeros = (n - used + RAW_BLOCK_MAX - 1) / RAW_BLOCK_MAX;

	return RAW_HEAD_BYTES + 3 * ncopies + used + 4 * nzeros + CHECKSUM_BYTES;
}

static uint8_t *put_raw_head(uint8_t *out, size_t n)
{
	put_le32(out, ZSTD_MAGICNUMBER);
	out[4] = FRAME_FCS_4BYTES | FRAME_CHECKSUM;
	out[5] = RAW_WINDOW_128K;
	put_le32(out + 6, (uint32_t)n);
	return out + RAW_HEAD_BYTES;
}

/* A window of 128 KiB instead of the single-segment form: streaming decoders refuse large windows. */
size_t frame_put_runs(const void *raw, const struct frame_run *v, size_t nruns, size_t n, void *frame)
{
	uint8_t *out = frame, *p = put_raw_head(out, n);
	size_t begin = 0, end = 0; /* of bytes to copy */

	for (size_t k = 0, at = 0; k < nruns; at += v[k++].len) {
		end = at + v[k].len;
		if (v[k].len - v[k].used < ZEROS_MIN && k + 1 < nruns)
			continue;
		p = put_raw_blocks(p, raw, begin, at + v[k].used, n, RAW_COPY);
		p = put_raw_blocks(p, raw, at + v[k].used, end, n, RAW_ZEROS);
		begin = end;
	}
	put_le32(p, (uint32_t)XXH64(raw, n, 0));
	return (size_t)(p + CHECKSUM_BYTES - out);
}

size_t frame_put_raw(const void *raw, size_t used, size_t n, void *frame)
{
	return frame_put_runs(raw, &(struct frame_run){ n, used }, 1, n, frame);
}

int frame_compress_error(size_t code)
{
	return ZSTD_getErrorCode(code) == ZSTD_error_memory_allocation ? -ENOMEM : -EIO;
}

static void begin_compress(ZSTD_CCtx *c, int level)
{
	ZSTD_CCtx_reset(c, ZSTD_reset_session_and_parameters);
	ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, level);
	ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 1);
	ZSTD_CCtx_setParameter(c, ZSTD_c_contentSizeFlag, 1);
}

int frame_compress(ZSTD_CCtx *c, int level, const void *raw, size_t n, void *frame, size_t cap, size_t *len_out)
{
	size_t len;

	begin_compress(c, level);
	len = ZSTD_compress2(c, frame, cap, raw, n);
	if (ZSTD_isError(len))
		return frame_compress_error(len);
	*len_out = len;
	return 0;
}

/* Compresses `n` bytes behind those before, and ends a block of the frame there, or the frame. */
static int compress_part(ZSTD_CCtx *c, const void *raw, size_t n, bool last, ZSTD_outBuffer *to)
{
	ZSTD_inBuffer from = { raw, n, 0 };
	size_t left;

	do {
		left = ZSTD_compressStream2(c, to, &from, last ? ZSTD_e_end : ZSTD_e_flush);
		if (ZSTD_isError(left))
			return frame_compress_error(left);
	} while (left && to->pos < to->size);
	return left ? -ENOSPC : 0;
}

int frame_compress_parts(ZSTD_CCtx *c, int level, const void *raw, const size_t *parts, size_t nparts, size_t n, void *frame, size_t cap,
			 size_t *len_out)
{
	ZSTD_outBuffer to = { frame, cap, 0 };
	size_t begin = 0, end = 0;
	int err = 0;

	begin_compress(c, level);
	if (ZSTD_isError(ZSTD_CCtx_setPledgedSrcSize(c, n)))
		return -EIO;
	for (size_t k = 0; k < nparts && !err; k++) {
		end += parts[k];
		if (end - begin < PART_MIN || end == n)
			continue;
		err = compress_part(c, (const uint8_t *)raw + begin, end - begin, false, &to);
		begin = end;
	}
	if (!err)
		err = compress_part(c, (const uint8_t *)raw + begin, n - begin, true, &to);
	*len_out = to.pos;
	return err;
}

bool frame_fits(const uint8_t *frame, size_t len, size_t n)
{
	if (len < 5 || get_le32(frame) != ZSTD_MAGICNUMBER)
		return false;
	if (!(frame[4] & FRAME_CHECKSUM) || (frame[4] & FRAME_DICT_MASK))
		return false;
	return ZSTD_getFrameContentSize(frame, len) == n &&
	       ZSTD_findFrameCompressedSize(frame, len) == len;
}

int frame_decompress(const void *frame, size_t frame_len, void *out, size_t n)
{
	ZSTD_DCtx *d = decompressor_get();

	if (!d)
		return -ENOMEM;
	if (PLANTED(PLANT_NO_CHECKSUM)) /* ZSTD_d_forceIgnoreChecksum */
		ZSTD_DCtx_setParameter(d, ZSTD_d_experimentalParam3, 1);
	return ZSTD_decompressDCtx(d, out, n, frame, frame_len) == n ? 0 : -EUCLEAN;
}
