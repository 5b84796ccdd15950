/*
 * The pass over the log: the state that the newest sealed layer's chain and the open layer give, against the rows of what is
 * under layers/.
 *
 * Invariants:
 * 1. The rows count: a repair leaves them as they are, and has the next mount tell the log (fact `relog`). Until it has, the
 *    differences are expected.
 * 2. Files without a name are not compared: the next mount deletes them.
 * 3. The bytes of a layer that are said to be live are an estimate, because a compaction packs anew what an open array still
 *    counts as it was. But 0 must mean that nothing points into it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "array/array.h"
#include "store/meta.h"
#include "tool/check/log.h"

/* An estimate may be wrong by that much, and by a part of the layer. */
#define LIVE_SLACK 4096u

/* The present: also what was committed since the newest layer was sealed. */
static int take_now(struct check *c)
{
	struct check_layer *sealed = NULL, *open = NULL;
	struct index ix;
	int64_t newest = 0;
	int err = check_number(c, 0, &newest, "SELECT " CHECK_NEWEST_LAYER, "");

	for (size_t i = 0; i < c->log->n && !err; i++) {
		if (c->log->v[i].state && c->log->v[i].number != (uint64_t)newest)
			continue;
		if (c->log->v[i].state)
			sealed = &c->log->v[i];
		else
			open = &c->log->v[i];
	}
	index_init(&ix);
	if (!err && open && !open->whole)
		err = -ENOENT;
	if (!err && sealed)
		err = check_log_state(c, sealed->number, &ix);
	if (!err && open)
		err = index_merge(&ix, layer_index(open->file));
	if (err) {
		index_fini(&ix);
		return err;
	}
	index_flatten(&ix);
	c->log->now = ix;
	c->log->known = true;
	return 0;
}

/* Inodes. */

enum { ROW_NONE, ROW_NAMELESS, ROW_NAMED };

/* The pass notes of each record the row that it has, and whether the log has a name for it. */
struct seen {
	uint8_t *row;
	bool *named;
	bool expected; /* the next mount tells the log anyway */
	uint64_t nnames;
};

static struct seen *seen(struct check *c)
{
	return c->ctx;
}

static const struct index *now(struct check *c)
{
	return &c->log->now;
}

static int mend_log(struct check *c)
{
	return check_mend(c, "the next mount notes it in the log", "REPLACE INTO facts(key, value) VALUES('relog', 1)", "");
}

static int other_fact(struct check *c, int64_t ino, const char *what, int64_t row, int64_t log)
{
	int err = mend_log(c);

	if (!err)
		check_found(c, "%s: its %s is %" PRId64 ", the log has %" PRId64, check_who(c, ino), what, row, log);
	return err;
}

/* ino, mode, uid, gid, size, mtime, nlink */
static int compare_row(struct check *c, sqlite3_value **v)
{
	int64_t ino = check_int(v[0]);
	size_t at = index_where(now(c), (uint64_t)ino);
	const struct index_record *r = at == SIZE_MAX ? NULL : now(c)->v[at];
	int err = 0;

	if (r)
		seen(c)->row[at] = check_int(v[6]) ? ROW_NAMED : ROW_NAMELESS;
	if (!check_int(v[6]) || seen(c)->expected)
		return 0;
	if (!r) {
		err = mend_log(c);
		if (!err)
			check_found(c, "%s is not in the log", check_who(c, ino));
		return err;
	}
	if (r->facts.mode != check_int(v[1]))
		err = other_fact(c, ino, "mode", check_int(v[1]), r->facts.mode);
	if (!err && r->facts.uid != check_int(v[2]))
		err = other_fact(c, ino, "uid", check_int(v[2]), r->facts.uid);
	if (!err && r->facts.gid != check_int(v[3]))
		err = other_fact(c, ino, "gid", check_int(v[3]), r->facts.gid);
	if (!err && (int64_t)r->facts.size_bytes != check_int(v[4]))
		err = other_fact(c, ino, "size", check_int(v[4]), (int64_t)r->facts.size_bytes);
	if (!err && r->facts.mtime_ns != check_int(v[5]))
		err = other_fact(c, ino, "time of change", check_int(v[5]), r->facts.mtime_ns);
	return err;
}

