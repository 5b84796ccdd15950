/*
 * Sealing: the index and the seek table go behind the frames.
 *
 * Invariants: (1) the index is written piece by piece, its head at last, so that it is never in memory as a whole; (2) what
 * a failure leaves is cut off, and the layer is open as before; (3) an index names no frame of the layer that is not there.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/layer_priv.h"

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

struct layer_filler {
	struct layer *layer;
	struct index_writer *writer;
	uint32_t kind;
	uint64_t body_bytes; /* written so far */
};

/* Behind room for the head. */
static int write_body(void *ctx, const void *bytes, size_t n)
{
	struct layer_filler *f = ctx;
	uint64_t ahead = sizeof(struct layer_skip) + sizeof(struct layer_index_head) + f->body_bytes;
	int err = layer_write_locked(f->layer, bytes, n, ahead, 0);

	if (!err)
		f->body_bytes += n;
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

static int read_open_index(void *ctx, void *buf, size_t n, uint64_t off)
{
	struct layer *l = ctx;

	return layer_pread(l, buf, n, atomic_load(&l->end_bytes) + sizeof(struct layer_skip) + off);
}

/* The head and what is before it, when the body is there. */
static int write_head(struct layer_filler *f, struct layer_index_head *head)
{
	struct {
		struct layer_skip skip;
		struct layer_index_head head;
	} at = { .skip.magic = LAYER_SKIP_MAGIC };
	struct index_source src = { read_open_index, f->layer, sizeof(*head) + f->body_bytes };
	int err;

	if (src.len > UINT32_MAX - sizeof(at.skip))
		return -EFBIG;
	err = index_source_hash(&src, head, &head->xxh64);
	if (err)
		return err;
	at.skip.len_bytes = (uint32_t)src.len;
	at.head = *head;
	return layer_write_locked(f->layer, &at, sizeof(at), 0, 0);
}

static int write_index(struct layer_filler *f, int (*fill)(void *ctx, struct layer_filler *f), void *ctx, const uint64_t *chain,
		       size_t nchain, struct layer_index_head *head)
{
	struct layer *l = f->layer;
	int err = index_writer_new(l->number, (struct index_sink){ write_body, f }, &f->writer);

	if (err)
		return err;
	head->stored_bytes = atomic_load(&l->frame_bytes);
	err = fill(ctx, f);
	if (!err)
		err = index_writer_end(f->writer, chain, nchain, head);
	index_writer_free(f->writer);
	return err ? err : write_head(f, head);
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
	struct layer_filler f = { .layer = l, .kind = head->kind };
	size_t index_len = 0, table_len = 0;
	int err = nchain && chain[nchain - 1] != l->number ? -EINVAL : 0;

	if (!err)
		err = write_index(&f, fill, ctx, chain, nchain, head);
	index_len = sizeof(struct layer_skip) + sizeof(*head) + f.body_bytes;
	if (!err)
		err = write_table(l, index_len, &table_len);
	if (err) {
		if (f.body_bytes)
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

static int fill_own(void *ctx, struct layer_filler *f)
{
	(void)ctx;
	return index_write(f->writer, &f->layer->ix);
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
	err = seal_locked(l, &head, fill_own, NULL, l->ix.chain, l->ix.nchain);
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
