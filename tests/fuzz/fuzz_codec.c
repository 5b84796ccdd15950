/*
 * Fuzz target: byte 0 is the filter, byte 1 the element size, bytes 2 and 3 the decoded size, bytes 4 to 23 a list of fields; the
 * rest is decoded as a frame, undone as what a filter has made, and encoded and decoded as a block of each type, and of records.
 */
#include "block/codec.h"
#include "fuzz.h"

#define HEAD 24

static struct record fields_of(const uint8_t *data)
{
	struct record r = { .bytes = (uint16_t)(data[4] | data[5] << 8), .lead_bytes = (uint16_t)(data[6] | data[7] << 8), .ncodes = data[1] };

	memcpy(r.codes, data + 8, sizeof(r.codes));
	return r;
}

static void decode(const uint8_t *data, size_t size)
{
	size_t n = data[2] | (size_t)data[3] << 8;
	uint8_t *out = malloc(n + 1), *frame = fuzz_copy(data + HEAD, size - HEAD);

	CHECK(out);
	codec_decode(frame, size - HEAD, &(struct filter){ .steps = data[0], .elem_bytes = data[1], .record = fields_of(data) }, out, n);
	free(out);
	free(frame);
}

static void round_trip(const uint8_t *data, size_t size, enum summary_type type, struct record record)
{
	static const int8_t levels[] = { CODEC_LEVEL_PACK, 0, 1, 2, 3, CODEC_LEVEL_MIN, -1 };
	struct codec_params p = { levels[data[2] % sizeof(levels)], data[0] % 34 - 1, data[1], type, record };
	size_t n = size - HEAD, cap = codec_bound(n), len;
	uint8_t *raw = fuzz_copy(data + HEAD, n), *frame = malloc(cap), *back = malloc(n);
	struct filter filter;
	struct codec_hint hint = CODEC_HINT_NONE;

	CHECK(frame && back);
	CHECK_OK(codec_encode(&p, raw, n, frame, cap, &hint, &len, &filter));
	CHECK_OK(codec_decode(frame, len, &filter, back, n));
	CHECK(!memcmp(back, raw, n));
	free(raw);
	free(frame);
	free(back);
}

static void undo(const uint8_t *data, size_t size)
{
	size_t n = size - HEAD;
	uint8_t *in = fuzz_copy(data + HEAD, n), *out = malloc(n), *planes = malloc(record_planes_bytes(RECORD_COLUMNS_MAX, n));
	const struct record record = fields_of(data);

	CHECK(out && planes);
	filter_undo(data[0], data[1], in, n, out);
	record_undo(&record, in, n, planes, out);
	free(planes);
	free(in);
	free(out);
}

/* Each filter refuses the block or gives it back. */
static void apply(const uint8_t *data, size_t size)
{
	size_t n = size - HEAD, used;
	uint8_t *raw = fuzz_copy(data + HEAD, n), *scratch = malloc(n), *filtered = malloc(n), *back = malloc(n);

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
	struct record_column columns[RECORD_COLUMNS_MAX];
	struct record record;

	if (size <= HEAD)
		return 0;
	decode(data, size);
	undo(data, size);
	apply(data, size);
	for (enum summary_type type = SUMMARY_NONE; type < SUMMARY_NTYPES; type++)
		round_trip(data, size, type, (struct record){ 0 });
	record = fields_of(data);
	if (record_columns(&record, columns))
		round_trip(data, size, SUMMARY_NONE, record);
	return 0;
}
