/*
 * The process: exit codes, leaving the terminal, telling the starter and the service manager.
 */
#ifndef SPILLFS_FRONT_DAEMON_H
#define SPILLFS_FRONT_DAEMON_H

#include <stdbool.h>
#include <stddef.h>

/* Documented in spillfs(1). */
enum exit_code {
	EXIT_OK = 0,
	EXIT_USAGE = 1,
	EXIT_MOUNTPOINT = 2,
	EXIT_NOT_STORE = 3,
	EXIT_HELD = 4,
	EXIT_NEWER = 5,
	EXIT_IO = 6,
	EXIT_FUSE = 7,
};

struct daemon {
	int pipe_fd; /* to the waiting parent; -1: we are the process that the user started */
};

/* Closes inherited descriptors (a daemon must not hold its starter's pipes) and makes sure that 0, 1
 * and 2 are open, so that no file of the store gets such a number and log lines with it. Raises limits, resets the signals and
 * the umask. First call of main. */
void daemon_prepare(void);

/* -EFBIG, and *why in one line: files may not get as long as those of an empty store. */
int daemon_check_limits(char *why, size_t why_len);

/* Unless in the foreground, forks: the child returns, the parent waits for daemon_fail or daemon_ready
 * and exits with the same code. Before any thread. */
int daemon_start(bool foreground, struct daemon *out);
/* Prints "spillfs: TEXT" on the stderr of the process that the user started; returns code. */
int daemon_fail(struct daemon *d, enum exit_code code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* The mount serves: lets go of terminal and directory (in the background), releases the parent, and
 * tells the service manager. */
void daemon_ready(struct daemon *d);
void daemon_stopping(void);

#endif
