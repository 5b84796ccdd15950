/*
 * Measures filters, one core: for each kind of data and each chain the bytes stored of each byte, and how fast blocks are encoded and
 * decoded.
 *
 *   filters [MIB [KIND]]      (default 32, and all kinds of data; else those whose name begins so)
 *
 * Rows are in blocks of 256 KiB; "records" are of a price (f64), a time stamp (i64), a counter (i32) and an id (u8), without padding,
 * in blocks of whole records; of "wide records", five fields of each. Small arrays and packs are encoded with no memory of those before.
 * "zstd" is what the codec makes of a block without a filter, "auto" what it chooses; the others are
 * compressed behind their chain, but for packs. The last line has the geometric mean of auto / zstd.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "block/codec.h"

#define BLOCK (256u << 10)
#define SMALL_BLOCK (8u << 10)

static uint64_t state = 88172645463325252u;

static uint64_t random_bits(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	return state ^= state << 17;
}

static double uniform(void)
{
	return (double)(random_bits() >> 11) / 9007199254740992.0;
}

static double normal(void)
{
	return sqrt(-2 * log(1 - uniform())) * cos(2 * M_PI * uniform());
}

static double rounded(double x, double power)
{
	return nearbyint(x * power) / power;
}

/* The kind that was asked for; NULL: all. */
static const char *asked;

static bool is_asked(const char *name)
{
	return !asked || !strncmp(name, asked, strlen(asked));
}

/* The next element of each kind; *at is the walk. */
static double price(double *at)
{
	return rounded(*at += normal() * 0.05, 100);
}

static double walk3(double *at)
{
	return rounded(*at += normal() * 0.05, 1000);
}

static double sensor(double *at)
{
	return rounded(20 + *at + normal() * 0.5, 10);
}

static double walk(double *at)
{
	return *at += normal() * 0.05;
}

static int64_t counter(int64_t *at)
{
	return *at += (int64_t)(uniform() * 1000);
}

static int64_t stamp(int64_t *at)
{
	return *at += (int64_t)(-log(1 - uniform()) * 1e6);
}

static const struct {
	const char *name;
	double (*f64)(double *at);
	int64_t (*i64)(int64_t *at);
} kinds[] = { { "prices, 2 decimals", price, NULL }, { "walk, 3 decimals", walk3, NULL }, { "sensor, 1 decimal", sensor, NULL },
	      { "counters", NULL, counter },	     { "time stamps, ns", NULL, stamp },  { "full-precision walk", walk, NULL } };
#define NKINDS (sizeof(kinds) / sizeof(*kinds))

static void fill(unsigned kind, void *p, size_t n)
{
	int64_t at_i = 1700000000000000000;
	double at = kinds[kind].f64 == sensor ? 0 : 100;

	for (size_t i = 0; i < n / 8; i++) {
		if (kinds[kind].f64)
			((double *)p)[i] = kinds[kind].f64(&at);
		else
			((int64_t *)p)[i] = kinds[kind].i64(&at_i);
	}
}

struct trade {
	double price;
	int64_t at;
	int32_t count;
	uint8_t id;
} __attribute__((packed));
#define TRADE_BLOCK (BLOCK / sizeof(struct trade) * sizeof(struct trade))

static void fill_trades(void *p, size_t n)
{
	int64_t at = 1700000000000000000, count = 0;
	double walked = 100;

	for (size_t i = 0; i < n / sizeof(struct trade); i++)
		((struct trade *)p)[i] = (struct trade){ price(&walked), stamp(&at), (int32_t)(counter(&count) & 0x7fffffff),
							 (uint8_t)(uniform() * uniform() * 40) };
}

/* Of this process: other programs do not count. */
static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void must(int err)
{
	if (!err)
		return;
	fprintf(stderr, "filters: %s\n", strerror(-err));
	exit(1);
}

/* Bytes stored of each byte, of arrays of so many bytes, which remember nothing of each other. */
static double measure_blocks(const char *name, const struct codec_params *p, const uint8_t *raw, size_t n, size_t block, size_t array,
			     uint8_t *frames, uint8_t *back)
{
	size_t cap = codec_bound(block), nblocks = n / block, sum = 0, *len = calloc(nblocks, sizeof(*len));
	struct filter *filter = calloc(nblocks, sizeof(*filter));
	char text[CODEC_DESCRIPTION_MAX];
	double t[3];
	struct codec_hint hint = CODEC_HINT_NONE;

	if (!len || !filter)
		must(-12);
	t[0] = now();
	for (size_t i = 0; i < nblocks; i++) {
		if (i * block % array == 0)
			hint = CODEC_HINT_NONE;
		must(codec_encode(p, raw + i * block, block, frames + i * cap, cap, &hint, &len[i], &filter[i]));
	}
	t[1] = now();
	for (size_t i = 0; i < nblocks; i++)
		must(codec_decode(frames + i * cap, len[i], &filter[i], back, block));
	t[2] = now();
	for (size_t i = 0; i < nblocks; i++)
		sum += len[i];
	n = nblocks * block;
	codec_describe(&filter[nblocks - 1], text);
	printf("    %-10s %7.4f %8.2f %8.2f   %s\n", name, (double)sum / (double)n, (double)n / (t[1] - t[0]) / 1e9,
	       (double)n / (t[2] - t[1]) / 1e9, text);
	free(len);
	free(filter);
	return (double)sum / (double)n;
}

