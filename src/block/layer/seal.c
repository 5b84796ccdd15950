/*
 * Sealing: the index and the seek table go behind the frames.
 *
 * Invariant: after a failure the layer is open as before, without what was written.
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
	struct layer_index_head head = layer_index_head(l, LAYER_DELTA, commit, time_ns);
	int err;

	assert(!layer_sealed(l) && l->number);
	lock_acquire(&l->lock);
	err = seal_locked(l, &head, layer_fill_index, &l->ix, l->ix.chain, l->ix.nchain);
	lock_release(&l->lock);
	return err;
}

int layer_seal_full(struct layer *l, int (*fill)(void *ctx, struct layer_filler *f), void *ctx, uint64_t commit, int64_t time_ns)
{
	struct layer_index_head head = layer_index_head(l, LAYER_FULL, commit, time_ns);
	int err;

	assert(!layer_sealed(l) && l->number);
	lock_acquire(&l->lock);
	err = seal_locked(l, &head, fill, ctx, &l->number, 1);
	lock_release(&l->lock);
	if (!err)
		layer_drop_index(l);
	return err;
}
