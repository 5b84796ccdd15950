/*
 * The simulated callers: each does the operations of the script that are its own, in order, in a thread, and compares each answer with
 * the model's.
 */
#ifndef SPILLFS_SIM_CALLERS_H
#define SPILLFS_SIM_CALLERS_H

#include "client.h"
#include "model.h"
#include "script.h"
#include "tree/tree.h"

/* The paths of a caller's names. */
void caller_path(unsigned caller, unsigned slot, char out[PATH_BYTES]);
void caller_dir(unsigned caller, unsigned class, char out[PATH_BYTES]);
void caller_quota_dir(unsigned caller, unsigned class, unsigned which, char out[PATH_BYTES]);

/* The directories of the callers; durable. And those in scratch/, at each mount. */
int callers_prepare(struct tree *t, const struct script *s);
int callers_prepare_scratch(struct tree *t, const struct script *s);
/* Does the operations from `first` up to the next remount, or the end; returns behind it. The callers' threads have ended then. */
unsigned callers_run(struct tree *t, const struct script *s, unsigned first);
/* Has one of them met an error of the disk, and stopped? */
bool callers_have_ended(void);
/* Reads everything that is there of all callers: 0, or the first error. damaged: files may be unreadable. */
int callers_find(struct tree *t, unsigned ncallers, bool damaged, struct found found[CALLERS_MAX]);
/* NULL, or which quota does not count what is there (a static text); nothing is open, and nothing waits to be deleted.
 * reserves: by fallocate, too. */
const char *callers_check_quotas(struct tree *t, unsigned ncallers, bool reserves, const struct found found[CALLERS_MAX]);
void found_free(struct found found[CALLERS_MAX]);
bool found_same(const struct found a[CALLERS_MAX], const struct found b[CALLERS_MAX]);
/* Snapshots that were answered are there, with what they had. NULL, or what is wrong. */
const char *callers_check_kept(struct tree *t, unsigned ncallers);

#endif
