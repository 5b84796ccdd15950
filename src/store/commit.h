/*
 * Commits: everything done so far becomes durable at once. One thread runs them, every
 * `commit_seconds` and on request; requests that arrive while one runs share the next (group commit).
 *
 * The order, which the crash safety of the whole store rests on:
 *   1. flush   dirty blocks are encoded and appended to the open layer (no lock held)
 *   2. stage   the facts of dirty inodes become rows of the open transaction; new block entries, facts and names
 *              become a segment of the open layer; to seal, it gets its index
 *   3. sync    what those rows point to is made durable: pool files, column files, layers
 *   4. COMMIT  the rows go to the log, then the log is made durable
 *   5. release regions, files and layers that the transaction freed are reused, punched and deleted
 * The gate is held exclusively from 2 to 4: an operation whose rows must not get ahead of what is staged (names, xattrs
 * and deletions under layers/, a rename over a file) holds it shared. To seal, the freeze is held exclusively during 2:
 * changes of layered arrays hold it shared, so that a sealed layer is one moment of the whole tree.
 */
#ifndef SPILLFS_STORE_COMMIT_H
#define SPILLFS_STORE_COMMIT_H

#include <stdbool.h>
#include <stdint.h>

struct store;
struct commit;
struct compact;

/* The part of the floors above in a commit; called on the commit thread, in this order (remap apart). Each returns 0 or
 * -errno; passing ones (err_is_passing) leave everything as it was for the next try, other failures turn the store
 * read-only. stage may leave something behind that there is no space for (*left is its error): the rest is
 * committed, because that may be what frees space. done is always called last. */
struct commit_hooks {
	int (*flush)(void *ctx);
	int (*stage)(void *ctx, int *left);
	int (*sync)(void *ctx);
	void (*done)(void *ctx, int err);
	/* A compaction has moved frames: open arrays have to look there (store/layers/compact.h). */
	int (*remap)(void *ctx, const struct compact *c);
};

int commit_new(struct store *s, struct commit **out);
/* Must be called before anything is written. Starts the thread. */
int commit_start(struct commit *c, const struct commit_hooks *hooks, void *ctx);
/* Waits until the thread is at rest and keeps it there until commit_stop: what a running commit holds of
 * the floors above is back. */
void commit_quiesce(struct commit *c);
/* A last commit that seals the open layer (of a scratch store: none), then the thread ends. 0 or the commit's failure; again the same
 * when it has ended already. Whatever the end, deferred work then holds nothing of the floors above. */
int commit_stop(struct commit *c);
void commit_free(struct commit *c);

/* Blocks until everything done before the call is durable. SEAL: and the open layer is sealed. SPACE: and what can be
 * given back is, as far as compaction gets. */
enum commit_want { COMMIT_SYNC, COMMIT_SEAL, COMMIT_SPACE };
int commit_wait(struct commit *c, enum commit_want want);
/* COMMIT_SYNC, but no longer than that: -ETIMEDOUT, and it goes on. */
int commit_wait_ms(struct commit *c, unsigned ms);
/* Asks for one soon; does not wait. */
void commit_ask(struct commit *c);
/* So many bytes come back with the next commit; later: with the one after it, as those of a file of which a commit has to let go first. When
 * they have become many a commit does not wait for its interval: new data would take more of the disk meanwhile, or of the memory of a
 * scratch store. Does not wait. */
void commit_freed(struct commit *c, uint64_t bytes, bool later);
/* For stage and done: this commit leaves work to the next one, which follows at once. */
void commit_again(struct commit *c);
/* Number of the last durable commit. */
uint64_t commit_number(struct commit *c);

/* Compaction, which the thread runs between commits. start: begin a thorough one soon. */
struct commit_compaction {
	bool running;
	uint64_t done_bytes, total_bytes, finished;
	int error; /* of the last that ended */
};
void commit_compact(struct commit *c, bool start, struct commit_compaction *out);

void commit_gate_enter(struct commit *c); /* shared */
void commit_gate_leave(struct commit *c);
void commit_freeze_enter(struct commit *c); /* shared; before the gate and any inode */
void commit_freeze_leave(struct commit *c);

#endif
