/*
 * Columns: one contiguous file each, elements naturally aligned from offset 0.
 *
 * Below COLUMN_INLINE_MAX the bytes stand in a metadata row; growth moves them into a file of their own,
 * columns/NUMBER, as does fallocate. The file's size is the logical size; reserve.h says what space it has besides.
 *
 * Invariants:
 *  1. file == NULL: all size_bytes bytes are in mem. Otherwise mem is unused.
 *  2. A truncation cuts the file only after the transaction that says so is durable; until then
 *     file_bytes > size_bytes, and growing over the cut answers -EAGAIN.
 *  3. A file that a truncation to zero retired is unlinked after that transaction, and never written again.
 *  4. Bytes of the file behind size_bytes, (2) aside, read as zeros.
 *  5. While the file is shared, the column keeps it, and only a truncation cuts it: others may have made it longer since the
 *     array last looked.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array/arrays.h"
#include "array/column.h"
#include "array/layered/dirty.h"
#include "array/reserve.h"
#include "store/meta.h"
#include "store/store.h"
#include "util/err.h"
#include "util/lock.h"
#include "util/log.h"
#include "util/plant.h"

#define COLUMN_INLINE_MAX (64u << 10)
#define NO_CUT UINT64_MAX

struct column {
	struct array array;
	unsigned char *mem;
	size_t mem_cap;
	size_t taken_bytes;          /* of the dirty budget; 0 where mem is not dirty */
	uint64_t owed_bytes;         /* by it */
	struct io *file;
	_Atomic uint64_t file_bytes; /* size of the file */
	struct reserve reserve;
	atomic_bool mem_dirty;       /* also read while it is staged */
	bool shared;
	bool lent_file;              /* it has a file only because it was shared: otherwise it would be inline */
	_Atomic uint64_t cut_to;     /* shared: the size that a truncation waits to give the file; NO_CUT: none does */
	atomic_bool file_dirty, made; /* written, created since the last sync */
	struct retired *retired;
	struct cut *cuts;     /* under the lock of struct arrays */
	struct io *sync_file; /* the commit thread's: what it staged */
	bool sync_made;
};

/* A file to unlink after the next commit. */
struct retired {
	struct meta_deferred deferred;
	struct retired *next;
	struct store *store;
	struct io *file;
	uint64_t id;
};

/* A file to cut after the next commit. column is NULL once that is closed (after a failed commit). */
struct cut {
	struct meta_deferred deferred;
	struct arrays *home;
	struct column *column;
	struct cut *next; /* of the same column */
	struct io *file;
	uint64_t size_bytes;
};

static struct column *column_of(struct array *a)
{
	return (struct column *)a;
}

static void column_path(uint64_t id, char out[48])
{
	snprintf(out, 48, "columns/%llu", (unsigned long long)id);
}

/* The column's file changes only here (exclusive lock of the inode held). */
static void set_file(struct column *c, struct io *f, uint64_t id, uint64_t bytes)
{
	lock_acquire(&c->array.home->lock);
	c->file = f;
	c->array.file_id = id;
	c->reserve.ahead_bytes = c->reserve.wanted_bytes = 0;
	reserve_forget(&c->reserve);
	atomic_store(&c->file_bytes, bytes);
	atomic_store(&c->file_dirty, f != NULL);
	atomic_store(&c->made, f != NULL);
	lock_release(&c->array.home->lock);
}

static void update_stored(struct column *c)
{
	uint64_t size = c->array.size_bytes;

	if (c->shared)
		reserve_forget(&c->reserve);
	atomic_store(&c->array.stored_bytes, c->file ? reserve_stored(&c->reserve, c->file, size) : size);
}

static int load_file(struct column *c, const struct facts *row)
{
	uint64_t size;
	char path[48];
	int err;

	column_path(row->file_id, path);
	err = io_open(c->array.home->store->dir, path, IO_OF_COLUMN, &c->file);
	if (err == -ENOENT)
		return err_corrupt(path, 0, "column file of inode %llu is missing", (unsigned long long)row->ino);
	if (!err)
		err = io_size(c->file, &size, NULL);
	if (err)
		return err;
	if (size < row->size_bytes)
		return err_corrupt(path, size, "column file is shorter than its %llu bytes",
				   (unsigned long long)row->size_bytes);
	/* Behind the size there may be bytes that were appended after the last commit, or that a cut has left (invariant 4). */
	atomic_store(&c->file_bytes, row->size_bytes);
	return reserve_load(&c->reserve, c->array.home->store->meta, c->file, row);
}

