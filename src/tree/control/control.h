/*
 * Files and directories that the tree shows besides the store's: deltas/, snapshots/ and .spillfs/; of a follower the root too. Owned by
 * the daemon's user, made up on the spot. Their inode numbers are fixed: they never meet those of files.
 */
#ifndef SPILLFS_TREE_CONTROL_H
#define SPILLFS_TREE_CONTROL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "tree/realm.h"

enum control_ino {
	CONTROL_DELTAS = 5,
	CONTROL_SNAPSHOTS = 6,
	CONTROL_DOT_SPILLFS = 7, /* .spillfs */
	CONTROL_STATS = 8,
	CONTROL_CONFIG = 9,
	CONTROL_VERSION = 10,
	CONTROL_LOG = 11,
	CONTROL_VIEWS = 13, /* only listed */
	CONTROL_QUOTAS = 14,
	CONTROL_DISKS = 15,
	CONTROL_DIFF = 12, /* directory; its files are asked for by name, A..B */
};
#define CONTROL_DELTA_BASE REALM_CONTROL_BASE /* + number of the layer */
#define CONTROL_DIFF_BASE (1ull << 61)  /* + number of layer A << 30 + number of layer B */

extern const struct realm_ops control_realm;

static inline bool control_is_delta(uint64_t ino)
{
	return ino >= CONTROL_DELTA_BASE && ino < CONTROL_DIFF_BASE;
}

static inline bool control_is_diff(uint64_t ino)
{
	return ino >= CONTROL_DIFF_BASE && ino < REALM_PAST_BIT;
}

/* file.c */
int control_open(struct tree *t, uint64_t ino, int flags, const struct tree_caller *who, struct tree_file **out,
		 struct tree_file_info *info);

/* snapshots.c. mkdir, rmdir and the listing of snapshots/. The first two commit; make counts no lookup. */
int snapshots_make(struct tree *t, const char *name, struct tree_attr *out);
int snapshots_drop(struct tree *t, const char *name);
int snapshots_readdir(struct tree *t, uint64_t cookie, struct tree_listing *to);

/* The text of .spillfs/quotas (quotas.c has the format). malloc'd; NULL when memory is out. */
char *control_quotas_text(struct tree *t);
/* The text of .spillfs/log: a line for each retained layer, newest first. malloc'd; NULL when memory is out. */
char *control_log_text(struct tree *t);
/* The text of .spillfs/diff/A..B (diff.c has the format). */
int control_diff_text(struct tree *t, uint64_t a, uint64_t b, char **out);
/* Writes a name with the bytes that would break a line or a list as %XX. */
void control_put_name(FILE *f, const char *name, const char *also);

/* The text of .spillfs/stats, OpenMetrics 1.0. malloc'd; NULL when memory is out. */
char *control_stats_text(struct tree *t);

#endif