static double measure_codec(const char *name, const struct codec_params *p, const uint8_t *raw, size_t n, size_t block, uint8_t *frames,
			    uint8_t *back)
{
	return measure_blocks(name, p, raw, n, block, n, frames, back);
}

/* The filter alone, without compression. */
static void measure_filter(unsigned steps, const uint8_t *raw, size_t n, uint8_t *scratch, uint8_t *out, uint8_t *back)
{
	struct filter f = { .steps = (uint8_t)steps, .elem_bytes = 8 };
	size_t used = 0, sum = 0;
	char text[FILTER_TEXT_MAX];
	double t[3], apply = 0, undo = 0;

	if (steps & FILTER_SCALE && !filter_find_exponent(raw, BLOCK, 8, &f.exponent))
		return;
	for (size_t off = 0; off < n; off += BLOCK) {
		t[0] = now();
		if (filter_apply(&f, raw + off, BLOCK, scratch, out, &used))
			return;
		t[1] = now();
		must(filter_undo(f.steps, 8, out, BLOCK, back));
		t[2] = now();
		apply += t[1] - t[0];
		undo += t[2] - t[1];
		sum += used;
		if (memcmp(back, raw + off, BLOCK))
			must(-74);
	}
	filter_text(steps, text);
	printf("    %-26s %7.4f %8.2f %8.2f\n", text, (double)sum / (double)n, (double)n / apply / 1e9, (double)n / undo / 1e9);
}

static void measure_records(uint8_t *raw, size_t n, uint8_t *frames, uint8_t *work)
{
	struct codec_params p = { .level = 3, .policy = CODEC_POLICY_NONE, .elem_bytes = 1, .record = record_begin(sizeof(struct trade), 0) };
	double plain, best;

	record_add(&p.record, SUMMARY_F64, 8);
	record_add(&p.record, SUMMARY_I64, 8);
	record_add(&p.record, SUMMARY_I32, 4);
	record_add(&p.record, SUMMARY_U8, 1);
	fill_trades(raw, n);
	puts("records");
	plain = measure_codec("zstd", &p, raw, n, TRADE_BLOCK, frames, work);
	p.policy = CODEC_POLICY_RECORD;
	measure_codec("record", &p, raw, n, TRADE_BLOCK, frames, work);
	p.policy = CODEC_POLICY_AUTO;
	best = measure_codec("auto", &p, raw, n, TRADE_BLOCK, frames, work);
	p.level = CODEC_LEVEL_PACK;
	measure_codec("pack", &p, raw, n, TRADE_BLOCK, frames, work);
	printf("    auto / zstd %.3f\n", best / plain);
}

/* Records of 20 fields: five of each kind of a trade. */
#define WIDE_FIELDS 5
struct wide {
	double price[WIDE_FIELDS];
	int64_t at[WIDE_FIELDS];
	int32_t count[WIDE_FIELDS];
	uint8_t id[WIDE_FIELDS];
} __attribute__((packed));
#define WIDE_BLOCK (BLOCK / sizeof(struct wide) * sizeof(struct wide))

static void fill_wide(void *p, size_t n)
{
	int64_t at[WIDE_FIELDS], count[WIDE_FIELDS] = { 0 };
	double walked[WIDE_FIELDS];

	for (size_t k = 0; k < WIDE_FIELDS; k++) {
		at[k] = 1700000000000000000;
		walked[k] = 100;
	}
	for (size_t i = 0; i < n / sizeof(struct wide); i++) {
		struct wide w;

		for (size_t k = 0; k < WIDE_FIELDS; k++) {
			w.price[k] = k % 2 ? sensor(&walked[k]) : price(&walked[k]);
			w.at[k] = stamp(&at[k]);
			w.count[k] = (int32_t)(counter(&count[k]) & 0x7fffffff);
			w.id[k] = (uint8_t)(uniform() * uniform() * 40);
		}
		((struct wide *)p)[i] = w;
	}
}

