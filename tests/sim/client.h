/*
 * What a program would do to the mount, by paths: each call walks the path as the kernel does, and forgets it again. Paths have no
 * slash at their begin. All return 0 or -errno.
 */
#ifndef SPILLFS_SIM_CLIENT_H
#define SPILLFS_SIM_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "tree/tree.h"

#define PATH_BYTES 96
/* A write of more is several calls, as through a mount. */
#define CLIENT_STEP_BYTES (128u << 10)

int client_stat(struct tree *t, const char *path, struct stat *out);
int client_make(struct tree *t, const char *path, mode_t mode);
int client_unlink(struct tree *t, const char *path);
int client_rmdir(struct tree *t, const char *path);
int client_rename(struct tree *t, const char *from, const char *to);
int client_link(struct tree *t, const char *from, const char *to);
/* All of it, or an error: what is in then is not known. */
int client_write(struct tree *t, const char *path, const void *p, size_t n, uint64_t off);
/* A new file of views/npy, whole before it is closed. */
int client_upload(struct tree *t, const char *path, const void *p, size_t n);
/* Keeps the file open until client_let_go. */
struct client_held;
int client_hold(struct tree *t, const char *path, struct client_held **out);
void client_let_go(struct client_held *h); /* NULL is allowed */
/* All of the file, malloc'd. */
int client_read(struct tree *t, const char *path, unsigned char **out, size_t *n_out);
int client_truncate(struct tree *t, const char *path, uint64_t size);
int client_chmod(struct tree *t, const char *path, mode_t mode);
int client_fallocate(struct tree *t, const char *path, int mode, uint64_t off, uint64_t len);
int client_set_note(struct tree *t, const char *path, uint32_t note);
/* 0: none. */
int client_get_note(struct tree *t, const char *path, uint32_t *out);
/* A quota: SPILLFS_XATTR_QUOTA or its sibling; 0: none. */
int client_set_quota(struct tree *t, const char *path, const char *name, uint32_t bytes);
/* Any other attribute of text. */
int client_set_text(struct tree *t, const char *path, const char *name, const char *value);
/* malloc'd; NULL: there is none. */
int client_get_text(struct tree *t, const char *path, const char *name, char **out);
/* Is it declared scratch, of a directory that is durable? */
int client_get_shelved(struct tree *t, const char *path, bool *out);
int client_get_quota(struct tree *t, const char *path, const char *name, uint32_t *out);
/* What counts below it, if it has one (-ENODATA): sizes, and bytes of the store. */
int client_quota_used(struct tree *t, const char *path, uint64_t *size_out, uint64_t *held_out);
/* Bytes of the store that all files take, by the account of -o size (-ENODATA: there is none). */
int client_held(struct tree *t, uint64_t *out);
int client_list(struct tree *t, const char *path, void (*each)(void *ctx, const char *name), void *ctx);

#endif
