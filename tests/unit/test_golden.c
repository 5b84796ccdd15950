/*
 * The golden layer, tests/golden/layers/00000001.zst: decoded here by offsets, without format.h, and
 * opened by block/layer; and the golden store, tests/golden/store, which is opened, read, changed and rebuilt as a whole. A change of
 * the format shows here first. make_golden.c has written the files.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>
#include <zstd.h>

#include "block/layer.h"
#include "hostile/image.h"
#include "store/rebuild.h"
#include "unit.h"
#include "world.h"

#define FILE_BYTES 1922
#define FRAME_A 0x38  /* 263 bytes: 256 shuffled i32 */
#define FRAME_B 0x13f /* 33: "hello gold" and "layers" in one raw frame */
#define SEGMENT_1 0x160
#define FRAME_C 0x2e5 /* 25: three i32 */
#define SEGMENT_2 0x2fe
#define INDEX 0x4e0
#define INDEX_BODY (INDEX + 8 + 104)
#define SEEK_TABLE 0x739
#define BODY_BYTES 1480

static uint8_t file[FILE_BYTES];
static uint8_t body[BODY_BYTES]; /* of the index, decoded */

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
	CHECK_EQ(ZSTD_decompress(body, sizeof(body), file + INDEX_BODY, SEEK_TABLE - INDEX_BODY), BODY_BYTES);
}

static uint64_t get_le(const uint8_t *p, size_t width)
{
	uint64_t v = 0;

	for (size_t i = 0; i < width; i++)
		v |= (uint64_t)p[i] << (8 * i);
	return v;
}

static uint64_t le(size_t at, size_t width)
{
	CHECK(at + width <= FILE_BYTES);
	return get_le(file + at, width);
}

static uint64_t body_le(size_t at, size_t width)
{
	CHECK(at + width <= BODY_BYTES);
	return get_le(body + at, width);
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
	CHECK_EQ(le(16, 4), 2);
	CHECK_EQ(le(20, 4), 0);
	CHECK_EQ(le(24, 8), 1);
	for (size_t i = 0; i < 16; i++)
		CHECK_EQ(file[32 + i], i);
	CHECK_EQ(le(48, 8), XXH64(file + 8, 40, 0));
}

struct head {
	size_t at;
	uint64_t len, kind, prev, commit, time, raw, stored, nrecords, nnames, nchain, body;
};

static void check_head(const struct head *h)
{
	size_t at = h->at + 8;

	CHECK_EQ(le(h->at, 4), 0x184D2A53);
	CHECK_EQ(le(h->at + 4, 4), h->len);
	CHECK(!memcmp(file + at, "SPILLIDX", 8));
	CHECK_EQ(le(at + 8, 4), 2);
	CHECK_EQ(le(at + 12, 4), h->kind);
	CHECK_EQ(le(at + 16, 8), 1);
	CHECK_EQ(le(at + 24, 8), h->prev);
	CHECK_EQ(le(at + 32, 8), h->commit);
	CHECK_EQ(le(at + 40, 8), h->time);
	CHECK_EQ(le(at + 48, 8), h->raw);
	CHECK_EQ(le(at + 56, 8), h->stored);
	CHECK_EQ(le(at + 64, 8), h->nrecords);
	CHECK_EQ(le(at + 72, 8), h->nnames);
	CHECK_EQ(le(at + 80, 8), h->nchain);
	CHECK_EQ(le(at + 88, 8), h->body);
	CHECK_EQ(le(at + 96, 8), hash_without(at, h->len, 96));
	CHECK_EQ(ZSTD_getFrameContentSize(file + at + 104, h->len - 104), h->body);
	CHECK_EQ(ZSTD_findFrameCompressedSize(file + at + 104, h->len - 104), h->len - 104);
}

