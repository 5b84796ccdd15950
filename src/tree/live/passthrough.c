/*
 * Passthrough: the kernel works on a column's file without the daemon.
 *
 * The first open of a column decides for all that come while one is there. Maps outlive the open that made them, and nothing tells
 * when they end: a column that could be mapped for writing stays in this mode until a commit gets a read lease on its file
 * (fcntl(2)), which is given only where nobody has the file open for writing. An open whose writes have to be seen here (set-id
 * bits, capabilities, O_DSYNC) passes only its maps through.
 *
 * Catching up: the file is the truth. Its size and times are compared with those seen last before anything that depends on them:
 * attributes, edits, reads and copies by the daemon, looks below views/, flush, fsync, release, and every commit.
 *
 * Cuts: a column's file is cut after the commit that says so (array/column.c), but readers see the file, not the inode. So a truncation
 * of a shared file is answered after that commit.
 *
 * Privileges that are set while somebody writes unseen are armed: the file's time is set to one that no write gives it, so that the
 * next change shows however soon it comes, and takes them away.
 *
 * Space: the kernel's writers do not ask for it. While there are any, reserve, promised and owed bytes are held back (io/ballast.h).
 *
 * Invariants:
 *  1. While opens pass through, the array's file stays the same one (array_share), and all opens do. The kernel takes an answer to an
 *     open at a moment that nobody here sees, but before it sends the release. So an open that does not pass through counts until then,
 *     be it cached or not (`nplain`).
 *  2. Code that needs the size, the times or the bytes as they are calls through_refresh first; a commit does. The file is
 *     compared with its facts at the last time (`seen`). The clock of files ticks coarsely: a change in the last tick counts once
 *     more (`recent`).
 *  3. Each inode whose file the kernel has is in t->through, with a reference.
 */
#include "tree/live/passthrough.h"
#include "tree/live/room.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "io/io.h"
#include "store/commit.h"
#include "store/store.h"
#include "tree/live/live.h"
#include "tree/live/privs.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/log.h"

#define TICK_NS 20000000 /* of the clock of files, at most */

void tree_on_passthrough(struct tree *t, const struct tree_passthrough *p)
{
	lock_acquire(&t->lock);
	t->passthrough = *p;
	lock_release(&t->lock);
}

const char *tree_why_no_passthrough(struct tree *t)
{
	const struct store_config *c = &t->store->config;

	if (c->follow)
		return "a follower has no columns";
	if (c->backing == IO_BACKING_DIRECT)
		return "backing=direct keeps the store out of the page cache";
	return NULL;
}

static struct tree_passthrough kernel_of(struct tree *t)
{
	struct tree_passthrough p;

	lock_acquire(&t->lock);
	p = t->passthrough;
	lock_release(&t->lock);
	return p;
}

const char *through_mode(struct tree *t, const char **why_out)
{
	struct tree_passthrough p = kernel_of(t);

	*why_out = p.why ? p.why : "not mounted";
	return p.open ? "yes" : "no";
}

/* The kernel offers passthrough, but it does not work. Columns are cached from here on. */
static void give_up(struct tree *t, int err)
{
	bool was;

	lock_acquire(&t->lock);
	was = t->passthrough.open;
	t->passthrough.open = NULL;
	t->passthrough.why = "it failed: the log says how";
	lock_release(&t->lock);
	if (was)
		log_warn("columns are opened without passthrough from here on: the kernel did not take a file, or no space can be held back: %s", strerror(-err));
}

struct lending {
	struct tree_passthrough kernel;
	uint32_t id;
};

static int lend(void *ctx, int fd)
{
	struct lending *l = ctx;

	return l->kernel.open(l->kernel.ctx, fd, &l->id);
}

/* Gives the kernel the file. */
static int open_backing(struct inode *i, struct io *file, uint32_t *id_out)
{
	struct lending l = { .kernel = kernel_of(i->tree) };
	int err;

	if (!l.kernel.open)
		return -EOPNOTSUPP;
	err = io_lend(file, lend, &l);
	if (!err)
		*id_out = l.id;
	else if (!err_is_passing(err))
		give_up(i->tree, err);
	return err;
}

