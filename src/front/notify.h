/*
 * Invalidation of the kernel's cached pages and names, on threads of its own: a notification sent from inside an
 * operation, or under a lock, can wait for a page that only this operation could release.
 *
 * Names have a thread to themselves. To drop one the kernel takes the lock of its directory; a rename or an unlink has that while it waits
 * for the lock of a file, which a write holds until it is answered. So nothing waits behind a name but an operation that has changed what
 * that name stands for: a close, or a change in views/. The kernel may hold the lock of a directory in views/ for that, and a rename from there
 * to the name's directory has the one and waits for the other: behind a name nobody waits for longer than NOTIFY_NAMES_MS.
 */
#ifndef SPILLFS_FRONT_NOTIFY_H
#define SPILLFS_FRONT_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct fuse_session;
struct notify;
struct tree;

/* Also asks the kernel to forget what the tree has too much of (tree_forgettable), when there is nothing else to tell. */
int notify_new(struct fuse_session *se, struct tree *tree, struct notify **out);
/* The kernel is told nothing more, and what it is being told has ended. Before the loop ends by itself: the kernel may be writing
 * pages back meanwhile, and would wait for ever. */
void notify_silence(struct notify *n);
/* Runs what is queued, then joins the threads. */
void notify_free(struct notify *n);
/* Drops the cached pages of [off, off + len) (len 0: to the end; dirty ones are written back first), then calls
 * then(ctx), which answers the operation that asked. When memory is out, then is called at once. It may be NULL. */
void notify_drop_pages(struct notify *n, uint64_t ino, off_t off, off_t len, void (*then)(void *ctx), void *ctx);
#define NOTIFY_NAMES_MS 250u

/* Calls then(ctx) when all that was asked for before is done; names: with the names, if that does not take too long. */
void notify_then(struct notify *n, bool names, void (*then)(void *ctx), void *ctx);
/* Drops the attributes that the kernel keeps of a file; then as above. */
void notify_drop_attr(struct notify *n, uint64_t ino, void (*then)(void *ctx), void *ctx);
/* Drops what the kernel knows of a name in a directory, which stands for something else now. */
void notify_drop_entry(struct notify *n, uint64_t parent, const char *name);

#endif
