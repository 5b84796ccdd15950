/*
 * One extent at a time: who asks wants the first few, and files have many.
 */
#include "io/extents.h"

#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

bool extents_next(int fd, uint64_t off, uint64_t end, uint64_t *from, uint64_t *to)
{
	union {
		struct fiemap map;
		char room[sizeof(struct fiemap) + sizeof(struct fiemap_extent)];
	} u = { .room = { 0 } }; /* valgrind does not know that the kernel writes behind the map */
	const struct fiemap_extent *e = u.map.fm_extents;

	for (; off < end; off = *to) {
		u.map = (struct fiemap){ .fm_start = off, .fm_length = end - off, .fm_extent_count = 1 };
		if (ioctl(fd, FS_IOC_FIEMAP, &u.map) < 0 || !u.map.fm_mapped_extents || e->fe_logical >= end)
			return false;
		*from = e->fe_logical > off ? e->fe_logical : off;
		*to = e->fe_logical + e->fe_length < end ? e->fe_logical + e->fe_length : end;
		if (*to <= *from)
			return false;
		if (!(e->fe_flags & FIEMAP_EXTENT_SHARED))
			return true;
	}
	return false;
}
