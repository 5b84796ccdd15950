/*
 * Columns: one contiguous file each, or a row of meta.db while they are short.
 */
#ifndef SPILLFS_ARRAY_COLUMN_H
#define SPILLFS_ARRAY_COLUMN_H

#include "array/array.h"

extern const struct array_ops column_ops;

#endif
