/*
 * Page-aligned data buffers for blocks and frames, recycled in power-of-two classes so that a steady
 * load neither fragments the heap nor faults fresh pages in. The idle ones are bounded (8 MiB in all).
 */
#ifndef SPILLFS_UTIL_BUF_H
#define SPILLFS_UTIL_BUF_H

#include <stddef.h>

/* A buffer of at least size_bytes, 4096-aligned, contents undefined; NULL when memory is out. */
void *buf_alloc(size_t size_bytes);
/* size_bytes as given to buf_alloc. NULL is allowed. */
void buf_free(void *p, size_t size_bytes);
/* The memory that such a buffer takes. */
size_t buf_bytes(size_t size_bytes);
/* Gives the idle buffers, and what the heap has free, back to the system. */
void buf_trim(void);

/* For tests: buf_alloc returns NULL where fn, which may block, is true; NULL: nowhere. fn runs on any thread. */
void buf_set_refusal(_Bool (*fn)(size_t size_bytes));

/* True when all n bytes are zero. */
_Bool buf_is_zero(const void *p, size_t n);

#endif
