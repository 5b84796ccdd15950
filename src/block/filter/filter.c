/*
 * Chains of filter steps over a block, a group of integers at a time.
 *
 * Invariants:
 *  1. filter_undo gives the bytes that filter_apply took, for every chain and every n.
 *  2. What filter_apply makes is at most n bytes long; the rest of the n bytes is zeros.
 *  3. filter_undo believes nothing that it reads: each length is compared with what is left of the input before it is used.
 *
 * Filtered, without SCALE and PACK: the integers, then the bytes behind the last whole element. With them: a head, the integers or their packs,
 * the exceptions' floats and then their places, the bytes behind the last whole element.
 */
#include "block/filter.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "block/filter/inside.h"
#include "block/filter/shuffle.h"
#include "util/plant.h"

#define STEPS_KNOWN (FILTER_SCALE | FILTER_DELTA | FILTER_ZIGZAG | FILTER_SHUFFLE | FILTER_PACK)
#define SHUFFLE_ELEM_MAX 16u

struct head {
	uint8_t exponent;
	uint8_t int_bytes;
	uint16_t zero;
	uint32_t nexceptions;
};

/* A block on its way: its integers, and the places of what is filtered. */
struct pass {
	unsigned steps;
	uint32_t elem_bytes, int_bytes;
	const struct ints *ints;
	size_t nelems, tail; /* bytes behind the last whole element */
	size_t end;          /* of the filtered bytes so far */
	size_t limit;        /* the integers, or their packs, end there at the latest */
	size_t body;         /* where the integers begin; packed: the first one, which stands alone */
	size_t bits, leasts; /* packed: of each group */
	uint64_t before;
};

bool filter_known(unsigned steps)
{
	if (steps == FILTER_RECORD)
		return true;
	return !(steps & ~(unsigned)STEPS_KNOWN) && !(steps & FILTER_SHUFFLE && steps & FILTER_PACK) &&
	       !(steps & FILTER_ZIGZAG && !(steps & FILTER_DELTA));
}

bool filter_fits(unsigned steps, uint32_t elem_bytes)
{
	if (steps == FILTER_NONE)
		return true;
	if (steps == FILTER_SHUFFLE)
		return elem_bytes >= 2 && elem_bytes <= SHUFFLE_ELEM_MAX;
	return steps != FILTER_RECORD && filter_known(steps) && (steps & FILTER_SCALE ? elem_bytes == 4 || elem_bytes == 8 : ints_of(elem_bytes) != NULL);
}

void filter_text(unsigned steps, char out[FILTER_TEXT_MAX])
{
	static const struct {
		enum filter_step step;
		const char *name;
	} names[] = { { FILTER_SCALE, "scale" }, { FILTER_DELTA, "delta" }, { FILTER_ZIGZAG, "zigzag" }, { FILTER_SHUFFLE, "shuffle" },
		      { FILTER_PACK, "pack" },	 { FILTER_RECORD, "record" } };
	size_t n = 0;

	if (!steps || !filter_known(steps)) {
		snprintf(out, FILTER_TEXT_MAX, steps ? "%u" : "none", steps);
		return;
	}
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		if (steps & names[i].step)
			n += (size_t)snprintf(out + n, FILTER_TEXT_MAX - n, "%s%s", n ? "+" : "", names[i].name);
	}
}

/* There are few. */
int filter_parse(const char *text, uint8_t *steps_out)
{
	char name[FILTER_TEXT_MAX];

	for (unsigned steps = FILTER_NONE; steps <= FILTER_RECORD; steps++) {
		filter_text(steps, name);
		if (filter_known(steps) && !strcmp(text, name)) {
			*steps_out = (uint8_t)steps;
			return 0;
		}
	}
	return -EINVAL;
}

static size_t align8(size_t n)
{
	return (n + 7) & ~(size_t)7;
}

static struct pass pass_of(unsigned steps, uint32_t elem_bytes, size_t n)
{
	return (struct pass){ .steps = steps, .elem_bytes = elem_bytes, .int_bytes = elem_bytes, .ints = ints_of(elem_bytes),
			      .nelems = n / elem_bytes, .tail = n % elem_bytes };
}

