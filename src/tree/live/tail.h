/*
 * The rest of the kernel's page behind the end of a file. A mapping can write there; it is not the file's, and must not become
 * so when the file grows.
 */
#ifndef SPILLFS_TREE_TAIL_H
#define SPILLFS_TREE_TAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct inode;

/* The file, of old_bytes before, has another size by a truncation that is not answered yet. */
void tail_resized(struct inode *i, uint64_t old_bytes);
/* A change around the kernel's cache at off_bytes begins behind the end, which was old_bytes: where the pages begin that the
 * kernel has to drop. Until it is answered the kernel knows the old end, and writes back no more. */
uint64_t tail_drop_from(const struct inode *i, uint64_t old_bytes, uint64_t off_bytes);
/* The kernel reads such bytes into its cache, or has others there than before: it keeps nothing of the last truncation. */
void tail_replaced(struct inode *i, uint64_t off_bytes, size_t len);
/* It writes this back: [*from_out, *to_out) of it is not the file's; false: all is. */
bool tail_covers(const struct inode *i, uint64_t off_bytes, size_t len, uint64_t *from_out, uint64_t *to_out);

#endif
