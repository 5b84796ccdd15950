/*
 * Several directories as one: names in them, and their space.
 *
 * Invariants:
 *  1. A file that is spread has its name on one disk, but while it moves, and on a disk that is to be emptied, where the name counts
 *     less than anywhere else.
 *  2. A folder is synced on each disk on which names in it have changed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/spread/inside.h"

static struct spread *to_spread(struct io_dir *d)
{
	return (struct spread *)d;
}

/* ---- names ---- */

/* How many bucket files each disk has that are open: all of the pool are. */
static unsigned fewest_files_locked(struct spread *d, unsigned kind, unsigned *least_out)
{
	unsigned counts[IO_SPREAD_MAX] = { 0 }, best = 0, least = UINT32_MAX;

	for (const struct spread_file *f = d->files; f; f = f->next)
		if (f->kind == kind)
			counts[atomic_load(&f->disk)]++;
	for (unsigned i = 0; i < d->n; i++) {
		if (!spread_room(d, i) || counts[i] >= least)
			continue;
		least = counts[i];
		best = i;
	}
	*least_out = least;
	return best;
}

/* The disk for a new file. */
static unsigned place_locked(struct spread *d, unsigned kind)
{
	unsigned least;
	int most;

	if (kind == IO_OF_BUCKET)
		return fewest_files_locked(d, kind, &least);
	most = spread_roomiest(d, -1, 0);
	return most < 0 ? 0 : (unsigned)most;
}

static bool spread_lacks_file(struct io_dir *dir, unsigned kind)
{
	struct spread *d = to_spread(dir);
	unsigned least;

	lock_acquire(&d->names);
	fewest_files_locked(d, kind, &least);
	lock_release(&d->names);
	return least == 0;
}

/* For who reads beside the daemon that moves the file, or after it was killed. */
static int open_moved_locked(struct spread *d, const char *name, unsigned flags, struct io **out)
{
	char moved[SPREAD_NAME_MAX + 8];
	unsigned disk;
	int err;

	err = spread_moved_name(name, moved) ? spread_find_moved_locked(d, moved, &disk) : -ENOENT;
	if (!err)
		err = io_open(d->disks[disk].dir, moved, (flags & ~IO_CREATE) | IO_RDONLY, out);
	/* It has got its name meanwhile. */
	if (err == -ENOENT)
		err = spread_find_locked(d, name, &disk);
	else
		return err;
	return err ? err : io_open(d->disks[disk].dir, name, flags, out);
}

/* Tells the disk that the name is on. -ENOENT: it is to be made. */
static int locate_locked(struct spread *d, const char *name, unsigned flags, unsigned *disk)
{
	const struct spread_file *f = spread_file_locked(d, name);
	/* A pool file holds data of others. A layer that is made has a number that none had, and all else is at home. */
	bool any = !(flags & IO_CREATE) || (flags & IO_OF_MASK) == IO_OF_BUCKET;
	int err;

	if (f && !f->unnamed) {
		*disk = atomic_load(&f->disk);
		return 0;
	}
	if (!any)
		return (flags & IO_OF_MASK) == IO_OF_LAYERED ? spread_find_new_locked(d, name, disk) : -ENOENT;
	err = f ? -ENOENT : spread_find_locked(d, name, disk);
	return err == -ENOENT && atomic_load(&d->mended) ? spread_name_locked(d, name, disk) : err;
}

static int open_locked(struct spread *d, const char *name, unsigned flags, struct io **out)
{
	unsigned kind = flags & IO_OF_MASK, disk = 0;
	bool spread = kind == IO_OF_BUCKET || kind == IO_OF_LAYERED;
	int err = locate_locked(d, name, flags, &disk), made = err == -ENOENT && (flags & IO_CREATE);

	if (made)
		disk = spread ? place_locked(d, kind) : 0;
	else if (err == -ENOENT)
		return open_moved_locked(d, name, flags, out);
	else if (err)
		return err;
	err = spread ? spread_open_locked(d, name, flags, disk, out) : io_open(d->disks[disk].dir, name, flags, out);
	if (made && !err)
		spread_touch(d, disk, spread_folder(d, name), SPREAD_NAMED);
	return err;
}

