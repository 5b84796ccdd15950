/*
 * Ranges of a source as zstd frames, and what the store knows of ranges without reading them.
 *
 * Invariants:
 *  1. The length of a frame that is planned follows from block maps alone.
 *  2. Frames made here have a content size and a window of 128 KiB, and no checksum (it would need the data).
 */
#include <assert.h>
#include <string.h>

#include <zstd.h>

#include "array/dtype.h"
#include "array/layered/pin.h"
#include "array/summaries.h"
#include "view/deltas.h"
#include "view/inside.h"
#include "view/recoded.h"

#define RANGE_SAVES_PART 4     /* encoding takes time: the least part of its bytes that a range must save */
#define BLOCK_MAX (128u << 10) /* RFC 8878 */
#define BLOCK_HEAD 3u
#define FRAME_HEAD 10u
#define DESCRIPTOR_FCS_4BYTES 0x80
#define WINDOW_128K 0x38 /* exponent 7: 1 KiB << 7 */
enum block_type { BLOCK_RAW = 0, BLOCK_RLE = 1 };

/* The source if it has blocks. */
static struct array *layered_source(const struct view *v, unsigned source)
{
	return view_source_block_bytes(v, source) ? v->sources[source].array : NULL;
}

/* [off, off + len) is one block that is stored as a frame of its own, which decodes to just these bytes. */
static bool find_stored(const struct view *v, unsigned source, uint64_t off, uint64_t len, struct block_ref *out)
{
	struct array *a = layered_source(v, source);
	uint32_t bs = view_source_block_bytes(v, source);

	if (!a || off % bs || len > bs || !pin_block(a, off / bs, out))
		return false;
	return !out->raw_off && out->raw_len == len && out->frame_raw == len;
}

/* Nothing is stored of [off, off + len). */
static bool is_hole(const struct view *v, unsigned source, uint64_t off, uint64_t len)
{
	struct array *a = layered_source(v, source);
	uint32_t bs = view_source_block_bytes(v, source);
	struct block_ref ref;

	if (!len)
		return true;
	if (!a)
		return false;
	for (uint64_t block = off / bs; block <= (off + len - 1) / bs; block++) {
		if (pin_block(a, block, &ref))
			return false;
	}
	return true;
}

static uint64_t nblocks_of(uint64_t decoded_bytes)
{
	return (decoded_bytes + BLOCK_MAX - 1) / BLOCK_MAX;
}

static bool is_accepted(const struct block_ref *ref, unsigned accept, uint32_t elem_bytes)
{
	return ref->filter < 8 * sizeof(accept) && accept & ~VIEW_ACCEPT_DELTAS & 1u << ref->filter &&
	       (ref->filter == FILTER_NONE || ref->elem_bytes == elem_bytes);
}

static uint64_t raw_bytes(uint64_t decoded_bytes)
{
	return FRAME_HEAD + nblocks_of(decoded_bytes) * BLOCK_HEAD + decoded_bytes;
}

/* Bytes of a block of packed differences in Parquet's encoding; UINT64_MAX: it is none. */
static uint64_t stored_deltas(const struct view *v, const struct view_range *r)
{
	struct block_ref ref;
	size_t bytes;

	if (!find_stored(v, r->source, r->off, r->len, &ref) || ref.filter != (FILTER_DELTA | FILTER_PACK) || ref.elem_bytes != r->elem_bytes ||
	    !deltas_bytes((size_t)(r->len / r->elem_bytes), r->elem_bytes, ref.frame_len, &bytes))
		return UINT64_MAX;
	return bytes;
}

/* Bytes of integers in the same encoding, by how much they differ; UINT64_MAX: nobody knows, or it is too much. */
static uint64_t range_deltas(const struct view *v, const struct view_range *r)
{
	struct summary sum;
	size_t bytes;

	if (!layered_source(v, r->source) || !view_summary(v, r->source, r->type, r->off, r->len, &sum) ||
	    !deltas_range_bytes((size_t)(r->len / r->elem_bytes), r->elem_bytes, sum.min_bits, sum.max_bits, &bytes))
		return UINT64_MAX;
	return bytes;
}

