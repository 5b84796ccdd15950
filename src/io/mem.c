/*
 * A directory in memory, for unit tests. Directories are entries without an inode; every name is a
 * full path, and the entries are one list.
 *
 * Invariants: (1) a page beyond the size does not exist, and the bytes of the last page beyond the size
 * are zero, so that growth shows zeros; (2) a page that does not exist is a hole; (3) an inode
 * lives while it has a name or is open. Locks, both RANK_MEM: the directory's, then an inode's.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "io/io.h"
#include "util/lock.h"

#define MEM_PAGE 4096u
#define MEM_CHUNK_PAGES 512u
#define MEM_SPACE ((uint64_t)1 << 40)
#define MEM_SIZE_MAX ((uint64_t)1 << 44)

struct mem_chunk {
	unsigned npages;
	unsigned char *pages[MEM_CHUNK_PAGES];
};

struct mem_inode {
	struct lock lock;
	unsigned refs;
	uint64_t size, npages, nchunks;
	struct mem_chunk **chunks;
};

struct mem_entry {
	struct mem_entry *next;
	struct mem_inode *inode; /* NULL: a directory */
	char name[];
};

struct mem_dir {
	struct io_dir base;
	struct lock lock; /* entries */
	struct mem_entry *entries;
};

struct mem_file {
	struct io base;
	struct mem_inode *inode;
	bool rdonly;
};

static struct mem_inode *to_inode(struct io *io)
{
	return ((struct mem_file *)io)->inode;
}

static bool is_rdonly(struct io *io)
{
	return ((struct mem_file *)io)->rdonly;
}

/* ---- pages ---- */

static unsigned char *page_find(const struct mem_inode *m, uint64_t page)
{
	uint64_t c = page / MEM_CHUNK_PAGES;

	return c < m->nchunks && m->chunks[c] ? m->chunks[c]->pages[page % MEM_CHUNK_PAGES] : NULL;
}

static unsigned char *page_make(struct mem_inode *m, uint64_t page)
{
	uint64_t c = page / MEM_CHUNK_PAGES;
	unsigned char **slot;

	if (c >= m->nchunks) {
		uint64_t n = c + 1 > m->nchunks * 2 ? c + 1 : m->nchunks * 2;
		struct mem_chunk **grown = realloc(m->chunks, n * sizeof(*grown));

		if (!grown)
			return NULL;
		memset(grown + m->nchunks, 0, (n - m->nchunks) * sizeof(*grown));
		m->chunks = grown;
		m->nchunks = n;
	}
	if (!m->chunks[c] && !(m->chunks[c] = calloc(1, sizeof(*m->chunks[c]))))
		return NULL;
	slot = &m->chunks[c]->pages[page % MEM_CHUNK_PAGES];
	if (!*slot && (*slot = calloc(1, MEM_PAGE))) {
		m->chunks[c]->npages++;
		m->npages++;
	}
	return *slot;
}

static void page_drop(struct mem_inode *m, uint64_t page)
{
	struct mem_chunk *c;

	if (!page_find(m, page))
		return;
	c = m->chunks[page / MEM_CHUNK_PAGES];
	free(c->pages[page % MEM_CHUNK_PAGES]);
	c->pages[page % MEM_CHUNK_PAGES] = NULL;
	m->npages--;
	if (--c->npages == 0) {
		free(c);
		m->chunks[page / MEM_CHUNK_PAGES] = NULL;
	}
}

/* Zeros [off, end): whole pages become holes. */
static void range_zero(struct mem_inode *m, uint64_t off, uint64_t end)
{
	const uint64_t chunk = (uint64_t)MEM_CHUNK_PAGES * MEM_PAGE;
	uint64_t last = m->nchunks * chunk;
	unsigned char *p;

	if (end > last)
		end = last;
	while (off < end) {
		uint64_t in = off % MEM_PAGE;
		uint64_t n = MEM_PAGE - in < end - off ? MEM_PAGE - in : end - off;

		if (!m->chunks[off / chunk]) {
			off = (off / chunk + 1) * chunk;
			continue;
		}
		if (n == MEM_PAGE)
			page_drop(m, off / MEM_PAGE);
		else if ((p = page_find(m, off / MEM_PAGE)))
			memset(p + in, 0, n);
		off += n;
	}
}

