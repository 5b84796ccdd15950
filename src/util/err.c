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

static void (*listener)(void *ctx, const char *object, uint64_t off_bytes, const char *text);
static void *listener_ctx;

void err_set_listener(void (*fn)(void *ctx, const char *object, uint64_t off_bytes, const char *text), void *ctx)
{
	listener = fn;
	listener_ctx = ctx;
}

int err_corrupt(const char *object, uint64_t off_bytes, const char *what, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, what);
	vsnprintf(text, sizeof(text), what, ap);
	va_end(ap);
	stats_add(STAT_CORRUPTIONS, 1);
	if (listener)
		listener(listener_ctx, object, off_bytes, text);
	else
		log_error("corrupt: %s at byte %" PRIu64 ": %s", object, off_bytes, text);
	return -EUCLEAN;
}
