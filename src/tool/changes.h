/*
 * .spillfs/log and .spillfs/diff/A..B for people. Text in, text out.
 *
 * A line of the log, tab-separated, newest layer first, lines with '#' apart: layer, time in ns since 1970,
 * arrays touched, bytes in, bytes stored, "delta" or "full", names of snapshots joined by ',' or "-". A line
 * of a diff: "+", "-", "~" or "m", offset, length, path; the lines of an array follow each other. Names are
 * percent-encoded. More fields may follow in either.
 */
#ifndef SPILLFS_TOOL_CHANGES_H
#define SPILLFS_TOOL_CHANGES_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Prints the first `max` layers. Changes text. -EINVAL: nothing printed, *line_out is the line that is no
 * such line (from 1 on). -ENOMEM. */
int changes_print_log(FILE *to, char *text, uint64_t max, unsigned *line_out);
/* The same for a diff, which prints what comes before that line. */
int changes_print_diff(FILE *to, char *text, unsigned *line_out);
/* The log as it is, with its first `max` layers. */
void changes_print_raw(FILE *to, const char *text, uint64_t max);
/* True when the log has that layer. */
bool changes_has_layer(const char *text, uint64_t layer);

#endif
