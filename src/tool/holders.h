/*
 * The holders of a file system, which keep it in use: other mounts of it, in this mount namespace and in others, and processes with files or
 * directories in it. Read from /proc; only root sees everybody's.
 */
#ifndef SPILLFS_TOOL_HOLDERS_H
#define SPILLFS_TOOL_HOLDERS_H

#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>

/* Prints a line for each, at most ten, each after `prefix`. dev is the file system's device number. Returns how many there
 * are, 0 also where nothing can be seen. This process does not count. Sends the file system no request. */
size_t holders_print(FILE *to, const char *prefix, dev_t dev);

#endif
