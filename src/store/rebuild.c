/*
 * Rebuilding meta.db.
 *
 * Invariants:
 *  1. Nothing of the store is deleted; what cannot be used is moved to lost+found, or said to be lost. layers/HEAD, which may name
 *     a layer that is lost, is written when that is durable.
 *  2. The rows are one transaction: a crash before it leaves a store without meta.db, or with one that has no rows. A mount refuses both
 *     (store.c), and another rebuild finds what this one has found. So meta.db goes first, and nothing changes where it may not go.
 *  3. A layer behind a damaged one is not applied: it would mix two moments.
 */
#include "store/rebuild.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/format.h"
#include "block/layer.h"
#include "store/classes.h"
#include "store/disks.h"
#include "store/layers/state.h"
#include "store/layers/inside.h"
#include "store/ref.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/log.h"
#include "util/number.h"

struct rebuild {
	struct store *s;
	struct meta *m;
	struct index full;
	struct layer *open; /* NULL: none */
	uint64_t open_number, open_bytes, open_segment;
	uint64_t last; /* highest number that a layer file or HEAD has */
	bool moved;    /* layers, to lost+found */
	uint32_t *names;    /* for each record: how many point to it; directories: subdirectories */
	uint64_t *parents;  /* of directories */
	int64_t now_ns;
	void (*say)(void *ctx, const char *line);
	void *ctx;
	struct rebuild_report report;
};

