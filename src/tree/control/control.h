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

/* The content of an open special file: text (malloc'd), or a layer. */
struct layers_slot;
struct special_file {
	char *text;
	size_t len;
	struct layers_slot *slot;
};
int special_open(struct tree *t, uint64_t ino, int flags, struct special_file *out);
void special_close(struct tree *t, struct special_file *f);
/* *buf_out is malloc'd. */
int special_read(struct special_file *f, uint64_t off, size_t len, unsigned how, void **buf_out, size_t *n_out);

/* The text of .spillfs/log: a line for each retained layer, newest first. malloc'd; NULL when memory is out. */
char *special_log_text(struct tree *t);
/* The text of .spillfs/diff/A..B (history.c has the format). */
int special_diff_text(struct tree *t, uint64_t a, uint64_t b, char **out);
/* Writes a name with the bytes that would break a line or a list as %XX. */
void special_put_name(FILE *f, const char *name, const char *also);

/* The text of .spillfs/stats, OpenMetrics 1.0. malloc'd; NULL when memory is out. */
char *special_stats_text(struct tree *t);

#endif
