/*
 * Files that are spread: their handles, and transfers.
 *
 * Invariants: (1) a transfer holds `writers` or `readers`, so that its place stays; (2) the sync of a file to which nothing was written
 * since the last one does nothing, also on a disk that fails.
 */
#include <errno.h>
#include <stdlib.h>

#include "io/spread/inside.h"
#include "util/clock.h"
#include "util/err.h"

static struct spread_handle *to_handle(struct io *io)
{
	return (struct spread_handle *)io;
}

static int spread_pread_some(struct io *io, void *buf, size_t n, uint64_t off, unsigned how, size_t *out)
{
	struct spread_handle *h = to_handle(io);
	int err;

	rwlock_shared(&h->file->readers);
	err = h->inner->ops->pread_some(h->inner, buf, n, off, how, out);
	rwlock_release(&h->file->readers);
	return err;
}

static int spread_size(struct io *io, uint64_t *size, uint64_t *stored_bytes)
{
	struct spread_handle *h = to_handle(io);
	int err;

	rwlock_shared(&h->file->readers);
	err = io_size(h->inner, size, stored_bytes);
	rwlock_release(&h->file->readers);
	return err;
}

/* A layered file leaves a disk that does not take n bytes more, for the first that takes them with all that it has. */
static bool can_leave(struct spread_handle *h, unsigned disk, int err, uint64_t n)
{
	struct spread *d = h->spread;
	uint64_t stored = 0;
	int to, failed = -EAGAIN;

	if (h->file->kind != IO_OF_LAYERED || (!err_is_full(err) && !atomic_load(&d->disks[disk].failing)) ||
	    spread_size(&h->base, NULL, &stored))
		return false;
	for (unsigned i = 0; i < d->n && failed; i++) {
		to = spread_roomiest(d, (int)disk, stored + n);
		if (to < 0)
			return false;
		failed = spread_move(d, h->file, disk, (unsigned)to, &(uint64_t){ 0 });
		if (failed && spread_room(d, (unsigned)to))
			return false;
	}
	return !failed;
}

/* Ends a change of [off, off + n). */
static void changed(struct spread_handle *h, uint64_t off, uint64_t n)
{
	atomic_store(&h->file->dirty, true);
	spread_record(h->file, off, n);
}

/* Has the disk n bytes beside what it leaves to writes that are not sparing? The home's are counted by who writes. */
static bool spares(struct spread *d, unsigned disk, uint64_t n)
{
	struct io_dir *dir = disk ? spread_enter(d, disk) : NULL;
	uint64_t total, avail;
	int err = dir ? io_space(dir, &total, &avail) : -ENOENT;

	if (dir)
		spread_leave(d, disk);
	return err || avail >= n + d->keeps(total) / 2;
}

static int spread_pwrite(struct io *io, const void *buf, size_t n, uint64_t off, unsigned how)
{
	struct spread_handle *h = to_handle(io);
	unsigned disk, moves = 0;
	int err;

	do {
		rwlock_shared(&h->file->writers);
		disk = atomic_load(&h->file->disk);
		err = (how & IO_SPARING) && !spares(h->spread, disk, n) ? -ENOSPC : io_pwrite_as(h->inner, buf, n, off, how & ~IO_SPARING);
		/* A part may be in: a copy must have it, and it is not to be synced. */
		if (err)
			spread_record(h->file, off, n);
		else
			changed(h, off, n);
		rwlock_release(&h->file->writers);
		if (!err)
			atomic_fetch_add(&h->spread->disks[disk].unsynced_bytes, n);
		else
			spread_refused(h->spread, disk, h->file->name, err);
	} while (err && moves++ < h->spread->n && can_leave(h, disk, err, n));
	return err;
}

static int spread_sync(struct io *io)
{
	struct spread_handle *h = to_handle(io);
	struct spread_disk *k;
	int64_t from;
	int err = 0, lost;

	rwlock_shared(&h->file->writers);
	k = &h->spread->disks[atomic_load(&h->file->disk)];
	if (atomic_exchange(&h->file->dirty, false)) {
		from = clock_monotonic_ns();
		err = io_sync(h->inner);
		if (err)
			atomic_store(&h->file->dirty, true);
		else
			spread_note_speed(k, clock_monotonic_ns() - from);
	}
	/* The kernel tells a lost write once. */
	lost = atomic_exchange(&h->file->lost, 0);
	if (lost)
		err = lost;
	rwlock_release(&h->file->writers);
	if (err)
		spread_refused(h->spread, (unsigned)(k - h->spread->disks), h->file->name, err);
	return err;
}

/* A truncation (n is UINT64_MAX), allocation or hole. */
static int change(struct io *io, int (*make)(struct io *f, uint64_t off, uint64_t n), uint64_t off, uint64_t n)
{
	struct spread_handle *h = to_handle(io);
	int err;

	rwlock_shared(&h->file->writers);
	err = make(h->inner, off, n);
	if (!err)
		changed(h, off, n);
	rwlock_release(&h->file->writers);
	return err;
}

static int make_truncate(struct io *f, uint64_t size, uint64_t n)
{
	(void)n;
	return io_truncate(f, size);
}

static int spread_truncate(struct io *io, uint64_t size)
{
	return change(io, make_truncate, size, UINT64_MAX - size);
}