static size_t exceptions_bytes(const struct pass *p, size_t nexceptions)
{
	return nexceptions * (p->elem_bytes + sizeof(uint32_t));
}

/* Lays out the integers behind `end`, once their width is known, and takes the places that every block has of them. False: they do not
 * fit before `limit`. */
static bool lay_body(struct pass *p)
{
	size_t ngroups = p->nelems / FILTER_GROUP, rest = p->nelems % FILTER_GROUP;

	p->body = p->end;
	if (!(p->steps & FILTER_PACK)) {
		p->end += p->nelems * p->int_bytes;
		return p->end <= p->limit;
	}
	p->bits = p->body + sizeof(uint64_t);
	p->leasts = p->bits + align8(ngroups);
	p->end = p->leasts + align8(ngroups * p->int_bytes);
	return p->end <= p->limit && rest * p->int_bytes <= p->limit - p->end;
}

/* Packs a group behind `end`, or puts the last integers, which are no group, there. */
static int put_pack(struct pass *p, size_t first, size_t n, void *v, uint8_t *out)
{
	size_t group = first / FILTER_GROUP;
	uint64_t least;
	unsigned bits;

	if (!first && n) {
		memcpy(out + p->body, v, p->int_bytes);
		if (n > 1)
			memcpy(v, (uint8_t *)v + p->int_bytes, p->int_bytes);
	}
	if (n < FILTER_GROUP) {
		if (n * p->int_bytes > p->limit - p->end)
			return -ERANGE;
		memcpy(out + p->end, v, n * p->int_bytes);
		p->end += n * p->int_bytes;
		return 0;
	}
	bits = p->ints->measure(v, &least);
	if (128 * (size_t)bits > p->limit - p->end)
		return -ERANGE;
	out[p->bits + group] = (uint8_t)bits;
	memcpy(out + p->leasts + group * p->int_bytes, &least, p->int_bytes);
	p->ints->pack(v, least, bits, out + p->end);
	p->end += 128 * (size_t)bits;
	return 0;
}

/* n integers as wide as the elements become a group. */
static void narrow(const struct pass *p, const uint8_t *from, size_t n, uint64_t v[FILTER_GROUP])
{
	uint64_t wide[FILTER_GROUP];

	if (p->int_bytes == p->elem_bytes) {
		memcpy(v, from, n * p->int_bytes);
		return;
	}
	if (n < FILTER_GROUP) {
		memset(wide, 0, sizeof(wide));
		memcpy(wide, from, n * p->elem_bytes);
		from = (const uint8_t *)wide;
	}
	(p->elem_bytes == 8 ? p->ints->narrow8 : p->ints->narrow4)(from, v);
}

static int put_ints(struct pass *p, const uint8_t *from, uint8_t *out)
{
	uint64_t v[FILTER_GROUP];

	for (size_t first = 0; first < p->nelems; first += FILTER_GROUP) {
		size_t n = p->nelems - first < FILTER_GROUP ? p->nelems - first : FILTER_GROUP;
		int err = 0;

		if (n < FILTER_GROUP)
			memset(v, 0, sizeof(v));
		narrow(p, from + first * p->elem_bytes, n, v);
		if (p->steps & FILTER_DELTA)
			p->ints->delta(v, n, &p->before);
		if (p->steps & FILTER_ZIGZAG)
			p->ints->zigzag(v);
		if (p->steps & FILTER_PACK)
			err = put_pack(p, first, n, v, out);
		else if (p->steps & FILTER_SHUFFLE)
			shuffle_apply_part(v, n, out + p->body, p->nelems, first, p->int_bytes);
		else
			memcpy(out + p->body + first * p->int_bytes, v, n * p->int_bytes);
		if (err)
			return err;
	}
	return 0;
}

