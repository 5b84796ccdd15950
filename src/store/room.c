/*
 * The account of the store's space.
 *
 * Invariant: promised, claimed, owed and paid bytes are each taken back by whoever added them, paid ones by the commit.
 */
#include "store/room.h"

#include <errno.h>

#include "io/io.h"
#include "store/meta.h"
#include "store/store.h"

#define RESERVE_BYTES_MIN (3u << 20)
#define RESERVE_BYTES_MAX (32u << 20)

static uint64_t reserve_of(uint64_t total_bytes)
{
	uint64_t part = total_bytes / 16;

	if (part < RESERVE_BYTES_MIN)
		part = total_bytes / 4 < RESERVE_BYTES_MIN ? total_bytes / 4 : RESERVE_BYTES_MIN;
	return part < RESERVE_BYTES_MAX ? part : RESERVE_BYTES_MAX;
}

uint64_t store_reserve_bytes(struct store *s)
{
	uint64_t total, avail;

	return io_space(s->dir, &total, &avail) ? RESERVE_BYTES_MAX : reserve_of(total);
}

/* What is spoken for of the free space. */
static uint64_t spoken_for(struct store *s)
{
	return store_promised(s) + atomic_load(&s->room.claimed_bytes) + store_owed(s);
}

/* Is there room for bytes and this part of the reserve? */
static int may_use(struct store *s, uint64_t bytes, unsigned reserve_part)
{
	uint64_t total, avail;
	int err;

	if (atomic_load_explicit(&s->read_only, memory_order_relaxed))
		return -EROFS;
	err = io_space(s->dir, &total, &avail);
	if (err)
		return err;
	return avail < bytes + reserve_of(total) / reserve_part ? -ENOSPC : 0;
}

int store_may_write(struct store *s, uint64_t bytes)
{
	return may_use(s, bytes + spoken_for(s), 1);
}

int store_may_flush(struct store *s, uint64_t bytes)
{
	return may_use(s, bytes + store_promised(s), 2);
}

int store_may_settle(struct store *s)
{
	return may_use(s, spoken_for(s) - atomic_load(&s->room.paid_bytes), 2);
}

int store_may_compact(struct store *s, uint64_t bytes)
{
	return may_use(s, bytes + store_promised(s), 4);
}

bool store_is_short(struct store *s)
{
	uint64_t total, avail;

	return !io_space(s->dir, &total, &avail) && avail < 2 * reserve_of(total) && store_owed(s) > avail / 2;
}

int store_claim(struct store *s, uint64_t bytes)
{
	int err;

	atomic_fetch_add(&s->room.claimed_bytes, bytes);
	err = store_may_write(s, 0);
	if (err)
		store_unclaim(s, bytes);
	return err;
}

void store_unclaim(struct store *s, uint64_t bytes)
{
	atomic_fetch_sub(&s->room.claimed_bytes, bytes);
}

int store_promise(struct store *s, uint64_t bytes)
{
	int err;

	atomic_fetch_add(&s->room.promised_bytes, bytes);
	err = store_may_write(s, 0);
	if (err)
		store_unpromise(s, bytes);
	return err;
}

void store_unpromise(struct store *s, uint64_t bytes)
{
	atomic_fetch_sub(&s->room.promised_bytes, bytes);
}

uint64_t store_promised(struct store *s)
{
	return atomic_load(&s->room.promised_bytes);
}

void store_owe(struct store *s, uint64_t bytes)
{
	atomic_fetch_add(&s->room.owed_bytes, bytes);
}

void store_disown(struct store *s, uint64_t bytes)
{
	atomic_fetch_sub(&s->room.owed_bytes, bytes);
}

void store_pay(struct store *s, uint64_t bytes)
{
	atomic_fetch_add(&s->room.paid_bytes, bytes);
	atomic_fetch_sub(&s->room.owed_bytes, bytes);
}

void store_settle(struct store *s)
{
	atomic_store(&s->room.paid_bytes, 0);
}

uint64_t store_owed(struct store *s)
{
	return atomic_load(&s->room.owed_bytes) + atomic_load(&s->room.paid_bytes) + (s->meta ? meta_growth(s->meta) : 0);
}

int store_space(struct store *s, uint64_t *total_bytes, uint64_t *free_bytes, uint64_t *avail_bytes)
{
	uint64_t total, left, reserve;
	int err = io_space(s->dir, &total, &left);

	if (err)
		return err;
	left = left > store_promised(s) ? left - store_promised(s) : 0;
	reserve = reserve_of(total);
	*total_bytes = total;
	*free_bytes = left;
	*avail_bytes = left > reserve ? left - reserve : 0;
	return 0;
}