static int compare_inodes(struct check *c)
{
	int err = check_rows(c, "SELECT ino, mode, uid, gid, size, mtime, nlink FROM inodes WHERE kind=" CHECK_LAYERED
			     " AND NOT " CHECK_FIXED("ino") " ORDER BY ino",
			     compare_row);

	for (size_t i = 0; i < now(c)->n && !err && !seen(c)->expected; i++) {
		const struct index_record *r = now(c)->v[i];

		if (r->facts.kind != ARRAY_LAYERED || seen(c)->row[i] || !seen(c)->named[i] || r->facts.ino < META_INO_FIRST)
			continue;
		err = mend_log(c);
		if (!err)
			check_found(c, "inode %" PRIu64 ", once %s, is in the log, but has no row", r->facts.ino,
				    check_quote(c, r->path, strlen(r->path)));
	}
	return err;
}

/* Names. */

static bool is_layered_dir(struct check *c, uint64_t ino)
{
	const struct index_record *r = ino == META_INO_LAYERS ? NULL : index_find(now(c), ino);

	return ino == META_INO_LAYERS || (r && r->facts.kind == ARRAY_LAYERED);
}

static uint64_t count_names(struct check *c)
{
	uint64_t n = 0;

	for (size_t i = 0; i < now(c)->nnames; i++) {
		const struct index_name *name = &now(c)->names[i];
		size_t at = index_where(now(c), name->ino);

		if (!is_layered_dir(c, name->parent))
			continue;
		n++;
		if (at != SIZE_MAX)
			seen(c)->named[at] = true;
	}
	return n;
}

/* parent, name, ino */
static int compare_name(struct check *c, sqlite3_value **v)
{
	size_t len = (size_t)sqlite3_value_bytes(v[1]);
	char name[META_NAME_MAX + 1];
	uint64_t ino = 0;
	int err;

	if (!len || len > META_NAME_MAX || memchr(sqlite3_value_blob(v[1]), 0, len))
		return 0; /* the pass "names" tells */
	memcpy(name, sqlite3_value_blob(v[1]), len);
	name[len] = '\0';
	if (index_name_find(now(c), (uint64_t)check_int(v[0]), name, &ino) && ino) {
		seen(c)->nnames++;
		if (ino == (uint64_t)check_int(v[2]))
			return 0;
	}
	err = mend_log(c);
	if (!err && ino)
		check_found(c, "%s: entry %s is inode %" PRId64 ", the log has inode %" PRIu64, check_who(c, check_int(v[0])),
			    check_quote(c, name, len), check_int(v[2]), ino);
	else if (!err)
		check_found(c, "%s: entry %s, inode %" PRId64 ", is not in the log", check_who(c, check_int(v[0])),
			    check_quote(c, name, len), check_int(v[2]));
	return err;
}

/* All names that the log has: those without a row. */
static int find_more_names(struct check *c)
{
	int err = 0;

	for (size_t i = 0; i < now(c)->nnames && !err; i++) {
		const struct index_name *n = &now(c)->names[i];
		int64_t there;

		if (!is_layered_dir(c, n->parent))
			continue;
		err = check_number(c, 0, &there, "SELECT 1 FROM names WHERE parent=? AND name=?", "ib", (int64_t)n->parent,
				   n->name, strlen(n->name));
		if (err || there)
			continue;
		err = mend_log(c);
		if (!err)
			check_found(c, "%s: entry %s, inode %" PRIu64 ", is in the log, but not there",
				    check_who(c, (int64_t)n->parent), check_quote(c, n->name, strlen(n->name)), n->ino);
	}
	return err;
}

static int compare_names(struct check *c, uint64_t in_log)
{
	int err = check_rows(c, "SELECT n.parent, n.name, n.ino FROM names n JOIN inodes p ON p.ino=n.parent"
			     " WHERE p.kind=" CHECK_LAYERED
			     " ORDER BY n.cookie", compare_name);

	return err || seen(c)->nnames == in_log ? err : find_more_names(c);
}