/* Becomes the range shorter in Parquet's encoding of differences? */
static bool find_deltas(const struct view *v, const struct view_range *r, struct view_frame *out)
{
	uint64_t stored, range;

	if (!(r->accept & VIEW_ACCEPT_DELTAS) || r->len != r->decoded_bytes || r->len % r->elem_bytes)
		return false;
	stored = stored_deltas(v, r);
	range = stored == UINT64_MAX ? range_deltas(v, r) : UINT64_MAX;
	if (stored >= r->len && range > r->len - r->len / RANGE_SAVES_PART)
		return false;
	out->filter = stored == UINT64_MAX ? FILTER_PACK : FILTER_DELTA | FILTER_PACK;
	out->decoded_bytes = stored == UINT64_MAX ? range : stored;
	return true;
}

void view_plan_frame(const struct view *v, const struct view_range *r, struct view_frame *out)
{
	struct block_ref ref;
	struct view_frame f = { .source = r->source, .elem_bytes = r->elem_bytes, .off = r->off, .len = r->len,
				.decoded_bytes = r->decoded_bytes, .filter = (uint8_t)__builtin_ctz(r->accept) };

	assert(r->decoded_bytes && r->decoded_bytes <= UINT32_MAX && r->len <= r->decoded_bytes);
	assert(!(f.filter & ~(FILTER_DELTA | FILTER_SHUFFLE)));
	if (r->len == r->decoded_bytes && find_stored(v, r->source, r->off, r->len, &ref) && is_accepted(&ref, r->accept, r->elem_bytes)) {
		f.how = VIEW_FRAME_STORED;
		f.filter = ref.filter;
		f.block = r->off / view_source_block_bytes(v, r->source);
		f.len_bytes = ref.frame_len;
	} else if (is_hole(v, r->source, r->off, r->len)) {
		f.how = VIEW_FRAME_ZEROS;
		f.len_bytes = FRAME_HEAD + nblocks_of(r->decoded_bytes) * (BLOCK_HEAD + 1);
	} else {
		f.how = VIEW_FRAME_RAW;
		if (!find_deltas(v, r, &f))
			f.decoded_bytes = r->decoded_bytes;
		f.len_bytes = raw_bytes(f.decoded_bytes);
	}
	*out = f;
}

static void put_le(uint8_t *p, unsigned n, uint64_t x)
{
	for (unsigned i = 0; i < n; i++)
		p[i] = (uint8_t)(x >> 8 * i);
}

static void put_block_head(struct view *v, uint64_t len, enum block_type type, bool last)
{
	uint8_t head[BLOCK_HEAD];

	put_le(head, BLOCK_HEAD, len << 3 | (uint64_t)type << 1 | last);
	view_put(v, head, sizeof(head));
}

/* Bytes [at, at + len) of what the frame decodes to. */
static void put_content(struct view *v, const struct view_frame *f, uint64_t at, uint64_t len)
{
	const struct view_filtered s = { f->off, f->len, f->decoded_bytes, f->elem_bytes, f->filter };
	uint64_t data = at >= f->len ? 0 : f->len - at < len ? f->len - at : len;

	if (f->filter != FILTER_NONE) {
		view_put_filtered(v, &s, f->source, at, len);
		return;
	}
	view_put_data(v, f->source, f->off + at, data);
	view_put_zeros(v, len - data);
}

void view_plan_zeros(uint64_t decoded_bytes, struct view_frame *out)
{
	assert(decoded_bytes && decoded_bytes <= UINT32_MAX);
	*out = (struct view_frame){ .how = VIEW_FRAME_ZEROS, .decoded_bytes = decoded_bytes,
				    .len_bytes = FRAME_HEAD + nblocks_of(decoded_bytes) * (BLOCK_HEAD + 1) };
}

void view_put_frame(struct view *v, const struct view_frame *f)
{
	uint8_t head[FRAME_HEAD];

	if (f->how == VIEW_FRAME_STORED) {
		view_put_stored(v, f->source, f->block, f->len_bytes);
		return;
	}
	put_le(head, 4, ZSTD_MAGICNUMBER);
	head[4] = DESCRIPTOR_FCS_4BYTES;
	head[5] = WINDOW_128K;
	put_le(head + 6, 4, f->decoded_bytes);
	view_put(v, head, sizeof(head));
	if (f->how == VIEW_FRAME_ZEROS) {
		uint64_t before = nblocks_of(f->decoded_bytes) - 1;

		view_put_zero_blocks(v, before);
		put_block_head(v, f->decoded_bytes - before * BLOCK_MAX, BLOCK_RLE, true);
		view_put(v, "", 1);
		return;
	}
	for (uint64_t at = 0; at < f->decoded_bytes; at += BLOCK_MAX) {
		uint64_t len = f->decoded_bytes - at < BLOCK_MAX ? f->decoded_bytes - at : BLOCK_MAX;

		put_block_head(v, len, BLOCK_RAW, at + len == f->decoded_bytes);
		put_content(v, f, at, len);
	}
}

