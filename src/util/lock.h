/*
 * Ranked locks. A thread takes locks in strictly rising rank; debug builds (SPILLFS_DEBUG) keep the
 * held ranks of each thread and abort on a violation, so that a deadlock shows in the first test that
 * could have met it and not in the thousandth.
 *
 * The lock table: rank, what the lock protects, what may happen under it.
 */
#ifndef SPILLFS_UTIL_LOCK_H
#define SPILLFS_UTIL_LOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum lock_rank {
	RANK_UPLOAD,   /* tree/views/upload: an array that is being written in another format; data I/O and
	                  waits for commits happen under it. store/disks/open: the list of directories, and its file */
	RANK_COMMIT,   /* store/commit: tickets of the commit thread; nothing blocks under it.
	                  tree/past/states: the wait of a follower's thread                           */
	RANK_FREEZE,   /* store/commit: shared by changes of layered arrays, exclusive while a commit that
	                  seals stages; data I/O happens under it, no reader takes it                */
	RANK_GATE,     /* store/commit: shared by a rename and by changes of names under layers/, exclusive
	                  from staging to COMMIT; file system syncs happen under it, no reader takes it */
	RANK_INODE,    /* tree/inode: size and data of one file (rwlock); data I/O happens under it   */
	RANK_CONSUME,  /* tree/live/consume: how far a handle has read; memory                        */
	RANK_META,     /* store/meta/connection: the SQLite connection and all names; statements; an fsync only
	                  when a log of 64 MiB is folded, or the database made smaller            */
	RANK_META_SCRATCH, /* the same of a scratch store beside another store                         */
	RANK_QUOTA,    /* tree/live/quota: what counts where; statements, where META is held          */
	RANK_ICACHE,   /* tree/tree: the table of known inodes and their reference counts; memory     */
	RANK_ATTR,     /* tree/inode: mode, owner, times, link count of one inode; memory only        */
	RANK_ARRAY,    /* array/layered/map: dirty blocks and block map of one array; memory only. array/arrays:
	                  column files against the cuts that a commit runs; ftruncate happens under it */
	RANK_BUDGET,   /* array/layered/dirty: the dirty budget and its queue; memory only            */
	RANK_LAYERS,   /* store/layers/set: the open layer and the list of layers; appends happen under it */
	RANK_POOL,     /* block/pool: free regions of one physical file; PUNCH_HOLE never under it;
	                  block/layer/file: the end of one open layer; writes happen under it        */
	RANK_CACHE,    /* block/cache: table and LRU; store/layers/state: a state's listing; memory only     */
	RANK_MOVE,     /* io/spread/disk: shared by what writes one file, exclusive while the last of it moves to another disk;
	                  data I/O and syncs happen under it                                        */
	RANK_DISKS,    /* io/spread/names: which disk has which file; open, and changes and syncs of names, happen under it */
	RANK_PLACE,    /* io/spread/disk: shared by reads of one file, exclusive for the moment in which its place changes;
	                  data I/O happens under it                                                 */
	RANK_SPILL,    /* io/pieces: the table of a file's pieces: shared by reads and writes, exclusive while the
	                  file is cut; data I/O happens under it                                    */
	RANK_PIECE,    /* io/piece: one piece, exclusive while it is changed or moves to the disk; data I/O
	                  happens under it                                                          */
	RANK_LEASE,    /* io/lease: free buffers; memory only                                         */
	RANK_END,      /* io/direct: the end of one file: shared by a write, exclusive while the file is cut;
	                  one transfer happens under it, and no lease is waited for                 */
	RANK_EDGE,     /* io/direct: a block that two writes may share; one transfer happens under it  */
	RANK_FD,       /* io/file: open descriptors; open and close happen under it                   */
	RANK_NOTIFY,   /* front/notify: what the kernel is to be told; memory only                    */
	RANK_WORK,     /* util/work: the job queues; util/chore: whether there is something to do; memory only */
	RANK_MEM,      /* io/behind, io/mem, io/fault, io/spill, io/queue, io/frames, io/slots, io/sums, io/pack, io/spread/disk, util/buf, util/slab, array/promise, array/summaries,
	                  tree/scratch/lifetime, front/readers: leaf locks; io/ballast, io/frames: space or memory is taken and given back under it          */
	RANK_NRANKS
};

struct lock {
	pthread_mutex_t mutex;
	enum lock_rank rank;
};

struct rwlock {
	pthread_rwlock_t rwlock;
	enum lock_rank rank;
};

/* lock_init and friends abort when the system is out of resources: nothing can work then. */
void lock_init(struct lock *l, enum lock_rank rank);
void lock_fini(struct lock *l);
void lock_acquire(struct lock *l);
/* As lock_acquire where a second lock of the same rank is held: the caller orders them itself. */
void lock_acquire_nested(struct lock *l);
void lock_release(struct lock *l);

/* Waits on c with l released. In debug builds l must be the innermost lock held. */
void lock_wait(struct lock *l, pthread_cond_t *c);
/* As lock_wait; returns -ETIMEDOUT after `ms` milliseconds (CLOCK_MONOTONIC), else 0.
 * c must come from lock_cond_init. */
int lock_wait_ms(struct lock *l, pthread_cond_t *c, unsigned ms);
void lock_cond_init(pthread_cond_t *c);
/* Wakes one of those who wait on c, or all. */
void lock_signal(pthread_cond_t *c);
void lock_broadcast(pthread_cond_t *c);

void rwlock_init(struct rwlock *l, enum lock_rank rank);
void rwlock_fini(struct rwlock *l);
void rwlock_shared(struct rwlock *l);
void rwlock_exclusive(struct rwlock *l);
/* Second rwlock of the same rank; the caller orders them (by inode number). */
void rwlock_shared_nested(struct rwlock *l);
void rwlock_release(struct rwlock *l);

/* The calls that block in the functions above, and those after which another thread may go on. For a simulation in which one thread runs at a time. Leaf
 * locks (RANK_MEM) are left out: nothing blocks under them. */
struct lock_ops {
	/* Before a lock is taken. */
	void (*step)(void);
	/* Another thread has the lock: returns when it may be free. */
	void (*busy)(const void *lock, const char *rank);
	void (*freed)(const void *lock);
	/* Waits on c with m, which belongs to a lock of that rank, released: 0, or ETIMEDOUT at until_ns of clock_monotonic_ns
	 * (INT64_MAX: never). */
	int (*wait)(pthread_cond_t *c, pthread_mutex_t *m, const char *rank, int64_t until_ns);
	void (*wake)(pthread_cond_t *c, bool all);
};

/* The process has these from here on; NULL: pthreads' own. While no other thread runs. */
void lock_replace(const struct lock_ops *ops);

/* True when the calling thread holds no ranked lock; always true without SPILLFS_DEBUG. */
bool lock_none_held(void);

#endif
