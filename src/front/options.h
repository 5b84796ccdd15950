/*
 * The command line of spillfs: one table of options that -h prints and the man page repeats.
 *
 * Each option can be written --name[=value] or, in a comma-separated list, -o name[=value].
 */
#ifndef SPILLFS_FRONT_OPTIONS_H
#define SPILLFS_FRONT_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define OPTIONS_PASSED_MAX 64

struct options {
	char *store;      /* NULL: the mountpoint is its own store */
	char *mountpoint; /* as given; NULL with help or version */
	bool help, version, foreground, debug, single;
	int64_t backing; /* enum io_backing */
	int64_t leases, lease_size; /* bytes */
	int64_t lease_wait;         /* enum io_lease_wait less 1; -1: not given */
	int64_t pool, threads, commit;
	char *pool_dirs;             /* "DIR:DIR", NULL: not given */
	int64_t layer;               /* bytes */
	int64_t cache, dirty, spill; /* bytes; -1: not given */
	int64_t encrypt;             /* bool: by a key that ends with the daemon */
	int64_t size;                /* bytes; 0: no bound */
	int64_t keep, compact;       /* states; bytes in a second */
	bool scratch_only; /* store: the directory that has room for what does not fit into memory */
	bool ro, writeback, passthrough;
	int64_t max_read;        /* bytes; 0: not given */
	int64_t readahead;       /* bytes; -1: not given */
	int64_t uid, gid, umask; /* -1: not given */
	bool allow_other, allow_root, default_permissions;
	char *fsname, *subtype; /* NULL: not given */
	char *passed[OPTIONS_PASSED_MAX]; /* "name" or "name=value" for libfuse and the kernel */
	size_t npassed;
};

/* -EINVAL: *why tells what is wrong in one line, naming option and value. On success the caller owns
 * *out and frees it with options_fini. */
int options_parse(int argc, char **argv, struct options *out, char *why, size_t why_len);
void options_fini(struct options *o);
void options_print_help(FILE *to);

#endif
