/*
 * Damage in layers, and the arrays that it hits: block entries that name no frame, and, with --data, frames that cannot be
 * decoded.
 *
 * Invariants:
 * 1. A block is said to be hit only if reading it fails as it would for a reader.
 * 2. An array of the present that is hit moves to lost+found, where its other blocks are read as before; damage that only
 *    lost+found uses, or nothing, is no error any more.
 * 3. Snapshots do not change, damaged or not.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "array/array.h"
#include "store/meta.h"
#include "tool/check/log.h"
#include "util/err.h"
#include "util/vec.h"

#define DAMAGE_MAX 10000u
#define DEPTH_MAX 300

/* An array, in the present or in snapshots, with blocks in a damaged place. */
struct hit {
	size_t damage;
	uint64_t ino, block, more;
	char *path, *snapshot; /* of the first; NULL: the present */
	int64_t also;          /* more snapshots */
};

struct hits {
	struct hit *v;
	size_t n, cap;
};

static int add_damage(struct check *c, uint64_t layer, uint64_t from, uint64_t to, const char *text)
{
	struct check_log *log = c->log;

	for (size_t i = log->ndamage; i-- > 0 && log->damage[i].layer == layer;) {
		if (from >= log->damage[i].from && from < log->damage[i].to)
			return 0;
	}
	if (log->ndamage == DAMAGE_MAX)
		return 0;
	if (VEC_RESERVE(log->damage, log->cap_damage, log->ndamage + 1))
		return -ENOMEM;
	log->damage[log->ndamage] = (struct check_damage){ .layer = layer, .from = from, .to = to };
	snprintf(log->damage[log->ndamage++].text, sizeof(log->damage->text), "%s", text);
	return 0;
}

/* Frames. */

static int load_frames(struct check_layer *l)
{
	struct check_ear ear;
	int err;

	if (l->frames || !l->file)
		return 0;
	check_listen(&ear);
	err = layer_frames(l->file, &l->frames, &l->nframes);
	check_listen_end();
	return err == -EUCLEAN ? 0 : err;
}

/* The frame in which the byte is, or NULL. */
static const struct layer_frame *frame_at(const struct check_layer *l, uint64_t off)
{
	size_t at = VEC_LOWER_BOUND(i, l->nframes, l->frames[i].off + l->frames[i].len <= off);

	return at < l->nframes && l->frames[at].off <= off ? &l->frames[at] : NULL;
}

/* A missing layer was told of; what points into it is still to be found. */
static int check_entry(struct check *c, const struct layer_block *b)
{
	struct check_layer *l = b->frame_off ? check_log_find(c, b->layer) : NULL;
	const struct layer_frame *f;
	int err;

	if (!b->frame_off)
		return 0;
	if (!l)
		return add_damage(c, b->layer, 0, UINT64_MAX, "it does not exist");
	if (!l->file)
		return add_damage(c, b->layer, 0, UINT64_MAX, "it is missing or damaged");
	err = load_frames(l);
	if (err || !l->frames)
		return err;
	f = frame_at(l, b->frame_off);
	if (f && f->off == b->frame_off && f->len == b->frame_len && f->raw == b->frame_raw && f->raw)
		return 0;
	return add_damage(c, b->layer, b->frame_off, b->frame_off + b->frame_len, "no such frame");
}

int check_entries(struct check *c)
{
	int err = 0;

	for (size_t i = 0; i < c->log->n; i++) {
		const struct index *ix = c->log->v[i].whole && c->log->v[i].replayed ? layer_index(c->log->v[i].file) : NULL;

		for (size_t r = 0; ix && r < ix->n; r++) {
			for (size_t k = 0; k < ix->v[r]->nblocks && !err; k++)
				err = check_entry(c, &ix->v[r]->blocks[k]);
		}
		if (err)
			return err;
	}
	return 0;
}

/* The arrays that it hits. */

/* Invariant 1. */
static bool readable(struct check *c, const struct layer_block *b)
{
	struct check_layer *l = check_log_find(c, b->layer);
	struct check_ear ear;
	void *out;
	int err;

	if (!l || !l->file)
		return false;
	out = malloc(b->frame_raw ? b->frame_raw : 1);
	if (!out)
		return false;
	check_listen(&ear);
	err = layer_decode(l->file, b, "", 0, out);
	check_listen_end();
	free(out);
	return !err;
}

