/*
 * The states that there are: roots, by the names of snapshots/, and those that were used last, kept ready.
 *
 * Invariant: a number names the same content for ever: versions and roots are never used twice while mounted.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/layers.h"
#include "store/store.h"
#include "tree/past/inside.h"
#include "util/thread.h"
#include "util/vec.h"

#define FOLLOW_MS 200u
#define STATES_KEPT 4u

struct past_root {
	char name[256];
	uint64_t layer;
};

struct past_states {
	struct past_root *roots; /* root n is [n - 1]; RANK_ICACHE, as all of it */
	size_t nroots, cap_roots;
	struct state *kept[STATES_KEPT]; /* used last */
	struct lock lock;        /* RANK_COMMIT: the follower's thread */
	pthread_cond_t wake;
	pthread_t thread;
	bool follows, stop;
};

/* Keeps state ready, in place of the one used longest ago. */
static void keep_state(struct tree *t, struct state *state)
{
	struct past_states *s = t->past;
	struct state *old;

	lock_acquire(&t->lock);
	old = s->kept[STATES_KEPT - 1];
	memmove(&s->kept[1], &s->kept[0], (STATES_KEPT - 1) * sizeof(*s->kept));
	s->kept[0] = state_get(state);
	lock_release(&t->lock);
	if (old)
		state_put(old);
}

int past_get_state(struct tree *t, uint64_t layer, struct state **out)
{
	struct past_states *s = t->past;
	struct state *found = NULL;
	int err;

	lock_acquire(&t->lock);
	for (size_t k = 0; k < STATES_KEPT && !found; k++) {
		if (s->kept[k] && state_number(s->kept[k]) == layer)
			found = state_get(s->kept[k]);
	}
	lock_release(&t->lock);
	if (found) {
		*out = found;
		return 0;
	}
	err = state_open(t->store->layers, layer, out);
	if (!err)
		keep_state(t, *out);
	return err;
}

void past_forget_states(struct tree *t)
{
	struct past_states *s = t->past;
	struct state *kept[STATES_KEPT];

	lock_acquire(&t->lock);
	memcpy(kept, s->kept, sizeof(kept));
	memset(s->kept, 0, sizeof(s->kept));
	lock_release(&t->lock);
	for (size_t k = 0; k < STATES_KEPT; k++) {
		if (kept[k])
			state_put(kept[k]);
	}
}

/* The layer behind a root. */
static int root_layer(struct tree *t, uint64_t root, uint64_t *out)
{
	struct past_states *s = t->past;
	int err = 0;

	if (root == ROOT_PRESENT) {
		*out = layers_newest_sealed(t->store->layers);
		return 0;
	}
	lock_acquire(&t->lock);
	if (root <= s->nroots)
		*out = s->roots[root - 1].layer;
	else
		err = -ESTALE;
	lock_release(&t->lock);
	return err;
}

int past_state_of(struct tree *t, uint64_t number, struct state **out)
{
	uint64_t layer;
	int err = root_layer(t, past_root_of(number), &layer);

	if (!err)
		err = past_get_state(t, layer, out);
	return err == -ENOENT ? -ESTALE : err;
}

static int need_root_locked(struct past_states *s, const char *name, uint64_t layer, uint64_t *out)
{
	for (size_t k = s->nroots; k-- > 0;) {
		if (s->roots[k].layer == layer && !strcmp(s->roots[k].name, name)) {
			*out = k + 1;
			return 0;
		}
	}
	if (s->nroots == ROOTS_MAX || VEC_RESERVE(s->roots, s->cap_roots, s->nroots + 1))
		return -ENOMEM;
	s->roots[s->nroots] = (struct past_root){ .layer = layer };
	strcpy(s->roots[s->nroots].name, name);
	*out = ++s->nroots;
	return 0;
}

int past_need_root(struct tree *t, const char *name, uint64_t layer, uint64_t *out)
{
	int err;

	lock_acquire(&t->lock);
	err = need_root_locked(t->past, name, layer, out);
	lock_release(&t->lock);
	return err;
}

/* With the tree. */

static void *follow(void *arg)
{
	struct tree *t = arg;
	struct past_states *s = t->past;

	lock_acquire(&s->lock);
	while (!s->stop) {
		bool changed = false;

		lock_release(&s->lock);
		layers_follow(t->store->layers, &changed);
		past_forget_states(t);
		lock_acquire(&s->lock);
		if (!s->stop)
			lock_wait_ms(&s->lock, &s->wake, FOLLOW_MS);
	}
	lock_release(&s->lock);
	return NULL;
}

int past_open(struct tree *t)
{
	struct past_states *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	lock_init(&s->lock, RANK_COMMIT);
	lock_cond_init(&s->wake);
	t->past = s;
	if (t->store->config.follow)
		s->follows = thread_start("follow", follow, t, &s->thread) == 0;
	return t->store->config.follow && !s->follows ? -EAGAIN : 0;
}

void past_close(struct tree *t)
{
	struct past_states *s = t->past;

	if (!s)
		return;
	if (s->follows) {
		lock_acquire(&s->lock);
		s->stop = true;
		lock_signal(&s->wake);
		lock_release(&s->lock);
		thread_join(s->thread);
	}
	past_forget_states(t);
	pthread_cond_destroy(&s->wake);
	lock_fini(&s->lock);
	free(s->roots);
	free(s);
	t->past = NULL;
}
