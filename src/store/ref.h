/*
 * The texts that name a sealed layer: layers/HEAD, "00000007.zst\n", and the files of layers/refs/, "00000007.zst TIME\n", TIME being that of
 * the snapshot's making in nanoseconds since 1970; and the names of those files. Text in, text out.
 */
#ifndef SPILLFS_STORE_REF_H
#define SPILLFS_STORE_REF_H

#include <stdint.h>

#include "store/meta.h"

#define REF_TEXT_MAX 64
#define REF_PATH_MAX (sizeof("layers/refs/") + META_NAME_MAX)

/* -EINVAL. */
int ref_head_parse(const char *text, uint64_t *layer_out);
int ref_parse(const char *text, uint64_t *layer_out, int64_t *time_ns_out);
void ref_head_text(uint64_t layer, char out[REF_TEXT_MAX]);
void ref_text(uint64_t layer, int64_t time_ns, char out[REF_TEXT_MAX]);
/* The file of a snapshot with this name, of META_NAME_MAX bytes at most. */
void ref_path(const char *name, char out[REF_PATH_MAX]);

#endif