/* Those from `first` on are of the same snapshot. */
static int add_hit(struct hits *hits, size_t first, size_t damage, const struct index_record *r, uint64_t block,
		   const char *snapshot)
{
	struct hit *h;

	for (size_t i = first; i < hits->n; i++) {
		h = &hits->v[i];
		if (h->damage == damage && h->ino == r->facts.ino) {
			h->more++;
			return 0;
		}
	}
	/* Those of earlier snapshots. */
	for (size_t i = 0; snapshot && i < first; i++) {
		h = &hits->v[i];
		if (h->damage == damage && h->ino == r->facts.ino && h->snapshot) {
			h->also += strcmp(h->snapshot, snapshot) != 0;
			return 0;
		}
	}
	if (VEC_RESERVE(hits->v, hits->cap, hits->n + 1))
		return -ENOMEM;
	h = &hits->v[hits->n];
	*h = (struct hit){ .damage = damage, .ino = r->facts.ino, .block = block, .snapshot = snapshot ? strdup(snapshot) : NULL };
	if (snapshot && !h->snapshot)
		return -ENOMEM;
	hits->n++;
	return 0;
}

/* The path in a past state, from back to front; malloc'd. */
static char *past_path(const struct index *ix, uint64_t ino)
{
	char path[4096];
	size_t at = sizeof(path) - 1;

	path[at] = '\0';
	for (int depth = 0; ino != META_INO_LAYERS && depth < DEPTH_MAX; depth++) {
		const struct index_name *n = ix->names, *end = ix->names + ix->nnames;
		size_t len;

		while (n < end && n->ino != ino)
			n++;
		len = n < end ? strlen(n->name) : 0;
		if (n == end || len + 1 > at)
			break;
		if (path[at])
			path[--at] = '/';
		at -= len;
		memcpy(path + at, n->name, len);
		ino = n->parent;
	}
	return strdup(path + at);
}

/* All blocks of a state; snapshot NULL: the present. */
static int find_hits(struct check *c, struct hits *hits, const struct index *ix, const char *snapshot)
{
	size_t first = hits->n;
	int err = 0;

	for (size_t i = 0; i < ix->n; i++) {
		const struct index_record *r = ix->v[i];

		for (size_t k = 0; k < r->nblocks; k++) {
			const struct layer_block *b = &r->blocks[k];

			for (size_t d = 0; d < c->log->ndamage && b->frame_off && !err; d++) {
				const struct check_damage *g = &c->log->damage[d];

				if (g->layer != b->layer || b->frame_off + b->frame_len <= g->from || b->frame_off >= g->to ||
				    readable(c, b))
					continue;
				err = add_hit(hits, first, d, r, b->block, snapshot);
			}
		}
	}
	for (size_t i = first; i < hits->n && snapshot && !err; i++) {
		hits->v[i].path = past_path(ix, hits->v[i].ino);
		err = hits->v[i].path ? 0 : -ENOMEM;
	}
	return err;
}

/* layer, one name, how many */
static int find_past_hits(struct check *c, sqlite3_value **v)
{
	struct index ix;
	char *name;
	int err = check_log_state(c, (uint64_t)check_int(v[0]), &ix);

	if (err)
		return err == -ENOENT ? 0 : err;
	name = strndup(sqlite3_value_bytes(v[1]) ? sqlite3_value_blob(v[1]) : "", (size_t)sqlite3_value_bytes(v[1]));
	err = name ? find_hits(c, c->ctx, &ix, name) : -ENOMEM;
	free(name);
	index_fini(&ix);
	return err;
}

/* Telling. */

/* Has it no name outside lost+found? */
static int is_lost(struct check *c, uint64_t ino, bool *out)
{
	int64_t n;
	int err = check_number(c, 0, &n, "SELECT count(*) FROM names WHERE ino=? AND parent NOT IN (SELECT ino FROM names"
			       " WHERE parent=4 AND substr(name, 1, 10)=CAST('lost+found' AS BLOB))", "i", (int64_t)ino);

	if (!err)
		*out = !n;
	return err;
}

/* Invariant 2; true in *error if it is told of. */
static int move_array(struct check *c, uint64_t ino, bool *error)
{
	int64_t moved = 0;
	bool lost = false;
	int err = is_lost(c, ino, &lost);

	if (!err && sqlite3_exec(c->db, "CREATE TEMP TABLE IF NOT EXISTS moved(ino INTEGER PRIMARY KEY)", NULL, NULL, NULL))
		err = check_db_fail(c);
	if (!err)
		err = check_number(c, 0, &moved, "SELECT 1 FROM temp.moved WHERE ino=?", "i", (int64_t)ino);
	if (err)
		return err;
	*error = !lost || moved;
	if (lost && moved)
		check_mended(c, "it was moved");
	if (lost)
		return 0;
	err = check_change(c, "INSERT OR IGNORE INTO temp.moved VALUES(?)", "i", (int64_t)ino);
	return err ? err : check_lose(c, (int64_t)ino, ARRAY_LAYERED);
}

