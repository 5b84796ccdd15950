/*
 * Pages, compressed.
 *
 * Invariants: (1) a context is one caller's between take and give; (2) the form is smaller than the pages by a page at least.
 *
 * The level is zstd's fastest but for the negative ones: a core compresses faster than a disk takes what comes out, so that who waits
 * for room waits for the disk.
 */
#include "io/pack.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "util/buf.h"

#define LEVEL 1
/* A sample is this many pages, spread evenly; of fewer than twice as many none is taken. */
#define SAMPLE_PAGES 4u
#define SAMPLE_BYTES (SAMPLE_PAGES * FRAME_PAGE)
/* A form has to be smaller by this part. */
#define GAIN_PART 16u

enum side { COMPRESSES, DECOMPRESSES };

void packer_init(struct packer *k)
{
	*k = (struct packer){ 0 };
	lock_init(&k->lock, RANK_MEM);
}

static void free_context(enum side side, void *c)
{
	if (side == COMPRESSES)
		ZSTD_freeCCtx(c);
	else
		ZSTD_freeDCtx(c);
}

void packer_fini(struct packer *k)
{
	for (int side = 0; side < 2; side++)
		while (k->nidle[side])
			free_context((enum side)side, k->idle[side][--k->nidle[side]]);
	lock_fini(&k->lock);
}

static void *new_context(enum side side)
{
	ZSTD_CCtx *c;

	if (side == DECOMPRESSES)
		return ZSTD_createDCtx();
	c = ZSTD_createCCtx();
	if (c) {
		ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, LEVEL);
		ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 1);
	}
	return c;
}

/* NULL: there is no memory. */
static void *take(struct packer *k, enum side side)
{
	void *c = NULL;

	lock_acquire(&k->lock);
	if (k->nidle[side])
		c = k->idle[side][--k->nidle[side]];
	lock_release(&k->lock);
	return c ? c : new_context(side);
}

static void give(struct packer *k, enum side side, void *c)
{
	lock_acquire(&k->lock);
	if (k->nidle[side] < PACKER_IDLE_MAX) {
		k->idle[side][k->nidle[side]++] = c;
		c = NULL;
	}
	lock_release(&k->lock);
	if (c)
		free_context(side, c);
}

/* ---- pages one after the other ---- */

static void gather(const unsigned char *mem, uint64_t data, unsigned char *to)
{
	unsigned first, n;

	for (; frames_run(&data, &first, &n); to += (size_t)n * FRAME_PAGE)
		memcpy(to, mem + (size_t)first * FRAME_PAGE, (size_t)n * FRAME_PAGE);
}

static void scatter(const unsigned char *from, uint64_t data, unsigned char *mem)
{
	unsigned first, n;

	for (; frames_run(&data, &first, &n); from += (size_t)n * FRAME_PAGE)
		memcpy(mem + (size_t)first * FRAME_PAGE, from, (size_t)n * FRAME_PAGE);
}

/* Are the pages one run? Then it begins there. */
static bool is_one_run(uint64_t data, size_t *begin)
{
	unsigned first, n;

	if (!frames_run(&data, &first, &n) || data)
		return false;
	*begin = (size_t)first * FRAME_PAGE;
	return true;
}

/* ---- both ways ---- */

/* The bytes that a form of n bytes may have. */
static size_t bound(size_t n)
{
	return n - n / GAIN_PART;
}

/* *len: 0: it does not fit. -ENOMEM: a context takes the most of its memory when it is used first. */
static int fit(ZSTD_CCtx *c, const unsigned char *raw, size_t n, unsigned char *to, size_t *len)
{
	size_t got = ZSTD_compress2(c, to, bound(n), raw, n);

	*len = ZSTD_isError(got) ? 0 : got;
	return ZSTD_getErrorCode(got) == ZSTD_error_memory_allocation ? -ENOMEM : 0;
}

static int fit_sample(ZSTD_CCtx *c, const unsigned char *raw, size_t npages, unsigned char *to, size_t *len)
{
	unsigned char sample[SAMPLE_BYTES];

	for (size_t i = 0; i < SAMPLE_PAGES; i++)
		memcpy(sample + i * FRAME_PAGE, raw + npages * (2 * i + 1) / (2 * SAMPLE_PAGES) * FRAME_PAGE, FRAME_PAGE);
	return fit(c, sample, sizeof(sample), to, len);
}

static int pack_raw(ZSTD_CCtx *c, const unsigned char *raw, size_t npages, unsigned char *to, unsigned *npages_out)
{
	size_t len = 1, whole;
	int err = 0;

	*npages_out = 0;
	if (npages < 2)
		return 0;
	if (npages >= 2 * SAMPLE_PAGES)
		err = fit_sample(c, raw, npages, to, &len);
	if (!err && len)
		err = fit(c, raw, npages * FRAME_PAGE, to, &len);
	if (err || !len)
		return err;
	whole = (len + FRAME_PAGE - 1) / FRAME_PAGE * FRAME_PAGE;
	memset(to + len, 0, whole - len);
	*npages_out = whole < npages * FRAME_PAGE ? (unsigned)(whole / FRAME_PAGE) : 0;
	return 0;
}

int pack(struct packer *k, const unsigned char *mem, uint64_t data, unsigned char *to, unsigned *npages)
{
	size_t begin, n = frames_count(data);
	bool gathers = !is_one_run(data, &begin);
	unsigned char *buf = gathers ? buf_alloc(FRAME_BYTES) : NULL;
	ZSTD_CCtx *c = gathers && !buf ? NULL : take(k, COMPRESSES);
	int err = c ? 0 : -ENOMEM;

	if (c) {
		if (gathers)
			gather(mem, data, buf);
		err = pack_raw(c, gathers ? buf : mem + begin, n, to, npages);
		give(k, COMPRESSES, c);
	}
	buf_free(buf, FRAME_BYTES);
	return err;
}

/* Behind the frame stand zeros. */
static int unpack_raw(ZSTD_DCtx *d, const unsigned char *from, size_t len, unsigned char *raw, size_t n)
{
	size_t frame = ZSTD_findFrameCompressedSize(from, len);

	if (ZSTD_isError(frame))
		return -EUCLEAN;
	return ZSTD_decompressDCtx(d, raw, n, from, frame) == n ? 0 : -EUCLEAN;
}

int unpack(struct packer *k, const unsigned char *from, unsigned npages, unsigned char *mem, uint64_t data)
{
	size_t begin, n = (size_t)frames_count(data) * FRAME_PAGE;
	bool scatters = !is_one_run(data, &begin);
	unsigned char *buf = scatters ? buf_alloc(FRAME_BYTES) : NULL;
	ZSTD_DCtx *d = scatters && !buf ? NULL : take(k, DECOMPRESSES);
	int err = d ? unpack_raw(d, from, (size_t)npages * FRAME_PAGE, scatters ? buf : mem + begin, n) : -ENOMEM;

	if (!err && scatters)
		scatter(buf, data, mem);
	if (d)
		give(k, DECOMPRESSES, d);
	buf_free(buf, FRAME_BYTES);
	return err;
}
