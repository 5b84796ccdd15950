/*
 * Inodes in memory: a cache of the rows of meta.db, plus the array of an open file.
 *
 * What protects what: refs and dirty by RANK_ICACHE; mode, owner, link count and times by attr
 * (RANK_ATTR); the array's data and size by rw (RANK_INODE); names by the meta lock, and the parent of a directory by
 * that or attr: it is written under both. size_bytes is a copy of the array's size that stat reads without a lock.
 */
#ifndef SPILLFS_TREE_INODE_H
#define SPILLFS_TREE_INODE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "array/array.h"
#include "io/io.h"
#include "store/commit.h"
#include "store/meta.h"
#include "tree/changed.h"
#include "tree/realm.h"
#include "tree/tree.h"
#include "util/lock.h"

struct history;
struct past;
struct past_states;
struct upload;
struct view_node;

/* A column whose file the kernel works on by itself (passthrough.h). Changes with rw held exclusively, under attr; read
 * under either. */
struct through {
	struct io *file;      /* NULL: it does not */
	struct io_facts seen; /* of the file, when the inode caught up with it last */
	uint32_t backing;     /* the kernel's number of it; 0: no open has it */
	unsigned nopens, nblind; /* nblind: of them, those that write, and tell nobody */
	bool mapped;  /* one of them could: its map may be there still */
	bool recent;  /* what was seen was written in this tick of the clock */
	bool armed;   /* it was given privileges meanwhile */
	bool owes;    /* they have to go */
	atomic_bool watched;         /* there may be something to catch up with */
	struct inode *next, **link;  /* in tree.through; RANK_ICACHE */
};

struct inode {
	struct tree *tree;
	uint64_t ino;
	struct past *past; /* a file of a past state (past.h); NULL: of the present */
	struct view_node *view; /* below views/ (views.h); else NULL */
	enum array_kind kind; /* a directory's: the class of what is made in it */
	struct inode *hash_next;
	uint64_t refs;
	bool dirty, staged;
	uint64_t owed_bytes; /* to the commit, while it is dirty */
	struct inode *dirty_next, *staged_next;
	struct idle_list *idle; /* where it stands (idle.c); RANK_ICACHE, as the next three */
	struct inode *older, *younger;
	size_t array_bytes; /* in the account */

	struct rwlock rw;
	_Atomic(struct array *) array;
	_Atomic uint64_t size_bytes;
	uint64_t row_stored_bytes; /* while there is no array */
	uint64_t file_id;

	struct lock attr;
	_Atomic uint32_t mode; /* its type never changes, and is read without the lock */
	atomic_bool lost_bits; /* privs.c has taken some away: the kernel is to keep no attributes of it */
	uint32_t nlink, uid, gid;
	uint64_t rdev;
	int64_t atime_ns, mtime_ns, ctime_ns, btime_ns;

	struct through through;
	uint64_t parent;
	atomic_int nholds;       /* opens and views that use the array */
	atomic_int ncached;      /* opens whose pages the kernel caches */
	atomic_int nmappable;    /* of them, opens that can leave dirty pages in it */
	atomic_uint nlost;       /* writes of such pages that failed */
	atomic_int lost_err;     /* the last one's -errno */
	atomic_int nwriters;     /* opens that can write */
	atomic_int nkept;        /* opens no descriptor of which was closed, if the kernel tells */
	int64_t leaving_ns;      /* leaving.c; RANK_ICACHE, as the next line */
	struct inode *leaving_next, **leaving_link; /* NULL: it is not leaving */
	atomic_bool stale_pages; /* written around the cache while nobody had it open */
	_Atomic uint64_t old_end; /* where it ended before a truncation made it longer (tail.c); 0: nothing is to be left out */
	atomic_int has_xattrs;   /* -1: not known */
	atomic_int has_capabilities; /* as an attribute; the same */
	_Atomic uint64_t xattrs_bytes; /* no bucket: that a note of it has for the log, at most; UINT64_MAX: not known (room.c) */
	atomic_bool facts_changed; /* what a layer's index says of it is older */
	_Atomic uint64_t version;  /* another one after each change of data, size or settings */
};

/* Inodes by their last use; RANK_ICACHE. */
struct idle_list {
	struct inode *oldest, *youngest;
};

#define TREE_EDIT_SLOTS 16384u
#define VIEWS_ALONE_MAX 64u

/* A view that a thread was refused, which gets one of its own when it looks it up again (views/). */
struct view_wish {
	_Atomic uint64_t number; /* 0: none */
	_Atomic int64_t until_ns;
};

