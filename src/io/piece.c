/*
 * Pieces, and their way from memory to the disk.
 *
 * Invariants: (1) a piece with data or reserved pages has a frame or a slot, never both, and others have neither; (2) it stands in a queue
 * (io/queue.h) when it has a frame, unless somebody is about to move it; so does a loose one; (3) in memory, its pages are counted in its frame;
 * (4) a thread holds the lock of one piece at a time, and moves others to the disk only while it holds none.
 */
#include "io/piece.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "io/place.h"
#include "io/queue.h"
#include "util/buf.h"

/* Others may take what a writer has made room for; after so many times it goes to the disk itself. */
#define ROUNDS_MAX 16

void piece_space_init(struct piece_space *s, uint64_t memory_bytes, struct io *disk)
{
	frames_init(&s->frames, memory_bytes);
	slots_init(&s->slots);
	packer_init(&s->packer);
	queue_init(s);
	s->disk = disk;
}

void piece_space_end(struct piece_space *s)
{
	chore_stop(&s->packs);
	s->ends = true;
}

void piece_space_fini(struct piece_space *s)
{
	io_close(s->disk);
	queue_fini(s);
	packer_fini(&s->packer);
	slots_fini(&s->slots);
	frames_fini(&s->frames);
}

/* ---- one piece ---- */

struct piece *piece_new(bool kept, _Atomic uint64_t *stored_pages)
{
	struct piece *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	atomic_init(&p->refs, 1);
	rwlock_init(&p->lock, RANK_PIECE);
	p->kept = kept;
	p->stored_pages = stored_pages;
	p->place = place_nowhere;
	return p;
}

static void set_pages_locked(struct piece_space *s, struct piece *p, uint64_t data, uint64_t reserved)
{
	struct piece_place place = p->place;

	place_set_locked(s, p, data, reserved, &place);
}

uint64_t piece_saved(const struct piece *p, size_t n, bool touched)
{
	unsigned saving = atomic_load(&p->saving), is = saving >> 8, takes = saving & 0xff;

	if (is <= takes)
		return 0;
	return touched ? (uint64_t)(is - takes) * FRAME_PAGE : (uint64_t)n * (is - takes) / is;
}

/* Unlocks a piece that was changed, or has moved. */
static void unlock_changed(struct piece_space *s, struct piece *p)
{
	bool wakes = place_is_loose(p) && queue_add_loose(s, p);

	rwlock_release(&p->lock);
	if (wakes)
		chore_wake(&s->packs);
}

/* ---- moves ---- */

/* From memory, or from nowhere; packs: compressed. */
static int move_to_disk_locked(struct piece_space *s, struct piece *p, bool packs)
{
	struct piece_place to;
	int err = place_put(s, p, p->frame.p, p->data, packs, &to);

	if (err)
		return err;
	queue_remove(s, p);
	frames_give(&s->frames, &p->frame);
	place_set_locked(s, p, p->data, p->reserved, &to);
	return 0;
}

/* To the piece's frame, which has room for all pages of the form. Pages that are `whole` are about to be written and need not come. */
static int come_back_locked(struct piece_space *s, struct piece *p, uint64_t whole)
{
	uint64_t slot = p->place.slot;
	int err = p->data & ~whole ? place_unpack(s, p, p->frame.p) : 0;

	if (err)
		return err;
	place_set_locked(s, p, p->data, p->reserved, &place_nowhere);
	place_give(s, slot, 1);
	return 0;
}

/* To another slot, as it was: there is no memory for it. */
static int unpack_on_disk_locked(struct piece_space *s, struct piece *p)
{
	unsigned char *mem = buf_alloc(PIECE_BYTES);
	struct piece_place to, was = p->place;
	int err = mem ? place_unpack(s, p, mem) : -ENOMEM;

	if (!err)
		err = place_put(s, p, mem, p->data, false, &to);
	buf_free(mem, PIECE_BYTES);
	if (err)
		return err;
	place_set_locked(s, p, p->data, p->reserved, &to);
	place_give(s, was.slot, 1);
	return 0;
}

