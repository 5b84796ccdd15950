/*
 * Invariants:
 *  1. Options count as they are given. The rest fits beside them: a control group that has less than the usual budgets gets smaller ones,
 *     since the kernel ends a daemon that goes past its limit, and with it all that scratch/ has.
 *  2. A sum that does not fit is told.
 */
#include "front/budget.h"

#include <inttypes.h>
#include <stdbool.h>

#include "front/cgroup.h"
#include "front/options.h"
#include "util/log.h"

#define MIB (UINT64_C(1) << 20)
#define CACHE_BYTES (256 * MIB)
#define DIRTY_BYTES (256 * MIB)
/* Beside the budgets: threads, requests, blocks that are being coded, and some of the page cache, which a control group counts, too. */
#define BESIDE_BYTES (96 * MIB)

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t given(int64_t option)
{
	return option < 0 ? 0 : (uint64_t)option;
}

static uint64_t least_of(uint64_t room, uint64_t usual)
{
	return least(room / 8 > MIB ? room / 8 : MIB, usual);
}

/* The rest of `room`, of which three quarters at most: both stores may take cache and dirty. */
static void choose(const struct options *o, uint64_t room, uint64_t machine, struct budget *out)
{
	out->cache_bytes = (size_t)(o->cache < 0 ? least_of(room, CACHE_BYTES) : given(o->cache));
	out->dirty_bytes = (size_t)(o->dirty < 0 ? least_of(room, DIRTY_BYTES) : given(o->dirty));
	out->spill_bytes = o->spill < 0 ? least(room / 4, machine / 16) : given(o->spill);
}

void budget_of(const struct options *o, struct budget *out)
{
	uint64_t machine = cgroup_machine_bytes(), limit = least(machine, cgroup_memory_bytes()), stores = o->scratch_only || o->ro ? 1 : 2;
	uint64_t room = limit > 2 * BESIDE_BYTES ? limit - BESIDE_BYTES : limit / 2, most;
	uint64_t taken = stores * (given(o->cache) + given(o->dirty)) + (o->ro ? 0 : given(o->spill));

	choose(o, room > taken ? room - taken : 0, machine, out);
	most = stores * ((uint64_t)out->cache_bytes + out->dirty_bytes) + (o->ro ? 0 : out->spill_bytes);
	if (most > room)
		log_warn("cache=, dirty= and spill= let the daemon take %" PRIu64 " MiB%s, besides some %" PRIu64 " MiB for other things, and %s %" PRIu64
			 " MiB: it may be ended for want of memory; give less", most / MIB,
			 stores > 1 ? " (scratch/ has its own of the first two)" : "", (limit - room) / MIB,
			 limit < machine ? "its control group leaves it" : "the machine has", limit / MIB);
}
