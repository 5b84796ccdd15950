/*
 * stat: .spillfs/stats for people.
 *
 * Invariants:
 * 1. A figure that the table knows is shown in it once; every other one follows as name and value, so
 *    that nothing the daemon tells is hidden.
 * 2. A figure that is missing shows as 0 and breaks nothing: daemon and tool may differ in age.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/classes.h"
#include "tool/text.h"
#include "tool/tool.h"

struct figure {
	char *name; /* without "spillfs_" and "_total" */
	char *labels;
	char *value;
	bool shown;
};

struct figures {
	struct figure *at;
	size_t n;
};

/* "name{labels} value [time]" */
static int parse_figure(char *line, struct figure *out)
{
	char *open = strchr(line, '{'), *close = open ? strrchr(line, '}') : NULL;
	char *space = strchr(close ? close : line, ' ');
	struct figure f = { .labels = "" };
	size_t len;

	if (!space || (open && !close))
		return -EINVAL;
	*space = '\0';
	f.value = space + 1 + strspn(space + 1, " ");
	f.value[strcspn(f.value, " ")] = '\0';
	if (open) {
		*open = *close = '\0';
		f.labels = open + 1;
	}
	f.name = strncmp(line, "spillfs_", 8) ? line : line + 8;
	len = strlen(f.name);
	if (len > 6 && !strcmp(f.name + len - 6, "_total"))
		f.name[len - 6] = '\0';
	*out = f;
	return 0;
}

static int parse(char *text, struct figures *out)
{
	struct figures all = { 0 };
	char *save, *line;
	size_t lines = 1;

	for (const char *c = text; *c; c++)
		lines += *c == '\n';
	all.at = calloc(lines, sizeof(*all.at));
	if (!all.at)
		return -ENOMEM;
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if (line[0] != '#' && parse_figure(line, &all.at[all.n]) == 0)
			all.n++;
	*out = all;
	return 0;
}

static struct figure *find(struct figures *all, const char *name, const char *labels)
{
	for (size_t i = 0; i < all->n; i++) {
		struct figure *f = &all->at[i];

		if (!strcmp(f->name, name) && (!labels || !strcmp(f->labels, labels))) {
			f->shown = true;
			return f;
		}
	}
	return NULL;
}

static uint64_t number(struct figures *all, const char *name, const char *labels)
{
	struct figure *f = find(all, name, labels);

	return f ? strtoull(f->value, NULL, 10) : 0;
}

/* The sum of all rows whose labels begin so. */
static uint64_t total(struct figures *all, const char *name, const char *labels)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < all->n; i++) {
		struct figure *f = &all->at[i];

		if (strcmp(f->name, name) || strncmp(f->labels, labels, strlen(labels)))
			continue;
		f->shown = true;
		sum += strtoull(f->value, NULL, 10);
	}
	return sum;
}

static void print_kinds(struct figures *all)
{
	printf("%-9s %9s %10s %9s %10s %12s %13s\n", "", "reads", "read", "writes", "written", "store read", "store written");
	for (size_t i = 0; i < CLASSES_N; i++) {
		char l[32];

		snprintf(l, sizeof(l), "kind=\"%s\"", classes[i].kind_name);
		printf("%-9s %9" PRIu64 " %10s %9" PRIu64 " %10s %12s %13s\n", classes[i].name, number(all, "read_ops", l),
		       text_size(number(all, "read_bytes", l)).s, number(all, "write_ops", l),
		       text_size(number(all, "write_bytes", l)).s, text_size(total(all, "backing_read_bytes", l)).s,
		       text_size(total(all, "backing_write_bytes", l)).s);
	}
}

static void print_cache(struct figures *all)
{
	uint64_t hits = number(all, "cache_hits", NULL), misses = number(all, "cache_misses", NULL);
	uint64_t raw = number(all, "encode_raw_bytes", NULL);
	uint64_t stored = number(all, "encode_stored_bytes", NULL);

	printf("\n%-12s ", "cache");
	if (hits + misses)
		printf("%.1f %% hits", 100.0 * (double)hits / (double)(hits + misses));
	else
		printf("not used yet");
	printf(", %s in memory, %" PRIu64 " blocks prefetched\n", text_size(number(all, "cache_bytes", NULL)).s,
	       number(all, "cache_prefetched", NULL));
	printf("%-12s ", "compression");
	if (stored)
		printf("%.2fx: %s became %s\n", (double)raw / (double)stored, text_size(raw).s, text_size(stored).s);
	else
		puts("nothing compressed yet");
	printf("%-12s %s waiting to be compressed, %s read back\n", "layers",
	       text_size(number(all, "dirty_bytes", NULL)).s, text_size(number(all, "frame_read_bytes", NULL)).s);
}

