/*
 * The arrays of a store: the table of kinds, and what all arrays share.
 *
 * The table breaks the circle between dispatch and kinds: an array has a pointer to its kind's operations, so array.c names no
 * kind, and a kind may use array.c for arrays of any kind.
 */
#include "array/arrays.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array/bucket.h"
#include "array/column.h"
#include "array/layered/dirty.h"
#include "array/layered/layered.h"
#include "array/promise.h"
#include "io/io.h"
#include "store/meta.h"
#include "store/store.h"
#include "util/number.h"

static const struct array_ops *const kinds[] = {
	[ARRAY_BUCKET] = &bucket_ops,
	[ARRAY_COLUMN] = &column_ops,
	[ARRAY_LAYERED] = &layered_ops,
};

/* Deletes column files that no committed inode has, and finds the next number. */
static int survey_column(void *ctx, const char *name)
{
	struct arrays *h = ctx;
	char path[64];
	uint64_t id;
	bool known;
	int err;

	if (number_of_name(name, 1, "", &id) || !id)
		return 0;
	meta_lock(h->store->meta);
	err = meta_column_exists_locked(h->store->meta, id, &known);
	meta_unlock(h->store->meta);
	if (err)
		return err;
	if (!known) {
		snprintf(path, sizeof(path), "columns/%s", name);
		return io_unlink(h->store->dir, path);
	}
	if (id >= atomic_load(&h->next_column))
		atomic_store(&h->next_column, id + 1);
	return 0;
}

int arrays_new(struct store *s, struct arrays **out)
{
	struct arrays *h = calloc(1, sizeof(*h));
	int err;

	if (!h)
		return -ENOMEM;
	h->store = s;
	lock_init(&h->lock, RANK_ARRAY);
	atomic_store(&h->next_column, 1);
	err = dirty_new(s, &h->dirty);
	/* A follower makes no columns, and a copy may have none. */
	if (!err && !s->config.follow)
		err = io_list(s->dir, "columns", survey_column, h);
	if (err) {
		arrays_free(h);
		return err;
	}
	*out = h;
	return 0;
}

void arrays_free(struct arrays *h)
{
	if (h->dirty)
		dirty_free(h->dirty);
	summaries_drop_parked(h);
	lock_fini(&h->lock);
	free(h);
}

int arrays_flush(struct arrays *h)
{
	return dirty_flush_all(h->dirty);
}

int arrays_open(struct arrays *h, const struct facts *row, const struct array_params *params, struct array **out)
{
	struct meta *m = h->store->meta;
	struct array *a;
	int err;

	if (row->kind >= sizeof(kinds) / sizeof(*kinds) || !kinds[row->kind])
		return -EINVAL;
	err = kinds[row->kind]->open(h, row, params, &a);
	if (err)
		return err;
	if (row->kind != ARRAY_COLUMN && m) {
		meta_lock(m);
		err = promise_load_locked(a);
		meta_unlock(m);
	}
	if (err) {
		array_close(a);
		return err;
	}
	if (row->kind != ARRAY_LAYERED)
		summaries_unpark(a);
	*out = a;
	return 0;
}
