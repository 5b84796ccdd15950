/*
 * The account of the store's space.
 *
 * Invariant: the module that added promised, claimed or owed bytes takes them back; the commit takes paid ones back.
 */
#include "store/room.h"

#include <errno.h>

#include "block/pool.h"
#include "io/io.h"
#include "store/meta.h"
#include "store/store.h"

#define RESERVE_BYTES_MIN (3u << 20)
#define RESERVE_BYTES_MAX (32u << 20)
#define HOLD_STEP_BYTES (1u << 20)
/* So much may be freed for each file of the pool, or in a scratch store such a part of its memory. */
#define FREED_BYTES_MAX (64u << 20)
#define FREED_MEMORY_PART 8u

uint64_t room_reserve_of(uint64_t total_bytes)
{
	uint64_t part = total_bytes / 16;

	if (part < RESERVE_BYTES_MIN)
		part = total_bytes / 4 < RESERVE_BYTES_MIN ? total_bytes / 4 : RESERVE_BYTES_MIN;
	return part < RESERVE_BYTES_MAX ? part : RESERVE_BYTES_MAX;
}

uint64_t store_reserve_bytes(struct store *s)
{
	uint64_t total, avail;

	return io_home_space(s->dir, &total, &avail) ? RESERVE_BYTES_MAX : room_reserve_of(total);
}

/* A part of the reserve: the log of meta.db has it already, for the next commit. */
static uint64_t in_log(struct store *s)
{
	return s->meta ? meta_log_left(s->meta) : 0;
}

/* Free bytes, with these: of the home, and of all directories. */
struct space {
	uint64_t home_total, home, total, all;
};

static int space_of(struct store *s, struct space *out)
{
	uint64_t left = in_log(s);
	int err = io_home_space(s->dir, &out->home_total, &out->home);

	if (!err && !s->dir->ops->home_space) {
		out->total = out->home_total;
		out->all = out->home;
	} else if (!err) {
		err = io_space(s->dir, &out->total, &out->all);
	}
	if (!err) {
		out->home += left;
		out->all += left;
	}
	return err;
}

/* Free bytes that have a use already. */
static uint64_t spoken_for(struct store *s)
{
	return store_promised(s) + atomic_load(&s->room.claimed_bytes) + store_owed(s);
}

static bool is_spread(const struct store *s)
{
	return s->dir->ops->home_space != NULL;
}

/* The home's part of it. Blocks of layered arrays go to the disk of the open layer. */
static uint64_t home_spoken_for(struct store *s)
{
	uint64_t owed = store_owed(s), data = store_owed_data(s);

	if (is_spread(s) && !atomic_load(&s->room.data_disk))
		data = 0;
	return atomic_load(&s->room.claimed_home_bytes) + (owed > data ? owed - data : 0);
}

uint64_t store_owed_on(struct store *s, unsigned disk, bool data)
{
	uint64_t owed = store_owed_data(s), home;

	if (!disk) {
		home = home_spoken_for(s);
		return data || atomic_load(&s->room.data_disk) ? home : home > owed ? home - owed : 0;
	}
	return data && atomic_load(&s->room.data_disk) == disk ? owed : 0;
}

/* Is there room for bytes, of which so many are the home's, and this part of the reserve? */
static int may_use_of(struct store *s, uint64_t bytes, uint64_t home_bytes, unsigned reserve_part)
{
	struct space space;
	uint64_t reserve;
	int err;

	if (atomic_load_explicit(&s->read_only, memory_order_relaxed))
		return -EROFS;
	err = space_of(s, &space);
	if (err)
		return err;
	reserve = room_reserve_of(space.home_total) / reserve_part;
	return space.all < bytes + reserve || space.home < home_bytes + reserve ? -ENOSPC : 0;
}

static int may_use(struct store *s, uint64_t bytes, unsigned reserve_part)
{
	return may_use_of(s, bytes, 0, reserve_part);
}

/* So much has to be held back, of the home. */
static uint64_t to_hold(struct store *s)
{
	uint64_t bytes = store_reserve_bytes(s) + (is_spread(s) ? home_spoken_for(s) : spoken_for(s)), left = in_log(s);

	return bytes > left ? bytes - left : 0;
}

