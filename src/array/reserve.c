/*
 * Space that a column's file has besides what is written.
 *
 * Invariants:
 *  1. While something is wanted behind the end, nothing is reserved ahead: all that the file has there counts.
 *  2. The row has the end of what is wanted, not its bytes: with holes, or with a gap behind the end, these do not tell it.
 *  3. Pages behind that end are nobody's: they do not count, and after a mount they are cut off.
 */
#include "array/reserve.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "array/array.h"
#include "block/facts.h"
#include "io/io.h"
#include "store/meta.h"
#include "store/store.h"
#include "util/log.h"
#include "util/vec.h"

#define AHEAD_MAX (64u << 20)

/* ---- in the store ---- */

/* 0: the row has no end. A value that nobody can have stored says nothing. */
static int load_end(struct reserve *r, struct meta *m, uint64_t ino, uint64_t *end_out)
{
	uint64_t *end;
	size_t len;
	int err;

	meta_lock(m);
	err = meta_blob_get_locked(m, ino, META_BLOB_RESERVED, (void **)&end, &len);
	meta_unlock(m);
	if (err)
		return err == -ENOENT ? 0 : err;
	if (len == sizeof(*end) && *end <= ARRAY_SIZE_MAX)
		r->row_end_bytes = *end_out = *end;
	free(end);
	return 0;
}

/* The end by a row of an earlier release, which only counts the bytes: the file has them, unless it has grown since. */
static uint64_t counted_end(struct io *f, const struct facts *row, uint64_t size)
{
	uint64_t at = reserve_whole(row->size_bytes), end = row->stored_bytes, from;

	while (size == row->size_bytes && io_find_allocated(f, at, ARRAY_SIZE_MAX - at, &from, &at))
		end = at;
	return end;
}

/* Cuts the file to the size, and reserves again what it has reserved between that and the end: no cut leaves it where it is. */
static int cut_and_reserve(struct io *f, const struct facts *row, uint64_t end)
{
	uint64_t at = reserve_whole(row->size_bytes), from, (*kept)[2] = NULL;
	size_t n = 0, cap = 0;
	int err = 0, lost = 0;

	while (!err && at < end && io_find_allocated(f, at, end - at, &from, &at)) {
		err = VEC_RESERVE(kept, cap, n + 1);
		if (!err) {
			kept[n][0] = from;
			kept[n++][1] = at;
		}
	}
	if (!err)
		err = io_truncate(f, row->size_bytes);
	for (size_t i = 0; i < n && !err && !lost; i++)
		lost = io_allocate(f, kept[i][0], kept[i][1] - kept[i][0]);
	if (lost)
		log_warn("columns/%llu: what fallocate has reserved behind its end is lost: %s", (unsigned long long)row->file_id, strerror(-lost));
	free(kept);
	return err;
}

int reserve_load(struct reserve *r, struct meta *m, struct io *f, const struct facts *row)
{
	uint64_t whole = reserve_whole(row->size_bytes), end = 0, size, stored, from, to;
	int err = load_end(r, m, row->ino, &end);

	if (!err)
		err = io_size(f, &size, &stored);
	if (err)
		return err;
	if (!end && row->stored_bytes > whole)
		end = counted_end(f, row, size);
	r->ahead_bytes = row->size_bytes;
	r->wanted_bytes = end > whole ? end : 0;
	end = r->wanted_bytes ? reserve_whole(end) : whole;
	if (size == row->size_bytes && (r->wanted_bytes || stored <= whole) && !io_find_allocated(f, end, ARRAY_SIZE_MAX - end, &from, &to))
		return 0;
	return cut_and_reserve(f, row, end);
}

int reserve_stage_locked(struct reserve *r, struct meta *m, uint64_t ino, uint64_t size)
{
	uint64_t end = size != UINT64_MAX && r->wanted_bytes > reserve_whole(size) ? r->wanted_bytes : 0;
	int err = 0;

	if (end != r->row_end_bytes)
		err = meta_blob_set_locked(m, ino, META_BLOB_RESERVED, end ? &end : NULL, end ? sizeof(end) : 0);
	if (!err)
		r->row_end_bytes = end;
	return err;
}

/* ---- counting ---- */

/* The bytes allocated in [from, end), where a cut waits: a fragmented file is asked once, not at each write. */
static uint64_t waits_for_cut(struct reserve *r, struct io *f, uint64_t from, uint64_t end)
{
	if (r->behind_from != from || r->behind_end != end) {
		r->behind_bytes = io_allocated(f, from, end - from);
		r->behind_from = from;
		r->behind_end = end;
	}
	return r->behind_bytes;
}