static int spread_open(struct io_dir *dir, const char *name, unsigned flags, struct io **out)
{
	struct spread *d = to_spread(dir);
	int err;

	if (spread_folder(d, name) < 0)
		return io_open(d->disks[0].dir, name, flags, out);
	lock_acquire(&d->names);
	err = open_locked(d, name, flags, out);
	lock_release(&d->names);
	return err;
}

static bool moves_locked(struct spread *d, const char *name)
{
	const struct spread_file *f = spread_file_locked(d, name);

	return f && f->moving;
}

/* Waits until the file no longer moves. With gone a move gives up. */
static struct spread_file *settled_locked(struct spread *d, const char *name, bool gone)
{
	struct spread_file *f = spread_file_locked(d, name);

	if (f && f->moving) {
		f->users++;
		f->unwanted += gone;
		while (f->moving)
			lock_wait(&d->names, &d->moved);
		f->unwanted -= gone;
		spread_unuse_locked(d, f);
		f = spread_file_locked(d, name);
	}
	return f;
}

/* Wherever it is, and twice if it is there twice. */
static int unlink_everywhere(struct spread *d, const char *name)
{
	int err = -ENOENT;

	for (unsigned i = 0; i < d->n; i++) {
		struct io_dir *dir = spread_enter(d, i);
		int e = dir ? io_unlink(dir, name) : -ENOENT;

		if (dir)
			spread_leave(d, i);
		if (e == -ENOENT)
			continue;
		spread_touch(d, i, spread_folder(d, name), SPREAD_DELETED);
		if (e && i)
			spread_refused(d, i, name, e);
		/* It counts no more; the next mount tries again. */
		if (atomic_load(&d->disks[i].draining) || atomic_load(&d->disks[i].failing))
			e = 0;
		if (err == -ENOENT || e)
			err = e;
	}
	return err;
}

/* With what a move has left, which would be the file at the next mount. */
static int unlink_locked(struct spread *d, const char *name)
{
	struct spread_file *f = settled_locked(d, name, true);
	char moved[SPREAD_NAME_MAX + 8];
	int left = spread_moved_name(name, moved) ? unlink_everywhere(d, moved) : -ENOENT, err = unlink_everywhere(d, name);

	if (err == -ENOENT)
		err = left;
	if (f && !err)
		f->gone = true;
	return err;
}

static int spread_unlink(struct io_dir *dir, const char *name)
{
	struct spread *d = to_spread(dir);
	int err;

	if (spread_folder(d, name) < 0)
		return io_unlink(d->disks[0].dir, name);
	lock_acquire(&d->names);
	err = unlink_locked(d, name);
	lock_release(&d->names);
	return err;
}

/* The folder of a new name, which need not be one of those that are spread. */
static int make_parent(struct io_dir *dir, const char *name)
{
	char folder[SPREAD_NAME_MAX];
	const char *end = strrchr(name, '/');

	if (!end || (size_t)(end - name) >= sizeof(folder))
		return 0;
	memcpy(folder, name, (size_t)(end - name));
	folder[end - name] = '\0';
	return io_mkdir(dir, folder);
}

