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
/* The same, and then(ctx), once the kernel has dropped them; before the operation is answered, perhaps by another thread. */
void changed_pages_then(struct tree *t, uint64_t ino, uint64_t off, uint64_t len, void (*then)(void *ctx), void *ctx);
/* Times or size. With its writeback cache the kernel takes neither from the daemon for a file that it knows. So it is made to forget
 * the file's name, too, and with it the file, unless that is open. Takes the meta lock. */
void changed_facts(struct tree *t, uint64_t ino);

#endif
