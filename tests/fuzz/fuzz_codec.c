/*
 * Fuzz target: byte 0 is the filter, byte 1 the element size, bytes 2 and 3 the decoded size; the
 * rest is decoded as a frame, and encoded and decoded as a block.
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

static void round_trip(const uint8_t *data, size_t size)
{
	struct codec_params p = { data[2] % 4, data[0] % 3, data[1] };
	size_t n = size - 4, cap = codec_bound(n), len;
	uint8_t *frame = malloc(cap), *back = malloc(n);
	enum codec_filter filter;
	int hint = -1;

	if (!frame || !back || codec_encode(&p, data + 4, n, frame, cap, &hint, &len, &filter))
		abort();
	if (codec_decode(frame, len, filter, p.elem_bytes, back, n) || memcmp(back, data + 4, n))
		abort();
	free(frame);
	free(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 5)
		return 0;
	decode(data, size);
	round_trip(data, size);
	return 0;
}
