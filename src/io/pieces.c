/*
 * The table of a file's pieces, in chunks, so that a file of one byte far away has a small one.
 *
 * Invariants: (1) bytes of the last page behind the size are zero, so that growth shows zeros; (2) pieces leave the table under the exclusive
 * lock, and are freed (which may take long) under none.
 */
#include "io/pieces.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/vec.h"

#define CHUNK_PIECES ((size_t)512)
#define CHUNK_BYTES ((uint64_t)CHUNK_PIECES * PIECE_BYTES)

struct pieces_chunk {
	struct piece *pieces[CHUNK_PIECES];
};

/* Pieces that have left the table, in their order. */
struct gone {
	struct piece *first, **end;
};

void pieces_init(struct pieces *p, struct piece_space *space, bool kept)
{
	*p = (struct pieces){ .space = space, .kept = kept };
	rwlock_init(&p->lock, RANK_SPILL);
}

/* ---- the table ---- */

static struct piece *piece_at(const struct pieces *p, uint64_t off)
{
	uint64_t c = off / CHUNK_BYTES;

	return c < p->nchunks && p->chunks[c] ? p->chunks[c]->pieces[off % CHUNK_BYTES / PIECE_BYTES] : NULL;
}

static int make_piece_locked(struct pieces *p, uint64_t off)
{
	size_t c = (size_t)(off / CHUNK_BYTES);
	struct piece **place;
	int err = VEC_RESERVE(p->chunks, p->cap, c + 1);

	if (err)
		return err;
	while (p->nchunks <= c)
		p->chunks[p->nchunks++] = NULL;
	if (!p->chunks[c] && !(p->chunks[c] = calloc(1, sizeof(*p->chunks[c]))))
		return -ENOMEM;
	place = &p->chunks[c]->pieces[off % CHUNK_BYTES / PIECE_BYTES];
	if (!*place)
		*place = piece_new(p->kept, &p->stored_pages);
	return *place ? 0 : -ENOMEM;
}

/* The part of [off, end) that lies in one piece. */
static size_t part_of(uint64_t off, uint64_t end)
{
	uint64_t left = PIECE_BYTES - off % PIECE_BYTES;

	return (size_t)(left < end - off ? left : end - off);
}

/* Makes the piece at off; the caller has the shared lock and looks again, since it is let go. */
static int make_piece(struct pieces *p, uint64_t off)
{
	int err;

	rwlock_release(&p->lock);
	rwlock_exclusive(&p->lock);
	err = make_piece_locked(p, off);
	rwlock_release(&p->lock);
	rwlock_shared(&p->lock);
	return err;
}

/* ---- bytes ---- */

int pieces_read(struct pieces *p, void *buf, size_t n, uint64_t off, unsigned how, size_t *out)
{
	uint64_t size, end;
	int err = 0;
	char *to = buf;

	rwlock_shared(&p->lock);
	size = atomic_load(&p->size_bytes);
	end = off >= size ? off : n < size - off ? off + n : size;
	while (off < end && !err) {
		struct piece *piece = piece_at(p, off);
		size_t k = part_of(off, end);

		if (piece)
			err = piece_read(p->space, piece, to, k, off % PIECE_BYTES, how);
		else
			memset(to, 0, k);
		to += k;
		off += k;
	}
	rwlock_release(&p->lock);
	if (!err)
		*out = (size_t)(to - (char *)buf);
	return err;
}

static void raise_size(struct pieces *p, uint64_t size)
{
	uint64_t was = atomic_load(&p->size_bytes);

	while (was < size && !atomic_compare_exchange_weak(&p->size_bytes, &was, size))
		;
}

int pieces_write(struct pieces *p, const void *buf, size_t n, uint64_t off, unsigned how)
{
	uint64_t at = off, end = off + n;
	int err = 0;

	rwlock_shared(&p->lock);
	while (at < end && !err) {
		struct piece *piece = piece_at(p, at);
		size_t k = part_of(at, end);

		if (!piece) {
			err = make_piece(p, at);
			continue;
		}
		err = piece_write(p->space, piece, (const char *)buf + (at - off), k, at % PIECE_BYTES, how);
		if (!err)
			at += k;
	}
	if (at > off)
		raise_size(p, at);
	rwlock_release(&p->lock);
	return err;
}

int pieces_reserve(struct pieces *p, uint64_t off, uint64_t end)
{
	int err = 0;

	rwlock_shared(&p->lock);
	while (off < end && !err) {
		struct piece *piece = piece_at(p, off);
		size_t k = part_of(off, end);

		if (!piece) {
			err = make_piece(p, off);
			continue;
		}
		err = piece_reserve(p->space, piece, k, off % PIECE_BYTES);
		off += k;
	}
	rwlock_release(&p->lock);
	return err;
}

/* ---- cuts ---- */

static int cut_edge_locked(struct pieces *p, uint64_t off, uint64_t end)
{
	struct piece *piece = piece_at(p, off);

	return piece && off < end ? piece_cut(p->space, piece, (size_t)(end - off), off % PIECE_BYTES) : 0;
}

/* Takes the pieces of a range of whole ones out of the table. */
static void take_out_locked(struct pieces *p, uint64_t off, uint64_t end, struct gone *gone)
{
	while (off < end) {
		struct pieces_chunk *chunk = p->chunks[off / CHUNK_BYTES];
		struct piece **place;

		if (!chunk) {
			off = (off / CHUNK_BYTES + 1) * CHUNK_BYTES;
			continue;
		}
		place = &chunk->pieces[off % CHUNK_BYTES / PIECE_BYTES];
		if (*place) {
			*gone->end = *place;
			gone->end = &(*place)->next_gone;
			*place = NULL;
		}
		off += PIECE_BYTES;
	}
}

