/*
 * deltas/, snapshots/ and .spillfs/. past/ shows what is below a snapshot.
 *
 * Invariants:
 *  1. deltas/ lists exactly the sealed layers; a delta that is open stays readable when it is dropped.
 *  2. Only the owner may read what tells of files without regard to their modes: their bytes (deltas) or their names (diff).
 *  3. A text is made when the file is opened, so that one reader sees one moment. Such files have size 0 in
 *     stat, as in /proc, and are read around the kernel's cache.
 */
#include "tree/control/control.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "block/layer.h"
#include "io/io.h"
#include "store/layers.h"
#include "store/store.h"
#include "tree/dir.h"
#include "tree/past/past.h"
#include "tree/scratch/scratch.h"
#include "tree/views/views.h"
#include "util/clock.h"
#include "util/number.h"

static const struct fixed {
	const char *name;
	uint64_t parent, ino;
	mode_t mode;
	bool hidden;
} fixed[] = {
	{ "deltas", META_INO_ROOT, CONTROL_DELTAS, S_IFDIR | 0555, false },
	{ "snapshots", META_INO_ROOT, CONTROL_SNAPSHOTS, S_IFDIR | 0755, false },
	{ VIEWS_NAME, META_INO_ROOT, CONTROL_VIEWS, S_IFDIR | 0555, false }, /* for listings: views.h has it */
	{ SCRATCH_NAME, META_INO_ROOT, META_INO_SCRATCH + META_INO_ROOT, S_IFDIR | 01777, false }, /* for listings */
	{ ".spillfs", META_INO_ROOT, CONTROL_DOT_SPILLFS, S_IFDIR | 0555, true },
	{ "stats", CONTROL_DOT_SPILLFS, CONTROL_STATS, S_IFREG | 0444, false },
	{ "config", CONTROL_DOT_SPILLFS, CONTROL_CONFIG, S_IFREG | 0444, false },
	{ "version", CONTROL_DOT_SPILLFS, CONTROL_VERSION, S_IFREG | 0444, false },
	{ "log", CONTROL_DOT_SPILLFS, CONTROL_LOG, S_IFREG | 0444, false },
	{ "quotas", CONTROL_DOT_SPILLFS, CONTROL_QUOTAS, S_IFREG | 0400, false },
	{ "disks", CONTROL_DOT_SPILLFS, CONTROL_DISKS, S_IFREG | 0400, false },
	{ "diff", CONTROL_DOT_SPILLFS, CONTROL_DIFF, S_IFDIR | 0555, false },
};
#define NFIXED (sizeof(fixed) / sizeof(*fixed))

/* The root of a scratch store has no more than .spillfs. */
static bool is_there(const struct tree *t, const struct fixed *f)
{
	if (f->parent == META_INO_ROOT && t->store->config.scratch)
		return f->ino == CONTROL_DOT_SPILLFS;
	return strcmp(f->name, SCRATCH_NAME) || t->scratch;
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
	fill_attr(CONTROL_DELTA_BASE + info->number, S_IFREG | 0400, info->bytes, info->time_ns, out);
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
	for (size_t i = 0; i < NFIXED; i++) {
		if (fixed[i].ino == ino) {
			fill_attr(ino, fixed[i].mode, 0, t->mount_ns, out);
			return 0;
		}
	}
	if (control_is_diff(ino)) {
		fill_attr(ino, S_IFREG | 0400, 0, t->mount_ns, out);
		out->name_ms = 0;
		return 0;
	}
	if (control_is_delta(ino)) {
		err = layers_next_sealed(t->store->layers, ino - CONTROL_DELTA_BASE, &info);
		if (err || info.number != ino - CONTROL_DELTA_BASE)
			return -ESTALE;
		fill_delta(&info, out);
		return 0;
	}
	return -ESTALE;
}

