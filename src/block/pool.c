/*
 * The bucket pool.
 *
 * Invariants: (1) no byte belongs to two claimed regions; (2) free regions are sorted, aligned,
 * disjoint, not adjacent and below the file's cursor; (3) the cursor never moves back while the
 * pool is open, so that advancing it needs no lock; (4) disk space is punched out before the region
 * becomes claimable, never after: the next owner may write at once; (5) a file whose synced count
 * is not below its touched count has no unsynced write that returned before that count was read;
 * (6) a range that is being punched is claimed, free space between released ranges included.
 */
#include "block/pool.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/space.h"
#include "util/err.h"
#include "util/lock.h"
#include "util/log.h"
#include "util/number.h"
#include "util/stats.h"
#include "util/vec.h"

#define POOL_LIMIT (1ull << 62)
#define POOL_NAME_MAX 32

/* Free ranges between two released ones are punched with them up to this length: what was left of a
 * region. Longer ones stay claimable meanwhile. */
#define GAP_MAX_BYTES POOL_REGION_MAX

struct range {
	uint64_t off, end;
};

struct range_list {
	struct range *v;
	size_t n, cap;
};

struct pool_file {
	struct io *io;
	char name[POOL_NAME_MAX];
	_Atomic uint64_t cursor;
	_Atomic uint64_t
		longest; /* of the free regions; lets a claim see without the lock that none fits */
	_Atomic uint64_t touched, synced;
	struct lock lock;
	struct space space;  /* under lock */
	uint64_t size_bytes; /* at pool_open */
	struct lock list_lock;
	struct range_list used;     /* under list_lock; between pool_open and pool_ready */
	struct range_list released; /* under list_lock; since the last pool_reclaim; may overlap */
};

struct pool {
	struct io_dir *dir;
	struct pool_file *files;
	unsigned nfiles;
	bool ready;
	_Atomic uint64_t claimed_bytes, free_bytes; /* this pool's share of the gauges */
};

static uint64_t align_up(uint64_t n)
{
	return (n + POOL_ALIGN - 1) & ~(uint64_t)(POOL_ALIGN - 1);
}

static void count_claimed(struct pool *p, uint64_t bytes)
{
	atomic_fetch_add(&p->claimed_bytes, bytes);
	stats_add(STAT_POOL_CLAIMED_BYTES, bytes);
}

static void count_unclaimed(struct pool *p, uint64_t bytes)
{
	atomic_fetch_sub(&p->claimed_bytes, bytes);
	stats_sub(STAT_POOL_CLAIMED_BYTES, bytes);
}

static void count_free(struct pool *p, uint64_t bytes)
{
	atomic_fetch_add(&p->free_bytes, bytes);
	stats_add(STAT_POOL_FREE_BYTES, bytes);
}

static void count_reused(struct pool *p, uint64_t bytes)
{
	atomic_fetch_sub(&p->free_bytes, bytes);
	stats_sub(STAT_POOL_FREE_BYTES, bytes);
}

/* Raises *ctx to the number of files that the names in the directory call for. */
static int count_name(void *ctx, const char *name)
{
	unsigned *nfiles = ctx;
	uint64_t number;

	if (!number_of_name(name, 2, "", &number) && number < POOL_NFILES_MAX && number >= *nfiles)
		*nfiles = (unsigned)number + 1;
	return 0;
}

static int file_open(struct io_dir *dir, unsigned number, bool make, struct pool_file *f)
{
	uint64_t stored;
	int err;

	snprintf(f->name, sizeof(f->name), "pool/%02u", number);
	err = io_open(dir, f->name, (make ? IO_CREATE : 0) | IO_OF_BUCKET, &f->io);
	if (err == -ENOENT)
		return err_corrupt(f->name, 0, "it is missing");
	if (err)
		return err;
	err = io_size(f->io, &f->size_bytes, &stored);
	if (err) {
		io_close(f->io);
		return err;
	}
	lock_init(&f->lock, RANK_POOL);
	lock_init(&f->list_lock, RANK_POOL);
	space_init(&f->space);
	return 0;
}

static void file_close(struct pool_file *f)
{
	io_close(f->io);
	space_fini(&f->space);
	free(f->used.v);
	free(f->released.v);
	lock_fini(&f->lock);
	lock_fini(&f->list_lock);
}

