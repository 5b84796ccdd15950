/*
 * Passthrough: the kernel reads, writes and maps a file of the store by itself, without the daemon. Which files, and when,
 * tree/live/passthrough.c decides; here is how the kernel is told.
 */
#ifndef SPILLFS_FRONT_PASSTHROUGH_H
#define SPILLFS_FRONT_PASSTHROUGH_H

#include <stdint.h>

#include "front/inside.h"

/* Before the mount: should INIT ask for it? */
bool passthrough_wanted(const struct front *f);
/* Once INIT is answered: tries it, and tells the tree and the log whether it is in force, and why not. */
void passthrough_start(struct front *f);
/* As fuse_reply_open and fuse_reply_create, of a file with this backing; 0: it has none. */
int passthrough_reply_open(fuse_req_t req, struct fuse_file_info *fi, uint32_t backing);
int passthrough_reply_create(fuse_req_t req, const struct fuse_entry_param *e, struct fuse_file_info *fi, uint32_t backing);

#endif
