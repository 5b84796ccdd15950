/*
 * Tails: bytes that the kernel has of a mapping, and the file has not.
 *
 * fallocate and writes around the cache have the page dropped while the kernel still knows the old end. A truncation cannot
 * wait for that: the kernel holds page writes back until it is answered, then takes the new size for the end, writes the page
 * back and drops it. Bytes that it writes then behind the old end are left out.
 *
 * Invariant: inode.old_end is set only while no byte of the page behind it can have been written after the truncation. The
 * kernel has dropped the page when the truncation returns, so that such a byte needs a read or a write first, which is seen
 * here. With its writeback cache neither is: nothing is left out then.
 */
#include "tree/live/tail.h"

#include <unistd.h>

#include "tree/live/live.h"

static uint64_t page_end(uint64_t bytes)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

	return (bytes + page - 1) / page * page;
}

static bool has_tail(const struct inode *i, uint64_t end_bytes)
{
	return atomic_load(&i->nmappable) > 0 && page_end(end_bytes) != end_bytes;
}

void tail_resized(struct inode *i, uint64_t old_bytes)
{
	bool grew = inode_size(i) > old_bytes && has_tail(i, old_bytes);

	atomic_store(&live_of(i)->old_end, grew && !i->tree->sizes_stick ? old_bytes : 0);
}

uint64_t tail_drop_from(const struct inode *i, uint64_t old_bytes, uint64_t off_bytes)
{
	return off_bytes > old_bytes && has_tail(i, old_bytes) ? old_bytes : off_bytes;
}

void tail_replaced(struct inode *i, uint64_t off_bytes, size_t len)
{
	uint64_t end = atomic_load(&live_of(i)->old_end);

	if (end && off_bytes < page_end(end) && page_end(off_bytes + len) >= page_end(end))
		atomic_store(&live_of(i)->old_end, 0);
}

bool tail_covers(const struct inode *i, uint64_t off_bytes, size_t len, uint64_t *from_out, uint64_t *to_out)
{
	uint64_t from = atomic_load(&live_of(i)->old_end), to = page_end(from), end = off_bytes + len;

	if (off_bytes > from)
		from = off_bytes;
	if (end < to)
		to = end;
	if (!atomic_load(&live_of(i)->old_end) || from >= to)
		return false;
	*from_out = from;
	*to_out = to;
	return true;
}