void pool_close(struct pool *p)
{
	if (!p)
		return;
	for (unsigned i = 0; i < p->nfiles; i++)
		file_close(&p->files[i]);
	count_unclaimed(p, atomic_load(&p->claimed_bytes));
	count_reused(p, atomic_load(&p->free_bytes));
	free(p->files);
	free(p);
}

/* nfiles, and, if one may be made, one on each disk. */
static int open_files(struct pool *p, unsigned nfiles, bool make)
{
	unsigned most = nfiles + IO_SPREAD_MAX;
	int err;

	p->files = calloc(most, sizeof(*p->files));
	err = p->files ? 0 : -ENOMEM;
	while (!err && (p->nfiles < nfiles || (make && p->nfiles < most && p->nfiles < POOL_NFILES_MAX && io_lacks_file(p->dir, IO_OF_BUCKET)))) {
		err = file_open(p->dir, p->nfiles, make, &p->files[p->nfiles]);
		if (!err)
			p->nfiles++;
	}
	return err;
}

int pool_open(struct io_dir *dir, unsigned nfiles, struct pool **out)
{
	bool make = nfiles > 0;
	struct pool *p;
	int err;

	if (nfiles > POOL_NFILES_MAX)
		return -EINVAL;
	err = io_mkdir(dir, "pool");
	if (err)
		return err;
	err = io_list(dir, "pool", count_name, &nfiles);
	if (err)
		return err;
	if (!nfiles)
		return err_corrupt("pool", 0, "no file of it is there");
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->dir = dir;
	err = open_files(p, nfiles, make);
	if (!err)
		err = io_dir_sync(dir, "pool");
	if (!err)
		err = io_dir_sync(dir, ".");
	if (err) {
		pool_close(p);
		return err;
	}
	*out = p;
	return 0;
}

unsigned pool_nfiles(const struct pool *p)
{
	return p->nfiles;
}

static int list_add_locked(struct range_list *l, uint64_t off, uint64_t end)
{
	if (VEC_RESERVE(l->v, l->cap, l->n + 1))
		return -ENOMEM;
	l->v[l->n++] = (struct range){ off, end };
	return 0;
}

static int list_add(struct pool_file *f, struct range_list *l, uint64_t off, uint64_t end)
{
	int err;

	lock_acquire(&f->list_lock);
	err = list_add_locked(l, off, end);
	lock_release(&f->list_lock);
	return err;
}

int pool_mark_used(struct pool *p, uint32_t file, uint64_t off_bytes, uint64_t len_bytes)
{
	struct pool_file *f;

	assert(!p->ready);
	if (file >= p->nfiles)
		return err_corrupt("pool", off_bytes, "an extent names file %u of %u", file,
				   p->nfiles);
	f = &p->files[file];
	if (!len_bytes || off_bytes > POOL_LIMIT || len_bytes > POOL_LIMIT - off_bytes)
		return err_corrupt(f->name, off_bytes, "an extent of %llu bytes",
				   (unsigned long long)len_bytes);
	if (off_bytes + len_bytes > f->size_bytes)
		return err_corrupt(
			f->name, off_bytes, "an extent of %llu bytes, but the file has %llu",
			(unsigned long long)len_bytes, (unsigned long long)f->size_bytes);
	return list_add(f, &f->used, off_bytes, off_bytes + len_bytes);
}

static int compare_ranges(const void *a, const void *b)
{
	const struct range *x = a, *y = b;

	return x->off < y->off ? -1 : x->off > y->off;
}

static void list_sort(struct range_list *l)
{
	if (l->n)
		qsort(l->v, l->n, sizeof(*l->v), compare_ranges);
}

static void list_clear(struct range_list *l)
{
	free(l->v);
	*l = (struct range_list){ 0 };
}

/* Derives the free regions from the used ranges. Ranges may share a page, never a byte. */
static int file_ready(struct pool *p, struct pool_file *f)
{
	uint64_t end = 0, claimed = 0, free_bytes = 0;
	int err;

	list_sort(&f->used);
	for (size_t i = 0; i < f->used.n; i++) {
		const struct range *used = &f->used.v[i];
		uint64_t from = used->off & ~(uint64_t)(POOL_ALIGN - 1);
		uint64_t to = align_up(used->end);
		uint64_t done = align_up(end);

		if (used->off < end)
			return err_corrupt(f->name, used->off, "two extents overlap");
		if (from > done) {
			err = space_add(&f->space, done, from - done);
			if (err)
				return err;
			free_bytes += from - done;
		}
		claimed += to - (from > done ? from : done);
		end = used->end;
	}
	if (end < f->size_bytes) {
		err = io_truncate(f->io, end);
		if (err)
			return err;
	}
	count_claimed(p, claimed);
	count_free(p, free_bytes);
	atomic_store(&f->cursor, align_up(end));
	atomic_store(&f->longest, space_longest(&f->space));
	list_clear(&f->used);
	return 0;
}

