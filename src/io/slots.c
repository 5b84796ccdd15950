/*
 * A bitmap of slots, which grows with the file.
 */
#include "io/slots.h"

#include <stdlib.h>

#include "util/plant.h"
#include "util/vec.h"

void slots_init(struct slots *s)
{
	*s = (struct slots){ 0 };
	lock_init(&s->lock, RANK_MEM);
}

void slots_fini(struct slots *s)
{
	free(s->words);
	lock_fini(&s->lock);
}

static int take_locked(struct slots *s, uint64_t *out)
{
	unsigned bit;
	int err = 0;

	while (s->first < s->nwords && s->words[s->first] == UINT64_MAX)
		s->first++;
	if (s->first == s->nwords) {
		err = VEC_RESERVE(s->words, s->cap, s->nwords + 1);
		if (err)
			return err;
		s->words[s->nwords++] = 0;
	}
	bit = (unsigned)__builtin_ctzll(~s->words[s->first]);
	s->words[s->first] |= (uint64_t)1 << bit;
	*out = (uint64_t)s->first * 64 + bit;
	return 0;
}

int slots_take(struct slots *s, uint64_t *out)
{
	int err;

	lock_acquire(&s->lock);
	err = take_locked(s, out);
	if (PLANTED(PLANT_SPILL_SLOT) && !err)
		*out -= *out & 1;
	lock_release(&s->lock);
	return err;
}

void slots_give(struct slots *s, uint64_t slot)
{
	lock_acquire(&s->lock);
	s->words[slot / 64] &= ~((uint64_t)1 << slot % 64);
	if (slot / 64 < s->first)
		s->first = (size_t)(slot / 64);
	lock_release(&s->lock);
}