static void tell_place(const struct check_damage *d, char *out, size_t cap)
{
	char path[LAYER_NAME_MAX];

	layer_path(d->layer, path);
	if (d->to == UINT64_MAX)
		snprintf(out, cap, "%s: %s", path, d->text);
	else
		snprintf(out, cap, "%s at byte %" PRIu64 ": %s", path, d->from, d->text);
}

static int tell_hit(struct check *c, const struct hit *h, bool *any)
{
	char place[300], more[48] = "", also[48] = "";
	const char *who = h->snapshot ? "" : check_who(c, (int64_t)h->ino);
	bool error = h->path ? strncmp(h->path, "lost+found", 10) != 0 : true;
	int err = h->snapshot ? 0 : move_array(c, h->ino, &error);

	if (err || !error)
		return err;
	*any = true;
	tell_place(&c->log->damage[h->damage], place, sizeof(place));
	if (h->more)
		snprintf(more, sizeof(more), " and %" PRIu64 " more", h->more);
	if (h->also)
		snprintf(also, sizeof(also), " and %" PRId64 " more", h->also);
	if (h->snapshot)
		check_found(c, "%s; block %" PRIu64 "%s of %s in snapshot %s%s", place, h->block, more,
			    check_quote(c, h->path, strlen(h->path)), check_quote(c, h->snapshot, strlen(h->snapshot)), also);
	else
		check_found(c, "%s; block %" PRIu64 "%s of %s", place, h->block, more, who);
	return 0;
}

static int tell_all(struct check *c, const struct hits *hits)
{
	int err = 0;

	for (size_t d = 0; d < c->log->ndamage && !err; d++) {
		char place[300];
		bool any = false;

		for (size_t i = 0; i < hits->n && !err; i++) {
			if (hits->v[i].damage == d)
				err = tell_hit(c, &hits->v[i], &any);
		}
		tell_place(&c->log->damage[d], place, sizeof(place));
		if (!err && !any && c->log->damage[d].to != UINT64_MAX)
			check_remark(c, "%s; nothing outside lost+found needs it", place);
	}
	return err;
}

int check_damage_tell(struct check *c)
{
	struct hits hits = { 0 };
	int err = 0;

	if (!c->log->ndamage)
		return 0;
	c->ctx = &hits;
	if (c->log->known)
		err = find_hits(c, &hits, &c->log->now, NULL);
	if (!err)
		err = check_rows(c, "SELECT layer, min(name) FROM snapshots GROUP BY layer ORDER BY layer", find_past_hits);
	if (!err)
		err = tell_all(c, &hits);
	c->ctx = NULL;
	for (size_t i = 0; i < hits.n; i++) {
		free(hits.v[i].path);
		free(hits.v[i].snapshot);
	}
	free(hits.v);
	c->log->ndamage = 0;
	return err;
}

/* The frames. */

struct reading {
	struct check *c;
	struct check_layer *l;
	uint64_t before_bytes, total_bytes;
	int err;
};

/* In a frame of blocks it may hit arrays; elsewhere it is told of at once. */
static void hear_damage(void *ctx, const char *object, uint64_t off, const char *text)
{
	struct reading *all = ctx;
	const struct layer_frame *f = frame_at(all->l, off);

	if (f && f->raw && !all->err)
		all->err = add_damage(all->c, all->l->number, f->off, f->off + f->len, text);
	else
		check_found(all->c, "%s at byte %" PRIu64 ": %s", object, off, text);
}

static int tick(void *ctx, uint64_t done_bytes)
{
	struct reading *all = ctx;

	return all->err ? all->err : check_tick(all->c, all->before_bytes + done_bytes, all->total_bytes);
}

int check_pass_frames(struct check *c)
{
	struct reading all = { .c = c };
	int err = 0;

	for (size_t i = 0; i < c->log->n; i++)
		all.total_bytes += c->log->v[i].file ? c->log->v[i].bytes : 0;
	for (size_t i = 0; i < c->log->n && !err; i++) {
		struct check_layer *l = &c->log->v[i];

		if (!l->whole)
			continue; /* told of */
		err = load_frames(l);
		if (err)
			break;
		all.l = l;
		err_set_listener(hear_damage, &all);
		err = layer_verify(l->file, true, tick, &all);
		err_set_listener(NULL, NULL);
		if (err == -EUCLEAN)
			err = 0;
		all.before_bytes += l->bytes;
	}
	return err ? err : check_damage_tell(c);
}
