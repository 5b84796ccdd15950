/*
 * A disk in memory, for tests: its directories, and the files that are open in them. Directories are entries without an inode; every
 * name is a full path, and the entries are one list.
 *
 * Invariants: (1) an inode lives while it has a name, now or on the disk, or is open; (2) `durable` are the names as their directories
 * were synced last; (3) a handle that was opened before the power was cut changes nothing and reads nothing.
 * Locks, both RANK_MEM: the disk's, then an inode's.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "io/io.h"
#include "io/pages.h"
#include "util/err.h"
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

struct mem_entry {
	struct mem_entry *next;
	struct mem_inode *inode; /* NULL: a directory */
	char name[];
};

struct mem_disk {
	struct lock lock; /* the entries and nhandles */
	unsigned nhandles;
	atomic_uint cuts; /* how often the power was cut */
	struct mem_entry *entries, *durable;
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

static bool mem_is_allocated(struct io *io, uint64_t off, uint64_t n)
{
	struct mem_file *f = to_file(io);
	struct pages *p;
	bool is;

	if (file_enter(f, &p))
		return false;
	is = pages_are_there(p, off, off + n);
	file_leave(f);
	return is;
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
	.is_allocated = mem_is_allocated,
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

static bool is_root(const char *name)
{
	return strcmp(name, ".") == 0 || !*name;
}

static struct mem_entry **entry_slot(struct mem_disk *d, const char *name)
{
	struct mem_entry **p = &d->entries;

	while (*p && strcmp((*p)->name, name))
		p = &(*p)->next;
	return p;
}

/* The length of the directory part; 0 in the root. */
static size_t parent_len(const char *name)
{
	const char *slash = strrchr(name, '/');

	return slash ? (size_t)(slash - name) : 0;
}

static int check_parent_locked(struct mem_disk *d, const char *name)
{
	size_t n = parent_len(name);

	if (n == 0)
		return 0;
	for (struct mem_entry *e = d->entries; e; e = e->next)
		if (strncmp(e->name, name, n) == 0 && !e->name[n])
			return e->inode ? -ENOTDIR : 0;
	return -ENOENT;
}

/* inode: NULL for a directory; the entry takes over the caller's reference. */
static struct mem_entry *entry_new(const char *name, struct mem_inode *inode)
{
	struct mem_entry *e = calloc(1, sizeof(*e) + strlen(name) + 1);

	if (!e)
		return NULL;
	memcpy(e->name, name, strlen(name) + 1);
	e->inode = inode;
	return e;
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

static void entries_free(struct mem_entry *e, bool users)
{
	while (e) {
		struct mem_entry *next = e->next;

		if (e->inode)
			inode_put(e->inode, users);
		free(e);
		e = next;
	}
}

/* Where a file should be. */
static int is_directory(const char *name)
{
	return err_corrupt(name, 0, "it is a directory, not a regular file");
}

static int entry_find_or_make_locked(struct mem_disk *d, const char *name, unsigned flags, bool is_file,
				     struct mem_entry **out)
{
	struct mem_entry **slot = entry_slot(d, name);
	struct mem_inode *m = NULL;
	int err;

	if (*slot) {
		if (flags & IO_EXCL)
			return -EEXIST;
		if (!is_file != !(*slot)->inode)
			return is_file ? is_directory(name) : err_corrupt(name, 0, "it is a regular file, not a directory");
		*out = *slot;
		return 0;
	}
	if (!(flags & IO_CREATE))
		return -ENOENT;
	err = check_parent_locked(d, name);
	if (err)
		return err;
	if (is_file && !(m = inode_new(d)))
		return -ENOMEM;
	*slot = entry_new(name, m);
	if (!*slot) {
		if (m)
			inode_put(m, true);
		return -ENOMEM;
	}
	*out = *slot;
	return 0;
}

/* With a reference for a handle. */
static int open_inode_locked(struct mem_disk *d, const char *name, unsigned flags, struct mem_inode **out)
{
	struct mem_entry *e;
	int err;

	if (flags & IO_UNNAMED) {
		*out = inode_new(d);
		return *out ? 0 : -ENOMEM;
	}
	err = entry_find_or_make_locked(d, name, flags, true, &e);
	if (err)
		return err;
	inode_ref(e->inode, true);
	*out = e->inode;
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
	struct mem_entry **slot, *e;
	struct mem_disk *d;
	int err = dir_enter(dir, &d);

	if (err)
		return err;
	slot = entry_slot(d, name);
	e = *slot;
	if (!e)
		err = -ENOENT;
	else if (!e->inode)
		err = is_directory(name);
	else
		*slot = e->next;
	lock_release(&d->lock);
	if (err)
		return err;
	inode_put(e->inode, true);
	free(e);
	return 0;
}

/* Renames a file, not a directory. */
static int mem_rename_locked(struct mem_disk *d, const char *from, struct mem_entry *to,
			     struct mem_inode **old)
{
	struct mem_entry **slot = entry_slot(d, from), *e = *slot;
	struct mem_entry **over = entry_slot(d, to->name);
	int err = check_parent_locked(d, to->name);

	if (!e)
		return -ENOENT;
	if (err)
		return err;
	if (!e->inode)
		return -EOPNOTSUPP;
	if (*over && !(*over)->inode)
		return is_directory(to->name);
	to->inode = e->inode;
	if (*over) {
		*old = (*over)->inode;
		(*over)->inode = e->inode;
		free(to);
	} else {
		to->next = d->entries;
		d->entries = to;
	}
	slot = entry_slot(d, from);
	*slot = e->next;
	free(e);
	return 0;
}

static int mem_dir_rename(struct io_dir *dir, const char *from, const char *to)
{
	struct mem_entry *e = entry_new(to, NULL);
	struct mem_inode *old = NULL;
	struct mem_disk *d;
	int err;

	if (!e)
		return -ENOMEM;
	err = dir_enter(dir, &d);
	if (err) {
		free(e);
		return err;
	}
	if (strcmp(from, to) == 0) {
		err = *entry_slot(d, from) ? 0 : -ENOENT;
		free(e);
	} else {
		err = mem_rename_locked(d, from, e, &old);
		if (err)
			free(e);
	}
	lock_release(&d->lock);
	if (old)
		inode_put(old, true);
	return err;
}

static int mem_dir_mkdir(struct io_dir *dir, const char *name)
{
	struct mem_entry *e;
	struct mem_disk *d;
	int err;

	if (is_root(name))
		return 0;
	err = dir_enter(dir, &d);
	if (err)
		return err;
	err = entry_find_or_make_locked(d, name, IO_CREATE, false, &e);
	lock_release(&d->lock);
	return err;
}

static int check_dir_locked(struct mem_disk *d, const char *name)
{
	struct mem_entry *e = *entry_slot(d, name);

	if (is_root(name))
		return 0;
	return !e ? -ENOENT : e->inode ? -ENOTDIR : 0;
}

static bool is_in(const struct mem_entry *e, const char *dir)
{
	size_t len = is_root(dir) ? 0 : strlen(dir);

	return parent_len(e->name) == len && strncmp(e->name, dir, len) == 0;
}

static int list_locked(struct mem_disk *d, const char *name, char ***out, size_t *n_out)
{
	size_t skip = is_root(name) ? 0 : strlen(name) + 1;

	for (struct mem_entry *e = d->entries; e; e = e->next) {
		char **grown, *copy;

		if (!is_in(e, name))
			continue;
		grown = realloc(*out, (*n_out + 1) * sizeof(**out));
		copy = grown ? strdup(e->name + skip) : NULL;
		if (grown)
			*out = grown;
		if (!copy)
			return -ENOMEM;
		(*out)[(*n_out)++] = copy;
	}
	return 0;
}

/* The names are copied first, since each() may change the directory. */
static int mem_dir_list(struct io_dir *dir, const char *name, int (*each)(void *ctx, const char *name),
			void *ctx)
{
	char **names = NULL;
	struct mem_disk *d;
	size_t n = 0;
	int err = dir_enter(dir, &d);

	if (err)
		return err;
	err = check_dir_locked(d, name);
	if (!err)
		err = list_locked(d, name, &names, &n);
	lock_release(&d->lock);
	for (size_t i = 0; i < n; i++) {
		if (!err)
			err = each(ctx, names[i]);
		free(names[i]);
	}
	free(names);
	return err;
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
	entries_free(d->entries, true);
	entries_free(d->durable, false);
	lock_fini(&d->lock);
	free(d);
}

/* ---- durability of names ---- */

/* Adds one more name of the entry's inode in front of *list. */
static int entry_copy(const struct mem_entry *e, struct mem_entry **list, bool user)
{
	struct mem_entry *copy = entry_new(e->name, e->inode);

	if (!copy)
		return -ENOMEM;
	if (copy->inode)
		inode_ref(copy->inode, user);
	copy->next = *list;
	*list = copy;
	return 0;
}

/* Moves the entries of a directory from one list to another. */
static void entries_move(struct mem_entry **from, const char *dir, struct mem_entry **to)
{
	while (*from) {
		struct mem_entry *e = *from;

		if (!is_in(e, dir)) {
			from = &e->next;
			continue;
		}
		*from = e->next;
		e->next = *to;
		*to = e;
	}
}

static int mem_dir_sync(struct io_dir *dir, const char *name)
{
	struct mem_entry *fresh = NULL, *old = NULL;
	struct mem_disk *d;
	int err = dir_enter(dir, &d);

	if (err)
		return err;
	err = check_dir_locked(d, name);
	for (struct mem_entry *e = d->entries; e && !err; e = e->next)
		err = is_in(e, name) ? entry_copy(e, &fresh, false) : 0;
	if (!err) {
		entries_move(&d->durable, name, &old);
		entries_move(&fresh, name, &d->durable);
	}
	entries_free(old, false);
	entries_free(fresh, false);
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
	return seed_for(seed, name, parent_len(name)) >> 40 & 1;
}

/* Drops the names whose directory is gone. */
static void drop_orphans(struct mem_disk *d)
{
	for (struct mem_entry **p = &d->entries; *p;) {
		struct mem_entry *e = *p;

		if (!check_parent_locked(d, e->name)) {
			p = &e->next;
			continue;
		}
		*p = e->next;
		e->next = NULL;
		entries_free(e, true);
		p = &d->entries; /* it may have been one itself */
	}
}

static int names_revert(struct mem_disk *d, uint64_t seed)
{
	struct mem_entry *left = NULL;
	int err = 0;

	for (struct mem_entry *e = d->entries; e && !err; e = e->next)
		err = keeps_names(e->name, seed) ? entry_copy(e, &left, true) : 0;
	for (struct mem_entry *e = d->durable; e && !err; e = e->next)
		err = keeps_names(e->name, seed) ? 0 : entry_copy(e, &left, true);
	if (err) {
		entries_free(left, true);
		return err;
	}
	entries_free(d->entries, true);
	entries_free(d->durable, false);
	d->durable = NULL;
	d->entries = left;
	drop_orphans(d);
	for (struct mem_entry *e = d->entries; e && !err; e = e->next)
		err = entry_copy(e, &d->durable, false);
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
	for (struct mem_entry *e = d->entries; e; e = e->next) {
		if (!e->inode)
			continue;
		lock_acquire_nested(&e->inode->lock);
		pages_revert(&e->inode->pages, seed_for(seed, e->name, strlen(e->name)));
		e->inode->locker = NULL;
		lock_release(&e->inode->lock);
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