static void inode_put(struct mem_inode *m)
{
	bool last;

	lock_acquire(&m->lock);
	last = --m->refs == 0;
	lock_release(&m->lock);
	if (!last)
		return;
	range_zero(m, 0, UINT64_MAX);
	free(m->chunks);
	lock_fini(&m->lock);
	free(m);
}

static void inode_ref(struct mem_inode *m)
{
	lock_acquire_nested(&m->lock); /* the directory's lock is held: the entry's reference is there */
	m->refs++;
	lock_release(&m->lock);
}

/* ---- files ---- */

static int mem_pread_some(struct io *io, void *buf, size_t n, uint64_t off, unsigned how, size_t *out)
{
	struct mem_inode *m = to_inode(io);
	size_t done = 0;

	(void)how;
	lock_acquire(&m->lock);
	if (off >= m->size)
		n = 0;
	else if (n > m->size - off)
		n = m->size - off;
	while (done < n) {
		size_t in = (off + done) % MEM_PAGE;
		size_t k = MEM_PAGE - in < n - done ? MEM_PAGE - in : n - done;
		unsigned char *p = page_find(m, (off + done) / MEM_PAGE);

		if (p)
			memcpy((char *)buf + done, p + in, k);
		else
			memset((char *)buf + done, 0, k);
		done += k;
	}
	lock_release(&m->lock);
	*out = done;
	return 0;
}

static int mem_pwrite(struct io *io, const void *buf, size_t n, uint64_t off, unsigned how)
{
	struct mem_inode *m = to_inode(io);
	size_t done = 0;

	(void)how;
	if (is_rdonly(io))
		return -EBADF;
	if (off > MEM_SIZE_MAX || n > MEM_SIZE_MAX - off)
		return -EFBIG;
	lock_acquire(&m->lock);
	while (done < n) {
		size_t in = (off + done) % MEM_PAGE;
		size_t k = MEM_PAGE - in < n - done ? MEM_PAGE - in : n - done;
		unsigned char *p = page_make(m, (off + done) / MEM_PAGE);

		if (!p)
			break;
		memcpy(p + in, (const char *)buf + done, k);
		done += k;
	}
	if (done && off + done > m->size)
		m->size = off + done;
	lock_release(&m->lock);
	return done == n ? 0 : -ENOMEM;
}

static int mem_sync(struct io *io)
{
	(void)io;
	return 0;
}

static int mem_truncate(struct io *io, uint64_t size)
{
	struct mem_inode *m = to_inode(io);

	if (is_rdonly(io))
		return -EBADF;
	if (size > MEM_SIZE_MAX)
		return -EFBIG;
	lock_acquire(&m->lock);
	if (size < m->size)
		range_zero(m, size, UINT64_MAX);
	m->size = size;
	lock_release(&m->lock);
	return 0;
}

static int mem_allocate(struct io *io, uint64_t off, uint64_t n)
{
	(void)off, (void)n;
	return is_rdonly(io) && n ? -EBADF : 0;
}

static int mem_punch(struct io *io, uint64_t off, uint64_t n)
{
	struct mem_inode *m = to_inode(io);

	if (n == 0)
		return 0;
	if (is_rdonly(io))
		return -EBADF;
	lock_acquire(&m->lock);
	range_zero(m, off, n > UINT64_MAX - off ? UINT64_MAX : off + n);
	lock_release(&m->lock);
	return 0;
}

static int mem_size(struct io *io, uint64_t *size, uint64_t *stored_bytes)
{
	struct mem_inode *m = to_inode(io);

	lock_acquire(&m->lock);
	if (size)
		*size = m->size;
	if (stored_bytes)
		*stored_bytes = m->npages * MEM_PAGE;
	lock_release(&m->lock);
	return 0;
}