int pool_ready(struct pool *p)
{
	assert(!p->ready);
	for (unsigned i = 0; i < p->nfiles; i++) {
		int err = file_ready(p, &p->files[i]);

		if (err)
			return err;
	}
	p->ready = true;
	return pool_check(p);
}

static bool file_reuse(struct pool_file *f, uint64_t want, uint64_t min, struct region *out)
{
	bool found;

	if (atomic_load_explicit(&f->longest, memory_order_relaxed) < min)
		return false;
	lock_acquire(&f->lock);
	found = space_take(&f->space, want, min, &out->off_bytes, &out->len_bytes);
	atomic_store_explicit(&f->longest, space_longest(&f->space), memory_order_relaxed);
	lock_release(&f->lock);
	return found;
}

uint32_t pool_choose(struct pool *p, uint32_t file)
{
	unsigned disk = io_next_disk(p->dir);

	for (unsigned i = 0; i < p->nfiles; i++) {
		uint32_t k = (file + i) % p->nfiles;

		if (io_disk(p->files[k].io) == disk)
			return k;
	}
	/* That disk has none. */
	for (unsigned i = 0; i < p->nfiles; i++)
		if (io_takes(p->files[(file + i) % p->nfiles].io))
			return (file + i) % p->nfiles;
	return file;
}

bool pool_leaves(struct pool *p, uint32_t file)
{
	return !io_takes(p->files[file].io);
}

int pool_claim(struct pool *p, uint32_t file, uint64_t want_bytes, struct region *out)
{
	struct pool_file *f = &p->files[file];
	struct region r = { .file = file };
	uint64_t want, min;

	assert(p->ready && file < p->nfiles);
	if (!want_bytes || want_bytes > POOL_LIMIT)
		return -EINVAL;
	want = align_up(want_bytes);
	min = want < POOL_REGION_MIN ? want : POOL_REGION_MIN;
	if (file_reuse(f, want, min, &r)) {
		count_reused(p, r.len_bytes);
	} else {
		r.off_bytes = atomic_load(&f->cursor);
		do {
			if (r.off_bytes > POOL_LIMIT - want)
				return -EFBIG;
		} while (!atomic_compare_exchange_weak(&f->cursor, &r.off_bytes,
						       r.off_bytes + want));
		r.len_bytes = want;
	}
	count_claimed(p, r.len_bytes);
	*out = r;
	return 0;
}

/* Makes a claimed range claimable. */
static void file_free_range(struct pool *p, struct pool_file *f, uint64_t off, uint64_t len)
{
	int err;

	lock_acquire(&f->lock);
	err = space_add(&f->space, off, len);
	atomic_store_explicit(&f->longest, space_longest(&f->space), memory_order_relaxed);
	lock_release(&f->lock);
	assert(err != -EEXIST);
	if (err) {
		/* Lost until the next mount derives it again. */
		log_warn("%s: cannot note %llu free bytes at %llu: %s", f->name, (unsigned long long)len,
			 (unsigned long long)off, strerror(-err));
		return;
	}
	count_unclaimed(p, len);
	count_free(p, len);
}

/* `given` of these bytes were not a hole before, as far as is known. */
static void file_punch(struct pool_file *f, uint64_t off, uint64_t len, uint64_t given)
{
	int err = io_punch(f->io, off, len);

	if (!err)
		stats_add(STAT_POOL_PUNCHED_BYTES, given);
	else if (err != -EOPNOTSUPP)
		log_warn("%s: cannot punch %llu bytes at %llu: %s", f->name, (unsigned long long)len,
			 (unsigned long long)off, strerror(-err));
}

static struct pool_file *region_file(struct pool *p, const struct region *r)
{
	assert(p->ready && r->file < p->nfiles && r->len_bytes);
	assert(r->off_bytes % POOL_ALIGN == 0 && r->len_bytes % POOL_ALIGN == 0);
	assert(r->off_bytes + r->len_bytes <= atomic_load(&p->files[r->file].cursor));
	return &p->files[r->file];
}