static int rename_locked(struct spread *d, const char *from, const char *to)
{
	struct spread_file *f, *old;
	unsigned disk = 0;
	int err;

	/* Each wait lets the other go, or move again. */
	while (moves_locked(d, from) || moves_locked(d, to)) {
		settled_locked(d, from, true);
		settled_locked(d, to, true);
	}
	f = spread_file_locked(d, from);
	old = spread_file_locked(d, to);
	err = f ? 0 : spread_find_locked(d, from, &disk);
	if (f && strlen(to) >= SPREAD_NAME_MAX)
		return -ENAMETOOLONG;
	if (f)
		disk = atomic_load(&f->disk);
	if (err == -ENOENT || (f && f->unnamed))
		err = spread_name_locked(d, from, &disk);
	if (!err && disk)
		err = make_parent(d->disks[disk].dir, to);
	if (!err)
		err = io_rename(d->disks[disk].dir, from, to);
	if (err)
		return err;
	for (unsigned i = 0; i < d->n; i++) {
		struct io_dir *dir = i == disk ? NULL : spread_enter(d, i);

		if (!dir)
			continue;
		/* In a folder that is not spread each disk has files of its own. */
		if (spread_folder(d, to) >= 0 && !io_unlink(dir, to))
			spread_touch(d, i, spread_folder(d, to), SPREAD_DELETED);
		spread_leave(d, i);
	}
	spread_touch(d, disk, spread_folder(d, from), SPREAD_DELETED);
	spread_touch(d, disk, spread_folder(d, to), SPREAD_NAMED);
	if (old)
		old->gone = true;
	if (f)
		strcpy(f->name, to);
	return 0;
}

static int spread_rename(struct io_dir *dir, const char *from, const char *to)
{
	struct spread *d = to_spread(dir);
	int err;

	if (spread_folder(d, from) < 0 && spread_folder(d, to) < 0)
		return io_rename(d->disks[0].dir, from, to);
	lock_acquire(&d->names);
	err = rename_locked(d, from, to);
	lock_release(&d->names);
	return err;
}

static int folder_number(const struct spread *d, const char *name)
{
	for (int i = 0; d->folders[i]; i++)
		if (!strcmp(d->folders[i], name))
			return i;
	return -1;
}

static int spread_mkdir(struct io_dir *dir, const char *name)
{
	struct spread *d = to_spread(dir);
	int err = io_mkdir(d->disks[0].dir, name);

	for (unsigned i = 1; i < d->n && !err && folder_number(d, name) >= 0; i++) {
		struct io_dir *of = spread_enter(d, i);
		int e = of ? io_mkdir(of, name) : 0;

		if (of)
			spread_leave(d, i);
		if (e)
			spread_refused(d, i, name, e);
		else
			spread_touch(d, i, folder_number(d, name), SPREAD_NAMED);
	}
	return err;
}

static int spread_dir_sync(struct io_dir *dir, const char *name)
{
	struct spread *d = to_spread(dir);
	int folder = folder_number(d, name), err = io_dir_sync(d->disks[0].dir, name);

	for (unsigned i = 1; i < d->n && folder >= 0 && !err; i++)
		err = spread_sync_folder(d, i, (unsigned)folder, false);
	return err;
}

struct listing {
	char **v;
	size_t n, cap;
};

static bool ends_with(const char *name, const char *end)
{
	size_t n = strlen(name), m = strlen(end);

	return n >= m && !strcmp(name + n - m, end);
}

