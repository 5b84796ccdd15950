/*
 * The picture of a state: what the replay of its chain gives, one piece after the other, with the memory of one record of
 * each layer. A state of any number of arrays can be gone through.
 *
 * The layers stay while it is open. Not thread-safe; it may be read under any lock, and reads files.
 */
#ifndef SPILLFS_STORE_PICTURE_H
#define SPILLFS_STORE_PICTURE_H

#include "block/index.h"

struct layers;
struct picture;

/* Of the newest sealed state. -ENOENT: nothing was sealed yet. */
int picture_open(struct layers *ls, struct picture **out);
void picture_close(struct picture *p);
/* The next record, flattened, by rising ino; the next name, by parent and bytes, when all records were asked for. They are
 * the caller's. -ENOENT: there are no more; -EUCLEAN, logged. */
int picture_record(struct picture *p, struct index_record **out);
int picture_name(struct picture *p, struct index_name *out);

#endif