UNIT_TEST(golden_index_heads)
{
	load();
	check_head(&(struct head){ SEGMENT_1, 0x17d, 1, 0, 6, 1700000000000000000, 1040, 296, 3, 4, 0, 752 });
	check_head(&(struct head){ SEGMENT_2, 0x1da, 1, SEGMENT_1, 7, 1700000000123456789, 12, 25, 5, 3, 0, 1000 });
	check_head(&(struct head){ INDEX, 0x251, 2, 0, 7, 1700000000123456789, 1052, 321, 6, 7, 2, BODY_BYTES });
}

struct rec {
	uint64_t len, type, kind, ino, mode, size, block, nblocks, ntombs;
	const char *path, *dtype, *shape, *target;
	uint64_t xattrs_len, data_len;
	const char *rest; /* xattrs and data */
};

/* Checks the record at `at`; returns where the next one begins. */
static size_t check_record(size_t at, const struct rec *r)
{
	size_t text = at + 128 + r->nblocks * 64 + r->ntombs * 16, rest = r->xattrs_len + r->data_len;
	char want[64];

	CHECK_EQ(body_le(at, 4), r->len);
	CHECK_EQ(body_le(at + 4, 2), r->type);
	CHECK_EQ(body_le(at + 6, 2), r->kind);
	CHECK_EQ(body_le(at + 8, 8), r->ino);
	CHECK_EQ(body_le(at + 16, 8), 1);
	CHECK_EQ(body_le(at + 24, 8), r->size);
	CHECK_EQ(body_le(at + 32, 8), r->nblocks);
	CHECK_EQ(body_le(at + 40, 8), r->ntombs);
	CHECK_EQ(body_le(at + 48, 8), r->ino * 1000000000 + 5);
	CHECK_EQ(body_le(at + 56, 8), r->ino * 1000000000 + 6);
	CHECK_EQ(body_le(at + 64, 8), r->ino * 1000000000 + 4);
	CHECK_EQ(body_le(at + 72, 8), 0);
	CHECK_EQ(body_le(at + 80, 8), 0);
	CHECK_EQ(body_le(at + 88, 4), r->mode);
	CHECK_EQ(body_le(at + 92, 4), 1000);
	CHECK_EQ(body_le(at + 96, 4), 1001);
	CHECK_EQ(body_le(at + 100, 4), r->block);
	CHECK_EQ(body_le(at + 104, 2), strlen(r->path));
	CHECK_EQ(body_le(at + 106, 2), strlen(r->dtype));
	CHECK_EQ(body_le(at + 108, 2), strlen(r->shape));
	CHECK_EQ(body_le(at + 110, 2), strlen(r->target));
	CHECK_EQ(body_le(at + 112, 4), r->xattrs_len);
	CHECK_EQ(body_le(at + 116, 4), r->data_len);
	CHECK_EQ(body_le(at + 120, 8), r->ino * 100 + 1);
	snprintf(want, sizeof(want), "%s%s%s%s", r->path, r->dtype, r->shape, r->target);
	CHECK(!memcmp(body + text, want, strlen(want)));
	text += strlen(want);
	CHECK(!rest || !memcmp(body + text, r->rest, rest));
	for (text += rest; text < at + r->len; text++)
		CHECK_EQ(body[text], 0);
	return at + r->len;
}

struct blk {
	uint64_t block, off, len, raw, raw_off, raw_len, filter, elem, stat, min, max;
};

static void check_block(size_t at, const struct blk *b)
{
	CHECK_EQ(body_le(at, 8), b->block);
	CHECK_EQ(body_le(at + 8, 8), 1);
	CHECK_EQ(body_le(at + 16, 8), b->off);
	CHECK_EQ(body_le(at + 24, 4), b->len);
	CHECK_EQ(body_le(at + 28, 4), b->raw);
	CHECK_EQ(body_le(at + 32, 4), b->raw_off);
	CHECK_EQ(body_le(at + 36, 4), b->raw_len);
	CHECK_EQ(body_le(at + 40, 1), b->filter);
	CHECK_EQ(body_le(at + 41, 1), b->elem);
	CHECK_EQ(body_le(at + 42, 1), b->stat);
	CHECK_EQ(body_le(at + 43, 1), 0);
	CHECK_EQ(body_le(at + 44, 4), 0);
	CHECK_EQ(body_le(at + 48, 8), b->min);
	CHECK_EQ(body_le(at + 56, 8), b->max);
}

