/*
 * Transfers on a file with two descriptors: one that goes through the page cache and one with O_DIRECT.
 * The kernel keeps the two coherent. Private to io/.
 *
 * An uncached write is the third way: through the page cache, without waiting for the disk, and the kernel begins to write the pages
 * back at once and drops them when it has (RWF_DONTCACHE of pwritev2(2), Linux 6.14; the file system has to take it, too).
 *
 * A direct transfer waits for, in this order: a lease; direct_end (RANK_END), while the file is cut; the one
 * or two blocks that it shares with other writes (RANK_EDGE). It holds one lease at a time.
 */
#ifndef SPILLFS_IO_DIRECT_H
#define SPILLFS_IO_DIRECT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/lease.h"
#include "util/lock.h"
#include "util/stats.h"

#define DIRECT_ALIGN_MIN 4096u
#define DIRECT_EDGES 64u
#define DIRECT_UNCOUNTED 5u

/* Shared by the transfers in one directory. */
struct direct_dir {
	size_t align;  /* the block of direct transfers, a power of two; 0: none are made */
	bool uncached; /* the file system takes uncached writes */
	struct lease_pool *leases;
	struct lock edges[DIRECT_EDGES]; /* each for the blocks that hash to it */
};

/* Where a file that is written here ends: behind that it may have zeros, up to the end of a block. */
struct direct_end {
	struct rwlock lock; /* shared by a write, exclusive while the file is cut */
	_Atomic uint64_t bytes;
	atomic_bool padded; /* such zeros may be there */
	uint64_t reserved_bytes; /* this process has allocated some up to here, if that is behind the end; exclusive */
};

enum direct_reach {
	DIRECT_NONE,     /* buffered */
	DIRECT_UNCACHED, /* buffered, by uncached writes */
	DIRECT_MIDDLE,   /* the whole blocks, at least IO_DIRECT_MIN of them; the edges buffered */
	DIRECT_ALL,
};

/* One transfer. */
struct direct_io {
	struct direct_dir *dir;
	struct direct_end *end; /* NULL: the file ends where the kernel says */
	int fd;
	int dfd; /* of no use with DIRECT_NONE and DIRECT_UNCACHED */
	enum direct_reach reach;
	bool wait;     /* for a lease */
	unsigned kind; /* as stats_backing_read; DIRECT_UNCOUNTED */
	bool refused;  /* out: the file system takes no direct transfers on this file */
};

void direct_dir_init(struct direct_dir *dir);
void direct_dir_fini(struct direct_dir *dir);
/* dir->leases is set. Tries direct transfers and uncached writes in a directory and sets dir->align and dir->uncached; tells why
 * (a static string) the former are made, or not. */
void direct_dir_try(struct direct_dir *dir, int dirfd, const char **why);
/* A second, O_DIRECT descriptor for the file behind fd, whatever its name is by now. -EINVAL: it takes no
 * transfers in blocks of align. */
int direct_reopen(int fd, bool rdonly, size_t align, int *out);

void direct_end_init(struct direct_end *end, uint64_t bytes);
void direct_end_fini(struct direct_end *end);

/* The middle of [off, off + n) that consists of whole blocks has at least min_bytes. */
bool direct_wanted(const struct direct_dir *dir, uint64_t off, size_t n, size_t min_bytes);
/* Everything asked for, or less at the end of the file. */
int direct_pread(struct direct_io *x, void *buf, size_t n, uint64_t off, size_t *out);
int direct_pwrite(struct direct_io *x, const void *buf, size_t n, uint64_t off);
/* Makes the file end at size_bytes, where no zeros follow. */
int direct_cut(struct direct_end *end, int fd, uint64_t size_bytes);
/* The same at the end that it has, if zeros may follow; *size_out is where it was cut, or 0. As the kernel drops what is
 * reserved behind a cut, a file with such space is cut only if it is the last time, and reserves it anew. */
int direct_trim(struct direct_end *end, int fd, bool last, uint64_t *size_out);
/* Space has been reserved up to there. */
void direct_reserved(struct direct_end *end, uint64_t bytes);
/* The kernel zeroes the block at off in the page cache when the file is cut there, or a hole made up to there:
 * writes it and drops it. */
void direct_drop_edge(const struct direct_dir *dir, int fd, uint64_t off);

#endif
