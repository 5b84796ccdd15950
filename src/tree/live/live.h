/*
 * The live tree: buckets/, columns/ and layers/, as rows of meta.db.
 *
 * Locks, besides those of inode.h: names by the meta lock; the parent of a directory is written under that and attr, read under either.
 */
#ifndef SPILLFS_TREE_LIVE_H
#define SPILLFS_TREE_LIVE_H

#include <assert.h>

#include "io/io.h"
#include "store/commit.h"
#include "tree/inode.h"
#include "tree/realm.h"

struct acl;

/* A column whose file the kernel works on by itself (passthrough.h). Changes with rw held exclusively, under attr; read
 * under either. */
struct through {
	struct io *file;      /* that the kernel has; NULL: none */
	struct io_facts seen; /* of the file, when the inode caught up with it last */
	uint32_t backing;     /* the kernel's number of it; 0: no open has it */
	unsigned nopens, nblind; /* nblind: those among them whose writes pass the daemon by */
	atomic_int nplain;    /* opens that do not pass through */
	bool mapped;  /* an open could map the file for writing, and the map may still be there */
	bool recent;  /* `seen` is of this tick of the clock: another write in the tick would not show */
	bool armed;   /* it was given privileges while somebody wrote unseen */
	bool owes;    /* these privileges have to be taken away */
	atomic_bool watched;         /* there may be something to catch up with */
	struct live_inode *next, **link; /* in tree.through; RANK_ICACHE */
};

/* growth.h. Under attr. */
struct growth {
	unsigned nwrites;    /* that the kernel has not dropped its pages for */
	uint64_t told_bytes; /* what stat says meanwhile, at most */
};

/* Bytes that count for a quota. */
struct quota_amount {
	uint64_t held_bytes, size_bytes;
};

struct live_inode {
	struct inode base;
	struct inode *shelf;         /* of a directory: what has its entries (shelf.h); NULL: itself. By the meta lock and attr */
	uint64_t shows;              /* of a shelf: its directory; 0: it is none */
	struct quota *quota;         /* that it belongs to (quota.c); RANK_QUOTA, as the next line */
	struct quota_amount counted; /* for it */
	bool staged;         /* by the commit that runs */
	bool fresh;          /* made, and its array was not open since. rw held exclusively */
	bool gone;           /* it has no name, and its bytes are counted as freed (delete.c). By attr */
	uint64_t owed_bytes; /* to the commit, while it is dirty */
	struct live_inode *dirty_next, *staged_next;
	struct idle_list *idle; /* where it stands (idle.c); RANK_ICACHE, as the next two */
	struct live_inode *older, *younger;
	struct through through;
	struct growth growth;
	atomic_int nwriters;         /* opens that can write */
	atomic_int nkept;            /* opens no descriptor of which was closed, if the kernel tells */
	int64_t leaving_ns;          /* leaving.c; RANK_ICACHE, as the next line */
	struct live_inode *leaving_next, **leaving_link; /* NULL: it is not leaving */
	_Atomic uint64_t old_end;    /* where it ended before a truncation made it longer (tail.c); 0: nothing is to be left out */
	atomic_int has_xattrs;       /* -1: not known */
	atomic_int cold;             /* cold.h; the same */
	atomic_int has_capabilities; /* as an attribute; the same */
	_Atomic uint64_t xattrs_bytes; /* no bucket: that a note of it has for the log, at most; UINT64_MAX: not known (room.c) */
	atomic_bool facts_changed;   /* what a layer's index says of it is older */
	atomic_bool logged_as_stored; /* but as old as its row, since the last change */
};

static inline struct live_inode *live_of(const struct inode *i)
{
	assert(i->realm->id == REALM_LIVE);
	return (struct live_inode *)(uintptr_t)i;
}

extern const struct realm_ops live_realm;

/* The table's operations: names.c, entries.c, attr.c, xattr.c. */
int live_lookup(struct tree *t, uint64_t parent, const char *name, const struct tree_caller *who, struct tree_attr *out);
int live_readdir(struct tree *t, uint64_t ino, uint64_t cookie, struct tree_listing *to);
int live_walk(struct tree *t, struct tree_dir *d, uint64_t dir, uint64_t cookie, int (*each)(void *ctx, const struct realm_entry *e),
	      void *ctx);
int live_find(struct tree *t, uint64_t dir, const struct realm_stem *what, struct inode **out);
int live_parent(struct tree *t, uint64_t ino, uint64_t *out);
int live_make(struct tree *t, uint64_t parent, const struct realm_new *what, struct tree_attr *out);
int live_link(struct tree *t, uint64_t ino, uint64_t parent, const char *name, struct tree_attr *out);
int live_unlink(struct tree *t, uint64_t parent, const char *name, const struct tree_caller *who);
int live_rmdir(struct tree *t, uint64_t parent, const char *name);
int live_rename(struct tree *t, uint64_t parent, const char *name, uint64_t newparent, const char *newname, unsigned flags,
		const struct tree_caller *who);
int live_readlink(struct tree *t, uint64_t ino, char **out);
int live_getattr(struct tree *t, uint64_t ino, struct tree_attr *out);
int live_setattr(struct tree *t, uint64_t ino, unsigned set, const struct stat *st, const struct tree_caller *who, struct tree_file *f,
		 struct tree_attr *out);
