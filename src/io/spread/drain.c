/*
 * A disk is emptied, file by file; and what a crash has left of moves is finished.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/spread/inside.h"
#include "util/err.h"
#include "util/vec.h"

/* ---- a disk that is to be emptied ---- */

struct search {
	struct spread *d;
	unsigned disk;
	const char *folder;
	char name[SPREAD_NAME_MAX];
	bool unnamed; /* it is NAME.moved there */
};

static bool ends_with(const char *name, const char *end)
{
	size_t n = strlen(name), m = strlen(end);

	return n > m && !strcmp(name + n - m, end);
}

static bool is_remnant(const char *name)
{
	return ends_with(name, SPREAD_MOVING) || ends_with(name, SPREAD_MOVED);
}

/* NAME.moved is the file if NAME is nowhere, and no move has just made it. */
static int search_unnamed(struct search *s, const char *name)
{
	const struct spread_file *f;
	int n = (int)(strlen(name) - strlen(SPREAD_MOVED)), err;

	if (s->d->disks[s->disk].incoming || (size_t)snprintf(s->name, sizeof(s->name), "%s/%.*s", s->folder, n, name) >= sizeof(s->name))
		return 0;
	f = spread_file_locked(s->d, s->name);
	if (f)
		return s->unnamed = f->unnamed && atomic_load(&f->disk) == s->disk;
	err = spread_find_locked(s->d, s->name, &(unsigned){ 0 });
	if (err != -ENOENT)
		return err;
	return s->unnamed = true;
}

/* A file whose name could not be deleted is there and elsewhere: it counts there. */
static int search_own(void *ctx, const char *name)
{
	struct search *s = ctx;
	const struct spread_file *f;
	unsigned disk;
	int err;

	if (ends_with(name, SPREAD_MOVED))
		return search_unnamed(s, name);
	/* NAME.moving means nothing. */
	if (is_remnant(name) || (size_t)snprintf(s->name, sizeof(s->name), "%s/%s", s->folder, name) >= sizeof(s->name))
		return 0;
	f = spread_file_locked(s->d, s->name);
	if (f)
		return atomic_load(&f->disk) == s->disk;
	err = spread_find_locked(s->d, s->name, &disk);
	if (err)
		return err == -ENOENT ? 0 : err;
	if (disk != s->disk && atomic_load(&s->d->disks[disk].draining))
		return spread_say_double(s->d, s->name, disk, s->disk);
	return disk == s->disk;
}

static int next_file_locked(struct spread *d, unsigned disk, struct spread_file **out)
{
	struct search s = { .d = d, .disk = disk };
	int err = 0;

	for (int i = 0; d->folders[i] && !err; i++) {
		s.folder = d->folders[i];
		err = io_list(d->disks[disk].dir, s.folder, search_own, &s);
		if (err == -ENOENT)
			err = 0;
	}
	if (err != 1)
		return err ? err : d->disks[disk].incoming ? -EBUSY : -ENODATA;
	err = s.unnamed ? spread_name_locked(d, s.name, &disk) : 0;
	if (err)
		return err;
	return spread_use_locked(d, s.name, IO_OF_OTHER, disk, out);
}

int io_spread_drain(struct io_dir *dir, unsigned disk, uint64_t *moved_bytes)
{
	struct spread *d = (struct spread *)dir;
	struct spread_file *f;
	uint64_t stored = 0;
	struct io *io;
	int err, to = -1;

	if (disk >= d->n || !atomic_load(&d->disks[disk].draining))
		return -EINVAL;
	lock_acquire(&d->names);
	err = next_file_locked(d, disk, &f);
	lock_release(&d->names);
	if (err)
		return err;
	err = io_open(d->disks[disk].dir, f->name, IO_RDONLY, &io);
	if (!err) {
		err = io_size(io, NULL, &stored);
		io_close(io);
	}
	if (!err) {
		/* A disk that has refused a write may have room by this time. */
		for (unsigned i = 0; i < d->n; i++)
			atomic_store(&d->disks[i].full_until_ns, 0);
		to = spread_roomiest(d, (int)disk, stored);
		err = to < 0 ? -ENOSPC : d->may_move ? d->may_move(d->ctx, stored) : 0;
	}
	if (!err)
		err = spread_move(d, f, disk, (unsigned)to, moved_bytes);
	lock_acquire(&d->names);
	spread_unuse_locked(d, f);
	lock_release(&d->names);
	return err == -ENOENT || err == -EAGAIN ? 0 : err;
}

