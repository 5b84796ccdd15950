/*
 * Slabs.
 *
 * Invariants: (1) a slab begins at a multiple of its size, so that a piece tells its slab; (2) the first piece of a slab is its
 * head; (3) the list of a size has exactly those slabs of it that have room; (4) a piece was never touched unless it was handed
 * out.
 */
#include "util/slab.h"

#include <stdint.h>
#include <sys/mman.h>

#include "util/lock.h"

#define SLAB_BYTES ((size_t)256 << 10)
#define PIECE_MIN ((size_t)4 << 10)
#define NSIZES 4u

/* Lies in the first bytes of a free piece. */
struct piece {
	struct piece *next;
};

struct slab {
	struct slab *prev, *next; /* of its size, with room */
	struct piece *free;
	size_t piece_bytes;
	size_t fresh; /* offset of the pieces that were never handed out */
	size_t nused;
};

static struct lock lock = { .mutex = PTHREAD_MUTEX_INITIALIZER, .rank = RANK_MEM };
static struct slab *with_room[NSIZES];

static struct slab **list_of(size_t piece_bytes)
{
	unsigned k = 0;

	while (PIECE_MIN << k < piece_bytes)
		k++;
	return &with_room[k];
}

static bool has_room(const struct slab *s)
{
	return s->free || s->fresh < SLAB_BYTES;
}

static void list_add(struct slab *s)
{
	struct slab **first = list_of(s->piece_bytes);

	s->prev = NULL;
	s->next = *first;
	if (s->next)
		s->next->prev = s;
	*first = s;
}

static void list_remove(struct slab *s)
{
	if (s->prev)
		s->prev->next = s->next;
	else
		*list_of(s->piece_bytes) = s->next;
	if (s->next)
		s->next->prev = s->prev;
}

/* Maps twice the length, and gives back what lies on both sides of the aligned slab. */
static struct slab *map_slab(size_t piece_bytes)
{
	char *p = mmap(NULL, 2 * SLAB_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t before;
	struct slab *s;

	if (p == MAP_FAILED)
		return NULL;
	before = -(uintptr_t)p % SLAB_BYTES;
	s = (struct slab *)(p + before);
	if (before)
		munmap(p, before);
	munmap(p + before + SLAB_BYTES, SLAB_BYTES - before);
	*s = (struct slab){ .piece_bytes = piece_bytes, .fresh = piece_bytes };
	return s;
}

void *slab_alloc(size_t piece_bytes)
{
	struct slab *s;
	void *p;

	lock_acquire(&lock);
	s = *list_of(piece_bytes);
	if (!s) {
		s = map_slab(piece_bytes);
		if (!s) {
			lock_release(&lock);
			return NULL;
		}
		list_add(s);
	}
	p = s->free;
	if (p) {
		s->free = s->free->next;
	} else {
		p = (char *)s + s->fresh;
		s->fresh += piece_bytes;
	}
	s->nused++;
	if (!has_room(s))
		list_remove(s);
	lock_release(&lock);
	return p;
}

void slab_free(void *piece)
{
	struct slab *s = (struct slab *)((uintptr_t)piece & ~(uintptr_t)(SLAB_BYTES - 1));
	struct piece *p = piece;
	bool last;

	lock_acquire(&lock);
	if (!has_room(s))
		list_add(s);
	p->next = s->free;
	s->free = p;
	last = --s->nused == 0;
	if (last)
		list_remove(s);
	lock_release(&lock);
	if (last && munmap(s, SLAB_BYTES))
		madvise(s, SLAB_BYTES, MADV_DONTNEED); /* out of mappings: the memory at least goes back */
}
