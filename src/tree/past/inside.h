/*
 * The inside of past/: numbers, states (states.c), files (files.c), directories (dirs.c).
 */
#ifndef SPILLFS_TREE_PAST_INSIDE_H
#define SPILLFS_TREE_PAST_INSIDE_H

#include "store/layers/state.h"
#include "tree/past/past.h"

/* A number: of a file its own and the layer in which it last changed; of a directory its own and that of a root. */
#define INO_BITS 36u
#define INO_MAX ((1ull << INO_BITS) - 1)
#define ROOTS_MAX (1u << 26)
#define ROOT_PRESENT 0u

static inline uint64_t past_number(uint64_t high, uint64_t ino)
{
	return REALM_PAST_BIT | high << INO_BITS | ino;
}

static inline uint64_t past_root_of(uint64_t number)
{
	return (number & ~REALM_PAST_BIT) >> INO_BITS;
}

static inline uint64_t past_ino_of(uint64_t number)
{
	return number & INO_MAX;
}

struct index_record;

/* states.c. The state at a sealed layer, and the state that an inode number belongs to (-ESTALE: it is gone). With a reference. */
int past_get_state(struct tree *t, uint64_t layer, struct state **out);
int past_state_of(struct tree *t, uint64_t number, struct state **out);
/* The root of a name in snapshots/ that stands for this layer. */
int past_need_root(struct tree *t, const char *name, uint64_t layer, uint64_t *out);

/* files.c. The inode of a file of the state, with one more reference. */
int past_get_file(struct tree *t, struct state *state, const struct index_record *r, struct inode **out);
int past_open_file(struct tree *t, uint64_t ino, int flags, const struct tree_caller *who, struct tree_file **out,
		   struct tree_file_info *info);
void past_fini(struct inode *i);
void past_idle(struct inode *i);
int past_load(struct inode *i, struct array **out);
int past_stored_locked(struct inode *i, const char *name, void **out, size_t *len_out);
char *past_dtype_locked(struct inode *i);

/* dirs.c */
int past_lookup(struct tree *t, uint64_t parent, const char *name, const struct tree_caller *who, struct tree_attr *out);
int past_readdir(struct tree *t, uint64_t ino, uint64_t cookie, struct tree_listing *to);
int past_walk(struct tree *t, struct tree_dir *d, uint64_t dir, uint64_t cookie, int (*each)(void *ctx, const struct realm_entry *e),
	      void *ctx);
int past_find(struct tree *t, uint64_t dir, const struct realm_stem *what, struct inode **out);
int past_parent(struct tree *t, uint64_t ino, uint64_t *out);
int past_readlink(struct tree *t, uint64_t ino, char **out);
int past_getattr(struct tree *t, uint64_t ino, struct tree_attr *out);
int past_getxattr(struct tree *t, uint64_t ino, const char *name, void **out, size_t *len_out);
int past_listxattr(struct tree *t, uint64_t ino, char **out, size_t *len_out);

#endif