static void close_backing(struct inode *i)
{
	struct tree_passthrough kernel = kernel_of(i->tree);

	if (kernel.close && live_of(i)->through.backing)
		kernel.close(kernel.ctx, live_of(i)->through.backing);
	live_of(i)->through.backing = 0;
}

static bool is_offered(struct inode *i)
{
	return i->facts.kind == ARRAY_COLUMN && kernel_of(i->tree).open;
}

static void list(struct inode *i)
{
	struct through *s = &live_of(i)->through;
	struct tree *t = i->tree;

	lock_acquire(&t->lock);
	i->refs++;
	s->next = t->through;
	s->link = &t->through;
	if (t->through)
		t->through->through.link = &s->next;
	t->through = live_of(i);
	lock_release(&t->lock);
}

static void unlist(struct inode *i)
{
	struct through *s = &live_of(i)->through;
	struct tree *t = i->tree;

	lock_acquire(&t->lock);
	*s->link = s->next;
	if (s->next)
		s->next->through.link = s->link;
	lock_release(&t->lock);
}

static void see(struct inode *i, const struct io_facts *now)
{
	struct through *s = &live_of(i)->through;

	s->seen = *now;
	s->recent = clock_now_ns() - now->mtime_ns < TICK_NS;
}

/* The file is shared, and the kernel gets it. -EOPNOTSUPP and the like: it is opened otherwise. */
static int begin(struct inode *i, struct array *a, bool writes)
{
	struct io_facts now;
	struct io *file;
	uint32_t id;
	int err;

	if (writes && !a->file_id)
		live_mark_changed(i); /* inline bytes get a file */
	err = array_share(a, writes, &file);
	if (err)
		return err;
	inode_array_changed(i);
	err = array_facts(a, &now);
	if (!err)
		err = open_backing(i, file, &id);
	if (err) {
		array_unshare(a);
		return err == -EAGAIN ? -EOPNOTSUPP : err;
	}
	list(i);
	lock_acquire(&i->attr);
	live_of(i)->through.file = file;
	live_of(i)->through.backing = id;
	live_of(i)->through.mapped = live_of(i)->through.armed = live_of(i)->through.owes = false;
	see(i, &now);
	lock_release(&i->attr);
	inode_hold_array(i);
	return 0;
}

/* Holds back the space that has a use already, because the kernel's writers, which may come after this, ask for none. -ENOSPC:
 * there is too little. */
static int watch(struct inode *i)
{
	int err = atomic_load(&live_of(i)->through.watched) ? 0 : store_others_enter(i->tree->store);

	if (!err) {
		atomic_store(&live_of(i)->through.watched, true);
		array_unseen(i->array, true);
	} else if (!err_is_passing(err) && err != -EROFS) {
		give_up(i->tree, err);
	}
	return err;
}

static void unwatch(struct inode *i)
{
	if (!atomic_exchange(&live_of(i)->through.watched, false))
		return;
	array_unseen(i->array, false);
	store_others_leave(i->tree->store);
}

/* Nobody is left. The list's reference is the caller's from now on. */
static void end(struct inode *i)
{
	through_refresh_locked(i);
	if (atomic_load(&live_of(i)->through.watched) && i->facts.nlink)
		live_mark_changed(i); /* it may be inline again */
	close_backing(i);
	/* First: stat follows it. */
	lock_acquire(&i->attr);
	live_of(i)->through.file = NULL;
	lock_release(&i->attr);
	array_unshare(i->array);
	inode_array_changed(i);
	unwatch(i);
	unlist(i);
	atomic_fetch_sub(&i->nholds, 1);
	inode_idle_array(i);
}

static bool is_over(struct inode *i)
{
	struct through *s = &live_of(i)->through;

	return s->file && !s->nopens && (!s->mapped || !io_has_writers(s->file));
}

/* Must its writes be seen here: to be durable when they return, or to take privileges away? */
static bool must_tell(struct inode *i, int flags)
{
	return (flags & O_ACCMODE) != O_RDONLY && ((flags & O_DSYNC) || privs_any(i));
}

