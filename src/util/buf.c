/*
 * Data buffers in power-of-two classes.
 *
 * Invariants: (1) the idle buffers of all classes together hold at most BUF_IDLE_MAX bytes; (2) what is
 * not kept idle goes back to the system: from BUF_MMAP_MIN on a buffer is a mapping of its own, because
 * a heap keeps pages that lie below one live allocation; (3) a class without use gives its
 * share of (1) up to one that is.
 *
 * Smaller buffers come from slabs: the number of mappings of a process is limited (65530 by default).
 * Under AddressSanitizer every buffer is an allocation of its exact size, so that overruns show.
 */
#include "util/buf.h"

#include <malloc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "util/lock.h"
#include "util/slab.h"

#if defined(__SANITIZE_ADDRESS__)
#define BUF_EXACT 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define BUF_EXACT 1
#endif
#endif

#define BUF_ALIGN 4096u

static bool (*_Atomic refusal)(size_t size_bytes);

void buf_set_refusal(bool (*fn)(size_t size_bytes))
{
	atomic_store(&refusal, fn);
}

static bool refused(size_t size_bytes)
{
	bool (*fn)(size_t size_bytes) = atomic_load_explicit(&refusal, memory_order_acquire);

	return fn && fn(size_bytes);
}

#ifdef BUF_EXACT

void *buf_alloc(size_t size_bytes)
{
	void *p;

	if (refused(size_bytes))
		return NULL;
	return posix_memalign(&p, BUF_ALIGN, size_bytes ? size_bytes : 1) ? NULL : p;
}

void buf_free(void *p, size_t size_bytes)
{
	(void)size_bytes;
	free(p);
}

size_t buf_bytes(size_t size_bytes)
{
	return size_bytes;
}

void buf_trim(void)
{
}

#else

#define BUF_MIN_SHIFT 12
#define BUF_MAX_SHIFT 22 /* larger ones are never kept */
#define BUF_NCLASSES (BUF_MAX_SHIFT - BUF_MIN_SHIFT + 1)
#define BUF_MMAP_MIN (2 * SLAB_PIECE_MAX)
#define BUF_IDLE_MAX ((size_t)8 << 20)

/* Lies in the first bytes of an idle buffer. */
struct idle {
	struct idle *next;
};

static struct lock buf_lock = { .mutex = PTHREAD_MUTEX_INITIALIZER, .rank = RANK_MEM };
static struct {
	struct idle *head;
	size_t bytes;
} buf_class[BUF_NCLASSES];
static size_t buf_idle_bytes;

static size_t buf_class_bytes(unsigned class)
{
	return (size_t)1 << (class + BUF_MIN_SHIFT);
}

/* The class of a size, or BUF_NCLASSES. */
static unsigned buf_class_of(size_t size_bytes)
{
	unsigned class = 0;

	while (class < BUF_NCLASSES && buf_class_bytes(class) < size_bytes)
		class++;
	return class;
}

static void *buf_sys_alloc(size_t bytes)
{
	void *p;

	if (bytes < BUF_MMAP_MIN)
		return slab_alloc(bytes);
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return p == MAP_FAILED ? NULL : p;
}

static void buf_sys_free(void *p, size_t bytes)
{
	if (bytes < BUF_MMAP_MIN)
		slab_free(p);
	else if (munmap(p, bytes))
		madvise(p, bytes, MADV_DONTNEED); /* out of mappings: the memory at least goes back */
}

static void buf_sys_free_list(struct idle *list, size_t bytes)
{
	while (list) {
		struct idle *next = list->next;

		buf_sys_free(list, bytes);
		list = next;
	}
}

static struct idle *buf_pop_locked(unsigned class)
{
	struct idle *b = buf_class[class].head;

	if (b) {
		buf_class[class].head = b->next;
		buf_class[class].bytes -= buf_class_bytes(class);
		buf_idle_bytes -= buf_class_bytes(class);
	}
	return b;
}

/* Makes room for one buffer of `class` out of the largest other class, if that one keeps more than
 * `class` does. Returns what is to be freed, and its class. */
static struct idle *buf_make_room_locked(unsigned class, unsigned *victim_class)
{
	unsigned victim = class;
	struct idle *list = NULL;

	for (unsigned i = 0; i < BUF_NCLASSES; i++)
		if (buf_class[i].bytes > buf_class[victim].bytes)
			victim = i;
	while (victim != class && buf_class[victim].head &&
	       buf_idle_bytes + buf_class_bytes(class) > BUF_IDLE_MAX) {
		struct idle *b = buf_pop_locked(victim);

		b->next = list;
		list = b;
	}
	*victim_class = victim;
	return list;
}

void *buf_alloc(size_t size_bytes)
{
	unsigned class = buf_class_of(size_bytes);
	void *p;

	if (refused(size_bytes))
		return NULL;
	if (class == BUF_NCLASSES) {
		if (size_bytes > PTRDIFF_MAX)
			return NULL;
		return buf_sys_alloc((size_bytes + BUF_ALIGN - 1) & ~(size_t)(BUF_ALIGN - 1));
	}
	lock_acquire(&buf_lock);
	p = buf_pop_locked(class);
	lock_release(&buf_lock);
	return p ? p : buf_sys_alloc(buf_class_bytes(class));
}

void buf_free(void *p, size_t size_bytes)
{
	unsigned class = buf_class_of(size_bytes);
	struct idle *victims, *b = p;
	unsigned victim_class;

	if (!p)
		return;
	if (class == BUF_NCLASSES) {
		buf_sys_free(p, (size_bytes + BUF_ALIGN - 1) & ~(size_t)(BUF_ALIGN - 1));
		return;
	}
	lock_acquire(&buf_lock);
	victims = buf_make_room_locked(class, &victim_class);
	if (buf_idle_bytes + buf_class_bytes(class) <= BUF_IDLE_MAX) {
		b->next = buf_class[class].head;
		buf_class[class].head = b;
		buf_class[class].bytes += buf_class_bytes(class);
		buf_idle_bytes += buf_class_bytes(class);
		b = NULL;
	}
	lock_release(&buf_lock);
	buf_sys_free_list(victims, buf_class_bytes(victim_class));
	if (b)
		buf_sys_free(b, buf_class_bytes(class));
}

size_t buf_bytes(size_t size_bytes)
{
	unsigned class = buf_class_of(size_bytes);

	return class < BUF_NCLASSES ? buf_class_bytes(class) : (size_bytes + BUF_ALIGN - 1) & ~(size_t)(BUF_ALIGN - 1);
}

void buf_trim(void)
{
	for (unsigned i = 0; i < BUF_NCLASSES; i++) {
		struct idle *list;

		lock_acquire(&buf_lock);
		list = buf_class[i].head;
		buf_class[i].head = NULL;
		buf_idle_bytes -= buf_class[i].bytes;
		buf_class[i].bytes = 0;
		lock_release(&buf_lock);
		buf_sys_free_list(list, buf_class_bytes(i));
	}
#ifdef __GLIBC__
	malloc_trim(0);
#endif
}

#endif

_Bool buf_is_zero(const void *p, size_t n)
{
	const unsigned char *b = p;
	size_t head = n < 16 ? n : 16;

	for (size_t i = 0; i < head; i++)
		if (b[i])
			return 0;
	/* Each byte equals the one 16 before it, and the first 16 are zero. */
	return n == head || memcmp(b, b + 16, n - 16) == 0;
}
