/*
 * The files of a directory that have a descriptor.
 *
 * A file without a transfer, pin or name operation in flight is idle and stands in the LRU; when the
 * idle files have more descriptors than the budget, the oldest is closed and later reopened by its name.
 *
 * Invariants: (1) users > 0 or nameless: fd is open and the file is not in the LRU; (2) a file in the LRU
 * has fd open; idle_fds counts the descriptors in the LRU and is at most the budget; (3) a file whose
 * name is gone (unlinked, replaced by a rename) is nameless before it can become idle: unlink and
 * rename hold the files of both names in use around the system call, reopening those that were closed,
 * so that an unlinked file keeps its descriptor until io_close, outside the budget; (4) what is
 * reopened is the same inode, or the transfer fails with -ESTALE; (5) a sync after a close by the LRU
 * covers what was written before: fdatasync works on the inode, whose unreported writeback error the
 * kernel hands to the next descriptor, and an error of close itself is kept for the next sync. Clean
 * files are closed before dirty ones, where one of either is among the oldest.
 *
 * Opening and closing by the LRU happen under `table`; where every descriptor is in use, one is waited for without it.
 */
#include "io/filefd.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/beneath.h"
#include "util/err.h"
#include "util/log.h"

#define FILE_CLEAN_SCAN 8 /* how far from the oldest a clean file is looked for */

/* ---- the table ---- */

static struct file **hash_slot(struct file_dir *d, const char *name)
{
	uint32_t h = 2166136261u;

	for (; *name; name++)
		h = (h ^ (unsigned char)*name) * 16777619u;
	return &d->hash[(h ^ h >> 16) % FILE_HASH_SIZE];
}

static void hash_insert_locked(struct file *f)
{
	struct file **slot = hash_slot(f->dir, f->name);

	f->hash_next = *slot;
	*slot = f;
}

static void hash_remove_locked(struct file *f)
{
	struct file **p = hash_slot(f->dir, f->name);

	while (*p != f)
		p = &(*p)->hash_next;
	*p = f->hash_next;
}

/* ---- the LRU ---- */

static unsigned fd_count(const struct file *f)
{
	return (f->fd >= 0) + (f->dfd >= 0);
}

static struct file *link_file(struct file_link *l)
{
	return (struct file *)((char *)l - offsetof(struct file, link));
}

static void lru_remove_locked(struct file *f)
{
	if (!f->link.next)
		return;
	f->link.prev->next = f->link.next;
	f->link.next->prev = f->link.prev;
	f->link.next = f->link.prev = NULL;
	f->dir->idle_fds -= fd_count(f);
}

static void lru_insert_locked(struct file *f)
{
	struct file_link *lru = &f->dir->lru;

	assert(!f->link.next && f->fd >= 0);
	f->link.prev = lru;
	f->link.next = lru->next;
	lru->next->prev = &f->link;
	lru->next = &f->link;
	f->dir->idle_fds += fd_count(f);
}

void fd_close(struct file *f)
{
	if (f->dfd >= 0)
		close(f->dfd);
	if (f->fd >= 0 && close(f->fd) && errno != EINTR)
		f->close_err = -errno;
	f->fd = f->dfd = -1;
}

static void fd_close_oldest_locked(struct file_dir *d)
{
	struct file_link *l = d->lru.prev;
	struct file *f = link_file(l);

	for (int i = 0; i < FILE_CLEAN_SCAN && l != &d->lru; i++, l = l->prev) {
		if (!atomic_load_explicit(&link_file(l)->dirty, memory_order_relaxed)) {
			f = link_file(l);
			break;
		}
	}
	lru_remove_locked(f);
	fd_close(f);
}

static void fd_trim_locked(struct file_dir *d)
{
	while (d->idle_fds > d->budget)
		fd_close_oldest_locked(d);
}

/* True when an open that failed with err may work now. */
static bool fd_relieve_locked(struct file_dir *d, int err)
{
	if ((err != -EMFILE && err != -ENFILE) || d->lru.next == &d->lru)
		return false;
	fd_close_oldest_locked(d);
	return true;
}

/* ---- descriptors ---- */

static int fd_reopen_locked(struct file *f)
{
	int fd, err;

	do
		err = beneath_reopen(f->dir->dirfd, f->name, f->rdonly ? O_RDONLY : O_RDWR, f->dev, f->ino, &fd);
	while (err && fd_relieve_locked(f->dir, err));
	if (!err)
		f->fd = fd;
	return err;
}