#define DEBUT "d\xc3\xa9" "but"

UNIT_TEST(golden_index_entries)
{
	size_t at = 0, next;

	load();
	next = check_record(at, &(struct rec){ 0x158, 1, 3, 10, 0100640, 2060, 1024, 3, 0, "a/numbers.i32", "i32", "515",
					       "", 0, 0, NULL });
	check_block(at + 128, &(struct blk){ 0, FRAME_A, 263, 1024, 0, 1024, 1, 4, 3, 0xfffffffb, 254995 });
	check_block(at + 192, &(struct blk){ 1, 0, 0, 1024, 0, 1024, 0, 0, 0, 0, 0 });
	check_block(at + 256, &(struct blk){ 2, FRAME_C, 25, 12, 0, 12, 0, 4, 0, 0, 0 });
	at = next;
	next = check_record(at, &(struct rec){ 0xc8, 1, 3, 11, 0100640, 10, 4096, 1, 0, "hello", "u8", "", "", 0, 0,
					       NULL });
	check_block(at + 128, &(struct blk){ 0, FRAME_B, 33, 16, 0, 10, 0, 1, 0, 0, 0 });
	at = next;
	next = check_record(at, &(struct rec){ 0xe8, 1, 3, 12, 0100640, 12294, 4096, 1, 2, DEBUT, "u8", "", "", 0, 0,
					       NULL });
	check_block(at + 128, &(struct blk){ 3, FRAME_B, 33, 16, 10, 6, 0, 1, 0, 0, 0 });
	CHECK_EQ(body_le(at + 192, 8), 0);
	CHECK_EQ(body_le(at + 200, 8), 2);
	CHECK_EQ(body_le(at + 208, 8), 4);
	CHECK_EQ(body_le(at + 216, 8), UINT64_MAX);
	at = next;
	at = check_record(at, &(struct rec){ 0x90, 2, 3, 13, 0100640, 0, 4096, 0, 0, "old.f64", "f64", "", "", 0, 0,
					     NULL });
	at = check_record(at, &(struct rec){ 0x90, 1, 0, 14, 0120777, 7, 0, 0, 0, "link", "", "", "a/b/c.d", 0, 0,
					     NULL });
	at = check_record(at, &(struct rec){ 0xa8, 1, 2, 15, 0100640, 6, 0, 0, 0, "small.u8", "u8", "", "", 19, 6,
					     "\x06\0\0\0\x05\0\0\0user.kvalueinline" });
	CHECK_EQ(at, 0x4d0);
}

static size_t check_name(size_t at, uint64_t parent, const char *name, uint64_t ino)
{
	size_t len = strlen(name), end = at + (24 + len + 7) / 8 * 8;

	CHECK_EQ(body_le(at, 4), end - at);
	CHECK_EQ(body_le(at + 4, 2), len);
	CHECK_EQ(body_le(at + 6, 2), 0);
	CHECK_EQ(body_le(at + 8, 8), parent);
	CHECK_EQ(body_le(at + 16, 8), ino);
	CHECK(!memcmp(body + at + 24, name, len));
	for (size_t i = at + 24 + len; i < end; i++)
		CHECK_EQ(body[i], 0);
	return end;
}

UNIT_TEST(golden_names_and_chain)
{
	size_t at = 0x4d0;

	load();
	at = check_name(at, 3, "small.u8", 15);
	at = check_name(at, 4, "a", 9);
	at = check_name(at, 4, DEBUT, 12);
	at = check_name(at, 4, "hello", 11);
	at = check_name(at, 4, "link", 14);
	at = check_name(at, 4, "old.f64", 0);
	at = check_name(at, 9, "numbers.i32", 10);
	CHECK_EQ(body_le(at, 8), 2);
	CHECK_EQ(body_le(at + 8, 8), 1);
	CHECK_EQ(at + 16, BODY_BYTES);
}

