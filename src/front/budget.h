/*
 * The memory that a mount may take: the budgets of its caches, its dirty blocks and of what scratch/ has in memory.
 */
#ifndef SPILLFS_FRONT_BUDGET_H
#define SPILLFS_FRONT_BUDGET_H

#include <stddef.h>
#include <stdint.h>

struct options;

struct budget {
	size_t cache_bytes, dirty_bytes; /* of each of the two stores, the durable one and that of scratch/ */
	uint64_t spill_bytes;
};

/* As the options say, and for the rest as the machine and the control group of this process have it. Logs a warning if that is more than
 * these have. Reads a few files. */
void budget_of(const struct options *o, struct budget *out);

#endif
