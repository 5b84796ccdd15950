/*
 * Encoding of flush jobs: a block alone, or a pack of small ones that share a frame.
 *
 * A job is its first block and those that pack_next leads to. It belongs to one thread, and nobody changes
 * its blocks meanwhile.
 *
 * Invariants:
 *  1. A block of zeros has no place in a frame; its ref is all zero.
 *  2. The others stand in the frame in their order, each at a multiple of INDEX_PACK_ALIGN, zeros between
 *     them. One without company is a frame of its own, encoded with its array's memory of filters.
 */
#include <errno.h>
#include <string.h>

#include "array/layered/dirty.h"
#include "array/layered/inside.h"
#include "block/summary.h"
#include "util/buf.h"
#include "util/stats.h"

/* Gives the block its place behind *raw bytes of the frame, if it needs one. */
static bool place(struct dirty_block *b, uint32_t *raw)
{
	struct summary s;

	b->ref = (struct block_ref){ 0 };
	if (buf_is_zero(b->data, b->len_bytes))
		return false;
	summary_of(b->codec.type, b->data, b->len_bytes, &s);
	b->ref.raw_off = dirty_pack_align(*raw);
	b->ref.raw_len = b->len_bytes;
	block_ref_summarise(&b->ref, &s);
	*raw = b->ref.raw_off + b->ref.raw_len;
	return true;
}

static void set_filter(struct block_ref *ref, const struct filter *filter)
{
	struct layer_block b = block_ref_entry(ref, 0);

	layer_block_set_filter(&b, filter);
	*ref = block_ref_of(&b);
}

/* Encodes `raw` bytes as the frame of the job. */
static int encode(struct dirty_block *job, const struct codec_params *p, const void *data, uint32_t raw, struct codec_hint *hint)
{
	struct filter filter;
	size_t len;
	int err;

	job->frame_cap = codec_bound(raw);
	job->frame = buf_alloc(job->frame_cap);
	if (!job->frame)
		return -ENOMEM;
	err = codec_encode(p, data, raw, job->frame, job->frame_cap, hint, &len, &filter);
	if (err)
		return err;
	for (struct dirty_block *b = job; b; b = b->pack_next) {
		if (!b->ref.raw_len)
			continue;
		b->ref.frame_len = (uint32_t)len;
		b->ref.frame_raw = raw;
		set_filter(&b->ref, &filter);
	}
	job->frame_len = (uint32_t)len;
	stats_add(STAT_ENCODE_RAW_BYTES, raw);
	stats_add(STAT_ENCODE_STORED_BYTES, len);
	return 0;
}

static int encode_alone(struct dirty_block *job, struct dirty_block *b)
{
	struct layered *l = layered_of(b->array);
	struct codec_hint hint;
	int err;

	lock_acquire(&l->lock);
	hint = l->hint;
	lock_release(&l->lock);
	err = encode(job, &b->codec, b->data, b->ref.raw_len, &hint);
	if (!err) {
		lock_acquire(&l->lock);
		l->hint = hint;
		lock_release(&l->lock);
	}
	return err;
}

/* Is the pack one range of one array? Then its records stand as they do there. */
static bool is_range(const struct dirty_block *job)
{
	const struct dirty_block *before = NULL;

	for (const struct dirty_block *b = job; b; before = b, b = b->pack_next) {
		if (!b->ref.raw_len || b->array != job->array ||
		    (before && (b->block != before->block + 1 || b->ref.raw_off != before->ref.raw_off + before->ref.raw_len)))
			return false;
	}
	return true;
}

/* Arrays differ, so each pack is tried anew. */
static int encode_pack(struct dirty_block *job, uint32_t raw)
{
	unsigned char *data = buf_alloc(raw);
	uint32_t end = 0;
	struct codec_hint hint = CODEC_HINT_NONE;
	struct codec_params p = job->codec;

	if (!data)
		return -ENOMEM;
	job->pack = data;
	if (!is_range(job))
		p.record = (struct record){ 0 };
	for (struct dirty_block *b = job; b; b = b->pack_next) {
		if (!b->ref.raw_len)
			continue;
		memset(data + end, 0, b->ref.raw_off - end);
		memcpy(data + b->ref.raw_off, b->data, b->ref.raw_len);
		end = b->ref.raw_off + b->ref.raw_len;
	}
	return encode(job, &p, data, raw, &hint);
}

int dirty_encode(struct dirty_block *job)
{
	struct dirty_block *last = NULL;
	unsigned n = 0;
	uint32_t raw = 0;

	job->pack = job->frame = NULL;
	for (struct dirty_block *b = job; b; b = b->pack_next) {
		if (place(b, &raw)) {
			last = b;
			n++;
		}
	}
	job->frame_raw = raw;
	if (!n)
		return 0;
	return n == 1 ? encode_alone(job, last) : encode_pack(job, raw);
}

void dirty_encode_drop(struct dirty_block *job)
{
	buf_free(job->frame, job->frame_cap);
	buf_free(job->pack, job->frame_raw);
	job->frame = job->pack = NULL;
}
