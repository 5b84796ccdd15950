/*
 * The decoded-block cache: a hash table with chains and two lists of unpinned entries, newest first: those that were
 * last used in passing, and the others.
 *
 * Invariants: (1) an entry is in the table, or it is a failed load that its waiters still hold; (2)
 * an entry is on one of the lists exactly when it is in the table with no pins; (3) bytes is the sum of what
 * the buffers of the table's entries take, pinned those of them with pins, and the account has the same; (4) when an entry
 * came or lost its last pin, bytes is at most the room in the account, or nothing is on the lists; (5) a key is loaded by one thread
 * at a time; (6) without its oldest entry, the list of the passed holds less than PASSED_BYTES.
 */
#include "block/cache.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "util/account.h"
#include "util/buf.h"
#include "util/err.h"
#include "util/lock.h"
#include "util/plant.h"
#include "util/stats.h"

#define NBUCKETS_MIN 64
/* Requests of a stream come a little out of order, and what follows them finds the buffers still in the processor's cache. */
#define PASSED_BYTES ((size_t)4 << 20)

struct cache_entry {
	struct cache_key key;
	struct cache_entry *chain;         /* also links victims until they are freed */
	struct cache_entry *newer, *older; /* on its list */
	void *data;                        /* NULL while it is loaded */
	size_t size;
	unsigned pins;
	unsigned waiters;
	bool passed; /* its list; while it is pinned: has a reader passed it? */
	int err; /* of a failed load */
};

struct list {
	struct cache_entry *newest, *oldest;
	size_t bytes;
};

struct cache {
	struct lock lock;
	pthread_cond_t loaded;
	struct cache_entry **buckets;
	size_t nbuckets, nentries;
	struct list lists[2]; /* by cache_entry.passed */
	size_t bytes, pinned;
	struct account *account;
};

int cache_new(struct account *account, struct cache **out)
{
	struct cache *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->nbuckets = NBUCKETS_MIN;
	c->buckets = calloc(c->nbuckets, sizeof(*c->buckets));
	if (!c->buckets) {
		free(c);
		return -ENOMEM;
	}
	c->account = account;
	lock_init(&c->lock, RANK_CACHE);
	lock_cond_init(&c->loaded);
	*out = c;
	return 0;
}

static size_t room(const struct cache *c)
{
	return account_room_for_blocks(c->account);
}

static size_t key_bucket(const struct cache *c, struct cache_key key)
{
	uint64_t h = (PLANTED(PLANT_STALE_CACHE) ? 0 : (key.layer + key.kind) * 0x9e3779b97f4a7c15ull) ^ key.off_bytes;

	h ^= h >> 32;
	h *= 0xd6e8feb86659fd93ull;
	h ^= h >> 32;
	return h & (c->nbuckets - 1);
}

static struct cache_entry *table_find(const struct cache *c, struct cache_key key)
{
	struct cache_entry *e = c->buckets[key_bucket(c, key)];

	while (e && ((e->key.layer != key.layer && !PLANTED(PLANT_STALE_CACHE)) || e->key.off_bytes != key.off_bytes || e->key.kind != key.kind))
		e = e->chain;
	return e;
}

/* Doubles the table when the chains get long; without memory they just get longer. */
static void table_grow(struct cache *c)
{
	size_t old = c->nbuckets;
	struct cache_entry **from = c->buckets, **to;

	if (c->nentries < old)
		return;
	to = calloc(old * 2, sizeof(*to));
	if (!to)
		return;
	c->buckets = to;
	c->nbuckets = old * 2;
	for (size_t i = 0; i < old; i++) {
		while (from[i]) {
			struct cache_entry *e = from[i];
			size_t b = key_bucket(c, e->key);

			from[i] = e->chain;
			e->chain = to[b];
			to[b] = e;
		}
	}
	free(from);
}