static int fd_get_locked(struct file *f)
{
	int err = 0;

	lru_remove_locked(f);
	if (f->fd < 0)
		err = fd_reopen_locked(f);
	if (!err)
		f->users++;
	return err;
}

static void fd_put_locked(struct file *f)
{
	assert(f->users > 0);
	if (--f->users || f->nameless)
		return;
	lru_insert_locked(f);
	fd_trim_locked(f->dir);
}

int fd_get(struct file *f, int *fd)
{
	unsigned waits = 0;
	int err;

	do {
		lock_acquire(&f->dir->table);
		err = fd_get_locked(f);
		if (!err)
			*fd = f->fd;
		lock_release(&f->dir->table);
	} while (err_wait(err, &waits));
	return err;
}

void fd_put(struct file *f)
{
	lock_acquire(&f->dir->table);
	fd_put_locked(f);
	lock_release(&f->dir->table);
}

bool fd_has_name(struct file *f)
{
	bool named;

	lock_acquire(&f->dir->table);
	named = !f->nameless;
	lock_release(&f->dir->table);
	return named;
}

int fd_take_close_err(struct file *f)
{
	int err;

	lock_acquire(&f->dir->table);
	err = f->close_err;
	f->close_err = 0;
	lock_release(&f->dir->table);
	return err;
}

/* A lease for reading is given where nobody writes. */
static bool may_have_lease(int fd)
{
	if (fcntl(fd, F_SETLEASE, F_RDLCK))
		return errno != EAGAIN && errno != EWOULDBLOCK;
	fcntl(fd, F_SETLEASE, F_UNLCK);
	return true;
}

bool fd_has_writers(struct file *f)
{
	bool has = true;
	int fd;

	lock_acquire(&f->dir->table);
	if (!f->users && !f->nameless) {
		lru_remove_locked(f);
		fd_close(f);
		if (!beneath_reopen(f->dir->dirfd, f->name, O_RDONLY, f->dev, f->ino, &fd)) {
			has = !may_have_lease(fd);
			close(fd);
		}
	}
	lock_release(&f->dir->table);
	return has;
}

/* The second descriptor; without it the transfer is buffered. */
static void fd_want_direct_locked(struct file *f)
{
	int err;

	if (f->dfd >= 0 || f->no_direct)
		return;
	do {
		err = direct_reopen(f->fd, f->rdonly, f->dir->direct.align, &f->dfd);
	} while (fd_relieve_locked(f->dir, err));
	if (err && err != -EMFILE && err != -ENFILE && err != -ENOMEM) {
		f->no_direct = true;
		log_warn("%s: no direct I/O: %s", f->name, strerror(-err));
	}
}

static enum direct_reach reach_wanted(const struct file *f, uint64_t off, size_t n, unsigned how, bool writes)
{
	const struct file_dir *d = f->dir;

	if (f->pinned || atomic_load(&f->shared))
		return DIRECT_NONE;
	if (d->backing == IO_BACKING_DIRECT || (how & IO_DIRECT))
		return DIRECT_ALL;
	if (d->backing != IO_BACKING_AUTO || (how & IO_CACHED) || (n < IO_DIRECT_MIN && !(how & IO_COLD)))
		return DIRECT_NONE;
	if (writes && d->direct.uncached)
		return DIRECT_UNCACHED;
	return n >= IO_DIRECT_MIN && direct_wanted(&d->direct, off, n, IO_DIRECT_MIN) ? DIRECT_MIDDLE : DIRECT_NONE;
}

/* The wanted way as far as there is one; the rest is a fallback. */
static enum direct_reach reach_locked(struct file *f, enum direct_reach wanted)
{
	struct file_dir *d = f->dir;

	if (wanted == DIRECT_NONE || wanted == DIRECT_UNCACHED)
		return wanted;
	if (d->direct.align)
		fd_want_direct_locked(f);
	if (d->direct.align && !f->no_direct && f->dfd >= 0)
		return wanted;
	if (!d->direct.align)
		stats_add(d->backing == IO_BACKING_BUFFERED ? STAT_LEASE_FALLBACKS_CONFIGURED : STAT_LEASE_FALLBACKS_UNSUPPORTED, 1);
	else
		stats_add(f->no_direct ? STAT_LEASE_FALLBACKS_REFUSED : STAT_LEASE_FALLBACKS_DESCRIPTORS, 1);
	return DIRECT_NONE;
}

