/*
 * Waiting out a shortage. Reports of stored bytes that failed verification. Each is counted, whatever the log level.
 */
#include "util/err.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "util/clock.h"
#include "util/log.h"
#include "util/stats.h"

/* Each moment is twice the last, up to some 130 ms. */
#define ERR_WAIT_NS_MIN (1l << 20)
#define ERR_WAIT_DOUBLINGS 7
#define ERR_WAITS_MAX 45

static void (*listener)(void *ctx, const char *object, uint64_t off_bytes, const char *text);
static void *listener_ctx;

void err_set_listener(void (*fn)(void *ctx, const char *object, uint64_t off_bytes, const char *text), void *ctx)
{
	listener = fn;
	listener_ctx = ctx;
}

bool err_wait(int err, unsigned *waits)
{
	int64_t moment_ns = ERR_WAIT_NS_MIN << ERR_WAIT_DOUBLINGS;

	if ((err != -ENOMEM && err != -EMFILE && err != -ENFILE && err != -EINTR) || *waits == ERR_WAITS_MAX)
		return false;
	if (*waits < ERR_WAIT_DOUBLINGS)
		moment_ns = ERR_WAIT_NS_MIN << *waits;
	++*waits;
	clock_sleep_ns(moment_ns);
	return true;
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
