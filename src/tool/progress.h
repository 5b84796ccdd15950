/*
 * A progress bar on the standard error, for commands that take a while. Nothing is drawn when that is no
 * terminal. Not thread-safe: one thread shows what the others do.
 */
#ifndef SPILLFS_TOOL_PROGRESS_H
#define SPILLFS_TOOL_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct progress {
	const char *what; /* "checking" */
	bool on, drawn;
	bool begun;           /* there has been an update */
	uint64_t begun_ns, drawn_ns;
	uint64_t begun_bytes; /* done at the first update: the rate counts from there */
};

void progress_begin(struct progress *p, const char *what);
/* Cheap enough for every block: draws at most ten times a second. total_bytes 0: not known. */
void progress_update(struct progress *p, uint64_t done_bytes, uint64_t total_bytes);
/* Takes the bar away. To be called before anything else is printed. */
void progress_end(struct progress *p);

/* The bar as a line of less than `width` columns and at most size - 1 bytes; bytes_per_s 0: not known. */
void progress_line(char *out, size_t size, unsigned width, const char *what, uint64_t done_bytes,
		   uint64_t total_bytes, uint64_t bytes_per_s);

#endif
