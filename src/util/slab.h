/*
 * Page-aligned pieces of 4 to 32 KiB, a power of two, cut from mappings of 256 KiB. The heap would take a page more for
 * each aligned page, and keep what bursts leave behind.
 */
#ifndef SPILLFS_UTIL_SLAB_H
#define SPILLFS_UTIL_SLAB_H

#include <stddef.h>

#define SLAB_PIECE_MAX ((size_t)32 << 10)

/* NULL when memory is out. */
void *slab_alloc(size_t piece_bytes);
/* A slab without pieces goes back to the system. */
void slab_free(void *piece);

#endif
