/*
 * The directories of a store.
 *
 * Invariants:
 *  1. A directory is listed before a file of the store is in it, and as long as one is.
 *  2. A store with a list has STORE_FORMAT_SPREAD, so that a program that knows no list refuses it: the list comes first.
 *  3. A directory has the mark of the store before it is listed.
 *  4. The list, and then the marks, have a count that each mount that writes has raised before it wrote anything else: where a mark has more
 *     than the list, the home is older than what is in that directory, as a copy of it is.
 *  5. Whoever writes holds the mark of each directory locked, besides the lock of the home: a copy of the home has the same list.
 */
#include "store/disks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/layer.h"
#include "store/disks/inside.h"
#include "store/mark.h"
#include "store/room.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/log.h"

/* The store's own directory, and what is to be said. */
struct opening {
	struct store *s;
	struct disks *k;
	const char *shown;
	struct store_refusal *why;
	bool changed; /* the list is to be written */
	bool undrain[DISKLIST_MAX + 1];
};

#define refuse(o, err, ...) (snprintf((o)->why->text, sizeof((o)->why->text), __VA_ARGS__), (err))

/* ---- small files ---- */

static int read_text(struct io_dir *dir, const char *name, size_t max, char **out)
{
	char *text = calloc(1, max + 1);
	struct io *f;
	size_t n = 0;
	int err = text ? io_open(dir, name, IO_RDONLY, &f) : -ENOMEM;

	if (!err) {
		err = io_pread_some(f, text, max, 0, &n);
		io_close(f);
	}
	if (err)
		free(text);
	else
		*out = text;
	return err;
}

int disks_write_list(struct disks *k, const uint8_t uuid[16])
{
	char *text = disklist_text(&k->list, uuid);
	int err = text ? io_replace(k->home, DISKLIST_NAME, DISKLIST_NAME ".tmp", text, strlen(text)) : -ENOMEM;

	free(text);
	return err ? err : io_dir_sync(k->home, ".");
}

int disks_write_mark(struct store *s, struct disks *k)
{
	char text[MARK_TEXT_MAX];
	int err = io_replace(k->home, "SPILLFS", "SPILLFS.tmp", text, mark_text(s->format, s->uuid, text));

	return err ? err : io_dir_sync(k->home, ".");
}

/* ---- one directory ---- */

int disks_directory(int dirfd, const struct store_config *c, struct io_dir **out)
{
	int err = io_file_dir_leased(dirfd, c->backing, c->leases, c->lease_bytes, out);

	if (err)
		close(dirfd);
	else
		io_file_set_lease_wait(*out, c->lease_wait);
	return err;
}

static int open_real(void *ctx, const char *path, struct store_disk *out)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), err;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st)) {
		err = -errno;
		close(fd);
		return err;
	}
	*out = (struct store_disk){ .device = st.st_dev, .inode = st.st_ino, .owner = st.st_uid };
	return disks_directory(fd, ctx, &out->dir);
}

static int open_dir(struct opening *o, const char *path, struct store_disk *out)
{
	const struct store_config *c = &o->s->config;
	int err = c->open_disk ? c->open_disk(c->open_ctx, path, out) : open_real((void *)c, path, out);

	if (err)
		return refuse(o, err, "%s: directory of the store %s: %s; mount the file system that it is on, or bring it back", path,
			      o->shown, strerror(-err));
	return 0;
}

/* 0: it is of this store; -ENOENT: it has no mark. */
static int read_mark(struct opening *o, const char *path, struct io_dir *dir, struct disklist_mark *m)
{
	char *text;
	int err = read_text(dir, DISKLIST_MARK, DISKLIST_MARK_MAX - 1, &text);

	if (err == -ENOENT)
		return err;
	if (err)
		return refuse(o, err, "%s/" DISKLIST_MARK ": %s", path, err == -EUCLEAN ? err_text(err) : strerror(-err));
	err = disklist_mark_parse(text, m);
	free(text);
	if (err)
		return refuse(o, STORE_ENOTSTORE, "%s/" DISKLIST_MARK ": not the mark of a store's directory", path);
	if (memcmp(m->uuid, o->s->uuid, sizeof(m->uuid)))
		return refuse(o, STORE_ENOTSTORE, "%s: the directory belongs to another store than %s", path, o->shown);
	if (m->mounts > o->k->mounts)
		o->k->mounts = m->mounts;
	return 0;
}

