/*
 * The place of a block in memory: an entry of an index (struct layer_block) without the number of the block, in the same bytes.
 */
#ifndef SPILLFS_BLOCK_REF_H
#define SPILLFS_BLOCK_REF_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "block/filter.h"
#include "block/format.h"
#include "block/index.h"
#include "block/summary.h"

/* Fields as in struct layer_block; frame_off 0: the block is all zeros. */
struct block_ref {
	uint64_t layer, frame_off;
	uint32_t frame_len, frame_raw;
	uint32_t raw_off, raw_len;
	uint8_t filter, elem_bytes;
	/* enum summary_type of the counts and the bounds; 0: none. They are about the whole elements in raw_len bytes: zeros
	 * behind them, and an element that raw_len cuts, do not count. */
	uint8_t stat_type;
	uint8_t nan_bits : 7;
	uint8_t changed : 1; /* its owner's; stored as 0 */
	uint32_t counts;
	uint64_t min_bits, max_bits;
};
#define BLOCK_REF_AT offsetof(struct layer_block, layer)
static_assert(BLOCK_REF_AT + sizeof(struct block_ref) == sizeof(struct layer_block), "one is the end of the other");
static_assert(BLOCK_REF_AT + offsetof(struct block_ref, frame_len) == offsetof(struct layer_block, frame_len), "in the same order");
static_assert(BLOCK_REF_AT + offsetof(struct block_ref, raw_off) == offsetof(struct layer_block, raw_off), "in the same order");
static_assert(BLOCK_REF_AT + offsetof(struct block_ref, filter) == offsetof(struct layer_block, filter), "in the same order");
static_assert(BLOCK_REF_AT + offsetof(struct block_ref, stat_type) == offsetof(struct layer_block, stat_type), "in the same order");
static_assert(BLOCK_REF_AT + offsetof(struct block_ref, counts) == offsetof(struct layer_block, counts), "in the same order");
static_assert(BLOCK_REF_AT + offsetof(struct block_ref, min_bits) == offsetof(struct layer_block, min_bits), "in the same order");

static inline struct block_ref block_ref_of(const struct layer_block *b)
{
	struct block_ref r;

	memcpy(&r, (const char *)b + BLOCK_REF_AT, sizeof(r));
	r.changed = 0;
	return r;
}

static inline struct layer_block block_ref_entry(const struct block_ref *r, uint64_t block)
{
	struct layer_block b = { .block = block };

	memcpy((char *)&b + BLOCK_REF_AT, r, sizeof(*r));
	b.nan_bits = r->nan_bits;
	return b;
}

/* The filter of a block, as filter_undo and record_undo need it. That of records has no summary beside it: its list stands there. */
static inline struct filter layer_block_filter(const struct layer_block *b)
{
	struct filter f = { .steps = b->filter, .elem_bytes = b->elem_bytes };

	if (b->filter == FILTER_RECORD)
		f.record = record_load(b->elem_bytes, b->counts, b->min_bits, b->max_bits);
	return f;
}

static inline void layer_block_set_filter(struct layer_block *b, const struct filter *f)
{
	if (b->filter == FILTER_RECORD || f->steps == FILTER_RECORD) {
		b->stat_type = b->nan_bits = 0;
		b->counts = 0;
		b->min_bits = b->max_bits = 0;
	}
	b->filter = f->steps;
	b->elem_bytes = f->elem_bytes;
	if (f->steps == FILTER_RECORD)
		record_store(&f->record, &b->counts, &b->min_bits, &b->max_bits);
}

/* The largest nan_bits: 31 bits for the NaNs. */
#define BLOCK_NAN_BITS_MAX 32u

/* Zeros are not kept where both counts together need more than 32 bits: of elements there are 131,072 at least then. */
static inline void block_ref_summarise(struct block_ref *r, const struct summary *s)
{
	unsigned bits = s->nan_count ? 32 - (unsigned)__builtin_clz(s->nan_count) : 0;

	r->stat_type = s->type;
	r->min_bits = s->min_bits;
	r->max_bits = s->max_bits;
	r->nan_bits = 0;
	r->counts = s->nan_count;
	if (s->type && s->zero_count != SUMMARY_UNCOUNTED && bits < BLOCK_NAN_BITS_MAX && (uint64_t)s->zero_count << bits <= UINT32_MAX) {
		r->nan_bits = (uint8_t)(bits + 1) & 0x7f;
		r->counts |= s->zero_count << bits;
	}
}

static inline struct summary block_ref_summary(const struct block_ref *r)
{
	struct summary s = { .type = r->stat_type, .nan_count = r->counts, .zero_count = SUMMARY_UNCOUNTED,
			     .min_bits = r->min_bits, .max_bits = r->max_bits };

	if (r->nan_bits) {
		s.nan_count = r->counts & (((uint32_t)1 << (r->nan_bits - 1)) - 1);
		s.zero_count = r->counts >> (r->nan_bits - 1);
	}
	return s;
}

/* Stored bytes that the block accounts for. */
static inline uint64_t block_ref_share(const struct block_ref *r)
{
	return r->frame_off ? index_share(r->frame_len, r->frame_raw, r->raw_len) : 0;
}

#endif
