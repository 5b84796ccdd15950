/*
 * deltas/, snapshots/ and .spillfs/. What is below a snapshot is past.c's.
 *
 * Invariants:
 *  1. deltas/ lists exactly the sealed layers; a delta that is open stays readable when it is dropped.
 *  2. What tells of files whoever may look at them, their bytes (deltas) or their names (diff), is the owner's alone.
 *  3. A text is made when the file is opened, so that one reader sees one moment. Such files have size 0 in
 *     stat, as in /proc, and are read around the kernel's cache.
 */
#include "tree/control/control.h"
#include "tree/live/room.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "block/layer.h"
#include "io/io.h"
#include "store/commit.h"
#include "store/layers.h"
#include "store/store.h"
#include "tree/dir.h"
#include "tree/live/live.h"
#include "tree/live/passthrough.h"
#include "tree/past/past.h"
#include "tree/views/views.h"
#include "util/clock.h"

static const struct special {
	const char *name;
	uint64_t parent, ino;
	mode_t mode;
	bool hidden;
} specials[] = {
	{ "deltas", META_INO_ROOT, SPECIAL_DELTAS, S_IFDIR | 0555, false },
	{ "snapshots", META_INO_ROOT, SPECIAL_SNAPSHOTS, S_IFDIR | 0755, false },
	{ VIEWS_NAME, META_INO_ROOT, SPECIAL_VIEWS, S_IFDIR | 0555, false }, /* for listings: views.h has it */
	{ ".spillfs", META_INO_ROOT, SPECIAL_CONTROL, S_IFDIR | 0555, true },
	{ "stats", SPECIAL_CONTROL, SPECIAL_STATS, S_IFREG | 0444, false },
	{ "config", SPECIAL_CONTROL, SPECIAL_CONFIG, S_IFREG | 0444, false },
	{ "version", SPECIAL_CONTROL, SPECIAL_VERSION, S_IFREG | 0444, false },
	{ "log", SPECIAL_CONTROL, SPECIAL_LOG, S_IFREG | 0444, false },
	{ "diff", SPECIAL_CONTROL, SPECIAL_DIFF, S_IFDIR | 0555, false },
};
#define NSPECIALS (sizeof(specials) / sizeof(*specials))

bool control_is_delta(uint64_t ino)
{
	return ino >= SPECIAL_DELTA_BASE && ino < SPECIAL_DIFF_BASE;
}

bool control_is_diff(uint64_t ino)
{
	return ino >= SPECIAL_DIFF_BASE && ino < REALM_PAST_BIT;
}

static void fill_attr(uint64_t ino, mode_t mode, uint64_t size, int64_t time_ns, struct tree_attr *out)
{
	memset(out, 0, sizeof(*out));
	out->name_ms = TREE_KEEP_MS;
	out->st.st_ino = ino;
	out->st.st_mode = mode;
	out->st.st_nlink = S_ISDIR(mode) ? 2 : 1;
	out->st.st_uid = geteuid();
	out->st.st_gid = getegid();
	out->st.st_size = (off_t)size;
	out->st.st_blocks = (blkcnt_t)((size + 511) / 512);
	out->st.st_blksize = TREE_IO_BYTES;
	out->st.st_atim = out->st.st_mtim = out->st.st_ctim = clock_timespec(time_ns);
}

static void fill_delta(const struct layers_info *info, struct tree_attr *out)
{
	fill_attr(SPECIAL_DELTA_BASE + info->number, S_IFREG | 0400, info->bytes, info->time_ns, out);
	out->st.st_blocks = TREE_BLOCKS_LEAST; /* the bytes are counted where the arrays are */
	out->name_ms = 0;
}

static int control_getattr(struct tree *t, uint64_t ino, struct tree_attr *out)
{
	struct layers_info info;
	int err;

	if (ino == META_INO_ROOT) {
		fill_attr(ino, S_IFDIR | 0755, 0, t->mount_ns, out);
		out->st.st_nlink = 5;
		return 0;
	}
	if (control_is_diff(ino)) {
		fill_attr(ino, S_IFREG | 0400, 0, t->mount_ns, out);
		out->name_ms = 0;
		return 0;
	}
	if (control_is_delta(ino)) {
		err = layers_next_sealed(t->store->layers, ino - SPECIAL_DELTA_BASE, &info);
		if (err || info.number != ino - SPECIAL_DELTA_BASE)
			return -ESTALE;
		fill_delta(&info, out);
		return 0;
	}
	for (size_t i = 0; i < NSPECIALS; i++) {
		if (specials[i].ino == ino) {
			fill_attr(ino, specials[i].mode, 0, t->mount_ns, out);
			return 0;
		}
	}
	return -ESTALE;
}

