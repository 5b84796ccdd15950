/*
 * Numbers by chance, all from one seed.
 */
#ifndef SPILLFS_TESTS_HOSTILE_CHANCE_H
#define SPILLFS_TESTS_HOSTILE_CHANCE_H

#include <stdint.h>

#include "unit/unit.h"

struct chance {
	uint64_t state;
};

static inline struct chance chance_of(uint64_t seed)
{
	struct chance c = { seed * 0x9e3779b97f4a7c15ull + 0x632be59bd9b4e019ull };

	c.state += !c.state;
	for (int i = 0; i < 4; i++)
		unit_rand(&c.state);
	return c;
}

static inline uint64_t chance_below(struct chance *c, uint64_t n)
{
	return n ? (unit_rand(&c->state) >> 11) % n : 0;
}

/* A number that somebody has forgotten to check. */
uint64_t chance_evil(struct chance *c);

#endif
