/*
 * A disk in memory, for tests: its names, and the files that are open.
 *
 * Invariants: (1) an inode lives while it has a name, now or on the disk, or is open; (2) `durable` are the names as their directories
 * were synced last; (3) a handle that was opened before the power was cut changes nothing and reads nothing.
 * Locks, both RANK_MEM: the disk's, then an inode's.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "io/io.h"
#include "io/names.h"
#include "io/pages.h"
#include "util/lock.h"

#define MEM_SPACE ((uint64_t)1 << 40)
#define MEM_SIZE_MAX ((uint64_t)1 << 44)

struct mem_file;

struct mem_inode {
	struct lock lock;
	unsigned refs, nusers;
	struct pages pages;
	struct mem_file *locker; /* io_lock */
};

struct mem_disk {
	struct lock lock; /* the names and nhandles */
	unsigned nhandles;
	atomic_uint cuts; /* how often the power was cut */
	struct names now, durable; /* of struct mem_inode */
	struct pages_space space;
};

struct mem_dir {
	struct io_dir base;
	struct mem_disk *disk;
	unsigned cuts; /* when it was opened */
};

struct mem_file {
	struct io base;
	struct mem_inode *inode;
	struct mem_disk *disk;
	unsigned cuts;
	bool rdonly;
};

/* ---- files ---- */

static struct mem_file *to_file(struct io *io)
{
	return (struct mem_file *)io;
}

/* Users are names and open files. A name that only the disk still has is no user. */
static void inode_put(struct mem_inode *m, bool user)
{
	bool last;

	lock_acquire_nested(&m->lock);
	m->nusers -= user;
	if (!m->nusers)
		pages_leave(&m->pages, true);
	last = --m->refs == 0;
	lock_release(&m->lock);
	if (!last)
		return;
	pages_free(&m->pages);
	lock_fini(&m->lock);
	free(m);
}

static void inode_ref(struct mem_inode *m, bool user)
{
	lock_acquire_nested(&m->lock); /* under the disk's lock: the entry holds a reference already */
	m->refs++;
	m->nusers += user;
	if (user)
		pages_leave(&m->pages, false);
	lock_release(&m->lock);
}

/* Locks the file's inode; -EIO without, after a cut of the power. */
static int file_enter(struct mem_file *f, struct pages **out)
{
	lock_acquire(&f->inode->lock);
	if (f->cuts != atomic_load(&f->disk->cuts)) {
		lock_release(&f->inode->lock);
		return -EIO;
	}
	*out = &f->inode->pages;
	return 0;
}

static void file_leave(struct mem_file *f)
{
	lock_release(&f->inode->lock);
}

static int mem_pread_some(struct io *io, void *buf, size_t n, uint64_t off, unsigned how, size_t *out)
{
	struct mem_file *f = to_file(io);
	struct pages *p;
	int err = file_enter(f, &p);

	(void)how;
	if (err)
		return err;
	*out = pages_read(p, buf, n, off);
	file_leave(f);
	return 0;
}

static int mem_pwrite(struct io *io, const void *buf, size_t n, uint64_t off, unsigned how)
{
	struct mem_file *f = to_file(io);
	struct pages *p;
	int err;

	(void)how;
	if (f->rdonly)
		return -EBADF;
	if (off > MEM_SIZE_MAX || n > MEM_SIZE_MAX - off)
		return -EFBIG;
	err = file_enter(f, &p);
	if (err)
		return err;
	err = pages_write(p, buf, n, off);
	file_leave(f);
	return err;
}

static int mem_sync(struct io *io)
{
	struct mem_file *f = to_file(io);
	struct pages *p;
	int err = file_enter(f, &p);

	if (err)
		return err;
	pages_sync(p);
	file_leave(f);
	return 0;
}

static int mem_truncate(struct io *io, uint64_t size)
{
	struct mem_file *f = to_file(io);
	struct pages *p;
	int err;

	if (f->rdonly)
		return -EBADF;
	if (size > MEM_SIZE_MAX)
		return -EFBIG;
	err = file_enter(f, &p);
	if (err)
		return err;
	err = pages_set_size(p, size);
	file_leave(f);
	return err;
}

/* Reserves or punches. */
static int mem_change(struct io *io, uint64_t off, uint64_t n, int (*change)(struct pages *p, uint64_t off, uint64_t end))
{
	struct mem_file *f = to_file(io);
	struct pages *p;
	int err;

	if (n == 0)
		return 0;
	if (f->rdonly)
		return -EBADF;
	err = file_enter(f, &p);
	if (err)
		return err;
	err = change(p, off, n > UINT64_MAX - off ? UINT64_MAX : off + n);
	file_leave(f);
	return err;
}

