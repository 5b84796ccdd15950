/*
 * Growth that the kernel is not told of yet.
 *
 * Invariant: of several writes the first one's size is told until the last one has ended. The kernel makes the requests of one write at
 * the same time, but no two writes that make a file longer.
 */
#include "tree/live/growth.h"

#include "tree/live/live.h"

void growth_begin(struct inode *i)
{
	struct growth *g = &live_of(i)->growth;

	lock_acquire(&i->attr);
	if (!g->nwrites++)
		g->told_bytes = inode_size(i);
	lock_release(&i->attr);
}

void growth_end(struct inode *i)
{
	lock_acquire(&i->attr);
	live_of(i)->growth.nwrites--;
	lock_release(&i->attr);
}

void growth_stat_locked(const struct inode *i, struct stat *st)
{
	const struct growth *g = &live_of(i)->growth;

	if (g->nwrites && (uint64_t)st->st_size > g->told_bytes)
		st->st_size = (off_t)g->told_bytes;
}