static int load_inline(struct column *c, const struct facts *row)
{
	struct meta *m = c->array.home->store->meta;
	void *mem;
	size_t len;
	int err;

	if (!row->size_bytes)
		return 0;
	meta_lock(m);
	err = meta_blob_get_locked(m, row->ino, META_BLOB_INLINE, &mem, &len);
	meta_unlock(m);
	if (!err && len < row->size_bytes) {
		free(mem);
		err = -ENOENT;
	}
	if (err)
		return err == -ENOENT ? err_corrupt("meta.db", 0, "inline bytes of column inode %llu are missing",
						    (unsigned long long)row->ino) : err;
	c->mem = mem;
	c->mem_cap = len;
	return 0;
}

/* The space that n inline bytes take: in the database, in its log and in the log of layers, with the rest of their pages.
 * SQLite rewrites the pages beside a row that it deletes. */
static uint64_t owed_for(size_t n)
{
	return n ? 3 * (uint64_t)n + 8192 : 24576;
}

/* Owes the space of n dirty inline bytes. Nothing is asked: the change must not fail (a cut, a hole), or has asked before. */
static void owe_mem(struct column *c, size_t n)
{
	uint64_t owed = owed_for(n);

	if (owed <= c->owed_bytes)
		return;
	store_owe(c->array.home->store, owed - c->owed_bytes);
	c->owed_bytes = owed;
}

/* Asks for the space of n dirty inline bytes and for memory of cap bytes, and takes both. */
static int take_mem(struct column *c, size_t n, size_t cap)
{
	struct arrays *h = c->array.home;
	uint64_t owed = owed_for(n);
	int err = owed > c->owed_bytes ? store_may_write_home(h->store, owed - c->owed_bytes) : 0;

	if (!err && cap > c->taken_bytes)
		err = dirty_take(h->dirty, cap - c->taken_bytes);
	if (err)
		return err;
	if (cap > c->taken_bytes)
		c->taken_bytes = cap;
	owe_mem(c, n);
	return 0;
}

/* The inline bytes are clean: their row is in the open transaction (paid), or they are gone. */
static void give_back_mem(struct column *c, bool paid)
{
	struct arrays *h = c->array.home;

	if (c->taken_bytes)
		dirty_give_back(h->dirty, c->taken_bytes);
	if (paid)
		store_pay(h->store, c->owed_bytes);
	else
		store_disown(h->store, c->owed_bytes);
	c->taken_bytes = 0;
	c->owed_bytes = 0;
}

static void run_retired(struct meta_deferred *d, bool durable)
{
	struct retired *r = (struct retired *)d;
	unsigned waits = 0;
	char path[48];
	int err;

	column_path(r->id, path);
	do
		err = durable ? io_unlink(r->store->dir, path) : 0;
	while (err_wait(err, &waits));
	if (err)
		log_warn("%s: cannot be deleted: %s", path, strerror(-err));
	io_close(r->file);
	free(r);
}

static void column_close(struct array *a)
{
	struct column *c = column_of(a);

	lock_acquire(&a->home->lock);
	for (struct cut *cut = c->cuts; cut; cut = cut->next)
		cut->column = NULL;
	lock_release(&a->home->lock);
	if (c->file) {
		/* Gives back what was reserved ahead. */
		if (c->reserve.ahead_bytes > atomic_load(&c->file_bytes) && atomic_load(&c->file_bytes) == a->size_bytes &&
		    !reserve_is_wanted(&c->reserve, a->size_bytes))
			io_truncate(c->file, a->size_bytes);
		io_close(c->file);
	}
	/* After a failed commit there are files that no commit has taken over. */
	while (c->retired) {
		struct retired *r = c->retired;

		c->retired = r->next;
		run_retired(&r->deferred, false);
	}
	give_back_mem(c, false);
	free(c->mem);
	free(c);
}

/* Inline bytes that wait for a commit are dirty memory. */
static size_t column_memory(struct array *a)
{
	struct column *c = column_of(a);

	return sizeof(*c) + (c->mem_dirty ? 0 : c->mem_cap);
}

static int column_open(struct arrays *home, const struct facts *row, const struct array_params *params,
		       struct array **out)
{
	struct column *c = calloc(1, sizeof(*c));
	int err;

