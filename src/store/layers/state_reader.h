/*
 * Reads a state from begin to end: the records and names that the replay of its chain gives, one after the other, in the
 * memory of one record for each layer. So a state of any number of arrays can be walked.
 *
 * The layers stay while it is open. Not thread-safe; it may be read under any lock, and reads files.
 */
#ifndef SPILLFS_STORE_LAYERS_STATE_READER_H
#define SPILLFS_STORE_LAYERS_STATE_READER_H

#include "block/index.h"

struct layers;
struct state_reader;

/* Opens the newest state. -ENOENT: nothing was sealed yet. */
int state_reader_open(struct layers *ls, struct state_reader **out);
void state_reader_close(struct state_reader *r);
/* The next record, flattened, by rising ino; the next name, by parent and bytes, when all records were asked for. They are
 * the caller's. -ENOENT: there are no more; -EUCLEAN, logged. */
int state_reader_record(struct state_reader *r, struct index_record **out);
int state_reader_name(struct state_reader *r, struct index_name *out);

#endif