static int mem_allocate(struct io *io, uint64_t off, uint64_t n)
{
	return off > MEM_SIZE_MAX || n > MEM_SIZE_MAX - off ? -EFBIG : mem_change(io, off, n, pages_reserve);
}

static int mem_punch(struct io *io, uint64_t off, uint64_t n)
{
	return mem_change(io, off, n, pages_punch);
}

static int mem_size(struct io *io, uint64_t *size, uint64_t *stored_bytes)
{
	struct mem_file *f = to_file(io);
	struct pages *p;
	int err = file_enter(f, &p);

	if (err)
		return err;
	if (size)
		*size = p->size_bytes;
	if (stored_bytes)
		*stored_bytes = p->npages * PAGES_PAGE;
	file_leave(f);
	return 0;
}

static bool mem_find_allocated(struct io *io, uint64_t off, uint64_t n, uint64_t *from, uint64_t *to)
{
	struct mem_file *f = to_file(io);
	struct pages *p;
	bool found;

	if (file_enter(f, &p))
		return false;
	found = pages_find(p, off, off + n, from, to);
	file_leave(f);
	return found;
}

static int mem_seek_data(struct io *io, uint64_t off, bool hole, uint64_t *out)
{
	struct mem_file *f = to_file(io);
	struct pages *p;
	int err = file_enter(f, &p);

	if (err)
		return err;
	err = pages_seek(p, off, hole, out);
	file_leave(f);
	return err;
}

/* A lock is one for the whole file, whatever range is asked for. */
static int mem_lock(struct io *io, uint64_t off, uint64_t n)
{
	struct mem_file *f = to_file(io);
	struct pages *p;
	int err = file_enter(f, &p);

	(void)off, (void)n;
	if (err)
		return err;
	if (f->inode->locker && f->inode->locker != f)
		err = -EWOULDBLOCK;
	else
		f->inode->locker = f;
	file_leave(f);
	return err;
}

static void mem_close(struct io *io)
{
	struct mem_file *f = to_file(io);

	lock_acquire(&f->inode->lock);
	if (f->inode->locker == f)
		f->inode->locker = NULL;
	lock_release(&f->inode->lock);
	inode_put(f->inode, true);
	free(f);
}

static const struct io_ops mem_ops = {
	.pread_some = mem_pread_some,
	.pwrite = mem_pwrite,
	.sync = mem_sync,
	.truncate = mem_truncate,
	.allocate = mem_allocate,
	.punch = mem_punch,
	.size = mem_size,
	.seek_data = mem_seek_data,
	.find_allocated = mem_find_allocated,
	.lock = mem_lock,
	.close = mem_close,
};

/* ---- names ---- */

/* Locks the disk; -EIO without, after a cut of the power. */
static int dir_enter(struct io_dir *dir, struct mem_disk **out)
{
	struct mem_dir *d = (struct mem_dir *)dir;

	lock_acquire(&d->disk->lock);
	if (d->cuts != atomic_load(&d->disk->cuts)) {
		lock_release(&d->disk->lock);
		return -EIO;
	}
	*out = d->disk;
	return 0;
}

static struct mem_inode *inode_new(struct mem_disk *d)
{
	struct mem_inode *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->refs = m->nusers = 1;
	m->pages.space = &d->space;
	lock_init(&m->lock, RANK_MEM);
	return m;
}

static void names_free(struct names *names, bool users)
{
	struct mem_inode *m;

	while ((m = names_take_any(names)))
		inode_put(m, users);
	names_fini(names);
}

static int make_file_locked(struct mem_disk *d, const char *name, struct mem_inode **out)
{
	struct mem_inode *m = inode_new(d);
	int err = m ? names_add(&d->now, name, m) : -ENOMEM;

	if (!err)
		*out = m;
	else if (m)
		inode_put(m, true);
	return err;
}

/* With a reference for a handle. */
static int open_inode_locked(struct mem_disk *d, const char *name, unsigned flags, struct mem_inode **out)
{
	struct mem_inode *m = NULL;
	void *found;
	int err;

	if (flags & IO_UNNAMED) {
		*out = inode_new(d);
		return *out ? 0 : -ENOMEM;
	}
	if ((flags & IO_EXCL) && names_find(&d->now, name))
		return -EEXIST;
	err = names_file(&d->now, name, &found);
	if (!err)
		m = found;
	else if (err == -ENOENT && (flags & IO_CREATE))
		err = make_file_locked(d, name, &m);
	if (err)
		return err;
	inode_ref(m, true);
	*out = m;
	return 0;
}

