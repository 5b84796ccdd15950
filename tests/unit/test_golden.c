/*
 * The golden layer, tests/golden/layers/00000001.zst: decoded here by offsets, without format.h, and
 * opened by block/layer. A change of the format shows here first. make_golden.c has written the
 * file.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>
#include <zstd.h>

#include "block/layer.h"
#include "unit.h"

#define FILE_BYTES 2226
#define FRAME_A 0x38  /* 263 bytes: 256 shuffled i32 */
#define FRAME_B 0x13f /* 33: "hello gold" and "layers" in one raw frame */
#define SEGMENT_1 0x160
#define FRAME_C 0x368 /* 25: three i32 */
#define SEGMENT_2 0x381
#define INDEX 0x579
#define SEEK_TABLE 0x869

static uint8_t file[FILE_BYTES];

static const char *golden_dir(void)
{
	static char path[4096];
	const char *src = getenv("SRCDIR");

	snprintf(path, sizeof(path), "%s/tests/golden", src ? src : ".");
	return path;
}

static void load(void)
{
	char path[4200];
	FILE *f;

	snprintf(path, sizeof(path), "%s/layers/00000001.zst", golden_dir());
	f = fopen(path, "rb");
	CHECK(f);
	CHECK_EQ(fread(file, 1, sizeof(file), f), FILE_BYTES);
	CHECK_EQ(fgetc(f), EOF);
	fclose(f);
}

static uint64_t le(size_t at, size_t width)
{
	uint64_t v = 0;

	CHECK(at + width <= FILE_BYTES);
	for (size_t i = 0; i < width; i++)
		v |= (uint64_t)file[at + i] << (8 * i);
	return v;
}

/* Hash of [at, at + len) with the 8 bytes at `field` taken as zero. */
static uint64_t hash_without(size_t at, size_t len, size_t field)
{
	static uint8_t copy[FILE_BYTES];

	memcpy(copy, file + at, len);
	memset(copy + field, 0, 8);
	return XXH64(copy, len, 0);
}

UNIT_TEST(golden_header)
{
	load();
	CHECK_EQ(le(0, 4), 0x184D2A53);
	CHECK_EQ(le(4, 4), 48);
	CHECK(!memcmp(file + 8, "SPILLHDR", 8));
	CHECK_EQ(le(16, 4), 1);
	CHECK_EQ(le(20, 4), 0);
	CHECK_EQ(le(24, 8), 1);
	for (size_t i = 0; i < 16; i++)
		CHECK_EQ(file[32 + i], i);
	CHECK_EQ(le(48, 8), XXH64(file + 8, 40, 0));
}

struct head {
	size_t at;
	uint64_t len, kind, prev, commit, time, raw, stored, nrecords;
};

static void check_head(const struct head *h)
{
	size_t at = h->at + 8;

	CHECK_EQ(le(h->at, 4), 0x184D2A53);
	CHECK_EQ(le(h->at + 4, 4), h->len);
	CHECK(!memcmp(file + at, "SPILLIDX", 8));
	CHECK_EQ(le(at + 8, 4), 1);
	CHECK_EQ(le(at + 12, 4), h->kind);
	CHECK_EQ(le(at + 16, 8), 1);
	CHECK_EQ(le(at + 24, 8), h->prev);
	CHECK_EQ(le(at + 32, 8), h->commit);
	CHECK_EQ(le(at + 40, 8), h->time);
	CHECK_EQ(le(at + 48, 8), h->raw);
	CHECK_EQ(le(at + 56, 8), h->stored);
	CHECK_EQ(le(at + 64, 8), h->nrecords);
	CHECK_EQ(le(at + 72, 8), h->len - 88);
	CHECK_EQ(le(at + 80, 8), hash_without(at, h->len, 80));
}

