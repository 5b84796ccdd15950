/*
 * Chunks of sums, each of a piece's place in the file (io/piece.h), which come with what is written there and go with the place.
 *
 * Invariants: (1) a sum of 0 is none; bytes whose sum is 0 have 1; (2) the chunks and their list are counted, wherever they come or go.
 */
#include "io/sums.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "util/stats.h"
#include "util/vec.h"

#define CHUNK_SECTORS 64u
#define CHUNK_BYTES ((uint64_t)CHUNK_SECTORS * SUMS_SECTOR)
#define CHUNK_HELD_BYTES (CHUNK_SECTORS * sizeof(uint64_t))

void sums_init(struct sums *s, _Atomic uint64_t *held_bytes)
{
	*s = (struct sums){ .held_bytes = held_bytes };
	lock_init(&s->lock, RANK_MEM);
}

static void hold(struct sums *s, uint64_t bytes)
{
	atomic_fetch_add(s->held_bytes, bytes);
	stats_add(STAT_MEMORY_SUMS_BYTES, bytes);
}

static void let_go(struct sums *s, uint64_t bytes)
{
	atomic_fetch_sub(s->held_bytes, bytes);
	stats_sub(STAT_MEMORY_SUMS_BYTES, bytes);
}

static void free_chunk(struct sums *s, size_t i)
{
	if (!s->chunks[i])
		return;
	free(s->chunks[i]);
	s->chunks[i] = NULL;
	let_go(s, CHUNK_HELD_BYTES);
}

void sums_fini(struct sums *s)
{
	for (size_t i = 0; i < s->n; i++)
		free_chunk(s, i);
	let_go(s, s->cap * sizeof(*s->chunks));
	free(s->chunks);
	lock_fini(&s->lock);
}

/* The sum of the sector at off, and of those behind it in its chunk: *n_out of the n bytes. NULL: nothing is known of them. */
static uint64_t *find(struct sums *s, uint64_t off, size_t n, size_t *n_out)
{
	size_t i = (size_t)(off / CHUNK_BYTES);
	uint64_t left = CHUNK_BYTES - off % CHUNK_BYTES;
	uint64_t *chunk;

	lock_acquire(&s->lock);
	chunk = i < s->n ? s->chunks[i] : NULL;
	lock_release(&s->lock);
	*n_out = n < left ? n : (size_t)left;
	return chunk ? &chunk[off % CHUNK_BYTES / SUMS_SECTOR] : NULL;
}

static int make_locked(struct sums *s, size_t i)
{
	size_t cap = s->cap;
	int err = i < s->n ? 0 : VEC_RESERVE(s->chunks, s->cap, i + 1);

	if (err)
		return err;
	hold(s, (s->cap - cap) * sizeof(*s->chunks));
	while (s->n <= i)
		s->chunks[s->n++] = NULL;
	if (s->chunks[i])
		return 0;
	s->chunks[i] = calloc(CHUNK_SECTORS, sizeof(uint64_t));
	if (!s->chunks[i])
		return -ENOMEM;
	hold(s, CHUNK_HELD_BYTES);
	return 0;
}

int sums_make(struct sums *s, uint64_t off, size_t n)
{
	int err = 0;

	lock_acquire(&s->lock);
	for (size_t i = (size_t)(off / CHUNK_BYTES); i * CHUNK_BYTES < off + n && !err; i++)
		err = make_locked(s, i);
	lock_release(&s->lock);
	return err;
}

static uint64_t sum_of(const unsigned char *sector)
{
	uint64_t sum = XXH3_64bits(sector, SUMS_SECTOR);

	return sum ? sum : 1;
}

void sums_set(struct sums *s, const unsigned char *bytes, size_t n, uint64_t off)
{
	size_t k;

	for (; n; n -= k, bytes += k, off += k) {
		uint64_t *sums = find(s, off, n, &k);

		for (size_t i = 0; i < k / SUMS_SECTOR; i++)
			sums[i] = sum_of(bytes + i * SUMS_SECTOR);
	}
}

void sums_forget(struct sums *s, uint64_t off, uint64_t n)
{
	uint64_t end = off + n;

	lock_acquire(&s->lock);
	for (size_t i = (size_t)(off / CHUNK_BYTES); i < s->n && i * CHUNK_BYTES < end; i++) {
		uint64_t begin = i * CHUNK_BYTES, from = off > begin ? off - begin : 0, to = end - begin;

		if (!from && to >= CHUNK_BYTES) {
			free_chunk(s, i);
		} else if (s->chunks[i]) {
			to = to < CHUNK_BYTES ? to : CHUNK_BYTES;
			memset(&s->chunks[i][from / SUMS_SECTOR], 0, (size_t)((to - from) / SUMS_SECTOR) * sizeof(uint64_t));
		}
	}
	lock_release(&s->lock);
}

bool sums_match(struct sums *s, const unsigned char *bytes, size_t n, uint64_t off)
{
	bool match = true;
	size_t k;

	for (; n && match; n -= k, bytes += k, off += k) {
		const uint64_t *sums = find(s, off, n, &k);

		for (size_t i = 0; sums && i < k / SUMS_SECTOR && match; i++)
			match = !sums[i] || sums[i] == sum_of(bytes + i * SUMS_SECTOR);
	}
	return match;
}
