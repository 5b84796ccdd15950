/*
 * The queues of pieces (io/piece): who moves from memory to the disk next, and which loose piece gets compressed next. A thread of its own
 * does the latter, as a chore. Private to io/.
 *
 * All functions are thread-safe and return at once. A piece stands in one queue at most.
 */
#ifndef SPILLFS_IO_QUEUE_H
#define SPILLFS_IO_QUEUE_H

#include <stdbool.h>

struct piece;
struct piece_space;

/* The space's queues, lock and chore; the chore stops by chore_stop. */
void queue_init(struct piece_space *s);
void queue_fini(struct piece_space *s);

/* Puts a piece that is in memory behind the others, or before them; it stands in none. */
void queue_add(struct piece_space *s, struct piece *p, bool as_oldest);
/* Puts a loose piece behind the others. True: it was not there, and the chore is to be woken, whose thread may have failed to start. */
bool queue_add_loose(struct piece_space *s, struct piece *p);
void queue_remove(struct piece_space *s, struct piece *p);
/* Takes the oldest that is in memory out, with a reference; NULL: there is none. */
struct piece *queue_take_oldest(struct piece_space *s);
/* Gives a reference back; the last one frees the piece. */
void queue_unref(struct piece *p);

#endif
