/*
 * Pieces, and their way from memory to the disk.
 *
 * Invariants: (1) a piece with data or reserved pages has a frame or a slot, never both, and others have neither; (2) it stands in a queue
 * when it has a frame, unless somebody is about to move it; so does a loose one; (3) in memory, its pages are counted in its frame; (4) the bytes of its slot
 * are defined where its pages are data: a page reaches the disk as a whole at first; (5) a thread holds the lock of one piece
 * at a time, and moves others to the disk only while it holds none; (6) a slot with a compressed form is never written to: the piece moves
 * to memory or to another slot first. The form has all pages that are data, and may have more, and bytes that were cut since.
 */
#include "io/piece.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "io/lease.h"
#include "util/buf.h"
#include "util/err.h"
#include "util/stats.h"

/* Others may take what a writer has made room for; after so many times it goes to the disk itself. */
#define ROUNDS_MAX 16

static int64_t pack_loose(void *space);

void piece_space_init(struct piece_space *s, uint64_t memory_bytes, struct io *disk)
{
	frames_init(&s->frames, memory_bytes);
	slots_init(&s->slots);
	packer_init(&s->packer);
	lock_init(&s->lock, RANK_MEM);
	chore_init(&s->packs, "pack", pack_loose, s);
	for (int i = 0; i < 3; i++)
		s->queue[i].older = s->queue[i].newer = &s->queue[i];
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
	lock_fini(&s->lock);
	packer_fini(&s->packer);
	slots_fini(&s->slots);
	frames_fini(&s->frames);
}

/* ---- one piece ---- */

static const struct piece_place nowhere = { .slot = PIECE_NO_SLOT };

struct piece *piece_new(bool kept, _Atomic uint64_t *stored_pages)
{
	struct piece *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	atomic_init(&p->refs, 1);
	rwlock_init(&p->lock, RANK_PIECE);
	p->kept = kept;
	p->stored_pages = stored_pages;
	p->place = nowhere;
	return p;
}

static void unref(struct piece *p)
{
	if (atomic_fetch_sub(&p->refs, 1) != 1)
		return;
	rwlock_fini(&p->lock);
	free(p);
}

static uint64_t there(const struct piece *p)
{
	return p->data | p->reserved;
}

static uint64_t on_disk(const struct piece *p, size_t off)
{
	return p->place.slot * PIECE_BYTES + off;
}

static bool is_on_disk(const struct piece *p)
{
	return p->place.slot != PIECE_NO_SLOT;
}

static bool is_loose(const struct piece *p)
{
	return is_on_disk(p) && !p->place.packed && p->cold && !p->promised && !p->noise && p->data;
}

static uint64_t stored_pages(const struct piece *p)
{
	return p->place.packed ? p->place.npacked : frames_count(there(p));
}

/* Changes what a piece has and where it is on the disk, and all that counts it. */
static void set_state_locked(struct piece_space *s, struct piece *p, uint64_t data, uint64_t reserved, const struct piece_place *place)
{
	uint64_t was = stored_pages(p), was_on_disk = is_on_disk(p) ? was : 0, is;
	unsigned saving;

	p->data = data;
	p->reserved = reserved;
	p->place = *place;
	is = stored_pages(p);
	atomic_fetch_add(p->stored_pages, is - was);
	stats_add(STAT_SPILL_DISK_BYTES, ((is_on_disk(p) ? is : 0) - was_on_disk) * FRAME_PAGE);
	saving = p->place.packed ? frames_count(data) << 8 | p->place.npacked : 0;
	if (atomic_exchange(&p->saving, saving) != saving)
		atomic_fetch_add(&s->packings, 1);
}

static void set_pages_locked(struct piece_space *s, struct piece *p, uint64_t data, uint64_t reserved)
{
	struct piece_place place = p->place;

	set_state_locked(s, p, data, reserved, &place);
}

uint64_t piece_saved(const struct piece *p, size_t n, bool touched)
{
	unsigned saving = atomic_load(&p->saving), is = saving >> 8, takes = saving & 0xff;

	if (is <= takes)
		return 0;
	return touched ? (uint64_t)(is - takes) * FRAME_PAGE : (uint64_t)n * (is - takes) / is;
}

/* ---- the queues ---- */

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

static void enqueue(struct piece_space *s, struct piece *p, bool as_oldest)
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

static void dequeue(struct piece_space *s, struct piece *p)
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

/* Takes the oldest that is in memory out, with a reference; NULL: there is none. */
static struct piece *take_oldest(struct piece_space *s)
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

