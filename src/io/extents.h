/*
 * The extents of a file, as its file system tells them (FS_IOC_FIEMAP). Private to io/.
 */
#ifndef SPILLFS_IO_EXTENTS_H
#define SPILLFS_IO_EXTENTS_H

#include <stdbool.h>
#include <stdint.h>

/* The next range of [off, end) that has space of its own, which it shares with no other file. False: there is none, or the file system does
 * not say. */
bool extents_next(int fd, uint64_t off, uint64_t end, uint64_t *from, uint64_t *to);

#endif