/* The state that n bytes of text name, %XX decoded: a snapshot, or @N. */
static int find_state(struct tree *t, const char *text, size_t n, uint64_t *out)
{
	struct layers_snapshot s;
	char name[META_NAME_MAX + 1];
	size_t len = 0;
	int err;

	for (size_t i = 0; i < n; i++) {
		int byte = text[i] == '%' && i + 2 < n ? number_hex_byte(text + i + 1) : -1;

		if (len == META_NAME_MAX)
			return -ENOENT;
		name[len++] = byte >= 0 ? (char)byte : text[i];
		i += byte >= 0 ? 2 : 0;
	}
	name[len] = '\0';
	if (strlen(name) != len) /* %00 */
		return -ENOENT;
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
	return a >> 30 || b >> 30 ? -EOVERFLOW : control_getattr(t, CONTROL_DIFF_BASE + (a << 30) + b, out);
}

static int control_lookup(struct tree *t, uint64_t parent, const char *name, const struct tree_caller *who, struct tree_attr *out)
{
	uint64_t number;

	(void)who;
	if (parent == CONTROL_DELTAS) {
		char canonical[LAYER_NAME_MAX];

		if (layer_name_parse(name, &number))
			return -ENOENT;
		layer_name(number, canonical);
		if (strcmp(canonical, name) || control_getattr(t, CONTROL_DELTA_BASE + number, out))
			return -ENOENT;
		return 0;
	}
	if (parent == CONTROL_SNAPSHOTS)
		return past_snapshot(t, name, out);
	if (parent == CONTROL_DIFF)
		return lookup_diff(t, name, out);
	if (parent == META_INO_ROOT && t->store->config.follow && !strcmp(name, "layers")) {
		past_present(t, out);
		return 0;
	}
	if (parent == META_INO_ROOT && !t->store->config.scratch && !strcmp(name, VIEWS_NAME))
		return t->realms[REALM_VIEWS]->enter(t, parent, out);
	if (parent == META_INO_ROOT && t->scratch && !strcmp(name, SCRATCH_NAME))
		return t->realms[REALM_SCRATCH]->enter(t, parent, out);
	for (size_t i = 0; i < NFIXED; i++) {
		if (fixed[i].parent == parent && !strcmp(fixed[i].name, name) && is_there(t, &fixed[i]))
			return control_getattr(t, fixed[i].ino, out);
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

static void list_fixed(struct tree *t, uint64_t ino, uint64_t cookie, struct tree_listing *to)
{
	struct tree_dirent *d;

	for (size_t i = (size_t)cookie; i < NFIXED && to->n < to->max; i++) {
		if (fixed[i].parent != ino || fixed[i].hidden || !is_there(t, &fixed[i]))
			continue;
		d = dir_add(to, i + 1, fixed[i].name);
		control_getattr(t, fixed[i].ino, &d->attr);
	}
}

static int control_readdir(struct tree *t, uint64_t ino, uint64_t cookie, struct tree_listing *to)
{
	struct tree_dirent *d;

	if (ino == CONTROL_DELTAS)
		return readdir_deltas(t, cookie, to);
	if (ino == CONTROL_SNAPSHOTS)
		return snapshots_readdir(t, cookie, to);
	list_fixed(t, ino, cookie, to);
	/* A follower's root has no rows. */
	d = ino == META_INO_ROOT && t->store->config.follow && cookie <= NFIXED ? dir_add(to, NFIXED + 1, "layers") : NULL;
	if (d)
		past_present(t, &d->attr);
	return 0;
}

static int control_make(struct tree *t, uint64_t dir, const struct realm_new *what, struct tree_attr *out)
{
	return dir == CONTROL_SNAPSHOTS && S_ISDIR(what->mode) ? snapshots_make(t, what->name, out) : -EPERM;
}

static int control_rmdir(struct tree *t, uint64_t dir, const char *name)
{
	return dir == CONTROL_SNAPSHOTS ? snapshots_drop(t, name) : -EPERM;
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