int live_getxattr(struct tree *t, uint64_t ino, const char *name, void **out, size_t *len_out);
int live_listxattr(struct tree *t, uint64_t ino, char **out, size_t *len_out);
int live_setxattr(struct tree *t, uint64_t ino, const char *name, const void *value, size_t len, int flags);
int live_removexattr(struct tree *t, uint64_t ino, const char *name);
int live_mark(struct tree *t, uint64_t ino, struct spillfs_mark *out);

/* load.c. The known inode, or a new one from the row, with one more reference. The meta lock is held. -ENOENT: it is deleted, or being
 * deleted. */
int live_get_locked(struct tree *t, uint64_t ino, struct inode **out);
/* The inode of a row that was made in this hold of the meta lock, with one reference. */
int live_add_locked(struct tree *t, const struct facts *row, struct inode **out);
/* A row of the inode at this moment: attributes, and size and storage of the array if it is open. */
void live_row(struct inode *i, struct facts *out);
/* Operations of struct realm_ops. */
int live_load(struct inode *i, struct array **out);
void live_stat_locked(struct inode *i, struct tree_attr *out);
int live_stored_locked(struct inode *i, const char *name, void **out, size_t *len_out);
char *live_dtype_locked(struct inode *i);

/* dirty.c. It has to be staged at the next commit. */
void live_mark_dirty(struct inode *i);
/* The same, and more than its access time has changed. */
void live_mark_changed(struct inode *i);
/* Now for the times in `which` (TREE_SET_MTIME, TREE_SET_CTIME, TREE_SET_ATIME); marks it dirty. */
void live_touch(struct inode *i, unsigned which);
/* Around changes of rows that the layers' log has too: no commit falls between the two. Nothing may be held. */
void live_log_enter(struct inode *i);
void live_log_leave(struct inode *i);

/* shown.c. The directory that has the entries of dir: its shelf (shelf.h), or itself. Any number; any thread. */
uint64_t live_shelf_of(struct tree *t, uint64_t dir);
/* The directory that a shelf stands behind, or the number itself. */
uint64_t live_shown_of(struct tree *t, uint64_t dir);

/* idle.c. */
void live_used_locked(struct inode *i);
void live_unknown_locked(struct inode *i);
/* So many inodes are known that a listing should not make more of them known by itself: the kernel forgets slower than it
 * reads directories. */
bool live_is_crowded(struct tree *t);
/* Closes idle arrays while they hold more than their share. No lock may be held. */
void live_shrink(struct tree *t);

/* delete.c. Before the kernel's lookups are taken back. */
void live_forgetting(struct inode *i);
/* Takes n references; with the last one goes the storage of what has no name. Blocks; no lock may be held. */
void live_put(struct inode *i, uint64_t n);
/* After the last commit: lets go of the inodes that are still dirty, and names the files among them in the log. */
void live_abandon_dirty(struct tree *t);
/* Deletes the inodes that a crash has left without a name. */
int live_delete_orphans(struct tree *t);

/* cut.c. For the commit thread: notes that the inode was staged and has to be staged again. */
void cut_go_on(struct inode *i);
/* Stages the fact `cutting`, after all inodes. */
int cut_note(struct tree *t);
/* At mount: makes the inodes dirty that were being cut, so that the next commits go on. */
int cut_resume(struct tree *t);

/* leaving.c. Called when the last name has gone, and when the kernel has reported a close or a forget. From then on an inode without
 * name and known users is expected to go. */
void leaving_expect(struct inode *i);
/* Called when the inode is used again, and when it has gone. _locked: RANK_ICACHE. */
void leaving_end(struct inode *i);
void leaving_end_locked(struct inode *i);
/* The state of an operation's waits; zeros at first. */
struct leaving_wait {
	int64_t until_ns; /* 0: it has found nothing to wait for */
	uint64_t nleft;   /* tree.nleft, when it looked last */
};

/* Waits until a file that was leaving has gone since the last call, two seconds at most in all calls with w. false: none has gone, and
 * none is leaving. No lock may be held that a close needs. */
bool leaving_wait(struct tree *t, struct leaving_wait *w);

/* relog.c. At mount: notes for the layers' log what it has missed. */
int live_relog(struct tree *t);

/* commit.c */
extern const struct commit_hooks live_commit_hooks;

/* names.c. i loses this name in dir, be it a directory that is not empty: nothing can be made in that, or be moved into it or out of it, any
 * more, and what is in it is the caller's to detach. The meta lock is held, in a scratch store. */
int live_detach_locked(struct inode *dir, const char *name, struct inode *i);
/* A file without a name, of the directory's class and with its defaults, owned as a new file in it, with one reference. Without
 * a name by then, it is deleted with its last reference, or by a crash. own: its access ACL (acl.h), with just this mode; NULL: both
 * as of a new file. */
int live_make_nameless(struct tree *t, uint64_t parent, const struct tree_caller *who, mode_t mode, const struct acl *own,
		       struct inode **out);
/* Gives it a name; in place of the file `old` (0: none), or of another one that `who` owns or that has the same owners and
 * mode as i. -EEXIST: something else has the name; -EACCES: `old` has lost it, and `who` may not write the directory;
 * -ENOENT: the directory is gone. */
int live_publish(struct tree *t, uint64_t parent, const char *name, struct inode *i, uint64_t old,
		 const struct tree_caller *who);

#endif
