/*
 * Commits: everything done so far becomes durable at once. One thread runs them, every
 * `commit_seconds` and on request; requests that arrive while one runs share the next (group commit).
 *
 * The order, which the crash safety of the whole store rests on:
 *   1. flush   dirty blocks are encoded and appended to the open layer (no lock held)
 *   2. stage   the facts of dirty inodes become rows of the open transaction; new block entries become
 *              a segment of the open layer
 *   3. sync    what those rows point to is made durable: pool files, column files, layers
 *   4. COMMIT  the rows go to the log, then the log is made durable
 *   5. release regions, files and layers that the transaction freed are reused, punched and deleted
 * The gate is held exclusively from 2 to 4: an operation that makes names point to data which may have
 * changed after it was staged (a rename over a file) holds it shared.
 */
#ifndef SPILLFS_STORE_COMMIT_H
#define SPILLFS_STORE_COMMIT_H

#include <stdbool.h>
#include <stdint.h>

struct store;
struct commit;

/* What the floors above do in a commit; called on the commit thread, in this order (compact apart). Each returns 0 or
 * -errno; -ENOSPC and -ENOMEM leave everything as it was for the next try, other failures turn the store
 * read-only. stage may leave something behind that there is no space for (*left is its error): the rest is
 * committed, because that may be what frees space. done is always called last. */
struct commit_hooks {
	int (*flush)(void *ctx);
	int (*stage)(void *ctx, int *left);
	int (*sync)(void *ctx);
	void (*done)(void *ctx, int err);
	/* Between commits: empties one layer that is mostly dead; *did says that there was one. */
	int (*compact)(void *ctx, bool *did);
};

/* Work for after the commit that makes it safe; embedded in an owner, freed by run. */
struct commit_deferred {
	void (*run)(struct commit_deferred *d);
	struct commit_deferred *next;
};

int commit_new(struct store *s, struct commit **out);
/* Must be called before anything is written. Starts the thread. */
int commit_start(struct commit *c, const struct commit_hooks *hooks, void *ctx);
/* Waits until the thread is at rest and keeps it there until commit_stop: what a running commit holds of
 * the floors above is back. */
void commit_quiesce(struct commit *c);
/* A last commit that seals the open layer, then the thread ends. 0 or the commit's failure; again the same
 * when it has ended already. */
int commit_stop(struct commit *c);
void commit_free(struct commit *c);

/* Blocks until everything done before the call is durable; with seal the open layer is sealed too. */
int commit_wait(struct commit *c, bool seal);
/* Number of the last durable commit. */
uint64_t commit_number(struct commit *c);

void commit_gate_enter(struct commit *c); /* shared */
void commit_gate_leave(struct commit *c);

/* Runs d after the transaction that is open now is durable. The caller holds the meta lock and has
 * written the rows that free the thing in the same critical section. */
void commit_defer_locked(struct commit *c, struct commit_deferred *d);

#endif