/* The bytes that the file holds behind the end, where nothing is wanted: reserved ahead, or to be cut by the next commit. */
static uint64_t unwanted(struct reserve *r, struct io *f, uint64_t size, uint64_t has)
{
	uint64_t whole = reserve_whole(size), end = reserve_whole(has), ahead = reserve_whole(r->ahead_bytes), bytes, saved;

	if (has <= size) {
		reserve_forget(r);
		return ahead > end ? ahead - end : 0;
	}
	end = ahead > end ? ahead : end;
	bytes = waits_for_cut(r, f, whole, end);
	saved = io_saved(f, whole, end - whole, false);
	return bytes > saved ? bytes - saved : 0;
}

/* Some file systems count written bytes late, so data counts as one block at least. */
uint64_t reserve_stored(struct reserve *r, struct io *f, uint64_t size)
{
	bool wanted = reserve_is_wanted(r, size);
	uint64_t has, stored, more, at;

	if (io_size(f, &has, &stored))
		return size;
	more = wanted ? 0 : unwanted(r, f, size, has);
	stored = stored > more ? stored - more : 0;
	/* Where nobody knows what is allocated. */
	if (!wanted && stored > reserve_whole(size))
		stored = reserve_whole(size);
	if (!stored && size && !io_seek(f, 0, false, &at) && at < size)
		stored = 1;
	return stored;
}

/* The bytes of [off, end), which has no data, but for those that fallocate has reserved. */
static uint64_t unreserved(const struct reserve *r, struct io *f, uint64_t size, uint64_t off, uint64_t end)
{
	uint64_t to = reserve_whole(reserve_is_wanted(r, size) ? r->wanted_bytes : size);

	if (to > end)
		to = end;
	if (off >= end)
		return 0;
	return end - off - (off < to ? io_allocated(f, off, to - off) : 0);
}

/* Whole pages of holes in [off, end), which are whole pages. */
static uint64_t holes_between(const struct reserve *r, struct io *f, uint64_t size, uint64_t off, uint64_t end)
{
	uint64_t bytes = 0, data, hole;

	while (off < end) {
		if (io_seek(f, off, false, &data) || data > end)
			data = end;
		bytes += unreserved(r, f, size, off, data);
		if (data == end || io_seek(f, data, true, &hole) || hole > end)
			hole = end;
		off = hole;
	}
	return bytes;
}

uint64_t reserve_growth(const struct reserve *r, struct io *f, uint64_t size, uint64_t stored, uint64_t off, uint64_t end)
{
	uint64_t whole = reserve_whole(size);

	/* Space that is reserved behind the end may be as much as the holes. */
	if (off >= whole || (r->wanted_bytes <= whole && stored >= whole))
		return unreserved(r, f, size, off > whole ? off : whole, end);
	return holes_between(r, f, size, off, end);
}

/* ---- changes ---- */

/* A file system without fallocate, or without the space, does not stop the write. There is no order on a disk to
 * keep of what nothing makes durable. */
void reserve_ahead(struct reserve *r, struct store *s, struct io *f, uint64_t end)
{
	uint64_t ahead = end < AHEAD_MAX ? end : AHEAD_MAX;

	if (end <= r->ahead_bytes)
		return;
	if (reserve_is_wanted(r, end) || s->config.scratch)
		ahead = 0;
	if (!ahead || store_may_write_home(s, ahead) || io_allocate(f, end, ahead))
		ahead = 0;
	r->ahead_bytes = end + ahead;
}

int reserve_cut(struct reserve *r, struct io *f, uint64_t size)
{
	int err = 0;

	if (r->ahead_bytes > size && !reserve_is_wanted(r, size)) {
		err = io_truncate(f, size);
		if (!err)
			r->ahead_bytes = size;
	}
	return err;
}

void reserve_made(struct reserve *r, uint64_t size, uint64_t off, uint64_t end)
{
	reserve_forget(r);
	if (end > size && end > r->wanted_bytes)
		r->wanted_bytes = end;
	if (off <= r->ahead_bytes && end > r->ahead_bytes)
		r->ahead_bytes = end;
}

/* Such space may begin where the data ends, or behind a hole. */
void reserve_unwanted(struct reserve *r)
{
	if (r->wanted_bytes > r->ahead_bytes)
		r->ahead_bytes = r->wanted_bytes;
	r->wanted_bytes = 0;
	reserve_forget(r);
}