/* Has memory that somebody used before it: that is given up first. */
static bool trim_locked(struct piece_space *s, struct piece *p)
{
	uint64_t unused = p->frame.pages & ~place_pages(p);

	frames_drop(&s->frames, &p->frame, unused);
	return unused;
}

/* Makes room by one piece. -EAGAIN: there is none in memory. */
static int move_oldest(struct piece_space *s)
{
	struct piece *p = queue_take_oldest(s);
	bool stays = false;
	int err = 0;

	if (!p)
		return -EAGAIN;
	rwlock_exclusive(&p->lock);
	if (p->frame.p) {
		stays = trim_locked(s, p);
		if (!stays)
			err = move_to_disk_locked(s, p, p->cold && !p->promised);
		if (stays || err) {
			queue_remove(s, p);
			queue_add(s, p, true);
		}
	}
	unlock_changed(s, p);
	queue_unref(p);
	return err;
}

/* Leaves a piece without pages and place; the slot that it had is the caller's. */
static uint64_t empty_locked(struct piece_space *s, struct piece *p)
{
	uint64_t slot = p->place.slot;

	place_set_locked(s, p, 0, 0, &place_nowhere);
	p->promised = false;
	p->changes++;
	queue_remove(s, p);
	frames_give(&s->frames, &p->frame);
	return slot;
}

static void clear_locked(struct piece_space *s, struct piece *p)
{
	uint64_t slot = empty_locked(s, p);

	if (slot != PIECE_NO_SLOT)
		place_give(s, slot, 1);
}

/* Slots in a row. */
struct slot_run {
	uint64_t first, n;
};

/* Gives the run back, unless this slot makes it longer. */
static void add_slot(struct piece_space *s, struct slot_run *run, uint64_t slot)
{
	if (run->n && slot == run->first + run->n) {
		run->n++;
		return;
	}
	place_give(s, run->first, run->n);
	*run = (struct slot_run){ slot, 1 };
}

void piece_free_all(struct piece_space *s, struct piece *first)
{
	struct slot_run run = { 0 };

	for (struct piece *p = first, *next; p; p = next) {
		uint64_t slot;

		next = p->next_gone;
		rwlock_exclusive(&p->lock);
		slot = empty_locked(s, p);
		rwlock_release(&p->lock);
		queue_unref(p);
		if (slot != PIECE_NO_SLOT)
			add_slot(s, &run, slot);
	}
	place_give(s, run.first, run.n);
}

/* ---- room for changes ---- */

/* A place for these pages, beside those that are there: on the disk, not compressed, there is one in any case. -EAGAIN: not in
 * memory. */
static int place_locked(struct piece_space *s, struct piece *p, uint64_t pages, uint64_t whole)
{
	bool fresh = !p->frame.p;
	int err = 0;

	if (place_is_on_disk(p) && !p->place.packed)
		return 0;
	if (frames_take(&s->frames, &p->frame, pages | p->place.packed))
		return -EAGAIN;
	if (p->place.packed)
		err = come_back_locked(s, p, whole);
	if (err)
		frames_give(&s->frames, &p->frame);
	else if (fresh)
		queue_add(s, p, false);
	return err;
}

/* Locks the piece when these pages have a place, of which some will be written as a whole. */
static int lock_placed(struct piece_space *s, struct piece *p, uint64_t pages, uint64_t whole)
{
	int err, moved = 0;

	for (unsigned round = 0;; round++) {
		rwlock_exclusive(&p->lock);
		err = place_locked(s, p, pages, whole);
		if (err == -EAGAIN && (moved == -EAGAIN || round == ROUNDS_MAX))
			err = place_is_on_disk(p) ? unpack_on_disk_locked(s, p) : move_to_disk_locked(s, p, false);
		if (!err) {
			p->changes++;
			return 0;
		}
		rwlock_release(&p->lock);
		if (err != -EAGAIN)
			return err;
		moved = move_oldest(s);
		if (moved && moved != -EAGAIN)
			return moved;
	}
}

