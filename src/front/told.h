/*
 * Changes beyond its answer that an operation makes to what the kernel knows: names that stand for something else, attributes and
 * pages that are old. The tree reports them while the operation runs, in its thread (tree_on_changes), and the notify thread tells
 * the kernel. The caller must see nothing old once it has its answer; so the answer waits. A flag of the thread says that it has to:
 *
 *   set      by each such report
 *   taken    by the answer (answer_when_told)
 *   cleared  by told_at_once_end, where an answer may not wait
 *
 * An operation that ends without either leaves it for the next answer of the thread, which then waits without need.
 */
#ifndef SPILLFS_FRONT_TOLD_H
#define SPILLFS_FRONT_TOLD_H

#include <stdbool.h>
#include <stdint.h>

struct front;

/* Has the tree report to this session, from here on, or no more. */
void told_start(struct front *f);
void told_stop(struct front *f);

/* The kernel is to forget the attributes of ino: as if the tree had said so. */
void told_attr(struct front *f, uint64_t ino);

/* Must the answer wait, also for names (notify.h)? Asked once. */
bool told_take(bool *names_out);

/* Around an operation for whose answer the kernel holds pages: it cannot wait, since the notify thread may be waiting for these
 * pages. The attributes of its file, which have nothing to do with pages, are forgotten at the end: a program that lost its
 * set-user bit must not run with it. The notify thread does not tell them as well, since that would come after the answer: the kernel
 * throws away the mode that it has asked for meanwhile, and goes on with the old one. */
void told_at_once_begin(void);
void told_at_once_end(struct front *f);

#endif
