/*
 * io/behind: what is dropped behind readers and writers.
 */
#include "io/behind.h"
#include "unit.h"

#define MIB (1ull << 20)
#define READ_BYTES (128u << 10)

#define NPARTS (2048 * MIB / READ_BYTES)

/* The parts of READ_BYTES that were dropped. */
struct dropped {
	bool part[NPARTS];
	uint64_t bytes;
	unsigned ndrops;
};

static void note(struct dropped *d, struct behind_range r)
{
	d->ndrops += r.to > r.from;
	for (uint64_t k = r.from / READ_BYTES; k < r.to / READ_BYTES; k++) {
		d->bytes += d->part[k] ? 0 : READ_BYTES;
		d->part[k] = true;
	}
}

static void pass(struct behind *b, uint64_t from, uint64_t to, uint64_t end, struct dropped *d)
{
	for (uint64_t off = from; off < to; off += READ_BYTES) {
		struct behind_range r = behind_read(b, off, READ_BYTES, end);

		CHECK(r.from % 4096 == 0 && r.to % 4096 == 0);
		note(d, r);
	}
}

UNIT_TEST(behind_drops_what_is_read_in_order)
{
	struct behind b;
	struct dropped d = { 0 };

	behind_init(&b);
	pass(&b, 0, 64 * MIB, UINT64_MAX, &d);
	CHECK(d.bytes >= 64 * MIB - BEHIND_STEP_BYTES - BEHIND_MARGIN_BYTES && d.bytes < 64 * MIB);
	CHECK(d.ndrops <= 64 * MIB / BEHIND_STEP_BYTES);
	behind_fini(&b);
}

UNIT_TEST(behind_drops_all_at_the_end_of_the_file)
{
	struct behind b;
	struct dropped d = { 0 };

	behind_init(&b);
	pass(&b, 0, 3 * MIB, 3 * MIB, &d);
	CHECK_EQ(d.bytes, 3 * MIB);
	CHECK_EQ(d.ndrops, 1);
	behind_fini(&b);
}

UNIT_TEST(behind_drops_nothing_of_random_reads)
{
	struct behind b;
	struct behind_range r;

	behind_init(&b);
	for (uint64_t i = 0; i < 10000; i++) {
		r = behind_read(&b, i * 2654435761u % (1u << 30) / 4096 * 4096, 4096, UINT64_MAX);
		CHECK(r.from >= r.to);
	}
	behind_fini(&b);
}

/* Pages of a map, each with its surroundings. */
UNIT_TEST(behind_drops_nothing_of_long_random_reads)
{
	struct behind b;
	struct behind_range r;

	behind_init(&b);
	for (uint64_t i = 0; i < 100; i++) {
		r = behind_read(&b, i * 2654435761u % (64u << 20) / 4096 * 4096, 64u << 10, 64 * MIB);
		CHECK(r.from >= r.to);
	}
	behind_fini(&b);
}

/* As several threads get to what the kernel has read ahead for one. */
UNIT_TEST(behind_follows_requests_that_overtake_each_other)
{
	static const unsigned order[] = { 2, 0, 3, 1 };
	struct dropped d = { 0 };
	struct behind b;

	behind_init(&b);
	for (uint64_t i = 0; i < 512; i++)
		note(&d, behind_read(&b, (i / 4 * 4 + order[i % 4]) * READ_BYTES, READ_BYTES, UINT64_MAX));
	CHECK(d.bytes >= 64 * MIB - BEHIND_STEP_BYTES - BEHIND_MARGIN_BYTES - MIB);
	behind_fini(&b);
}

/* A thread is far behind the others, and comes. */
UNIT_TEST(behind_joins_what_a_late_request_has_split)
{
	struct dropped d = { 0 };
	struct behind b;

	behind_init(&b);
	pass(&b, 0, 8 * MIB, UINT64_MAX, &d);
	pass(&b, 16 * MIB, 20 * MIB, UINT64_MAX, &d);
	pass(&b, 8 * MIB, 16 * MIB, UINT64_MAX, &d);
	pass(&b, 20 * MIB, 32 * MIB, UINT64_MAX, &d);
	CHECK(d.bytes >= 32 * MIB - BEHIND_STEP_BYTES - BEHIND_MARGIN_BYTES);
	behind_fini(&b);
}

/* A merge of more runs than there are streams: what a stream has read is dropped when it gives way to another. */
UNIT_TEST(behind_ends_the_stream_that_waits_longest)
{
	const unsigned nruns = 3 * BEHIND_STREAMS, nturns = 8;
	struct dropped d = { 0 };
	struct behind b;

	behind_init(&b);
	for (unsigned turn = 0; turn < nturns; turn++)
		for (unsigned run = 0; run < nruns; run++)
			pass(&b, run * 64 * MIB + turn * MIB, run * 64 * MIB + (turn + 1) * MIB, UINT64_MAX, &d);
	CHECK(d.bytes >= (nturns * nruns - BEHIND_STREAMS) * MIB);
	behind_fini(&b);
}

