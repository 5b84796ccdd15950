/*
 * Fuzz target: a text as .spillfs/log and as .spillfs/diff/A..B, as spillctl prints them. No line that is not understood is passed over, and
 * nothing that drives a terminal is printed.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>

#include "fuzz.h"
#include "tool/changes.h"

static void check_printed(const char *text, size_t n)
{
	for (size_t i = 0; i < n; i++)
		CHECK(text[i] == '\n' || ((unsigned char)text[i] >= 0x20 && text[i] != 0x7f));
}

static void check_err(int err, unsigned line, const char *text)
{
	unsigned lines = 1;

	CHECK(!err || err == -EINVAL);
	for (; *text; text++)
		lines += *text == '\n';
	CHECK(err ? line && line <= lines : !line);
}

static void print(const char *text, bool log)
{
	char *copy = fuzz_copy(text, strlen(text) + 1), *printed = NULL;
	size_t n = 0;
	FILE *to = open_memstream(&printed, &n);
	unsigned line = 0;
	int err;

	CHECK(to);
	err = log ? changes_print_log(to, copy, 100, &line) : changes_print_diff(to, copy, &line);
	fclose(to);
	check_err(err, line, text);
	check_printed(printed, n);
	CHECK(!log || !err || !n);
	free(printed);
	free(copy);
}

static void print_raw(const char *text)
{
	char *printed = NULL;
	size_t n = 0;
	FILE *to = open_memstream(&printed, &n);

	CHECK(to);
	changes_print_raw(to, text, UINT64_MAX);
	fclose(to);
	CHECK(n == strlen(text) && !memcmp(printed, text, n));
	free(printed);
	changes_has_layer(text, 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	char *text = fuzz_text(&in, '\0');

	print(text, true);
	print(text, false);
	print_raw(text);
	free(text);
	return 0;
}
