/*
 * .spillfs/diff/A..B: what differs between two states of layers/, as text.
 *
 * Tab-separated lines "change offset length path", ordered by path; change is '+' (only in B), '-' (only in A), '~' (other
 * content) or 'm' (other attributes). Ranges are whole blocks, cut to the length: blocks that are the same frame, or zeros in
 * both, are equal; others may be equal all the same. In names and paths bytes that would break a line are %XX.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "store/layers/state.h"
#include "store/store.h"
#include "tree/control/control.h"
#include "tree/inode.h"

#define PATH_MAX_BYTES 8192

/* Two states side by side. */
struct differ {
	struct state *a, *b;
	struct index whole_a, whole_b;
	FILE *f;
	char path[PATH_MAX_BYTES];
};

static void put_range(struct differ *d, char change, uint64_t off, uint64_t len)
{
	fprintf(d->f, "%c\t%" PRIu64 "\t%" PRIu64 "\t", change, off, len);
	control_put_name(d->f, d->path, "");
	fputc('\n', d->f);
}

static bool same_place(const struct layer_block *a, const struct layer_block *b)
{
	if (!a || !b)
		return a == b;
	return a->layer == b->layer && a->frame_off == b->frame_off && a->raw_off == b->raw_off && a->raw_len == b->raw_len;
}

struct run {
	uint64_t from, to;
};

static void end_run(struct differ *d, struct run *run)
{
	if (run->to > run->from)
		put_range(d, '~', run->from, run->to - run->from);
	*run = (struct run){ 0 };
}

/* Ranges of blocks that differ, merged. True if there were any. */
static bool compare_blocks(struct differ *d, const struct index_record *a, const struct index_record *b)
{
	uint64_t size_a = a->facts.size_bytes, size_b = b->facts.size_bytes, end = size_a > size_b ? size_a : size_b;
	uint64_t bs = b->block_bytes ? b->block_bytes : a->block_bytes, common = size_a < size_b ? size_a : size_b;
	struct run run = { 0 };
	size_t i = 0, j = 0;
	bool any = false;

	if (a->nblocks && b->nblocks && a->block_bytes != b->block_bytes) { /* written anew */
		put_range(d, '~', 0, end);
		return true;
	}
	while (bs && (i < a->nblocks || j < b->nblocks)) {
		uint64_t x = i < a->nblocks ? a->blocks[i].block : UINT64_MAX, y = j < b->nblocks ? b->blocks[j].block : UINT64_MAX;
		uint64_t block = x < y ? x : y, from = block * bs, to = from + bs < end ? from + bs : end;

		if (!same_place(x == block ? &a->blocks[i] : NULL, y == block ? &b->blocks[j] : NULL)) {
			any = true;
			if (run.to != from)
				end_run(d, &run);
			if (!run.to)
				run.from = from;
			run.to = to;
		}
		i += x == block;
		j += y == block;
	}
	if (end > common && run.to < end) { /* grown or cut by zeros */
		any = true;
		if (run.to < common)
			end_run(d, &run);
		if (!run.to)
			run.from = common;
		run.to = end;
	}
	end_run(d, &run);
	return any;
}

static bool same_facts(const struct index_record *a, const struct index_record *b)
{
	const struct facts *x = &a->facts, *y = &b->facts;

	return x->mode == y->mode && x->uid == y->uid && x->gid == y->gid && x->mtime_ns == y->mtime_ns &&
	       a->xattrs_len == b->xattrs_len && !memcmp(a->xattrs_len ? a->xattrs : "", b->xattrs_len ? b->xattrs : "", a->xattrs_len) &&
	       !strcmp(a->target, b->target);
}

static const struct index_record *record_of(const struct index *ix, uint64_t ino)
{
	return ino ? index_find(ix, ino) : NULL;
}

static int compare_dir(struct differ *d, size_t path_len, uint64_t a, uint64_t b);

/* One name; inode numbers are 0 where it is not. */
static int compare_entry(struct differ *d, size_t path_len, uint64_t a, uint64_t b)
{
	const struct index_record *x = record_of(&d->whole_a, a), *y = record_of(&d->whole_b, b);
	bool dir_a = x && S_ISDIR(x->facts.mode), dir_b = y && S_ISDIR(y->facts.mode);

	if (a != b || !x || !y) { /* another file */
		if (x && !dir_a)
			put_range(d, '-', 0, x->facts.size_bytes);
		if (y && !dir_b)
			put_range(d, '+', 0, y->facts.size_bytes);
	} else if (!dir_a && x->version != y->version) {
		if (!compare_blocks(d, x, y) && !same_facts(x, y))
			put_range(d, 'm', 0, 0);
	} else if (dir_a && (x->facts.mode != y->facts.mode || x->facts.uid != y->facts.uid || x->facts.gid != y->facts.gid)) {
		put_range(d, 'm', 0, 0);
	}
	return dir_a || dir_b ? compare_dir(d, path_len, dir_a ? a : 0, dir_b ? b : 0) : 0;
}

static int compare_dir(struct differ *d, size_t path_len, uint64_t a, uint64_t b)
{
	const struct index_name *x = d->whole_a.names, *y = d->whole_b.names;
	size_t i, i_end, j, j_end;
	int err = 0;

	index_name_range(&d->whole_a, a, &i, &i_end);
	index_name_range(&d->whole_b, b, &j, &j_end);
	while (!err && (i < i_end || j < j_end)) {
		int order = i == i_end ? 1 : j == j_end ? -1 : strcmp(x[i].name, y[j].name);
		const char *name = order <= 0 ? x[i].name : y[j].name;
		size_t len = path_len + (path_len != 0) + strlen(name);

		if (len >= sizeof(d->path))
			return -ENAMETOOLONG;
		strcpy(stpcpy(d->path + path_len, path_len ? "/" : ""), name);
		err = compare_entry(d, len, order <= 0 ? x[i].ino : 0, order >= 0 ? y[j].ino : 0);
		d->path[path_len] = '\0';
		i += order <= 0;
		j += order >= 0;
	}
	return err;
}

static int compare_states(struct differ *d, char **out)
{
	char *text = NULL;
	size_t len;
	int err = state_merge(d->a, &d->whole_a);

	if (!err)
		err = state_merge(d->b, &d->whole_b);
	d->f = err ? NULL : open_memstream(&text, &len);
	if (!err && !d->f)
		err = -ENOMEM;
	if (!err)
		err = compare_dir(d, 0, META_INO_LAYERS, META_INO_LAYERS);
	if (d->f && fclose(d->f) && !err)
		err = -ENOMEM;
	index_fini(&d->whole_a);
	index_fini(&d->whole_b);
	if (err) {
		free(text);
		return err;
	}
	*out = text;
	return 0;
}

int control_diff_text(struct tree *t, uint64_t a, uint64_t b, char **out)
{
	struct differ *d = calloc(1, sizeof(*d));
	int err = d ? state_open(t->store->layers, a, &d->a) : -ENOMEM;

	if (!err)
		err = state_open(t->store->layers, b, &d->b);
	if (!err)
		err = compare_states(d, out);
	if (d && d->b)
		state_put(d->b);
	if (d && d->a)
		state_put(d->a);
	free(d);
	return err;
}
