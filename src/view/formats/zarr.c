/*
 * Zarr, versions 2 and 3: metadata, and chunks of whole rows.
 *
 * Invariants:
 *  1. Metadata and chunks follow from the shape and the block maps alone, by the same functions, so that they agree as
 *     long as the source is the same. A chunk whose block is stored otherwise is compressed again when it is laid out.
 *  2. A chunk is a contiguous range of the source, behind its end zeros: all chunks decode to the same size. Where the
 *     source's blocks are whole rows, a chunk is one block, and its frame the stored one.
 *  3. All chunks have gone through the same filter, by the array's type and settings alone: metadata that a reader has read stay
 *     true whatever is written. It is one that takes all bytes, so that a block that is stored otherwise can go through it as well.
 *     Version 3 has neither differences nor a shuffle of its own: the names of those in numcodecs are what readers know.
 *  4. Decimals are shown as the nearest f64, which readers find by dividing: the metadata name that as the first of the filters.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>

#include "view/formats.h"
#include "view/formats/npy.h"
#include "view/inside.h"

#define CHUNK_BYTES (1u << 20)
#define CHUNK_BYTES_LAYERED (256u << 10) /* at most this is decoded for one element */
#define DECIMAL_DIGITS_F64 15u           /* all integers of so many are f64 */

struct geometry {
	uint64_t row_bytes; /* 0: the array is empty */
	uint64_t nrows;
	uint64_t chunk_rows;
	uint64_t nchunks;
	bool frames; /* the source has blocks, and chunks are zstd frames */
	uint8_t filter; /* of all chunks */
	bool f_order;
};

static unsigned slowest_axis(const struct shape *s)
{
	return s->fortran ? s->ndims - 1 : 0;
}

static uint64_t chunk_rows(uint64_t row_bytes, uint64_t nrows, uint32_t block_bytes)
{
	uint64_t want = block_bytes ? CHUNK_BYTES_LAYERED : CHUNK_BYTES, k;

	if (block_bytes && block_bytes % row_bytes == 0)
		want = block_bytes;
	k = want / row_bytes;
	if (k > nrows)
		k = nrows;
	return k ? k : 1;
}

static bool is_integer(const struct dtype *d)
{
	return !d->record && d->fields[0].type <= DTYPE_U64;
}

/* Can the metadata name the filter? Readers take differences of an array in its own type, and those of floats are others. */
static bool has_name(uint8_t filter, const struct dtype *d)
{
	return filter_fits(filter, d->bytes) && !(filter & ~(FILTER_DELTA | FILTER_SHUFFLE)) && (!(filter & FILTER_DELTA) || is_integer(d));
}

static void find_geometry(uint32_t block_bytes, const struct view_input *in, struct geometry *out)
{
	struct geometry g = { .frames = block_bytes, .chunk_rows = 1,
			      .f_order = in->shape.fortran && in->shape.ndims > 1 };

	g.nrows = in->shape.ndims ? in->shape.dims[slowest_axis(&in->shape)] : 1;
	if (shape_count(&in->shape)) {
		g.row_bytes = shape_row(&in->shape) * in->dtype->bytes;
		g.chunk_rows = chunk_rows(g.row_bytes, g.nrows, block_bytes);
		g.nchunks = (g.nrows + g.chunk_rows - 1) / g.chunk_rows;
		if (g.frames && g.chunk_rows * g.row_bytes <= block_bytes && has_name(in->filter, in->dtype))
			g.filter = in->filter;
	}
	*out = g;
}

/* A frame says its size in four bytes, and readers decode a chunk as a whole. */
static int chunks_fit(struct view *v, const struct geometry *g)
{
	if (g->row_bytes > UINT32_MAX)
		view_fail(v, -EFBIG);
	return view_end(v);
}

bool zarr_can(enum zarr_version version, const struct dtype *d)
{
	return version == ZARR_V2 || !d->record;
}

const char *zarr_meta_name(enum zarr_version version, enum zarr_meta what)
{
	if (version == ZARR_V3)
		return "zarr.json";
	return what == ZARR_META_ARRAY ? ".zarray" : ".zgroup";
}

/* "shape" and "chunks" in the words of the version. */
static void add_dims(struct view_text *t, const char *name, const struct view_input *in, const struct geometry *chunk)
{
	const struct shape *s = &in->shape;

	view_text_add(t, "\"%s\":[", name);
	for (unsigned k = 0; k < s->ndims; k++) {
		uint64_t dim = s->dims[k];

		if (chunk && k == slowest_axis(s))
			dim = chunk->chunk_rows;
		else if (chunk && !dim)
			dim = 1; /* no reader takes chunks of no length */
		view_text_add(t, "%s%" PRIu64, k ? "," : "", dim);
	}
	view_text_add(t, "]");
}

