/*
 * Frames of memory.
 *
 * Invariants: (1) used_pages are the pages of all frames, idle ones among them, and at most the budget; nobody gets a frame while these and
 * the memory beside them are more than that; (2) the idle frames that have pages stand behind those that have none, and lose them before
 * anybody is told that the budget is used up; (3) a page that is not counted takes no memory: mappings have no huge pages.
 *
 * A region is a mapping of many frames, since the number of mappings of a process is limited. Core dumps are without them: they hold
 * users' data.
 */
#include "io/frames.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "util/stats.h"
#include "util/vec.h"

#define REGION_FRAMES ((size_t)256)
#define WARM_MAX ((size_t)128) /* 32 MiB */
#define WARM_PART 8            /* of the budget, at most */

#define POPULATE_PAGES 4u
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

struct frames_region {
	struct frames_region *next;
	unsigned char *p;
};

void frames_init(struct frames *f, uint64_t budget_bytes)
{
	*f = (struct frames){ .budget_pages = budget_bytes / FRAME_PAGE };
	lock_init(&f->lock, RANK_MEM);
}

void frames_fini(struct frames *f)
{
	while (f->regions) {
		struct frames_region *r = f->regions;

		f->regions = r->next;
		munmap(r->p, REGION_FRAMES * FRAME_BYTES);
		free(r);
	}
	stats_sub(STAT_SPILL_MEMORY_BYTES, f->used_pages * FRAME_PAGE);
	free(f->idle);
	lock_fini(&f->lock);
}

/* ---- memory of frames ---- */

/* With places for all its frames as idle ones, so that giving one back cannot fail. */
static int add_region_locked(struct frames *f)
{
	struct frames_region *r = malloc(sizeof(*r));
	void *p;

	if (!r || VEC_RESERVE(f->idle, f->idle_cap, (f->nregions + 1) * REGION_FRAMES)) {
		free(r);
		return -ENOMEM;
	}
	p = mmap(NULL, REGION_FRAMES * FRAME_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED) {
		free(r);
		return -ENOMEM;
	}
	madvise(p, REGION_FRAMES * FRAME_BYTES, MADV_NOHUGEPAGE);
	madvise(p, REGION_FRAMES * FRAME_BYTES, MADV_DONTDUMP);
	*r = (struct frames_region){ .next = f->regions, .p = p };
	f->regions = r;
	f->nregions++;
	f->fresh = REGION_FRAMES;
	return 0;
}

static int fill_locked(struct frames *f, struct frame *frame)
{
	int err = 0;

	if (f->nidle) {
		*frame = f->idle[--f->nidle];
		if (f->nwarm)
			f->nwarm--;
		return 0;
	}
	if (!f->fresh)
		err = add_region_locked(f);
	if (err)
		return err;
	*frame = (struct frame){ .p = f->regions->p + --f->fresh * FRAME_BYTES };
	return 0;
}

/* A frame without pages goes below those that have some. */
static void put_idle_locked(struct frames *f, struct frame frame)
{
	VEC_INSERT(f->idle, f->nidle, frame.pages ? f->nidle : f->nidle - f->nwarm, frame);
	if (frame.pages)
		f->nwarm++;
}

static void to_system(const struct frame *frame, uint64_t pages)
{
	unsigned first, n;

	while (frames_run(&pages, &first, &n))
		madvise(frame->p + first * FRAME_PAGE, n * FRAME_PAGE, MADV_DONTNEED);
}

/* ---- the budget ---- */

static void count_locked(struct frames *f, uint64_t pages)
{
	f->used_pages += pages;
	stats_add(STAT_SPILL_MEMORY_BYTES, pages * FRAME_PAGE);
}

static void uncount_locked(struct frames *f, uint64_t pages)
{
	f->used_pages -= pages;
	stats_sub(STAT_SPILL_MEMORY_BYTES, pages * FRAME_PAGE);
}

/* Takes the pages of one idle frame; false: none has any. */
static bool cool_locked(struct frames *f)
{
	struct frame frame;

	if (!f->nwarm)
		return false;
	frame = f->idle[--f->nidle];
	f->nwarm--;
	to_system(&frame, frame.pages);
	uncount_locked(f, frames_count(frame.pages));
	frame.pages = 0;
	put_idle_locked(f, frame);
	return true;
}

/* Memory beside frames can make it more than the budget. */
static uint64_t spent_locked(struct frames *f)
{
	return f->used_pages + (atomic_load(&f->beside_bytes) + FRAME_PAGE - 1) / FRAME_PAGE;
}

/* Has the system put memory there at once, which a fault for each page would take several times as long to do. Where it cannot, they do. */
static void populate(const struct frame *frame, uint64_t pages)
{
	unsigned first, n;

	while (frames_run(&pages, &first, &n))
		if (n >= POPULATE_PAGES)
			madvise(frame->p + first * FRAME_PAGE, n * FRAME_PAGE, MADV_POPULATE_WRITE);
}

int frames_take(struct frames *f, struct frame *frame, uint64_t pages)
{
	struct frame got = *frame;
	uint64_t fresh = 0;
	int err = 0;

	if (got.p && !(pages & ~got.pages))
		return 0;
	lock_acquire(&f->lock);
	if (!got.p)
		err = fill_locked(f, &got);
	while (!err && spent_locked(f) + frames_count(pages & ~got.pages) > f->budget_pages)
		err = cool_locked(f) ? 0 : -ENOSPC;
	if (!err) {
		fresh = pages & ~got.pages;
		count_locked(f, frames_count(fresh));
		got.pages |= pages;
		*frame = got;
	} else if (got.p && !frame->p) {
		put_idle_locked(f, got);
		cool_locked(f);
	}
	lock_release(&f->lock);
	populate(frame, fresh);
	return err;
}

void frames_drop(struct frames *f, struct frame *frame, uint64_t pages)
{
	pages &= frame->pages;
	if (!pages)
		return;
	to_system(frame, pages);
	frame->pages &= ~pages;
	lock_acquire(&f->lock);
	uncount_locked(f, frames_count(pages));
	lock_release(&f->lock);
}

static bool may_stay_warm(struct frames *f)
{
	bool may;

	lock_acquire(&f->lock);
	may = f->nwarm < WARM_MAX && f->nwarm * FRAME_PAGES < f->budget_pages / WARM_PART;
	lock_release(&f->lock);
	return may;
}

void frames_give(struct frames *f, struct frame *frame)
{
	if (!frame->p)
		return;
	if (!may_stay_warm(f))
		frames_drop(f, frame, frame->pages);
	lock_acquire(&f->lock);
	put_idle_locked(f, *frame);
	lock_release(&f->lock);
	*frame = (struct frame){ 0 };
}

uint64_t frames_left_bytes(struct frames *f)
{
	uint64_t spent;

	lock_acquire(&f->lock);
	spent = spent_locked(f);
	lock_release(&f->lock);
	return spent < f->budget_pages ? (f->budget_pages - spent) * FRAME_PAGE : 0;
}