static int from_hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The state that n bytes of text name, %XX decoded: a snapshot, or @N. */
static int find_state(struct tree *t, const char *text, size_t n, uint64_t *out)
{
	struct layers_snapshot s;
	char name[META_NAME_MAX + 1], *end;
	size_t len = 0;
	int err;

	for (size_t i = 0; i < n; i++) {
		int high = text[i] == '%' && i + 2 < n ? from_hex(text[i + 1]) : -1;
		int low = high >= 0 ? from_hex(text[i + 2]) : -1;

		if (len == META_NAME_MAX)
			return -ENOENT;
		name[len++] = low >= 0 ? (char)(high << 4 | low) : text[i];
		i += low >= 0 ? 2 : 0;
	}
	name[len] = '\0';
	if (name[0] == '@') {
		*out = strtoull(name + 1, &end, 10);
		return name[1] < '1' || name[1] > '9' || *end ? -ENOENT : 0;
	}
	err = layers_snapshot_find(t->store->layers, name, &s);
	if (!err)
		*out = s.layer;
	return err;
}

static int lookup_diff(struct tree *t, const char *name, struct tree_attr *out)
{
	const char *dots = strstr(name, "..");
	uint64_t a, b;
	int err = dots ? find_state(t, name, (size_t)(dots - name), &a) : -ENOENT;

	if (!err)
		err = find_state(t, dots + 2, strlen(dots + 2), &b);
	if (err)
		return err;
	return a >> 30 || b >> 30 ? -EOVERFLOW : control_getattr(t, SPECIAL_DIFF_BASE + (a << 30) + b, out);
}

static int control_lookup(struct tree *t, uint64_t parent, const char *name, const struct tree_caller *who, struct tree_attr *out)
{
	uint64_t number;

	(void)who;
	if (parent == SPECIAL_DELTAS) {
		char canonical[LAYER_NAME_MAX];

		if (layer_name_parse(name, &number))
			return -ENOENT;
		layer_name(number, canonical);
		if (strcmp(canonical, name) || control_getattr(t, SPECIAL_DELTA_BASE + number, out))
			return -ENOENT;
		return 0;
	}
	if (parent == SPECIAL_SNAPSHOTS)
		return past_snapshot(t, name, out);
	if (parent == SPECIAL_DIFF)
		return lookup_diff(t, name, out);
	if (parent == META_INO_ROOT && t->store->config.follow && !strcmp(name, "layers")) {
		past_present(t, out);
		return 0;
	}
	if (parent == META_INO_ROOT && !strcmp(name, VIEWS_NAME))
		return t->realms[REALM_VIEWS]->enter(t, parent, out);
	for (size_t i = 0; i < NSPECIALS; i++) {
		if (specials[i].parent == parent && !strcmp(specials[i].name, name))
			return control_getattr(t, specials[i].ino, out);
	}
	return -ENOENT;
}

static int readdir_deltas(struct tree *t, uint64_t cookie, struct tree_listing *to)
{
	struct layers_info info;

	while (to->n < to->max && !layers_next_sealed(t->store->layers, cookie + 1, &info)) {
		char name[LAYER_NAME_MAX];

		layer_name(info.number, name);
		fill_delta(&info, &dir_add(to, info.number, name)->attr);
		cookie = info.number;
	}
	return 0;
}

/* Snapshots come and go while they are listed: the place of each follows from its name alone. */
static uint64_t snapshot_cookie(const char *name)
{
	return (XXH64(name, strlen(name), 0) >> 2) + 1;
}

/* Puts it where it belongs among the n entries, which are in order; those with the lowest cookies stay. */
static size_t insert_snapshot(struct tree_dirent *v, size_t n, size_t max, const char *name, uint64_t cookie)
{
	size_t at = n;

	while (at && v[at - 1].cookie > cookie)
		at--;
	if (at == max)
		return n;
	n -= n == max;
	memmove(v + at + 1, v + at, (n - at) * sizeof(*v));
	memset(&v[at], 0, sizeof(*v));
	strcpy(v[at].name, name);
	v[at].cookie = cookie;
	return n + 1;
}

