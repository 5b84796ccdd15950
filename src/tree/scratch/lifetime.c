/*
 * Lifetimes of directories.
 *
 * One thread, which the first lifetime starts, waits for the ends of all processes that directories belong to, each by a pidfd, so that a
 * number that is given again means nothing.
 *
 * Invariants:
 *  1. An entry's pidfd is closed by who takes the entry out of the list.
 *  2. The thread waits by a copy of the list, in which a descriptor may have been closed since: an entry is taken out only when its own
 *     pidfd, under the lock, says that the process has ended.
 */
#include "tree/scratch/lifetime.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "store/store.h"
#include "tree/live/live.h"
#include "tree/scratch/remove.h"
#include "util/clock.h"
#include "util/cred.h"
#include "util/log.h"
#include "util/number.h"
#include "util/thread.h"
#include "util/vec.h"

#define TEXT_MAX 31u
#define MEMORY_WAIT_NS (CLOCK_SECOND_NS / 10)

struct lifetime {
	uint64_t ino;
	pid_t pid;
	bool session; /* the process is the leader of one */
	int pidfd;
};

struct lifetimes {
	struct tree *tree;
	struct lock lock;
	struct lifetime *v; /* in no order: there are few */
	size_t n, cap;
	bool stop;
	int wake; /* an eventfd: the list has changed, or the end has come */
	pthread_t thread;
};

/* ---- the list ---- */

static size_t find_locked(const struct lifetimes *l, uint64_t ino)
{
	size_t k = 0;

	while (k < l->n && l->v[k].ino != ino)
		k++;
	return k;
}

static void drop_locked(struct lifetimes *l, size_t k)
{
	close(l->v[k].pidfd);
	VEC_REMOVE(l->v, l->n, k);
}

static void wake(struct lifetimes *l)
{
	const uint64_t one = 1;

	if (write(l->wake, &one, sizeof(one)) < 0)
		log_warn("scratch/: lifetimes are looked at late: %s", strerror(errno));
}

/* ---- the thread ---- */

/* Was the directory removed by somebody else? */
static bool is_gone(struct tree *t, uint64_t ino)
{
	char name[META_NAME_MAX + 1];
	bool gone;

	meta_lock(t->store->meta);
	gone = meta_name_of_locked(t->store->meta, ino, NULL, name) == -ENOENT;
	meta_unlock(t->store->meta);
	return gone;
}

static bool has_ended(int pidfd)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	return poll(&p, 1, 0) > 0 && p.revents & POLLIN;
}

/* Takes the entry out if it is still to go: a lifetime may have been set anew since it was looked at. */
static bool take(struct lifetimes *l, uint64_t ino, bool ended)
{
	bool taken;
	size_t k;

	lock_acquire(&l->lock);
	k = find_locked(l, ino);
	taken = k < l->n && (!ended || has_ended(l->v[k].pidfd));
	if (taken)
		drop_locked(l, k);
	lock_release(&l->lock);
	return taken;
}

static void end_one(struct lifetimes *l, const struct lifetime *one)
{
	int err;

	if (!take(l, one->ino, true))
		return;
	err = scratch_remove_dir(l->tree, one->ino);
	if (err && err != -ENOENT)
		log_error("scratch/: the directory of process %ld, which has ended, is not removed wholly: %s", (long)one->pid, strerror(-err));
}

/* After a change, entries whose directory somebody else has removed go. */
static void forget_gone(struct lifetimes *l, const struct lifetime *v, size_t n)
{
	for (size_t k = 0; k < n; k++) {
		if (is_gone(l->tree, v[k].ino))
			take(l, v[k].ino, false);
	}
}

