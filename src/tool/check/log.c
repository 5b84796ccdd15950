/*
 * The set of layers that the check has opened, and the states that they give.
 *
 * Invariant: the layers stand in the order of their numbers.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tool/check/log.h"
#include "util/err.h"
#include "util/vec.h"

void check_log_end(struct check *c)
{
	struct check_log *log = c->log;

	if (!log)
		return;
	c->log = NULL;
	for (size_t i = 0; i < log->n; i++) {
		if (log->v[i].file)
			layer_close(log->v[i].file);
		free(log->v[i].frames);
	}
	index_fini(&log->now);
	free(log->v);
	free(log->damage);
	if (log->dir)
		io_dir_close(log->dir);
	free(log);
}

int check_log_begin(struct check *c)
{
	int err;

	check_log_end(c);
	c->log = calloc(1, sizeof(*c->log));
	if (!c->log)
		return -ENOMEM;
	index_init(&c->log->now);
	err = check_disks_spread(c, &c->log->dir);
	return err ? check_fail(c, err, "%s", strerror(-err)) : 0;
}

int check_log_add(struct check *c, const struct check_layer *l)
{
	struct check_log *log = c->log;

	if (VEC_RESERVE(log->v, log->cap, log->n + 1))
		return -ENOMEM;
	log->v[log->n++] = *l;
	return 0;
}

struct check_layer *check_log_find(struct check *c, uint64_t number)
{
	struct check_log *log = c->log;
	size_t at = VEC_LOWER_BOUND(i, log->n, log->v[i].number < number);

	return at < log->n && log->v[at].number == number ? &log->v[at] : NULL;
}

int check_log_state(struct check *c, uint64_t number, struct index *out)
{
	struct check_layer *l = check_log_find(c, number);
	const struct index *top = l && l->whole && l->state ? layer_index(l->file) : NULL;
	struct index ix;
	int err = top ? 0 : -ENOENT;

	index_init(&ix);
	for (size_t k = 0; !err && k < top->nchain; k++) {
		l = check_log_find(c, top->chain[k]);
		err = l && l->whole && l->state ? index_merge(&ix, layer_index(l->file)) : -ENOENT;
	}
	if (err) {
		index_fini(&ix);
		return err;
	}
	*out = ix;
	return 0;
}

/* Reports of damage. */

static void hear(void *ctx, const char *object, uint64_t off, const char *text)
{
	struct check_ear *ear = ctx;

	(void)object;
	if (ear->n++)
		return;
	ear->off = off;
	snprintf(ear->text, sizeof(ear->text), "%s", text);
}

void check_listen(struct check_ear *ear)
{
	*ear = (struct check_ear){ 0 };
	err_set_listener(hear, ear);
}

void check_listen_end(void)
{
	err_set_listener(NULL, NULL);
}