static int readdir_snapshots(struct tree *t, uint64_t cookie, struct tree_listing *to)
{
	struct layers_snapshot s = { .name = "" };
	struct tree_dirent *v = to->v + to->n;
	size_t n = 0;

	while (!layers_snapshot_next(t->store->layers, s.name, &s)) {
		uint64_t at = snapshot_cookie(s.name);

		if (at > cookie)
			n = insert_snapshot(v, n, to->max - to->n, s.name, at);
	}
	for (size_t k = 0; k < n; k++) {
		if (!past_snapshot(t, v[k].name, &v[k].attr))
			continue;
		/* It cannot be read. The C library hides entries without a number. */
		v[k].attr.st.st_mode = S_IFDIR | 0555;
		v[k].attr.st.st_ino = (ino_t)-1 - v[k].cookie;
	}
	to->n += n;
	return 0;
}

/* Before the first layer there is nothing that a name could stand for: layers/ itself makes one. */
static int need_layer(struct tree *t)
{
	struct inode *dir;
	int err;

	if (layers_newest_sealed(t->store->layers))
		return 0;
	meta_lock(t->store->meta);
	err = inode_get_locked(t, META_INO_LAYERS, &dir);
	meta_unlock(t->store->meta);
	if (err)
		return err;
	inode_mark_changed(dir);
	inode_put(dir, 1);
	return 0;
}

static int make_snapshot(struct tree *t, const char *name, struct tree_attr *out)
{
	int err = room_need(t, ROOM_NAME_BYTES);

	if (!err)
		err = layers_snapshot_want(t->store->layers, name);
	if (err)
		return err;
	err = need_layer(t);
	if (!err)
		err = commit_wait(t->store->commit, COMMIT_SEAL);
	layers_snapshot_unwant(t->store->layers, name);
	if (!err)
		return past_snapshot(t, name, out);
	/* The commit has failed after it gave the name. */
	meta_lock(t->store->meta);
	layers_snapshot_drop_locked(t->store->layers, name);
	meta_unlock(t->store->meta);
	return err;
}

static int drop_snapshot(struct tree *t, const char *name)
{
	struct meta *m = t->store->meta;
	int err = -EROFS;

	if (!atomic_load(&t->store->read_only)) {
		meta_lock(m);
		err = layers_snapshot_drop_locked(t->store->layers, name);
		meta_unlock(m);
	}
	if (err)
		return err;
	past_forget_states(t);
	return commit_wait(t->store->commit, COMMIT_SYNC);
}

static void list_fixed(struct tree *t, uint64_t ino, uint64_t cookie, struct tree_listing *to)
{
	struct tree_dirent *d;

	for (size_t i = (size_t)cookie; i < NSPECIALS && to->n < to->max; i++) {
		if (specials[i].parent != ino || specials[i].hidden)
			continue;
		d = dir_add(to, i + 1, specials[i].name);
		control_getattr(t, specials[i].ino, &d->attr);
	}
}

static int control_readdir(struct tree *t, uint64_t ino, uint64_t cookie, struct tree_listing *to)
{
	struct tree_dirent *d;

	if (ino == SPECIAL_DELTAS)
		return readdir_deltas(t, cookie, to);
	if (ino == SPECIAL_SNAPSHOTS)
		return readdir_snapshots(t, cookie, to);
	list_fixed(t, ino, cookie, to);
	/* A follower's root has no rows. */
	d = ino == META_INO_ROOT && t->store->config.follow && cookie <= NSPECIALS ? dir_add(to, NSPECIALS + 1, "layers") : NULL;
	if (d)
		past_present(t, &d->attr);
	return 0;
}

static int control_make(struct tree *t, uint64_t dir, const struct realm_new *what, struct tree_attr *out)
{
	return dir == SPECIAL_SNAPSHOTS && S_ISDIR(what->mode) ? make_snapshot(t, what->name, out) : -EPERM;
}

static int control_rmdir(struct tree *t, uint64_t dir, const char *name)
{
	return dir == SPECIAL_SNAPSHOTS ? drop_snapshot(t, name) : -EPERM;
}

static int control_mark(struct tree *t, uint64_t ino, struct spillfs_mark *out)
{
	(void)t;
	(void)ino;
	(void)out;
	return -EOPNOTSUPP;
}

const struct realm_ops control_realm = {
	.id = REALM_CONTROL,
	.refusal = -EPERM,
	.lookup = control_lookup,
	.readdir = control_readdir,
	.make = control_make,
	.rmdir = control_rmdir,
	.getattr = control_getattr,
	.mark = control_mark,
	.open = control_open,
};