bool view_put_recoded(struct view *v, const struct view_frame *f)
{
	struct array *a = layered_source(v, f->source);
	uint32_t bs = view_source_block_bytes(v, f->source);
	struct recoded r;

	if (f->how != VIEW_FRAME_RAW || !a || f->off % bs || f->len != bs || f->decoded_bytes != bs || f->filter & FILTER_PACK ||
	    !recoded_get(a, f->off / bs, f->filter, f->elem_bytes, &r))
		return false;
	view_put(v, r.frame, r.len_bytes);
	recoded_put(&r);
	return true;
}

uint64_t view_hole_bytes(const struct view *v, unsigned source, uint64_t off)
{
	struct array *a = layered_source(v, source);
	uint64_t size = view_source_bytes(v, source), block;
	uint32_t bs = view_source_block_bytes(v, source);

	if (!a || off >= size)
		return 0;
	return pin_next(a, off / bs, &block) && block * bs < size ? block * bs - off : size - off;
}

static void widen(struct summary *sum, enum summary_type type, uint64_t min_bits, uint64_t max_bits, bool *any)
{
	if (!*any || summary_compare(type, min_bits, sum->min_bits) < 0)
		sum->min_bits = min_bits;
	if (!*any || summary_compare(type, max_bits, sum->max_bits) > 0)
		sum->max_bits = max_bits;
	*any = true;
}

bool view_survey(struct view *v, unsigned source)
{
	struct view_source *s = source < v->nsources ? &v->sources[source] : NULL;

	if (s)
		s->surveyed = s->array && !s->block_bytes;
	return s && !s->block_bytes;
}

/* The same of a bucket or column. */
static bool stretches_summary(const struct view *v, unsigned source, enum summary_type type, uint64_t off, uint64_t len, uint32_t elem,
			      struct summary *out)
{
	struct array *a = source < v->nsources ? v->sources[source].array : NULL;
	struct summary sum = { .type = type }, own;
	bool any = false;

	if (!a || view_source_block_bytes(v, source) || off % SUMMARIES_STRETCH)
		return false;
	for (uint64_t at = off; at < off + len; at += SUMMARIES_STRETCH) {
		uint64_t here = off + len - at < SUMMARIES_STRETCH ? off + len - at : SUMMARIES_STRETCH;

		if (!summaries_find(a, type, at / SUMMARIES_STRETCH, (uint32_t)here / elem, &own))
			return false;
		if (summary_compare(type, own.min_bits, own.max_bits) <= 0)
			widen(&sum, type, own.min_bits, own.max_bits, &any);
		sum.nan_count += own.nan_count;
	}
	*out = sum;
	return any;
}

bool view_summary(const struct view *v, unsigned source, enum summary_type type, uint64_t off, uint64_t len,
		  struct summary *out)
{
	struct array *a = layered_source(v, source);
	uint64_t end = off + len, size = view_source_bytes(v, source);
	uint32_t bs = view_source_block_bytes(v, source), elem;
	struct summary sum = { .type = type };
	bool any = false;

	if (!type || !len || dtype_size(summary_type_name(type), &elem))
		return false;
	if (!a)
		return stretches_summary(v, source, type, off, len, elem, out);
	if (off % bs || (end % bs && end != size))
		return false;
	for (uint64_t at = off; at < end; at += bs) {
		uint64_t here = end - at < bs ? end - at : bs;
		struct block_ref ref = { 0 };
		bool stored = pin_block(a, at / bs, &ref);
		struct summary own = block_ref_summary(&ref);

		if (stored && (ref.stat_type != type || (ref.raw_len % elem && ref.raw_len < here)))
			return false;
		if (stored && summary_compare(type, own.min_bits, own.max_bits) <= 0)
			widen(&sum, type, own.min_bits, own.max_bits, &any);
		if (!stored || ref.raw_len < here)
			widen(&sum, type, 0, 0, &any);
		sum.nan_count += own.nan_count;
	}
	if (!any)
		return false;
	*out = sum;
	return true;
}
