/*
 * Sums of a file's sectors, in memory: whether what the disk gives back is what was written there. XXH3 (64 bits) of the plain bytes. Eight bytes
 * for each sector of 4096: 2 MiB for each GiB, counted for their owner and in .spillfs/stats. Private to io/.
 *
 * Threads: the user keeps others from a sector while it changes it. Functions that return nothing cannot fail.
 */
#ifndef SPILLFS_IO_SUMS_H
#define SPILLFS_IO_SUMS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/lock.h"

#define SUMS_SECTOR 4096u

struct sums {
	_Atomic uint64_t *held_bytes; /* the owner's count: also of others */
	struct lock lock;  /* the list */
	uint64_t **chunks; /* NULL: nothing is known of its sectors */
	size_t n, cap;
};

/* All ranges are of whole sectors, in bytes. held_bytes lives longer. */
void sums_init(struct sums *s, _Atomic uint64_t *held_bytes);
void sums_fini(struct sums *s);
/* Room for the sums of a range, which sums_set needs. -ENOMEM. */
int sums_make(struct sums *s, uint64_t off, size_t n);
void sums_set(struct sums *s, const unsigned char *bytes, size_t n, uint64_t off);
/* Nothing is known of these: they match whatever they are. */
void sums_forget(struct sums *s, uint64_t off, uint64_t n);
bool sums_match(struct sums *s, const unsigned char *bytes, size_t n, uint64_t off);

#endif
