/*
 * The text of .spillfs/quotas: a line with names of columns, then one for each quota, tab-separated:
 *
 *   # quota used logical_quota logical_used path
 *
 * Bytes, "-" where there is no bound. The path is that below the mount's root, "." of -o size.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/store.h"
#include "tree/control/control.h"
#include "tree/inode.h"
#include "tree/live/quota.h"
#include "tree/live/live.h"
#include "tree/live/room.h"
#include "tree/scratch/scratch.h"

#define PATH_BYTES 4096u

struct listing {
	struct tree *t;
	FILE *f;
};

static void put_bound(FILE *f, uint64_t bytes)
{
	if (bytes == UINT64_MAX)
		fputc('-', f);
	else
		fprintf(f, "%llu", (unsigned long long)bytes);
}

/* The directory that paths in dir's tree begin at: its root, or the shelf that dir is in. A circle of rows, as damage leaves it, ends somewhere. */
static uint64_t top_of(struct tree *home, uint64_t dir)
{
	uint64_t root = home->store->config.above + META_INO_ROOT;
	struct facts row = { .parent = dir };

	meta_lock(home->store->meta);
	for (unsigned k = 0; k < PATH_BYTES && row.parent != root && live_shown_of(home, row.parent) == row.parent; k++) {
		if (meta_inode_load_locked(home->store->meta, row.parent, &row))
			row.parent = root;
	}
	meta_unlock(home->store->meta);
	return row.parent;
}

/* The path of a directory; false: it has gone. */
static bool find_path(struct tree *t, uint64_t dir, char path[PATH_BYTES])
{
	struct tree *home = realm_tree(t, dir);
	uint64_t top = dir ? top_of(home, dir) : 0, shown = dir ? live_shown_of(home, top) : 0;
	char above[PATH_BYTES / 2 - 64] = "", below[PATH_BYTES / 2] = "";
	int err = 0;

	if (dir) {
		meta_lock(home->store->meta);
		err = meta_path_locked(home->store->meta, top, dir, below, sizeof(below));
		meta_unlock(home->store->meta);
	}
	if (shown != top) {
		meta_lock(t->store->meta);
		err = err ? err : meta_path_locked(t->store->meta, META_INO_ROOT, shown, above, sizeof(above));
		meta_unlock(t->store->meta);
	} else if (home != t) {
		strcpy(above, SCRATCH_NAME);
	}
	snprintf(path, PATH_BYTES, "%s%s%s", above, *above && *below ? "/" : "", below);
	if (!*path)
		strcpy(path, ".");
	return !err;
}

static int put_line(void *ctx, uint64_t dir, const struct quota_amount *limit, const struct quota_amount *used)
{
	struct listing *l = ctx;
	char path[PATH_BYTES];

	if (!find_path(l->t, dir, path))
		return 0;
	put_bound(l->f, limit->held_bytes);
	fprintf(l->f, "\t%llu\t", (unsigned long long)used->held_bytes);
	put_bound(l->f, limit->size_bytes);
	fprintf(l->f, "\t%llu\t", (unsigned long long)used->size_bytes);
	control_put_name(l->f, path, "");
	fputc('\n', l->f);
	return 0;
}

char *control_quotas_text(struct tree *t)
{
	struct listing l = { .t = t };
	char *text = NULL;
	size_t len;

	/* As in statfs, a file that has just been deleted is not shown as used. */
	if (!t->store->config.follow && quota_bounds(t)) {
		room_settle(t);
		if (t->scratch)
			room_settle(t->scratch);
	}
	l.f = open_memstream(&text, &len);
	if (!l.f)
		return NULL;
	fputs("# quota\tused\tlogical_quota\tlogical_used\tpath\n", l.f);
	if (!t->store->config.follow)
		quota_walk(t, put_line, &l);
	if (fclose(l.f)) {
		free(text);
		return NULL;
	}
	return text;
}