static int join(struct inode *i, int flags, bool told, struct through_open *out)
{
	struct through *s = &live_of(i)->through;
	int acc = flags & O_ACCMODE, full, err = s->backing ? 0 : open_backing(i, s->file, &s->backing);

	if (err)
		return err;
	full = acc == O_RDONLY ? 0 : watch(i);
	if (full && acc == O_RDWR) /* nothing asks for the space of pages that are mapped */
		return full;
	*out = (struct through_open){ .backing = s->backing, .told = told || must_tell(i, flags) || full };
	out->blind = acc != O_RDONLY && !out->told;
	out->unsettles = acc == O_RDWR && !s->mapped;
	lock_acquire(&i->attr);
	s->nopens++;
	s->nblind += out->blind;
	s->mapped |= acc == O_RDWR;
	lock_release(&i->attr);
	if (acc != O_RDONLY)
		inode_pages_stale(i);
	return 0;
}

void through_make_room(struct inode *i, int flags)
{
	if ((flags & O_ACCMODE) != O_RDONLY && is_offered(i))
		room_need(i->tree, store_reserve_bytes(i->tree->store));
}

/* The open does not pass through. */
static int begin_plain(struct inode *i)
{
	atomic_fetch_add(&live_of(i)->through.nplain, 1);
	return 0;
}

int through_open(struct inode *i, struct array *a, int flags, bool told, struct through_open *out)
{
	struct through *s = &live_of(i)->through;
	bool writes = (flags & O_ACCMODE) != O_RDONLY;
	int err;

	*out = (struct through_open){ 0 };
	if (!s->file) {
		if (!is_offered(i) || atomic_load(&s->nplain) || told || must_tell(i, flags))
			return begin_plain(i);
		err = writes ? watch(i) : 0;
		if (!err)
			err = begin(i, a, writes);
		if (err) {
			unwatch(i);
			return err == -EAGAIN ? err : begin_plain(i);
		}
	}
	return join(i, flags, told, out);
}

/* Times: those of the file, where they have moved since. attr is held. */
static void take_times(struct inode *i, const struct io_facts *now)
{
	const struct io_facts *seen = &live_of(i)->through.seen;

	inode_saw_stamp(i->tree, now->mtime_ns);
	if (now->mtime_ns != seen->mtime_ns)
		i->facts.mtime_ns = i->facts.ctime_ns = now->mtime_ns;
	if (now->atime_ns != seen->atime_ns)
		i->facts.atime_ns = now->atime_ns;
}

void through_refresh_locked(struct inode *i)
{
	struct through *s = &live_of(i)->through;
	struct io_facts now;
	bool moved, read;

	if (!s->file || array_facts(i->array, &now))
		return;
	moved = now.size_bytes != s->seen.size_bytes || now.mtime_ns != s->seen.mtime_ns;
	read = now.atime_ns != s->seen.atime_ns;
	if (moved || (s->recent && atomic_load(&s->watched)))
		array_refresh(i->array, true);
	if (i->facts.nlink && (moved || s->recent || read)) /* what has no name is not committed: that would put off its deletion */
		live_mark_dirty(i);
	lock_acquire(&i->attr);
	take_times(i, &now);
	s->owes |= s->armed && moved;
	see(i, &now);
	lock_release(&i->attr);
	inode_array_changed(i);
	if (moved && i->facts.nlink)
		live_mark_changed(i);
}

static bool take_owed(struct inode *i)
{
	struct through *s = &live_of(i)->through;
	bool owes;

	lock_acquire(&i->attr);
	owes = s->owes;
	s->owes = false;
	s->armed &= !owes;
	lock_release(&i->attr);
	return owes;
}

/* The file has changed since it was given privileges. */
static void settle_owed(struct inode *i)
{
	/* The writer is not known. */
	static const struct tree_caller nobody = { .uid = 65534, .gid = 65534 };

	if (take_owed(i) && privs_drop(i, &nobody, PRIVS_DATA, NULL))
		log_warn("inode %llu: it was written, and keeps its capabilities: the store is read-only", (unsigned long long)i->facts.ino);
}

void through_refresh(struct inode *i)
{
	if (!atomic_load(&live_of(i)->through.watched))
		return;
	rwlock_exclusive(&i->rw);
	through_refresh_locked(i);
	rwlock_release(&i->rw);
	settle_owed(i);
}

