/*
 * spillctl check, also called fsck.spillfs: looks at a store that no daemon has, and mends it.
 */
#ifndef SPILLFS_TOOL_CHECK_CHECK_H
#define SPILLFS_TOOL_CHECK_CHECK_H

/* Exit codes, those of fsck(8); they may add up. */
enum check_exit {
	CHECK_CLEAN = 0,
	CHECK_CORRECTED = 1,
	CHECK_LEFT = 4,
	CHECK_FAILED = 8,
	CHECK_USAGE = 16,
	CHECK_CANCELLED = 32,
};

/* The command: argv[0] is how it was called. Returns an exit code. */
int check_main(const char *program, int argc, char **argv);

#endif
