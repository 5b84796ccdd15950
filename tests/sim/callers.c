/*
 * See callers.h.
 */
#include "callers.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bounds.h"
#include "client.h"
#include "sched.h"
#include "sim.h"
#include "spillfs.h"
#include "types.h"
#include "util/err.h"
#include "util/log.h"
#include "util/thread.h"
#include "views.h"
#include "zarr.h"

static const char *const class_names[CLASSES] = { "buckets", "columns", "layers", "scratch" };
static const char *const slot_names[3] = { "a.u8", "b.u8", "d/a.u8" };

void caller_path(unsigned caller, unsigned slot, char out[PATH_BYTES])
{
	snprintf(out, PATH_BYTES, "%s/c%u/%s", class_names[slot / 3], caller, slot_names[slot % 3]);
}

void caller_dir(unsigned caller, unsigned class, char out[PATH_BYTES])
{
	snprintf(out, PATH_BYTES, "%s/c%u/d", class_names[class], caller);
}

/* The caller has met a fault of the disk below scratch/, and leaves that alone. */
static bool lost[CALLERS_MAX];
/* All of it may be lost: the disk below answers EIO. */
static bool loses_scratch;
static bool has_types; /* arrays get settings */

static int prepare(struct tree *t, unsigned ncallers, unsigned class)
{
	char path[PATH_BYTES];
	int err = 0;

	for (unsigned k = 0; k < ncallers && !err; k++) {
		snprintf(path, sizeof(path), "%s/c%u", class_names[class], k);
		err = client_make(t, path, S_IFDIR | 0755);
	}
	return err;
}

int callers_prepare(struct tree *t, const struct script *s)
{
	int err = 0;

	has_types = script_has(s, OP_TYPE);
	loses_scratch = script_loses_scratch(s) && s->fault.err == -EIO;
	for (unsigned class = 0; class < DURABLE_CLASSES && !err; class++)
		err = prepare(t, s->ncallers, class);
	err = err ? err : tree_sync(t);
	return err ? err : callers_prepare_scratch(t, s);
}

int callers_prepare_scratch(struct tree *t, const struct script *s)
{
	static const char *const kinds[] = { "bucket", "column", "layered" };
	uint64_t state = s->seed, x = sim_random(&state);
	char path[PATH_BYTES];
	int err;

	if (!script_has_scratch(s))
		return 0;
	err = prepare(t, s->ncallers, CLASS_SCRATCH);
	for (unsigned k = 0; k < s->ncallers && !err; k++) {
		snprintf(path, sizeof(path), "scratch/c%u", k);
		err = client_set_text(t, path, SPILLFS_XATTR_KIND, kinds[(x + k) % 3]);
		if (!err && x / 3 % 2)
			err = client_set_text(t, path, SPILLFS_XATTR_COMPRESS, "cold");
	}
	return err;
}

/* ---- what is there ---- */


static int find_settings(struct tree *t, const char *path, uint8_t out[SETTINGS])
{
	int err = 0;

	for (unsigned k = 0; k < SETTINGS && has_types && !err; k++) {
		char *text;

		err = client_get_text(t, path, types_setting_name(k), &text);
		if (err)
			break;
		out[k] = types_find(k, text);
		free(text);
	}
	return err;
}

