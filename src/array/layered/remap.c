/*
 * A layered array after a compaction: blocks whose frames were moved are looked for in the new layer.
 *
 * Invariant: a block that is in a moved layer has not changed since it was staged, so that the compaction's
 * picture of the staged state has it. The inode is held exclusively.
 */
#include "array/layered/layered.h"

#include "block/format.h"
#include "store/compact.h"

int layered_remap(struct array *a, const struct compact *c)
{
	struct layered *l = (struct layered *)a;
	struct blockmap_entry *e;
	uint64_t block = 0;
	int err = 0;

	lock_acquire(&l->lock);
	for (; !err && blockmap_next(&l->map, block, &block, &e); block++) {
		struct block_ref ref = e->ref;
		struct layer_block to = { .layer = ref.layer, .frame_off = ref.frame_off, .raw_off = ref.raw_off };

		if (!ref.frame_off || !compact_moved(c, ref.layer))
			continue;
		err = compact_place(c, &to);
		if (err)
			break;
		ref.layer = (uint32_t)to.layer;
		ref.frame_off = to.frame_off;
		ref.frame_len = to.frame_len;
		ref.frame_raw = to.frame_raw;
		ref.raw_off = to.raw_off;
		ref.filter = to.filter;
		ref.elem_bytes = to.elem_bytes;
		layered_set_ref_locked(l, e, &ref);
	}
	lock_release(&l->lock);
	return err;
}