UNIT_TEST(golden_index_heads)
{
	load();
	check_head(&(struct head){ SEGMENT_1, 0x200, 1, 0, 6, 1700000000000000000, 1040, 296, 3 });
	check_head(&(struct head){ SEGMENT_2, 0x1f0, 1, SEGMENT_1, 7, 1700000000123456789, 1036, 25,
				   3 });
	check_head(&(struct head){ INDEX, 0x2e8, 2, 0, 7, 1700000000123456789, 2076, 321, 4 });
}

struct rec {
	uint64_t len, type, ino, size, block, nblocks, ntombs;
	const char *path, *dtype, *shape;
};

/* Checks the record at `at`; returns where the next one begins. */
static size_t check_record(size_t at, const struct rec *r)
{
	size_t text = at + 72 + r->nblocks * 56 + r->ntombs * 16;
	char want[64];

	CHECK_EQ(le(at, 4), r->len);
	CHECK_EQ(le(at + 4, 2), r->type);
	CHECK_EQ(le(at + 6, 2), strlen(r->path));
	CHECK_EQ(le(at + 8, 8), r->ino);
	CHECK_EQ(le(at + 16, 8), r->size);
	CHECK_EQ(le(at + 24, 8), r->block);
	CHECK_EQ(le(at + 32, 8), r->nblocks);
	CHECK_EQ(le(at + 40, 8), r->ntombs);
	CHECK_EQ(le(at + 48, 8), r->ino * 1000000000 + 5);
	CHECK_EQ(le(at + 56, 4), 0100640);
	CHECK_EQ(le(at + 60, 4), 1000);
	CHECK_EQ(le(at + 64, 4), 1001);
	CHECK_EQ(le(at + 68, 2), strlen(r->dtype));
	CHECK_EQ(le(at + 70, 2), strlen(r->shape));
	snprintf(want, sizeof(want), "%s%s%s", r->path, r->dtype, r->shape);
	CHECK(!memcmp(file + text, want, strlen(want)));
	for (text += strlen(want); text < at + r->len; text++)
		CHECK_EQ(file[text], 0);
	return at + r->len;
}

struct blk {
	uint64_t block, off, len, raw, raw_off, raw_len, filter, elem, has, min, max;
};

static void check_block(size_t at, const struct blk *b)
{
	CHECK_EQ(le(at, 8), b->block);
	CHECK_EQ(le(at + 8, 8), b->off);
	CHECK_EQ(le(at + 16, 4), b->len);
	CHECK_EQ(le(at + 20, 4), b->raw);
	CHECK_EQ(le(at + 24, 4), b->raw_off);
	CHECK_EQ(le(at + 28, 4), b->raw_len);
	CHECK_EQ(le(at + 32, 1), b->filter);
	CHECK_EQ(le(at + 33, 1), b->elem);
	CHECK_EQ(le(at + 34, 1), b->has);
	CHECK_EQ(le(at + 35, 5), 0);
	CHECK_EQ(le(at + 40, 8), b->min);
	CHECK_EQ(le(at + 48, 8), b->max);
}

UNIT_TEST(golden_index_entries)
{
	size_t at = INDEX + 8 + 88, next;

	load();
	next = check_record(
		at, &(struct rec){ 0x108, 1, 10, 2060, 1024, 3, 0, "a/numbers.i32", "i32", "515" });
	check_block(at + 72,
		    &(struct blk){ 0, FRAME_A, 263, 1024, 0, 1024, 1, 4, 1, 0xfffffffb, 254995 });
	check_block(at + 128, &(struct blk){ 1, 0, 0, 1024, 0, 1024, 0, 0, 0, 0, 0 });
	check_block(at + 184, &(struct blk){ 2, FRAME_C, 25, 12, 0, 12, 0, 4, 0, 0, 0 });
	at = next;
	next = check_record(at, &(struct rec){ 0x88, 1, 11, 10, 4096, 1, 0, "hello", "u8", "" });
	check_block(at + 72, &(struct blk){ 0, FRAME_B, 33, 16, 0, 10, 0, 1, 0, 0, 0 });
	at = next;
	next = check_record(at, &(struct rec){ 0xa8, 1, 12, 12294, 4096, 1, 2,
					       "d\xc3\xa9"
					       "but",
					       "u8", "" });
	check_block(at + 72, &(struct blk){ 3, FRAME_B, 33, 16, 10, 6, 0, 1, 0, 0, 0 });
	CHECK_EQ(le(at + 128, 8), 0);
	CHECK_EQ(le(at + 136, 8), 2);
	CHECK_EQ(le(at + 144, 8), 4);
	CHECK_EQ(le(at + 152, 8), UINT64_MAX);
	at = next;
	next = check_record(at, &(struct rec){ 0x58, 2, 13, 0, 4096, 0, 0, "old.f64", "f64", "" });
	CHECK_EQ(next, SEEK_TABLE);
}

