/*
 * Fuzz target: byte 0 is the filter, byte 1 the element size, bytes 2 and 3 the decoded size; the
 * rest is decoded as a frame, undone as what a filter has made, and encoded and decoded as a block of each type.
 */
#include "block/codec.h"
#include "fuzz.h"

static void decode(const uint8_t *data, size_t size)
{
	size_t n = data[2] | (size_t)data[3] << 8;
	uint8_t *out = malloc(n + 1), *frame = fuzz_copy(data + 4, size - 4);

	CHECK(out);
	codec_decode(frame, size - 4, data[0], data[1], out, n);
	free(out);
	free(frame);
}

static void round_trip(const uint8_t *data, size_t size, enum summary_type type)
{
	static const int8_t levels[] = { CODEC_LEVEL_PACK, 0, 1, 2, 3, CODEC_LEVEL_MIN, -1 };
	struct codec_params p = { levels[data[2] % sizeof(levels)], data[0] % 33 - 1, data[1], type };
	size_t n = size - 4, cap = codec_bound(n), len;
	uint8_t *raw = fuzz_copy(data + 4, n), *frame = malloc(cap), *back = malloc(n);
	struct filter filter;
	int hint = -1;

	CHECK(frame && back);
	CHECK_OK(codec_encode(&p, raw, n, frame, cap, &hint, &len, &filter));
	CHECK_OK(codec_decode(frame, len, filter.steps, filter.elem_bytes, back, n));
	CHECK(!memcmp(back, raw, n));
	free(raw);
	free(frame);
	free(back);
}

static void undo(const uint8_t *data, size_t size)
{
	size_t n = size - 4;
	uint8_t *in = fuzz_copy(data + 4, n), *out = malloc(n);

	CHECK(out);
	filter_undo(data[0], data[1], in, n, out);
	free(in);
	free(out);
}

/* Each filter refuses the block or gives it back. */
static void apply(const uint8_t *data, size_t size)
{
	size_t n = size - 4, used;
	uint8_t *raw = fuzz_copy(data + 4, n), *scratch = malloc(n), *filtered = malloc(n), *back = malloc(n);

	CHECK(scratch && filtered && back);
	for (unsigned steps = 1; steps < 32; steps++) {
		struct filter f = { .steps = (uint8_t)steps, .elem_bytes = data[1], .exponent = data[2] % 19 };

		if (!filter_fits(steps, f.elem_bytes) || filter_apply(&f, raw, n, scratch, filtered, &used))
			continue;
		CHECK(used <= n);
		CHECK_OK(filter_undo(steps, f.elem_bytes, filtered, n, back));
		CHECK(!memcmp(raw, back, n));
	}
	free(raw);
	free(scratch);
	free(filtered);
	free(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 5)
		return 0;
	decode(data, size);
	undo(data, size);
	apply(data, size);
	for (enum summary_type type = SUMMARY_NONE; type < SUMMARY_NTYPES; type++)
		round_trip(data, size, type);
	return 0;
}
