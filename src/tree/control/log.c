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

/* All names, by layer; malloc'd. */
static int list_names(struct layers *ls, struct layers_snapshot **out, size_t *n_out)
{
	struct layers_snapshot s = { .name = "" }, *v = NULL;
	size_t n = 0, cap = 0;

	while (!layers_snapshot_next(ls, s.name, &s)) {
		if (VEC_RESERVE(v, cap, n + 1)) {
			free(v);
			return -ENOMEM;
		}
		v[n++] = s;
	}
	if (n)
		qsort(v, n, sizeof(*v), compare_layers);
	*out = v;
	*n_out = n;
	return 0;
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

/* The retained layers, newest first; malloc'd. */
static int list_layers(struct layers *ls, struct layers_info **out, size_t *n_out)
{
	struct layers_info info, *v = NULL;
	uint64_t from = 0;
	size_t n = 0, cap = 0;

	for (; !layers_next_sealed(ls, from, &info); from = info.number + 1) {
		if (!info.retained)
			continue;
		if (VEC_RESERVE(v, cap, n + 1)) {
			free(v);
			return -ENOMEM;
		}
		v[n++] = info;
	}
	if (n)
		qsort(v, n, sizeof(*v), compare_commits);
	*out = v;
	*n_out = n;
	return 0;
}

static int put_log(FILE *f, struct layers *ls, const struct layers_snapshot *names, size_t nnames)
{
	struct layers_info *v;
	size_t n;
	int err = list_layers(ls, &v, &n);

	if (err)
		return err;
	fputs("# layer\ttime_ns\tarrays\traw_bytes\tstored_bytes\tkind\tnames\n", f);
	for (size_t i = 0; i < n; i++)
		put_line(f, &v[i], names, nnames);
	free(v);
	return 0;
}

char *control_log_text(struct tree *t)
{
	struct layers_snapshot *names;
	char *text = NULL;
	size_t n, len;
	FILE *f;
	int err;

	if (list_names(t->store->layers, &names, &n))
		return NULL;
	f = open_memstream(&text, &len);
	err = f ? put_log(f, t->store->layers, names, n) : -ENOMEM;
	free(names);
	if ((f && fclose(f)) || err) {
		free(text);
		return NULL;
	}
	return text;
}