/* A follower may go on to another state meanwhile: then it is looked at again. */
static int find_file(struct tree *t, const char *path, struct content **out)
{
	struct content *c;
	unsigned char *p;
	struct stat st, behind;
	uint8_t setting[SETTINGS] = { 0 };
	uint32_t note;
	size_t n;
	int err = client_stat(t, path, &st);

	*out = NULL;
	if (err == -ENOENT)
		return 0;
	err = err ? err : client_get_note(t, path, &note);
	err = err ? err : find_settings(t, path, setting);
	err = err ? err : client_read(t, path, &p, &n);
	if (err)
		return err;
	if (client_stat(t, path, &behind) || behind.st_size != st.st_size) {
		free(p);
		return find_file(t, path, out);
	}
	c = malloc(sizeof(*c) + n + 1);
	*c = (struct content){ .size_bytes = (uint32_t)n, .mode = st.st_mode & 07777, .note = note, .ino = st.st_ino };
	/* What a column has kept of what was written after the last commit counts once it was read. */
	c->blocks = (uint64_t)behind.st_blocks;
	memcpy(c->setting, setting, sizeof(setting));
	memcpy(c->bytes, p, n);
	free(p);
	if ((uint64_t)st.st_size != n)
		sim_fail("%s: %zu bytes could be read, st_size is %lld", path, n, (long long)st.st_size);
	*out = c;
	return 0;
}

void caller_quota_dir(unsigned caller, unsigned class, unsigned which, char out[PATH_BYTES])
{
	snprintf(out, PATH_BYTES, "%s/c%u%s", class_names[class], caller, which == QUOTA_INNER ? "/d" : "");
}

static int find_quotas(struct tree *t, unsigned c, struct found *f)
{
	char path[PATH_BYTES];
	int err = 0;

	for (unsigned k = 0; k < DURABLE_CLASSES * QUOTAS && !err; k++) {
		struct quota_set *q = &f->quota[k / QUOTAS][k % QUOTAS];

		caller_quota_dir(c, k / QUOTAS, k % QUOTAS, path);
		err = client_get_quota(t, path, SPILLFS_XATTR_QUOTA_LOGICAL, &q->size_bytes);
		if (!err)
			err = client_get_quota(t, path, SPILLFS_XATTR_QUOTA, &q->stored_bytes);
		if (!err && k % QUOTAS == QUOTA_INNER)
			err = client_get_shelved(t, path, &f->shelved[k / QUOTAS]);
		err = err == -ENOENT ? 0 : err;
	}
	return err;
}

/* nfiles: of which the blocks were rounded up. */
static void sum(const struct found *f, unsigned class, unsigned which, uint64_t *size, uint64_t *blocks, unsigned *nfiles)
{
	struct content *const *file = &f->file[class * 3];

	*size = *blocks = *nfiles = 0;

	for (unsigned k = which == QUOTA_INNER ? 2 : 0; k < 3; k++) {
		bool again = false;

		for (unsigned j = 0; j < k && file[k]; j++)
			again |= file[j] && file[j]->ino == file[k]->ino;
		if (!file[k] || again)
			continue;
		*size += file[k]->size_bytes;
		*blocks += file[k]->blocks;
		++*nfiles;
	}
}

const char *callers_check_quotas(struct tree *t, unsigned ncallers, bool reserves, const struct found found[CALLERS_MAX])
{
	static char text[PATH_BYTES + 100];
	uint64_t used, held, size, blocks;
	char path[PATH_BYTES];
	unsigned n;

	for (unsigned k = 0; k < ncallers * CLASSES * QUOTAS; k++) {
		const struct found *f = &found[k / (CLASSES * QUOTAS)];
		unsigned class = k / QUOTAS % CLASSES, which = k % QUOTAS;

		if (!f->quota[class][which].size_bytes && !f->quota[class][which].stored_bytes)
			continue;
		caller_quota_dir(k / (CLASSES * QUOTAS), class, which, path);
		sum(f, class, which, &size, &blocks, &n);
		if (client_quota_used(t, path, &used, &held))
			return "a quota is not listed";
		/* What is reserved is counted besides, and is no block of a file yet. */
		if (used == size && held + n * 511 >= blocks * 512 && (reserves || held <= blocks * 512))
			continue;
		snprintf(text, sizeof(text), "the quota of %s counts %llu bytes in %llu of the store, not %llu in %llu", path, (unsigned long long)used,
			 (unsigned long long)held, (unsigned long long)size, (unsigned long long)blocks * 512);
		return text;
	}
	return NULL;
}

