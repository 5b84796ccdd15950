/*
 * Runs of a bucket.
 *
 * Invariants:
 *  1. v rises strictly and is behind 0; no boundary and no end is behind the size.
 *  2. cap > n: there is room for the end of the tail at all times, once anything was reserved.
 *  3. Stored are v and then the end of the tail, be it open or pending.
 */
#include "array/runs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/vec.h"

static uint64_t last(const struct runs *r)
{
	return r->n ? r->v[r->n - 1] : 0;
}

static bool has_tail(const struct runs *r)
{
	return r->tail.end_bytes > last(r);
}

static void note(struct runs *r, size_t k)
{
	if (k < r->changed)
		r->changed = k;
}

void runs_fini(struct runs *r)
{
	free(r->v);
}

void runs_load(struct runs *r, uint64_t *v, size_t n, uint64_t size_bytes)
{
	*r = (struct runs){ .v = v, .cap = n, .changed = SIZE_MAX };
	while (r->n < n && v[r->n] > last(r) && v[r->n] <= size_bytes)
		r->n++;
	if (r->n < n)
		note(r, r->n);
}

int runs_reserve(struct runs *r)
{
	return VEC_RESERVE(r->v, r->cap, r->n + 3);
}

/* Behind all others, unless it is the last one; there is room. */
static void push(struct runs *r, uint64_t at)
{
	if (at <= last(r))
		return;
	note(r, r->n);
	r->v[r->n++] = at;
}

static struct runs_writer **writer_slot(struct runs *r, const struct runs_writer *w)
{
	struct runs_writer **at = &r->writers;

	while (*at && *at != w)
		at = &(*at)->next;
	return at;
}

void runs_grew(struct runs *r, struct runs_writer *w, uint64_t size_bytes)
{
	if (r->tail.pending && r->tail.by != w)
		push(r, r->tail.end_bytes);
	note(r, r->n);
	r->tail = (struct runs_tail){ .end_bytes = size_bytes, .by = w };
	w->end_bytes = size_bytes;
	atomic_store(&w->grew, true);
	if (!*writer_slot(r, w)) {
		w->next = r->writers;
		r->writers = w;
	}
}

/* Among the others, unless it is there. */
static int insert(struct runs *r, uint64_t at)
{
	size_t k = r->n;
	int err = runs_reserve(r);

	if (err)
		return err;
	while (k && r->v[k - 1] > at) /* writers stop near the end */
		k--;
	if (!at || (k && r->v[k - 1] == at))
		return 0;
	VEC_INSERT(r->v, r->n, k, at);
	note(r, k);
	return 0;
}

int runs_end(struct runs *r, struct runs_writer *w)
{
	if (!atomic_exchange(&w->grew, false))
		return 0;
	if (r->tail.by != w)
		return insert(r, w->end_bytes);
	r->tail.pending = true;
	return 0;
}

int runs_end_all(struct runs *r, struct runs_writer *w, uint64_t size_bytes)
{
	int err = runs_reserve(r);

	atomic_store(&w->grew, false);
	if (err || (r->tail.pending && r->tail.end_bytes == size_bytes))
		return err;
	if (r->tail.pending)
		push(r, r->tail.end_bytes);
	note(r, r->n);
	r->tail = (struct runs_tail){ .end_bytes = size_bytes, .by = w, .pending = true };
	return 0;
}

void runs_leave(struct runs *r, const struct runs_writer *w, bool unsure)
{
	struct runs_writer **at = writer_slot(r, w);

	if (*at)
		*at = (*at)->next;
	if (r->tail.by != w)
		return;
	r->tail.by = NULL;
	r->tail.pending |= !unsure;
}

int runs_mark(struct runs *r, uint64_t size_bytes, bool *made)
{
	size_t before;
	int err = runs_reserve(r);

	if (err)
		return err;
	if (r->tail.pending)
		push(r, r->tail.end_bytes);
	before = r->n;
	push(r, size_bytes);
	*made = r->n > before;
	return 0;
}

void runs_cut(struct runs *r, uint64_t size_bytes)
{
	size_t before = r->n;

	if (size_bytes >= last(r) && size_bytes >= r->tail.end_bytes)
		return;
	for (struct runs_writer *w = r->writers; w; w = w->next) {
		if (w->end_bytes > size_bytes)
			w->end_bytes = size_bytes;
	}
	while (r->n && r->v[r->n - 1] > size_bytes)
		r->n--;
	note(r, r->n);
	if (r->n < before)
		r->tail = (struct runs_tail){ .pending = true };
	r->tail.end_bytes = size_bytes;
}

size_t runs_nbounds(const struct runs *r)
{
	return r->n + (r->tail.pending && has_tail(r));
}

uint64_t runs_bound(const struct runs *r, size_t k)
{
	return k < r->n ? r->v[k] : r->tail.end_bytes;
}

size_t runs_count(const struct runs *r, uint64_t size_bytes)
{
	size_t n = runs_nbounds(r);
	uint64_t end = n ? runs_bound(r, n - 1) : 0;

	return n + (end < size_bytes);
}

void runs_range(const struct runs *r, size_t k, uint64_t size_bytes, uint64_t *begin, uint64_t *end)
{
	*begin = k ? runs_bound(r, k - 1) : 0;
	*end = k < runs_nbounds(r) ? runs_bound(r, k) : size_bytes;
}

const uint64_t *runs_stored(struct runs *r, size_t *n_out)
{
	bool tail = has_tail(r) && r->n < r->cap;

	if (tail)
		r->v[r->n] = r->tail.end_bytes;
	*n_out = r->n + tail;
	return r->v;
}
