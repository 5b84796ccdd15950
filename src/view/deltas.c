/*
 * See deltas.h.
 *
 * Invariants: (1) the encoders write out_bytes or fail, and nothing behind them; (2) differences are modulo 2^32 or 2^64, and the least one
 * is the least as a signed number, as in the stored block.
 */
#include "view/deltas.h"

#include <errno.h>
#include <string.h>

#include "block/frame.h"

#define GROUP 1024u      /* of a stored block, and a block of the encoding */
#define MINIBLOCKS 32u
#define MINIBLOCK 32u    /* values */
#define HEAD_BYTES 16u   /* of packed differences: the filter's head, and the first integer */
#define SLACK_PACKS 8u   /* what a frame has besides its content is less than so many bits of a group take */

static uint64_t mask_of(uint32_t elem_bytes)
{
	return elem_bytes == 8 ? UINT64_MAX : UINT32_MAX;
}

/* The greatest length of a number of so many bytes, seven bits to a byte. */
static size_t varint_bytes(uint32_t elem_bytes)
{
	return elem_bytes == 8 ? 10 : 5;
}

static size_t put_varint(uint8_t *p, uint64_t x)
{
	size_t n = 0;

	for (; x > 0x7f; x >>= 7)
		p[n++] = (uint8_t)(x | 0x80);
	p[n++] = (uint8_t)x;
	return n;
}

/* A signed number at its greatest length. */
static size_t put_zigzag(uint8_t *p, uint64_t x, uint32_t elem_bytes)
{
	size_t n = varint_bytes(elem_bytes);

	x = x << 1 ^ (0 - (x >> 63));
	for (size_t i = 0; i < n; i++, x >>= 7)
		p[i] = (uint8_t)((x & 0x7f) | (i + 1 < n ? 0x80 : 0));
	return n;
}

/* Block size, miniblocks, the number of values; the first value follows. */
static size_t put_head(uint8_t *p, size_t n)
{
	size_t len = put_varint(p, GROUP);

	len += put_varint(p + len, MINIBLOCKS);
	return len + put_varint(p + len, n);
}

/* Behind the last group: differences that are stored as they are, but the first, which the last group's block has. */
static size_t rest_miniblocks(size_t n)
{
	size_t rest = n % GROUP;

	return rest > 1 ? (rest - 1 + MINIBLOCK - 1) / MINIBLOCK : 0;
}

/* The bits of all groups together. No two numbers of them give frames of one length. */
static bool find_bits(size_t n, uint32_t elem_bytes, size_t frame_len, size_t *out)
{
	size_t w = elem_bytes, groups = n / GROUP, most;
	size_t others = HEAD_BYTES + (groups + 7) / 8 * 8 + (groups * w + 7) / 8 * 8 + n % GROUP * w;

	if (frame_len < others)
		return false;
	most = (frame_len - others) / (GROUP / 8);
	for (size_t bits = most < SLACK_PACKS ? 0 : most - SLACK_PACKS; bits <= most && bits <= groups * 8 * w; bits++) {
		size_t used = others + bits * (GROUP / 8);

		*out = bits;
		if (used <= n * w && frame_raw_len(used, n * w) == frame_len)
			return true;
	}
	return false;
}

bool deltas_bytes(size_t n, uint32_t elem_bytes, size_t frame_len, size_t *out)
{
	size_t w = elem_bytes, groups = n / GROUP, rest = rest_miniblocks(n), bits;
	uint8_t head[32];

	if (!find_bits(n, elem_bytes, frame_len, &bits))
		return false;
	*out = put_head(head, n) + varint_bytes(elem_bytes) + groups * (varint_bytes(elem_bytes) + MINIBLOCKS + MINIBLOCK * w) +
	       (MINIBLOCKS - 1) * MINIBLOCK / 8 * bits;
	if (rest)
		*out += varint_bytes(elem_bytes) + MINIBLOCKS + rest * MINIBLOCK * w;
	return true;
}

