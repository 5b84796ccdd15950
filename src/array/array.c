/*
 * Dispatch to the kinds, and bounds.
 */
#include "array/array.h"

#include <errno.h>

#include "array/promise.h"
#include "array/summaries.h"
#include "util/stats.h"

void array_close(struct array *a)
{
	struct promise *p = a->promise;
	struct arrays *h = a->home;
	const struct summaries_parked parked = { a->ino, a->file_id, a->size_bytes, a->summaries, summaries_memory(a) };

	a->ops->close(a);
	promise_free(p);
	summaries_park(h, &parked);
}

size_t array_memory(struct array *a)
{
	return a->ops->memory(a) + summaries_memory(a);
}

int array_borrow(struct array *a, uint64_t off, size_t len, unsigned how, struct lease *out)
{
	if (off >= a->size_bytes)
		len = 0;
	else if (len > a->size_bytes - off)
		len = (size_t)(a->size_bytes - off);
	if (!len) {
		*out = (struct lease){ .ptr = "" };
		return 0;
	}
	return a->ops->borrow(a, off, len, how, out);
}

int array_read_as(struct array *a, void *buf, size_t len, uint64_t off, unsigned how, size_t *n_out)
{
	size_t done = 0;

	while (done < len) {
		struct lease l;
		int err = array_borrow(a, off + done, len - done, how, &l);
		size_t n;

		if (err)
			return err;
		n = l.len_bytes;
		err = lease_copy(&l, how, (char *)buf + done);
		lease_return(&l);
		if (err)
			return err;
		if (!n)
			break;
		done += n;
	}
	*n_out = done;
	return 0;
}

int array_write_as(struct array *a, const void *buf, size_t len, uint64_t off, unsigned how, size_t *done_out)
{
	int err;

	*done_out = 0;
	if (off > ARRAY_SIZE_MAX || len > ARRAY_SIZE_MAX - off)
		return -EFBIG;
	if (!len)
		return 0;
	/* A gap before it becomes zeros. */
	summaries_forget(a, off < a->size_bytes ? off : a->size_bytes, off + len);
	err = a->ops->write(a, buf, len, off, how, done_out);
	if (!err)
		stats_add(a->ops->counters.writes, 1);
	stats_add(a->ops->counters.write_bytes, *done_out);
	return err;
}

int array_resize(struct array *a, uint64_t size)
{
	int err;

	if (size > ARRAY_SIZE_MAX)
		return -EFBIG;
	summaries_forget(a, size < a->size_bytes ? size : a->size_bytes, UINT64_MAX);
	/* Even of the same size: what is reserved behind the end goes. */
	err = size == a->size_bytes && a->ops->kind != ARRAY_COLUMN ? 0 : a->ops->resize(a, size);
	if (!err)
		promise_drop(a, (size + PROMISE_ALIGN - 1) & ~(uint64_t)(PROMISE_ALIGN - 1), ARRAY_SIZE_MAX);
	return err;
}

/* Whole pages only. */
static void drop_inside(struct array *a, uint64_t off, uint64_t len)
{
	uint64_t begin = (off + PROMISE_ALIGN - 1) & ~(uint64_t)(PROMISE_ALIGN - 1), end = (off + len) & ~(uint64_t)(PROMISE_ALIGN - 1);

	if (begin < end)
		promise_drop(a, begin, end - begin);
}

int array_punch(struct array *a, uint64_t off, uint64_t len)
{
	uint64_t inside = off >= a->size_bytes ? 0 : len < a->size_bytes - off ? len : a->size_bytes - off;
	int err;

	summaries_forget(a, off, off + inside);
	err = inside ? a->ops->punch(a, off, inside) : 0;
	if (!err)
		drop_inside(a, off, len);
	return err;
}

int array_allocate(struct array *a, uint64_t off, uint64_t len, bool keep_size)
{
	uint64_t size = a->size_bytes;
	int err;

	if (off > ARRAY_SIZE_MAX || len > ARRAY_SIZE_MAX - off)
		return -EFBIG;
	/* First, because growing gives back what is reserved ahead. */
	err = !keep_size && off + len > size ? array_resize(a, off + len) : 0;
	if (!err) {
		err = a->ops->allocate(a, off, len);
		if (err && a->size_bytes != size)
			array_resize(a, size);
	}
	return err;
}

uint64_t array_held(struct array *a)
{
	return atomic_load(&a->stored_bytes) + promise_bytes(a);
}

uint64_t array_growth(struct array *a, uint64_t off, uint64_t len, enum array_growing how)
{
	return len ? a->ops->growth(a, off, len, how) : 0;
}

int array_seek(struct array *a, uint64_t off, bool hole, uint64_t *out)
{
	uint64_t at;
	int err;

	if (off >= a->size_bytes)
		return -ENXIO;
	err = a->ops->seek(a, off, hole, &at);
	if (err)
		return err;
	if (at >= a->size_bytes) {
		if (!hole)
			return -ENXIO;
		at = a->size_bytes;
	}
	*out = at;
	return 0;
}

int array_flush(struct array *a)
{
	return a->ops->flush ? a->ops->flush(a) : 0;
}

int array_stage_locked(struct array *a, const struct index_record *facts, bool changed)
{
	int err = a->ops->stage_locked(a, facts, changed);

	return err ? err : promise_stage_locked(a);
}

int array_sync(struct array *a)
{
	return a->ops->sync ? a->ops->sync(a) : 0;
}

int array_drop_locked(struct array *a)
{
	summaries_forget(a, 0, UINT64_MAX); /* the number is never used again */
	return a->ops->drop_locked(a);
}

int array_remap(struct array *a, const struct compact *c)
{
	return a->ops->remap ? a->ops->remap(a, c) : 0;
}

bool array_is_cutting(struct array *a)
{
	return a->ops->is_cutting && a->ops->is_cutting(a);
}

struct runs *array_runs(struct array *a)
{
	return a->ops->runs ? a->ops->runs(a) : NULL;
}

int array_share(struct array *a, bool write, struct io **out)
{
	return a->ops->share ? a->ops->share(a, write, out) : -EOPNOTSUPP;
}

void array_unshare(struct array *a)
{
	a->ops->unshare(a);
}

void array_refresh(struct array *a, bool written)
{
	summaries_forget(a, 0, UINT64_MAX);
	a->ops->refresh(a, written);
}

void array_unseen(struct array *a, bool begins)
{
	summaries_close(a, begins);
}

int array_facts(struct array *a, struct io_facts *out)
{
	return a->ops->facts(a, out);
}

int array_describe(struct array *a, const char *what, char **out)
{
	return a->ops->describe ? a->ops->describe(a, what, out) : -ENODATA;
}

int array_configure(struct array *a, const struct array_params *params)
{
	uint32_t block = params->block_bytes;

	if (a->ops->reblock && a->size_bytes && block != a->params.block_bytes) {
		int err = params->block_default ? 0 : a->ops->reblock(a, block);

		if (err)
			return err;
		block = a->params.block_bytes;
	}
	summaries_forget(a, 0, UINT64_MAX);
	a->params = *params;
	a->params.block_bytes = block;
	return 0;
}

bool array_recount(struct array *a)
{
	return a->ops->recount && a->ops->recount(a);
}

bool array_is_unsettled(struct array *a)
{
	return a->ops->is_unsettled && a->ops->is_unsettled(a);
}
