/*
 * The file system that the store has to be: what each caller has done, and what was promised of it.
 *
 * Callers have names of their own, so each one's operations have an order. A state of a caller's names, and a version of a file, is
 * what one of its operations has made. What is found after a loss of power must be, of each caller, one of its states of names, all of
 * one moment, and of each file the bytes of one of its versions, none from before the last fsync that was answered: also of an
 * operation that has not ended. Files of buckets and columns are overwritten in place, so that each byte may be of another version.
 */
#ifndef SPILLFS_SIM_MODEL_H
#define SPILLFS_SIM_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "script.h"
#include "types.h"

struct content {
	uint32_t size_bytes;
	unsigned mode;
	uint32_t note; /* an extended attribute; 0: none */
	uint8_t setting[SETTINGS]; /* types.h */
	/* The write that made it was several calls of CLIENT_STEP_BYTES from here on, and a commit may come between them; UINT32_MAX: it was one. */
	uint32_t steps_off;
	/* Of what is found: names of one file have the same number. */
	uint64_t ino, blocks;
	unsigned char bytes[];
};

/* The same bytes. */
bool content_same(const struct content *a, const struct content *b);

/* Quotas: of a caller's directory of a class, and of the one in it; of sizes, and of bytes that are stored. 0: none. */
enum { QUOTA_OUTER, QUOTA_INNER, QUOTAS };
struct quota_set {
	uint32_t size_bytes, stored_bytes;
};
/* What OP_QUOTA and OP_BOUND set: which directory's, to how many bytes. false: it changes nothing, because the directory is not there, or
 * a file would have names on both sides. */
bool model_quota_op(const struct op *o, unsigned *which, uint32_t *bytes);
struct quota_set model_quota(unsigned caller, unsigned class, unsigned which);
/* What an operation that model_start would let succeed may get because of those of sizes, and has to: -EDQUOT or 0. They differ where a
 * file that is open or replaced is counted, or not any more. (Those of stored bytes: bounds.h.) */
void model_quota_due(const struct op *o, int *may, int *must);
/* Is what has this name scratch at present? */
bool model_is_scratch(unsigned caller, unsigned slot);
/* An operation on what is scratch has failed, and the caller leaves all of that alone from now on. */
void model_lose(const struct op *o);
/* The store is not mounted any more. */
void model_unmount(void);
/* The caller has let go of the file that it has had open. */
void model_let_go(unsigned caller);

/* Once in a process. is_short: some writes find no space, and then a new name can be durable before what was written under it, and a part
 * of a write before the rest. */
void model_begin(unsigned ncallers, bool is_short);

/* Around each operation. start: what it has to return, by the model: 0 or -errno. end: what it has returned. An operation that has
 * failed when it should not have (a fault of the disk) is to be the caller's last, or fail tells what is under its name now (NULL:
 * nothing), and returns NULL, or what is wrong. */
int model_start(const struct op *o);
void model_end(const struct op *o, int err);
const char *model_fail(const struct op *o, const struct content *found);

/* The present of a caller. file: its bytes; NULL: the name is not there. */
const struct content *model_file(unsigned caller, unsigned slot);
bool model_has_dir(unsigned caller, unsigned class);
/* The present of layers/, kept under the number of a snapshot, of which a caller has so many; and what is kept. */
#define SNAPSHOTS_MAX 16u
void model_keep(unsigned caller, unsigned snapshot);
const struct content *model_kept(unsigned caller, unsigned snapshot, unsigned slot);

/* Everything that was done is durable. */
void model_promise_all(void);
/* The bytes that a tag stands for: byte i of a write. */
void model_fill(uint32_t tag, unsigned char *p, size_t n);

/* What is found of a caller: contents are malloc'd; NULL: the name is not there. */
struct found {
	bool dir[CLASSES];
	struct content *file[SLOTS];
	bool unreadable[SLOTS]; /* an error says that it is damaged */
	struct quota_set quota[CLASSES][QUOTAS];
	bool shelved[CLASSES];
	bool quotas_unreadable, scratch_is_lost;
};
/* Compares all callers: NULL, or what is wrong (a static text). MODEL_NEW: nothing was done since the mount, so that there is nothing scratch;
 * MODEL_PAST: what a follower shows of layers/, which is a state of any time. */
enum model_when { MODEL_NOW, MODEL_NEW, MODEL_PAST };
const char *model_judge(const struct found *f, enum model_when when);

#endif
