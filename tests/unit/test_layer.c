/*
 * block/layer.h, by the files of block/layer/: file, index, open, seal, recover and check, on io/mem, io/fault and a real directory.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "block/codec.h"
#include "block/layer.h"
#include "block/layer/inside.h"
#include "block/filter/shuffle.h"
#include "io/filefd.h"
#include "io/io.h"
#include "encode.h"
#include "unit.h"
#include "util/err.h"

#define BLOCK 1024
#define NAME "layers/00000001.zst"

static const uint8_t uuid[16] = "sixteen bytes..";
static uint64_t rand_state = 1;

static struct io_dir *mem_dir(void)
{
	struct io_dir *d;

	CHECK_OK(io_mem_dir(&d));
	CHECK_OK(io_mkdir(d, "layers"));
	return d;
}

static void block_bytes(uint64_t block, uint8_t out[BLOCK])
{
	for (size_t i = 0; i < BLOCK; i++)
		out[i] = (uint8_t)(block * 31 + i / 7);
}

static enum codec_policy block_policy(uint64_t block)
{
	return block % 2 ? CODEC_POLICY_SHUFFLE : CODEC_POLICY_NONE;
}

/* Appends a block's frame and notes it in `added`. */
static int append_block(struct layer *l, struct index *added, uint64_t ino, uint64_t block)
{
	struct codec_params p = { block % 3 ? 3 : 0, block_policy(block), 4, SUMMARY_NONE, { 0 } };
	uint8_t raw[BLOCK], frame[BLOCK * 2];
	struct layer_block b = { .block = block,
				 .layer = l->number,
				 .frame_raw = BLOCK,
				 .raw_len = BLOCK,
				 .elem_bytes = 4 };
	struct filter filter;
	struct index_record *r;
	struct codec_hint hint = CODEC_HINT_NONE;
	int err;
	size_t len;

	block_bytes(block, raw);
	CHECK_OK(codec_encode(&p, raw, BLOCK, frame, sizeof(frame), &hint, &len, &filter));
	err = layer_append(l, frame, len, BLOCK, 0, &b.frame_off);
	if (err)
		return err;
	b.frame_len = (uint32_t)len;
	b.filter = filter.steps;
	CHECK_OK(index_add(added, ino, &r));
	r->block_bytes = BLOCK;
	r->facts.size_bytes = (block + 1) * BLOCK;
	r->facts.stored_bytes = (block + 1) * 3;
	CHECK_OK(index_record_set_names(r, "prices.i32", "i32", ""));
	CHECK_OK(index_record_put(r, &b));
	return 0;
}

/* Every block of the index that is in this layer decodes to what was written. */
static size_t blocks_match(struct layer *l)
{
	const struct index *ix = layer_index(l);
	uint8_t want[BLOCK], got[BLOCK];
	size_t n = 0;

	for (size_t i = 0; i < ix->n; i++) {
		for (size_t k = 0; k < ix->v[i]->nblocks; k++) {
			if (ix->v[i]->blocks[k].layer != l->number)
				continue;
			n++;
			block_bytes(ix->v[i]->blocks[k].block, want);
			CHECK_OK(layer_decode(l, &ix->v[i]->blocks[k], "test", 0, got));
			CHECK(!memcmp(want, got, BLOCK));
		}
	}
	return n;
}

/* Blocks [first, end) and a segment behind them. */
static int write_segment(struct layer *l, uint64_t first, uint64_t end, uint64_t *off)
{
	struct index added;
	int err = 0;

	index_init(&added);
	for (uint64_t block = first; !err && block < end; block++)
		err = append_block(l, &added, 10 + block % 2, block);
	CHECK_OK(index_name_put(&added, 4, first ? "later" : "prices.i32", 10 + first % 2));
	if (!err)
		err = layer_segment(l, &added, 5, 1234567890, off);
	index_fini(&added);
	return err;
}

static struct layer *sealed_layer(struct io_dir *d)
{
	struct layer *l;
	uint64_t off;

	CHECK_OK(layer_create(d, 1, uuid, &l));
	CHECK_OK(write_segment(l, 0, 5, &off));
	CHECK_OK(write_segment(l, 5, 9, &off));
	CHECK_OK(layer_set_chain(l, (const uint64_t[]){ 7, 1 }, 2));
	CHECK_OK(layer_seal(l, 6, 42));
	CHECK_OK(layer_sync(l));
	return l;
}

UNIT_TEST(layer_names)
{
	static const char *const bad[] = { "",
					   "1.zst",
					   "00000001.zs",
					   "000000001.zst",
					   "0000000a.zst",
					   "HEAD",
					   "-0000001.zst",
					   "+0000001.zst",
					   " 0000001.zst",
					   "00000001.zst.tmp",
					   "99999999999999999999999.zst",
					   "9223372036854775808.zst",
					   "0x000001.zst" };
	static const uint64_t good[] = { 0, 1, 42, 99999999, 100000000, INT64_MAX };
	char name[LAYER_NAME_MAX];
	uint64_t number;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		CHECK_EQ(layer_name_parse(bad[i], &number), -EINVAL);
	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		layer_name(good[i], name);
		CHECK_OK(layer_name_parse(name, &number));
		CHECK_EQ(number, good[i]);
	}
	layer_name(42, name);
	CHECK(!strcmp(name, "00000042.zst"));
}