static void lose(struct rebuild *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void lose(struct rebuild *r, const char *fmt, ...)
{
	char line[4608];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	r->say(r->ctx, line);
	r->report.lost++;
}

/* The state. */

struct find_open {
	struct rebuild *r;
	uint64_t best;
};

static int see_open(void *ctx, const char *name)
{
	struct find_open *f = ctx;
	uint64_t number;

	if (!layer_name_parse(name, &number) && number > f->best && !layers_slot_find(f->r->s->layers, number))
		f->best = number;
	return 0;
}

/* Applies the segments that were committed after the newest layer was sealed. */
static int apply_open(struct rebuild *r)
{
	struct store *s = r->s;
	struct find_open f = { .r = r };
	int err = io_list(s->dir, "layers", see_open, &f);

	if (err || !f.best)
		return err;
	err = layer_salvage(s->dir, f.best, s->uuid, &r->open, &r->open_bytes, &r->open_segment);
	if (err == -ENODATA)
		return 0; /* nothing of it was committed */
	if (err == -EUCLEAN) {
		lose(r, "layers: layer %llu was open and is damaged: what was written since layer %llu was sealed is lost",
		     (unsigned long long)f.best, (unsigned long long)r->report.newest);
		return 0;
	}
	if (err)
		return err;
	r->open_number = r->report.open_layer = f.best;
	return index_merge(&r->full, layer_index(r->open));
}

/* A name of a file or HEAD may say any number. */
static void see_number(struct rebuild *r, uint64_t number)
{
	if (number > r->last && number < LAYERS_NUMBER_MAX)
		r->last = number;
}

static int take_state(struct rebuild *r)
{
	struct layers *ls = r->s->layers;
	struct state *state;
	uint64_t bad;
	int err = layers_follow_best(ls, &bad);

	if (!err)
		err = state_open(ls, 0, &state);
	if (err)
		return err;
	r->report.newest = state_number(state);
	err = state_merge(state, &r->full);
	state_put(state);
	if (err)
		return err;
	see_number(r, r->report.newest);
	see_number(r, bad);
	if (bad)
		lose(r, "layers: layer %llu cannot be read, or one that it needs: the state is that of layer %llu, what came later is lost",
		     (unsigned long long)bad, (unsigned long long)r->report.newest);
	else
		err = apply_open(r);
	if (!err)
		index_flatten(&r->full);
	return err;
}

/* A layer that was moved there keeps its number for itself. */
static int see_saved(void *ctx, const char *name)
{
	struct rebuild *r = ctx;
	uint64_t number;

	if (layer_name_parse(name, &number))
		return 0;
	see_number(r, number);
	lose(r, "layers: lost+found/%s was moved there by a rebuild before", name);
	return 0;
}

/* Files that no row will name would be deleted by the next mount. */
static int save_layer(void *ctx, const char *name)
{
	struct rebuild *r = ctx;
	char from[LAYER_NAME_MAX], to[64];
	struct layers_slot *slot;
	uint64_t number;
	int err;

	if (layer_name_parse(name, &number))
		return 0;
	see_number(r, number);
	slot = layers_slot_find(r->s->layers, number);
	/* Layers behind the state build upon something damaged, even those that are whole themselves. */
	if (number == r->open_number || (slot && r->s->layers->newest && !layers_slot_newer(slot, r->s->layers->newest)))
		return 0;
	err = io_mkdir(r->s->dir, "lost+found");
	layer_path(number, from);
	snprintf(to, sizeof(to), "lost+found/%s", name);
	if (!err)
		err = io_rename(r->s->dir, from, to);
	if (!err)
		lose(r, "layers: %s is not part of a whole state, moved to lost+found", name);
	r->moved |= !err;
	return err;
}

/* Each directory of the store has a lost+found of its own. NULL: there are no more. */
static struct io_dir *part(struct rebuild *r, unsigned i)
{
	struct io_spread_state state;

	if (io_spread_look(r->s->dir, i, &state))
		return io_spread_part(r->s->dir, i);
	return i ? NULL : io_spread_home(r->s->dir);
}

static int see_all_saved(struct rebuild *r)
{
	struct io_dir *dir;
	int err = 0;

	for (unsigned i = 0; !err && (dir = part(r, i)); i++) {
		err = io_list(dir, "lost+found", see_saved, r);
		if (err == -ENOENT)
			err = 0;
	}
	return err;
}

static int sync_saved(struct rebuild *r)
{
	struct io_dir *dir;
	int err = 0;

	for (unsigned i = 0; !err && (dir = part(r, i)); i++) {
		err = io_dir_sync(dir, ".");
		if (!err)
			err = io_dir_sync(dir, "lost+found");
		if (i && err == -ENOENT)
			err = 0; /* nothing of it was moved */
	}
	return err;
}

static int save_layers(struct rebuild *r)
{
	struct io_dir *dir = r->s->dir;
	int err = see_all_saved(r);

	if (!err)
		err = io_list(dir, "layers", save_layer, r);
	if (!err && r->moved)
		err = sync_saved(r);
	if (!err && r->moved)
		err = io_dir_sync(dir, "layers");
	return err;
}

/* Inodes and names. */

static bool is_top(uint64_t ino)
{
	const struct class *class = class_by_ino(ino);

	return class && class->logged;
}

static int column_path(uint64_t file_id, char out[64])
{
	return snprintf(out, 64, "columns/%llu", (unsigned long long)file_id);
}

/* The bytes that a column's file has; they are its length. -ENOENT. */
static int column_size(struct rebuild *r, uint64_t file_id, uint64_t *size, uint64_t *stored)
{
	char path[64];
	struct io *f;
	int err;

	column_path(file_id, path);
	err = io_open(r->s->dir, path, IO_RDONLY, &f);
	if (err)
		return err;
	err = io_size(f, size, stored);
	io_close(f);
	return err;
}

/* Columns without their file cannot come back. */
static int drop_lost_columns(struct rebuild *r)
{
	for (size_t i = 0; i < r->full.n; i++) {
		struct index_record *rec = r->full.v[i];
		int err;

		if (rec->facts.kind != ARRAY_COLUMN || !S_ISREG(rec->facts.mode) || !rec->facts.file_id)
			continue;
		err = column_size(r, rec->facts.file_id, &rec->facts.size_bytes, &rec->facts.stored_bytes);
		if (err == -ENOENT) {
			lose(r, "columns: %s: its file, columns/%llu, is not there", rec->path, (unsigned long long)rec->facts.file_id);
			index_record_gone(rec);
		} else if (err) {
			return err;
		}
	}
	index_flatten(&r->full);
	return 0;
}

static int count_names(struct rebuild *r)
{
	r->names = calloc(r->full.n + 1, sizeof(*r->names));
	r->parents = calloc(r->full.n + 1, sizeof(*r->parents));
	if (!r->names || !r->parents)
		return -ENOMEM;
	for (size_t i = 0; i < r->full.nnames; i++) {
		const struct index_name *n = &r->full.names[i];
		size_t child = index_where(&r->full, n->ino), parent = index_where(&r->full, n->parent);

		if (child == SIZE_MAX || (parent == SIZE_MAX && !is_top(n->parent)))
			continue;
		if (S_ISDIR(r->full.v[child]->facts.mode)) {
			r->parents[child] = n->parent;
			if (parent != SIZE_MAX)
				r->names[parent]++;
		} else {
			r->names[child]++;
		}
	}
	return 0;
}

static int put_xattr(void *ctx, const char *name, const void *value, size_t len)
{
	void **args = ctx;

	return meta_xattr_set_locked(args[0], *(uint64_t *)args[1], name, value, len);
}

static int put_inode(struct rebuild *r, size_t i)
{
	const struct index_record *rec = r->full.v[i];
	bool dir = S_ISDIR(rec->facts.mode), root = rec->facts.ino == META_INO_ROOT, top = root || is_top(rec->facts.ino);
	struct facts row = rec->facts;
	void *args[] = { r->m, &row.ino };
	int err;

	row.nlink = root ? 2 + CLASSES_N : r->names[i] + (dir ? 2 : 0);
	row.parent = top ? META_INO_ROOT : r->parents[i];
	if (dir && !row.parent)
		row.nlink = 0; /* removed, and known to somebody at the time */
	err = meta_inode_store_locked(r->m, &row);
	if (!err && S_ISLNK(rec->facts.mode))
		err = meta_blob_set_locked(r->m, rec->facts.ino, META_BLOB_SYMLINK, rec->target, strlen(rec->target));
	if (!err && rec->data_len)
		err = meta_blob_set_locked(r->m, rec->facts.ino, META_BLOB_INLINE, rec->data, rec->data_len);
	if (!err)
		err = index_record_xattr_walk(rec, put_xattr, args);
	if (!row.nlink || top)
		return err;
	if (rec->facts.kind == ARRAY_COLUMN)
		r->report.columns += S_ISREG(rec->facts.mode);
	else if (S_ISREG(rec->facts.mode))
		r->report.files++;
	else if (dir)
		r->report.directories++;
	else
		r->report.others++;
	return err;
}

static int put_tree(struct rebuild *r)
{
	int err = drop_lost_columns(r);

	if (!err)
		err = count_names(r);
	for (size_t i = 0; i < r->full.n && !err; i++)
		err = put_inode(r, i);
	for (size_t i = 0; i < r->full.nnames && !err; i++) {
		const struct index_name *n = &r->full.names[i];

		if (index_where(&r->full, n->ino) != SIZE_MAX && (is_top(n->parent) || index_where(&r->full, n->parent) != SIZE_MAX))
			err = meta_name_insert_locked(r->m, n->parent, n->name, n->ino);
	}
	return err;
}

/* Column files that no record knows: columns/lost+found gets them. */

struct strays {
	struct rebuild *r;
	uint64_t dir;
};

static int make_lost_found(struct strays *st)
{
	struct rebuild *r = st->r;
	struct facts top;
	struct facts row = {
		.kind = ARRAY_COLUMN, .mode = S_IFDIR | 0700, .nlink = 2, .uid = geteuid(), .gid = getegid(),
		.parent = META_INO_COLUMNS, .atime_ns = r->now_ns, .mtime_ns = r->now_ns, .ctime_ns = r->now_ns, .btime_ns = r->now_ns,
	};
	int err = meta_name_find_locked(r->m, META_INO_COLUMNS, "lost+found", &st->dir);

	if (err != -ENOENT)
		return err;
	meta_inode_next_locked(r->m, &row.ino);
	st->dir = row.ino;
	err = meta_inode_store_locked(r->m, &row);
	if (!err)
		err = meta_name_insert_locked(r->m, META_INO_COLUMNS, "lost+found", row.ino);
	if (!err)
		err = meta_inode_load_locked(r->m, META_INO_COLUMNS, &top);
	return err ? err : meta_inode_relink_locked(r->m, META_INO_COLUMNS, top.nlink + 1, META_INO_ROOT, r->now_ns);
}

static int adopt_column(void *ctx, const char *name)
{
	struct strays *st = ctx;
	struct rebuild *r = st->r;
	struct facts row = {
		.kind = ARRAY_COLUMN, .mode = S_IFREG | 0600, .nlink = 1, .uid = geteuid(), .gid = getegid(), .atime_ns = r->now_ns,
		.mtime_ns = r->now_ns, .ctime_ns = r->now_ns, .btime_ns = r->now_ns,
	};
	bool known;
	int err;

	if (number_of_name(name, 1, "", &row.file_id) || !row.file_id)
		return 0;
	err = meta_column_exists_locked(r->m, row.file_id, &known);
	if (err || known)
		return err;
	err = column_size(r, row.file_id, &row.size_bytes, &row.stored_bytes);
	if (!err && !st->dir)
		err = make_lost_found(st);
	meta_inode_next_locked(r->m, &row.ino);
	if (!err)
		err = meta_inode_store_locked(r->m, &row);
	if (!err)
		err = meta_name_insert_locked(r->m, st->dir, name, row.ino);
	r->report.columns_found += !err;
	return err;
}

/* Layers and snapshots. */

/* Inode numbers that only older states have are not given again, either. */
static int reserve_inos(struct rebuild *r, struct layers_slot *slot)
{
	const struct index *ix;
	int err = layers_slot_load(r->s->layers, slot, true);

	if (err)
		return err;
	ix = layer_index(slot->file);
	if (ix->n)
		meta_inode_reserve_locked(r->m, ix->v[ix->n - 1]->facts.ino);
	return 0;
}

static int put_layers(struct rebuild *r)
{
	struct layers *ls = r->s->layers;
	const struct layers_live *l;
	struct layers_tally t = { 0 };
	uint64_t commit = 0;
	int err = layers_tally_index(&t, &r->full, NULL);

	for (size_t i = 0; i < ls->n && !err; i++) {
		struct meta_layer *row = &ls->v[i]->row;

		if (!ls->newest || layers_slot_newer(ls->v[i], ls->newest))
			continue;
		err = reserve_inos(r, ls->v[i]);
		l = layers_tally_find(&t, row->number);
		row->live_bytes = l ? l->bytes : 0;
		if (!err && row->state == META_LAYER_FULL && !row->refs.v)
			err = layers_refs(layer_index(ls->v[i]->file), row->number, &row->refs);
		if (!err)
			err = meta_layer_put_locked(r->m, row);
		commit = row->commit > commit ? row->commit : commit;
	}
	if (!err && r->open) {
		struct meta_layer row = { .number = r->open_number, .bytes = r->open_bytes, .segment_off = r->open_segment,
					  .time_ns = r->now_ns };

		l = layers_tally_find(&t, row.number);
		row.live_bytes = l ? l->bytes : 0;
		err = meta_layer_put_locked(r->m, &row);
	}
	free(t.v);
	if (!err)
		err = meta_fact_set_locked(r->m, "next_layer", (int64_t)(r->last + 1));
	/* Above all that the lost database can have given. */
	if (!err)
		err = meta_fact_set_locked(r->m, "commit", (int64_t)(commit + 1000000));
	if (!err)
		err = meta_fact_set_locked(r->m, "logged", (int64_t)(commit + 1000000));
	/* Some directory may have such attributes. */
	if (!err)
		err = meta_fact_set_locked(r->m, META_FACT_QUOTAS, 1);
	if (!err)
		err = meta_fact_set_locked(r->m, META_FACT_SHELVES, 1);
	return err;
}

static int put_snapshots(struct rebuild *r)
{
	struct layers *ls = r->s->layers;
	struct layers_snapshot s = { .name = "" };
	int err = 0;

	while (!err && !layers_snapshot_next(ls, s.name, &s)) {
		struct state *state;

		err = state_open(ls, s.layer, &state);
		if (err_is_passing(err))
			return err;
		if (err) {
			lose(r, "snapshots: %s: layer %llu, or one that it builds upon, is lost", s.name, (unsigned long long)s.layer);
			err = 0;
			continue;
		}
		state_put(state);
		err = meta_snapshot_put_locked(r->m, s.name, s.layer, s.time_ns);
		r->report.snapshots += !err;
	}
	return err;
}

static int see_pool(void *ctx, const char *name)
{
	struct rebuild *r = ctx;
	uint64_t size = 0, stored = 0;
	char path[300];
	struct io *f;

	snprintf(path, sizeof(path), "pool/%s", name);
	if (io_open(r->s->dir, path, IO_RDONLY, &f))
		return 0;
	if (!io_size(f, &size, &stored) && size)
		lose(r, "buckets: %s had %llu bytes of buckets, which are scratch and do not come back", path,
		     (unsigned long long)size);
	io_close(f);
	return 0;
}

static int put_all(struct rebuild *r)
{
	struct strays st = { .r = r };
	int err = put_tree(r);

	if (!err)
		err = meta_roots_locked(r->m);
	if (!err)
		err = io_list(r->s->dir, "columns", adopt_column, &st);
	if (!err)
		err = put_layers(r);
	if (!err)
		err = put_snapshots(r);
	return err ? err : meta_commit_locked(r->m);
}

/* Something has the name, be it a file or not. */
static bool is_there(struct io_dir *dir, const char *name)
{
	struct io *f;
	int err = io_open(dir, name, IO_RDONLY, &f);

	if (!err)
		io_close(f);
	return err != -ENOENT;
}

static int refuse_existing(struct rebuild *r, const char *shown, struct store_refusal *why)
{
	if (!is_there(r->s->dir, "meta.db"))
		return 0;
	snprintf(why->text, sizeof(why->text), "%s: meta.db is there; --force rebuilds all the same, and keeps it as meta.db.before-rebuild-TIME", shown);
	return -EEXIST;
}

/* meta.db and its log keep their bytes under another name. */
static int set_aside(struct rebuild *r)
{
	static const char *const files[] = { "meta.db", "meta.db-wal", "meta.db-shm" };
	int err;

	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
		char to[80];

		if (!is_there(r->s->dir, files[i]))
			continue;
		snprintf(to, sizeof(to), "%s.before-rebuild-%lld", files[i], (long long)(r->now_ns / CLOCK_SECOND_NS));
		err = io_rename(r->s->dir, files[i], to);
		/* meta.db without its log would be an older one. */
		if (!err)
			err = io_dir_sync(r->s->dir, ".");
		if (err)
			return err;
	}
	return 0;
}

