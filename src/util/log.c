/*
 * The log. A line is formatted on the stack and handed over in one system call, so no lock is needed.
 *
 * Invariants: (1) one call writes one line: control characters, which names chosen by users may hold,
 * become '?'; (2) errno is as before after a call.
 */
#include "util/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#define LOG_LINE_MAX 1024

static enum log_sink log_sink = LOG_TO_STDERR;
static enum log_level log_max_level = LOG_LEVEL_INFO;

static const struct {
	const char *name;
	int priority;
} log_levels[] = {
	[LOG_LEVEL_ERROR] = { "error", LOG_ERR },
	[LOG_LEVEL_WARN] = { "warning", LOG_WARNING },
	[LOG_LEVEL_INFO] = { "info", LOG_INFO },
	[LOG_LEVEL_DEBUG] = { "debug", LOG_DEBUG },
};

void log_init(enum log_sink sink, enum log_level max_level)
{
	if (sink == LOG_TO_SYSLOG && log_sink != LOG_TO_SYSLOG)
		openlog("spillfs", LOG_PID, LOG_DAEMON);
	log_sink = sink;
	log_max_level = max_level;
}

/* Appends to line[len..], always leaving room for the newline; returns the new length. */
static size_t log_append(char *line, size_t len, const char *fmt, va_list ap)
{
	int n = vsnprintf(line + len, LOG_LINE_MAX - 1 - len, fmt, ap);

	if (n < 0)
		n = 0;
	if ((size_t)n > LOG_LINE_MAX - 2 - len)
		n = LOG_LINE_MAX - 2 - len;
	for (size_t i = len; i < len + (size_t)n; i++)
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			line[i] = '?';
	return len + n;
}

static void log_vwrite(enum log_level level, const char *fmt, va_list ap)
{
	char line[LOG_LINE_MAX];
	int saved_errno = errno;
	size_t len = 0;
	ssize_t r;

	if (level > log_max_level)
		return;
	if (log_sink == LOG_TO_STDERR)
		len = snprintf(line, sizeof(line), "spillfs: %s: ", log_levels[level].name);
	len = log_append(line, len, fmt, ap);
	if (log_sink == LOG_TO_STDERR) {
		line[len++] = '\n';
		do {
			r = write(STDERR_FILENO, line, len);
		} while (r < 0 && errno == EINTR);
	} else {
		line[len] = '\0';
		syslog(log_levels[level].priority, "%s", line);
	}
	errno = saved_errno;
}

void log_write(enum log_level level, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_vwrite(level, fmt, ap);
	va_end(ap);
}
