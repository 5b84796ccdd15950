/*
 * The command line of one command: its options and arguments, and how it fails.
 *
 * Invariant: a command runs only with options and a number of arguments that its row allows.
 */
#include <assert.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>

#include "tool/tool.h"

#define OPTIONS_MAX (sizeof(((struct tool_command *)0)->options) / sizeof(struct tool_option))

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

const char *tool_value(const struct tool_call *call, char letter)
{
	return call->values[(unsigned char)letter & 127];
}

bool tool_flag(const struct tool_call *call, char letter)
{
	return tool_value(call, letter) != NULL;
}

static const struct tool_option *find_option(const struct tool_command *c, int letter)
{
	for (const struct tool_option *o = c->options; o->letter; o++)
		if (o->letter == letter)
			return o;
	return NULL;
}

/* The options of a row as getopt_long wants them. */
static void getopt_tables(const struct tool_command *c, char *shorts, struct option *longs)
{
	size_t n = 0;

	*shorts++ = ':';
	for (const struct tool_option *o = c->options; o->letter; o++, n++) {
		assert(n + 1 < OPTIONS_MAX);
		*shorts++ = o->letter;
		if (o->value)
			*shorts++ = ':';
		longs[n] = (struct option){ o->name, o->value ? required_argument : no_argument, NULL, o->letter };
	}
	*shorts = '\0';
	longs[n] = (struct option){ 0 };
}

/* Says what getopt_long has refused. */
static enum tool_exit bad_option(const struct tool_command *c, int said, char **argv)
{
	if (said == ':')
		return tool_fail(TOOL_USAGE, "%s: option '-%c' needs a value", c->name, optopt);
	if (find_option(c, optopt)) /* only a long one can be known and wrong */
		return tool_fail(TOOL_USAGE, "%s: '%s': this option takes no value", c->name, argv[optind - 1]);
	if (optopt)
		return tool_fail(TOOL_USAGE, "%s: unknown option '-%c'", c->name, optopt);
	return tool_fail(TOOL_USAGE, "%s: unknown option '%s'", c->name, argv[optind - 1]);
}

enum tool_exit tool_run(const struct tool_command *c, int argc, char **argv)
{
	struct tool_call call = { 0 };
	struct option longs[OPTIONS_MAX];
	char shorts[2 * OPTIONS_MAX + 2];
	int letter;

	getopt_tables(c, shorts, longs);
	while ((letter = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
		if (letter == ':' || letter == '?')
			return bad_option(c, letter, argv);
		call.values[letter & 127] = optarg ? optarg : "";
	}
	call.args = argv + optind;
	call.nargs = argc - optind;
	if (call.nargs < c->min_args || call.nargs > c->max_args)
		return tool_fail(TOOL_USAGE, "usage: spillctl %s%s %s", c->name,
				 c->options[0].letter ? " [options]" : "", c->args);
	return c->run(&call);
}
