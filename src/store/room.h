/*
 * Room: what of the store's file system may be used, in one account of four parts.
 *
 *   reserve    1/16 of the file system, from 3 to 32 MiB (and no more than a quarter): kept for commits and for deletions, so that
 *              a full store can be emptied
 *   promised   what fallocate has reserved (array/promise.h): not used, and kept for its owner
 *   claimed    what is being written at this moment past the cache of blocks, by any number of writers
 *   owed       what the next commit will write of what is in memory: dirty blocks, inline bytes of columns, rows, notes of
 *              the log; and what meta.db grows by when its log is folded
 *
 * An operation that makes something dirty asks first, and owes it: so it gets -ENOSPC, and the commit has its space. Owed bytes that
 * were handed to the open transaction are paid; they count until that is in the log.
 *
 * With several directories (store/disks.h) the reserve is the home's, where meta.db and columns are; bytes that are asked for may go to
 * any of them, but for a column's, and for blocks of layered arrays, which go to the open layer's: a layer is whole on one disk, and
 * can be sealed, so that the next one is elsewhere, only when all that is dirty is in it.
 *
 * Threads: any. Nothing blocks but statfs(2) of the store's directory.
 */
#ifndef SPILLFS_STORE_ROOM_H
#define SPILLFS_STORE_ROOM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct store;

struct room {
	_Atomic uint64_t promised_bytes, claimed_bytes, owed_bytes, paid_bytes;
	_Atomic uint64_t claimed_home_bytes, owed_data_bytes; /* of these: what is claimed of the home; what is owed to the open layer */
	atomic_uint data_disk; /* where that is (io/spread); UINT_MAX: not known yet */
	_Atomic uint64_t data_left_bytes; /* so much of it fits there */
	atomic_uint nothers; /* writers that do not ask */
	_Atomic uint64_t freed_bytes, gone_bytes; /* that the next commit gives back, or the one after it */
};

/* -EROFS after a failed commit, -ENOSPC if `bytes` more would eat into the reserve, or into what is promised or owed. A write
 * of promised space does not ask. */
int store_may_write(struct store *s, uint64_t bytes);
/* The same for blocks of a layered array. */
int store_may_write_data(struct store *s, uint64_t bytes);
/* Besides, when they are about to be owed, also of promised space: -ENOSPC if the disk of the open layer would not take them. Memory only. */
int store_may_owe_data(struct store *s, uint64_t bytes);
/* The same for bytes of a column, which are in the home. */
int store_may_write_home(struct store *s, uint64_t bytes);
/* The same for bytes that are owed: they may eat into the reserve up to its half. */
int store_may_flush(struct store *s, uint64_t bytes);
/* For the commit thread, when everything is staged: -ENOSPC if what is promised, the notes of the log and the growth of meta.db would
 * leave less than half of the reserve. */
int store_may_settle(struct store *s);
/* -ENOSPC if `bytes` more would leave less than a quarter of the reserve: what compaction, which gives space back, may use. */
int store_may_compact(struct store *s, uint64_t bytes);
/* The next commit could take half of what is left: an operation that frees space waits for that commit first. */
bool store_is_short(struct store *s);

/* Before and after a write of so many bytes that go to their place at once: claimed, they are not free for other writers
 * that ask at the same time. As store_may_write. */
int store_claim(struct store *s, uint64_t bytes);
int store_claim_home(struct store *s, uint64_t bytes);
void store_unclaim(struct store *s, uint64_t bytes);
void store_unclaim_home(struct store *s, uint64_t bytes);

/* The account of promised bytes. As store_may_write. */
int store_promise(struct store *s, uint64_t bytes);
void store_unpromise(struct store *s, uint64_t bytes);
uint64_t store_promised(struct store *s);

/* The account of owed bytes. disown: they will not be written. settle: the transaction is in the log. */
void store_owe(struct store *s, uint64_t bytes);
void store_disown(struct store *s, uint64_t bytes);
/* The same for what goes to the open layer: blocks, and notes; all else is the home's. */
void store_owe_data(struct store *s, uint64_t bytes);
void store_disown_data(struct store *s, uint64_t bytes);
void store_pay(struct store *s, uint64_t bytes);
void store_pay_data(struct store *s, uint64_t bytes);
void store_settle(struct store *s);
uint64_t store_owed(struct store *s);
/* The part of it that goes to the open layer. */
uint64_t store_owed_data(struct store *s);
/* The disk of the open layer; UINT_MAX: there is none yet. And so much of what is owed to the layer fits there; UINT64_MAX: not known. */
void store_place_data(struct store *s, unsigned disk);
unsigned store_data_disk(struct store *s);
void store_bound_data(struct store *s, uint64_t left_bytes);
/* A disk's bytes (io/spread) that have a use already: owed or claimed of the home; with data also what is owed to the open layer. */
uint64_t store_owed_on(struct store *s, unsigned disk, bool data);

/* Others write on the file system without asking (passthrough): while there are any, reserve, promised and owed bytes are held
 * back from them, allocated. enter: -ENOSPC if they would soon find none, or what else stands in the way; leave as often as it succeeded. */
int store_others_enter(struct store *s);
void store_others_leave(struct store *s);
/* Do they find less than a reserve? They cannot wait for the commit that frees some. */
bool store_others_lack(struct store *s);
/* After a commit: holds back as much as has to be; nothing, if there are no such writers. */
void store_others_settle(struct store *s);

/* For commit_freed: so many bytes come back with the next commit; later: with the one after it. */
void store_note_freed(struct store *s, uint64_t bytes, bool later);
/* Are they many? */
bool store_frees_much(struct store *s);
/* A commit begins. Is another one to follow at once? */
bool store_begin_freeing(struct store *s);

/* For a file that leaves a directory: -ENOSPC if the others have no room for it besides what is promised, claimed or owed. */
int store_may_move(struct store *s, uint64_t bytes);

/* Bytes that a commit's database may hold in memory, and in its log, on this file system. */
uint64_t store_reserve_bytes(struct store *s);

/* The reserve on a file system of that size. */
uint64_t room_reserve_of(uint64_t total_bytes);

/* For statfs: the store's file system, what is free there, and what of that data writes may use. */
int store_space(struct store *s, uint64_t *total_bytes, uint64_t *free_bytes, uint64_t *avail_bytes);

#endif
