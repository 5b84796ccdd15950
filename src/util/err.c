/*
 * Waiting out a shortage. Reports of stored bytes that failed verification. Each is counted, whatever the log level.
 */
#include "util/err.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "util/clock.h"
#include "util/lock.h"
#include "util/log.h"
#include "util/stats.h"

/* Each moment is twice the last, up to some 130 ms. */
#define ERR_WAIT_NS_MIN (1l << 20)
#define ERR_WAIT_DOUBLINGS 7
#define ERR_WAITS_MAX 45

#define REPORT_BYTES 640

/* "OBJECT at byte OFF: WHAT" of the last report, of all threads and of this one; "": none. */
static struct lock last_lock = { PTHREAD_MUTEX_INITIALIZER, RANK_MEM };
static char last[REPORT_BYTES];
static _Thread_local char own[REPORT_BYTES];

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

/* True: it is another one than the last. */
static bool keep_report(const char *report)
{
	bool news;

	lock_acquire_nested(&last_lock);
	news = strcmp(last, report) != 0;
	strcpy(last, report);
	lock_release(&last_lock);
	return news;
}

int err_corrupt(const char *object, uint64_t off_bytes, const char *what, ...)
{
	char text[256], report[REPORT_BYTES];
	bool news;
	va_list ap;

	va_start(ap, what);
	vsnprintf(text, sizeof(text), what, ap);
	va_end(ap);
	stats_add(STAT_CORRUPTIONS, 1);
	if (off_bytes)
		snprintf(report, sizeof(report), "%.300s at byte %" PRIu64 ": %s", object, off_bytes, text);
	else
		snprintf(report, sizeof(report), "%.300s: %s", object, text);
	strcpy(own, report);
	news = keep_report(report);
	if (listener)
		listener(listener_ctx, object, off_bytes, text);
	else if (news)
		log_error("corrupt: %s at byte %" PRIu64 ": %s", object, off_bytes, text);
	return -EUCLEAN;
}

const char *err_text(int err)
{
	return err == -EUCLEAN && *own ? own : strerror(-err);
}

void err_forget(void)
{
	own[0] = '\0';
}
