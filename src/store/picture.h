/*
 * The picture of a state: the records and names that the replay of its chain gives, one after the other, in the memory of one
 * record for each layer. So a state of any number of arrays can be walked.
 *
 * The layers stay while it is open. Not thread-safe; it may be read under any lock, and reads files.
 */
#ifndef SPILLFS_STORE_PICTURE_H
#define SPILLFS_STORE_PICTURE_H

#include "block/index.h"

struct layers;
struct picture;

/* Opens the picture of the newest state. -ENOENT: nothing was sealed yet. */
int picture_open(struct layers *ls, struct picture **out);
void picture_close(struct picture *p);
/* The next record, flattened, by rising ino; the next name, by parent and bytes, when all records were asked for. They are
 * the caller's. -ENOENT: there are no more; -EUCLEAN, logged. */
int picture_record(struct picture *p, struct index_record **out);
int picture_name(struct picture *p, struct index_name *out);

#endif
