/*
 * The decoded-block cache: bounded, shared by all arrays, least recently used goes first. Its budget is what an account
 * leaves for blocks; blocks count as the buffers that they are in.
 *
 * A key (layer number, frame offset) names immutable bytes and is never reused, because layer numbers
 * never are; so nothing is ever invalidated. Two readers of one missing block load it once: the second
 * waits for the first. Pinned blocks count against the budget and are not evicted; a load never waits
 * for memory (the budget is exceeded by what is pinned, at worst).
 *
 * A block that somebody reads or writes in passing, and the kernel keeps in its own cache, leaves early: a few MiB of such
 * blocks stay, and their buffers take in what comes next, instead of memory that is new. Another reader that asks for one makes
 * it stay like the others.
 */
#ifndef SPILLFS_BLOCK_CACHE_H
#define SPILLFS_BLOCK_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cache;
struct cache_entry;

struct cache_key {
	uint64_t layer;
	uint64_t off_bytes;
	uint64_t kind; /* 0: what is stored there, decoded; else what was made of it, see who made it */
};

struct account;
int cache_new(struct account *account, struct cache **out);
void cache_free(struct cache *c); /* no entry may be pinned */

/* Fills dst (size bytes) or fails with -errno; runs without the cache's lock. */
typedef int (*cache_load_fn)(void *ctx, void *dst, size_t size);

/* Pins the block, loading it if it is missing. A failed load is returned to all threads that waited for it and
 * is not remembered. size must be the same for every call with one key (-EUCLEAN otherwise). */
int cache_get(struct cache *c, struct cache_key key, size_t size_bytes, cache_load_fn load, void *ctx,
	      struct cache_entry **out);
void cache_put(struct cache *c, struct cache_entry *e);
/* The same of a block that was read to its end, in passing: for all who have it pinned meanwhile. */
void cache_put_passed(struct cache *c, struct cache_entry *e);
const void *cache_data(const struct cache_entry *e);
/* True if the block is there or being loaded. */
bool cache_has(struct cache *c, struct cache_key key);
/* Hands over a decoded buffer from buf_alloc(size); freed at once if the key is there already or the
 * cache has no room for it. Not pinned. passed: it is as one that cache_put_passed was called for. */
void cache_insert(struct cache *c, struct cache_key key, void *buf, size_t size_bytes, bool passed);
/* Drops what is not pinned down to `budget` bytes. */
void cache_shrink(struct cache *c, size_t budget_bytes);
/* Counts cache hits, misses, bytes in util/stats. */

#endif
