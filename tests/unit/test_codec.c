/*
 * block/codec and block/shuffle.
 */
#define ZSTD_STATIC_LINKING_ONLY /* a context's own allocator */

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/codec.h"
#include "block/filter/shuffle.h"
#include "block/frame.h"
#include "unit.h"

static uint64_t rand_state = 1;

static uint64_t below(uint64_t n)
{
	return unit_rand(&rand_state) % n;
}

/* Neither all alike nor all random. */
static void fill(uint8_t *p, size_t n)
{
	uint64_t kind = below(3);

	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(kind == 0 ? below(256) : kind == 1 ? i / 9 : below(4));
}

static void naive_shuffle(const uint8_t *in, uint8_t *out, size_t n, size_t e)
{
	size_t nelems = n / e;

	for (size_t i = 0; i < n; i++)
		out[i < nelems * e ? i % e * nelems + i / e : i] = in[i];
}

UNIT_TEST(shuffle_equals_its_definition) /* shuffle (1) (2) */
{
	size_t max = 1200;
	uint8_t *in = unit_allot(max), *want = unit_allot(max);

	fill(in, max);
	for (uint32_t e = 1; e <= 17; e++) {
		for (size_t n = 0; n <= max; n += n < 600 ? 1 : 37) {
			uint8_t *out = unit_allot(n), *back = unit_allot(n);

			naive_shuffle(in, want, n, e);
			shuffle_apply(in, out, n, e);
			CHECK(!memcmp(out, want, n));
			shuffle_undo(out, back, n, e);
			CHECK(!memcmp(back, in, n));
			free(out);
			free(back);
		}
	}
	free(in);
	free(want);
}

static void round_trip(const struct codec_params *p, const uint8_t *raw, size_t n, struct codec_hint *hint)
{
	size_t cap = codec_bound(n), len = 0;
	uint8_t *frame = unit_allot(cap), *back = unit_allot(n);
	struct filter filter = { 0 };

	CHECK_OK(codec_encode(p, raw, n, frame, cap, hint, &len, &filter));
	CHECK(len <= cap);
	if (p->policy == CODEC_POLICY_NONE || p->elem_bytes < (p->policy == CODEC_POLICY_AUTO ? 1 : 2) || p->elem_bytes > 16)
		CHECK_EQ(filter.steps, FILTER_NONE);
	else if (p->policy == CODEC_POLICY_SHUFFLE)
		CHECK_EQ(filter.steps, FILTER_SHUFFLE);
	CHECK_OK(codec_decode(frame, len, &filter, back, n));
	CHECK(!memcmp(back, raw, n));
	free(frame);
	free(back);
}

UNIT_TEST(codec_round_trips) /* (1) (2) */
{
	static const int levels[] = { 0, 1, 3 };
	size_t max = 70000;
	uint8_t *raw = unit_allot(max);
	struct codec_hint hint = CODEC_HINT_NONE;

	for (uint32_t e = 0; e <= 17; e++) {
		for (size_t n = 1; n <= max; n += n < 40 ? 1 : 1 + below(n < 1000 ? 60 : 6000)) {
			struct codec_params p = { levels[below(3)], (int)below(3) - 1, e, SUMMARY_NONE, { 0 } };

			fill(raw, n);
			round_trip(&p, raw, n, &hint);
		}
	}
	for (int level = CODEC_LEVEL_MIN; level <= CODEC_LEVEL_MAX; level++) {
		struct codec_params p = { level, CODEC_POLICY_AUTO, 8, SUMMARY_NONE, { 0 } };

		fill(raw, 20000);
		round_trip(&p, raw, 20000, &hint);
	}
	free(raw);
}

static void corruption(const struct codec_params *p, size_t n)
{
	uint8_t *raw = unit_allot(n), *back = unit_allot(n), *frame = unit_allot(codec_bound(n));
	struct filter filter;
	struct codec_hint hint = CODEC_HINT_NONE;
	size_t len;

	for (size_t i = 0; i < n; i++)
		raw[i] = (uint8_t)(i % 13 * (i / 20));
	CHECK_OK(codec_encode(p, raw, n, frame, codec_bound(n), &hint, &len, &filter));
	for (size_t i = 0; i < len; i++) {
		for (int flip = 1; flip < 256; flip++) {
			int err;

			frame[i] ^= (uint8_t)flip;
			err = codec_decode(frame, len, &filter, back, n);
			CHECK(err == -EUCLEAN || (!err && !memcmp(raw, back, n)));
			frame[i] ^= (uint8_t)flip;
		}
	}
	for (size_t short_len = 0; short_len < len; short_len++) {
		uint8_t *cut = unit_allot(short_len);

		memcpy(cut, frame, short_len);
		CHECK_EQ(codec_decode(cut, short_len, &filter, back, n), -EUCLEAN);
		free(cut);
	}
	free(raw);
	free(back);
	free(frame);
}

