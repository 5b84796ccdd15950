/*
 * Fuzz target: byte 0 is the filter, byte 1 the element size, bytes 2 and 3 the decoded size; the
 * rest is decoded as a frame, undone as what a filter has made, and encoded and decoded as a block of each type.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "block/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void decode(const uint8_t *data, size_t size)
{
	size_t n = data[2] | (size_t)data[3] << 8;
	uint8_t *out = malloc(n + 1), *frame = malloc(size - 4 + 1);

	if (!out || !frame)
		abort();
	memcpy(frame, data + 4, size - 4);
	codec_decode(frame, size - 4, data[0], data[1], out, n);
	free(out);
	free(frame);
}

static void round_trip(const uint8_t *data, size_t size, enum summary_type type)
{
	struct codec_params p = { data[2] % 5 - 1, data[0] % 33 - 1, data[1], type };
	size_t n = size - 4, cap = codec_bound(n), len;
	uint8_t *raw = malloc(n), *frame = malloc(cap), *back = malloc(n);
	uint8_t filter;
	int hint = -1;

	if (!raw || !frame || !back)
		abort();
	memcpy(raw, data + 4, n);
	if (codec_encode(&p, raw, n, frame, cap, &hint, &len, &filter))
		abort();
	if (codec_decode(frame, len, filter, p.elem_bytes, back, n) || memcmp(back, raw, n))
		abort();
	free(raw);
	free(frame);
	free(back);
}

static void undo(const uint8_t *data, size_t size)
{
	size_t n = size - 4;
	uint8_t *in = malloc(n), *out = malloc(n);

	if (!in || !out)
		abort();
	memcpy(in, data + 4, n);
	filter_undo(data[0], data[1], in, n, out);
	free(in);
	free(out);
}

/* Each filter refuses the block or gives it back. */
static void apply(const uint8_t *data, size_t size)
{
	size_t n = size - 4, used;
	uint8_t *raw = malloc(n), *scratch = malloc(n), *filtered = malloc(n), *back = malloc(n);

	if (!raw || !scratch || !filtered || !back)
		abort();
	memcpy(raw, data + 4, n);
	for (unsigned steps = 1; steps < 32; steps++) {
		struct filter f = { .steps = (uint8_t)steps, .elem_bytes = data[1], .exponent = data[2] % 19 };

		if (!filter_fits(steps, f.elem_bytes) || filter_apply(&f, raw, n, scratch, filtered, &used))
			continue;
		if (used > n || filter_undo(steps, f.elem_bytes, filtered, n, back) || memcmp(raw, back, n))
			abort();
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