	if (!c)
		return -ENOMEM;
	c->array = (struct array){ .ops = &column_ops, .home = home, .ino = row->ino, .size_bytes = row->size_bytes,
				   .file_id = row->file_id, .params = *params };
	atomic_init(&c->cut_to, NO_CUT);
	err = row->file_id ? load_file(c, row) : load_inline(c, row);
	if (err) {
		if (c->file)
			io_close(c->file);
		free(c);
		return err;
	}
	update_stored(c);
	*out = &c->array;
	return 0;
}

static int column_borrow(struct array *a, uint64_t off, size_t len, unsigned how, struct lease *out)
{
	struct column *c = column_of(a);

	(void)how; /* nothing is read here */
	if (c->file)
		*out = (struct lease){ .len_bytes = len, .file = c->file, .off_bytes = off };
	else
		*out = (struct lease){ .ptr = c->mem + off, .len_bytes = len };
	return 0;
}

/* Gives the column a file and moves the inline bytes there. */
static int materialize(struct column *c, unsigned how)
{
	struct arrays *h = c->array.home;
	uint64_t id = atomic_fetch_add(&h->next_column, 1);
	struct io *f;
	char path[48];
	int err;

	column_path(id, path);
	err = io_open(h->store->dir, path, IO_CREATE | IO_EXCL | IO_OF_COLUMN, &f);
	if (err)
		return err;
	if (c->array.size_bytes)
		err = io_pwrite_as(f, c->mem, c->array.size_bytes, 0, how);
	if (err) {
		io_unlink(h->store->dir, path);
		io_close(f);
		return err;
	}
	free(c->mem);
	c->mem = NULL;
	c->mem_cap = 0;
	c->mem_dirty = true; /* the row of the inline bytes goes with the next stage */
	give_back_mem(c, false);
	set_file(c, f, id, c->array.size_bytes);
	return 0;
}

/* Inline memory for a change that ends at n, zero behind the size. */
static int need_mem(struct column *c, size_t n)
{
	size_t cap = c->mem_cap ? c->mem_cap : 256;
	unsigned char *mem;
	int err;

	while (cap < n)
		cap *= 2;
	err = take_mem(c, n > c->array.size_bytes ? n : c->array.size_bytes, cap);
	if (err)
		return err;
	if (cap > c->mem_cap) {
		mem = realloc(c->mem, cap);
		if (!mem)
			return -ENOMEM;
		c->mem = mem;
		c->mem_cap = cap;
	}
	if (n > c->array.size_bytes)
		memset(c->mem + c->array.size_bytes, 0, n - c->array.size_bytes);
	return 0;
}

/* A shared file may be longer by this time: only a truncation cuts it. */
static int give_back_reserve(struct column *c)
{
	return c->shared || !c->file ? 0 : reserve_cut(&c->reserve, c->file, c->array.size_bytes);
}

/* Makes room for a change that ends at `end`: inline memory or a file. */
static int need_storage(struct column *c, uint64_t end, unsigned how)
{
	int err;

	if (!c->file && end < COLUMN_INLINE_MAX)
		return need_mem(c, end);
	/* Invariant 2. */
	if (c->file && end > c->array.size_bytes && atomic_load(&c->file_bytes) > c->array.size_bytes)
		return -EAGAIN;
	if (end > c->array.size_bytes)
		reserve_forget(&c->reserve);
	if (c->file)
		return 0;
	err = store_may_write_home(c->array.home->store, 0);
	return err ? err : materialize(c, how);
}

/* Claims *out bytes of space for a write. Bytes that have a place already need none: space that is reserved behind the end, or
 * that fallocate or an earlier write has allocated. Below the end there may be holes. */
static int claim(struct column *c, uint64_t off, uint64_t len, uint64_t *out)
{
	uint64_t bytes = off >= c->array.size_bytes && off + len <= c->reserve.ahead_bytes ? 0 : len;
	int err = bytes ? store_claim_home(c->array.home->store, bytes) : 0;

	if (err == -ENOSPC && io_is_allocated(c->file, off, len))
		return *out = 0;
	if (!err)
		*out = bytes;
	return err;
}

static int write_file(struct column *c, const void *buf, size_t len, uint64_t off, unsigned how)
{
	uint64_t claimed;
	int err = claim(c, off, len, &claimed);

	if (err)
		return err;
	if (off > c->array.size_bytes)
		err = give_back_reserve(c);
	if (!err)
		err = io_pwrite_as(c->file, buf, len, off, how);
	store_unclaim_home(c->array.home->store, claimed);
	return err;
}

