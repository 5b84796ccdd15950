/*
 * Zarr: metadata that readers take, chunks that decode to rows of the array, stored frames where they can be.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "array/layered/pin.h"
#include "block/filter.h"
#include "unit.h"
#include "view/inside.h"
#include "view_world.h"

#define BLOCK (128u << 10)
#define FRAME_CHECKSUM 0x04 /* in the byte behind the magic number */

static const char *const types[] = { "i8",  "i16", "i32", "i64", "u8",   "u16",  "u32",		  "u64",
				     "f16", "f32", "f64", "c64", "c128", "bool", "pos:u32,lcp:u32" };

/* One array seen as Zarr. */
struct seen {
	struct world *w;
	struct array *a;
	const uint8_t *p;
	const char *dtype, *logical;
	const char *shape;
	bool fortran;
	uint8_t filter; /* that the settings say */
	enum zarr_version version;
	char save[128]; /* directory */
	/* found: */
	char meta[8192];
	uint64_t chunk_bytes, nchunks;
	uint32_t elem;
	bool frames;
	uint8_t named; /* filter of the metadata */
	unsigned nstored, nrecoded; /* chunks smaller than raw: stored frames or zeros, and those that were compressed again */
};

static struct view_input input(struct view *v, const struct seen *z)
{
	struct view_input in = view_world_input(v, view_world_source(v, z->a), "x", z->dtype, z->shape);

	in.filter = z->filter;
	in.shape.fortran = z->fortran;
	if (z->fortran) { /* view_world_input fits shapes in order C */
		CHECK_OK(shape_parse(z->shape, &in.shape));
		in.shape.fortran = true;
		shape_fit(&in.shape, view_source_bytes(v, in.source) / in.dtype->bytes);
	}
	in.count = shape_count(&in.shape);
	if (z->logical)
		CHECK_OK(logical_parse(z->logical, &in.logical));
	return in;
}

static void save_file(const struct seen *z, const char *name, const void *p, size_t n)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%s", z->save, name);
	view_world_save(path, p, n);
}

/* Reads the metadata, and from it what a chunk is. */
static void see_meta(struct seen *z)
{
	const char *name = zarr_meta_name(z->version, ZARR_META_ARRAY), *at;
	struct view_input in;
	struct view *v;
	uint8_t *got;
	size_t n;

	CHECK_OK(view_new(&v));
	in = input(v, z);
	z->elem = in.dtype->bytes;
	z->nchunks = zarr_nchunks(v, &in);
	CHECK_OK(zarr_meta_lay(v, z->version, ZARR_META_ARRAY, &in));
	free((void *)in.dtype);
	got = view_world_read(z->w, v, &n);
	CHECK(n < sizeof(z->meta));
	memcpy(z->meta, got, n);
	z->meta[n] = 0;
	save_file(z, name, got, n);
	free(got);
	at = strstr(z->meta, z->version == ZARR_V2 ? "\"chunks\":[" : "\"chunk_shape\":[");
	CHECK(at);
	z->chunk_bytes = z->elem;
	for (at = strchr(at, '['); *at != ']' && at[1] != ']';) {
		char *end;
		uint64_t dim = strtoull(at + 1, &end, 10);

		CHECK(dim > 0 && end > at + 1);
		z->chunk_bytes *= dim;
		at = end;
	}
	z->frames = strstr(z->meta, "\"zstd\"");
	z->named = (strstr(z->meta, "shuffle\"") ? FILTER_SHUFFLE : 0) | (strstr(z->meta, "delta\"") ? FILTER_DELTA : 0);
}

/* "2.0.0", "c/0/0/2". */
static void chunk_path(const struct seen *z, unsigned ndims, uint64_t chunk, char *out)
{
	bool v2 = z->version == ZARR_V2;
	size_t n = (size_t)sprintf(out, "%s", v2 ? "" : "c");

	for (unsigned k = 0; k < ndims; k++) {
		const char *sep = v2 ? k ? "." : "" : "/";
		unsigned slow = z->fortran ? ndims - 1 : 0;

		n += (size_t)sprintf(out + n, "%s%llu", sep, k == slow ? (unsigned long long)chunk : 0ull);
	}
	if (v2 && !ndims)
		strcpy(out, "0");
}

