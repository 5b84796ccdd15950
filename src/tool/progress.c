/*
 * A progress bar on the standard error.
 *
 * Invariants:
 * 1. Nothing is written when the standard error is no terminal.
 * 2. A line is shorter than the terminal is wide, so that \r always leads back to its beginning, and it
 *    covers the line before.
 */
#include "tool/progress.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "tool/text.h"
#include "util/clock.h"

#define REDRAW_NS 100000000ull
#define WIDTH_MAX 200
#define BAR_MIN 10
#define BAR_MAX 50

static unsigned terminal_width(void)
{
	struct winsize w;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &w) < 0 || !w.ws_col)
		return 80;
	return w.ws_col < WIDTH_MAX ? w.ws_col : WIDTH_MAX;
}

void progress_line(char *out, size_t size, unsigned width, const char *what, uint64_t done_bytes,
		   uint64_t total_bytes, uint64_t bytes_per_s)
{
	char figures[128], rate[32] = "", bar[BAR_MAX + 1] = "";
	double share = total_bytes ? (double)done_bytes / (double)total_bytes : 0;
	size_t n = 0, room;

	if (share > 1)
		share = 1;
	if (bytes_per_s)
		snprintf(rate, sizeof(rate), "%9s/s", text_size(bytes_per_s).s);
	if (total_bytes) /* of constant width, as a rule, so that the bar does not jump */
		n = (size_t)snprintf(figures, sizeof(figures), "%3d %%  %9s of %s  %11s", (int)(share * 100),
				     text_size(done_bytes).s, text_size(total_bytes).s, rate);
	else
		snprintf(figures, sizeof(figures), "%s  %s", text_size(done_bytes).s, rate);
	/* "WHAT [BAR] FIGURES", and one column stays free. */
	room = strlen(what) + n + 5;
	room = room < width ? width - room : 0;
	if (room > BAR_MAX)
		room = BAR_MAX;
	if (room < BAR_MIN || !total_bytes) {
		snprintf(out, size < width ? size : width, "%s %s", what, figures);
		return;
	}
	memset(bar, ' ', room);
	memset(bar, '=', (size_t)(share * (double)room));
	snprintf(out, size < width ? size : width, "%s [%s] %s", what, bar, figures);
}

/* Over what was there. */
static void draw(struct progress *p, const char *line, unsigned width)
{
	fprintf(stderr, "\r%-*.*s", (int)width - 1, (int)width - 1, line);
	fflush(stderr);
	p->drawn = true;
}

void progress_begin(struct progress *p, const char *what)
{
	*p = (struct progress){ .what = what, .on = isatty(STDERR_FILENO) };
	if (p->on)
		draw(p, what, terminal_width());
}

void progress_update(struct progress *p, uint64_t done_bytes, uint64_t total_bytes)
{
	char line[WIDTH_MAX + 1];
	uint64_t now, rate = 0;
	unsigned width;

	if (!p->on)
		return;
	now = (uint64_t)clock_monotonic_ns();
	if (!p->begun) {
		p->begun = true;
		p->begun_ns = now;
		p->begun_bytes = done_bytes;
	}
	if (p->drawn_ns && now - p->drawn_ns < REDRAW_NS)
		return;
	/* The first moments show no rate. */
	if (now - p->begun_ns > REDRAW_NS * 5 && done_bytes > p->begun_bytes)
		rate = (uint64_t)((double)(done_bytes - p->begun_bytes) * 1e9 / (double)(now - p->begun_ns));
	width = terminal_width();
	progress_line(line, sizeof(line), width, p->what, done_bytes, total_bytes, rate);
	draw(p, line, width);
	p->drawn_ns = now;
}

void progress_end(struct progress *p)
{
	if (p->drawn)
		fprintf(stderr, "\r%*s\r", (int)terminal_width() - 1, "");
	p->on = p->drawn = false;
}
