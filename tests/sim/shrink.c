/*
 * Delta debugging over the operations of a script that goes wrong: leaves out ever smaller pieces, as long as it still does.
 */
#include <string.h>

#include "sim.h"

#define TRIES_MAX 300u

/* Without n operations from `first`. */
static struct script without(const struct script *s, unsigned first, unsigned n)
{
	struct script t = *s;

	memmove(&t.op[first], &t.op[first + n], (t.nops - first - n) * sizeof(t.op[0]));
	t.nops -= n;
	return t;
}

/* Schedules differ with every operation: a shorter script is tried with some seeds. */
static bool goes_wrong(struct script *s, unsigned *tries)
{
	for (unsigned k = 0; k < 3; k++) {
		++*tries;
		if (!sim_run(s, true, NULL))
			return true;
		s->seed++;
	}
	return false;
}

void sim_shrink(struct script *s)
{
	unsigned tries = 0;
	struct script t = *s;

	t.cut_at = 0;
	if (t.cut_every > 1) {
		t.cut_every = 1;
		if (goes_wrong(&t, &tries))
			*s = t;
	}
	for (unsigned n = s->nops / 2; n; n /= 2) {
		for (unsigned first = 0; first + n <= s->nops && tries < TRIES_MAX;) {
			t = without(s, first, n);
			if (goes_wrong(&t, &tries))
				*s = t;
			else
				first += n;
		}
	}
}