static void put_exceptions(struct pass *p, const struct scaled *s, const uint8_t *in, uint8_t *out)
{
	for (uint32_t i = 0; i < s->nexceptions; i++, p->end += p->elem_bytes)
		memcpy(out + p->end, in + (size_t)s->at[i] * p->elem_bytes, p->elem_bytes);
	memcpy(out + p->end, s->at, s->nexceptions * sizeof(*s->at));
	p->end += s->nexceptions * sizeof(*s->at);
}

/* Puts the head, if there is one, and scales into *from. */
static int begin_apply(struct pass *p, const struct filter *f, const void *in, void *scratch, struct scaled *s, const void **from, uint8_t *out)
{
	struct head h = { .int_bytes = f->elem_bytes };
	int err;

	*from = in;
	s->nexceptions = 0;
	if (f->steps & FILTER_SCALE) {
		err = scale_apply(in, p->nelems, f->elem_bytes, f->exponent, scratch, s);
		if (err)
			return err;
		*from = scratch;
		h = (struct head){ .exponent = f->exponent, .int_bytes = s->int_bytes, .nexceptions = s->nexceptions };
		p->int_bytes = s->int_bytes;
		p->ints = ints_of(s->int_bytes);
	}
	if (!(f->steps & (FILTER_SCALE | FILTER_PACK)))
		return 0;
	if (p->limit < sizeof(h) + exceptions_bytes(p, s->nexceptions))
		return -ERANGE;
	p->limit -= exceptions_bytes(p, s->nexceptions);
	memcpy(out, &h, sizeof(h));
	p->end = sizeof(h);
	return 0;
}

int filter_apply(const struct filter *f, const void *in, size_t n, void *scratch, void *out, size_t *used_out)
{
	struct pass p = pass_of(f->steps, f->elem_bytes, n);
	struct scaled s;
	const void *from;
	int err;

	if (f->steps == FILTER_SHUFFLE) {
		shuffle_apply(in, out, n, f->elem_bytes);
		*used_out = n;
		return 0;
	}
	p.limit = n - p.tail;
	err = begin_apply(&p, f, in, scratch, &s, &from, out);
	if (err)
		return err;
	if (!lay_body(&p))
		return -ERANGE;
	if (f->steps & FILTER_PACK) /* alignment leaves gaps */
		memset((uint8_t *)out + p.body, 0, p.end - p.body);
	err = put_ints(&p, from, out);
	if (err)
		return err;
	put_exceptions(&p, &s, in, out);
	memcpy((uint8_t *)out + p.end, (const uint8_t *)in + n - p.tail, p.tail);
	p.end += p.tail;
	memset((uint8_t *)out + p.end, 0, n - p.end);
	*used_out = p.end;
	return 0;
}

static int get_pack(struct pass *p, size_t first, size_t n, const uint8_t *in, void *v)
{
	size_t group = first / FILTER_GROUP;
	uint64_t least = 0;
	unsigned bits;

	if (n < FILTER_GROUP) {
		if (n * p->int_bytes > p->limit - p->end)
			return -EUCLEAN;
		memcpy(v, in + p->end, n * p->int_bytes);
		p->end += n * p->int_bytes;
	} else {
		bits = in[p->bits + group];
		if (bits > 8 * p->int_bytes || 128 * (size_t)bits > p->limit - p->end)
			return -EUCLEAN;
		memcpy(&least, in + p->leasts + group * p->int_bytes, p->int_bytes);
		p->ints->unpack(in + p->end, least, bits, v);
		p->end += 128 * (size_t)bits;
	}
	if (!first && n)
		memcpy(v, in + p->body, p->int_bytes);
	return 0;
}

/* A group of integers to `to`; they may be there. */
static void put_elems(const struct pass *p, const void *v, size_t n, double divisor, uint8_t *to)
{
	uint64_t wide[FILTER_GROUP];
	void *full = n < FILTER_GROUP ? (void *)wide : to;

	if (!(p->steps & FILTER_SCALE)) {
		if (v != to)
			memcpy(to, v, n * p->elem_bytes);
		return;
	}
	(p->elem_bytes == 8 ? p->ints->to_f64 : p->ints->to_f32)(v, divisor, full);
	if (full != to)
		memcpy(to, full, n * p->elem_bytes);
}

