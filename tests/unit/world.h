/*
 * A store in memory, with a tree or with arrays alone, for tests: no mount, no root, no disk. It can be closed and opened again, fail,
 * lose its power and be full. A function that returns no error fails the test instead.
 */
#ifndef SPILLFS_TESTS_WORLD_H
#define SPILLFS_TESTS_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "array/arrays.h"
#include "io/io.h"
#include "store/meta.h"
#include "store/store.h"
#include "tree/tree.h"

struct world {
	struct store *store;
	struct tree *tree;   /* world_open */
	struct arrays *home; /* world_open_arrays */
	uint64_t next_ino;   /* world_make_array */
};

/* Caches of 4 MiB, two threads, and commits on request only. */
extern const struct store_config world_config;

/* An empty disk of io/mem. It is open to the end of the test. */
struct io_dir *world_disk(void);
/* The same disk behind io/fault, for world_open_dir, which takes it over. */
struct io_dir *world_faults(struct io_dir *disk);
bool world_has(struct io_dir *disk, const char *file);

/* Opens the store that lies on the disk, or makes one. */
void world_open(struct world *w, struct io_dir *disk, const struct store_config *config);
int world_open_dir(struct world *w, struct io_dir *dir, const struct store_config *config);
void world_open_arrays(struct world *w, struct io_dir *disk, const struct store_config *config);
/* store_close's result: also after a failure everything is closed. */
int world_close(struct world *w);

/* ---- with a tree ---- */

/* Directories stay known, as the kernel keeps those in which it names something; other files are forgotten at once. */

/* A path from the root, without a slash at its begin. */
int world_walk(struct world *w, const char *path, struct tree_attr *out);
int world_make(struct world *w, uint64_t parent, const char *name, mode_t mode, uint64_t *ino_out);
/* Writes n bytes at the start of a file of a directory, which is made if it is not there. */
int world_write(struct world *w, uint64_t parent, const char *name, const void *p, size_t n);
/* Reads all of a file as front/ does; malloc'd. */
int world_read(struct world *w, const char *path, unsigned char **out, size_t *n_out);
/* Does the file hold these bytes and no others? False also if it cannot be read. */
bool world_holds(struct world *w, const char *path, const void *p, size_t n);
int world_snapshot(struct world *w, const char *name);
/* A commit that seals. */
int world_commit(struct world *w);
/* Waits for a compaction that it starts. */
void world_compact(struct world *w);

/* ---- with arrays alone ---- */

struct array *world_make_array(struct world *w, enum array_kind kind, const struct array_params *params);

#endif
