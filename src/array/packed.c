/*
 * The part of a bucket that is stored compressed.
 *
 * Invariant: saved_bytes is what it was at the count, less what has been written or cut since. The next count, which io_packings asks for,
 * knows what was packed since.
 */
#include "array/packed.h"

#include "block/extent.h"
#include "block/pool.h"
#include "io/io.h"

uint64_t packed_of(struct pool *p, const struct extent *e, bool touched)
{
	return io_saved(pool_file(p, e->file), e->phys_bytes, e->len_bytes, touched);
}

uint64_t packed_count(struct pool *p, const struct extent_map *m)
{
	uint64_t saved = 0;

	for (size_t i = 0; i < m->n; i++)
		saved += packed_of(p, &m->v[i], false);
	return saved;
}

uint64_t packed_between(struct pool *p, const struct extent_map *m, uint64_t off, uint64_t end)
{
	uint64_t bytes = 0;

	for (size_t i = extent_map_find(m, off); i < m->n && m->v[i].off_bytes < end; i++) {
		struct extent e = m->v[i];
		uint64_t from = off > e.off_bytes ? off : e.off_bytes, to = e.off_bytes + e.len_bytes < end ? e.off_bytes + e.len_bytes : end;

		e.phys_bytes += from - e.off_bytes;
		e.len_bytes = to - from;
		bytes += packed_of(p, &e, true);
	}
	return bytes;
}

uint64_t packed_stored(const struct packed *k, uint64_t mapped_bytes)
{
	uint64_t saved = atomic_load(&k->saved_bytes);

	return saved < mapped_bytes ? mapped_bytes - saved : 0;
}

void packed_less(struct packed *k, uint64_t bytes)
{
	uint64_t saved = atomic_load(&k->saved_bytes);

	atomic_store(&k->saved_bytes, saved - (bytes < saved ? bytes : saved));
}

bool packed_set(struct packed *k, uint64_t packings, uint64_t saved_bytes)
{
	if (packings <= atomic_load(&k->packings))
		return false;
	atomic_store(&k->packings, packings);
	atomic_store(&k->saved_bytes, saved_bytes);
	return true;
}
