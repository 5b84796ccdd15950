/*
 * The holders of a file system, which keep it in use: other mounts of it, in this mount namespace and in others, and processes with files or
 * directories in it. Read from /proc; only root sees everybody's.
 */
#ifndef SPILLFS_TOOL_HOLDERS_H
#define SPILLFS_TOOL_HOLDERS_H

#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>

/* A descriptor that tells the end of the file system that fd lies in, and does not keep it from ending; -1: none is to be had. */
int holders_watch(int fd);

/* Prints a line for each, at most ten, each after `prefix`. dev is the file system's device number. With its end the kernel gives
 * that to another one: watch, of holders_watch, is asked whether it still is this one's; -1: the caller knows that. Returns how many
 * there are, 0 also where nothing can be seen. This process does not count. Sends the file system no request. */
size_t holders_print(FILE *to, const char *prefix, dev_t dev, int watch);

#endif
