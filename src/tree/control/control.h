/*
 * What the tree shows besides the store's files: deltas/, snapshots/ and .spillfs/; of a follower the root too. Owned by
 * the daemon's user, made up on the spot. Their inode numbers are fixed: they never meet those of files.
 */
#ifndef SPILLFS_TREE_SPECIAL_H
#define SPILLFS_TREE_SPECIAL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "tree/realm.h"

enum special_ino {
	SPECIAL_DELTAS = 5,
	SPECIAL_SNAPSHOTS = 6,
	SPECIAL_CONTROL = 7, /* .spillfs */
	SPECIAL_STATS = 8,
	SPECIAL_CONFIG = 9,
	SPECIAL_VERSION = 10,
	SPECIAL_LOG = 11,
	SPECIAL_VIEWS = 13, /* only listed */
	SPECIAL_DIFF = 12, /* directory; its files are asked for by name, A..B */
};
#define SPECIAL_DELTA_BASE REALM_CONTROL_BASE /* + number of the layer */
#define SPECIAL_DIFF_BASE (1ull << 61)  /* + number of layer A << 30 + number of layer B */

extern const struct realm_ops control_realm;

bool control_is_delta(uint64_t ino);
bool control_is_diff(uint64_t ino);
/* file.c */
int control_open(struct tree *t, uint64_t ino, int flags, const struct tree_caller *who, struct tree_file **out,
		 struct tree_file_info *info);

/* The text of .spillfs/log: a line for each retained layer, newest first. malloc'd; NULL when memory is out. */
char *special_log_text(struct tree *t);
/* The text of .spillfs/diff/A..B (history.c has the format). */
int special_diff_text(struct tree *t, uint64_t a, uint64_t b, char **out);
/* Writes a name with the bytes that would break a line or a list as %XX. */
void special_put_name(FILE *f, const char *name, const char *also);

/* The text of .spillfs/stats, OpenMetrics 1.0. malloc'd; NULL when memory is out. */
char *special_stats_text(struct tree *t);

#endif