int io_spread_forget(struct io_dir *dir, unsigned disk, const char *mark)
{
	struct spread *d = (struct spread *)dir;
	struct io_dir *of = d->disks[disk].dir;
	int err = io_unlink(of, mark);

	if (!err)
		err = io_dir_sync(of, ".");
	lock_acquire(&d->names);
	atomic_store(&d->disks[disk].removed, true);
	spread_retire_locked(d, disk);
	lock_release(&d->names);
	return err;
}

/* ---- after a crash ---- */

struct mend {
	struct spread *d;
	unsigned disk, folder;
	char (*names)[SPREAD_NAME_MAX];
	size_t n, cap;
};

static int note_name(void *ctx, const char *name)
{
	struct mend *m = ctx;

	if (VEC_RESERVE(m->names, m->cap, m->n + 1))
		return -ENOMEM;
	if ((size_t)snprintf(m->names[m->n], SPREAD_NAME_MAX, "%s/%s", m->d->folders[m->folder], name) < SPREAD_NAME_MAX)
		m->n++;
	return 0;
}

/* The file itself is elsewhere, or it is what was moved. It stays while a disk that may have the file, or another remnant of it, cannot be
 * asked. */
static int mend_remnant(struct mend *m, char *name)
{
	struct io_dir *dir = m->d->disks[m->disk].dir;
	char whole[SPREAD_NAME_MAX];
	unsigned disk;
	size_t len = strlen(name) - strlen(SPREAD_MOVED);
	bool moved = !strcmp(name + len, SPREAD_MOVED);
	int err;

	memcpy(whole, name, len);
	whole[len] = '\0';
	err = moved ? spread_find_locked(m->d, whole, &disk) : 0;
	if (!err)
		return io_unlink(dir, name);
	if (err == -ENOENT)
		err = spread_find_moved_locked(m->d, name, &disk);
	if (!err)
		return io_rename(dir, name, whole);
	return err == -EEXIST || err == -EUCLEAN || err_is_passing(err) ? err : 0;
}

/* A name that is on another disk, too. */
static int mend_double(struct mend *m, const char *name)
{
	const char *scratch = m->d->scratch;
	unsigned disk;
	int err = scratch && !strcmp(name, scratch) ? -ENOENT : spread_find_locked(m->d, name, &disk);

	if (err || disk == m->disk)
		return err == -ENOENT ? 0 : err;
	if (!atomic_load(&m->d->disks[m->disk].draining) || atomic_load(&m->d->disks[disk].draining))
		return spread_say_double(m->d, name, disk, m->disk);
	return io_unlink(m->d->disks[m->disk].dir, name);
}

static int mend_folder(struct mend *m)
{
	struct io_dir *dir = m->d->disks[m->disk].dir;
	int err = io_mkdir(dir, m->d->folders[m->folder]);

	if (!err)
		err = io_list(dir, m->d->folders[m->folder], note_name, m);
	for (size_t i = 0; i < m->n && !err; i++)
		err = is_remnant(m->names[i]) ? mend_remnant(m, m->names[i]) : m->disk ? mend_double(m, m->names[i]) : 0;
	if (!err)
		err = spread_sync_folder(m->d, m->disk, m->folder, false);
	if (!err)
		err = io_dir_sync(dir, ".");
	free(m->names);
	return err;
}

/* Two disks may have it: one that failed has kept it, and it was made anew. A disk that keeps it now is known to fail. */
static void forget_scratch(struct spread *d)
{
	char moved[SPREAD_NAME_MAX + 8];

	if (!d->scratch || !spread_moved_name(d->scratch, moved))
		return;
	for (unsigned i = 0; i < d->n; i++) {
		int err = io_unlink(d->disks[i].dir, d->scratch);

		if (i && err && err != -ENOENT)
			spread_refused(d, i, d->scratch, err);
		io_unlink(d->disks[i].dir, moved);
	}
}

int io_spread_mend(struct io_dir *dir)
{
	struct spread *d = (struct spread *)dir;
	int err = 0;

	atomic_store(&d->mended, true);
	lock_acquire(&d->names);
	forget_scratch(d);
	for (unsigned i = 0; i < d->n && !err; i++) {
		for (unsigned f = 0; d->folders[f] && !err; f++) {
			struct mend m = { .d = d, .disk = i, .folder = f };

			err = mend_folder(&m);
			if (err && i && err != -EEXIST && err != -EUCLEAN && !err_is_passing(err)) {
				spread_refused(d, i, d->folders[f], err);
				err = 0;
			}
		}
	}
	lock_release(&d->names);
	return err;
}
