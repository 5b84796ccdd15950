/*
 * The directories of the store on other disks, for the check.
 *
 * Invariants:
 * 1. One that is not there, or is not this store's, ends the check before anything is said to be lost or is changed.
 * 2. A name in a directory that is to be emptied counts less than in any other.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "io/beneath.h"
#include "store/disklist.h"
#include "store/mark.h"
#include "store/store.h"
#include "tool/check/inside.h"
#include "util/clock.h"

static int read_text(int dirfd, const char *path, size_t max, char **out)
{
	char *text = calloc(1, max + 1);
	int fd, err = text ? beneath_open(dirfd, path, O_RDONLY, &fd) : -ENOMEM;

	if (!err) {
		err = pread(fd, text, max, 0) < 0 ? -errno : 0;
		close(fd);
	}
	if (err)
		free(text);
	else
		*out = text;
	return err;
}

/* A list that was planted must not lead to what is another user's. */
static int check_owner(struct check *c, const struct disklist_row *row, int fd)
{
	struct stat ours, theirs;

	if (fstat(c->dirfd, &ours) < 0 || fstat(fd, &theirs) < 0)
		return check_fail(c, -errno, "%s: %s", row->path, strerror(errno));
	if (ours.st_uid != theirs.st_uid)
		return check_fail(c, -EPERM, "%s: this directory of the store belongs to user %u, the store to user %u; have both belong to one (chown)", row->path,
				  (unsigned)theirs.st_uid, (unsigned)ours.st_uid);
	return 0;
}

static int check_mark(struct check *c, const struct disklist_row *row, uint64_t mounts, int fd)
{
	struct disklist_mark m;
	char *text;
	int err = read_text(fd, DISKLIST_MARK, DISKLIST_MARK_MAX - 1, &text);

	if (err == -ENOENT)
		return check_fail(c, err, "%s: the directory holds nothing of this store (there is no " DISKLIST_MARK
				  "); mount the file system that it is on, or bring it back", row->path);
	if (err)
		return check_fail(c, err, "%s/" DISKLIST_MARK ": %s", row->path, strerror(-err));
	err = disklist_mark_parse(text, &m);
	free(text);
	if (err || memcmp(m.uuid, c->uuid, sizeof(m.uuid)) || m.number != row->number)
		return check_fail(c, -ENOTDIR, "%s: it is not directory %u of this store", row->path, row->number);
	if (m.mounts > mounts)
		return check_fail(c, -ESTALE, "%s: this directory was used by a newer state of the store, of which this one is a copy, or was restored: use"
				  " the newer one (if only the file " DISKLIST_NAME " was put back, delete that, and mount with -o pool= and all directories);"
				  " if it is lost, spillctl rebuild --force makes a new meta.db from the layers, without buckets", row->path);
	return 0;
}

/* As the store's lock, which a copy of the store's own directory does not share: others may look, too, while nothing changes. */
static int lock_mark(struct check *c, const struct disklist_row *row, int fd, int *lock_out)
{
	int err = beneath_open(fd, DISKLIST_MARK, c->repair ? O_RDWR : O_RDONLY, lock_out);
	unsigned tries = 0;

	if ((err == -EROFS || err == -EACCES) && c->repair)
		err = beneath_open(fd, DISKLIST_MARK, O_RDONLY, lock_out);
	if (err)
		return check_fail(c, err, "%s/" DISKLIST_MARK ": %s", row->path, strerror(-err));
	while (flock(*lock_out, (c->repair ? LOCK_EX : LOCK_SH) | LOCK_NB)) {
		if (errno == EBADF) /* NFS that is read-only: nobody writes there */
			break;
		if (errno != EWOULDBLOCK && errno != EINTR)
			return check_fail(c, -errno, "%s/" DISKLIST_MARK ": cannot be locked: %s", row->path, strerror(errno));
		if (++tries > DISKLIST_LOCK_TRIES)
			return check_fail(c, -EBUSY, "%s: this directory of the store is in use by another process: one of two stores that have it is"
					  " a copy of the other", row->path);
		clock_sleep_ns(DISKLIST_LOCK_NS);
	}
	return 0;
}

static int open_one(struct check *c, const struct disklist_row *row, uint64_t mounts)
{
	struct check_disk *d = &c->disks[c->ndisks];
	int fd = open(row->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), lock = -1, err;

	if (fd < 0)
		return check_fail(c, -errno, "%s: this directory of the store cannot be read: %s; mount the file system that it is on, or "
				  "bring it back", row->path, strerror(errno));
	err = check_owner(c, row, fd);
	if (!err)
		err = check_mark(c, row, mounts, fd);
	if (!err)
		err = lock_mark(c, row, fd, &lock);
	/* A mount that has ended since may have written another one. */
	if (!err)
		err = check_mark(c, row, mounts, fd);
	if (!err && !(d->path = strdup(row->path)))
		err = -ENOMEM;
	if (err) {
		if (lock >= 0)
			close(lock);
		close(fd);
		return err;
	}
	d->fd = fd;
	d->lock_fd = lock;
	d->draining = row->draining;
	c->ndisks++;
	return 0;
}

