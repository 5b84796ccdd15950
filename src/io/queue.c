/*
 * The queues, and the chore that compresses loose pieces at rest.
 *
 * Invariants: (1) the space's lock is for the links, and for loose_ns, of all its pieces; no other is taken under it; (2) a piece that was taken
 * out has a reference more: it may leave its file, but is not freed; (3) the chore holds the lock of one piece at a time, shared while it reads, and none
 * while it compresses and writes; what it wrote counts only if nobody has changed the piece since it read.
 */
#include "io/queue.h"

#include <errno.h>
#include <stdlib.h>

#include "io/place.h"
#include "util/buf.h"

static struct piece *link_piece(struct piece_link *l)
{
	return (struct piece *)((char *)l - offsetof(struct piece, link));
}

#define LOOSE_ONES 2

static void enqueue_locked(struct piece_link *q, struct piece *p, bool as_oldest)
{
	p->link.older = as_oldest ? q : q->older;
	p->link.newer = as_oldest ? q->newer : q;
	p->link.older->newer = p->link.newer->older = &p->link;
}

void queue_add(struct piece_space *s, struct piece *p, bool as_oldest)
{
	lock_acquire(&s->lock);
	enqueue_locked(&s->queue[p->kept], p, as_oldest);
	lock_release(&s->lock);
}

static void dequeue_locked(struct piece *p)
{
	if (!p->link.newer)
		return;
	p->link.older->newer = p->link.newer;
	p->link.newer->older = p->link.older;
	p->link.older = p->link.newer = NULL;
}

void queue_remove(struct piece_space *s, struct piece *p)
{
	lock_acquire(&s->lock);
	dequeue_locked(p);
	lock_release(&s->lock);
}

/* NULL: there is none. */
static struct piece *oldest_locked(struct piece_space *s, int queue)
{
	struct piece_link *l = s->queue[queue].newer;

	return l != &s->queue[queue] ? link_piece(l) : NULL;
}

static struct piece *take_locked(struct piece *p)
{
	dequeue_locked(p);
	atomic_fetch_add(&p->refs, 1);
	return p;
}

struct piece *queue_take_oldest(struct piece_space *s)
{
	struct piece *p;

	lock_acquire(&s->lock);
	p = oldest_locked(s, false);
	if (!p)
		p = oldest_locked(s, true);
	if (p)
		take_locked(p);
	lock_release(&s->lock);
	return p;
}

bool queue_add_loose(struct piece_space *s, struct piece *p)
{
	bool is_new;

	lock_acquire(&s->lock);
	is_new = !p->link.newer;
	dequeue_locked(p);
	p->loose_ns = clock_monotonic_ns();
	enqueue_locked(&s->queue[LOOSE_ONES], p, false);
	lock_release(&s->lock);
	return is_new;
}

/* The one that has been left alone for long enough. NULL: there is none for so long. */
static struct piece *take_loose(struct piece_space *s, int64_t *wait_ns)
{
	struct piece *p;

	lock_acquire(&s->lock);
	p = oldest_locked(s, LOOSE_ONES);
	*wait_ns = p ? p->loose_ns + PIECE_COLD_NS - clock_monotonic_ns() : CHORE_DONE;
	p = *wait_ns <= 0 ? take_locked(p) : NULL;
	lock_release(&s->lock);
	return p;
}

void queue_unref(struct piece *p)
{
	if (atomic_fetch_sub(&p->refs, 1) != 1)
		return;
	rwlock_fini(&p->lock);
	free(p);
}

/* ---- loose pieces ---- */

/* Somebody has changed it, or it could not be packed. What is damaged is told once. */
static void leave_loose(struct piece_space *s, struct piece *p, int err)
{
	rwlock_exclusive(&p->lock);
	p->noise |= err == -EUCLEAN;
	if (place_is_loose(p))
		queue_add_loose(s, p);
	rwlock_release(&p->lock);
}

/* Its bytes. -EAGAIN: it is no longer loose. */
static int read_loose(struct piece_space *s, struct piece *p, unsigned char *mem, uint64_t *data, unsigned *changes)
{
	int err = -EAGAIN;

	rwlock_shared(&p->lock);
	if (place_is_loose(p))
		err = place_read(s, p, NULL, (char *)mem, PIECE_BYTES, 0, IO_COLD);
	*data = p->data;
	*changes = p->changes;
	rwlock_release(&p->lock);
	return err;
}

/* To that place, if it is still as it was when its form was made; else -EAGAIN. *spare: the slot that it has not. */
static int move_packed(struct piece_space *s, struct piece *p, unsigned changes, const struct piece_place *to, uint64_t *spare)
{
	bool same;

	*spare = to->slot;
	rwlock_exclusive(&p->lock);
	same = p->changes == changes;
	/* A writer between the queue and the reading has put it back there. */
	if (same)
		queue_remove(s, p);
	p->noise |= same && !to->packed;
	if (same && to->packed) {
		*spare = p->place.slot;
		place_set_locked(s, p, p->data, 0, to);
	}
	rwlock_release(&p->lock);
	return same ? 0 : -EAGAIN;
}

/* With 256 KiB of memory and as many for the form, which the chore alone takes. */
static int pack_one(struct piece_space *s, struct piece *p, unsigned char *mem)
{
	struct piece_place to = place_nowhere;
	unsigned changes = 0;
	uint64_t data = 0, spare;
	int err = mem ? read_loose(s, p, mem, &data, &changes) : -ENOMEM;

	if (!err)
		err = slots_take(&s->slots, &to.slot);
	if (err)
		return err;
	spare = to.slot;
	err = place_pack(s, mem, data, &to);
	if (!err)
		err = move_packed(s, p, changes, &to, &spare);
	place_give(s, spare, 1);
	return err;
}

/* The chore. A disk that has no space, or fails, is left alone for a while. */
static int64_t pack_loose(void *space)
{
	struct piece_space *s = space;
	unsigned char *mem;
	int64_t wait_ns;
	struct piece *p = take_loose(s, &wait_ns);
	int err;

	if (!p)
		return wait_ns;
	mem = buf_alloc(PIECE_BYTES);
	err = pack_one(s, p, mem);
	buf_free(mem, PIECE_BYTES);
	if (err)
		leave_loose(s, p, err);
	queue_unref(p);
	return err && err != -EAGAIN ? PIECE_COLD_NS : 0;
}

void queue_init(struct piece_space *s)
{
	lock_init(&s->lock, RANK_MEM);
	for (int i = 0; i < 3; i++)
		s->queue[i].older = s->queue[i].newer = &s->queue[i];
	chore_init(&s->packs, "pack", pack_loose, s);
}

void queue_fini(struct piece_space *s)
{
	lock_fini(&s->lock);
}