UNIT_TEST(codec_rejects_damage) /* (3) */
{
	corruption(&(struct codec_params){ 0, CODEC_POLICY_NONE, 1, SUMMARY_NONE, { 0 } }, 150);
	corruption(&(struct codec_params){ 3, CODEC_POLICY_NONE, 1, SUMMARY_NONE, { 0 } }, 300);
	corruption(&(struct codec_params){ 3, CODEC_POLICY_SHUFFLE, 8, SUMMARY_NONE, { 0 } }, 403);
	corruption(&(struct codec_params){ 19, CODEC_POLICY_NONE, 1, SUMMARY_NONE, { 0 } }, 77);
}

UNIT_TEST(codec_takes_exactly_one_frame) /* (2) */
{
	/* "AAAAAAAA" without checksum, as zstd --no-check writes it. */
	static const uint8_t plain[] = { 0x28, 0xb5, 0x2f, 0xfd, 0x20, 8,   0x41, 0,  0,
					 'A',  'A',  'A',  'A',  'A',  'A', 'A',  'A' };
	struct codec_params p = { 3, CODEC_POLICY_NONE, 1, SUMMARY_NONE, { 0 } };
	_Alignas(8) uint8_t raw[1000] = "many bytes", back[2000], frame[4000];
	uint8_t skip[8] = { 0x53, 0x2a, 0x4d, 0x18 };
	size_t cap = codec_bound(sizeof(raw)), len;
	struct filter filter;
	struct codec_hint hint = CODEC_HINT_NONE;

	CHECK(cap + 100 < sizeof(frame));
	CHECK_OK(codec_encode(&p, raw, sizeof(raw), frame, cap, &hint, &len, &filter));
	CHECK_EQ(codec_decode(frame, len, &(struct filter){ .steps = 0, .elem_bytes = 1 }, back, sizeof(raw) + 1), -EUCLEAN);
	CHECK_EQ(codec_decode(frame, len, &(struct filter){ .steps = 0, .elem_bytes = 1 }, back, sizeof(raw) - 1), -EUCLEAN);
	frame[len] = 0;
	CHECK_EQ(codec_decode(frame, len + 1, &(struct filter){ .steps = 0, .elem_bytes = 1 }, back, sizeof(raw)), -EUCLEAN);
	memcpy(frame + len, skip, sizeof(skip));
	CHECK_EQ(codec_decode(frame, len + sizeof(skip), &(struct filter){ .steps = 0, .elem_bytes = 1 }, back, sizeof(raw)), -EUCLEAN);
	CHECK_EQ(codec_decode(skip, sizeof(skip), &(struct filter){ .steps = 0, .elem_bytes = 1 }, back, 0), -EUCLEAN);
	CHECK_EQ(codec_decode(plain, sizeof(plain), &(struct filter){ .steps = 0, .elem_bytes = 1 }, back, 8), -EUCLEAN);
	CHECK_EQ(codec_decode(frame, len, &(struct filter){ .steps = FILTER_SHUFFLE | FILTER_PACK, .elem_bytes = 8 }, back, sizeof(raw)), -EUCLEAN);
	CHECK_EQ(codec_decode(frame, len, &(struct filter){ .steps = 32, .elem_bytes = 8 }, back, sizeof(raw)), -EUCLEAN);
	CHECK_EQ(codec_decode(frame, len, &(struct filter){ .steps = FILTER_SHUFFLE, .elem_bytes = 1 }, back, sizeof(raw)), -EUCLEAN);
	CHECK_EQ(codec_decode(frame, len, &(struct filter){ .steps = FILTER_SHUFFLE, .elem_bytes = 17 }, back, sizeof(raw)), -EUCLEAN);
	CHECK_OK(codec_decode(frame, len, &(struct filter){ .steps = 0, .elem_bytes = 0 }, back, sizeof(raw)));
}

#define NVALUES 32768

static void prices(double *v, size_t n)
{
	double at = 100;

	for (size_t i = 0; i < n; i++) {
		at += (double)(int64_t)(below(2001) - 1000) / 1000.0;
		v[i] = round(at * 100) / 100;
	}
}

static void measurements(double *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		v[i] = 1000 + sin((double)i / 500) * 10 + (double)below(1u << 30) / (1u << 30);
}

static uint8_t chosen(const struct codec_params *p, const double *v, struct codec_hint *hint,
				size_t *len)
{
	size_t n = NVALUES * sizeof(*v), cap = codec_bound(n);
	uint8_t *frame = unit_allot(cap);
	struct filter filter;

	CHECK_OK(codec_encode(p, v, n, frame, cap, hint, len, &filter));
	free(frame);
	return filter.steps;
}

