/*
 * Indexes in a layer file, read and written: a segment whenever the layer is made durable, and what it is sealed with.
 *
 * Invariants: (1) nothing is believed before its checksum or its bounds are verified; (2) an index names no frame of the layer
 * that is not there; (3) an index is written piece by piece, what it begins with at last, so that its bytes are never in memory
 * as a whole; one of a single frame is one write; (4) what a failure leaves is cut off; (5) a segment's stored_bytes are
 * those of the frames since the segment before; (6) the index in memory holds what the segments say, no more, but for the
 * chain; (7) a layer without a number has no segment.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/layer/inside.h"

const struct layer_block *layer_bad_block(const struct layer *l, const struct index_record *r, uint32_t kind, uint64_t limit)
{
	for (size_t k = 0; k < r->nblocks; k++) {
		const struct layer_block *b = &r->blocks[k];

		if (b->layer != l->number) {
			if (kind != LAYER_FULL)
				return b;
			continue;
		}
		if (b->frame_off && (b->frame_off < LAYER_HEADER_FRAME_BYTES || b->frame_off > limit ||
				     b->frame_len > limit - b->frame_off))
			return b;
	}
	return NULL;
}

static const struct layer_block *bad_block(const struct layer *l, const struct index *ix, uint32_t kind, uint64_t limit)
{
	const struct layer_block *bad = NULL;

	for (size_t i = 0; i < ix->n && !bad; i++)
		bad = layer_bad_block(l, ix->v[i], kind, limit);
	return bad;
}

/* Is the chain what an index of this kind has? */
static bool chain_fits(const struct layer *l, uint32_t kind, const struct index *ix)
{
	if (kind == LAYER_SEGMENT)
		return true;
	if (kind == LAYER_FULL && ix->nchain != 1)
		return false;
	return !ix->nchain || ix->chain[ix->nchain - 1] == l->number;
}

static int check_index(const struct layer *l, uint64_t off, bool sealed, const struct layer_index_head *head,
		       const struct index *ix)
{
	const struct layer_block *bad;

	if ((head->kind == LAYER_SEGMENT) == sealed || head->layer != l->number)
		return layer_damage(l, off, "an index of kind %u, layer %llu", head->kind,
				    (unsigned long long)head->layer);
	if (!chain_fits(l, head->kind, ix))
		return layer_damage(l, off, "the chain does not end in this layer");
	bad = bad_block(l, ix, head->kind, off);
	if (bad)
		return layer_damage(l, off, "block %llu, of layer %llu at %llu, lies outside the frames",
				    (unsigned long long)bad->block, (unsigned long long)bad->layer,
				    (unsigned long long)bad->frame_off);
	return 0;
}

int layer_read_index(struct layer *l, uint64_t off, uint64_t limit, bool sealed, struct layer_index_head *head_out,
		     struct index *ix_out, uint64_t *end_out)
{
	struct layer_index_head head;
	struct layer_skip skip;
	struct index ix;
	void *bytes;
	int err;

	if (off < LAYER_HEADER_FRAME_BYTES || off > limit || limit - off < sizeof(skip))
		return layer_damage(l, off, "no room for an index");
	err = layer_pread(l, &skip, sizeof(skip), off);
	if (err)
		return err;
	if (skip.magic != LAYER_SKIP_MAGIC || skip.len_bytes > limit - off - sizeof(skip))
		return layer_damage(l, off, "no index where one should be");
	bytes = malloc(skip.len_bytes ? skip.len_bytes : 1);
	if (!bytes)
		return -ENOMEM;
	err = layer_pread(l, bytes, skip.len_bytes, off + sizeof(skip));
	if (!err) {
		err = index_decode(bytes, skip.len_bytes, &head, &ix);
		if (err == -EUCLEAN)
			layer_damage(l, off, "the index is damaged");
	}
	free(bytes);
	if (err)
		return err;
	err = check_index(l, off, sealed, &head, &ix);
	if (err) {
		index_fini(&ix);
		return err;
	}
	*head_out = head;
	*ix_out = ix;
	*end_out = off + sizeof(skip) + skip.len_bytes;
	return 0;
}

/* The bytes before the body of an index. */
struct front {
	struct layer_skip skip;
	struct layer_index_head head;
};

struct layer_filler {
	struct layer *layer;
	struct index_writer *writer;
	uint32_t kind;
	uint8_t *first;      /* the front, and the frame behind it: they are written at last, at once */
	size_t first_len;
	uint64_t len_bytes;  /* of all, so far */
};

static int write_body(void *ctx, const void *bytes, size_t n)
{
	struct layer_filler *f = ctx;
	int err;

	if (!f->first) {
		f->first_len = sizeof(struct front) + n;
		f->first = malloc(f->first_len);
		if (!f->first)
			return -ENOMEM;
		memcpy(f->first + sizeof(struct front), bytes, n);
		f->len_bytes = f->first_len;
		return 0;
	}
	err = layer_write_locked(f->layer, bytes, n, f->len_bytes, 0);
	if (!err)
		f->len_bytes += n;
	return err;
}