/* What a reader makes of a chunk. */
static void decode_chunk(struct seen *z, const uint8_t *got, size_t n, uint8_t *raw)
{
	uint8_t *mixed = malloc(z->chunk_bytes);

	if (!z->frames) {
		CHECK_EQ(n, z->chunk_bytes);
		memcpy(raw, got, n);
	} else {
		CHECK_EQ(ZSTD_getFrameContentSize(got, n), z->chunk_bytes);
		CHECK_EQ(ZSTD_findFrameCompressedSize(got, n), n);
		CHECK_EQ(ZSTD_decompress(mixed, z->chunk_bytes, got, n), z->chunk_bytes);
		if (z->named)
			CHECK_OK(filter_undo(z->named, z->elem, mixed, z->chunk_bytes, raw));
		else
			memcpy(raw, mixed, z->chunk_bytes);
	}
	free(mixed);
}

/* A frame that was made when the chunk was laid out: one piece of the view's own bytes. One of zeros has no checksum. */
static bool is_recoded(const struct view *v)
{
	return v->npieces == 1 && v->pieces[0].kind == PIECE_BYTES && v->bytes_put[4] & FRAME_CHECKSUM;
}

static void see_chunk(struct seen *z, uint64_t chunk, uint64_t size)
{
	uint64_t off = chunk * z->chunk_bytes, len = size - off < z->chunk_bytes ? size - off : z->chunk_bytes;
	uint8_t *got, *raw = malloc(z->chunk_bytes);
	struct view_input in;
	struct view *v;
	char path[256];
	bool recoded;
	size_t n;

	CHECK_OK(view_new(&v));
	in = input(v, z);
	CHECK_OK(zarr_chunk_lay(v, &in, chunk));
	free((void *)in.dtype);
	recoded = z->frames && is_recoded(v);
	got = view_world_read(z->w, v, &n);
	chunk_path(z, in.shape.ndims, chunk, path);
	save_file(z, path, got, n);
	decode_chunk(z, got, n, raw);
	CHECK(!memcmp(raw, z->p + off, len));
	for (uint64_t i = len; i < z->chunk_bytes; i++)
		CHECK_EQ(raw[i], 0);
	z->nstored += n < z->chunk_bytes && !recoded;
	z->nrecoded += recoded;
	free(raw);
	free(got);
}

static void see(struct seen *z, uint64_t size)
{
	char path[160];

	z->nstored = z->nrecoded = 0;
	see_meta(z);
	CHECK_EQ(z->nchunks, size ? (size + z->chunk_bytes - 1) / z->chunk_bytes : 0);
	for (uint64_t chunk = 0; chunk < z->nchunks; chunk++)
		see_chunk(z, chunk, size);
	snprintf(path, sizeof(path), "%s.raw", z->save);
	view_world_save(path, z->p, size);
}

/* Elements that compress well, as they are or shuffled; a hole of two blocks in the middle. */
static uint8_t *content(const char *dtype, size_t n, bool shuffled)
{
	uint8_t *p = calloc(1, n + 1);
	uint32_t elem;

	CHECK_OK(dtype_size(dtype, &elem));
	for (size_t i = 0; i < n / elem * elem; i++) {
		uint64_t x = i / elem * 2654435761u;

		if (i / BLOCK == 1 || i / BLOCK == 2)
			continue;
		if (!strcmp(dtype, "bool"))
			p[i] = i % 3 == 0;
		else if (shuffled) /* noise in the low bytes only */
			p[i] = i % elem < (elem + 1) / 2 ? (uint8_t)(x >> 13) : 0x3f;
		else
			p[i] = (uint8_t)(i / elem / 100 + i % elem);
	}
	return p;
}