static int get_ints(struct pass *p, const uint8_t *in, double divisor, uint8_t *out)
{
	uint64_t tmp[FILTER_GROUP];

	for (size_t first = 0; first < p->nelems; first += FILTER_GROUP) {
		size_t n = p->nelems - first < FILTER_GROUP ? p->nelems - first : FILTER_GROUP;
		uint8_t *to = out + first * p->elem_bytes;
		void *v = n < FILTER_GROUP || p->steps & FILTER_SCALE ? (void *)tmp : to;
		int err = 0;

		if (n < FILTER_GROUP)
			memset(tmp, 0, sizeof(tmp));
		if (p->steps & FILTER_PACK)
			err = get_pack(p, first, n, in, v);
		else if (p->steps & FILTER_SHUFFLE)
			shuffle_undo_part(in + p->body, p->nelems, first, v, n, p->int_bytes);
		else
			memcpy(v, in + p->body + first * p->int_bytes, n * p->int_bytes);
		if (err)
			return err;
		if (p->steps & FILTER_ZIGZAG && !PLANTED(PLANT_NO_UNZIGZAG))
			p->ints->unzigzag(v);
		if (p->steps & FILTER_DELTA)
			p->ints->undelta(v, n, &p->before);
		put_elems(p, v, n, divisor, to);
	}
	return 0;
}

static int get_exceptions(struct pass *p, size_t nexceptions, const uint8_t *in, uint8_t *out)
{
	const uint8_t *at = in + p->end + nexceptions * p->elem_bytes;

	for (size_t i = 0; i < nexceptions; i++) {
		uint32_t place;

		memcpy(&place, at + i * sizeof(place), sizeof(place));
		if (place >= p->nelems)
			return -EUCLEAN;
		memcpy(out + (size_t)place * p->elem_bytes, in + p->end + i * p->elem_bytes, p->elem_bytes);
	}
	p->end += exceptions_bytes(p, nexceptions);
	return 0;
}

static int begin_undo(struct pass *p, const uint8_t *in, size_t n, struct head *h)
{
	bool scaled = p->steps & FILTER_SCALE;

	*h = (struct head){ .int_bytes = (uint8_t)p->elem_bytes };
	if (!(p->steps & (FILTER_SCALE | FILTER_PACK)))
		return 0;
	if (n < sizeof(*h))
		return -EUCLEAN;
	memcpy(h, in, sizeof(*h));
	if (h->zero || h->exponent > FILTER_EXPONENT_MAX || h->int_bytes > p->elem_bytes || !ints_of(h->int_bytes) ||
	    (!scaled && (h->exponent || h->int_bytes != p->elem_bytes || h->nexceptions)))
		return -EUCLEAN;
	if (h->nexceptions > p->nelems || p->limit < sizeof(*h) + exceptions_bytes(p, h->nexceptions))
		return -EUCLEAN;
	p->int_bytes = h->int_bytes;
	p->ints = ints_of(h->int_bytes);
	p->limit -= exceptions_bytes(p, h->nexceptions);
	p->end = sizeof(*h);
	return 0;
}

int filter_undo(unsigned steps, uint32_t elem_bytes, const void *in, size_t n, void *out)
{
	struct pass p;
	struct head h;
	int err;

	if (steps == FILTER_NONE || !filter_fits(steps, elem_bytes))
		return -EUCLEAN;
	if (steps == FILTER_SHUFFLE) {
		shuffle_undo(in, out, n, elem_bytes);
		return 0;
	}
	p = pass_of(steps, elem_bytes, n);
	p.limit = n - p.tail;
	err = begin_undo(&p, in, n, &h);
	if (!err && !lay_body(&p))
		err = -EUCLEAN;
	if (!err)
		err = get_ints(&p, in, scale_power(h.exponent), out);
	if (!err)
		err = get_exceptions(&p, h.nexceptions, in, out);
	if (!err)
		memcpy((uint8_t *)out + n - p.tail, (const uint8_t *)in + p.end, p.tail);
	return err;
}
