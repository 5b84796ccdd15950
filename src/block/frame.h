/*
 * Zstd frames with content size and checksum (RFC 8878), so that `zstd -d` reads them: compressed ones, and ones of raw blocks,
 * written by hand.
 *
 * Thread-safe: contexts are per thread. Nothing blocks.
 */
#ifndef SPILLFS_BLOCK_FRAME_H
#define SPILLFS_BLOCK_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <zstd.h>

/* More is in no frame. */
#define FRAME_RAW_MAX UINT32_MAX

/* Bytes of a block, of which those behind the first `used` are zeros. */
struct frame_run {
	size_t len, used;
};

/* The calling thread's; NULL: no memory. */
ZSTD_CCtx *frame_compressor(void);
/* Capacity that a frame of n bytes needs. */
size_t frame_bound(size_t n);
/* n > 0 bytes become a frame of raw blocks, its length is returned; those behind the first `used` are zeros. */
size_t frame_put_raw(const void *raw, size_t used, size_t n, void *frame);
/* The same of all runs, one behind another, where zeros may be anywhere. */
size_t frame_put_runs(const void *raw, const struct frame_run *v, size_t nruns, size_t n, void *frame);
/* Length of what frame_put_raw makes. */
size_t frame_raw_len(size_t used, size_t n);
/* The error for what zstd returned when it could not compress: -ENOMEM, which passes, or -EIO (library failure). */
int frame_compress_error(size_t code);
/* Compresses at a level of zstd that is not 0. -ENOMEM, -EIO (library failure). */
int frame_compress(ZSTD_CCtx *c, int level, const void *raw, size_t n, void *frame, size_t cap, size_t *len_out);
/* The same, where each of the parts, which follow one another, is of its own kind: none shares a table of codes with another, unless it is
 * short. -ENOSPC: cap is too small; codec_bound() need not do. */
int frame_compress_parts(ZSTD_CCtx *c, int level, const void *raw, const size_t *parts, size_t nparts, size_t n, void *frame, size_t cap,
			 size_t *len_out);
/* Is it one frame (not a skippable one), with checksum, without dictionary, of n bytes, and nothing behind? */
bool frame_fits(const uint8_t *frame, size_t len, size_t n);
/* -EUCLEAN: it is damaged. -ENOMEM. */
int frame_decompress(const void *frame, size_t frame_len, void *out, size_t n);

#endif
