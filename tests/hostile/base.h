/*
 * The valid stores that an enemy begins with: small, and each with all kinds of files, links, settings, runs, promises, packs,
 * snapshots. A failure ends the process.
 */
#ifndef SPILLFS_TESTS_HOSTILE_BASE_H
#define SPILLFS_TESTS_HOSTILE_BASE_H

#include "image.h"

enum base { BASE_SEALED, BASE_CUT, BASE_COMPACTED, BASE_GOLDEN, BASE_COUNT };

/* BASE_SEALED was closed; BASE_CUT lost its power with an open layer and a log of meta.db; BASE_COMPACTED has a full layer that points
 * into others, and states behind it; BASE_GOLDEN is tests/golden/store. */
void base_make(enum base which, struct image *out);

#endif