static int find_dirs(struct tree *t, unsigned c, bool damaged, struct found *f)
{
	char path[PATH_BYTES];
	struct stat st;
	int err;

	for (unsigned k = 0; k < CLASSES; k++) {
		if (k == CLASS_SCRATCH && f->scratch_is_lost)
			continue;
		caller_dir(c, k, path);
		err = client_stat(t, path, &st);
		f->dir[k] = !err;
		if (err && err != -ENOENT && !damaged)
			return err;
	}
	return 0;
}

/* What is in a declared directory is looked for also where scratch is lost: behind a cut it may be durable, from before. */
static int find_files(struct tree *t, unsigned c, bool damaged, struct found *f)
{
	char path[PATH_BYTES];
	int err = 0;

	for (unsigned k = 0; k < SLOTS && !err; k++) {
		if (f->scratch_is_lost && k / 3 == CLASS_SCRATCH)
			continue;
		caller_path(c, k, path);
		err = find_file(t, path, &f->file[k]);
		if (err && (damaged || (f->scratch_is_lost && k % 3 == 2 && f->shelved[k / 3]))) {
			f->unreadable[k] = true;
			err = 0;
		}
	}
	return err;
}

int callers_find(struct tree *t, unsigned ncallers, bool damaged, struct found found[CALLERS_MAX])
{
	int err = 0;

	memset(found, 0, CALLERS_MAX * sizeof(*found));
	for (unsigned c = 0; c < ncallers && !err; c++) {
		found[c].scratch_is_lost = lost[c] || loses_scratch;
		err = find_dirs(t, c, damaged, &found[c]);
		if (!err)
			err = find_quotas(t, c, &found[c]);
		if (err && damaged) {
			found[c].quotas_unreadable = true;
			err = 0;
		}
		if (!err)
			err = find_files(t, c, damaged, &found[c]);
	}
	return err;
}

void found_free(struct found found[CALLERS_MAX])
{
	for (unsigned k = 0; k < CALLERS_MAX * SLOTS; k++)
		free(found[k / SLOTS].file[k % SLOTS]);
}

bool found_same(const struct found a[CALLERS_MAX], const struct found b[CALLERS_MAX])
{
	for (unsigned c = 0; c < CALLERS_MAX; c++) {
		if (memcmp(a[c].dir, b[c].dir, sizeof(a[c].dir)) || memcmp(a[c].unreadable, b[c].unreadable, sizeof(a[c].unreadable)))
			return false;
		for (unsigned k = 0; k < SLOTS; k++) {
			const struct content *x = a[c].file[k], *y = b[c].file[k];

			if (!x != !y || (x && (x->mode != y->mode || x->note != y->note || !content_same(x, y))))
				return false;
		}
	}
	return true;
}

/* ---- operations ---- */

struct caller {
	struct tree *tree;
	const struct script *script;
	unsigned number, first, end;
};

/* The file that each caller has open besides. */
static struct client_held *held[CALLERS_MAX];

static void let_go(unsigned caller)
{
	client_let_go(held[caller]);
	held[caller] = NULL;
	model_let_go(caller);
}

/* By caller; of the whole run. */
static unsigned nsnapshots[CALLERS_MAX];
static bool removed[CALLERS_MAX][SNAPSHOTS_MAX], ended[CALLERS_MAX];

static void snapshot_path(unsigned caller, unsigned n, const char *below, char out[PATH_BYTES])
{
	snprintf(out, PATH_BYTES, "snapshots/c%us%u%s%.60s", caller, n, *below ? "/" : "", below);
}

static int write_bytes(struct tree *t, const char *path, const struct op *o, uint64_t off)
{
	unsigned char *p;
	int err;

	if (off + o->len > FILE_BYTES_MAX)
		return 0;
	p = malloc(o->len);
	if (o->kind == OP_WALK)
		types_fill(o, p, o->len);
	else
		model_fill(o->tag, p, o->len);
	err = client_write(t, path, p, o->len, off);
	free(p);
	return err;
}

