/*
 * snapshots/: a directory made here names the state of this moment, and removing it drops the name. past/ shows the
 * state below.
 */
#include <errno.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "store/commit.h"
#include "store/layers.h"
#include "store/store.h"
#include "tree/control/control.h"
#include "tree/dir.h"
#include "tree/live/live.h"
#include "tree/live/room.h"
#include "tree/past/past.h"
#include "util/err.h"
#include "util/plant.h"

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

int snapshots_readdir(struct tree *t, uint64_t cookie, struct tree_listing *to)
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
	err = live_get_locked(t, META_INO_LAYERS, &dir);
	meta_unlock(t->store->meta);
	if (err)
		return err;
	live_mark_changed(dir);
	inode_put(dir, 1);
	return 0;
}

int snapshots_make(struct tree *t, const char *name, struct tree_attr *out)
{
	int err = room_need(t, ROOM_NAME_BYTES);

	if (!err)
		err = layers_snapshot_want(t->store->layers, name);
	if (err)
		return err;
	err = need_layer(t);
	if (!err)
		err = PLANTED(PLANT_NO_SNAPSHOT_WAIT) ? 0 : commit_wait(t->store->commit, COMMIT_SEAL);
	layers_snapshot_unwant(t->store->layers, name);
	if (!err)
		return past_snapshot(t, name, out);
	/* The commit has failed after it gave the name. */
	meta_lock(t->store->meta);
	layers_snapshot_drop_locked(t->store->layers, name);
	meta_unlock(t->store->meta);
	return err;
}

int snapshots_drop(struct tree *t, const char *name)
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
	/* The name has gone; where the commit finds no space, that is durable with the next one. */
	err = commit_wait(t->store->commit, COMMIT_SYNC);
	return err_is_passing(err) ? 0 : err;
}