/* Puts a loose piece behind the others. True: it was not there, and the chore is to be woken, whose thread may have failed to start. */
static bool enqueue_loose(struct piece_space *s, struct piece *p)
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

/* Unlocks a piece that was changed, or has moved. */
static void unlock_changed(struct piece_space *s, struct piece *p)
{
	bool wakes = is_loose(p) && enqueue_loose(s, p);

	rwlock_release(&p->lock);
	if (wakes)
		chore_wake(&s->packs);
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

/* An error of the piece's slot: what is damaged there is told. */
static int told(const struct piece *p, size_t off, int err)
{
	if (err == -EUCLEAN)
		return err_corrupt("the disk's part of scratch/", on_disk(p, off), "the bytes are not those that were written");
	return err == -ENODATA ? -EIO : err;
}

/* ---- slots ---- */

/* Slots in a row. */
struct slot_run {
	uint64_t first, n;
};

/* A file system that makes no holes has their space until somebody else uses them. */
static void give_slots(struct piece_space *s, struct slot_run run)
{
	if (run.n && !s->ends)
		io_punch(s->disk, run.first * PIECE_BYTES, run.n * PIECE_BYTES);
	atomic_fetch_add(&s->transfers, 1);
	for (uint64_t i = 0; i < run.n; i++)
		slots_give(&s->slots, run.first + i);
}

static void give_slot(struct piece_space *s, uint64_t slot)
{
	give_slots(s, (struct slot_run){ slot, 1 });
}

/* Gives the run back, unless this slot makes it longer. */
static void add_slot(struct piece_space *s, struct slot_run *run, uint64_t slot)
{
	if (run->n && slot == run->first + run->n) {
		run->n++;
		return;
	}
	give_slots(s, *run);
	*run = (struct slot_run){ slot, 1 };
}

/* Space for these pages of a slot, where the file system can say so. */
static int reserve_on_disk(struct piece_space *s, uint64_t slot, uint64_t pages)
{
	unsigned first, n;
	int err = 0;

	while (!err && frames_run(&pages, &first, &n)) {
		err = io_allocate(s->disk, slot * PIECE_BYTES + first * FRAME_PAGE, n * FRAME_PAGE);
		if (err == -EOPNOTSUPP)
			err = 0;
	}
	atomic_fetch_add(&s->transfers, 1);
	return err;
}

static int write_plain(struct piece_space *s, const unsigned char *mem, uint64_t data, uint64_t slot)
{
	unsigned first, n;
	int err = 0;

	while (!err && frames_run(&data, &first, &n))
		err = io_pwrite(s->disk, mem + first * FRAME_PAGE, n * FRAME_PAGE, slot * PIECE_BYTES + first * FRAME_PAGE);
	return err;
}

/* Leaves to->packed at 0 where the pages do not shrink. -ENOMEM: there is no memory to try it. */
static int write_packed(struct piece_space *s, const unsigned char *mem, uint64_t data, struct piece_place *to)
{
	unsigned char *form = buf_alloc(PIECE_BYTES);
	unsigned npages = 0;
	int err = form ? pack(&s->packer, mem, data, form, &npages) : -ENOMEM;

	if (!err && npages)
		err = io_pwrite_as(s->disk, form, npages * FRAME_PAGE, to->slot * PIECE_BYTES, IO_COLD);
	buf_free(form, PIECE_BYTES);
	if (!err && npages) {
		to->packed = data;
		to->npacked = npages;
		stats_add(STAT_SPILL_COLD_RAW_BYTES, (uint64_t)frames_count(data) * FRAME_PAGE);
		stats_add(STAT_SPILL_COLD_STORED_BYTES, (uint64_t)npages * FRAME_PAGE);
	}
	return err;
}

/* Writes pages of a piece, whose memory is at mem (NULL: it has none), to a slot. Where there is no memory to compress them in, they are
 * no noise: a cold piece is loose then. */
static int put_on_disk(struct piece_space *s, struct piece *p, const unsigned char *mem, uint64_t data, bool packs, struct piece_place *out)
{
	struct piece_place to = nowhere;
	int err = slots_take(&s->slots, &to.slot);
	bool noise;

	if (err)
		return err;
	if (packs && data)
		err = write_packed(s, mem, data, &to);
	noise = packs && !err && !to.packed;
	if (err == -ENOMEM || (!err && !to.packed))
		err = write_plain(s, mem, data, to.slot);
	if (!err)
		err = reserve_on_disk(s, to.slot, p->reserved);
	if (err) {
		give_slot(s, to.slot);
		return err;
	}
	p->noise = noise;
	*out = to;
	return 0;
}

/* From memory, or from nowhere; packs: compressed. */
static int move_to_disk_locked(struct piece_space *s, struct piece *p, bool packs)
{
	struct piece_place to;
	int err = put_on_disk(s, p, p->frame.p, p->data, packs, &to);

	if (err)
		return err;
	dequeue(s, p);
	frames_give(&s->frames, &p->frame);
	set_state_locked(s, p, p->data, p->reserved, &to);
	return 0;
}

/* ---- compressed forms ---- */

/* Bytes that were cut or punched since, in the pages of the form: the others of mem are nobody's. */
static void clear_zeros(const struct piece_place *place, unsigned char *mem)
{
	size_t next;

	for (size_t off = place->zeros_from; off < place->zeros_to; off = next) {
		size_t page = off / FRAME_PAGE;

		next = (page + 1) * FRAME_PAGE < place->zeros_to ? (page + 1) * FRAME_PAGE : place->zeros_to;
		if (place->packed >> page & 1)
			memset(mem + off, 0, next - off);
	}
}

/* To mem, where it lies in the piece. Pages that are data no longer come as well. */
static int read_packed(struct piece_space *s, const struct piece *p, unsigned char *mem)
{
	size_t n = p->place.npacked * FRAME_PAGE;
	unsigned char *form = buf_alloc(n);
	int err = form ? io_pread(s->disk, form, n, on_disk(p, 0)) : -ENOMEM;

	if (!err)
		err = unpack(&s->packer, form, p->place.npacked, mem, p->place.packed);
	if (!err)
		clear_zeros(&p->place, mem);
	buf_free(form, n);
	return told(p, 0, err);
}

/* To the piece's frame, which has room for all pages of the form. Pages that are `whole` are about to be written and need not come. */
static int come_back_locked(struct piece_space *s, struct piece *p, uint64_t whole)
{
	uint64_t slot = p->place.slot;
	int err = p->data & ~whole ? read_packed(s, p, p->frame.p) : 0;

	if (err)
		return err;
	set_state_locked(s, p, p->data, p->reserved, &nowhere);
	give_slot(s, slot);
	return 0;
}

/* To another slot, as it was: there is no memory for it. */
static int unpack_on_disk_locked(struct piece_space *s, struct piece *p)
{
	unsigned char *mem = buf_alloc(PIECE_BYTES);
	struct piece_place to, was = p->place;
	int err = mem ? read_packed(s, p, mem) : -ENOMEM;

	if (!err)
		err = put_on_disk(s, p, mem, p->data, false, &to);
	buf_free(mem, PIECE_BYTES);
	if (err)
		return err;
	set_state_locked(s, p, p->data, p->reserved, &to);
	give_slot(s, was.slot);
	return 0;
}

/* Has memory that somebody used before it: that is given up first. */
static bool trim_locked(struct piece_space *s, struct piece *p)
{
	uint64_t unused = p->frame.pages & ~there(p);

	frames_drop(&s->frames, &p->frame, unused);
	return unused;
}

/* Makes room by one piece. -EAGAIN: there is none in memory. */
static int move_oldest(struct piece_space *s)
{
	struct piece *p = take_oldest(s);
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
			dequeue(s, p);
			enqueue(s, p, true);
		}
	}
	unlock_changed(s, p);
	unref(p);
	return err;
}

