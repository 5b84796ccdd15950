/*
 * Delta debugging over the operations of a script that goes wrong: leaves out ever smaller pieces, as long as it still does, and until
 * the time for that is over.
 */
#include <string.h>

#include "sim.h"

#define SHRINK_SECONDS 30u

/* Without n operations from `first`. */
static struct script without(const struct script *s, unsigned first, unsigned n)
{
	struct script t = *s;

	memmove(&t.op[first], &t.op[first + n], (t.nops - first - n) * sizeof(t.op[0]));
	t.nops -= n;
	return t;
}

/* Schedules differ with every operation: a shorter script is tried with some seeds. A run that the end of the time has stopped does not
 * count. */
static bool goes_wrong(struct script *s, double end_s)
{
	for (unsigned k = 0; k < 3 && sim_now_s() < end_s; k++) {
		if (!sim_run(s, true, (unsigned)(end_s - sim_now_s()) + 1, NULL))
			return sim_now_s() < end_s;
		s->seed++;
	}
	return false;
}

void sim_shrink(struct script *s)
{
	double end_s = sim_now_s() + SHRINK_SECONDS;
	struct script t;

	for (unsigned n = s->nops / 2; n; n /= 2) {
		for (unsigned first = 0; first + n <= s->nops && sim_now_s() < end_s;) {
			t = without(s, first, n);
			if (goes_wrong(&t, end_s))
				*s = t;
			else
				first += n;
		}
	}
}