/* The count of the list by this time: a follower reads beside a mount, which writes the list before the marks. */
static int count_again(struct opening *o, uint64_t *mounts)
{
	struct disklist list = { .n = 0 };
	char *text;
	int err = read_text(o->k->home, DISKLIST_NAME, DISKLIST_TEXT_MAX, &text);

	if (err)
		return err;
	err = disklist_parse(text, o->s->uuid, &list);
	free(text);
	*mounts = list.mounts;
	disklist_fini(&list);
	return err;
}

/* Invariant 4. A rebuild goes on with what there is. */
static int check_newest(struct opening *o, const char *path, const struct disklist_mark *m)
{
	uint64_t mounts = o->k->list.mounts;
	int err = m->mounts > mounts && o->s->config.follow ? count_again(o, &mounts) : 0;

	if (err)
		return refuse(o, err, "%s/" DISKLIST_NAME ": %s", o->shown, strerror(-err));
	if (m->mounts <= mounts || o->k->unlisted || o->s->config.alone)
		return 0;
	return refuse(o, -ESTALE, "%s: used by a newer state of the store than %s, which is a copy or was restored: use the newer one (if only the file "
		      DISKLIST_NAME " was put back, delete that, and name all directories with -o pool=); if it is lost, spillctl rebuild --force makes a new "
		      "meta.db from the layers, without buckets", path, o->shown);
}

/* The same directory twice would be emptied into itself. */
static int check_twice(struct opening *o, const char *path, const struct store_disk *dir)
{
	const struct store_config *c = &o->s->config;

	if (dir->inode && dir->device == c->home.device && dir->inode == c->home.inode)
		return refuse(o, -EINVAL, "%s: it is the store's own directory, which is always one of them", path);
	for (unsigned i = 1; i < o->k->ndirs; i++)
		if (dir->inode && o->k->dirs[i].device == dir->device && o->k->dirs[i].inode == dir->inode)
			return refuse(o, -EINVAL, "%s: the directory is listed twice", path);
	return 0;
}

/* A mark that was replaced since it was opened protects nothing: -EWOULDBLOCK. */
static int check_current(struct io_dir *dir, struct io *f)
{
	char text[DISKLIST_MARK_MAX] = "", *now;
	size_t n;
	int err = io_pread_some(f, text, sizeof(text) - 1, 0, &n);

	if (!err)
		err = read_text(dir, DISKLIST_MARK, DISKLIST_MARK_MAX - 1, &now);
	if (err)
		return err;
	err = strcmp(text, now) ? -EWOULDBLOCK : 0;
	free(now);
	return err;
}

/* *out: the mark, locked; NULL: it cannot be written, nor locked therefore (NFS that is read-only). */
static int try_lock(struct io_dir *dir, struct io **out)
{
	struct io *f;
	bool written = true;
	int err = io_open(dir, DISKLIST_MARK, IO_PINNED, &f);

	if (err == -EROFS || err == -EACCES) {
		written = false;
		err = io_open(dir, DISKLIST_MARK, IO_PINNED | IO_RDONLY, &f);
	}
	if (err)
		return err;
	err = io_lock(f, 0, 0);
	if (!err)
		err = check_current(dir, f);
	if (!err) {
		*out = f;
		return 0;
	}
	io_close(f);
	return err == -EBADF && !written ? 0 : err;
}