static int mem_dir_open(struct io_dir *dir, const char *name, unsigned flags, struct io **out)
{
	struct mem_disk *d;
	struct mem_file *f;
	int err;

	if (name[0] == '/' || ((flags & IO_RDONLY) && (flags & IO_CREATE)))
		return -EINVAL;
	if (!(flags & IO_CREATE))
		flags &= ~IO_EXCL;
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	err = dir_enter(dir, &d);
	if (err) {
		free(f);
		return err;
	}
	err = open_inode_locked(d, name, flags, &f->inode);
	f->cuts = atomic_load(&d->cuts);
	lock_release(&d->lock);
	if (err) {
		free(f);
		return err;
	}
	f->base.ops = &mem_ops;
	f->disk = d;
	f->rdonly = flags & IO_RDONLY;
	*out = &f->base;
	return 0;
}

static int mem_dir_unlink(struct io_dir *dir, const char *name)
{
	struct mem_disk *d;
	void *file;
	int err = dir_enter(dir, &d);

	if (err)
		return err;
	err = names_remove(&d->now, name, &file);
	lock_release(&d->lock);
	if (!err)
		inode_put(file, true);
	return err;
}

static int mem_dir_rename(struct io_dir *dir, const char *from, const char *to)
{
	void *replaced = NULL;
	struct mem_disk *d;
	int err = dir_enter(dir, &d);

	if (err)
		return err;
	err = names_rename(&d->now, from, to, &replaced);
	lock_release(&d->lock);
	if (replaced)
		inode_put(replaced, true);
	return err;
}

static int mem_dir_mkdir(struct io_dir *dir, const char *name)
{
	struct mem_disk *d;
	int err = dir_enter(dir, &d);

	if (err)
		return err;
	err = names_mkdir(&d->now, name);
	lock_release(&d->lock);
	return err;
}

static int mem_dir_list(struct io_dir *dir, const char *name, int (*each)(void *ctx, const char *name), void *ctx)
{
	struct mem_disk *d;
	char **list;
	size_t n;
	int err = dir_enter(dir, &d);

	if (err)
		return err;
	err = names_list(&d->now, name, &list, &n);
	lock_release(&d->lock);
	return err ? err : names_tell(list, n, each, ctx);
}

static int mem_dir_space(struct io_dir *dir, uint64_t *total, uint64_t *avail)
{
	uint64_t limit, used;
	struct mem_disk *d;
	int err = dir_enter(dir, &d);

	if (err)
		return err;
	limit = atomic_load(&d->space.limit_pages);
	used = atomic_load(&d->space.used_pages);
	lock_release(&d->lock);
	*total = limit * PAGES_PAGE;
	*avail = (limit > used ? limit - used : 0) * PAGES_PAGE;
	return 0;
}

static void mem_dir_close(struct io_dir *dir)
{
	struct mem_disk *d = ((struct mem_dir *)dir)->disk;
	bool last;

	lock_acquire(&d->lock);
	last = --d->nhandles == 0;
	lock_release(&d->lock);
	free(dir);
	if (!last)
		return;
	names_free(&d->now, true);
	names_free(&d->durable, false);
	lock_fini(&d->lock);
	free(d);
}

/* ---- durability of names ---- */

/* One more name of what n is. */
static int name_copy(const struct name *n, struct names *to, bool user)
{
	int err = names_put(to, n->path, n->file);

	if (!err && n->file)
		inode_ref(n->file, user);
	return err;
}

static void name_forget(struct names *names, struct name *n, bool user)
{
	struct mem_inode *m = n->file;

	names_drop(names, n);
	if (m)
		inode_put(m, user);
}

/* Takes the durable names of a directory that stand for something else by now, or nothing. */
static void forget_stale_locked(struct mem_disk *d, const char *dir)
{
	for (struct name *n = names_next(&d->durable, NULL), *next; n; n = next) {
		struct name *is = names_find(&d->now, n->path);

		next = names_next(&d->durable, n);
		if (names_is_in(n, dir) && (!is || is->file != n->file))
			name_forget(&d->durable, n, false);
	}
}

static int mem_dir_sync(struct io_dir *dir, const char *name)
{
	struct mem_disk *d;
	int err = dir_enter(dir, &d);

	if (err)
		return err;
	err = names_check_dir(&d->now, name);
	if (!err)
		forget_stale_locked(d, name);
	for (struct name *n = names_next(&d->now, NULL); n && !err; n = names_next(&d->now, n))
		err = names_is_in(n, name) && !names_find(&d->durable, n->path) ? name_copy(n, &d->durable, false) : 0;
	lock_release(&d->lock);
	return err;
}