int layer_fill_record(struct layer_filler *f, const struct index_record *r)
{
	if (layer_bad_block(f->layer, r, f->kind, atomic_load(&f->layer->end_bytes)))
		return -EINVAL;
	return index_writer_record(f->writer, r);
}

int layer_fill_name(struct layer_filler *f, const struct index_name *n)
{
	return index_writer_name(f->writer, n);
}

/* Reads again the bytes that write_body was given, from `off` behind the beginning of the head on. */
static int read_body(void *ctx, void *buf, size_t n, uint64_t off)
{
	struct layer_filler *f = ctx;
	uint64_t at = sizeof(struct layer_skip) + off;
	size_t have = at < f->first_len ? f->first_len - (size_t)at : 0;

	if (have > n)
		have = n;
	if (have)
		memcpy(buf, f->first + at, have);
	return have == n ? 0 : layer_pread(f->layer, (uint8_t *)buf + have, n - have, atomic_load(&f->layer->end_bytes) + at + have);
}

/* The first part, when the rest is there. */
static int write_first(struct layer_filler *f, struct layer_index_head *head)
{
	struct front front = { .skip.magic = LAYER_SKIP_MAGIC };
	struct index_source src = { read_body, f, f->len_bytes - sizeof(front.skip) };
	int err;

	if (src.len > UINT32_MAX - sizeof(front.skip))
		return -EFBIG;
	err = index_source_hash(&src, head, &head->xxh64);
	if (err)
		return err;
	front.skip.len_bytes = (uint32_t)src.len;
	front.head = *head;
	memcpy(f->first, &front, sizeof(front));
	return layer_write_locked(f->layer, f->first, f->first_len, 0, 0);
}

static int write_pieces(struct layer_filler *f, int (*fill)(void *ctx, struct layer_filler *f), void *ctx, const uint64_t *chain,
			size_t nchain, struct layer_index_head *head)
{
	int err = fill(ctx, f);

	if (!err)
		err = index_writer_end(f->writer, chain, nchain, head);
	/* An index without a body. */
	if (!err && !f->first)
		err = write_body(f, "", 0);
	return err ? err : write_first(f, head);
}

int layer_write_index_locked(struct layer *l, struct layer_index_head *head, int (*fill)(void *ctx, struct layer_filler *f),
			     void *ctx, const uint64_t *chain, size_t nchain, size_t *len_out)
{
	struct layer_filler f = { .layer = l, .kind = head->kind };
	int err = index_writer_new(l->number, (struct index_sink){ write_body, &f }, &f.writer);

	if (err)
		return err;
	err = write_pieces(&f, fill, ctx, chain, nchain, head);
	index_writer_free(f.writer);
	free(f.first);
	if (err && f.len_bytes > f.first_len)
		layer_cut_locked(l);
	if (!err)
		*len_out = f.len_bytes;
	return err;
}

int layer_fill_index(void *ix, struct layer_filler *f)
{
	return index_write(f->writer, ix);
}

static int segment_append_locked(struct layer *l, struct index *added, struct layer_index_head *head)
{
	uint64_t frame_bytes = atomic_load(&l->frame_bytes);
	size_t len;
	int err;

	if (bad_block(l, added, head->kind, atomic_load(&l->end_bytes)))
		return -EINVAL;
	head->prev_off_bytes = l->segment_off;
	head->stored_bytes = frame_bytes - l->segment_frame_bytes;
	err = layer_seek_reserve(l);
	if (!err)
		err = layer_write_index_locked(l, head, layer_fill_index, added, added->chain, added->nchain, &len);
	if (err)
		return err;
	err = index_take(&l->ix, added);
	if (err) {
		/* The index is neither old nor new: nothing may be built on it. */
		layer_cut_locked(l);
		l->broken = err;
		return err;
	}
	l->segment_off = atomic_load(&l->end_bytes);
	l->segment_frame_bytes = frame_bytes;
	layer_seek_push(l, len, 0);
	return 0;
}

int layer_segment(struct layer *l, struct index *added, uint64_t commit, int64_t time_ns,
		  uint64_t *segment_off_out)
{
	struct layer_index_head head = layer_index_head(l, LAYER_SEGMENT, commit, time_ns);
	uint64_t off;
	int err;

	assert(!layer_sealed(l) && l->number);
	lock_acquire(&l->lock);
	err = segment_append_locked(l, added, &head);
	off = l->segment_off;
	lock_release(&l->lock);
	if (!err)
		*segment_off_out = off;
	return err;
}

int layer_set_chain(struct layer *l, const uint64_t *chain, size_t n)
{
	int err;

	assert(!layer_sealed(l) && l->number);
	if (n && chain[n - 1] != l->number)
		return -EINVAL;
	lock_acquire(&l->lock);
	err = index_set_chain(&l->ix, chain, n);
	lock_release(&l->lock);
	return err;
}
