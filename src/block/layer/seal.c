/*
 * Writing of indexes, and sealing: the index and the seek table go behind the frames.
 *
 * Invariants: (1) an index is written piece by piece, what it begins with at last, so that its bytes are never in memory as a
 * whole; one of a single frame is one write; (2) what a failure leaves is cut off, and the layer is open as before; (3) an
 * index names no frame of the layer that is not there.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/layer/inside.h"

static void layer_seek_drop(struct layer *l)
{
	free(l->seek);
	l->seek = NULL;
	l->nseek = l->cap_seek = 0;
}

/* The seek table of all frames so far and of the index behind them. */
static int frame_seek_table(const struct layer *l, size_t index_len, uint8_t **out, size_t *len_out)
{
	struct layer_seek_entry last = { (uint32_t)index_len, 0 };
	struct layer_seek_footer footer = { .nframes = (uint32_t)l->nseek + 1,
					    .magic = LAYER_SEEK_FOOTER_MAGIC };
	size_t entries = l->nseek * sizeof(*l->seek);
	size_t len = entries + sizeof(last) + sizeof(footer);
	struct layer_skip skip = { LAYER_SEEK_MAGIC, (uint32_t)len };
	uint8_t *frame = malloc(sizeof(skip) + len), *p = frame;

	if (!frame)
		return -ENOMEM;
	memcpy(p, &skip, sizeof(skip));
	p += sizeof(skip);
	memcpy(p, l->seek, entries);
	p += entries;
	memcpy(p, &last, sizeof(last));
	p += sizeof(last);
	memcpy(p, &footer, sizeof(footer));
	*out = frame;
	*len_out = sizeof(skip) + len;
	return 0;
}

/* What stands before the body of an index. */
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
	struct index_record *one = (struct index_record *)r;
	const struct index ix = { .v = &one, .n = 1 };

	if (layer_bad_block(f->layer, &ix, f->kind, atomic_load(&f->layer->end_bytes)))
		return -EINVAL;
	return index_writer_record(f->writer, r);
}

int layer_fill_name(struct layer_filler *f, const struct index_name *n)
{
	return index_writer_name(f->writer, n);
}

/* What was given to write_body, off bytes behind the beginning of the head. */
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

static int write_table(struct layer *l, size_t index_len, size_t *len_out)
{
	uint8_t *table;
	int err = layer_seek_reserve(l);

	if (!err)
		err = frame_seek_table(l, index_len, &table, len_out);
	if (err)
		return err;
	err = layer_write_locked(l, table, *len_out, index_len, 0);
	free(table);
	return err;
}

static int seal_locked(struct layer *l, struct layer_index_head *head, int (*fill)(void *ctx, struct layer_filler *f), void *ctx,
		       const uint64_t *chain, size_t nchain)
{
	size_t index_len = 0, table_len = 0;
	int err = nchain && chain[nchain - 1] != l->number ? -EINVAL : 0;

	head->stored_bytes = atomic_load(&l->frame_bytes);
	if (!err)
		err = layer_write_index_locked(l, head, fill, ctx, chain, nchain, &index_len);
	if (err)
		return err;
	err = write_table(l, index_len, &table_len);
	if (err) {
		layer_cut_locked(l);
		return err;
	}
	l->head = *head;
	l->index_off = atomic_load(&l->end_bytes);
	l->table_off = l->index_off + index_len;
	l->nframes = (uint32_t)l->nseek + 1;
	atomic_store(&l->end_bytes, l->table_off + table_len);
	layer_seek_drop(l);
	atomic_store(&l->sealed, true);
	return 0;
}

int layer_seal(struct layer *l, uint64_t commit, int64_t time_ns)
{
	struct layer_index_head head = {
		.kind = LAYER_DELTA,
		.layer = l->number,
		.commit = commit,
		.time_ns = time_ns,
	};
	int err;

	assert(!layer_sealed(l) && l->number);
	lock_acquire(&l->lock);
	err = seal_locked(l, &head, layer_fill_index, &l->ix, l->ix.chain, l->ix.nchain);
	lock_release(&l->lock);
	return err;
}

int layer_seal_full(struct layer *l, int (*fill)(void *ctx, struct layer_filler *f), void *ctx, uint64_t commit, int64_t time_ns)
{
	struct layer_index_head head = {
		.kind = LAYER_FULL,
		.layer = l->number,
		.commit = commit,
		.time_ns = time_ns,
	};
	int err;

	assert(!layer_sealed(l) && l->number);
	lock_acquire(&l->lock);
	err = seal_locked(l, &head, fill, ctx, &l->number, 1);
	lock_release(&l->lock);
	if (!err)
		layer_drop_index(l);
	return err;
}