static bool is_complex(enum dtype_scalar s)
{
	return s == DTYPE_C64 || s == DTYPE_C128;
}

/* Readers show this value for a missing chunk; no chunk is missing. Not all readers understand a complex one of version 2. */
static const char *fill_value(const struct dtype *d, int version)
{
	bool complex = is_complex(d->fields[0].type);

	if (d->record || (complex && version == 2))
		return "null";
	if (complex)
		return "[0.0,0.0]";
	return d->fields[0].type == DTYPE_BOOL ? "false" : "0";
}

/* Digits behind the point of elements that are shown as f64; 0: they are shown as what they are. */
static unsigned decimals(const struct view_input *in)
{
	bool shown = in->logical.kind == LOGICAL_DECIMAL && in->logical.precision <= DECIMAL_DIGITS_F64 && logical_fits(&in->logical, in->dtype);

	return shown ? in->logical.scale : 0;
}

/* Adds the power of ten by which readers divide. */
static void add_scale(struct view_text *t, const struct view_input *in)
{
	view_text_add(t, "\"scale\":1%0*d,\"offset\":0", (int)decimals(in), 0);
}

static void add_v2_type(struct view_text *t, const struct view_input *in)
{
	const struct dtype *d = in->dtype;

	if (decimals(in)) {
		view_text_add(t, "\"<f8\"");
		return;
	}
	view_text_add(t, "%s", d->record ? "[" : "\"");
	for (uint32_t k = 0; k < d->nfields; k++) {
		const struct dtype_field *f = &d->fields[k];

		if (d->record)
			view_text_add(t, "%s[\"%.*s\",\"", k ? "," : "", (int)f->name_len, f->name);
		npy_type(t, f->type, d->record ? NULL : &in->logical);
		if (d->record)
			view_text_add(t, "\"]");
	}
	view_text_add(t, "%s", d->record ? "]" : "\"");
}

static void add_v2_filters(struct view_text *t, const struct view_input *in, const struct geometry *g)
{
	const char *sep = "";

	if (!g->filter && !decimals(in)) {
		view_text_add(t, "null");
		return;
	}
	view_text_add(t, "[");
	if (decimals(in)) {
		view_text_add(t, "{\"id\":\"fixedscaleoffset\",");
		add_scale(t, in);
		view_text_add(t, ",\"dtype\":\"<f8\",\"astype\":\"");
		npy_type(t, in->dtype->fields[0].type, NULL);
		view_text_add(t, "\"}");
		sep = ",";
	}
	if (g->filter & FILTER_DELTA) {
		view_text_add(t, "%s{\"id\":\"delta\",\"dtype\":\"", sep);
		npy_type(t, in->dtype->fields[0].type, NULL);
		view_text_add(t, "\"}");
		sep = ",";
	}
	if (g->filter & FILTER_SHUFFLE)
		view_text_add(t, "%s{\"id\":\"shuffle\",\"elementsize\":%" PRIu32 "}", sep, in->dtype->bytes);
	view_text_add(t, "]");
}

static void add_v2_array(struct view_text *t, const struct view_input *in, const struct geometry *g)
{
	view_text_add(t, "{\"zarr_format\":2,");
	add_dims(t, "shape", in, NULL);
	view_text_add(t, ",");
	add_dims(t, "chunks", in, g);
	view_text_add(t, ",\"dtype\":");
	add_v2_type(t, in);
	view_text_add(t, ",\"compressor\":%s,\"fill_value\":%s,\"order\":\"%s\",\"filters\":",
		      g->frames ? "{\"id\":\"zstd\",\"level\":3}" : "null", fill_value(in->dtype, 2), g->f_order ? "F" : "C");
	add_v2_filters(t, in, g);
	view_text_add(t, ",\"dimension_separator\":\".\"}\n");
}

static const char *const v3_types[DTYPE_NSCALARS] = {
	[DTYPE_I8] = "int8",	 [DTYPE_I16] = "int16",	  [DTYPE_I32] = "int32",    [DTYPE_I64] = "int64",
	[DTYPE_U8] = "uint8",	 [DTYPE_U16] = "uint16",  [DTYPE_U32] = "uint32",   [DTYPE_U64] = "uint64",
	[DTYPE_F16] = "float16", [DTYPE_F32] = "float32", [DTYPE_F64] = "float64",  [DTYPE_C64] = "complex64",
	[DTYPE_C128] = "complex128", [DTYPE_BOOL] = "bool",
};

