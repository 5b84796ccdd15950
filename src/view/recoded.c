/*
 * See recoded.h.
 *
 * Invariant: an entry of the cache has the length of its frame, and then the frame; length 0: it does not save enough. Its key is that
 * of the stored frame, which is never reused, beside the filter and the width that the elements have.
 */
#include "view/recoded.h"

#include <errno.h>
#include <string.h>

#include "array/array.h"
#include "array/arrays.h"
#include "array/layered/pin.h"
#include "block/codec.h"
#include "store/store.h"

#define LEVEL (-1)             /* of zstd: 1 to 2 GB/s of shuffled numbers, two to four times as fast as 3 */
#define SAVES_PART 8           /* the least part of a block that a frame must save */
#define BLOCK_MAX (256u << 10) /* a lookup waits for so much at most, and an open chunk has its frame in memory */
#define KIND_RECODED (1ull << 63)
#define KIND_FILTER_SHIFT 32   /* above the width of the elements */

struct load {
	struct array *pin;
	uint64_t off_bytes;
	uint32_t raw_bytes;
	uint8_t filter, elem_bytes;
};

static size_t entry_bytes(uint32_t raw_bytes)
{
	return sizeof(uint32_t) + codec_bound(raw_bytes);
}

static int encode(const struct load *l, const void *raw, uint32_t *len_out, void *frame)
{
	const struct codec_params params = { .level = LEVEL, .policy = (enum codec_policy)l->filter, .elem_bytes = l->elem_bytes };
	struct codec_hint hint = CODEC_HINT_NONE;
	struct filter f;
	size_t len;
	int err = codec_encode(&params, raw, l->raw_bytes, frame, codec_bound(l->raw_bytes), &hint, &len, &f);

	if (err)
		return err;
	*len_out = f.steps == l->filter && len <= l->raw_bytes - l->raw_bytes / SAVES_PART ? (uint32_t)len : 0;
	return 0;
}

/* The block is lent as a whole: a pinned array has it decoded in one piece. */
static int load(void *ctx, void *dst, size_t size)
{
	const struct load *l = ctx;
	struct lease lease;
	uint32_t len = 0;
	int err = array_borrow(l->pin, l->off_bytes, l->raw_bytes, IO_KEPT, &lease);

	(void)size;
	if (err)
		return err;
	err = lease.ptr && lease.len_bytes == l->raw_bytes ? encode(l, lease.ptr, &len, (uint8_t *)dst + sizeof(len)) : -EIO;
	lease_return(&lease);
	if (!err)
		memcpy(dst, &len, sizeof(len));
	return err;
}

bool recoded_get(struct array *pin, uint64_t block, uint8_t filter, uint32_t elem_bytes, struct recoded *out)
{
	uint32_t bs = pin->params.block_bytes, len;
	struct load l = { .pin = pin, .off_bytes = block * bs, .raw_bytes = bs, .filter = filter, .elem_bytes = filter == FILTER_NONE ? 1 : (uint8_t)elem_bytes };
	struct recoded r = { .cache = pin->home->store->cache };
	struct block_ref ref;
	struct cache_key key;

	if (bs > BLOCK_MAX || !pin_block(pin, block, &ref) || ref.raw_off || ref.raw_len != bs || ref.frame_raw != bs)
		return false;
	key = (struct cache_key){ ref.layer, ref.frame_off, KIND_RECODED | (uint64_t)filter << KIND_FILTER_SHIFT | l.elem_bytes };
	/* The chunk is laid out as decoded then, and its reader is told of what has failed. */
	if (cache_get(r.cache, key, entry_bytes(bs), load, &l, &r.entry))
		return false;
	memcpy(&len, cache_data(r.entry), sizeof(len));
	r.frame = (const uint8_t *)cache_data(r.entry) + sizeof(len);
	r.len_bytes = len;
	if (!len)
		recoded_put(&r);
	*out = r;
	return len;
}

void recoded_put(struct recoded *r)
{
	cache_put_passed(r->cache, r->entry);
}
