/*
 * array/stream: reads of several requests of one reader, in the order in which threads get to them.
 */
#include <stdlib.h>

#include "array/stream.h"
#include "unit.h"

#define BLOCK_BYTES (128u << 10)
#define NBLOCKS 4096u
#define REQUEST 4u /* blocks of one */

struct reader {
	struct stream s;
	uint64_t window;
	unsigned given[NBLOCKS + 64]; /* how often to be decoded ahead */
	unsigned nblocks, nfollowed, npassed;
};

static void start(struct reader *r)
{
	*r = (struct reader){ .window = stream_window(BLOCK_BYTES) };
	stream_init(&r->s);
}

static void read_block(struct reader *r, uint64_t block)
{
	uint64_t first, end;

	r->nblocks++;
	if (stream_follow(&r->s, block, true, r->window, &first, &end)) {
		r->nfollowed++;
		r->npassed += stream_pass(&r->s, block, r->window);
	}
	CHECK(first <= end && end <= block + 1 + r->window);
	for (; first < end; first++) {
		CHECK(first > block);
		r->given[first]++;
	}
}

UNIT_TEST(stream_of_requests_in_turn)
{
	struct reader r;

	start(&r);
	for (uint64_t b = 0; b < NBLOCKS; b++)
		read_block(&r, b);
	CHECK_EQ(r.nfollowed, NBLOCKS);
	CHECK_EQ(r.npassed, NBLOCKS);
	for (uint64_t b = 1; b < NBLOCKS; b++)
		CHECK_EQ(r.given[b], 1);
	/* The second time nothing is passed, until it comes near the end, where it could be late. */
	r.npassed = 0;
	for (uint64_t b = 0; b < NBLOCKS - r.window - 1; b++)
		read_block(&r, b);
	CHECK_EQ(r.npassed, 0);
}

/* Two requests at work: each step is one block of either; the second one can be at its end when the first begins. */
UNIT_TEST(stream_of_two_requests_at_once)
{
	struct reader r;

	srand(7);
	start(&r);
	for (uint64_t b = 0; b < 4 * REQUEST; b++)
		read_block(&r, b);
	for (uint64_t at = 4 * REQUEST; at < NBLOCKS; at += 2 * REQUEST) {
		uint64_t done[2] = { 0, 0 };

		while (done[0] < REQUEST || done[1] < REQUEST) {
			unsigned k = at % 3 ? (unsigned)rand() % 2 : done[1] < REQUEST;

			if (done[k] < REQUEST)
				read_block(&r, at + k * REQUEST + done[k]++);
		}
	}
	CHECK_EQ(r.nblocks, NBLOCKS);
	CHECK_EQ(r.nfollowed, NBLOCKS);
	CHECK_EQ(r.npassed, NBLOCKS);
	for (uint64_t b = 1; b < NBLOCKS; b++)
		CHECK_EQ(r.given[b], 1);
}

UNIT_TEST(stream_is_not_what_jumps)
{
	struct reader r;

	start(&r);
	for (uint64_t k = 1; k < 100; k++)
		read_block(&r, k * 997 % NBLOCKS);
	for (uint64_t b = NBLOCKS - 3; b > 3; b -= 2)
		read_block(&r, b);
	for (uint64_t b = 3; b < NBLOCKS; b += 3)
		read_block(&r, b);
	CHECK_EQ(r.nfollowed, 0);
	for (uint64_t b = 0; b < NBLOCKS; b++)
		CHECK_EQ(r.given[b], 0);
}

static unsigned blocks_given(const struct reader *r)
{
	unsigned n = 0;

	for (uint64_t b = 0; b < NBLOCKS; b++)
		n += r->given[b];
	return n;
}

/* What was a stream reads on with a stride: blocks that nobody reads are not decoded for long. */
UNIT_TEST(stream_ends_where_a_stride_begins)
{
	for (uint64_t stride = 3; stride <= 20; stride++) {
		struct reader r;
		uint64_t b = 0;

		start(&r);
		for (; b < 100; b++)
			read_block(&r, b);
		for (; b < NBLOCKS; b += stride)
			read_block(&r, b);
		CHECK(blocks_given(&r) < 100 + 4 * r.window);
	}
}

/* A block that is read by parts is one block. */
UNIT_TEST(stream_of_small_reads)
{
	struct reader r;
	uint64_t first, end;

	start(&r);
	for (uint64_t b = 0; b < 8; b++)
		for (unsigned part = 0; part < 32; part++) {
			CHECK(stream_follow(&r.s, b, part == 31, r.window, &first, &end));
			CHECK_EQ(end - first, part ? 0 : 2);
		}
	CHECK_EQ(r.s.credit, 8);
}

UNIT_TEST(stream_window_of_large_blocks)
{
	CHECK_EQ(stream_window(16u << 20), 2);
	CHECK_EQ(stream_window(4096), 512);
}