struct tree {
	struct store *store;
	const struct realm_ops *realms[REALM_N];
	struct arrays *arrays;
	struct lock lock; /* RANK_ICACHE */
	struct inode **table;
	size_t nbuckets, ninodes;
	struct inode *dirty_head, **dirty_tail;
	struct idle_list awake, closed; /* idle.c */
	struct inode *staged; /* the commit thread's */
	struct tree_dir *dirs; /* open ones; under lock */
	struct past_states *past; /* past.c's */
	_Atomic uint64_t versions; /* given to inodes so far */
	_Atomic uint32_t edits[TREE_EDIT_SLOTS]; /* changes of inodes whose numbers fall together; also of forgotten ones */
	struct upload *uploads; /* upload.c's; RANK_ICACHE */
	struct inode *live;     /* views that are written in place: views_edit.c's; RANK_ICACHE */
	struct view_wish alone[VIEWS_ALONE_MAX];
	_Atomic uint64_t views_made, views_apart, uploads_made; /* so many so far: for numbers of their own */
	struct tree_changes changes;
	struct tree_passthrough passthrough; /* RANK_ICACHE */
	struct inode *through;  /* RANK_ICACHE */
	struct inode *leaving, **leaving_tail; /* leaving.c; RANK_ICACHE, as the next three lines */
	unsigned nwaiting, nwaiting_max;
	pthread_cond_t left;    /* an inode has left the list */
	uint64_t nleft;         /* so many have, since the mount */
	bool deleting_orphans; /* at mount, before anything else runs */
	bool cutting, cutting_noted; /* cut.c: a bucket is not cut to its end by this commit; as the store has it. The commit thread's */
	bool sizes_stick;      /* tree.h */
	_Atomic uint64_t full_at; /* room.c: the last commit that has freed nothing that was asked for */
	int64_t mount_ns;
	_Atomic int64_t newest_ns; /* the kernel's newest stamp */
};

/* The known inode; -ESTALE if the kernel made the number up. Counts nothing. */
int inode_find(struct tree *t, uint64_t ino, struct inode **out);
/* As inode_find, and loads the row if it is not known; counts one reference. Holds the meta lock. */
int inode_get_locked(struct tree *t, uint64_t ino, struct inode **out);
/* An inode of which everything is known and that has no row: the one with row's number, made with `past` or `view` (taken
 * over, or freed; the other is NULL) if it is not known yet; one reference. */
int inode_get_made(struct tree *t, const struct meta_inode *row, struct past *past, struct view_node *view,
		   struct inode **out);
/* Is it known, and open so that the kernel may have changed pages of it? */
bool inode_is_mappable(struct tree *t, uint64_t ino);
void inode_ref(struct inode *i);
/* Takes n references; the last one frees the inode, and its storage if it has no name. May block on
 * I/O; no lock may be held. */
void inode_put(struct inode *i, uint64_t n);
/* Takes back n lookups of what a function of a world has counted. */
void inode_forget(struct tree *t, uint64_t ino, uint64_t n);
/* It has to be staged at the next commit. */
void inode_mark_dirty(struct inode *i);
/* The same, and more than its access time has changed. */
void inode_mark_changed(struct inode *i);
/* Around changes of rows that the layers' log has too: no commit falls between the two. Nothing may be held. */
void inode_log_enter(struct inode *i);
void inode_log_leave(struct inode *i);

/* cut.c. Begins to give back the data of a bucket that nobody knows any more: if that takes several commits, it is dirty
 * afterwards, and so still has a reference. No lock may be held. */
void cut_orphan(struct inode *i);
/* For the commit thread: it has been staged, and must be staged again. */
void cut_go_on(struct inode *i);
/* Behind all that was staged. */
int cut_note(struct tree *t);
/* At mount: the next commits go on with what was being cut. */
int cut_resume(struct tree *t);

/* The row as it is now (attributes; size and storage of the array if there is one). */
void inode_row(struct inode *i, struct meta_inode *out);
void inode_stat(struct inode *i, struct tree_attr *out);
/* Now, for a time of an inode. Not before a stamp of the kernel that was seen: those can lie ahead of the coarse clock by a tick. */
int64_t inode_stamp_ns(struct tree *t);
void inode_saw_stamp(struct tree *t, int64_t ns);
/* Now for the times in `which` (TREE_SET_MTIME, TREE_SET_CTIME, TREE_SET_ATIME); marks it dirty. */
void inode_touch(struct inode *i, unsigned which);
/* What the kernel would say of a new name in this directory. Of the caller's groups only the first is known. */
bool inode_may_add(const struct inode *dir, const struct tree_caller *who);
/* Opens the array if it is not; rw is held exclusively. */
int inode_need_array(struct inode *i, struct array **out);
/* Data, size or settings are others now. */
void inode_new_version(struct inode *i);
/* Whoever has used the array does so no more, with rw held exclusively: that of a past file which nobody has open is
 * closed, another one may be from now on (idle.c). */
