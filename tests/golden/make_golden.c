/*
 * Writes the golden layer layers/00000001.zst and the golden store store/ into the directory argv[1]. Needed only when the format
 * changes; tests/unit/test_golden.c holds the values.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/codec.h"
#include "block/layer.h"
#include "block/summary.h"
#include "hostile/base.h"
#include "io/io.h"

static void must(int err)
{
	if (err) {
		fprintf(stderr, "make_golden: %s\n", strerror(-err));
		exit(1);
	}
}

static struct index_record *record(struct index *ix, uint64_t ino, const char *path,
				   const char *dtype, const char *shape, uint64_t block_bytes,
				   uint64_t size_bytes)
{
	struct index_record *r;

	must(index_add(ix, ino, &r));
	must(index_record_set_names(r, path, dtype, shape));
	r->block_bytes = block_bytes;
	r->facts.size_bytes = size_bytes;
	r->facts.stored_bytes = ino * 100 + 1;
	r->facts.kind = 3;
	r->version = 1;
	r->facts.mtime_ns = (int64_t)ino * 1000000000 + 5;
	r->facts.ctime_ns = r->facts.mtime_ns + 1;
	r->facts.btime_ns = r->facts.mtime_ns - 1;
	r->facts.mode = 0100640;
	r->facts.uid = 1000;
	r->facts.gid = 1001;
	return r;
}

static struct layer_block frame(struct layer *l, int level, enum codec_policy policy, uint32_t elem,
				const void *raw, size_t n)
{
	struct codec_params p = { level, policy, elem, SUMMARY_NONE, { 0 } };
	struct layer_block b = { .layer = 1,
				 .frame_raw = (uint32_t)n,
				 .raw_len = (uint32_t)n,
				 .elem_bytes = (uint8_t)elem };
	uint8_t bytes[4096];
	struct filter filter;
	struct codec_hint hint = CODEC_HINT_NONE;
	size_t len;

	must(codec_encode(&p, raw, n, bytes, codec_bound(n), &hint, &len, &filter));
	must(layer_append(l, bytes, len, n, 0, &b.frame_off));
	b.frame_len = (uint32_t)len;
	b.filter = filter.steps;
	return b;
}

/* A shuffled block with its summary, and a raw frame that holds the only blocks of two arrays. */
static void first_segment(struct layer *l)
{
	int32_t numbers[256];
	struct layer_block b;
	struct index ix;
	uint64_t off;

	index_init(&ix);
	for (int i = 0; i < 256; i++)
		numbers[i] = i * 1000 - 5;
	b = frame(l, 3, CODEC_POLICY_SHUFFLE, 4, numbers, sizeof(numbers));
	b.stat_type = SUMMARY_I32;
	b.min_bits = (uint32_t)numbers[0];
	b.max_bits = (uint32_t)numbers[255];
	must(index_record_put(record(&ix, 10, "a/numbers.i32", "i32", "259", 1024, 2060), &b));
	b = frame(l, 0, CODEC_POLICY_NONE, 1, "hello goldlayers", 16);
	b.raw_len = 10;
	must(index_record_put(record(&ix, 11, "hello", "u8", "", 4096, 10), &b));
	b.block = 3;
	b.raw_off = 10;
	b.raw_len = 6;
	must(index_record_put(record(&ix, 12,
				     "d\xc3\xa9"
				     "but",
				     "u8", "", 4096, 3 * 4096 + 6),
			      &b));
	must(index_name_put(&ix, 4, "a", 9));
	must(index_name_put(&ix, 9, "numbers.i32", 10));
	must(index_name_put(&ix, 4, "hello", 11));
	must(index_name_put(&ix, 4,
			    "d\xc3\xa9"
			    "but",
			    12));
	must(layer_segment(l, &ix, 6, 1700000000000000000, &off));
	index_fini(&ix);
}

/* A symbolic link, and a column that is inline and has an xattr. */
static void other_inodes(struct index *ix)
{
	struct index_record *r = record(ix, 14, "link", "", "", 0, 7);

	r->facts.kind = 0;
	r->facts.mode = 0120777;
	must(index_record_set_target(r, "a/b/c.d"));
	must(index_name_put(ix, 4, "link", 14));
	r = record(ix, 15, "small.u8", "u8", "", 0, 6);
	r->facts.kind = 2;
	must(index_record_set_xattrs(r, "\x06\0\0\0\x05\0\0\0user.kvalue", 19));
	must(index_record_set_data(r, "inline", 6));
	must(index_name_put(ix, 3, "small.u8", 15));
}

/* A block of zeros, the array's short last block, tombstones, and an array that is gone. */
static void second_segment(struct layer *l)
{
	static const int32_t tail[3] = { -1, 0, 1 };
	struct index_record *r;
	struct layer_block b;
	struct index ix;
	uint64_t off;

	index_init(&ix);
	b = frame(l, 3, CODEC_POLICY_NONE, 4, tail, sizeof(tail));
	b.block = 2;
	r = record(&ix, 10, "a/numbers.i32", "i32", "515", 1024, 2060);
	must(index_record_put(r, &b));
	must(index_record_put(
		r, &(struct layer_block){ .block = 1, .layer = 1, .raw_len = 1024, .frame_raw = 1024 }));
	r = record(&ix, 12,
		   "d\xc3\xa9"
		   "but",
		   "u8", "", 4096, 3 * 4096 + 6);
	must(index_record_tomb(r, 0, 2));
	must(index_record_tomb(r, 4, UINT64_MAX));
	index_record_gone(record(&ix, 13, "old.f64", "f64", "", 4096, 0));
	must(index_name_put(&ix, 4, "old.f64", 0));
	other_inodes(&ix);
	must(layer_segment(l, &ix, 7, 1700000000123456789, &off));
	index_fini(&ix);
}

static void write_store(int dirfd)
{
	struct image im;
	int fd = -1;

	if (mkdirat(dirfd, "store", 0755) || (fd = openat(dirfd, "store", O_RDONLY | O_DIRECTORY)) < 0)
		must(-errno);
	base_make(BASE_SEALED, &im);
	image_to_system(&im, fd);
	image_free(&im);
	close(fd);
}

int main(int argc, char **argv)
{
	static const uint8_t uuid[16] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };
	int fd = argc == 2 ? open(argv[1], O_RDONLY | O_DIRECTORY) : -1;
	struct io_dir *d;
	struct layer *l;

	if (fd < 0) {
		fprintf(stderr, "usage: make_golden DIRECTORY\n");
		return 1;
	}
	write_store(fd);
	must(io_file_dir(fd, IO_BACKING_BUFFERED, NULL, &d));
	must(io_mkdir(d, "layers"));
	must(layer_create(d, 1, uuid, &l));
	first_segment(l);
	second_segment(l);
	must(layer_set_chain(l, (const uint64_t[]){ 2, 1 }, 2));
	must(layer_seal(l, 7, 1700000000123456789));
	must(layer_sync(l));
	layer_close(l);
	io_dir_close(d);
	return 0;
}