/* Invariant 5. A daemon that ends lets go of its locks one after the other. -ENOENT: there is no mark. */
static int lock_dir(struct opening *o, const char *path, struct io_dir *dir, struct io **out)
{
	unsigned tries = 0;
	int err;

	*out = NULL;
	if (o->s->config.follow && !o->s->config.alone)
		return 0;
	while ((err = try_lock(dir, out)) == -EWOULDBLOCK && tries++ < DISKLIST_LOCK_TRIES)
		clock_sleep_ns(DISKLIST_LOCK_NS);
	if (!err || err == -ENOENT)
		return err;
	if (err == -EWOULDBLOCK)
		return refuse(o, STORE_EHELD, "%s: the directory is in use, by another daemon than that of the store %s, or by a check: one of two "
			      "stores that have it is a copy of the other; use one of them at a time, and only the newer one", path, o->shown);
	return refuse(o, err, "%s/" DISKLIST_MARK ": cannot be locked: %s", path, err == -EUCLEAN ? err_text(err) : strerror(-err));
}

void disks_unlock_one(struct disks *k, unsigned i)
{
	if (k->locks[i])
		io_close(k->locks[i]);
	k->locks[i] = NULL;
}

void disks_unlock(struct store *s)
{
	for (unsigned i = 1; s->disks && i < s->disks->ndirs; i++)
		disks_unlock_one(s->disks, i);
}

/* Opens one that is listed. A list that was planted must not lead to what is another user's. */
static int open_listed(struct opening *o, const struct disklist_row *row, bool named, struct store_disk *out)
{
	struct store_disk dir;
	struct disklist_mark m;
	int err = open_dir(o, row->path, &dir);

	if (err)
		return err;
	err = read_mark(o, row->path, dir.dir, &m);
	if (err == -ENOENT)
		err = refuse(o, err, "%s: the directory holds nothing of the store %s (there is no " DISKLIST_MARK
			     "); mount the file system that it is on, or bring it back", row->path, o->shown);
	else if (!err && m.number != row->number)
		err = refuse(o, STORE_ENOTSTORE, "%s: it is directory %u of the store %s, where directory %u should be", row->path, m.number,
			     o->shown, row->number);
	if (!err && !named && o->s->config.home.inode && dir.owner != o->s->config.home.owner)
		err = refuse(o, -EPERM, "%s: the directory belongs to user %u, the store %s to user %u; if it is meant, have both belong to one "
			     "(chown), or name it with -o pool=", row->path, dir.owner, o->shown, o->s->config.home.owner);
	if (!err)
		err = check_twice(o, row->path, &dir);
	if (err) {
		io_dir_close(dir.dir);
		return err;
	}
	*out = dir;
	return 0;
}

static int any_name(void *ctx, const char *name)
{
	(void)ctx;
	(void)name;
	return 1;
}

/* Names that an adding that was cut short leaves, and those in a directory that was emptied. */
static int empty_name(void *ctx, const char *name)
{
	(void)ctx;
	return !strcmp(name, "lost+found") || !strcmp(name, DISKLIST_MARK) || !strcmp(name, DISKLIST_MARK ".tmp") || !strcmp(name, "pool") ||
			       !strcmp(name, "layers")
		       ? 0 : 1;
}

static int is_used(struct io_dir *dir)
{
	int err = io_list(dir, ".", empty_name, NULL);

	for (size_t i = 0; disklist_folders[i] && !err; i++) {
		err = io_list(dir, disklist_folders[i], any_name, NULL);
		if (err == -ENOENT)
			err = 0;
	}
	return err;
}

/* A directory that is to be added: empty; or ours, from an adding that was cut short, or from a list that was lost. Of those no file is taken for
 * another's: io_spread_mend refuses a name that is there twice. */
static int check_new(struct opening *o, const char *path, struct io_dir *dir, unsigned *number)
{
	struct disklist_mark m;
	int err = read_mark(o, path, dir, &m), used;

	if (err && err != -ENOENT)
		return err;
	*number = err ? 0 : m.number;
	if (!err && !disklist_find(&o->k->list, m.number) && (o->k->unlisted || !disklist_gave(&o->k->list, m.number)))
		return check_newest(o, path, &m);
	if (err && o->k->unlisted)
		return refuse(o, err, "%s: there is no " DISKLIST_MARK "; as long as " DISKLIST_NAME " is lost only directories of the store %s are named, "
			      "and all of them", path, o->shown);
	used = is_used(dir);
	if (used < 0)
		return refuse(o, used, "%s: %s", path, strerror(-used));
	if (used)
		return refuse(o, STORE_ENOTSTORE, err ? "%s: neither empty nor a directory of the store %s" :
			      "%s: the directory has left the store %s, and still has files of it: take them away to add it", path, o->shown);
	*number = 0;
	return 0;
}

