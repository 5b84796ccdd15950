/*
 * .spillfs/log and .spillfs/diff/A..B for people.
 *
 * Invariants:
 * 1. A line that cannot be understood ends the command with an error; none is passed over.
 * 2. Lines that begin with '#' and fields behind the known ones mean nothing: the daemon may be newer.
 */
#include "tool/changes.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tool/text.h"
#include "util/clock.h"
#include "util/number.h"

#define LOG_FIELDS 7
#define LOG_COLUMNS 7
#define DIFF_FIELDS 4

/* Cuts the next line off; NULL at the end. */
static char *next_line(char **text)
{
	char *line = *text, *end;

	if (!line || !*line)
		return NULL;
	end = strchr(line, '\n');
	if (end)
		*end++ = '\0';
	*text = end;
	return line;
}

/* The first n fields of a line. -EINVAL when there are fewer. */
static int split(char *line, char **fields, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		fields[i] = strsep(&line, "\t");
		if (!fields[i])
			return -EINVAL;
	}
	return 0;
}

struct log_row {
	char layer[24], time[32], arrays[40], raw[24], stored[24];
	const char *kind;
	char *names; /* owned */
};

static void log_cells(const struct log_row *r, const char *cells[LOG_COLUMNS])
{
	cells[0] = r->layer;
	cells[1] = r->time;
	cells[2] = r->arrays;
	cells[3] = r->raw;
	cells[4] = r->stored;
	cells[5] = r->kind;
	cells[6] = r->names;
}

static void time_text(uint64_t ns, char out[32])
{
	time_t s = (time_t)(ns / CLOCK_SECOND_NS);
	struct tm tm;

	if (!localtime_r(&s, &tm) || !strftime(out, 32, "%Y-%m-%d %H:%M:%S", &tm))
		snprintf(out, 32, "%" PRIu64 " ns", ns);
}

/* "a,b%20c" as "a, b c"; "" for "-". malloc'd. */
static char *names_text(char *names)
{
	size_t n = 1;
	char *name, *out, *to;

	if (!strcmp(names, "-"))
		return strdup("");
	for (const char *c = names; *c; c++)
		n += *c == ',' ? 2 : 1;
	to = out = malloc(n);
	if (!out)
		return NULL;
	while ((name = strsep(&names, ","))) {
		text_decode(name);
		to = stpcpy(to == out ? to : stpcpy(to, ", "), name);
	}
	return out;
}

static int parse_log_line(char *line, struct log_row *out)
{
	uint64_t layer, ns, arrays, raw, stored;
	char *f[LOG_FIELDS];
	struct log_row r;

	if (split(line, f, LOG_FIELDS) || number_parse(f[0], &layer) || number_parse(f[1], &ns) ||
	    number_parse(f[2], &arrays) || number_parse(f[3], &raw) || number_parse(f[4], &stored))
		return -EINVAL;
	snprintf(r.layer, sizeof(r.layer), "@%" PRIu64, layer);
	time_text(ns, r.time);
	snprintf(r.arrays, sizeof(r.arrays), "%" PRIu64 " array%s", arrays, arrays == 1 ? " " : "s");
	snprintf(r.raw, sizeof(r.raw), "%s", text_size(raw).s);
	snprintf(r.stored, sizeof(r.stored), "%s", text_size(stored).s);
	r.kind = strcmp(f[5], "full") ? "" : "compaction";
	r.names = names_text(f[6]);
	if (!r.names)
		return -ENOMEM;
	*out = r;
	return 0;
}

static void print_log_rows(FILE *to, const struct log_row *rows, size_t n)
{
	struct text_column columns[LOG_COLUMNS] = {
		{ .before = "" }, { .before = "  " }, { .before = "  ", .right = true },
		{ .before = "  ", .right = true }, { .before = " -> ", .right = true },
		{ .before = "  " }, { .before = "  " },
	};
	const char *cells[LOG_COLUMNS];

	for (size_t i = 0; i < n; i++) {
		log_cells(&rows[i], cells);
		text_fit(columns, LOG_COLUMNS, cells);
	}
	for (size_t i = 0; i < n; i++) {
		log_cells(&rows[i], cells);
		text_row(to, columns, LOG_COLUMNS, cells);
	}
}

int changes_print_log(FILE *to, char *text, uint64_t max, unsigned *line_out)
{
	struct log_row *rows;
	size_t lines = 1, n = 0;
	unsigned number = 0;
	char *line;
	int err = 0;

	for (const char *c = text; *c; c++)
		lines += *c == '\n';
	rows = calloc(lines, sizeof(*rows));
	if (!rows)
		return -ENOMEM;
	while (!err && n < max && (line = next_line(&text))) {
		number++;
		if (*line == '#')
			continue;
		err = parse_log_line(line, &rows[n]);
		if (!err)
			n++;
	}
	if (!err)
		print_log_rows(to, rows, n);
	else if (err == -EINVAL)
		*line_out = number;
	while (n)
		free(rows[--n].names);
	free(rows);
	return err;
}

void changes_print_raw(FILE *to, const char *text, uint64_t max)
{
	while (*text) {
		size_t len = strcspn(text, "\n");

		len += text[len] == '\n';
		if (*text == '#' || max)
			fwrite(text, 1, len, to);
		if (*text != '#' && max)
			max--;
		text += len;
	}
}

bool changes_has_layer(const char *text, uint64_t layer)
{
	uint64_t n;

	for (; text; text = strchr(text, '\n')) {
		text += *text == '\n';
		if (!number_scan(&text, &n) && n == layer)
			return true;
	}
	return false;
}

int changes_print_diff(FILE *to, char *text, unsigned *line_out)
{
	const char *change = "", *path = "";
	unsigned number = 0;
	char *line;

	while ((line = next_line(&text))) {
		uint64_t off, len;
		char *f[DIFF_FIELDS];

		number++;
		if (*line == '#')
			continue;
		if (split(line, f, DIFF_FIELDS) || strlen(f[0]) != 1 || !strchr("+-~m", f[0][0]) ||
		    number_parse(f[1], &off) || number_parse(f[2], &len) || len > UINT64_MAX - off) {
			*line_out = number;
			return -EINVAL;
		}
		text_decode(f[3]);
		if (strcmp(f[0], change) || strcmp(f[3], path))
			fprintf(to, "%s %s\n", f[0], f[3]);
		if (len)
			fprintf(to, "    [%" PRIu64 ", %" PRIu64 ")\n", off, off + len);
		change = f[0];
		path = f[3];
	}
	return 0;
}
