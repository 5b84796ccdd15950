/*
 * Random numbers of fsops.c and fsshared.c: the same ones from the same seed (splitmix64, Steele, Lea, Flood: OOPSLA 2014).
 */
#ifndef SPILLFS_TESTS_FSRANDOM_H
#define SPILLFS_TESTS_FSRANDOM_H

#include <stdint.h>

static uint64_t rng_state;

static inline uint64_t mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

/* Below n. */
static inline uint64_t rnd(uint64_t n)
{
	rng_state += 0x9e3779b97f4a7c15ull;
	return mix(rng_state) % n;
}

#endif
