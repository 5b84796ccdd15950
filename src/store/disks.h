/*
 * The directories of a store: its own, which is the home, and those that its pool files and layers are spread over as well
 * (io/spread). The home has all else, and the list of the others (store/disklist.h).
 */
#ifndef SPILLFS_STORE_DISKS_H
#define SPILLFS_STORE_DISKS_H

#include <stdbool.h>
#include <stdint.h>

struct io_dir;
struct store;
struct store_config;
struct store_refusal;

/* A real directory as the config, whose defaults are filled in, has its files read and written. Takes dirfd over, also on failure. */
int disks_directory(int dirfd, const struct store_config *config, struct io_dir **out);

/* Opens the directories that are listed and, for the daemon that writes, adds those of config.disks that are not; s->dir is all of them
 * then. Nothing is changed where one is refused: it is not there, holds nothing of this store, is another's, is in use by a daemon that
 * has a copy of this store's own directory, or was (-ESTALE: this one is older; not for a rebuild). s->uuid is known. */
int disks_open(struct store *s, const char *shown, struct store_refusal *why);
/* The list was lost: no pool file is made before it is settled. */
bool disks_unlisted(const struct store *s);
/* Pool and layers have been opened, and nothing is missing: a list that was lost is written. */
int disks_settle(struct store *s);
/* Counts a mount that writes: in the list, then in the mark of each directory, all of it durable. Before anything is written to them, and again at
 * the end of the mount: a copy that was made meanwhile knows less. disks_open and disks_settle do for a mount that begins; a rebuild calls it when
 * the old meta.db is no more. */
int disks_count_mount(struct store *s);
/* Ends what is being emptied, and refuses to begin. Before the parts of the store are closed, and before its last writers end: they
 * wait for the end of a move. */
void disks_stop(struct store *s);
/* Lets others have the directories. Before the store's lock, which they take first. */
void disks_unlock(struct store *s);
/* After s->dir. */
void disks_close(struct store *s);

/* One line for each directory: "NUMBER STATE TOTAL AVAILABLE PATH", STATE being "ok", "full", "failing" or "draining", TOTAL
 * and AVAILABLE bytes of its file system. malloc'd; NULL: no memory. "" where there is but one. */
char *disks_text(struct store *s);

struct disks_drain {
	bool running, done; /* done: it is empty, and no longer one of the store's */
	int err;            /* it has ended with this */
	uint64_t files, moved_bytes; /* since it was asked for */
};

/* Begins to empty directory `number`, if it is not being emptied; a thread does it, until it is empty, or an error ends it, or
 * the store is closed. That it is to be emptied is noted, also for the next mount: it gets no new data. -ENOENT: there is no such
 * directory, -EINVAL: it is the home, -EROFS: a follower, -EAGAIN: no thread, or the store is being closed, -ENOSPC and others: the list
 * cannot be written. */
int disks_drain_start(struct store *s, unsigned number);
/* -ENOENT: nobody has asked for that. *out.err: -ENOSPC: the others have no room; -ENOTEMPTY: it has what a rebuild has saved, which is not moved. */
int disks_drain_look(struct store *s, unsigned number, struct disks_drain *out);

#endif