static bool mem_is_allocated(struct io *io, uint64_t off, uint64_t n)
{
	(void)io;
	(void)off;
	(void)n;
	return false;
}

static int mem_seek_data(struct io *io, uint64_t off, bool hole, uint64_t *out)
{
	struct mem_inode *m = to_inode(io);
	int err = 0;

	lock_acquire(&m->lock);
	if (off >= m->size) {
		lock_release(&m->lock);
		return -ENXIO;
	}
	while (off < m->size && (page_find(m, off / MEM_PAGE) != NULL) == hole) {
		uint64_t c = off / MEM_PAGE / MEM_CHUNK_PAGES;
		bool skip = !hole && (c >= m->nchunks || !m->chunks[c]);
		uint64_t unit = skip ? (uint64_t)MEM_PAGE * MEM_CHUNK_PAGES : MEM_PAGE;

		off = (off / unit + 1) * unit;
	}
	if (off >= m->size) {
		off = m->size; /* the end counts as a hole */
		err = hole ? 0 : -ENXIO;
	}
	lock_release(&m->lock);
	if (!err)
		*out = off;
	return err;
}

static void mem_close(struct io *io)
{
	inode_put(to_inode(io));
	free(io);
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
	.close = mem_close,
};

/* ---- names ---- */

static struct mem_dir *to_dir(struct io_dir *d)
{
	return (struct mem_dir *)d;
}

static bool is_root(const char *name)
{
	return strcmp(name, ".") == 0 || !*name;
}

static struct mem_entry **entry_slot(struct mem_dir *d, const char *name)
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

static int check_parent_locked(struct mem_dir *d, const char *name)
{
	size_t n = parent_len(name);

	if (n == 0)
		return 0;
	for (struct mem_entry *e = d->entries; e; e = e->next)
		if (strncmp(e->name, name, n) == 0 && !e->name[n])
			return e->inode ? -ENOTDIR : 0;
	return -ENOENT;
}

static struct mem_entry *entry_new(const char *name, bool is_file)
{
	struct mem_entry *e = calloc(1, sizeof(*e) + strlen(name) + 1);

	if (!e)
		return NULL;
	memcpy(e->name, name, strlen(name) + 1);
	if (is_file) {
		e->inode = calloc(1, sizeof(*e->inode));
		if (!e->inode) {
			free(e);
			return NULL;
		}
		e->inode->refs = 1;
		lock_init(&e->inode->lock, RANK_MEM);
	}
	return e;
}

static int entry_find_or_make_locked(struct mem_dir *d, const char *name, unsigned flags, bool is_file,
				     struct mem_entry **out)
{
	struct mem_entry **slot = entry_slot(d, name);
	int err;

	if (*slot) {
		if (flags & IO_EXCL)
			return -EEXIST;
		if (!is_file != !(*slot)->inode)
			return is_file ? -EISDIR : -ENOTDIR;
		*out = *slot;
		return 0;
	}
	if (!(flags & IO_CREATE))
		return -ENOENT;
	err = check_parent_locked(d, name);
	if (err)
		return err;
	*slot = entry_new(name, is_file);
	if (!*slot)
		return -ENOMEM;
	*out = *slot;
	return 0;
}

static int mem_dir_open(struct io_dir *dir, const char *name, unsigned flags, struct io **out)
{
	struct mem_dir *d = to_dir(dir);
	struct mem_entry *e;
	struct mem_file *f;
	int err;

	if (name[0] == '/' || ((flags & IO_RDONLY) && (flags & IO_CREATE)))
		return -EINVAL;
	if (!(flags & IO_CREATE))
		flags &= ~IO_EXCL;
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	lock_acquire(&d->lock);
	err = entry_find_or_make_locked(d, name, flags, true, &e);
	if (!err) {
		inode_ref(e->inode);
		f->inode = e->inode;
	}
	lock_release(&d->lock);
	if (err) {
		free(f);
		return err;
	}
	f->base.ops = &mem_ops;
	f->rdonly = flags & IO_RDONLY;
	*out = &f->base;
	return 0;
}

