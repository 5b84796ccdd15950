/*
 * Shared by the files of io/spread, from the ground up: disk.c (the disks, and which has which file), move.c (a file moves to another
 * disk), drain.c (a disk is emptied), file.c (transfers), names.c (names, and the directory as a whole). For these only.
 *
 * Locks: RANK_MOVE (of a file: `writers`), RANK_DISKS (of all: `names`), RANK_PLACE (of a file: `readers`), in this order.
 */
#ifndef SPILLFS_IO_SPREAD_INSIDE_H
#define SPILLFS_IO_SPREAD_INSIDE_H

#include <stdatomic.h>

#include "io/io.h"
#include "util/lock.h"

#define SPREAD_FOLDERS 4u
#define SPREAD_NAME_MAX 96u
#define SPREAD_MOVING ".moving"
#define SPREAD_MOVED ".moved"

/* A change of names in a folder. A name that was deleted and comes back after a crash harms nothing: the next mount deletes it again. */
enum spread_change { SPREAD_NOTHING, SPREAD_DELETED, SPREAD_NAMED };

struct spread_disk {
	struct io_dir *dir; /* NULL: removed, and closed; between spread_enter and spread_leave, or while a file of it is used */
	atomic_bool removed;
	atomic_uint visits;
	atomic_uint opened; /* files of it, by spread_open_inner: it is not closed before them */
	unsigned incoming; /* files on their way there; under `names` */
	char *shown;
	uint64_t device; /* as in io_spread_disk */
	atomic_bool draining, failing;
	atomic_bool full; /* the log has been told */
	_Atomic int64_t full_until_ns; /* it has refused a write: nothing new before that time */
	_Atomic uint64_t unsynced_bytes, mib_per_s; /* since its last sync; at its syncs, 0: not known */
	_Atomic unsigned touched[SPREAD_FOLDERS]; /* enum spread_change, the most of it since the folder was synced; above 2 bits a count of changes */
};

struct spread_range {
	uint64_t off, end;
};

struct spread_handle {
	struct io base;
	struct spread *spread;
	struct spread_file *file;
	struct spread_handle *next; /* of the same file */
	unsigned flags;
	struct io *inner;
};

/* A file that is open, or moves. */
struct spread_file {
	struct spread_file *next;
	unsigned users; /* handles, and a move */
	struct spread_handle *handles;
	char name[SPREAD_NAME_MAX];
	unsigned kind; /* IO_OF_* */
	_Atomic unsigned disk;
	unsigned closing;      /* handles that are being closed, and have left the list */
	bool settling;         /* the last of it moves: no handle is closed meanwhile */
	bool moving, gone;     /* gone: the name was deleted */
	unsigned unwanted;     /* who wait for its move to end, to delete it */
	bool unnamed;          /* a move could not give it its name: it is NAME.moved on its disk */
	atomic_bool dirty;     /* written since the last sync */
	_Atomic int lost;      /* an error that a sync by a move was told, for who syncs next */
	atomic_bool recording; /* it is being copied: what is written meanwhile goes into `written` */
	struct rwlock writers, readers;
	struct lock list_lock; /* RANK_MEM */
	struct spread_range *written;
	size_t nwritten, cap_written;
	bool written_all; /* there was no memory for the list, or it would be long */
};

struct spread {
	struct io_dir base;
	struct spread_disk *disks;
	unsigned n;
	const char *const *folders, *scratch;
	uint64_t (*keeps)(uint64_t total_bytes);
	int (*may_move)(void *ctx, uint64_t bytes);
	uint64_t (*owes)(void *ctx, unsigned disk, bool all);
	void *ctx;
	_Atomic uint64_t turns;
	atomic_bool mended;  /* it is written to */
	atomic_bool hurried; /* moves are to end */
	struct lock names; /* what follows, and the names on the disks */
	pthread_cond_t moved;
	struct spread_file *files;
};

/* disk.c */