static void measure_wide(uint8_t *raw, size_t n, uint8_t *frames, uint8_t *work)
{
	static const struct {
		uint8_t type, bytes;
	} fields[] = { { SUMMARY_F64, 8 }, { SUMMARY_I64, 8 }, { SUMMARY_I32, 4 }, { SUMMARY_U8, 1 } };
	struct codec_params p = { .level = 3, .policy = CODEC_POLICY_NONE, .elem_bytes = 1, .record = record_begin(sizeof(struct wide), 0) };
	double plain, best;

	for (size_t k = 0; k < 4 * WIDE_FIELDS; k++)
		record_add(&p.record, fields[k / WIDE_FIELDS].type, fields[k / WIDE_FIELDS].bytes);
	fill_wide(raw, n);
	puts("wide records, 20 fields");
	plain = measure_codec("zstd", &p, raw, n, WIDE_BLOCK, frames, work);
	p.policy = CODEC_POLICY_AUTO;
	best = measure_codec("auto", &p, raw, n, WIDE_BLOCK, frames, work);
	printf("    auto / zstd %.3f\n", best / plain);
}

/* Small arrays, each a block by itself, of which nothing is remembered: as files that are fsynced one by one, and as packs. */
static void measure_small(const char *name, size_t block, uint8_t *raw, size_t n, uint8_t *frames, uint8_t *work)
{
	struct codec_params p = { 3, CODEC_POLICY_NONE, 8, SUMMARY_F64, { 0 } };
	double plain, best;

	if (!is_asked(name))
		return;
	fill(0, raw, n);
	puts(name);
	plain = measure_blocks("zstd", &p, raw, n, block, block, frames, work);
	p.policy = CODEC_POLICY_AUTO;
	best = measure_blocks("auto", &p, raw, n, block, block, frames, work);
	printf("    auto / zstd %.3f\n", best / plain);
	p.elem_bytes = 1;
	p.type = SUMMARY_NONE;
	best = measure_blocks("untyped", &p, raw, n, block, block, frames, work);
	printf("    untyped / zstd %.3f\n", best / plain);
}

/* auto / zstd of one kind. */
static double measure_kind(unsigned k, uint8_t *raw, size_t n, uint8_t *frames, uint8_t *work)
{
	static const uint8_t chains[] = { FILTER_SHUFFLE, FILTER_DELTAS | FILTER_SHUFFLE, FILTER_PACK, FILTER_DELTA | FILTER_PACK,
					  FILTER_SCALE | FILTER_SHUFFLE, FILTER_SCALE | FILTER_DELTAS | FILTER_SHUFFLE,
					  FILTER_SCALE | FILTER_PACK, FILTER_SCALE | FILTER_DELTA | FILTER_PACK };
	struct codec_params p = { 3, CODEC_POLICY_NONE, 8, kinds[k].f64 ? SUMMARY_F64 : SUMMARY_I64, { 0 } };
	double plain, best;

	fill(k, raw, n);
	puts(kinds[k].name);
	plain = measure_codec("zstd", &p, raw, n, BLOCK, frames, work);
	p.policy = CODEC_POLICY_SHUFFLE;
	measure_codec("shuffle", &p, raw, n, BLOCK, frames, work);
	p.policy = CODEC_POLICY_AUTO;
	best = measure_codec("auto", &p, raw, n, BLOCK, frames, work);
	printf("    auto / zstd %.3f\n", best / plain);
	for (size_t i = 0; i < sizeof(chains); i++)
		measure_filter(chains[i], raw, n, work + BLOCK, work, work + 2 * BLOCK);
	return best / plain;
}

int main(int argc, char **argv)
{
	size_t n = (size_t)(argc > 1 ? atoi(argv[1]) : 32) << 20, nkinds = 0;
	uint8_t *raw = aligned_alloc(4096, n), *frames = malloc(n / SMALL_BLOCK * codec_bound(SMALL_BLOCK));
	uint8_t *work = aligned_alloc(4096, 3 * BLOCK);
	double mean = 0;

	if (!n || !raw || !frames || !work)
		return 1;
	asked = argc > 2 ? argv[2] : NULL;
	memset(frames, 0, n / SMALL_BLOCK * codec_bound(SMALL_BLOCK));
	printf("    %-10s %7s %8s %8s\n", "", "stored", "encode", "decode, GB/s");
	for (unsigned k = 0; k < NKINDS; k++) {
		if (!is_asked(kinds[k].name))
			continue;
		mean += log(measure_kind(k, raw, n, frames, work));
		nkinds++;
	}
	if (is_asked("records"))
		measure_records(raw, n, frames, work);
	if (is_asked("wide records"))
		measure_wide(raw, n, frames, work);
	measure_small("small arrays of prices, 8 KiB", SMALL_BLOCK, raw, n, frames, work);
	measure_small("packs of prices, 256 KiB", BLOCK, raw, n, frames, work);
	if (nkinds)
		printf("geometric mean of auto / zstd, without the records: %.3f\n", exp(mean / (double)nkinds));
	return 0;
}