/* The new mark is locked before it has the name, and the old one until then. */
static int write_mark(struct store *s, struct io_dir *dir, unsigned i)
{
	struct disks *k = s->disks;
	struct disklist_mark m = { .number = k->numbers[i], .mounts = k->list.mounts };
	char text[DISKLIST_MARK_MAX];
	struct io *f;
	int err = io_open(dir, DISKLIST_MARK ".tmp", IO_CREATE | IO_PINNED, &f);

	if (err)
		return err;
	memcpy(m.uuid, s->uuid, sizeof(m.uuid));
	err = io_lock(f, 0, 0);
	if (!err)
		err = io_truncate(f, 0);
	if (!err)
		err = io_pwrite(f, text, disklist_mark_text(&m, text), 0);
	if (!err)
		err = io_sync(f);
	if (!err)
		err = io_rename(dir, DISKLIST_MARK ".tmp", DISKLIST_MARK);
	if (err) {
		io_close(f);
		return err;
	}
	disks_unlock_one(k, i);
	k->locks[i] = f;
	return io_dir_sync(dir, ".");
}

/* ---- the list ---- */

/* It is ours, or will be. */
static void keep_dir(struct opening *o, unsigned number, const struct store_disk *dir)
{
	o->k->numbers[o->k->ndirs] = number;
	o->k->dirs[o->k->ndirs++] = *dir;
}

/* -ENOENT: there is none. */
static int read_list(struct opening *o)
{
	char *text;
	int err = read_text(o->k->home, DISKLIST_NAME, DISKLIST_TEXT_MAX, &text);

	if (err)
		return err;
	err = disklist_parse(text, o->s->uuid, &o->k->list);
	free(text);
	if (err == -EINVAL)
		return refuse(o, STORE_ENOTSTORE, "%s/" DISKLIST_NAME ": no list of the directories of this store", o->shown);
	return err;
}

static bool is_named(const struct store_config *c, const char *path)
{
	for (size_t i = 0; i < c->ndisks; i++)
		if (!strcmp(c->disks[i], path))
			return true;
	return false;
}

/* A row's directory that came to another place must not be where it was, too: one of the two is a copy, or has left the store. */
static int check_left(struct opening *o, const struct disklist_row *row, const char *path, const struct store_disk *dir)
{
	const struct store_config *c = &o->s->config;
	struct store_disk old;
	struct disklist_mark m;
	char *text = NULL;
	bool there;

	if (c->open_disk ? c->open_disk(c->open_ctx, row->path, &old) : open_real((void *)c, row->path, &old))
		return 0;
	there = !read_text(old.dir, DISKLIST_MARK, DISKLIST_MARK_MAX - 1, &text) && !disklist_mark_parse(text, &m) &&
		!memcmp(m.uuid, o->s->uuid, sizeof(m.uuid)) && m.number == row->number &&
		(!dir->inode || old.device != dir->device || old.inode != dir->inode);
	free(text);
	io_dir_close(old.dir);
	if (there)
		return refuse(o, -EEXIST, "%s and %s are both marked as directory %u of the store %s: take away the one that is not", row->path, path,
			      row->number, o->shown);
	return 0;
}

