/*
 * The choice of a block's filter: the candidates for its elements are tried on a sample.
 *
 * Thread-safe. Nothing blocks.
 */
#ifndef SPILLFS_BLOCK_CHOICE_H
#define SPILLFS_BLOCK_CHOICE_H

#include "block/codec.h"
#include "block/frame.h"

/* A level that shows at a third of the time of the default one whether something has a chance to be shorter than another. */
#define CHOICE_QUICK_LEVEL 1

/* Is there anything to choose from for n bytes? */
bool choice_exists(const struct codec_params *p, size_t n);
/* May a block have the filter FILTER_RECORD? */
bool choice_has_records(const struct codec_params *p, size_t n);
/* Numbers of any width are looked for in an array of which nobody has said what it holds. */
bool choice_is_free(const struct codec_params *p);
/* The filter that suits the sample best; with the policy FILTER_RECORD that one, where choice_has_records(). c: of this thread; NULL where
 * the level does not compress. -ENOMEM, -EIO. */
int choice_make(ZSTD_CCtx *c, const struct codec_params *p, const void *raw, size_t n, struct filter *out);

#endif
