/*
 * spillctl: what its commands share. A command is a row of the table in tool/main.c and a function;
 * functions of one kind share a file.
 */
#ifndef SPILLFS_TOOL_TOOL_H
#define SPILLFS_TOOL_TOOL_H

#include <stdbool.h>

#include "spillfs.h"

/* Documented in spillctl(1). */
enum tool_exit {
	TOOL_OK = 0,
	TOOL_USAGE = 1,
	TOOL_NOT_MOUNT = 2,
	TOOL_FAILED = 3,
	TOOL_HELD = 4,
};

/* One command line: options and arguments, already checked against the command's row. */
struct tool_call {
	const char *values[128]; /* by the option's letter: its value, "" for a flag, NULL when not given */
	char **args;
	int nargs;
};

struct tool_option {
	char letter;       /* 0 ends the list */
	const char *name;  /* "--name" means the same */
	const char *value; /* what its value is, for people: "N"; NULL: a flag */
	const char *help;
};

struct tool_command {
	const char *name;
	const char *args; /* for people: "MNT" */
	int min_args, max_args;
	enum tool_exit (*run)(const struct tool_call *call);
	const char *help;
	struct tool_option options[4]; /* the last one stays empty */
};

/* Runs a command; argv begins with its name. */
enum tool_exit tool_run(const struct tool_command *command, int argc, char **argv);
bool tool_flag(const struct tool_call *call, char letter);
/* The value of an option, NULL when it was not given. */
const char *tool_value(const struct tool_call *call, char letter);

/* Prints "spillctl: TEXT" on stderr; returns code. */
enum tool_exit tool_fail(enum tool_exit code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* A live mount, found from any path inside it. */
struct tool_mount {
	char *root;
	int fd; /* the root directory, read-only */
	bool has_info;
	struct spillfs_info info;
};

/* TOOL_NOT_MOUNT (said on stderr) when path lies in no spillfs. has_info is false when the daemon
 * does not answer this user; need_info makes that TOOL_FAILED. */
enum tool_exit tool_mount_open(const char *path, bool need_info, struct tool_mount *out);
void tool_mount_close(struct tool_mount *m);
/* All of a file, by its path below the root; *out is malloc'd. Failure is said on stderr. */
enum tool_exit tool_mount_read(const struct tool_mount *m, const char *path, char **out);
/* -ENOTTY for what lies on another kind of file system: it is sent no request. */
int tool_need_fuse(int fd);

enum tool_exit cmd_umount(const struct tool_call *call);
enum tool_exit cmd_sync(const struct tool_call *call);
enum tool_exit cmd_commit(const struct tool_call *call);
enum tool_exit cmd_mark(const struct tool_call *call);
enum tool_exit cmd_quota(const struct tool_call *call);
enum tool_exit cmd_info(const struct tool_call *call);
enum tool_exit cmd_rebuild(const struct tool_call *call);
enum tool_exit cmd_stat(const struct tool_call *call);
enum tool_exit cmd_stats(const struct tool_call *call);
enum tool_exit cmd_try(const struct tool_call *call);
enum tool_exit cmd_log(const struct tool_call *call);
enum tool_exit cmd_diff(const struct tool_call *call);
enum tool_exit cmd_compact(const struct tool_call *call);
enum tool_exit cmd_drain(const struct tool_call *call);
/* Once COMMAND has started, its own exit code. */
enum tool_exit cmd_scratch(const struct tool_call *call);

#endif