/* The folder that the name is in; -1: none. */
int spread_folder(const struct spread *d, const char *name);
/* The disk's directory, until spread_leave; NULL: the disk is removed. */
struct io_dir *spread_enter(struct spread *d, unsigned disk);
void spread_leave(struct spread *d, unsigned disk);
/* Opens a file of the disk, and closes it. Closing under no lock; spread_retire_locked then. */
int spread_open_inner(struct spread *d, unsigned disk, const char *name, unsigned flags, struct io **out);
void spread_close_inner(struct spread *d, unsigned disk, struct io *f);
/* Closes a removed disk when no file of it is open. */
void spread_retire_locked(struct spread *d, unsigned disk);
/* Has it refused a write a moment ago for want of space? */
bool spread_was_full(const struct spread_disk *k);
/* Bytes that the disk has beyond what it keeps and owes (all: as in io_spread_config), which can be less than nothing, whether it takes new
 * data or not; *keep: what a disk of its size keeps. False: that is not known. */
bool spread_balance(struct spread *d, unsigned disk, bool all, int64_t *bytes, uint64_t *keep);
/* Bytes of new data that the disk takes. */
uint64_t spread_room(struct spread *d, unsigned disk);
/* The disk other than `from` with the most room; -1: none has that much. */
int spread_roomiest(struct spread *d, int from, uint64_t need_bytes);
/* io_next_disk. */
unsigned spread_turn(struct spread *d);
/* A write or sync there has failed; to be told its writer. */
void spread_refused(struct spread *d, unsigned disk, const char *name, int err);
/* A sync of what was written there has taken so long. */
void spread_note_speed(struct spread_disk *k, int64_t ns);
/* The file of that name that is open, or moves; NULL. */
struct spread_file *spread_file_locked(struct spread *d, const char *name);
/* Is there something of that name? -ENOENT, or why that is not known. */
int spread_probe(struct spread *d, unsigned disk, const char *name);
/* Tells which disk has the name: -ENOENT. */
int spread_find_locked(struct spread *d, const char *name, unsigned *out);
/* The same for a file that is made, and whose name was not used before: also beside a disk that cannot be read. */
int spread_find_new_locked(struct spread *d, const char *name, unsigned *out);
/* The name of a file whose move has not ended; false: no file has a name so long. */
bool spread_moved_name(const char *name, char out[SPREAD_NAME_MAX + 8]);
/* Nothing tells which of two counts: says so; -EEXIST. */
int spread_say_double(struct spread *d, const char *name, unsigned a, unsigned b);
/* The disk that has that NAME.moved. -EEXIST: two have it, and one may be left of an older move; any error of a disk, which may have it. */
int spread_find_moved_locked(struct spread *d, const char *moved, unsigned *out);
/* Gives a file whose move could not rename it its name. -ENOENT: there is none; -EEXIST: there are two. */
int spread_name_locked(struct spread *d, const char *name, unsigned *disk);
/* A use of the file of that name, which is on the disk, or is open. */
int spread_use_locked(struct spread *d, const char *name, unsigned kind, unsigned disk, struct spread_file **out);
void spread_unuse_locked(struct spread *d, struct spread_file *f);
/* A name in the folder (-1: none) has changed there, which a sync of the folder makes durable. */
void spread_touch(struct spread *d, unsigned disk, int folder, enum spread_change change);
/* Deletions need not last on a disk that fails, unless all shall. */
int spread_sync_folder(struct spread *d, unsigned disk, unsigned folder, bool all);

/* move.c */

/* [off, off + n) was written, under `writers`. */
void spread_record(struct spread_file *f, uint64_t off, uint64_t n);
/* Moves the file from that disk, where it may be no more, to the other one. -ENOENT: it was deleted meanwhile; -EAGAIN: the other
 * one is to be emptied itself. Blocks. */
int spread_move(struct spread *d, struct spread_file *f, unsigned from, unsigned to, uint64_t *bytes);

/* file.c: opens the file, where it is already open on its disk, else on that one; a handle is added to it. */
int spread_open_locked(struct spread *d, const char *name, unsigned flags, unsigned disk, struct io **out);

#endif