static const struct {
	const char *shape;
	bool fortran;
} shapes[] = {
	{ "()", false }, { "0", false },	{ "1", false },	      { "5", false },	  { "70001", false }, { "5,0", false },
	{ "3,4", true }, { "1030,64", false }, { "64,1030", true }, { "100,7,99", false }, { "7,100,99", true }, { "3,70000", false },
};

static const struct {
	enum array_kind kind;
	enum codec_policy policy;
	const char *name;
} stores[] = {
	{ ARRAY_LAYERED, CODEC_POLICY_NONE, "plain" },
	{ ARRAY_LAYERED, CODEC_POLICY_SHUFFLE, "shuffled" },
	{ ARRAY_COLUMN, CODEC_POLICY_NONE, "column" },
	{ ARRAY_BUCKET, CODEC_POLICY_NONE, "bucket" },
};

static void see_all(struct world *w, const char *dtype, size_t store)
{
	struct seen z = { .w = w, .dtype = dtype };

	for (size_t k = 0; k < sizeof(shapes) / sizeof(*shapes); k++) {
		struct shape s;
		struct dtype *d;
		size_t size;
		uint8_t *p;

		CHECK_OK(dtype_parse(dtype, &d));
		CHECK_OK(shape_parse(shapes[k].shape, &s));
		size = shape_count(&s) * d->bytes;
		p = content(dtype, size, store == 1);
		z.p = p;
		z.shape = shapes[k].shape;
		z.fortran = shapes[k].fortran;
		z.filter = store == 1 ? FILTER_SHUFFLE : FILTER_NONE;
		z.a = view_world_array(w, stores[store].kind, p, size, BLOCK, stores[store].policy, dtype);
		for (z.version = ZARR_V2; z.version <= ZARR_V3; z.version++) {
			if (!zarr_can(z.version, d))
				continue;
			snprintf(z.save, sizeof(z.save), "zarr/v%d/%s-%s-%zu", z.version == ZARR_V2 ? 2 : 3, stores[store].name,
				 d->record ? "record" : dtype, k);
			see(&z, size);
			CHECK_EQ(z.frames, store < 2);
			CHECK(!z.named || store == 1);
		}
		array_close(z.a);
		free(p);
		free(d);
	}
}

static void see_store(size_t store)
{
	struct world w;

	view_world_open(&w);
	for (size_t k = 0; k < sizeof(types) / sizeof(*types); k++)
		see_all(&w, types[k], store);
	world_close(&w);
}

UNIT_TEST(zarr_of_plain_arrays)
{
	see_store(0);
}

UNIT_TEST(zarr_of_shuffled_arrays)
{
	see_store(1);
}

UNIT_TEST(zarr_of_columns)
{
	see_store(2);
}

UNIT_TEST(zarr_of_buckets)
{
	see_store(3);
}

UNIT_TEST(zarr_chunks_are_the_stored_frames)
{
	size_t size = 9 * (size_t)BLOCK + 64 * 8 * 3;

	for (int shuffled = 0; shuffled < 2; shuffled++) {
		uint8_t *p = content("f64", size, shuffled);
		struct seen z = { .p = p, .dtype = "f64", .shape = "1,64", .version = ZARR_V2, .filter = (uint8_t)shuffled };
		struct world w;

		view_world_open(&w);
		z.w = &w;
		z.a = view_world_array(&w, ARRAY_LAYERED, p, size, BLOCK, shuffled ? CODEC_POLICY_SHUFFLE : CODEC_POLICY_NONE, "f64");
		snprintf(z.save, sizeof(z.save), "zarr/v2/stored-f64-%d", shuffled);
		see(&z, size);
		CHECK_EQ(z.chunk_bytes, BLOCK);
		CHECK_EQ(z.named, shuffled);
		CHECK_EQ(z.nstored, 9); /* two of them are holes; the last chunk is a short block */
		z.version = ZARR_V3;
		snprintf(z.save, sizeof(z.save), "zarr/v3/stored-f64-%d", shuffled);
		see(&z, size);
		CHECK_EQ(z.nstored, 9);
		array_close(z.a);
		world_close(&w);
		free(p);
	}
}

