/*
 * Arrays as .zst files: all frames decode to the array, the seek table fits, sparse arrays give small files.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "array/layered/pin.h"
#include "block/format.h"
#include "unit.h"
#include "util/buf.h"
#include "view_world.h"

#define BLOCK (128u << 10)

/* Content that changes its nature from block to block: repetitive, random, none. */
static uint8_t *content(size_t n)
{
	uint8_t *p = calloc(1, n + 1);
	uint64_t seed = 7;

	unit_rand_fill(&seed, p, n);
	for (size_t i = 0; i < n; i++) {
		if (i / BLOCK % 3 == 1)
			p[i] = (uint8_t)(i / 100);
		else if (i / BLOCK % 3 == 2)
			p[i] = 0;
	}
	return p;
}

/* Follows the seek table; returns the number of frames. */
static uint32_t check_seek_table(const uint8_t *z, size_t n, size_t raw_size)
{
	struct layer_seek_footer foot;
	struct layer_seek_entry e;
	struct layer_skip head;
	size_t table, at = 0, raw = 0;

	memcpy(&foot, z + n - sizeof(foot), sizeof(foot));
	CHECK_EQ(foot.magic, LAYER_SEEK_FOOTER_MAGIC);
	CHECK_EQ(foot.descriptor, 0);
	table = n - sizeof(foot) - foot.nframes * sizeof(e) - sizeof(head);
	memcpy(&head, z + table, sizeof(head));
	CHECK_EQ(head.magic, LAYER_SEEK_MAGIC);
	CHECK_EQ(head.len_bytes, foot.nframes * sizeof(e) + sizeof(foot));
	for (uint32_t k = 0; k < foot.nframes; k++) {
		memcpy(&e, z + table + sizeof(head) + k * sizeof(e), sizeof(e));
		CHECK_EQ(ZSTD_findFrameCompressedSize(z + at, n - at), e.stored_bytes);
		CHECK_EQ(ZSTD_getFrameContentSize(z + at, n - at), e.raw_bytes);
		at += e.stored_bytes;
		raw += e.raw_bytes;
	}
	CHECK_EQ(at, table);
	CHECK_EQ(raw, raw_size);
	return foot.nframes;
}

static uint32_t check_file(struct world *w, struct array *a, const uint8_t *p, const char *save, size_t *stored_out)
{
	struct view_input in = { .name = "x" };
	size_t n = a->size_bytes, zn;
	uint8_t *z, *back = malloc(n + 1);
	struct view *v;
	char path[64];
	uint32_t nframes;

	CHECK_OK(view_new(&v));
	in.source = view_world_source(v, a);
	CHECK_OK(zst_lay(v, &in));
	z = view_world_read(w, v, &zn);
	CHECK_EQ(ZSTD_decompress(back, n + 1, z, zn), n);
	CHECK(!memcmp(back, p, n));
	nframes = check_seek_table(z, zn, n);
	snprintf(path, sizeof(path), "zst/%s.zst", save);
	view_world_save(path, z, zn);
	snprintf(path, sizeof(path), "zst/%s.raw", save);
	view_world_save(path, p, n);
	free(back);
	free(z);
	*stored_out = zn;
	return nframes;
}

UNIT_TEST(zst_of_all_kinds_and_lengths)
{
	static const size_t sizes[] = { 0, 1, 7, 4096, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 9 * BLOCK + 12345, 2500000 };
	static const enum array_kind kinds[] = { ARRAY_LAYERED, ARRAY_COLUMN, ARRAY_BUCKET };
	struct world w;

	view_world_open(&w);
	for (size_t k = 0; k < 5 * sizeof(sizes) / sizeof(*sizes); k++) {
		size_t n = sizes[k / 5], zn;
		uint8_t *p = content(n);
		struct array *a;
		char name[32];

		if (k % 5 < 3) /* AUTO: some blocks are shuffled, and come as raw blocks */
			a = view_world_array(&w, kinds[k % 5], p, n, BLOCK, CODEC_POLICY_AUTO, "f64");
		else /* packed; and of a block size that is no power of two */
			a = view_world_array(&w, ARRAY_LAYERED, p, n, k % 5 == 3 ? 8192 : 77824, CODEC_POLICY_NONE, NULL);
		snprintf(name, sizeof(name), "%zu-%zu", n, k % 5);
		check_file(&w, a, p, name, &zn);
		array_close(a);
		free(p);
	}
	world_close(&w);
}

