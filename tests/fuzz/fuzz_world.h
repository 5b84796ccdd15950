/*
 * A whole store in memory for fuzz targets: tests/hostile's BASE_SEALED, with a tree. It is opened once, and anew for the input that follows one that
 * has changed it, so that each input finds the same.
 */
#ifndef SPILLFS_TESTS_FUZZ_WORLD_H
#define SPILLFS_TESTS_FUZZ_WORLD_H

#include "../unit/world.h"

/* The world for this input. */
struct world *fuzz_world(void);
/* It is another now. */
void fuzz_world_changed(void);
/* A disk with the same store, for those who open it themselves. */
struct io_dir *fuzz_world_disk(void);

/* At most len bytes at off of an open file, which must be no more than asked for; how many, or -errno. */
long fuzz_world_read(struct tree_file *f, uint64_t off, size_t len);

#endif