/* Live bytes. */

static void count_live(struct check *c)
{
	struct check_layer *l = NULL;

	for (size_t i = 0; i < now(c)->n; i++) {
		const struct index_record *r = now(c)->v[i];

		for (size_t k = 0; k < r->nblocks && seen(c)->row[i]; k++) {
			const struct layer_block *b = &r->blocks[k];

			if (!l || l->number != b->layer)
				l = check_log_find(c, b->layer);
			if (l)
				l->live += index_share(b->frame_len, b->frame_raw, b->raw_len);
		}
	}
}

/* number, live */
static int compare_live(struct check *c, sqlite3_value **v)
{
	struct check_layer *l = check_log_find(c, (uint64_t)check_int(v[0]));
	int64_t live = l ? (int64_t)l->live : 0, row = check_int(v[1]);
	char path[LAYER_NAME_MAX];
	int err;

	if (!l || live == row)
		return 0;
	layer_path(l->number, path);
	if (row > 0 && llabs(live - row) <= (int64_t)(l->bytes / 16 + LIVE_SLACK)) {
		check_note(c, "%s: about %" PRId64 " of its bytes are live, %" PRId64 " in fact", path, row, live);
		/* Not worth a repair of its own. */
		return c->mending ? check_change(c, "UPDATE layers SET live=? WHERE number=?", "ii", live, check_int(v[0])) : 0;
	}
	err = check_mend(c, "set", "UPDATE layers SET live=? WHERE number=?", "ii", live, check_int(v[0]));
	if (!err)
		check_found(c, "%s: %" PRId64 " of its bytes are said to be live, %" PRId64 " are", path, row, live);
	return err;
}

static int compare(struct check *c)
{
	uint64_t in_log = count_names(c);
	int64_t relog;
	int err = check_number(c, 0, &relog, "SELECT value FROM facts WHERE key='relog'", "");

	seen(c)->expected = relog != 0;
	if (relog)
		check_note(c, "the next mount notes in the log what a repair has changed");
	if (!err)
		err = compare_inodes(c);
	if (!err && !seen(c)->expected)
		err = compare_names(c, in_log);
	if (!err)
		count_live(c);
	if (!err)
		err = check_rows(c, "SELECT number, live FROM layers ORDER BY number", compare_live);
	return err;
}

/* name, layer: all of its chain must be readable. Other layers that it needs are looked at where the entries are. */
static int check_snapshot(struct check *c, sqlite3_value **v)
{
	struct check_layer *top = check_log_find(c, (uint64_t)check_int(v[1])), *l = top;
	const struct index *ix = top && top->whole && top->state ? layer_index(top->file) : NULL;
	char path[LAYER_NAME_MAX];

	for (size_t k = 0; ix && k < ix->nchain; k++) {
		l = check_log_find(c, ix->chain[k]);
		if (!l || !l->whole || !l->state)
			break;
		l = NULL;
	}
	if (!top || (ix && !l))
		return 0;
	layer_path(l ? l->number : 0, path);
	check_found(c, "snapshot %s cannot be read without %s",
		    check_quote(c, sqlite3_value_blob(v[0]), (size_t)sqlite3_value_bytes(v[0])), path);
	return 0;
}

int check_pass_log(struct check *c)
{
	struct seen all = { 0 };
	int err = take_now(c);

	if (err == -ENOENT) {
		check_note(c, "what is under layers/ cannot be compared, because layers cannot be read");
		c->lost_state = true;
		err = 0;
	}
	if (!err)
		err = check_rows(c, "SELECT name, layer FROM snapshots ORDER BY name", check_snapshot);
	if (!err)
		err = check_entries(c);
	if (!err)
		err = check_damage_tell(c);
	if (err || !c->log->known)
		return err;
	all.row = calloc(now(c)->n + 1, 1);
	all.named = calloc(now(c)->n + 1, sizeof(*all.named));
	c->ctx = &all;
	err = all.row && all.named ? compare(c) : -ENOMEM;
	c->ctx = NULL;
	free(all.row);
	free(all.named);
	return err;
}