static int append(struct tree *t, const char *path, const struct op *o)
{
	struct stat st;
	int err = client_stat(t, path, &st);

	return err ? err : write_bytes(t, path, o, (uint64_t)st.st_size);
}

/* The file is what the model has; head bytes stand before it. */
static int compare(struct tree *t, const char *path, const struct content *want, size_t head_least)
{
	unsigned char *p;
	size_t n, head;
	int err = client_read(t, path, &p, &n);

	if (err || !want) {
		if (!err)
			sim_fail("%s is there", path);
		return want ? err : err == -ENOENT ? 0 : err;
	}
	head = n - want->size_bytes;
	if (n < want->size_bytes || (head_least ? head < head_least : head) || memcmp(p + head, want->bytes, want->size_bytes))
		sim_fail("%s: %zu bytes are not the %u that were written", path, n, want->size_bytes);
	free(p);
	return 0;
}

/* A caller that has made all of its snapshots commits only: whichever it does, what was done before is durable. */
static int do_snapshot(struct tree *t, const struct op *o)
{
	unsigned n = nsnapshots[o->caller];
	char path[PATH_BYTES];
	uint64_t layer;
	bool sealed;
	int err;

	if (n == SNAPSHOTS_MAX)
		return tree_commit(t, &layer, &sealed);
	snapshot_path(o->caller, n, "", path);
	model_keep(o->caller, n);
	err = client_make(t, path, S_IFDIR | 0755);
	nsnapshots[o->caller] += !err;
	return err;
}

static int do_unsnapshot(struct tree *t, const struct op *o)
{
	unsigned n = nsnapshots[o->caller] ? o->tag % nsnapshots[o->caller] : 0;
	char path[PATH_BYTES];
	int err;

	if (!nsnapshots[o->caller] || removed[o->caller][n])
		return 0;
	removed[o->caller][n] = true;
	snapshot_path(o->caller, n, "", path);
	err = client_rmdir(t, path);
	removed[o->caller][n] = !err_is_passing(err);
	return err;
}

static int check_past(struct tree *t, unsigned caller, unsigned n)
{
	char path[PATH_BYTES], below[PATH_BYTES];
	int err = 0;

	for (unsigned slot = 6; slot < 9 && !err; slot++) {
		caller_path(caller, slot, below);
		snapshot_path(caller, n, below, path);
		err = compare(t, path, model_kept(caller, n, slot), 0);
	}
	return err;
}

static int do_past(struct tree *t, const struct op *o)
{
	unsigned n = nsnapshots[o->caller] ? o->tag % nsnapshots[o->caller] : 0;

	return nsnapshots[o->caller] && !removed[o->caller][n] ? check_past(t, o->caller, n) : 0;
}

const char *callers_check_kept(struct tree *t, unsigned ncallers)
{
	for (unsigned c = 0; c < ncallers; c++) {
		for (unsigned n = 0; n < nsnapshots[c]; n++) {
			if (!removed[c][n] && check_past(t, c, n))
				return "a snapshot that was made cannot be read";
		}
	}
	return NULL;
}

struct listed {
	unsigned n, wanted;
};

static void count_name(void *ctx, const char *name)
{
	struct listed *l = ctx;

	l->n++;
	l->wanted += !strcmp(name, "a.u8") || !strcmp(name, "b.u8") || !strcmp(name, "d");
}

