/*
 * The table of counters. Readers may see one counter ahead of another.
 */
#include "util/stats.h"

_Atomic uint64_t stats_table[STATS_COUNT];