/* ---- bytes ---- */

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

static int read_from_packed(struct piece_space *s, const struct piece *p, char *to, size_t n, size_t off)
{
	unsigned char *mem;
	int err;

	if (n == PIECE_BYTES && p->data == UINT64_MAX)
		return place_unpack(s, p, (unsigned char *)to);
	mem = buf_alloc(PIECE_BYTES);
	err = mem ? place_unpack(s, p, mem) : -ENOMEM;
	if (!err)
		err = place_read(s, p, mem, to, n, off, 0);
	buf_free(mem, PIECE_BYTES);
	return err;
}

int piece_read(struct piece_space *s, struct piece *p, void *buf, size_t n, size_t off, unsigned how)
{
	int err;

	rwlock_shared(&p->lock);
	if (p->place.packed && p->data & piece_range(n, off))
		err = read_from_packed(s, p, buf, n, off);
	else
		err = place_read(s, p, p->frame.p, buf, n, off, how);
	rwlock_release(&p->lock);
	return err;
}

static void write_in_memory(struct piece *p, const void *buf, size_t n, size_t off, uint64_t new)
{
	unsigned first, npages;

	for (uint64_t fresh = new; frames_run(&fresh, &first, &npages);) {
		size_t begin = first * FRAME_PAGE, end = begin + npages * FRAME_PAGE;

		if (begin < off)
			memset(p->frame.p + begin, 0, least(off, begin + FRAME_PAGE) - begin);
		if (end > off + n)
			memset(p->frame.p + off + n, 0, end - off - n);
	}
	memcpy(p->frame.p + off, buf, n);
}

/* The pages that a range has as a whole. */
static uint64_t whole_pages(size_t n, size_t off)
{
	size_t first = (off + FRAME_PAGE - 1) / FRAME_PAGE * FRAME_PAGE, last = (off + n) / FRAME_PAGE * FRAME_PAGE;

	return last > first ? piece_range(last - first, first) : 0;
}

/* All of a piece, to a slot in which nothing is yet. */
static int write_all_on_disk(struct piece_space *s, struct piece *p, const void *buf, unsigned how)
{
	struct piece_place to = p->place;
	int err = place_pack(s, buf, UINT64_MAX, &to);

	if (err && err != -ENOMEM)
		return err;
	p->noise = !err && !to.packed;
	if (!to.packed)
		return place_write(s, p, buf, PIECE_BYTES, 0, how);
	place_set_locked(s, p, UINT64_MAX, 0, &to);
	atomic_fetch_add(&s->transfers, 1);
	return 0;
}

/* Writes to a piece that has a place for it. */
static int write_locked(struct piece_space *s, struct piece *p, const void *buf, size_t n, size_t off, unsigned how)
{
	uint64_t pages = piece_range(n, off);
	int err = 0;

	p->cold = how & IO_COLD;
	p->noise = false;
	if (p->frame.p)
		write_in_memory(p, buf, n, off, pages & ~p->data);
	else if (p->cold && n == PIECE_BYTES && !place_pages(p))
		err = write_all_on_disk(s, p, buf, how);
	else
		err = place_write(s, p, buf, n, off, how);
	if (!err)
		set_pages_locked(s, p, p->data | pages, p->reserved & ~pages);
	else if (!place_pages(p))
		clear_locked(s, p);
	return err;
}

int piece_write(struct piece_space *s, struct piece *p, const void *buf, size_t n, size_t off, unsigned how)
{
	int err = lock_placed(s, p, piece_range(n, off), whole_pages(n, off));

	if (err)
		return err;
	err = write_locked(s, p, buf, n, off, how);
	unlock_changed(s, p);
	return err;
}

int piece_reserve(struct piece_space *s, struct piece *p, size_t n, size_t off)
{
	uint64_t pages = piece_range(n, off);
	int err = lock_placed(s, p, pages, 0);

	if (err)
		return err;
	pages &= ~place_pages(p);
	if (!p->frame.p)
		err = place_reserve(s, p->place.slot, pages);
	p->promised |= !err;
	if (!err)
		set_pages_locked(s, p, p->data, p->reserved | pages);
	else if (!place_pages(p))
		clear_locked(s, p);
	unlock_changed(s, p);
	return err;
}