/* A directory with a mark of ours may have come to another place. */
static int follow_moved(struct opening *o)
{
	const struct store_config *c = &o->s->config;

	for (size_t i = 0; i < c->ndisks; i++) {
		struct disklist_row *row;
		struct disklist_mark m;
		struct store_disk dir;
		char *path;
		int err;

		if (disklist_find_path(&o->k->list, c->disks[i]))
			continue;
		err = open_dir(o, c->disks[i], &dir);
		if (err)
			return err;
		err = read_mark(o, c->disks[i], dir.dir, &m);
		io_dir_close(dir.dir);
		row = err ? NULL : disklist_find(&o->k->list, m.number);
		if (err && err != -ENOENT)
			return err;
		if (!row)
			continue;
		err = check_left(o, row, c->disks[i], &dir);
		if (err)
			return err;
		path = strdup(c->disks[i]);
		if (!path)
			return -ENOMEM;
		free(row->path);
		row->path = path;
		o->changed = true;
	}
	return 0;
}

static int open_all_listed(struct opening *o)
{
	for (size_t i = 0; i < o->k->list.n; i++) {
		struct disklist_row *row = &o->k->list.v[i];
		bool named = is_named(&o->s->config, row->path);
		unsigned at = o->k->ndirs;
		struct disklist_mark m;
		struct store_disk dir;
		int err = open_listed(o, row, named, &dir);

		if (err)
			return err;
		o->undrain[at] = row->draining && named;
		keep_dir(o, row->number, &dir);
		err = lock_dir(o, row->path, dir.dir, &o->k->locks[at]);
		/* Nobody else writes it from here on. */
		if (!err)
			err = read_mark(o, row->path, dir.dir, &m);
		if (!err)
			err = check_newest(o, row->path, &m);
		if (err)
			return err;
		if (!o->s->config.follow)
			io_file_try_direct(dir.dir);
	}
	return 0;
}

/* A check, a rebuild and mounts that do not name it refuse another user's. */
static int check_owner(struct opening *o, const char *path, const struct store_disk *dir)
{
	const struct store_disk *home = &o->s->config.home;

	if (home->inode && dir->owner != home->owner)
		return refuse(o, -EPERM, "%s: the directory belongs to user %u, the store %s to user %u; have it belong to the same (chown) to add it",
			      path, dir->owner, o->shown, home->owner);
	return 0;
}

/* A directory that may be added, or is refused. */
static int look_at_named(struct opening *o, const char *path, const struct store_disk *dir, unsigned *number)
{
	int err = check_twice(o, path, dir);
	struct io *lock;

	if (!err)
		err = check_new(o, path, dir->dir, number);
	if (!err)
		err = check_owner(o, path, dir);
	if (err)
		return err;
	/* Its mark is written anew, and locked then. */
	err = lock_dir(o, path, dir->dir, &lock);
	if (!err && lock)
		io_close(lock);
	return err == -ENOENT ? 0 : err;
}

/* marked: it is, since an adding was cut short, or the list was lost. */
static int mark_named(struct opening *o, unsigned i, bool marked)
{
	const char *path = disklist_find(&o->k->list, o->k->numbers[i])->path;
	struct io_dir *dir = o->k->dirs[i].dir;
	int err = marked ? 0 : write_mark(o->s, dir, i);

	for (size_t f = 0; disklist_folders[f] && !err; f++)
		err = io_mkdir(dir, disklist_folders[f]);
	if (!err)
		err = io_dir_sync(dir, ".");
	if (err)
		return refuse(o, err, "%s: cannot be written: %s", path, strerror(-err));
	io_file_try_direct(dir);
	return marked ? lock_dir(o, path, dir, &o->k->locks[i]) : 0;
}

/* All are looked at before one is marked. */
static int add_named(struct opening *o)
{
	const struct store_config *c = &o->s->config;
	bool marked[DISKLIST_MAX + 1];
	unsigned first = o->k->ndirs;
	int err = 0;

	for (size_t i = 0; i < c->ndisks && !err; i++) {
		struct store_disk dir;
		unsigned number;

		if (disklist_find_path(&o->k->list, c->disks[i]))
			continue;
		err = open_dir(o, c->disks[i], &dir);
		if (err)
			return err;
		err = look_at_named(o, c->disks[i], &dir, &number);
		if (!err)
			err = disklist_add(&o->k->list, number, false, c->disks[i]);
		if (err) {
			io_dir_close(dir.dir);
			return o->why->text[0] ? err : refuse(o, err, "%s: cannot be added to the %zu directories of the store %s: %s",
							      c->disks[i], o->k->list.n, o->shown, strerror(-err));
		}
		marked[o->k->ndirs] = number > 0;
		keep_dir(o, disklist_find_path(&o->k->list, c->disks[i])->number, &dir);
		o->changed = true;
	}
	for (unsigned i = first; i < o->k->ndirs && !err; i++)
		err = mark_named(o, i, marked[i]);
	return err;
}

