/*
 * The daemon's log: stderr in the foreground, syslog otherwise. Thread-safe; one call is one line.
 */
#ifndef SPILLFS_UTIL_LOG_H
#define SPILLFS_UTIL_LOG_H

#include <stdarg.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };
enum log_sink { LOG_TO_STDERR, LOG_TO_SYSLOG };

/* Not thread-safe: called once at start, and again when the daemon leaves the terminal. */
void log_init(enum log_sink sink, enum log_level max_level);

void log_write(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_write(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
