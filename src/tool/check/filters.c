/*
 * Filters that only a later version of spillfs knows.
 *
 * Invariant: such a block is no damage. It is told of, and a repair leaves it: the version that made it reads it.
 */
#include <inttypes.h>

#include "block/filter.h"
#include "tool/check/log.h"

static void look_at_record(struct check *c, const struct index_record *r)
{
	const struct layer_block *first = NULL;
	uint64_t more = 0;

	for (size_t k = 0; k < r->nblocks; k++) {
		const struct layer_block *b = &r->blocks[k];

		if (!b->frame_off || filter_known(b->filter))
			continue;
		more += first != NULL;
		first = first ? first : b;
	}
	if (first && more)
		check_found(c, "%s: block %" PRIu64 " and %" PRIu64 " more cannot be read by this version of spillfs: filter %u is of a later one",
			    check_who(c, (int64_t)r->facts.ino), first->block, more, first->filter);
	else if (first)
		check_found(c, "%s: block %" PRIu64 " cannot be read by this version of spillfs: filter %u is of a later one",
			    check_who(c, (int64_t)r->facts.ino), first->block, first->filter);
}

int check_pass_filters(struct check *c)
{
	const struct index *ix = &c->log->now;

	for (size_t i = 0; c->log->known && i < ix->n; i++)
		look_at_record(c, ix->v[i]);
	return 0;
}
