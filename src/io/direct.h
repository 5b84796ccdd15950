/*
 * Transfers on a file with two descriptors: one that goes through the page cache and one with O_DIRECT.
 * The kernel keeps the two coherent. Private to io/.
 */
#ifndef SPILLFS_IO_DIRECT_H
#define SPILLFS_IO_DIRECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/lease.h"

#define DIRECT_ALIGN 4096u

struct direct_io {
	int fd;
	int dfd;                   /* -1: everything goes through fd */
	struct lease_pool *leases; /* may be NULL: only aligned memory goes direct then */
	bool refused;              /* set when the file system takes no direct transfers on this file */
};

/* True when the aligned middle of [off, off + n) has at least min_bytes (and is not empty). */
bool direct_wanted(uint64_t off, size_t n, size_t min_bytes);
/* Everything asked for, or less at the end of the file. */
int direct_pread(struct direct_io *x, void *buf, size_t n, uint64_t off, size_t *out);
int direct_pwrite(struct direct_io *x, const void *buf, size_t n, uint64_t off);

/* A second, O_DIRECT descriptor for the file behind fd, whatever its name is by now. */
int direct_reopen(int fd, bool rdonly, int *out);
/* Tries direct I/O in a directory; tells why (a static string) either way. */
bool direct_probe(int dirfd, const char **why);

#endif
