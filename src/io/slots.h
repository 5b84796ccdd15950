/*
 * Places of one size in a file, by number: which are taken. The lowest free one is taken first, so that what is written together lies
 * together. Private to io/. Thread-safe.
 */
#ifndef SPILLFS_IO_SLOTS_H
#define SPILLFS_IO_SLOTS_H

#include <stddef.h>
#include <stdint.h>

#include "util/lock.h"

struct slots {
	struct lock lock; /* all below */
	uint64_t *words;  /* bit i: slot i is taken */
	size_t nwords, cap;
	size_t first; /* no word before it has a free slot */
};

void slots_init(struct slots *s);
void slots_fini(struct slots *s);
/* -ENOMEM. */
int slots_take(struct slots *s, uint64_t *out);
void slots_give(struct slots *s, uint64_t slot);

#endif