/* ---- cuts ---- */

/* Within a page. */
static int zero_locked(struct piece_space *s, const struct piece *p, size_t from, size_t to)
{
	if (from >= to || !(p->data >> from / FRAME_PAGE & 1))
		return 0;
	if (p->frame.p) {
		memset(p->frame.p + from, 0, to - from);
		return 0;
	}
	return place_zero(s, p, to - from, from);
}

static void drop_locked(struct piece_space *s, struct piece *p, uint64_t pages)
{
	set_pages_locked(s, p, p->data & ~pages, p->reserved & ~pages);
	if (!place_pages(p)) {
		clear_locked(s, p);
		return;
	}
	if (p->frame.p)
		frames_drop(&s->frames, &p->frame, pages);
	else
		place_punch(s, p, pages);
	atomic_fetch_add(&s->transfers, 1);
}

/* Without a compressed form. */
static int cut_locked(struct piece_space *s, struct piece *p, size_t n, size_t off)
{
	size_t end = off + n, first = (off + FRAME_PAGE - 1) / FRAME_PAGE * FRAME_PAGE, last = end / FRAME_PAGE * FRAME_PAGE;
	uint64_t pages = place_pages(p) & whole_pages(n, off);
	int err = zero_locked(s, p, off, least(first, end));

	if (!err && last >= first)
		err = zero_locked(s, p, last, end);
	if (!err && pages)
		drop_locked(s, p, pages);
	return err;
}

/* The form of what is left goes to another slot. */
static int pack_anew_locked(struct piece_space *s, struct piece *p, size_t n, size_t off, uint64_t left)
{
	unsigned char *mem = buf_alloc(PIECE_BYTES);
	struct piece_place to, was = p->place;
	int err = mem ? place_unpack(s, p, mem) : -ENOMEM;

	if (!err) {
		memset(mem + off, 0, n);
		err = place_put(s, p, mem, left, true, &to);
	}
	buf_free(mem, PIECE_BYTES);
	if (err)
		return err;
	place_set_locked(s, p, left, 0, &to);
	place_give(s, was.slot, 1);
	return 0;
}

/* One range, into which the ends of a file's cuts grow together. False: it is apart from those before. */
static bool note_zeros(struct piece_place *place, size_t from, size_t to)
{
	if (place->zeros_to && (from > place->zeros_to || to < place->zeros_from))
		return false;
	if (!place->zeros_to || from < place->zeros_from)
		place->zeros_from = (uint32_t)from;
	if (to > place->zeros_to)
		place->zeros_to = (uint32_t)to;
	return true;
}

/* Where that finds no space, the form stays as large as before, and what is cut of its pages is noted. */
static int cut_packed_locked(struct piece_space *s, struct piece *p, size_t n, size_t off)
{
	uint64_t whole = whole_pages(n, off), left = p->data & ~whole;
	int err;

	if (!(p->data & piece_range(n, off)))
		return 0;
	if (!left) {
		clear_locked(s, p);
		return 0;
	}
	err = pack_anew_locked(s, p, n, off, left);
	if (err && (!(left & piece_range(n, off)) || note_zeros(&p->place, off, off + n))) {
		set_pages_locked(s, p, left, 0);
		err = 0;
	}
	return err;
}

int piece_cut(struct piece_space *s, struct piece *p, size_t n, size_t off)
{
	int err;

	rwlock_exclusive(&p->lock);
	p->changes++;
	err = p->place.packed ? cut_packed_locked(s, p, n, off) : cut_locked(s, p, n, off);
	unlock_changed(s, p);
	return err;
}

uint64_t piece_pages(struct piece *p, bool also_reserved)
{
	uint64_t pages;

	rwlock_shared(&p->lock);
	pages = also_reserved ? place_pages(p) : p->data;
	rwlock_release(&p->lock);
	return pages;
}
