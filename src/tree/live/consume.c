/*
 * Freeing behind readers.
 *
 * Invariant: all that is freed has been read by this handle, in order: the kernel makes the requests of a read(2) one after the other. A
 * request that leaves a gap, as reads of several threads or of io_uring do, ends it.
 */
#include "tree/live/consume.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>

#include "array/setting.h"
#include "store/store.h"
#include "tree/live/edit.h"
#include "tree/live/live.h"
#include "tree/live/privs.h"
#include "tree/setting.h"

/* A reader may go back so far. */
#define CONSUME_MARGIN_BYTES (1u << 20)
/* So much is freed at once, in whole blocks of a layered array. */
#define CONSUME_STEP_BYTES (1u << 20)

static bool is_wanted_locked(struct inode *i)
{
	struct settings s;
	char *dtype;

	if (settings_read_locked(i, &s, &dtype))
		return false;
	free(dtype);
	return s.consume;
}

void consume_begin(struct consume *c, struct inode *i, int flags, const struct tree_caller *who)
{
	struct meta *m = i->tree->store->meta;

	if ((flags & O_ACCMODE) != O_RDONLY || !who || !atomic_load(&live_of(i)->has_xattrs))
		return;
	meta_lock(m);
	c->on = is_wanted_locked(i) && privs_may_locked(i, who, S_IWUSR);
	meta_unlock(m);
	if (c->on)
		lock_init(&c->lock, RANK_CONSUME);
}

static void free_range(struct inode *i, uint64_t from, uint64_t to)
{
	bool punched;

	/* A range that cannot be freed stays until the file goes. */
	edit_allocate(i, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from, to - from, NULL, &punched);
	if (punched)
		changed_attr(i->tree, i->facts.ino); /* its blocks */
}

void consume_end(struct consume *c, struct inode *i)
{
	uint64_t size = inode_size(i);

	if (!c->on)
		return;
	if (!c->ended && c->seen >= size && c->freed < size)
		free_range(i, c->freed, size);
	lock_fini(&c->lock);
}

static uint64_t block_of(struct inode *i)
{
	uint64_t block = 4096;

	rwlock_shared(&i->rw);
	if (i->array && i->facts.kind == ARRAY_LAYERED)
		block = i->array->params.block_bytes;
	rwlock_release(&i->rw);
	return block;
}

void consume_read(struct consume *c, struct inode *i, uint64_t off_bytes, uint64_t len)
{
	uint64_t block, from, to;

	if (!c->on)
		return;
	block = block_of(i);
	lock_acquire(&c->lock);
	if (off_bytes > c->seen)
		c->ended = true;
	from = to = c->freed;
	/* The bytes of this read are not behind it yet. */
	if (!c->ended && off_bytes > c->freed + CONSUME_MARGIN_BYTES + CONSUME_STEP_BYTES)
		to = (off_bytes - CONSUME_MARGIN_BYTES) / block * block;
	if (to > from)
		c->freed = to;
	if (!c->ended && off_bytes + len > c->seen)
		c->seen = off_bytes + len;
	lock_release(&c->lock);
	if (to > from)
		free_range(i, from, to);
}