/* In steps; and one more, of which names and attributes can still be made when others have taken the rest. */
static uint64_t with_margin(uint64_t bytes)
{
	return (bytes / HOLD_STEP_BYTES + 2) * HOLD_STEP_BYTES;
}

/* The asking writer may owe as much from here on: it must be there when it is written. */
static int hold(struct store *s, uint64_t more_bytes)
{
	uint64_t bytes = to_hold(s) + more_bytes;

	if (!atomic_load(&s->room.nothers) || io_held_back(s->dir) >= bytes)
		return 0;
	return io_hold_back(s->dir, with_margin(bytes), UINT64_MAX) ? io_hold_back(s->dir, bytes, UINT64_MAX) : 0;
}

bool store_others_lack(struct store *s)
{
	struct space space;

	return atomic_load(&s->room.nothers) && !space_of(s, &space) &&
	       space.home < io_held_back(s->dir) + room_reserve_of(space.home_total);
}

int store_others_enter(struct store *s)
{
	int err = may_use_of(s, to_hold(s), to_hold(s), 1);

	atomic_fetch_add(&s->room.nothers, 1);
	if (!err)
		err = hold(s, 0);
	if (err)
		store_others_leave(s);
	return err;
}

void store_others_leave(struct store *s)
{
	atomic_fetch_sub(&s->room.nothers, 1); /* what is held stays until a commit: the next one may come at once */
}

void store_others_settle(struct store *s)
{
	uint64_t bytes = atomic_load(&s->room.nothers) ? with_margin(to_hold(s)) : 0;

	if (!bytes && !io_held_back(s->dir))
		return;
	io_hold_back(s->dir, bytes, bytes);
	hold(s, 0); /* somebody may have come meanwhile */
}

int store_may_write(struct store *s, uint64_t bytes)
{
	int err = may_use_of(s, bytes + spoken_for(s), home_spoken_for(s), 1);

	return err ? err : hold(s, is_spread(s) ? 0 : bytes);
}

int store_may_write_data(struct store *s, uint64_t bytes)
{
	bool home = is_spread(s) && !atomic_load(&s->room.data_disk);
	int err = may_use_of(s, bytes + spoken_for(s), home_spoken_for(s) + (home ? bytes : 0), 1);

	return err ? err : hold(s, is_spread(s) && !home ? 0 : bytes);
}

int store_may_owe_data(struct store *s, uint64_t bytes)
{
	return is_spread(s) && store_owed_data(s) + bytes > atomic_load(&s->room.data_left_bytes) ? -ENOSPC : 0;
}

int store_may_write_home(struct store *s, uint64_t bytes)
{
	int err = may_use_of(s, bytes + spoken_for(s), bytes + home_spoken_for(s), 1);

	return err ? err : hold(s, bytes);
}

int store_may_flush(struct store *s, uint64_t bytes)
{
	return may_use(s, bytes + store_promised(s), 2);
}

int store_may_settle(struct store *s)
{
	uint64_t paid = atomic_load(&s->room.paid_bytes), home = home_spoken_for(s);

	return may_use_of(s, spoken_for(s) - paid, home > paid ? home - paid : 0, 2);
}

int store_may_compact(struct store *s, uint64_t bytes)
{
	uint64_t most;

	if (!is_spread(s))
		return may_use(s, bytes + store_promised(s), 4);
	/* The copy is on one disk: where none has room, at home. */
	most = io_most_room(s->dir);
	return most && most < bytes ? -ENOSPC : may_use_of(s, bytes + store_promised(s), most ? 0 : bytes, 4);
}

int store_may_move(struct store *s, uint64_t bytes)
{
	struct space space;
	int err = space_of(s, &space);

	return err ? err : space.all < bytes + spoken_for(s) ? -ENOSPC : 0;
}

bool store_is_short(struct store *s)
{
	struct space space;

	return !space_of(s, &space) && space.all < 2 * room_reserve_of(space.home_total) && store_owed(s) > space.all / 2;
}