static int do_list(struct tree *t, const struct op *o)
{
	unsigned class = o->slot / 3, want = model_has_dir(o->caller, class);
	char path[PATH_BYTES], made[PATH_BYTES + 8];
	struct listed l = { 0 };
	int err;

	for (unsigned k = 0; k < 2; k++)
		want += model_file(o->caller, class * 3 + k) != NULL;
	snprintf(path, sizeof(path), "%s/c%u", class_names[class], o->caller);
	err = client_list(t, path, count_name, &l);
	if (err || (l.n == want && l.wanted == want))
		return err;
	/* A COMMIT that fails takes back the names since the one before: nothing can be made then. */
	snprintf(made, sizeof(made), "%s/made", path);
	if (client_make(t, made, 0644) == -EROFS)
		return -EROFS;
	sim_fail("%s lists %u names, not %u", path, l.n, want);
}

/* The view has whole elements alone. */
static int compare_elements(struct tree *t, const char *path, const struct content *want)
{
	size_t whole = want->size_bytes / types_bytes(want) * types_bytes(want);
	struct content *c = malloc(sizeof(*c) + whole + 1);
	int err;

	*c = (struct content){ .size_bytes = (uint32_t)whole };
	memcpy(c->bytes, want->bytes, whole);
	err = compare(t, path, c, 64);
	free(c);
	return err;
}

static int do_view(struct tree *t, const struct op *o, const char *path)
{
	const struct content *want = model_file(o->caller, o->slot);
	unsigned version = o->tag / 4 % 2 ? 3 : 2;
	char view[PATH_BYTES];

	if (!want)
		return 0;
	if (o->tag % 4 == 0)
		return zarr_compare(t, zarr_shows(version, want) ? version : 2, path, want);
	if (o->tag % 4 == 1 && !want->setting[SETTING_DTYPE])
		return views_compare_parquet(t, path, want);
	views_npy_path(path, "", view);
	return compare_elements(t, view, want);
}

/* As programs do that replace a file whole: it is written under another name, and renamed. */
static int upload(struct tree *t, const struct op *o, const char *path)
{
	char view[PATH_BYTES], temporary[PATH_BYTES];
	unsigned char *p;
	size_t n;
	int err;

	views_npy_path(path, "", view);
	views_npy_path(path, ".new", temporary);
	p = views_npy_make(o->tag, o->len, &n);
	err = client_upload(t, temporary, p, n);
	free(p);
	err = err ? err : client_rename(t, temporary, view);
	if (err)
		client_unlink(t, temporary);
	return err;
}

/* The file, or its view, stays open while it is changed. */
static int hold(struct tree *t, const struct op *o, const char *path)
{
	char view[PATH_BYTES];

	views_npy_path(path, "", view);
	let_go(o->caller);
	return client_hold(t, o->tag & 1 ? view : path, &held[o->caller]);
}

/* Most wait for its end, a minute at most. */
static int do_compact(struct tree *t, const struct op *o)
{
	struct spillfs_compact c;
	int err = tree_compact(t, true, &c);

	for (unsigned k = 0; k < 600 && !err && c.running && o->tag % 4; k++) {
		sched_sleep(100000000);
		err = tree_compact(t, false, &c);
	}
	return err;
}

static int do_quota(struct tree *t, const struct op *o)
{
	char path[PATH_BYTES];
	uint32_t bytes;
	unsigned which;

	if (!model_quota_op(o, &which, &bytes))
		return 0;
	caller_quota_dir(o->caller, o->slot / 3, which, path);
	return client_set_quota(t, path, o->kind == OP_QUOTA ? SPILLFS_XATTR_QUOTA_LOGICAL : SPILLFS_XATTR_QUOTA, bytes);
}

static int do_shelve(struct tree *t, const struct op *o)
{
	char path[PATH_BYTES];

	if (o->slot / 3 == CLASS_SCRATCH)
		return 0;
	caller_dir(o->caller, o->slot / 3, path);
	return client_set_text(t, path, SPILLFS_XATTR_DURABLE, o->tag & 1 ? "no" : "yes");
}

