/*
 * Worlds. The tree shows the live tree, scratch/, states of layers/, views of these, and control files. Each of them is one table of
 * operations, and tree.c finds the table by the inode number. To add a world: a folder with a table, a line in `enum realm_id`, and
 * a line in tree.c; realm_of says which numbers are its.
 *
 * tree.c has checked the name of a new entry, refuses what a world has not, and refuses every change of a follower. A world may
 * call the operations of another (a view those of its source's world), through realm_of; it calls nothing of tree.c.
 */
#ifndef SPILLFS_TREE_REALM_H
#define SPILLFS_TREE_REALM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "block/format.h"
#include "tree/tree.h"

struct array;
struct inode;
struct spillfs_mark;
struct tree_inos;
struct tree_listing;

/* An inode holds others only of worlds that stand before its own. */
enum realm_id { REALM_LIVE, REALM_SCRATCH, REALM_PAST, REALM_VIEWS, REALM_CONTROL, REALM_N };

/* Inode numbers. Those of the live tree are rows of meta.db; the others are made up, and never meet them. */
#define REALM_VIEWS_BIT (1ull << 63)
#define REALM_PAST_BIT (1ull << 62)
#define REALM_SCRATCH_BIT (1ull << 60) /* without these two; rows of the scratch store */
#define REALM_CONTROL_BASE (1ull << 56) /* and above, without these three bits; and some that no row has: */
#define REALM_CONTROL_FIRST 5u
#define REALM_CONTROL_LAST 15u

/* A new entry of a directory. */
struct realm_new {
	const char *name;
	mode_t mode; /* with the file type */
	dev_t rdev;
	const char *target; /* of a symbolic link */
	const struct tree_caller *who;
};

/* An entry that is there, without an inode. */
struct realm_entry {
	uint64_t cookie, ino;
	const char *name;
	mode_t mode;
	enum array_kind kind;
	const char *dtype; /* of a file: its element type in effect, or "" */
};
/* A search for the entries whose name is `stem`, or `stem` with one of the endings behind it. */
struct realm_stem {
	const char *stem;
	const char *const *endings;
	size_t n;
	int (*each)(void *ctx, const struct realm_entry *e); /* non-zero ends the look; no operation may be called */
	uint64_t (*pick)(void *ctx); /* after that, the file that is wanted; 0: none; NULL: none ever */
	void *ctx;
};

/* As the functions of tree.h. Where the caller of a function may be NULL there, it may be so here. */
struct realm_ops {
	enum realm_id id;
	int refusal;        /* what a change answers that this world has not: -EROFS, -EPERM */
	bool fixed;         /* what a number stands for stays as it is */
	bool names_settled; /* names come and go by the kernel alone */

	/* Names. */
	int (*lookup)(struct tree *t, uint64_t dir, const char *name, const struct tree_caller *who, struct tree_attr *out);
	/* Adds entries behind the cookie, which is the world's own: from 1 on, 0 for the start. */
	int (*readdir)(struct tree *t, uint64_t dir, uint64_t cookie, struct tree_listing *to);
	/* For views; NULL: they do not show this world. walk calls each with the entries behind the cookie, until it returns non-zero. */
	int (*walk)(struct tree *t, struct tree_dir *d, uint64_t dir, uint64_t cookie, int (*each)(void *ctx, const struct realm_entry *e),
		    void *ctx);
	/* *out is the inode of the entry that is picked, with one more reference. -ENOENT: none is. */
	int (*find)(struct tree *t, uint64_t dir, const struct realm_stem *what, struct inode **out);
	/* The directory that ".." shows; NULL: the root. */
	int (*parent)(struct tree *t, uint64_t dir, uint64_t *out);
	/* The directory of this world that a root of another shows. Counts a lookup. */
	int (*enter)(struct tree *t, uint64_t root, struct tree_attr *out);
	int (*make)(struct tree *t, uint64_t dir, const struct realm_new *what, struct tree_attr *out);
	int (*create)(struct tree *t, uint64_t dir, const struct realm_new *what, struct tree_attr *out); /* NULL: as make */
	int (*link)(struct tree *t, uint64_t ino, uint64_t dir, const char *name, struct tree_attr *out);
	int (*unlink)(struct tree *t, uint64_t dir, const char *name, const struct tree_caller *who);
	int (*rmdir)(struct tree *t, uint64_t dir, const char *name);
	int (*rename)(struct tree *t, uint64_t dir, const char *name, uint64_t newdir, const char *newname, unsigned flags,
		      const struct tree_caller *who);
	int (*readlink)(struct tree *t, uint64_t ino, char **out); /* NULL: -EINVAL */

	/* Attributes. */
	int (*getattr)(struct tree *t, uint64_t ino, struct tree_attr *out);
	int (*setattr)(struct tree *t, uint64_t ino, unsigned set, const struct stat *st, const struct tree_caller *who,
		       struct tree_file *f, struct tree_attr *out);
	uint64_t (*shown_ino)(struct tree *t, uint64_t ino); /* NULL: the same */
	int (*getxattr)(struct tree *t, uint64_t ino, const char *name, void **out, size_t *len_out); /* NULL: -ENODATA */
	int (*listxattr)(struct tree *t, uint64_t ino, char **out, size_t *len_out);                  /* NULL: there are none */
	int (*setxattr)(struct tree *t, uint64_t ino, const char *name, const void *value, size_t len, int flags);
	int (*removexattr)(struct tree *t, uint64_t ino, const char *name);
	int (*mark)(struct tree *t, uint64_t ino, struct spillfs_mark *out);

	/* As tree_file_open; *info is set to false and 0 but for `direct`. */
	int (*open)(struct tree *t, uint64_t ino, int flags, const struct tree_caller *who, struct tree_file **out,
		    struct tree_file_info *info);
	/* The live arrays that an inode shows, or itself if it is one. -ENOMEM. NULL: there are none. */
	int (*arrays)(struct tree *t, uint64_t ino, struct tree_inos *out);

	/* Inodes of this world (inode.h). One that may be NULL has nothing to do then. */
	size_t inode_bytes;
	void (*forgetting)(struct inode *i);           /* the kernel forgets it: no lock is held; may be NULL */
	void (*put)(struct inode *i, uint64_t n);      /* NULL: with the last of n references it is freed */
	void (*fini)(struct inode *i);                 /* frees what stands behind the base; may be NULL */
	void (*used_locked)(struct inode *i);          /* it was looked up, or its array is let go; RANK_ICACHE; may be NULL */
	void (*unknown_locked)(struct inode *i);       /* it is out of the table; RANK_ICACHE; may be NULL */
	void (*stat_locked)(struct inode *i, struct tree_attr *out); /* what differs from the base; attr is held; may be NULL */
	int (*load)(struct inode *i, struct array **out);            /* opens its array; rw is held exclusively */
	void (*idle)(struct inode *i);                 /* nobody uses the array; rw is held exclusively; NULL: it stays open */
	/* An extended attribute that is stored, malloc'd with a NUL behind it. -ENODATA. The meta lock is held. */
	int (*stored_locked)(struct inode *i, const char *name, void **out, size_t *len_out);
	char *(*dtype_locked)(struct inode *i);        /* its element type without one: as its name says, or "" */
};

/* The world that a number belongs to. Only this function looks at the number's bits, and knows that a follower's root belongs to
 * control/. */
const struct realm_ops *realm_of(const struct tree *t, uint64_t ino);
/* The tree whose table of inodes has the number: that of scratch/, or t itself. */
struct tree *realm_tree(struct tree *t, uint64_t ino);

#endif
