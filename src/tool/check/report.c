/*
 * Reports of the check, which its passes make: findings, remarks, failures, progress, and that it has been cancelled.
 *
 * Invariants:
 * 1. A finding is one line, counted once.
 * 2. The progress bar is taken away before anything else is printed.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>

#include "tool/check/inside.h"
#include "util/err.h"

/* A signal handler has no other way to say so. */
static volatile sig_atomic_t cancelled;

static void on_signal(int sig)
{
	(void)sig;
	cancelled = 1;
}

void check_catch_signals(void)
{
	struct sigaction sa = { .sa_handler = on_signal };

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
}

bool check_cancelled(void)
{
	return cancelled;
}

static void say(struct check *c, const char *fmt, va_list ap)
{
	progress_end(&c->progress);
	fprintf(c->out, "%s: ", c->pass->name);
	vfprintf(c->out, fmt, ap);
}

void check_found(struct check *c, const char *fmt, ...)
{
	va_list ap;

	c->nfound++;
	c->fatal |= (c->pass->flags & CHECK_FATAL) != 0;
	if (!*c->mended && (c->pass->flags & CHECK_DATA))
		c->nleft_data++;
	if (!c->again) {
		va_start(ap, fmt);
		say(c, fmt, ap);
		va_end(ap);
		fprintf(c->out, "%s%s\n", *c->mended ? ": " : "", c->mended);
	}
	c->nmended += *c->mended != '\0';
	*c->mended = '\0';
}

void check_note(struct check *c, const char *fmt, ...)
{
	va_list ap;

	if (!c->verbose || c->again)
		return;
	va_start(ap, fmt);
	say(c, fmt, ap);
	va_end(ap);
	fputc('\n', c->out);
}

void check_remark(struct check *c, const char *fmt, ...)
{
	va_list ap;

	if (c->again)
		return;
	va_start(ap, fmt);
	say(c, fmt, ap);
	va_end(ap);
	fputc('\n', c->out);
}

void check_mended(struct check *c, const char *fmt, ...)
{
	size_t n = strlen(c->mended);
	va_list ap;

	if (!c->repair)
		return;
	/* More than one thing may be done about one finding. */
	if (n && n < sizeof(c->mended) - 3) {
		strcpy(c->mended + n, ", ");
		n += 2;
	}
	va_start(ap, fmt);
	vsnprintf(c->mended + n, sizeof(c->mended) - n, fmt, ap);
	va_end(ap);
}

int check_fail(struct check *c, int err, const char *fmt, ...)
{
	va_list ap;

	progress_end(&c->progress);
	fflush(c->out);
	fprintf(stderr, "%s: %s: ", c->program, c->shown);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return err;
}

int check_fail_file(struct check *c, int err, const char *path)
{
	return err == -EUCLEAN ? check_fail(c, err, "%s", err_text(err)) : check_fail(c, err, "%s: %s", path, strerror(-err));
}

int check_tick(struct check *c, uint64_t done_bytes, uint64_t total_bytes)
{
	if (!c->progress.on && !c->progress.drawn)
		progress_begin(&c->progress, c->pass->name);
	progress_update(&c->progress, done_bytes, total_bytes);
	return cancelled ? -ECANCELED : 0;
}