/* The one range that a sync lets go of; an empty one if there is none. */
static struct behind_range syncs(struct behind *b)
{
	struct behind_range all[BEHIND_WRITERS], r = { 0 };

	behind_syncs(b, all);
	for (unsigned i = 0; i < BEHIND_WRITERS; i++) {
		if (all[i].from >= all[i].to)
			continue;
		CHECK_EQ(r.to, 0);
		r = all[i];
	}
	return r;
}

UNIT_TEST(behind_writers_drops_what_a_sync_has_written)
{
	struct behind_range r, start;
	struct behind b;

	behind_init(&b);
	r = behind_wrote(&b, 100, 1000, &start);
	CHECK(r.from >= r.to && start.from >= start.to);
	r = syncs(&b);
	CHECK(r.from >= r.to); /* too little */
	for (uint64_t off = 8 * MIB; off < 12 * MIB; off += 4096) {
		r = behind_wrote(&b, off, 4096, &start);
		CHECK(r.from >= r.to && start.from >= start.to); /* short ones */
	}
	r = syncs(&b);
	CHECK_EQ(r.from, 8 * MIB);
	CHECK_EQ(r.to, 12 * MIB);
	r = syncs(&b);
	CHECK(r.from >= r.to);
	behind_fini(&b);
}

UNIT_TEST(behind_writers_drops_what_it_has_had_written)
{
	struct behind_range r, start;
	struct behind b;
	struct dropped d = { 0 };
	uint64_t started = 0;

	behind_init(&b);
	for (uint64_t off = 0; off < 64 * MIB; off += READ_BYTES) {
		r = behind_wrote(&b, off, READ_BYTES, &start);
		note(&d, r);
		if (start.to > start.from) {
			CHECK_EQ(start.from, started);
			started = start.to;
			CHECK(r.to <= start.from);
		}
	}
	CHECK_EQ(started, 64 * MIB);
	CHECK_EQ(d.bytes, 64 * MIB - BEHIND_STEP_BYTES);
	behind_fini(&b);
}

#define APART_BYTES (128 * MIB)

/* Writers in turn, far from each other in one file: what lies between them stays. Returns how often the kernel is told to write. */
static unsigned write_in_turn(struct behind *b, unsigned nwriters, uint64_t bytes, struct dropped *d)
{
	struct behind_range all[BEHIND_WRITERS], start;
	unsigned nstarts = 0;

	for (uint64_t off = 0; off < bytes; off += READ_BYTES) {
		for (unsigned k = 0; k < nwriters; k++) {
			note(d, behind_wrote(b, (1 + k) * APART_BYTES + off, READ_BYTES, &start));
			nstarts += start.to > start.from;
			CHECK(start.to <= start.from || start.to - start.from <= 2 * BEHIND_STEP_BYTES);
		}
	}
	behind_syncs(b, all);
	for (unsigned i = 0; i < BEHIND_WRITERS; i++)
		note(d, all[i]);
	return nstarts;
}

UNIT_TEST(behind_writers_leaves_what_is_between_two_of_them)
{
	struct dropped d = { 0 };
	struct behind b;

	behind_init(&b);
	CHECK_EQ(write_in_turn(&b, BEHIND_WRITERS, 32 * MIB, &d), BEHIND_WRITERS * 32 * MIB / BEHIND_STEP_BYTES);
	for (unsigned k = 0; k < BEHIND_WRITERS; k++)
		for (uint64_t off = 0; off < 32 * MIB; off += READ_BYTES)
			CHECK(d.part[((1 + k) * APART_BYTES + off) / READ_BYTES]);
	/* Up to BEHIND_AGAIN_BYTES before a range are dropped once more. */
	CHECK(d.bytes <= BEHIND_WRITERS * (32 * MIB + BEHIND_AGAIN_BYTES));
	behind_fini(&b);
}

UNIT_TEST(behind_writers_leaves_the_smallest_range_of_too_many)
{
	struct dropped d = { 0 };
	struct behind b;

	behind_init(&b);
	CHECK(write_in_turn(&b, BEHIND_WRITERS + 2, 8 * MIB, &d) >= BEHIND_WRITERS / 2);
	CHECK(d.bytes <= (BEHIND_WRITERS + 2) * (8 * MIB + BEHIND_AGAIN_BYTES));
	behind_fini(&b);
}
