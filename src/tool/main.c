/*
 * spillctl: asks a mounted spillfs to do things, and shows what it says.
 *
 * Invariants:
 * 1. What is accepted stands in tool_commands; help prints the table.
 * 2. A command runs only with flags and a number of arguments that its row allows.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tool/check.h"
#include "tool/tool.h"

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "unknown"
#endif

#define FLAGS_MAX 8

static const struct tool_command tool_commands[] = {
	{ "umount", "l", "MNT", 1, 1, cmd_umount, "unmount, and wait until the daemon has gone" },
	{ "sync", "", "MNT", 1, 1, cmd_sync, "make everything written durable" },
	{ "commit", "", "MNT", 1, 1, cmd_commit, "the same, and seal the open layer" },
	{ "stat", "r", "MNT", 1, 1, cmd_stat, "statistics as a table" },
	{ "info", "", "MNT", 1, 1, cmd_info, "the daemon, its commit and its newest layer" },
};

static const struct {
	char letter;
	const char *name, *help;
} tool_flags[] = {
	{ 'l', "lazy", "detach now; the daemon ends with its last open file" },
	{ 'r', "raw", "as the daemon writes them (OpenMetrics)" },
};

#define NCOMMANDS (sizeof(tool_commands) / sizeof(tool_commands[0]))
#define NFLAGS (sizeof(tool_flags) / sizeof(tool_flags[0]))

enum tool_exit tool_fail(enum tool_exit code, const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fputs("spillctl: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return code;
}

bool tool_flag(const struct tool_call *call, char letter)
{
	return strchr(call->letters, letter) != NULL;
}

static void print_help(FILE *to)
{
	fputs("usage: spillctl COMMAND [options] MNT\n\n"
	      "MNT is the mountpoint of a spillfs or any path inside it.\n\n", to);
	for (size_t i = 0; i < NCOMMANDS; i++) {
		const struct tool_command *c = &tool_commands[i];

		fprintf(to, "  %-8s %-4s %s\n", c->name, c->args, c->help);
		for (size_t f = 0; f < NFLAGS; f++)
			if (strchr(c->flags, tool_flags[f].letter))
				fprintf(to, "           -%c, --%-6s %s\n", tool_flags[f].letter,
					tool_flags[f].name, tool_flags[f].help);
	}
	fputs("  check    STORE look at a store that is not mounted, and mend it: spillctl check --help\n"
	      "  help          this text\n"
	      "  version       the version\n\n"
	      "Exit codes: 0 done, 1 usage, 2 MNT is not in a mounted spillfs, 3 failed.\n", to);
}

/* The letter of "-l" or "--lazy" if the command takes it, else 0. */
static char find_flag(const struct tool_command *c, const char *text)
{
	for (size_t f = 0; f < NFLAGS; f++) {
		if (!strchr(c->flags, tool_flags[f].letter))
			continue;
		if (text[1] == '-' ? !strcmp(text + 2, tool_flags[f].name)
				   : text[1] == tool_flags[f].letter && !text[2])
			return tool_flags[f].letter;
	}
	return 0;
}

static enum tool_exit run_command(const struct tool_command *c, int argc, char **argv)
{
	char letters[FLAGS_MAX + 1] = "";
	struct tool_call call = { .letters = letters, .args = argv };
	bool only_args = false;
	size_t nletters = 0;

	for (int i = 0; i < argc; i++) {
		char letter;

		if (only_args || argv[i][0] != '-' || !argv[i][1]) {
			argv[call.nargs++] = argv[i];
			continue;
		}
		if (!strcmp(argv[i], "--")) {
			only_args = true;
			continue;
		}
		letter = find_flag(c, argv[i]);
		if (!letter)
			return tool_fail(TOOL_USAGE, "%s: unknown option '%s'", c->name, argv[i]);
		if (!strchr(letters, letter) && nletters < FLAGS_MAX)
			letters[nletters++] = letter;
	}
	if (call.nargs < c->min_args || call.nargs > c->max_args)
		return tool_fail(TOOL_USAGE, "usage: spillctl %s%s %s", c->name, *c->flags ? " [options]" : "",
				 c->args);
	return c->run(&call);
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "";

	/* As fsck(8) wants it: other options, other exit codes. */
	if (!strcmp(basename(argv[0]), "fsck.spillfs"))
		return check_main("fsck.spillfs", argc, argv);
	if (!strcmp(name, "check"))
		return check_main("spillctl check", argc - 1, argv + 1);
	for (size_t i = 0; i < NCOMMANDS; i++) {
		enum tool_exit code;

		if (strcmp(name, tool_commands[i].name))
			continue;
		code = run_command(&tool_commands[i], argc - 2, argv + 2);
		if (fflush(stdout) || ferror(stdout))
			return tool_fail(TOOL_FAILED, "cannot write the output: %s", strerror(errno));
		return code;
	}
	if (!strcmp(name, "help") || !strcmp(name, "--help") || !strcmp(name, "-h")) {
		print_help(stdout);
		return TOOL_OK;
	}
	if (!strcmp(name, "version") || !strcmp(name, "--version") || !strcmp(name, "-V")) {
		printf("spillctl %s\n", PACKAGE_VERSION);
		return TOOL_OK;
	}
	if (*name)
		return tool_fail(TOOL_USAGE, "unknown command '%s' (spillctl help lists them)", name);
	print_help(stderr);
	return TOOL_USAGE;
}