UNIT_TEST(golden_seek_table)
{
	static const uint64_t entries[7][2] = { { 56, 0 },    { 263, 1024 }, { 33, 16 },
						{ 0x208, 0 }, { 25, 12 },    { 0x1f8, 0 },
						{ 0x2f0, 0 } };
	uint64_t off = 0;

	load();
	CHECK_EQ(le(SEEK_TABLE, 4), 0x184D2A5E);
	CHECK_EQ(le(SEEK_TABLE + 4, 4), 7 * 8 + 9);
	for (size_t i = 0; i < 7; i++) {
		CHECK_EQ(le(SEEK_TABLE + 8 + 8 * i, 4), entries[i][0]);
		CHECK_EQ(le(SEEK_TABLE + 12 + 8 * i, 4), entries[i][1]);
		off += entries[i][0];
	}
	CHECK_EQ(off, SEEK_TABLE);
	CHECK_EQ(le(FILE_BYTES - 9, 4), 7);
	CHECK_EQ(le(FILE_BYTES - 5, 1), 0);
	CHECK_EQ(le(FILE_BYTES - 4, 4), 0x8F92EAB1);
}

UNIT_TEST(golden_blocks)
{
	static const uint8_t tail[12] = { 255, 255, 255, 255, 0, 0, 0, 0, 1, 0, 0, 0 };
	uint8_t out[1024];

	load();
	CHECK_EQ(ZSTD_decompress(out, sizeof(out), file + FRAME_A, 263), 1024);
	for (int32_t i = 0; i < 256; i++) {
		uint32_t v = 0;

		for (int k = 0; k < 4; k++)
			v |= (uint32_t)out[k * 256 + i] << (8 * k);
		CHECK_EQ((int32_t)v, i * 1000 - 5);
	}
	CHECK_EQ(ZSTD_decompress(out, sizeof(out), file + FRAME_B, 33), 16);
	CHECK(!memcmp(out, "hello goldlayers", 16));
	CHECK_EQ(ZSTD_decompress(out, sizeof(out), file + FRAME_C, 25), 12);
	CHECK(!memcmp(out, tail, 12));
}

UNIT_TEST(golden_opens)
{
	static const uint8_t uuid[16] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };
	int fd = open(golden_dir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	const struct index_record *r;
	int32_t out[256];
	struct io_dir *d;
	struct layer *l;

	CHECK(fd >= 0);
	CHECK_OK(io_file_dir(fd, IO_BACKING_BUFFERED, NULL, &d));
	CHECK_OK(layer_open(d, 1, uuid, &l));
	CHECK_EQ(layer_bytes(l), FILE_BYTES);
	CHECK_EQ(layer_frame_bytes(l), 321);
	CHECK_EQ(layer_head(l)->commit, 7);
	CHECK_EQ(layer_index(l)->n, 4);
	r = index_find(layer_index(l), 10);
	CHECK(r && r->nblocks == 3);
	CHECK_OK(layer_decode(l, &r->blocks[0], "golden", out));
	for (int32_t i = 0; i < 256; i++)
		CHECK_EQ(out[i], i * 1000 - 5);
	CHECK_EQ(index_find(layer_index(l), 13)->type, LAYER_REC_GONE);
	layer_close(l);
	io_dir_close(d);
}