UNIT_TEST(zarr_shuffles_by_the_settings_whatever_the_blocks_are)
{
	size_t size = 9 * (size_t)BLOCK;
	struct world w;
	char meta[2][sizeof(((struct seen *)0)->meta)];

	view_world_open(&w);
	for (int kept = 0; kept < 2; kept++) {
		for (int stored = 0; stored < 2; stored++) {
			uint8_t *p = content("f64", size, stored);
			struct seen z = { .w = &w, .p = p, .dtype = "f64", .shape = "1,64", .version = ZARR_V2, .filter = (uint8_t)kept };

			z.a = view_world_array(&w, ARRAY_LAYERED, p, size, BLOCK, stored ? CODEC_POLICY_SHUFFLE : CODEC_POLICY_NONE, "f64");
			snprintf(z.save, sizeof(z.save), "zarr/v2/mixed-f64-%d-%d", kept, stored);
			see(&z, size);
			CHECK_EQ(z.named, kept);
			CHECK_EQ(z.nstored, kept == stored ? 9 : 2);
			CHECK_EQ(z.nrecoded, kept == stored ? 0 : 7);
			strcpy(meta[stored], z.meta);
			array_close(z.a);
			free(p);
		}
		CHECK(!strcmp(meta[0], meta[1]));
	}
	world_close(&w);
}

/* What does not compress is not stored anew. */
UNIT_TEST(zarr_of_noise_stays_raw)
{
	size_t size = 3 * (size_t)BLOCK;
	uint8_t *p = malloc(size);
	struct world w;
	struct seen z = { .w = &w, .p = p, .dtype = "i64", .shape = "1,64", .version = ZARR_V3, .filter = FILTER_SHUFFLE };
	uint64_t seed = 5;

	unit_rand_fill(&seed, p, size);
	view_world_open(&w);
	z.a = view_world_array(&w, ARRAY_LAYERED, p, size, BLOCK, CODEC_POLICY_NONE, "i64");
	snprintf(z.save, sizeof(z.save), "zarr/v3/noise");
	see(&z, size);
	CHECK_EQ(z.named, FILTER_SHUFFLE);
	CHECK_EQ(z.nstored + z.nrecoded, 0);
	array_close(z.a);
	world_close(&w);
	free(p);
}

static void see_differences(struct world *w, const char *dtype, uint8_t filter, uint8_t stored)
{
	size_t size = 9 * (size_t)BLOCK;
	uint8_t *p = content(dtype, size, false);
	struct dtype *d;
	struct seen z = { .w = w, .p = p, .dtype = dtype, .shape = "1,64", .filter = filter };
	bool can;

	CHECK_OK(dtype_parse(dtype, &d));
	can = !d->record && d->fields[0].type <= DTYPE_U64;
	z.a = view_world_array(w, ARRAY_LAYERED, p, size, BLOCK, (enum codec_policy)stored, dtype);
	for (z.version = ZARR_V2; z.version <= ZARR_V3; z.version++) {
		if (!zarr_can(z.version, d))
			continue;
		snprintf(z.save, sizeof(z.save), "zarr/v%d/delta-%s-%d-%d", z.version == ZARR_V2 ? 2 : 3, d->record ? "record" : dtype, filter,
			 stored);
		see(&z, size);
		CHECK_EQ(z.named, can ? filter : 0);
		CHECK_EQ(z.nstored, (can ? filter == stored : !filter_fits(stored, d->bytes)) ? 9 : 2);
	}
	array_close(z.a);
	free(d);
	free(p);
}