UNIT_TEST(layer_is_written_and_read)
{
	struct io_dir *d = mem_dir();
	struct layer *l = sealed_layer(d), *again;
	struct io *io;

	CHECK(layer_sealed(l));
	CHECK_EQ(blocks_match(l), 9);
	CHECK_OK(layer_open(d, 1, uuid, &again));
	CHECK(layer_sealed(again));
	CHECK_EQ(again->number, 1);
	CHECK_EQ(layer_bytes(again), layer_bytes(l));
	CHECK_EQ(layer_frame_bytes(again), layer_frame_bytes(l));
	CHECK_EQ(layer_head(again)->commit, 6);
	CHECK_EQ(layer_head(again)->time_ns, 42);
	CHECK_EQ(layer_head(again)->raw_bytes, 9 * BLOCK);
	CHECK_EQ(layer_head(again)->stored_bytes, layer_frame_bytes(l));
	CHECK_EQ(blocks_match(again), 9);
	CHECK(!strcmp(index_find(layer_index(again), 10)->path, "prices.i32"));
	CHECK_EQ(index_find(layer_index(again), 10)->facts.stored_bytes, 9 * 3);
	CHECK_EQ(index_find(layer_index(again), 11)->facts.stored_bytes, 8 * 3);
	CHECK_EQ(layer_head(again)->kind, LAYER_DELTA);
	CHECK_EQ(layer_index(again)->nnames, 2);
	CHECK_EQ(layer_index(again)->nchain, 2);
	CHECK_EQ(layer_index(again)->chain[0], 7);
	layer_close(again);
	layer_close(l);
	/* A leftover of the same number is truncated. */
	CHECK_OK(layer_create(d, 1, uuid, &l));
	CHECK_EQ(layer_bytes(l), 56);
	CHECK_EQ(layer_frame_bytes(l), 0);
	CHECK_OK(layer_seal(l, 1, 1));
	layer_close(l);
	CHECK_OK(layer_open(d, 1, uuid, &l));
	CHECK_EQ(layer_index(l)->n, 0);
	layer_close(l);
	CHECK_EQ(layer_open(d, 2, uuid, &l), -ENOENT);
	CHECK_EQ(layer_recover(d, 2, uuid, 56, 0, &l), -ENOENT);
	CHECK_EQ(layer_open(d, 1, (const uint8_t *)"another store...", &l), -EUCLEAN);
	CHECK_OK(io_open(d, "layers/00000003.zst", IO_CREATE, &io));
	io_close(io);
	CHECK_EQ(layer_open(d, 3, uuid, &l), -EUCLEAN);
	io_dir_close(d);
}

/* A segment with facts alone says nothing of the block size: the layer keeps that of the blocks. */
UNIT_TEST(layer_keeps_the_block_size)
{
	struct io_dir *d = mem_dir();
	struct index_record *r;
	struct index facts;
	struct layer *l;
	uint64_t off;

	CHECK_OK(layer_create(d, 1, uuid, &l));
	CHECK_OK(write_segment(l, 0, 2, &off));
	index_init(&facts);
	CHECK_OK(index_add(&facts, 10, &r));
	r->facts.stored_bytes = 12345;
	CHECK_OK(layer_segment(l, &facts, 6, 7, &off));
	index_fini(&facts);
	for (int pass = 0; pass < 3; pass++) { /* as written, recovered, sealed and opened */
		uint64_t bytes = layer_bytes(l);

		r = index_find(layer_index(l), 10);
		CHECK_EQ(r->block_bytes, BLOCK);
		CHECK_EQ(r->facts.stored_bytes, 12345);
		CHECK_EQ(r->nblocks, 1);
		CHECK_EQ(blocks_match(l), 2);
		if (pass == 1)
			CHECK_OK(layer_seal(l, 6, 7));
		layer_close(l);
		CHECK_OK(pass ? layer_open(d, 1, uuid, &l) : layer_recover(d, 1, uuid, bytes, off, &l));
	}
	layer_close(l);
	io_dir_close(d);
}

UNIT_TEST(layer_recovers_to_the_last_commit)
{
	struct io_dir *d = mem_dir();
	uint64_t first, second, committed, frames, size, stored, before;
	struct layer_frame *v;
	struct layer *l;
	struct io *io;
	size_t n;

	CHECK_OK(layer_create(d, 1, uuid, &l));
	CHECK_OK(write_segment(l, 0, 5, &first));
	CHECK_OK(write_segment(l, 5, 9, &second));
	committed = layer_bytes(l);
	frames = layer_frame_bytes(l);
	CHECK_OK(write_segment(l, 9, 30, &first));
	layer_close(l);
	CHECK_EQ(layer_recover(d, 1, uuid, committed + (1 << 20), second, &l), -EUCLEAN);
	CHECK_EQ(layer_recover(d, 1, uuid, committed, second + 1, &l), -EUCLEAN);
	CHECK_EQ(layer_recover(d, 1, uuid, committed, 56, &l), -EUCLEAN);
	CHECK_EQ(layer_recover(d, 1, uuid, committed - 1, second, &l), -EUCLEAN);
	CHECK_EQ(layer_recover(d, 1, uuid, 0, 0, &l), -EUCLEAN);
	CHECK_EQ(layer_open(d, 1, uuid, &l), -EUCLEAN);
	/* Looking reads the same, and cuts nothing. */
	CHECK_OK(io_open(d, NAME, IO_RDONLY, &io));
	CHECK_OK(io_size(io, &before, &stored));
	CHECK_EQ(layer_look(d, 1, uuid, committed, second + 1, &l), -EUCLEAN);
	CHECK_OK(layer_look(d, 1, uuid, committed, second, &l));
	CHECK_EQ(layer_bytes(l), committed);
	CHECK_EQ(blocks_match(l), 9);
	CHECK_OK(layer_verify(l, true, NULL, NULL));
	CHECK_OK(layer_frames(l, &v, &n));
	CHECK_EQ(v[0].off, 0);
	CHECK_EQ(v[n - 1].off + v[n - 1].len, committed);
	free(v);
	layer_close(l);
	CHECK_OK(io_size(io, &size, &stored));
	CHECK_EQ(size, before);
	CHECK(size > committed);
	io_close(io);
	CHECK_OK(layer_recover(d, 1, uuid, committed, second, &l));
	CHECK(!layer_sealed(l));
	CHECK_EQ(layer_bytes(l), committed);
	CHECK_EQ(layer_frame_bytes(l), frames);
	CHECK_EQ(blocks_match(l), 9);
	CHECK_OK(io_open(d, NAME, IO_RDONLY, &io));
	CHECK_OK(io_size(io, &size, &stored));
	CHECK_EQ(size, committed);
	io_close(io);
	/* And goes on as if nothing had been. */
	CHECK_OK(write_segment(l, 9, 12, &second));
	CHECK_OK(layer_seal(l, 8, 8));
	layer_close(l);
	CHECK_OK(layer_open(d, 1, uuid, &l));
	CHECK_EQ(blocks_match(l), 12);
	layer_close(l);
	io_dir_close(d);
}