void inode_idle_array(struct inode *i);
/* The array is used beyond the lock: it stays until it is let go as often. rw is held; for the second no lock may be. */
void inode_hold_array(struct inode *i);
void inode_let_go_array(struct inode *i);
/* Closes the array, if there is one, and keeps its facts; rw is held exclusively, and nobody else uses it. */
void inode_drop_array(struct inode *i);
/* After the array changed: size and stored bytes for stat. */
void inode_array_changed(struct inode *i);

/* Parameters of the array as its xattrs and its name give them. Holds the meta lock. */
int inode_params_locked(struct inode *i, struct array_params *out);
/* The element type's text, "" if there is none; *out is malloc'd. Holds the meta lock. */
int inode_dtype_locked(struct inode *i, char **out);

/* idle.c. What is in the table counts in the account; it was looked up just now; it is out of the table. RANK_ICACHE. */
void inode_known_locked(struct inode *i);
void inode_used_locked(struct inode *i);
void inode_unknown_locked(struct inode *i);
/* The array counts with what it holds now, and may be closed unless somebody else uses it; rw is held. */
void inode_rest(struct inode *i);
/* So many inodes are known that a listing should not make more of them known by itself: the kernel forgets slower than it
 * reads directories. */
bool inode_crowded(struct tree *t);
/* Closes idle arrays while they hold more than their share. No lock may be held. */
void inode_shrink(struct tree *t);

/* Forgets everything, at the end; dirty inodes go with the last commit. */
void inode_forget_all(struct tree *t);
/* After the last commit: those that it could not let go of. */
void inode_abandon_dirty(struct tree *t);
/* Deletes what a crash left without a name. */
int inode_delete_orphans(struct tree *t);

/* The text of a settable user.spillfs attribute (malloc'd), its own or its directory's at the time it was made, or NULL.
 * Holds the meta lock. */
char *inode_setting_locked(struct inode *i, const char *name);

/* At mount: what the layers' log has missed (relog.c). */
int inode_relog(struct tree *t);

/* leaving.c. Its last name has gone, or the kernel has told of a close or of forgetting it: if it has no name and nobody uses it
 * for sure, it is expected to go. */
void leaving_expect(struct inode *i);
/* It is used again, or it has gone. _locked: RANK_ICACHE. */
void leaving_end(struct inode *i);
void leaving_end_locked(struct inode *i);
/* What an operation has waited for; zeros at first. */
struct leaving_wait {
	int64_t until_ns; /* 0: it has found nothing to wait for */
	uint64_t nleft;   /* tree.nleft, when it looked last */
};

/* Waits until one that was leaving has gone since the last call, two seconds at most in all calls with w. false: none has, and
 * there is none to be waited for. No lock may be held that a close needs. */
bool leaving_wait(struct tree *t, struct leaving_wait *w);

/* room.c. What a dirty inode owes to the commit, and what a change of names or attributes needs, with room for what it splits. */
#define ROOM_INODE_BYTES 4608u
#define ROOM_NAME_BYTES 65536u
/* Waits for the commit that frees so much, if it is not there. -ENOSPC: it does not. */
int room_need(struct tree *t, uint64_t bytes);
/* What an operation has done to get room; zeros at first. */
struct room_wait {
	struct leaving_wait leaving;
	unsigned ncommits; /* after which nothing was leaving */
};

/* The same after something has failed with err: 0: it may be tried again. */
int room_wait(struct tree *t, int err, struct room_wait *w);
/* Before the facts of an inode change. Those of layers and columns are noted for the log with all attributes: where these are
 * more than a few bytes, as room_need; else as room_free. */
int room_note(struct inode *i);
/* Looks up how much that is, so that whoever makes the inode dirty owes it. No lock is held. */
void room_measure(struct inode *i);
/* Before rows are deleted or changed, which always works: waits for a commit where what that has to write is much of what is
 * left. */
void room_free(struct tree *t);

/* stage.c */
extern const struct commit_hooks inode_commit_hooks;

#endif
