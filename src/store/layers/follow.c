/*
 * The set of layers as a follower sees it: sealed layers, HEAD and refs/ of a store that somebody else writes, perhaps on
 * another machine. Nothing is written.
 *
 * Invariants:
 *  1. `newest` changes only to a layer whose whole chain could be opened, with all layers that it points into: never a
 *     half of a commit is seen.
 *  2. Layers that the writer has deleted leave the set when HEAD has moved on, unless the newest state needs them; who
 *     reads from them keeps their files open.
 *  3. `retained` are the states up to the newest whose layers are all known.
 *  4. A layer that is missing or damaged is not known. One that a shortage (err_is_passing) has kept from being read may be whole: what
 *     looked for it fails, because a rebuild gives up what is not known.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/layer.h"
#include "store/layers/inside.h"
#include "store/ref.h"
#include "store/store.h"
#include "util/err.h"
#include "util/log.h"
#include "util/vec.h"

/* Looks at HEAD before the names are looked at as well. */
#define REFS_EVERY 3u

/* A sealed layer becomes known, with what its index says. */
static int add_layer(struct layers *ls, uint64_t number, struct layers_slot **out)
{
	struct meta_layer row = { .number = number, .state = META_LAYER_DELTA };
	const struct layer_index_head *head;
	const struct index *ix;
	struct layers_slot *slot;
	struct layer *file;
	int err = layer_open(ls->store->dir, number, ls->store->uuid, &file);

	if (err)
		return err;
	head = layer_head(file);
	ix = layer_index(file);
	if (head->kind == LAYER_FULL)
		row.state = META_LAYER_FULL;
	row.bytes = layer_bytes(file);
	row.raw_bytes = head->raw_bytes;
	row.stored_bytes = head->stored_bytes;
	row.commit = head->commit;
	row.time_ns = head->time_ns;
	row.arrays = head->kind == LAYER_FULL ? 0 : layers_count_files(ix);
	row.chain.v = malloc((ix->nchain + 1) * sizeof(uint64_t));
	if (row.chain.v && ix->nchain)
		memcpy(row.chain.v, ix->chain, ix->nchain * sizeof(uint64_t));
	row.chain.n = ix->nchain;
	err = !row.chain.v ? -ENOMEM : head->kind == LAYER_FULL ? layers_refs(ix, number, &row.refs) : 0;
	if (!err)
		err = layers_slot_add(ls, &row, &slot);
	if (err) {
		free(row.chain.v);
		free(row.refs.v);
		layer_close(file);
		return err;
	}
	slot->file = file;
	*out = slot;
	return 0;
}

static int need_layer(struct layers *ls, uint64_t number, struct layers_slot **out)
{
	*out = layers_slot_find(ls, number);
	return *out ? 0 : add_layer(ls, number, out);
}

static int read_small(struct io_dir *dir, const char *path, char *text, size_t cap)
{
	struct io *f;
	size_t n = 0;
	int err = io_open(dir, path, IO_RDONLY, &f);

	if (err)
		return err;
	err = io_pread_some(f, text, cap - 1, 0, &n);
	io_close(f);
	text[n] = '\0';
	return err;
}

static int read_head(struct layers *ls, uint64_t *out)
{
	char text[128];
	int err = read_small(ls->store->dir, "layers/HEAD", text, sizeof(text));

	if (err == -ENOENT) { /* nothing was sealed yet */
		*out = 0;
		return 0;
	}
	return err ? err : ref_head_parse(text, out) ? err_corrupt("layers/HEAD", 0, "it names no layer") : 0;
}

struct listing {
	struct layers *ls;
	uint64_t *v;
	size_t n, cap;
};

static int list_layer(void *ctx, const char *name)
{
	struct listing *l = ctx;
	uint64_t number;

	if (layer_name_parse(name, &number))
		return 0;
	if (VEC_RESERVE(l->v, l->cap, l->n + 1))
		return -ENOMEM;
	l->v[l->n++] = number;
	return 0;
}

static bool listed(const struct listing *l, uint64_t number)
{
	for (size_t i = 0; i < l->n; i++) {
		if (l->v[i] == number)
			return true;
	}
	return false;
}

static bool contains(const struct meta_numbers *list, uint64_t number)
{
	for (size_t i = 0; i < list->n; i++) {
		if (list->v[i] == number)
			return true;
	}
	return false;
}

/* The layer that the chain begins with; NULL if it is not known. */
static struct layers_slot *base_of(struct layers *ls, const struct layers_slot *slot)
{
	return slot->row.chain.n ? layers_slot_find(ls, slot->row.chain.v[0]) : NULL;
}