/* Miniblocks of n elements of a range. */
static size_t range_miniblocks(size_t n)
{
	size_t last = (n - 1) % GROUP;

	return (n - 1) / GROUP * MINIBLOCKS + (last + MINIBLOCK - 1) / MINIBLOCK;
}

/* The bytes of n elements of a range besides their miniblocks. */
static size_t range_heads(size_t n, uint32_t elem_bytes)
{
	uint8_t head[32];

	return put_head(head, n) + varint_bytes(elem_bytes) + (n - 1 + GROUP - 1) / GROUP * (varint_bytes(elem_bytes) + MINIBLOCKS);
}

bool deltas_range_bytes(size_t n, uint32_t elem_bytes, uint64_t min_bits, uint64_t max_bits, size_t *out)
{
	uint64_t spread = (max_bits - min_bits) & mask_of(elem_bytes);
	unsigned bits = spread ? 64 - (unsigned)__builtin_clzll(spread) + 1 : 0;

	*out = range_heads(n, elem_bytes) + range_miniblocks(n) * (MINIBLOCK / 8) * bits;
	return bits < 8 * elem_bytes;
}

/* Elements on their way to Parquet's block of them, from first + 1 on. */
struct pass {
	const uint8_t *elems;
	size_t n;
	uint32_t elem_bytes;
	uint64_t mask; /* of an element */
	uint8_t *p, *end;
	uint64_t d[GROUP + 1]; /* of element first + k the difference from the one before, with its sign */
};

/* Fills d. The first element of all has no difference, and gets the second one's, which changes no least and no bits. */
static void find_differences(struct pass *s, size_t first)
{
	size_t n = s->n - first < GROUP + 1 ? s->n - first : GROUP + 1;

	if (s->elem_bytes == 8) {
		const uint64_t *restrict v = (const uint64_t *)(const void *)s->elems + first;

		for (size_t k = 1; k < n; k++)
			s->d[k] = v[k] - v[k - 1];
		s->d[0] = first ? v[0] - v[-1] : s->d[1];
	} else {
		const uint32_t *restrict v = (const uint32_t *)(const void *)s->elems + first;

		for (size_t k = 1; k < n; k++)
			s->d[k] = (uint64_t)(int64_t)(int32_t)(v[k] - v[k - 1]);
		s->d[0] = first ? (uint64_t)(int64_t)(int32_t)(v[0] - v[-1]) : s->d[1];
	}
}

/* The least of n differences, and the bits of the others above it. */
static unsigned measure(const struct pass *s, const uint64_t *d, size_t n, uint64_t *least_out)
{
	int64_t least = INT64_MAX;
	uint64_t above = 0;

	for (size_t k = 0; k < n; k++)
		least = (int64_t)d[k] < least ? (int64_t)d[k] : least;
	for (size_t k = 0; k < n; k++)
		above |= d[k] - (uint64_t)least;
	above &= s->mask;
	*least_out = (uint64_t)least;
	return above ? 64 - (unsigned)__builtin_clzll(above) : 0;
}

/* A miniblock of `bits` each: n differences at d, then zeros. */
static int put_miniblock(struct pass *s, const uint64_t *d, size_t n, uint64_t least, unsigned bits)
{
	uint64_t word = 0;
	unsigned used = 0;

	if (MINIBLOCK / 8 * bits > (size_t)(s->end - s->p))
		return -EUCLEAN;
	for (size_t k = 0; k < MINIBLOCK && bits; k++) {
		uint64_t x = k < n ? (d[k] - least) & s->mask : 0;

		word |= x << used;
		used += bits;
		if (used < 64)
			continue;
		memcpy(s->p, &word, 8);
		s->p += 8;
		used -= 64;
		word = used ? x >> (bits - used) : 0;
	}
	memcpy(s->p, &word, used / 8); /* 32 times the bits are whole bytes */
	s->p += used / 8;
	return 0;
}

