/*
 * Streams of reads.
 *
 * Invariants: (1) a stream goes on at the block behind the last one, or at any that it was given to decode ahead; anything else but
 * a late read begins a new one; (2) a read is late if it is of one of the `window` blocks up to the last one; (3) while the stream
 * moves, each block behind its first is given out once, but for races; (4) the credit is at most `window`, and a stream that
 * leaves out more blocks than it reads uses it up and ends, so that a reader with a stride does not have all that it skips decoded.
 */
#include "array/stream.h"

/* The kernel's read-ahead is 512 KiB, and two of them can be at work, one of which begins early. */
#define WINDOW_BYTES (2u << 20)
#define WINDOW_BLOCKS_MIN 2u

static uint64_t get(const _Atomic uint64_t *p)
{
	return atomic_load_explicit(p, memory_order_relaxed);
}

static void set(_Atomic uint64_t *p, uint64_t v)
{
	atomic_store_explicit(p, v, memory_order_relaxed);
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

void stream_init(struct stream *s)
{
	*s = (struct stream){ .at = UINT64_MAX };
}

uint64_t stream_window(uint32_t block_bytes)
{
	uint64_t blocks = WINDOW_BYTES / block_bytes;

	return blocks > WINDOW_BLOCKS_MIN ? blocks : WINDOW_BLOCKS_MIN;
}

static void begin(struct stream *s, uint64_t block)
{
	set(&s->at, block);
	set(&s->ahead, block);
	set(&s->credit, 0);
}

/* The stream has got from `at` to `block`; it has left out those between, until they are read late. */
static void move_on(struct stream *s, uint64_t at, uint64_t block, uint64_t window, uint64_t *first, uint64_t *end)
{
	uint64_t credit = get(&s->credit) + 1, left_out = block - at - 1, next = get(&s->ahead) + 1;

	if (credit <= left_out) {
		begin(s, block);
		return;
	}
	credit = smaller(credit - left_out, window);
	set(&s->credit, credit);
	set(&s->at, block);
	*end = block + 1 + smaller(credit + 1, window);
	*first = smaller(next > block ? next : block + 1, *end);
	if (*first < *end)
		set(&s->ahead, *end - 1);
}

bool stream_follow(struct stream *s, uint64_t block, bool to_end, uint64_t window, uint64_t *first, uint64_t *end)
{
	uint64_t at = get(&s->at);

	*first = *end = 0;
	if (at + 1 == block || (at != UINT64_MAX && block > at && block <= get(&s->ahead))) {
		move_on(s, at, block, window, first, end);
	} else if (block > at || at - block > window) {
		begin(s, block);
	} else if (to_end && block < at && get(&s->credit)) {
		set(&s->credit, smaller(get(&s->credit) + 1, window));
	}
	return block == 0 || get(&s->credit) > 0;
}

bool stream_pass(struct stream *s, uint64_t block, uint64_t window)
{
	uint64_t passed = get(&s->passed);

	if (block + window < passed)
		return false;
	if (block >= passed)
		set(&s->passed, block + 1);
	return true;
}