static int spread_allocate(struct io *io, uint64_t off, uint64_t n)
{
	return change(io, io_allocate, off, n);
}

static int spread_punch(struct io *io, uint64_t off, uint64_t n)
{
	return change(io, io_punch, off, n);
}

static int spread_seek_data(struct io *io, uint64_t off, bool hole, uint64_t *out)
{
	struct spread_handle *h = to_handle(io);
	int err;

	rwlock_shared(&h->file->readers);
	err = io_seek(h->inner, off, hole, out);
	rwlock_release(&h->file->readers);
	return err;
}

static bool spread_find_allocated(struct io *io, uint64_t off, uint64_t n, uint64_t *from, uint64_t *to)
{
	struct spread_handle *h = to_handle(io);
	bool found;

	rwlock_shared(&h->file->readers);
	found = io_find_allocated(h->inner, off, n, from, to);
	rwlock_release(&h->file->readers);
	return found;
}

static int spread_lend(struct io *io, int (*use)(void *ctx, int fd), void *ctx)
{
	struct spread_handle *h = to_handle(io);
	int err;

	rwlock_shared(&h->file->readers);
	err = io_lend(h->inner, use, ctx);
	rwlock_release(&h->file->readers);
	return err;
}

static unsigned spread_disk_of(struct io *io)
{
	return atomic_load(&to_handle(io)->file->disk);
}

static bool spread_takes(struct io *io)
{
	struct spread_handle *h = to_handle(io);
	unsigned disk = atomic_load(&h->file->disk);

	return spread_room(h->spread, disk) || (!disk && spread_roomiest(h->spread, 0, 0) < 0);
}

/* Somewhat less than `spares` grants, for frames that are a little longer than their blocks; at home what the store lets its writers have. A disk
 * that fails is not left by a seal, which would have to write there. */
static bool spread_lacks(struct io *io, uint64_t need_bytes, uint64_t *left)
{
	struct spread_handle *h = to_handle(io);
	struct spread *d = h->spread;
	unsigned disk = atomic_load(&h->file->disk);
	const struct spread_disk *k = &d->disks[disk];
	int64_t room, most;
	uint64_t keep;
	int other;

	if (!spread_balance(d, disk, false, &room, &keep))
		return false;
	/* statfs does not know of quotas. */
	if (spread_was_full(k)) {
		room = room < 0 ? room : 0;
		keep = 0;
	}
	most = room + (int64_t)(disk ? keep / 4 : keep);
	*left = most > 0 ? (uint64_t)most : 0;
	if (atomic_load(&k->failing) || (room > 0 && (uint64_t)room >= need_bytes))
		return false;
	if (disk && room <= 0)
		return true;
	other = spread_roomiest(d, (int)disk, 0);
	return other >= 0 && (int64_t)(spread_room(d, (unsigned)other) / 2) > room;
}

static void spread_close(struct io *io)
{
	struct spread_handle *h = to_handle(io), **at = &h->file->handles;
	struct spread *d = h->spread;
	struct io *inner;
	unsigned disk;

	lock_acquire(&d->names);
	while (h->file->settling)
		lock_wait(&d->names, &d->moved);
	while (*at != h)
		at = &(*at)->next;
	*at = h->next;
	inner = h->inner;
	disk = atomic_load(&h->file->disk);
	h->file->closing++;
	lock_release(&d->names);
	spread_close_inner(d, disk, inner); /* may take long, and cuts the file to its length */
	lock_acquire(&d->names);
	if (!--h->file->closing && h->file->moving)
		lock_broadcast(&d->moved);
	spread_unuse_locked(d, h->file);
	spread_retire_locked(d, disk);
	lock_release(&d->names);
	free(h);
}

static const struct io_ops spread_ops = {
	.pread_some = spread_pread_some,
	.pwrite = spread_pwrite,
	.sync = spread_sync,
	.truncate = spread_truncate,
	.allocate = spread_allocate,
	.punch = spread_punch,
	.size = spread_size,
	.seek_data = spread_seek_data,
	.find_allocated = spread_find_allocated,
	.lend = spread_lend,
	.disk = spread_disk_of,
	.takes = spread_takes,
	.lacks = spread_lacks,
	.close = spread_close,
};

/* Opens the file on its disk; a handle is added to it. */
int spread_open_locked(struct spread *d, const char *name, unsigned flags, unsigned disk, struct io **out)
{
	struct spread_handle *h = calloc(1, sizeof(*h));
	int err = h ? spread_use_locked(d, name, flags & IO_OF_MASK, disk, &h->file) : -ENOMEM;

	if (err) {
		free(h);
		return err;
	}
	err = spread_open_inner(d, atomic_load(&h->file->disk), name, flags, &h->inner);
	if (err) {
		/* A mount is refused then: the log says which disk it was. */
		if (!(flags & IO_RDONLY) && err != -ENOENT && err != -EEXIST && err != -EUCLEAN)
			spread_refused(d, atomic_load(&h->file->disk), name, err);
		spread_unuse_locked(d, h->file);
		free(h);
		return err;
	}
	h->base.ops = &spread_ops;
	h->spread = d;
	h->flags = flags & ~(IO_CREATE | IO_EXCL);
	h->next = h->file->handles;
	h->file->handles = h;
	*out = &h->base;
	return 0;
}