static int column_write(struct array *a, const void *buf, size_t len, uint64_t off, unsigned how, size_t *done_out)
{
	struct column *c = column_of(a);
	uint64_t end = off + len;
	int err;

	how |= a->params.cold ? IO_COLD : 0;
	err = need_storage(c, end, how);
	if (err)
		return err;
	if (!c->file) {
		memcpy(c->mem + off, buf, len);
		c->mem_dirty = true;
	} else {
		c->file_dirty = true; /* with an error, too: a part may be in */
		err = write_file(c, buf, len, off, how);
		if (err)
			return err;
		if (end > atomic_load(&c->file_bytes))
			atomic_store(&c->file_bytes, end);
		if (off <= a->size_bytes && end > a->size_bytes && !c->shared)
			reserve_ahead(&c->reserve, a->home->store, c->file, end);
	}
	if (end > a->size_bytes)
		a->size_bytes = end;
	update_stored(c);
	*done_out = len;
	return 0;
}

/* Truncation to zero: the file is left alone and the column starts over, inline. */
static int start_over(struct column *c)
{
	struct retired *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->store = c->array.home->store;
	r->file = c->file;
	r->id = c->array.file_id;
	r->next = c->retired;
	c->retired = r;
	set_file(c, NULL, 0, 0);
	return 0;
}

static int column_resize(struct array *a, uint64_t size)
{
	struct column *c = column_of(a);
	int err = 0;

	if (size == 0 && c->file && !c->shared) {
		err = start_over(c);
	} else if (size <= a->size_bytes) {
		reserve_unwanted(&c->reserve);
		if (!c->file) {
			a->size_bytes = size;
			owe_mem(c, a->size_bytes);
		}
		if (c->file && size == a->size_bytes && atomic_load(&c->file_bytes) == size)
			err = reserve_cut(&c->reserve, c->file, size);
	} else {
		err = need_storage(c, size, 0);
		if (!err)
			err = give_back_reserve(c);
		if (!err && c->file)
			err = io_truncate(c->file, size);
		if (!err && c->file) {
			atomic_store(&c->file_bytes, size);
			c->file_dirty = true;
		}
	}
	if (err)
		return err;
	a->size_bytes = size;
	if (c->shared)
		atomic_store(&c->cut_to, atomic_load(&c->file_bytes) > size ? size : NO_CUT);
	if (!c->file)
		c->mem_dirty = true;
	update_stored(c);
	return 0;
}

static int column_punch(struct array *a, uint64_t off, uint64_t len)
{
	static const unsigned char zeros[4096];
	struct column *c = column_of(a);
	int err;

	if (!c->file) {
		owe_mem(c, a->size_bytes);
		memset(c->mem + off, 0, len);
		c->mem_dirty = true;
		return 0;
	}
	c->file_dirty = true;
	err = io_punch(c->file, off, len);
	for (uint64_t done = 0; err == -EOPNOTSUPP && done < len;) {
		size_t n = len - done < sizeof(zeros) ? (size_t)(len - done) : sizeof(zeros);
		int e = io_pwrite(c->file, zeros, n, off + done);

		if (e)
			return e;
		done += n;
		if (done == len)
			err = 0;
	}
	update_stored(c);
	return err;
}

static int column_allocate(struct array *a, uint64_t off, uint64_t len)
{
	struct column *c = column_of(a);
	uint64_t end = reserve_whole(off + len);
	int err;

	/* Whole pages, whatever the block size of the store's file system is. */
	off &= ~(uint64_t)4095;
	len = end - off;
	err = store_may_write_home(a->home->store, len);
	if (err == -ENOSPC && c->file && io_is_allocated(c->file, off, len))
		err = 0;
	if (!err && !c->file)
		err = materialize(c, 0);
	if (!err && end > a->size_bytes && atomic_load(&c->file_bytes) > a->size_bytes)
		err = -EAGAIN;
	/* Space that was reserved ahead does not count, and would from then on. */
	if (!err && end > a->size_bytes)
		err = give_back_reserve(c);
	if (!err)
		err = io_allocate(c->file, off, len);
	if (!err)
		c->file_dirty = true;
	if (!err)
		reserve_made(&c->reserve, a->size_bytes, off, end);
	if (err == -EOPNOTSUPP)
		err = 0;
	c->lent_file &= err != 0;
	if (!err)
		update_stored(c);
	return err;
}