void through_close(struct inode *i, const struct through_open *o)
{
	struct through *s = &live_of(i)->through;
	bool over;

	if (!o->backing) {
		atomic_fetch_sub(&s->nplain, 1);
		return;
	}
	rwlock_exclusive(&i->rw);
	through_refresh_locked(i);
	lock_acquire(&i->attr);
	s->nopens--;
	s->nblind -= o->blind;
	lock_release(&i->attr);
	if (!s->nopens)
		close_backing(i);
	over = is_over(i);
	if (over)
		end(i);
	rwlock_release(&i->rw);
	settle_owed(i);
	if (over)
		inode_put(i, 1);
}

void through_absorb_locked(struct inode *i)
{
	struct io_facts now;

	if (!live_of(i)->through.file || array_facts(i->array, &now))
		return;
	lock_acquire(&i->attr);
	see(i, &now);
	lock_release(&i->attr);
}

void through_stat_locked(struct inode *i, struct stat *st)
{
	struct through *s = &live_of(i)->through;
	struct io_facts now;

	if (!s->file || array_facts(i->array, &now))
		return;
	st->st_size = (off_t)now.size_bytes;
	st->st_blocks = (blkcnt_t)((now.stored_bytes + 511) / 512);
	inode_saw_stamp(i->tree, now.mtime_ns);
	if (now.mtime_ns != s->seen.mtime_ns)
		st->st_mtim = st->st_ctim = clock_timespec(now.mtime_ns);
	if (now.atime_ns != s->seen.atime_ns)
		st->st_atim = clock_timespec(now.atime_ns);
}

int through_cut(struct inode *i)
{
	struct io_facts now;
	bool waits;
	int err;

	rwlock_exclusive(&i->rw);
	waits = live_of(i)->through.file && array_facts(i->array, &now) == -EAGAIN;
	rwlock_release(&i->rw);
	if (!waits)
		return 0;
	/* One commit is enough: a cut that waits after it belongs to another truncation. */
	err = commit_wait(i->tree->store->commit, COMMIT_SYNC);
	rwlock_exclusive(&i->rw);
	waits = live_of(i)->through.file && array_facts(i->array, &now) == -EAGAIN;
	through_absorb_locked(i);
	rwlock_release(&i->rw);
	return waits ? err : 0;
}

void through_vouch(struct inode *i)
{
	struct through *s = &live_of(i)->through;

	if (!atomic_load(&s->watched))
		return;
	rwlock_exclusive(&i->rw);
	through_refresh_locked(i);
	if (s->file && s->nblind) {
		io_mark_time(s->file);
		through_absorb_locked(i);
		lock_acquire(&i->attr);
		s->armed = true;
		lock_release(&i->attr);
	}
	rwlock_release(&i->rw);
}

/* Those of the list that may have been written, or all of it, each with a reference; malloc'd, NULL if there are none or
 * there is no memory. */
static struct inode **collect(struct tree *t, bool everyone, size_t *n_out)
{
	struct inode **v = NULL;
	size_t n = 0;

	lock_acquire(&t->lock);
	for (struct live_inode *i = t->through; i; i = i->through.next)
		n++;
	if (n)
		v = malloc(n * sizeof(*v));
	n = 0;
	for (struct live_inode *i = v ? t->through : NULL; i; i = i->through.next) {
		if (!everyone && !atomic_load(&i->through.watched))
			continue;
		i->base.refs++;
		v[n++] = &i->base;
	}
	lock_release(&t->lock);
	*n_out = n;
	return v;
}

/* Catches up, and ends what only maps have kept. last: they are gone, whatever they say. */
static void look_after(struct inode *i, bool last)
{
	bool over;

	rwlock_exclusive(&i->rw);
	through_refresh_locked(i);
	over = live_of(i)->through.file && (last || is_over(i));
	if (over)
		end(i);
	rwlock_release(&i->rw);
	inode_put(i, over ? 2 : 1);
}

static void look_after_all(struct tree *t, bool last)
{
	size_t n;
	struct inode **v = collect(t, last, &n);

	for (size_t k = 0; k < n; k++)
		look_after(v[k], last);
	free(v);
}

void through_refresh_all(struct tree *t)
{
	look_after_all(t, false);
}

void through_end_all(struct tree *t)
{
	look_after_all(t, true);
}