/* Is the layer a part of the newest state? The writer may have deleted it since HEAD was read. */
static bool in_newest(struct layers *ls, uint64_t number)
{
	struct layers_slot *base = base_of(ls, ls->newest);

	return number == ls->newest->row.number || contains(&ls->newest->row.chain, number) ||
	       (base && contains(&base->row.refs, number));
}

/* Is everything known that the state of this layer needs? */
static bool is_whole(struct layers *ls, const struct layers_slot *slot)
{
	const struct layers_slot *base = base_of(ls, slot);

	for (size_t i = 0; i < slot->row.chain.n; i++) {
		if (!layers_slot_find(ls, slot->row.chain.v[i]))
			return false;
	}
	for (size_t i = 0; base && i < base->row.refs.n; i++) {
		if (!layers_slot_find(ls, base->row.refs.v[i]))
			return false;
	}
	return base != NULL;
}

/* Invariant 4. */
static int unless_unknown(int err)
{
	return err_is_passing(err) ? err : 0;
}

/* Does the file end as a sealed layer does? */
static int looks_sealed(struct layers *ls, uint64_t number, bool *out)
{
	struct layer_seek_footer footer = { 0 };
	uint64_t size = 0, stored;
	char path[LAYER_NAME_MAX];
	struct io *f;
	int err;

	*out = false;
	layer_path(number, path);
	err = io_open(ls->store->dir, path, IO_RDONLY, &f);
	if (err)
		return unless_unknown(err);
	err = io_size(f, &size, &stored);
	if (!err && size >= sizeof(footer))
		err = io_pread(f, &footer, sizeof(footer), size - sizeof(footer));
	*out = !err && footer.magic == LAYER_SEEK_FOOTER_MAGIC;
	io_close(f);
	return unless_unknown(err);
}

/* Is the layer sealed, or may it be that to be? A damaged end makes it no open one where a delta has a higher number (seal.c). */
static int is_sealed(struct layers *ls, uint64_t number, bool *out)
{
	for (size_t i = ls->n; i-- && ls->v[i]->row.number > number;) {
		if (ls->v[i]->row.state == META_LAYER_DELTA && !layers_slot_newer(ls->v[i], ls->newest)) {
			*out = true;
			return 0;
		}
	}
	return looks_sealed(ls, number, out);
}

static int compare_falling(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x > y ? -1 : x < y;
}

/* All layers up to the newest are known, those that are gone are not. */
static int refresh(struct layers *ls)
{
	struct listing l = { .ls = ls };
	int err = io_list(ls->store->dir, "layers", list_layer, &l);

	for (size_t i = 0; i < ls->n && !err;) {
		struct layers_slot *slot = ls->v[i];

		if (in_newest(ls, slot->row.number) || listed(&l, slot->row.number)) {
			i++;
			continue;
		}
		layers_slot_leave(ls, slot);
		layers_slot_unref(slot);
	}
	if (l.n)
		qsort(l.v, l.n, sizeof(*l.v), compare_falling);
	for (size_t i = 0; i < l.n && !err; i++) {
		bool sealed = false;
		struct layers_slot *slot;

		/* Only past states: what is missing or not readable is not shown. */
		if (!layers_slot_find(ls, l.v[i]))
			err = is_sealed(ls, l.v[i], &sealed);
		if (!err && sealed)
			err = unless_unknown(need_layer(ls, l.v[i], &slot));
	}
	for (size_t i = 0; i < ls->n; i++)
		ls->v[i]->retained = !layers_slot_newer(ls->v[i], ls->newest) && is_whole(ls, ls->v[i]);
	free(l.v);
	return err;
}

/* The layer, and all that its state needs. */
static int need_state(struct layers *ls, uint64_t number, struct layers_slot **out)
{
	struct layers_slot *slot, *link, *base;
	int err = need_layer(ls, number, &slot);

	for (size_t k = 0; !err && k < slot->row.chain.n; k++) {
		err = need_layer(ls, slot->row.chain.v[k], &link);
		if (!err)
			err = layers_slot_load(ls, link, true);
	}
	base = err ? NULL : base_of(ls, slot);
	for (size_t k = 0; base && !err && k < base->row.refs.n; k++)
		err = need_layer(ls, base->row.refs.v[k], &link);
	if (!err)
		*out = slot;
	return err;
}