/* HEAD may name a layer that is lost. */
static int write_head(struct rebuild *r)
{
	struct io_dir *dir = r->s->dir;
	char text[REF_TEXT_MAX];
	int err;

	if (!r->report.newest) {
		err = io_unlink(dir, "layers/HEAD");
		if (err == -ENOENT)
			err = 0;
	} else {
		ref_head_text(r->report.newest, text);
		err = io_replace(dir, "layers/HEAD", "layers/HEAD.tmp", text, strlen(text));
	}
	return err ? err : io_dir_sync(dir, "layers");
}

static int run(struct rebuild *r, bool replace, const char *shown, struct store_refusal *why)
{
	struct store *s = r->s;
	int err = replace ? 0 : refuse_existing(r, shown, why);

	/* All that a rebuild needs is read before anything is changed. */
	if (!err)
		err = take_state(r);
	if (!err)
		err = set_aside(r);
	/* A copy of the store that is older is no store from here on, but not before it has no meta.db. */
	if (!err)
		err = disks_count_mount(s);
	if (!err)
		err = save_layers(r);
	if (!err)
		err = write_head(r);
	if (err)
		return err;
	io_list(s->dir, "pool", see_pool, r);
	err = meta_open(s->dir, &r->m);
	if (err)
		return err;
	meta_lock(r->m);
	err = put_all(r);
	meta_unlock(r->m);
	if (!err)
		err = meta_sync(r->m);
	meta_close(r->m);
	return err;
}

int store_rebuild(struct io_dir *dir, const struct store_disk *home, const char *shown, bool replace, void (*say)(void *ctx, const char *line), void *ctx,
		  struct rebuild_report *out, struct store_refusal *why)
{
	const struct store_config config = { .follow = true, .alone = true, .cache_bytes = 1 << 20, .dirty_bytes = 1 << 20,
					     .home = home ? *home : (struct store_disk){ 0 } };
	struct rebuild r = { .say = say, .ctx = ctx };
	int err = store_open(dir, shown, &config, &r.s, why);

	if (err)
		return err;
	r.now_ns = clock_now_ns();
	index_init(&r.full);
	err = run(&r, replace, shown, why);
	if (r.open)
		layer_close(r.open);
	index_fini(&r.full);
	free(r.names);
	free(r.parents);
	store_close(r.s);
	if (err && !why->text[0])
		snprintf(why->text, sizeof(why->text), "%s: %s", shown, err_text(err));
	if (!err)
		*out = r.report;
	return err;
}
