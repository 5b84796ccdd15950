/*
 * .spillfs/log: the states of layers/, as text.
 *
 * "# layer time_ns arrays raw_bytes stored_bytes kind names", then a line for each retained layer, newest
 * first: tab-separated, kind "delta" or "full", the names of its snapshots joined by ',' ("-": none). In names bytes that would break a
 * line are %XX.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "store/layers.h"
#include "store/store.h"
#include "tree/control/control.h"
#include "tree/inode.h"
#include "util/vec.h"

void control_put_name(FILE *f, const char *name, const char *also)
{
	for (; *name; name++) {
		unsigned char c = (unsigned char)*name;

		if (c <= 0x20 || c == 0x7f || c == '%' || strchr(also, c))
			fprintf(f, "%%%02X", c);
		else
			fputc(c, f);
	}
}

static int compare_layers(const void *a, const void *b)
{
	const struct layers_snapshot *x = a, *y = b;

	return x->layer < y->layer ? -1 : x->layer > y->layer ? 1 : strcmp(x->name, y->name);
}

static int compare_commits(const void *a, const void *b)
{
	const struct layers_info *x = a, *y = b;

	return x->commit < y->commit ? 1 : x->commit > y->commit ? -1 : x->number < y->number ? 1 : -1;
}

/* Names are looked for by layer: a compaction's number can be out of the order of commits. */
static void put_line(FILE *f, const struct layers_info *info, const struct layers_snapshot *names, size_t n)
{
	size_t at = VEC_LOWER_BOUND(i, n, names[i].layer < info->number);
	bool any = false;

	fprintf(f, "%" PRIu64 "\t%" PRId64 "\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%s\t", info->number, info->time_ns,
		info->arrays, info->raw_bytes, info->stored_bytes, info->full ? "full" : "delta");
	for (; at < n && names[at].layer == info->number; at++) {
		if (any)
			fputc(',', f);
		control_put_name(f, names[at].name, ",");
		any = true;
	}
	fputs(any ? "\n" : "-\n", f);
}

struct log {
	struct layers_snapshot *names; /* by layer */
	size_t nnames, cap_names;
	struct layers_info *layers; /* retained, newest first */
	size_t nlayers, cap_layers;
};

static int gather(struct log *log, struct layers *ls)
{
	struct layers_snapshot s = { .name = "" };
	struct layers_info info = { 0 };

	while (!layers_snapshot_next(ls, s.name, &s)) {
		if (VEC_RESERVE(log->names, log->cap_names, log->nnames + 1))
			return -ENOMEM;
		log->names[log->nnames++] = s;
	}
	while (!layers_next_sealed(ls, info.number + 1, &info)) {
		if (!info.retained)
			continue;
		if (VEC_RESERVE(log->layers, log->cap_layers, log->nlayers + 1))
			return -ENOMEM;
		log->layers[log->nlayers++] = info;
	}
	if (log->nnames)
		qsort(log->names, log->nnames, sizeof(*log->names), compare_layers);
	if (log->nlayers)
		qsort(log->layers, log->nlayers, sizeof(*log->layers), compare_commits);
	return 0;
}

static void put_log(FILE *f, const struct log *log)
{
	fputs("# layer\ttime_ns\tarrays\traw_bytes\tstored_bytes\tkind\tnames\n", f);
	for (size_t i = 0; i < log->nlayers; i++)
		put_line(f, &log->layers[i], log->names, log->nnames);
}

char *control_log_text(struct tree *t)
{
	struct log log = { 0 };
	char *text = NULL;
	size_t len;
	int err = gather(&log, t->store->layers);
	FILE *f = err ? NULL : open_memstream(&text, &len);

	if (f)
		put_log(f, &log);
	if (f && fclose(f)) {
		free(text);
		text = NULL;
	}
	free(log.names);
	free(log.layers);
	return text;
}