UNIT_TEST(codec_auto_finds_the_better_filter)
{
	static const int levels[] = { 1, 3, 9 };
	double *v = unit_allot(NVALUES * sizeof(*v));

	for (int round = 0; round < 6; round++) {
		struct codec_params p = { levels[round % 3], CODEC_POLICY_AUTO, 8, SUMMARY_NONE, { 0 } };
		struct codec_params plain = p, shuffled = p;
		bool wants_shuffle = round >= 3;
		size_t len, plain_len, shuffled_len;
		struct codec_hint hint = CODEC_HINT_NONE;

		plain.policy = CODEC_POLICY_NONE;
		shuffled.policy = CODEC_POLICY_SHUFFLE;
		if (wants_shuffle)
			measurements(v, NVALUES);
		else
			prices(v, NVALUES);
		chosen(&plain, v, &hint, &plain_len);
		chosen(&shuffled, v, &hint, &shuffled_len);
		CHECK_EQ(shuffled_len < plain_len, wants_shuffle);
		CHECK_EQ(chosen(&p, v, &hint, &len), wants_shuffle);
		CHECK_EQ(len, wants_shuffle ? shuffled_len : plain_len);
	}
	free(v);
}

UNIT_TEST(codec_auto_samples_every_16th_block)
{
	struct codec_params p = { 3, CODEC_POLICY_AUTO, 8, SUMMARY_NONE, { 0 } };
	double *good = unit_allot(NVALUES * sizeof(*good)), *bad = unit_allot(NVALUES * sizeof(*bad));
	struct codec_hint hint = CODEC_HINT_NONE;
	size_t len;

	measurements(good, NVALUES);
	prices(bad, NVALUES);
	CHECK_EQ(chosen(&p, good, &hint, &len), FILTER_SHUFFLE);
	for (int i = 1; i < 16; i++)
		CHECK_EQ(chosen(&p, bad, &hint, &len), FILTER_SHUFFLE);
	for (int i = 0; i < 16; i++)
		CHECK_EQ(chosen(&p, i ? good : bad, &hint, &len), FILTER_NONE);
	CHECK_EQ(chosen(&p, good, &hint, &len), FILTER_SHUFFLE);
	free(good);
	free(bad);
}

#define BLOCK_BYTES (256u << 10)

static uint8_t *noise(size_t n)
{
	uint8_t *p = unit_allot(n);

	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)below(256);
	return p;
}

/* The stored bytes of blocks that follow each other in one array; each decodes to itself. */
static size_t stored_in_turn(uint8_t *const *blocks, size_t nblocks, struct codec_hint *hint)
{
	struct codec_params p = { .level = 3, .policy = CODEC_POLICY_AUTO, .elem_bytes = 1 };
	size_t cap = codec_bound(BLOCK_BYTES), sum = 0;
	uint8_t *frame = unit_allot(cap), *back = unit_allot(BLOCK_BYTES);

	for (size_t i = 0; i < nblocks; i++) {
		struct filter filter;
		size_t len = 0;

		CHECK_OK(codec_encode(&p, blocks[i], BLOCK_BYTES, frame, cap, hint, &len, &filter));
		CHECK(len <= BLOCK_BYTES + 32);
		CHECK_OK(codec_decode(frame, len, &filter, back, BLOCK_BYTES));
		CHECK(!memcmp(back, blocks[i], BLOCK_BYTES));
		sum += len;
	}
	free(frame);
	free(back);
	return sum;
}

UNIT_TEST(codec_noise_does_not_hide_what_shrinks) /* (5) */
{
	uint8_t *random = noise(BLOCK_BYTES), *some = noise(BLOCK_BYTES), *repeats = noise(BLOCK_BYTES);
	uint8_t *turn[8] = { random, random, random, some, random, random, some, random };
	uint8_t *twice[32];
	struct codec_hint hint = CODEC_HINT_NONE, fresh;

	for (size_t i = 0; i < BLOCK_BYTES / 4; i++) /* a sixteenth is text, in each part of the block */
		some[i * 4] = i / 1024 % 4 ? some[i * 4] : 'a';
	memcpy(repeats + BLOCK_BYTES / 2, repeats, BLOCK_BYTES / 2); /* flat, and half of it is a match */
	for (size_t i = 0; i < 32; i++)
		twice[i] = repeats;
	stored_in_turn(turn, 8, &hint);
	for (size_t i = 0; i < 8; i++) {
		size_t alone;

		fresh = CODEC_HINT_NONE;
		alone = stored_in_turn(&turn[i], 1, &fresh);
		CHECK(stored_in_turn(&turn[i], 1, &hint) <= alone + alone / 100);
	}
	/* Blocks that look like noise are tried again, and from then on all of them. */
	CHECK(stored_in_turn(twice, 32, &hint) < 24ull * BLOCK_BYTES);
	CHECK(stored_in_turn(twice, 4, &hint) < 3ull * BLOCK_BYTES);
	free(random);
	free(some);
	free(repeats);
}

