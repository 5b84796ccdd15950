/*
 * All that can be asked of a store, good or bad: walked, read, written, committed, checked, rebuilt. Errors are counted; a crash ends
 * the process.
 */
#ifndef SPILLFS_TESTS_HOSTILE_USE_H
#define SPILLFS_TESTS_HOSTILE_USE_H

#include <stdatomic.h>
#include <stdint.h>

#include "chance.h"
#include "image.h"

/* Shared by processes. */
struct use_counts {
	atomic_ullong opens, opens_refused, nodes, reads, reads_refused, writes, writes_refused, commits, commits_refused, checks,
		checks_clean, repairs, repairs_clean, rebuilds, rebuilds_refused;
};

/* Opens, walks and reads; with `write` as the daemon that writes, which then changes and commits; else as a follower. */
void use_mount(const struct image *im, bool write, struct chance *c, struct use_counts *n);
/* spillctl check, in a directory of its own, then perhaps --repair, and then the mended store is mounted. */
void use_check(const struct image *im, struct chance *c, struct use_counts *n);
/* spillctl rebuild, and the result is mounted. */
void use_rebuild(const struct image *im, struct chance *c, struct use_counts *n);

#endif