/* Leaves a piece without pages and place; the slot that it had is the caller's. */
static uint64_t empty_locked(struct piece_space *s, struct piece *p)
{
	uint64_t slot = p->place.slot;

	set_state_locked(s, p, 0, 0, &nowhere);
	p->promised = false;
	p->changes++;
	dequeue(s, p);
	frames_give(&s->frames, &p->frame);
	return slot;
}

static void clear_locked(struct piece_space *s, struct piece *p)
{
	uint64_t slot = empty_locked(s, p);

	if (slot != PIECE_NO_SLOT)
		give_slot(s, slot);
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
		unref(p);
		if (slot != PIECE_NO_SLOT)
			add_slot(s, &run, slot);
	}
	give_slots(s, run);
}

/* ---- room for changes ---- */

/* A place for these pages, beside those that are there: on the disk, not compressed, there is one in any case. -EAGAIN: not in
 * memory. */
static int place_locked(struct piece_space *s, struct piece *p, uint64_t pages, uint64_t whole)
{
	bool fresh = !p->frame.p;
	int err = 0;

	if (is_on_disk(p) && !p->place.packed)
		return 0;
	if (frames_take(&s->frames, &p->frame, pages | p->place.packed))
		return -EAGAIN;
	if (p->place.packed)
		err = come_back_locked(s, p, whole);
	if (err)
		frames_give(&s->frames, &p->frame);
	else if (fresh)
		enqueue(s, p, false);
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
			err = is_on_disk(p) ? unpack_on_disk_locked(s, p) : move_to_disk_locked(s, p, false);
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

/* How many bytes from off on are alike: in pages of data, or in others. */
static size_t alike(uint64_t data, size_t n, size_t off, bool *is_data)
{
	uint64_t from = data >> off / FRAME_PAGE, other;
	unsigned pages;

	*is_data = from & 1;
	other = *is_data ? ~from : from;
	pages = other ? (unsigned)__builtin_ctzll(other) : FRAME_PAGES;
	return least(n, (size_t)pages * FRAME_PAGE - off % FRAME_PAGE);
}

/* mem: its memory; NULL: it is read from the disk. */
static int read_pages(struct piece_space *s, const struct piece *p, const unsigned char *mem, char *to, size_t n, size_t off, unsigned how)
{
	bool is_data;
	size_t k;
	int err = 0;

	for (; n && !err; to += k, off += k, n -= k) {
		k = alike(p->data, n, off, &is_data);
		if (!is_data)
			memset(to, 0, k);
		else if (mem)
			memcpy(to, mem + off, k);
		else
			err = told(p, off, io_pread_as(s->disk, to, k, on_disk(p, off), how));
	}
	return err;
}

static int read_from_packed(struct piece_space *s, const struct piece *p, char *to, size_t n, size_t off)
{
	unsigned char *mem;
	int err;

	if (n == PIECE_BYTES && p->data == UINT64_MAX)
		return read_packed(s, p, (unsigned char *)to);
	mem = buf_alloc(PIECE_BYTES);
	err = mem ? read_packed(s, p, mem) : -ENOMEM;
	if (!err)
		err = read_pages(s, p, mem, to, n, off, 0);
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
		err = read_pages(s, p, p->frame.p, buf, n, off, how);
	rwlock_release(&p->lock);
	return err;
}

/* A part of a page that is no data yet. */
static int write_new_page(struct piece_space *s, const struct piece *p, const void *buf, size_t n, size_t off)
{
	unsigned char page[FRAME_PAGE] = { 0 };

	memcpy(page + off % FRAME_PAGE, buf, n);
	return io_pwrite(s->disk, page, sizeof(page), on_disk(p, off / FRAME_PAGE * FRAME_PAGE));
}

/* Invariant 4: the edges go alone when their pages are new. */
static int write_on_disk(struct piece_space *s, const struct piece *p, const char *buf, size_t n, size_t off, unsigned how)
{
	int err = 0;

	while (n && !err) {
		size_t in = off % FRAME_PAGE, k = least(FRAME_PAGE - in, n);
		bool is_new = !(p->data >> off / FRAME_PAGE & 1);

		if (is_new && k < FRAME_PAGE) {
			err = write_new_page(s, p, buf, k, off);
		} else {
			size_t end = off + n, last = end / FRAME_PAGE * FRAME_PAGE;

			k = end == last || p->data >> last / FRAME_PAGE & 1 ? n : last > off ? last - off : k;
			err = told(p, off, io_pwrite_as(s->disk, buf, k, on_disk(p, off), how));
		}
		buf += k;
		off += k;
		n -= k;
	}
	atomic_fetch_add(&s->transfers, 1);
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
	int err = write_packed(s, buf, UINT64_MAX, &to);

	if (err && err != -ENOMEM)
		return err;
	p->noise = !err && !to.packed;
	if (!to.packed)
		return write_on_disk(s, p, buf, PIECE_BYTES, 0, how);
	set_state_locked(s, p, UINT64_MAX, 0, &to);
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
	else if (p->cold && n == PIECE_BYTES && !there(p))
		err = write_all_on_disk(s, p, buf, how);
	else
		err = write_on_disk(s, p, buf, n, off, how);
	if (!err)
		set_pages_locked(s, p, p->data | pages, p->reserved & ~pages);
	else if (!there(p))
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
	pages &= ~there(p);
	if (!p->frame.p)
		err = reserve_on_disk(s, p->place.slot, pages);
	p->promised |= !err;
	if (!err)
		set_pages_locked(s, p, p->data, p->reserved | pages);
	else if (!there(p))
		clear_locked(s, p);
	rwlock_release(&p->lock);
	return err;
}

/* ---- loose pieces ---- */

/* Somebody has changed it, or it could not be packed. What is damaged is told once. */
static void leave_loose(struct piece_space *s, struct piece *p, int err)
{
	rwlock_exclusive(&p->lock);
	p->noise |= err == -EUCLEAN;
	if (is_loose(p))
		enqueue_loose(s, p);
	rwlock_release(&p->lock);
}

/* Its bytes. -EAGAIN: it is no longer loose. */
static int read_loose(struct piece_space *s, struct piece *p, unsigned char *mem, uint64_t *data, unsigned *changes)
{
	int err = -EAGAIN;

	rwlock_shared(&p->lock);
	if (is_loose(p))
		err = read_pages(s, p, NULL, (char *)mem, PIECE_BYTES, 0, IO_COLD);
	*data = p->data;
	*changes = p->changes;
	rwlock_release(&p->lock);
	return err;
}

/* To that place, if it is still as it was when its form was made; else -EAGAIN. *spare: the slot that it has not. */
static int place_packed(struct piece_space *s, struct piece *p, unsigned changes, const struct piece_place *to, uint64_t *spare)
{
	bool same;

	*spare = to->slot;
	rwlock_exclusive(&p->lock);
	same = p->changes == changes;
	/* A writer between the queue and the reading has put it back there. */
	if (same)
		dequeue(s, p);
	p->noise |= same && !to->packed;
	if (same && to->packed) {
		*spare = p->place.slot;
		set_state_locked(s, p, p->data, 0, to);
	}
	rwlock_release(&p->lock);
	return same ? 0 : -EAGAIN;
}

/* With 256 KiB of memory and as many for the form, which the chore alone takes. */
static int pack_one(struct piece_space *s, struct piece *p, unsigned char *mem)
{
	struct piece_place to = nowhere;
	unsigned changes = 0;
	uint64_t data = 0, spare;
	int err = mem ? read_loose(s, p, mem, &data, &changes) : -ENOMEM;

	if (!err)
		err = slots_take(&s->slots, &to.slot);
	if (err)
		return err;
	spare = to.slot;
	err = write_packed(s, mem, data, &to);
	if (!err)
		err = place_packed(s, p, changes, &to, &spare);
	give_slot(s, spare);
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
	unref(p);
	return err && err != -EAGAIN ? PIECE_COLD_NS : 0;
}

/* ---- cuts ---- */

/* Within a page. */
static int zero_locked(struct piece_space *s, const struct piece *p, size_t from, size_t to)
{
	struct lease zeros;

	if (from >= to || !(p->data >> from / FRAME_PAGE & 1))
		return 0;
	if (p->frame.p) {
		memset(p->frame.p + from, 0, to - from);
		return 0;
	}
	lease_zeros(&zeros, to - from);
	return told(p, from, io_pwrite(s->disk, zeros.ptr, to - from, on_disk(p, from)));
}

static void drop_locked(struct piece_space *s, struct piece *p, uint64_t pages)
{
	unsigned first, n;

	set_pages_locked(s, p, p->data & ~pages, p->reserved & ~pages);
	if (!there(p)) {
		clear_locked(s, p);
		return;
	}
	if (p->frame.p)
		frames_drop(&s->frames, &p->frame, pages);
	else
		while (frames_run(&pages, &first, &n))
			io_punch(s->disk, on_disk(p, first * FRAME_PAGE), n * FRAME_PAGE);
	atomic_fetch_add(&s->transfers, 1);
}

/* Without a compressed form. */
static int cut_locked(struct piece_space *s, struct piece *p, size_t n, size_t off)
{
	size_t end = off + n, first = (off + FRAME_PAGE - 1) / FRAME_PAGE * FRAME_PAGE, last = end / FRAME_PAGE * FRAME_PAGE;
	uint64_t pages = there(p) & whole_pages(n, off);
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
	int err = mem ? read_packed(s, p, mem) : -ENOMEM;

	if (!err) {
		memset(mem + off, 0, n);
		err = put_on_disk(s, p, mem, left, true, &to);
	}
	buf_free(mem, PIECE_BYTES);
	if (err)
		return err;
	set_state_locked(s, p, left, 0, &to);
	give_slot(s, was.slot);
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
	pages = also_reserved ? there(p) : p->data;
	rwlock_release(&p->lock);
	return pages;
}
