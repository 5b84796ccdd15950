/*
 * Promised space: what fallocate has reserved of a bucket or a layered array and was not written since. The store counts
 * promised bytes as used, so that other writes get ENOSPC before these do. (Columns have real space instead.)
 *
 * Ranges are of the file: made in whole pages, used by the byte. They are rows of the inode, and so last until they are written,
 * punched or cut.
 * For an array in which nothing is promised everything here costs a look at a pointer.
 */
#ifndef SPILLFS_ARRAY_PROMISE_H
#define SPILLFS_ARRAY_PROMISE_H

#include <stdbool.h>
#include <stdint.h>

#define PROMISE_ALIGN 4096u

struct array;
struct extent_map;
struct promise;

/* Promises what of [off, off + len), widened to whole pages, neither is promised nor in `have` (NULL: nothing is). -ENOSPC: nothing
 * has changed. -ENOMEM. The inode is held exclusively. */
int promise_make(struct array *a, uint64_t off, uint64_t len, const struct extent_map *have);
/* Gives back what is promised in the range: it is written, or wanted no more. */
void promise_drop(struct array *a, uint64_t off, uint64_t len);
/* The sum of all ranges. */
uint64_t promise_bytes(struct array *a);
/* The bytes of the range that neither are promised nor in `have` (NULL: nothing is). */
uint64_t promise_gaps(struct array *a, uint64_t off, uint64_t len, const struct extent_map *have);
/* Is any byte of the range promised? */
bool promise_touches(struct array *a, uint64_t off, uint64_t len);
/* Is the byte at off promised? *len is cut to where the answer changes. */
bool promise_holds(struct array *a, uint64_t off, uint64_t *len);

/* The rows, with the meta lock held. load: of an array that was just opened; the store's account has them already. */
int promise_load_locked(struct array *a);
int promise_stage_locked(struct array *a);
/* The array is closed; the promise stays. */
void promise_free(struct promise *p);

#endif