/* What the stock program makes of the frame equals raw. */
static bool stock_zstd_reads(const uint8_t *frame, size_t len, const uint8_t *raw, size_t n)
{
	char path[400], command[500];
	uint8_t *back = unit_allot(n + 1);
	bool same;
	FILE *f;

	snprintf(path, sizeof(path), "%s/frame.zst", unit_tmpdir());
	f = fopen(path, "wb");
	CHECK(f && fwrite(frame, 1, len, f) == len && !fclose(f));
	snprintf(command, sizeof(command), "zstd -q -dc '%s'", path);
	f = popen(command, "r");
	CHECK(f);
	same = fread(back, 1, n + 1, f) == n && !memcmp(back, raw, n);
	same &= !pclose(f);
	free(back);
	return same;
}

UNIT_TEST(codec_frames_are_stock_zstd) /* (1) */
{
	static const size_t sizes[] = {
		1, 255, 256, 65791, 131071, 131072, 131073, 262144, 1000003
	};
	uint8_t *raw = unit_allot(1000003), *frame = unit_allot(codec_bound(1000003));

	if (system("zstd --version >/dev/null 2>&1")) {
		free(raw);
		free(frame);
		return;
	}
	fill(raw, 1000003);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		for (int level = 0; level <= 3; level += 3) {
			struct codec_params p = { level, CODEC_POLICY_NONE, 1, SUMMARY_NONE, { 0 } };
			struct filter filter;
			struct codec_hint hint = CODEC_HINT_NONE;
			size_t len;

			CHECK_OK(codec_encode(&p, raw, sizes[i], frame, codec_bound(sizes[i]),
					      &hint, &len, &filter));
			CHECK(stock_zstd_reads(frame, len, raw, sizes[i]));
		}
	}
	free(raw);
	free(frame);
}

static void *thread_round_trips(void *arg)
{
	struct codec_params p = { 1, CODEC_POLICY_AUTO, 4, SUMMARY_NONE, { 0 } };
	uint64_t state = (uint64_t)(uintptr_t)arg;
	uint8_t raw[5000];
	struct codec_hint hint = CODEC_HINT_NONE;

	for (int i = 0; i < 50; i++) {
		unit_rand_fill(&state, raw, sizeof(raw) / 2);
		memset(raw + sizeof(raw) / 2, i, sizeof(raw) / 2);
		round_trip(&p, raw, 1 + unit_rand(&state) % sizeof(raw), &hint);
	}
	return NULL;
}

UNIT_TEST(codec_contexts_are_per_thread) /* (4) */
{
	pthread_t t[8];

	for (uintptr_t i = 0; i < 8; i++)
		CHECK_OK(pthread_create(&t[i], NULL, thread_round_trips, (void *)(i + 1)));
	for (int i = 0; i < 8; i++)
		CHECK_OK(pthread_join(t[i], NULL));
	thread_round_trips((void *)9);
}

/* A context's memory, of which so many pieces are left. */
static void *take_piece(void *left, size_t n)
{
	return *(unsigned *)left ? --*(unsigned *)left, malloc(n) : NULL;
}

static void free_piece(void *left, void *p)
{
	(void)left;
	free(p);
}

UNIT_TEST(frame_without_memory_for_zstd)
{
	size_t parts[2] = { 50000, 50000 }, n = 100000, cap = frame_bound(n), len;
	uint8_t *raw = unit_allot(n), *frame = unit_allot(cap);
	unsigned left = 1;
	ZSTD_CCtx *c;

	fill(raw, n);
	c = ZSTD_createCCtx_advanced((ZSTD_customMem){ take_piece, free_piece, &left });
	CHECK(c);
	CHECK_EQ(frame_compress(c, 3, raw, n, frame, cap, &len), -ENOMEM);
	CHECK_EQ(frame_compress_parts(c, 3, raw, parts, 2, n, frame, cap, &len), -ENOMEM);
	left = UINT_MAX;
	CHECK_OK(frame_compress(c, 3, raw, n, frame, cap, &len));
	CHECK_OK(frame_compress_parts(c, 3, raw, parts, 2, n, frame, cap, &len));
	ZSTD_freeCCtx(c);
	free(raw);
	free(frame);
}
