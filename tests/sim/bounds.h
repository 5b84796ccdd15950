/*
 * Bounds on what is stored: user.spillfs.quota, and -o size. What the store makes of bytes is its own affair, so the model does not know
 * what counts; but it knows what an operation can add at most. So a refusal is due only if that would pass a bound, and what counts
 * never passes one.
 */
#ifndef SPILLFS_SIM_BOUNDS_H
#define SPILLFS_SIM_BOUNDS_H

#include "script.h"
#include "tree/tree.h"

/* The operation has failed with err: was that due to a bound? The failure of the run, if it claims so and was not. */
bool bounds_refuse(struct tree *t, const struct script *s, const struct op *o, int err);
/* Behind an operation that has succeeded: nothing has passed a bound. */
void bounds_check(struct tree *t, const struct script *s, const struct op *o);
/* Behind a commit: what counts of the caller is no more than its files can take. */
void bounds_check_freed(struct tree *t, const struct script *s, unsigned caller);
/* NULL, or what is wrong with statfs of the mount (a static text). */
const char *bounds_check_size(struct tree *t, const struct script *s);

#endif
