/*
 * The disk's side of a piece: slots, what is written to them and read from them, and compressed forms.
 *
 * Invariants: (1) the bytes of a slot are defined where its piece's pages are data: a page reaches the disk as a whole at first; (2) a slot with
 * a compressed form is never written to: the piece moves to memory or to another slot first. The form has all pages that are data, and may have
 * more, and bytes that were cut since; (3) what is counted of a piece is what place_set_locked was told last.
 */
#include "io/place.h"

#include <errno.h>
#include <string.h>

#include "io/lease.h"
#include "util/buf.h"
#include "util/err.h"
#include "util/stats.h"

const struct piece_place place_nowhere = { .slot = PIECE_NO_SLOT };

static uint64_t on_disk(const struct piece *p, size_t off)
{
	return p->place.slot * PIECE_BYTES + off;
}

static uint64_t stored_pages(const struct piece *p)
{
	return p->place.packed ? p->place.npacked : frames_count(place_pages(p));
}

void place_set_locked(struct piece_space *s, struct piece *p, uint64_t data, uint64_t reserved, const struct piece_place *place)
{
	uint64_t was = stored_pages(p), was_on_disk = place_is_on_disk(p) ? was : 0, is;
	unsigned saving;

	p->data = data;
	p->reserved = reserved;
	p->place = *place;
	is = stored_pages(p);
	atomic_fetch_add(p->stored_pages, is - was);
	stats_add(STAT_SPILL_DISK_BYTES, ((place_is_on_disk(p) ? is : 0) - was_on_disk) * FRAME_PAGE);
	saving = p->place.packed ? frames_count(data) << 8 | p->place.npacked : 0;
	if (atomic_exchange(&p->saving, saving) != saving)
		atomic_fetch_add(&s->packings, 1);
}

/* An error of the piece's slot: what is damaged there is told. */
static int told(const struct piece *p, size_t off, int err)
{
	if (err == -EUCLEAN)
		return err_corrupt("the disk's part of scratch/", on_disk(p, off), "the bytes are not those that were written");
	return err == -ENODATA ? -EIO : err;
}

/* ---- slots ---- */

/* A file system that makes no holes has their space until somebody else uses them. */
void place_give(struct piece_space *s, uint64_t first, uint64_t n)
{
	if (n && !s->ends)
		io_punch(s->disk, first * PIECE_BYTES, n * PIECE_BYTES);
	atomic_fetch_add(&s->transfers, 1);
	for (uint64_t i = 0; i < n; i++)
		slots_give(&s->slots, first + i);
}

int place_reserve(struct piece_space *s, uint64_t slot, uint64_t pages)
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

int place_pack(struct piece_space *s, const unsigned char *mem, uint64_t data, struct piece_place *to)
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

int place_put(struct piece_space *s, struct piece *p, const unsigned char *mem, uint64_t data, bool packs, struct piece_place *out)
{
	struct piece_place to = place_nowhere;
	int err = slots_take(&s->slots, &to.slot);
	bool noise;

	if (err)
		return err;
	if (packs && data)
		err = place_pack(s, mem, data, &to);
	noise = packs && !err && !to.packed;
	if (err == -ENOMEM || (!err && !to.packed))
		err = write_plain(s, mem, data, to.slot);
	if (!err)
		err = place_reserve(s, to.slot, p->reserved);
	if (err) {
		place_give(s, to.slot, 1);
		return err;
	}
	p->noise = noise;
	*out = to;
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

int place_unpack(struct piece_space *s, const struct piece *p, unsigned char *mem)
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

int place_read(struct piece_space *s, const struct piece *p, const unsigned char *mem, char *to, size_t n, size_t off, unsigned how)
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

/* A part of a page that is no data yet. */
static int write_new_page(struct piece_space *s, const struct piece *p, const void *buf, size_t n, size_t off)
{
	unsigned char page[FRAME_PAGE] = { 0 };

	memcpy(page + off % FRAME_PAGE, buf, n);
	return io_pwrite(s->disk, page, sizeof(page), on_disk(p, off / FRAME_PAGE * FRAME_PAGE));
}

/* Invariant 1: the edges go alone when their pages are new. */
int place_write(struct piece_space *s, const struct piece *p, const char *buf, size_t n, size_t off, unsigned how)
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

int place_zero(struct piece_space *s, const struct piece *p, size_t n, size_t off)
{
	struct lease zeros;

	lease_zeros(&zeros, n);
	return told(p, off, io_pwrite(s->disk, zeros.ptr, n, on_disk(p, off)));
}

void place_punch(struct piece_space *s, const struct piece *p, uint64_t pages)
{
	unsigned first, n;

	while (frames_run(&pages, &first, &n))
		io_punch(s->disk, on_disk(p, first * FRAME_PAGE), n * FRAME_PAGE);
}