/* A random number that is always the same for this name and seed; 0 without a seed. */
static uint64_t seed_for(uint64_t seed, const char *name, size_t len)
{
	uint64_t h = seed * 0x9e3779b97f4a7c15ull;

	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char)name[i]) * 0x100000001b3ull;
	h = (h ^ h >> 32) * 0xd6e8feb86659fd93ull;
	return seed ? h | 1 : 0;
}

/* Does a directory come out of a cut of the power with the names that it has, synced or not? */
static bool keeps_names(const char *name, uint64_t seed)
{
	const char *slash = strrchr(name, '/');

	return seed_for(seed, name, slash ? (size_t)(slash - name) : 0) >> 40 & 1;
}

/* Drops the names whose directory is gone, until there is none: one may have been a directory itself. */
static void drop_orphans(struct mem_disk *d)
{
	bool again = true;

	while (again) {
		again = false;
		for (struct name *n = names_next(&d->now, NULL), *next; n; n = next) {
			next = names_next(&d->now, n);
			if (!names_check_parent(&d->now, n->path))
				continue;
			name_forget(&d->now, n, true);
			again = true;
		}
	}
}

static int names_revert(struct mem_disk *d, uint64_t seed)
{
	struct names left = { 0 };
	int err = 0;

	for (struct name *n = names_next(&d->now, NULL); n && !err; n = names_next(&d->now, n))
		err = keeps_names(n->path, seed) ? name_copy(n, &left, true) : 0;
	for (struct name *n = names_next(&d->durable, NULL); n && !err; n = names_next(&d->durable, n))
		err = keeps_names(n->path, seed) ? 0 : name_copy(n, &left, true);
	if (err) {
		names_free(&left, true);
		return err;
	}
	names_free(&d->now, true);
	names_free(&d->durable, false);
	d->now = left;
	d->durable = (struct names){ 0 };
	drop_orphans(d);
	for (struct name *n = names_next(&d->now, NULL); n && !err; n = names_next(&d->now, n))
		err = name_copy(n, &d->durable, false);
	return err;
}

int io_mem_cut_power(struct io_dir *dir, uint64_t seed)
{
	struct mem_disk *d;
	int err = dir_enter(dir, &d);

	if (err)
		return err;
	((struct mem_dir *)dir)->cuts = atomic_fetch_add(&d->cuts, 1) + 1;
	err = names_revert(d, seed);
	for (struct name *n = names_next(&d->now, NULL); n; n = names_next(&d->now, n)) {
		struct mem_inode *m = n->file;

		if (!m)
			continue;
		lock_acquire_nested(&m->lock);
		pages_revert(&m->pages, seed_for(seed, n->path, strlen(n->path)));
		m->locker = NULL;
		lock_release(&m->lock);
	}
	lock_release(&d->lock);
	return err;
}

static const struct io_dir_ops mem_dir_ops = {
	.open = mem_dir_open,
	.unlink = mem_dir_unlink,
	.rename = mem_dir_rename,
	.mkdir = mem_dir_mkdir,
	.sync = mem_dir_sync,
	.list = mem_dir_list,
	.space = mem_dir_space,
	.close = mem_dir_close,
};

static int open_handle(struct mem_disk *disk, struct io_dir **out)
{
	struct mem_dir *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->base.ops = &mem_dir_ops;
	d->disk = disk;
	d->cuts = atomic_load(&disk->cuts);
	disk->nhandles++;
	*out = &d->base;
	return 0;
}

int io_mem_dir(struct io_dir **out)
{
	struct mem_disk *disk = calloc(1, sizeof(*disk));
	int err;

	if (!disk)
		return -ENOMEM;
	atomic_store(&disk->space.limit_pages, MEM_SPACE / PAGES_PAGE);
	lock_init(&disk->lock, RANK_MEM);
	err = open_handle(disk, out);
	if (err) {
		lock_fini(&disk->lock);
		free(disk);
	}
	return err;
}

int io_mem_again(struct io_dir *dir, struct io_dir **out)
{
	struct mem_disk *d;
	int err = dir_enter(dir, &d);

	if (err)
		return err;
	err = open_handle(d, out);
	lock_release(&d->lock);
	return err;
}

void io_mem_set_space(struct io_dir *dir, uint64_t bytes)
{
	atomic_store(&((struct mem_dir *)dir)->disk->space.limit_pages, bytes / PAGES_PAGE);
}