/* A mark that cannot be written is behind, which refuses nothing: what is written to others tells a copy. */
static void write_marks(struct store *s)
{
	struct disks *k = s->disks;

	for (unsigned i = 1; i < k->ndirs; i++) {
		const struct disklist_row *row = k->numbers[i] ? disklist_find(&k->list, k->numbers[i]) : NULL;
		int err = row ? write_mark(s, k->dirs[i].dir ? k->dirs[i].dir : io_spread_part(s->dir, i), i) : 0;

		if (err)
			log_warn("%s/" DISKLIST_MARK ": cannot be written: %s", row->path, strerror(-err));
	}
}

/* Invariant 2. With the next count. */
static int write_next_list(struct store *s)
{
	struct disks *k = s->disks;
	uint64_t before = k->list.mounts;
	int err;

	k->list.mounts = (before > k->mounts ? before : k->mounts) + 1;
	err = disks_write_list(k, s->uuid);
	if (err)
		k->list.mounts = before;
	return err;
}

int disks_count_mount(struct store *s)
{
	int err = s->disks && s->disks->list.n ? write_next_list(s) : -ENOENT;

	if (!err)
		write_marks(s);
	/* A store that is full can be emptied all the same. */
	else if (err_is_full(err))
		log_warn(DISKLIST_NAME ": cannot be written: %s; a copy of the store that is older by this mount is not told from it", strerror(-err));
	return err_is_full(err) || err == -ENOENT ? 0 : err;
}

static int store_list(struct opening *o)
{
	struct store *s = o->s;
	int err;

	if (o->k->unlisted || !o->k->list.n)
		return 0;
	if (!o->changed && s->format == STORE_FORMAT_SPREAD)
		return disks_count_mount(s);
	err = write_next_list(s);
	if (!err && s->format != STORE_FORMAT_SPREAD) {
		s->format = STORE_FORMAT_SPREAD;
		err = disks_write_mark(s, o->k);
	}
	if (!err)
		write_marks(s);
	return err;
}

static uint64_t keeps(uint64_t total_bytes)
{
	return room_reserve_of(total_bytes);
}

static int may_move(void *ctx, uint64_t bytes)
{
	return store_may_move(ctx, bytes);
}

static uint64_t owes(void *ctx, unsigned disk, bool all)
{
	return store_owed_on(ctx, disk, all);
}

static int spread(struct opening *o)
{
	struct io_spread_disk disks[DISKLIST_MAX + 1] = { { .dir = o->k->home, .shown = o->shown, .device = o->s->config.home.device } };
	const struct io_spread_config config = { .disks = disks, .n = o->k->ndirs, .folders = disklist_folders, .keeps = keeps,
						 .may_move = may_move, .owes = owes, .ctx = o->s, .scratch = LAYER_COMPACTING };
	int err;

	for (unsigned i = 1; i < o->k->ndirs; i++) {
		const struct disklist_row *row = disklist_find(&o->k->list, o->k->numbers[i]);

		disks[i] = (struct io_spread_disk){ .dir = o->k->dirs[i].dir, .shown = row->path, .device = o->k->dirs[i].device,
						    .draining = row->draining };
	}
	err = io_spread_dir(&config, &o->s->dir);
	if (err)
		return err;
	for (unsigned i = 0; i < o->k->ndirs; i++)
		io_file_divide(disks[i].dir, o->k->ndirs);
	for (unsigned i = 1; i < o->k->ndirs; i++)
		o->k->dirs[i].dir = NULL;
	return 0;
}

