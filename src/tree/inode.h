/*
 * A known file or directory, of whichever world: its facts, its array while that is open, and who uses it. Each world has a struct of
 * its own that begins with this one.
 *
 * Locks: refs by RANK_ICACHE; mode, owner, link count, parent and times by attr (RANK_ATTR); the array's data and size by rw
 * (RANK_INODE). inode_mode and inode_size need neither: they may be read while they change. While the array is open, it says how much
 * is stored, and in which file; the facts are of before.
 */
#ifndef SPILLFS_TREE_INODE_H
#define SPILLFS_TREE_INODE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "array/array.h"
#include "store/commit.h"
#include "store/meta.h"
#include "tree/changed.h"
#include "tree/realm.h"
#include "tree/tree.h"
#include "util/lock.h"

struct lifetimes;
struct past_states;
struct upload;

struct inode {
	struct tree *tree;
	struct facts facts;
	const struct realm_ops *realm;
	struct inode *hash_next;
	uint64_t refs;
	bool dirty;          /* the commit's list has a reference; RANK_ICACHE */
	size_t array_bytes;  /* in the account */

	struct rwlock rw;
	_Atomic(struct array *) array;

	struct lock attr;
	atomic_bool lost_bits; /* some were taken away (live/privs.c): the kernel is to keep no attributes of it */
	atomic_int nholds;       /* opens and views that use the array */
	atomic_int ncached;      /* opens whose pages the kernel caches */
	atomic_int nmappable;    /* of them, opens that can leave dirty pages in it */
	atomic_uint nlost;       /* writes of such pages that failed */
	atomic_int lost_err;     /* the last one's -errno */
	_Atomic uint64_t nstale; /* times that pages which the kernel may have of it have become old */
	_Atomic uint64_t nfresh; /* so many of them the kernel is known to have dropped its pages after, for an open */
	_Atomic uint64_t version;  /* another one after each change of data, size or settings */
};

static inline uint32_t inode_mode(const struct inode *i)
{
	return __atomic_load_n(&i->facts.mode, __ATOMIC_RELAXED);
}

static inline void inode_set_mode(struct inode *i, uint32_t mode)
{
	__atomic_store_n(&i->facts.mode, mode, __ATOMIC_RELAXED);
}

static inline uint64_t inode_size(const struct inode *i)
{
	return __atomic_load_n(&i->facts.size_bytes, __ATOMIC_RELAXED);
}

static inline void inode_set_size(struct inode *i, uint64_t size_bytes)
{
	__atomic_store_n(&i->facts.size_bytes, size_bytes, __ATOMIC_RELAXED);
}

/* Inodes of the live tree by their last use; RANK_ICACHE. */
struct idle_list {
	struct live_inode *oldest, *youngest;
};

struct tree_dir;

#define TREE_EDIT_SLOTS 16384u
#define VIEWS_ALONE_MAX 64u

/* A view that a thread was refused. The thread's next lookup of it gets a node of its own (views/wish.c). */
struct view_wish {
	_Atomic uint64_t number; /* 0: none */
	_Atomic int64_t until_ns;
};

struct tree {
	struct store *store;
	struct tree *scratch; /* scratch/, over a store of its own; NULL: there is none, or this is it */
	struct tree *beside;  /* that tree's: the one that has it */
	const struct realm_ops *realms[REALM_N];
	struct arrays *arrays;
	struct lock lock; /* RANK_ICACHE */
	struct inode **table;
	size_t nbuckets, ninodes;
	struct live_inode *dirty_head, **dirty_tail;
	struct idle_list awake, closed; /* live/idle.c */
	struct live_inode *staged; /* the commit thread's */
	struct tree_dir *dirs; /* open ones; under lock */
	struct past_states *past; /* past/ */
	_Atomic uint64_t versions; /* given to inodes so far */
	_Atomic uint32_t edits[TREE_EDIT_SLOTS]; /* changes of inodes whose numbers fall together; also of forgotten ones */
	struct upload *uploads; /* views/upload.c; RANK_ICACHE */
	struct view_inode *written; /* views that are written in place; RANK_ICACHE */
	struct view_wish alone[VIEWS_ALONE_MAX];
	_Atomic uint64_t views_made, views_apart, uploads_made; /* so many so far: for numbers of their own */
	struct tree_changes changes;
	struct tree_passthrough passthrough; /* RANK_ICACHE */
	struct live_inode *through; /* RANK_ICACHE */
	struct live_inode *leaving, **leaving_tail; /* live/leaving.c; RANK_ICACHE, as the next two lines */
	pthread_cond_t left;    /* an inode has left the list */
	uint64_t nleft;         /* so many have, since the mount */
	atomic_uint nwaiting;  /* for one, also in scratch/ */
	unsigned nwaiting_max;
	bool deleting_orphans; /* at mount, before anything else runs */
	bool cutting, cutting_noted; /* live/cut.c: a bucket is not cut to its end by this commit; as the store has it. The commit thread's */
	bool sizes_stick, acls; /* tree.h */
	_Atomic(struct lifetimes *) lifetimes; /* scratch/lifetime.c; NULL: there have been none */
	bool frees;           /* the commit thread's: another commit has to give back what this one lets go of */
	atomic_uint nshelves;    /* live/shelf.c */
	struct quotas *quotas;   /* live/quota.c; those of scratch/ are those of the tree beside it */
	bool shares_quotas;
	_Atomic uint64_t packings; /* live/cold.c: of the store's directory, when files were counted last */
	atomic_bool has_cold;      /* live/cold.c: some file is, or was */
	atomic_bool quota_shrinks, quota_shrinking; /* the next commit, or the one that runs, has some use less: live/quota.c */
	_Atomic uint64_t full_at; /* live/room.c: the last commit that has freed nothing that was asked for */
	int64_t mount_ns;
	_Atomic int64_t newest_ns; /* the kernel's newest stamp */
};