static int mem_dir_unlink(struct io_dir *dir, const char *name)
{
	struct mem_dir *d = to_dir(dir);
	struct mem_entry **slot, *e;
	int err = 0;

	lock_acquire(&d->lock);
	slot = entry_slot(d, name);
	e = *slot;
	if (!e)
		err = -ENOENT;
	else if (!e->inode)
		err = -EISDIR;
	else
		*slot = e->next;
	lock_release(&d->lock);
	if (err)
		return err;
	inode_put(e->inode);
	free(e);
	return 0;
}

/* Files only. */
static int mem_rename_locked(struct mem_dir *d, const char *from, struct mem_entry *to,
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
		return -EISDIR;
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
	struct mem_entry *e = entry_new(to, false);
	struct mem_dir *d = to_dir(dir);
	struct mem_inode *old = NULL;
	int err;

	if (!e)
		return -ENOMEM;
	lock_acquire(&d->lock);
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
		inode_put(old);
	return err;
}

static int mem_dir_mkdir(struct io_dir *dir, const char *name)
{
	struct mem_dir *d = to_dir(dir);
	struct mem_entry *e;
	int err;

	if (is_root(name))
		return 0;
	lock_acquire(&d->lock);
	err = entry_find_or_make_locked(d, name, IO_CREATE, false, &e);
	lock_release(&d->lock);
	return err;
}

static int mem_check_dir(struct mem_dir *d, const char *name)
{
	struct mem_entry *e;
	int err = 0;

	if (is_root(name))
		return 0;
	lock_acquire(&d->lock);
	e = *entry_slot(d, name);
	if (!e)
		err = -ENOENT;
	else if (e->inode)
		err = -ENOTDIR;
	lock_release(&d->lock);
	return err;
}

static int mem_dir_sync(struct io_dir *dir, const char *name)
{
	return mem_check_dir(to_dir(dir), name);
}

/* The n-th entry of a directory, copied: each() may change the directory. */
static char *mem_nth(struct mem_dir *d, const char *name, size_t nth)
{
	size_t len = is_root(name) ? 0 : strlen(name);
	char *copy = NULL;

	lock_acquire(&d->lock);
	for (struct mem_entry *e = d->entries; e && !copy; e = e->next)
		if (parent_len(e->name) == len && strncmp(e->name, name, len) == 0 && nth-- == 0)
			copy = strdup(e->name + (len ? len + 1 : 0));
	lock_release(&d->lock);
	return copy;
}

static int mem_dir_list(struct io_dir *dir, const char *name, int (*each)(void *ctx, const char *name),
			void *ctx)
{
	char **names = NULL, **grown, *copy;
	size_t n = 0;
	int err = mem_check_dir(to_dir(dir), name);

	while (!err && (copy = mem_nth(to_dir(dir), name, n))) {
		grown = realloc(names, (n + 1) * sizeof(*names));
		if (!grown) {
			free(copy);
			err = -ENOMEM;
			break;
		}
		names = grown;
		names[n++] = copy;
	}
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
	(void)dir;
	*total = MEM_SPACE;
	*avail = MEM_SPACE;
	return 0;
}

static void mem_dir_close(struct io_dir *dir)
{
	struct mem_dir *d = to_dir(dir);

	while (d->entries) {
		struct mem_entry *e = d->entries;

		d->entries = e->next;
		if (e->inode)
			inode_put(e->inode);
		free(e);
	}
	lock_fini(&d->lock);
	free(d);
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

int io_mem_dir(struct io_dir **out)
{
	struct mem_dir *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->base.ops = &mem_dir_ops;
	lock_init(&d->lock, RANK_MEM);
	*out = &d->base;
	return 0;
}
