/*
 * The checks of unit.h for programs that run by themselves: one that fails ends the process.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unit.h"

void unit_fail(const char *file, int line, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fprintf(stderr, "%s:%d: ", file, line);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	abort();
}

void unit_check_eq(const char *file, int line, const char *what, long long a, long long b)
{
	if (a != b)
		unit_fail(file, line, "%s: %lld, %lld", what, a, b);
}

void unit_check_ok(const char *file, int line, const char *what, int err)
{
	if (err)
		unit_fail(file, line, "%s: %s", what, strerror(-err));
}

uint64_t unit_rand(uint64_t *state)
{
	uint64_t x = *state;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return *state = x;
}