int check_disks_open(struct check *c)
{
	struct disklist list = { .n = 0 };
	char *text;
	int err = c->disks ? 0 : read_text(c->dirfd, DISKLIST_NAME, DISKLIST_TEXT_MAX, &text);

	if (c->disks)
		return 0;
	if (err == -ENOENT && c->format != STORE_FORMAT_SPREAD)
		return 0;
	if (err == -ENOENT)
		return check_fail(c, err, DISKLIST_NAME ", the list of the store's directories, is lost; mount it once with -o pool= and all of them");
	if (err)
		return check_fail_file(c, err, DISKLIST_NAME);
	err = disklist_parse(text, c->uuid, &list);
	free(text);
	if (err)
		return check_fail(c, err, DISKLIST_NAME ": no list of the directories of this store");
	c->disks = calloc(list.n + 1, sizeof(*c->disks));
	err = c->disks ? 0 : -ENOMEM;
	for (size_t i = 0; i < list.n && !err; i++)
		err = open_one(c, &list.v[i], list.mounts);
	disklist_fini(&list);
	return err;
}

int check_disks_know(struct check *c)
{
	char *text;
	int err = read_text(c->dirfd, DISKLIST_NAME, DISKLIST_TEXT_MAX, &text);

	if (err)
		return err == -ENOENT ? err : check_fail_file(c, err, DISKLIST_NAME);
	err = disklist_uuid(text, c->uuid);
	free(text);
	if (err)
		return check_fail(c, -EINVAL, DISKLIST_NAME ": no list of the directories of this store");
	c->format = STORE_FORMAT_SPREAD;
	err = check_disks_open(c);
	if (!err && !c->ndisks)
		c->format = STORE_FORMAT_VERSION;
	return err == -ENOENT ? -ENXIO : err;
}

/* Counts in *ctx a file that is not here. */
static int count_absent(struct check *c, sqlite3_value **v)
{
	const char *name = (const char *)sqlite3_value_text(v[0]);
	struct stat st;

	if (name && beneath_stat(c->dirfd, name, &st) == -ENOENT)
		++*(unsigned *)c->ctx;
	return 0;
}

int check_disks_none(struct check *c)
{
	char uuid[MARK_UUID_TEXT];
	unsigned absent = 0;
	struct stat st;
	void *ctx = c->ctx;
	int err;

	/* Where meta.db cannot be read its pass ends the check. */
	if (beneath_stat(c->dirfd, "meta.db", &st) || check_db_read(c))
		return 0;
	c->ctx = &absent;
	err = check_rows(c, "SELECT DISTINCT printf('pool/%02d', file) FROM extents UNION ALL"
			 " SELECT printf('layers/%08d.zst', number) FROM layers", count_absent);
	c->ctx = ctx;
	check_db_close(c);
	if (err || !absent)
		return err == -ECANCELED ? err : 0;
	mark_uuid_text(c->uuid, uuid);
	return check_fail(c, -ENOENT, "SPILLFS is lost, and %u files that meta.db names are not here, nor is the list of the directories that they may be "
			  "in: bring " DISKLIST_NAME " back; if the store never had others, make SPILLFS of the lines \"spillfs 2\" and \"uuid %s\"",
			  absent, uuid);
}

void check_disks_close(struct check *c)
{
	for (size_t i = 0; i < c->ndisks; i++) {
		close(c->disks[i].lock_fd);
		close(c->disks[i].fd);
		free(c->disks[i].path);
	}
	free(c->disks);
	c->disks = NULL;
	c->ndisks = 0;
}

static bool has(int fd, const char *path)
{
	struct stat st;

	return beneath_stat(fd, path, &st) != -ENOENT;
}

bool check_has(struct check *c, const char *path)
{
	bool any = has(c->dirfd, path);

	for (size_t i = 0; i < c->ndisks && !any; i++)
		any = has(c->disks[i].fd, path);
	return any;
}

unsigned check_places_of(struct check *c, const char *path)
{
	unsigned n = has(c->dirfd, path);

	for (size_t i = 0; i < c->ndisks; i++)
		n += !c->disks[i].draining && has(c->disks[i].fd, path);
	return n;
}

int check_home_of(struct check *c, const char *path)
{
	int lesser = c->dirfd;

	if (has(c->dirfd, path))
		return c->dirfd;
	for (size_t i = 0; i < c->ndisks; i++) {
		if (!has(c->disks[i].fd, path))
			continue;
		if (!c->disks[i].draining)
			return c->disks[i].fd;
		lesser = c->disks[i].fd;
	}
	return lesser;
}

static int open_again(int dirfd, struct io_dir **out)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int err = fd < 0 ? -errno : io_file_dir(fd, IO_BACKING_BUFFERED, NULL, out);

	if (err && fd >= 0)
		close(fd);
	return err;
}

static uint64_t keeps_nothing(uint64_t total_bytes)
{
	(void)total_bytes;
	return 0;
}

int check_disks_spread(struct check *c, struct io_dir **out)
{
	static const char *const folders[] = { "pool", "layers", NULL };
	struct io_spread_disk disks[DISKLIST_MAX + 1] = { { .shown = c->shown } };
	unsigned n = 0;
	int err = open_again(c->dirfd, &disks[0].dir);

	if (err || !c->ndisks) {
		*out = disks[0].dir;
		return err;
	}
	for (n = 1; n <= c->ndisks && !err; n++) {
		disks[n] = (struct io_spread_disk){ .shown = c->disks[n - 1].path, .draining = c->disks[n - 1].draining };
		err = open_again(c->disks[n - 1].fd, &disks[n].dir);
		if (err)
			break;
	}
	if (!err)
		err = io_spread_dir(&(struct io_spread_config){ .disks = disks, .n = n, .folders = folders, .keeps = keeps_nothing }, out);
	while (err && n > 0)
		io_dir_close(disks[--n].dir);
	return err;
}