/* A copy of the list and, with one more in front, what is waited for; -ENOMEM. */
static int copy_list(struct lifetimes *l, struct lifetime **v_out, struct pollfd **fds_out, size_t *n_out)
{
	struct lifetime *v;
	struct pollfd *fds;

	lock_acquire(&l->lock);
	v = malloc((l->n + 1) * sizeof(*v));
	fds = malloc((l->n + 1) * sizeof(*fds));
	if (v && fds) {
		if (l->n)
			memcpy(v, l->v, l->n * sizeof(*v));
		fds[0] = (struct pollfd){ .fd = l->wake, .events = POLLIN };
		for (size_t k = 0; k < l->n; k++)
			fds[k + 1] = (struct pollfd){ .fd = v[k].pidfd, .events = POLLIN };
		*n_out = l->n;
	}
	lock_release(&l->lock);
	if (v && fds) {
		*v_out = v;
		*fds_out = fds;
		return 0;
	}
	free(v);
	free(fds);
	return -ENOMEM;
}

static bool is_stopped(struct lifetimes *l)
{
	bool stop;

	lock_acquire(&l->lock);
	stop = l->stop;
	lock_release(&l->lock);
	return stop;
}

/* With nothing in the list only the wake is waited for. */
static void wait_once(struct lifetimes *l, const struct lifetime *v, struct pollfd *fds, size_t n)
{
	uint64_t count;

	if (poll(fds, n + 1, -1) <= 0)
		return;
	if (fds[0].revents && read(l->wake, &count, sizeof(count)) > 0)
		forget_gone(l, v, n);
	for (size_t k = 0; k < n; k++) {
		if (fds[k + 1].revents)
			end_one(l, &v[k]);
	}
}

static void *wait_for_ends(void *arg)
{
	struct lifetimes *l = arg;

	while (!is_stopped(l)) {
		struct lifetime *v;
		struct pollfd *fds;
		size_t n;

		if (copy_list(l, &v, &fds, &n)) {
			clock_sleep_ns(MEMORY_WAIT_NS);
			continue;
		}
		wait_once(l, v, fds, n);
		free(v);
		free(fds);
	}
	return NULL;
}

static int start(struct tree *t, struct lifetimes **out)
{
	struct lifetimes *l = calloc(1, sizeof(*l));
	int err = l ? 0 : -ENOMEM;

	if (err)
		return err;
	l->tree = t;
	lock_init(&l->lock, RANK_MEM);
	l->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	err = l->wake < 0 ? -errno : thread_start("lifetimes", wait_for_ends, l, &l->thread);
	if (err) {
		if (l->wake >= 0)
			close(l->wake);
		lock_fini(&l->lock);
		free(l);
		return err;
	}
	*out = l;
	return 0;
}

static void end(struct lifetimes *l)
{
	lock_acquire(&l->lock);
	l->stop = true;
	lock_release(&l->lock);
	wake(l);
	thread_join(l->thread);
	while (l->n)
		drop_locked(l, l->n - 1);
	close(l->wake);
	lock_fini(&l->lock);
	free(l->v);
	free(l);
}

/* ---- setting ---- */

/* The process that the text means, as this process numbers it. 0: none, "mount". */
static int parse(const char *text, const struct tree_caller *who, pid_t *pid_out, bool *session_out)
{
	uint64_t number;
	int err = 0;

	*session_out = !strcmp(text, "session");
	*pid_out = 0;
	if (!strcmp(text, "mount"))
		return 0;
	if (!strcmp(text, "pid:self"))
		err = cred_process(who->thread, pid_out);
	else if (*session_out)
		err = cred_session(who->thread, pid_out);
	else if (strncmp(text, "pid:", 4) || number_parse(text + 4, &number) || !number || number > INT32_MAX || !cred_shares_pids(who->thread))
		err = -EINVAL;
	else
		*pid_out = (pid_t)number;
	return err;
}

/* The owner's children are the owner's to remove, whoever has filled it. */
static int check_dir(struct tree *t, uint64_t ino, const struct tree_caller *who)
{
	struct inode *i;
	uid_t uid;
	int err = inode_find(t, ino, &i);

	if (err)
		return err;
	if (!S_ISDIR(inode_mode(i)))
		return -ENOTDIR;
	if (ino == t->store->config.above + META_INO_ROOT)
		return -EBUSY;
	lock_acquire(&i->attr);
	uid = i->facts.uid;
	lock_release(&i->attr);
	return who->uid && who->uid != uid ? -EPERM : 0;
}

