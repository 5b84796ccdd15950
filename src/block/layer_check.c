/*
 * Verifying sealed layers as a whole, for checks: every frame against the seek table, and the index against the
 * frames.
 *
 * Invariants: (1) every damage is logged, with its offset; (2) damage of one frame does not keep the others
 * from being verified, because the seek table says where they begin; (3) nothing is changed.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/codec.h"
#include "block/layer_priv.h"
#include "util/buf.h"

/* No zstd frame decodes to more than some 32768 times its size. */
#define FRAME_RATIO_MAX 40000

struct verify {
	struct layer *l;
	const struct layer_seek_entry *seek;
	uint64_t *off; /* of every frame */
	uint64_t segment_off, frame_bytes; /* the last segment so far, and frames since */
	bool data;
};

static int decode_frame(struct verify *v, uint64_t off, const struct layer_seek_entry *e)
{
	void *frame, *out;
	int err = -ENOMEM;

	if (e->raw_bytes / FRAME_RATIO_MAX > e->stored_bytes)
		return layer_damage(v->l, off, "a frame of %u bytes cannot decode to %u", e->stored_bytes, e->raw_bytes);
	frame = buf_alloc(e->stored_bytes);
	out = buf_alloc(e->raw_bytes);
	if (frame && out)
		err = layer_pread(v->l, frame, e->stored_bytes, off);
	if (!err) {
		err = codec_decode(frame, e->stored_bytes, CODEC_FILTER_NONE, 1, out, e->raw_bytes);
		if (err == -EUCLEAN)
			layer_damage(v->l, off, "a frame of %u bytes does not decode to %u", e->stored_bytes,
				     e->raw_bytes);
	}
	buf_free(frame, e->stored_bytes);
	buf_free(out, e->raw_bytes);
	return err;
}

/* Does the entry name a frame as the seek table has it? */
static bool entry_fits(const struct verify *v, const struct layer_block *b)
{
	uint32_t lo = 0, hi = v->l->nframes;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (v->off[mid] < b->frame_off)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < v->l->nframes && v->off[lo] == b->frame_off && v->seek[lo].stored_bytes == b->frame_len &&
	       v->seek[lo].raw_bytes == b->frame_raw;
}

static int verify_entries(struct verify *v, const struct index *ix)
{
	int err = 0;

	for (size_t i = 0; i < ix->n; i++) {
		const struct index_record *r = ix->v[i];

		for (size_t k = 0; k < r->nblocks; k++) {
			const struct layer_block *b = &r->blocks[k];

			if (b->layer == v->l->number && b->frame_off && !entry_fits(v, b))
				err = layer_damage(v->l, b->frame_off, "no such frame, for block %llu of inode %llu",
						   (unsigned long long)b->block, (unsigned long long)r->ino);
		}
	}
	return err;
}

static int verify_index(struct verify *v, uint32_t i)
{
	uint64_t off = v->off[i], limit = off + v->seek[i].stored_bytes, end;
	bool sealed = i + 1 == v->l->nframes;
	struct layer_index_head head;
	struct index ix;
	uint64_t prev = v->segment_off, frame_bytes = v->frame_bytes;
	int err = layer_read_index(v->l, off, limit, sealed, &head, &ix, &end);

	v->segment_off = off;
	v->frame_bytes = 0;
	if (err)
		return err;
	if (sealed) {
		err = verify_entries(v, &ix);
		if (memcmp(&head, &v->l->head, sizeof(head)))
			err = layer_damage(v->l, off, "the index is not what it was");
	} else if (head.prev_off_bytes != prev || head.stored_bytes != frame_bytes) {
		err = layer_damage(v->l, off, "the segment does not continue the one before");
	}
	index_fini(&ix);
	return err;
}

static int verify_frame(struct verify *v, uint32_t i)
{
	const struct layer_seek_entry *e = &v->seek[i];
	uint64_t off = v->off[i], stored = 0, raw = 0;
	int err;

	if (i == 0)
		return layer_read_header(v->l);
	if (e->raw_bytes)
		v->frame_bytes += e->stored_bytes;
	err = layer_walk_frame(v->l, off, off + e->stored_bytes, &stored, &raw);
	if (!err && (stored != e->stored_bytes || raw != e->raw_bytes))
		err = layer_damage(v->l, off, "the seek table says %u bytes, decoded %u; the frame %llu and %llu",
				   e->stored_bytes, e->raw_bytes, (unsigned long long)stored, (unsigned long long)raw);
	if (err)
		return err;
	if (!raw)
		return verify_index(v, i);
	return v->data ? decode_frame(v, off, e) : 0;
}

static int verify_all(struct verify *v, int (*progress)(void *ctx, uint64_t done_bytes), void *ctx)
{
	uint64_t off = 0;
	bool bad = false;
	int err;

	for (uint32_t i = 0; i < v->l->nframes; i++) {
		v->off[i] = off;
		off += v->seek[i].stored_bytes;
	}
	for (uint32_t i = 0; i < v->l->nframes; i++) {
		err = verify_frame(v, i);
		if (err == -ENOMEM)
			return err;
		if (err && err != -EUCLEAN)
			layer_damage(v->l, v->off[i], "the frame cannot be read: %s", strerror(-err));
		bad |= err != 0;
		err = progress ? progress(ctx, v->off[i] + v->seek[i].stored_bytes) : 0;
		if (err)
			return err;
	}
	return bad ? -EUCLEAN : 0;
}

int layer_verify(struct layer *l, bool data, int (*progress)(void *ctx, uint64_t done_bytes), void *ctx)
{
	struct verify v = { .l = l, .data = data };
	struct layer_seek_entry *seek;
	int err;

	assert(layer_sealed(l));
	err = layer_read_table(l, &seek);
	if (err)
		return err;
	v.seek = seek;
	v.off = reallocarray(NULL, l->nframes, sizeof(*v.off));
	err = v.off ? verify_all(&v, progress, ctx) : -ENOMEM;
	free(v.off);
	free(seek);
	return err;
}