UNIT_TEST(golden_seek_table)
{
	static const uint64_t entries[7][2] = { { 56, 0 },    { 263, 1024 }, { 33, 16 },
						{ 0x185, 0 }, { 25, 12 },    { 0x1e2, 0 },
						{ 0x259, 0 } };
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
	CHECK_EQ(layer_index(l)->n, 6);
	CHECK_EQ(layer_index(l)->nnames, 7);
	CHECK_EQ(layer_index(l)->nchain, 2);
	CHECK_OK(layer_verify(l, true, NULL, NULL));
	r = index_find(layer_index(l), 10);
	CHECK(r && r->nblocks == 3);
	CHECK_OK(layer_decode(l, &r->blocks[0], "golden", 0, out));
	for (int32_t i = 0; i < 256; i++)
		CHECK_EQ(out[i], i * 1000 - 5);
	CHECK_EQ(index_find(layer_index(l), 13)->type, LAYER_REC_GONE);
	layer_close(l);
	io_dir_close(d);
}

/* ---- the store ---- */

static struct io_dir *golden_store(void)
{
	char path[4200];
	struct image im;
	struct io_dir *d;
	int fd;

	snprintf(path, sizeof(path), "%s/store", golden_dir());
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(fd >= 0);
	CHECK_OK(io_file_dir(fd, IO_BACKING_BUFFERED, NULL, &d));
	image_of_dir(d, &im);
	io_dir_close(d);
	d = image_to_mem(&im);
	image_free(&im);
	return d;
}

/* As make_golden.c has written it: u32 elements from `first` on. */
static void check_words(struct world *w, const char *path, uint32_t first, uint32_t seed, size_t n, size_t size)
{
	unsigned char *p;
	size_t len;

	CHECK_OK(world_read(w, path, &p, &len));
	CHECK_EQ(len, size);
	for (size_t i = 0; i < n; i++)
		CHECK_EQ(get_le(p + (first + i) * 4, 4), (uint32_t)(seed + i * i / 64));
	free(p);
}

static void check_layers_and_columns(struct world *w)
{
	struct tree_attr a;
	char *target;

	check_words(w, "columns/small", 0, 3, 250, 1000);
	check_words(w, "columns/big.i64", 0, 4, 17500, 70000);
	check_words(w, "columns/table/c2.u32", 0, 5, 200, 800);
	check_words(w, "columns/table/again", 0, 3, 250, 1000);
	check_words(w, "layers/a.i32", 3072, 107, 1250, 20000);
	check_words(w, "layers/d/b", 0, 207, 500, 12000);
	check_words(w, "layers/d/e/c", 0, 8, 25, 100);
	check_words(w, "layers/d/e/n7", 0, 307, 1000, 4000);
	check_words(w, "snapshots/first/layers/a.i32", 0, 6, 5000, 20000);
	check_words(w, "snapshots/second/layers/d/e/n2", 0, 302, 1000, 4000);
	CHECK_EQ(world_walk(w, "snapshots/first/layers/d/e/n2", &a), -ENOENT);
	CHECK_EQ(world_walk(w, "layers/d/e/gone", &a), -ENOENT);
	CHECK_OK(tree_lookup(w->tree, META_INO_LAYERS, "d", NULL, &a));
	CHECK_OK(tree_lookup(w->tree, a.st.st_ino, "e", NULL, &a));
	CHECK_EQ(a.st.st_mode, S_IFDIR | 01777);
	CHECK_OK(tree_lookup(w->tree, a.st.st_ino, "link", NULL, &a));
	CHECK_OK(tree_readlink(w->tree, a.st.st_ino, &target));
	CHECK(!strcmp(target, "../b"));
	free(target);
}