UNIT_TEST(zarr_names_differences_of_integers_alone)
{
	struct world w;

	view_world_open(&w);
	for (size_t k = 0; k < sizeof(types) / sizeof(*types); k++) {
		see_differences(&w, types[k], FILTER_DELTA, FILTER_DELTA);
		see_differences(&w, types[k], FILTER_DELTA | FILTER_SHUFFLE, FILTER_DELTA | FILTER_SHUFFLE);
		see_differences(&w, types[k], FILTER_DELTA | FILTER_SHUFFLE, FILTER_DELTA | FILTER_PACK);
	}
	world_close(&w);
}

/* Chains that not all bytes fit, and those that no reader knows. */
UNIT_TEST(zarr_names_no_other_filter)
{
	static const uint8_t filters[] = { FILTER_DELTAS, FILTER_DELTAS | FILTER_SHUFFLE, FILTER_PACK, FILTER_DELTA | FILTER_PACK,
					   FILTER_SCALE, FILTER_SCALE | FILTER_DELTA | FILTER_SHUFFLE };
	size_t size = 9 * (size_t)BLOCK;
	uint8_t *p = content("i64", size, false);
	struct world w;

	view_world_open(&w);
	for (size_t k = 0; k < sizeof(filters); k++) {
		struct seen z = { .w = &w, .p = p, .dtype = "i64", .shape = "1,64", .filter = filters[k], .save = "zarr/v2/unnamed" };

		z.a = view_world_array(&w, ARRAY_LAYERED, p, size, BLOCK, (enum codec_policy)filters[k], "i64");
		see(&z, size);
		CHECK_EQ(z.named, 0);
		array_close(z.a);
	}
	world_close(&w);
	free(p);
}

UNIT_TEST(zarr_shows_whole_rows_and_times)
{
	size_t size = 100 * 8 * 10 + 77;
	uint8_t *p = content("i64", size, false);
	struct seen z = { .p = p, .dtype = "i64", .shape = "1,10", .version = ZARR_V2, .save = "zarr/v2/time-i64",
			  .logical = "timestamp[us,UTC]" };
	struct world w;

	view_world_open(&w);
	z.w = &w;
	z.a = view_world_array(&w, ARRAY_LAYERED, p, size, BLOCK, CODEC_POLICY_NONE, "i64");
	see(&z, 8000);
	CHECK(strstr(z.meta, "\"shape\":[100,10],\"chunks\":[100,10],\"dtype\":\"<M8[us]\""));
	z.version = ZARR_V3;
	strcpy(z.save, "zarr/v3/time-i64");
	see(&z, 8000);
	CHECK(strstr(z.meta, "\"data_type\":\"int64\""));
	array_close(z.a);
	world_close(&w);
	free(p);
}