/* Some blocks may be damaged; none decodes to anything else. Returns how many are. */
static unsigned damaged_blocks(struct layer *l)
{
	const struct index *ix = layer_index(l);
	uint8_t got[BLOCK], want[BLOCK];
	unsigned nbad = 0;

	for (size_t i = 0; i < ix->n; i++) {
		for (size_t k = 0; k < ix->v[i]->nblocks; k++) {
			int err = layer_decode(l, &ix->v[i]->blocks[k], "test", 0, got);

			CHECK(!err || err == -EUCLEAN);
			nbad += err != 0;
			block_bytes(ix->v[i]->blocks[k].block, want);
			CHECK(err || !memcmp(got, want, BLOCK));
		}
	}
	return nbad;
}

/* With one byte changed: opened in two steps it is refused like in one, and verifying finds what an open layer
 * shows of the damage. */
static bool damage_refused(struct io_dir *d, unsigned *unseen)
{
	struct layer *l, *frames;
	int err = layer_open(d, 1, uuid, &l), frames_err = layer_open_frames(d, 1, uuid, &frames);
	unsigned nbad;

	CHECK(!err || err == -EUCLEAN);
	CHECK(!frames_err || frames_err == -EUCLEAN);
	if (!frames_err) {
		CHECK_EQ(layer_load_index(frames), err);
		layer_close(frames);
	}
	CHECK(err || !frames_err);
	if (err)
		return true;
	nbad = damaged_blocks(l);
	CHECK(nbad <= 1);
	err = layer_verify(l, true, NULL, NULL);
	CHECK(err == -EUCLEAN || (!err && !nbad));
	*unseen += !err;
	layer_close(l);
	return false;
}

/* Flips bits in every byte of the file: it is refused, or the frame that was hit is. */
UNIT_TEST(layer_damage_is_found) /* index (1) (2), open (1) (4), check (1) */
{
	struct io_dir *d = mem_dir();
	struct layer *l = sealed_layer(d);
	uint64_t size = layer_bytes(l), refused = 0;
	unsigned unseen = 0;
	struct io *io;

	layer_close(l);
	CHECK_OK(io_open(d, NAME, 0, &io));
	for (uint64_t at = 0; at < size; at++) {
		uint8_t byte, bad;

		CHECK_OK(io_pread(io, &byte, 1, at));
		bad = byte ^ (uint8_t)(1 + unit_rand(&rand_state) % 255);
		CHECK_OK(io_pwrite(io, &bad, 1, at));
		refused += damage_refused(d, &unseen);
		CHECK_OK(io_pwrite(io, &byte, 1, at));
	}
	CHECK(refused > 56 + 104 + 9);
	CHECK(unseen <= 2 * 9); /* descriptor and window of frames, where they carry nothing */
	for (uint64_t cut = size; cut-- > 0;) {
		CHECK_OK(io_truncate(io, cut));
		CHECK_EQ(layer_open(d, 1, uuid, &l), -EUCLEAN);
	}
	io_close(io);
	io_dir_close(d);
}

struct seen {
	uint64_t last, calls, stop_at;
};

static int note_progress(void *ctx, uint64_t done_bytes)
{
	struct seen *s = ctx;

	CHECK(done_bytes > s->last);
	s->last = done_bytes;
	return ++s->calls == s->stop_at ? 99 : 0;
}

static void flip(struct io_dir *d, uint64_t at)
{
	struct io *io;
	uint8_t byte;

	CHECK_OK(io_open(d, NAME, 0, &io));
	CHECK_OK(io_pread(io, &byte, 1, at));
	byte ^= 0x5a;
	CHECK_OK(io_pwrite(io, &byte, 1, at));
	io_close(io);
}

/* A file with holes is as long as its maker likes: the table of an enemy's takes no memory. */
UNIT_TEST(layer_table_of_holes)
{
	const uint32_t n = 500u << 20;
	struct layer_skip skip = { .magic = LAYER_SEEK_MAGIC, .len_bytes = (uint32_t)(n * sizeof(struct layer_seek_entry) + sizeof(struct layer_seek_footer)) };
	const struct rlimit space = { 2ul << 30, 2ul << 30 };
	struct layer_seek_entry first, last;
	struct layer_seek_footer footer;
	struct io_dir *d = mem_dir();
	struct layer *l = sealed_layer(d);
	uint64_t size, table, end;
	struct io *f;

	layer_close(l);
	CHECK_OK(io_open(d, NAME, 0, &f));
	CHECK_OK(io_size(f, &size, &end));
	CHECK_OK(io_pread(f, &footer, sizeof(footer), size - sizeof(footer)));
	table = size - sizeof(footer) - footer.nframes * sizeof(first) - sizeof(skip);
	CHECK_OK(io_pread(f, &first, sizeof(first), table + sizeof(skip)));
	CHECK_OK(io_pread(f, &last, sizeof(last), size - sizeof(footer) - sizeof(last)));
	footer.nframes = n;
	end = table + sizeof(skip) + (uint64_t)n * sizeof(first);
	CHECK_OK(io_truncate(f, table));
	CHECK_OK(io_pwrite(f, &skip, sizeof(skip), table));
	CHECK_OK(io_pwrite(f, &first, sizeof(first), table + sizeof(skip)));
	CHECK_OK(io_pwrite(f, &last, sizeof(last), end - sizeof(last)));
	CHECK_OK(io_pwrite(f, &footer, sizeof(footer), end));
	io_close(f);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	CHECK(!setrlimit(RLIMIT_AS, &space));
#endif
	(void)space;
	CHECK_EQ(layer_open(d, 1, uuid, &l), -EUCLEAN);
	CHECK(strstr(err_text(-EUCLEAN), "seek table does not fit"));
	io_dir_close(d);
}