UNIT_TEST(zst_frames_are_the_stored_ones)
{
	size_t n = 9 * BLOCK + 12345, zn;
	uint8_t *p = content(n);
	struct world w;
	struct block_ref ref;
	struct array *a, *pin;
	uint64_t stored = 0;

	view_world_open(&w);
	a = view_world_array(&w, ARRAY_LAYERED, p, n, BLOCK, CODEC_POLICY_NONE, NULL);
	CHECK_OK(pin_array(a, 0, n, &pin));
	for (uint64_t block = 0; block < 9; block++)
		stored += pin_block(pin, block, &ref) ? ref.frame_len : 14;
	array_close(pin);
	CHECK_EQ(check_file(&w, a, p, "stored", &zn), 10);
	/* The tail of 12345 bytes shares a pack, or has a frame. */
	CHECK(zn > stored && zn <= stored + 12345 + 20 + 8 + 10 * 8 + 9);
	array_close(a);
	world_close(&w);
	free(p);
}

UNIT_TEST(zst_of_sparse_arrays_is_small)
{
	static const uint64_t size = (1ull << 50) - 4096;
	struct view_input in = { .name = "x" };
	uint64_t raw = 0, at = 0;
	struct layer_seek_entry e;
	struct world w;
	struct array *a, *file;
	uint8_t head[64];
	struct view *v;
	size_t n;

	view_world_open(&w);
	a = view_world_array(&w, ARRAY_LAYERED, "first", 5, 0, CODEC_POLICY_AUTO, NULL);
	CHECK_OK(array_resize(a, size));
	CHECK_OK(array_write(a, "last", 4, 1ull << 40));
	CHECK_OK(array_flush(a));
	CHECK_OK(view_new(&v));
	in.source = view_world_source(v, a);
	CHECK_OK(zst_lay(v, &in));
	CHECK(view_size(v) < size / 30000);
	CHECK_OK(view_array(w.home, v, &file));
	/* The table stands at the end: 2^20 frames of a gigabyte, a few of single blocks. */
	CHECK_OK(array_read(file, head, sizeof(head), file->size_bytes - 9, &n));
	memcpy(&n, head, 4);
	n &= UINT32_MAX;
	CHECK(n > 1 << 20 && n < (1 << 20) + 10);
	for (size_t k = 0; k < n; k++) {
		size_t got;

		CHECK_OK(array_read(file, &e, sizeof(e), file->size_bytes - 9 - (n - k) * sizeof(e), &got));
		if (k % 50000 == 0 || (raw <= 1ull << 40 && raw + e.raw_bytes > 1ull << 40)) {
			CHECK_OK(array_read(file, head, sizeof(head), at, &got));
			CHECK_EQ(ZSTD_getFrameContentSize(head, sizeof(head)), e.raw_bytes);
			CHECK_OK(array_read(file, head, 4, at + e.stored_bytes, &got));
			CHECK(!memcmp(head, "\x28\xb5\x2f\xfd", 4));
		}
		raw += e.raw_bytes;
		at += e.stored_bytes;
	}
	CHECK_EQ(raw, size);
	array_close(file);
	array_close(a);
	world_close(&w);
}

/* Decodes n bytes in pieces; all but the last must be zeros. */
static void check_zeros_then(const uint8_t *z, size_t zn, uint64_t n, uint8_t last)
{
	static uint8_t buf[1 << 20];
	ZSTD_DStream *d = ZSTD_createDStream();
	ZSTD_inBuffer in = { z, zn, 0 };
	ZSTD_outBuffer out;
	uint64_t done = 0;

	do {
		out = (ZSTD_outBuffer){ buf, sizeof(buf), 0 };
		CHECK(!ZSTD_isError(ZSTD_decompressStream(d, &out, &in)));
		done += out.pos;
		if (done == n && out.pos)
			CHECK_EQ(buf[out.pos - 1], last);
		CHECK(buf_is_zero(buf, out.pos - (done == n && out.pos)));
	} while (in.pos < in.size || out.pos == out.size);
	CHECK_EQ(done, n);
	ZSTD_freeDStream(d);
}

UNIT_TEST(zst_of_a_hole_decodes)
{
	uint64_t n = (uint64_t)1100 << 20;
	struct view_input in = { .name = "x" };
	struct world w;
	struct array *a;
	struct view *v;
	uint8_t *z;
	size_t zn;

	view_world_open(&w);
	a = view_world_array(&w, ARRAY_LAYERED, NULL, 0, 0, CODEC_POLICY_AUTO, NULL);
	CHECK_OK(array_write(a, "\t", 1, n - 1));
	CHECK_OK(array_flush(a));
	CHECK_OK(view_new(&v));
	in.source = view_world_source(v, a);
	CHECK_OK(zst_lay(v, &in));
	z = view_world_read(&w, v, &zn);
	CHECK(zn < 300000);
	CHECK_EQ(check_seek_table(z, zn, n), 3);
	check_zeros_then(z, zn, n, '\t');
	view_world_save("zst-sparse/hole.zst", z, zn);
	free(z);
	array_close(a);
	world_close(&w);
}
