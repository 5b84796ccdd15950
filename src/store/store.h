/*
 * The store: a directory that holds everything, opened by one daemon. Ties together its parts
 * (metadata, commit thread, layers, pool, caches) and owns them; the floors above reach the parts
 * through this structure.
 */
#ifndef SPILLFS_STORE_STORE_H
#define SPILLFS_STORE_STORE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/io.h"
#include "store/room.h"
#include "util/account.h"

#define STORE_FORMAT_VERSION 2u
#define STORE_FORMAT_SPREAD 3u /* the same, with directories on other disks (store/disks.h) */

/* A directory on another disk. */
struct store_disk {
	struct io_dir *dir;
	uint64_t device, inode; /* 0: not known */
	uint32_t owner;
};

struct store_config {
	enum io_backing backing;
	unsigned leases;         /* aligned buffers for direct I/O; 0: default 8 */
	size_t lease_bytes;      /* that one of them moves at a time; 0: 1 MiB */
	enum io_lease_wait lease_wait;
	unsigned pool_files;     /* physical files of the bucket pool; 0: CPUs */
	unsigned threads;        /* compression threads; 0: CPUs */
	unsigned commit_seconds; /* 0: only on request */
	uint64_t layer_bytes;    /* the open layer is sealed at this size; 0: 1 GiB */
	unsigned keep;           /* commits whose state stays readable; 0: 1 */
	uint64_t compact_bytes;  /* copied by compaction in a second; 0: no bound */
	bool follow;             /* read-only: sees what another daemon seals */
	bool alone;              /* with follow: nobody may write meanwhile */
	bool scratch;            /* nothing of it lasts: one tree of files of all kinds; the end is no commit */
	uint64_t above;          /* a new one: numbers of inodes are above this */
	uint64_t size_bytes;     /* all files together may hold so much; 0: no bound */
	size_t cache_bytes;      /* what can be read again: util/account.h */
	size_t dirty_bytes;      /* dirty blocks */
	const char *const *disks; /* absolute paths of directories to spread over, besides those that the store knows */
	size_t ndisks;
	struct store_disk home;  /* the store's own, without dir */
	int (*open_disk)(void *ctx, const char *path, struct store_disk *out); /* NULL: a real directory */
	void *open_ctx;
	uint64_t spill_bytes;    /* of a scratch store: how its directory was made (io_spill_dir) */
	bool encrypts;
};

/* Why a store was refused, for the user: one line without a newline, naming the directory. */
struct store_refusal {
	char text[512];
};

/* store_open, beyond I/O errors: */
#define STORE_EHELD (-16)     /* -EBUSY: another daemon holds it (its pid is in the text) */
#define STORE_ENOTSTORE (-39) /* -ENOTEMPTY: neither empty nor a store */
#define STORE_ENEWER (-93)    /* -EPROTONOSUPPORT: a newer format */

struct meta;
struct commit;
struct layers;
struct pool;
struct cache;
struct work_pool;
struct disks;

struct store {
	struct io_dir *dir; /* all of its directories */
	struct disks *disks;
	atomic_uint format;
	struct io *lock; /* NULL: a follower */
	uint8_t uuid[16];
	char uuid_text[37];
	struct store_config config;
	struct meta *meta;
	struct commit *commit;
	struct layers *layers;
	struct pool *pool;
	struct account account;
	struct cache *cache;
	struct work_pool *work;
	atomic_bool read_only; /* set by a failed commit, until remounted */
	struct room room;
};

/* The real directory behind dirfd as config has its files read and written; takes dirfd over, also on failure. */
int store_directory(int dirfd, const struct store_config *config, struct io_dir **out);
/* Opens or, if the directory is empty, makes a store; takes dir over (also on failure): any directory of io/. `shown` is
 * how the user named it. Blocks while a daemon that is closing the store finishes. Starts threads: call
 * it after the last fork. */
int store_open(struct io_dir *dir, const char *shown, const struct store_config *config, struct store **out,
	       struct store_refusal *why);
/* Makes everything durable, seals the open layer, lets go of the store. 0 or the first failure. */
int store_close(struct store *s);
/* Tells in the lock file that the daemon is on its way out, so that a successor waits for it. */
void store_closing(struct store *s);

#endif
