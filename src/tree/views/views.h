/*
 * views/FORMAT/…: the tree of arrays once more, in other formats; and the same below each snapshot. view/ lays out the bytes of a file
 * there; here are its name, its number, its attributes, and which arrays it shows.
 *
 * Names: directories are mirrored under their own names. An array NAME.f64 is NAME.npy; if that would be the name of
 * two, each has its whole name, NAME.f64.npy, which always works. An array's own name wins over a shortened one.
 *
 * Below the present, what a name stands for is found anew at each look; a file that is open shows what was there when it was
 * opened, and the next one to look gets another inode if that has changed.
 */
#ifndef SPILLFS_TREE_VIEWS_H
#define SPILLFS_TREE_VIEWS_H

#include <stdbool.h>
#include <stdint.h>

#include "tree/inode.h"
#include "tree/realm.h"

#define VIEWS_NAME "views"

extern const struct realm_ops views_realm;

/* The number of the directory views/ of a root (META_INO_ROOT, or that of a state), for listings. */
uint64_t views_root_number(uint64_t root);
/* As the functions of tree.h. lookup counts one. */
int views_lookup(struct tree *t, uint64_t parent, const char *name, const struct tree_caller *who, struct tree_attr *out);
int views_enter(struct tree *t, uint64_t root, struct tree_attr *out);
uint64_t views_shown_ino(struct tree *t, uint64_t ino);
int views_getattr(struct tree *t, uint64_t ino, struct tree_attr *out);
/* Files below views/runs have the element type of their bucket, and their own length. */
int views_getxattr(struct tree *t, uint64_t ino, const char *name, void **out, size_t *len_out);
int views_listxattr(struct tree *t, uint64_t ino, char **out, size_t *len_out);
int views_readdir(struct tree *t, uint64_t ino, uint64_t cookie, struct tree_listing *to);
int views_setxattr(struct tree *t, uint64_t ino, const char *name, const void *value, size_t len, int flags);
int views_removexattr(struct tree *t, uint64_t ino, const char *name);

/* Changing arrays by their views (views_edit.c). As the functions of tree.h; -EROFS where a view is not one array. */
int views_setattr(struct tree *t, uint64_t ino, unsigned set, const struct stat *st, const struct tree_caller *who, struct tree_file *f,
		  struct tree_attr *out);
int views_unlink(struct tree *t, uint64_t parent, const char *name, const struct tree_caller *who);
int views_mkdir(struct tree *t, uint64_t parent, const struct realm_new *what, struct tree_attr *out);
int views_rmdir(struct tree *t, uint64_t parent, const char *name);
int views_rename(struct tree *t, uint64_t parent, const char *name, uint64_t newparent, const char *newname, unsigned flags,
		 const struct tree_caller *who);
int views_link(struct tree *t, uint64_t ino, uint64_t parent, const char *name, struct tree_attr *out);
/* A file that is to become an array by what is written to it (upload.h): made in a directory of views/npy. Counts a
 * lookup. */
int views_make(struct tree *t, uint64_t parent, const struct realm_new *what, struct tree_attr *out);

int views_open(struct tree *t, uint64_t ino, int flags, const struct tree_caller *who, struct tree_file **out,
	       struct tree_file_info *info);

/* As the table's. */
int views_arrays(struct tree *t, uint64_t ino, struct tree_inos *out);
void views_fini(struct inode *i);
/* Views but `asked` that are written, and whose pages are this array's. -ENOMEM. */
int views_written_to(struct tree *t, uint64_t array, uint64_t asked, struct tree_inos *out);

#endif