static int do_data(struct tree *t, const struct op *o, const char *path)
{
	switch (o->kind) {
	case OP_TYPE:
		return client_set_text(t, path, types_setting_name(types_setting_of(o)), types_text(types_setting_of(o), types_value_of(o)));
	case OP_WRITE:
	case OP_WALK:
		return write_bytes(t, path, o, o->off);
	case OP_APPEND:
		return append(t, path, o);
	case OP_TRUNCATE:
		return client_truncate(t, path, o->off);
	case OP_RESERVE:
		return client_fallocate(t, path, FALLOC_FL_KEEP_SIZE, o->off, o->len);
	case OP_PUNCH:
		return client_fallocate(t, path, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, o->off, o->len);
	case OP_CHMOD:
		return client_chmod(t, path, 0600 | (o->tag & 077));
	case OP_NOTE:
		return client_set_note(t, path, o->tag | 1);
	case OP_HOLD:
		return hold(t, o, path);
	case OP_READ:
		return compare(t, path, model_file(o->caller, o->slot), 0);
	default:
		return do_view(t, o, path);
	}
}

static int do_names(struct tree *t, const struct op *o, const char *path)
{
	char to[PATH_BYTES];

	caller_path(o->caller, o->to, to);
	switch (o->kind) {
	case OP_CREATE:
		return client_make(t, path, S_IFREG | 0644);
	case OP_RENAME:
		return client_rename(t, path, to);
	case OP_LINK:
		return client_link(t, path, to);
	case OP_UNLINK:
		return client_unlink(t, path);
	default:
		caller_dir(o->caller, o->slot / 3, to);
		return o->kind == OP_MKDIR ? client_make(t, to, S_IFDIR | 0755) : client_rmdir(t, to);
	}
}

static int do_op(struct tree *t, const struct op *o)
{
	char path[PATH_BYTES];
	uint64_t layer;
	bool sealed;

	caller_path(o->caller, o->slot, path);
	switch (o->kind) {
	case OP_CREATE:
	case OP_RENAME:
	case OP_LINK:
	case OP_UNLINK:
	case OP_MKDIR:
	case OP_RMDIR:
		return do_names(t, o, path);
	case OP_FSYNC:
		return tree_sync(t);
	case OP_COMMIT:
		return tree_commit(t, &layer, &sealed);
	case OP_SNAPSHOT:
		return do_snapshot(t, o);
	case OP_UNSNAPSHOT:
		return do_unsnapshot(t, o);
	case OP_PAST:
		return do_past(t, o);
	case OP_LIST:
		return do_list(t, o);
	case OP_COMPACT:
		return do_compact(t, o);
	case OP_SLEEP:
		sched_sleep((int64_t)(o->tag % 8000) * 1000000);
		return 0;
	case OP_FOLLOW:
		sim_follow();
		return 0;
	case OP_FILL:
		sim_fill(o->tag);
		return 0;
	case OP_SHELVE:
		return do_shelve(t, o);
	case OP_QUOTA:
	case OP_BOUND:
		return do_quota(t, o);
	case OP_UPLOAD:
		return upload(t, o, path);
	case OP_REMOUNT:
	case OP_NKINDS:
		return 0;
	default:
		return do_data(t, o, path);
	}
}

/* Everything is there that was before an operation failed; and the caller can go on. false: it could not be looked at. */
static bool look_after(const struct caller *c, const struct op *o, int err)
{
	struct content *now[SLOTS] = { 0 };
	char path[PATH_BYTES];
	const char *why;
	bool good = true;

	for (unsigned k = 0; k < SLOTS && good; k++) {
		caller_path(c->number, k, path);
		good = !find_file(c->tree, path, &now[k]);
	}
	why = good ? model_fail(o, now[o->slot]) : NULL;
	for (unsigned k = 0; k < SLOTS && good && !why; k++) {
		const struct content *want = model_file(c->number, k);

		if (!want != !now[k] || (want && !content_same(want, now[k])))
			why = "another file has changed";
	}
	if (why)
		sim_fail("%s of caller %u, slot %u, answered %s: %s", op_names[o->kind], c->number, o->slot, strerror(-err), why);
	for (unsigned k = 0; k < SLOTS; k++)
		free(now[k]);
	return good;
}

