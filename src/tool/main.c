/*
 * spillctl: asks a mounted spillfs to do things, and shows what it says.
 *
 * Invariants:
 * 1. tool_commands has all that is accepted; help prints the table.
 * 2. The output has been written when the exit code says so.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "tool/check/check.h"
#include "tool/tool.h"

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "unknown"
#endif

static const struct tool_command tool_commands[] = {
	{ "umount", "MNT", 1, 1, cmd_umount, "unmount, and wait until the daemon has gone",
	  { { 'l', "lazy", NULL, "detach now; the daemon ends with its last open file" },
	    { 't', "timeout", "SECONDS", "wait no longer than that (60)" } } },
	{ "sync", "MNT", 1, 1, cmd_sync, "make everything written durable", { { 0 } } },
	{ "commit", "MNT", 1, 1, cmd_commit, "the same, and seal the open layer", { { 0 } } },
	{ "log", "MNT", 1, 1, cmd_log, "the layers that are kept, newest first",
	  { { 'n', "number", "N", "only the newest N" },
	    { 'r', "raw", NULL, "as the daemon writes them, tab-separated" } } },
	{ "diff", "MNT A B", 3, 3, cmd_diff, "what changed from A to B, each a snapshot's name or @LAYER",
	  { { 'r', "raw", NULL, "as the daemon writes it, tab-separated" } } },
	{ "compact", "MNT", 1, 1, cmd_compact, "merge the layers into one as far as snapshots allow, and wait",
	  { { 0 } } },
	{ "drain", "MNT DIR", 2, 2, cmd_drain, "empty a directory of -o pool=DIR, so that it can be taken away", { { 0 } } },
	{ "rebuild", "STORE", 1, 1, cmd_rebuild, "a new meta.db from the layers, for a store that lost it",
	  { { 'f', "force", NULL, "even if there is one; it is kept as meta.db.before-rebuild-TIME" } } },
	{ "stat", "MNT", 1, 1, cmd_stat, "what the daemon has counted: operations, cache, space",
	  { { 'r', "raw", NULL, "as the daemon writes them (OpenMetrics)" } } },
	{ "stats", "FILE", 1, 1, cmd_stats, "the blocks of an array: layer, bytes, smallest, largest, NaNs, zeros",
	  { { 's', "summary", NULL, "of the array as a whole, without the table" } } },
	{ "try", "FILE", 1, 1, cmd_try, "what each codec and filter would make of a file, in bytes and speed",
	  { { 't', "type", "TYPE", "its elements: f64, i32, or a record \"pos:u32,lcp:u32\"" } } },
	{ "mark", "FILE...", 1, INT_MAX, cmd_mark, "end the run of each file below buckets/ where the file ends", { { 0 } } },
	{ "scratch", "MNT -- CMD", 2, INT_MAX, cmd_scratch, "run CMD, with a TMPDIR in scratch/ that is gone with it", { { 0 } } },
	{ "quota", "MNT [DIR [SIZE|none]]", 1, 3, cmd_quota, "what directories may hold: all quotas, that of DIR, or a new one",
	  { { 'l', "logical", NULL, "set the bound of the sizes, not of the bytes stored" },
	    { 'r', "raw", NULL, "as the daemon writes them, tab-separated" } } },
	{ "info", "MNT", 1, 1, cmd_info, "the daemon, its commit and its newest layer", { { 0 } } },
};

#define NCOMMANDS (sizeof(tool_commands) / sizeof(tool_commands[0]))

static void print_help(FILE *to)
{
	fputs("usage: spillctl COMMAND [options] MNT|FILE ...\n\n"
	      "MNT is the mountpoint of a spillfs or any path inside it.\n\n", to);
	for (size_t i = 0; i < NCOMMANDS; i++) {
		const struct tool_command *c = &tool_commands[i];

		fprintf(to, "  %-8s %-8s %s\n", c->name, c->args, c->help);
		for (const struct tool_option *o = c->options; o->letter; o++) {
			char spelled[32];

			snprintf(spelled, sizeof(spelled), "%s%s%s", o->name, o->value ? " " : "",
				 o->value ? o->value : "");
			fprintf(to, "           -%c, --%-10s %s\n", o->letter, spelled, o->help);
		}
	}
	fputs("  check    STORE    look at a store that is not mounted, and mend it: spillctl check --help\n"
	      "  help              this text\n"
	      "  version           the version\n\n"
	      "Exit codes: 0 done, 1 usage, 2 MNT is not in a mounted spillfs (FILE: not of the right kind on one),\n"
	      "3 failed, 4 unmounted here, but the daemon has not ended.\n", to);
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
		code = tool_run(&tool_commands[i], argc - 1, argv + 1);
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