/* Pages that the kernel may have of it, also of nobody who has it open, are old. */
static inline void inode_pages_stale(struct inode *i)
{
	atomic_fetch_add(&i->nstale, 1);
}

/* For an open. 0: the kernel may keep the pages that it has. Else it is to drop them, and the result is for inode_pages_dropped when
 * the open is known to have reached the kernel, by a request of its file: another open may get there first. */
static inline uint64_t inode_pages_old(struct inode *i)
{
	uint64_t n = atomic_load(&i->nstale);

	return n == atomic_load(&i->nfresh) ? 0 : n;
}

static inline void inode_pages_dropped(struct inode *i, uint64_t nstale)
{
	uint64_t n = atomic_load(&i->nfresh);

	while (n < nstale && !atomic_compare_exchange_weak(&i->nfresh, &n, nstale))
		;
}

/* The known inode; -ESTALE if the kernel made the number up. Counts nothing. */
int inode_find(struct tree *t, uint64_t ino, struct inode **out);
/* Fills in a zeroed inode of a world from the row. */
void inode_init(struct inode *i, struct tree *t, enum realm_id realm, const struct facts *row);
/* Adds `made` to the table, or frees it if its number is known already; the known inode, with one more reference. */
struct inode *inode_get_made(struct inode *made);
/* The table. use: the known inode with this number, with one more reference, or NULL. add: enters one. release: drops n references;
 * true: they were the last, and the inode is out of the table. RANK_ICACHE is held for use and release. */
struct inode *inode_use_locked(struct tree *t, uint64_t ino);
void inode_add(struct inode *i);
bool inode_release_locked(struct inode *i, uint64_t n);
/* The known inodes that are wanted, each with one more reference; *out is malloc'd. -ENOMEM. */
int inode_list(struct tree *t, bool (*wanted)(const struct inode *i), struct inode ***out, size_t *n_out);
/* Frees an inode that is not in the table. */
void inode_free(struct inode *i);
/* Is the inode known, and open in a way that can leave changed pages in the kernel? */
bool inode_is_mappable(struct tree *t, uint64_t ino);
void inode_ref(struct inode *i);
/* Takes n references; the last one frees the inode, and its storage if it has no name. May block on
 * I/O; no lock may be held. */
void inode_put(struct inode *i, uint64_t n);
/* Takes back n lookups that a function of a world has counted. */
void inode_forget(struct tree *t, uint64_t ino, uint64_t n);
void inode_stat(struct inode *i, struct tree_attr *out);
bool inode_has_name(struct inode *i);
/* The present, for a time of an inode. It is never before a stamp of the kernel that was seen, which can lie a tick ahead of the coarse
 * clock. */
int64_t inode_stamp_ns(struct tree *t);
void inode_saw_stamp(struct tree *t, int64_t ns);
/* Opens the array if it is not; rw is held exclusively. */
int inode_need_array(struct inode *i, struct array **out);
/* Data, size or settings have changed. */
void inode_new_version(struct inode *i);
/* Ends a use of the array, with rw held exclusively: its world closes it, at once or later. */
void inode_idle_array(struct inode *i);
/* Keeps the array open beyond the lock, until it is let go as often. rw is held for hold; no lock may be held for let_go. */
void inode_hold_array(struct inode *i);
void inode_let_go_array(struct inode *i);
/* Closes the array, if there is one, and keeps its facts; rw is held exclusively, and nobody else uses it. */
void inode_drop_array(struct inode *i);
/* After the array changed: size and stored bytes for stat. */
void inode_array_changed(struct inode *i);

/* Accounts the memory that the array holds at this moment, and lets it be closed unless somebody else uses it; rw is held. */
void inode_rest(struct inode *i);
/* Forgets everything, at the end; dirty inodes go with the last commit. */
void inode_forget_all(struct tree *t);

#endif
