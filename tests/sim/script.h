/*
 * What a run of the simulation does: a list of operations, each of one caller, and the circumstances. It is drawn from a seed, made by
 * number (the short ones), or read from text; as text it can be kept and replayed.
 *
 * A caller has twelve names, slots: three of each class, the last of them in a directory. A slot is class * 3 + k. The last class is
 * scratch/; and OP_SHELVE declares a directory of another one scratch, or durable again.
 */
#ifndef SPILLFS_SIM_SCRIPT_H
#define SPILLFS_SIM_SCRIPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "disk.h"

#define CALLERS_MAX 4u
#define CLASSES 4u
#define DURABLE_CLASSES 3u
#define CLASS_LAYERS 2u
#define CLASS_SCRATCH 3u
#define SLOTS 12u
#define OPS_MAX 512u
#define FILE_BYTES_MAX 400000u
#define SCRIPT_SHORT_TIMES 3u /* a want of space or descriptors that ends fails so many calls at most */

/* The first OP_NSHORT are those of which short scripts consist. */
enum op_kind {
	OP_CREATE, OP_WRITE, OP_APPEND, OP_TRUNCATE, OP_RESERVE, OP_PUNCH, OP_RENAME, OP_LINK, OP_UNLINK, OP_MKDIR, OP_RMDIR, OP_CHMOD,
	OP_FSYNC, OP_SNAPSHOT, OP_NSHORT,
	OP_UNSNAPSHOT = OP_NSHORT, OP_PAST, OP_READ, OP_LIST, OP_NOTE, OP_HOLD, OP_VIEW, OP_UPLOAD, OP_COMMIT, OP_COMPACT, OP_FOLLOW, OP_SLEEP,
	OP_FILL, OP_QUOTA, OP_BOUND, OP_SHELVE, OP_TYPE, OP_WALK, OP_REMOUNT, OP_NKINDS
};

extern const char *const op_names[OP_NKINDS];

struct op {
	enum op_kind kind;
	unsigned caller, slot, to;
	uint32_t off, len;
	uint32_t tag; /* of the bytes that are written */
};

struct script {
	uint64_t seed; /* of the schedule and of what a cut leaves */
	unsigned ncallers;
	uint64_t space_bytes, slow_ns; /* 0: much, not slow */
	uint64_t size_bytes;           /* -o size; 0: no bound */
	unsigned cut_every;            /* one change of so many is cut at, by chance; 0: none */
	uint64_t cut_at;               /* not 0: only this one */
	struct disk_fault fault;
	unsigned nops;
	struct op op[OPS_MAX];
};

/* Its fault is for good: the store may be read-only from there on. */
bool script_breaks(const struct script *s);
/* Else: a shortage is part of it, of space or by its fault. Operations may fail, and succeed when it is over. */
bool script_is_short(const struct script *s);
/* Is that, or a part of it, a want of space? */
bool script_lacks_space(const struct script *s);
bool script_has(const struct script *s, enum op_kind kind);
/* Has it quotas, or a size? Then writes may be cut short. */
bool script_is_bound(const struct script *s);
/* Has it anything in scratch/? And is a fault for good that the file below that alone meets: then what is scratch may be lost, and nothing
 * else. */
bool script_has_scratch(const struct script *s);
bool script_loses_scratch(const struct script *s);
void script_draw(struct script *s, uint64_t seed);
/* The n-th of all sequences of one and two operations in the classes; false: there are no more. */
bool script_short(struct script *s, unsigned n);
void script_print(const struct script *s, FILE *out);
/* false: a line is not understood, and said on stderr. */
bool script_read(struct script *s, FILE *in);

#endif