static void table_add(struct cache *c, struct cache_entry *e)
{
	size_t b;

	table_grow(c);
	b = key_bucket(c, e->key);
	e->chain = c->buckets[b];
	c->buckets[b] = e;
	c->nentries++;
	c->bytes += buf_bytes(e->size);
	account_change(c->account, ACCOUNT_BLOCKS, 0, buf_bytes(e->size));
	stats_add(STAT_CACHE_BYTES, buf_bytes(e->size));
}

static void table_remove(struct cache *c, struct cache_entry *e)
{
	struct cache_entry **p = &c->buckets[key_bucket(c, e->key)];

	while (*p != e)
		p = &(*p)->chain;
	*p = e->chain;
	e->chain = NULL;
	c->nentries--;
	c->bytes -= buf_bytes(e->size);
	account_change(c->account, ACCOUNT_BLOCKS, buf_bytes(e->size), 0);
	stats_sub(STAT_CACHE_BYTES, buf_bytes(e->size));
}

static void list_push(struct cache *c, struct cache_entry *e)
{
	struct list *l = &c->lists[e->passed];

	e->newer = NULL;
	e->older = l->newest;
	if (l->newest)
		l->newest->newer = e;
	else
		l->oldest = e;
	l->newest = e;
	l->bytes += buf_bytes(e->size);
}

static void list_remove(struct cache *c, struct cache_entry *e)
{
	struct list *l = &c->lists[e->passed];

	if (e->newer)
		e->newer->older = e->older;
	else
		l->newest = e->older;
	if (e->older)
		e->older->newer = e->newer;
	else
		l->oldest = e->newer;
	l->bytes -= buf_bytes(e->size);
}

/* The entry that goes next if at most `bytes` are to be left, or NULL. */
static struct cache_entry *victim_locked(const struct cache *c, size_t bytes)
{
	const struct list *passed = &c->lists[true];
	struct cache_entry *e = passed->oldest;

	if (e && passed->bytes - buf_bytes(e->size) >= PASSED_BYTES)
		return e;
	if (c->bytes <= bytes)
		return NULL;
	return e ? e : c->lists[false].oldest;
}

/* Takes unpinned entries out until at most `bytes` are left, those that were passed first; the caller frees the chain. */
static struct cache_entry *evict_locked(struct cache *c, size_t bytes)
{
	struct cache_entry *victims = NULL, *e;

	while ((e = victim_locked(c, bytes))) {
		list_remove(c, e);
		table_remove(c, e);
		e->chain = victims;
		victims = e;
	}
	return victims;
}

/* Without the lock. */
static void entries_free(struct cache_entry *e)
{
	while (e) {
		struct cache_entry *next = e->chain;

		buf_free(e->data, e->size);
		free(e);
		e = next;
	}
}

void cache_free(struct cache *c)
{
	if (!c)
		return;
	cache_shrink(c, 0);
	assert(!c->nentries && !c->bytes && !c->pinned);
	pthread_cond_destroy(&c->loaded);
	lock_fini(&c->lock);
	free(c->buckets);
	free(c);
}

static void pin_locked(struct cache *c, struct cache_entry *e)
{
	if (!e->pins++) {
		list_remove(c, e);
		e->passed = false;
		c->pinned += buf_bytes(e->size);
	}
}

/* Drops a pin of an entry of the table. */
static struct cache_entry *unpin_locked(struct cache *c, struct cache_entry *e, bool passed)
{
	assert(e->pins);
	e->passed |= passed;
	if (--e->pins)
		return NULL;
	c->pinned -= buf_bytes(e->size);
	list_push(c, e);
	return evict_locked(c, room(c));
}

/* The caller has pinned e, which another thread loads. Returns the load's outcome; the pin stays
 * only on success. */
static int wait_locked(struct cache *c, struct cache_entry *e)
{
	int err;

	e->waiters++;
	while (!e->data && !e->err)
		lock_wait(&c->lock, &c->loaded);
	e->waiters--;
	err = e->err;
	if (err)
		err_forget(); /* another thread has met it: what this one has reported is not why */
	if (err && !--e->pins)
		free(e);
	return err;
}