UNIT_TEST(layer_verify_walks_on) /* check (1) (2) */
{
	struct io_dir *d = mem_dir();
	struct layer *l = sealed_layer(d);
	const struct index_record *r = index_find(layer_index(l), 10);
	struct seen s = { 0, 0, 0 };

	CHECK_OK(layer_verify(l, false, NULL, NULL));
	CHECK_OK(layer_verify(l, true, note_progress, &s)); /* header, 9 blocks, 2 segments, index */
	CHECK_EQ(s.calls, 13);
	CHECK(s.last < layer_bytes(l) && s.last > layer_bytes(l) - 200);
	s = (struct seen){ 0, 0, 4 };
	CHECK_EQ(layer_verify(l, true, note_progress, &s), 99);
	CHECK_EQ(s.calls, 4);
	flip(d, r->blocks[0].frame_off + 200); /* inside a raw frame: only its checksum tells */
	CHECK_OK(layer_verify(l, false, NULL, NULL));
	s = (struct seen){ 0, 0, 0 };
	CHECK_EQ(layer_verify(l, true, note_progress, &s), -EUCLEAN);
	CHECK_EQ(s.calls, 13);
	flip(d, r->blocks[0].frame_off + 200);
	flip(d, r->blocks[1].frame_off); /* no frame any more */
	CHECK_EQ(layer_verify(l, false, NULL, NULL), -EUCLEAN);
	flip(d, r->blocks[1].frame_off);
	CHECK_OK(layer_verify(l, true, NULL, NULL));
	layer_close(l);
	io_dir_close(d);
}

UNIT_TEST(layer_recover_verifies_segments) /* recover (1) */
{
	struct io_dir *d = mem_dir();
	uint64_t first, second, committed;
	struct layer *l;
	struct io *io;

	CHECK_OK(layer_create(d, 1, uuid, &l));
	CHECK_OK(write_segment(l, 0, 3, &first));
	CHECK_OK(write_segment(l, 3, 5, &second));
	committed = layer_bytes(l);
	layer_close(l);
	CHECK_OK(io_open(d, NAME, 0, &io));
	for (uint64_t at = 0; at < committed; at++) {
		uint8_t byte, bad;
		int err;

		if (at == 56)
			at = first; /* the frames between are verified when they are read */
		CHECK_OK(io_pread(io, &byte, 1, at));
		bad = byte ^ (uint8_t)(1 + unit_rand(&rand_state) % 255);
		CHECK_OK(io_pwrite(io, &bad, 1, at));
		err = layer_recover(d, 1, uuid, committed, second, &l);
		if (at < 56 || at >= second)
			CHECK_EQ(err, -EUCLEAN);
		CHECK(!err || err == -EUCLEAN);
		if (!err)
			layer_close(l);
		CHECK_OK(io_pwrite(io, &byte, 1, at));
	}
	CHECK_OK(layer_recover(d, 1, uuid, committed, second, &l));
	layer_close(l);
	io_close(io);
	io_dir_close(d);
}

UNIT_TEST(layer_opens_in_two_steps) /* open (4) */
{
	struct io_dir *d = mem_dir();
	struct layer *whole = sealed_layer(d), *l;
	const struct index_record *r = index_find(layer_index(whole), 10);
	uint8_t want[BLOCK], got[BLOCK];

	CHECK(layer_has_index(whole));
	CHECK_OK(layer_open_frames(d, 1, uuid, &l));
	CHECK(layer_sealed(l) && !layer_has_index(l));
	CHECK_EQ(layer_bytes(l), layer_bytes(whole));
	CHECK_EQ(layer_frame_bytes(l), layer_frame_bytes(whole));
	CHECK(!memcmp(layer_head(l), layer_head(whole), sizeof(struct layer_index_head)));
	CHECK_OK(layer_decode(l, &r->blocks[2], "test", 0, got));
	block_bytes(r->blocks[2].block, want);
	CHECK(!memcmp(want, got, BLOCK));
	CHECK_OK(layer_verify(l, true, NULL, NULL));
	CHECK_OK(layer_load_index(l));
	CHECK_OK(layer_load_index(l));
	CHECK(layer_has_index(l));
	CHECK_EQ(blocks_match(l), 9);
	layer_close(l);
	layer_close(whole);
	CHECK_EQ(layer_open_frames(d, 2, uuid, &l), -ENOENT);
	io_dir_close(d);
}

static int fill_with(void *ctx, struct layer_filler *f)
{
	const struct index *ix = ctx;
	int err = 0;

	for (size_t i = 0; i < ix->n && !err; i++)
		err = layer_fill_record(f, ix->v[i]);
	for (size_t i = 0; i < ix->nnames && !err; i++)
		err = layer_fill_name(f, &ix->names[i]);
	return err;
}

UNIT_TEST(layer_refuses_entries_of_others)
{
	struct io_dir *d = mem_dir();
	struct index added, none;
	struct layer *l;
	uint64_t off, end;

	CHECK_OK(layer_create(d, 1, uuid, &l));
	index_init(&none);
	index_init(&added);
	CHECK_OK(append_block(l, &added, 10, 1));
	added.v[0]->blocks[0].layer = 2;
	end = layer_bytes(l);
	CHECK_EQ(layer_segment(l, &added, 1, 1, &off), -EINVAL);
	added.v[0]->blocks[0].layer = 1;
	added.v[0]->blocks[0].frame_len++;
	CHECK_EQ(layer_segment(l, &added, 1, 1, &off), -EINVAL);
	CHECK_EQ(layer_seal_full(l, fill_with, &added, 1, 1), -EINVAL);
	CHECK_EQ(layer_bytes(l), end);
	CHECK_EQ(layer_set_chain(l, (const uint64_t[]){ 1, 2 }, 2), -EINVAL);
	CHECK_OK(layer_set_chain(l, NULL, 0));
	CHECK_OK(index_set_chain(&none, (const uint64_t[]){ 1, 1 }, 2));
	CHECK_EQ(layer_segment(l, &none, 1, 1, &off), -EINVAL);
	CHECK_OK(index_set_chain(&none, (const uint64_t[]){ 1, 2 }, 2));
	CHECK_EQ(layer_bytes(l), end);
	CHECK_OK(layer_segment(l, &none, 1, 1, &off));
	CHECK_EQ(layer_seal(l, 1, 1), -EINVAL);
	CHECK_OK(layer_set_chain(l, (const uint64_t[]){ 2, 1 }, 2));
	CHECK_OK(layer_seal(l, 1, 1));
	layer_close(l);
	index_fini(&added);
	index_fini(&none);
	io_dir_close(d);
}

