/*
 * A directory of files that nothing makes durable: names in memory, bytes in memory up to a budget and beyond it in one file of another
 * directory that never has a name. All of it ends with the process, however that ends.
 *
 * Invariants: (1) a file lives while it has a name or is open; its bytes are freed under no lock; (2) the disk below sees bytes for which
 * there was no memory, and nothing else.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "io/cipher.h"
#include "io/io.h"
#include "io/names.h"
#include "io/pieces.h"
#include "util/clock.h"
#include "util/lock.h"
#include "util/plant.h"

#define SPILL_FILE (PLANTED(PLANT_SCRATCH_NAMED) ? IO_CREATE : IO_CREATE | IO_EXCL | IO_UNNAMED | IO_OF_SPILL)
#define SPILL_SIZE_MAX ((uint64_t)1 << 44)
/* A disk with so much is not asked again for so long. One with less is asked each time: what is freed there is waited for. */
#define AMPLE_BYTES ((uint64_t)1 << 30)
#define ASK_EVERY_NS 10000000

struct spill_handle;

struct spill_file {
	unsigned refs;               /* the directory's lock: names and handles */
	struct spill_handle *locker; /* the directory's lock: io_lock */
	struct pieces pieces;
};

/* The disk's answer, and when it was given. */
struct answered {
	uint64_t total, avail, transfers;
	int64_t ns;
};

struct spill_dir {
	struct io_dir base;
	struct io_dir *below;
	struct piece_space space;
	struct lock lock; /* all below */
	struct names names;
	struct answered space_below;
};

struct spill_handle {
	struct io base;
	struct spill_dir *dir;
	struct spill_file *file;
	bool rdonly;
};

static struct spill_handle *to_handle(struct io *io)
{
	return (struct spill_handle *)io;
}

static struct spill_dir *to_dir(struct io_dir *d)
{
	return (struct spill_dir *)d;
}

/* ---- files ---- */

static struct spill_file *file_new(struct spill_dir *d, bool kept)
{
	struct spill_file *f = calloc(1, sizeof(*f));

	if (f)
		pieces_init(&f->pieces, &d->space, kept);
	return f;
}

/* NULL is allowed. */
static void file_unref(struct spill_dir *d, struct spill_file *f)
{
	bool last;

	if (!f)
		return;
	lock_acquire(&d->lock);
	last = --f->refs == 0;
	lock_release(&d->lock);
	if (!last)
		return;
	pieces_fini(&f->pieces);
	free(f);
}

static int spill_pread_some(struct io *io, void *buf, size_t n, uint64_t off, unsigned how, size_t *out)
{
	return pieces_read(&to_handle(io)->file->pieces, buf, n, off, how, out);
}

/* Where a change may end. */
static int check_change(const struct spill_handle *h, uint64_t off, uint64_t n)
{
	if (h->rdonly)
		return -EBADF;
	return off > SPILL_SIZE_MAX || n > SPILL_SIZE_MAX - off ? -EFBIG : 0;
}

static int spill_pwrite(struct io *io, const void *buf, size_t n, uint64_t off, unsigned how)
{
	int err = check_change(to_handle(io), off, n);

	return err ? err : pieces_write(&to_handle(io)->file->pieces, buf, n, off, how);
}

static int spill_sync(struct io *io)
{
	(void)io;
	return 0;
}

static int spill_truncate(struct io *io, uint64_t size)
{
	int err = check_change(to_handle(io), size, 0);

	return err ? err : pieces_set_size(&to_handle(io)->file->pieces, size);
}

static int spill_dir_space(struct io_dir *dir, uint64_t *total, uint64_t *avail);

/* Asks first whether there is so much, since what has been reserved until it fails stays so. */
static int spill_allocate(struct io *io, uint64_t off, uint64_t n)
{
	struct spill_handle *h = to_handle(io);
	uint64_t total, avail;
	int err = check_change(h, off, n);

	if (!err)
		err = spill_dir_space(&h->dir->base, &total, &avail);
	if (!err && n > avail && !io_is_allocated(io, off, n))
		err = -ENOSPC;
	return err || !n ? err : pieces_reserve(&h->file->pieces, off, off + n);
}

static int spill_punch(struct io *io, uint64_t off, uint64_t n)
{
	struct spill_handle *h = to_handle(io);

	if (h->rdonly)
		return -EBADF;
	return n ? pieces_punch(&h->file->pieces, off, n > UINT64_MAX - off ? UINT64_MAX : off + n) : 0;
}

