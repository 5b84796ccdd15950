/*
 * The blocks of a layered array as a table, with the totals of their statistics.
 */
#ifndef SPILLFS_TOOL_BLOCKS_H
#define SPILLFS_TOOL_BLOCKS_H

#include <stdbool.h>
#include <stdio.h>

#include "spillfs.h"

/* Where the blocks come from: SPILLFS_IOC_BLOCKS, or what answers like it. 0 or -errno. */
struct blocks_source {
	int (*ask)(void *ctx, struct spillfs_blocks *io);
	void *ctx;
};

/*
 * Prints a line on the array, the table unless summary_only, and the totals. dtype: the element type, "" when
 * it is not known: then that of the statistics counts. Errors of ask; -EPROTO: an answer without sense. The
 * source is walked more than once and may change meanwhile.
 */
int blocks_print(FILE *to, const struct blocks_source *from, const char *name, const char *dtype, bool summary_only);

#endif