/* A directory that was to be emptied and is named again takes new data, once the names that count less are gone. */
static int undrain(struct opening *o)
{
	struct io_spread_state state;
	bool any = false;

	for (unsigned i = 1; i < o->k->ndirs; i++) {
		if (!o->undrain[i])
			continue;
		/* The names that count less may be there. */
		io_spread_look(o->s->dir, i, &state);
		if (state.failing) {
			log_warn("%s: fails: it takes no new data, and is still to be emptied", state.shown);
			continue;
		}
		disklist_find(&o->k->list, o->k->numbers[i])->draining = false;
		io_spread_set_draining(o->s->dir, i, false);
		any = true;
	}
	return any && !o->k->unlisted ? disks_write_list(o->k, o->s->uuid) : 0;
}

static int open_written(struct opening *o)
{
	int err = follow_moved(o);

	if (!err)
		err = open_all_listed(o);
	if (!err)
		err = add_named(o);
	if (!err)
		err = store_list(o);
	if (!err)
		err = spread(o);
	if (!err)
		err = io_spread_mend(o->s->dir);
	return err ? err : undrain(o);
}

/* Emptying the last one was cut short. What is left of the list are the numbers that were given. */
static int lower_format(struct opening *o)
{
	if (o->s->format != STORE_FORMAT_SPREAD || o->s->config.follow)
		return 0;
	o->s->format = STORE_FORMAT_VERSION;
	return disks_write_mark(o->s, o->k);
}

int disks_open(struct store *s, const char *shown, struct store_refusal *why)
{
	struct disks *k = calloc(1, sizeof(*k));
	struct opening o = { .s = s, .k = k, .shown = shown, .why = why };
	int err;

	if (!k)
		return -ENOMEM;
	k->home = s->dir;
	k->ndirs = 1;
	lock_init(&k->lock, RANK_UPLOAD);
	lock_cond_init(&k->asked);
	s->disks = k;
	err = read_list(&o);
	if (err == -ENOENT) {
		k->unlisted = s->format == STORE_FORMAT_SPREAD;
		err = 0;
		if (k->unlisted && (!s->config.ndisks || s->config.follow))
			return refuse(&o, -EUCLEAN, "%s/" DISKLIST_NAME " is lost: mount with -o pool= and all directories of the store", shown);
	}
	if (err || (!k->list.n && !s->config.ndisks))
		return err ? err : lower_format(&o);
	if (!s->config.follow)
		return open_written(&o);
	err = open_all_listed(&o);
	return err ? err : spread(&o);
}

int disks_settle(struct store *s)
{
	int err = disks_unlisted(s) ? write_next_list(s) : 0;

	if (err || !disks_unlisted(s))
		return err;
	s->disks->unlisted = false;
	write_marks(s);
	return 0;
}

bool disks_unlisted(const struct store *s)
{
	return s->disks && s->disks->unlisted;
}

void disks_close(struct store *s)
{
	struct disks *k = s->disks;

	if (!k)
		return;
	for (unsigned i = 1; i < k->ndirs; i++)
		if (k->dirs[i].dir)
			io_dir_close(k->dirs[i].dir);
	disklist_fini(&k->list);
	pthread_cond_destroy(&k->asked);
	lock_fini(&k->lock);
	free(k);
}

/* ---- looking ---- */

static const char *state_of(const struct io_spread_state *state)
{
	return state->draining ? "draining" : state->failing ? "failing" : state->full ? "full" : "ok";
}

char *disks_text(struct store *s)
{
	struct disks *k = s->disks;
	struct io_spread_state state;
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return NULL;
	for (unsigned i = 0; k && io_spread_look(s->dir, i, &state); i++) {
		unsigned number;

		lock_acquire(&k->lock);
		number = k->numbers[i];
		lock_release(&k->lock);
		if (i && !number)
			continue;
		fprintf(f, "%u %s %llu %llu %s\n", number, state_of(&state), (unsigned long long)state.total_bytes,
			(unsigned long long)state.avail_bytes, state.shown);
	}
	if (fclose(f)) {
		free(text);
		return NULL;
	}
	return text;
}