static void print_leases(struct figures *all)
{
	struct figure *seconds = find(all, "lease_wait_seconds", NULL);

	printf("%-12s %" PRIu64 " in use, %" PRIu64 " waits (%.3f s), %" PRIu64 " fallbacks\n", "leases",
	       number(all, "leases_in_use", NULL), number(all, "lease_waits", NULL), seconds ? strtod(seconds->value, NULL) : 0.0,
	       total(all, "lease_fallbacks", ""));
	for (size_t i = 0; i < all->n; i++) {
		struct figure *f = &all->at[i];

		if (!strcmp(f->name, "lease_fallbacks") && strcmp(f->value, "0"))
			printf("%-12s %s fallbacks: %s\n", "", f->value, f->labels);
	}
}

static void print_memory(struct figures *all)
{
	static const char *const parts[] = { "blocks", "inodes", "arrays", "indexes", "views", "sums" };

	printf("%-12s", "memory");
	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
		char labels[32];

		snprintf(labels, sizeof(labels), "holds=\"%s\"", parts[i]);
		printf("%s %s %s", i ? "," : "", text_size(number(all, "memory_bytes", labels)).s, parts[i]);
	}
	putchar('\n');
}

/* The files of scratch/. */
static void print_spills(struct figures *all)
{
	uint64_t memory = number(all, "spill_memory_bytes", NULL), disk = number(all, "spill_disk_bytes", NULL);
	uint64_t raw = number(all, "spill_cold_raw_bytes", NULL), stored = number(all, "spill_cold_stored_bytes", NULL);

	printf("%-12s %s in memory, %s on the disk", "spills", text_size(memory).s, text_size(disk).s);
	if (stored)
		printf(", cold %.2fx: %s became %s", (double)raw / (double)stored, text_size(raw).s, text_size(stored).s);
	putchar('\n');
}

static void print_rest(struct figures *all)
{
	uint64_t failures = number(all, "commit_failures", NULL);
	uint64_t corruptions = number(all, "corruptions", NULL);

	printf("%-12s %s in use, %s free for reuse, %s given back\n", "pool",
	       text_size(number(all, "pool_claimed_bytes", NULL)).s, text_size(number(all, "pool_free_bytes", NULL)).s,
	       text_size(number(all, "pool_punched_bytes", NULL)).s);
	printf("%-12s %s direct, %s uncached, %s buffered\n", "backing", text_size(number(all, "backing_direct_bytes", NULL)).s,
	       text_size(number(all, "backing_uncached_bytes", NULL)).s, text_size(number(all, "backing_buffered_bytes", NULL)).s);
	print_leases(all);
	printf("%-12s %" PRIu64 " commits, %" PRIu64 " layers sealed\n", "durability",
	       number(all, "commits", NULL), number(all, "layers_sealed", NULL));
	if (failures)
		printf("%-12s %" PRIu64 " commits FAILED: the store is read-only until it is mounted again\n", "",
		       failures);
	if (corruptions)
		printf("%-12s %" PRIu64 " stored objects are DAMAGED: see the log\n", "", corruptions);
	for (size_t i = 0, first = 1; i < all->n; i++) {
		const struct figure *f = &all->at[i];

		if (f->shown)
			continue;
		printf("%s%s%s%s%s %s\n", first ? "\n" : "", f->name, *f->labels ? " (" : "", f->labels,
		       *f->labels ? ")" : "", f->value);
		first = 0;
	}
}

static enum tool_exit print_table(const struct tool_mount *m, char *text)
{
	struct figures all;

	if (parse(text, &all) < 0)
		return tool_fail(TOOL_FAILED, "out of memory");
	printf("spillfs on %s", m->root);
	if (m->has_info)
		printf(" (pid %" PRIu64 ", commit %" PRIu64 ", newest layer %" PRIu64 ")", m->info.pid, m->info.commit,
		       m->info.newest_layer);
	fputs("\n\n", stdout);
	print_kinds(&all);
	print_cache(&all);
	print_memory(&all);
	print_spills(&all);
	print_rest(&all);
	free(all.at);
	return TOOL_OK;
}

enum tool_exit cmd_stat(const struct tool_call *call)
{
	struct tool_mount m;
	enum tool_exit code = tool_mount_open(call->args[0], false, &m);
	char *text = NULL;

	if (code != TOOL_OK)
		return code;
	code = tool_mount_read(&m, ".spillfs/stats", &text);
	if (code == TOOL_OK && tool_flag(call, 'r'))
		fputs(text, stdout);
	else if (code == TOOL_OK)
		code = print_table(&m, text);
	free(text);
	tool_mount_close(&m);
	return code;
}
