/*
 * A store without a tree, for the tests of views: arrays of any content, as sources of views, and views read back.
 */
#ifndef SPILLFS_TESTS_VIEW_WORLD_H
#define SPILLFS_TESTS_VIEW_WORLD_H

#include "view/formats.h"
#include "world.h"

/* Closed by world_close. */
void view_world_open(struct world *w);

/* An array of `kind` that holds the n bytes at p, flushed. `block` (0: 256 KiB), `policy` and dtype matter for layered ones;
 * dtype may be NULL. Blocks of more than 64 KiB get frames of their own, smaller ones may share packs. */
struct array *view_world_array(struct world *w, enum array_kind kind, const void *p, size_t n, uint32_t block,
			       enum codec_policy policy, const char *dtype);
/* Adds it to the view: pinned if it is layered. Closing the array is the test's, after the view. */
unsigned view_world_source(struct view *v, struct array *a);
/* An input over `source`; shape NULL: one dimension. free(in.dtype) is the test's. */
struct view_input view_world_input(struct view *v, unsigned source, const char *name, const char *dtype, const char *shape);
/* Turns v into an array, reads all of it (malloc'd), in pieces of odd sizes too, which must agree; closes it. */
unsigned char *view_world_read(struct world *w, struct view *v, size_t *n_out);
/* Writes a file below the directory $VIEW_OUT, making its directories, for programs that read the format to be tried on;
 * nothing if it is not set. */
void view_world_save(const char *path, const void *p, size_t n);

#endif