static int spill_size(struct io *io, uint64_t *size, uint64_t *stored_bytes)
{
	const struct pieces *p = &to_handle(io)->file->pieces;

	if (size)
		*size = atomic_load(&p->size_bytes);
	if (stored_bytes)
		*stored_bytes = atomic_load(&p->stored_pages) * FRAME_PAGE;
	return 0;
}

static int spill_seek_data(struct io *io, uint64_t off, bool hole, uint64_t *out)
{
	return pieces_seek(&to_handle(io)->file->pieces, off, hole, out);
}

static bool spill_find_allocated(struct io *io, uint64_t off, uint64_t n, uint64_t *from, uint64_t *to)
{
	return pieces_find(&to_handle(io)->file->pieces, off, off + n, from, to);
}

static uint64_t spill_saved(struct io *io, uint64_t off, uint64_t n, bool touched)
{
	return pieces_saved(&to_handle(io)->file->pieces, off, off + n, touched);
}

/* A lock is one for the whole file, whatever range is asked for. */
static int spill_lock(struct io *io, uint64_t off, uint64_t n)
{
	struct spill_handle *h = to_handle(io);
	int err = 0;

	(void)off, (void)n;
	lock_acquire(&h->dir->lock);
	if (h->file->locker && h->file->locker != h)
		err = -EWOULDBLOCK;
	else
		h->file->locker = h;
	lock_release(&h->dir->lock);
	return err;
}

static void spill_close(struct io *io)
{
	struct spill_handle *h = to_handle(io);

	lock_acquire(&h->dir->lock);
	if (h->file->locker == h)
		h->file->locker = NULL;
	lock_release(&h->dir->lock);
	file_unref(h->dir, h->file);
	free(h);
}

static const struct io_ops spill_ops = {
	.pread_some = spill_pread_some,
	.pwrite = spill_pwrite,
	.sync = spill_sync,
	.truncate = spill_truncate,
	.allocate = spill_allocate,
	.punch = spill_punch,
	.size = spill_size,
	.seek_data = spill_seek_data,
	.find_allocated = spill_find_allocated,
	.saved = spill_saved,
	.lock = spill_lock,
	.close = spill_close,
};

/* ---- names ---- */

/* `fresh` is used if there is no such file; else it stays the caller's. */
static int find_or_add_locked(struct spill_dir *d, const char *name, unsigned flags, struct spill_file **fresh, struct spill_file **out)
{
	bool unnamed = flags & IO_UNNAMED;
	void *found;
	int err = -ENOENT;

	if (!unnamed && (flags & IO_CREATE) && (flags & IO_EXCL) && names_find(&d->names, name))
		return -EEXIST;
	if (!unnamed)
		err = names_file(&d->names, name, &found);
	if (err == -ENOENT && *fresh) {
		err = unnamed ? 0 : names_add(&d->names, name, *fresh);
		if (err)
			return err;
		found = *fresh;
		(*fresh)->refs = !unnamed;
		*fresh = NULL;
	}
	if (err)
		return err;
	*out = found;
	(*out)->refs++;
	return 0;
}

static int spill_dir_open(struct io_dir *dir, const char *name, unsigned flags, struct io **out)
{
	struct spill_dir *d = to_dir(dir);
	struct spill_file *fresh = NULL;
	struct spill_handle *h;
	int err;

	if (name[0] == '/' || ((flags & IO_RDONLY) && (flags & IO_CREATE)))
		return -EINVAL;
	h = calloc(1, sizeof(*h));
	if (!h || ((flags & IO_CREATE) && !(fresh = file_new(d, flags & IO_PINNED)))) {
		free(h);
		return -ENOMEM;
	}
	h->base.ops = &spill_ops;
	h->dir = d;
	h->rdonly = flags & IO_RDONLY;
	lock_acquire(&d->lock);
	err = find_or_add_locked(d, name, flags, &fresh, &h->file);
	lock_release(&d->lock);
	if (fresh) {
		pieces_fini(&fresh->pieces);
		free(fresh);
	}
	if (err) {
		free(h);
		return err;
	}
	*out = &h->base;
	return 0;
}

static int spill_dir_unlink(struct io_dir *dir, const char *name)
{
	struct spill_dir *d = to_dir(dir);
	void *file = NULL;
	int err;

	lock_acquire(&d->lock);
	err = names_remove(&d->names, name, &file);
	lock_release(&d->lock);
	file_unref(d, file);
	return err;
}

