/*
 * One run of a script: a process's worth of simulated life, with cuts, and how it ends. And what all files of the simulation share.
 */
#ifndef SPILLFS_SIM_SIM_H
#define SPILLFS_SIM_SIM_H

#include <stdbool.h>
#include <stdint.h>

#include "script.h"

/* Counts over all processes of the simulation. */
struct sim_counts {
	uint64_t runs, operations, cuts, recuts, faults, shorts, retried, flips, checks, probes, failures;
};
extern struct sim_counts *sim_counts;

/* Says what is wrong, with the script that leads there, and ends the process. */
_Noreturn void sim_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Compares what a follower of the live store shows with the model. */
void sim_follow(void);
/* Others take the space of the disk, but for what `tag` tells, if that is odd; else they give it back. */
void sim_fill(uint32_t tag);
/* The disk is larger, for an operation that found no space; as often off as on. Meanwhile others take nothing. */
void sim_relieve(bool on);
/* Seconds of the true clock. */
double sim_now_s(void);
/* Longer than any run takes, on a busy machine, too. */
#define SIM_RUN_SECONDS 120u
/* Runs it in a process of its own: true if nothing was wrong within so many seconds. quiet: it says nothing. *trace_out: of the
 * schedule. */
bool sim_run(const struct script *s, bool quiet, unsigned seconds, uint64_t *trace_out);
/* A shorter script that goes wrong, too, as short as half a minute makes it. */
void sim_shrink(struct script *s);

#endif