/* Ends the load of e: data, or NULL and err. */
static int load_done(struct cache *c, struct cache_entry *e, void *data, int err)
{
	lock_acquire(&c->lock);
	e->data = data;
	e->err = err;
	if (e->waiters)
		lock_broadcast(&c->loaded);
	if (err) {
		table_remove(c, e);
		c->pinned -= buf_bytes(e->size);
		if (!--e->pins)
			free(e);
	}
	lock_release(&c->lock);
	return err;
}

static int entry_load(struct cache *c, struct cache_entry *e, cache_load_fn load, void *ctx)
{
	void *data = buf_alloc(e->size);
	int err = data ? load(ctx, data, e->size) : -ENOMEM;

	assert(err <= 0);
	if (err) {
		buf_free(data, e->size);
		data = NULL;
	}
	return load_done(c, e, data, err);
}

static struct cache_entry *entry_new(struct cache_key key, void *data, size_t size)
{
	struct cache_entry *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	e->key = key;
	e->data = data;
	e->size = size;
	return e;
}

static int get_present_locked(struct cache *c, struct cache_entry *e, size_t size)
{
	if (e->size != size)
		return -EUCLEAN;
	pin_locked(c, e);
	stats_add(STAT_CACHE_HITS, 1);
	return wait_locked(c, e);
}

int cache_get(struct cache *c, struct cache_key key, size_t size_bytes, cache_load_fn load,
	      void *ctx, struct cache_entry **out)
{
	struct cache_entry *e, *victims;
	int err;

	assert(size_bytes);
	lock_acquire(&c->lock);
	e = table_find(c, key);
	if (e) {
		err = get_present_locked(c, e, size_bytes);
		lock_release(&c->lock);
		if (!err)
			*out = e;
		return err;
	}
	e = entry_new(key, NULL, size_bytes);
	if (!e) {
		lock_release(&c->lock);
		return -ENOMEM;
	}
	e->pins = 1;
	c->pinned += buf_bytes(size_bytes);
	table_add(c, e);
	victims = evict_locked(c, room(c));
	lock_release(&c->lock);
	stats_add(STAT_CACHE_MISSES, 1);
	entries_free(victims);
	err = entry_load(c, e, load, ctx);
	if (!err)
		*out = e;
	return err;
}

static void put(struct cache *c, struct cache_entry *e, bool passed)
{
	struct cache_entry *victims;

	lock_acquire(&c->lock);
	victims = unpin_locked(c, e, passed);
	lock_release(&c->lock);
	entries_free(victims);
}

void cache_put(struct cache *c, struct cache_entry *e)
{
	put(c, e, false);
}

void cache_put_passed(struct cache *c, struct cache_entry *e)
{
	put(c, e, true);
}

const void *cache_data(const struct cache_entry *e)
{
	return e->data;
}

bool cache_has(struct cache *c, struct cache_key key)
{
	bool found;

	lock_acquire(&c->lock);
	found = table_find(c, key) != NULL;
	lock_release(&c->lock);
	return found;
}

void cache_insert(struct cache *c, struct cache_key key, void *buf, size_t size_bytes, bool passed)
{
	struct cache_entry *e = entry_new(key, buf, size_bytes), *victims = NULL, *outpaced = NULL;
	size_t budget, bytes = buf_bytes(size_bytes);
	bool kept = false;

	assert(size_bytes);
	lock_acquire(&c->lock);
	budget = room(c);
	if (e && c->pinned <= budget && bytes <= budget - c->pinned && !table_find(c, key)) {
		victims = evict_locked(c, budget - bytes);
		e->passed = passed;
		table_add(c, e);
		list_push(c, e);
		outpaced = evict_locked(c, budget);
		kept = true;
	}
	lock_release(&c->lock);
	entries_free(victims);
	entries_free(outpaced);
	if (!kept) {
		free(e);
		buf_free(buf, size_bytes);
	}
}

void cache_shrink(struct cache *c, size_t budget_bytes)
{
	struct cache_entry *victims;

	lock_acquire(&c->lock);
	victims = evict_locked(c, budget_bytes);
	lock_release(&c->lock);
	entries_free(victims);
}
