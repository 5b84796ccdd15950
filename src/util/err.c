/*
 * Waiting out a shortage. Reports of stored bytes that failed verification. Each is counted, whatever the log level.
 */
#include "util/err.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "util/clock.h"
#include "util/lock.h"
#include "util/log.h"
#include "util/stats.h"

/* Each moment is twice the last, up to some 130 ms. */
#define ERR_WAIT_NS_MIN (1l << 20)
#define ERR_WAIT_DOUBLINGS 7
#define ERR_WAITS_MAX 45

#define REPORT_BYTES 640

#define REPORTS_KEPT 256u

/* Hashes of the last reports, the oldest at `oldest`; 0: none. */
static struct lock kept_lock = { PTHREAD_MUTEX_INITIALIZER, RANK_MEM };
static uint64_t kept[REPORTS_KEPT];
static unsigned oldest;
/* "OBJECT at byte OFF: WHAT" of this thread's last report; "": none. */
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

bool err_is_news(const char *report)
{
	uint64_t h = XXH3_64bits(report, strlen(report)) | 1; /* never 0 */
	bool news = true;

	lock_acquire_nested(&kept_lock);
	for (unsigned k = 0; k < REPORTS_KEPT && news; k++)
		news = kept[k] != h;
	if (news) {
		kept[oldest] = h;
		oldest = (oldest + 1) % REPORTS_KEPT;
	}
	lock_release(&kept_lock);
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
	news = err_is_news(report);
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