/* May it fail so? What only reads needs no space. */
static bool may_fail(const struct script *s, const struct op *o, int err)
{
	if (script_breaks(s))
		return true;
	if (!script_is_short(s) || (o->kind == OP_READ && err == -ENOSPC) || o->kind == OP_LIST)
		return false;
	return err == s->fault.err || (s->space_bytes && err == -ENOSPC);
}

/* Behind a commit what counts is what is there, while nothing but names holds files. */
static void check_counts(const struct caller *c)
{
	struct found found[CALLERS_MAX];
	const char *why;

	if (!script_is_bound(c->script) || script_has_scratch(c->script) || c->script->ncallers > 1 || c->script->fault.nth || held[c->number])
		return;
	if (callers_find(c->tree, 1, false, found))
		sim_fail("what counts cannot be read");
	why = callers_check_quotas(c->tree, 1, script_has(c->script, OP_RESERVE), found);
	if (why)
		sim_fail("behind an fsync: %s", why);
	found_free(found);
}

static bool touches_scratch(const struct op *o)
{
	bool moves = o->kind == OP_RENAME || o->kind == OP_LINK;

	return o->kind != OP_SHELVE && (o->slot / 3 == CLASS_SCRATCH || model_is_scratch(o->caller, o->slot) || (moves && model_is_scratch(o->caller, o->to)) ||
	       ((o->kind == OP_RMDIR || o->kind == OP_LIST) && model_is_scratch(o->caller, o->slot / 3 * 3 + 2)));
}

/* 0, or how it failed, as it may. */
static int attempt(const struct caller *c, const struct op *o)
{
	int may, must, want, err;

	model_quota_due(o, &may, &must);
	want = model_start(o);
	err = do_op(c->tree, o);

	log_debug("sim: %s of caller %u, slot %u: %s", op_names[o->kind], c->number, o->slot, strerror(-err));
	sched_note((uint64_t)err);
	sched_progress();
	sim_counts->operations++;
	if (!want && !err && must)
		sim_fail("%s of caller %u, slot %u, has passed a quota", op_names[o->kind], c->number, o->slot);
	if (err == want) {
		model_end(o, err);
		bounds_check(c->tree, c->script, o);
		if (!err && o->kind == OP_FSYNC)
			check_counts(c);
		return 0;
	}
	if (err != may && touches_scratch(o) && script_loses_scratch(c->script)) {
		lost[c->number] = true;
		model_lose(o);
		return 0;
	}
	if ((want || (err != may && !bounds_refuse(c->tree, c->script, o, err))) && !may_fail(c->script, o, err))
		sim_fail("%s of caller %u, slot %u, answered %s, not %s", op_names[o->kind], c->number, o->slot, strerror(-err),
			 strerror(-want));
	if (!err_is_passing(err) || !look_after(c, o, err))
		ended[c->number] = true;
	else
		sim_counts->shorts++;
	return err;
}

/* Deletes what else the caller has. */
static void delete_others(const struct caller *c, const struct op *o)
{
	let_go(c->number);
	for (unsigned slot = 0; slot < SLOTS && !lost[c->number]; slot++) {
		struct op unlink = { .kind = OP_UNLINK, .caller = c->number, .slot = slot };

		if (slot != o->slot && slot != o->to && model_file(c->number, slot) && attempt(c, &unlink))
			sim_fail("slot %u of caller %u cannot be deleted to make space", slot, c->number);
	}
}

/* false: snapshots may need it, or it is not alone, so that others may take the space. */
static bool make_space(const struct caller *c, const struct op *o)
{
	if (c->script->ncallers > 1 || c->script->fault.nth || nsnapshots[c->number])
		return false;
	sim_fill(0);
	delete_others(c, o);
	return true;
}