static int add_name(void *ctx, const char *name)
{
	struct listing *l = ctx;
	char **v;

	if (ends_with(name, SPREAD_MOVING))
		return 0;
	if (l->n == l->cap) {
		v = realloc(l->v, (2 * l->cap + 16) * sizeof(*v));
		if (!v)
			return -ENOMEM;
		l->v = v;
		l->cap = 2 * l->cap + 16;
	}
	l->v[l->n] = strdup(name);
	return l->v[l->n] ? (l->n++, 0) : -ENOMEM;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* A file that moves has its name all the while. */
static void strip_moved(struct listing *l)
{
	for (size_t i = 0; i < l->n; i++)
		if (ends_with(l->v[i], SPREAD_MOVED))
			l->v[i][strlen(l->v[i]) - strlen(SPREAD_MOVED)] = '\0';
}

static int list_all_locked(struct spread *d, const char *name, struct listing *l)
{
	int err = io_list(d->disks[0].dir, name, add_name, l);

	for (unsigned i = 1; i < d->n && !err; i++) {
		struct io_dir *of = spread_enter(d, i);

		if (!of)
			continue;
		err = io_list(of, name, add_name, l);
		/* A follower still knows a directory that was emptied and taken away. */
		if (err == -ENOENT)
			err = 0;
		spread_leave(d, i);
	}
	return err;
}

static int spread_list(struct io_dir *dir, const char *name, int (*each)(void *ctx, const char *name), void *ctx)
{
	struct spread *d = to_spread(dir);
	bool spread = folder_number(d, name) >= 0;
	struct listing l = { 0 };
	int err;

	if (!spread)
		return io_list(d->disks[0].dir, name, each, ctx);
	lock_acquire(&d->names); /* nothing moves meanwhile */
	err = list_all_locked(d, name, &l);
	/* But where another process writes, to a disk that has been listed already. */
	if (!err && !atomic_load(&d->mended))
		err = list_all_locked(d, name, &l);
	lock_release(&d->names);
	strip_moved(&l);
	if (l.n)
		qsort(l.v, l.n, sizeof(*l.v), compare_names);
	for (size_t i = 0; i < l.n && !err; i++)
		if (!i || strcmp(l.v[i], l.v[i - 1]))
			err = each(ctx, l.v[i]);
	for (size_t i = 0; i < l.n; i++)
		free(l.v[i]);
	free(l.v);
	return err;
}

/* ---- space ---- */

static unsigned spread_next_disk(struct io_dir *dir)
{
	return spread_turn(to_spread(dir));
}

static int spread_home_space(struct io_dir *dir, uint64_t *total, uint64_t *avail)
{
	return io_space(to_spread(dir)->disks[0].dir, total, avail);
}

static uint64_t spread_most_room(struct io_dir *dir)
{
	struct spread *d = to_spread(dir);
	int most = spread_roomiest(d, -1, 0);

	return most < 0 ? 0 : spread_room(d, (unsigned)most);
}

/* The space of the disk is counted with that of one before it. */
static bool shares(struct spread *d, unsigned i)
{
	for (unsigned j = 0; j < i; j++) {
		const struct spread_disk *k = &d->disks[j];

		if (k->device && k->device == d->disks[i].device && !atomic_load(&k->draining) && !atomic_load(&k->failing) &&
		    !atomic_load(&k->removed))
			return true;
	}
	return false;
}

/* A disk that takes nothing new counts with what it has. */
static int spread_space(struct io_dir *dir, uint64_t *total, uint64_t *avail)
{
	struct spread *d = to_spread(dir);
	uint64_t all = 0, left = 0, keep;
	int err = io_space(d->disks[0].dir, total, avail);

	for (unsigned i = 1; i < d->n && !err; i++) {
		struct spread_disk *k = &d->disks[i];
		struct io_dir *of = shares(d, i) ? NULL : spread_enter(d, i);
		int e = of ? io_space(of, &all, &left) : -ENOENT;

		if (of)
			spread_leave(d, i);
		if (e)
			continue;
		keep = d->keeps(all);
		if (atomic_load(&k->draining) || atomic_load(&k->failing)) {
			*total += all - left;
			continue;
		}
		*total += all;
		*avail += left > keep ? left - keep : 0;
	}
	return err;
}

static int spread_hold_back(struct io_dir *dir, uint64_t least, uint64_t most)
{
	return io_hold_back(to_spread(dir)->disks[0].dir, least, most);
}

static uint64_t spread_held_back(struct io_dir *dir)
{
	return io_held_back(to_spread(dir)->disks[0].dir);
}

static bool spread_yields(struct io_dir *dir, int err, uint64_t need_bytes)
{
	return io_yields(to_spread(dir)->disks[0].dir, err, need_bytes);
}

static void free_spread(struct spread *d)
{
	for (unsigned i = 0; i < d->n; i++)
		free(d->disks[i].shown);
	lock_fini(&d->names);
	pthread_cond_destroy(&d->moved);
	free(d->disks);
	free(d);
}

static void spread_dir_close(struct io_dir *dir)
{
	struct spread *d = to_spread(dir);

	for (unsigned i = d->n; i-- > 0;)
		if (d->disks[i].dir)
			io_dir_close(d->disks[i].dir);
	free_spread(d);
}

static const struct io_dir_ops spread_dir_ops = {
	.open = spread_open,
	.unlink = spread_unlink,
	.rename = spread_rename,
	.mkdir = spread_mkdir,
	.sync = spread_dir_sync,
	.list = spread_list,
	.space = spread_space,
	.hold_back = spread_hold_back,
	.held_back = spread_held_back,
	.yields = spread_yields,
	.home_space = spread_home_space,
	.next_disk = spread_next_disk,
	.lacks_file = spread_lacks_file,
	.most_room = spread_most_room,
	.close = spread_dir_close,
};

static int add_disk(struct spread *d, const struct io_spread_config *c, unsigned i)
{
	struct spread_disk *k = &d->disks[i];

	k->shown = strdup(c->disks[i].shown);
	if (!k->shown)
		return -ENOMEM;
	k->dir = c->disks[i].dir;
	atomic_store(&k->draining, c->disks[i].draining);
	k->device = c->disks[i].device;
	/* A daemon that was killed may have left changes that are not on the disk yet. What it made there nothing counts on. */
	for (unsigned f = 0; c->folders[f]; f++)
		atomic_store(&k->touched[f], SPREAD_DELETED);
	d->n++;
	return 0;
}

int io_spread_dir(const struct io_spread_config *c, struct io_dir **out)
{
	struct spread *d = c->n && c->n <= IO_SPREAD_MAX ? calloc(1, sizeof(*d)) : NULL;
	int err = 0;

	if (!d)
		return -ENOMEM;
	d->base.ops = &spread_dir_ops;
	d->folders = c->folders;
	d->scratch = c->scratch;
	d->keeps = c->keeps;
	d->may_move = c->may_move;
	d->owes = c->owes;
	d->ctx = c->ctx;
	lock_init(&d->names, RANK_DISKS);
	lock_cond_init(&d->moved);
	d->disks = calloc(c->n, sizeof(*d->disks));
	err = d->disks ? 0 : -ENOMEM;
	for (unsigned i = 0; i < c->n && !err; i++)
		err = add_disk(d, c, i);
	if (err) {
		free_spread(d);
		return err;
	}
	*out = &d->base;
	return 0;
}

bool io_spread_look(struct io_dir *dir, unsigned disk, struct io_spread_state *out)
{
	struct spread *d = to_spread(dir);
	struct spread_disk *k;
	struct io_dir *of;

	if (dir->ops != &spread_dir_ops || disk >= d->n)
		return false;
	k = &d->disks[disk];
	*out = (struct io_spread_state){ .shown = k->shown, .draining = atomic_load(&k->draining), .failing = atomic_load(&k->failing) };
	of = spread_enter(d, disk);
	if (of && io_space(of, &out->total_bytes, &out->avail_bytes))
		out->failing = true;
	if (of)
		spread_leave(d, disk);
	out->full = !out->draining && !out->failing && !spread_room(d, disk);
	return true;
}

void io_spread_set_draining(struct io_dir *dir, unsigned disk, bool on)
{
	struct spread *d = to_spread(dir);

	if (dir->ops == &spread_dir_ops && disk && disk < d->n)
		atomic_store(&d->disks[disk].draining, on);
}

void io_spread_hurry(struct io_dir *dir, bool on)
{
	if (dir->ops == &spread_dir_ops)
		atomic_store(&to_spread(dir)->hurried, on);
}

struct io_dir *io_spread_part(struct io_dir *dir, unsigned disk)
{
	return to_spread(dir)->disks[disk].dir;
}

struct io_dir *io_spread_home(struct io_dir *dir)
{
	return dir->ops == &spread_dir_ops ? to_spread(dir)->disks[0].dir : dir;
}
