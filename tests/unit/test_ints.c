/*
 * block/filter/ints.c: all processors get the same bits. The functions without vectors of their own are compiled here once more, beside those
 * that this machine uses.
 */
#include <stdlib.h>
#include <string.h>

#include "unit.h"

#define SPILLFS_NO_SIMD 1
#define ints_of ints_of_portable
#include "block/filter/ints.c"
#undef ints_of

const struct ints *ints_of(uint32_t int_bytes);

static uint64_t rand_state = 1;

/* Integers that need about so many bits; of all bits, of few, and single large ones. */
static void fill(uint64_t *v, uint32_t w)
{
	unsigned bits = (unsigned)(unit_rand(&rand_state) % (8 * w + 1)), sort = (unsigned)(unit_rand(&rand_state) % 3);
	uint64_t at = unit_rand(&rand_state);

	for (size_t i = 0; i < FILTER_GROUP; i++) {
		uint64_t x = bits ? unit_rand(&rand_state) >> (64 - bits) : 0;

		x = sort == 0 ? x : sort == 1 ? at + x : unit_rand(&rand_state) % 97 ? at : x;
		memcpy((uint8_t *)v + i * w, &x, w);
	}
}

/* Both ways do the same to a group, and leave the same behind it. */
struct both {
	uint64_t v[2][FILTER_GROUP], out[2][FILTER_GROUP + 64];
};

static void check_same(const struct both *b)
{
	CHECK(!memcmp(b->v[0], b->v[1], sizeof(b->v[0])));
	CHECK(!memcmp(b->out[0], b->out[1], sizeof(b->out[0])));
}

static void again(struct both *b, const uint64_t *v)
{
	memcpy(b->v[0], v, sizeof(b->v[0]));
	memcpy(b->v[1], v, sizeof(b->v[1]));
	memset(b->out, 0xa5, sizeof(b->out));
}

static void compare_steps(const struct ints *const k[2], struct both *b, const uint64_t *v)
{
	size_t n = unit_rand(&rand_state) % 2 ? FILTER_GROUP : unit_rand(&rand_state) % FILTER_GROUP;
	uint64_t start = unit_rand(&rand_state), before[2] = { start, start };

	again(b, v);
	for (int i = 0; i < 2; i++)
		k[i]->delta(b->v[i], n, &before[i]);
	CHECK(before[0] == before[1]);
	check_same(b);
	before[0] = before[1] = start;
	for (int i = 0; i < 2; i++)
		k[i]->undelta(b->v[i], n, &before[i]);
	CHECK(before[0] == before[1] && !memcmp(b->v[0], v, sizeof(b->v[0])));
	check_same(b);
	for (int i = 0; i < 2; i++)
		k[i]->zigzag(b->v[i]);
	check_same(b);
	for (int i = 0; i < 2; i++)
		k[i]->unzigzag(b->v[i]);
	check_same(b);
}

static void compare_packs(const struct ints *const k[2], struct both *b, const uint64_t *v, uint32_t w)
{
	uint64_t least[2];
	unsigned bits[2];

	again(b, v);
	for (int i = 0; i < 2; i++) {
		bits[i] = k[i]->measure(b->v[i], &least[i]);
		k[i]->pack(b->v[i], least[i], bits[i], b->out[i]);
	}
	CHECK(bits[0] == bits[1] && least[0] == least[1]);
	check_same(b);
	for (int i = 0; i < 2; i++)
		k[i]->unpack(b->out[i], least[i], bits[i], b->v[i]);
	check_same(b);
	CHECK(!memcmp(b->v[0], v, FILTER_GROUP * w));
}

static void compare_conversions(const struct ints *const k[2], struct both *b, const uint64_t *v, uint32_t w)
{
	static const double divisors[] = { 1, 10, 100, 1e6, 1e18 };
	double divisor = divisors[unit_rand(&rand_state) % 5];

	again(b, v);
	for (int i = 0; i < 2; i++)
		k[i]->to_f64(b->v[i], divisor, b->out[i]);
	check_same(b);
	for (int i = 0; i < 2 && w <= 4; i++)
		k[i]->to_f32(b->v[i], divisor, b->out[i]);
	check_same(b);
	for (int i = 0; i < 2; i++)
		k[i]->narrow8(b->v[i], b->out[i]);
	check_same(b);
	for (int i = 0; i < 2 && w <= 4; i++)
		k[i]->narrow4(b->v[i], b->out[i]);
	check_same(b);
}

UNIT_TEST(ints_are_the_same_for_all_processors) /* (3) */
{
	struct both *b = unit_allot(sizeof(*b));
	uint64_t *v = unit_allot(FILTER_GROUP * sizeof(*v));

	memset(v, 0, FILTER_GROUP * sizeof(*v));
	for (uint32_t w = 1; w <= 8; w *= 2) {
		const struct ints *const k[2] = { ints_of(w), ints_of_portable(w) };

		for (int round = 0; round < 300; round++) {
			fill(v, w);
			compare_steps(k, b, v);
			compare_packs(k, b, v, w);
			compare_conversions(k, b, v, w);
		}
	}
	free(b);
	free(v);
}