static int move_to(struct layers *ls, uint64_t number)
{
	struct layers_slot *slot;
	int err = need_state(ls, number, &slot);

	if (err)
		return err;
	ls->newest = slot;
	return refresh(ls);
}

/* The newest state whose layers are all there and whole; -ENOENT. */
static int find_best(struct layers *ls, uint64_t *out)
{
	struct listing l = { .ls = ls };
	struct layers_slot *best = NULL, *slot;
	int err = io_list(ls->store->dir, "layers", list_layer, &l);

	for (size_t i = 0; i < l.n && !err; i++) {
		bool sealed;

		err = looks_sealed(ls, l.v[i], &sealed);
		if (err || !sealed)
			continue;
		err = need_state(ls, l.v[i], &slot);
		if (!err && (!best || layers_slot_newer(slot, best)))
			best = slot;
		err = unless_unknown(err);
	}
	free(l.v);
	if (!err && !best)
		err = -ENOENT;
	if (!err)
		*out = best->row.number;
	return err;
}

/* Names. */

struct refs {
	struct layers *ls;
	struct layers_snapshot *v;
	size_t n, cap;
};

static int read_ref(void *ctx, const char *name)
{
	struct refs *r = ctx;
	char path[REF_PATH_MAX], text[128] = "";
	struct layers_snapshot s = { .published = true };
	int err;

	if (strlen(name) > META_NAME_MAX || name[0] == '@') /* no snapshot has such a name */
		return 0;
	ref_path(name, path);
	err = read_small(r->ls->store->dir, path, text, sizeof(text));
	if (err)
		return unless_unknown(err);
	if (ref_parse(text, &s.layer, &s.time_ns))
		return 0;
	strcpy(s.name, name);
	if (VEC_RESERVE(r->v, r->cap, r->n + 1))
		return -ENOMEM;
	r->v[r->n++] = s;
	return 0;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(((const struct layers_snapshot *)a)->name, ((const struct layers_snapshot *)b)->name);
}

static int read_refs(struct layers *ls)
{
	struct refs r = { .ls = ls };
	int err = io_list(ls->store->dir, "layers/refs", read_ref, &r);

	if (err == -ENOENT) /* of a store that was copied without it */
		err = 0;
	if (err) {
		free(r.v);
		return err;
	}
	if (r.n)
		qsort(r.v, r.n, sizeof(*r.v), compare_names);
	free(ls->snapshots);
	ls->snapshots = r.v;
	ls->nsnapshots = r.n;
	ls->cap_snapshots = r.cap;
	return 0;
}

int layers_follow(struct layers *ls, bool *changed)
{
	uint64_t head = 0;
	bool tell;
	int err;

	err_forget();
	*changed = false;
	lock_acquire(&ls->lock);
	err = read_head(ls, &head);
	if (!err && head && (!ls->newest || head != ls->newest->row.number || ls->follow_error)) {
		struct layers_slot *before = ls->newest;

		err = move_to(ls, head);
		/* In a copy that was made beside the writer, HEAD may be ahead of its layers: an older whole state is better than nothing. */
		if (err && !ls->newest && !find_best(ls, &head))
			err = move_to(ls, head);
		*changed = ls->newest != before;
	}
	/* A name can come or go without a new layer. */
	if (!err && (*changed || ls->follow_looks++ % REFS_EVERY == 0))
		err = read_refs(ls);
	/* A copy under way, or a writer that is faster: the next look will do. Once is worth a line. */
	tell = err && err != ls->follow_error;
	ls->follow_error = err;
	lock_release(&ls->lock);
	if (tell)
		log_warn("layers/HEAD: layer %llu cannot be followed yet: %s", (unsigned long long)head, err_text(err));
	return err;
}

int layers_follow_best(struct layers *ls, uint64_t *bad_out)
{
	struct layers_slot *slot;
	uint64_t head = 0, best;
	int err;

	lock_acquire(&ls->lock);
	*bad_out = 0;
	err = read_head(ls, &head);
	if (!err && head) {
		err = need_state(ls, head, &slot);
		*bad_out = err ? head : 0;
	}
	if (!err_is_passing(err))
		err = find_best(ls, &best);
	if (!err)
		err = move_to(ls, best);
	else if (err == -ENOENT)
		err = 0;
	if (!err)
		err = read_refs(ls);
	lock_release(&ls->lock);
	return err;
}

int layers_follow_open(struct layers *ls)
{
	bool changed;

	/* A layer that cannot be read yet may be there in a moment. */
	layers_follow(ls, &changed);
	return 0;
}