static bool column_recount(struct array *a)
{
	struct column *c = column_of(a);
	struct reserve r = c->reserve; /* others recount beside this: it keeps no sum */
	uint64_t was = atomic_load(&a->stored_bytes);

	if (c->file && io_packings(a->home->store->dir))
		atomic_store(&a->stored_bytes, reserve_stored(&r, c->file, a->size_bytes));
	return atomic_load(&a->stored_bytes) != was;
}

/* But for what is compressed. */
static uint64_t growth_of_pages(struct column *c, uint64_t off, uint64_t len, enum array_growing how)
{
	struct array *a = &c->array;
	uint64_t end = off + len, whole = reserve_whole(a->size_bytes), first = off & ~(uint64_t)4095;

	if (!c->file && how != ARRAY_RESERVES && end < COLUMN_INLINE_MAX)
		return end > a->size_bytes ? end - a->size_bytes : 0;
	if (c->file && how == ARRAY_ENDS)
		return 0;
	end = reserve_whole(end);
	/* Inline bytes become whole pages of a file, without holes. */
	if (!c->file)
		return whole - a->size_bytes + (how == ARRAY_ENDS || end <= whole ? 0 : end - (first > whole ? first : whole));
	return reserve_growth(&c->reserve, c->file, a->size_bytes, atomic_load(&a->stored_bytes), first, end);
}

static uint64_t column_growth(struct array *a, uint64_t off, uint64_t len, enum array_growing how)
{
	struct column *c = column_of(a);
	uint64_t more = growth_of_pages(c, off, len, how);

	return c->file && how != ARRAY_ENDS ? more + io_saved(c->file, off, len, true) : more;
}

static int column_seek(struct array *a, uint64_t off, bool hole, uint64_t *out)
{
	struct column *c = column_of(a);
	int err;

	if (!c->file) {
		*out = hole ? a->size_bytes : off;
		return 0;
	}
	err = io_seek(c->file, off, hole, out);
	if (err != -ENXIO)
		return err;
	*out = a->size_bytes;
	return 0;
}

static int column_share(struct array *a, bool write, struct io **out)
{
	struct column *c = column_of(a);
	int err = 0;

	if (!c->file && !write)
		return -EOPNOTSUPP;
	if (!c->file) {
		err = store_may_write_home(a->home->store, 0);
		if (!err)
			err = materialize(c, 0);
		c->lent_file = !err;
	}
	if (!err && atomic_load(&c->file_bytes) > a->size_bytes)
		err = -EAGAIN;
	if (!err)
		err = give_back_reserve(c);
	if (!err)
		err = io_share(c->file, true);
	if (err)
		return err;
	c->shared = true;
	*out = c->file;
	return 0;
}

/* The few bytes of a shared file go back into memory. */
static int go_inline(struct column *c)
{
	size_t n = (size_t)c->array.size_bytes;
	int err = need_mem(c, n);

	if (!err && n)
		err = io_pread(c->file, c->mem, n, 0);
	if (!err)
		err = start_over(c);
	if (err)
		return err;
	c->mem_dirty = true;
	update_stored(c);
	return 0;
}

static void column_unshare(struct array *a)
{
	struct column *c = column_of(a);
	bool lent = c->lent_file && atomic_load(&c->file_bytes) == a->size_bytes && !reserve_is_wanted(&c->reserve, a->size_bytes);
	int err = io_share(c->file, false);

	if (err)
		log_warn("columns/%llu: %s", (unsigned long long)a->file_id, strerror(-err));
	c->shared = c->lent_file = false;
	reserve_forget(&c->reserve);
	/* If that fails, the column keeps its file. */
	if (!err && lent && a->size_bytes < COLUMN_INLINE_MAX && go_inline(c)) {
		give_back_mem(c, false);
		free(c->mem);
		c->mem = NULL;
		c->mem_cap = 0;
	}
}

static int column_facts(struct array *a, struct io_facts *out)
{
	struct column *c = column_of(a);

	if (atomic_load(&c->cut_to) != NO_CUT)
		return -EAGAIN;
	return io_facts(c->file, out);
}

static void column_refresh(struct array *a, bool written)
{
	struct column *c = column_of(a);
	struct io_facts now;

	if (written)
		atomic_store(&c->file_dirty, true);
	if (column_facts(a, &now))
		return;
	a->size_bytes = now.size_bytes;
	atomic_store(&c->file_bytes, now.size_bytes);
	if (c->reserve.ahead_bytes < now.size_bytes)
		c->reserve.ahead_bytes = now.size_bytes;
	update_stored(c);
}

