/*
 * Invariants:
 *  1. A read that no other follows makes a stream that drops nothing, so that random reads cost no system call.
 *  2. The page cache keeps a folio that a range has only in part, so ranges of a stream that goes on meet where no folio crosses.
 *  3. A page of which a part is outside the range stays: who writes the rest of it would have to read it.
 */
#include "io/behind.h"

#include <string.h>

#define PAGE_BYTES 4096u
/* Folios have a power of two of pages, lie at a multiple of their size, and are at most so large. */
#define FOLIO_BYTES (2u << 20)
/* The requests of one reader overtake each other, if they are as long as those of a read-ahead. */
#define AHEAD_BYTES (4u << 20)
#define LONG_BYTES (64u << 10)
/* Writes no farther from each other are one range. */
#define NEAR_BYTES (4u << 20)

void behind_init(struct behind *b)
{
	memset(b, 0, sizeof(*b));
	lock_init(&b->lock, RANK_MEM);
}

void behind_fini(struct behind *b)
{
	lock_fini(&b->lock);
}

static struct behind_range whole_pages(uint64_t from, uint64_t to)
{
	return (struct behind_range){ (from + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES, to / PAGE_BYTES * PAGE_BYTES };
}

/* With what was too early for an earlier drop. */
static struct behind_range again(struct behind_range r)
{
	r.from -= r.from < BEHIND_AGAIN_BYTES ? r.from : BEHIND_AGAIN_BYTES;
	return r;
}

static bool follows(const struct behind_stream *s, uint64_t off, size_t n)
{
	return s->reads && off >= s->from && (off == s->to || (n >= LONG_BYTES && off <= s->to + AHEAD_BYTES));
}

/* The stream that the read belongs to, or room for a new one: an unused one, or the one that waits longest. */
static struct behind_stream *find_locked(struct behind *b, uint64_t off, size_t n)
{
	struct behind_stream *room = &b->streams[0];

	for (struct behind_stream *s = b->streams; s < b->streams + BEHIND_STREAMS; s++) {
		if (follows(s, off, n))
			return s;
		if (room->reads && (!s->reads || s->last < room->last))
			room = s;
	}
	return room;
}

/* Random reads that happen to be near each other leave most of what is between them unread. */
static bool is_sequence(const struct behind_stream *s)
{
	return s->reads > 1 && s->read_bytes >= (s->to - s->from) / 2;
}

/* A stream leaves this when it ends. */
static struct behind_range rest_of(const struct behind_stream *s)
{
	return is_sequence(s) ? whole_pages(s->from, s->to) : (struct behind_range){ 0 };
}

/* A stream that goes on has this behind it. At the end of the file nobody comes any more. */
static struct behind_range pass(struct behind_stream *s, uint64_t end_bytes)
{
	struct behind_range r = { 0 };

	if (s->to >= end_bytes)
		r = rest_of(s);
	else if (s->to - s->from >= BEHIND_STEP_BYTES + BEHIND_MARGIN_BYTES && is_sequence(s))
		r = whole_pages(s->from, (s->to - BEHIND_MARGIN_BYTES) / FOLIO_BYTES * FOLIO_BYTES);
	if (r.to > r.from) {
		s->read_bytes = s->read_bytes > r.to - s->from ? s->read_bytes - (r.to - s->from) : 0;
		s->from = r.to;
		r = again(r);
	}
	return r;
}

/* One that began ahead of s, where a request had overtaken many, is a part of it once s gets there. */
static void join_locked(struct behind *b, struct behind_stream *s)
{
	for (struct behind_stream *o = b->streams; o < b->streams + BEHIND_STREAMS; o++) {
		if (o == s || !o->reads || o->from < s->from || o->from > s->to)
			continue;
		s->to = o->to > s->to ? o->to : s->to;
		s->read_bytes += o->read_bytes;
		o->reads = 0;
	}
}

/* A stream that nobody goes on with. */
static struct behind_range end_idle_locked(struct behind *b)
{
	struct behind_range r = { 0 };

	for (struct behind_stream *s = b->streams; s < b->streams + BEHIND_STREAMS && r.from >= r.to; s++) {
		if (!s->reads || b->passed_bytes - s->last < BEHIND_IDLE_BYTES)
			continue;
		r = rest_of(s);
		s->reads = 0;
	}
	return r;
}

struct behind_range behind_read(struct behind *b, uint64_t off, size_t n, uint64_t end_bytes)
{
	struct behind_range r = { 0 };
	struct behind_stream *s;

	lock_acquire(&b->lock);
	s = find_locked(b, off, n);
	b->passed_bytes += n;
	if (follows(s, off, n)) {
		s->reads += s->reads < UINT32_MAX;
		s->read_bytes += n;
		s->last = b->passed_bytes;
		s->to = off + n > s->to ? off + n : s->to;
		join_locked(b, s);
		r = pass(s, end_bytes);
	} else {
		r = rest_of(s);
		*s = (struct behind_stream){ off, off + n, n, b->passed_bytes, 1 };
	}
	if (r.from >= r.to)
		r = end_idle_locked(b);
	lock_release(&b->lock);
	return r;
}

/* The range that the write is near to, else a free one, else the one of the fewest bytes, which begins anew. */
static struct behind_written *find_written(struct behind_written *all, uint64_t off, size_t n)
{
	struct behind_written *least = all;

	for (struct behind_written *w = all; w < all + BEHIND_WRITERS; w++) {
		if (w->bytes && off <= w->range.to + NEAR_BYTES && off + n + NEAR_BYTES >= w->range.from)
			return w;
		if (w->bytes < least->bytes)
			least = w;
	}
	*least = (struct behind_written){ { off, off + n }, 0 };
	return least;
}

static struct behind_written *add(struct behind_written *all, uint64_t off, size_t n)
{
	struct behind_written *w = find_written(all, off, n);

	if (off < w->range.from)
		w->range.from = off;
	if (off + n > w->range.to)
		w->range.to = off + n;
	w->bytes += n;
	return w;
}

/* All of it, if that is enough. */
static struct behind_range take(struct behind_written *w)
{
	struct behind_range r = { 0 };

	if (w->bytes >= BEHIND_STEP_BYTES) {
		r = whole_pages(w->range.from, w->range.to);
		w->bytes = 0;
	}
	return r;
}

struct behind_range behind_wrote(struct behind *b, uint64_t off, size_t n, struct behind_range *start)
{
	struct behind_range r = { 0 };

	*start = r;
	lock_acquire(&b->lock);
	add(b->unsynced, off, n);
	/* Short writes are those of files that may be gone before the kernel gets to them. */
	if (n >= LONG_BYTES)
		*start = take(add(b->unstarted, off, n));
	if (start->to > start->from) {
		r = again(b->started);
		b->started = *start;
	}
	lock_release(&b->lock);
	return r;
}

void behind_syncs(struct behind *b, struct behind_range out[BEHIND_WRITERS])
{
	lock_acquire(&b->lock);
	for (unsigned i = 0; i < BEHIND_WRITERS; i++)
		out[i] = take(&b->unsynced[i]);
	lock_release(&b->lock);
}