int fd_get_io(struct file *f, uint64_t off, size_t n, unsigned how, bool writes, struct direct_io *x)
{
	struct file_dir *d = f->dir;
	enum direct_reach reach = reach_wanted(f, off, n, how, writes);
	int fd, err = fd_get(f, &fd);

	if (err)
		return err;
	lock_acquire(&d->table);
	reach = reach_locked(f, reach);
	*x = (struct direct_io){
		.dir = &d->direct,
		.end = fd_tracks_end(f) ? &f->end : NULL,
		.fd = fd,
		.dfd = f->dfd,
		.reach = reach,
		.wait = d->lease_wait == IO_LEASE_WAIT_BLOCK ||
			(d->lease_wait == IO_LEASE_WAIT_DEFAULT && reach == DIRECT_ALL),
		.kind = f->pinned ? DIRECT_UNCOUNTED : f->kind,
	};
	lock_release(&d->table);
	return 0;
}

void fd_put_io(struct file *f, const struct direct_io *x)
{
	lock_acquire(&f->dir->table);
	if (x->refused)
		f->no_direct = true;
	fd_put_locked(f);
	lock_release(&f->dir->table);
}

/* ---- registration ---- */

void fd_register(struct file *f)
{
	lock_acquire_nested(&f->dir->table);
	hash_insert_locked(f);
	if (!f->users && !f->nameless) {
		lru_insert_locked(f);
		fd_trim_locked(f->dir);
	}
	lock_release(&f->dir->table);
}

void fd_unregister(struct file *f)
{
	lock_acquire_nested(&f->dir->table);
	assert(f->users == 0);
	lru_remove_locked(f);
	hash_remove_locked(f);
	lock_release(&f->dir->table);
}

void fd_set_budget(struct file_dir *d, unsigned n)
{
	lock_acquire(&d->table);
	d->budget = n;
	fd_trim_locked(d);
	lock_release(&d->table);
}

/* ---- names ---- */

/* True: a descriptor is free, or may be soon. */
static bool fd_wait(struct file_dir *d, int err, unsigned *waits)
{
	bool again;

	if (!err)
		return false;
	lock_acquire_nested(&d->table);
	again = fd_relieve_locked(d, err);
	lock_release(&d->table);
	return again || err_wait(err, waits);
}

int fd_open(struct file_dir *d, const char *name, int oflags, int *out)
{
	unsigned waits = 0;
	int err;

	do
		err = beneath_open(d->dirfd, name, oflags, out);
	while (fd_wait(d, err, &waits));
	return err;
}

int fd_parent(struct file_dir *d, const char *name, int *parent, const char **last)
{
	unsigned waits = 0;
	int err;

	do
		err = beneath_parent(d->dirfd, name, parent, last);
	while (fd_wait(d, err, &waits));
	return err;
}

static int fd_hold_once(struct file_dir *d, const char *name)
{
	int err = 0;

	lock_acquire_nested(&d->table);
	for (struct file *f = *hash_slot(d, name); f && !err; f = f->hash_next) {
		if (f->nameless || f->held || strcmp(f->name, name))
			continue;
		err = fd_get_locked(f);
		f->held = !err;
		if (err == -ENOENT || err == -ESTALE)
			err = 0; /* lost before, and not by us */
	}
	lock_release(&d->table);
	return err;
}

/* Takes the open files of a name into use, so that (3) holds whatever the name operation does. */
int fd_hold_name(struct file_dir *d, const char *name)
{
	unsigned waits = 0;
	int err;

	do
		err = fd_hold_once(d, name);
	while (err_wait(err, &waits));
	return err;
}

void fd_release_name(struct file_dir *d, const char *name, enum name_fate fate, const char *to)
{
	struct file *f, *next;
	char *copy;

	lock_acquire_nested(&d->table);
	for (f = *hash_slot(d, name); f; f = next) {
		next = f->hash_next;
		if (!f->held || strcmp(f->name, name))
			continue;
		f->held = false;
		if (fate == NAME_MOVES && (copy = strdup(to))) {
			hash_remove_locked(f);
			free(f->name);
			f->name = copy;
			hash_insert_locked(f);
		} else if (fate != NAME_STAYS) {
			f->nameless = true; /* also where memory for the new name is out: it stays open */
		}
		fd_put_locked(f);
	}
	lock_release(&d->table);
}
