/*
 * The runs of a bucket: where what one writer appended ends, and what the next one appended begins.
 *
 * A writer is an open file description: what a process and its children share, whatever the number of descriptors. Its
 * run ends where it closes a descriptor (FLUSH, which close(2) waits for) and does not go on afterwards. So an end is
 * pending first. The table says what becomes of it:
 *
 *   event                                    the end of writer A
 *   A grows the file                         is open: nobody sees it; a commit stores it, because a crash ends all runs
 *   A closes a descriptor, A grew last       is pending: readers see it as a boundary
 *   A closes one, others have grown since    is a boundary, where A stopped
 *   A grows the file again (dup, fork)       pending: dropped, and open again at the new size
 *   another writer grows the file            pending: a boundary. Open: stays A's, in case A closes later
 *   A's last descriptor has gone (RELEASE)   open: pending. From here on nobody can drop it
 *   a mark                                   a boundary at the size, whoever goes on
 *   a write that does not grow, fsync, rename, link, chmod, reading, unlink     no change
 *   truncation below it                      moves to the new size, as one with all boundaries behind that; at 0 it goes
 *   truncate(2) to more, by no open file     no change: the zeros belong to the next run
 *   crash, remount                           what the last commit stored are boundaries
 *
 * Where the kernel says of no write whose it is (the writeback cache, `unsure`), any writer that closes after the file has grown
 * ends the run at the size: runs_end_all. RELEASE ends nothing there, as what has come since the close is another's.
 *
 * Memory only, no lock: the caller has the inode's lock, exclusively for whatever changes them.
 */
#ifndef SPILLFS_ARRAY_RUNS_H
#define SPILLFS_ARRAY_RUNS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One open file description; zeroed at first. */
struct runs_writer {
	struct runs_writer *next; /* in runs.writers */
	uint64_t end_bytes;       /* where it stopped, or where that was cut off */
	atomic_bool grew;         /* and has closed no descriptor since */
};

struct runs {
	uint64_t *v; /* boundaries without the first, which is 0; they rise strictly */
	size_t n, cap;
	size_t changed; /* from this one on the stored ones are old; SIZE_MAX: none is */
	struct runs_writer *writers; /* that have grown it and are not gone */
	struct runs_tail {
		uint64_t end_bytes; /* of the newest growth; nothing if it is not behind v[n - 1] */
		const struct runs_writer *by; /* NULL: nobody can go on */
		bool pending;       /* else open */
	} tail;
};

void runs_fini(struct runs *r);
/* Takes over v, the stored boundaries. The first that does not rise, or is behind the size, is dropped with all that follow. */
void runs_load(struct runs *r, uint64_t *v, size_t n, uint64_t size_bytes);
/* Room for what the next growth may add, before anything is written: -ENOMEM. */
int runs_reserve(struct runs *r);
/* w has grown the file to this size; runs_reserve was called before. */
void runs_grew(struct runs *r, struct runs_writer *w, uint64_t size_bytes);
/* w closes a descriptor. -ENOMEM: its end is lost. */
int runs_end(struct runs *r, struct runs_writer *w);
int runs_end_all(struct runs *r, struct runs_writer *w, uint64_t size_bytes);
/* w is gone, which it must not be before; runs_end was called before, unless unsure. */
void runs_leave(struct runs *r, const struct runs_writer *w, bool unsure);
/* *made: there was no boundary at the size. -ENOMEM. */
int runs_mark(struct runs *r, uint64_t size_bytes, bool *made);
void runs_cut(struct runs *r, uint64_t size_bytes);

/* Boundaries as readers see them, without the first. */
size_t runs_nbounds(const struct runs *r);
uint64_t runs_bound(const struct runs *r, size_t k);
/* Runs: what is behind the last boundary is one, too. Run k is [*begin, *end). */
size_t runs_count(const struct runs *r, uint64_t size_bytes);
void runs_range(const struct runs *r, size_t k, uint64_t size_bytes, uint64_t *begin, uint64_t *end);
/* The boundaries that a commit stores, *n_out of them: v, and room behind it for the tail. Valid until the next change. */
const uint64_t *runs_stored(struct runs *r, size_t *n_out);

#endif
