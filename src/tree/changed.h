/*
 * Having the kernel forget (tree_on_changes).
 */
#ifndef SPILLFS_TREE_CHANGED_H
#define SPILLFS_TREE_CHANGED_H

#include <stdint.h>

struct tree;

/* A name of a directory and the directory's attributes; attributes; pages and attributes. */
void changed_name(struct tree *t, uint64_t parent, const char *name);
void changed_attr(struct tree *t, uint64_t ino);
void changed_pages(struct tree *t, uint64_t ino, uint64_t off, uint64_t len);
/* Its times or its size. With its writeback cache the kernel takes none of these for a file that it knows: it forgets the
 * file's name, too, and so the file, unless it is open. Takes the meta lock. */
void changed_facts(struct tree *t, uint64_t ino);

#endif