UNIT_TEST(zarr_shows_decimals_as_floats)
{
	static const struct {
		const char *dtype, *logical, *v2, *v3;
	} cases[] = {
		{ "i32", "decimal(9,2)", "\"filters\":[{\"id\":\"fixedscaleoffset\",\"scale\":100,\"offset\":0,\"dtype\":\"<f8\",\"astype\":\"<i4\"},"
		  "{\"id\":\"delta\",\"dtype\":\"<i4\"},{\"id\":\"shuffle\",\"elementsize\":4}]",
		  "\"codecs\":[{\"name\":\"scale_offset\",\"configuration\":{\"scale\":100,\"offset\":0}},{\"name\":\"cast_value\",\"configuration\":"
		  "{\"data_type\":\"int32\",\"rounding\":\"nearest-even\"}},{\"name\":\"numcodecs.delta\",\"configuration\":{\"dtype\":\"<i4\"}},"
		  "{\"name\":\"bytes\"," },
		{ "i64", "decimal(15,15)", "\"scale\":1000000000000000,", "\"scale\":1000000000000000," },
		{ "i64", "decimal(16,2)", "\"dtype\":\"<i8\"", "\"data_type\":\"int64\"" }, /* more digits than f64 has */
		{ "i32", "decimal(9,0)", "\"dtype\":\"<i4\"", "\"data_type\":\"int32\"" },
		{ "u32", "decimal(9,2)", "\"dtype\":\"<u4\"", "\"data_type\":\"uint32\"" },
	};
	size_t size = 2 * (size_t)BLOCK + 8;
	struct world w;

	view_world_open(&w);
	for (size_t k = 0; k < sizeof(cases) / sizeof(*cases); k++) {
		uint8_t *p = content(cases[k].dtype, size, false);
		struct seen z = { .w = &w, .p = p, .dtype = cases[k].dtype, .logical = cases[k].logical, .shape = "1",
				  .filter = FILTER_DELTA | FILTER_SHUFFLE };
		bool decimal = k < 2;

		z.a = view_world_array(&w, ARRAY_LAYERED, p, size, BLOCK, (enum codec_policy)(FILTER_DELTA | FILTER_SHUFFLE), z.dtype);
		for (z.version = ZARR_V2; z.version <= ZARR_V3; z.version++) {
			snprintf(z.save, sizeof(z.save), "zarr/v%d/decimal-%zu", z.version == ZARR_V2 ? 2 : 3, k);
			see(&z, size);
			CHECK(strstr(z.meta, z.version == ZARR_V2 ? cases[k].v2 : cases[k].v3));
			CHECK_EQ(strstr(z.meta, z.version == ZARR_V2 ? "],\"dtype\":\"<f8\"," : "\"float64\"") != NULL, decimal);
			CHECK_EQ(strstr(z.meta, "scale") != NULL, decimal);
		}
		array_close(z.a);
		free(p);
	}
	world_close(&w);
}

static void check_group(struct world *w, enum zarr_version version, const char *name, const char *text)
{
	struct view *v;
	uint8_t *got;
	char path[64];
	size_t n;

	CHECK(!strcmp(zarr_meta_name(version, ZARR_META_GROUP), name));
	CHECK_OK(view_new(&v));
	CHECK_OK(zarr_meta_lay(v, version, ZARR_META_GROUP, NULL));
	got = view_world_read(w, v, &n);
	CHECK(n == strlen(text) && !memcmp(got, text, n));
	snprintf(path, sizeof(path), "zarr/v%d/%s", version == ZARR_V2 ? 2 : 3, name);
	view_world_save(path, got, n);
	free(got);
}

UNIT_TEST(zarr_groups)
{
	struct world w;

	view_world_open(&w);
	check_group(&w, ZARR_V2, ".zgroup", "{\"zarr_format\":2}\n");
	check_group(&w, ZARR_V3, "zarr.json", "{\"zarr_format\":3,\"node_type\":\"group\",\"attributes\":{}}\n");
	world_close(&w);
}

UNIT_TEST(zarr_refuses_rows_too_large)
{
	static const char *const wide[] = { "1,536870912", "1,536870911" }; /* 4 GiB of doubles, and a little less */
	struct world w;
	struct array *a;

	view_world_open(&w);
	a = view_world_array(&w, ARRAY_LAYERED, "x", 1, BLOCK, CODEC_POLICY_NONE, "f64");
	CHECK_OK(array_resize(a, 1ull << 33));
	for (int k = 0; k < 2; k++) {
		struct view_input in;
		struct view *v;

		CHECK_OK(view_new(&v));
		in = view_world_input(v, view_world_source(v, a), "x", "f64", wide[k]);
		CHECK_EQ(zarr_meta_lay(v, ZARR_V2, ZARR_META_ARRAY, &in), k ? 0 : -EFBIG);
		CHECK_EQ(zarr_nchunks(v, &in), 2);
		CHECK_EQ(zarr_chunk_lay(v, &in, 1), k ? 0 : -EFBIG);
		free((void *)in.dtype);
		view_free(v);
	}
	array_close(a);
	world_close(&w);
}