/* What found no space succeeds as soon as there is some: because files were deleted, or others have given it back. */
static void succeed(const struct caller *c, const struct op *o)
{
	unsigned tries = c->script->fault.nth ? SCRIPT_SHORT_TIMES + 1 : 1;
	bool relief = !(o->tag & 1) || !make_space(c, o);
	int err;

	if (relief)
		sim_relieve(true);
	do
		err = attempt(c, o);
	while (err && --tries && !ended[c->number]);
	if (relief)
		sim_relieve(false);
	if (err && !ended[c->number])
		sim_fail("%s of caller %u, slot %u, answered %s when there was space again%s", op_names[o->kind], c->number, o->slot,
			 strerror(-err), relief ? "" : ", because files were deleted");
	sim_counts->retried++;
}

/* The same of bounds: what was deleted counts no more, be it in a snapshot. A refusal is looked at as the first was. */
static int succeed_in_bounds(const struct caller *c, const struct op *o, int err)
{
	if (c->script->ncallers > 1 || c->script->fault.nth || !(o->tag & 1))
		return err;
	delete_others(c, o);
	if (!ended[c->number] && attempt(c, &(struct op){ .kind = OP_FSYNC, .caller = c->number }))
		sim_fail("files were deleted, and cannot be synced");
	bounds_check_freed(c->tree, c->script, c->number);
	err = attempt(c, o);
	sim_counts->retried += !err;
	return err;
}

/* Quotas are taken away. */
static void succeed_without_quotas(const struct caller *c, const struct op *o)
{
	static const enum op_kind kinds[] = { OP_QUOTA, OP_BOUND };

	for (unsigned k = 0; k < 2 * QUOTAS && !ended[c->number]; k++)
		attempt(c, &(struct op){ .kind = kinds[k / QUOTAS], .caller = c->number, .slot = o->slot, .tag = k % QUOTAS });
	if (!ended[c->number] && attempt(c, o) == -EDQUOT)
		sim_fail("%s of caller %u, slot %u, finds no space without a quota", op_names[o->kind], c->number, o->slot);
	sim_counts->retried++;
}

static void perform(const struct caller *c, const struct op *o)
{
	int err = attempt(c, o);

	if (ended[c->number] || script_breaks(c->script))
		return;
	if (err == -EDQUOT || (err == -ENOSPC && c->script->size_bytes))
		err = succeed_in_bounds(c, o, err);
	if (ended[c->number])
		return;
	if (err == -EDQUOT)
		succeed_without_quotas(c, o);
	else if (err == -ENOSPC && !c->script->size_bytes)
		succeed(c, o);
}

static void *call(void *arg)
{
	const struct caller *c = arg;
	const struct script *s = c->script;

	for (unsigned i = c->first; i < c->end && !ended[c->number]; i++) {
		if (s->op[i].caller == c->number && !(lost[c->number] && (touches_scratch(&s->op[i]) || s->op[i].kind == OP_SHELVE)))
			perform(c, &s->op[i]);
	}
	let_go(c->number);
	return NULL;
}

bool callers_have_ended(void)
{
	bool any = false;

	for (unsigned k = 0; k < CALLERS_MAX; k++)
		any |= ended[k];
	return any;
}

unsigned callers_run(struct tree *t, const struct script *s, unsigned first)
{
	struct caller c[CALLERS_MAX];
	pthread_t thread[CALLERS_MAX];
	unsigned end = first;

	while (end < s->nops && s->op[end].kind != OP_REMOUNT)
		end++;
	for (unsigned k = 0; k < s->ncallers; k++) {
		char name[24];

		snprintf(name, sizeof(name), "caller%u", k);
		c[k] = (struct caller){ t, s, k, first, end };
		thread_start(name, call, &c[k], &thread[k]);
	}
	for (unsigned k = 0; k < s->ncallers; k++)
		thread_join(thread[k]);
	return end + 1;
}