/* Takes the pidfd of `one` over, if it succeeds. */
static int put(struct lifetimes *l, const struct lifetime *one, int flags)
{
	size_t k;
	int err = 0;

	lock_acquire(&l->lock);
	k = find_locked(l, one->ino);
	if (flags & (k < l->n ? XATTR_CREATE : XATTR_REPLACE))
		err = k < l->n ? -EEXIST : -ENODATA;
	if (!err && k == l->n)
		err = VEC_RESERVE(l->v, l->cap, l->n + 1);
	if (!err && k < l->n)
		drop_locked(l, k);
	if (!err)
		l->v[l->n++] = *one;
	lock_release(&l->lock);
	if (!err)
		wake(l);
	return err;
}

/* The lists of a tree begin with its first lifetime. */
static int need(struct tree *t, struct lifetimes **out)
{
	struct lifetimes *l = atomic_load(&t->lifetimes), *none = NULL;
	int err = l ? 0 : start(t, &l);

	if (err)
		return err;
	if (!atomic_load(&t->lifetimes) && !atomic_compare_exchange_strong(&t->lifetimes, &none, l)) {
		end(l); /* somebody was faster */
		l = none;
	}
	*out = l;
	return 0;
}

int lifetime_set(struct tree *t, uint64_t ino, const char *text, size_t len, int flags, const struct tree_caller *who)
{
	struct lifetime one = { .ino = ino };
	struct lifetimes *l;
	char copy[TEXT_MAX + 1] = "";
	int err = check_dir(t, ino, who);

	if (!err)
		err = len > TEXT_MAX || memchr(text, 0, len) ? -EINVAL : 0;
	if (err)
		return err;
	memcpy(copy, text, len);
	err = parse(copy, who, &one.pid, &one.session);
	if (err)
		return err;
	if (!one.pid) {
		err = lifetime_remove(t, ino, who);
		return err == -ENODATA ? 0 : err;
	}
	one.pidfd = (int)syscall(SYS_pidfd_open, one.pid, 0);
	if (one.pidfd < 0)
		return errno == EINVAL || errno == ENOENT ? -ESRCH : -errno; /* a thread that leads no process */
	err = need(t, &l);
	if (!err)
		err = put(l, &one, flags);
	if (err)
		close(one.pidfd);
	return err;
}

int lifetime_get(struct tree *t, uint64_t ino, void **out, size_t *len_out)
{
	struct lifetimes *l = atomic_load(&t->lifetimes);
	struct lifetime one = { 0 };
	char *text;
	size_t k;

	if (!l)
		return -ENODATA;
	lock_acquire(&l->lock);
	k = find_locked(l, ino);
	if (k < l->n)
		one = l->v[k];
	lock_release(&l->lock);
	if (!one.pid)
		return -ENODATA;
	if ((one.session ? asprintf(&text, "session") : asprintf(&text, "pid:%ld", (long)one.pid)) < 0)
		return -ENOMEM;
	*out = text;
	*len_out = strlen(text);
	return 0;
}

int lifetime_remove(struct tree *t, uint64_t ino, const struct tree_caller *who)
{
	struct lifetimes *l = atomic_load(&t->lifetimes);
	int err = check_dir(t, ino, who);
	bool had;

	if (err)
		return err == -ENOTDIR || err == -EBUSY ? -ENODATA : err; /* they cannot have one */
	had = l && take(l, ino, false);
	if (had)
		wake(l);
	return had ? 0 : -ENODATA;
}

void lifetimes_stop(struct tree *t)
{
	struct lifetimes *l = atomic_exchange(&t->lifetimes, NULL);

	if (l)
		end(l);
}