/* Least, bits of each miniblock, miniblocks of n differences; the last of MINIBLOCKS has other bits. */
static int put_block(struct pass *s, size_t n, uint64_t least, unsigned bits, unsigned last_bits)
{
	size_t nminiblocks = (n + MINIBLOCK - 1) / MINIBLOCK;
	uint8_t widths[MINIBLOCKS] = { 0 };
	int err = 0;

	if (varint_bytes(s->elem_bytes) + MINIBLOCKS > (size_t)(s->end - s->p))
		return -EUCLEAN;
	memset(widths, (int)bits, nminiblocks);
	if (nminiblocks == MINIBLOCKS)
		widths[MINIBLOCKS - 1] = (uint8_t)last_bits;
	s->p += put_zigzag(s->p, least, s->elem_bytes);
	memcpy(s->p, widths, MINIBLOCKS);
	s->p += MINIBLOCKS;
	for (size_t k = 0; k < nminiblocks && !err; k++)
		err = put_miniblock(s, s->d + 1 + k * MINIBLOCK, n - k * MINIBLOCK, least, widths[k]);
	return err;
}

/* The block of the differences behind element `first`, which begins a group. */
static int put_group(struct pass *s, size_t first)
{
	size_t n = s->n - first - 1 < GROUP ? s->n - first - 1 : GROUP;
	unsigned bits = 8 * s->elem_bytes;
	uint64_t least = 0;

	if (!n)
		return 0;
	find_differences(s, first);
	if (s->n - first >= GROUP)
		bits = measure(s, s->d, GROUP, &least);
	return put_block(s, n, least, bits, 8 * s->elem_bytes);
}

/* The same of a range, whose miniblocks have `bits`. */
static int put_range(struct pass *s, size_t first, unsigned bits)
{
	size_t n = s->n - first - 1 < GROUP ? s->n - first - 1 : GROUP;
	uint64_t least;

	if (!n)
		return 0;
	find_differences(s, first);
	if (measure(s, s->d + 1, n, &least) > bits)
		return -EUCLEAN;
	return put_block(s, n, least, bits, bits);
}

/* Begins with the head and the first element. */
static int begin(struct pass *s, const void *elems, size_t n, uint32_t elem_bytes, void *out, size_t out_bytes)
{
	uint64_t x = 0;
	int32_t narrow;
	uint8_t head[32];
	size_t len = put_head(head, n);

	*s = (struct pass){ .elems = elems, .n = n, .elem_bytes = elem_bytes, .mask = mask_of(elem_bytes) };
	memcpy(&narrow, elems, sizeof(narrow));
	if (elem_bytes == 8)
		memcpy(&x, elems, sizeof(x));
	else
		x = (uint64_t)(int64_t)narrow;
	len += put_zigzag(head + len, x, elem_bytes);
	if (len > out_bytes)
		return -EUCLEAN;
	memcpy(out, head, len);
	s->p = (uint8_t *)out + len;
	s->end = (uint8_t *)out + out_bytes;
	return 0;
}

int deltas_encode(const void *elems, size_t n, uint32_t elem_bytes, void *out, size_t out_bytes)
{
	struct pass s;
	int err = begin(&s, elems, n, elem_bytes, out, out_bytes);

	for (size_t first = 0; first < n && !err; first += GROUP)
		err = put_group(&s, first);
	return err ? err : s.p == s.end ? 0 : -EUCLEAN;
}

int deltas_range_encode(const void *elems, size_t n, uint32_t elem_bytes, void *out, size_t out_bytes)
{
	size_t heads = range_heads(n, elem_bytes), unit = range_miniblocks(n) * (MINIBLOCK / 8), bits;
	struct pass s;
	int err;

	if (out_bytes < heads)
		return -EUCLEAN;
	bits = unit ? (out_bytes - heads) / unit : 0;
	if (bits >= 8 * (size_t)elem_bytes)
		return -EUCLEAN;
	err = begin(&s, elems, n, elem_bytes, out, out_bytes);
	for (size_t first = 0; first < n && !err; first += GROUP)
		err = put_range(&s, first, (unsigned)bits);
	return err ? err : s.p == s.end ? 0 : -EUCLEAN;
}
