/*
 * Waiting for space: one way for everything that may need some, or that frees some.
 *
 * The caller holds no lock: this waits for requests of the kernel (leaving.c), and for a commit.
 */
#include <errno.h>
#include <string.h>

#include "block/format.h"
#include "store/commit.h"
#include "store/meta.h"
#include "store/store.h"
#include "tree/live/live.h"
#include "tree/live/quota.h"
#include "tree/live/room.h"
#include "util/clock.h"
#include "util/err.h"

/* Commits that are waited for before -ENOSPC is final, once nothing is leaving: others may take what the first one has freed. */
#define ROOM_COMMITS_MAX 2
/* As long does someone wait who only asks how much there is. */
#define ROOM_SETTLE_NS (2 * CLOCK_SECOND_NS)
/* Attributes of so many bytes take so little of the log that the reserve is enough for them. */
#define ROOM_NOTE_BYTES 512u

static bool is_pending(struct store *s)
{
	bool pending;

	meta_lock(s->meta);
	pending = meta_pending_locked(s->meta);
	meta_unlock(s->meta);
	return pending;
}

/* Would another commit only find what the last has found? */
static bool is_hopeless(struct tree *t)
{
	struct store *s = t->store;

	return !is_pending(s) && !store_owed(s) && commit_number(s->commit) == atomic_load(&t->full_at);
}

/* 0: something may have come free there; else how the wait has failed, or err if there was nothing to wait for. */
static int wait_in(struct tree *t, int err, struct room_wait_in *w)
{
	bool gone;
	int wait;

	gone = leaving_wait(t, &w->leaving);
	if (err == -EDQUOT && !gone && !quota_may_shrink(t) && quota_bounds(t))
		return err;
	if (!gone && (++w->ncommits > ROOM_COMMITS_MAX || is_hopeless(t)))
		return err;
	/* Compaction lowers no quota. */
	wait = commit_wait(t->store->commit, err == -EDQUOT ? COMMIT_SYNC : COMMIT_SPACE);
	if (!gone && w->ncommits == ROOM_COMMITS_MAX)
		atomic_store(&t->full_at, commit_number(t->store->commit));
	return err_is_passing(wait) ? 0 : wait;
}

/* The tree in which something may come free for this one: a quota is of both where a directory is declared scratch. NULL: none. */
static struct tree *tree_beside(struct tree *t, int err)
{
	struct tree *durable = t->beside ? t->beside : t;

	if (err == -EDQUOT && !atomic_load(&durable->nshelves))
		return NULL;
	return t->beside ? t->beside : t->scratch;
}

int room_wait(struct tree *t, int err, struct room_wait *w)
{
	struct tree *beside = tree_beside(t, err);
	int wait = err_is_full(err) ? wait_in(t, err, &w->own) : err;

	/* A failure there is not this one's. */
	if (wait == err && err_is_full(err) && beside && !wait_in(beside, err, &w->beside))
		wait = 0;
	return wait;
}

int room_need(struct tree *t, uint64_t bytes)
{
	struct room_wait wait = { 0 };
	int err;

	do {
		err = store_may_write(t->store, bytes);
		if (!err)
			return 0;
		err = room_wait(t, err, &wait);
	} while (!err);
	return err;
}

static int add_xattr(void *ctx, const char *name, const void *value, size_t len)
{
	(void)value;
	*(uint64_t *)ctx += sizeof(struct layer_xattr) + strlen(name) + len;
	return 0;
}

void room_measure(struct inode *i)
{
	struct meta *m = i->tree->store->meta;
	uint64_t bytes = 0;

	if (i->facts.kind == ARRAY_BUCKET || atomic_load(&live_of(i)->xattrs_bytes) != UINT64_MAX)
		return;
	meta_lock(m);
	/* A failure shows where the attributes are needed. */
	if (atomic_load(&live_of(i)->has_xattrs))
		meta_xattr_walk_locked(m, i->facts.ino, add_xattr, &bytes);
	atomic_store(&live_of(i)->xattrs_bytes, bytes);
	meta_unlock(m);
}

int room_note(struct inode *i)
{
	uint64_t bytes = 0;

	room_measure(i);
	/* The log is told nothing of a file without a name, whose times the kernel sends before it lets go of it: to wait for room would be
	 * to wait for that very file. */
	if (i->facts.kind != ARRAY_BUCKET && inode_has_name(i))
		bytes = atomic_load(&live_of(i)->xattrs_bytes);
	if (bytes > ROOM_NOTE_BYTES)
		return room_need(i->tree, ROOM_INODE_BYTES + bytes);
	room_free(i->tree);
	return 0;
}

void room_free(struct tree *t)
{
	if (store_is_short(t->store))
		commit_wait(t->store->commit, COMMIT_SYNC);
}

/* Would a commit give something back? A deleted file that is dirty takes two: the first one lets go of it. */
static bool frees(struct tree *t)
{
	return is_pending(t->store) || quota_may_shrink(t);
}

bool room_settle(struct tree *t)
{
	int64_t until = clock_monotonic_ns() + ROOM_SETTLE_NS, left;
	struct leaving_wait leaving = { 0 };
	bool waited = false;

	if (!t->store->commit)
		return false;
	while (leaving_wait(t, &leaving))
		;
	for (int i = 0; i < ROOM_COMMITS_MAX && frees(t) && (left = until - clock_monotonic_ns()) > 0; i++) {
		commit_wait_ms(t->store->commit, (unsigned)(left / 1000000) + 1);
		waited = true;
	}
	return waited;
}
