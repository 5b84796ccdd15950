/*
 * Fuzz target: any seek table behind the frames of a valid layer. The first byte says what is put right: 1 the magic numbers, the length and the
 * number of entries, 2 the last entry, which is that of the index, 4 the first one. The rest are the entries and the footer. A table
 * that is taken is that of the file, or its damage is found.
 */
#include <errno.h>
#include <stdbool.h>

#include "block/cache.h"
#include "block/codec.h"
#include "block/layer.h"
#include "block/layer/inside.h"
#include "fuzz.h"
#include "io/io.h"
#include "util/account.h"

#define NBLOCKS 3
#define FILE_MAX 4096

static const uint8_t uuid[16] = { 1 };

/* What a valid file has before its seek table, and how its table is. */
static struct {
	uint8_t bytes[FILE_MAX];
	size_t n, index_len;
	struct layer_seek_entry seek[NBLOCKS + 3]; /* header, frames, segment, index */
	struct io_dir *dir;
	struct io *io;
} valid;

static void add_blocks(struct layer *l)
{
	struct codec_params p = { .level = 3, .policy = CODEC_POLICY_NONE, .elem_bytes = 1 };
	struct index_record *r;
	struct index ix;
	struct filter filter;
	uint64_t off;
	struct codec_hint hint = CODEC_HINT_NONE;

	index_init(&ix);
	CHECK_OK(index_add(&ix, 20, &r));
	r->block_bytes = 4096;
	r->facts.size_bytes = NBLOCKS * 4096;
	for (uint64_t i = 0; i < NBLOCKS; i++) {
		struct layer_block b = { .block = i, .layer = 1, .frame_raw = 100, .raw_len = 100 };
		uint8_t raw[100], frame[512];
		size_t len;

		memset(raw, (int)i, sizeof(raw));
		CHECK_OK(codec_encode(&p, raw, sizeof(raw), frame, sizeof(frame), &hint, &len, &filter));
		CHECK_OK(layer_append(l, frame, len, sizeof(raw), 0, &b.frame_off));
		b.frame_len = (uint32_t)len;
		CHECK_OK(index_record_put(r, &b));
	}
	CHECK_OK(layer_segment(l, &ix, 1, 1, &off));
	index_fini(&ix);
}

static void make_valid(void)
{
	struct layer_seek_entry *seek;
	struct layer *l;

	CHECK_OK(io_mem_dir(&valid.dir));
	CHECK_OK(io_mkdir(valid.dir, "layers"));
	CHECK_OK(layer_create(valid.dir, 1, uuid, &l));
	add_blocks(l);
	CHECK_OK(layer_set_chain(l, (const uint64_t[]){ 1 }, 1));
	CHECK_OK(layer_seal(l, 1, 1));
	CHECK_OK(layer_read_table(l, &seek));
	CHECK(l->nframes == NBLOCKS + 3 && l->table_off <= sizeof(valid.bytes));
	memcpy(valid.seek, seek, sizeof(valid.seek));
	valid.n = l->table_off;
	free(seek);
	layer_close(l);
	CHECK_OK(io_open(valid.dir, "layers/00000001.zst", 0, &valid.io));
	CHECK_OK(io_pread(valid.io, valid.bytes, valid.n, 0));
}

/* The table of `data`, without its skippable head, put right as the flags say. */
static void put_right(uint8_t *table, size_t n, unsigned flags)
{
	struct layer_seek_footer footer;
	size_t nframes = n < sizeof(footer) ? 0 : (n - sizeof(footer)) / sizeof(*valid.seek), end = nframes * sizeof(*valid.seek);

	if ((flags & 1) && nframes) {
		footer = (struct layer_seek_footer){ .nframes = (uint32_t)nframes, .magic = LAYER_SEEK_FOOTER_MAGIC };
		memcpy(table + n - sizeof(footer), &footer, sizeof(footer));
	}
	if ((flags & 2) && nframes)
		memcpy(table + end - sizeof(*valid.seek), &valid.seek[NBLOCKS + 2], sizeof(*valid.seek));
	if ((flags & 4) && nframes)
		memcpy(table, &valid.seek[0], sizeof(*valid.seek));
}

static void write_file(const uint8_t *table, size_t n, unsigned flags)
{
	struct layer_skip skip = { LAYER_SEEK_MAGIC, (uint32_t)n };

	if (!(flags & 1) && n)
		skip.len_bytes ^= table[0] >> 7;
	CHECK_OK(io_truncate(valid.io, valid.n));
	CHECK_OK(io_pwrite(valid.io, &skip, sizeof(skip), valid.n));
	if (n)
		CHECK_OK(io_pwrite(valid.io, table, n, valid.n + sizeof(skip)));
}

static int no_record(void *ctx, const struct index_record *r)
{
	CHECK(r->facts.ino == *(uint64_t *)ctx);
	return 0;
}

/* Without the index as a whole. */
static void look(struct layer *l)
{
	struct index_record *r;
	struct index_reader *in;
	struct account a;
	struct cache *cache;
	uint64_t ino = 20;

	account_init(&a, 1 << 20);
	CHECK_OK(cache_new(&a, &cache));
	layer_with_record(l, cache, ino, no_record, &ino);
	cache_free(cache);
	if (layer_read_pieces(l, &in))
		return;
	while (!layer_next_record(l, in, &r))
		index_record_free(r);
	index_reader_free(in);
}

static bool is_valid(const struct layer_frame *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (i == NBLOCKS + 3 || v[i].len != valid.seek[i].stored_bytes || v[i].raw != valid.seek[i].raw_bytes)
			return false;
	return n == NBLOCKS + 3;
}

static void try_open(void)
{
	struct layer_frame *v;
	struct layer *l;
	uint64_t end = 0;
	size_t n;

	if (layer_open_frames(valid.dir, 1, uuid, &l))
		return;
	look(l);
	if (!layer_frames(l, &v, &n)) {
		for (size_t i = 0; i < n; i++) {
			CHECK(v[i].off == end);
			end += v[i].len;
		}
		CHECK(end == valid.n);
		CHECK(!layer_verify(l, true, NULL, NULL) == is_valid(v, n));
		free(v);
	}
	layer_load_index(l);
	layer_close(l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	unsigned flags = (unsigned)fuzz_number(&in, 1);
	uint8_t *table;
	size_t n;

	if (!valid.n)
		make_valid();
	table = fuzz_bytes(&in, in.n, &n);
	put_right(table, n, flags);
	write_file(table, n, flags);
	try_open();
	free(table);
	return 0;
}