static void check_xattr(struct world *w, const char *path, const char *name, const char *should)
{
	struct tree_attr a;
	size_t len;
	void *v;

	CHECK_OK(world_walk(w, path, &a));
	CHECK_OK(tree_lookup(w->tree, META_INO_BUCKETS, strrchr(path, '/') + 1, NULL, &a));
	CHECK_OK(tree_getxattr(w->tree, a.st.st_ino, name, &v, &len));
	if (len != strlen(should) || memcmp(v, should, len))
		unit_fail(__FILE__, __LINE__, "%s is %.*s", name, (int)len, (char *)v);
	free(v);
}

UNIT_TEST(golden_store_opens)
{
	struct io_dir *disk = golden_store();
	struct world w;

	for (int i = 0; i < 2; i++) {
		world_open(&w, disk, &world_config);
		check_layers_and_columns(&w);
		check_words(&w, "buckets/runs.u32", 0, 0, 750, 25000);
		check_words(&w, "buckets/runs.u32", 5750, 7, 500, 25000);
		check_words(&w, "buckets/d/holes", 5000, 1, 100, 20400);
		check_xattr(&w, "buckets/runs.u32", "user.spillfs.runs", "0 3000 6000 9000 12000 15000 17000 19000 21000 23000 25000");
		check_xattr(&w, "buckets/runs.u32", "user.note", "of no consequence");
		CHECK_OK(world_write(&w, META_INO_LAYERS, i ? "two" : "one", "new", 3));
		CHECK(!i || world_holds(&w, "layers/one", "new", 3));
		CHECK_OK(world_commit(&w));
		CHECK_OK(world_close(&w));
	}
	io_dir_close(disk);
}

static void say(void *ctx, const char *line)
{
	(void)ctx;
	fprintf(stderr, "%s\n", line);
}

UNIT_TEST(golden_store_is_rebuilt)
{
	struct io_dir *disk = golden_store(), *dir;
	struct rebuild_report report;
	struct store_refusal why;
	struct world w;

	CHECK_OK(io_unlink(disk, "meta.db"));
	CHECK_OK(io_mem_again(disk, &dir));
	CHECK_OK(store_rebuild(dir, NULL, "test", false, say, NULL, &report, &why));
	CHECK_EQ(report.lost, 1); /* the buckets */
	world_open(&w, disk, &world_config);
	check_layers_and_columns(&w);
	CHECK_OK(world_close(&w));
	io_dir_close(disk);
}

UNIT_TEST(golden_store_is_followed)
{
	struct store_config config = world_config;
	struct io_dir *disk = golden_store();
	struct world w;

	config.follow = true;
	world_open(&w, disk, &config);
	check_words(&w, "layers/d/e/n7", 0, 307, 1000, 4000);
	check_words(&w, "snapshots/first/layers/a.i32", 0, 6, 5000, 20000);
	CHECK_OK(world_close(&w));
	io_dir_close(disk);
}

/* Nothing is changed in what a later release has written. */
UNIT_TEST(golden_newer_format_is_refused)
{
	static const char mark[] = "spillfs 4\nuuid d05fe1b6-663e-4988-ac9c-62f86f8cb64b\n";
	struct io_dir *disk = golden_store(), *dir;
	struct store_config config = world_config;
	struct store_refusal why;
	struct store *s;

	CHECK_OK(io_replace(disk, "SPILLFS", "SPILLFS.tmp", mark, sizeof(mark) - 1));
	for (int i = 0; i < 2; i++) {
		config.follow = i;
		CHECK_OK(io_mem_again(disk, &dir));
		CHECK_EQ(store_open(dir, "/the/store", &config, &s, &why), STORE_ENEWER);
		CHECK(!strcmp(why.text, "/the/store: the store has format 4, this spillfs knows up to 3; use a newer spillfs"));
	}
	io_dir_close(disk);
}
