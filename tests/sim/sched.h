/*
 * The scheduler of the simulation: threads, locks and the clock of the whole process, with one thread at work at a time. Who goes on
 * is drawn from a seed at each lock, wait, wake-up, start and end of a thread, and each call of the disk, so that the same seed gives
 * the same run. Time moves when every thread waits.
 *
 * When no thread can go on, or nothing happens for an hour of simulated time, sched_stuck is called with a text that names each
 * thread and what it waits for.
 */
#ifndef SPILLFS_SIM_SCHED_H
#define SPILLFS_SIM_SCHED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The calling thread becomes the first of a new schedule; all others that there were are forgotten (after a fork). calm: threads seldom
 * take turns where they need not, which is faster; else how often is drawn, too. */
void sched_begin(uint64_t seed, bool calm);
/* The caller is the only thread left. */
void sched_end(void);
void sched_sleep(int64_t ns);
/* Others may run here. */
void sched_step(void);
/* Something was achieved: the hour begins anew. */
void sched_progress(void);
int64_t sched_now_ns(void);

/* Below n, from the schedule's seed. */
uint64_t sched_draw(uint64_t n);
/* A hash of all that was drawn and noted. */
void sched_note(uint64_t fact);
uint64_t sched_trace(void);

/* The user's: never returns. */
_Noreturn void sched_stuck(const char *text);

/* splitmix64: a stream of its own. */
uint64_t sim_random(uint64_t *state);

#endif