/* A whole state of which one block is here and the others in layers 3 and 4. */
static void make_full(struct layer *l, struct index *full)
{
	struct index_record *r;
	struct layer_block b;

	index_init(full);
	CHECK_OK(append_block(l, full, 20, 5));
	r = index_find(full, 20);
	b = r->blocks[0];
	b.frame_off = 1ull << 40;
	for (uint64_t i = 0; i < 2; i++) {
		b.block = 6 + i;
		b.layer = 3 + i;
		CHECK_OK(index_record_put(r, &b));
	}
	CHECK_OK(index_name_put(full, 4, "prices.i32", 20));
	CHECK_OK(index_set_chain(full, (const uint64_t[]){ 3, 4 }, 2));
}

UNIT_TEST(layer_full_is_sealed_and_adopted) /* index (7) */
{
	struct io_dir *d;
	struct index full;
	struct layer *l;
	uint8_t got[BLOCK];

	CHECK_OK(io_fault_dir(mem_dir(), &d));
	CHECK_OK(layer_create_as(d, "layers/compact.tmp", uuid, &l));
	CHECK_EQ(l->number, 0);
	make_full(l, &full);
	index_find(&full, 20)->blocks[0].layer = 1;
	for (uint64_t nth = 1; nth <= 2; nth++) { /* the header, the rename */
		io_fault_arm(d, nth, EIO, true);
		CHECK_EQ(layer_adopt(l, d, "layers/compact.tmp", 1), -EIO);
		CHECK_EQ(l->number, 0);
	}
	io_fault_arm(d, 0, 0, false);
	CHECK_OK(layer_adopt(l, d, "layers/compact.tmp", 1));
	CHECK_EQ(l->number, 1);
	CHECK_OK(append_block(l, &full, 21, 8));
	for (uint64_t nth = 1; nth <= 2; nth++) { /* the index, the seek table */
		io_fault_arm(d, nth, EIO, true);
		CHECK_EQ(layer_seal_full(l, fill_with, &full, 8, 9), -EIO);
	}
	io_fault_arm(d, 0, 0, false);
	CHECK_OK(layer_seal_full(l, fill_with, &full, 8, 9));
	index_fini(&full);
	CHECK(!layer_has_index(l));
	CHECK_OK(layer_load_index(l));
	CHECK_EQ(blocks_match(l), 2);
	CHECK_OK(layer_verify(l, true, NULL, NULL));
	layer_close(l);
	CHECK_EQ(layer_open(d, 2, uuid, &l), -ENOENT);
	CHECK_OK(layer_open(d, 1, uuid, &l));
	CHECK_EQ(layer_head(l)->kind, LAYER_FULL);
	CHECK_EQ(layer_head(l)->raw_bytes, 2 * BLOCK);
	CHECK_EQ(layer_index(l)->nchain, 1);
	CHECK_EQ(layer_index(l)->chain[0], 1);
	CHECK_EQ(blocks_match(l), 2);
	CHECK_EQ(index_find(layer_index(l), 20)->nblocks, 3);
	CHECK_OK(layer_decode(l, &index_find(layer_index(l), 20)->blocks[0], "test", 0, got));
	CHECK_OK(layer_verify(l, true, NULL, NULL));
	layer_close(l);
	io_dir_close(d);
}

