/*
 * The text of .spillfs/stats: the counters of util/stats.h and a few facts of the store, in OpenMetrics
 * 1.0 text (prometheus.io/docs/specs/om/open_metrics_spec).
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/io.h"
#include "store/commit.h"
#include "store/layers.h"
#include "store/meta.h"
#include "store/store.h"
#include "tree/control/control.h"
#include "tree/inode.h"
#include "util/clock.h"
#include "util/stats.h"

static const struct row {
	const char *name, *labels, *type, *help;
} rows[] = {
#define X(id, name, labels, type, help) { name, labels, type, help },
	STATS_TABLE(X)
#undef X
};

static void put_head(FILE *f, const char *name, const char *type, const char *help)
{
	fprintf(f, "# TYPE %s %s\n# HELP %s %s.\n", name, type, name, help);
}

/* Seconds are counted in nanoseconds. */
static void put_value(FILE *f, const char *name, uint64_t n)
{
	size_t len = strlen(name);

	if (len > 8 && !strcmp(name + len - 8, "_seconds"))
		fprintf(f, "%" PRIu64 ".%09" PRIu64 "\n", n / (uint64_t)CLOCK_SECOND_NS, n % (uint64_t)CLOCK_SECOND_NS);
	else
		fprintf(f, "%" PRIu64 "\n", n);
}

static void put_counters(FILE *f)
{
	for (size_t i = 0; i < STATS_COUNT; i++) {
		const struct row *r = &rows[i];

		if (!i || strcmp(r->name, rows[i - 1].name))
			put_head(f, r->name, r->type, r->help);
		fprintf(f, "%s%s%s%s%s ", r->name, strcmp(r->type, "counter") ? "" : "_total",
			*r->labels ? "{" : "", r->labels, *r->labels ? "}" : "");
		put_value(f, r->name, stats_read((enum stats_id)i));
	}
}

static void put_gauge(FILE *f, const char *name, const char *help, uint64_t value)
{
	put_head(f, name, "gauge", help);
	fprintf(f, "%s %" PRIu64 "\n", name, value);
}

/* Each store has an account of its own. Follows the counters, whose last row is of this metric. */
static void put_memory(FILE *f, const struct tree *t)
{
	static const char *const parts[] = {
		[ACCOUNT_BLOCKS] = "blocks", [ACCOUNT_INODES] = "inodes", [ACCOUNT_ARRAYS] = "arrays",
		[ACCOUNT_INDEXES] = "indexes", [ACCOUNT_VIEWS] = "views",
	};

	_Static_assert(STAT_MEMORY_SUMS_BYTES == STATS_COUNT - 1, "the last row");
	for (size_t i = 0; i < ACCOUNT_NPARTS; i++)
		fprintf(f, "spillfs_memory_bytes{holds=\"%s\"} %zu\n", parts[i],
			account_held(&t->store->account, i) + (t->scratch ? account_held(&t->scratch->store->account, i) : 0));
}

static void put_store(FILE *f, struct tree *t)
{
	struct store *s = t->store;
	struct layers_totals totals;
	struct layers_held held;
	uint64_t inodes = 0;
	const char *why, *way = io_file_backing(s->dir, &why);

	layers_totals(s->layers, &totals);
	layers_held(s->layers, &held);
	put_gauge(f, "spillfs_layers", "Layers in the store", totals.nlayers);
	put_gauge(f, "spillfs_layer_bytes", "Bytes of all layers", totals.bytes);
	put_gauge(f, "spillfs_layer_live_bytes", "Bytes of them that live arrays use", totals.live_bytes);
	put_gauge(f, "spillfs_layer_snapshot_bytes", "Bytes of layers that only snapshots need", held.snapshot_bytes);
	put_gauge(f, "spillfs_layer_window_bytes", "Bytes of layers that only the last commits (-o keep) need",
		  held.window_bytes);
	put_gauge(f, "spillfs_keep", "Commits whose state stays readable", s->config.keep);
	put_gauge(f, "spillfs_chain", "Layers that opening an array looks into", totals.chain);
	put_gauge(f, "spillfs_snapshots", "Snapshots with a name", totals.snapshots);
	put_gauge(f, "spillfs_newest_layer", "Number of the newest sealed layer", layers_newest_sealed(s->layers));
	if (s->meta) {
		meta_lock(s->meta);
		meta_inode_count_locked(s->meta, &inodes);
		meta_unlock(s->meta);
		put_gauge(f, "spillfs_inodes", "Inodes in the store", inodes);
		put_gauge(f, "spillfs_commit", "Number of the last durable commit", commit_number(s->commit));
	}
	put_gauge(f, "spillfs_read_only", "1 after a failed commit, until the store is mounted again",
		  atomic_load(&s->read_only));
	put_head(f, "spillfs_backing", "info", "How the store's files are read and written, and why");
	fprintf(f, "spillfs_backing_info{way=\"%s\",why=\"%s\"} 1\n", way, why);
}

static void put_scratch(FILE *f, struct store *s)
{
	uint64_t inodes = 0;

	meta_lock(s->meta);
	meta_inode_count_locked(s->meta, &inodes);
	meta_unlock(s->meta);
	put_gauge(f, "spillfs_scratch_inodes", "Inodes in scratch/", inodes);
}

/* All kinds together. */
static void put_backing(FILE *f, const char *name, enum stats_way way)
{
	uint64_t sum = 0;

	for (unsigned kind = 0; kind < STATS_NKINDS; kind++) {
		sum += stats_read(stats_backing_write(kind, way));
		sum += way == STATS_UNCACHED ? 0 : stats_read(stats_backing_read(kind, way));
	}
	fprintf(f, "# TYPE spillfs_backing_%s_bytes counter\n# HELP spillfs_backing_%s_bytes Bytes moved by %s I/O on the store.\n"
		"spillfs_backing_%s_bytes_total %" PRIu64 "\n", name, name, name, name, sum);
}

static void put_ratio(FILE *f)
{
	uint64_t stored = stats_read(STAT_ENCODE_STORED_BYTES);

	put_head(f, "spillfs_compression_ratio", "gauge", "Bytes compressed for each byte stored since mount");
	fprintf(f, "spillfs_compression_ratio %.3f\n",
		stored ? (double)stats_read(STAT_ENCODE_RAW_BYTES) / (double)stored : 1.0);
}

char *control_stats_text(struct tree *t)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return NULL;
	put_counters(f);
	put_memory(f, t);
	put_backing(f, "direct", STATS_DIRECT);
	put_backing(f, "uncached", STATS_UNCACHED);
	put_backing(f, "buffered", STATS_BUFFERED);
	put_ratio(f);
	put_store(f, t);
	if (t->scratch)
		put_scratch(f, t->scratch->store);
	fputs("# EOF\n", f);
	if (fclose(f)) {
		free(text);
		return NULL;
	}
	return text;
}
