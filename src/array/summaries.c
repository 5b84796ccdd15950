/*
 * Summaries of a bucket or column.
 *
 * Invariants: (1) `v` is sorted by stretch, each is there once; (2) what is there holds for the bytes as they are, for a change takes it
 * away before it is made.
 */
#include "array/summaries.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "array/arrays.h"
#include "store/store.h"
#include "util/account.h"
#include "util/lock.h"
#include "util/vec.h"

struct stretch {
	uint64_t number;
	uint32_t nelems;
	struct summary sum;
};

struct summaries {
	struct lock lock; /* RANK_MEM */
	struct stretch *v;
	size_t n, cap;
};

bool summaries_wanted(const struct array *a)
{
	bool kind = a->ops->kind == ARRAY_BUCKET || a->ops->kind == ARRAY_COLUMN;

	return kind && !a->unseen && a->params.codec.type != SUMMARY_NONE && !account_over(&a->home->store->account, ACCOUNT_ARRAYS);
}

static void free_summaries(struct summaries *s)
{
	lock_fini(&s->lock);
	free(s->v);
	free(s);
}

static struct summaries *need(struct array *a)
{
	struct summaries *s = atomic_load(&a->summaries), *made;

	if (s)
		return s;
	made = calloc(1, sizeof(*made));
	if (!made)
		return NULL;
	lock_init(&made->lock, RANK_MEM);
	if (atomic_compare_exchange_strong(&a->summaries, &s, made))
		return made;
	free_summaries(made);
	return s;
}

static size_t first_from(const struct summaries *s, uint64_t number)
{
	return VEC_LOWER_BOUND(i, s->n, s->v[i].number < number);
}

bool summaries_find(struct array *a, enum summary_type type, uint64_t stretch, uint32_t nelems, struct summary *out)
{
	struct summaries *s = atomic_load(&a->summaries);
	bool found = false;
	size_t at;

	if (!s)
		return false;
	lock_acquire(&s->lock);
	at = first_from(s, stretch);
	if (at < s->n && s->v[at].number == stretch && s->v[at].nelems == nelems && s->v[at].sum.type == type) {
		*out = s->v[at].sum;
		found = true;
	}
	lock_release(&s->lock);
	return found;
}

void summaries_remember(struct array *a, uint64_t stretch, uint32_t nelems, const struct summary *sum)
{
	struct summaries *s = a->unseen ? NULL : need(a);
	const struct stretch one = { stretch, nelems, *sum };
	size_t at;

	if (!s)
		return;
	lock_acquire(&s->lock);
	at = first_from(s, stretch);
	if (at < s->n && s->v[at].number == stretch)
		s->v[at] = one;
	else if (!VEC_RESERVE(s->v, s->cap, s->n + 1))
		VEC_INSERT(s->v, s->n, at, one);
	lock_release(&s->lock);
}

void summaries_forget(struct array *a, uint64_t off, uint64_t end)
{
	struct summaries *s = atomic_load(&a->summaries);
	size_t from, to;

	if (!s || off >= end)
		return;
	lock_acquire(&s->lock);
	from = first_from(s, off / SUMMARIES_STRETCH);
	to = first_from(s, (end - 1) / SUMMARIES_STRETCH + 1);
	if (from < to) {
		memmove(&s->v[from], &s->v[to], (s->n - to) * sizeof(*s->v));
		s->n -= to - from;
	}
	lock_release(&s->lock);
}

void summaries_close(struct array *a, bool closed)
{
	a->unseen = closed;
	summaries_forget(a, 0, UINT64_MAX);
}

size_t summaries_memory(struct array *a)
{
	struct summaries *s = atomic_load(&a->summaries);
	size_t bytes = 0;

	if (s) {
		lock_acquire(&s->lock);
		bytes = sizeof(*s) + s->cap * sizeof(*s->v);
		lock_release(&s->lock);
	}
	return bytes;
}

static struct account *account_of(struct arrays *h)
{
	return &h->store->account;
}

static size_t parked_from(const struct summaries_park *p, uint64_t ino)
{
	return VEC_LOWER_BOUND(i, p->n, p->v[i].ino < ino);
}

void summaries_park(struct arrays *h, const struct summaries_parked *parked)
{
	struct summaries_park *p = &h->parked;
	bool kept = false;
	size_t at;

	if (!parked->summaries)
		return;
	if (parked->summaries->n && !account_over(account_of(h), ACCOUNT_ARRAYS)) {
		lock_acquire(&h->lock);
		at = parked_from(p, parked->ino);
		kept = (at == p->n || p->v[at].ino != parked->ino) && !VEC_RESERVE(p->v, p->cap, p->n + 1);
		if (kept) {
			VEC_INSERT(p->v, p->n, at, *parked);
			account_change(account_of(h), ACCOUNT_ARRAYS, 0, parked->bytes);
		}
		lock_release(&h->lock);
	}
	if (!kept)
		free_summaries(parked->summaries);
}

void summaries_unpark(struct array *a)
{
	struct arrays *h = a->home;
	struct summaries_parked found = { .summaries = NULL };
	size_t at;

	lock_acquire(&h->lock);
	at = parked_from(&h->parked, a->ino);
	if (at < h->parked.n && h->parked.v[at].ino == a->ino) {
		found = h->parked.v[at];
		VEC_REMOVE(h->parked.v, h->parked.n, at);
		account_change(account_of(h), ACCOUNT_ARRAYS, found.bytes, 0);
	}
	lock_release(&h->lock);
	/* After a failed commit an array may be what it was before. */
	if (found.summaries && found.size_bytes == a->size_bytes && found.file_id == a->file_id && !atomic_load(&h->store->read_only))
		atomic_store(&a->summaries, found.summaries);
	else if (found.summaries)
		free_summaries(found.summaries);
}

void summaries_drop_parked(struct arrays *h)
{
	struct summaries_park gone;

	lock_acquire(&h->lock);
	gone = h->parked;
	h->parked = (struct summaries_park){ .v = NULL };
	for (size_t i = 0; i < gone.n; i++)
		account_change(account_of(h), ACCOUNT_ARRAYS, gone.v[i].bytes, 0);
	lock_release(&h->lock);
	for (size_t i = 0; i < gone.n; i++)
		free_summaries(gone.v[i].summaries);
	free(gone.v);
}