static int cut_locked(struct pieces *p, uint64_t off, uint64_t end, struct gone *gone)
{
	uint64_t all = p->nchunks * CHUNK_BYTES, first, last;
	int err;

	end = end < all ? end : all;
	if (off >= end)
		return 0;
	first = (off + PIECE_BYTES - 1) / PIECE_BYTES * PIECE_BYTES;
	last = end / PIECE_BYTES * PIECE_BYTES;
	err = cut_edge_locked(p, off, first < end ? first : end);
	if (!err && last >= first)
		err = cut_edge_locked(p, last, end);
	if (!err)
		take_out_locked(p, first, last, gone);
	return err;
}

int pieces_punch(struct pieces *p, uint64_t off, uint64_t end)
{
	struct gone gone = { .end = &gone.first };
	int err;

	rwlock_exclusive(&p->lock);
	err = cut_locked(p, off, end, &gone);
	rwlock_release(&p->lock);
	piece_free_all(p->space, gone.first);
	return err;
}

void pieces_fini(struct pieces *p)
{
	struct gone gone = { .end = &gone.first };

	take_out_locked(p, 0, p->nchunks * CHUNK_BYTES, &gone);
	piece_free_all(p->space, gone.first);
	for (size_t c = 0; c < p->nchunks; c++)
		free(p->chunks[c]);
	free(p->chunks);
	rwlock_fini(&p->lock);
}

int pieces_set_size(struct pieces *p, uint64_t size)
{
	struct gone gone = { .end = &gone.first };
	int err = 0;

	rwlock_exclusive(&p->lock);
	/* Also at the size that it has: what is reserved behind it is given back. */
	if (size <= atomic_load(&p->size_bytes))
		err = cut_locked(p, size, UINT64_MAX, &gone);
	if (!err)
		atomic_store(&p->size_bytes, size);
	rwlock_release(&p->lock);
	piece_free_all(p->space, gone.first);
	return err;
}

/* ---- holes ---- */

/* The first of these k bytes, which one piece has, and those behind it that have a place, as offsets in the piece. */
static bool find_in(struct piece *piece, size_t off, size_t k, size_t *from, size_t *to)
{
	uint64_t pages = piece_saved(piece, k, true) ? 0 : piece_range(k, off) & piece_pages(piece, true), rest;
	unsigned first;

	if (!pages)
		return false;
	first = (unsigned)__builtin_ctzll(pages);
	rest = ~(pages >> first);
	*from = (size_t)first * FRAME_PAGE;
	*to = *from + (rest ? (size_t)__builtin_ctzll(rest) : 64) * FRAME_PAGE;
	if (*from < off)
		*from = off;
	if (*to > off + k)
		*to = off + k;
	return true;
}

bool pieces_find(struct pieces *p, uint64_t off, uint64_t end, uint64_t *from, uint64_t *to)
{
	bool found = false;

	rwlock_shared(&p->lock);
	if (end > p->nchunks * CHUNK_BYTES)
		end = p->nchunks * CHUNK_BYTES;
	while (off < end && !found) {
		struct piece *piece = piece_at(p, off);
		size_t k = part_of(off, end), first, last;

		found = piece && find_in(piece, off % PIECE_BYTES, k, &first, &last);
		if (found) {
			*from = off - off % PIECE_BYTES + first;
			*to = off - off % PIECE_BYTES + last;
		}
		off += k;
	}
	rwlock_release(&p->lock);
	return found;
}

uint64_t pieces_saved(struct pieces *p, uint64_t off, uint64_t end, bool touched)
{
	uint64_t saved = 0;

	rwlock_shared(&p->lock);
	while (off < end) {
		struct piece *piece = piece_at(p, off);
		size_t k = part_of(off, end);

		saved += piece ? piece_saved(piece, k, touched) : 0;
		off += k;
	}
	rwlock_release(&p->lock);
	return saved;
}

/* The first page at or after off, in its piece or chunk, that is data, or hole; else where these end. */
static uint64_t step(const struct pieces *p, uint64_t off, bool hole, bool *found)
{
	struct piece *piece = piece_at(p, off);
	uint64_t unit = off / CHUNK_BYTES < p->nchunks && p->chunks[off / CHUNK_BYTES] ? PIECE_BYTES : CHUNK_BYTES;
	uint64_t begin = off / PIECE_BYTES * PIECE_BYTES, pages = piece ? piece_pages(piece, false) : 0;

	pages = (hole ? ~pages : pages) & UINT64_MAX << off % PIECE_BYTES / FRAME_PAGE;
	*found = pages != 0;
	if (!pages)
		return (off / unit + 1) * unit;
	begin += (uint64_t)__builtin_ctzll(pages) * FRAME_PAGE;
	return begin > off ? begin : off;
}

int pieces_seek(struct pieces *p, uint64_t off, bool hole, uint64_t *out)
{
	bool found = false;
	uint64_t size;
	int err = 0;

	rwlock_shared(&p->lock);
	size = atomic_load(&p->size_bytes);
	if (off >= size)
		err = -ENXIO;
	while (!err && !found && off < size)
		off = step(p, off, hole, &found);
	rwlock_release(&p->lock);
	if (err || (off >= size && !hole))
		return -ENXIO;
	*out = off < size ? off : size;
	return 0;
}
