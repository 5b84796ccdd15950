/*
 * The layers as the check sees them, for its passes over them: layers.c (rows and files), present.c (the state that they give),
 * damage.c (damage, and the arrays that it hits), refs.c (HEAD and refs/). For these only.
 *
 * Everything is read as the rows say it, not through store/.
 */
#ifndef SPILLFS_TOOL_CHECK_LOG_H
#define SPILLFS_TOOL_CHECK_LOG_H

#include "block/layer.h"
#include "tool/check/inside.h"

struct check_layer {
	uint64_t number;
	int64_t state;      /* as the row has it */
	struct layer *file; /* NULL: missing or damaged */
	bool whole;         /* the index is readable, too */
	bool replayed;      /* it is in the chain of a state that can be asked for */
	struct layer_frame *frames; /* NULL: not known yet */
	size_t nframes;
	uint64_t bytes, live; /* as the row has it; as counted */
};

/* A part of a layer that cannot be used. */
struct check_damage {
	uint64_t layer, from, to; /* to UINT64_MAX: all of it, which was told already */
	char text[200];
};

struct check_log {
	struct io_dir *dir;
	struct check_layer *v; /* by number */
	size_t n, cap;
	struct index now; /* the present state, after the pass "log" */
	bool known;       /* now is filled in */
	struct check_damage *damage;
	size_t ndamage, cap_damage;
};

/* Empties c->log, or makes it. */
int check_log_begin(struct check *c);
struct check_layer *check_log_find(struct check *c, uint64_t number);
/* A layer with a row. */
int check_log_add(struct check *c, const struct check_layer *l);
/* The state at a sealed layer: the replay of its chain. -ENOENT if that cannot be read; said by others. */
int check_log_state(struct check *c, uint64_t number, struct index *out);

/* Reports of damage are kept here while somebody listens. */
struct check_ear {
	size_t n;
	uint64_t off;
	char text[200]; /* of the first */
};
void check_listen(struct check_ear *ear);
void check_listen_end(void);

/* Tells of the damage that was noted, with the arrays that it hits, which with --repair move to lost+found. */
int check_damage_tell(struct check *c);
/* Frames of all layers that are open: every block entry of the indexes that are replayed names one. */
int check_entries(struct check *c);

/* layers/HEAD and layers/refs/ (refs.c). */
int check_refs_files(struct check *c);

#endif
