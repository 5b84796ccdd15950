/*
 * Verifying layers as a whole, for checks: every frame against the seek table, and the index against the
 * frames.
 *
 * Invariants: (1) every damage is logged, with its offset; (2) damage of one frame does not keep the others
 * from being verified, because the seek table says where they begin; (3) nothing is changed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/codec.h"
#include "block/layer/inside.h"
#include "util/buf.h"
#include "util/vec.h"

/* No zstd frame decodes to more than some 32768 times its size. */
#define FRAME_RATIO_MAX 40000

struct verify {
	struct layer *l;
	const struct layer_frame *v;
	size_t n;
	uint64_t segment_off, frame_bytes; /* the last segment so far, and frames since */
	bool data;
};

static int decode_frame(struct verify *v, const struct layer_frame *f)
{
	void *frame, *out;
	int err = -ENOMEM;

	if (f->raw / FRAME_RATIO_MAX > f->len)
		return layer_damage(v->l, f->off, "a frame of %u bytes cannot decode to %u", f->len, f->raw);
	frame = buf_alloc(f->len);
	out = buf_alloc(f->raw);
	if (frame && out)
		err = layer_pread(v->l, frame, f->len, f->off);
	if (!err) {
		err = codec_decode(frame, f->len, &(struct filter){ .steps = FILTER_NONE }, out, f->raw);
		if (err == -EUCLEAN)
			layer_damage(v->l, f->off, "a frame of %u bytes does not decode to %u", f->len,
				     f->raw);
	}
	buf_free(frame, f->len);
	buf_free(out, f->raw);
	return err;
}

/* Does the entry name a frame as the seek table has it? */
static bool entry_fits(const struct verify *v, const struct layer_block *b)
{
	size_t at = VEC_LOWER_BOUND(i, v->n, v->v[i].off < b->frame_off);

	return at < v->n && v->v[at].off == b->frame_off && v->v[at].len == b->frame_len && v->v[at].raw == b->frame_raw;
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
						   (unsigned long long)b->block, (unsigned long long)r->facts.ino);
		}
	}
	return err;
}

static int verify_index(struct verify *v, size_t i)
{
	uint64_t off = v->v[i].off, limit = off + v->v[i].len, end;
	bool sealed = i + 1 == v->n && layer_sealed(v->l);
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

static int verify_frame(struct verify *v, size_t i)
{
	const struct layer_frame *f = &v->v[i];
	uint64_t stored = 0, raw = 0;
	int err;

	if (i == 0)
		return layer_read_header(v->l);
	if (f->raw)
		v->frame_bytes += f->len;
	err = layer_walk_frame(v->l, f->off, f->off + f->len, &stored, &raw);
	if (!err && (stored != f->len || raw != f->raw))
		err = layer_damage(v->l, f->off, "the seek table says %u bytes, decoded %u; the frame %llu and %llu",
				   f->len, f->raw, (unsigned long long)stored, (unsigned long long)raw);
	if (err)
		return err;
	if (!raw)
		return verify_index(v, i);
	return v->data ? decode_frame(v, f) : 0;
}

static int verify_all(struct verify *v, int (*progress)(void *ctx, uint64_t done_bytes), void *ctx)
{
	bool bad = false;
	int err;

	for (size_t i = 0; i < v->n; i++) {
		err = verify_frame(v, i);
		if (err == -ENOMEM)
			return err;
		if (err && err != -EUCLEAN)
			layer_damage(v->l, v->v[i].off, "the frame cannot be read: %s", strerror(-err));
		bad |= err != 0;
		err = progress ? progress(ctx, v->v[i].off + v->v[i].len) : 0;
		if (err)
			return err;
	}
	return bad ? -EUCLEAN : 0;
}

int layer_frames(struct layer *l, struct layer_frame **out, size_t *n_out)
{
	size_t n = layer_sealed(l) ? l->nframes : l->nseek;
	struct layer_seek_entry *table = NULL, *seek = l->seek;
	struct layer_frame *v;
	uint64_t off = 0;
	int err = layer_sealed(l) ? layer_read_table(l, &table) : 0;

	if (err)
		return err;
	if (table)
		seek = table;
	v = reallocarray(NULL, n + 1, sizeof(*v));
	for (size_t i = 0; v && i < n; i++) {
		v[i] = (struct layer_frame){ .off = off, .len = seek[i].stored_bytes, .raw = seek[i].raw_bytes };
		off += seek[i].stored_bytes;
	}
	free(table);
	if (!v)
		return -ENOMEM;
	*out = v;
	*n_out = n;
	return 0;
}

int layer_verify(struct layer *l, bool data, int (*progress)(void *ctx, uint64_t done_bytes), void *ctx)
{
	struct verify v = { .l = l, .data = data };
	struct layer_frame *frames;
	int err = layer_frames(l, &frames, &v.n);

	if (err)
		return err;
	v.v = frames;
	err = verify_all(&v, progress, ctx);
	free(frames);
	return err;
}