/* Speaks for bytes in one part of the account, if there is room with them. */
static int speak_for(struct store *s, _Atomic uint64_t *part, uint64_t bytes)
{
	int err;

	atomic_fetch_add(part, bytes);
	err = may_use_of(s, spoken_for(s), home_spoken_for(s), 1);
	if (!err)
		err = hold(s, 0);
	if (err)
		atomic_fetch_sub(part, bytes);
	return err;
}

int store_claim(struct store *s, uint64_t bytes)
{
	return speak_for(s, &s->room.claimed_bytes, bytes);
}

int store_claim_home(struct store *s, uint64_t bytes)
{
	int err;

	atomic_fetch_add(&s->room.claimed_home_bytes, bytes);
	err = speak_for(s, &s->room.claimed_bytes, bytes);
	if (err)
		atomic_fetch_sub(&s->room.claimed_home_bytes, bytes);
	return err;
}

void store_unclaim(struct store *s, uint64_t bytes)
{
	atomic_fetch_sub(&s->room.claimed_bytes, bytes);
}

void store_unclaim_home(struct store *s, uint64_t bytes)
{
	atomic_fetch_sub(&s->room.claimed_home_bytes, bytes);
	store_unclaim(s, bytes);
}

int store_promise(struct store *s, uint64_t bytes)
{
	return speak_for(s, &s->room.promised_bytes, bytes);
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

void store_owe_data(struct store *s, uint64_t bytes)
{
	atomic_fetch_add(&s->room.owed_data_bytes, bytes);
	store_owe(s, bytes);
}

void store_disown_data(struct store *s, uint64_t bytes)
{
	store_disown(s, bytes);
	atomic_fetch_sub(&s->room.owed_data_bytes, bytes);
}

void store_place_data(struct store *s, unsigned disk)
{
	atomic_store(&s->room.data_disk, disk);
}

unsigned store_data_disk(struct store *s)
{
	return atomic_load(&s->room.data_disk);
}

void store_bound_data(struct store *s, uint64_t left_bytes)
{
	atomic_store(&s->room.data_left_bytes, left_bytes);
}

uint64_t store_owed_data(struct store *s)
{
	return atomic_load(&s->room.owed_data_bytes);
}

void store_pay(struct store *s, uint64_t bytes)
{
	atomic_fetch_add(&s->room.paid_bytes, bytes);
	atomic_fetch_sub(&s->room.owed_bytes, bytes);
}

void store_pay_data(struct store *s, uint64_t bytes)
{
	store_pay(s, bytes);
	atomic_fetch_sub(&s->room.owed_data_bytes, bytes);
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
	uint64_t left, reserve;
	struct space space;
	int err = space_of(s, &space);

	if (err)
		return err;
	left = space.all;
	left = left > store_promised(s) ? left - store_promised(s) : 0;
	reserve = room_reserve_of(space.home_total);
	*total_bytes = space.total;
	*free_bytes = left;
	*avail_bytes = left > reserve ? left - reserve : 0;
	return 0;
}

/* Where there is no interval, commits are the caller's. */
static uint64_t freed_max(struct store *s)
{
	uint64_t memory = s->config.spill_bytes / FREED_MEMORY_PART;

	if (!s->config.scratch)
		return s->config.commit_seconds ? (uint64_t)FREED_BYTES_MAX * pool_nfiles(s->pool) : UINT64_MAX;
	return memory && memory < FREED_BYTES_MAX ? memory : FREED_BYTES_MAX;
}

void store_note_freed(struct store *s, uint64_t bytes, bool later)
{
	atomic_fetch_add(later ? &s->room.gone_bytes : &s->room.freed_bytes, bytes);
}

bool store_frees_much(struct store *s)
{
	return atomic_load(&s->room.freed_bytes) + atomic_load(&s->room.gone_bytes) >= freed_max(s);
}

bool store_begin_freeing(struct store *s)
{
	uint64_t freed = atomic_exchange(&s->room.freed_bytes, 0), gone = atomic_exchange(&s->room.gone_bytes, 0);

	return gone && (s->config.scratch || freed + gone >= freed_max(s));
}