/* Claims [off, end) if it is one free range. */
static bool file_claim_gap(struct pool *p, struct pool_file *f, uint64_t off, uint64_t end)
{
	bool taken;

	if (end - off > GAP_MAX_BYTES)
		return false;
	lock_acquire(&f->lock);
	taken = space_remove(&f->space, off, end - off);
	atomic_store_explicit(&f->longest, space_longest(&f->space), memory_order_relaxed);
	lock_release(&f->lock);
	if (!taken)
		return false;
	count_reused(p, end - off);
	count_claimed(p, end - off);
	return true;
}

/* Punches and frees the first of the sorted ranges with all that follow it without a claimed byte between. Returns
 * their number. */
static size_t file_reclaim_run(struct pool *p, struct pool_file *f, const struct range *v, size_t n)
{
	uint64_t end = v->end, given = v->end - v->off;
	size_t i = 1;

	for (; i < n && (v[i].off <= end || file_claim_gap(p, f, end, v[i].off)); i++) {
		uint64_t from = v[i].off > end ? v[i].off : end;

		if (v[i].end <= from)
			continue;
		end = v[i].end;
		given += end - from;
	}
	file_punch(f, v->off, end - v->off, given);
	file_free_range(p, f, v->off, end - v->off);
	return i;
}

static void file_reclaim(struct pool *p, struct pool_file *f)
{
	struct range_list l;

	lock_acquire(&f->list_lock);
	l = f->released;
	f->released = (struct range_list){ 0 };
	lock_release(&f->list_lock);
	list_sort(&l);
	for (size_t i = 0; i < l.n;)
		i += file_reclaim_run(p, f, &l.v[i], l.n - i);
	list_clear(&l);
}

void pool_release(struct pool *p, const struct region *r)
{
	struct pool_file *f = region_file(p, r);
	int err = list_add(f, &f->released, r->off_bytes, r->off_bytes + r->len_bytes);

	if (err) /* claimed until the next mount derives it again */
		log_warn("%s: cannot note %llu released bytes at %llu: %s", f->name,
			 (unsigned long long)r->len_bytes, (unsigned long long)r->off_bytes, strerror(-err));
}

void pool_reclaim(struct pool *p)
{
	for (unsigned i = 0; i < p->nfiles; i++)
		file_reclaim(p, &p->files[i]);
}

void pool_unclaim(struct pool *p, const struct region *r)
{
	struct pool_file *f = region_file(p, r);
	uint64_t data;

	/* Most of these bytes were never written, and a punch stalls the file's other writers. */
	if (!io_seek(f->io, r->off_bytes, false, &data) && data < r->off_bytes + r->len_bytes)
		file_punch(f, r->off_bytes, r->len_bytes, r->len_bytes);
	file_free_range(p, f, r->off_bytes, r->len_bytes);
}

struct io *pool_file(struct pool *p, uint32_t file)
{
	assert(file < p->nfiles);
	return p->files[file].io;
}

void pool_touch(struct pool *p, uint32_t file)
{
	assert(file < p->nfiles);
	atomic_fetch_add(&p->files[file].touched, 1);
}

static int file_sync(struct pool_file *f)
{
	uint64_t touched = atomic_load(&f->touched);
	uint64_t synced = atomic_load(&f->synced);
	int err;

	if (synced >= touched)
		return 0;
	err = io_sync(f->io);
	if (err)
		return err;
	while (synced < touched && !atomic_compare_exchange_weak(&f->synced, &synced, touched))
		;
	return 0;
}

int pool_sync(struct pool *p)
{
	int first = 0;

	for (unsigned i = 0; i < p->nfiles; i++) {
		int err = file_sync(&p->files[i]);

		if (err && !first)
			first = err;
	}
	return first;
}

int pool_check(struct pool *p)
{
	int err = 0;

	for (unsigned i = 0; i < p->nfiles && !err; i++) {
		struct pool_file *f = &p->files[i];

		lock_acquire(&f->lock);
		err = space_check(&f->space, POOL_ALIGN, atomic_load(&f->cursor));
		if (!err && atomic_load(&f->longest) != space_longest(&f->space))
			err = -EUCLEAN;
		lock_release(&f->lock);
	}
	return err;
}