static void run_cut(struct meta_deferred *d, bool durable)
{
	struct cut *cut = (struct cut *)d;
	struct arrays *h = cut->home;
	struct column *c;
	int err = 0;

	lock_acquire(&h->lock);
	c = cut->column;
	if (c) {
		struct cut **at = &c->cuts;

		while (*at != cut)
			at = &(*at)->next;
		*at = cut->next;
		/* Nothing was written behind the staged size since (invariant 2). A file that was retired
		 * since is still open: a later commit closes it. */
		if (durable)
			err = io_truncate(cut->file, cut->size_bytes);
		if (durable && !err && c->file == cut->file) {
			uint64_t waits = cut->size_bytes;

			atomic_store(&c->file_bytes, cut->size_bytes);
			atomic_compare_exchange_strong(&c->cut_to, &waits, NO_CUT);
		}
	}
	lock_release(&h->lock);
	if (err)
		log_warn("a column file cannot be cut: %s", strerror(-err));
	free(cut);
}

static void defer_retired_locked(struct column *c)
{
	while (c->retired) {
		struct retired *r = c->retired;

		c->retired = r->next;
		r->deferred.run = run_retired;
		meta_defer_locked(r->store->meta, &r->deferred);
	}
}

static int column_stage_locked(struct array *a, const struct index_record *facts, bool changed)
{
	struct column *c = column_of(a);
	struct meta *m = a->home->store->meta;
	bool again;
	int err = 0;

	(void)facts;
	(void)changed;
	if (c->mem_dirty) {
		const void *mem = c->file || !a->size_bytes ? NULL : c->mem;

		err = meta_blob_set_locked(m, a->ino, META_BLOB_INLINE, mem, mem ? a->size_bytes : 0);
		if (err)
			return err;
		c->mem_dirty = false;
		give_back_mem(c, true);
	}
	err = reserve_stage_locked(&c->reserve, m, a->ino, c->file ? a->size_bytes : UINT64_MAX);
	if (err)
		return err;
	defer_retired_locked(c);
	/* A commit that failed before its sync has left the sync to this one. */
	again = c->file && c->sync_file == c->file;
	if (c->file && (atomic_exchange(&c->file_dirty, false) || again)) {
		c->sync_made = atomic_exchange(&c->made, false) || (again && c->sync_made);
		c->sync_file = c->file;
	} else {
		c->sync_file = NULL;
	}
	if (c->file && atomic_load(&c->file_bytes) > a->size_bytes) {
		struct cut *cut = calloc(1, sizeof(*cut));

		if (!cut)
			return -ENOMEM;
		cut->deferred.run = run_cut;
		cut->home = a->home;
		cut->column = c;
		cut->file = c->file;
		cut->size_bytes = a->size_bytes;
		lock_acquire(&a->home->lock);
		cut->next = c->cuts;
		c->cuts = cut;
		lock_release(&a->home->lock);
		c->reserve.ahead_bytes = a->size_bytes;
		if (PLANTED(PLANT_EARLY_CUT))
			run_cut(&cut->deferred, true);
		else
			meta_defer_locked(a->home->store->meta, &cut->deferred);
	}
	return 0;
}

static int column_sync(struct array *a)
{
	struct column *c = column_of(a);
	int err;

	if (!c->sync_file)
		return 0;
	err = io_sync(c->sync_file);
	if (!err && c->sync_made)
		err = io_dir_sync(a->home->store->dir, "columns");
	if (err) {
		atomic_store(&c->file_dirty, true);
		if (c->sync_made)
			atomic_store(&c->made, true);
	}
	c->sync_file = NULL;
	return err;
}

static int column_drop_locked(struct array *a)
{
	defer_retired_locked(column_of(a));
	return 0;
}

const struct array_ops column_ops = {
	.kind = ARRAY_COLUMN,
	.counters = { STAT_READ_OPS_COLUMN, STAT_READ_BYTES_COLUMN, STAT_WRITE_OPS_COLUMN, STAT_WRITE_BYTES_COLUMN },
	.open = column_open,
	.close = column_close,
	.memory = column_memory,
	.borrow = column_borrow,
	.write = column_write,
	.resize = column_resize,
	.punch = column_punch,
	.allocate = column_allocate,
	.growth = column_growth,
	.seek = column_seek,
	.share = column_share,
	.unshare = column_unshare,
	.refresh = column_refresh,
	.facts = column_facts,
	.stage_locked = column_stage_locked,
	.sync = column_sync,
	.drop_locked = column_drop_locked,
	.recount = column_recount,
};
