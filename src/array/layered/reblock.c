/*
 * A layered array in blocks of another size: its content is written anew.
 *
 * Invariants:
 *  1. The array that is read meanwhile is a pin of the old blocks; the map that is written begins empty.
 *  2. Each block that was stored is in `changes` with its old place, or the bytes of its frame would count as live for
 *     ever; a tombstone over everything precedes the new blocks in the log.
 *  3. After a failure the array is as it was: frames that were written meanwhile are dead bytes of the open layer.
 *
 * The inode is held exclusively.
 */
#include <errno.h>

#include "array/arrays.h"
#include "array/layered/dirty.h"
#include "array/layered/inside.h"
#include "array/layered/pin.h"
#include "util/buf.h"

/* Nobody reads the array, and no commit stages it, until all of it is written. */
#define REBLOCK_BYTES_MAX (1ull << 30)
#define COPY_BYTES (1u << 20)

/* The state that a failure brings back. */
struct before {
	struct blockmap map;
	size_t nchanges, ntombs;
	uint64_t stored_bytes;
	uint32_t block_bytes;
};

/* The new map's entry for a block that stands in `changes`. */
static int mark_changed(struct blockmap *to, uint64_t block)
{
	struct blockmap_entry *e;
	int err = blockmap_need(to, block, &e);

	if (!err)
		e->ref.changed = 1;
	return err;
}

/* Invariant 2. The old map stays as it is. */
static int note_old_locked(struct layered *l, struct blockmap *to)
{
	struct blockmap_entry *e;
	uint64_t block = 0;
	int err = 0;

	for (size_t i = 0; i < l->nchanges && !err; i++)
		err = mark_changed(to, l->changes[i].block);
	for (; !err && blockmap_next(&l->map, block, &block, &e); block++) {
		struct blockmap_entry old = *e;

		if (!old.ref.frame_off || old.ref.changed)
			continue;
		err = layered_note_change_locked(l, block, &old);
		if (!err)
			err = mark_changed(to, block);
	}
	if (!err && l->recorded)
		err = layered_note_tomb_locked(l, 0, UINT64_MAX);
	return err;
}

static int begin(struct layered *l, uint32_t block_bytes, struct before *b)
{
	struct blockmap map;
	int err;

	blockmap_init(&map);
	lock_acquire(&l->lock);
	*b = (struct before){ .nchanges = l->nchanges, .ntombs = l->ntombs, .block_bytes = l->array.params.block_bytes,
			      .stored_bytes = atomic_load(&l->array.stored_bytes) };
	err = note_old_locked(l, &map);
	if (err) {
		l->nchanges = b->nchanges;
		l->ntombs = b->ntombs;
		blockmap_fini(&map);
	} else {
		b->map = l->map;
		l->map = map;
		l->array.params.block_bytes = block_bytes;
		l->facts_staged = false;
		l->write_end = 0;
		atomic_store(&l->array.stored_bytes, 0);
	}
	lock_release(&l->lock);
	return err;
}

static void restore(struct layered *l, const struct before *b)
{
	layered_punch(&l->array, 0, l->array.size_bytes); /* drops the dirty blocks: all are whole */
	lock_acquire(&l->lock);
	blockmap_fini(&l->map);
	l->map = b->map;
	l->nchanges = b->nchanges;
	l->ntombs = b->ntombs;
	l->array.params.block_bytes = b->block_bytes;
	atomic_store(&l->array.stored_bytes, b->stored_bytes);
	lock_release(&l->lock);
}

/* Holes stay holes. */
static int copy_data(struct array *from, struct array *to, void *buf)
{
	uint64_t at = 0, end;
	int err = 0;

	while (!err && !array_seek(from, at, false, &at)) {
		err = array_seek(from, at, true, &end);
		while (!err && at < end) {
			size_t n = end - at < COPY_BYTES ? (size_t)(end - at) : COPY_BYTES;

			err = array_read(from, buf, n, at, &n);
			if (!err)
				err = layered_write(to, buf, n, at, 0, &(size_t){ 0 });
			at += n;
		}
	}
	return err;
}

int layered_reblock(struct array *a, uint32_t block_bytes)
{
	struct before before;
	struct array *old;
	void *buf;
	int err;

	if (a->size_bytes > REBLOCK_BYTES_MAX)
		return -EOPNOTSUPP;
	err = dirty_flush_array(a->home->dirty, a);
	if (!err)
		err = pin_array(a, 0, a->size_bytes, &old);
	if (err)
		return err;
	buf = buf_alloc(COPY_BYTES);
	err = buf ? begin(layered_of(a), block_bytes, &before) : -ENOMEM;
	if (!err) {
		err = copy_data(old, a, buf);
		if (err)
			restore(layered_of(a), &before);
		else
			blockmap_fini(&before.map);
	}
	buf_free(buf, COPY_BYTES);
	array_close(old);
	return err;
}