static void add_v3_codecs(struct view_text *t, const struct view_input *in, const struct geometry *g)
{
	view_text_add(t, "\"codecs\":[");
	if (g->f_order) {
		view_text_add(t, "{\"name\":\"transpose\",\"configuration\":{\"order\":[");
		for (unsigned k = in->shape.ndims; k-- > 0;)
			view_text_add(t, "%u%s", k, k ? "," : "]}},");
	}
	if (decimals(in)) {
		view_text_add(t, "{\"name\":\"scale_offset\",\"configuration\":{");
		add_scale(t, in);
		view_text_add(t, "}},{\"name\":\"cast_value\",\"configuration\":{\"data_type\":\"%s\",\"rounding\":\"nearest-even\"}},",
			      v3_types[in->dtype->fields[0].type]);
	}
	if (g->filter & FILTER_DELTA) {
		view_text_add(t, "{\"name\":\"numcodecs.delta\",\"configuration\":{\"dtype\":\"");
		npy_type(t, in->dtype->fields[0].type, NULL);
		view_text_add(t, "\"}},");
	}
	view_text_add(t, "{\"name\":\"bytes\"%s}",
		      in->dtype->bytes > 1 ? ",\"configuration\":{\"endian\":\"little\"}" : "");
	if (g->filter & FILTER_SHUFFLE)
		view_text_add(t, ",{\"name\":\"numcodecs.shuffle\",\"configuration\":{\"elementsize\":%" PRIu32 "}}", in->dtype->bytes);
	if (g->frames)
		view_text_add(t, ",{\"name\":\"zstd\",\"configuration\":{\"level\":3,\"checksum\":false}}");
	view_text_add(t, "]");
}

static void add_v3_array(struct view_text *t, const struct view_input *in, const struct geometry *g)
{
	view_text_add(t, "{\"zarr_format\":3,\"node_type\":\"array\",");
	add_dims(t, "shape", in, NULL);
	view_text_add(t, ",\"data_type\":\"%s\",\"chunk_grid\":{\"name\":\"regular\",\"configuration\":{",
		      v3_types[decimals(in) ? DTYPE_F64 : in->dtype->fields[0].type]);
	add_dims(t, "chunk_shape", in, g);
	view_text_add(t, "}},\"chunk_key_encoding\":{\"name\":\"default\",\"configuration\":{\"separator\":\"/\"}},");
	view_text_add(t, "\"fill_value\":%s,", fill_value(in->dtype, 3));
	add_v3_codecs(t, in, g);
	view_text_add(t, ",\"attributes\":{}}\n");
}

int zarr_meta_lay(struct view *v, enum zarr_version version, enum zarr_meta what, const struct view_input *in)
{
	struct view_text t;
	struct geometry g;

	t.n = 0;
	if (what == ZARR_META_GROUP) {
		view_text_add(&t, version == ZARR_V2 ? "{\"zarr_format\":2}\n" :
						       "{\"zarr_format\":3,\"node_type\":\"group\",\"attributes\":{}}\n");
	} else {
		find_geometry(view_source_block_bytes(v, in->source), in, &g);
		if (chunks_fit(v, &g))
			return view_end(v);
		if (version == ZARR_V2)
			add_v2_array(&t, in, &g);
		else
			add_v3_array(&t, in, &g);
	}
	view_put(v, t.s, t.n);
	return view_end(v);
}

uint64_t zarr_nchunks(const struct view *v, const struct view_input *in)
{
	struct geometry g;

	find_geometry(view_source_block_bytes(v, in->source), in, &g);
	return g.nchunks;
}

/* The bytes of the array that a chunk shows. */
static void chunk_range(const struct geometry *g, uint64_t chunk, uint64_t *off, uint64_t *len)
{
	uint64_t full = g->chunk_rows * g->row_bytes, size = g->nrows * g->row_bytes;

	*off = chunk * full;
	*len = size - *off < full ? size - *off : full;
}

void zarr_chunk_range(uint32_t block_bytes, const struct view_input *in, uint64_t chunk, uint64_t *off, uint64_t *len)
{
	struct geometry g;

	find_geometry(block_bytes, in, &g);
	*off = *len = 0;
	if (chunk < g.nchunks)
		chunk_range(&g, chunk, off, len);
}

int zarr_chunk_lay(struct view *v, const struct view_input *in, uint64_t chunk)
{
	uint64_t off, len, full;
	struct view_frame f;
	struct geometry g;

	find_geometry(view_source_block_bytes(v, in->source), in, &g);
	if (chunks_fit(v, &g))
		return view_end(v);
	assert(chunk < g.nchunks);
	full = g.chunk_rows * g.row_bytes;
	chunk_range(&g, chunk, &off, &len);
	if (g.frames) {
		view_plan_frame(v, &(struct view_range){ in->source, 1u << g.filter, off, len, full, in->dtype->bytes, SUMMARY_NONE }, &f);
		if (!view_put_recoded(v, &f))
			view_put_frame(v, &f);
	} else {
		view_put_data(v, in->source, off, len);
		view_put_zeros(v, full - len);
	}
	return view_end(v);
}
