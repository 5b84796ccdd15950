/*
 * Buckets: append-mostly files pooled into a few physical ones.
 */
#ifndef SPILLFS_ARRAY_BUCKET_H
#define SPILLFS_ARRAY_BUCKET_H

#include "array/array.h"

extern const struct array_ops bucket_ops;

#endif
