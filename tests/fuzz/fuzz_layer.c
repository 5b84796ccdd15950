/*
 * Fuzz target: any bytes as what stands behind the header of a layer file: opened, verified, salvaged, and recovered
 * with what salvaging says. Whatever is taken must be readable without a crash, and salvaged layers go on.
 */
#include <errno.h>

#include "block/layer.h"
#include "block/layer/inside.h"
#include "fuzz.h"
#include "io/io.h"

#define DECODE_MAX (1u << 20)

static const uint8_t uuid[16] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };

static void decode_blocks(struct layer *l)
{
	const struct index *ix = layer_index(l);
	uint8_t *out = malloc(DECODE_MAX);

	for (size_t i = 0; out && i < ix->n; i++) {
		for (size_t k = 0; k < ix->v[i]->nblocks; k++) {
			const struct layer_block *b = &ix->v[i]->blocks[k];

			if (b->layer == l->number && b->frame_raw <= DECODE_MAX)
				layer_decode(l, b, "fuzz", 0, out);
		}
	}
	free(out);
}

static void open_sealed(struct io_dir *d)
{
	struct layer *l;

	if (layer_open_frames(d, 1, uuid, &l))
		return;
	layer_verify(l, true, NULL, NULL);
	if (!layer_load_index(l))
		decode_blocks(l);
	layer_close(l);
}

static void open_salvaged(struct io_dir *d)
{
	uint64_t committed, segment_off;
	struct layer *l, *again;
	int err = layer_salvage(d, 1, uuid, &l, &committed, &segment_off);

	if (err) {
		CHECK(err == -EUCLEAN || err == -ENODATA);
		return;
	}
	CHECK_OK(layer_recover(d, 1, uuid, committed, segment_off, &again));
	decode_blocks(l);
	CHECK(layer_frame_bytes(l) == layer_frame_bytes(again) && layer_index(l)->n == layer_index(again)->n);
	layer_close(again);
	CHECK_OK(layer_set_chain(l, NULL, 0));
	CHECK_OK(layer_seal(l, 1, 1));
	layer_close(l);
	CHECK_OK(layer_open(d, 1, uuid, &l));
	layer_close(l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct io_dir *d;
	struct layer *l;
	struct io *io;

	CHECK_OK(io_mem_dir(&d));
	CHECK_OK(io_mkdir(d, "layers"));
	CHECK_OK(layer_create(d, 1, uuid, &l));
	layer_close(l);
	CHECK_OK(io_open(d, "layers/00000001.zst", 0, &io));
	if (size)
		CHECK_OK(io_pwrite(io, data, size, 56));
	io_close(io);
	open_sealed(d);
	open_salvaged(d);
	io_dir_close(d);
	return 0;
}
