/*
 * A trial, in memory.
 *
 * Invariants: (1) blocks are encoded as a flush does it, with the array's memory of filters from one to the next; (2) the time is that of the
 * encoder and of the decoder alone, over the whole list at once, and the list is repeated until the time can be measured.
 */
#include "tool/trial.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "util/clock.h"

/* Shorter times are not exact. */
#define LEAST_NS 20000000

struct frame {
	uint8_t *data;
	size_t len;
	struct filter filter;
};

struct pass {
	const struct codec_params *params;
	const struct trial_block *blocks;
	struct frame *frames;
	size_t n;
	uint8_t *back; /* as long as the longest block */
};

static int encode_all(struct pass *t)
{
	struct codec_hint hint = CODEC_HINT_NONE;
	struct codec_params p = *t->params;
	int err = 0;

	for (size_t i = 0; i < t->n && !err; i++) {
		const struct trial_block *b = &t->blocks[i];
		struct frame *f = &t->frames[i];

		p.record.lead_bytes = b->lead_bytes;
		err = codec_encode(&p, b->data, b->len_bytes, f->data, codec_bound(b->len_bytes), &hint, &f->len, &f->filter);
	}
	return err;
}

static int decode_one(struct pass *t, size_t i)
{
	const struct frame *f = &t->frames[i];

	return codec_decode(f->data, f->len, &f->filter, t->back, t->blocks[i].len_bytes);
}

static int decode_all(struct pass *t)
{
	int err = 0;

	for (size_t i = 0; i < t->n && !err; i++)
		err = decode_one(t, i);
	return err;
}

static int check_all(struct pass *t)
{
	for (size_t i = 0; i < t->n; i++) {
		int err = decode_one(t, i);

		if (err)
			return err;
		if (memcmp(t->back, t->blocks[i].data, t->blocks[i].len_bytes))
			return -EUCLEAN;
	}
	return 0;
}

/* 10^9 bytes a second. */
static int measure(struct pass *t, int (*all)(struct pass *t), uint64_t raw_bytes, double *gbs_out)
{
	int64_t began = clock_thread_cpu_ns(), took = 0;
	unsigned rounds = 0;

	while (took < LEAST_NS) {
		int err = all(t);

		if (err)
			return err;
		rounds++;
		took = clock_thread_cpu_ns() - began;
	}
	*gbs_out = (double)raw_bytes * rounds / (double)took;
	return 0;
}

static void count_use(struct trial *r, const struct filter *f)
{
	char text[CODEC_DESCRIPTION_MAX];
	size_t k = 0;

	codec_describe(f, text);
	while (k < r->nuses && strcmp(r->uses[k].filter, text))
		k++;
	if (k == TRIAL_USES_MAX)
		return;
	if (k == r->nuses) {
		strcpy(r->uses[k].filter, text);
		r->uses[k].steps = f->steps;
		r->nuses++;
	}
	r->uses[k].nblocks++;
}

static int more_blocks_first(const void *a, const void *b)
{
	const struct trial_use *x = a, *y = b;

	return x->nblocks == y->nblocks ? strcmp(x->filter, y->filter) : x->nblocks < y->nblocks ? 1 : -1;
}

static int run(struct pass *t, struct trial *r)
{
	int err;

	for (size_t i = 0; i < t->n; i++)
		r->raw_bytes += t->blocks[i].len_bytes;
	err = measure(t, encode_all, r->raw_bytes, &r->encode_gbs);
	if (!err)
		err = check_all(t);
	if (!err)
		err = measure(t, decode_all, r->raw_bytes, &r->decode_gbs);
	for (size_t i = 0; i < t->n && !err; i++) {
		r->stored_bytes += t->frames[i].len;
		count_use(r, &t->frames[i].filter);
	}
	qsort(r->uses, r->nuses, sizeof(*r->uses), more_blocks_first);
	return err;
}

/* The memory of a pass; what is missing stays NULL. */
static int allocate(struct pass *t)
{
	size_t longest = 1;
	bool all = true;

	t->frames = calloc(t->n, sizeof(*t->frames));
	for (size_t i = 0; i < t->n && t->frames; i++) {
		t->frames[i].data = malloc(codec_bound(t->blocks[i].len_bytes));
		all = all && t->frames[i].data;
		longest = t->blocks[i].len_bytes > longest ? t->blocks[i].len_bytes : longest;
	}
	t->back = malloc(longest);
	return t->frames && all && t->back ? 0 : -ENOMEM;
}

int trial_run(const struct codec_params *p, const struct trial_block *v, size_t n, struct trial *out)
{
	struct pass t = { .params = p, .blocks = v, .n = n };
	struct trial r = { 0 };
	int err = allocate(&t);

	if (!err)
		err = run(&t, &r);
	for (size_t i = 0; i < n && t.frames; i++)
		free(t.frames[i].data);
	free(t.frames);
	free(t.back);
	if (!err)
		*out = r;
	return err;
}
