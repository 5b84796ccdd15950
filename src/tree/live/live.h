/*
 * The live tree: buckets/, columns/ and layers/, as rows of meta.db.
 */
#ifndef SPILLFS_TREE_LIVE_H
#define SPILLFS_TREE_LIVE_H

#include "tree/inode.h"
#include "tree/realm.h"

extern const struct realm_ops live_realm;

/* The table's operations: names.c, attr.c, xattr.c. */
int live_lookup(struct tree *t, uint64_t parent, const char *name, const struct tree_caller *who, struct tree_attr *out);
int live_readdir(struct tree *t, uint64_t ino, uint64_t cookie, struct tree_listing *to);
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

/* A file without a name, of the directory's class and with its defaults, owned as a new file in it, with one reference. It goes
 * with the last one, or in a crash, if it has no name by then. */
int name_make_nameless(struct tree *t, uint64_t parent, const struct tree_caller *who, mode_t mode, struct inode **out);
/* Gives it a name; in place of the file `old` (0: none), or of another one that `who` owns or that has the same owners and
 * mode as i. -EEXIST: something else has the name; -EACCES: `old` has lost it, and `who` may not write the directory;
 * -ENOENT: the directory is gone. */
int name_publish(struct tree *t, uint64_t parent, const char *name, struct inode *i, uint64_t old,
		 const struct tree_caller *who);

#endif
