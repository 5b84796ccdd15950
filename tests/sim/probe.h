/*
 * Looks at the disk of the simulation from outside the store.
 */
#ifndef SPILLFS_SIM_PROBE_H
#define SPILLFS_SIM_PROBE_H

#include <stdbool.h>
#include <stdint.h>

#include "io/io.h"

/* Copies the disk into a directory and runs `spillctl check` on it: true if it finds nothing; what it finds goes to text. */
bool probe_check(struct io_dir *disk, char *text, unsigned text_bytes);
/* NULL, or why layers/HEAD names no sealed layer. may_be_late: where it could not be written, compaction may have replaced the layer. */
const char *probe_head(struct io_dir *disk, bool may_be_late);
/* Flips one bit of a layer, or of meta.db; false: there is none. */
bool probe_flip(struct io_dir *disk, uint64_t *random);

/* Has the disk something of what is scratch, though no store is mounted? Space that no name has, or one of these words, with which what was
 * written there begins. NULL, or what (a static text). */
const char *probe_leftovers(struct io_dir *disk, const uint64_t *words, unsigned n);

#endif