/* On a real directory the file is found under its new name, also when its descriptor was closed. */
UNIT_TEST(layer_adopted_file_is_reopened)
{
	int fd = open(unit_tmpdir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct index added;
	struct io_dir *d;
	struct layer *l;
	uint64_t off;

	CHECK(fd >= 0);
	CHECK_OK(io_file_dir(fd, IO_BACKING_BUFFERED, NULL, &d));
	fd_set_budget((struct file_dir *)d, 0);
	CHECK_OK(io_mkdir(d, "layers"));
	CHECK_OK(layer_create_as(d, "layers/x.tmp", uuid, &l));
	CHECK_OK(layer_adopt(l, d, "layers/x.tmp", 12345678901));
	index_init(&added);
	CHECK_OK(append_block(l, &added, 1, 3));
	CHECK_OK(layer_segment(l, &added, 1, 1, &off));
	index_fini(&added);
	CHECK_OK(layer_seal(l, 1, 1));
	CHECK_EQ(blocks_match(l), 1);
	layer_close(l);
	CHECK_OK(layer_open(d, 12345678901, uuid, &l));
	layer_close(l);
	io_dir_close(d);
}

static uint64_t file_bytes(struct io_dir *d)
{
	uint64_t size, stored;
	struct io *io;

	CHECK_OK(io_open(d, NAME, IO_RDONLY, &io));
	CHECK_OK(io_size(io, &size, &stored));
	io_close(io);
	return size;
}

/* What salvage gives is what recovery gives with its values. Returns the blocks that are left; 0: no segment. */
static size_t salvage(struct io_dir *d)
{
	uint64_t committed = 0, segment_off = 0, later, size = file_bytes(d);
	struct layer *l, *again;
	size_t n;
	int err = layer_salvage(d, 1, uuid, &l, &committed, &segment_off);

	if (err == -ENODATA)
		return 0;
	CHECK_OK(err);
	CHECK(!layer_sealed(l));
	CHECK_EQ(layer_bytes(l), committed);
	n = blocks_match(l);
	CHECK_EQ(file_bytes(d), size);
	CHECK_OK(layer_recover(d, 1, uuid, committed, segment_off, &again));
	CHECK_EQ(layer_frame_bytes(again), layer_frame_bytes(l));
	CHECK_EQ(blocks_match(again), n);
	CHECK_EQ(layer_index(again)->nnames, layer_index(l)->nnames);
	layer_close(again);
	CHECK_OK(write_segment(l, 30, 32, &later)); /* and goes on */
	CHECK_OK(layer_seal(l, 8, 8));
	CHECK_OK(layer_verify(l, true, NULL, NULL));
	layer_close(l);
	CHECK_OK(layer_open(d, 1, uuid, &l));
	CHECK_EQ(blocks_match(l), n + 2);
	layer_close(l);
	return n;
}

/* The file as it was: n bytes. */
static void put_file(struct io_dir *d, const uint8_t *bytes, uint64_t n)
{
	struct io *io;

	CHECK_OK(io_open(d, NAME, IO_CREATE, &io));
	CHECK_OK(io_truncate(io, 0));
	CHECK_OK(io_pwrite(io, bytes, n, 0));
	io_close(io);
}

UNIT_TEST(layer_is_salvaged) /* recover (3) */
{
	struct io_dir *d = mem_dir();
	uint64_t end[4], seg[3], committed, off;
	uint8_t bytes[32768];
	struct layer *l;
	struct io *io;

	CHECK_OK(layer_create(d, 1, uuid, &l));
	CHECK_EQ(salvage(d), 0);
	for (uint64_t i = 0; i < 3; i++) {
		CHECK_OK(write_segment(l, i * 3, i * 3 + 3, &seg[i]));
		end[i] = layer_bytes(l);
	}
	CHECK_OK(layer_append(l, "no frame at all, this", 21, 5, 0, &off));
	end[3] = layer_bytes(l);
	CHECK(end[3] < sizeof(bytes));
	layer_close(l);
	CHECK_OK(io_open(d, NAME, IO_RDONLY, &io));
	CHECK_OK(io_pread(io, bytes, end[3], 0));
	io_close(io);
	for (uint64_t n = 56; n <= end[3]; n += n % 16 == 8 ? 1 : 5) {
		put_file(d, bytes, n);
		CHECK_EQ(salvage(d), n >= end[2] ? 9 : n >= end[1] ? 6 : n >= end[0] ? 3 : 0);
	}
	for (int i = 0; i < 3; i++) { /* a damaged segment breaks the chain of those behind */
		put_file(d, bytes, end[3]);
		flip(d, seg[i] + 60);
		CHECK_EQ(salvage(d), 3 * (size_t)i);
	}
	memset(bytes + end[3], 0, sizeof(bytes) - end[3]); /* more than what is written next */
	put_file(d, bytes, sizeof(bytes));
	CHECK_OK(layer_salvage(d, 1, uuid, &l, &committed, &off));
	CHECK_EQ(file_bytes(d), sizeof(bytes));
	CHECK_OK(write_segment(l, 30, 32, &off));
	CHECK_EQ(file_bytes(d), layer_bytes(l));
	CHECK_OK(layer_seal(l, 8, 8));
	layer_close(l);
	CHECK_OK(layer_open(d, 1, uuid, &l));
	layer_close(l);
	memcpy(bytes + end[2], bytes + seg[2], end[2] - seg[2]); /* a segment that continues none */
	put_file(d, bytes, 2 * end[2] - seg[2]);
	CHECK_EQ(salvage(d), 9);
	put_file(d, bytes, end[3]);
	flip(d, 20);
	CHECK_EQ(layer_salvage(d, 1, uuid, &l, &committed, &off), -EUCLEAN);
	CHECK_EQ(layer_salvage(d, 2, uuid, &l, &committed, &off), -ENOENT);
	/* A sealed one that has lost its seek table. */
	layer_close(sealed_layer(d));
	CHECK_EQ(salvage(d), 9);
	io_dir_close(d);
}

/* Puts another index into the sealed layer, with right checksum and seek table. */
static void reseal(struct io_dir *d, const struct index *ix, struct layer_index_head head)
{
	struct layer_skip skip = { LAYER_SKIP_MAGIC, 0 };
	struct layer_seek_footer footer;
	struct layer_seek_entry seek[64];
	uint64_t size, stored, table, at;
	struct io *io;
	void *bytes;
	size_t len;

	CHECK_OK(index_encode(ix, &head, &bytes, &len));
	CHECK_OK(io_open(d, NAME, 0, &io));
	CHECK_OK(io_size(io, &size, &stored));
	CHECK_OK(io_pread(io, &footer, sizeof(footer), size - sizeof(footer)));
	CHECK(footer.nframes <= 64);
	table = size - sizeof(footer) - footer.nframes * sizeof(*seek);
	CHECK_OK(io_pread(io, seek, footer.nframes * sizeof(*seek), table));
	at = table - sizeof(skip) - seek[footer.nframes - 1].stored_bytes;
	skip.len_bytes = (uint32_t)len;
	seek[footer.nframes - 1].stored_bytes = (uint32_t)(sizeof(skip) + len);
	CHECK_OK(io_truncate(io, at));
	CHECK_OK(io_pwrite(io, &skip, sizeof(skip), at));
	CHECK_OK(io_pwrite(io, bytes, len, at + sizeof(skip)));
	at += sizeof(skip) + len;
	skip.magic = LAYER_SEEK_MAGIC;
	skip.len_bytes = (uint32_t)(footer.nframes * sizeof(*seek) + sizeof(footer));
	CHECK_OK(io_pwrite(io, &skip, sizeof(skip), at));
	CHECK_OK(io_pwrite(io, seek, footer.nframes * sizeof(*seek), at + sizeof(skip)));
	CHECK_OK(io_pwrite(io, &footer, sizeof(footer), at + sizeof(skip) + footer.nframes * sizeof(*seek)));
	io_close(io);
	free(bytes);
}

/* 0: opened and sound, 1: opened, but verifying finds something, -EUCLEAN: refused. */
static int reopened(struct io_dir *d)
{
	struct layer *l;
	int err = layer_open(d, 1, uuid, &l);

	if (err)
		return err;
	err = layer_verify(l, false, NULL, NULL);
	CHECK(!err || err == -EUCLEAN);
	layer_close(l);
	return err ? 1 : 0;
}

/* Indexes with a right checksum that are not of this file. */
UNIT_TEST(layer_hostile_indexes_are_refused) /* index (1) (2), open (1) (4), check (1) */
{
	struct io_dir *d = mem_dir();
	struct layer *l = sealed_layer(d), *frames;
	struct layer_index_head good = *layer_head(l), head = good;
	struct layer_block *b;
	struct index ix;

	index_init(&ix);
	CHECK_OK(index_merge(&ix, layer_index(l)));
	layer_close(l);
	b = &index_find(&ix, 10)->blocks[1];
	reseal(d, &ix, good);
	CHECK_EQ(reopened(d), 0);
	CHECK_OK(index_set_chain(&ix, (const uint64_t[]){ 1, 7 }, 2));
	reseal(d, &ix, good);
	CHECK_EQ(reopened(d), -EUCLEAN);
	head.kind = LAYER_FULL;
	CHECK_OK(index_set_chain(&ix, (const uint64_t[]){ 7, 1 }, 2));
	reseal(d, &ix, head);
	CHECK_EQ(reopened(d), -EUCLEAN);
	CHECK_OK(index_set_chain(&ix, (const uint64_t[]){ 1 }, 1));
	reseal(d, &ix, head);
	CHECK_EQ(reopened(d), 0);
	b->layer = 9; /* FULL may, DELTA may not */
	reseal(d, &ix, head);
	CHECK_EQ(reopened(d), 0);
	reseal(d, &ix, good);
	CHECK_EQ(reopened(d), -EUCLEAN);
	b->layer = 1;
	b->frame_off += 1 << 20;
	reseal(d, &ix, head);
	CHECK_EQ(reopened(d), -EUCLEAN);
	b->frame_off -= (1 << 20) - 1; /* inside the file, but no frame */
	reseal(d, &ix, good);
	CHECK_EQ(reopened(d), 1);
	b->frame_off--;
	b->frame_len--;
	reseal(d, &ix, good);
	CHECK_EQ(reopened(d), 1);
	b->frame_len++;
	for (int i = 0; i < 3; i++) { /* of another kind, layer, length */
		head = good;
		head.kind = i == 0 ? LAYER_SEGMENT : LAYER_DELTA;
		head.layer = i == 1 ? 2 : 1;
		head.stored_bytes += i == 2;
		reseal(d, &ix, head);
		CHECK_EQ(reopened(d), -EUCLEAN);
	}
	reseal(d, &ix, good); /* another one between the two steps */
	CHECK_OK(layer_open_frames(d, 1, uuid, &frames));
	head = good;
	head.commit++;
	reseal(d, &ix, head);
	CHECK_EQ(layer_load_index(frames), -EUCLEAN);
	CHECK(!layer_has_index(frames));
	layer_close(frames);
	CHECK_EQ(reopened(d), 0);
	index_fini(&ix);
	io_dir_close(d);
}

UNIT_TEST(layer_version_1_is_refused)
{
	struct io_dir *d = mem_dir();
	struct layer_header h;
	struct layer *l = sealed_layer(d);
	uint64_t committed, off;
	struct io *io;

	layer_close(l);
	CHECK_OK(io_open(d, NAME, 0, &io));
	CHECK_OK(io_pread(io, &h, sizeof(h), 8));
	for (h.version = 0; h.version < 4; h.version++) {
		h.xxh64 = XXH64(&h, offsetof(struct layer_header, xxh64), 0);
		CHECK_OK(io_pwrite(io, &h, sizeof(h), 8));
		CHECK_EQ(layer_open(d, 1, uuid, &l), h.version == 2 ? 0 : -EUCLEAN);
		if (h.version == 2)
			layer_close(l);
		else
			CHECK_EQ(layer_salvage(d, 1, uuid, &l, &committed, &off), -EUCLEAN);
	}
	io_close(io);
	io_dir_close(d);
}

/* What a writer was told before the disk died. */
struct told {
	uint64_t committed, segment_off, nblocks;
	bool created, sealed;
};

static int write_all(struct io_dir *d, struct layer **l, struct told *t)
{
	uint64_t off;
	int err = layer_create(d, 1, uuid, l);

	if (!err)
		err = layer_sync(*l);
	if (err)
		return err;
	t->created = true;
	t->committed = layer_bytes(*l);
	for (uint64_t i = 0; i < 3; i++) {
		err = write_segment(*l, i * 3, i * 3 + 3, &off);
		if (!err)
			err = layer_sync(*l);
		if (err)
			return err;
		t->committed = layer_bytes(*l);
		t->segment_off = off;
		t->nblocks = i * 3 + 3;
	}
	err = layer_seal(*l, 9, 9);
	if (!err)
		err = layer_sync(*l);
	t->sealed = !err;
	return err;
}

static void fault_at(uint64_t n, bool torn, bool *fired)
{
	struct io_dir *d;
	struct layer *l = NULL;
	struct told t = { 0 };
	int err;

	CHECK_OK(io_fault_dir(mem_dir(), &d));
	io_fault_arm(d, n, torn ? EIO : ENOSPC, torn);
	err = write_all(d, &l, &t);
	*fired = io_fault_count(d) >= n;
	CHECK_EQ(err, *fired ? (torn ? -EIO : -ENOSPC) : 0);
	if (err && l && !layer_sealed(l)) /* still readable up to the last segment */
		CHECK(blocks_match(l) >= t.nblocks);
	layer_close(l);
	io_fault_arm(d, 0, 0, false);
	if (t.sealed) {
		CHECK_OK(layer_open(d, 1, uuid, &l));
	} else if (t.created) {
		CHECK_OK(layer_recover(d, 1, uuid, t.committed, t.segment_off, &l));
	} else {
		io_dir_close(d);
		return;
	}
	CHECK_EQ(blocks_match(l), t.nblocks);
	if (!t.sealed) { /* and writable again */
		CHECK_OK(write_segment(l, 20, 22, &t.segment_off));
		CHECK_OK(layer_seal(l, 10, 10));
		layer_close(l);
		CHECK_OK(layer_open(d, 1, uuid, &l));
		CHECK_EQ(blocks_match(l), t.nblocks + 2);
	}
	layer_close(l);
	io_dir_close(d);
}

UNIT_TEST(layer_survives_a_fault_at_every_step) /* file (1), index (6) */
{
	for (int torn = 0; torn <= 1; torn++) {
		bool fired = true;

		for (uint64_t n = 1; fired; n++) {
			CHECK(n < 100);
			fault_at(n, torn, &fired);
		}
	}
}

/* The disk fails once and is well again: the same layer goes on, with nothing of the failed write.
 */
UNIT_TEST(layer_goes_on_after_a_failed_write) /* file (1) */
{
	for (uint64_t nth = 1; nth <= 3; nth++) {
		struct io_dir *d;
		struct layer *l;
		uint64_t off, end;

		CHECK_OK(io_fault_dir(mem_dir(), &d));
		CHECK_OK(layer_create(d, 1, uuid, &l));
		CHECK_OK(write_segment(l, 0, 3, &off));
		end = layer_bytes(l);
		io_fault_arm(d, nth, ENOSPC, true);
		CHECK_EQ(layer_seal(l, 1, 1), nth == 3 ? 0 : -ENOSPC);
		if (nth < 3) {
			CHECK(!layer_sealed(l));
			CHECK_EQ(layer_bytes(l), end);
			CHECK_EQ(write_segment(l, 3, 4, &off), -ENOSPC);
			CHECK_EQ(layer_bytes(l), end);
			io_fault_arm(d, 0, 0, false);
			CHECK_OK(write_segment(l, 3, 5, &off));
			CHECK_OK(layer_seal(l, 2, 2));
		}
		CHECK_EQ(blocks_match(l), nth == 3 ? 3 : 5);
		layer_close(l);
		CHECK_OK(layer_open(d, 1, uuid, &l));
		CHECK_EQ(blocks_match(l), nth == 3 ? 3 : 5);
		layer_close(l);
		io_dir_close(d);
	}
}

struct appender {
	pthread_t thread;
	struct layer *layer;
	struct index added;
	uint64_t ino;
};

static void *appender_run(void *arg)
{
	struct appender *a = arg;
	uint8_t want[BLOCK], got[BLOCK];

	for (uint64_t block = 0; block < 100; block++) {
		const struct index_record *r;

		CHECK_OK(append_block(a->layer, &a->added, a->ino, block));
		r = index_find(&a->added, a->ino);
		CHECK_OK(layer_decode(a->layer, &r->blocks[r->nblocks - 1], "test", 0, got));
		block_bytes(block, want);
		CHECK(!memcmp(got, want, BLOCK));
	}
	return NULL;
}

UNIT_TEST(layer_appends_of_many_threads) /* file (1) (2) */
{
	struct io_dir *d = mem_dir();
	struct appender a[4];
	struct layer *l;
	uint64_t off;

	CHECK_OK(layer_create(d, 1, uuid, &l));
	for (uint64_t i = 0; i < 4; i++) {
		a[i].layer = l;
		a[i].ino = i + 1;
		index_init(&a[i].added);
		CHECK_OK(pthread_create(&a[i].thread, NULL, appender_run, &a[i]));
	}
	for (int i = 0; i < 4; i++) {
		CHECK_OK(pthread_join(a[i].thread, NULL));
		CHECK_OK(layer_segment(l, &a[i].added, 1, 1, &off));
		index_fini(&a[i].added);
	}
	CHECK_OK(layer_seal(l, 1, 1));
	layer_close(l);
	CHECK_OK(layer_open(d, 1, uuid, &l));
	CHECK_EQ(blocks_match(l), 400);
	layer_close(l);
	io_dir_close(d);
}

static void make_empty(struct io_dir *d)
{
	struct layer *l;

	CHECK_OK(layer_create(d, 2, uuid, &l));
	CHECK_OK(layer_seal(l, 1, 1));
	layer_close(l);
}

/* `zstd -dc` gives the blocks one after another, in the order they were appended,
 * those that were shuffled still so. */
UNIT_TEST(layer_is_stock_zstd)
{
	uint8_t want[BLOCK], mixed[BLOCK], got[BLOCK];
	char command[600];
	const char *path = unit_tmpdir();
	struct io_dir *d;
	FILE *f;
	int fd;

	if (system("zstd --version >/dev/null 2>&1"))
		return;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(fd >= 0);
	CHECK_OK(io_file_dir(fd, IO_BACKING_BUFFERED, NULL, &d));
	CHECK_OK(io_mkdir(d, "layers"));
	layer_close(sealed_layer(d));
	make_empty(d);
	io_dir_close(d);
	snprintf(command, sizeof(command), "zstd -q -dc '%s'/" NAME, path);
	f = popen(command, "r");
	CHECK(f);
	for (uint64_t block = 0; block < 9; block++) {
		block_bytes(block, want);
		shuffle_apply(want, mixed, BLOCK, 4);
		CHECK_EQ(fread(got, 1, BLOCK, f), BLOCK);
		CHECK(!memcmp(got, block_policy(block) == CODEC_POLICY_SHUFFLE ? mixed : want,
			      BLOCK));
	}
	CHECK_EQ(fread(got, 1, 1, f), 0);
	CHECK_OK(pclose(f));
	snprintf(command, sizeof(command), "zstd -q -t '%s'/layers/*.zst", path);
	CHECK_OK(system(command));
}
