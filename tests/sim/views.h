/*
 * Views of arrays of bytes, read as their formats say, and compared with what was written.
 */
#ifndef SPILLFS_SIM_VIEWS_H
#define SPILLFS_SIM_VIEWS_H

#include <stddef.h>
#include <stdint.h>

#include "client.h"
#include "model.h"
#include "tree/tree.h"

/* The view of the array `path`; and with an ending the name of a file that is to become it. */
void views_npy_path(const char *path, const char *ending, char out[PATH_BYTES]);
/* A .npy file of n bytes of the tag, malloc'd. */
unsigned char *views_npy_make(uint32_t tag, size_t n, size_t *n_out);
/* 0, or the error of a call; what differs is a failure. */
int views_compare_parquet(struct tree *t, const char *path, const struct content *want);

#endif