static int spill_dir_rename(struct io_dir *dir, const char *from, const char *to)
{
	struct spill_dir *d = to_dir(dir);
	void *replaced = NULL;
	int err;

	lock_acquire(&d->lock);
	err = names_rename(&d->names, from, to, &replaced);
	lock_release(&d->lock);
	file_unref(d, replaced);
	return err;
}

static int spill_dir_mkdir(struct io_dir *dir, const char *name)
{
	struct spill_dir *d = to_dir(dir);
	int err;

	lock_acquire(&d->lock);
	err = names_mkdir(&d->names, name);
	lock_release(&d->lock);
	return err;
}

static int spill_dir_sync(struct io_dir *dir, const char *name)
{
	(void)dir, (void)name;
	return 0;
}

static int spill_dir_list(struct io_dir *dir, const char *name, int (*each)(void *ctx, const char *name), void *ctx)
{
	struct spill_dir *d = to_dir(dir);
	char **list;
	size_t n;
	int err;

	lock_acquire(&d->lock);
	err = names_list(&d->names, name, &list, &n);
	lock_release(&d->lock);
	return err ? err : names_tell(list, n, each, ctx);
}

/* Asks the disk, unless it had much a moment ago and nothing has gone there since: a small file in memory needs the figures a dozen times. */
static int space_below(struct spill_dir *d, uint64_t *total, uint64_t *avail)
{
	struct answered now = { .ns = clock_monotonic_ns(), .transfers = atomic_load(&d->space.transfers) };
	bool is_new;
	int err;

	lock_acquire(&d->lock);
	is_new = d->space_below.avail >= AMPLE_BYTES && d->space_below.transfers == now.transfers && now.ns - d->space_below.ns < ASK_EVERY_NS;
	*total = d->space_below.total;
	*avail = d->space_below.avail;
	lock_release(&d->lock);
	if (is_new)
		return 0;
	err = io_space(d->below, total, avail);
	if (err)
		return err;
	now.total = *total;
	now.avail = *avail;
	lock_acquire(&d->lock);
	d->space_below = now;
	lock_release(&d->lock);
	return 0;
}

/* The disk's, and what there may be in memory. */
static int spill_dir_space(struct io_dir *dir, uint64_t *total, uint64_t *avail)
{
	struct spill_dir *d = to_dir(dir);
	int err = space_below(d, total, avail);

	if (err)
		return err;
	*total += d->space.frames.budget_pages * FRAME_PAGE;
	*avail += frames_left_bytes(&d->space.frames);
	return 0;
}

static uint64_t spill_dir_packings(struct io_dir *dir)
{
	return atomic_load(&to_dir(dir)->space.packings);
}

static void spill_dir_close(struct io_dir *dir)
{
	struct spill_dir *d = to_dir(dir);
	void *file;

	piece_space_end(&d->space);
	while ((file = names_take_any(&d->names)))
		file_unref(d, file);
	names_fini(&d->names);
	piece_space_fini(&d->space);
	io_dir_close(d->below);
	lock_fini(&d->lock);
	free(d);
}

static const struct io_dir_ops spill_dir_ops = {
	.open = spill_dir_open,
	.unlink = spill_dir_unlink,
	.rename = spill_dir_rename,
	.mkdir = spill_dir_mkdir,
	.sync = spill_dir_sync,
	.list = spill_dir_list,
	.space = spill_dir_space,
	.packings = spill_dir_packings,
	.close = spill_dir_close,
};

/* Takes the file over, also on failure. held_bytes: what that takes of memory. */
static int encrypt_file(struct io **disk, _Atomic uint64_t *held_bytes)
{
	struct cipher_key *key = NULL;
	int err = cipher_key_new(&key);

	if (!err)
		err = cipher_wrap(*disk, key, held_bytes, disk);
	if (!err)
		return 0;
	if (key)
		cipher_key_free(key);
	io_close(*disk);
	return err;
}

int io_spill_dir(struct io_dir *below, const struct io_spill_config *config, struct io_dir **out)
{
	struct spill_dir *d = calloc(1, sizeof(*d));
	struct io *disk;
	int err = d ? io_open(below, "spill", SPILL_FILE, &disk) : -ENOMEM;

	if (!err && config->encrypts)
		err = encrypt_file(&disk, &d->space.frames.beside_bytes);
	if (err) {
		free(d);
		return err;
	}
	d->base.ops = &spill_dir_ops;
	d->below = below;
	lock_init(&d->lock, RANK_MEM);
	piece_space_init(&d->space, config->memory_bytes, disk);
	*out = &d->base;
	return 0;
}
