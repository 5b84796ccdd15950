/*
 * Reports of stored bytes that failed verification. Each is counted, whatever the log level.
 */
#include "util/err.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "util/log.h"
#include "util/stats.h"

int err_corrupt(const char *object, uint64_t off_bytes, const char *what, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, what);
	vsnprintf(text, sizeof(text), what, ap);
	va_end(ap);
	stats_add(STAT_CORRUPTIONS, 1);
	log_error("corrupt: %s at byte %" PRIu64 ": %s", object, off_bytes, text);
	return -EUCLEAN;
}
