/*
 * Files without a name that the kernel is about to let go of. close(2) and unlink(2) wait for neither RELEASE nor FORGET, so
 * a program that has deleted a file and writes another can be faster than the request that gives the space back. An operation
 * that finds no space waits for those first, and tries again whenever one has gone, LEAVING_NS at most in all.
 *
 * A file counts as leaving when its last name has gone and each open has had a descriptor closed (FLUSH), for LEAVING_NS after
 * the last such event: what lives longer is open by a duplicate of that descriptor, by O_PATH, mapped, or open by a reader whose
 * close the kernel does not tell of, and nobody waits for it until the next event. A read, write or fsync by a caller shows that
 * a descriptor is open still: then the close that was seen does not count.
 *
 * Invariants:
 *  1. tree.leaving is in the order of leaving_ns. It holds no reference: the end of the inode takes the inode out.
 *  2. An inode that only a commit still holds (dirty or staged) is not in it: the wait for a commit covers that.
 *  3. At most tree.nwaiting_max operations wait, in this tree and the one beside it: some threads are left to serve what is waited for.
 */
#include "tree/live/live.h"
#include "util/clock.h"
#include "util/stats.h"

#define LEAVING_NS (2 * CLOCK_SECOND_NS)
#define MS_NS 1000000

void tree_served_by(struct tree *t, unsigned nthreads)
{
	t->nwaiting_max = nthreads * 3 / 4;
}

static void take_out_locked(struct live_inode *i)
{
	struct tree *t = i->base.tree;

	if (!i->leaving_link)
		return;
	*i->leaving_link = i->leaving_next;
	*(i->leaving_next ? &i->leaving_next->leaving_link : &t->leaving_tail) = i->leaving_link;
	i->leaving_link = NULL;
}

void leaving_expect(struct inode *base)
{
	struct live_inode *i = live_of(base);
	struct tree *t = base->tree;
	bool named = inode_has_name(base);

	/* An unlink has taken the name before this, a close has counted down nkept: whichever comes last finds both gone. */
	if (named || atomic_load(&i->nkept))
		return;
	lock_acquire(&t->lock);
	take_out_locked(i);
	i->leaving_ns = clock_monotonic_ns();
	i->leaving_next = NULL;
	i->leaving_link = t->leaving_tail;
	*t->leaving_tail = i;
	t->leaving_tail = &i->leaving_next;
	lock_release(&t->lock);
}

void leaving_end_locked(struct inode *i)
{
	if (!live_of(i)->leaving_link)
		return;
	take_out_locked(live_of(i));
	i->tree->nleft++;
	lock_broadcast(&i->tree->left);
}

void leaving_end(struct inode *i)
{
	lock_acquire(&i->tree->lock);
	leaving_end_locked(i);
	lock_release(&i->tree->lock);
}

static bool any_leaving_locked(struct tree *t, int64_t now)
{
	while (t->leaving && t->leaving->leaving_ns + LEAVING_NS <= now)
		take_out_locked(t->leaving);
	return t->leaving;
}

/* How long the caller is still to wait for the next one to go; 0: not at all. */
static int64_t wait_ns_locked(struct tree *t, const struct leaving_wait *w)
{
	int64_t now = clock_monotonic_ns(), until;

	if (!any_leaving_locked(t, now) || t->nleft != w->nleft)
		return 0;
	until = t->leaving->leaving_ns + LEAVING_NS;
	if (until > w->until_ns)
		until = w->until_ns;
	return until > now ? until - now : 0;
}

/* Is anything leaving that this caller may wait for? */
static bool may_wait_locked(struct tree *t, struct leaving_wait *w)
{
	int64_t now = clock_monotonic_ns();

	if (!any_leaving_locked(t, now))
		return false;
	if (!w->until_ns) {
		w->until_ns = now + LEAVING_NS;
		stats_add(STAT_LEAVING_WAITS, 1);
	}
	return now < w->until_ns;
}

bool leaving_wait(struct tree *t, struct leaving_wait *w)
{
	struct tree *durable = t->beside ? t->beside : t;
	bool gone = false;
	int64_t ns;

	lock_acquire(&t->lock);
	if (atomic_fetch_add(&durable->nwaiting, 1) < durable->nwaiting_max && may_wait_locked(t, w)) {
		while ((ns = wait_ns_locked(t, w)))
			lock_wait_ms(&t->lock, &t->left, (unsigned)(ns / MS_NS) + 1);
		gone = t->nleft != w->nleft;
		w->nleft = t->nleft;
	}
	atomic_fetch_sub(&durable->nwaiting, 1);
	lock_release(&t->lock);
	return gone;
}
