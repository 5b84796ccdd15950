/*
 * Invariants:
 *  1. What no option gives fits, as a sum: a control group that has less than the usual budgets gets smaller ones, since the kernel ends a
 *     daemon that goes past its limit, and with it all that scratch/ has.
 *  2. What an option gives is taken as it is.
 */
#include "front/budget.h"

#include <inttypes.h>
#include <stdbool.h>
#include <unistd.h>

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

static uint64_t machine_bytes(void)
{
	return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Three quarters of `room` at most, as both stores together may take cache and dirty. */
static void choose(const struct options *o, uint64_t room, uint64_t machine, struct budget *out)
{
	uint64_t part = room / 8 > MIB ? room / 8 : MIB;

	out->cache_bytes = o->cache < 0 ? (size_t)least(part, CACHE_BYTES) : (size_t)o->cache;
	out->dirty_bytes = o->dirty < 0 ? (size_t)least(part, DIRTY_BYTES) : (size_t)o->dirty;
	out->spill_bytes = o->spill < 0 ? least(room / 4, machine / 16) : (uint64_t)o->spill;
}

void budget_of(const struct options *o, struct budget *out)
{
	uint64_t machine = machine_bytes(), limit = least(machine, cgroup_memory_bytes()), stores = o->scratch_only || o->ro ? 1 : 2, most;

	choose(o, limit > 2 * BESIDE_BYTES ? limit - BESIDE_BYTES : limit / 2, machine, out);
	most = stores * ((uint64_t)out->cache_bytes + out->dirty_bytes) + (o->ro ? 0 : out->spill_bytes);
	if (most > limit)
		log_warn("cache=, dirty= and spill= let the daemon take %" PRIu64 " MiB (%s), of which %s %" PRIu64
			 " MiB: it may be ended for want of memory; give less", most / MIB,
			 stores > 1 ? "scratch/ has its own of the first two" : "in all",
			 limit < machine ? "its control group leaves it" : "the machine has", limit / MIB);
}
